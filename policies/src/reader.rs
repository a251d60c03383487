//! Typed values out of a TOML file, each failure with its place, what was expected, and an example.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Error;
use crate::keys::{self, KEYS, Key};
use crate::nearest::nearest;
use crate::quantity::{parse_duration, parse_size};

/// A value with its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// How a file is written, for one that cannot be read as TOML.
pub const SYNTAX: &str = "for example: timeout = \"120s\", or below [limits]: pids = 256; text stands in quotes, a list in [ ]";

/// The word for no bound.
const UNLIMITED: &str = "unlimited";

/// A file that is being read.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub text: &'a str,
    pub origin: &'a str,
}

impl<'a> Reader<'a> {
    /// The whole file as a table.
    pub fn document(self) -> Result<DeTable<'a>, Error> {
        DeTable::parse(self.text)
            .map(Spanned::into_inner)
            .map_err(|error| {
                let span = error.span().unwrap_or(0..0);
                let message = match (error.message(), self.text.get(span.clone())) {
                    ("duplicate key", Some(key)) => {
                        format!("duplicate key {key:?}: it is given twice; expected once")
                    }
                    (message, _) => message.to_owned(),
                };
                self.error(&span, message, Some(SYNTAX.to_owned()))
            })
    }

    /// An error at `span`.
    pub fn error(self, span: &Range<usize>, message: String, help: Option<String>) -> Error {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Error::File {
            origin: self.origin.to_owned(),
            line,
            column,
            message,
            help,
        }
    }

    /// The keys of a section in the order of the file, each with its full name looked up; `section` is empty at the top.
    pub fn entries<'t>(
        self,
        table: &'t DeTable<'a>,
        section: &str,
    ) -> Result<Vec<(&'static Key, &'t Value<'a>)>, Error> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
            .into_iter()
            .map(|(name, value)| {
                let path = join(section, name.get_ref());
                keys::find(&path)
                    .map(|key| (key, value))
                    .ok_or_else(|| self.unknown(&name.span(), section, name.get_ref()))
            })
            .collect()
    }

    fn unknown(self, span: &Range<usize>, section: &str, name: &str) -> Error {
        let here = KEYS.iter().filter(|key| key.section() == section);
        let place = if section.is_empty() {
            String::new()
        } else {
            format!(" in {section}")
        };
        let meant = nearest(name, here.clone().map(Key::name));
        // The same key may be well known in another section.
        let elsewhere = KEYS
            .iter()
            .find(|key| key.name() == name && !key.section().is_empty());
        let (message, help) = match (
            meant.and_then(|meant| keys::find(&join(section, meant))),
            elsewhere,
        ) {
            (Some(key), _) => (
                format!(
                    "unknown key {name:?}{place}; the nearest known key is {:?}",
                    key.name()
                ),
                Some(example(key)),
            ),
            (None, Some(key)) => (
                format!(
                    "unknown key {name:?}{place}; it belongs in [{}]",
                    key.section()
                ),
                Some(example(key)),
            ),
            (None, None) => {
                let known: Vec<_> = here.map(Key::name).collect();
                (
                    format!(
                        "unknown key {name:?}{place}; known here are: {}",
                        known.join(", ")
                    ),
                    None,
                )
            }
        };
        self.error(span, message, help)
    }

    /// An error that says what `key` expects and what it got.
    pub fn expected(self, key: &Key, value: &Value<'_>) -> Error {
        self.error(
            &value.span(),
            format!(
                "{}: expected {}, found {}",
                key.path,
                key.expects,
                shown(value)
            ),
            Some(example(key)),
        )
    }

    /// An error about `value` in the words of `problem`.
    pub fn wrong(self, key: &Key, value: &Value<'_>, problem: &str) -> Error {
        self.error(
            &value.span(),
            format!("{}: {problem}", key.path),
            Some(example(key)),
        )
    }

    pub fn table<'t>(self, key: &Key, value: &'t Value<'a>) -> Result<&'t DeTable<'a>, Error> {
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.expected(key, value))
    }

    pub fn list<'t>(self, key: &Key, value: &'t Value<'a>) -> Result<&'t [Value<'a>], Error> {
        match value.get_ref() {
            DeValue::Array(list) => Ok(list),
            _ => Err(self.expected(key, value)),
        }
    }

    pub fn text(self, key: &Key, value: &Value<'a>) -> Result<String, Error> {
        match value.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                Err(self.wrong(key, value, "there is a NUL character in it"))
            }
            DeValue::String(text) => Ok(text.to_string()),
            _ => Err(self.expected(key, value)),
        }
    }

    pub fn flag(self, key: &Key, value: &Value<'a>) -> Result<bool, Error> {
        value
            .get_ref()
            .as_bool()
            .ok_or_else(|| self.expected(key, value))
    }

    /// One of an enum's words.
    pub fn word<T>(
        self,
        key: &Key,
        value: &Value<'a>,
        words: &[&str],
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        let Some(word) = value.get_ref().as_str() else {
            return Err(self.expected(key, value));
        };
        read(word).ok_or_else(|| match nearest(word, words.iter().copied()) {
            Some(meant) => self.wrong(
                key,
                value,
                &format!(
                    "expected {}, found {word:?}; did you mean {meant:?}?",
                    key.expects
                ),
            ),
            None => self.expected(key, value),
        })
    }

    /// A whole number from 0.
    pub fn count(self, key: &Key, value: &Value<'a>) -> Result<u64, Error> {
        whole(value).ok_or_else(|| self.expected(key, value))
    }

    /// A number of processors: from what the kernel takes for a quota to more than it knows.
    pub fn processors(self, key: &Key, value: &Value<'a>) -> Result<f64, Error> {
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
            DeValue::Integer(integer) => integer.as_str().replace('_', "").parse().ok(),
            _ => None,
        };
        number
            .filter(|number: &f64| (0.01..=65_536.0).contains(number))
            .ok_or_else(|| self.expected(key, value))
    }

    pub fn size(self, key: &Key, value: &Value<'a>) -> Result<u64, Error> {
        match value.get_ref() {
            DeValue::String(text) => parse_size(text),
            _ => whole(value),
        }
        .ok_or_else(|| self.expected(key, value))
    }

    pub fn duration(self, key: &Key, value: &Value<'a>) -> Result<Duration, Error> {
        match value.get_ref() {
            DeValue::String(text) => parse_duration(text),
            _ => whole(value).map(Duration::from_secs),
        }
        .ok_or_else(|| self.expected(key, value))
    }

    /// What `read` reads, or none for "unlimited".
    pub fn or_unlimited<T>(
        self,
        key: &Key,
        value: &Value<'a>,
        read: impl Fn(Self, &Key, &Value<'a>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        if value.get_ref().as_str() == Some(UNLIMITED) {
            Ok(None)
        } else {
            read(self, key, value).map(Some)
        }
    }

    /// A list, each item read by `read`, none twice.
    pub fn each<T: PartialEq>(
        self,
        key: &Key,
        value: &Value<'a>,
        read: impl Fn(Self, &Key, &Value<'a>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        for item in self.list(key, value)? {
            let read = read(self, key, item)?;
            if items.contains(&read) {
                return Err(self.wrong(key, item, &format!("{} is there twice", shown(item))));
            }
            items.push(read);
        }
        Ok(items)
    }
}

/// `key` as a line of a file.
pub fn example(key: &Key) -> String {
    match key.section() {
        "" => format!("for example: {} = {}", key.name(), key.example),
        section => format!(
            "for example, in {section}: {} = {}",
            key.name(),
            key.example
        ),
    }
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() {
        name.to_owned()
    } else {
        format!("{section}.{name}")
    }
}

/// A whole number from 0.
fn whole(value: &Value<'_>) -> Option<u64> {
    let integer = value.get_ref().as_integer()?;
    u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

/// A value for an error message.
fn shown(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        DeValue::Integer(integer) => integer.as_str().to_owned(),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}
