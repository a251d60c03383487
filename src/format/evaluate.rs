//! A template and a value to text (text/template's exec).
//!
//! Where docker has a structure, a field that does not exist is an error; where it has a map (labels and the like),
//! what does not exist has no value. JSON does not tell the two apart, so [`MAPS`] does.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Error;
use super::functions::Function;
use super::lex::error_at;
use super::parse::{Branch, Command, Node, Operand, Pipeline, Template, Term};
use super::value::{kind, text, truth};

/// Fields of docker's answers that are maps with keys of the user's choice.
const MAPS: [&str; 10] = [
    "Annotations",
    "ExposedPorts",
    "Labels",
    "LogOpts",
    "Networks",
    "Options",
    "Ports",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Values looked at in one run: a template that loops over itself ends here.
const MOST_STEPS: usize = 2_000_000;

/// Bytes that one run may print.
const MOST_BYTES: usize = 64 << 20;

/// Bytes that one function may be given.
const MOST_ARGUMENT_BYTES: usize = 4 << 20;

/// What `.Label "name"` answers.
#[derive(Clone, Copy, Debug)]
pub enum Labels<'a> {
    /// There is no such method.
    None,
    /// A row's labels.
    Of(&'a Map<String, Value>),
    /// The head of a table: the last part of the label's name.
    Heading,
}

/// A value, or none where a map has no such key.
#[derive(Clone, Debug)]
struct Got<'a> {
    value: Option<Cow<'a, Value>>,
    /// A key that does not exist is no error.
    open: bool,
}

impl<'a> Got<'a> {
    fn owned(value: Value) -> Self {
        Self {
            value: Some(Cow::Owned(value)),
            open: false,
        }
    }

    fn borrowed(value: &'a Value) -> Self {
        Self {
            value: Some(Cow::Borrowed(value)),
            open: false,
        }
    }

    fn none() -> Self {
        Self {
            value: None,
            open: false,
        }
    }

    fn truth(&self) -> bool {
        self.value.as_deref().is_some_and(truth)
    }

    fn into_value(self) -> Value {
        self.value.map_or(Value::Null, Cow::into_owned)
    }
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl Template {
    /// The text for a value.
    ///
    /// # Errors
    /// A field that does not exist, a function that cannot take its arguments; with line, column and the term.
    pub fn render(&self, value: &Value) -> Result<String, Error> {
        self.render_with(value, Labels::None)
    }

    /// The text for a value that has labels.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_with(&self, value: &Value, labels: Labels<'_>) -> Result<String, Error> {
        let mut run = Run {
            source: &self.source,
            labels,
            variables: vec![("", Got::borrowed(value))],
            out: String::new(),
            steps: 0,
        };
        run.list(&self.nodes, &Got::borrowed(value))?;
        Ok(run.out)
    }
}

struct Run<'a> {
    source: &'a str,
    labels: Labels<'a>,
    variables: Vec<(&'a str, Got<'a>)>,
    out: String,
    steps: usize,
}

impl<'a> Run<'a> {
    fn fail(&self, operand: &Operand, what: &str) -> Error {
        let shown = self.source.get(operand.at..operand.end).unwrap_or_default();
        error_at(
            self.source,
            operand.at,
            &format!("executing \"\" at <{shown}>: {what}"),
        )
    }

    fn step(&mut self, at: usize) -> Result<(), Error> {
        self.steps += 1;
        if self.steps > MOST_STEPS || self.out.len() > MOST_BYTES {
            return Err(error_at(
                self.source,
                at,
                "the template has no end in sight",
            ));
        }
        Ok(())
    }

    fn list(&mut self, nodes: &'a [Node], dot: &Got<'a>) -> Result<Flow, Error> {
        for node in nodes {
            self.step(0)?;
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::On
                }
                Node::Action(pipeline) => {
                    let got = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        self.print(&got);
                    }
                    Flow::On
                }
                Node::If(branch) => self.condition(branch, dot, false)?,
                Node::With(branch) => self.condition(branch, dot, true)?,
                Node::Range(branch) => self.range(branch, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn print(&mut self, got: &Got<'_>) {
        match got.value.as_deref() {
            Some(value) => self.out.push_str(&text(value)),
            None => self.out.push_str("<no value>"),
        }
    }

    fn condition(&mut self, branch: &'a Branch, dot: &Got<'a>, with: bool) -> Result<Flow, Error> {
        let known = self.variables.len();
        let got = self.pipeline(&branch.pipeline, dot)?;
        let flow = if got.truth() {
            self.list(&branch.then, if with { &got } else { dot })?
        } else {
            self.list(&branch.otherwise, dot)?
        };
        self.variables.truncate(known);
        Ok(flow)
    }

    fn range(&mut self, branch: &'a Branch, dot: &Got<'a>) -> Result<Flow, Error> {
        let known = self.variables.len();
        let got = self.commands(&branch.pipeline, dot)?;
        let at = branch
            .pipeline
            .commands
            .first()
            .and_then(|command| command.words.first());
        let items: Vec<(Value, Got<'a>)> = match got.value {
            None => Vec::new(),
            Some(Cow::Borrowed(Value::Array(list))) => list
                .iter()
                .enumerate()
                .map(|(index, value)| (index.into(), Got::borrowed(value)))
                .collect(),
            Some(Cow::Borrowed(Value::Object(map))) => map
                .iter()
                .map(|(key, value)| (key.as_str().into(), Got::borrowed(value)))
                .collect(),
            Some(value) => match value.into_owned() {
                Value::Null => Vec::new(),
                Value::Array(list) => list
                    .into_iter()
                    .enumerate()
                    .map(|(index, value)| (index.into(), Got::owned(value)))
                    .collect(),
                Value::Object(map) => map
                    .into_iter()
                    .map(|(key, value)| (key.into(), Got::owned(value)))
                    .collect(),
                Value::Number(number) if number.is_u64() => {
                    let count = number.as_u64().unwrap_or(0).min(MOST_STEPS as u64);
                    (0..count)
                        .map(|index| (index.into(), Got::owned(index.into())))
                        .collect()
                }
                other => {
                    let what = format!("range can't iterate over {}", text(&other));
                    return Err(match at {
                        Some(operand) => self.fail(operand, &what),
                        None => error_at(self.source, 0, &what),
                    });
                }
            },
        };
        if items.is_empty() {
            return self.list(&branch.otherwise, dot);
        }
        for (key, item) in items {
            let values = match branch.pipeline.variables.len() {
                2 => vec![Got::owned(key), item.clone()],
                1 => vec![item.clone()],
                _ => Vec::new(),
            };
            self.bind(&branch.pipeline, values);
            let flow = self.list(&branch.then, &item)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// Gives a pipeline's variables their values.
    fn bind(&mut self, pipeline: &'a Pipeline, values: Vec<Got<'a>>) {
        for (name, value) in pipeline.variables.iter().zip(values) {
            let slot = self.variables.iter_mut().rev().find(|slot| slot.0 == name);
            match slot {
                Some(slot) if pipeline.assigns => slot.1 = value,
                _ => self.variables.push((name, value)),
            }
        }
    }

    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Got<'a>) -> Result<Got<'a>, Error> {
        let got = self.commands(pipeline, dot)?;
        if !pipeline.variables.is_empty() {
            self.bind(pipeline, vec![got.clone()]);
        }
        Ok(got)
    }

    fn commands(&mut self, pipeline: &'a Pipeline, dot: &Got<'a>) -> Result<Got<'a>, Error> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or_else(Got::none))
    }

    fn command(
        &mut self,
        command: &'a Command,
        dot: &Got<'a>,
        piped: Option<Got<'a>>,
    ) -> Result<Got<'a>, Error> {
        let Some((first, rest)) = command.words.split_first() else {
            return Ok(Got::none());
        };
        self.step(first.at)?;
        if let Term::Function(function) = first.term {
            return self.call(function, first, rest, dot, piped);
        }
        let mut arguments = Vec::new();
        for word in rest {
            arguments.push(self.operand(word, dot)?);
        }
        arguments.extend(piped);
        if arguments.is_empty() {
            return self.operand(first, dot);
        }
        self.method(first, &arguments, dot)
    }

    /// `.Label "name"`: the only method there is.
    fn method(
        &mut self,
        operand: &Operand,
        arguments: &[Got<'a>],
        dot: &Got<'a>,
    ) -> Result<Got<'a>, Error> {
        let name = match arguments {
            [argument] => argument.value.as_deref().and_then(Value::as_str),
            _ => None,
        };
        let on_row = match operand.term {
            Term::Dot => dot.value.as_deref(),
            Term::Variable(ref name) if name.is_empty() => self.variables[0].1.value.as_deref(),
            _ => None,
        };
        let on_row = on_row.is_some_and(Value::is_object) && operand.fields == ["Label"];
        let label = match (self.labels, name) {
            (Labels::Of(labels), Some(name)) if on_row => {
                labels.get(name).cloned().unwrap_or_else(|| "".into())
            }
            (Labels::Heading, Some(name)) if on_row => name
                .rsplit('.')
                .next()
                .unwrap_or_default()
                .replace(['-', '_'], " ")
                .into(),
            _ => {
                let field = operand.fields.last().map_or("it", String::as_str);
                let what = format!("{field} has arguments but cannot be invoked as function");
                return Err(self.fail(operand, &what));
            }
        };
        Ok(Got::owned(label))
    }

    fn call(
        &mut self,
        function: Function,
        operand: &Operand,
        rest: &'a [Operand],
        dot: &Got<'a>,
        piped: Option<Got<'a>>,
    ) -> Result<Got<'a>, Error> {
        let count = rest.len() + usize::from(piped.is_some());
        function
            .arity(count)
            .map_err(|what| self.fail(operand, &what))?;
        if let Some(stops_at) = function.short_circuit() {
            return self.logic(stops_at, rest, dot, piped);
        }
        let mut arguments = Vec::with_capacity(count);
        for word in rest {
            arguments.push(self.operand(word, dot)?.into_value());
        }
        arguments.extend(piped.map(Got::into_value));
        let bytes = arguments.iter().filter_map(Value::as_str).map(str::len);
        if bytes.sum::<usize>() > MOST_ARGUMENT_BYTES {
            return Err(self.fail(operand, "the template has no end in sight"));
        }
        let heading = matches!(self.labels, Labels::Heading);
        let value = function.call(arguments, heading).map_err(|what| {
            self.fail(
                operand,
                &format!("error calling {}: {what}", function.name()),
            )
        })?;
        Ok(Got {
            value: Some(Cow::Owned(value)),
            open: false,
        })
    }

    /// `and` and `or`: the first argument that decides, and no later one is looked at.
    fn logic(
        &mut self,
        stops_at: bool,
        rest: &'a [Operand],
        dot: &Got<'a>,
        piped: Option<Got<'a>>,
    ) -> Result<Got<'a>, Error> {
        let mut last = Got::none();
        for word in rest {
            last = self.operand(word, dot)?;
            if last.truth() == stops_at {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Got<'a>) -> Result<Got<'a>, Error> {
        self.step(operand.at)?;
        let mut got = match &operand.term {
            Term::Dot => dot.clone(),
            Term::Nil => Got::owned(Value::Null),
            Term::Literal(value) => Got::borrowed(value),
            Term::Variable(name) => self
                .variables
                .iter()
                .rev()
                .find(|slot| slot.0 == name)
                .map_or_else(Got::none, |slot| slot.1.clone()),
            Term::Function(function) => {
                return self.call(*function, operand, &[], dot, None);
            }
            Term::Group(pipeline) => {
                let known = self.variables.len();
                let got = self.pipeline(pipeline, dot)?;
                self.variables.truncate(known);
                got
            }
        };
        for name in &operand.fields {
            got = field(got, name).map_err(|what| self.fail(operand, &what))?;
        }
        Ok(got)
    }
}

/// A field by its name; docker's own names differ from those in its JSON by capital letters (`.ID`, `Id`), so both are found.
fn field<'a>(got: Got<'a>, name: &str) -> Result<Got<'a>, String> {
    let open = got.open;
    let found = match got.value {
        None => return Ok(Got::none()),
        Some(Cow::Borrowed(Value::Object(map))) => {
            entry(map, name, open).map(|key| Cow::Borrowed(&map[key]))
        }
        Some(Cow::Owned(Value::Object(mut map))) => {
            let key = entry(&map, name, open).map(str::to_owned);
            key.and_then(|key| map.remove(&key)).map(Cow::Owned)
        }
        Some(value) if value.is_null() => {
            return Err(format!("nil pointer evaluating .{name}: there is none"));
        }
        Some(value) => {
            return Err(format!(
                "can't evaluate field {name} in type {}",
                kind(&value)
            ));
        }
    };
    match found {
        Some(value) => Ok(Got {
            value: Some(value),
            open: !open && MAPS.contains(&name),
        }),
        None if open => Ok(Got::none()),
        None => Err(format!("map has no entry for key {name:?}")),
    }
}

fn entry<'m>(map: &'m Map<String, Value>, name: &str, exact: bool) -> Option<&'m str> {
    if let Some((key, _)) = map.get_key_value(name) {
        return Some(key);
    }
    let mut close = map
        .keys()
        .filter(|key| !exact && key.eq_ignore_ascii_case(name));
    close.next().map(String::as_str)
}
