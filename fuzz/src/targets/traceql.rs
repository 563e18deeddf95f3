//! TraceQL: any text parses or is refused at a position inside of it, the canonical text of a query is
//! a fixed point, and the check takes whatever parses.

use chronolith_query::traceql::{check, parser};

use crate::Target;

/// Whole queries.
pub static TRACEQL: Target = Target {
    name: "traceql",
    body: queries,
    seeds,
    dictionary: &[
        "{ ",
        " }",
        " && ",
        " || ",
        " >> ",
        " &<< ",
        " !~ ",
        " =~ ",
        " | ",
        "span.",
        "resource.",
        "parent.",
        "event:",
        "trace:id",
        "nil",
        "by(",
        "select(",
        "coalesce()",
        "count()",
        "avg(",
        "rate()",
        "quantile_over_time(",
        "compare({",
        "topk(",
        "with(",
        "\"",
        "`",
        "\\",
        "1h5m",
        "1.5",
        "-",
        "^",
        "(",
        ")",
    ],
};

fn seeds() -> Vec<Vec<u8>> {
    [
        "{}",
        "{ resource.service.name = \"shop\" && duration > 1.5s || !.cached }",
        "{ span.\"a b\" =~ `x.*` && .http.status >= 500 } >> { status = error } | count() > 2",
        "({ .a } | by(name) | avg(.b) < 3) &~ ({ kind = server }) ",
        "{ event:timeSinceStart > 1ms } | select(.a, span:name, nestedSetLeft)",
        "{ } | quantile_over_time(duration, .5, .99) by (name, .a) | topk(3) with(exemplars=true)",
        "({ } | rate()) / ({ status = ok } | count_over_time()) * -2 + 1 > 0.5",
        "{ } | compare({ status = error }, 5, 1, 2)",
    ]
    .map(|query| query.as_bytes().to_vec())
    .to_vec()
}

fn queries(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match parser::parse(text) {
        Ok(query) => {
            let canonical = query.to_string();
            let again = match parser::parse(&canonical) {
                Ok(again) => again,
                Err(error) => panic!("{text:?} prints as {canonical:?}: {error}"),
            };
            assert_eq!(again.to_string(), canonical, "of {text:?}");
            let verdict = check::check(text, &query).map_err(|error| error.kind);
            let of_canonical = check::check(&canonical, &again).map_err(|error| error.kind);
            assert_eq!(verdict, of_canonical, "{text:?} prints as {canonical:?}");
        }
        Err(error) => {
            let pos = error.pos;
            assert!(
                pos.start <= text.len() && pos.start <= pos.end,
                "{text:?}: {error:?}"
            );
            assert!(!error.message.is_empty());
        }
    }
    let _ = parser::parse_field(text);
}
