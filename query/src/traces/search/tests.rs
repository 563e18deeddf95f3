//! Search over spans in memory, with and without conditions pushed down.

use super::*;
use crate::traceql;
use crate::traces::memory::MemorySpans;
use crate::traces::sample::spans;
use crate::traces::source::SpanBlocks;
use chronolith_engine::EngineError;
use chronolith_engine::model::TimestampNs;
use chronolith_engine::rows::SpanCondition;

/// A store that decides nothing but which traces are meant.
struct NothingPushed(MemorySpans);

impl SpanSource for NothingPushed {
    fn scan(
        &self,
        context: &RequestContext,
        request: &SpanScanRequest,
    ) -> std::result::Result<SpanBlocks<'_>, EngineError> {
        let mut request = request.clone();
        let is_trace = |condition: &SpanCondition| matches!(condition, SpanCondition::Trace(_));
        request.conditions.retain(is_trace);
        self.0.scan(context, &request)
    }
}

/// The traces and spans that a query finds: `1:3,4` is trace 1 with spans 3 and 4. What the store decides
/// makes no difference.
fn found(text: &str) -> Vec<String> {
    let found = found_in(&spans(), text);
    assert_eq!(found_in(&NothingPushed(spans()), text), found, "{text}");
    found
}

fn found_in(source: &dyn SpanSource, text: &str) -> Vec<String> {
    let query = traceql::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let request = SearchRequest {
        spans_per_spanset: 0,
        ..SearchRequest::default()
    };
    let answer = search(source, &RequestContext::new(), &query, &request).unwrap();
    let of_set = |set: &SpansetMatch| {
        let ids: Vec<_> = set
            .spans
            .iter()
            .map(|span| span.span_id[0].to_string())
            .collect();
        ids.join(",")
    };
    let traces = answer.traces.iter().rev();
    traces
        .map(|trace| {
            let sets: Vec<_> = trace.span_sets.iter().map(of_set).collect();
            format!("{}:{}", trace.trace_id.0[0], sets.join("|"))
        })
        .collect()
}

#[test]
fn filters_find_spans() {
    for (query, expected) in [
        ("{}", &["1:1,2,3,4", "2:1,2", "3:1,2"][..]),
        ("{ name = \"charge\" }", &["1:3", "2:2"]),
        ("{ \"charge\" = name }", &["1:3", "2:2"]),
        ("{ name =~ \"(GET|q).*\" }", &["1:1,2", "2:1"]),
        ("{ name =~ \"harg\" }", &[]),
        ("{ .http.status = 500 }", &["1:3"]),
        ("{ .http.status != 500 }", &["1:1", "2:1,2"]),
        (
            "{ span.http.status > 200 || duration > 1s }",
            &["1:3", "3:1"],
        ),
        ("{ 100ms <= duration && duration < 1s }", &["1:1,3"]),
        ("{ status = error }", &["1:3"]),
        ("{ status != unset }", &["1:3", "2:2"]),
        ("{ kind = client }", &["1:2"]),
        ("{ statusMessage =~ \".*money\" }", &["1:3"]),
        ("{ resource.service.name = \"pay\" }", &["1:3,4", "2:2"]),
        // The span's own attribute comes before the resource's.
        ("{ .service.name = \"pay\" }", &["1:3,4"]),
        ("{ .service.name = \"own\" }", &["2:2"]),
        ("{ span.service.name = \"pay\" }", &[]),
        ("{ resource.region != nil }", &["1:1,2", "2:1"]),
        ("{ .db = nil && name = \"GET /\" }", &["1:1", "2:1"]),
        ("{ .cached }", &["1:2"]),
        ("{ !.cached }", &[]),
        ("{ .amount > 9 && .amount < 10 }", &["1:3"]),
        ("{ .amount * 2 = 19 }", &["1:3"]),
        (
            "{ event.type = \"Broke\" && event:name = \"exception\" }",
            &["1:3"],
        ),
        ("{ event:timeSinceStart = 10ms }", &["1:3"]),
        (
            "{ link.why =~ \"re.*\" && link:spanID = \"0808080808080808\" }",
            &["1:3"],
        ),
        (
            "{ instrumentation:name = \"lib\" && instrumentation:version != \"1.2\" }",
            &[],
        ),
        (
            "{ trace:id = \"02020202020202020202020202020202\" }",
            &["2:1,2"],
        ),
        ("{ span:parentID = \"303030303030303\" }", &["1:4"]),
        ("{ nestedSetParent < 0 }", &["1:1", "2:1", "3:1"]),
        ("{ nestedSetParent = 0 }", &["3:2"]),
        ("{ span:childCount = 2 }", &["1:1"]),
        (
            "{ rootName = \"GET /\" && traceDuration > 100ms }",
            &["1:1,2,3,4"],
        ),
        ("{ trace:rootService = \"batch\" }", &["3:1,2"]),
        ("{ .http.method >= \"A\" }", &["1:1", "2:1"]),
        ("{ .http.status = \"200\" }", &[]),
        ("{ false }", &[]),
    ] {
        assert_eq!(found(query), expected, "{query}");
    }
}

#[test]
fn spansets_combine() {
    for (query, expected) in [
        ("{ name = \"charge\" } && { status = error }", &["1:3"][..]),
        ("{ name = \"GET /\" } && { name = \"bank\" }", &["1:1,4"]),
        (
            "{ name = \"query\" } || { name = \"job\" }",
            &["1:2", "3:1"],
        ),
        (
            "{ name = \"GET /\" } > { name = \"charge\" }",
            &["1:3", "2:2"],
        ),
        ("{ name = \"GET /\" } >> { name = \"bank\" }", &["1:4"]),
        ("{ name = \"bank\" } << { kind = server }", &["1:1,3"]),
        ("{ name = \"bank\" } < { kind = server }", &["1:3"]),
        ("{ name = \"query\" } ~ { }", &["1:3"]),
        ("{ name = \"query\" } !~ { name = \"charge\" }", &["2:2"]),
        ("{ status = error } !> { name = \"bank\" }", &[]),
        ("{ name = \"GET /\" } &>> { name = \"bank\" }", &["1:1,4"]),
        ("{ } | { name = \"charge\" } | { status = ok }", &["2:2"]),
        (
            "({ name = \"charge\" } | count() > 0) && ({ name = \"bank\" } | count() = 1)",
            &["1:3,4"],
        ),
    ] {
        assert_eq!(found(query), expected, "{query}");
    }
}

#[test]
fn aggregates_and_groups() {
    for (query, expected) in [
        ("{ } | count() > 2", &["1:1,2,3,4"][..]),
        ("{ } | max(duration) >= 1s", &["3:1,2"]),
        ("{ } | avg(span.http.status) > 300", &["1:1,2,3,4"]),
        ("{ name = \"bank\" } | avg(.nothing) > 0", &[]),
        (
            "{ } | by(resource.service.name) | count() = 2",
            &["1:1,2|3,4", "3:1,2"],
        ),
        (
            "{ } | by(resource.service.name) | coalesce() | count() = 4",
            &["1:1,2,3,4"],
        ),
        ("count() = 2 | { kind = server }", &["2:1,2"]),
        (
            "{ } | min(span:childCount) < 2 / 6 | sum(duration) > 1s + 500ms",
            &["3:1,2"],
        ),
    ] {
        assert_eq!(found(query), expected, "{query}");
    }
}

#[test]
fn answers_say_what_was_found() {
    let query =
        traceql::parse("{ .http.status > 1 } | by(kind) | count() = 2 | select(resource.region)");
    let request = SearchRequest {
        spans_per_spanset: 1,
        ..SearchRequest::default()
    };
    let answer = search(&spans(), &RequestContext::new(), &query.unwrap(), &request).unwrap();
    let ids: Vec<_> = answer
        .traces
        .iter()
        .map(|trace| trace.trace_id.0[0])
        .collect();
    assert_eq!(ids, [2, 1]);
    let first = &answer.traces[1];
    assert_eq!(first.root_service.as_deref(), Some("shop"));
    assert_eq!(first.root_name.as_deref(), Some("GET /"));
    assert_eq!(
        (first.start_ns, first.duration_ns),
        (1_000_000_000, 200_000_000)
    );
    assert_eq!(first.services[0].service, "pay");
    assert_eq!(
        (first.services[0].span_count, first.services[0].error_count),
        (2, 1)
    );
    let set = &first.span_sets[0];
    assert_eq!((set.matched, set.spans.len()), (2, 1));
    let attributes: Vec<_> = set
        .attributes
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(attributes, ["by(kind)=server", "count()=2"]);
    let attributes: Vec<_> = set.spans[0]
        .attributes
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        attributes,
        ["http.status=200", "kind=server", "region=\"eu\""]
    );
}

#[test]
fn the_newest_come_first_and_no_more_than_asked() {
    let query = traceql::parse("{ }").unwrap();
    let request = SearchRequest {
        limit: 1,
        ..SearchRequest::default()
    };
    let context = RequestContext::new();
    let answer = search(&spans(), &context, &query, &request).unwrap();
    assert_eq!((answer.traces.len(), answer.inspected_traces), (1, 1));
    assert_eq!(answer.traces[0].root_name.as_deref(), Some("job"));
    let request = SearchRequest {
        range: TimeRange {
            start: TimestampNs(0),
            end: TimestampNs(1_000_000_000),
        },
        ..SearchRequest::default()
    };
    // A trace is read whole if one of its spans is in the range.
    let answer = search(&spans(), &context, &query, &request).unwrap();
    assert_eq!(
        (answer.traces.len(), answer.traces[0].span_sets[0].matched),
        (1, 4)
    );
    context.cancel.cancel();
    assert!(search(&spans(), &context, &query, &request).is_err());
    let metrics = traceql::parse("{ } | rate()").unwrap();
    assert!(search(&spans(), &RequestContext::new(), &metrics, &request).is_err());
}

#[test]
fn a_search_holds_no_more_than_it_may() {
    let all = spans();
    let query = crate::traceql::parse("{}").unwrap();
    let found = |bytes_max| {
        let source = crate::traces::source::Measured::new(&all, bytes_max);
        let context = RequestContext::new();
        let answer = search(&source, &context, &query, &SearchRequest::default());
        (
            answer.map(|answer| answer.traces.len()),
            context.usage.samples(),
        )
    };
    let (answer, read) = found(1 << 20);
    assert_eq!(answer.unwrap(), 3);
    assert!(read > 0, "what is read is counted");
    let (answer, _) = found(500);
    assert!(matches!(answer, Err(TracesError::TooLarge(_))));
}
