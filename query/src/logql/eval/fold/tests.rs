//! That codes and fields of templates change nothing: random lines, folded with and without them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use chronolith_engine::model::{Labels, Stream, TimestampNs};
use chronolith_engine::rows::LogBatch;
use chronolith_engine::{RequestContext, Store, StoreOptions};

use super::super::super::ast::{Expr, Grouping, MetricExpr, RangeAggregation, RangeOp};
use super::super::super::parser::parse;
use super::super::accumulate::{Edge, Mean, Sum, Values};
use super::super::pushdown;
use super::*;

/// Numbers without a pattern to them, always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.below(from.len())]
    }
}

const KEYS: [&str; 10] = [
    "status",
    "ms",
    "user",
    "level",
    "o",
    "o_ms",
    "a b",
    "sta\\u0074us",
    "host",
    "",
];

/// A value with something that varies from line to line, in the form of JSON.
fn json_value(random: &mut Random, form: usize) -> String {
    let n = random.below(100_000);
    match form {
        0 => [200, 404, 500][n % 3].to_string(),
        1 => format!("{}.{:03}", n % 1000, n % 997),
        2 => format!("-{n}"),
        3 => format!("\"{}\"", ["ann", "bob", "eve"][n % 3]),
        4 => format!("\"{n:08x}\""),
        5 => format!("\"0{}\"", n % 20),
        6 => format!("{{\"ms\":{n},\"deep\":{{\"status\":{}}}}}", n % 5),
        7 => format!("[{n},\"x{n}\"]"),
        8 => format!("\"a\\\"{n}\""),
        9 => ["true", "false", "null", "nil"][n % 4].to_owned(),
        10 => format!("{:x}", n * 7),
        11 => format!("\"user-{n} at 10.0.0.{}\"", n % 256),
        12 => format!("{}e{}", n % 10, n % 3),
        _ => format!("\"{n}\""),
    }
}

fn logfmt_value(random: &mut Random, form: usize) -> String {
    let n = random.below(100_000);
    match form {
        0 => [200, 404, 500][n % 3].to_string(),
        1 => format!("{}.{:03}", n % 1000, n % 997),
        2 => format!("{}ms", n % 5000),
        3 => ["ann", "bob", "eve"][n % 3].to_owned(),
        4 => format!("\"{n:08x}\""),
        5 => String::new(),
        6 => "\"\"".to_owned(),
        7 => format!("\"done in {n}\""),
        8 => format!("\"a\\\"{n}\""),
        9 => format!("{n}=x"),
        10 => format!("{n}\"x"),
        11 => format!("{:x}{n}", n % 16),
        _ => format!("{n}kB"),
    }
}

/// Lines of a few formats.
fn lines(random: &mut Random, is_json: bool) -> Vec<String> {
    let mut formats = Vec::new();
    for _ in 0..5 {
        let fields: Vec<(&str, usize)> = (0..random.below(5) + 1)
            .map(|_| (random.pick(&KEYS), random.below(14)))
            .collect();
        formats.push((fields, random.below(12)));
    }
    (0..1200)
        .map(|_| {
            let (fields, odd) = &formats[random.below(5)];
            let mut line = String::new();
            for (at, (key, form)) in fields.iter().enumerate() {
                if is_json {
                    line += if at == 0 { "{" } else { ", " };
                    let value = json_value(random, *form);
                    let _ = write!(line, "\"{key}\":{value}");
                } else {
                    let value = logfmt_value(random, *form);
                    let _ = write!(line, "{key}={value} ");
                }
            }
            match (odd, is_json) {
                (0, true) => line += ", \"k9\":1",
                (1, true) => {}
                (2, true) => {
                    let _ = write!(line, ", \"k{}\":{}}}", random.below(1000), random.below(9));
                }
                (3, true) => line = format!("x{} {line}}}", random.below(10)),
                (_, true) => line += "}",
                (0, false) => {
                    let _ = write!(line, "k{}=1", random.below(1000));
                }
                (1, false) => {
                    let _ = write!(line, "took {} s", random.below(1000));
                }
                (2, false) => line += "open=\"x",
                (_, false) => {}
            }
            line
        })
        .collect()
}

/// A store whose lines lie in a segment, but for a few.
fn store(random: &mut Random, is_json: bool) -> Store {
    let store = Store::in_memory(StoreOptions::default()).unwrap();
    let lines = lines(random, is_json);
    let (stored, fresh) = lines.split_at(lines.len() - 40);
    for lines in [stored, fresh] {
        let mut batch = LogBatch::new();
        let streams: Vec<u32> = [("a", "x"), ("b", "x"), ("a", "y")]
            .iter()
            .map(|(app, host)| {
                let labels = Labels::from_pairs([("app", *app), ("host", *host)]).unwrap();
                batch.stream(Arc::new(Stream::from_labels(labels)))
            })
            .collect();
        for (at, line) in lines.iter().enumerate() {
            let stream = streams[random.below(3)];
            let time = TimestampNs((at as i64 * 7 + random.below(3) as i64) * 1_000_000_000);
            let has_level = random.below(3) > 0;
            let level = random.pick(&["info", "warn"]);
            batch
                .row(stream, time)
                .finish_text("", line, "", |attributes| {
                    if has_level {
                        attributes.str("level", level);
                    }
                });
        }
        let context = RequestContext::new();
        let mut append = store.begin(&context).unwrap();
        append.logs(batch);
        append.commit().unwrap();
        if lines.len() > 40 {
            store.flush().unwrap();
        }
    }
    store
}

type Answer = Result<BTreeMap<Vec<u8>, Vec<(usize, u64)>>, ()>;

struct Case {
    aggregation: RangeAggregation,
    grouping: Option<Grouping>,
}

fn case(query: &str) -> Case {
    match parse(query) {
        Ok(Expr::Metric(MetricExpr::Range(e))) => Case {
            grouping: e.grouping.clone(),
            aggregation: *e,
        },
        Ok(Expr::Metric(MetricExpr::Vector(e))) => match &e.expr {
            MetricExpr::Range(inner) => Case {
                aggregation: (**inner).clone(),
                grouping: Some(e.grouping.clone().unwrap_or_default()),
            },
            other => panic!("{query}: {other:?}"),
        },
        other => panic!("{query}: {other:?}"),
    }
}

/// The answer of a query, and how many rows were read without their lines.
fn answer<A: Accumulator>(store: &Store, case: &Case, is_fast: bool) -> (Answer, usize) {
    let Case {
        aggregation: e,
        grouping,
    } = case;
    let grid = Grid::new((0, 600_000_000_000, 15), e.range.range_ns, 0);
    let needed = match is_fast {
        true => pushdown::needed(e, grouping.as_ref()),
        false => pushdown::Needed::All,
    };
    let times = grid.times_ns().unwrap();
    let pushed = pushdown::push_down(&e.range.log, times, &needed, !is_fast, true).unwrap();
    let extractor =
        SampleExtractor::new(e.op, &e.range, grouping.as_ref(), pushed.stages, is_fast).unwrap();
    let mut request = pushed.request;
    request.fields = extractor.fields();
    assert!(is_fast || request.fields.is_none());
    let mut folded = Folded::<A>::default();
    let mut folder = Folder::new(extractor, grid, &mut folded);
    let mut known = 0;
    let mut failed = false;
    for block in store
        .scan_log_blocks(&RequestContext::new(), &request)
        .unwrap()
    {
        let block = block.unwrap();
        if let Some(fields) = &block.fields {
            known += fields.known.iter().filter(|known| **known).count();
        }
        if is_fast {
            failed |= folder.block(&block).is_err();
        } else {
            folder.reader.begin(&block);
            let mut read = BlockRead::default();
            failed |= (0..block.rows).any(|row| folder.row(&block, row, &mut read).is_err());
        }
    }
    if failed {
        return (Err(()), known);
    }
    let mut series = BTreeMap::new();
    for (labels, mut cells) in folded.series {
        cells.tidy();
        let mut values = Vec::new();
        cells.windows(&grid, 0.9, false, |window, value| {
            values.push((window, value.to_bits()));
        });
        if !values.is_empty() {
            series.insert(labels.to_vec(), values);
        }
    }
    (Ok(series), known)
}

fn both(store: &Store, query: &str) -> usize {
    let case = case(query);
    let [(fast, known), (slow, _)] = [true, false].map(|is_fast| match case.aggregation.op {
        RangeOp::AvgOverTime => answer::<Mean>(store, &case, is_fast),
        RangeOp::QuantileOverTime => answer::<Values>(store, &case, is_fast),
        RangeOp::LastOverTime => answer::<Edge<true>>(store, &case, is_fast),
        _ => answer::<Sum>(store, &case, is_fast),
    });
    assert_eq!(fast, slow, "{query}");
    known
}

#[test]
fn fields_of_json_change_nothing() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut known = 0;
    for _ in 0..5 {
        let store = store(&mut random, true);
        for query in [
            "sum(count_over_time({app=\"a\"} | json | status = 500 | __error__=\"\" [20m]))",
            "sum by (user, app) (count_over_time({app=~\".+\"} | json | ms >= 500 | __error__=\"\" [10m]))",
            "quantile_over_time(0.9, {app=~\".+\"} | json | unwrap ms | __error__=\"\" [15m]) by (status)",
            "avg_over_time({app=~\".+\"} | json | unwrap ms | ms > 7 | __error__=\"\" [15m]) by (host)",
            "last_over_time({host=\"x\"} | json | __error__=\"\" | unwrap o_ms [30m]) by (level)",
            "sum by (o_deep_status) (sum_over_time({host=\"x\"} | json | level=\"info\" | unwrap bytes(ms) | __error__=\"\" [30m]))",
            "avg_over_time({host=\"x\"} | json | unwrap status | __error__=\"\" [30m]) by (status)",
            "sum by (level) (count_over_time({app=~\".+\"} |= \"1\" | json | status != \"500\" [10m]))",
            "avg_over_time({app=~\".+\"} | json | unwrap ms [15m]) by (host)",
            "sum by (level) (count_over_time({app=~\".+\"} | json | __error__!=\"\" [10m]))",
        ] {
            known += both(&store, query);
        }
    }
    assert!(known > 4_000, "{known} rows without their lines");
}

#[test]
fn fields_of_logfmt_change_nothing() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut known = 0;
    for _ in 0..5 {
        let store = store(&mut random, false);
        for query in [
            "sum(count_over_time({app=\"a\"} | logfmt | status = 500 | __error__=\"\" [20m]))",
            "avg_over_time({app=~\".+\"} | logfmt | unwrap duration(ms) | __error__=\"\" [15m]) by (user)",
            "sum by (user, status) (count_over_time({app=~\".+\"} | logfmt --strict | __error__=\"\" [10m]))",
            "sum by (user, ms) (count_over_time({app=~\".+\"} | logfmt --keep-empty [10m]))",
            "quantile_over_time(0.5, {app=~\".+\"} | logfmt | unwrap status | __error__=\"\" [15m]) by (host)",
            "sum by (level) (sum_over_time({app=~\".+\"} | logfmt | level=\"info\" | unwrap bytes(o) | __error__=\"\" [15m]))",
            "sum by (a_b) (count_over_time({app=~\".+\"} | logfmt | user=~\"ann|eve\" [10m]))",
        ] {
            known += both(&store, query);
        }
    }
    assert!(known > 4_000, "{known} rows without their lines");
}

#[test]
fn codes_change_nothing() {
    let mut random = Random(0xdead_beef_1234_5678);
    let store = store(&mut random, false);
    for query in [
        "sum by (level) (count_over_time({app=~\".+\"}[10m]))",
        "sum by (app) (count_over_time({app=~\".+\"}[7m]))",
        "count_over_time({app=~\".+\"}[25m])",
        "sum by (level, host) (rate({app=~\".+\"} | level=\"info\" or host=\"x\" [10m]))",
        "sum without (app) (count_over_time({app=~\".+\"} | drop level [10m]))",
        "count_over_time({app=~\".+\"} |= \"5\" | keep level [3m])",
    ] {
        both(&store, query);
    }
}
