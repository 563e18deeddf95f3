//! In which format metrics are exposed to a scraper, and how names are written for it.
//!
//! Both follow from `Accept`, as Prometheus' own libraries have it: the clause with the highest weight
//! among those that can be served, and its parameter `escaping`. Without it names that older servers
//! cannot read are written with underscores, because one such name would cost them the whole scrape.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, header};

const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A format and a way to write names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpositionFormat {
    /// Protobuf, each family with its length in front; the text format otherwise.
    pub protobuf: bool,
    /// How names are written.
    pub escaping: Escaping,
}

/// What becomes of characters that are not letters, digits, underscores and (in metric names) colons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    /// Nothing.
    AllowUtf8,
    /// An underscore.
    Underscores,
    /// Dots become `_dot_`, underscores are doubled, others become two underscores.
    Dots,
    /// `U__` in front, then `_hex_` each, and underscores doubled.
    Values,
}

impl Escaping {
    fn of(name: &str) -> Self {
        match name {
            "allow-utf-8" => Self::AllowUtf8,
            "dots" => Self::Dots,
            "values" => Self::Values,
            _ => Self::Underscores,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// The name as it is written.
    #[must_use]
    pub fn apply(self, name: &str) -> Cow<'_, str> {
        let as_is = match self {
            Self::AllowUtf8 => true,
            // Underscores are doubled in every name.
            Self::Dots => false,
            Self::Underscores | Self::Values => is_plain(name),
        };
        if as_is || name.is_empty() {
            return Cow::Borrowed(name);
        }
        let mut out = String::with_capacity(name.len() + 8);
        if self == Self::Values {
            out.push_str("U__");
        }
        for (index, character) in name.chars().enumerate() {
            match (self, character) {
                (Self::Dots | Self::Values, '_') => out.push_str("__"),
                (Self::Dots, '.') => out.push_str("_dot_"),
                (_, plain) if is_plain_character(plain, index) => out.push(plain),
                (Self::Dots, _) => out.push_str("__"),
                (Self::Values, other) => {
                    // Writing into a string cannot fail.
                    let _ = write!(out, "_{:x}_", u32::from(other));
                }
                _ => out.push('_'),
            }
        }
        Cow::Owned(out)
    }
}

fn is_plain_character(character: char, index: usize) -> bool {
    character.is_ascii_alphabetic()
        || character == '_'
        || character == ':'
        || (index > 0 && character.is_ascii_digit())
}

/// Whether every server can read a metric name.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .enumerate()
            .all(|(index, character)| is_plain_character(character, index))
}

impl ExpositionFormat {
    /// The format that `Accept` asks for; text if it names nothing that we have.
    #[must_use]
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
        Self::of(accept.unwrap_or_default())
    }

    fn of(accept: &str) -> Self {
        let mut best = Self {
            protobuf: false,
            escaping: Escaping::Underscores,
        };
        let mut best_weight = 0.0;
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut proto, mut encoding, mut escaping) = (1.0, "", "", "");
            for part in parts {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                let value = value.trim().trim_matches('"');
                match name.trim() {
                    "q" => weight = value.parse().unwrap_or(0.0),
                    "proto" => proto = value,
                    "encoding" => encoding = value,
                    "escaping" => escaping = value,
                    _ => {}
                }
            }
            let protobuf = media == "application/vnd.google.protobuf";
            let served = match protobuf {
                true => proto == "io.prometheus.client.MetricFamily" && encoding == "delimited",
                false => matches!(media.as_str(), "text/plain" | "text/*" | "*/*"),
            };
            if served && weight > best_weight {
                best_weight = weight;
                let escaping = Escaping::of(escaping);
                best = Self { protobuf, escaping };
            }
        }
        best
    }

    /// The media type of the answer.
    #[must_use]
    pub fn content_type(self) -> HeaderValue {
        let media = if self.protobuf { PROTOBUF } else { TEXT };
        let text = format!("{media}; escaping={}", self.escaping.as_str());
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(TEXT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_clause_decides() {
        let half = format!("{PROTOBUF};q=0.7");
        for (accept, protobuf) in [
            ("", false),
            ("*/*", false),
            (PROTOBUF, true),
            (&format!("{half},text/plain;version=0.0.4;q=0.5"), true),
            (&format!("text/plain;q=0.8,{half}"), false),
            ("application/vnd.google.protobuf;encoding=text", false),
        ] {
            assert_eq!(ExpositionFormat::of(accept).protobuf, protobuf, "{accept}");
        }
        let asked = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2";
        assert_eq!(ExpositionFormat::of(asked).escaping, Escaping::AllowUtf8);
    }

    #[test]
    fn names_are_written_as_was_asked_for() {
        use Escaping::{AllowUtf8, Dots, Underscores, Values};
        for (name, escaping, expected) in [
            ("http.status_code", AllowUtf8, "http.status_code"),
            ("http.status_code", Underscores, "http_status_code"),
            ("http.status_code", Dots, "http_dot_status__code"),
            ("http.status_code", Values, "U__http_2e_status__code"),
            ("plain_name", Values, "plain_name"),
            ("plain_name", Dots, "plain__name"),
            ("2xx", Underscores, "_xx"),
            ("π", Values, "U___3c0_"),
        ] {
            assert_eq!(escaping.apply(name), expected, "{name} {escaping:?}");
        }
    }
}
