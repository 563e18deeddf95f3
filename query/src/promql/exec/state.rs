//! What the operators of one query share: who asks, limits, remarks and counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chronolith_engine::RequestContext;
use parking_lot::Mutex;

use crate::promql::annotations::{Annotation, Annotations};
use crate::promql::failure::{PromqlError, Result};
use crate::promql::features::Features;

/// Shared by all operators of one query; lives as long as its plan.
#[derive(Debug)]
pub struct QueryState {
    /// Tenant, deadline and cancellation.
    pub request: RequestContext,
    /// Switches of the language.
    pub features: Features,
    /// How far an instant selector looks back, ms.
    pub lookback_ms: i64,
    /// Samples that the query may hold at a time.
    pub samples_max: u64,
    annotations: Mutex<Annotations>,
    samples_held: AtomicU64,
    samples_peak: AtomicU64,
    samples_read: AtomicU64,
    samples_queryable: AtomicU64,
    per_step: Option<Mutex<StepCounts>>,
}

/// The samples that a query touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SampleCounts {
    /// Looked at, each as often as a step looks at it.
    pub queryable: u64,
    /// Decoded from the store.
    pub read: u64,
    /// Held in memory at a time.
    pub peak: u64,
    /// The same step by step; only if asked for.
    pub per_step: Option<StepCounts>,
}

/// The samples that each step of a query touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// Looked at by the step.
    pub queryable: Vec<u64>,
    /// Decoded for the step: looked at by it and by no step before it. What cannot be laid to a step,
    /// such as what subqueries read, counts for the first; the sum is [`SampleCounts::read`].
    pub read: Vec<u64>,
}

impl QueryState {
    /// The state of a new query; counts per step only if `per_step` says for how many.
    pub fn new(
        request: RequestContext,
        features: Features,
        lookback_ms: i64,
        samples_max: u64,
        per_step: Option<usize>,
    ) -> Arc<Self> {
        Arc::new(Self {
            request,
            features,
            lookback_ms,
            samples_max,
            annotations: Mutex::default(),
            samples_held: AtomicU64::new(0),
            samples_peak: AtomicU64::new(0),
            samples_read: AtomicU64::new(0),
            samples_queryable: AtomicU64::new(0),
            per_step: per_step.map(|steps| {
                let none = vec![0; steps];
                Mutex::new(StepCounts {
                    queryable: none.clone(),
                    read: none,
                })
            }),
        })
    }

    /// Whether the query should go on.
    ///
    /// # Errors
    /// [`PromqlError::Cancelled`] or [`PromqlError::Timeout`].
    pub fn check(&self) -> Result<()> {
        Ok(self.request.check()?)
    }

    /// Adds a remark.
    pub fn annotate(&self, annotation: Annotation) {
        self.annotations.lock().add(annotation);
    }

    /// Adds remarks collected elsewhere.
    pub fn annotate_all(&self, annotations: Annotations) {
        if !annotations.is_empty() {
            self.annotations.lock().merge(annotations);
        }
    }

    /// Takes the remarks out.
    pub fn take_annotations(&self) -> Annotations {
        std::mem::take(&mut self.annotations.lock())
    }

    /// Counts samples as held in memory from now on.
    ///
    /// # Errors
    /// [`PromqlError::TooManySamples`] past the limit.
    pub fn hold(&self, samples: u64) -> Result<()> {
        let held = self.samples_held.fetch_add(samples, Ordering::Relaxed) + samples;
        self.samples_peak.fetch_max(held, Ordering::Relaxed);
        if held > self.samples_max {
            return Err(PromqlError::TooManySamples);
        }
        Ok(())
    }

    /// Ends what [`hold`](Self::hold) began.
    pub fn release(&self, samples: u64) {
        self.samples_held.fetch_sub(samples, Ordering::Relaxed);
    }

    /// Counts samples decoded from the store.
    pub fn count_read(&self, samples: u64) {
        self.samples_read.fetch_add(samples, Ordering::Relaxed);
    }

    /// Counts samples looked at. `per_step` has either one count per step of the query, or a
    /// single one that stands for every step.
    pub fn count_queryable(&self, total: u64, per_step: &[u64]) {
        self.samples_queryable.fetch_add(total, Ordering::Relaxed);
        if let Some(counts) = &self.per_step {
            let mut counts = counts.lock();
            for (step, count) in counts.queryable.iter_mut().enumerate() {
                *count += per_step.get(step).or(per_step.last()).copied().unwrap_or(0);
            }
        }
    }

    /// Says at which steps samples were looked at for the first time.
    pub fn count_fresh(&self, per_step: &[u64]) {
        if let Some(counts) = &self.per_step {
            for (count, more) in counts.lock().read.iter_mut().zip(per_step) {
                *count += more;
            }
        }
    }

    /// Whether counts per step are wanted.
    pub fn counts_per_step(&self) -> bool {
        self.per_step.is_some()
    }

    /// The counters.
    pub fn sample_counts(&self) -> SampleCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let per_step = self.per_step.as_ref().map(|counts| {
            let mut counts = counts.lock().clone();
            let laid: u64 = counts.read.iter().sum();
            if let Some(first) = counts.read.first_mut() {
                *first += load(&self.samples_read).saturating_sub(laid);
            }
            counts
        });
        SampleCounts {
            queryable: load(&self.samples_queryable),
            read: load(&self.samples_read),
            peak: load(&self.samples_peak),
            per_step,
        }
    }
}

/// Samples counted as held until dropped.
#[derive(Debug)]
pub struct HeldSamples {
    state: Arc<QueryState>,
    samples: u64,
}

impl HeldSamples {
    /// Nothing held yet.
    pub fn new(state: &Arc<QueryState>) -> Self {
        Self {
            state: Arc::clone(state),
            samples: 0,
        }
    }

    /// Holds more.
    ///
    /// # Errors
    /// [`PromqlError::TooManySamples`] past the limit.
    pub fn grow(&mut self, samples: u64) -> Result<()> {
        self.samples += samples;
        self.state.hold(samples)
    }
}

impl Drop for HeldSamples {
    fn drop(&mut self) {
        self.state.release(self.samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_samples_are_limited_and_given_back() {
        let state = QueryState::new(RequestContext::new(), Features::default(), 1, 10, None);
        let mut held = HeldSamples::new(&state);
        held.grow(8).unwrap();
        assert!(matches!(held.grow(3), Err(PromqlError::TooManySamples)));
        drop(held);
        assert!(state.hold(10).is_ok());
        assert_eq!(state.sample_counts().peak, 11);
    }
}
