//! `| json name="a.b[0]["c d"]"`: single values of a JSON line by their paths.

use super::json::{Scanner, Value, unescape};

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(Vec<u8>),
    Index(usize),
}

/// Where a value lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JsonPath(Vec<Step>);

/// Steps that a path may have.
const STEPS_MAX: usize = 64;

impl JsonPath {
    /// `a.b[0]["c"]`
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let fail = |what: &str| Err(format!("cannot parse expression [{text}]: {what}"));
        let mut steps = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            if steps.len() >= STEPS_MAX {
                return fail("too many steps");
            }
            if let Some(quoted) = rest.strip_prefix("[\"") {
                let Some((name, after)) = quoted.split_once("\"]") else {
                    return fail("missing closing '\"]'");
                };
                steps.push(Step::Field(name.as_bytes().to_vec()));
                rest = after;
            } else if let Some(number) = rest.strip_prefix('[') {
                let Some((number, after)) = number.split_once(']') else {
                    return fail("missing closing ']'");
                };
                let Ok(index) = number.trim().parse() else {
                    return fail("unexpected array index");
                };
                steps.push(Step::Index(index));
                rest = after;
            } else {
                let name = if steps.is_empty() {
                    rest
                } else {
                    match rest.strip_prefix('.') {
                        Some(after) => after,
                        None => return fail("syntax error: unexpected FIELD"),
                    }
                };
                let end = name.find(['.', '[']).unwrap_or(name.len());
                let field = &name[..end];
                let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '@');
                if field.is_empty() || !field.chars().all(is_name) {
                    return fail("syntax error: unexpected character");
                }
                steps.push(Step::Field(field.as_bytes().to_vec()));
                rest = &name[end..];
            }
        }
        if steps.is_empty() {
            return fail("syntax error: unexpected $end");
        }
        Ok(Self(steps))
    }

    /// Appends the value that lies there: texts without their quotes, objects and arrays as written,
    /// nothing for null. Whether there is one.
    ///
    /// # Errors
    /// A malformed line.
    pub(super) fn find(&self, line: &[u8], out: &mut Vec<u8>) -> Result<bool, &'static str> {
        let mut scanner = Scanner { line, at: 0 };
        for step in &self.0 {
            let found = match step {
                Step::Field(name) => field(&mut scanner, name)?,
                Step::Index(index) => element(&mut scanner, *index)?,
            };
            if !found {
                return Ok(false);
            }
        }
        let Some(first) = scanner.next_token() else {
            return Err("Malformed JSON error");
        };
        let start = scanner.at;
        if first == b'{' {
            scanner
                .skip_block(b'{', b'}')
                .ok_or("Malformed JSON error")?;
            out.extend_from_slice(&line[start..scanner.at]);
            return Ok(true);
        }
        match scanner.value(first)? {
            Value::String(raw, false) | Value::Plain(raw) | Value::Array(raw) => {
                out.extend_from_slice(raw);
            }
            Value::String(raw, true) => {
                let mark = out.len();
                if !unescape(raw, out) {
                    out.truncate(mark);
                }
            }
            Value::Null => {}
        }
        Ok(true)
    }
}

/// Skips one value of any kind.
fn skip(scanner: &mut Scanner<'_>) -> Result<(), &'static str> {
    match scanner.next_token() {
        Some(b'{') => scanner.skip_block(b'{', b'}').ok_or("Malformed JSON error"),
        Some(first) => scanner.value(first).map(|_| ()),
        None => Err("Malformed JSON error"),
    }
}

/// Moves to the value of a field of the object that comes next.
fn field(scanner: &mut Scanner<'_>, name: &[u8]) -> Result<bool, &'static str> {
    if scanner.next_token() != Some(b'{') {
        return Ok(false);
    }
    scanner.at += 1;
    let mut buffer = Vec::new();
    loop {
        match scanner.next_token() {
            Some(b'"') => {}
            Some(b'}') => return Ok(false),
            _ => return Err("Malformed JSON error"),
        }
        let (raw, escaped) = scanner.string().ok_or("Malformed JSON error")?;
        if scanner.next_token() != Some(b':') {
            return Err("Malformed JSON error");
        }
        scanner.at += 1;
        buffer.clear();
        let is_it = if escaped {
            unescape(raw, &mut buffer) && buffer == name
        } else {
            raw == name
        };
        if is_it {
            return Ok(true);
        }
        skip(scanner)?;
        match scanner.next_token() {
            Some(b',') => scanner.at += 1,
            Some(b'}') => return Ok(false),
            _ => return Err("Malformed JSON error"),
        }
    }
}

/// Moves to an element of the array that comes next.
fn element(scanner: &mut Scanner<'_>, index: usize) -> Result<bool, &'static str> {
    if scanner.next_token() != Some(b'[') {
        return Ok(false);
    }
    scanner.at += 1;
    for at in 0..=index {
        match scanner.next_token() {
            Some(b']') => return Ok(false),
            None => return Err("Malformed JSON error"),
            Some(_) if at == index => return Ok(true),
            Some(_) => skip(scanner)?,
        }
        match scanner.next_token() {
            Some(b',') => scanner.at += 1,
            Some(b']') => return Ok(false),
            _ => return Err("Malformed JSON error"),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_path() {
        let line = br#"{"a":{"b c":[1,{"x":"y\n"}],"n":null},"o":{"p":2}, "t":true}"#;
        let get = |path: &str| {
            let mut out = Vec::new();
            let found = JsonPath::new(path).unwrap().find(line, &mut out).unwrap();
            found.then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(get(r#"a["b c"][1].x"#).unwrap(), "y\n");
        assert_eq!(get(r#"a["b c"][0]"#).unwrap(), "1");
        assert_eq!(get("o").unwrap(), r#"{"p":2}"#);
        assert_eq!(get("t").unwrap(), "true");
        assert_eq!(get("a.n").unwrap(), "");
        assert_eq!(get("a.z"), None);
        assert_eq!(get("t.z"), None);
        assert_eq!(get(r#"a["b c"][7]"#), None);
        for bad in ["", "a..b", "a[x]", "[\"a", "a b"] {
            assert!(JsonPath::new(bad).is_err(), "{bad}");
        }
    }
}
