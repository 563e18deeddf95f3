//! `printf`: Go's verbs on the values that templates have.

use std::fmt::Write;

use super::super::units::GoQuoted;
use super::value::{Value, go_float};

/// A width or precision beyond this is cut.
const WIDTH_MAX: usize = 4096;

#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// The text of a format and its arguments.
pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        loop {
            match chars.peek() {
                Some('-') => flags.minus = true,
                Some('+') => flags.plus = true,
                Some('0') => flags.zero = true,
                Some(' ') => flags.space = true,
                Some('#') => flags.sharp = true,
                _ => break,
            }
            chars.next();
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if chars.peek() == Some(&'*') {
                chars.next();
                let value = arguments.get(next).map(Value::to_int);
                next += 1;
                return value.and_then(|v| usize::try_from(v).ok());
            }
            let mut value: Option<usize> = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                value = Some((value.unwrap_or(0) * 10 + digit as usize).min(WIDTH_MAX));
                chars.next();
            }
            value
        };
        flags.width = number(&mut chars);
        if chars.peek() == Some(&'.') {
            chars.next();
            flags.precision = Some(number(&mut chars).unwrap_or(0));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments.get(next) else {
            let _ = write!(out, "%!{verb}(MISSING)");
            continue;
        };
        next += 1;
        let text = verb_text(verb, value, &flags);
        pad(
            &mut out,
            &text,
            &flags,
            matches!(value, Value::Int(_) | Value::Float(_)),
        );
    }
    if next < arguments.len() {
        let extra: Vec<String> = arguments[next..]
            .iter()
            .map(|v| format!("{}={}", type_name(v), v.print()))
            .collect();
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        Value::Time(..) => "time.Time",
    }
}

fn signed(text: String, flags: &Flags) -> String {
    if text.starts_with('-') {
        text
    } else if flags.plus {
        format!("+{text}")
    } else if flags.space {
        format!(" {text}")
    } else {
        text
    }
}

fn verb_text(verb: char, value: &Value, flags: &Flags) -> String {
    let wrong = || format!("%!{verb}({}={})", type_name(value), value.print());
    match (verb, value) {
        ('v', Value::Int(_) | Value::Float(_)) => signed(value.print(), flags),
        ('v' | 's', Value::Text(text)) => cut(text, flags),
        ('v', value) => value.print(),
        ('s', Value::List(_) | Value::Map(_) | Value::Time(..)) => value.print(),
        ('q', Value::Text(text)) => GoQuoted(&cut(text, flags)).to_string(),
        ('q', Value::Int(code)) => {
            let c = u32::try_from(*code).ok().and_then(char::from_u32);
            format!("'{}'", c.unwrap_or(char::REPLACEMENT_CHARACTER))
        }
        ('d', Value::Int(value)) => signed(value.to_string(), flags),
        ('b', Value::Int(value)) => signed(format!("{value:b}"), flags),
        ('o', Value::Int(value)) => signed(format!("{value:o}"), flags),
        ('x', Value::Int(value)) if flags.sharp => format!("{value:#x}"),
        ('x', Value::Int(value)) => signed(format!("{value:x}"), flags),
        ('X', Value::Int(value)) => signed(format!("{value:X}"), flags),
        ('c', Value::Int(code)) => {
            let c = u32::try_from(*code).ok().and_then(char::from_u32);
            c.unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
        }
        ('x', Value::Text(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::Text(text)) => text.bytes().map(|b| format!("{b:02X}")).collect(),
        ('f' | 'F', Value::Float(value)) => {
            signed(format!("{value:.*}", flags.precision.unwrap_or(6)), flags)
        }
        ('e' | 'E', Value::Float(value)) => {
            let text = format!("{value:.*e}", flags.precision.unwrap_or(6));
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let sign = if exponent < 0 { '-' } else { '+' };
            signed(
                format!("{mantissa}{verb}{sign}{:02}", exponent.abs()),
                flags,
            )
        }
        ('g' | 'G', Value::Float(value)) => signed(
            match flags.precision {
                Some(digits) => significant(*value, digits.max(1)),
                None => go_float(*value),
            },
            flags,
        ),
        ('t', Value::Bool(value)) => value.to_string(),
        ('T', value) => type_name(value).to_owned(),
        _ => wrong(),
    }
}

/// A float of so many digits.
fn significant(value: f64, digits: usize) -> String {
    let text = format!("{value:.*e}", digits - 1);
    go_float(text.parse().unwrap_or(value))
}

fn cut(text: &str, flags: &Flags) -> String {
    match flags.precision {
        Some(length) => text.chars().take(length).collect(),
        None => text.to_owned(),
    }
}

fn pad(out: &mut String, text: &str, flags: &Flags, is_number: bool) {
    let length = text.chars().count();
    let missing = flags
        .width
        .unwrap_or(0)
        .min(WIDTH_MAX)
        .saturating_sub(length);
    if flags.minus {
        out.push_str(text);
        out.push_str(&" ".repeat(missing));
    } else if flags.zero && is_number {
        let (sign, digits) = match text.strip_prefix(['-', '+']) {
            Some(digits) => (&text[..1], digits),
            None => ("", text),
        };
        out.push_str(sign);
        out.push_str(&"0".repeat(missing));
        out.push_str(digits);
    } else {
        out.push_str(&" ".repeat(missing));
        out.push_str(text);
    }
}
