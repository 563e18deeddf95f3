//! The text of a template to nodes.

use super::functions;
use super::value::{Value, parse_int};

/// Nested actions and parentheses.
const DEPTH_MAX: usize = 64;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    /// `{{ pipeline }}`; prints unless it assigns.
    Action(Pipe),
    If {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

/// `$x, $y := a | b`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    /// `:=` rather than `=`.
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// A word of a command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Value(Value),
    /// `.`
    Dot,
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a`
    Variable(String, Vec<String>),
    Function(String),
    /// `(a | b).c`
    Pipe(Box<Pipe>, Vec<String>),
}

type Fault = (usize, String);

/// The nodes of a text; faults with their line.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Fault> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        loops: 0,
        trim_next: false,
        variables: vec!["$".to_owned()],
    };
    let (nodes, end) = parser.list()?;
    match end {
        Ended::Text => Ok(nodes),
        Ended::Else(_) => parser.fault("unexpected {{else}}"),
        Ended::Done => parser.fault("unexpected {{end}}"),
    }
}

/// What ended a list of nodes.
enum Ended {
    /// The end of the text.
    Text,
    /// `end`
    Done,
    /// `else`, or `else if` and `else with` with what follows.
    Else(String),
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    loops: usize,
    trim_next: bool,
    variables: Vec<String>,
}

impl<'t> Parser<'t> {
    fn fault<T>(&self, message: impl Into<String>) -> Result<T, Fault> {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        Err((before.matches('\n').count() + 1, message.into()))
    }

    /// Nodes up to `end`, `else` or the end of the text.
    fn list(&mut self) -> Result<(Vec<Node>, Ended), Fault> {
        if self.depth >= DEPTH_MAX {
            return self.fault("template is nested too deeply");
        }
        self.depth += 1;
        let mut nodes = Vec::new();
        let end = loop {
            let rest = self.text.get(self.at..).unwrap_or("");
            let open = rest.find("{{");
            let mut text = &rest[..open.unwrap_or(rest.len())];
            if std::mem::take(&mut self.trim_next) {
                text = text.trim_start();
            }
            let Some(open) = open else {
                self.at = self.text.len();
                push_text(&mut nodes, text);
                break Ended::Text;
            };
            let inside = &rest[open + 2..];
            let trims =
                inside.starts_with("- ") || inside.starts_with("-\n") || inside.starts_with("-\t");
            if trims {
                text = text.trim_end();
            }
            push_text(&mut nodes, text);
            self.at += open + 2 + usize::from(trims);
            let action = self.action()?;
            let trimmed = action.trim();
            if trimmed.starts_with("/*") {
                continue;
            }
            let (word, after) = split_word(trimmed);
            match word {
                "end" => break Ended::Done,
                "else" => break Ended::Else(after.trim().to_owned()),
                _ => nodes.push(self.node(trimmed, word, after)?),
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// The text of the action that begins here, without its braces.
    fn action(&mut self) -> Result<&'t str, Fault> {
        let rest = self.text.get(self.at..).unwrap_or("");
        let bytes = rest.as_bytes();
        if rest.trim_start().starts_with("/*") {
            let Some(end) = rest.find("*/") else {
                return self.fault("unclosed comment");
            };
            let after = &rest[end + 2..];
            let length = after.find("}}").unwrap_or(0);
            if !matches!(after[..length].trim(), "" | "-") || !after.contains("}}") {
                return self.fault("comment ends before closing delimiter");
            }
            self.trim_next = after[..length].contains('-');
            self.at += end + 2 + length + 2;
            return Ok(&rest[..end + 2]);
        }
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                quote @ (b'"' | b'`' | b'\'') => {
                    at += 1;
                    loop {
                        match bytes.get(at) {
                            None => return self.fault("unterminated quoted string"),
                            Some(b'\n') if quote != b'`' => {
                                return self.fault("unterminated quoted string");
                            }
                            Some(b'\\') if quote != b'`' => at += 2,
                            Some(b) if *b == quote => break,
                            Some(_) => at += 1,
                        }
                    }
                    at += 1;
                }
                b'}' if bytes.get(at + 1) == Some(&b'}') => {
                    let mut inside = &rest[..at];
                    if let Some(trimmed) = inside.strip_suffix('-')
                        && trimmed.ends_with([' ', '\n', '\t'])
                    {
                        inside = trimmed;
                        self.trim_next = true;
                    }
                    self.at += at + 2;
                    return Ok(inside);
                }
                _ => at += 1,
            }
        }
        self.fault("unclosed action")
    }

    fn node(&mut self, action: &str, word: &str, after: &str) -> Result<Node, Fault> {
        match word {
            "if" => {
                let pipe = self.pipe(after, "if")?;
                let (then, otherwise) = self.branches("if")?;
                Ok(Node::If {
                    pipe,
                    then,
                    otherwise,
                })
            }
            "with" => {
                let pipe = self.pipe(after, "with")?;
                let (body, otherwise) = self.branches("with")?;
                Ok(Node::With {
                    pipe,
                    body,
                    otherwise,
                })
            }
            "range" => {
                let pipe = self.pipe(after, "range")?;
                self.loops += 1;
                let branches = self.branches("range");
                self.loops -= 1;
                let (body, otherwise) = branches?;
                Ok(Node::Range {
                    pipe,
                    body,
                    otherwise,
                })
            }
            "break" | "continue" if after.trim().is_empty() => {
                if self.loops == 0 {
                    return self.fault(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                Ok(if word == "break" {
                    Node::Break
                } else {
                    Node::Continue
                })
            }
            "define" | "template" | "block" => {
                self.fault(format!("{{{{{word}}}}} is not supported"))
            }
            _ => Ok(Node::Action(self.pipe(action, "command")?)),
        }
    }

    /// The body up to `end`, and what follows `else`.
    fn branches(&mut self, word: &str) -> Result<(Vec<Node>, Vec<Node>), Fault> {
        let scope = self.variables.len();
        let (body, end) = self.list()?;
        let otherwise = match end {
            Ended::Done => Vec::new(),
            Ended::Text => return self.fault("unexpected EOF"),
            Ended::Else(rest) if rest.is_empty() => {
                let (otherwise, end) = self.list()?;
                match end {
                    Ended::Done => otherwise,
                    Ended::Text => return self.fault("unexpected EOF"),
                    Ended::Else(_) => return self.fault("expected end; found {{else}}"),
                }
            }
            Ended::Else(rest) => {
                let (next, after) = split_word(&rest);
                if next != word || word == "range" {
                    return self.fault(format!("unexpected <{next}> in else"));
                }
                // `else if` needs no `end` of its own.
                if self.depth >= DEPTH_MAX {
                    return self.fault("template is nested too deeply");
                }
                self.depth += 1;
                let node = self.node(&rest, next, after)?;
                self.depth -= 1;
                vec![node]
            }
        };
        self.variables.truncate(scope);
        Ok((body, otherwise))
    }

    fn pipe(&mut self, text: &str, context: &str) -> Result<Pipe, Fault> {
        let tokens = match tokens(text) {
            Ok(tokens) => tokens,
            Err(message) => return self.fault(message),
        };
        let mut cursor = Cursor { tokens, at: 0 };
        let pipe = self.pipe_of(&mut cursor, context, true)?;
        match cursor.peek() {
            None => Ok(pipe),
            Some(token) => self.fault(format!("unexpected {} in {context}", token.describe())),
        }
    }

    fn pipe_of(&mut self, cursor: &mut Cursor, context: &str, top: bool) -> Result<Pipe, Fault> {
        let mut pipe = Pipe {
            variables: Vec::new(),
            declares: false,
            commands: Vec::new(),
        };
        if top {
            self.declaration(cursor, &mut pipe)?;
        }
        loop {
            let mut command = Vec::new();
            while let Some(token) = cursor.peek() {
                if matches!(token, Token::Bar | Token::Close) {
                    break;
                }
                command.push(self.operand(cursor, context)?);
            }
            if command.is_empty() {
                return self.fault(if pipe.commands.is_empty() {
                    format!("missing value for {context}")
                } else {
                    "missing value for command".to_owned()
                });
            }
            pipe.commands.push(command);
            if !cursor.accept(&Token::Bar) {
                return Ok(pipe);
            }
        }
    }

    /// `$x :=`, `$i, $x :=`, `$x =`
    fn declaration(&mut self, cursor: &mut Cursor, pipe: &mut Pipe) -> Result<(), Fault> {
        let start = cursor.at;
        let mut names = Vec::new();
        while let Some(Token::Variable(name, fields)) = cursor.peek().cloned() {
            if !fields.is_empty() {
                break;
            }
            cursor.at += 1;
            names.push(name);
            if !cursor.accept(&Token::Comma) {
                break;
            }
        }
        let declares = cursor.accept(&Token::Declare);
        if names.is_empty() || !(declares || cursor.accept(&Token::Assign)) {
            cursor.at = start;
            return Ok(());
        }
        if declares {
            self.variables.extend(names.iter().cloned());
        } else if let Some(unknown) = names.iter().find(|n| !self.variables.contains(n)) {
            return self.fault(format!("undefined variable \"{unknown}\""));
        }
        pipe.variables = names;
        pipe.declares = declares;
        Ok(())
    }

    fn operand(&mut self, cursor: &mut Cursor, context: &str) -> Result<Operand, Fault> {
        let Some(token) = cursor.next() else {
            return self.fault(format!("missing value for {context}"));
        };
        match token {
            Token::Value(value) => Ok(Operand::Value(value)),
            Token::Field(path) if path.is_empty() => Ok(Operand::Dot),
            Token::Field(path) => Ok(Operand::Field(path)),
            Token::Variable(name, fields) => {
                if !self.variables.contains(&name) {
                    return self.fault(format!("undefined variable \"{name}\""));
                }
                Ok(Operand::Variable(name, fields))
            }
            Token::Word(word) => {
                if functions::exists(&word) {
                    Ok(Operand::Function(word))
                } else {
                    self.fault(format!("function \"{word}\" not defined"))
                }
            }
            Token::Open => {
                if self.depth >= DEPTH_MAX {
                    return self.fault("template is nested too deeply");
                }
                self.depth += 1;
                let pipe = self.pipe_of(cursor, "parenthesized pipeline", false)?;
                self.depth -= 1;
                if !cursor.accept(&Token::Close) {
                    return self.fault("unclosed left paren");
                }
                let fields = match cursor.peek() {
                    Some(Token::Chain(fields)) => fields.clone(),
                    _ => Vec::new(),
                };
                if !fields.is_empty() {
                    cursor.at += 1;
                }
                Ok(Operand::Pipe(Box::new(pipe), fields))
            }
            token => self.fault(format!("unexpected {} in {context}", token.describe())),
        }
    }
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    if !text.is_empty() {
        nodes.push(Node::Text(text.to_owned()));
    }
}

/// The first word, and what follows it.
fn split_word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    text.split_at(end)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Value(Value),
    /// `.a.b`; `.` alone is empty.
    Field(Vec<String>),
    /// `.a` directly behind a parenthesis.
    Chain(Vec<String>),
    Variable(String, Vec<String>),
    Word(String),
    Open,
    Close,
    Bar,
    Comma,
    Declare,
    Assign,
}

impl Token {
    fn describe(&self) -> String {
        match self {
            Self::Value(value) => format!("<{}>", value.print()),
            Self::Field(path) | Self::Chain(path) => format!("<.{}>", path.join(".")),
            Self::Variable(name, _) | Self::Word(name) => format!("<{name}>"),
            Self::Open => "\"(\"".to_owned(),
            Self::Close => "right paren".to_owned(),
            Self::Bar => "\"|\"".to_owned(),
            Self::Comma => "\",\"".to_owned(),
            Self::Declare => "\":=\"".to_owned(),
            Self::Assign => "\"=\"".to_owned(),
        }
    }
}

struct Cursor {
    tokens: Vec<Token>,
    at: usize,
}

impl Cursor {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }
}

/// The tokens of an action.
fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    let mut glued = false;
    while let Some(c) = rest.chars().next() {
        let before = rest.len();
        let symbol = match c {
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            '|' => Some(Token::Bar),
            ',' => Some(Token::Comma),
            '=' => Some(Token::Assign),
            _ if rest.starts_with(":=") => Some(Token::Declare),
            _ => None,
        };
        if let Some(symbol) = symbol {
            let length = if symbol == Token::Declare { 2 } else { 1 };
            tokens.push(symbol);
            rest = &rest[length..];
        } else if c == '.' && !rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            let (path, after) = fields(rest)?;
            let chained = glued && tokens.last() == Some(&Token::Close);
            tokens.push(if chained {
                Token::Chain(path)
            } else {
                Token::Field(path)
            });
            rest = after;
        } else if c == '$' {
            let (name, after) = split_word(&rest[1..]);
            let (path, after) = if after.starts_with('.') {
                fields(after)?
            } else {
                (Vec::new(), after)
            };
            tokens.push(Token::Variable(format!("${name}"), path));
            rest = after;
        } else if matches!(c, '"' | '`' | '\'') {
            let (value, after) = literal_text(rest)?;
            tokens.push(Token::Value(value));
            rest = after;
        } else if c.is_ascii_digit() || matches!(c, '+' | '-' | '.') {
            let end = rest[1..]
                .find(|c: char| c.is_whitespace() || matches!(c, ')' | '|' | ',' | '('))
                .map_or(rest.len(), |at| at + 1);
            tokens.push(Token::Value(number(&rest[..end])?));
            rest = &rest[end..];
        } else if c.is_alphabetic() || c == '_' {
            let (word, after) = split_word(rest);
            tokens.push(match word {
                "true" => Token::Value(Value::Bool(true)),
                "false" => Token::Value(Value::Bool(false)),
                "nil" => Token::Value(Value::Nil),
                word => Token::Word(word.to_owned()),
            });
            rest = after;
        } else {
            return Err(format!("unexpected {c:?} in command"));
        }
        debug_assert!(rest.len() < before, "bug: a token takes at least one byte");
        let trimmed = rest.trim_start();
        glued = trimmed.len() == rest.len();
        rest = trimmed;
    }
    Ok(tokens)
}

/// `.a.b`
fn fields(text: &str) -> Result<(Vec<String>, &str), String> {
    let mut path = Vec::new();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix('.') {
        let (name, after) = split_word(after);
        if name.is_empty() {
            if path.is_empty() {
                return Ok((path, after));
            }
            return Err("unexpected <.> in operand".to_owned());
        }
        path.push(name.to_owned());
        rest = after;
    }
    Ok((path, rest))
}

fn number(text: &str) -> Result<Value, String> {
    let clean = text.replace('_', "");
    if let Some(value) = parse_int(&clean) {
        return Ok(Value::Int(value));
    }
    match super::super::units::parse_go_float(&clean) {
        Ok(value) => Ok(Value::Float(value)),
        Err(_) => Err(format!("bad number syntax: {text:?}")),
    }
}

/// A quoted text or character.
fn literal_text(text: &str) -> Result<(Value, &str), String> {
    let unterminated = || "unterminated quoted string".to_owned();
    let quote = text.chars().next().unwrap_or('"');
    if quote == '`' {
        let end = text[1..].find('`').ok_or_else(unterminated)?;
        return Ok((Value::text(&text[1..=end]), &text[end + 2..]));
    }
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let value = if quote == '\'' {
                Value::Int(out.chars().next().map_or(0, |c| c as i64))
            } else {
                Value::Text(out)
            };
            return Ok((value, &text[at + 1..]));
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let (_, escape) = chars.next().ok_or_else(unterminated)?;
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        out.push(match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '"' | '\'' => escape,
            'x' | 'u' | 'U' => {
                let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                u32::from_str_radix(&code, 16)
                    .ok()
                    .and_then(char::from_u32)
                    .ok_or("invalid syntax")?
            }
            _ => return Err("invalid syntax".to_owned()),
        });
    }
    Err(unterminated())
}
