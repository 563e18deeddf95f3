//! Syslog messages: RFC 5424, RFC 3164, and what devices send instead.
//!
//! Nothing is refused: what has no known form is a line with its priority, if it has one. Times of RFC
//! 3164 have no year and no zone: they are taken as UTC, in the year that brings them nearest to now.

use std::borrow::Cow;

use chronolith_engine::model::TimestampNs;

use crate::rows::{LogRow, Value};
use crate::wire::time::{civil_from_days, civil_ns, parse_rfc3339_ns};

/// Names of severities, and OpenTelemetry's numbers for them.
const SEVERITIES: [(&str, u8); 8] = [
    ("emerg", 21),
    ("alert", 19),
    ("crit", 18),
    ("err", 17),
    ("warning", 13),
    ("notice", 10),
    ("info", 9),
    ("debug", 5),
];
const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Who sent a message; what its stream is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender<'a> {
    /// Empty if not said.
    pub host: &'a str,
    /// The program; empty if not said.
    pub app: &'a str,
}

/// Reads a message into a row; `now` is for times without a year.
pub fn read<'a>(text: &'a str, now: TimestampNs, row: &mut LogRow<'a>) -> Sender<'a> {
    let text = text.trim_end_matches(['\r', '\n', '\0']);
    row.body = Value::text(text);
    let Some((priority, rest)) = priority(text) else {
        return Sender::default();
    };
    if let Some((name, number)) = SEVERITIES.get(usize::from(priority % 8)) {
        row.severity = *number;
        row.severity_text = Cow::Borrowed(name);
    }
    if let Some(facility) = FACILITIES.get(usize::from(priority / 8)) {
        push(row, "facility", facility);
    }
    row.body = Value::text(rest);
    match rest.strip_prefix("1 ") {
        Some(modern) => rfc5424(modern, row).unwrap_or_default(),
        None => rfc3164(rest, now, row),
    }
}

fn push<'a>(row: &mut LogRow<'a>, key: &'static str, value: &'a str) {
    row.attributes
        .push((Cow::Borrowed(key), Value::text(value)));
}

/// `<13>` in front, and what is behind it.
fn priority(text: &str) -> Option<(u8, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u8 = is_number.then(|| digits.parse().ok()).flatten()?;
    (number < 192).then_some((number, rest))
}

/// `TIMESTAMP HOST APP PROCID MSGID SD MSG`; `-` is nothing.
fn rfc5424<'a>(text: &'a str, row: &mut LogRow<'a>) -> Option<Sender<'a>> {
    let mut parts = text.splitn(6, ' ');
    let mut part = || parts.next().map(|part| if part == "-" { "" } else { part });
    let (time, host, app, process, id, rest) =
        (part()?, part()?, part()?, part()?, part()?, part()?);
    let data_end = structured_data(rest)?;
    row.time = parse_rfc3339_ns(time).map(TimestampNs);
    for (key, value) in [("procid", process), ("msgid", id)] {
        if !value.is_empty() {
            push(row, key, value);
        }
    }
    read_structured_data(rest.get(..data_end)?, row);
    let message = rest.get(data_end..)?;
    let message = message.strip_prefix(' ').unwrap_or(message);
    row.body = Value::text(message.strip_prefix('\u{feff}').unwrap_or(message));
    Some(Sender { host, app })
}

/// Where the structured data ends; `None` for what is none.
fn structured_data(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.first() == Some(&b'-') {
        return Some(usize::from(!bytes.is_empty()));
    }
    let mut at = 0;
    while bytes.get(at) == Some(&b'[') {
        let mut quoted = false;
        loop {
            at += 1;
            match bytes.get(at)? {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b']' if !quoted => break,
                _ => {}
            }
        }
        at += 1;
    }
    (at > 0 && bytes.get(at).is_none_or(|b| *b == b' ')).then_some(at)
}

/// `[id key="value" …][…]`, known to end well.
fn read_structured_data<'a>(text: &'a str, row: &mut LogRow<'a>) {
    let mut rest = text;
    while let Some(element) = rest.strip_prefix('[') {
        let id_end = element.find([' ', ']']).unwrap_or(element.len());
        let (id, mut params) = element.split_at(id_end);
        loop {
            params = params.trim_start();
            if let Some(after) = params.strip_prefix(']') {
                rest = after;
                break;
            }
            let Some((key, after)) = params.split_once("=\"") else {
                return;
            };
            let mut value = String::new();
            let mut chars = after.char_indices();
            let mut end = after.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => match chars.next() {
                        Some((_, escaped @ ('"' | '\\' | ']'))) => value.push(escaped),
                        Some((_, other)) => value.extend(['\\', other]),
                        None => {}
                    },
                    other => value.push(other),
                }
            }
            params = after.get(end..).unwrap_or("");
            let key = Cow::Owned(format!("{id}.{key}"));
            row.attributes.push((key, Value::Text(Cow::Owned(value))));
        }
    }
}

/// `Mmm dd hh:mm:ss HOST TAG[PID]: MSG`, or with an RFC 3339 time.
fn rfc3164<'a>(text: &'a str, now: TimestampNs, row: &mut LogRow<'a>) -> Sender<'a> {
    let old_time = text.get(..15).and_then(|head| old_time(head, now));
    let after_time = match old_time {
        Some(ns) => {
            row.time = Some(TimestampNs(ns));
            text.get(15..).unwrap_or("")
        }
        None => {
            let (first, after) = text.split_once(' ').unwrap_or((text, ""));
            match parse_rfc3339_ns(first) {
                Some(ns) => {
                    row.time = Some(TimestampNs(ns));
                    after
                }
                // No time: some programs send the tag at once.
                None => {
                    let (app, message) = tag(text, row);
                    row.body = Value::text(message);
                    return Sender { host: "", app };
                }
            }
        }
    };
    let after_time = after_time.trim_start();
    let (first, after) = after_time.split_once(' ').unwrap_or((after_time, ""));
    // Without a host the tag comes at once.
    let (host, rest) = match first.ends_with(':') {
        true => ("", after_time),
        false => (first, after),
    };
    let (app, message) = tag(rest, row);
    row.body = Value::text(message);
    Sender { host, app }
}

/// `TAG[PID]: ` in front of a message.
fn tag<'a>(text: &'a str, row: &mut LogRow<'a>) -> (&'a str, &'a str) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return ("", text);
    }
    let (process, rest) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((process, rest)) => (process, rest),
        None => ("", rest),
    };
    let Some(message) = rest.strip_prefix(':') else {
        return ("", text);
    };
    if !process.is_empty() {
        push(row, "procid", process);
    }
    (name, message.strip_prefix(' ').unwrap_or(message))
}

fn old_time(head: &str, now: TimestampNs) -> Option<i64> {
    let part = |from: usize, to: usize| head.get(from..to);
    let number = |from: usize, to: usize| part(from, to)?.trim_start().parse::<i64>().ok();
    let separators = [(3, " "), (6, " "), (9, ":"), (12, ":")];
    if !separators
        .iter()
        .all(|(at, c)| part(*at, at + 1) == Some(c))
    {
        return None;
    }
    let month = MONTHS.iter().position(|m| Some(*m) == part(0, 3))?;
    let month = i64::try_from(month).ok()? + 1;
    let (day, time) = (
        number(4, 6)?,
        [number(7, 9)?, number(10, 12)?, number(13, 15)?],
    );
    let (year, _, _) = civil_from_days(now.0.div_euclid(86_400 * 1_000_000_000));
    let candidates = [year - 1, year, year + 1];
    let times = candidates
        .into_iter()
        .filter_map(|year| civil_ns([year, month, day], time, 0, 0));
    times.min_by_key(|ns| ns.abs_diff(now.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampNs = TimestampNs(1_700_000_000_000_000_000); // 2023-11-14T22:13:20Z

    fn got(text: &str) -> (LogRow<'_>, Sender<'_>) {
        let mut row = LogRow::default();
        let sender = read(text, NOW, &mut row);
        (row, sender)
    }

    fn attributes(row: &LogRow<'_>) -> Vec<String> {
        let pairs = row.attributes.iter();
        pairs
            .map(|(k, v)| format!("{k}={}", v.as_text().unwrap()))
            .collect()
    }

    #[test]
    fn modern_messages() {
        let (row, sender) = got(
            "<165>1 2023-11-14T22:13:20.003Z host app 77 ID47 [a@1 k=\"v\\\"]\" x=\"\"][b] \u{feff}hello\n",
        );
        assert_eq!((sender.host, sender.app), ("host", "app"));
        assert_eq!(row.time, Some(TimestampNs(NOW.0 + 3_000_000)));
        assert_eq!((row.severity, &*row.severity_text), (10, "notice"));
        assert_eq!(row.body, Value::text("hello"));
        assert_eq!(
            attributes(&row),
            [
                "facility=local4",
                "procid=77",
                "msgid=ID47",
                "a@1.k=v\"]",
                "a@1.x="
            ]
        );
        let (row, sender) = got("<0>1 - - - - - -");
        assert_eq!(sender, Sender::default());
        assert_eq!((row.body, row.time), (Value::text(""), None));
    }

    #[test]
    fn old_messages() {
        let (row, sender) = got("<34>Nov 14 22:13:21 mymachine su[12]: 'su root' failed");
        assert_eq!((sender.host, sender.app), ("mymachine", "su"));
        assert_eq!(row.time, Some(TimestampNs(NOW.0 + 1_000_000_000)));
        assert_eq!(
            (row.severity, &row.body),
            (18, &Value::text("'su root' failed"))
        );
        assert_eq!(attributes(&row), ["facility=auth", "procid=12"]);
        // In the year that is nearest: January is next year's.
        let (row, _) = got("<34>Jan  2 00:00:00 h x: y");
        assert_eq!(row.time, Some(TimestampNs(1_704_153_600_000_000_000)));
        let (row, sender) = got("<13>2023-11-14T22:13:20Z h prog: m");
        assert_eq!(
            (sender.host, sender.app, row.time),
            ("h", "prog", Some(NOW))
        );
        let (row, sender) = got("<13>Nov 14 22:13:20 prog: m");
        assert_eq!((sender.host, sender.app), ("", "prog"));
        assert_eq!(row.body, Value::text("m"));
    }

    #[test]
    fn anything_is_a_line() {
        for (text, body) in [
            ("plain", "plain"),
            ("<999>x", "<999>x"),
            ("<13>", ""),
            ("<13>1 x", "1 x"),
            ("<13>1 - - - - - [open", "1 - - - - - [open"),
            ("<1", "<1"),
            ("<13>é", "é"),
            ("<13>Feb 30 00:00:00 h x: y", "Feb 30 00:00:00 h x: y"),
        ] {
            let (row, _) = got(text);
            assert_eq!(row.body, Value::text(body), "{text}");
        }
    }
}
