//! Script text to commands.

use super::series::{LoadLine, SeriesLine, parse_load_line, parse_scalar, parse_series_line};
use crate::promql::number::parse_duration_ms;
use crate::promql::pattern::MAX_COMPILED_BYTES;

/// A command and the line that it starts on, from 1.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) kind: CommandKind,
}

#[derive(Debug, Clone)]
pub(super) enum CommandKind {
    Clear,
    /// What to load, or why the block cannot be read.
    Load(Result<Load, String>),
    /// What to evaluate, or why the block cannot be read.
    Eval(Result<Box<Case>, String>),
}

#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) interval_ms: i64,
    /// `load_with_nhcb`
    pub(super) nhcb: bool,
    pub(super) lines: Vec<LoadLine>,
}

/// When to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Instant {
        time_ms: i64,
    },
    Range {
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    },
}

/// What an error or annotation must look like.
#[derive(Debug, Clone)]
pub(super) enum TextRule {
    Any,
    Equals(String),
    Matches(regex::Regex),
}

impl TextRule {
    pub(super) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Equals(want) => text == want,
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

impl std::fmt::Display for TextRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Equals(text) => write!(f, "{text:?}"),
            Self::Matches(regex) => write!(f, "a match of {:?}", regex.as_str()),
        }
    }
}

/// What is demanded of one level of annotations.
#[derive(Debug, Clone, Default)]
pub(super) struct AnnotationRules {
    /// None of that level.
    pub(super) none: bool,
    /// Each must match some annotation, and each annotation some rule.
    pub(super) rules: Vec<TextRule>,
}

/// What value is expected.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    Scalar(f64),
    String(String),
    /// One point a line.
    Vector {
        lines: Vec<SeriesLine>,
        ordered: bool,
    },
    /// Points at start, start + step, …
    Matrix {
        lines: Vec<SeriesLine>,
        start_ms: i64,
        step_ms: i64,
    },
}

/// One `eval` block.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) when: When,
    pub(super) query: String,
    /// `expect fail`
    pub(super) fail: Option<TextRule>,
    pub(super) warnings: AnnotationRules,
    pub(super) infos: AnnotationRules,
    pub(super) expected: Expected,
    /// `expect string` and `expect range vector` ask for fewer runs.
    pub(super) instant_only: bool,
}

/// A script that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// Line from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads a whole script.
pub(super) fn parse_script(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim_matches([' ', '\t', '\r']))
        .collect();
    let blank = |line: &str| line.is_empty() || line.starts_with('#');
    let mut commands = Vec::new();
    let mut at = 0;
    while let Some(&header) = lines.get(at) {
        let line = at + 1;
        at += 1;
        if blank(header) {
            continue;
        }
        let word = header
            .split([' ', '\t'])
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let mut body = Vec::new();
        let is_eval = word == "eval" || word.starts_with("eval_");
        if is_eval || word == "load" || word == "load_with_nhcb" {
            while let Some(next) = lines.get(at).filter(|line| !blank(line)) {
                body.push(*next);
                at += 1;
                // A scalar result ends the block without a blank line.
                if is_eval && parse_scalar(next).is_some() {
                    break;
                }
            }
        }
        let kind = match word.as_str() {
            "clear" => CommandKind::Clear,
            "load" | "load_with_nhcb" => {
                CommandKind::Load(parse_load(header, &body, word == "load_with_nhcb"))
            }
            _ if is_eval => CommandKind::Eval(parse_case(&word, header, &body).map(Box::new)),
            _ => {
                return Err(ScriptError {
                    line,
                    message: format!("invalid command {header:?}"),
                });
            }
        };
        commands.push(Command { line, kind });
    }
    Ok(commands)
}

fn parse_load(header: &str, body: &[&str], nhcb: bool) -> Result<Load, String> {
    let mut rest = header;
    take_word(&mut rest);
    let interval_ms = parse_duration_ms(take_word(&mut rest))?;
    let lines = body
        .iter()
        .map(|line| parse_load_line(line).map_err(|e| format!("{e} in {line}")));
    Ok(Load {
        interval_ms,
        nhcb,
        lines: lines.collect::<Result<_, _>>()?,
    })
}

/// Takes the first word off `rest`.
fn take_word<'a>(rest: &mut &'a str) -> &'a str {
    let trimmed = rest.trim_start_matches([' ', '\t']);
    let end = trimmed.find([' ', '\t']).unwrap_or(trimmed.len());
    let (word, after) = trimmed.split_at(end);
    *rest = after.trim_start_matches([' ', '\t']);
    word
}

fn expect_word(rest: &mut &str, want: &str) -> Result<(), String> {
    let got = take_word(rest);
    if got == want {
        Ok(())
    } else {
        Err(format!("expected {want:?}, found {got:?}"))
    }
}

fn parse_range(rest: &mut &str) -> Result<(i64, i64, i64), String> {
    expect_word(rest, "from")?;
    let start = parse_duration_ms(take_word(rest))?;
    expect_word(rest, "to")?;
    let end = parse_duration_ms(take_word(rest))?;
    expect_word(rest, "step")?;
    let step = parse_duration_ms(take_word(rest))?;
    Ok((start, end, step))
}

fn parse_case(word: &str, header: &str, body: &[&str]) -> Result<Case, String> {
    let mut rest = header;
    take_word(&mut rest);
    let when = match take_word(&mut rest) {
        "instant" => {
            expect_word(&mut rest, "at")?;
            When::Instant {
                time_ms: parse_duration_ms(take_word(&mut rest))?,
            }
        }
        "range" => {
            let (start_ms, end_ms, step_ms) = parse_range(&mut rest)?;
            When::Range {
                start_ms,
                end_ms,
                step_ms,
            }
        }
        other => return Err(format!("eval {other:?} is neither instant nor range")),
    };
    let mut block = Block {
        ordered: word == "eval_ordered",
        ..Block::default()
    };
    match word {
        "eval_fail" => block.fail = Some(TextRule::Any),
        "eval_warn" => block.warnings.rules.push(TextRule::Any),
        "eval_info" => block.infos.rules.push(TextRule::Any),
        _ => {}
    }
    for line in body {
        block.line(line).map_err(|e| format!("{e} in {line}"))?;
    }
    let (lines, ordered) = (block.lines, block.ordered);
    let instant_only = block.string.is_some() || block.range.is_some();
    let expected = match (block.scalar, block.string, block.range, when) {
        (Some(value), ..) => Expected::Scalar(value),
        (None, Some(value), ..) => Expected::String(value),
        (None, None, Some((start_ms, _, step_ms)), _) => Expected::Matrix {
            lines,
            start_ms,
            step_ms,
        },
        (
            None,
            None,
            None,
            When::Range {
                start_ms, step_ms, ..
            },
        ) => Expected::Matrix {
            lines,
            start_ms,
            step_ms,
        },
        (None, None, None, When::Instant { .. }) => Expected::Vector { lines, ordered },
    };
    Ok(Case {
        when,
        query: rest.to_owned(),
        fail: block.fail,
        warnings: block.warnings,
        infos: block.infos,
        expected,
        instant_only,
    })
}

/// The lines of an `eval` block, gathered.
#[derive(Default)]
struct Block {
    fail: Option<TextRule>,
    warnings: AnnotationRules,
    infos: AnnotationRules,
    ordered: bool,
    scalar: Option<f64>,
    string: Option<String>,
    range: Option<(i64, i64, i64)>,
    lines: Vec<SeriesLine>,
}

impl Block {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let mut rest = line;
        match take_word(&mut rest) {
            "expect" => return self.expectation(rest),
            "expected_fail_message" => self.fail = Some(TextRule::Equals(rest.to_owned())),
            "expected_fail_regexp" => self.fail = Some(TextRule::Matches(regex(rest)?)),
            _ => match parse_scalar(line) {
                Some(value) => self.scalar = Some(value),
                None => self.lines.push(parse_series_line(line)?),
            },
        }
        Ok(())
    }

    fn expectation(&mut self, mut rest: &str) -> Result<(), String> {
        match take_word(&mut rest) {
            "ordered" => self.ordered = true,
            "fail" => self.fail = Some(text_rule(rest)?),
            "warn" => self.warnings.rules.push(text_rule(rest)?),
            "info" => self.infos.rules.push(text_rule(rest)?),
            "no_warn" => self.warnings.none = true,
            "no_info" => self.infos.none = true,
            "string" => self.string = Some(go_string(rest)?),
            "range" => {
                expect_word(&mut rest, "vector")?;
                self.range = Some(parse_range(&mut rest)?);
            }
            other => return Err(format!("unknown expectation {other:?}")),
        }
        Ok(())
    }
}

fn regex(text: &str) -> Result<regex::Regex, String> {
    let mut builder = regex::RegexBuilder::new(text);
    builder
        .size_limit(MAX_COMPILED_BYTES)
        .build()
        .map_err(|e| e.to_string())
}

fn text_rule(text: &str) -> Result<TextRule, String> {
    if text.is_empty() {
        Ok(TextRule::Any)
    } else if let Some(message) = text.strip_prefix("msg:") {
        Ok(TextRule::Equals(message.trim().to_owned()))
    } else if let Some(pattern) = text.strip_prefix("regex:") {
        Ok(TextRule::Matches(regex(pattern.trim())?))
    } else {
        Err(format!("unexpected {text:?}"))
    }
}

/// A Go string literal; the language's own strings are a superset.
fn go_string(text: &str) -> Result<String, String> {
    let features = crate::promql::features::Features::default();
    match crate::promql::parser::parse(text, &features) {
        Ok(crate::promql::ast::Expr::String(literal)) => Ok(literal.value),
        Ok(_) => Err(format!("{text:?} is no string")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read_into_commands() {
        let script = "\
# comment
load 5m
  a{b=\"c\"} 1 2
  # ends the block
clear

eval instant at 10m a + 1
  expect warn msg:PromQL warning: x
  expect no_info
  {b=\"c\"} 3
eval instant at 1m 1 + 1
  2
eval range from 0 to 10m step 5m a
  a{b=\"c\"} 1 2

eval_fail instant at 0 a +
  expected_fail_regexp unexpected .* input
";
        let commands = parse_script(script).unwrap();
        let lines: Vec<usize> = commands.iter().map(|c| c.line).collect();
        assert_eq!(lines, [2, 5, 7, 13, 16]);
        let CommandKind::Eval(Err(error)) = &commands[2].kind else {
            panic!("eval")
        };
        assert!(
            error.contains("eval instant"),
            "a command within a block is refused: {error}"
        );
    }

    #[test]
    fn a_number_ends_a_block() {
        let commands =
            parse_script("eval instant at 0 1\n 0x1\neval instant at 1m \"a\"\n expect string `a`")
                .unwrap();
        assert_eq!(commands.len(), 2);
        let CommandKind::Eval(Ok(case)) = &commands[1].kind else {
            panic!("case")
        };
        assert!(case.instant_only && matches!(&case.expected, Expected::String(s) if s == "a"));
        assert_eq!(case.when, When::Instant { time_ms: 60_000 });
        assert_eq!(parse_script("foo bar").unwrap_err().line, 1);
    }
}
