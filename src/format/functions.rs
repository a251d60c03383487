//! The functions of templates: Go's own, and those docker adds.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::Value;

use super::printf::printf;
use super::value::{equal, kind, order, text, truth};

/// Longer texts than this are not padded to.
const WIDEST: usize = 100_000;

/// A function by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function(&'static str);

/// Name, and how many arguments it takes: at least, at most.
const ALL: [(&str, usize, usize); 25] = [
    ("and", 1, usize::MAX),
    ("eq", 2, usize::MAX),
    ("ge", 2, 2),
    ("gt", 2, 2),
    ("index", 1, usize::MAX),
    ("join", 2, 2),
    ("json", 1, 1),
    ("le", 2, 2),
    ("len", 1, 1),
    ("lower", 1, 1),
    ("lt", 2, 2),
    ("ne", 2, 2),
    ("not", 1, 1),
    ("or", 1, usize::MAX),
    ("pad", 3, 3),
    ("print", 0, usize::MAX),
    ("printf", 1, usize::MAX),
    ("println", 0, usize::MAX),
    ("slice", 1, 3),
    ("split", 2, 2),
    ("title", 1, 1),
    ("truncate", 2, 2),
    ("upper", 1, 1),
    ("urlquery", 0, usize::MAX),
    ("html", 0, usize::MAX),
];

impl Function {
    /// The function of a name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|row| row.0 == name).map(|row| Self(row.0))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Whether it takes so many arguments; if not, Go's words for it.
    pub fn arity(self, count: usize) -> Result<(), String> {
        let (_, least, most) = ALL.iter().find(|row| row.0 == self.0).unwrap_or(&ALL[0]);
        if (*least..=*most).contains(&count) {
            return Ok(());
        }
        let least_word = if least == most { "" } else { "at least " };
        let name = self.0;
        Err(format!(
            "wrong number of args for {name}: want {least_word}{least} got {count}"
        ))
    }

    /// For `and` and `or`: the truth that ends them.
    pub fn short_circuit(self) -> Option<bool> {
        match self.0 {
            "and" => Some(false),
            "or" => Some(true),
            _ => None,
        }
    }

    /// Calls it with as many arguments as it takes. In the head of a table, what changes a value leaves the field's name.
    pub fn call(self, mut arguments: Vec<Value>, heading: bool) -> Result<Value, String> {
        let cosmetic = [
            "join", "json", "lower", "pad", "split", "title", "truncate", "upper",
        ];
        if heading && cosmetic.contains(&self.0) {
            return Ok(arguments.swap_remove(0));
        }
        Ok(match (self.0, arguments.as_slice()) {
            ("eq", [first, rest @ ..]) => {
                for other in rest {
                    if equal(first, other)? {
                        return Ok(true.into());
                    }
                }
                false.into()
            }
            ("ne", [a, b]) => (!equal(a, b)?).into(),
            ("lt", [a, b]) => (order(a, b)? == Ordering::Less).into(),
            ("le", [a, b]) => (order(a, b)? != Ordering::Greater).into(),
            ("gt", [a, b]) => (order(a, b)? == Ordering::Greater).into(),
            ("ge", [a, b]) => (order(a, b)? != Ordering::Less).into(),
            ("not", [value]) => (!truth(value)).into(),
            ("index", [value, keys @ ..]) => index(value, keys)?,
            ("slice", [value, bounds @ ..]) => slice(value, bounds)?,
            ("len", [value]) => length(value)?.into(),
            ("json", [value]) => value.to_string().into(),
            ("print", all) => print(all).into(),
            ("println", all) => {
                let words: Vec<String> = all.iter().map(text).collect();
                format!("{}\n", words.join(" ")).into()
            }
            ("printf", [format, rest @ ..]) => printf(string(format)?, rest).into(),
            ("html", all) => escape_html(&print(all)).into(),
            ("urlquery", all) => escape_query(&print(all)).into(),
            ("join", [list, separator]) => join(list, string(separator)?)?.into(),
            ("split", [whole, separator]) => split(string(whole)?, string(separator)?),
            ("lower", [value]) => string(value)?.to_lowercase().into(),
            ("upper", [value]) => string(value)?.to_uppercase().into(),
            ("title", [value]) => title(string(value)?).into(),
            ("pad", [value, before, after]) => pad(string(value)?, before, after)?.into(),
            ("truncate", [value, most]) => {
                let most = whole(most)?;
                string(value)?.chars().take(most).collect::<String>().into()
            }
            _ => return Err("wrong arguments".to_owned()),
        })
    }
}

fn string(value: &Value) -> Result<&str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("wrong type for value; expected string; got {}", kind(value)))
}

fn whole(value: &Value) -> Result<usize, String> {
    value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| {
            format!(
                "wrong type for value; expected a count; got {}",
                text(value)
            )
        })
}

/// `index map "key" 3 …`; what a map does not have is nothing.
fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut here = value;
    for key in keys {
        here = match (here, key) {
            (Value::Object(map), Value::String(key)) => match map.get(key) {
                Some(value) => value,
                // The maps of docker's answers have texts for values, and Go gives the empty one.
                None => return Ok(Value::String(String::new())),
            },
            (Value::Object(_), key) => {
                return Err(format!("value has type {}; should be string", kind(key)));
            }
            (Value::Array(list), key) => {
                let at = whole(key)
                    .map_err(|_| format!("cannot index slice/array with type {}", kind(key)))?;
                list.get(at)
                    .ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::String(text), key) => {
                let at = whole(key)?;
                let byte = text.as_bytes().get(at);
                let byte = byte.ok_or_else(|| format!("index out of range: {at}"))?;
                return Ok((*byte).into());
            }
            (Value::Null, _) => return Err("index of untyped nil".to_owned()),
            (other, _) => return Err(format!("can't index item of type {}", kind(other))),
        };
    }
    Ok(here.clone())
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = length(value)?;
    let bound = |at: usize, otherwise: usize| bounds.get(at).map_or(Ok(otherwise), whole);
    let (start, end) = (bound(0, 0)?, bound(1, length)?);
    if start > end || end > length {
        return Err(format!("index out of range: {start}:{end}"));
    }
    match value {
        Value::Array(list) => Ok(list[start..end].to_vec().into()),
        Value::String(text) => match text.get(start..end) {
            Some(part) => Ok(part.into()),
            None => Err(format!("index inside a character: {start}:{end}")),
        },
        other => Err(format!("can't slice item of type {}", kind(other))),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(map) => Ok(map.len()),
        other => Err(format!("len of type {}", kind(other))),
    }
}

/// Go's `fmt.Sprint`: a space between two neighbours of which neither is a text.
pub fn print(all: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in all.iter().enumerate() {
        if at > 0 && !value.is_string() && !all[at - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&text(value));
    }
    out
}

fn join(list: &Value, separator: &str) -> Result<String, String> {
    match list {
        Value::Null => Ok(String::new()),
        Value::Array(list) => Ok(list.iter().map(text).collect::<Vec<_>>().join(separator)),
        other => Err(format!(
            "wrong type for value; expected []string; got {}",
            kind(other)
        )),
    }
}

fn split(whole: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return whole.chars().map(String::from).collect();
    }
    whole.split(separator).collect()
}

/// The first letter of each word as a capital.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if before.is_alphanumeric() || matches!(before, '_' | '\'') {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        before = c;
    }
    out
}

fn pad(text: &str, before: &Value, after: &Value) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let (before, after) = (whole(before)?, whole(after)?);
    if before > WIDEST || after > WIDEST {
        return Err(format!("more than {WIDEST} spaces"));
    }
    Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)))
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn escape_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(char::from(b)),
            b => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}
