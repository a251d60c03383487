//! Template text to tokens, with Go's rules (text/template/parse): where an action begins and ends, what is trimmed.

use super::Error;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: Kind,
    /// Offset of its first byte.
    pub at: usize,
    /// Offset behind its last byte.
    pub end: usize,
    /// Whether white space stands before it.
    pub spaced: bool,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Text between actions, as it is to be printed.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `(`
    Left,
    /// `)`
    Right,
    /// `|`
    Pipe,
    /// `,`
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// `.` alone
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`, without the dollar sign
    Variable(String),
    /// A function, a keyword, `true`, `false` or `nil`
    Word(String),
    /// A quoted text or a character constant, unquoted
    Quoted(serde_json::Value),
    /// A number as written
    Number(String),
}

/// An error at a place of the template, counted as Go counts: lines from one, bytes of a line from nought.
pub fn error_at(text: &str, at: usize, what: &str) -> Error {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.split(|&b| b == b'\n').count();
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count();
    Error::new(
        format!("template: :{line}:{column}: {what}"),
        "--format '{{.Field}}', '{{json .}}', or 'table {{.Field}}\\t{{.Other}}'",
    )
}

/// All tokens of a template.
pub fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer {
        text,
        at: 0,
        tokens: Vec::new(),
    };
    let mut trim = false;
    while let Some(found) = text[lexer.at..].find("{{") {
        let open = lexer.at + found;
        let trims_before = is_trim(&text[open + 2..]);
        lexer.text_until(open, trim, trims_before);
        trim = lexer.action(open, trims_before)?;
    }
    lexer.text_until(text.len(), trim, false);
    Ok(lexer.tokens)
}

/// `- ` behind `{{`: a hyphen that white space follows.
fn is_trim(rest: &str) -> bool {
    rest.strip_prefix('-')
        .is_some_and(|rest| rest.starts_with([' ', '\t', '\r', '\n']))
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn text_until(&mut self, end: usize, trim_start: bool, trim_end: bool) {
        let mut piece = &self.text[self.at..end];
        if trim_start {
            piece = piece.trim_start_matches([' ', '\t', '\r', '\n']);
        }
        if trim_end {
            piece = piece.trim_end_matches([' ', '\t', '\r', '\n']);
        }
        if !piece.is_empty() {
            self.push(Kind::Text(piece.to_owned()), self.at, end, false);
        }
        self.at = end;
    }

    fn push(&mut self, kind: Kind, at: usize, end: usize, spaced: bool) {
        self.tokens.push(Token {
            kind,
            at,
            end,
            spaced,
        });
    }

    /// One action from its `{{`; returns whether white space behind it is dropped.
    fn action(&mut self, open: usize, trims_before: bool) -> Result<bool, Error> {
        self.at = open + 2 + usize::from(trims_before);
        let inside = self.text[self.at..].trim_start();
        if inside.starts_with("/*") && (trims_before || self.text[self.at..].starts_with("/*")) {
            return self.comment(open);
        }
        self.push(Kind::Open, open, open + 2, false);
        loop {
            let start = self.at;
            self.skip_space();
            let spaced = self.at > start;
            let rest = &self.text[self.at..];
            let trims_after = spaced && rest.starts_with("-}}");
            if trims_after || rest.starts_with("}}") {
                let at = self.at;
                self.at += if trims_after { 3 } else { 2 };
                self.push(Kind::Close, at, self.at, spaced);
                return Ok(trims_after);
            }
            let at = self.at;
            let kind = self.token(open)?;
            self.push(kind, at, self.at, spaced);
        }
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at = self.text.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn comment(&mut self, open: usize) -> Result<bool, Error> {
        self.skip_space();
        let Some(length) = self.text[self.at..].find("*/") else {
            return Err(error_at(self.text, open, "unclosed comment"));
        };
        self.at += length + 2;
        let rest = &self.text[self.at..];
        if rest.starts_with("}}") {
            self.at += 2;
            return Ok(false);
        }
        let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if trimmed.len() < rest.len() && trimmed.starts_with("-}}") {
            self.at = self.text.len() - trimmed.len() + 3;
            return Ok(true);
        }
        Err(error_at(
            self.text,
            open,
            "comment ends before closing delimiter",
        ))
    }

    fn token(&mut self, open: usize) -> Result<Kind, Error> {
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else {
            return Err(error_at(self.text, open, "unclosed action"));
        };
        let simple = match first {
            '(' => Some(Kind::Left),
            ')' => Some(Kind::Right),
            '|' => Some(Kind::Pipe),
            ',' => Some(Kind::Comma),
            '=' => Some(Kind::Assign),
            _ => None,
        };
        if let Some(kind) = simple {
            self.at += 1;
            return Ok(kind);
        }
        match first {
            ':' if rest.starts_with(":=") => {
                self.at += 2;
                Ok(Kind::Declare)
            }
            '"' | '`' | '\'' => self.quoted(first),
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let name = word(&rest[1..]);
                self.at += 1 + name.len();
                Ok(if name.is_empty() {
                    Kind::Dot
                } else {
                    Kind::Field(name.to_owned())
                })
            }
            '$' => {
                let name = word(&rest[1..]);
                self.at += 1 + name.len();
                Ok(Kind::Variable(name.to_owned()))
            }
            c if c.is_ascii_digit() || matches!(c, '.' | '+' | '-') => self.number(),
            c if c.is_alphanumeric() || c == '_' => {
                let name = word(rest);
                self.at += name.len();
                Ok(Kind::Word(name.to_owned()))
            }
            '\n' | '}' => Err(error_at(self.text, open, "unclosed action")),
            c => Err(error_at(
                self.text,
                self.at,
                &format!("unexpected {c:?} in an action"),
            )),
        }
    }

    fn number(&mut self) -> Result<Kind, Error> {
        let rest = &self.text[self.at..];
        let sign = usize::from(rest.starts_with(['+', '-']));
        let hexadecimal = rest[sign..].starts_with("0x") || rest[sign..].starts_with("0X");
        let mut last = ' ';
        let length = rest[sign..]
            .find(|c: char| {
                let exponent = !hexadecimal && matches!(last, 'e' | 'E') && matches!(c, '+' | '-');
                last = c;
                !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || exponent)
            })
            .unwrap_or(rest.len() - sign);
        let typed = &rest[..sign + length];
        if super::value::number(typed).is_none() {
            let what = format!("bad number syntax: {typed:?}");
            return Err(error_at(self.text, self.at, &what));
        }
        self.at += typed.len();
        Ok(Kind::Number(typed.to_owned()))
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, Error> {
        let start = self.at;
        let unterminated = match quote {
            '"' => "unterminated quoted string",
            '`' => "unterminated raw quoted string",
            _ => "unterminated character constant",
        };
        let fail = |what: &str| Err(error_at(self.text, start, what));
        let mut text = String::new();
        let mut characters = self.text[start + 1..].char_indices();
        loop {
            let Some((offset, c)) = characters.next() else {
                return fail(unterminated);
            };
            match c {
                c if c == quote => {
                    self.at = start + 1 + offset + 1;
                    break;
                }
                '\n' if quote != '`' => return fail(unterminated),
                '\\' if quote != '`' => match escape(&mut characters, quote) {
                    Some(c) => text.push(c),
                    None => return fail("bad escape in a quoted text"),
                },
                c => text.push(c),
            }
        }
        if quote != '\'' {
            return Ok(Kind::Quoted(text.into()));
        }
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(c), None) => Ok(Kind::Quoted(u32::from(c).into())),
            _ => fail("malformed character constant"),
        }
    }
}

/// What stands behind a backslash (the Go specification, "Rune literals").
fn escape(characters: &mut std::str::CharIndices<'_>, quote: char) -> Option<char> {
    let (_, c) = characters.next()?;
    let mut digits = |first: Option<char>, count: usize, radix: u32| {
        let mut number = first.map_or(Some(0), |c| c.to_digit(radix))?;
        for _ in usize::from(first.is_some())..count {
            let digit = characters.next()?.1.to_digit(radix)?;
            number = number.checked_mul(radix)?.checked_add(digit)?;
        }
        char::from_u32(number)
    };
    match c {
        'a' => Some('\x07'),
        'b' => Some('\x08'),
        'f' => Some('\x0c'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\x0b'),
        '\\' => Some('\\'),
        'x' => digits(None, 2, 16),
        'u' => digits(None, 4, 16),
        'U' => digits(None, 8, 16),
        '0'..='7' => digits(Some(c), 3, 8),
        c if c == quote => Some(c),
        _ => None,
    }
}

/// The letters, digits and underscores that a text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}
