//! The stages of a pipeline, compiled.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::super::ast::{self, Extraction, NamedMatcher, Stage, StageKind};
use super::super::pattern::LinePattern;
use super::super::regexes;
use super::super::template::Template;
use super::filter::{LabelFilter, LineFilter, ValueMatcher};
use super::json_path::JsonPath;
use super::labels::{NameId, Names};
use super::logfmt::LogfmtOptions;

/// Escape sequences that colour text on terminals.
pub(super) static ANSI: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = "[\u{1b}\u{9b}][\\[\\]()#;?]*(?:(?:(?:[a-zA-Z0-9]*(?:;[a-zA-Z0-9]*)*)?\u{7})|(?:(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-PRZcf-ntqry=><~]))";
    match Regex::new(pattern) {
        Ok(regex) => regex,
        Err(error) => panic!("bug: the pattern of escape sequences: {error}"),
    }
});

/// What is kept or dropped.
#[derive(Debug, Clone)]
pub(super) struct LabelChoice {
    pub(super) name: NameId,
    /// The text of the name, for those that are no labels: `__error__`.
    pub(super) text: Box<str>,
    pub(super) matcher: Option<ValueMatcher>,
}

/// An assignment of `label_format`.
#[derive(Debug, Clone)]
pub(super) enum Assignment {
    Rename { to: NameId, from: NameId },
    Template { to: NameId, template: Template },
}

/// A stage, ready to run.
#[derive(Debug, Clone)]
pub(super) enum Op {
    LineFilter(LineFilter),
    Json,
    JsonPaths(Vec<(NameId, JsonPath)>),
    Logfmt(LogfmtOptions),
    LogfmtNames(LogfmtOptions, Vec<(NameId, Box<[u8]>)>),
    Regexp(Regex, Vec<(usize, NameId)>),
    Pattern(LinePattern, Vec<NameId>),
    Unpack,
    LabelFilter(LabelFilter),
    LineFormat(Template),
    LabelFormat(Vec<Assignment>),
    Decolorize,
    Drop(Vec<LabelChoice>),
    Keep(Vec<LabelChoice>),
}

/// The compiled stages of a query, to be run by a [`Runner`](super::Runner).
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub(super) ops: Vec<Op>,
    pub(super) names: Names,
}

impl Pipeline {
    /// Compiles stages.
    ///
    /// # Errors
    /// What is wrong with one of them, with its text.
    pub fn new(stages: &[Stage]) -> Result<Self, String> {
        let mut names = Names::default();
        let mut ops = Vec::with_capacity(stages.len());
        for stage in stages {
            let op = compile(&stage.kind, &mut names)
                .map_err(|error| format!("stage '{stage}' : {error}"))?;
            ops.push(op);
        }
        names.fix();
        Ok(Self { ops, names })
    }

    /// How many of the stages, from the first on, are filters of lines that the scan may run.
    pub fn leading_line_filters(&self) -> usize {
        let is_filter = |op: &&Op| matches!(op, Op::LineFilter(_));
        self.ops.iter().take_while(is_filter).count()
    }

    /// Whether lines come out as they went in, with the labels that they had.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Interns a name of the query's own.
    pub fn intern(&mut self, name: &str) -> NameId {
        let id = self.names.intern(name);
        self.names.fix();
        id
    }
}

fn compile(stage: &StageKind, names: &mut Names) -> Result<Op, String> {
    Ok(match stage {
        StageKind::LineFilter(filter) => Op::LineFilter(LineFilter::new(filter)?),
        StageKind::Json(paths) if paths.is_empty() => Op::Json,
        StageKind::Json(paths) => {
            let path = |e: &Extraction| Ok((names.intern(&e.name), JsonPath::new(&e.path)?));
            Op::JsonPaths(paths.iter().map(path).collect::<Result<_, String>>()?)
        }
        StageKind::Logfmt {
            strict,
            keep_empty,
            expressions,
        } => {
            let options = LogfmtOptions {
                strict: *strict,
                keep_empty: *keep_empty,
            };
            if expressions.is_empty() {
                Op::Logfmt(options)
            } else {
                Op::LogfmtNames(options, logfmt_names(expressions, names)?)
            }
        }
        StageKind::Regexp(pattern) => regexp(pattern, names)?,
        StageKind::Pattern(pattern) => {
            let pattern = LinePattern::of_parser(pattern)?;
            let ids = pattern.names().map(|name| names.intern(name)).collect();
            Op::Pattern(pattern, ids)
        }
        StageKind::Unpack => Op::Unpack,
        StageKind::LabelFilter(filter) => Op::LabelFilter(LabelFilter::new(filter, names)?),
        StageKind::LineFormat(text) => {
            let template = Template::new("line", text);
            Op::LineFormat(template.map_err(|e| format!("invalid line template: {e}"))?)
        }
        StageKind::LabelFormat(formats) => {
            let assignment = |format: &ast::LabelFormat| match format {
                ast::LabelFormat::Rename { to, from } => Ok(Assignment::Rename {
                    to: names.intern(to),
                    from: names.intern(from),
                }),
                ast::LabelFormat::Template { to, template } => Ok(Assignment::Template {
                    to: names.intern(to),
                    template: Template::new("label_format", template)
                        .map_err(|e| format!("invalid template for label '{to}': {e}"))?,
                }),
            };
            Op::LabelFormat(
                formats
                    .iter()
                    .map(assignment)
                    .collect::<Result<_, String>>()?,
            )
        }
        StageKind::Decolorize => Op::Decolorize,
        StageKind::Drop(labels) => Op::Drop(choices(labels, names)?),
        StageKind::Keep(labels) => Op::Keep(choices(labels, names)?),
    })
}

fn logfmt_names(
    expressions: &[Extraction],
    names: &mut Names,
) -> Result<Vec<(NameId, Box<[u8]>)>, String> {
    let entry = |e: &Extraction| {
        let key = e.path.trim();
        let is_odd = |c: char| c == '=' || c == '"' || c.is_whitespace();
        if key.is_empty() || key.contains(is_odd) {
            return Err(format!(
                "cannot parse expression [{}]: syntax error",
                e.path
            ));
        }
        let mut sanitized = Vec::new();
        super::labels::append_sanitized(&mut sanitized, key.as_bytes());
        Ok((names.intern(&e.name), sanitized.into_boxed_slice()))
    };
    expressions.iter().map(entry).collect()
}

fn regexp(pattern: &str, names: &mut Names) -> Result<Op, String> {
    // The crate refuses a name that occurs twice; Loki has its own words for it.
    let mut seen: Vec<&str> = Vec::new();
    for (at, _) in pattern.match_indices("(?P<") {
        let name = pattern[at + 4..].split('>').next().unwrap_or("");
        if seen.contains(&name) {
            return Err(format!("duplicate extracted label name '{name}'"));
        }
        seen.push(name);
    }
    let regex = regexes::of_lines(pattern)?;
    let mut groups = Vec::new();
    for (index, name) in regex.capture_names().enumerate() {
        let Some(name) = name else { continue };
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !is_name {
            return Err(format!("invalid extracted label name '{name}'"));
        }
        groups.push((index, names.intern(name)));
    }
    if groups.is_empty() {
        return Err("at least one named capture must be supplied".to_owned());
    }
    Ok(Op::Regexp(regex, groups))
}

fn choices(labels: &[NamedMatcher], names: &mut Names) -> Result<Vec<LabelChoice>, String> {
    let choice = |label: &NamedMatcher| {
        let (name, matcher) = match label {
            NamedMatcher::Name(name) => (name, None),
            NamedMatcher::Matcher(m) => (&m.name, Some(ValueMatcher::new(m.op, &m.value)?)),
        };
        Ok(LabelChoice {
            name: names.intern(name),
            text: name.as_str().into(),
            matcher,
        })
    };
    labels.iter().map(choice).collect()
}
