//! Pipelines as a whole: what comes out, and that hints do not change it.

use std::fmt::Write;
use std::sync::Arc;

use super::super::ast::{Expr, LogExpr, MetricExpr};
use super::super::parser::parse;
use super::{Entry, Hints, Pipeline, Runner, SampleExtractor};
use crate::promql::labelset;

fn log(query: &str) -> LogExpr {
    match parse(query) {
        Ok(Expr::Log(log)) => log,
        other => panic!("{query}: {other:?}"),
    }
}

const STREAM: [(&str, &str); 2] = [("app", "a"), ("level", "stream")];

fn text(labels: &[u8]) -> String {
    let mut out = String::new();
    for label in labelset::iter(labels) {
        let name = String::from_utf8_lossy(label.name);
        let value = String::from_utf8_lossy(label.value);
        let _ = write!(out, "{name}={value} ");
    }
    out.trim_end().to_owned()
}

/// The line and labels of an entry that passes.
fn run(runner: &mut Runner, line: &[u8], metadata: &[(&str, &[u8])]) -> Option<String> {
    runner.set_stream(0, || STREAM.into_iter());
    let entry = Entry {
        time_ns: 1_000_000_000,
        line,
    };
    if !runner.run(entry, metadata.iter().copied()) {
        return None;
    }
    let line = String::from_utf8_lossy(runner.changed_line().unwrap_or(line)).into_owned();
    let mut labels = Vec::new();
    let (set, names, base) = runner.result();
    set.encode(base, names, |_| true, &mut labels);
    Some(format!("{line} | {}", text(&labels)))
}

fn outcome(query: &str, line: &str, metadata: &[(&str, &[u8])]) -> Option<String> {
    let pipeline = Pipeline::new(&log(query).stages).unwrap();
    let mut runner = Runner::new(Arc::new(pipeline), None, 0);
    run(&mut runner, line.as_bytes(), metadata)
}

#[test]
fn stages_do_what_loki_does() {
    let base = "app=a level=stream";
    for (stages, line, expected) in [
        (
            "| json",
            r#"{"x":1,"level":"p","o":{"p":"q"},"a":[1],"n":null}"#,
            "app=a level=stream level_extracted=p o_p=q x=1",
        ),
        (
            "| json",
            "{\"x\":",
            "__error__=JSONParserErr __error_details__=Malformed JSON error app=a level=stream",
        ),
        (
            "| json y=\"o.p[1]\", z",
            r#"{"o":{"p":[1,"2"]}}"#,
            "app=a level=stream y=2 z=",
        ),
        (
            "| logfmt",
            "x=1 level=p bad=\"u",
            "app=a level=stream level_extracted=p x=1",
        ),
        (
            "| logfmt --strict",
            "x=1 bad=\"u",
            "__error__=LogfmtParserErr __error_details__=logfmt syntax error at pos 11 : unterminated quoted value app=a level=stream x=1",
        ),
        (
            "| logfmt y=\"x\", level",
            "x=1 level=p z=3",
            "app=a level=stream level_extracted=p y=1",
        ),
        (
            "| regexp \"(?P<x>[0-9]+)\"",
            "a 12 b",
            "app=a level=stream x=12",
        ),
        ("| pattern \"<x> <_>\"", "a b c", "app=a level=stream x=a"),
        (
            "| label_format y=level, z=\"{{.app}}!\"",
            "",
            "app=a y=stream z=a!",
        ),
        ("| drop app | keep level", "", "level=stream"),
        ("| drop app=\"b\"", "", base),
        (
            "| logfmt | x > 5",
            "x=foo",
            "__error__=LabelFilterErr __error_details__=strconv.ParseFloat: parsing \"foo\": invalid syntax app=a level=stream x=foo",
        ),
        (
            "| logfmt | x > 5 | drop __error__, __error_details__",
            "x=foo",
            "app=a level=stream x=foo",
        ),
        (
            "| json | logfmt",
            r#"{"x":"j"} x=l"#,
            "app=a level=stream x=j",
        ),
    ] {
        let query = format!("{{app=\"a\"}} {stages}");
        let expected = format!("{line} | {expected}");
        assert_eq!(outcome(&query, line, &[]), Some(expected), "{stages}");
    }
    assert_eq!(
        outcome(
            "{app=\"a\"} | line_format \"{{.app}} {{__line__}}\" | json",
            "x",
            &[]
        )
        .unwrap(),
        "a x | __error__=JSONParserErr __error_details__=Value looks like object, but can't find closing '}' symbol app=a level=stream"
    );
    assert_eq!(
        outcome(
            "{app=\"a\"} | unpack",
            r#"{"_entry":"real","k":"v","n":1}"#,
            &[]
        )
        .unwrap(),
        "real | app=a k=v level=stream"
    );
    assert_eq!(
        outcome("{app=\"a\"} | decolorize", "\u{1b}[31mred\u{1b}[0m", &[]).unwrap(),
        format!("red | {base}")
    );
    assert_eq!(
        outcome(
            "{app=\"a\"} | logfmt",
            "m=p level=p",
            &[("m", b"m"), ("level", b"m")]
        )
        .unwrap(),
        "m=p level=p | app=a level=stream level_extracted=p m=m m_extracted=p"
    );
}

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

const KEYS: [&str; 12] = [
    "status",
    "level",
    "x",
    "x_y",
    "x-y",
    "9a",
    "_9a",
    "app",
    "s t",
    "ü",
    "sta\\u0074us",
    "",
];
const VALUES: [&str; 14] = [
    "\"500\"",
    "500",
    "200",
    "5e2",
    "true",
    "null",
    "[1,{\"x\":2}]",
    "\"a\\\"b\"",
    "\"\"",
    "{\"y\":500,\"z\":{\"status\":1}}",
    "{}",
    "oops",
    "\"\\ud800\"",
    "-1",
];

fn json_line(random: &mut Random) -> String {
    let mut line = String::from("{");
    for index in 0..random.below(7) {
        if index > 0 {
            line += random.pick(&[",", ", ", " ,"]);
        }
        let (key, value) = (random.pick(&KEYS), random.pick(&VALUES));
        let _ = write!(line, "\"{key}\":{value}");
    }
    line += random.pick(&["}", "}", "}", "} x", "", ",}"]);
    if random.below(8) == 0 {
        let mut at = random.below(line.len());
        while !line.is_char_boundary(at) {
            at -= 1;
        }
        line.truncate(at);
    }
    line
}

fn logfmt_line(random: &mut Random) -> String {
    let mut line = String::new();
    for _ in 0..random.below(7) {
        line += random.pick(&KEYS);
        line += random.pick(&["=", "=", "=", "", "=="]);
        line += random.pick(&[
            "500",
            "\"500\"",
            "\"a b\"",
            "\"a\\\"b\"",
            "\"open",
            "",
            "1.5",
            "a\"b",
        ]);
        line += random.pick(&[" ", " ", "  ", "\t"]);
    }
    line
}

#[test]
fn hints_for_filters_change_nothing() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for query in [
        "| json | status = 500",
        "| json | x_y = 500 | status != \"1\"",
        "| json | level = \"500\" or x > 300",
        "| json | __error__ = \"\"",
        "| logfmt | status >= 500",
        "| logfmt --strict | _9a = 500",
        "| logfmt --keep-empty | x_y = \"\"",
        "|= \"5\" | json | status = 500 | line_format \"{{.x}}\"",
        "| json | level_extracted = 500",
    ] {
        let pipeline =
            Arc::new(Pipeline::new(&log(&format!("{{app=\"a\"}} {query}")).stages).unwrap());
        let hints = Hints::for_filters(&pipeline);
        assert_eq!(hints.is_some(), !query.contains("_extracted"), "{query}");
        let mut fast = Runner::new(Arc::clone(&pipeline), hints, 0);
        let mut slow = Runner::new(pipeline, None, 0);
        for _ in 0..3000 {
            let line = if query.contains("json") {
                json_line(&mut random)
            } else {
                logfmt_line(&mut random)
            };
            let metadata: &[(&str, &[u8])] = match random.below(4) {
                0 => &[("status", b"200")],
                1 => &[("x_y", b"500"), ("level", b"m")],
                _ => &[],
            };
            assert_eq!(
                run(&mut fast, line.as_bytes(), metadata),
                run(&mut slow, line.as_bytes(), metadata),
                "{query}: {line}"
            );
        }
    }
}

fn extractor(query: &str, hinted: bool) -> SampleExtractor {
    let Ok(Expr::Metric(MetricExpr::Range(e))) = parse(query) else {
        panic!("{query}");
    };
    SampleExtractor::new(e.op, &e.range, e.grouping.as_ref(), 0, hinted).unwrap()
}

#[test]
fn hints_for_groups_change_nothing() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for query in [
        "avg_over_time({app=\"a\"} | json | unwrap x_y [1m]) by (status)",
        "avg_over_time({app=\"a\"} | json | unwrap x [1m]) by ()",
        "avg_over_time({app=\"a\"} | json | status = 500 | unwrap x | x > 1 [1m]) by (level, app)",
        "max_over_time({app=\"a\"} | logfmt | unwrap status [1m]) by (x)",
        "max_over_time({app=\"a\"} | logfmt --strict | unwrap status | __error__=\"\" [1m]) by (x)",
        "max_over_time({app=\"a\"} | logfmt | json | unwrap status [1m]) by (_9a)",
        "max_over_time({app=\"a\"} | json | unwrap status [1m]) by (__error__)",
        "max_over_time({app=\"a\"} | json | unwrap status [1m]) without (x)",
    ] {
        let (mut fast, mut slow) = (extractor(query, true), extractor(query, false));
        for _ in 0..3000 {
            let line = if query.contains("json") && random.below(3) > 0 {
                json_line(&mut random)
            } else {
                logfmt_line(&mut random)
            };
            let metadata: &[(&str, &[u8])] = match random.below(4) {
                0 => &[("status", b"200")],
                1 => &[("x", b"7"), ("level", b"m")],
                _ => &[],
            };
            let mut outcomes = [&mut fast, &mut slow].map(|extractor| {
                extractor.set_stream(0, || STREAM.into_iter());
                let entry = Entry {
                    time_ns: 0,
                    line: line.as_bytes(),
                };
                let sample = extractor.sample(entry, metadata.iter().copied())?;
                let failed = extractor.failed();
                let mut series = Vec::new();
                extractor.series(&mut series);
                // A failed query says for which series; there it says what it knows.
                Some((
                    sample.value.to_bits(),
                    failed,
                    if failed { String::new() } else { text(&series) },
                ))
            });
            assert_eq!(outcomes[0].take(), outcomes[1].take(), "{query}: {line}");
        }
    }
}
