//! From SQL filters to what a scan of rows understands.
//!
//! A filter is read as a test of one column; the tables say which of the tests the engine can make. The
//! engine's conditions are exact, but SQL sees NULL where the engine sees an empty text: a filter for
//! which that makes a difference is pushed *inexactly* and DataFusion applies it again.

use chronolith_engine::model::{TimeRange, TimestampNs, TraceId};
use chronolith_engine::rows::{TextPattern, TextTest};
use chronolith_engine::{MatchOp, Matcher};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};

use crate::sql::word_patterns;

/// How much of a filter the engine applies.
pub(crate) type Support = TableProviderFilterPushDown;

/// What a conjunction of filters asks of a scan.
#[derive(Clone, Debug)]
pub(crate) struct Pushed<C> {
    pub(crate) range: TimeRange,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) conditions: Vec<C>,
}

impl<C> Default for Pushed<C> {
    fn default() -> Self {
        Self {
            range: TimeRange::ALL,
            matchers: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

/// What a filter looks at: a column, or the value of a key in one that is a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) column: &'a str,
    pub(crate) key: Option<&'a str>,
}

/// What it asks there.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// One of these texts; never empty ones.
    Text(Vec<String>),
    /// Another pattern of text.
    Pattern(TextPattern),
    /// Text that does not pass, or NULL: SQL drops the NULLs.
    Not(TextPattern),
    /// An integer of the range, both ends inside.
    Between(i64, i64),
    IsNull,
    IsNotNull,
}

/// A table's part: makes conditions of a test.
pub(crate) type PushOne<C> = fn(Place<'_>, Ask, &mut Pushed<C>) -> Support;

/// Collects what can be pushed of `filters`, which are joined by AND.
pub(super) fn collect<'a, C>(
    filters: impl IntoIterator<Item = &'a Expr>,
    one: PushOne<C>,
) -> Pushed<C> {
    let mut pushed = Pushed::default();
    for filter in filters {
        push(filter, one, &mut pushed);
    }
    pushed
}

/// How well one filter can be pushed down.
pub(super) fn support<C>(filter: &Expr, one: PushOne<C>) -> Support {
    push(filter, one, &mut Pushed::default())
}

fn push<C>(filter: &Expr, one: PushOne<C>, pushed: &mut Pushed<C>) -> Support {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => both(push(left, one, pushed), push(right, one, pushed)),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if let (Some(place), Some(value)) = (place(left), literal(right)) {
                push_comparison(place, *op, value, one, pushed)
            } else if let (Some(value), Some(place), Some(op)) =
                (literal(left), place(right), op.swap())
            {
                push_comparison(place, op, value, one, pushed)
            } else {
                Support::Unsupported
            }
        }
        Expr::Between(between) if !between.negated => {
            let ends = (literal(&between.low), literal(&between.high));
            let (Some(place), (Some(low), Some(high))) = (place(&between.expr), ends) else {
                return Support::Unsupported;
            };
            both(
                push_comparison(place, Operator::GtEq, low, one, pushed),
                push_comparison(place, Operator::LtEq, high, one, pushed),
            )
        }
        Expr::InList(list) => push_in_list(list, one, pushed),
        Expr::Like(like) if like.escape_char.is_none() => {
            let pattern = literal(&like.pattern).and_then(text);
            let (Some(place), Some(pattern)) = (place(&like.expr), pattern) else {
                return Support::Unsupported;
            };
            match like_pattern(pattern, like.case_insensitive) {
                Some(pattern) if like.negated => one(place, Ask::Not(pattern), pushed),
                Some(pattern) => one(place, Ask::Pattern(pattern), pushed),
                None => Support::Unsupported,
            }
        }
        Expr::IsNull(inner) => match place(inner) {
            Some(place) => one(place, Ask::IsNull, pushed),
            None => Support::Unsupported,
        },
        Expr::IsNotNull(inner) => match place(inner) {
            Some(place) => one(place, Ask::IsNotNull, pushed),
            None => Support::Unsupported,
        },
        Expr::ScalarFunction(call) if call.name() == "match" => match call.args.as_slice() {
            [column, words] => push_words(column, words, one, pushed),
            _ => Support::Unsupported,
        },
        _ => Support::Unsupported,
    }
}

fn both(left: Support, right: Support) -> Support {
    match (left, right) {
        (Support::Exact, Support::Exact) => Support::Exact,
        (Support::Unsupported, Support::Unsupported) => Support::Unsupported,
        _ => Support::Inexact,
    }
}

fn push_comparison<C>(
    place: Place<'_>,
    op: Operator,
    value: &ScalarValue,
    one: PushOne<C>,
    pushed: &mut Pushed<C>,
) -> Support {
    if let ScalarValue::TimestampNanosecond(Some(time), _) = value {
        return match (place.column, bounds(op, *time)) {
            ("time", Some((start, end))) => {
                let wanted = TimeRange {
                    start: TimestampNs(start),
                    end: TimestampNs(end),
                };
                pushed.range = pushed.range.intersect(wanted);
                Support::Exact
            }
            _ => Support::Unsupported,
        };
    }
    if let Some(number) = integer(value) {
        return match bounds(op, number) {
            Some((low, high)) => one(place, Ask::Between(low, high), pushed),
            None => Support::Unsupported,
        };
    }
    let Some(text) = text(value) else {
        return Support::Unsupported;
    };
    let regex = |pattern: &str| TextPattern::regex(pattern).ok();
    let ask = match op {
        Operator::Eq if !text.is_empty() => Ask::Text(vec![text.to_owned()]),
        Operator::NotEq => Ask::Not(TextPattern::Equals(text.into())),
        // DataFusion refuses bad patterns in its own words.
        Operator::RegexMatch => match regex(text) {
            Some(pattern) => Ask::Pattern(pattern),
            None => return Support::Unsupported,
        },
        Operator::RegexIMatch => match regex(&format!("(?i:{text})")) {
            Some(pattern) => Ask::Pattern(pattern),
            None => return Support::Unsupported,
        },
        Operator::RegexNotMatch => match regex(text) {
            Some(pattern) => Ask::Not(pattern),
            None => return Support::Unsupported,
        },
        _ => return Support::Unsupported,
    };
    one(place, ask, pushed)
}

/// The integers that compare so with `number`; `None` for comparisons that are no range.
fn bounds(op: Operator, number: i64) -> Option<(i64, i64)> {
    const NOTHING: (i64, i64) = (i64::MAX, i64::MIN);
    Some(match op {
        Operator::Eq => (number, number),
        Operator::GtEq => (number, i64::MAX),
        Operator::LtEq => (i64::MIN, number),
        Operator::Gt => number.checked_add(1).map_or(NOTHING, |n| (n, i64::MAX)),
        Operator::Lt => number.checked_sub(1).map_or(NOTHING, |n| (i64::MIN, n)),
        _ => return None,
    })
}

fn push_in_list<C>(list: &InList, one: PushOne<C>, pushed: &mut Pushed<C>) -> Support {
    let Some(place) = place(&list.expr) else {
        return Support::Unsupported;
    };
    let texts = list
        .list
        .iter()
        .map(|e| text(literal(e)?).map(str::to_owned));
    match texts.collect::<Option<Vec<String>>>() {
        Some(texts) if !list.negated && texts.iter().all(|text| !text.is_empty()) => {
            one(place, Ask::Text(texts), pushed)
        }
        _ => Support::Unsupported,
    }
}

fn push_words<C>(column: &Expr, words: &Expr, one: PushOne<C>, pushed: &mut Pushed<C>) -> Support {
    let (Some(place), Some(words)) = (place(column), literal(words).and_then(text)) else {
        return Support::Unsupported;
    };
    let mut support = Support::Exact;
    for pattern in word_patterns(words) {
        let Ok(pattern) = TextPattern::regex(&pattern) else {
            return Support::Unsupported;
        };
        support = both(support, one(place, Ask::Pattern(pattern), pushed));
    }
    support
}

/// `LIKE`: `%` is any text, `_` any character; `None` with escapes.
fn like_pattern(pattern: &str, ignore_case: bool) -> Option<TextPattern> {
    if pattern.contains('\\') {
        return None;
    }
    let inner = pattern.trim_matches('%');
    let is_plain = !inner.contains(['%', '_']) && !ignore_case;
    if is_plain
        && pattern.len() >= inner.len() + 2
        && pattern.starts_with('%')
        && pattern.ends_with('%')
    {
        return Some(TextPattern::Contains(inner.into()));
    }
    if is_plain && inner == pattern {
        return Some(TextPattern::Equals(pattern.into()));
    }
    let mut regex = String::from(if ignore_case { "(?is)^" } else { "(?s)^" });
    for character in pattern.chars() {
        match character {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push('$');
    TextPattern::regex(&regex).ok()
}

fn place(expr: &Expr) -> Option<Place<'_>> {
    match expr {
        Expr::Column(column) => Some(Place {
            column: &column.name,
            key: None,
        }),
        Expr::ScalarFunction(call) if call.name() == "get_field" => match call.args.as_slice() {
            [Expr::Column(column), key] => Some(Place {
                column: &column.name,
                key: Some(text(literal(key)?)?),
            }),
            _ => None,
        },
        Expr::Cast(cast) => through_text(&cast.expr, cast.field.data_type()),
        Expr::TryCast(cast) => through_text(&cast.expr, cast.field.data_type()),
        _ => None,
    }
}

/// A cast between kinds of text changes nothing; any other cast may.
fn through_text<'a>(inner: &'a Expr, to: &arrow::datatypes::DataType) -> Option<Place<'a>> {
    use arrow::datatypes::DataType;
    let found = place(inner)?;
    let is_text = matches!(
        to,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let was_text = !matches!(found.column, "time" | "severity" | "duration_ns");
    (is_text && was_text).then_some(found)
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => Some(text),
        ScalarValue::Dictionary(_, inner) => self::text(inner),
        _ => None,
    }
}

fn integer(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int64(number) => *number,
        ScalarValue::Int32(number) => number.map(i64::from),
        _ => None,
    }
}

/// A test of text for what is asked; `None` for what is no test of text.
pub(super) fn text_test(ask: &Ask) -> Option<TextTest> {
    let (pattern, negated) = match ask {
        Ask::Text(texts) => match texts.as_slice() {
            [one] => (TextPattern::Equals(one.as_str().into()), false),
            many => {
                let each = many
                    .iter()
                    .map(|text| TextPattern::Equals(text.as_str().into()));
                (TextPattern::AnyOf(each.collect()), false)
            }
        },
        Ask::Pattern(pattern) => (pattern.clone(), false),
        Ask::Not(pattern) => (pattern.clone(), true),
        Ask::Between(..) | Ask::IsNull | Ask::IsNotNull => return None,
    };
    Some(TextTest { pattern, negated })
}

/// How exact a test of a text is whose empty value SQL sees as NULL.
pub(super) fn support_of(ask: &Ask) -> Support {
    match ask {
        Ask::Text(_) => Support::Exact,
        // A pattern may match the empty text, which is NULL.
        _ => Support::Inexact,
    }
}

/// A test of a label, as a matcher.
pub(super) fn matcher(name: &str, ask: &Ask) -> Option<(Matcher, Support)> {
    match ask {
        Ask::Text(texts) => {
            let escaped: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
            let matcher = match texts.as_slice() {
                [one] => Matcher::new(name, MatchOp::Equal, one),
                _ => Matcher::new(name, MatchOp::Regex, &escaped.join("|")),
            };
            Some((matcher.ok()?, Support::Exact))
        }
        Ask::Pattern(TextPattern::Regex(regex)) => {
            // SQL finds a pattern anywhere; a matcher is anchored at both ends.
            let anchored = format!("(?s:.*)(?-s:{})(?s:.*)", regex.as_str());
            let matcher = Matcher::new(name, MatchOp::Regex, &anchored).ok()?;
            Some((matcher, Support::Inexact))
        }
        Ask::Pattern(TextPattern::Contains(part)) => {
            let anchored = format!("(?s:.*){}(?s:.*)", regex::escape(part));
            let matcher = Matcher::new(name, MatchOp::Regex, &anchored).ok()?;
            Some((matcher, Support::Inexact))
        }
        Ask::Not(TextPattern::Equals(text)) => {
            let matcher = Matcher::new(name, MatchOp::NotEqual, text).ok()?;
            Some((matcher, Support::Inexact))
        }
        Ask::IsNotNull => {
            let matcher = Matcher::new(name, MatchOp::NotEqual, "").ok()?;
            Some((matcher, Support::Exact))
        }
        _ => None,
    }
}

/// Trace ids written as SQL shows them; `None` if one is not: then it equals no id.
pub(super) fn traces(ask: &Ask) -> Option<Vec<TraceId>> {
    let Ask::Text(texts) = ask else {
        return None;
    };
    let id = |text: &String| {
        let is_lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 32 || !text.bytes().all(is_lower_hex) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().filter(|id| *id != 0)
    };
    // What is no id matches nothing: it may be left away.
    Some(
        texts
            .iter()
            .filter_map(id)
            .map(|id| TraceId(id.to_be_bytes()))
            .collect(),
    )
}
