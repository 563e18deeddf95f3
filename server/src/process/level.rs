//! Which level a record has when its sender did not say: from its fields, its stream, its text.
//!
//! The outcome is OpenTelemetry's severity number of the level (1 trace, 5 debug, 9 info, 13 warn, 17
//! error, 21 fatal); the severity text stays empty, so that what was worked out can be told from what
//! was sent. Words are looked for where loggers write them: in a field `level` of JSON or logfmt, else
//! among the first words of the line.

use memchr::memmem;

use crate::rows::{LogRow, Value};

/// Attributes and labels that name the level, the strongest first.
pub const KEYS: [&str; 10] = [
    "level",
    "severity",
    "detected_level",
    "severity_text",
    "lvl",
    "log.level",
    "loglevel",
    "log_level",
    "levelname",
    "LEVEL",
];
/// How much of a line is searched for a word that is a level.
const WORDS_BYTES_MAX: usize = 160;
/// How much of a line is searched for a field that names it.
const FIELDS_BYTES_MAX: usize = 4096;

/// The severity number of a level's name; 0 for a word that is none.
#[inline]
#[must_use]
pub fn severity_of(word: &str) -> u8 {
    let mut lower = [0_u8; 13];
    let Some(place) = lower.get_mut(..word.len()) else {
        return 0;
    };
    place.copy_from_slice(word.as_bytes());
    place.make_ascii_lowercase();
    match &*place {
        b"trace" | b"trc" => 1,
        b"debug" | b"dbg" | b"verbose" => 5,
        b"info" | b"information" | b"informational" | b"inf" => 9,
        b"notice" => 10,
        b"warn" | b"warning" | b"wrn" => 13,
        b"error" | b"err" | b"severe" => 17,
        b"critical" | b"crit" => 18,
        b"alert" => 19,
        b"fatal" | b"panic" | b"emerg" | b"emergency" => 21,
        _ => 0,
    }
}

/// The severity number that a value names: a word, a number of OpenTelemetry's, or one of pino's and
/// bunyan's tens.
fn severity_of_value(value: &Value<'_>) -> u8 {
    let from_number = |number: i64| match number {
        1..=9 => 0,
        10 => 1,
        20 => 5,
        30 => 9,
        40 => 13,
        50 => 17,
        60 => 21,
        _ => 0,
    };
    match value {
        Value::Text(text) => severity_of(text.trim()),
        Value::Int(number) => from_number(*number),
        _ => 0,
    }
}

/// The severity number that labels of a stream tell; 0 for none.
#[must_use]
pub(super) fn severity_of_labels(labels: &chronolith_engine::model::Labels) -> u8 {
    let found = KEYS.iter().filter_map(|key| labels.get(key));
    found
        .map(severity_of)
        .find(|severity| *severity > 0)
        .unwrap_or(0)
}

/// Fills in the severity number of a record that has none; `of_stream` is what its labels tell.
#[inline]
pub(super) fn detect(row: &mut LogRow<'_>, of_stream: u8) {
    if row.severity != 0 {
        return;
    }
    if !row.severity_text.is_empty() {
        row.severity = severity_of(row.severity_text.trim());
        return;
    }
    if !row.attributes.is_empty() {
        let attributes = KEYS.iter().filter_map(|key| row.attribute(key));
        let found = attributes.map(severity_of_value).find(|s| *s > 0);
        if let Some(severity) = found {
            row.severity = severity;
            return;
        }
    }
    row.severity = match (of_stream, &row.body) {
        (0, Value::Text(text)) => severity_of_line(text),
        (severity, _) => severity,
    };
}

/// The severity number that a line tells; 0 for none.
#[must_use]
pub fn severity_of_line(line: &str) -> u8 {
    let bytes = line.as_bytes();
    let head = bytes.get(..FIELDS_BYTES_MAX).unwrap_or(bytes);
    // A field of JSON or logfmt: `"level":"info"`, `level=info`, `"lvl": 30`.
    for key in [&b"level"[..], b"lvl", b"everity"] {
        let mut from = 0;
        while let Some(found) = head.get(from..).and_then(|rest| memmem::find(rest, key)) {
            let at = from + found + key.len();
            if let Some(severity) = field_value(head, at) {
                return severity;
            }
            from = at;
        }
    }
    if bytes.first() == Some(&b'{') {
        return 0;
    }
    let head = bytes.get(..WORDS_BYTES_MAX).unwrap_or(bytes);
    let mut at = 0;
    while let Some(byte) = head.get(at) {
        if !byte.is_ascii_alphabetic() {
            at += 1;
            continue;
        }
        let rest = head.get(at..).unwrap_or_default();
        let length = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let after = rest.get(length);
        // `errors`, `info2` and `max_error` are other words.
        let joins = |b: &u8| b.is_ascii_digit() || *b == b'_';
        let before = at.checked_sub(1).and_then(|before| head.get(before));
        let is_whole = !after.is_some_and(joins) && !before.is_some_and(joins);
        if is_whole
            && matches!(length, 3..=13)
            && let Ok(word) = std::str::from_utf8(rest.get(..length).unwrap_or_default())
        {
            let severity = severity_of(word);
            if severity > 0 {
                return severity;
            }
        }
        at += length;
    }
    0
}

/// The level behind a key that ends at `at`; `None` if no known level stands there.
fn field_value(line: &[u8], at: usize) -> Option<u8> {
    let rest = line.get(at..)?;
    let rest = match rest {
        [b'"', b':', rest @ ..] | [b'=', rest @ ..] => rest,
        [b'"', b' ', b':', rest @ ..] => rest,
        _ => return None,
    };
    let skipped = rest
        .iter()
        .take_while(|b| matches!(b, b' ' | b'"' | b'\''))
        .count();
    let rest = rest.get(skipped..)?;
    let length = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let word = std::str::from_utf8(rest.get(..length)?).ok()?;
    let severity = match length {
        0 => {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let digits = std::str::from_utf8(rest.get(..digits)?).ok()?;
            severity_of_value(&Value::Int(digits.parse().ok()?))
        }
        _ => severity_of(word),
    };
    (severity > 0).then_some(severity)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn lines_tell_their_level() {
        for (line, severity) in [
            (r#"{"ts":1,"level":"warn","msg":"an error"}"#, 13),
            (r#"{"msg":"x", "severity": "ERROR"}"#, 17),
            (r#"{"level":30,"msg":"pino"}"#, 9),
            (r#"{"msg":"an error"}"#, 0),
            ("ts=1 level=debug msg=\"an error\"", 5),
            ("lvl=crit x", 18),
            ("[2024-01-01 10:00:00] ERROR could not", 17),
            ("Jan  1 host app[1]: warning: disk", 13),
            ("12:00 I/O took long, Fatal: gone", 21),
            ("max_error=3 errors=4 info2", 0),
            ("plain words only", 0),
            ("level=unknown but INFO here", 9),
            ("", 0),
            ("é INFO", 9),
        ] {
            assert_eq!(severity_of_line(line), severity, "{line}");
        }
    }

    #[test]
    fn what_was_sent_is_stronger_than_what_is_worked_out() {
        let body = || Value::text("ERROR x");
        let detected = |mut row: LogRow<'static>, of_stream: u8| {
            detect(&mut row, of_stream);
            row.severity
        };
        let sent = LogRow {
            severity: 9,
            body: body(),
            ..LogRow::default()
        };
        assert_eq!(detected(sent, 13), 9);
        let text = LogRow {
            severity_text: Cow::Borrowed("Warning"),
            body: body(),
            ..LogRow::default()
        };
        assert_eq!(detected(text, 0), 13);
        let attribute = LogRow {
            attributes: vec![("level".into(), Value::text("debug"))],
            body: body(),
            ..LogRow::default()
        };
        assert_eq!(detected(attribute, 13), 5);
        let line = LogRow {
            body: body(),
            ..LogRow::default()
        };
        assert_eq!(detected(line.clone(), 13), 13);
        assert_eq!(detected(line, 0), 17);
    }
}
