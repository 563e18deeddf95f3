//! Runs templates.

use std::collections::BTreeMap;

use super::TemplateData;
use super::functions;
use super::parse::{Node, Operand, Pipe};
use super::value::Value;

/// Bytes that a template may write, and that a value in it may take.
pub(super) const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Nodes and calls that a template may run.
const STEPS_MAX: usize = 100_000;

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

pub(super) struct Context<'e> {
    pub(super) data: &'e TemplateData<'e>,
    variables: Vec<(String, Value)>,
    out: String,
    steps: usize,
}

/// What a template gives for an entry.
pub(super) fn render(nodes: &[Node], data: &TemplateData<'_>) -> Result<String, String> {
    let mut context = Context {
        data,
        variables: Vec::new(),
        out: String::new(),
        steps: 0,
    };
    context.list(nodes, &Dot::Labels)?;
    Ok(context.out)
}

/// What `.` is.
enum Dot {
    /// The labels of the entry.
    Labels,
    Value(Value),
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Context<'_> {
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(format!("more than {STEPS_MAX} steps"));
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        if self.out.len() + text.len() > OUTPUT_BYTES_MAX {
            return Err(format!("more than {OUTPUT_BYTES_MAX} bytes of output"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn list(&mut self, nodes: &[Node], dot: &Dot) -> Result<Flow, String> {
        let scope = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Dot) -> Result<Flow, String> {
        self.step()?;
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    // A label that is not there prints nothing.
                    match value {
                        Value::Nil => self.write("<no value>")?,
                        value => self.write(&value.print())?,
                    }
                }
            }
            Node::If {
                pipe,
                then,
                otherwise,
            } => {
                let scope = self.variables.len();
                let branch = if self.pipe(pipe, dot)?.is_true() {
                    then
                } else {
                    otherwise
                };
                let flow = self.list(branch, dot);
                self.variables.truncate(scope);
                return flow;
            }
            Node::With {
                pipe,
                body,
                otherwise,
            } => {
                let scope = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow = if value.is_true() {
                    self.list(body, &Dot::Value(value))
                } else {
                    self.list(otherwise, dot)
                };
                self.variables.truncate(scope);
                return flow;
            }
            Node::Range {
                pipe,
                body,
                otherwise,
            } => self.range(pipe, body, otherwise, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        body: &[Node],
        otherwise: &[Node],
        dot: &Dot,
    ) -> Result<(), String> {
        let scope = self.variables.len();
        let bare = Pipe {
            variables: Vec::new(),
            ..pipe.clone()
        };
        let items: Vec<(Value, Value)> = match self.pipe(&bare, dot)? {
            Value::List(list) => {
                let index = |i: usize| Value::Int(i as i64);
                list.into_iter()
                    .enumerate()
                    .map(|(i, v)| (index(i), v))
                    .collect()
            }
            Value::Map(map) => map.into_iter().map(|(k, v)| (Value::Text(k), v)).collect(),
            Value::Int(count) if count as usize <= STEPS_MAX => {
                (0..count).map(|i| (Value::Int(i), Value::Int(i))).collect()
            }
            Value::Nil => Vec::new(),
            other => return Err(format!("range can't iterate over {}", other.print())),
        };
        if items.is_empty() {
            self.list(otherwise, dot)?;
        }
        for (key, value) in items {
            self.step()?;
            match pipe.variables.as_slice() {
                [] => {}
                [one] => self.variables.push((one.clone(), value.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), value.clone()));
                }
            }
            let flow = self.list(body, &Dot::Value(value))?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Dot) -> Result<Value, String> {
        let mut value: Option<Value> = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value, dot)?);
        }
        let value = value.unwrap_or(Value::Nil);
        if let Some(name) = pipe.variables.first() {
            let known = self.variables.iter_mut().rev().find(|(n, _)| n == name);
            match known {
                Some((_, old)) if !pipe.declares => *old = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        words: &[Operand],
        last: Option<Value>,
        dot: &Dot,
    ) -> Result<Value, String> {
        self.step()?;
        let Some((first, rest)) = words.split_first() else {
            return Ok(Value::Nil);
        };
        let Operand::Function(name) = first else {
            if !rest.is_empty() || last.is_some() {
                return Err("can't give argument to non-function".to_owned());
            }
            return self.operand(first, dot);
        };
        // These two look at no more of their arguments than they must.
        if name == "and" || name == "or" {
            let mut value = Value::Nil;
            for word in rest {
                value = self.operand(word, dot)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for word in rest {
            arguments.push(self.operand(word, dot)?);
        }
        arguments.extend(last);
        self.call(name, arguments)
    }

    fn call(&mut self, name: &str, arguments: Vec<Value>) -> Result<Value, String> {
        let value = match name {
            "__line__" => Value::Text(text_of(self.data.line)),
            "__timestamp__" => Value::Time(self.data.time_ns, 0),
            name => functions::call(name, &arguments)
                .map_err(|error| format!("error calling {name}: {error}"))?,
        };
        if value.size() > OUTPUT_BYTES_MAX {
            return Err(format!("{name} gives more than {OUTPUT_BYTES_MAX} bytes"));
        }
        Ok(value)
    }

    fn operand(&mut self, operand: &Operand, dot: &Dot) -> Result<Value, String> {
        match operand {
            Operand::Value(value) => Ok(value.clone()),
            Operand::Dot => Ok(match dot {
                Dot::Labels => self.labels(),
                Dot::Value(value) => value.clone(),
            }),
            Operand::Field(path) => match dot {
                Dot::Labels => {
                    let (name, rest) = path.split_first().ok_or("empty field")?;
                    fields(self.label(name), rest)
                }
                Dot::Value(value) => fields(value.clone(), path),
            },
            Operand::Variable(name, path) if name == "$" => match path.split_first() {
                None => Ok(self.labels()),
                Some((name, rest)) => fields(self.label(name), rest),
            },
            Operand::Variable(name, path) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                let value = found.map_or(Value::Nil, |(_, value)| value.clone());
                fields(value, path)
            }
            Operand::Function(name) => self.call(name, Vec::new()),
            Operand::Pipe(pipe, path) => {
                let value = self.pipe(pipe, dot)?;
                fields(value, path)
            }
        }
    }

    /// The value of a label; empty if there is none.
    fn label(&self, name: &str) -> Value {
        let found = self.data.labels.iter().find(|(n, _)| *n == name);
        Value::Text(found.map_or_else(String::new, |(_, value)| text_of(value)))
    }

    fn labels(&self) -> Value {
        let labels = self.data.labels.iter();
        let map: BTreeMap<String, Value> = labels
            .map(|(name, value)| ((*name).to_owned(), Value::Text(text_of(value))))
            .collect();
        Value::Map(map)
    }
}

/// `value.a.b`
fn fields(value: Value, path: &[String]) -> Result<Value, String> {
    let mut value = value;
    for name in path {
        value = match value {
            Value::Map(mut map) => map.remove(name).unwrap_or(Value::Nil),
            Value::Nil => return Err(format!("nil pointer evaluating interface {{}}.{name}")),
            _ => return Err(format!("can't evaluate field {name}")),
        };
    }
    Ok(value)
}
