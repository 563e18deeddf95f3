//! Streams and attributes for tests of row segments, and files as earlier versions wrote them.

use proptest::prelude::*;

use super::*;
use crate::model::{AttributeValue, Attributes, Labels, Scope, Stream};

/// A segment of a golden store.
macro_rules! golden {
    ($version:literal, $number:literal) => {
        include_bytes!(concat!(
            "../../../tests/golden/",
            $version,
            "/store/00000000",
            $number,
            ".seg"
        ))
        .as_slice()
    };
}

/// Segments of logs of versions 1 to 3.
pub(crate) const OLD_LOGS: [&[u8]; 3] = [
    golden!("v1", "35"),
    golden!("v2", "35"),
    golden!("v3", "35"),
];
/// Segments of spans of versions 1 to 3.
pub(crate) const OLD_SPANS: [&[u8]; 3] = [
    golden!("v1", "36"),
    golden!("v2", "36"),
    golden!("v3", "36"),
];

pub(crate) fn stream(service: &str, level: &str) -> Stream {
    Stream {
        labels: Labels::from_pairs([("level", level), ("service", service)]).unwrap(),
        resource: vec![
            (
                "service.name".into(),
                AttributeValue::String(service.into()),
            ),
            ("replicas".into(), AttributeValue::Int(3)),
        ],
        scope: Scope {
            name: "lib".into(),
            version: "1".into(),
            attributes: vec![("x".into(), AttributeValue::Bool(true))],
        },
    }
}

pub(crate) fn streams() -> Vec<Stream> {
    let mut all = vec![
        stream("shop", "info"),
        stream("shop", "error"),
        stream("cart", "info"),
    ];
    // The same labels with another scope are another stream.
    let mut twin = stream("cart", "info");
    twin.scope.version = "2".into();
    all.push(twin);
    all.sort_by_key(stream_sort_key);
    all
}

pub(crate) fn any_attribute() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        Just(AttributeValue::Null),
        "[a-zé ]{0,8}".prop_map(AttributeValue::String),
        any::<i64>().prop_map(AttributeValue::Int),
        (-1e9_f64..1e9).prop_map(AttributeValue::Float),
        any::<bool>().prop_map(AttributeValue::Bool),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(AttributeValue::Bytes),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(AttributeValue::Array),
            prop::collection::vec(("[a-c]", inner), 0..3).prop_map(AttributeValue::Map),
        ]
    })
}

pub(crate) fn any_attributes() -> impl Strategy<Value = Attributes> {
    // Few keys, so that repeats and changes of type occur.
    prop::collection::vec(("[a-d]", any_attribute()), 0..4)
}
