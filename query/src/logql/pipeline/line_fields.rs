//! Fields of a line for those who look what there is, rather than for labels.

use super::json::{self, Fields, Key, Value};
use super::labels::sanitized_name;
use super::logfmt::{self, Pairs};

/// Calls `found` with the keys that lead to each value of the object that a line is, and with the value
/// as a label has it. Arrays and nulls are no values. Whether the line is such an object.
pub fn json_fields(line: &[u8], found: impl FnMut(&[String], &str)) -> bool {
    let mut fields = JsonFields {
        path: Vec::new(),
        buffer: Vec::new(),
        value: Vec::new(),
        found,
    };
    json::scan(line, &mut fields).is_ok()
}

struct JsonFields<F> {
    path: Vec<String>,
    buffer: Vec<u8>,
    value: Vec<u8>,
    found: F,
}

impl<F> JsonFields<F> {
    fn push(&mut self, key: Key<'_>) {
        self.buffer.clear();
        let text = String::from_utf8_lossy(key.text(&mut self.buffer)).into_owned();
        self.path.push(text);
    }
}

impl<'l, F: FnMut(&[String], &str)> Fields<'l> for JsonFields<F> {
    fn enter(&mut self, key: Key<'l>) {
        self.push(key);
    }

    fn leave(&mut self) {
        self.path.pop();
    }

    fn value(&mut self, key: Key<'l>, value: Value<'l>) {
        self.value.clear();
        if matches!(value, Value::Array(_) | Value::Null)
            || !json::write_value(value, &mut self.value)
        {
            return;
        }
        self.push(key);
        (self.found)(&self.path, &String::from_utf8_lossy(&self.value));
        self.path.pop();
    }
}

/// Calls `found` with the name, as a label has it, and the value of each pair of a line that has one.
pub fn logfmt_fields(line: &[u8], mut found: impl FnMut(&str, &str)) {
    let mut value = Vec::new();
    for pair in Pairs::new(line).flatten() {
        value.clear();
        logfmt::write_value(&pair, &mut value);
        if !value.is_empty() {
            let name = sanitized_name(&String::from_utf8_lossy(pair.key));
            found(&name, &String::from_utf8_lossy(&value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_lines_are_found_with_their_paths() {
        let mut found = Vec::new();
        let line = br#"{"a":{"b.c":"x\ny","d":[1,2]},"e":1.5,"f":null,"g":true}"#;
        assert!(json_fields(line, |path, value| found
            .push(format!("{}={value}", path.join("/")))));
        assert_eq!(found, ["a/b.c=x\ny", "e=1.5", "g=true"]);
        assert!(!json_fields(b"[1]", |_, _| {}) && !json_fields(b"{\"a\":", |_, _| {}));
        let mut found = Vec::new();
        logfmt_fields(b"a.b=1 c=\"x y\" word empty= d==2 e=5", |name, value| {
            found.push(format!("{name}={value}"));
        });
        assert_eq!(found, ["a_b=1", "c=x y", "e=5"]);
    }
}
