//! The frame around every physical operator: [`OperatorExec`] makes a DataFusion
//! [`ExecutionPlan`] of an [`Operator`], so that each operator's file holds what it computes and
//! nothing else.
//!
//! Invariants: an operator's partitions are known when the plan is built; `execute` is called once
//! per partition; an operator that must see several series at once has a single partition and takes
//! its inputs with [`Inputs::all`] or [`Inputs::collect`], whatever their partitions.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::task::Poll;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, ScopedTimerGuard, Time,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};

use super::scalar_arg::{ScalarArg, ScalarValues};
use super::state::{HeldSamples, QueryState};
use crate::promql::batch::StepVectors;

/// What a physical operator computes.
pub trait Operator: Debug + Send + Sync + 'static {
    /// The operator's name in plans.
    const NAME: &'static str;

    /// What flows out.
    fn schema(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> SchemaRef;

    /// How many partitions there are.
    fn partitions(&self, inputs: &[Arc<dyn ExecutionPlan>]) -> usize;

    /// The arguments for `EXPLAIN`.
    ///
    /// # Errors
    /// Those of the formatter.
    fn describe(&self, f: &mut Formatter<'_>) -> fmt::Result;

    /// Starts one partition.
    ///
    /// # Errors
    /// What keeps the partition from starting; errors of the computation come with the stream.
    fn execute(self: Arc<Self>, inputs: Inputs) -> Result<SendableRecordBatchStream>;
}

/// The partitions of a plan.
pub fn partition_count(plan: &Arc<dyn ExecutionPlan>) -> usize {
    plan.properties().partitioning.partition_count()
}

/// An extension of the session's configuration: the plan will be shown, so its operators count and
/// time what they do. Counting costs a small query more than its evaluation.
#[derive(Debug)]
pub struct Measured;

fn is_measured(context: &TaskContext) -> bool {
    context
        .session_config()
        .get_extension::<Measured>()
        .is_some()
}

/// Where an operator counts the time it takes, if it does.
#[derive(Debug, Clone)]
pub struct Stopwatch(Option<Time>);

impl Stopwatch {
    /// Counts until the guard is dropped.
    pub fn timer(&self) -> Option<ScopedTimerGuard<'_>> {
        self.0.as_ref().map(Time::timer)
    }
}

/// A physical operator as a node of a plan.
#[derive(Debug)]
pub struct OperatorExec<O> {
    operator: Arc<O>,
    inputs: Arc<[Arc<dyn ExecutionPlan>]>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl<O: Operator> OperatorExec<O> {
    /// The node of `operator` over `inputs`.
    #[expect(
        clippy::new_ret_no_self,
        reason = "plans are made of trait objects only"
    )]
    pub fn new(operator: O, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Arc<dyn ExecutionPlan> {
        Self::of(Arc::new(operator), inputs)
    }

    fn of(operator: Arc<O>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Arc<dyn ExecutionPlan> {
        let schema = operator.schema(&inputs);
        let partitions = operator.partitions(&inputs);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        let metrics = ExecutionPlanMetricsSet::new();
        Arc::new(Self {
            operator,
            inputs: inputs.into(),
            properties,
            metrics,
        })
    }
}

impl<O: Operator> DisplayAs for OperatorExec<O> {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(O::NAME)?;
        f.write_str(": ")?;
        self.operator.describe(f)
    }
}

impl<O: Operator> ExecutionPlan for OperatorExec<O> {
    fn name(&self) -> &str {
        O::NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Self::of(Arc::clone(&self.operator), children))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Self::of(Arc::clone(&self.operator), children))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let metrics = is_measured(&context).then(|| BaselineMetrics::new(&self.metrics, partition));
        let inputs = Inputs {
            shared: SharedInputs {
                plans: Arc::clone(&self.inputs),
                context,
            },
            partition,
            schema: self.schema(),
            metrics,
            name: O::NAME,
        };
        Arc::clone(&self.operator).execute(inputs)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The inputs of an operator, ready to be started.
#[derive(Clone)]
pub struct SharedInputs {
    plans: Arc<[Arc<dyn ExecutionPlan>]>,
    context: Arc<TaskContext>,
}

impl SharedInputs {
    /// Starts one partition of input `index`.
    ///
    /// # Errors
    /// What keeps the input from starting.
    pub fn stream(&self, index: usize, partition: usize) -> Result<SendableRecordBatchStream> {
        self.plans[index].execute(partition, Arc::clone(&self.context))
    }
}

/// What one partition of an operator runs with.
pub struct Inputs {
    shared: SharedInputs,
    partition: usize,
    schema: SchemaRef,
    metrics: Option<BaselineMetrics>,
    name: &'static str,
}

/// All batches of one input, held in memory and accounted for until dropped.
#[derive(Debug)]
pub struct Collected {
    /// The batches in the order of partitions.
    pub batches: Vec<RecordBatch>,
    _memory: MemoryReservation,
    _samples: HeldSamples,
}

impl Inputs {
    /// The partition to compute.
    pub fn partition(&self) -> usize {
        self.partition
    }

    /// What flows out.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The inputs, to be started later.
    pub fn shared(&self) -> SharedInputs {
        self.shared.clone()
    }

    /// The same partition of input `index`.
    ///
    /// # Errors
    /// What keeps the input from starting.
    pub fn stream(&self, index: usize) -> Result<SendableRecordBatchStream> {
        self.shared.stream(index, self.partition)
    }

    /// The operator of input `index`, if it is of that kind, to be run by this one; and where to
    /// count what it gives.
    pub fn operator<O: Operator>(&self, index: usize) -> Option<(Arc<O>, Option<BaselineMetrics>)> {
        let plan = self.shared.plans.get(index)?;
        let exec = plan.downcast_ref::<OperatorExec<O>>()?;
        let measured = self.metrics.is_some();
        let metrics = measured.then(|| BaselineMetrics::new(&exec.metrics, self.partition));
        Some((Arc::clone(&exec.operator), metrics))
    }

    /// Every partition of input `index`, one after the other; started at once and computed in
    /// parallel where there are several.
    ///
    /// # Errors
    /// What keeps the input from starting.
    pub fn all(&self, index: usize) -> Result<SendableRecordBatchStream> {
        let plan = &self.shared.plans[index];
        let count = partition_count(plan);
        if count == 1 {
            return self.shared.stream(index, 0);
        }
        let mut parts = Vec::with_capacity(count);
        for partition in 0..count {
            let input = self.shared.stream(index, partition)?;
            parts.push(Box::pin(run_ahead(input, self.memory())));
        }
        let output = stream::iter(parts).flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            plan.schema(),
            output,
        )))
    }

    /// An empty reservation in the query's memory pool.
    pub fn memory(&self) -> MemoryReservation {
        MemoryConsumer::new(self.name).register(self.shared.context.memory_pool())
    }

    /// Every batch of input `index`.
    ///
    /// # Errors
    /// Those of the input, too many samples, too little memory.
    pub fn collect(
        &self,
        index: usize,
        state: &Arc<QueryState>,
    ) -> Result<impl Future<Output = Result<Collected>> + Send + use<>> {
        let mut input = self.all(index)?;
        let memory = self.memory();
        let mut samples = HeldSamples::new(state);
        Ok(async move {
            let mut batches = Vec::new();
            while let Some(batch) = input.try_next().await? {
                memory.try_grow(batch.get_array_memory_size())?;
                samples.grow(StepVectors::from_batch(&batch)?.sample_count() as u64)?;
                batches.push(batch);
            }
            Ok(Collected {
                batches,
                _memory: memory,
                _samples: samples,
            })
        })
    }

    /// Turns each batch of the first input into any number of batches, and may add some at the end
    /// (`change(None)`).
    ///
    /// # Errors
    /// What keeps the input from starting.
    pub fn flat_map(
        self,
        mut change: impl FnMut(Option<RecordBatch>) -> Result<Vec<RecordBatch>> + Send + 'static,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.stream(0)?;
        let time = self.compute_time();
        let end = stream::once(std::future::ready(Ok(None)));
        let output = input.map_ok(Some).chain(end).flat_map(move |batch| {
            let _timer = time.timer();
            all_or_error(batch.and_then(&mut change))
        });
        Ok(self.pass(output))
    }

    /// Turns each batch of the first input into at most one batch.
    ///
    /// # Errors
    /// What keeps the input from starting.
    pub fn map(
        self,
        mut change: impl FnMut(RecordBatch) -> Result<Option<RecordBatch>> + Send + 'static,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.stream(0)?;
        let time = self.compute_time();
        let output = input.filter_map(move |batch| {
            let _timer = time.timer();
            std::future::ready(batch.and_then(&mut change).transpose())
        });
        Ok(self.pass(output))
    }

    /// As [`map`](Self::map), once the scalar arguments are known.
    ///
    /// # Errors
    /// What keeps the input from starting.
    pub fn map_with<F>(
        self,
        scalars: &[ScalarArg],
        make: impl FnOnce(Vec<ScalarValues>) -> F + Send + 'static,
    ) -> Result<SendableRecordBatchStream>
    where
        F: FnMut(RecordBatch) -> Result<Option<RecordBatch>> + Send + 'static,
    {
        let input = self.stream(0)?;
        let time = self.compute_time();
        let scalars: Vec<_> = scalars.iter().map(|s| s.resolve(&self)).collect();
        let output = stream::once(async move {
            let mut change = make(futures::future::try_join_all(scalars).await?);
            Ok::<_, DataFusionError>(input.filter_map(move |batch: Result<RecordBatch>| {
                let _timer = time.timer();
                std::future::ready(batch.and_then(&mut change).transpose())
            }))
        });
        Ok(self.pass(output.try_flatten()))
    }

    /// The stream of batches that `produce` gives one by one, until it gives none.
    pub fn generate(
        self,
        mut produce: impl FnMut() -> Result<Option<RecordBatch>> + Send + 'static,
    ) -> SendableRecordBatchStream {
        let time = self.compute_time();
        let mut failed = false;
        let output = stream::poll_fn(move |_| {
            if failed {
                return Poll::Ready(None);
            }
            let _timer = time.timer();
            let batch = produce().transpose();
            failed = matches!(batch, Some(Err(_)));
            Poll::Ready(batch)
        });
        self.pass(output)
    }

    /// The stream of the batches that `work` gives all at once.
    pub fn once(
        self,
        work: impl Future<Output = Result<Vec<RecordBatch>>> + Send + 'static,
    ) -> SendableRecordBatchStream {
        let output = stream::once(work).flat_map(all_or_error);
        self.pass(output)
    }

    /// A stream made elsewhere, counted as this operator's output.
    pub fn pass(
        self,
        output: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
    ) -> SendableRecordBatchStream {
        let Some(metrics) = self.metrics else {
            return Box::pin(RecordBatchStreamAdapter::new(self.schema, output));
        };
        let counted = output.inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        Box::pin(RecordBatchStreamAdapter::new(self.schema, counted))
    }

    /// Where the time spent in the operator itself is counted.
    pub fn compute_time(&self) -> Stopwatch {
        let metrics = self.metrics.as_ref();
        Stopwatch(metrics.map(|metrics| metrics.elapsed_compute().clone()))
    }
}

fn all_or_error(
    batches: Result<Vec<RecordBatch>>,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let items: Vec<Result<RecordBatch>> = match batches {
        Ok(batches) => batches.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    };
    stream::iter(items)
}

/// Computes a stream in a task of its own, without waiting for the consumer. What is computed but
/// not yet consumed is reserved in `memory`.
fn run_ahead(
    mut input: SendableRecordBatchStream,
    memory: MemoryReservation,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let memory = Arc::new(memory);
    let reserved = Arc::clone(&memory);
    let task = SpawnedTask::spawn(async move {
        while let Some(batch) = input.next().await {
            let batch = batch.and_then(|batch| {
                memory.try_grow(batch.get_array_memory_size())?;
                Ok(batch)
            });
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                break;
            }
        }
    });
    // The task is owned by the stream: dropping the stream aborts it.
    stream::unfold(
        (receiver, reserved, task),
        |(mut receiver, reserved, task)| async move {
            let batch = receiver.recv().await?;
            if let Ok(batch) = &batch {
                reserved.shrink(batch.get_array_memory_size());
            }
            Some((batch, (receiver, reserved, task)))
        },
    )
}
