//! Scans of log records and spans by blocks, over segments, frozen rows and the head, against what was
//! written.

#![expect(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::sync::Arc;

use chronolith_engine::model::{
    AttributeValue, Labels, Signal, Span, SpanId, SpanKind, SpanStatus, Stream, TimeRange,
    TimestampNs, TraceId,
};
use chronolith_engine::rows::{
    AttributeChoice, AttributeScope, LogBatch, LogColumnSet, LogCondition, LogScanRequest,
    OUTLINE_SLOT, RowOrder, SpanBatch, SpanColumnSet, SpanCondition, SpanScanRequest, TextPattern,
    TextTest, ValueTest,
};
use chronolith_engine::{Matcher, RequestContext, Store, StoreOptions};

const SECOND: i64 = 1_000_000_000;

fn store() -> Store {
    let options = StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    Store::in_memory(options).unwrap()
}

fn stream(app: u64) -> Arc<Stream> {
    Arc::new(Stream {
        labels: Labels::from_pairs([("app", format!("app{app}"))]).unwrap(),
        resource: vec![(
            "service.name".into(),
            AttributeValue::String(format!("service{app}")),
        )],
        ..Stream::default()
    })
}

/// A line: app, time, number.
type Line = (u64, i64, i64);

/// Lines that three apps write in turn; every tenth comes late, neighbours share their time.
fn lines(from: i64, count: i64) -> Vec<Line> {
    (from..from + count)
        .map(|number| {
            let late = if number % 10 == 0 { 40 } else { 0 };
            ((number % 3) as u64, (number / 2 - late) * SECOND, number)
        })
        .collect()
}

fn write(store: &Store, lines: &[Line]) {
    let mut batch = LogBatch::new();
    let streams: Vec<u32> = (0..3).map(|app| batch.stream(stream(app))).collect();
    for (app, time, number) in lines {
        let mut row = batch.row(streams[*app as usize], TimestampNs(*time));
        row.severity((number % 20) as u8);
        row.finish_text("", &format!("line {number} of app{app}"), "", |writer| {
            writer.int("number", *number);
        });
    }
    let mut append = store.begin(&RequestContext::new()).unwrap();
    append.logs(batch);
    let committed = append.commit().unwrap();
    assert_eq!(committed.rows, lines.len());
}

/// What a scan finds, in its order; checks what every block must hold to.
fn read(store: &Store, request: &LogScanRequest) -> Vec<Line> {
    let mut found = Vec::new();
    for block in store
        .scan_log_blocks(&RequestContext::new(), request)
        .unwrap()
    {
        let block = block.unwrap();
        assert!(block.rows > 0);
        assert_eq!(block.time.len(), block.rows);
        for row in 0..block.rows {
            let stream = block.streams.get(block.stream.get(row) as u32).unwrap();
            let app: u64 = stream.labels.get("app").unwrap()[3..].parse().unwrap();
            let (_, number) = block.attributes_of(row).next().unwrap();
            let AttributeValue::Int(number) = number.to_value() else {
                panic!("a number of another type")
            };
            if request.columns.body {
                assert_eq!(block.body.str(row), format!("line {number} of app{app}"));
            } else {
                assert_eq!(block.body.str(row), "");
            }
            found.push((app, block.time[row], number));
        }
    }
    found
}

fn request(matchers: Vec<Matcher>, range: TimeRange) -> LogScanRequest {
    LogScanRequest {
        attributes: AttributeChoice::Keys(vec!["number".into()]),
        columns: LogColumnSet {
            body: true,
            ..LogColumnSet::default()
        },
        ..LogScanRequest::new(matchers, range)
    }
}

/// A store with two segments, and rows in the head in a large batch and many small ones.
fn filled() -> (Store, Vec<Line>) {
    let store = store();
    let all = lines(0, 4000);
    write(&store, &all[..1500]);
    store.flush().unwrap();
    write(&store, &all[1500..2500]);
    store.flush().unwrap();
    write(&store, &all[2500..3900]);
    all[3900..].chunks(7).for_each(|few| write(&store, few));
    (store, all)
}

#[test]
fn every_order_and_limit_gives_the_right_rows() {
    let (store, all) = filled();
    let range = TimeRange::new(100 * SECOND, 1900 * SECOND);
    for matchers in [Vec::new(), vec![Matcher::equal("app", "app1")]] {
        let wanted = |line: &&Line| {
            range.contains(TimestampNs(line.1)) && (matchers.is_empty() || line.0 == 1)
        };
        // Stable: equal times stay in order of arrival.
        let mut oldest: Vec<Line> = all.iter().filter(wanted).copied().collect();
        let mut sorted = oldest.clone();
        oldest.sort_by_key(|line| line.1);
        let newest: Vec<Line> = oldest.iter().rev().copied().collect();
        for limit in [None, Some(0), Some(1), Some(100), Some(2000)] {
            let cut =
                |lines: &[Line]| lines[..lines.len().min(limit.unwrap_or(usize::MAX))].to_vec();
            let mut request = request(matchers.clone(), range);
            request.limit = limit;
            request.order = RowOrder::NewestFirst;
            let times = |lines: &[Line]| lines.iter().map(|line| line.1).collect::<Vec<_>>();
            let found = read(&store, &request);
            assert_eq!(times(&found), times(&cut(&newest)));
            if matchers.len() == 1 {
                // In one stream the order of arrival is kept through segments.
                assert_eq!(found, cut(&newest));
            }
            request.order = RowOrder::OldestFirst;
            let found = read(&store, &request);
            assert_eq!(times(&found), times(&cut(&oldest)));
            request.order = RowOrder::Any;
            let mut found = read(&store, &request);
            assert_eq!(found.len(), cut(&oldest).len());
            if limit.is_none() {
                found.sort_unstable();
                sorted.sort_unstable();
                assert_eq!(found, sorted);
            }
        }
    }
}

#[test]
fn conditions_and_deletions_hold_in_every_source() {
    let (store, all) = filled();
    let context = RequestContext::new();
    let snapshot = store.pin(&context).unwrap();
    let gone = TimeRange::new(500 * SECOND, 1500 * SECOND);
    let app0 = vec![Matcher::equal("app", "app0")];
    store.delete(&context, Signal::Logs, &app0, gone).unwrap();
    write(&store, &[(0, 600 * SECOND, 5000)]);

    let mut conditional = request(Vec::new(), TimeRange::ALL);
    conditional.columns.body = false;
    conditional.conditions = vec![
        LogCondition::Body(TextTest {
            pattern: TextPattern::Contains("7".into()),
            negated: false,
        }),
        LogCondition::Severity(3..=12),
        LogCondition::Attribute {
            scope: AttributeScope::Resource,
            key: "service.name".into(),
            test: ValueTest::Text(TextTest {
                pattern: TextPattern::regex("[01]$").unwrap(),
                negated: false,
            }),
        },
    ];
    let passes = |line: &&Line| {
        let number = line.2;
        number.to_string().contains('7') && (3..=12).contains(&(number % 20)) && line.0 != 2
    };
    let is_left = |line: &&Line| line.0 != 0 || !gone.contains(TimestampNs(line.1));
    let mut expected: Vec<Line> = all.iter().filter(passes).filter(is_left).copied().collect();
    expected.sort_unstable();
    for merged in [false, true] {
        let mut found = read(&store, &conditional);
        found.sort_unstable();
        assert_eq!(found, expected, "merged: {merged}");
        store.flush().unwrap();
        store.compact().unwrap();
    }
    // The snapshot knows neither the deletion nor the line after it.
    let everything = request(Vec::new(), TimeRange::ALL);
    let blocks = snapshot.scan_log_blocks(&context, &everything).unwrap();
    let rows: usize = blocks.map(|block| block.unwrap().rows).sum();
    assert_eq!(rows, all.len());
}

fn span(trace: u8, id: u8, version: i64) -> Span {
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent_span_id: (id > 1).then_some(SpanId([1; 8])),
        trace_state: String::new(),
        name: format!("operation {id}"),
        kind: SpanKind::Server,
        time: TimestampNs(i64::from(trace) * 100 * SECOND + i64::from(id)),
        duration_ns: version,
        status: SpanStatus::Ok,
        status_message: String::new(),
        attributes: vec![("version".into(), AttributeValue::Int(version))],
        events: Vec::new(),
        links: Vec::new(),
    }
}

fn write_spans(store: &Store, spans: &[Span]) {
    let mut batch = SpanBatch::new();
    let stream = batch.stream(stream(1));
    spans.iter().for_each(|span| batch.push(stream, span));
    let mut append = store.begin(&RequestContext::new()).unwrap();
    append.spans(batch);
    append.commit().unwrap();
}

/// Trace, span and duration of what a scan finds, sorted.
fn read_spans(store: &Store, conditions: Vec<SpanCondition>) -> Vec<(u8, u8, i64)> {
    let request = SpanScanRequest {
        conditions,
        columns: SpanColumnSet {
            trace_id: true,
            span_ids: true,
            duration: true,
            ..SpanColumnSet::default()
        },
        ..SpanScanRequest::new(Vec::new(), TimeRange::ALL)
    };
    let mut found = Vec::new();
    for block in store
        .scan_span_blocks(&RequestContext::new(), &request)
        .unwrap()
    {
        let block = block.unwrap();
        for row in 0..block.rows {
            let trace = block.trace_id.get(row).unwrap()[0];
            let span = block.span_id.get(row).unwrap()[0];
            found.push((trace, span, block.duration.get(row)));
        }
        // Read to tell versions apart, but not asked for.
        assert_eq!(block.kind.get(0), 0);
    }
    found.sort_unstable();
    found
}

#[test]
fn of_a_span_written_again_the_last_version_counts() {
    let store = store();
    let version = |ids: &[(u8, u8)], version| -> Vec<Span> {
        ids.iter()
            .map(|(trace, id)| span(*trace, *id, version))
            .collect()
    };
    write_spans(&store, &version(&[(1, 1), (1, 2), (2, 1), (1, 1)], 10));
    store.flush().unwrap();
    write_spans(&store, &version(&[(1, 2), (3, 1)], 20));
    store.flush().unwrap();
    write_spans(&store, &version(&[(3, 1), (4, 1)], 30));
    write_spans(&store, &version(&[(4, 1)], 40));
    let all = [(1, 1, 10), (1, 2, 20), (2, 1, 10), (3, 1, 30), (4, 1, 40)];
    let trace = |id: u8| vec![SpanCondition::Trace(Arc::new([TraceId([id; 16])]))];
    for _ in 0..2 {
        assert_eq!(read_spans(&store, Vec::new()), all);
        assert_eq!(read_spans(&store, trace(1)), all[..2]);
        assert_eq!(read_spans(&store, trace(9)), []);
        // An old version that would pass stays hidden by one that does not.
        assert_eq!(
            read_spans(&store, vec![SpanCondition::Duration(0..=10)]),
            [all[0], all[2]]
        );
        assert_eq!(read_spans(&store, vec![SpanCondition::Root]).len(), 4);
        store.flush().unwrap();
        store.compact().unwrap();
    }
}

#[test]
fn rows_come_back_from_the_log() {
    let dir = std::path::Path::new("/store");
    let fs: chronolith_engine::io::SharedFileSystem =
        Arc::new(chronolith_engine::io::Memory::new());
    let options = || StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    let all = lines(0, 500);
    {
        let store = Store::open_on(Arc::clone(&fs), dir, options()).unwrap();
        write(&store, &all);
        write_spans(&store, &[span(1, 1, 1), span(1, 1, 2)]);
        store.close().unwrap();
    }
    let store = Store::open_on(fs, dir, options()).unwrap();
    let mut found = read(&store, &request(Vec::new(), TimeRange::ALL));
    let mut expected = all;
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(read_spans(&store, Vec::new()), [(1, 1, 2)]);
}

#[test]
fn outlines_and_sizes_need_no_text() {
    let (store, all) = filled();
    let columns = LogColumnSet {
        body_outline: true,
        body_size: true,
        ..LogColumnSet::default()
    };
    let wanted = LogScanRequest {
        columns,
        ..LogScanRequest::new(Vec::new(), TimeRange::ALL)
    };
    let size = |(app, _, number): &Line| format!("line {number} of app{app}").len() as i64;
    let expected: i64 = all.iter().map(size).sum();
    for sealed in [false, true] {
        if sealed {
            store.flush().unwrap();
        }
        let (mut bytes, mut rows, mut whole) = (0, 0, 0);
        let scan = store.scan_log_blocks(&RequestContext::new(), &wanted);
        for block in scan.unwrap() {
            let block = block.unwrap();
            rows += block.rows;
            for row in 0..block.rows {
                bytes += block.body_size.get(row);
                let text = block.body.str(row);
                assert!(
                    text.starts_with("line ") && text.contains(" of app"),
                    "{text}"
                );
                whole += usize::from(!text.contains(OUTLINE_SLOT));
            }
        }
        assert_eq!((rows, bytes), (all.len(), expected), "sealed: {sealed}");
        assert!(whole > 0 || sealed, "lines in the head come whole");
        assert!(whole < rows / 2 || !sealed, "{whole} of {rows} lines");
    }
}
