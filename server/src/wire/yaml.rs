//! YAML in block style, in the order in which it was put together.
//!
//! Texts that could be read as something else stand in double quotes with JSON's escapes, which
//! YAML has too.

use super::json;

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Yaml {
    /// Keys and values, in this order.
    Map(Vec<(String, Yaml)>),
    /// Values.
    List(Vec<Yaml>),
    /// A text.
    Text(String),
    /// Anything that JSON writes without quotes: a number, a truth value, null.
    Plain(String),
}

impl Yaml {
    /// A map of pairs.
    pub fn map<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Map(pairs.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    /// A list.
    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// Adds a pair to a map; nothing happens to other values.
    pub fn push(&mut self, key: &str, value: Self) {
        if let Self::Map(pairs) = self {
            pairs.push((key.to_owned(), value));
        }
    }

    /// The document's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    /// Writes at the start of a line that has `indent` spaces in front already, if it is a block.
    fn write(&self, out: &mut String, indent: usize) {
        match self {
            Self::Map(pairs) if !pairs.is_empty() => {
                for (index, (key, value)) in pairs.iter().enumerate() {
                    if index > 0 {
                        push_indent(out, indent);
                    }
                    push_text(out, key);
                    out.push(':');
                    match value {
                        Self::Map(inner) if !inner.is_empty() => {
                            out.push('\n');
                            push_indent(out, indent + 2);
                            value.write(out, indent + 2);
                        }
                        Self::List(inner) if !inner.is_empty() => {
                            out.push('\n');
                            push_indent(out, indent);
                            value.write(out, indent);
                        }
                        _ => {
                            out.push(' ');
                            value.write(out, 0);
                        }
                    }
                }
            }
            Self::List(items) if !items.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        push_indent(out, indent);
                    }
                    out.push_str("- ");
                    item.write(out, indent + 2);
                }
            }
            Self::Map(_) => out.push_str("{}\n"),
            Self::List(_) => out.push_str("[]\n"),
            Self::Text(text) => {
                push_text(out, text);
                out.push('\n');
            }
            Self::Plain(text) => {
                out.push_str(text);
                out.push('\n');
            }
        }
    }
}

impl From<&str> for Yaml {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Yaml {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Yaml {
    fn from(flag: bool) -> Self {
        Self::Plain(flag.to_string())
    }
}

impl From<i64> for Yaml {
    fn from(number: i64) -> Self {
        Self::Plain(number.to_string())
    }
}

impl From<&serde_json::Value> for Yaml {
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Object(pairs) => {
                Self::map(pairs.iter().map(|(k, v)| (k.as_str(), Self::from(v))))
            }
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::from)),
            serde_json::Value::String(text) => Self::Text(text.clone()),
            plain => Self::Plain(plain.to_string()),
        }
    }
}

fn push_indent(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// A text without quotes if nobody can take it for something else.
fn push_text(out: &mut String, text: &str) {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"_-/.".contains(&b);
    let is_plain = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'/')
        && text.bytes().all(word)
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if is_plain {
        out.push_str(text);
    } else {
        json::push_string(out, text);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_blocks_in_their_order() {
        let document = Yaml::map([
            ("b", Yaml::from("x: y")),
            ("a", Yaml::list([Yaml::from(1), Yaml::from("200")])),
            ("none", Yaml::list([])),
            (
                "maps",
                Yaml::list([Yaml::map([
                    ("k", Yaml::from("v")),
                    ("l", Yaml::list([Yaml::from(true)])),
                ])]),
            ),
        ]);
        assert_eq!(
            document.to_text(),
            "b: \"x: y\"\na:\n- 1\n- \"200\"\nnone: []\nmaps:\n- k: v\n  l:\n  - true\n"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let values = [
            json!({"a": {"b": [1, 2.5, null, {"c": "no", "d": {}}]}, "x y": "\"\\\n\t☃"}),
            json!([[1, [2, []]], {"true": false, "1": "1e3", "~": "-"}]),
            json!({"deep": [[{"k": [{"l": "m"}]}]]}),
        ];
        for value in values {
            let text = Yaml::from(&value).to_text();
            let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(back, value, "{text}");
        }
    }
}
