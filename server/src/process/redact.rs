//! What must not be stored: secrets and personal data inside of texts.
//!
//! Each preset is one regex in linear time (no backtracking), with a check where a form alone says too
//! little (Luhn's sum of card numbers, the check digits of IBANs). A text without a hit is not copied.

use std::borrow::Cow;

use chronolith_engine::model::AttributeValue;
use regex::{Captures, Regex, RegexBuilder};
use serde::Deserialize;

use crate::rows::{Pairs, Value};

/// What stands for what was taken out, unless the configuration says otherwise.
const REPLACEMENT: &str = "[redacted]";
/// Bytes of a compiled pattern.
const COMPILED_BYTES_MAX: usize = 4 << 20;
/// Patterns of the configuration.
const PATTERNS_MAX: usize = 64;

/// Forms that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Keys and tokens by the forms of those who issue them, private keys, JSON web tokens.
    Secrets,
    /// What stands behind words like `password=`, `Authorization: Bearer`, and in URLs before the host.
    Passwords,
    /// Numbers of payment cards.
    Cards,
    /// E-mail addresses.
    Emails,
    /// IPv4 and IPv6 addresses.
    Ips,
    /// International bank account numbers.
    Ibans,
}

/// The section `redact`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedactConfig {
    /// Known forms.
    pub presets: Vec<Preset>,
    /// Further regexes; a group named `keep` in front stays.
    pub patterns: Vec<String>,
    /// Attributes whose value is replaced as a whole, by name.
    pub keys: Vec<String>,
    /// What stands for what was taken out.
    pub replacement: Option<String>,
}

/// Takes out what must not be stored.
#[derive(Debug)]
pub struct Redactor {
    patterns: Vec<Pattern>,
    keys: Vec<String>,
    replacement: String,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Whether a hit is one.
    check: fn(&str) -> bool,
}

const SECRETS: &str = r"(?x)
    \b(?:AKIA|ASIA)[0-9A-Z]{16}\b
  | \bgh[pousr]_[0-9A-Za-z]{36,255} | \bgithub_pat_[0-9A-Za-z_]{22,255} | \bglpat-[0-9A-Za-z_-]{20,}
  | \bxox[abeprs]-[0-9A-Za-z-]{10,} | \b[sr]k_(?:live|test)_[0-9A-Za-z]{16,} | \bsk-[0-9A-Za-z_-]{20,}
  | \bAIza[0-9A-Za-z_-]{35} | \bya29\.[0-9A-Za-z_-]{20,} | \bhf_[0-9A-Za-z]{30,} | \bnpm_[0-9A-Za-z]{36}
  | \beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*
  | -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY-----[^-]*(?:-----END\ [A-Z\ ]*PRIVATE\ KEY-----)?";
const PASSWORDS: &str = r#"(?xi)
    (?P<keep>
        \b(?:[a-z]+[_-])*(?:password|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|client[_-]?secret)
        ["']?\s*[=:]\s*["']?
      | \bauthorization["']?\s*[=:]\s*["']?(?:(?:bearer|basic|digest)\s+)?
      | \bbearer\s+
      | \b[a-z][0-9a-z+.-]*://[^\s:/@]*:
    )
    [^\s"'&,;}\])@]+"#;
const CARDS: &str = r"\b[2-6]\d(?:[ -]?\d){11,17}\b";
const EMAILS: &str = r"\b[0-9A-Za-z][0-9A-Za-z._%+-]*@(?:[0-9A-Za-z-]+\.)+[A-Za-z]{2,}\b";
const IPS: &str = r"(?x)
    \b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b
  | \b(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\b
  | \b(?:[0-9A-Fa-f]{1,4}:){1,6}(?::[0-9A-Fa-f]{1,4}){1,6}\b";
const IBANS: &str = r"\b[A-Z]{2}\d{2}(?: ?[0-9A-Z]){11,30}\b";

impl Preset {
    fn pattern(self) -> (&'static str, fn(&str) -> bool) {
        let always: fn(&str) -> bool = |_| true;
        match self {
            Self::Secrets => (SECRETS, always),
            Self::Passwords => (PASSWORDS, always),
            Self::Cards => (CARDS, is_card),
            Self::Emails => (EMAILS, always),
            Self::Ips => (IPS, always),
            Self::Ibans => (IBANS, is_iban),
        }
    }
}

/// Luhn's sum.
fn is_card(text: &str) -> bool {
    let digits = text.bytes().rev().filter(u8::is_ascii_digit);
    let (mut sum, mut count) = (0_u32, 0);
    for (place, digit) in digits.enumerate() {
        let digit = u32::from(digit - b'0');
        sum += match place % 2 {
            0 => digit,
            _ if digit > 4 => 2 * digit - 9,
            _ => 2 * digit,
        };
        count += 1;
    }
    sum % 10 == 0 && (13..=19).contains(&count)
}

/// ISO 7064, modulus 97.
fn is_iban(text: &str) -> bool {
    let plain: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    let Some((head, rest)) = plain.split_at_checked(4) else {
        return false;
    };
    let remainder = rest.iter().chain(head).fold(0_u32, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte.to_ascii_uppercase().saturating_sub(b'A')) + 10) % 97,
    });
    remainder == 1
}

impl Redactor {
    /// As the configuration has it; `None` if nothing is to be done.
    ///
    /// # Errors
    /// A pattern that is none, or too large.
    pub fn new(config: &RedactConfig) -> Result<Option<Self>, String> {
        if config.patterns.len() > PATTERNS_MAX {
            return Err(format!("more than {PATTERNS_MAX} patterns"));
        }
        let known = config.presets.iter().map(|preset| preset.pattern());
        let own = config.patterns.iter();
        let own = own.map(|text| (text.as_str(), (|_| true) as fn(&str) -> bool));
        let mut patterns = Vec::new();
        for (text, check) in known.chain(own) {
            let regex = RegexBuilder::new(text)
                .size_limit(COMPILED_BYTES_MAX)
                .build()
                .map_err(|e| format!("pattern {text:?}: {e}"))?;
            patterns.push(Pattern { regex, check });
        }
        if patterns.is_empty() && config.keys.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            patterns,
            keys: config.keys.clone(),
            replacement: config.replacement.as_deref().unwrap_or(REPLACEMENT).into(),
        }))
    }

    /// The text without what must not be stored; `None` if it is as it was.
    #[must_use]
    pub fn text(&self, text: &str) -> Option<String> {
        let mut changed: Option<String> = None;
        for Pattern { regex, check } in &self.patterns {
            let current = changed.as_deref().unwrap_or(text);
            let replaced = regex.replace_all(current, |hit: &Captures<'_>| {
                let whole = hit.get(0).map_or("", |m| m.as_str());
                if !check(whole) {
                    return whole.to_owned();
                }
                let kept = hit.name("keep").map_or("", |m| m.as_str());
                format!("{kept}{}", self.replacement)
            });
            if let Cow::Owned(text) = replaced {
                changed = Some(text);
            }
        }
        changed.filter(|changed| changed != text)
    }

    /// The same for a text that may be borrowed.
    pub fn cow(&self, text: &mut Cow<'_, str>) {
        if let Some(changed) = self.text(text) {
            *text = Cow::Owned(changed);
        }
    }

    /// The same for a value of any type.
    pub fn value(&self, value: &mut Value<'_>) {
        match value {
            Value::Text(text) => self.cow(text),
            Value::Nested(nested) => self.nested(nested),
            _ => {}
        }
    }

    /// The same for attributes.
    pub fn pairs(&self, pairs: &mut Pairs<'_>) {
        for (key, value) in pairs {
            match self.keys.iter().any(|wanted| wanted == key) {
                true => *value = Value::Text(Cow::Owned(self.replacement.clone())),
                false => self.value(value),
            }
        }
    }

    // Depth is bounded where values come in.
    fn nested(&self, value: &mut AttributeValue) {
        match value {
            AttributeValue::String(text) => {
                if let Some(changed) = self.text(text) {
                    *text = changed;
                }
            }
            AttributeValue::Array(values) => values.iter_mut().for_each(|v| self.nested(v)),
            AttributeValue::Map(pairs) => {
                for (key, value) in pairs {
                    match self.keys.iter().any(|wanted| wanted == key) {
                        true => *value = AttributeValue::String(self.replacement.clone()),
                        false => self.nested(value),
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(presets: &[Preset]) -> Redactor {
        let config = RedactConfig {
            presets: presets.to_vec(),
            replacement: Some("***".into()),
            ..RedactConfig::default()
        };
        Redactor::new(&config).unwrap().unwrap()
    }

    #[test]
    fn presets_find_what_they_are_named_after() {
        use Preset::{Cards, Emails, Ibans, Ips, Passwords, Secrets};
        let token = format!("ghp_{}", "a1".repeat(18));
        let key = ["AKIA", "ABCDEFGH12345678"].concat();
        for (preset, text, expected) in [
            (Secrets, format!("push {token} x"), "push *** x"),
            (Secrets, format!("id {key}."), "id ***."),
            (Secrets, "eyJhbGciOiJI.eyJzdWIiOiIx.abc-_ x".into(), "*** x"),
            (
                Secrets,
                "-----BEGIN RSA PRIVATE KEY-----\nab\n-----END RSA PRIVATE KEY----- x".into(),
                "*** x",
            ),
            (Secrets, "skip sk-short AKIA".into(), "skip sk-short AKIA"),
            (
                Passwords,
                r#"{"db_password":"a b","x":1}"#.into(),
                r#"{"db_password":"*** b","x":1}"#,
            ),
            (Passwords, "token=abc&x=1".into(), "token=***&x=1"),
            (
                Passwords,
                "Authorization: Bearer abc.def".into(),
                "Authorization: Bearer ***",
            ),
            (
                Passwords,
                "postgres://me:pa55@host/db".into(),
                "postgres://me:***@host/db",
            ),
            (
                Passwords,
                "tokens 5, monkey: bar".into(),
                "tokens 5, monkey: bar",
            ),
            (Cards, "card 4111 1111 1111 1111 ok".into(), "card *** ok"),
            (
                Cards,
                "id 4111111111111112 ok".into(),
                "id 4111111111111112 ok",
            ),
            (
                Emails,
                "mail jo.doe+x@mail.example.com.".into(),
                "mail ***.",
            ),
            (Emails, "at @ or a@b".into(), "at @ or a@b"),
            (
                Ips,
                "from 10.0.0.255:80 fe80::1 2001:db8:0:0:0:0:0:1".into(),
                "from ***:80 *** ***",
            ),
            (Ips, "v 1.2.3 at 12:30:59".into(), "v 1.2.3 at 12:30:59"),
            (Ibans, "to DE89 3704 0044 0532 0130 00".into(), "to ***"),
            (
                Ibans,
                "to DE88370400440532013000".into(),
                "to DE88370400440532013000",
            ),
        ] {
            let redactor = redactor(&[preset]);
            let got = redactor.text(&text);
            assert_eq!(got.as_deref().unwrap_or(&text), expected, "{preset:?}");
            assert_eq!(got.is_none(), text == expected, "{text}");
        }
    }

    #[test]
    fn keys_and_own_patterns() {
        let config = RedactConfig {
            patterns: vec!["(?P<keep>user )\\d+".into()],
            keys: vec!["card".into()],
            ..RedactConfig::default()
        };
        let redactor = Redactor::new(&config).unwrap().unwrap();
        let map = AttributeValue::Map(vec![("card".into(), AttributeValue::Int(5))]);
        let mut pairs: Pairs<'_> = vec![
            ("card".into(), Value::Int(4)),
            ("x".into(), Value::text("user 12")),
            ("m".into(), Value::Nested(map)),
        ];
        redactor.pairs(&mut pairs);
        let gone = || AttributeValue::String(REPLACEMENT.into());
        assert_eq!(pairs[0].1, Value::text(REPLACEMENT));
        assert_eq!(pairs[1].1, Value::text("user [redacted]"));
        let expected = AttributeValue::Map(vec![("card".into(), gone())]);
        assert_eq!(pairs[2].1, Value::Nested(expected));
        assert!(Redactor::new(&RedactConfig::default()).unwrap().is_none());
        let bad = RedactConfig {
            patterns: vec!["(".into()],
            ..RedactConfig::default()
        };
        assert!(Redactor::new(&bad).is_err());
    }
}
