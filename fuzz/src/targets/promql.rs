//! PromQL: any text parses or is refused at a position inside of it, and the canonical text of a
//! query is a fixed point.

use chronolith_query::promql::features::Features;
use chronolith_query::promql::{number, parser};

use crate::Target;

/// Whole queries.
pub static PROMQL: Target = Target {
    name: "promql",
    body: queries,
    seeds,
    dictionary: &[
        "rate(",
        "sum by (",
        "without (",
        ") ",
        "[5m]",
        "[5m:1m]",
        " offset ",
        " @ ",
        "start()",
        " on (",
        " ignoring (",
        " group_left ",
        " bool ",
        " and ",
        " unless ",
        " atan2 ",
        "=~",
        "!~",
        "\"",
        "'",
        "`",
        "1e300",
        "0x1F",
        "Inf",
        "NaN",
        "{",
        "}",
        "(",
        ")",
        "-",
        "^",
        "# c\n",
        "histogram_quantile(",
        "quantile(",
        "topk(",
        "anchored",
        "smoothed",
        "\\u00e9",
        "1h30m",
    ],
};

/// Durations and numbers.
pub static NUMBERS: Target = Target {
    name: "durations",
    body: numbers,
    seeds: number_seeds,
    dictionary: &[
        "ms", "s", "m", "h", "d", "w", "y", "9", "0x", "e", ".", "-", "_",
    ],
};

fn seeds() -> Vec<Vec<u8>> {
    [
        "up",
        "rate(pipeline_success_total[5m]) / rate(pipeline_executions_total[5m])",
        "histogram_quantile(0.95, sum by (le, pipeline_name) (rate(pipeline_duration_seconds_bucket[5m])))",
        "increase(model_cost_dollars{model=~\"atlas-.*\"}[1h]) > 50",
        "max_over_time(rate(x[1m])[10m:30s] offset -1m @ end())",
        "a * on (instance) group_left (job) b or vector(0)",
        "-{__name__=\"up\", job!=\"a\"} ^ 2 ^ -0x1F",
        "topk(3, avg without (store) (data_freshness_seconds)) # comment",
        "{\"utf8 name\", \"label with space\"='x'}",
        "predict_linear(memory_usage_percent[1h], 4 * 3600) > 100",
    ]
    .map(|query| query.as_bytes().to_vec())
    .to_vec()
}

fn queries(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for features in [Features::default(), Features::conformance()] {
        match parser::parse(text, &features) {
            Ok(expr) => {
                let canonical = expr.to_string();
                let again = match parser::parse(&canonical, &features) {
                    Ok(again) => again,
                    Err(error) => panic!("{text:?} prints as {canonical:?}: {error}"),
                };
                assert_eq!(again.to_string(), canonical, "of {text:?}");
                assert_eq!(again.value_type(), expr.value_type(), "of {text:?}");
            }
            Err(error) => {
                let pos = error.pos;
                assert!(
                    pos.start <= text.len() && pos.start <= pos.end,
                    "{text:?}: {error:?}"
                );
                assert!(!error.message.is_empty());
                let _ = error.to_string();
            }
        }
    }
    let _ = parser::parse_selector(text);
    let _ = parser::parse_metric(text);
}

fn number_seeds() -> Vec<Vec<u8>> {
    [
        "5m",
        "1h30m",
        "1y2w3d4h5m6s7ms",
        "0x1F",
        "1e-300",
        "Inf",
        "-NaN",
        "1_000",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn numbers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(duration_ms) = number::parse_duration_ms(text) {
        assert!(duration_ms >= 0, "{text:?} is {duration_ms} ms");
    }
    let _ = number::parse_number(text);
}
