//! Tables of queries with their canonical text, and of faulty ones with their message.

use super::*;

fn all() -> Features {
    Features::conformance()
}

#[track_caller]
fn text(query: &str) -> String {
    parse(query, &all())
        .unwrap_or_else(|e| panic!("{query}: {e}"))
        .to_string()
}

#[test]
fn queries_print_in_canonical_form() {
    let cases = [
        ("1 + 2 * 3 ^ 4 ^ 5", "1 + 2 * 3 ^ 4 ^ 5"),
        ("-1^2", "-1 ^ 2"),
        ("- 5m", "-5m"),
        ("foo", "foo"),
        ("foo{ b!~'x.*' , a=\"1\", }", r#"foo{a="1",b!~"x.*"}"#),
        (
            r#"{"my.metric", "l.x"="v"}"#,
            r#"{"l.x"="v",__name__="my.metric"}"#,
        ),
        ("SUM(foo) BY (a, \"b.c\",)", r#"sum by (a, "b.c") (foo)"#),
        ("sum without() (foo)", "sum without () (foo)"),
        ("topk(3, foo)", "topk(3, foo)"),
        ("sum + by + offset", "sum + by + offset"),
        ("foo[5m] offset 1w @ 10.5", "foo[5m] @ 10.500 offset 1w"),
        ("foo @ end() offset -1h", "foo @ end() offset -1h"),
        ("rate(foo[5m] anchored)", "rate(foo[5m] anchored)"),
        (
            "foo anchored @ 5 offset 1m",
            "foo @ 5.000 anchored offset 1m",
        ),
        (
            "sum_over_time(rate(foo[5m])[1h:])",
            "sum_over_time(rate(foo[5m])[1h:])",
        ),
        ("foo[1h:5m] @ start()", "foo[1h:5m] @ start()"),
        ("foo[step()+ 1m]", "foo[step() + 1m]"),
        ("foo offset (-5m*2)", "foo offset (-5m * 2)"),
        (
            "foo offset max_of(step(), 1m) + 2",
            "foo offset max_of(step(), 1m) + 2",
        ),
        ("a == bool on(x) b", "a == bool on (x) b"),
        ("a * on(x) group_left(y) b", "a * on (x) group_left (y) b"),
        (
            "a * ignoring(x) group_right b",
            "a * ignoring (x) group_right () b",
        ),
        ("a + fill(0) b", "a + fill (0) b"),
        (
            "a + on(x) fill_right(-1) fill_left(2) b",
            "a + on (x) fill_left (2) fill_right (-1) b",
        ),
        ("fill + fill", "fill + fill"),
        ("h </ 5 >/ 1", "h </ 5 >/ 1"),
        ("a and b or c unless d", "a and b or c unless d"),
        ("start() + END()", "start() + end()"),
        ("day_of_week()", "day_of_week()"),
        ("info(foo, {bar=~\".*\"})", r#"info(foo, {bar=~".*"})"#),
        ("# only\n1 # one", "1"),
        ("0x1F + 1_000", "31 + 1000"),
        ("Inf + -inf + NaN", "+Inf + -Inf + NaN"),
    ];
    for (query, want) in cases {
        assert_eq!(text(query), want, "{query}");
        assert_eq!(
            text(want),
            want,
            "canonical text must parse to itself: {want}"
        );
    }
}

#[test]
fn operators_nest_by_precedence() {
    let Expr::Unary(unary) = parse("-a ^ 2", &all()).unwrap() else {
        panic!("unary expected")
    };
    assert!(matches!(
        *unary.expr,
        Expr::Binary(Binary {
            op: BinaryOp::Pow,
            ..
        })
    ));
    let Expr::Binary(product) = parse("-a * b", &all()).unwrap() else {
        panic!("binary")
    };
    assert!(matches!(*product.lhs, Expr::Unary(_)));
    let Expr::Binary(or) = parse("a or b and c", &all()).unwrap() else {
        panic!("binary")
    };
    assert_eq!(or.op, BinaryOp::Or);
    let Expr::Binary(power) = parse("a ^ b ^ c", &all()).unwrap() else {
        panic!("binary")
    };
    assert!(matches!(*power.rhs, Expr::Binary(_)));
    let Expr::Binary(sum) = parse("foo offset -2 ^ 2", &all()).unwrap() else {
        panic!("binary")
    };
    assert_eq!(sum.op, BinaryOp::Pow);
}

#[test]
fn positions_cover_the_source() {
    let query = "sum by (x) (rate(foo{a='b'}[5m] offset 1m)) * (2)";
    let Expr::Binary(product) = parse(query, &all()).unwrap() else {
        panic!("binary")
    };
    let slice = |pos: PosRange| &query[pos.start..pos.end];
    assert_eq!(slice(product.pos), query);
    assert_eq!(
        slice(product.lhs.pos()),
        "sum by (x) (rate(foo{a='b'}[5m] offset 1m))"
    );
    assert_eq!(slice(product.rhs.pos()), "(2)");
    let Expr::Aggregate(sum) = *product.lhs else {
        panic!("aggregate")
    };
    let Expr::Call(rate) = *sum.expr else {
        panic!("call")
    };
    assert_eq!(slice(rate.args[0].pos()), "foo{a='b'}[5m] offset 1m");
}

#[test]
fn faults_are_worded_as_by_prometheus() {
    let cases = [
        (
            "",
            "unknown position: parse error: no expression found in input",
        ),
        ("# x", "1:1: parse error: no expression found in input"),
        ("1 +", "1:4: parse error: unexpected end of input"),
        ("foo bar", "1:5: parse error: unexpected identifier \"bar\""),
        (
            "foo{",
            "1:5: parse error: unexpected end of input inside braces",
        ),
        (
            "foo{a}",
            "1:6: parse error: unexpected \"}\" in label matching, \
                    expected label matching operator",
        ),
        (
            "foo{a=1}",
            "1:7: parse error: unexpected character inside braces: '1'",
        ),
        ("(foo", "1:5: parse error: unclosed left parenthesis"),
        ("foo)", "1:4: parse error: unexpected right parenthesis ')'"),
        ("foo]", "1:4: parse error: unexpected right bracket ']'"),
        (
            "\nfoo(x)",
            "2:1: parse error: unknown function with name \"foo\"",
        ),
        (
            "rate(foo)",
            "1:6: parse error: expected type range vector in call to function \
                       \"rate\", got instant vector",
        ),
        (
            "abs()",
            "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0",
        ),
        (
            "round(a, 1, 2)",
            "1:1: parse error: expected at most 2 argument(s) in call to \
                            \"round\", got 3",
        ),
        (
            "label_join(a)",
            "1:1: parse error: expected at least 3 argument(s) in call to \
                           \"label_join\", got 1",
        ),
        (
            "abs(a,)",
            "1:6: parse error: trailing commas not allowed in function call args",
        ),
        (
            "1 == 1",
            "1:3: parse error: comparisons between scalars must use BOOL modifier",
        ),
        (
            "a + bool b",
            "1:3: parse error: bool modifier can only be used on comparison operators",
        ),
        (
            "1 and a",
            "1:1: parse error: set operator \"and\" not allowed in binary scalar \
                     expression",
        ),
        (
            "a and on(x) group_left b",
            "1:1: parse error: no grouping allowed for \"and\" operation",
        ),
        (
            "a * on(x) group_left(x) b",
            "1:3: parse error: label \"x\" must not occur in ON and \
                                       GROUP clause at once",
        ),
        (
            "a * on(x) 1",
            "1:1: parse error: vector matching only allowed between instant vectors",
        ),
        (
            "a + group_left b",
            "1:5: parse error: unexpected <group_left>",
        ),
        (
            "a[5m] + 1",
            "1:1: parse error: binary expression must contain only scalar and instant \
                       vector types",
        ),
        (
            "{}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            "foo{__name__=\"bar\"}",
            "1:1: parse error: metric name must not be set twice: \"foo\" \
                                  or \"bar\"",
        ),
        (
            "foo{a=~\"(\"}",
            "1:5: parse error: error parsing regexp: unclosed group: `(`",
        ),
        (
            "foo[0]",
            "1:5: parse error: duration must be greater than 0",
        ),
        (
            "foo[-1]",
            "1:5: parse error: duration must be greater than 0",
        ),
        (
            "foo[]",
            "1:5: parse error: unexpected \"]\" in subquery or range selector, expected \
                   number, duration, step(), or range()",
        ),
        (
            "foo[5m",
            "1:7: parse error: unexpected end of input in duration expression",
        ),
        ("foo[5m/0]", "1:7: parse error: division by zero"),
        (
            "1[5m]",
            "1:2: parse error: ranges only allowed for vector selectors",
        ),
        (
            "foo offset 5m [5m]",
            "1:15: parse error: no offset modifiers allowed before range",
        ),
        (
            "foo @ 5 [5m]",
            "1:9: parse error: no @ modifiers allowed before range",
        ),
        (
            "foo offset 5m offset 5m",
            "1:1: parse error: offset may not be set multiple times",
        ),
        (
            "foo @ 1 @ 2",
            "1:1: parse error: @ <timestamp> may not be set multiple times",
        ),
        (
            "foo @ inf",
            "1:1: parse error: timestamp out of bounds for @ modifier: inf",
        ),
        (
            "1 offset 5m",
            "1:1: parse error: offset modifier must be preceded by an instant \
                         vector selector or range vector selector or a subquery",
        ),
        (
            "foo offset",
            "1:11: parse error: unexpected end of input in offset, expected number, \
                        duration, step(), or range()",
        ),
        (
            "sum()",
            "1:1: parse error: no arguments for aggregate expression provided",
        ),
        (
            "sum(a, b)",
            "1:1: parse error: wrong number of arguments for aggregate expression \
                       provided, expected 1, got 2",
        ),
        (
            "topk(a, b)",
            "1:6: parse error: expected type scalar in aggregation parameter, got \
                        instant vector",
        ),
        (
            "sum(1)",
            "1:5: parse error: expected type instant vector in aggregation expression, \
                    got scalar",
        ),
        (
            "sum by foo (a)",
            "1:8: parse error: unexpected identifier \"foo\" in grouping opts, \
                            expected \"(\"",
        ),
        (
            "-foo[5m]",
            "1:1: parse error: unary expression only allowed on expressions of type \
                      scalar or instant vector, got \"range vector\"",
        ),
        (
            "1[5m:1m]",
            "1:1: parse error: subquery is only allowed on instant vector, got scalar \
                      instead",
        ),
        (
            "foo[5m] anchored smoothed",
            "1:1: parse error: anchored and smoothed modifiers cannot \
                                       be used together",
        ),
        (
            "a and fill(1) b",
            "1:1: parse error: filling in missing series not allowed for set \
                             operators",
        ),
        ("a = b", "1:3: parse error: unexpected \"=\""),
        (
            "a ! b",
            "1:3: parse error: unexpected character after '!': ' '",
        ),
    ];
    for (query, want) in cases {
        let got = parse(query, &all())
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert_eq!(got, want, "{query}");
    }
}

#[test]
fn experimental_parts_need_their_switch() {
    let off = Features::default();
    let cases = [
        ("limitk(1, a)", "must be enabled"),
        (
            "mad_over_time(a[5m])",
            "function \"mad_over_time\" is not enabled",
        ),
        (
            "rate(a[5m] smoothed)",
            "smoothed modifier is experimental and not enabled",
        ),
        (
            "a + fill(1) b",
            "binop fill modifiers are experimental and not enabled",
        ),
    ];
    for (query, want) in cases {
        let error = parse(query, &off).unwrap_err();
        assert!(error.message.contains(want), "{error}");
        assert!(parse(query, &all()).is_ok(), "{query}");
    }
    assert!(parse("a[5m + step()]", &off).is_ok());
}

/// Runs on a small stack, so that a recursion that is too deep shows.
fn on_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(work);
    thread.expect("spawn").join().expect("no overflow");
}

#[test]
fn nesting_is_bounded() {
    on_small_stack(|| {
        let shapes: [(&str, &str, &str); 7] = [
            ("(", "1", ")"),
            ("1 + ", "1", ""),
            ("-", "a", ""),
            ("2 ^ ", "1", ""),
            ("abs(", "a", ")"),
            ("sum by (x) (", "a", ")"),
            ("", "a", " + a"),
        ];
        for (open, middle, close) in shapes {
            let query = |n: usize| format!("{}{middle}{}", open.repeat(n), close.repeat(n));
            let fine = parse(&query(MAX_HEIGHT - 2), &all()).expect("within the limit");
            assert!(!fine.to_string().is_empty() && !fine.any(|_| false));
            let deep = query(100_000);
            if deep.len() <= MAX_QUERY_BYTES {
                let error = parse(&deep, &all()).unwrap_err();
                assert!(error.message.contains("nests deeper"), "{error}");
            }
        }
        for (open, close) in [("(", ")"), ("-", ""), ("1 + ", ""), ("max_of(1,", ")")] {
            let query = format!("a[{}1m{}]", open.repeat(50_000), close.repeat(50_000));
            assert!(
                parse(&query, &all())
                    .unwrap_err()
                    .message
                    .contains("nests deeper")
            );
        }
        let chain = format!("a[1{}]", " + 1".repeat(50_000));
        assert!(
            parse(&chain, &all())
                .unwrap_err()
                .message
                .contains("nests deeper")
        );
    });
}

#[test]
fn long_queries_and_patterns_are_refused() {
    let error = parse(&"a".repeat(MAX_QUERY_BYTES + 1), &all()).unwrap_err();
    assert!(error.message.contains("the limit is"), "{error}");
    let error = parse("a{b=~\"((x{1000}){1000}){1000}\"}", &all()).unwrap_err();
    assert!(error.message.contains("error parsing regexp"), "{error}");
}

#[test]
fn selectors_and_metrics_stand_alone() {
    let selector = parse_selector("up{job=~\"a|b\"}").unwrap();
    assert_eq!(selector.matchers.len(), 2);
    assert!(parse_selector("{job=\"\"}").is_err());
    assert!(parse_selector("up offset 5m").is_err());
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        parse_metric(r#"{"a b", "c d"="e"}"#).unwrap(),
        [pair("__name__", "a b"), pair("c d", "e")]
    );
    assert_eq!(parse_metric("{}").unwrap(), []);
    assert!(parse_metric("a{b!=\"c\"}").is_err());
}

#[test]
fn garbage_never_panics() {
    let pieces = [
        "a", "(", ")", "{", "}", "[", "]", "5m", ":", "\"", "'x'", "@", "offset", "-", "sum", "by",
        ",", "=", "=~", "#", "\n", "é", "1e", ".", "^", "fill(", "on", "\\",
    ];
    let mut seed = 7u64;
    for _ in 0..20_000 {
        let mut query = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            query.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
            if seed >> 60 > 8 {
                query.push(' ');
            }
        }
        let _ = parse(&query, &all());
        let _ = parse_metric(&query);
    }
}
