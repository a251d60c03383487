//! Tokens to a tree (text/template/parse). What can be wrong without looking at data is found here.

use serde_json::Value;

use super::Error;
use super::functions::Function;
use super::lex::{Kind, Token, error_at, tokens};

/// Blocks and parentheses within each other; more than anybody writes, and less than a stack holds.
const DEEPEST: usize = 100;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    pub(super) source: String,
    pub(super) nodes: Vec<Node>,
}

/// What a template is made of.
#[derive(Clone, Debug)]
pub enum Node {
    Text(String),
    Action(Pipeline),
    If(Branch),
    With(Branch),
    Range(Branch),
    Break,
    Continue,
}

/// A condition and what depends on it.
#[derive(Clone, Debug)]
pub struct Branch {
    pub pipeline: Pipeline,
    pub then: Vec<Node>,
    pub otherwise: Vec<Node>,
}

/// `$a, $b := first | second`
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Variables that take its value.
    pub variables: Vec<String>,
    /// They exist already (`=` instead of `:=`).
    pub assigns: bool,
    pub commands: Vec<Command>,
}

/// A term and its arguments.
#[derive(Clone, Debug)]
pub struct Command {
    pub words: Vec<Operand>,
}

/// A term and the fields behind it: `$x.State.Health`.
#[derive(Clone, Debug)]
pub struct Operand {
    pub at: usize,
    pub end: usize,
    pub term: Term,
    pub fields: Vec<String>,
}

/// What an operand begins with.
#[derive(Clone, Debug)]
pub enum Term {
    Dot,
    Nil,
    Literal(Value),
    Variable(String),
    Function(Function),
    Group(Box<Pipeline>),
}

/// How a list of nodes ended.
enum Ending {
    Text,
    End,
    Else(usize),
}

impl Template {
    /// Parses a template; `{{json .}}` may be typed `json`.
    ///
    /// # Errors
    /// What Go would refuse to parse, with line and column.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = if text == "json" { "{{json .}}" } else { text };
        let mut parser = Parser {
            source: text,
            tokens: tokens(text)?.into_iter().peekable(),
            variables: vec![String::new()],
            loops: 0,
            depth: 0,
        };
        let (nodes, ending) = parser.list()?;
        match ending {
            Ending::Text => {}
            Ending::End => return Err(parser.fail(text.len(), "unexpected {{end}}")),
            Ending::Else(at) => return Err(parser.fail(at, "unexpected {{else}}")),
        }
        Ok(Self {
            source: text.to_owned(),
            nodes,
        })
    }
}

impl Template {
    /// The first names of the fields it takes from the whole value, outside of what changes what the dot is.
    pub fn fields(&self) -> Vec<&str> {
        let mut names = Vec::new();
        in_nodes(&self.nodes, &mut names);
        names
    }
}

fn in_nodes<'a>(nodes: &'a [Node], names: &mut Vec<&'a str>) {
    for node in nodes {
        match node {
            Node::Action(pipeline) => in_pipeline(pipeline, names),
            Node::If(branch) => {
                in_pipeline(&branch.pipeline, names);
                in_nodes(&branch.then, names);
                in_nodes(&branch.otherwise, names);
            }
            Node::With(branch) | Node::Range(branch) => {
                in_pipeline(&branch.pipeline, names);
                in_nodes(&branch.otherwise, names);
            }
            Node::Text(_) | Node::Break | Node::Continue => {}
        }
    }
}

fn in_pipeline<'a>(pipeline: &'a Pipeline, names: &mut Vec<&'a str>) {
    for operand in pipeline.commands.iter().flat_map(|command| &command.words) {
        match &operand.term {
            Term::Dot => names.extend(operand.fields.first().map(String::as_str)),
            Term::Group(pipeline) => in_pipeline(pipeline, names),
            _ => {}
        }
    }
}

struct Parser<'a> {
    source: &'a str,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    /// Names that are known here; `$` is the empty one.
    variables: Vec<String>,
    loops: usize,
    depth: usize,
}

impl Parser<'_> {
    fn fail(&self, at: usize, what: &str) -> Error {
        error_at(self.source, at, what)
    }

    fn unexpected(&self, token: Option<&Token>, context: &str) -> Error {
        match token {
            None => self.fail(self.source.len(), &format!("unexpected end in {context}")),
            Some(token) => {
                let shown = &self.source[token.at..token.end];
                self.fail(token.at, &format!("unexpected {shown:?} in {context}"))
            }
        }
    }

    fn deeper(&mut self, at: usize) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.fail(at, "blocks and parentheses are nested too deeply"));
        }
        Ok(())
    }

    fn list(&mut self) -> Result<(Vec<Node>, Ending), Error> {
        let mut nodes = Vec::new();
        while let Some(token) = self.tokens.next() {
            if let Kind::Text(text) = token.kind {
                nodes.push(Node::Text(text));
                continue;
            }
            // What is no text is the beginning of an action.
            let keyword = match self.tokens.peek() {
                Some(Token {
                    kind: Kind::Word(word),
                    ..
                }) => word.clone(),
                _ => String::new(),
            };
            let at = token.at;
            match keyword.as_str() {
                "if" => nodes.push(Node::If(self.branch(at, "if")?)),
                "with" => nodes.push(Node::With(self.branch(at, "with")?)),
                "range" => nodes.push(Node::Range(self.branch(at, "range")?)),
                "end" => {
                    self.tokens.next();
                    self.close("end")?;
                    return Ok((nodes, Ending::End));
                }
                "else" => {
                    self.tokens.next();
                    return Ok((nodes, Ending::Else(at)));
                }
                "break" | "continue" => {
                    self.tokens.next();
                    if self.loops == 0 {
                        return Err(
                            self.fail(at, &format!("{{{{{keyword}}}}} outside {{{{range}}}}"))
                        );
                    }
                    self.close(&keyword)?;
                    nodes.push(if keyword == "break" {
                        Node::Break
                    } else {
                        Node::Continue
                    });
                }
                "define" | "template" | "block" => {
                    let what = format!(
                        "{{{{{keyword}}}}} is not understood here: one template, no named parts"
                    );
                    return Err(self.fail(at, &what));
                }
                _ => {
                    let pipeline = self.pipeline("command")?;
                    self.close("command")?;
                    nodes.push(Node::Action(pipeline));
                }
            }
        }
        Ok((nodes, Ending::Text))
    }

    fn close(&mut self, context: &str) -> Result<(), Error> {
        match self.tokens.next() {
            Some(Token {
                kind: Kind::Close, ..
            }) => Ok(()),
            other => Err(self.unexpected(other.as_ref(), context)),
        }
    }

    /// `if`, `with` or `range`, from its keyword to its `{{end}}`.
    fn branch(&mut self, at: usize, keyword: &str) -> Result<Branch, Error> {
        self.deeper(at)?;
        self.tokens.next();
        let known = self.variables.len();
        let pipeline = self.pipeline(keyword)?;
        self.close(keyword)?;
        let is_loop = keyword == "range";
        let inside = self.variables.len();
        self.loops += usize::from(is_loop);
        let (then, ending) = self.list()?;
        self.loops -= usize::from(is_loop);
        self.variables.truncate(inside);
        let otherwise = match ending {
            Ending::End => Vec::new(),
            Ending::Text => return Err(self.fail(at, &format!("{keyword} has no {{{{end}}}}"))),
            Ending::Else(at) => self.otherwise(at, keyword)?,
        };
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(Branch {
            pipeline,
            then,
            otherwise,
        })
    }

    /// What follows `{{else`: a list with an end of its own, or a chained condition that shares this one's.
    fn otherwise(&mut self, at: usize, keyword: &str) -> Result<Vec<Node>, Error> {
        let chained = matches!(self.tokens.peek(), Some(Token { kind: Kind::Word(word), .. })
            if word == keyword && keyword != "range");
        if chained {
            let branch = self.branch(at, keyword)?;
            return Ok(vec![if keyword == "if" {
                Node::If(branch)
            } else {
                Node::With(branch)
            }]);
        }
        self.close("else")?;
        match self.list()? {
            (nodes, Ending::End) => Ok(nodes),
            (_, Ending::Text) => Err(self.fail(at, "{{else}} has no {{end}}")),
            (_, Ending::Else(at)) => Err(self.fail(at, "expected {{end}}; found {{else}}")),
        }
    }

    /// Up to, not including, what closes it.
    fn pipeline(&mut self, context: &str) -> Result<Pipeline, Error> {
        let (variables, assigns) = self.declaration(context)?;
        let mut commands: Vec<Command> = Vec::new();
        loop {
            let command = self.command(context)?;
            if let (false, Some(first)) = (commands.is_empty(), command.words.first())
                && matches!(first.term, Term::Literal(_) | Term::Nil | Term::Dot)
                && first.fields.is_empty()
            {
                let what = format!(
                    "non executable command in pipeline stage {}",
                    commands.len() + 1
                );
                return Err(self.fail(first.at, &what));
            }
            commands.push(command);
            match self.tokens.peek().map(|token| &token.kind) {
                Some(Kind::Pipe) => {
                    self.tokens.next();
                }
                Some(Kind::Close | Kind::Right) => break,
                _ => {
                    let token = self.tokens.next();
                    return Err(self.unexpected(token.as_ref(), context));
                }
            }
        }
        // A variable is not known in the pipeline that gives it its value.
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline {
            variables,
            assigns,
            commands,
        })
    }

    fn declaration(&mut self, context: &str) -> Result<(Vec<String>, bool), Error> {
        let mut ahead = self.tokens.clone();
        let mut names = Vec::new();
        while let Some(Token {
            kind: Kind::Variable(name),
            at,
            ..
        }) = ahead.next()
        {
            names.push((name, at));
            match ahead.next().map(|token| token.kind) {
                Some(Kind::Comma) if context == "range" && names.len() < 2 => {}
                Some(kind @ (Kind::Declare | Kind::Assign)) => {
                    let assigns = kind == Kind::Assign;
                    for (name, at) in &names {
                        if assigns || name.is_empty() {
                            self.known(name, *at)?;
                        }
                    }
                    self.tokens = ahead;
                    return Ok((names.into_iter().map(|(name, _)| name).collect(), assigns));
                }
                _ => break,
            }
        }
        Ok((Vec::new(), false))
    }

    fn known(&self, name: &str, at: usize) -> Result<(), Error> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(self.fail(at, &format!("undefined variable \"${name}\"")))
    }

    fn command(&mut self, context: &str) -> Result<Command, Error> {
        let mut words: Vec<Operand> = Vec::new();
        while let Some(token) = self.tokens.peek() {
            if matches!(token.kind, Kind::Pipe | Kind::Close | Kind::Right) {
                break;
            }
            if !words.is_empty() && !token.spaced {
                let token = self.tokens.next();
                return Err(self.unexpected(token.as_ref(), "operand"));
            }
            words.push(self.operand(context)?);
        }
        match words.first() {
            None => {
                let token = self.tokens.next();
                let at = token.map_or(self.source.len(), |token| token.at);
                Err(self.fail(at, &format!("missing value for {context}")))
            }
            Some(first) if words.len() > 1 && !first.may_take_arguments() => {
                let shown = &self.source[first.at..first.end];
                let what = format!("can't give argument to non-function {shown}");
                Err(self.fail(first.at, &what))
            }
            Some(_) => Ok(Command { words }),
        }
    }

    fn operand(&mut self, context: &str) -> Result<Operand, Error> {
        let Some(token) = self.tokens.next() else {
            return Err(self.unexpected(None, context));
        };
        let mut fields = Vec::new();
        let mut end = token.end;
        let term = match token.kind {
            Kind::Dot => Term::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Term::Dot
            }
            Kind::Variable(name) => {
                self.known(&name, token.at)?;
                Term::Variable(name)
            }
            Kind::Quoted(value) => Term::Literal(value),
            Kind::Number(typed) => {
                Term::Literal(super::value::number(&typed).map_or(Value::Null, Value::Number))
            }
            Kind::Word(word) => match word.as_str() {
                "true" => Term::Literal(true.into()),
                "false" => Term::Literal(false.into()),
                "nil" => Term::Nil,
                name => Term::Function(Function::named(name).ok_or_else(|| {
                    self.fail(token.at, &format!("function {name:?} not defined"))
                })?),
            },
            Kind::Left => {
                self.deeper(token.at)?;
                let pipeline = self.pipeline("parenthesized pipeline")?;
                let closing = self.tokens.next();
                match closing {
                    Some(Token {
                        kind: Kind::Right,
                        end: last,
                        ..
                    }) => end = last,
                    _ => return Err(self.fail(token.at, "unclosed left paren")),
                }
                self.depth -= 1;
                Term::Group(Box::new(pipeline))
            }
            _ => return Err(self.unexpected(Some(&token), context)),
        };
        while let Some(next) = self.tokens.peek()
            && !next.spaced
            && let Kind::Field(name) = &next.kind
        {
            if matches!(term, Term::Literal(_) | Term::Nil | Term::Function(_)) {
                let shown = &self.source[token.at..token.end];
                let at = next.at;
                return Err(self.fail(at, &format!("unexpected . after term {shown:?}")));
            }
            fields.push(name.clone());
            end = next.end;
            self.tokens.next();
        }
        Ok(Operand {
            at: token.at,
            end,
            term,
            fields,
        })
    }
}

impl Operand {
    /// Functions take arguments, and fields do, which may be methods.
    fn may_take_arguments(&self) -> bool {
        matches!(self.term, Term::Function(_)) || !self.fields.is_empty()
    }
}
