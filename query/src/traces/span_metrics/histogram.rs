//! A classic histogram of nanoseconds.

/// Bounds of buckets and how they are written.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    ns: Vec<i64>,
    /// As values of the label `le`, `+Inf` last.
    words: Vec<String>,
}

impl Bounds {
    pub(super) fn new(ns: &[i64]) -> Self {
        let words = ns.iter().map(|ns| format!("{}", *ns as f64 / 1e9));
        Self {
            words: words.chain(["+Inf".to_owned()]).collect(),
            ns: ns.to_vec(),
        }
    }

    pub(super) fn empty(&self) -> Histogram {
        Histogram {
            counts: vec![0; self.words.len()].into(),
            sum_ns: 0,
        }
    }
}

/// Counts by bucket.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Box<[u64]>,
    sum_ns: u128,
}

impl Histogram {
    #[inline]
    pub(super) fn add(&mut self, bounds: &Bounds, ns: i64) {
        let ns = ns.max(0);
        let bucket = bounds.ns.partition_point(|bound| *bound < ns);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_ns += u128::from(ns.unsigned_abs());
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// The bounds as text with the number of values up to each.
    pub(super) fn cumulative<'b>(
        &self,
        bounds: &'b Bounds,
    ) -> impl Iterator<Item = (&'b str, u64)> {
        let mut total = 0;
        bounds
            .words
            .iter()
            .zip(&self.counts)
            .map(move |(le, count)| {
                total += count;
                (le.as_str(), total)
            })
    }
}
