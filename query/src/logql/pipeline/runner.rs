//! Runs entries through a pipeline.

use std::sync::Arc;

use chronolith_engine::rows::FieldValue;

use super::super::template::{Template, TemplateData};
use super::fields::FieldPlan;
use super::filter::ValueMatcher;
use super::hints::Hints;
use super::json::{self, JSON_ERROR, JsonScratch};
use super::labels::{
    BaseLabels, Category, ERROR_DETAILS_LABEL, ERROR_LABEL, Labels, NameId, Names,
    PRESERVE_ERROR_LABEL,
};
use super::logfmt::{self, LOGFMT_ERROR, Pairs};
use super::stage::{ANSI, Assignment, LabelChoice, Op, Pipeline};

/// `__error__` of an entry whose template failed.
pub(super) const TEMPLATE_ERROR: &str = "TemplateFormatErr";

/// An entry as the store has it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'e> {
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
    /// The text.
    pub line: &'e [u8],
}

/// Runs entries through a pipeline, one at a time.
#[derive(Debug)]
pub struct Runner {
    pipeline: Arc<Pipeline>,
    names: Names,
    labels: Labels,
    /// The streams met so far, by the numbers that the caller gives them.
    streams: Vec<Option<BaseLabels>>,
    no_labels: BaseLabels,
    stream: Option<usize>,
    line: Vec<u8>,
    spare: Vec<u8>,
    scratch: JsonScratch,
    key: Vec<u8>,
    hints: Option<Hints>,
    targets: Vec<(NameId, Box<[u8]>)>,
    /// Entries that parsers cannot read are wanted.
    preserve_errors: bool,
    /// The line has been changed: it lies in `line`.
    changed: bool,
    /// Stages that the scan has run.
    skip: usize,
}

impl Runner {
    /// A runner of `pipeline`; the first `skip` stages have been run by the scan.
    pub fn new(pipeline: Arc<Pipeline>, hints: Option<Hints>, skip: usize) -> Self {
        let names = pipeline.names.clone();
        Self {
            pipeline,
            names,
            labels: Labels::default(),
            streams: Vec::new(),
            no_labels: BaseLabels::default(),
            stream: None,
            line: Vec::new(),
            spare: Vec::new(),
            scratch: JsonScratch::default(),
            key: Vec::new(),
            hints,
            targets: Vec::new(),
            preserve_errors: false,
            changed: false,
            skip,
        }
    }

    /// Says that entries which parsers cannot read are wanted, not an error of the query.
    pub fn preserve_errors(&mut self, preserve: bool) {
        self.preserve_errors = preserve;
    }

    /// Says of which stream the next entries are. `number` stands for the stream as long as the
    /// runner lives; `labels` are asked for once.
    pub fn set_stream<'a, I>(&mut self, number: usize, labels: impl FnOnce() -> I)
    where
        I: Iterator<Item = (&'a str, &'a str)>,
    {
        if self.names.is_full() {
            self.names.forget();
            // Their names may have been forgotten.
            self.streams.clear();
        }
        if self.streams.len() <= number {
            self.streams.resize_with(number + 1, || None);
        }
        if self.streams[number].is_none() {
            self.streams[number] = Some(BaseLabels::new(&mut self.names, labels()));
        }
        self.stream = Some(number);
    }

    /// Whether [`set_stream`](Self::set_stream) must be called before the next entry, although its
    /// stream is the same.
    pub fn needs_stream(&self) -> bool {
        self.names.is_full()
    }

    /// Whether what becomes of an entry depends on its labels alone, not on its line or time.
    pub fn looks_at_labels_only(&self) -> bool {
        let of_labels = |op: &Op| matches!(op, Op::LabelFilter(_) | Op::Drop(_) | Op::Keep(_));
        let ops = self.pipeline.ops.get(self.skip..);
        ops.unwrap_or(&[]).iter().all(of_labels)
    }

    /// The labels of the entry that ran last, their names, and those of its stream.
    pub fn result(&mut self) -> (&mut Labels, &Names, &BaseLabels) {
        let base = self.stream.and_then(|n| self.streams[n].as_ref());
        let base = base.unwrap_or(&self.no_labels);
        (&mut self.labels, &self.names, base)
    }

    /// The line of the entry that ran last, if it was changed.
    pub fn changed_line(&self) -> Option<&[u8]> {
        self.changed.then_some(&self.line)
    }

    /// Runs an entry with its structured metadata; whether it stays.
    pub fn run<'m>(
        &mut self,
        entry: Entry<'_>,
        metadata: impl Iterator<Item = (&'m str, &'m [u8])> + Clone,
    ) -> bool {
        if self.hints.is_none() {
            self.start(metadata);
            let all = self.pipeline.ops.len();
            return self.stages(entry, self.skip..all, false);
        }
        self.start(metadata.clone());
        let hinted = self.aim();
        let Some((stages, complete)) = hinted else {
            let all = self.pipeline.ops.len();
            return self.stages(entry, self.skip..all, false);
        };
        if !self.stages(entry, self.skip..stages, true) {
            return false;
        }
        if complete {
            return true;
        }
        // It stays so far: now with all labels.
        self.start(metadata);
        let all = self.pipeline.ops.len();
        self.stages(entry, self.skip..all, false)
    }

    /// As [`run`](Self::run), for an entry of whose line only the fields of a plan are there, found
    /// without the parser.
    pub(super) fn run_fields<'f, 'm>(
        &mut self,
        plan: &FieldPlan,
        fields: impl Fn(usize) -> FieldValue<'f>,
        metadata: impl Iterator<Item = (&'m str, &'m [u8])>,
    ) -> bool {
        self.start(metadata);
        let pipeline = Arc::clone(&self.pipeline);
        let ops = pipeline.ops.get(self.skip..).unwrap_or(&[]);
        ops.iter().all(|op| {
            let base = self.stream.and_then(|n| self.streams[n].as_ref());
            let base = base.unwrap_or(&self.no_labels);
            let labels = &mut self.labels;
            match op {
                Op::LabelFilter(filter) => filter.keeps(labels, base),
                Op::Json | Op::Logfmt(_) => {
                    for (place, name) in plan.ids.iter().enumerate() {
                        let is_known = base.get(*name).is_some() || labels.is_metadata(*name);
                        match fields(place) {
                            _ if is_known => {}
                            FieldValue::Absent => {}
                            FieldValue::Text(_, text) => labels.set(Category::Parsed, *name, text),
                            FieldValue::Number(number) => {
                                let text = number.to_string();
                                labels.set(Category::Parsed, *name, text.as_bytes());
                            }
                        }
                    }
                    true
                }
                _ => {
                    debug_assert!(false, "bug: a plan of fields for a stage that reads lines");
                    false
                }
            }
        })
    }

    fn start<'m>(&mut self, metadata: impl Iterator<Item = (&'m str, &'m [u8])>) {
        self.labels.reset();
        self.changed = false;
        let base = self.stream.and_then(|n| self.streams[n].as_ref());
        let base = base.unwrap_or(&self.no_labels);
        for (name, value) in metadata {
            let id = self.names.intern(name);
            let id = if base.get(id).is_some() {
                self.names.extracted(id)
            } else {
                id
            };
            self.labels.set(Category::Metadata, id, value);
        }
    }

    /// Finds out what parsers have to look for: labels of the stream or of metadata are known.
    fn aim(&mut self) -> Option<(usize, bool)> {
        let hints = self.hints.as_ref()?;
        let base = self.stream.and_then(|n| self.streams[n].as_ref());
        let base = base.unwrap_or(&self.no_labels);
        let is_known = |id: NameId| base.get(id).is_some() || self.labels.is_metadata(id);
        let count = hints.wanted.iter().filter(|(id, _)| !is_known(*id)).count();
        let same = count == self.targets.len() && self.targets.iter().all(|(id, _)| !is_known(*id));
        if !same {
            self.targets.clear();
            let free = hints.wanted.iter().filter(|(id, _)| !is_known(*id));
            self.targets.extend(free.cloned());
        }
        Some((hints.stages, hints.complete))
    }

    fn stages(&mut self, entry: Entry<'_>, range: std::ops::Range<usize>, hinted: bool) -> bool {
        let pipeline = Arc::clone(&self.pipeline);
        let ops = pipeline.ops.get(range).unwrap_or(&[]);
        ops.iter().all(|op| self.stage(op, entry, hinted))
    }

    fn stage(&mut self, op: &Op, entry: Entry<'_>, hinted: bool) -> bool {
        let base = self.stream.and_then(|n| self.streams[n].as_ref());
        let base = base.unwrap_or(&self.no_labels);
        let line = if self.changed {
            self.line.as_slice()
        } else {
            entry.line
        };
        let (labels, names) = (&mut self.labels, &mut self.names);
        match op {
            Op::LineFilter(filter) => return filter.keeps(line),
            Op::LabelFilter(filter) => return filter.keeps(labels, base),
            Op::Json => {
                let parsed = if hinted {
                    json::parse_some(line, labels, &self.targets, &mut self.scratch)
                } else {
                    json::parse_all(line, labels, base, names, &mut self.scratch)
                };
                if let Err(details) = parsed {
                    labels.set_error(JSON_ERROR, details.to_owned());
                    labels.preserve_error = self.preserve_errors;
                }
            }
            Op::Logfmt(options) => {
                let parsed = if hinted {
                    let targets = &self.targets;
                    logfmt::parse_some(line, *options, labels, targets, &mut self.key)
                } else {
                    logfmt::parse_all(line, *options, labels, base, names)
                };
                if let Err(fault) = parsed {
                    labels.set_error(LOGFMT_ERROR, fault.text());
                    labels.preserve_error = self.preserve_errors;
                }
            }
            Op::JsonPaths(paths) => self.json_paths(paths, entry.line),
            Op::LogfmtNames(options, wanted) => {
                for (name, _) in wanted {
                    if base.get(*name).is_none() {
                        labels.set(Category::Parsed, *name, b"");
                    }
                }
                for pair in Pairs::new(line) {
                    let pair = match pair {
                        Ok(pair) => pair,
                        Err(fault) if options.strict => {
                            labels.set_error(LOGFMT_ERROR, fault.text());
                            labels.preserve_error = self.preserve_errors;
                            break;
                        }
                        Err(_) => continue,
                    };
                    self.key.clear();
                    super::labels::append_sanitized(&mut self.key, pair.key);
                    let Some((name, _)) = wanted.iter().find(|(_, key)| **key == *self.key) else {
                        continue;
                    };
                    let name = match base.get(*name) {
                        Some(_) => names.extracted(*name),
                        None => *name,
                    };
                    let mark = labels.mark();
                    logfmt::write_value(&pair, labels.writer());
                    labels.commit(Category::Parsed, name, mark);
                }
            }
            Op::Regexp(regex, groups) => {
                if let Some(captures) = regex.captures(line) {
                    for (index, name) in groups {
                        let value = captures.get(*index).map_or(&[][..], |m| m.as_bytes());
                        if let Some(name) = labels.parsed_name(base, names, *name) {
                            labels.set(Category::Parsed, name, value);
                        }
                    }
                }
            }
            Op::Pattern(pattern, ids) => pattern.extract(line, |number, value| {
                let id = ids.get(number).copied();
                if let Some(name) = id.and_then(|id| labels.parsed_name(base, names, id)) {
                    labels.set(Category::Parsed, name, value);
                }
            }),
            Op::Unpack => {
                if line.is_empty() {
                    return true;
                }
                let scratch = &mut self.scratch;
                match json::unpack(line, labels, base, names, scratch, &mut self.spare) {
                    Ok(true) => {
                        std::mem::swap(&mut self.line, &mut self.spare);
                        self.changed = true;
                    }
                    Ok(false) => {}
                    Err(details) => {
                        labels.set_error(JSON_ERROR, details.to_owned());
                        labels.preserve_error = self.preserve_errors;
                    }
                }
            }
            Op::Decolorize => {
                if line.iter().any(|b| *b == 0x1b || *b == 0xc2) {
                    let plain = ANSI.replace_all(line, &b""[..]).into_owned();
                    self.line = plain;
                    self.changed = true;
                }
            }
            Op::LineFormat(template) => {
                if let Some(text) = self.render(template, entry) {
                    self.line.clear();
                    self.line.extend_from_slice(text.as_bytes());
                    self.changed = true;
                }
            }
            Op::LabelFormat(assignments) => self.label_format(assignments, entry),
            Op::Drop(choices) => self.drop_labels(choices),
            Op::Keep(choices) => self.keep_labels(choices),
        }
        true
    }

    fn json_paths(&mut self, paths: &[(NameId, super::json_path::JsonPath)], original: &[u8]) {
        let base = self.stream.and_then(|n| self.streams[n].as_ref());
        let base = base.unwrap_or(&self.no_labels);
        let line = if self.changed {
            self.line.as_slice()
        } else {
            original
        };
        let (labels, names) = (&mut self.labels, &mut self.names);
        let Some(first) = line.first() else {
            return;
        };
        if !matches!(first, b'"' | b'{' | b'[') {
            labels.set_error(JSON_ERROR, String::new());
            labels.preserve_error = self.preserve_errors;
            return;
        }
        for (id, path) in paths {
            let name = match base.get(*id) {
                Some(_) => names.extracted(*id),
                None => *id,
            };
            let mark = labels.mark();
            match path.find(line, labels.writer()) {
                Ok(true) => labels.commit(Category::Parsed, name, mark),
                Ok(false) => {
                    // Every label that was asked for is there, if only empty.
                    if labels.get(base, *id).is_none() {
                        labels.set(Category::Parsed, *id, b"");
                    }
                }
                Err(details) => {
                    labels.set_error(JSON_ERROR, details.to_owned());
                    labels.preserve_error = self.preserve_errors;
                    return;
                }
            }
        }
    }

    /// The text of a template; an error of it is the entry's.
    fn render(&mut self, template: &Template, entry: Entry<'_>) -> Option<String> {
        let base = self.stream.and_then(|n| self.streams[n].as_ref());
        let base = base.unwrap_or(&self.no_labels);
        let line = if self.changed {
            self.line.as_slice()
        } else {
            entry.line
        };
        let mut labels: Vec<(&str, &[u8])> = Vec::new();
        let names = &self.names;
        self.labels.visit(base, |name, value, _| {
            labels.push((names.name(name), value))
        });
        if !self.labels.error.is_empty() {
            labels.push((ERROR_LABEL, self.labels.error.as_bytes()));
            labels.push((ERROR_DETAILS_LABEL, self.labels.error_details.as_bytes()));
        }
        let data = TemplateData {
            labels: &labels,
            line,
            time_ns: entry.time_ns,
        };
        match template.render(&data) {
            Ok(text) => Some(text),
            Err(error) => {
                self.labels.set_error(TEMPLATE_ERROR, error);
                None
            }
        }
    }

    fn label_format(&mut self, assignments: &[Assignment], entry: Entry<'_>) {
        for assignment in assignments {
            match assignment {
                Assignment::Rename { to, from } => {
                    let base = self.stream.and_then(|n| self.streams[n].as_ref());
                    let base = base.unwrap_or(&self.no_labels);
                    let found = self.labels.get(base, *from);
                    let Some((value, category)) = found.map(|(v, c)| (v.to_vec(), c)) else {
                        continue;
                    };
                    if to != from {
                        self.labels.remove(*from);
                    }
                    self.labels.set(category, *to, &value);
                }
                Assignment::Template { to, template } => {
                    if let Some(text) = self.render(template, entry) {
                        self.labels.set(Category::Parsed, *to, text.as_bytes());
                    }
                }
            }
        }
    }

    fn drop_labels(&mut self, choices: &[LabelChoice]) {
        let base = self.stream.and_then(|n| self.streams[n].as_ref());
        let base = base.unwrap_or(&self.no_labels);
        let labels = &mut self.labels;
        let matches = |matcher: &Option<ValueMatcher>, value: &[u8]| {
            matcher.as_ref().is_none_or(|m| m.is_match(value))
        };
        for choice in choices {
            match &*choice.text {
                ERROR_LABEL => {
                    if matches(&choice.matcher, labels.error.as_bytes()) {
                        labels.error = "";
                    }
                }
                ERROR_DETAILS_LABEL => {
                    if matches(&choice.matcher, labels.error_details.as_bytes()) {
                        labels.error_details.clear();
                    }
                }
                PRESERVE_ERROR_LABEL => labels.preserve_error = false,
                _ => {
                    let found = labels.get(base, choice.name);
                    if found.is_some_and(|(value, _)| matches(&choice.matcher, value)) {
                        labels.remove(choice.name);
                    }
                }
            }
        }
    }

    fn keep_labels(&mut self, choices: &[LabelChoice]) {
        let base = self.stream.and_then(|n| self.streams[n].as_ref());
        let base = base.unwrap_or(&self.no_labels);
        let mut gone: Vec<NameId> = Vec::new();
        self.labels.visit(base, |name, value, _| {
            let kept = choices.iter().any(|choice| {
                choice.name == name && choice.matcher.as_ref().is_none_or(|m| m.is_match(value))
            });
            if !kept {
                gone.push(name);
            }
        });
        for name in gone {
            self.labels.remove(name);
        }
    }
}
