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
