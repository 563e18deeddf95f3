//! What there is: distinct values of fields over the spans of a range. Services, operations and the values of
//! tags are all this.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use chronolith_engine::RequestContext;
use chronolith_engine::model::{SpanKind, TimeRange};
use chronolith_engine::rows::{
    AttributeChoice, AttributeColumn, AttributeScope, RowOrder, SpanColumnSet, SpanCondition,
    SpanScanRequest, Streams, TextPattern, TextTest, ValueTest,
};

use super::error::{Result, TracesError};
use super::fields::{Needs, SERVICE_NAME};
use super::groups::{self, Groups, KeyPart, StreamCache};
use super::pushdown::{self, Pushed};
use super::source::SpanSource;
use crate::traceql::ast::*;

/// Distinct combinations that are listed.
pub const LISTED_MAX: usize = 100_000;

/// The distinct combinations of fields over spans that pass all conditions, sorted. What a span has not is
/// [`KeyPart::Nil`]. Fields of whole traces read as that, too.
///
/// # Errors
/// More than [`LISTED_MAX`] combinations; what the store says.
pub fn distinct(
    source: &dyn SpanSource,
    context: &RequestContext,
    range: TimeRange,
    conditions: Vec<SpanCondition>,
    fields: &[Field],
) -> Result<Vec<Vec<KeyPart>>> {
    let mut needs = Needs::default();
    fields.iter().for_each(|field| needs.add(&field.name));
    let request = SpanScanRequest {
        conditions,
        order: RowOrder::Any,
        columns: needs.columns,
        attributes: needs.attributes(),
        ..SpanScanRequest::new(Vec::new(), range)
    };
    let mut groups = Groups::default();
    let mut streams = StreamCache::default();
    for block in source.scan(context, &request)? {
        groups::of_block(&block?, fields, &mut groups, &mut streams)?;
        if groups.len() > LISTED_MAX {
            let message = format!("more than {LISTED_MAX} distinct values");
            return Err(TracesError::TooLarge(message));
        }
    }
    let mut keys: Vec<_> = groups.keys().into_iter().map(<[KeyPart]>::to_vec).collect();
    keys.sort_unstable();
    Ok(keys)
}

/// The values that a field has on spans that a filter may take, sorted; of events and links the first of each
/// span. What the store cannot decide of the filter is left out, so that there may be values of other spans.
///
/// # Errors
/// As [`distinct`].
pub fn values(
    source: &dyn SpanSource,
    context: &RequestContext,
    range: TimeRange,
    filter: Option<&SpansetFilter>,
    field: &Field,
) -> Result<Vec<Value>> {
    let pushed = filter.map(pushdown::of_filter);
    let conditions = pushed.map(Pushed::into_conditions).unwrap_or_default();
    let keys = distinct(
        source,
        context,
        range,
        conditions,
        std::slice::from_ref(field),
    )?;
    let parts = keys
        .into_iter()
        .flatten()
        .filter(|part| *part != KeyPart::Nil);
    Ok(parts.map(|part| part.to_value()).collect())
}

/// Attribute keys by where they are found.
pub type ScopedKeys = BTreeMap<&'static str, BTreeSet<String>>;

/// The keys of all attributes on spans of a range, by the word of their scope.
///
/// # Errors
/// More than [`LISTED_MAX`] keys; what the store says.
pub fn attribute_keys(
    source: &dyn SpanSource,
    context: &RequestContext,
    range: TimeRange,
    filter: Option<&SpansetFilter>,
) -> Result<ScopedKeys> {
    let pushed = filter.map(pushdown::of_filter);
    let request = SpanScanRequest {
        conditions: pushed.map(Pushed::into_conditions).unwrap_or_default(),
        columns: SpanColumnSet {
            events: true,
            links: true,
            ..SpanColumnSet::default()
        },
        attributes: AttributeChoice::All,
        ..SpanScanRequest::new(Vec::new(), range)
    };
    let mut found = ScopedKeys::new();
    let mut add = |scope: Scope, key: &str| {
        let keys = found.entry(scope.as_str()).or_default();
        if !keys.contains(key) {
            keys.insert(key.to_owned());
        }
        keys.len() <= LISTED_MAX
    };
    let mut seen = HashSet::new();
    let mut seen_of: Option<Arc<Streams>> = None;
    for block in source.scan(context, &request)? {
        let block = block?;
        if !seen_of
            .as_ref()
            .is_some_and(|of| Arc::ptr_eq(of, &block.streams))
        {
            seen_of = Some(Arc::clone(&block.streams));
            seen.clear();
        }
        let columns =
            |scope, columns: &[AttributeColumn], add: &mut dyn FnMut(Scope, &str) -> bool| {
                columns.iter().all(|column| add(scope, &column.key))
            };
        let mut is_bounded = columns(Scope::Span, &block.attributes, &mut add)
            && columns(Scope::Event, &block.events.attributes, &mut add)
            && columns(Scope::Link, &block.links.attributes, &mut add);
        for row in 0..block.rows {
            let number = u32::try_from(block.stream.get(row)).unwrap_or(u32::MAX);
            if !seen.insert(number) {
                continue;
            }
            let stream = block.streams.get(number)?;
            is_bounded &= stream
                .resource
                .iter()
                .all(|(key, _)| add(Scope::Resource, key));
            let library = &stream.scope.attributes;
            is_bounded &= library
                .iter()
                .all(|(key, _)| add(Scope::Instrumentation, key));
        }
        if !is_bounded {
            let message = format!("more than {LISTED_MAX} attribute keys");
            return Err(TracesError::TooLarge(message));
        }
    }
    Ok(found)
}

/// The resource attribute that names the service, as a field.
#[must_use]
pub fn service_field() -> Field {
    Field {
        name: FieldName::Attribute {
            scope: Scope::Resource,
            key: SERVICE_NAME.to_owned(),
        },
        of_parent: false,
        pos: PosRange::default(),
    }
}

/// An intrinsic as a field.
pub(super) fn intrinsic(intrinsic: Intrinsic) -> Field {
    Field {
        name: FieldName::Intrinsic {
            intrinsic,
            is_scoped: false,
        },
        of_parent: false,
        pos: PosRange::default(),
    }
}

/// The services that have spans in a range, sorted.
///
/// # Errors
/// As [`distinct`].
pub fn services(
    source: &dyn SpanSource,
    context: &RequestContext,
    range: TimeRange,
) -> Result<Vec<String>> {
    let keys = distinct(source, context, range, Vec::new(), &[service_field()])?;
    let names = keys.into_iter().filter_map(|key| match key.first() {
        Some(KeyPart::Str(name)) => Some(name.to_string()),
        _ => None,
    });
    Ok(names.collect())
}

/// The names of a service's spans with their kinds, sorted; of all services without one, of all kinds without
/// one.
///
/// # Errors
/// As [`distinct`].
pub fn operations(
    source: &dyn SpanSource,
    context: &RequestContext,
    range: TimeRange,
    service: Option<&str>,
    kind: Option<SpanKind>,
) -> Result<Vec<(String, SpanKind)>> {
    let mut conditions = Vec::new();
    if let Some(service) = service {
        let pattern = TextPattern::Equals(service.into());
        let negated = false;
        conditions.push(SpanCondition::Attribute {
            scope: AttributeScope::Resource,
            key: SERVICE_NAME.into(),
            test: ValueTest::Text(TextTest { pattern, negated }),
        });
    }
    conditions.extend(kind.map(|kind| SpanCondition::Kind(1 << kind as u8)));
    let fields = [intrinsic(Intrinsic::Name), intrinsic(Intrinsic::Kind)];
    let keys = distinct(source, context, range, conditions, &fields)?;
    let operations = keys.into_iter().filter_map(|key| match key.as_slice() {
        [KeyPart::Str(name), KeyPart::Kind(kind)] => Some((
            name.to_string(),
            SpanKind::from_u8(*kind).unwrap_or_default(),
        )),
        _ => None,
    });
    Ok(operations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traceql::parser::parse_field;
    use crate::traces::sample::spans;

    fn listed(field: &str, filter: &str) -> Vec<String> {
        let query = crate::traceql::parse(filter).unwrap();
        let Body::Search(pipeline) = query.body else {
            panic!("{filter}");
        };
        let [Stage::Spansets(SpansetExpr::Filter(filter))] = pipeline.stages.as_slice() else {
            panic!("{pipeline}");
        };
        let field = parse_field(field).unwrap();
        let context = RequestContext::new();
        let found = values(&spans(), &context, TimeRange::ALL, Some(filter), &field).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_of_fields() {
        assert_eq!(listed("span.http.status", "{}"), ["200", "500"]);
        assert_eq!(
            listed(".http.status", "{ resource.region = \"eu\" }"),
            ["200"]
        );
        assert_eq!(listed("status", "{ name = \"charge\" }"), ["ok", "error"]);
        assert_eq!(listed("kind", "{ name = \"query\" }"), ["client"]);
        assert_eq!(listed("event:name", "{}"), ["\"exception\""]);
    }

    #[test]
    fn keys_by_scope() {
        let context = RequestContext::new();
        let found = attribute_keys(&spans(), &context, TimeRange::ALL, None).unwrap();
        let of = |scope: &str| found[scope].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(
            of("span"),
            [
                "amount",
                "cached",
                "db",
                "http.method",
                "http.status",
                "service.name"
            ]
        );
        assert_eq!(of("resource"), ["region", "service.name"]);
        assert_eq!((of("event"), of("link")), (vec!["type"], vec!["why"]));
    }
}
