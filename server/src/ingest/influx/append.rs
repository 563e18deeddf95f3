//! From lines to one append: a field of a line is a sample of the series `measurement_field`.
//!
//! A series is looked for by the bytes of the line up to the fields and by the field's key; only when
//! they are new are the tags read. A line that cannot be is left out and named, the others are stored.

use chronolith_engine::model::{Labels, LabelsBuilder, METRIC_NAME, SeriesRef, TimestampNs};
use chronolith_engine::{Append, EngineError, RequestContext, Store};

use super::line::{Fault, Field, FieldValue, Line, LineError, Reader, tags, unescape};

/// Between the measurement and the field, as VictoriaMetrics has it.
const SEPARATOR: char = '_';
/// The label that names the database or the bucket.
const DATABASE_LABEL: &str = "db";
/// Begins the keys of this protocol. Other protocols' keys begin with a length or a field's number
/// that these bytes cannot be.
const KEY_MARK: [u8; 8] = [0xff; 8];
/// Between the parts of a key; no UTF-8 has it, and keys are remembered only of what is UTF-8.
const KEY_SEPARATOR: u8 = 0xff;
/// Lines that an answer names.
const NAMED_MAX: usize = 10;
/// Bytes of a line that an answer shows.
const SHOWN_BYTES_MAX: usize = 120;

/// What the arguments of a request say.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions<'a> {
    /// Becomes the label `db` of lines that have no such tag; empty for none.
    pub database: &'a str,
    /// Nanoseconds of the unit of times.
    pub unit_ns: i64,
    /// What a line without a time gets.
    pub now: TimestampNs,
    /// The latest time that is accepted.
    pub latest: TimestampNs,
}

/// What became of a request's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines that hold something.
    pub lines: u64,
    /// Lines of which something was left out because of a fault or a limit.
    pub refused: u64,
    /// Samples in the append.
    pub samples: u64,
    /// Fields passed over because they are strings.
    pub strings: u64,
    /// Number of the first refused line, from 1.
    pub first_refused: Option<u64>,
    /// New series beyond the tenant's limits.
    pub series_over_limit: u64,
    /// The first refused lines, in words.
    pub words: Vec<String>,
}

impl LineCounts {
    fn refuse(&mut self, number: u64, line: &[u8], reason: &dyn std::fmt::Display) {
        self.refused += 1;
        self.first_refused.get_or_insert(number);
        if self.words.len() < NAMED_MAX {
            let shown = String::from_utf8_lossy(line.get(..SHOWN_BYTES_MAX).unwrap_or(line));
            let dots = if line.len() > SHOWN_BYTES_MAX {
                "…"
            } else {
                ""
            };
            self.words.push(format!(
                "line {number}: unable to parse '{shown}{dots}': {reason}"
            ));
        }
    }
}

/// Why a field has no series.
enum Refusal {
    /// Its line cannot be.
    Fault(Fault),
    /// The labels cannot be.
    Labels(String),
    /// The tenant's limits do not allow for it.
    Limit(String),
    /// The store.
    Engine(EngineError),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Puts the lines of a request into one append.
///
/// # Errors
/// The store refuses; faulty lines are no error.
pub fn prepare<'s>(
    store: &'s Store,
    context: &RequestContext,
    text: &[u8],
    options: &WriteOptions<'_>,
) -> Result<(Append<'s>, LineCounts), EngineError> {
    let mut session = Session {
        store,
        append: store.begin(context)?,
        options,
        counts: LineCounts::default(),
        key: Vec::new(),
    };
    let mut reader = Reader::new(text);
    let mut fields = Vec::new();
    while let Some(line) = reader.next_line(&mut fields) {
        session.counts.lines += 1;
        match line {
            Ok(line) => session.line(&line, &fields)?,
            Err(LineError {
                fault,
                number,
                text,
            }) => session.counts.refuse(number, text, &fault),
        }
    }
    Ok((session.append, session.counts))
}

struct Session<'s, 'o> {
    store: &'s Store,
    append: Append<'s>,
    options: &'o WriteOptions<'o>,
    counts: LineCounts,
    /// The key of the series looked for; its memory serves all of them.
    key: Vec<u8>,
}

impl Session<'_, '_> {
    fn line(&mut self, line: &Line<'_>, fields: &[Field<'_>]) -> Result<(), EngineError> {
        let time = match self.time(line.time) {
            Ok(time) => time,
            Err(reason) => {
                self.counts.refuse(line.number, line.series, &reason);
                return Ok(());
            }
        };
        self.key.clear();
        self.key.extend_from_slice(&KEY_MARK);
        self.key.extend_from_slice(self.options.database.as_bytes());
        self.key.push(KEY_SEPARATOR);
        self.key.extend_from_slice(line.series);
        self.key.push(KEY_SEPARATOR);
        let prefix = self.key.len();
        let mut over_limit = None;
        for field in fields {
            let FieldValue::Number(value) = field.value else {
                self.counts.strings += 1;
                continue;
            };
            self.key.truncate(prefix);
            self.key.extend_from_slice(field.key);
            let key = self.store.raw_key(&self.key);
            let series = match self.append.lookup(key) {
                Some(series) => series,
                None => match self.define(line.series, field.key) {
                    Ok(series) => series,
                    Err(Refusal::Limit(reason)) => {
                        self.counts.series_over_limit += 1;
                        over_limit = Some(reason);
                        continue;
                    }
                    // What is wrong with the tags is wrong for the other fields too. A field's key that
                    // is not UTF-8 costs the fields behind it.
                    Err(Refusal::Fault(fault)) => {
                        self.counts.refuse(line.number, line.series, &fault);
                        return Ok(());
                    }
                    Err(Refusal::Labels(reason)) => {
                        self.counts.refuse(line.number, line.series, &reason);
                        return Ok(());
                    }
                    Err(Refusal::Engine(error)) => return Err(error),
                },
            };
            self.append.sample(series, time, value);
            self.counts.samples += 1;
        }
        if let Some(reason) = over_limit {
            self.counts.refuse(line.number, line.series, &reason);
        }
        Ok(())
    }

    fn time(&self, time: Option<i64>) -> Result<TimestampNs, String> {
        let Some(time) = time else {
            return Ok(self.options.now);
        };
        let ns = time
            .checked_mul(self.options.unit_ns)
            .map(TimestampNs)
            .ok_or_else(|| format!("time {time} is out of range"))?;
        match ns > self.options.latest {
            true => Err(format!("time {time} is too far in the future")),
            false => Ok(ns),
        }
    }

    /// Finds or makes the series by its labels. `self.key` is its key.
    #[cold]
    fn define(&mut self, series: &[u8], field: &[u8]) -> Result<SeriesRef, Refusal> {
        let labels = labels(series, field, self.options.database)?;
        let key = self.store.raw_key(&self.key);
        match self.append.define(Some(key), &labels) {
            Ok(series) => Ok(series),
            Err(EngineError::InvalidArgument(reason)) => Err(Refusal::Labels(reason)),
            Err(EngineError::LimitExceeded(reason)) => Err(Refusal::Limit(reason)),
            Err(other) => Err(Refusal::Engine(other)),
        }
    }
}

/// The labels of a field's series.
fn labels(series: &[u8], field: &[u8], database: &str) -> Result<Labels, Refusal> {
    let mut labels = LabelsBuilder::new();
    let measurement = tags(series, |key, value| labels.push(&key, &value))?;
    let field = unescape(field)?;
    if labels.get(METRIC_NAME).is_some() {
        let words = format!("a tag {METRIC_NAME} would be another metric");
        return Err(Refusal::Labels(words));
    }
    let mut name = measurement.into_owned();
    name.push(SEPARATOR);
    name.push_str(&field);
    labels.push(METRIC_NAME, &name);
    if !database.is_empty() && labels.get(DATABASE_LABEL).is_none() {
        labels.push(DATABASE_LABEL, database);
    }
    labels
        .finish()
        .map_err(|error| Refusal::Labels(error.to_string()))
}

#[cfg(test)]
mod tests {
    use chronolith_engine::{StoreOptions, TenantLimits};

    use super::*;

    fn store() -> Store {
        let options = StoreOptions {
            background: false,
            ..StoreOptions::default()
        };
        Store::in_memory(options).unwrap()
    }

    const OPTIONS: WriteOptions<'static> = WriteOptions {
        database: "",
        unit_ns: 1_000_000_000,
        now: TimestampNs(5),
        latest: TimestampNs(2_000_000_000_000_000_000),
    };

    #[test]
    fn a_field_is_a_series() {
        let of = |series: &str, field: &str, database| {
            labels(series.as_bytes(), field.as_bytes(), database)
                .ok()
                .map(|l| l.to_string())
        };
        let text = r#"{__name__="cpu_load\ 1", db="x", host="a"}"#.replace("\\ ", " ");
        assert_eq!(of("cpu,host=a", "load\\ 1", "x"), Some(text));
        let own = r#"{__name__="m_v", db="mine"}"#;
        assert_eq!(of("m,db=mine", "v", "x"), Some(own.into()));
        assert_eq!(of("m,__name__=x", "v", ""), None);
        assert_eq!(of("m,a=1,a=2", "v", ""), None);
    }

    #[test]
    fn good_lines_are_stored_and_bad_ones_named() {
        let store = store();
        let text = b"cpu,host=a user=1,idle=2,note=\"x\" 17\nbad\ncpu,a=1,a=2 v=1\ncpu v=1 3000000000\nmem used=5i\n";
        let context = RequestContext::new();
        for _ in 0..2 {
            let (append, counts) = prepare(&store, &context, text, &OPTIONS).unwrap();
            assert_eq!((append.rows(), counts.samples), (3, 3));
            assert_eq!((counts.lines, counts.refused, counts.strings), (5, 3, 1));
            assert_eq!(counts.first_refused, Some(2));
            let [bad, twice, late] = counts.words.as_slice() else {
                panic!("{:?}", counts.words);
            };
            assert_eq!(bad, "line 2: unable to parse 'bad': missing fields");
            assert!(
                twice.starts_with("line 3: unable to parse 'cpu,a=1,a=2'"),
                "{twice}"
            );
            assert!(late.contains("too far in the future"), "{late}");
            append.commit().unwrap();
        }
        assert_eq!(store.stats().head_series, 3);
    }

    #[test]
    fn new_series_beyond_the_limit_are_left_out() {
        let store = store();
        let context = RequestContext::new();
        let limits = TenantLimits {
            series_max: 2,
            ..TenantLimits::default()
        };
        store.set_tenant_limits(&context.tenant, limits);
        let text = b"m,h=1 a=1,b=1\nm,h=2 a=1,b=1\nm,h=1 a=2";
        let (append, counts) = prepare(&store, &context, text, &OPTIONS).unwrap();
        assert_eq!((append.rows(), counts.refused), (3, 1));
        assert_eq!(
            (counts.series_over_limit, counts.first_refused),
            (2, Some(2))
        );
        assert!(
            counts.words[0].contains("tenant default"),
            "{:?}",
            counts.words
        );
    }
}
