//! The functions of templates: Go's built-in ones and those that Loki adds.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::regexes;
use super::super::units::{self, SECOND_NS};
use super::exec::OUTPUT_BYTES_MAX;
use super::value::Value;
use super::{gotime, printf};

/// Every function; `__line__` and `__timestamp__` are the executor's.
const NAMES: [&str; 106] = [
    "__line__",
    "__timestamp__",
    "and",
    "or",
    "not",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "html",
    "js",
    "urlquery",
    "ToLower",
    "ToUpper",
    "Replace",
    "Trim",
    "TrimLeft",
    "TrimRight",
    "TrimPrefix",
    "TrimSuffix",
    "TrimSpace",
    "lower",
    "upper",
    "title",
    "trunc",
    "substr",
    "contains",
    "hasPrefix",
    "hasSuffix",
    "indent",
    "nindent",
    "replace",
    "repeat",
    "trim",
    "trimAll",
    "trimPrefix",
    "trimSuffix",
    "trimLeft",
    "trimRight",
    "regexReplaceAll",
    "regexReplaceAllLiteral",
    "count",
    "urlencode",
    "urldecode",
    "b64enc",
    "b64dec",
    "bytes",
    "duration",
    "duration_seconds",
    "unixEpoch",
    "unixEpochMillis",
    "unixEpochNanos",
    "unixToTime",
    "toDateInZone",
    "toDate",
    "date",
    "now",
    "alignLeft",
    "alignRight",
    "int",
    "int64",
    "float64",
    "toString",
    "add",
    "sub",
    "mul",
    "div",
    "mod",
    "addf",
    "subf",
    "mulf",
    "divf",
    "max",
    "min",
    "maxf",
    "minf",
    "ceil",
    "floor",
    "round",
    "fromJson",
    "default",
    "list",
    "dict",
    "join",
    "split",
    "splitList",
    "first",
    "last",
    "quote",
    "squote",
    "nospace",
    "snakecase",
    "camelcase",
    "kebabcase",
    "ternary",
    "coalesce",
    "toJson",
    "empty",
];

/// Whether there is a function of that name.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

struct Arguments<'a>(&'a [Value]);

impl Arguments<'_> {
    fn exactly(&self, count: usize) -> Result<(), String> {
        if self.0.len() == count {
            return Ok(());
        }
        Err(format!(
            "wrong number of args: want {count} got {}",
            self.0.len()
        ))
    }

    fn value(&self, index: usize) -> &Value {
        self.0.get(index).unwrap_or(&Value::Nil)
    }

    fn text(&self, index: usize) -> Result<&str, String> {
        match self.0.get(index) {
            Some(Value::Text(text)) => Ok(text),
            Some(other) => Err(format!(
                "wrong type for value; expected string; got {}",
                other.print()
            )),
            None => Err(format!(
                "wrong number of args: want at least {} got {}",
                index + 1,
                self.0.len()
            )),
        }
    }

    fn int(&self, index: usize) -> Result<i64, String> {
        match self.0.get(index) {
            Some(value) => Ok(value.to_int()),
            None => Err(format!(
                "wrong number of args: want at least {} got {}",
                index + 1,
                self.0.len()
            )),
        }
    }

    fn fold_int(&self, mut fold: impl FnMut(i64, i64) -> Option<i64>) -> Result<Value, String> {
        let mut values = self.0.iter().map(Value::to_int);
        let mut result = values
            .next()
            .ok_or("wrong number of args: want at least 1 got 0")?;
        for value in values {
            result = fold(result, value).ok_or("integer divide by zero or overflow")?;
        }
        Ok(Value::Int(result))
    }

    fn fold_float(&self, fold: impl Fn(f64, f64) -> f64) -> Result<Value, String> {
        let values = self.0.iter().map(Value::to_float);
        let result = values.reduce(fold);
        result
            .map(Value::Float)
            .ok_or_else(|| "wrong number of args: want at least 1 got 0".to_owned())
    }
}

/// Characters `start..end` of a text.
fn chars(text: &str, start: usize, end: usize) -> String {
    text.chars()
        .skip(start)
        .take(end.saturating_sub(start))
        .collect()
}

fn repeat(text: &str, count: i64) -> Result<String, String> {
    let count = usize::try_from(count).unwrap_or(0);
    if text.len().saturating_mul(count) > OUTPUT_BYTES_MAX {
        return Err(format!("more than {OUTPUT_BYTES_MAX} bytes"));
    }
    Ok(text.repeat(count))
}

fn replace(text: &str, old: &str, new: &str, count: i64) -> Result<String, String> {
    let hits = if old.is_empty() {
        text.chars().count() + 1
    } else {
        text.matches(old).count()
    };
    if text.len() + hits.saturating_mul(new.len()) > OUTPUT_BYTES_MAX {
        return Err(format!("more than {OUTPUT_BYTES_MAX} bytes"));
    }
    Ok(match usize::try_from(count) {
        Ok(count) => text.replacen(old, new, count),
        Err(_) => text.replace(old, new),
    })
}

/// Calls a function.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let args = Arguments(arguments);
    let text = |text: String| Ok(Value::Text(text));
    match name {
        "not" => Ok(Value::Bool(!args.value(0).is_true())),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, &args),
        "len" => length(args.value(0)),
        "index" => index(arguments),
        "slice" => slice(&args),
        "print" => text(print(arguments)),
        "println" => {
            let parts: Vec<String> = arguments.iter().map(Value::print).collect();
            text(parts.join(" ") + "\n")
        }
        "printf" => text(printf::printf(args.text(0)?, &arguments[1..])),
        "html" => text(html(&print(arguments))),
        "js" => text(js(&print(arguments))),
        "urlquery" => text(url_encode(&print(arguments))),
        "urlencode" => text(url_encode(args.text(0)?)),
        "urldecode" => url_decode(args.text(0)?).map(Value::Text),
        "ToLower" | "lower" => text(args.text(0)?.to_lowercase()),
        "ToUpper" | "upper" => text(args.text(0)?.to_uppercase()),
        "title" => text(title(args.text(0)?)),
        "Replace" => {
            replace(args.text(0)?, args.text(1)?, args.text(2)?, args.int(3)?).map(Value::Text)
        }
        "replace" => replace(args.text(2)?, args.text(0)?, args.text(1)?, -1).map(Value::Text),
        "Trim" => text(trim(args.text(0)?, args.text(1)?, true, true)),
        "TrimLeft" => text(trim(args.text(0)?, args.text(1)?, true, false)),
        "TrimRight" => text(trim(args.text(0)?, args.text(1)?, false, true)),
        "trimAll" => text(trim(args.text(1)?, args.text(0)?, true, true)),
        "trimLeft" => text(trim(args.text(1)?, args.text(0)?, true, false)),
        "trimRight" => text(trim(args.text(1)?, args.text(0)?, false, true)),
        "TrimPrefix" => {
            let whole = args.text(0)?;
            text(
                whole
                    .strip_prefix(args.text(1)?)
                    .unwrap_or(whole)
                    .to_owned(),
            )
        }
        "TrimSuffix" => {
            let whole = args.text(0)?;
            text(
                whole
                    .strip_suffix(args.text(1)?)
                    .unwrap_or(whole)
                    .to_owned(),
            )
        }
        "trimPrefix" => {
            let whole = args.text(1)?;
            text(
                whole
                    .strip_prefix(args.text(0)?)
                    .unwrap_or(whole)
                    .to_owned(),
            )
        }
        "trimSuffix" => {
            let whole = args.text(1)?;
            text(
                whole
                    .strip_suffix(args.text(0)?)
                    .unwrap_or(whole)
                    .to_owned(),
            )
        }
        "TrimSpace" | "trim" => text(args.text(0)?.trim().to_owned()),
        "nospace" => text(args.text(0)?.split_whitespace().collect()),
        "trunc" => truncate(args.int(0)?, args.text(1)?),
        "substr" => substring(args.int(0)?, args.int(1)?, args.text(2)?),
        "contains" => Ok(Value::Bool(args.text(1)?.contains(args.text(0)?))),
        "hasPrefix" => Ok(Value::Bool(args.text(1)?.starts_with(args.text(0)?))),
        "hasSuffix" => Ok(Value::Bool(args.text(1)?.ends_with(args.text(0)?))),
        "indent" | "nindent" => {
            let blanks = repeat(" ", args.int(0)?)?;
            let body = replace(args.text(1)?, "\n", &format!("\n{blanks}"), -1)?;
            let lead = if name == "nindent" { "\n" } else { "" };
            text(format!("{lead}{blanks}{body}"))
        }
        "repeat" => repeat(args.text(1)?, args.int(0)?).map(Value::Text),
        "quote" => text(units::GoQuoted(&print(arguments)).to_string()),
        "squote" => text(format!("'{}'", print(arguments))),
        "snakecase" => text(words(args.text(0)?).join("_").to_lowercase()),
        "kebabcase" => text(words(args.text(0)?).join("-").to_lowercase()),
        "camelcase" => text(
            words(args.text(0)?)
                .iter()
                .map(|w| title(&w.to_lowercase()))
                .collect(),
        ),
        "regexReplaceAll" => {
            let regex = regexes::of_lines(args.text(0)?)?;
            let replacement = go_replacement(args.text(2)?);
            let whole = args.text(1)?.as_bytes();
            bytes_text(&regex.replace_all(whole, replacement.as_bytes()))
        }
        "regexReplaceAllLiteral" => {
            let regex = regexes::of_lines(args.text(0)?)?;
            let replacement = regex::bytes::NoExpand(args.text(2)?.as_bytes());
            bytes_text(&regex.replace_all(args.text(1)?.as_bytes(), replacement))
        }
        "count" => {
            let regex = regexes::of_lines(args.text(0)?)?;
            Ok(Value::Int(
                regex.find_iter(args.text(1)?.as_bytes()).count() as i64,
            ))
        }
        "b64enc" => text(base64_encode(args.text(0)?.as_bytes())),
        "b64dec" => base64_decode(args.text(0)?).map(Value::Text),
        "bytes" => Ok(Value::Float(units::parse_bytes(args.text(0)?)? as f64)),
        "duration" | "duration_seconds" => Ok(Value::Float(
            units::parse_go_duration(args.text(0)?)? as f64 / SECOND_NS as f64,
        )),
        "unixEpoch" => text((time(&args, 0)?.0.div_euclid(SECOND_NS)).to_string()),
        "unixEpochMillis" => text((time(&args, 0)?.0.div_euclid(1_000_000)).to_string()),
        "unixEpochNanos" => text(time(&args, 0)?.0.to_string()),
        "unixToTime" => unix_to_time(args.text(0)?),
        "toDate" => Ok(read_time(args.text(0)?, args.text(1)?, 0)),
        "toDateInZone" => {
            let zone = args.text(1)?;
            let offset =
                gotime::zone_offset(zone).ok_or_else(|| format!("unknown time zone {zone}"))?;
            Ok(read_time(args.text(0)?, args.text(2)?, offset))
        }
        "date" => {
            let (ns, offset) = time(&args, 1)?;
            text(gotime::format(ns, offset, args.text(0)?))
        }
        "now" => {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Ok(Value::Time(
                i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
                0,
            ))
        }
        "alignLeft" | "alignRight" => align(name == "alignLeft", args.int(0)?, args.text(1)?),
        "int" | "int64" => args.int(0).map(Value::Int),
        "float64" => Ok(Value::Float(args.value(0).to_float())),
        "toString" => text(args.value(0).print()),
        "add" => args.fold_int(i64::checked_add),
        "sub" => args.fold_int(i64::checked_sub),
        "mul" => args.fold_int(i64::checked_mul),
        "div" => args.fold_int(i64::checked_div),
        "mod" => args.fold_int(i64::checked_rem),
        "max" => args.fold_int(|a, b| Some(a.max(b))),
        "min" => args.fold_int(|a, b| Some(a.min(b))),
        "addf" => args.fold_float(|a, b| a + b),
        "subf" => args.fold_float(|a, b| a - b),
        "mulf" => args.fold_float(|a, b| a * b),
        "divf" => args.fold_float(|a, b| a / b),
        "maxf" => args.fold_float(f64::max),
        "minf" => args.fold_float(f64::min),
        "ceil" => Ok(Value::Float(args.value(0).to_float().ceil())),
        "floor" => Ok(Value::Float(args.value(0).to_float().floor())),
        "round" => Ok(round(&args)),
        "fromJson" => {
            let parsed = serde_json::from_str(args.text(0)?).unwrap_or(serde_json::Value::Null);
            Ok(Value::from_json(parsed))
        }
        "toJson" => text(to_json(args.value(0)).to_string()),
        "default" => {
            let given = args.value(1);
            Ok(if given.is_true() {
                given
            } else {
                args.value(0)
            }
            .clone())
        }
        "empty" => Ok(Value::Bool(!args.value(0).is_true())),
        "coalesce" => Ok(arguments
            .iter()
            .find(|v| v.is_true())
            .cloned()
            .unwrap_or(Value::Nil)),
        "ternary" => {
            args.exactly(3)?;
            Ok(args
                .value(if args.value(2).is_true() { 0 } else { 1 })
                .clone())
        }
        "list" => Ok(Value::List(arguments.to_vec())),
        "dict" => {
            let pairs = arguments.chunks(2).map(|pair| {
                let value = pair.get(1).cloned().unwrap_or(Value::text(""));
                (pair[0].print(), value)
            });
            Ok(Value::Map(pairs.collect::<BTreeMap<_, _>>()))
        }
        "join" => match args.value(1) {
            Value::List(list) => {
                let parts: Vec<String> = list.iter().map(Value::print).collect();
                text(parts.join(args.text(0)?))
            }
            other => text(other.print()),
        },
        "split" | "splitList" => {
            let separator = args.text(0)?;
            let parts: Vec<Value> = if separator.is_empty() {
                args.text(1)?
                    .chars()
                    .map(|c| Value::Text(c.to_string()))
                    .collect()
            } else {
                args.text(1)?.split(separator).map(Value::text).collect()
            };
            if name == "splitList" {
                return Ok(Value::List(parts));
            }
            let numbered = parts.into_iter().enumerate();
            Ok(Value::Map(
                numbered.map(|(i, v)| (format!("_{i}"), v)).collect(),
            ))
        }
        "first" | "last" => match args.value(0) {
            Value::List(list) => {
                let item = if name == "first" {
                    list.first()
                } else {
                    list.last()
                };
                Ok(item.cloned().unwrap_or(Value::Nil))
            }
            other => Err(format!("cannot find {name} on {}", other.print())),
        },
        _ => Err(format!("function {name:?} not defined")),
    }
}

/// Values one after the other, blanks between those that are no texts.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (index, value) in values.iter().enumerate() {
        let is_text = |v: &Value| matches!(v, Value::Text(_));
        if index > 0 && !is_text(value) && !is_text(&values[index - 1]) {
            out.push(' ');
        }
        out.push_str(&value.print());
    }
    out
}

fn compare(name: &str, args: &Arguments<'_>) -> Result<Value, String> {
    let order = |a: &Value, b: &Value| -> Result<Option<Ordering>, String> {
        Ok(match (a, b) {
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
            (Value::Int(_), Value::Float(_)) | (Value::Float(_), Value::Int(_)) => {
                a.to_float().partial_cmp(&b.to_float())
            }
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Time(a, _), Value::Time(b, _)) => Some(a.cmp(b)),
            (a, b) if a == b => Some(Ordering::Equal),
            (Value::Nil, _) | (_, Value::Nil) => None,
            _ => return Err("incompatible types for comparison".to_owned()),
        })
    };
    let Some((first, rest)) = args.0.split_first() else {
        return Err("missing argument for comparison".to_owned());
    };
    if rest.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    if name == "eq" {
        for other in rest {
            if order(first, other)? == Some(Ordering::Equal) {
                return Ok(Value::Bool(true));
            }
        }
        return Ok(Value::Bool(false));
    }
    let order = order(first, &rest[0])?;
    Ok(Value::Bool(match name {
        "ne" => order != Some(Ordering::Equal),
        "lt" => order == Some(Ordering::Less),
        "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        "gt" => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }))
}

fn length(value: &Value) -> Result<Value, String> {
    match value {
        Value::Text(text) => Ok(Value::Int(text.len() as i64)),
        Value::List(list) => Ok(Value::Int(list.len() as i64)),
        Value::Map(map) => Ok(Value::Int(map.len() as i64)),
        other => Err(format!("len of type {}", other.print())),
    }
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let (first, keys) = arguments.split_first().ok_or("wrong number of args")?;
    let mut value = first.clone();
    for key in keys {
        value = match (value, key) {
            (Value::List(list), key) => {
                let at = usize::try_from(key.to_int()).ok();
                at.and_then(|at| list.get(at).cloned())
                    .ok_or("index out of range")?
            }
            (Value::Map(map), Value::Text(key)) => map.get(key).cloned().unwrap_or(Value::text("")),
            (Value::Text(text), key) => {
                let at = usize::try_from(key.to_int()).ok();
                let byte = at
                    .and_then(|at| text.as_bytes().get(at))
                    .ok_or("index out of range")?;
                Value::Int(i64::from(*byte))
            }
            (other, _) => return Err(format!("can't index item of type {}", other.print())),
        };
    }
    Ok(value)
}

fn slice(args: &Arguments<'_>) -> Result<Value, String> {
    let bound = |index: usize, default: usize| match args.0.get(index) {
        Some(value) => usize::try_from(value.to_int()).map_err(|_| "index out of range".to_owned()),
        None => Ok(default),
    };
    let range = "index out of range".to_owned();
    match args.value(0) {
        Value::Text(text) => {
            let (start, end) = (bound(1, 0)?, bound(2, text.len())?);
            let bytes = text.as_bytes().get(start..end).ok_or(range)?;
            bytes_text(bytes)
        }
        Value::List(list) => {
            let (start, end) = (bound(1, 0)?, bound(2, list.len())?);
            Ok(Value::List(list.get(start..end).ok_or(range)?.to_vec()))
        }
        other => Err(format!("can't slice item of type {}", other.print())),
    }
}

fn bytes_text(bytes: &[u8]) -> Result<Value, String> {
    if bytes.len() > OUTPUT_BYTES_MAX {
        return Err(format!("more than {OUTPUT_BYTES_MAX} bytes"));
    }
    Ok(Value::Text(String::from_utf8_lossy(bytes).into_owned()))
}

/// Go's `${name}` and `$1` mean the same here but for what a name may be; `$1x` is the group `1x`.
fn go_replacement(text: &str) -> String {
    text.to_owned()
}

fn trim(text: &str, cut: &str, left: bool, right: bool) -> String {
    let mut text = text;
    if left {
        text = text.trim_start_matches(|c| cut.contains(c));
    }
    if right {
        text = text.trim_end_matches(|c| cut.contains(c));
    }
    text.to_owned()
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let upper = start
                .then(|| c.to_uppercase().next())
                .flatten()
                .unwrap_or(c);
            start = !(c.is_alphanumeric() || c == '_' || c == '\'');
            upper
        })
        .collect()
}

/// The words of a name in whatever case it is written.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut lower_before = false;
    for part in text.split(|c: char| !c.is_alphanumeric()) {
        let mut fresh = true;
        for c in part.chars() {
            if fresh || (c.is_uppercase() && lower_before) {
                words.push(String::new());
            }
            fresh = false;
            lower_before = c.is_lowercase();
            if let Some(word) = words.last_mut() {
                word.push(c);
            }
        }
        lower_before = false;
    }
    words
}

fn truncate(count: i64, text: &str) -> Result<Value, String> {
    let length = text.chars().count();
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(Value::Text(if wanted >= length {
        text.to_owned()
    } else if count < 0 {
        chars(text, length - wanted, length)
    } else {
        chars(text, 0, wanted)
    }))
}

fn substring(start: i64, end: i64, text: &str) -> Result<Value, String> {
    let length = text.chars().count();
    let clamp = |at: i64| usize::try_from(at).unwrap_or(0).min(length);
    Ok(Value::Text(if start < 0 {
        chars(text, 0, clamp(end))
    } else if end < 0 || usize::try_from(end).unwrap_or(usize::MAX) > length {
        chars(text, clamp(start), length)
    } else {
        chars(text, clamp(start), clamp(end))
    }))
}

/// The text in exactly so many characters: cut, or blanks added.
fn align(left: bool, count: i64, text: &str) -> Result<Value, String> {
    let Ok(count) = usize::try_from(count) else {
        return Ok(Value::text(text));
    };
    if count > OUTPUT_BYTES_MAX {
        return Err(format!("more than {OUTPUT_BYTES_MAX} bytes"));
    }
    let length = text.chars().count();
    let blanks = " ".repeat(count.saturating_sub(length));
    Ok(Value::Text(match (left, length >= count) {
        (true, true) => chars(text, 0, count),
        (true, false) => format!("{text}{blanks}"),
        (false, true) => chars(text, length - count, length),
        (false, false) => format!("{blanks}{text}"),
    }))
}

/// `round value digits`: halves go away from zero unless a third argument says where they go.
fn round(args: &Arguments<'_>) -> Value {
    let digits = args.0.get(1).map_or(0, Value::to_int).clamp(-300, 300) as i32;
    let up_from = args.0.get(2).map_or(0.5, Value::to_float);
    let scale = 10f64.powi(digits);
    let scaled = args.value(0).to_float() * scale;
    let below = scaled.trunc();
    let rounded = if (scaled - below).abs() >= up_from {
        below + scaled.signum()
    } else {
        below
    };
    Value::Float(rounded / scale)
}

fn time(args: &Arguments<'_>, index: usize) -> Result<(i64, i32), String> {
    match args.value(index) {
        Value::Time(ns, offset) => Ok((*ns, *offset)),
        Value::Int(seconds) => Ok((seconds.saturating_mul(SECOND_NS), 0)),
        other => Err(format!(
            "wrong type for value; expected time.Time; got {}",
            other.print()
        )),
    }
}

/// A time that cannot be read is the year 1, as in Go.
fn read_time(layout: &str, text: &str, offset: i32) -> Value {
    let (ns, offset) = gotime::parse(layout, text, offset).unwrap_or((i64::MIN, 0));
    Value::Time(ns, offset)
}

/// The time of a number of days, seconds, milli-, micro- or nanoseconds, told by its digits.
fn unix_to_time(text: &str) -> Result<Value, String> {
    let number: i64 = text
        .parse()
        .map_err(|_| format!("unable to parse time '{text}': invalid syntax"))?;
    let unit = match text.len() {
        5 => 86_400 * SECOND_NS,
        10 => SECOND_NS,
        13 => 1_000_000,
        16 => 1000,
        19 => 1,
        _ => {
            return Err(format!(
                "unable to parse time '{text}': unix date must be 5, 10, 13, 16 or 19 digits"
            ));
        }
    };
    let ns = number
        .checked_mul(unit)
        .ok_or_else(|| format!("unable to parse time '{text}'"))?;
    Ok(Value::Time(ns, 0))
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(b));
            }
            b' ' => out.push('+'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

fn url_decode(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        at += 1;
        match b {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = text.get(at..at + 2);
                let code = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
                let shown = text.get(at - 1..at + 2).unwrap_or("%");
                out.push(code.ok_or_else(|| format!("invalid URL escape {shown:?}"))?);
                at += 2;
            }
            b => out.push(b),
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(char::from(BASE64[(word >> (18 - 6 * i) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

fn base64_decode(text: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0u32, 0u32);
    for (at, b) in text.trim_end_matches('=').bytes().enumerate() {
        let digit = BASE64.iter().position(|d| *d == b);
        let digit = digit.ok_or_else(|| format!("illegal base64 data at input byte {at}"))?;
        word = (word << 6) | digit as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(list) => list.iter().map(to_json).collect(),
        Value::Map(map) => map.iter().map(|(k, v)| (k.clone(), to_json(v))).collect(),
        Value::Time(..) => value.print().into(),
    }
}
