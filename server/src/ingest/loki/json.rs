//! Pushes in JSON, rewritten as the protobuf that they stand for.
//!
//! `{"streams":[{"stream":{…},"values":[["<ns>","line",{…}?]]}]}`, and the older
//! `{"streams":[{"labels":"{…}","entries":[{"ts":"…","line":"…"}]}]}`. Read once without a tree; keys
//! may come in any order, unknown ones are ignored. The output is bounded.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::wire::protobuf::{push_bytes, push_number};
use crate::wire::time::parse_time_ns;

/// Appends the push that `text` stands for to `out`.
///
/// # Errors
/// What is wrong, with line and column.
pub fn to_protobuf(text: &[u8], out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Request(out).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Implements a seed that reads with `deserialize_any`.
macro_rules! seed {
    ($seed:ident) => {
        impl<'de> DeserializeSeed<'de> for $seed<'_> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_any(self)
            }
        }
    };
}

/// Text of a key or value, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct Request<'o>(&'o mut Vec<u8>);
seed!(Request);

impl<'de> Visitor<'de> for Request<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with streams")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text)? {
            match &*key {
                "streams" => map.next_value_seed(Streams(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Streams<'o>(&'o mut Vec<u8>);
seed!(Streams);

impl<'de> Visitor<'de> for Streams<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of streams")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut stream = Vec::new();
        while items.next_element_seed(Stream(&mut stream))?.is_some() {
            push_bytes(self.0, 1, &stream);
            stream.clear();
        }
        Ok(())
    }
}

struct Stream<'o>(&'o mut Vec<u8>);
seed!(Stream);

impl<'de> Visitor<'de> for Stream<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream: an object with stream and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text)? {
            match &*key {
                "stream" => {
                    let mut labels = String::from("{");
                    map.next_value_seed(Labels(&mut labels))?;
                    labels.push('}');
                    push_bytes(self.0, 1, labels.as_bytes());
                }
                "labels" => {
                    let labels = map.next_value_seed(Text)?;
                    push_bytes(self.0, 1, labels.as_bytes());
                }
                "values" | "entries" => map.next_value_seed(Entries(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Labels as a map, written as the text that protobuf has.
struct Labels<'o>(&'o mut String);
seed!(Labels);

impl<'de> Visitor<'de> for Labels<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Text)? {
            let value = map.next_value_seed(Text)?;
            if self.0.len() > 1 {
                self.0.push(',');
            }
            self.0.push_str(&name);
            self.0.push('=');
            push_quoted(self.0, &value);
        }
        Ok(())
    }
}

/// Quotes text so that it is read back as it is.
fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

struct Entries<'o>(&'o mut Vec<u8>);
seed!(Entries);

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut entry = Vec::new();
        while items.next_element_seed(Entry(&mut entry))?.is_some() {
            push_bytes(self.0, 2, &entry);
            entry.clear();
        }
        Ok(())
    }
}

/// `["<ns>", "line", {metadata}?]`, or an object in the older form.
struct Entry<'o>(&'o mut Vec<u8>);
seed!(Entry);

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry: [\"<nanoseconds>\", \"line\"]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let time = items.next_element_seed(Text)?;
        let time = time.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let ns: i64 = time
            .parse()
            .map_err(|_| A::Error::custom(format_args!("{time:?} is not a time in nanoseconds")))?;
        push_time(self.0, ns);
        let line = items.next_element_seed(Text)?;
        let line = line.ok_or_else(|| A::Error::invalid_length(1, &self))?;
        push_bytes(self.0, 2, line.as_bytes());
        items.next_element_seed(Metadata(&mut *self.0))?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text)? {
            match &*key {
                "ts" | "timestamp" => {
                    let time = map.next_value_seed(Text)?;
                    let ns = parse_time_ns(&time)
                        .ok_or_else(|| A::Error::custom(format_args!("{time:?} is not a time")))?;
                    push_time(self.0, ns);
                }
                "line" => {
                    let line = map.next_value_seed(Text)?;
                    push_bytes(self.0, 2, line.as_bytes());
                }
                "structuredMetadata" => map.next_value_seed(Metadata(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

fn push_time(out: &mut Vec<u8>, ns: i64) {
    let mut time = Vec::new();
    let seconds = ns.div_euclid(1_000_000_000);
    push_number(&mut time, 1, seconds.cast_unsigned());
    push_number(&mut time, 2, ns.rem_euclid(1_000_000_000).cast_unsigned());
    push_bytes(out, 1, &time);
}

/// Structured metadata: an object of texts.
struct Metadata<'o>(&'o mut Vec<u8>);
seed!(Metadata);

impl<'de> Visitor<'de> for Metadata<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with structured metadata")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut pair = Vec::new();
        while let Some(name) = map.next_key_seed(Text)? {
            let value = map.next_value_seed(Text)?;
            pair.clear();
            push_bytes(&mut pair, 1, name.as_bytes());
            push_bytes(&mut pair, 2, value.as_bytes());
            push_bytes(self.0, 3, &pair);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::protobuf::Reader;

    fn rewritten(text: &str) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        to_protobuf(text.as_bytes(), &mut out).map_err(|e| e.to_string())?;
        Ok(out)
    }

    /// Number and bytes of the fields of a message.
    fn fields(message: &[u8]) -> Vec<(u32, &[u8])> {
        let mut reader = Reader::new(message);
        let mut out = Vec::new();
        while let Some(field) = reader.next_field().unwrap() {
            out.push((field.number, field.bytes().unwrap()));
        }
        out
    }

    #[test]
    fn both_forms_are_pushes() {
        let new = rewritten(
            r#"{"x":1,"streams":[{"values":[["1700000000000000001","a\n",{"k":"v"}],["-1","b"]],"stream":{"job":"a\"b","l":"m"}}]}"#,
        )
        .unwrap();
        let stream = fields(fields(&new)[0].1);
        assert_eq!(stream[2], (1, &br#"{job="a\"b",l="m"}"#[..]));
        let entry = fields(stream[0].1);
        assert_eq!(entry[1], (2, &b"a\n"[..]));
        assert_eq!(fields(entry[2].1), [(1, &b"k"[..]), (2, &b"v"[..])]);

        let old = rewritten(
            r#"{"streams":[{"labels":"{a=\"b\"}","entries":[{"ts":"2023-11-14T22:13:20.000000001Z","line":"a"}]}]}"#,
        )
        .unwrap();
        let old_stream = fields(fields(&old)[0].1);
        assert_eq!(old_stream[0], (1, &br#"{a="b"}"#[..]));
        assert_eq!(fields(old_stream[1].1)[0], entry[0], "the same time");
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, part) in [
            ("[]", "an object with streams"),
            (r#"{"streams":{}}"#, "an array of streams"),
            (
                r#"{"streams":[{"values":[["x","a"]]}]}"#,
                "\"x\" is not a time",
            ),
            (r#"{"streams":[{"values":[["1"]]}]}"#, "invalid length 1"),
            (r#"{"streams":[{"values":[[1,"a"]]}]}"#, "expected text"),
            (
                r#"{"streams":[{"values":[["1","a",{"k":1}]]}]}"#,
                "expected text",
            ),
            (r#"{"streams":[{"stream":[]}]}"#, "an object with labels"),
            (r#"{"streams":[]}{"#, "trailing characters"),
            ("", "EOF"),
        ] {
            let error = rewritten(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(rewritten(r#"{"streams":null}"#).unwrap().is_empty());
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        // What is ignored is passed over without recursion.
        assert!(rewritten(&deep).unwrap_err().contains("EOF"));
    }
}
