//! Texts and their trees, and texts that are none.

use super::super::ast::{Expr, LabelFilter, MetricExpr, StageKind};
use super::super::pretty::pretty;
use super::{MAX_HEIGHT, parse};

/// Texts with their canonical form.
const CANONICAL: [(&str, &str); 25] = [
    (
        r#"{app="a",b=~"x|y" , c!="z"}"#,
        r#"{app="a", b=~"x|y", c!="z"}"#,
    ),
    (
        r#"{a="b"}|= "x" or ip("10.0.0.0/8")|> "a <_>""#,
        r#"{a="b"} |= "x" or ip("10.0.0.0/8") |> "a <_>""#,
    ),
    (
        r#"{a="b"}|json|logfmt --strict --keep-empty|unpack"#,
        r#"{a="b"} | json | logfmt --strict --keep-empty | unpack"#,
    ),
    (
        r#"{a="b"}|json x="y.z[0]", w"#,
        r#"{a="b"} | json x="y.z[0]",w="w""#,
    ),
    (
        r#"{a="b"}|x="1" or y="1", z>2"#,
        r#"{a="b"} | ( x="1" or ( y="1" , z>2 ) )"#,
    ),
    (
        r#"{a="b"}|x>5m|y<=20MB|z==-1.5|w!=ip("::1")"#,
        r#"{a="b"} | x>5m0s | y<=20MB | z==-1.5 | w!=ip("::1")"#,
    ),
    (
        r#"{a="b"}|label_format a=b,c="{{.d}}"|line_format "x""#,
        r#"{a="b"} | label_format a=b,c="{{.d}}" | line_format "x""#,
    ),
    (
        r#"{a="b"}|drop a,b="c"|keep d|decolorize"#,
        r#"{a="b"} | drop a,b="c" | keep d | decolorize"#,
    ),
    (r#"rate({a="b"}[5m])"#, r#"rate({a="b"}[5m])"#),
    (
        r#"rate(({a="b"} |= "x")[5m])"#,
        r#"rate({a="b"} |= "x"[5m])"#,
    ),
    (
        r#"rate({a="b"}[5m] offset -1h |= "x")"#,
        r#"rate({a="b"} |= "x"[5m] offset -1h)"#,
    ),
    (
        r#"quantile_over_time(.5,{a="b"}|unwrap duration(c)|d="e"[1h30m])by(x)"#,
        r#"quantile_over_time(0.5,{a="b"} | unwrap duration(c) | d="e"[1h30m]) by (x)"#,
    ),
    (
        r#"sum by(x,y)(rate({a="b"}[1d]))"#,
        r#"sum by (x,y)(rate({a="b"}[1d]))"#,
    ),
    (
        r#"topk(3,sum(rate({a="b"}[1m]))without(x))"#,
        r#"topk(3,sum without (x)(rate({a="b"}[1m])))"#,
    ),
    ("1+2*3^2^0.5 - -1", "11.4576"),
    (
        r#"vector(2) > bool on(a) group_left(b) vector(1)"#,
        r#"(vector(2) > bool on (a) group_left (b) vector(1))"#,
    ),
    (
        r#"vector(1)/vector(2)-vector(3) or vector(4)"#,
        r#"(((vector(1) / vector(2)) - vector(3)) or vector(4))"#,
    ),
    (
        r#"vector(1) ^ vector(2) ^ vector(3)"#,
        r#"(vector(1) ^ (vector(2) ^ vector(3)))"#,
    ),
    (
        r#"label_replace(vector(1),"a","$1","b","(.*)")"#,
        r#"label_replace(vector(1),"a","$1","b","(.*)")"#,
    ),
    (
        r#"sort_desc(count_over_time({a="b"}[1m]))"#,
        r#"sort_desc(count_over_time({a="b"}[1m]))"#,
    ),
    ("{a=\"b\"} # comment\n |= \"x\" # more", r#"{a="b"} |= "x""#),
    (
        r#"{a="b"} | rate > 5 | sum="x""#,
        r#"{a="b"} | rate>5 | sum="x""#,
    ),
    (
        r#"{a="b"} | pattern "<x> <_>" | regexp "(?P<y>.)""#,
        r#"{a="b"} | pattern "<x> <_>" | regexp "(?P<y>.)""#,
    ),
    (
        r#"avg_over_time({a="b"}|logfmt|unwrap bytes(bytes)[1m])by()"#,
        r#"avg_over_time({a="b"} | logfmt | unwrap bytes(bytes)[1m]) by ()"#,
    ),
    (
        r#"vector(1) + on() group_right vector(2)"#,
        r#"(vector(1) + on () group_right vector(2))"#,
    ),
];

#[test]
fn canonical_text_parses_to_itself() {
    for (text, canonical) in CANONICAL {
        let expr = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let printed = expr.to_string();
        if matches!(expr, Expr::Metric(MetricExpr::Literal(_))) {
            assert!(printed.starts_with(canonical), "{printed}");
            continue;
        }
        assert_eq!(printed, canonical);
        let again = parse(&printed).unwrap_or_else(|e| panic!("{printed}: {e}"));
        assert_eq!(again.to_string(), canonical);
        let pretty = pretty(&expr);
        let again = parse(&pretty).unwrap_or_else(|e| panic!("{pretty}: {e}"));
        assert_eq!(again.to_string(), canonical);
    }
}

#[test]
fn faults_are_worded_as_in_loki() {
    for (text, error) in [
        ("", "syntax error: unexpected $end"),
        ("{", "syntax error: unexpected $end, expecting IDENTIFIER"),
        ("{}", "at least one regexp or equality matcher"),
        (r#"{a=~".*"}"#, "at least one regexp or equality matcher"),
        (r#"{a="b"} | drop [1m]"#, "expecting IDENTIFIER"),
        (
            r#"count_over_time({a="b"} | drop [1m])"#,
            "line 1, col 32: syntax error: unexpected RANGE",
        ),
        (
            r#"vector(count_over_time({a="b"}[1m]))"#,
            "expecting NUMBER",
        ),
        (r#"-count_over_time({a="b"}[1m])"#, "expecting NUMBER"),
        (r#"{a="b"} | x == "200""#, "syntax error: unexpected STRING"),
        (r#"{a="b"} | x =~ ip("::1")"#, "syntax error: unexpected ip"),
        (r#"{a="b"} | x > ip("::1")"#, "syntax error: unexpected ip"),
        (r#"{a="b"} | x = ip("bogus")"#, "ip: invalid pattern"),
        (r#"{a="b"} |~ "x" or ip("::1")"#, "ip: invalid operation"),
        (r#"{a="b"} |~ "(""#, "error parsing regexp"),
        (r#"{a="b"} |> "<x> y""#, "named captures are not allowed"),
        (
            r#"{a="b"} | regexp "x""#,
            "at least one named capture must be supplied",
        ),
        (
            r#"{a="b"} | regexp "(?P<x>.)(?P<x>.)""#,
            "duplicate extracted label name",
        ),
        (
            r#"{a="b"} | pattern "x""#,
            "at least one capture is required",
        ),
        (r#"{a="b"} | label_format x="{{""#, "unclosed action"),
        (
            r#"{a="b"} | label_format x=y, x=z"#,
            "multiple label name 'x' not allowed",
        ),
        (r#"rate({a="b"})"#, "unexpected ), expecting RANGE"),
        (
            r#"rate({a="b"}[1m]) by (x)"#,
            "grouping not allowed for rate aggregation",
        ),
        (
            r#"count_over_time({a="b"} | unwrap x [1m])"#,
            "invalid aggregation count_over_time with unwrap",
        ),
        (
            r#"avg_over_time({a="b"}[1m])"#,
            "invalid aggregation avg_over_time without unwrap",
        ),
        (
            r#"quantile_over_time({a="b"} | unwrap x [1m])"#,
            "parameter required",
        ),
        (
            r#"quantile_over_time(-0.1, {a="b"} | unwrap x [1m])"#,
            "unexpected -",
        ),
        (r#"topk(0, rate({a="b"}[1m]))"#, "must be greater than 0"),
        (
            r#"topk(rate({a="b"}[1m]))"#,
            "parameter required for operation topk",
        ),
        (
            r#"approx_topk(1.5, rate({a="b"}[1m]))"#,
            "invalid parameter",
        ),
        (r#"sum(1, rate({a="b"}[1m]))"#, "unsupported parameter"),
        (
            r#"sort(rate({a="b"}[1m])) by (x)"#,
            "doesn't allow grouping",
        ),
        (
            r#"{a="b"} + {a="b"}"#,
            "unexpected type for left leg of binary operation (+)",
        ),
        (r#"1 or vector(1)"#, "unexpected literal for left leg"),
        (
            r#"vector(1) bool > vector(1)"#,
            "syntax error: unexpected bool",
        ),
        ("0x1A", "unable to parse literal as a float"),
        (
            r#"{a="b"} | x > 0o17"#,
            "unable to parse literal as a float",
        ),
        (
            r#"label_replace(vector(1), "a", "b", "c", "(")"#,
            "invalid regex",
        ),
        (r#"{a="b"#, "literal not terminated"),
        (r#"rate({a="b"}[1x])"#, "not a valid duration string"),
        (r#"{a="b"} | json x="y..z""#, "cannot parse expression"),
    ] {
        match parse(text) {
            Ok(_) => panic!("{text} is a query"),
            Err(e) => assert!(e.to_string().contains(error), "{text}: {e}"),
        }
    }
}

#[test]
fn filters_bind_as_documented() {
    let filter = |text: &str| match parse(text).unwrap() {
        Expr::Log(log) => match log.stages.into_iter().next().unwrap().kind {
            StageKind::LabelFilter(filter) => filter,
            other => panic!("{other:?}"),
        },
        Expr::Metric(other) => panic!("{other:?}"),
    };
    for text in [
        r#"{a="b"} | x="1" or y="1" and z="1""#,
        r#"{a="b"} | x="1" or y="1", z="1""#,
        r#"{a="b"} | x="1" or y="1" z="1""#,
        r#"{a="b"} | x="1" or (y="1" and z="1")"#,
    ] {
        let LabelFilter::Or(_, right) = filter(text) else {
            panic!("{text}");
        };
        assert!(matches!(*right, LabelFilter::And(..)), "{text}");
    }
}

#[test]
fn hostile_texts_are_errors() {
    for text in [
        "(".repeat(100_000),
        format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        "sum(".repeat(30_000),
        format!("rate{}", "(".repeat(100_000)),
        format!(r#"{{a="b"}} | {}"#, "(".repeat(100_000)),
        format!(r#"{{a="b"}} | x=1{}"#, " or x=1".repeat(15_000)),
        format!("vector(1){}", "+vector(1)".repeat(10_000)),
        format!("vector(1){}", "^vector(1)".repeat(10_000)),
        "x".repeat(1 << 20),
        format!(r#"{{a=~"{}"}}"#, "(".repeat(10_000)),
        format!(r#"{{a="b"}} |~ "{}""#, "(x{1000}){1000}"),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(!error.is_empty() && error.len() < 100_000);
    }
    let deep = format!(
        "{}1{}",
        "(".repeat(MAX_HEIGHT - 2),
        ")".repeat(MAX_HEIGHT - 2)
    );
    assert!(parse(&deep).is_ok());
    assert!(parse(&format!("1{}", "+1".repeat(1000))).is_ok());
}
