//! Metrics of pipelines that need whole traces: relations, aggregates, fields of the trace.

use std::collections::HashSet;

use chronolith_engine::model::TraceId;
use chronolith_engine::rows::{RowOrder, SpanColumnSet, SpanScanRequest};

use super::cells::CellKind;
use super::numbers;
use super::{Evaluation, Gathering};
use crate::traceql::ast::*;
use crate::traces::error::Result;
use crate::traces::fields::{Needs, SpanView};
use crate::traces::load::load;
use crate::traces::pipeline::{OneTrace, PipelineProgram};
use crate::traces::pushdown;

/// Traces read at a time.
const BATCH_TRACES: usize = 512;

/// Calls back for every span that comes out of a pipeline and began in the range of the query.
pub(super) fn each_span(
    evaluation: &Evaluation<'_>,
    pipeline: &Pipeline,
    needs: &Needs,
    mut visit: impl FnMut(&SpanView<'_>, i64) -> Result<()>,
) -> Result<()> {
    let request = SpanScanRequest {
        conditions: pushdown::of_pipeline(pipeline).into_iter().collect(),
        order: RowOrder::Any,
        columns: SpanColumnSet {
            trace_id: true,
            ..SpanColumnSet::default()
        },
        ..SpanScanRequest::new(Vec::new(), evaluation.steps.range())
    };
    let program = PipelineProgram::new(pipeline);
    let mut seen = HashSet::new();
    let mut ids = Vec::new();
    let mut decide = |ids: &mut Vec<TraceId>| -> Result<()> {
        let loaded = load(evaluation.source, evaluation.context, ids, needs)?;
        ids.clear();
        for trace in loaded.traces() {
            evaluation.context.check()?;
            let one = OneTrace {
                loaded: &loaded,
                trace,
            };
            for set in program.run(one) {
                for place in set.spans {
                    let Some(view) = loaded.view(trace, place) else {
                        continue;
                    };
                    let time = view.block.time.get(view.row).copied().unwrap_or_default();
                    if evaluation.steps.step_of(time).is_some() {
                        visit(&view, time)?;
                    }
                }
            }
        }
        Ok(())
    };
    for block in evaluation.source.scan(evaluation.context, &request)? {
        let block = block?;
        for row in 0..block.rows {
            let id = TraceId(block.trace_id.get(row).unwrap_or_default());
            if seen.insert(id) {
                ids.push(id);
            }
            if ids.len() >= BATCH_TRACES {
                decide(&mut ids)?;
            }
        }
    }
    decide(&mut ids)
}

/// Gathers the spans of a pipeline.
pub(super) fn run(
    evaluation: &Evaluation<'_>,
    query: &MetricsQuery,
    needs: Needs,
    gathering: &mut Gathering,
) -> Result<()> {
    let field = query.function.field();
    let is_bucketed = gathering.cells.kind() == CellKind::Buckets;
    each_span(evaluation, &query.pipeline, &needs, |view, time| {
        let group = gathering.groups.of_view(&query.by, view);
        let cells = gathering.cells_of(&evaluation.steps, vec![group], &[time])?;
        let value = match field {
            None => {
                gathering.cells.count(&cells);
                f64::NAN
            }
            Some(field) => {
                let number = numbers::number(&view.read(&field.name), is_bucketed);
                gathering.cells.add(&cells, &[number])?;
                number / numbers::divisor(&field.name)
            }
        };
        gathering
            .exemplars
            .offer(group, view.block, view.row, value);
        Ok(())
    })
}
