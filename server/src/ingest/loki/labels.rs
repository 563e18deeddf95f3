//! The label sets of a push: `{job="x", level="info"}`, quoted as in Go.

use chronolith_engine::model::{Labels, LabelsBuilder};

use crate::rows::labels::finish_labels;

/// Labels of a stream.
const LABELS_MAX: usize = 64;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 1024;
/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 2048;

/// Reads a label set and adds the service's name where it is missing.
///
/// # Errors
/// What is wrong and where, in Loki's words where clients look for them.
pub fn parse(text: &str) -> Result<Labels, String> {
    let mut labels = LabelsBuilder::new();
    let mut parser = Parser { text, at: 0 };
    parser.expect('{')?;
    let mut count = 0;
    while !parser.eat('}') {
        if count > 0 {
            parser.expect(',')?;
            // A comma may be the last.
            if parser.eat('}') {
                break;
            }
        }
        count += 1;
        if count > LABELS_MAX {
            return Err(format!(
                "entry for stream '{}' has more than {LABELS_MAX} label names",
                shown(text)
            ));
        }
        let name = parser.name()?;
        parser.expect('=')?;
        let value = parser.quoted()?;
        if name.len() > NAME_BYTES_MAX {
            return Err(format!(
                "stream '{}' has label name too long: '{}'",
                shown(text),
                shown(name)
            ));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!(
                "stream '{}' has label value too long: '{}'",
                shown(text),
                shown(&value)
            ));
        }
        if labels.get(name).is_some() {
            return Err(format!(
                "stream '{}' has duplicate label name: '{name}'",
                shown(text)
            ));
        }
        labels.push(name, &value);
    }
    parser.blanks();
    if parser.at < text.len() {
        return Err(parser.error("unexpected text behind the labels"));
    }
    if count == 0 {
        return Err("error at least one label pair is required per stream".to_owned());
    }
    Ok(finish_labels(labels))
}

/// The beginning of a text, for messages.
pub(super) fn shown(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 256;
    text.get(..text.floor_char_boundary(SHOWN_BYTES_MAX))
        .unwrap_or(text)
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn error(&self, what: &str) -> String {
        format!(
            "couldn't parse labels: 1:{}: parse error: {what}: '{}'",
            self.at + 1,
            shown(self.text)
        )
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.blanks();
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.eat(wanted) {
            true => Ok(()),
            false => Err(self.error(&format!("expected {wanted:?}"))),
        }
    }

    fn name(&mut self) -> Result<&'t str, String> {
        self.blanks();
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or("");
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.error("expected a label name"));
        }
        self.at += end;
        Ok(name)
    }

    /// A string in double quotes, with escapes, or in back quotes, without.
    fn quoted(&mut self) -> Result<String, String> {
        self.blanks();
        let rest = self.rest();
        if let Some(raw) = rest.strip_prefix('`') {
            let Some(end) = raw.find('`') else {
                return Err(self.error("unterminated string"));
            };
            self.at += end + 2;
            return Ok(raw.get(..end).unwrap_or("").to_owned());
        }
        if !rest.starts_with('"') {
            return Err(self.error("expected a quoted value"));
        }
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let rest = self.rest();
            let Some(end) = rest.find(['"', '\\']) else {
                return Err(self.error("unterminated string"));
            };
            bytes.extend_from_slice(rest.get(..end).unwrap_or("").as_bytes());
            self.at += end + 1;
            if rest.get(end..=end) == Some("\"") {
                break;
            }
            self.escape(&mut bytes)?;
        }
        String::from_utf8(bytes).map_err(|_| self.error("label value is not UTF-8"))
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let mut chars = self.rest().chars();
        let Some(kind) = chars.next() else {
            return Err(self.error("unterminated string"));
        };
        let (digits, radix) = match kind {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (3, 8),
            _ => {
                let byte = match kind {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 11,
                    '\\' => b'\\',
                    '\'' => b'\'',
                    '"' => b'"',
                    _ => return Err(self.error("unknown escape sequence")),
                };
                out.push(byte);
                self.at += 1;
                return Ok(());
            }
        };
        let start = self.at + usize::from(radix == 16);
        let text = self.text.get(start..start + digits);
        let all_digits = text.filter(|t| t.chars().all(|c| c.is_digit(radix)));
        let number = all_digits.and_then(|t| u32::from_str_radix(t, radix).ok());
        let Some(number) = number else {
            return Err(self.error("wrong escape sequence"));
        };
        match kind {
            'u' | 'U' => {
                let Some(c) = char::from_u32(number) else {
                    return Err(self.error("escape sequence is no character"));
                };
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => match u8::try_from(number) {
                Ok(byte) => out.push(byte),
                Err(_) => return Err(self.error("escape sequence beyond a byte")),
            },
        }
        self.at = start + digits;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_read_as_go_quotes_them() {
        let text = |labels: &str| parse(labels).map(|l| l.to_string());
        assert_eq!(
            text(r#"{ job = "x" ,level="in\"fo\n", u="\u00e9\x41\101", raw=`a\b`,}"#),
            Ok(r#"{job="x", level="in\"fo\n", raw="a\\b", service_name="x", u="éAA"}"#.into())
        );
        assert_eq!(
            text(r#"{a=""}"#),
            Ok(r#"{service_name="unknown_service"}"#.into())
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (labels, part) in [
            ("{}", "at least one label pair is required per stream"),
            ("", "expected '{'"),
            ("{a=\"b\"", "expected ','"),
            ("{a=\"b\"} x", "behind the labels"),
            ("{a=b}", "expected a quoted value"),
            ("{a=\"b", "unterminated string"),
            ("{a=\"\\", "unterminated string"),
            ("{a=\"\\q\"}", "unknown escape"),
            ("{a=\"\\u12\"}", "wrong escape"),
            ("{a=\"\\ud800\"}", "no character"),
            ("{a=\"\\777\"}", "beyond a byte"),
            ("{a=\"\\xff\"}", "not UTF-8"),
            ("{1a=\"b\"}", "expected a label name"),
            ("{a=\"b\",a=\"c\"}", "duplicate label name: 'a'"),
        ] {
            let error = parse(labels).unwrap_err();
            assert!(error.contains(part), "{labels}: {error}");
        }
        let long = format!("{{a=\"{}\"}}", "x".repeat(3000));
        assert!(parse(&long).unwrap_err().contains("label value too long"));
        let many: Vec<String> = (0..65).map(|n| format!("l{n}=\"v\"")).collect();
        let error = parse(&format!("{{{}}}", many.join(","))).unwrap_err();
        assert!(error.contains("more than 64 label names"), "{error}");
    }
}
