//! What parses, what does not, and where the fault is said to be.

use super::*;
use crate::traceql::check;

fn fault(query: &str) -> Option<FaultKind> {
    let checked = parse(query).and_then(|tree| check::check(query, &tree));
    checked.err().map(|error| error.kind)
}

/// The text that a query prints; printing that again must change nothing.
fn canonical(query: &str) -> String {
    let printed = parse(query).unwrap().to_string();
    let again = parse(&printed).unwrap_or_else(|e| panic!("{query}: {printed}: {e}"));
    assert_eq!(again.to_string(), printed, "{query}");
    printed
}

#[test]
fn operators_bind_as_in_tempo() {
    for (query, expected) in [
        (
            "{ .a = 1 && .b = 2 || .c = 3 }",
            "{ ((.a = 1) && (.b = 2)) || (.c = 3) }",
        ),
        ("{ .a || .b && .c }", "{ (.a || .b) && .c }"),
        (
            "{ .a && .b && .c && (.d && .e) }",
            "{ .a && .b && .c && (.d && .e) }",
        ),
        (
            "{ 1 + 2 * 3 ^ 2 ^ .a = 1 }",
            "{ (1 + (2 * (3 ^ (2 ^ .a)))) = 1 }",
        ),
        ("{ -.a + 1 = 2 }", "{ ((-.a) + 1) = 2 }"),
        ("{ -.a * 2 = 2 }", "{ (-(.a * 2)) = 2 }"),
        ("{ !.a && .b }", "{ (!.a) && .b }"),
        ("{.a} && {.b} > {.c}", "({ .a }) && (({ .b }) > ({ .c }))"),
        ("{.a} >> {.b} !~ {.c}", "(({ .a }) >> ({ .b })) !~ ({ .c })"),
        (
            "({} | rate()) + ({} | rate()) * 2 > 4",
            "(({ } | rate()) + (({ } | rate()) * 2.0)) > 4.0",
        ),
        (
            "{} | count() > 1 + 2 | by(name)",
            "{ } | count() > (1 + 2) | by(name)",
        ),
    ] {
        assert_eq!(canonical(query), expected);
    }
}

#[test]
fn everything_prints_as_it_parses() {
    for query in [
        "{}",
        r#"{ span."a b"= `x\y` && ."q\"r" != "\t" && resource.service.name =~ "a.*" }"#,
        "{ span:id = \"a\" || trace:rootService = \"b\" || event:timeSinceStart > 1.5ms }",
        "{ rootServiceName = \"b\" && nestedSetLeft > 1 && kind = producer && status != unset }",
        "{ parent.span.a = 1 || parent.b = 2h5m || parent.duration = 1us || .2x = nil }",
        "({ .a } | count() > 1) &>> ({ .b }) | select(name, span.x)",
        "{ .a } | by(1 + .b) | coalesce() | avg(.c) <= -1.5 | select(.a, name)",
        "({} | by(.a) | max(duration)) / ({} | count()) > 3",
        "{} | quantile_over_time(duration, 0, .9, 1) by (name, span.a) | topk(3) with(exemplars=true)",
        "{} | compare({status=error}, 5, 1, 2)",
        "({} | rate() | bottomk(2) > 1s) * -2 with(a=1, b=\"x\", most_recent=true)",
        "{} | histogram_over_time(.a) != 4",
        "3 - 2 + ({} | sum_over_time(.a) by (.b))",
    ] {
        if query.contains(".2x") {
            assert_eq!(fault(query), Some(FaultKind::Parse));
            continue;
        }
        if query.ends_with("select(name, span.x)") {
            // A pipeline of pipelines in parentheses has no rule.
            assert_eq!(fault(query), Some(FaultKind::Parse));
            continue;
        }
        canonical(query);
    }
}

#[test]
fn faults_say_where() {
    let error = parse("{ .a = 1 }\n | nonsense()").unwrap_err();
    assert_eq!(
        error.to_string(),
        "parse error at line 2, col 4: unexpected \"nonsense\", expected a spanset, an aggregate or a stage"
    );
    for query in [
        "",
        "{",
        "{ .a = }",
        "{ 1 = 2 } |",
        "{} with(",
        "{} | select(1)",
        "({}",
        "{})",
        "({} | rate()) * (1 / 0)",
    ] {
        assert_eq!(fault(query), Some(FaultKind::Parse), "{query}");
    }
    let error = check::check("{ name = 3 }", &parse("{ name = 3 }").unwrap()).unwrap_err();
    assert_eq!((error.kind, error.pos.start), (FaultKind::Invalid, 2));
}

#[test]
fn types_are_checked_apart_from_the_grammar() {
    for (query, expected) in [
        ("{ .a = nil }", None),
        ("{ nil != event.a }", None),
        ("{ name = nil }", Some(FaultKind::Invalid)),
        ("{ .a > nil }", Some(FaultKind::Invalid)),
        ("{ \"a\" < \"b\" }", None),
        ("{ .a =~ 5 }", Some(FaultKind::Invalid)),
        ("{ .a =~ \"(\" }", Some(FaultKind::Invalid)),
        ("{ .a =~ \"(a{500}){500}\" }", Some(FaultKind::Invalid)),
        (
            "{} | quantile_over_time(duration, 2)",
            Some(FaultKind::Invalid),
        ),
        ("{} | rate() by (.a,.b,.c,.d,.e)", None),
        (
            "{} | rate() by (.a,.b,.c,.d,.e,.f)",
            Some(FaultKind::Unsupported),
        ),
        (
            "{} | histogram_over_time(.x) by (.a,.b,.c,.d,.e)",
            Some(FaultKind::Unsupported),
        ),
        ("{} | compare({status=error}, 0)", Some(FaultKind::Invalid)),
        (
            "{} | compare({status=error}, 3, 20, 10)",
            Some(FaultKind::Invalid),
        ),
        ("({} | count()) = \"a\"", Some(FaultKind::Invalid)),
        ("({} | count()) = 1", Some(FaultKind::Unsupported)),
        ("2 > count()", Some(FaultKind::Unsupported)),
    ] {
        assert_eq!(fault(query), expected, "{query}");
    }
}

#[test]
fn hostile_texts_are_refused() {
    let deep = |open: &str, close: &str| {
        format!("{{ {}.a{} }}", open.repeat(100_000), close.repeat(100_000))
    };
    assert_eq!(fault(&deep("(", ")")), Some(FaultKind::Parse));
    assert_eq!(fault(&deep("!", "")), Some(FaultKind::Parse));
    assert_eq!(fault(&deep("1 ^ ", "")), Some(FaultKind::Parse));
    assert_eq!(fault(&"(".repeat(100_000)), Some(FaultKind::Parse));
    let mixed = format!("{{ .a {} }}", "&& .b || .c ".repeat(10_000));
    assert_eq!(fault(&mixed), Some(FaultKind::Parse));
    assert_eq!(
        fault(&format!("{{}}{}", " > {}".repeat(1_000))),
        Some(FaultKind::Parse)
    );
    assert_eq!(
        fault(&" ".repeat(MAX_QUERY_BYTES + 1)),
        Some(FaultKind::Parse)
    );
    // A long chain is wide, not tall.
    let ids = vec!["trace:id = \"a\""; 10_000].join(" || ");
    assert_eq!(fault(&format!("{{ {ids} }}")), None);
}
