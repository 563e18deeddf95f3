//! Samples, histograms and series as the Prometheus API writes them.

use chronolith_engine::model::Histogram;
use chronolith_query::promql::histogram::all_buckets;

use super::{json, number};

/// `[1435781430.781,"1"]`
pub fn push_sample(out: &mut String, time_ms: i64, value: f64) {
    out.push('[');
    number::push_timestamp(out, time_ms);
    out.push_str(",\"");
    number::push_float(out, value);
    out.push_str("\"]");
}

/// The beginnings of samples, `[1435781430.781,"`, of one series, for those that follow: in most
/// answers all series have the same times.
#[derive(Debug, Default)]
pub struct SampleTimes {
    text: String,
    /// Time and end of its text.
    ends: Vec<(i64, usize)>,
}

impl SampleTimes {
    /// Appends sample number `index` of a series: `[1435781430.781,"1"]`.
    pub fn push_sample(&mut self, out: &mut String, index: usize, time_ms: i64, value: f64) {
        if index == self.ends.len() {
            self.text.push('[');
            number::push_timestamp(&mut self.text, time_ms);
            self.text.push_str(",\"");
            self.ends.push((time_ms, self.text.len()));
        }
        match self.text_of(index, time_ms) {
            Some(beginning) => {
                out.push_str(beginning);
                number::push_float(out, value);
                out.push_str("\"]");
            }
            None => push_sample(out, time_ms, value),
        }
    }

    fn text_of(&self, index: usize, time_ms: i64) -> Option<&str> {
        let &(time, end) = self.ends.get(index)?;
        let before = index
            .checked_sub(1)
            .and_then(|before| self.ends.get(before));
        let start = before.map_or(0, |(_, end)| *end);
        self.text.get(start..end).filter(|_| time == time_ms)
    }
}

/// `[1435781430.781,{"count":"3","sum":"6","buckets":[[0,"1","2","3"]]}]`
pub fn push_histogram_sample(out: &mut String, time_ms: i64, histogram: &Histogram) {
    out.push('[');
    number::push_timestamp(out, time_ms);
    out.push(',');
    push_histogram(out, histogram);
    out.push(']');
}

fn push_histogram(out: &mut String, histogram: &Histogram) {
    out.push_str("{\"count\":\"");
    number::push_float(out, histogram.count);
    out.push_str("\",\"sum\":\"");
    number::push_float(out, histogram.sum);
    out.push('"');
    let mut filled = all_buckets(histogram)
        .into_iter()
        .filter(|bucket| bucket.count != 0.0)
        .peekable();
    if filled.peek().is_some() {
        out.push_str(",\"buckets\":");
        json::push_array(out, filled, |out, bucket| {
            let kind = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => '0',
                (true, false) => '1',
                (false, false) => '2',
                (true, true) => '3',
            };
            out.push('[');
            out.push(kind);
            for figure in [bucket.lower, bucket.upper, bucket.count] {
                out.push_str(",\"");
                number::push_float(out, figure);
                out.push('"');
            }
            out.push(']');
        });
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use chronolith_engine::model::BucketSpan;

    use super::*;

    #[test]
    fn samples_at_known_and_other_times() {
        let mut times = SampleTimes::default();
        let mut out = String::new();
        for (index, time_ms) in [(0, 1_000), (1, 2_500), (0, 1_000), (1, 9_000), (2, 9_000)] {
            times.push_sample(&mut out, index, time_ms, 0.5);
        }
        assert_eq!(out, r#"[1,"0.5"][2.5,"0.5"][1,"0.5"][9,"0.5"][9,"0.5"]"#);
    }

    #[test]
    fn histograms_show_their_filled_buckets() {
        let histogram = Histogram {
            count: 3.0,
            sum: 4.5,
            positive_spans: vec![BucketSpan {
                offset: 0,
                length: 3,
            }],
            positive_buckets: vec![1.0, 0.0, 2.0],
            ..Histogram::default()
        };
        let mut out = String::new();
        push_histogram_sample(&mut out, 1_500, &histogram);
        assert_eq!(
            out,
            r#"[1.5,{"count":"3","sum":"4.5","buckets":[[0,"0.5","1","1"],[0,"2","4","2"]]}]"#
        );
    }
}
