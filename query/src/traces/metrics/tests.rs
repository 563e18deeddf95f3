//! Metrics over spans in memory, compared with what was counted by hand.

use super::*;
use crate::traceql;
use crate::traces::sample::spans;

/// Series as `{labels} values`, `_` where there is nothing. Steps of a second from 0 to 4 s.
fn series(text: &str) -> Vec<String> {
    let query = traceql::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let request = MetricsRequest {
        start_ns: 0,
        end_ns: 4_000_000_000,
        step_ns: 1_000_000_000,
        exemplars: 0,
    };
    let answer = metrics(&spans(), &RequestContext::new(), &query, &request).unwrap();
    let value = |value: &f64| match value.is_nan() {
        true => "_".to_owned(),
        false => format!("{value}"),
    };
    let line = |series: &TraceSeries| {
        let labels = series
            .labels
            .iter()
            .map(|(n, v)| format!("{n}={}", label_text(v)));
        let values: Vec<_> = series.values.iter().map(value).collect();
        format!(
            "{{{}}} {}",
            labels.collect::<Vec<_>>().join(","),
            values.join(" ")
        )
    };
    answer.series.iter().map(line).collect()
}

// Spans that begin on a full second belong to the step that ends there: `GET /` of traces 1 and 2 and `job` of
// trace 3 one step before the others.

#[test]
fn counts_and_rates() {
    for (query, expected) in [
        (
            "{} | count_over_time()",
            &["{__name__=count_over_time} 1 4 2 1"][..],
        ),
        ("{ name = \"none\" } | rate()", &["{__name__=rate} 0 0 0 0"]),
        (
            "{ status = error } | rate() by (name)",
            &["{name=charge} 0 1 0 0"],
        ),
        (
            "{ .http.status > 0 } | count_over_time() by (resource.service.name, kind)",
            &[
                "{resource.service.name=pay,kind=server} 0 1 1 0",
                "{resource.service.name=shop,kind=server} 1 1 0 0",
            ],
        ),
        (
            "{ } | count_over_time() by (span.http.status)",
            &[
                "{span.http.status=200} 1 1 1 0",
                "{span.http.status=500} 0 1 0 0",
                "{span.http.status=<nil>} 0 2 1 1",
            ],
        ),
        (
            "{ } | count_over_time() by (.db, .region)",
            &[
                "{.db=<nil>} 0 2 2 1",
                "{.db=pg,.region=eu} 0 1 0 0",
                "{.region=eu} 1 1 0 0",
            ],
        ),
        // Not exact when pushed down.
        (
            "{ span.http.method >= \"A\" } | count_over_time() by (name)",
            &["{name=GET /} 1 1 0 0"],
        ),
    ] {
        assert_eq!(series(query), expected, "{query}");
    }
}

#[test]
fn numbers_over_time() {
    for (query, expected) in [
        (
            "{} | min_over_time(duration)",
            &["{__name__=min_over_time} 0.2 0.02 0.03 0.001"][..],
        ),
        (
            "{} | max_over_time(span.http.status) by (name)",
            &["{name=GET /} 200 200 _ _", "{name=charge} _ 500 200 _"],
        ),
        (
            "{} | avg_over_time(.http.status)",
            &["{__name__=avg_over_time} 200 350 200 _"],
        ),
        (
            "{} | sum_over_time(.amount)",
            &["{__name__=sum_over_time} _ 9.5 _ _"],
        ),
        (
            "{} | quantile_over_time(.http.status, 1, 0.5)",
            &["{p=0.5} 256 256 256 0", "{p=1} 256 512 256 0"],
        ),
        (
            "{} | histogram_over_time(.http.status) by (name)",
            &[
                "{name=GET /,__bucket=256} 1 1 0 0",
                "{name=charge,__bucket=256} 0 0 1 0",
                "{name=charge,__bucket=512} 0 1 0 0",
            ],
        ),
        (
            "{ name = \"job\" } | histogram_over_time(duration)",
            &["{__bucket=2.147483648} 0 0 1 0"],
        ),
    ] {
        assert_eq!(series(query), expected, "{query}");
    }
}

#[test]
fn pipelines_run_trace_by_trace() {
    for (query, expected) in [
        (
            "{ name = \"GET /\" } > { } | count_over_time() by (name)",
            &["{name=charge} 0 1 1 0", "{name=query} 0 1 0 0"][..],
        ),
        (
            "{ } | count() > 2 | count_over_time() by (rootName)",
            &["{rootName=GET /} 1 3 0 0"],
        ),
        (
            "{ rootName = \"job\" } | max_over_time(traceDuration)",
            &["{__name__=max_over_time} _ _ 2 2"],
        ),
        (
            "{ } | { kind = client } | rate()",
            &["{__name__=rate} 0 1 0 0"],
        ),
    ] {
        assert_eq!(series(query), expected, "{query}");
    }
}

#[test]
fn second_stages() {
    for (query, expected) in [
        // Of equal ones the first by label.
        (
            "{ kind = server } | count_over_time() by (name) | topk(1)",
            &["{name=GET /} 1 1 _ 0", "{name=charge} _ _ 1 _"][..],
        ),
        (
            "{ kind = server } | count_over_time() by (name) | bottomk(1) > 0",
            &["{name=GET /} _ 1 _ _"],
        ),
        (
            "{} | count_over_time() > 1",
            &["{__name__=count_over_time} _ 4 2 _"],
        ),
        (
            "({} | count_over_time()) * 2 - 1",
            &["{__name__=count_over_time} 1 7 3 1"],
        ),
        (
            "10 / ({} | count_over_time())",
            &["{__name__=count_over_time} 10 2.5 5 10"],
        ),
        (
            "({ status = error } | rate()) / ({} | count_over_time())",
            &["{__name__=(rate / count_over_time)} 0 0.25 0 0"],
        ),
        (
            "({ status = error } | rate() by (name)) / ({} | rate() by (name))",
            &["{name=charge} _ 1 0 _"],
        ),
        ("({} | rate() by (name) | topk(1) > 5) + 1", &[]),
    ] {
        assert_eq!(series(query), expected, "{query}");
    }
}

#[test]
fn selections_are_compared() {
    let found = series("{} | compare({status = error}, 1)");
    for expected in [
        "{__meta_type=selection,span.http.status=500} 0 1 0 0",
        "{__meta_type=selection_total,name=<nil>} 0 1 0 0",
        "{__meta_type=baseline,resource.service.name=shop} 1 2 0 0",
        "{__meta_type=baseline_total,name=<nil>} 1 3 2 1",
        "{__meta_error=__too_many_values__,name=<nil>} 0 0 0 0",
    ] {
        assert!(
            found.iter().any(|line| line == expected),
            "{expected}: {found:#?}"
        );
    }
}

#[test]
fn exemplars_are_spans_of_the_series() {
    let query =
        traceql::parse("{} | max_over_time(duration) by (name) with(exemplars=true)").unwrap();
    let request = MetricsRequest {
        start_ns: 0,
        end_ns: 4_000_000_000,
        step_ns: 4_000_000_000,
        exemplars: 0,
    };
    let answer = metrics(&spans(), &RequestContext::new(), &query, &request).unwrap();
    let charge = answer
        .series
        .iter()
        .find(|s| label_text(&s.labels[0].1) == "charge")
        .unwrap();
    let exemplars: Vec<_> = charge
        .exemplars
        .iter()
        .map(|e| (e.trace_id.0[0], e.time_ms, e.value))
        .collect();
    assert_eq!(exemplars, [(1, 1050, 0.1), (2, 2010, 0.03)]);
    assert_eq!((answer.steps.count(), answer.steps.time_ms(0)), (1, 4000));
}

#[test]
fn answers_become_a_matrix() {
    let query = traceql::parse("{ kind = server } | max_over_time(duration) by (name)").unwrap();
    let request = MetricsRequest {
        start_ns: 0,
        end_ns: 4_000_000_000,
        step_ns: 1_000_000_000,
        exemplars: 0,
    };
    let answer = metrics(&spans(), &RequestContext::new(), &query, &request).unwrap();
    let matrix = answer.to_matrix();
    let labels: Vec<_> = matrix
        .iter()
        .map(|series| series.labels.get("name"))
        .collect();
    assert_eq!(labels, [Some("GET /"), Some("charge")]);
    let points: Vec<_> = matrix[1]
        .floats
        .iter()
        .map(|p| (p.time_ms, p.value))
        .collect();
    assert_eq!(points, [(2000, 0.1), (3000, 0.03)]);
}
