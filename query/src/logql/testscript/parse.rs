//! The text of a script to its commands.

use super::super::units::parse_query_duration;

/// A command of a script.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// Forget all lines.
    Clear,
    /// Add lines.
    Load(Vec<Load>),
    /// Run a query.
    Eval(Box<Eval>),
}

/// Lines of one stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Load {
    pub(super) labels: Vec<(String, String)>,
    /// `{{.i}}` in it stands for the number of the line.
    pub(super) line: String,
    /// ns since the script's time 0.
    pub(super) at_ns: i64,
    pub(super) every_ns: i64,
    pub(super) count: usize,
    pub(super) metadata: Vec<(String, String)>,
}

/// A query and what it must give.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Eval {
    pub(super) query: String,
    /// ns since the script's time 0.
    pub(super) start_ns: i64,
    pub(super) end_ns: i64,
    /// `None`: an instant query at the end.
    pub(super) step_ns: Option<i64>,
    pub(super) expected: Expected,
}

/// What a query must give.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Expected {
    /// Per series its values, `None` where there is no point.
    pub(super) series: Vec<(Vec<(String, String)>, Vec<Option<f64>>)>,
    pub(super) scalar: Option<f64>,
    pub(super) empty: bool,
    pub(super) ordered: bool,
    /// The query fails, with a message like this.
    pub(super) fail: Option<Message>,
}

/// What a message must say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    Any,
    Contains(String),
    Matches(String),
}

/// The commands of a script with their lines, or what is wrong with them.
pub(super) fn parse(text: &str) -> Vec<(usize, Result<Command, String>)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let number = at + 1;
        at += 1;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let start = at;
        while at < lines.len() && is_body(lines[at]) {
            at += 1;
        }
        let body: Vec<&str> = lines[start..at]
            .iter()
            .map(|line| line.trim())
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        commands.push((number, command(trimmed, &body)));
    }
    commands
}

/// Whether a line belongs to the command above it.
fn is_body(line: &str) -> bool {
    line.starts_with([' ', '\t']) || line.trim().is_empty()
}

fn command(head: &str, body: &[&str]) -> Result<Command, String> {
    let (word, rest) = head.split_once(char::is_whitespace).unwrap_or((head, ""));
    match word {
        "clear" => Ok(Command::Clear),
        "load" => {
            let loads: Result<Vec<Load>, String> = body.iter().map(|line| load(line)).collect();
            Ok(Command::Load(loads?))
        }
        "eval" => eval(rest.trim(), body).map(|eval| Command::Eval(Box::new(eval))),
        other => Err(format!("unknown command {other:?}")),
    }
}

/// A reader of one line.
struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn accept(&mut self, word: &str) -> bool {
        self.rest = self.rest.trim_start();
        let found = self.rest.strip_prefix(word);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        if self.accept(word) {
            Ok(())
        } else {
            Err(format!("expected {word:?} before {:?}", self.rest))
        }
    }

    /// Up to a blank or bracket.
    fn word(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        let ends = |c: char| c.is_whitespace() || c == ']';
        let (word, rest) = self
            .rest
            .split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn duration(&mut self) -> Result<i64, String> {
        let word = self.word();
        match word.strip_prefix('-') {
            Some(positive) => parse_query_duration(positive).map(|ns| -ns),
            None => parse_query_duration(word),
        }
    }

    /// A text in quotes or backticks.
    fn text(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        if let Some(raw) = self.rest.strip_prefix('`') {
            let (text, rest) = raw.split_once('`').ok_or("no closing backtick")?;
            self.rest = rest;
            return Ok(text.to_owned());
        }
        let mut chars = self.rest.char_indices();
        if chars.next().map(|(_, c)| c) != Some('"') {
            return Err(format!("expected a text before {:?}", self.rest));
        }
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.push(match chars.next().map(|(_, c)| c) {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(other) => other,
                    None => break,
                }),
                c => text.push(c),
            }
        }
        Err("no closing quote".to_owned())
    }

    /// `a="b"`
    fn pair(&mut self) -> Result<(String, String), String> {
        self.rest = self.rest.trim_start();
        let (name, rest) = self.rest.split_once('=').ok_or("expected name=\"value\"")?;
        self.rest = rest;
        Ok((name.trim().to_owned(), self.text()?))
    }

    /// `{a="b", c="d"}`
    fn labels(&mut self) -> Result<Vec<(String, String)>, String> {
        self.expect("{")?;
        let mut labels = Vec::new();
        while !self.accept("}") {
            labels.push(self.pair()?);
            self.accept(",");
        }
        labels.sort();
        Ok(labels)
    }

    /// Nothing is left but a comment.
    fn end(&mut self) -> Result<(), String> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() || self.rest.starts_with('#') {
            return Ok(());
        }
        Err(format!("unexpected {:?}", self.rest))
    }
}

fn load(line: &str) -> Result<Load, String> {
    let mut reader = Reader { rest: line };
    let labels = reader.labels()?;
    let text = reader.text()?;
    reader.expect("@")?;
    let mut load = Load {
        labels,
        line: text,
        at_ns: reader.duration()?,
        every_ns: 0,
        count: 1,
        metadata: Vec::new(),
    };
    while reader.accept("[") {
        if reader.accept("repeat every") {
            load.every_ns = reader.duration()?;
            reader.expect("for")?;
            load.count = reader.word().parse().map_err(|_| "expected a count")?;
            reader.expect("]")?;
        } else {
            reader.expect("metadata")?;
            while !reader.accept("]") {
                load.metadata.push(reader.pair()?);
                reader.accept(",");
            }
        }
    }
    reader.end()?;
    Ok(load)
}

fn eval(head: &str, body: &[&str]) -> Result<Eval, String> {
    let mut reader = Reader { rest: head };
    let mut eval = Eval {
        query: String::new(),
        start_ns: 0,
        end_ns: 0,
        step_ns: None,
        expected: Expected::default(),
    };
    if reader.accept("instant at") {
        eval.end_ns = reader.duration()?;
        eval.start_ns = eval.end_ns;
    } else {
        reader.expect("range from")?;
        eval.start_ns = reader.duration()?;
        reader.expect("to")?;
        eval.end_ns = reader.duration()?;
        reader.expect("step")?;
        eval.step_ns = Some(reader.duration()?);
    }
    eval.query = reader.rest.trim().to_owned();
    for line in body {
        expectation(line, &mut eval.expected)?;
    }
    Ok(eval)
}

fn expectation(line: &str, expected: &mut Expected) -> Result<(), String> {
    let mut reader = Reader { rest: line };
    if reader.accept("expect") {
        if reader.accept("empty") {
            expected.empty = true;
        } else if reader.accept("ordered") {
            expected.ordered = true;
        } else {
            reader.expect("fail")?;
            let rest = |reader: &Reader<'_>| reader.rest.trim().to_owned();
            expected.fail = Some(if reader.accept("msg:") {
                Message::Contains(rest(&reader))
            } else if reader.accept("regex:") {
                Message::Matches(rest(&reader))
            } else {
                Message::Any
            });
            return Ok(());
        }
        return reader.end();
    }
    if !line.starts_with('{') {
        let mut values = values(line)?;
        let [Some(value)] = values[..] else {
            return Err(format!("expected a series or a number: {line:?}"));
        };
        values.clear();
        expected.scalar = Some(value);
        return Ok(());
    }
    let labels = reader.labels()?;
    expected.series.push((labels, values(reader.rest)?));
    Ok(())
}

/// `1 _ 2+3x4`
fn values(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        if word.starts_with('#') {
            break;
        }
        if word == "_" {
            values.push(None);
            continue;
        }
        if let Some(count) = word.strip_prefix("_x") {
            let count: usize = count.parse().map_err(|_| format!("bad value {word:?}"))?;
            values.extend(std::iter::repeat_n(None, count));
            continue;
        }
        let number = |text: &str| -> Result<f64, String> {
            let text = text.strip_prefix('+').unwrap_or(text);
            super::super::units::parse_go_float(text).map_err(|_| format!("bad value {word:?}"))
        };
        let Some((run, count)) = word.split_once('x') else {
            values.push(Some(number(word)?));
            continue;
        };
        let count: usize = count.parse().map_err(|_| format!("bad value {word:?}"))?;
        // The sign between the two numbers, not that of the first.
        let sign = run
            .get(1..)
            .and_then(|rest| rest.find(['+', '-']))
            .map(|at| at + 1);
        let (first, delta) = match sign {
            Some(at) => (number(&run[..at])?, number(&run[at..])?),
            None => (number(run)?, 0.0),
        };
        values.extend((0..=count).map(|i| Some(first + delta * i as f64)));
    }
    Ok(values)
}
