//! JSON text, appended to a string.

use chronolith_engine::model::Labels;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends a quoted string with the escapes that JSON needs.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        // Escaped bytes are ASCII, so both ends are at character borders.
        out.push_str(text.get(plain_from..at).unwrap_or_default());
        plain_from = at + 1;
        if escape.is_empty() {
            out.push_str("\\u00");
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(text.get(plain_from..).unwrap_or_default());
    out.push('"');
}

/// Appends a label set as an object.
pub fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (index, label) in labels.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_string(out, label.name);
        out.push(':');
        push_string(out, label.value);
    }
    out.push('}');
}

/// Appends `[a,b,c]`, each element by `push`.
pub fn push_array<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_read_back() {
        for text in ["", "plain", "\"\\\n\r\t\u{0}\u{1f}", "π🔑/", "a\u{7f}b"] {
            let mut out = String::new();
            push_string(&mut out, text);
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn label_sets_are_objects() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "\"1\"")]).unwrap();
        let mut out = String::new();
        push_labels(&mut out, &labels);
        assert_eq!(out, r#"{"a":"\"1\"","b":"2"}"#);
    }
}
