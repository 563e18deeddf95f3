//! Fields inside of texts: JSON objects, logfmt, regexes with named groups.

use std::borrow::Cow;
use std::fmt;

use chronolith_engine::model::AttributeValue;
use regex::Regex;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::value::{Pairs, Value};

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Reads any value; text without escapes is borrowed. Depth is bounded by the JSON reader.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        // A double would lose digits, and such numbers are mostly ids.
        Ok(match i64::try_from(number) {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Text(Cow::Owned(number.to_string())),
        })
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element::<Value<'de>>()? {
            values.push(value.into_owned());
        }
        Ok(Value::Nested(AttributeValue::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            pairs.push((
                key.into_owned(),
                map.next_value::<Value<'de>>()?.into_owned(),
            ));
        }
        Ok(Value::Nested(AttributeValue::Map(pairs)))
    }
}

/// A key, borrowed if it has no escapes.
pub struct Key<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Levels of arrays and objects inside a member; the store takes a few more.
const DEPTH_MAX: usize = 60;

/// How many levels of arrays and maps there are. The JSON reader goes 128 levels deep.
fn depth(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        AttributeValue::Map(pairs) => 1 + pairs.iter().map(|(_, v)| depth(v)).max().unwrap_or(0),
        _ => 0,
    }
}

/// Appends the members of an object.
struct Object<'p, 'a> {
    pairs: &'p mut Pairs<'a>,
    pairs_max: usize,
}

impl<'de> DeserializeSeed<'de> for Object<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let value = map.next_value::<Value<'de>>()?;
            if let Value::Nested(nested) = &value
                && depth(nested) > DEPTH_MAX
            {
                let words = format!("{key} nests more than {DEPTH_MAX} levels deep");
                return Err(serde::de::Error::custom(words));
            }
            // One more than allowed tells that there are too many.
            if self.pairs.len() <= self.pairs_max {
                self.pairs.push((key, value));
            }
        }
        Ok(())
    }
}

/// Appends the members of the JSON object that `text` is.
///
/// # Errors
/// It is none; some members may have been appended.
pub fn json_object<'a>(
    text: &'a [u8],
    pairs: &mut Pairs<'a>,
    pairs_max: usize,
) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Object { pairs, pairs_max }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Appends the pairs of a line in logfmt: `key=value key="quoted value" flag`. Words without `=` are
/// passed over. Whether there was a pair.
pub fn logfmt<'a>(line: &'a str, pairs: &mut Pairs<'a>, pairs_max: usize) -> bool {
    let before = pairs.len();
    let mut rest = line.trim_start();
    while !rest.is_empty() && pairs.len() <= pairs_max {
        let end = rest.find([' ', '\t', '=']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let Some(value) = after.strip_prefix('=') else {
            rest = after.trim_start();
            continue;
        };
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([' ', '\t']).unwrap_or(value.len());
                let (value, after) = value.split_at(end);
                (Cow::Borrowed(value), after)
            }
        };
        if !key.is_empty() {
            pairs.push((Cow::Borrowed(key), Value::Text(value)));
        }
        rest = after.trim_start();
    }
    pairs.len() > before
}

/// The text up to the closing quote, and what is behind it.
fn unquote(quoted: &str) -> (Cow<'_, str>, &str) {
    let bytes = quoted.as_bytes();
    let end = memchr::memchr2(b'"', b'\\', bytes);
    if let Some(end) = end
        && bytes.get(end) == Some(&b'"')
    {
        let (text, after) = quoted.split_at(end);
        return (Cow::Borrowed(text), after.get(1..).unwrap_or(""));
    }
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (Cow::Owned(text), quoted.get(at + 1..).unwrap_or("")),
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, 'r')) => text.push('\r'),
                Some((_, other)) => text.push(other),
                None => {}
            },
            other => text.push(other),
        }
    }
    (Cow::Owned(text), "")
}

/// Appends the named groups of a regex that matches `text`. Whether it does.
pub fn named_groups(regex: &Regex, text: &str, pairs: &mut Pairs<'_>, pairs_max: usize) -> bool {
    let Some(captures) = regex.captures(text) else {
        return false;
    };
    for name in regex.capture_names().flatten() {
        let Some(group) = captures.name(name) else {
            continue;
        };
        if pairs.len() <= pairs_max {
            let value = Value::Text(Cow::Owned(group.as_str().to_owned()));
            pairs.push((Cow::Owned(name.to_owned()), value));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_types_and_order() {
        let mut pairs = Pairs::new();
        let text = br#"{"b":1,"a":"x\ny","c":[1.5,{"d":null}],"e":18446744073709551615,"f":true}"#;
        json_object(text, &mut pairs, 100).unwrap();
        let keys: Vec<&str> = pairs.iter().map(|(k, _)| &**k).collect();
        assert_eq!(keys, ["b", "a", "c", "e", "f"]);
        assert_eq!(pairs[0].1, Value::Int(1));
        assert_eq!(pairs[1].1, Value::text("x\ny"));
        let map = AttributeValue::Map(vec![("d".into(), AttributeValue::Null)]);
        let list = AttributeValue::Array(vec![AttributeValue::Float(1.5), map]);
        assert_eq!(pairs[2].1, Value::Nested(list));
        assert_eq!(pairs[3].1, Value::text("18446744073709551615"));
        for bad in ["[]", "{\"a\":1}x", "", "{\"a\"", "5"] {
            assert!(
                json_object(bad.as_bytes(), &mut pairs, 100).is_err(),
                "{bad}"
            );
        }
        let mut few = Pairs::new();
        json_object(text, &mut few, 2).unwrap();
        assert_eq!(few.len(), 3);
        let deep = "{\"a\":".repeat(100_000);
        assert!(json_object(deep.as_bytes(), &mut few, 2).is_err());
    }

    #[test]
    fn logfmt_is_read_with_quotes_and_without() {
        let read = |line| {
            let mut pairs = Pairs::new();
            let found = logfmt(line, &mut pairs, 100);
            assert_eq!(found, !pairs.is_empty());
            let text = |value: &Value<'_>| value.as_text().unwrap().to_owned();
            let pairs = pairs.iter().map(|(k, v)| format!("{k}|{}", text(v)));
            pairs.collect::<Vec<_>>()
        };
        assert_eq!(read("a=1 b=\"x y\"  c= d"), ["a|1", "b|x y", "c|"]);
        assert_eq!(read(r#"m="a\"b\n" x=y"#), ["m|a\"b\n", "x|y"]);
        assert_eq!(read("m=\"open"), ["m|open"]);
        assert_eq!(read("=x k==v"), ["k|=v"]);
        assert!(read("no pairs here").is_empty());
    }

    #[test]
    fn named_groups_are_fields() {
        let regex = Regex::new(r"(?P<verb>\w+) (?P<path>\S+)(?P<rest> .*)?").unwrap();
        let mut pairs = Pairs::new();
        assert!(named_groups(&regex, "GET /x", &mut pairs, 10));
        assert_eq!(pairs.len(), 2);
        assert!(!named_groups(&regex, "-", &mut pairs, 10));
    }
}
