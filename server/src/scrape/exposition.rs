//! Reader of the text exposition formats: Prometheus 0.0.4 and OpenMetrics 1.0.
//!
//! Lines are handed out one by one as slices of the body: nothing is copied, and the labels of a
//! sample are only parsed when the caller asks, because a series seen before is found by its raw
//! text. Both formats go through one grammar; where they differ (timestamps in seconds, exemplars,
//! `# EOF`), [`Dialect`] decides.
//!
//! Sources: the Prometheus exposition format page and the OpenMetrics 1.0 specification.

use std::borrow::Cow;

use chronolith_engine::model::{LabelsBuilder, METRIC_NAME, MetricType};

/// Which of the two text formats a body is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `text/plain; version=0.0.4`: timestamps are whole milliseconds.
    Prometheus,
    /// `application/openmetrics-text`: timestamps are seconds with a fraction, exemplars are
    /// allowed, and the body ends with `# EOF`.
    OpenMetrics,
}

impl Dialect {
    /// The dialect that a `Content-Type` names; `None` for a format that is not text.
    #[must_use]
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/openmetrics-text" => Some(Self::OpenMetrics),
            "text/plain" | "" => Some(Self::Prometheus),
            _ => None,
        }
    }
}

/// A line that does not follow the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ExpositionError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// One meaningful line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// `# TYPE name type`
    Type {
        /// The metric family.
        metric: Cow<'a, str>,
        /// Its type.
        metric_type: MetricType,
    },
    /// `# HELP name text`
    Help {
        /// The metric family.
        metric: Cow<'a, str>,
        /// The text, unescaped.
        help: Cow<'a, str>,
    },
    /// `# UNIT name unit`
    Unit {
        /// The metric family.
        metric: Cow<'a, str>,
        /// The unit.
        unit: &'a str,
    },
    /// A sample.
    Sample(SampleLine<'a>),
}

/// A sample, its series still unparsed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleLine<'a> {
    /// Name and labels as written: what identifies the series within the exposition.
    pub series: &'a str,
    /// The value.
    pub value: f64,
    /// Milliseconds since the epoch, if the line says so.
    pub timestamp_ms: Option<i64>,
    /// The exemplar's text behind the `#`, unparsed.
    pub exemplar: Option<&'a str>,
}

/// A parsed exemplar.
#[derive(Clone, Debug)]
pub struct ExemplarLine {
    /// Its labels.
    pub labels: LabelsBuilder,
    /// Its value.
    pub value: f64,
    /// Milliseconds since the epoch, if given.
    pub timestamp_ms: Option<i64>,
}

/// Iterates over the lines of an exposition.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a str,
    dialect: Dialect,
    line: usize,
    ended: bool,
}

impl<'a> Reader<'a> {
    /// A reader of `body`.
    ///
    /// # Errors
    /// When the body is not UTF-8.
    pub fn new(body: &'a [u8], dialect: Dialect) -> Result<Self, ExpositionError> {
        let rest = std::str::from_utf8(body).map_err(|error| {
            let line = body[..error.valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            ExpositionError {
                line,
                message: "not UTF-8".into(),
            }
        })?;
        Ok(Self {
            rest,
            dialect,
            line: 0,
            ended: false,
        })
    }

    /// The next meaningful line; `None` at the end.
    ///
    /// # Errors
    /// A line that breaks the format; OpenMetrics without its `# EOF`.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ExpositionError> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(b'\n', self.rest.as_bytes()).unwrap_or(self.rest.len());
            let line = self.rest[..end].trim_end_matches('\r');
            self.rest = self.rest.get(end + 1..).unwrap_or("");
            self.line += 1;
            if self.ended {
                return Err(self.error("text after # EOF"));
            }
            let parsed =
                if let Some(comment) = line.trim_start_matches([' ', '\t']).strip_prefix('#') {
                    self.comment(comment)
                } else if line.trim_matches([' ', '\t']).is_empty() {
                    Ok(None)
                } else {
                    parse_sample(line, self.dialect).map(|sample| Some(Entry::Sample(sample)))
                };
            if let Some(entry) = parsed.map_err(|message| self.error(&message))? {
                return Ok(Some(entry));
            }
        }
        if self.dialect == Dialect::OpenMetrics && !self.ended {
            return Err(self.error("the body does not end with # EOF"));
        }
        Ok(None)
    }

    fn error(&self, message: &str) -> ExpositionError {
        ExpositionError {
            line: self.line,
            message: message.to_owned(),
        }
    }

    fn comment(&mut self, comment: &'a str) -> Result<Option<Entry<'a>>, String> {
        let mut words = Words(comment);
        match words.next_word() {
            "EOF" if self.dialect == Dialect::OpenMetrics => {
                self.ended = true;
                Ok(None)
            }
            "TYPE" => {
                let metric = words.metric()?;
                let word = words.next_word();
                let metric_type =
                    metric_type(word).ok_or_else(|| format!("unknown type {word:?}"))?;
                Ok(Some(Entry::Type {
                    metric,
                    metric_type,
                }))
            }
            "HELP" => {
                let metric = words.metric()?;
                let help = unescape(words.0.trim_start_matches([' ', '\t']), false)?;
                Ok(Some(Entry::Help { metric, help }))
            }
            "UNIT" => Ok(Some(Entry::Unit {
                metric: words.metric()?,
                unit: words.next_word(),
            })),
            _ => Ok(None),
        }
    }
}

/// Splits a comment at blanks.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next_word(&mut self) -> &'a str {
        let text = self.0.trim_start_matches([' ', '\t']);
        let end = text.find([' ', '\t']).unwrap_or(text.len());
        self.0 = &text[end..];
        &text[..end]
    }

    /// A metric name: a word, or UTF-8 in quotes.
    fn metric(&mut self) -> Result<Cow<'a, str>, String> {
        let text = self.0.trim_start_matches([' ', '\t']);
        if text.starts_with('"') {
            let (name, rest) = quoted(text)?;
            self.0 = rest;
            return Ok(name);
        }
        match self.next_word() {
            "" => Err("metric name is missing".into()),
            word => Ok(Cow::Borrowed(word)),
        }
    }
}

fn metric_type(word: &str) -> Option<MetricType> {
    Some(match word {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        "histogram" => MetricType::Histogram,
        "gaugehistogram" => MetricType::GaugeHistogram,
        "summary" => MetricType::Summary,
        "info" => MetricType::Info,
        "stateset" => MetricType::StateSet,
        "unknown" | "untyped" => MetricType::Unknown,
        _ => return None,
    })
}

fn parse_sample(line: &str, dialect: Dialect) -> Result<SampleLine<'_>, String> {
    let line = line.trim_start_matches([' ', '\t']);
    let series_end = series_end(line)?;
    let series = line[..series_end].trim_end_matches([' ', '\t']);
    let mut rest = line[series_end..].trim_start_matches([' ', '\t']);
    let mut exemplar = None;
    if let Some((before, after)) = rest.split_once('#') {
        if dialect != Dialect::OpenMetrics {
            return Err("unexpected # after the value".into());
        }
        (rest, exemplar) = (before, Some(after.trim_matches([' ', '\t'])));
    }
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = parse_value(words.next().ok_or("value is missing")?)?;
    let timestamp_ms = words
        .next()
        .map(|word| parse_timestamp(word, dialect))
        .transpose()?;
    if let Some(word) = words.next() {
        return Err(format!("unexpected {word:?} after the timestamp"));
    }
    Ok(SampleLine {
        series,
        value,
        timestamp_ms,
        exemplar,
    })
}

/// Where name and labels end.
fn series_end(line: &str) -> Result<usize, String> {
    let bytes = line.as_bytes();
    let name_end = bytes
        .iter()
        .position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'_' | b':')))
        .unwrap_or(bytes.len());
    let after_name = name_end
        + bytes[name_end..]
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count();
    if bytes.get(after_name) != Some(&b'{') {
        return match name_end {
            0 => Err(format!(
                "unexpected {:?}",
                line.chars().next().unwrap_or(' ')
            )),
            _ if bytes[0].is_ascii_digit() => Err("a metric name starts with a digit".into()),
            _ => Ok(name_end),
        };
    }
    if name_end > 0 && bytes[0].is_ascii_digit() {
        return Err("a metric name starts with a digit".into());
    }
    let mut at = after_name + 1;
    let mut quoted = false;
    while let Some(found) = memchr::memchr3(b'"', b'\\', b'}', &bytes[at..]) {
        at += found;
        match bytes[at] {
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            b'}' if !quoted => return Ok(at + 1),
            _ => {}
        }
        at += 1;
        if at >= bytes.len() {
            break;
        }
    }
    Err("label set is not closed".into())
}

fn parse_value(word: &str) -> Result<f64, String> {
    match word {
        "NaN" | "nan" | "NAN" => return Ok(f64::NAN),
        "+Inf" | "Inf" | "inf" | "+inf" => return Ok(f64::INFINITY),
        "-Inf" | "-inf" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    // Rust reads "infinity" and "nan" with signs too; the formats don't have them.
    if word
        .bytes()
        .any(|b| b.is_ascii_alphabetic() && !matches!(b, b'e' | b'E'))
    {
        return Err(format!("value {word:?} is not a number"));
    }
    word.parse()
        .map_err(|_| format!("value {word:?} is not a number"))
}

fn parse_timestamp(word: &str, dialect: Dialect) -> Result<i64, String> {
    let refuse = || format!("timestamp {word:?} is not a number in range");
    match dialect {
        Dialect::Prometheus => word.parse().map_err(|_| refuse()),
        Dialect::OpenMetrics => {
            let millis = (word.parse::<f64>().map_err(|_| refuse())? * 1e3).round();
            if millis.abs() < 9e18 {
                Ok(millis as i64)
            } else {
                Err(refuse())
            }
        }
    }
}

/// Reads `"..."` at the start of `text`; what stands between the quotes, and the rest.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let inner = text.strip_prefix('"').ok_or("a quote is missing")?;
    let bytes = inner.as_bytes();
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        at += found;
        if bytes[at] == b'"' {
            return Ok((unescape(&inner[..at], true)?, &inner[at + 1..]));
        }
        // An escaped character may be longer than a byte, but none of its bytes is a quote.
        at += 2;
        if at > bytes.len() {
            break;
        }
    }
    Err("a quote is not closed".into())
}

fn unescape(text: &str, quotes: bool) -> Result<Cow<'_, str>, String> {
    if !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('\\') => out.push('\\'),
            Some('"') if quotes => out.push('"'),
            // The reference keeps an escape that it doesn't know as it stands.
            Some(other) => out.extend(['\\', other]),
            None => return Err("text ends in a backslash".into()),
        }
    }
    Ok(Cow::Owned(out))
}

/// Parses the name and labels of [`SampleLine::series`] into `labels`.
///
/// # Errors
/// What breaks the grammar. Duplicates are found by [`LabelsBuilder::finish`].
pub fn parse_series(series: &str, labels: &mut LabelsBuilder) -> Result<(), String> {
    let (name, braces) = match series.find('{') {
        Some(at) => (series[..at].trim_end_matches([' ', '\t']), &series[at..]),
        None => (series, ""),
    };
    if !name.is_empty() {
        labels.push(METRIC_NAME, name);
    }
    if braces.is_empty() {
        return Ok(());
    }
    let inner = braces
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
        .ok_or("label set is not closed")?;
    parse_labels(inner, name.is_empty(), labels)
}

fn parse_labels(text: &str, name_wanted: bool, labels: &mut LabelsBuilder) -> Result<(), String> {
    let mut rest = text.trim_start_matches([' ', '\t']);
    let mut name_wanted = name_wanted;
    while !rest.is_empty() {
        let (name, after) = if rest.starts_with('"') {
            quoted(rest)?
        } else {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            (Cow::Borrowed(&rest[..end]), &rest[end..])
        };
        let after = after.trim_start_matches([' ', '\t']);
        rest = if let Some(value_text) = after.strip_prefix('=') {
            if name.is_empty()
                || name.as_bytes().first().is_some_and(u8::is_ascii_digit) && !rest.starts_with('"')
            {
                return Err(format!("label name {name:?} is not valid"));
            }
            let (value, after) = quoted(value_text.trim_start_matches([' ', '\t']))?;
            labels.push(&name, &value);
            after
        } else if name_wanted && rest.starts_with('"') {
            labels.push(METRIC_NAME, &name);
            name_wanted = false;
            after
        } else {
            return Err(format!("label {name:?} has no value"));
        };
        rest = rest.trim_start_matches([' ', '\t']);
        rest = match rest.strip_prefix(',') {
            Some(after) => after.trim_start_matches([' ', '\t']),
            None if rest.is_empty() => rest,
            None => return Err(format!("expected a comma before {:?}", rest.chars().next())),
        };
    }
    Ok(())
}

/// Parses [`SampleLine::exemplar`].
///
/// # Errors
/// What breaks the grammar.
pub fn parse_exemplar(text: &str) -> Result<ExemplarLine, String> {
    let inner = text
        .strip_prefix('{')
        .ok_or("an exemplar starts with its labels")?;
    let end = series_end(text)? - 2;
    let mut labels = LabelsBuilder::new();
    parse_labels(inner.get(..end).unwrap_or(""), false, &mut labels)?;
    let rest = inner.get(end + 1..).unwrap_or("");
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = parse_value(words.next().ok_or("an exemplar has a value")?)?;
    let timestamp_ms = words
        .next()
        .map(|word| parse_timestamp(word, Dialect::OpenMetrics))
        .transpose()?;
    Ok(ExemplarLine {
        labels,
        value,
        timestamp_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str, dialect: Dialect) -> Result<Vec<Entry<'_>>, ExpositionError> {
        let mut reader = Reader::new(text.as_bytes(), dialect)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    fn labels(series: &str) -> Result<String, String> {
        let mut builder = LabelsBuilder::new();
        parse_series(series, &mut builder)?;
        builder
            .finish()
            .map(|l| l.to_string())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn samples_are_read() {
        let text = "# HELP a some \\\\ text\\n\n# TYPE a counter\na 1\na{b=\"}\\\"\",} 2.5e3 1700000000000\n\n  x:y {c=\"d\"} NaN\n# comment\n";
        let found = entries(text, Dialect::Prometheus).unwrap();
        assert_eq!(found.len(), 5);
        assert_eq!(
            found[0],
            Entry::Help {
                metric: "a".into(),
                help: "some \\ text\n".into()
            }
        );
        let Entry::Sample(sample) = &found[3] else {
            panic!("{:?}", found[3])
        };
        assert_eq!(
            (sample.value, sample.timestamp_ms),
            (2500.0, Some(1_700_000_000_000))
        );
        assert_eq!(labels(sample.series).unwrap(), r#"{__name__="a", b="}\""}"#);
        let Entry::Sample(sample) = &found[4] else {
            panic!("{:?}", found[4])
        };
        assert_eq!(labels(sample.series).unwrap(), r#"{__name__="x:y", c="d"}"#);
    }

    #[test]
    fn openmetrics_has_exemplars_seconds_and_an_end() {
        let text = "# TYPE h histogram\n# UNIT h seconds\nh_bucket{le=\"1\"} 5 1.5 # {trace_id=\"a\"} 0.7 1.25\n# EOF\n";
        let found = entries(text, Dialect::OpenMetrics).unwrap();
        let Entry::Sample(sample) = &found[2] else {
            panic!("{:?}", found[2])
        };
        assert_eq!(sample.timestamp_ms, Some(1500));
        let exemplar = parse_exemplar(sample.exemplar.unwrap()).unwrap();
        assert_eq!((exemplar.value, exemplar.timestamp_ms), (0.7, Some(1250)));
        assert_eq!(exemplar.labels.get("trace_id"), Some("a"));
        assert!(entries("a 1\n", Dialect::OpenMetrics).is_err());
        assert!(entries("# EOF\na 1\n", Dialect::OpenMetrics).is_err());
    }

    #[test]
    fn utf8_names_are_quoted() {
        assert_eq!(
            labels("{\"my.metric\", \"label.name\"=\"x\"}").unwrap(),
            r#"{__name__="my.metric", label.name="x"}"#
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line) in [
            ("a 1\nb{c=\"d\" 2\n", 2),
            ("a one\n", 1),
            ("a\n", 1),
            ("a 1 2 3\n", 1),
            ("1a 1\n", 1),
            ("a infinity\n", 1),
            ("\n\na 1 x\n", 3),
            ("a{b=\"\\", 1),
        ] {
            assert_eq!(
                entries(text, Dialect::Prometheus).unwrap_err().line,
                line,
                "{text:?}"
            );
        }
        for series in [
            "a{b}",
            "a{b=c}",
            "a{b=\"c\" d=\"e\"}",
            "a{=\"c\"}",
            "a{b=\"c\"",
            "a{1b=\"c\"}",
        ] {
            assert!(labels(series).is_err(), "{series}");
        }
        assert!(labels("a{b=\"1\",b=\"2\"}").is_err());
    }

    #[test]
    fn no_cut_makes_it_panic() {
        let text = "# HELP a b\\n\na{b=\"c\\\\\",\"d.é\"=\"ü\"} 1.5 17 # {x=\"y\"} 1 2\n# EOF\n";
        for cut in (0..text.len()).filter(|c| text.is_char_boundary(*c)) {
            let _ = entries(&text[..cut], Dialect::OpenMetrics);
            let _ = labels(&text[..cut]);
            let _ = parse_exemplar(&text[..cut]);
            let _ = parse_exemplar(&text[cut..]);
            let _ = labels(&text[cut..]);
        }
    }
}
