//! `--filter key=value`, as docker understands it: values of one key are alternatives, labels must all be there.

use regex_lite::Regex;

use super::Error;

/// A key that a verb's `--filter` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub takes: Takes,
}

/// What the values of a filter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Any text.
    Text,
    /// A regular expression, found anywhere in a name.
    Pattern,
    /// `name` or `name=value`.
    Label,
    /// A whole number.
    Number,
    /// True or false.
    Truth,
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Key {
    /// A key and what its values are.
    pub const fn new(name: &'static str, takes: Takes) -> Self {
        Self { name, takes }
    }
}

/// What was asked for with `--filter`.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    all: Vec<(Key, String, Option<Regex>)>,
}

impl Filters {
    /// Understands every `--filter` of a verb that knows `keys`.
    ///
    /// # Errors
    /// An unknown key, with those there are; a value that is not of the key's kind.
    pub fn parse<T: AsRef<str>>(
        typed: impl IntoIterator<Item = T>,
        keys: &[Key],
    ) -> Result<Self, Error> {
        let mut filters = Self::default();
        for typed in typed {
            let typed = typed.as_ref();
            let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
            let known = format!("--filter with one of {}", known.join(", "));
            let Some((name, value)) = typed.split_once('=') else {
                return Err(Error::new(
                    format!("--filter {typed} is not KEY=VALUE"),
                    known,
                ));
            };
            let name = name.trim().to_ascii_lowercase();
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                return Err(Error::new(
                    format!("--filter {typed}: there is no filter `{name}` here"),
                    known,
                ));
            };
            let pattern = key.check(value.trim())?;
            filters.all.push((*key, value.trim().to_owned(), pattern));
        }
        Ok(filters)
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The values of a key, in the order given.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.all
            .iter()
            .filter(move |(known, ..)| known.name == key)
            .map(|(_, value, _)| value.as_str())
    }

    /// Whether a key was not asked for, or one of its values is accepted.
    pub fn accepts(&self, key: &str, accept: impl FnMut(&str) -> bool) -> bool {
        self.values(key).next().is_none() || self.values(key).any(accept)
    }

    /// Whether a key was not asked for, or a text equals one of its values.
    pub fn is(&self, key: &str, text: &str) -> bool {
        self.accepts(key, |value| value == text)
    }

    /// Whether a key of patterns was not asked for, or one of them is found in a name, with or without a slash before it.
    pub fn finds(&self, key: &str, name: &str) -> bool {
        let mut patterns = self
            .all
            .iter()
            .filter(|(known, ..)| known.name == key)
            .filter_map(|(.., pattern)| pattern.as_ref())
            .peekable();
        let slashed = format!("/{name}");
        patterns.peek().is_none()
            || patterns.any(|pattern| pattern.is_match(name) || pattern.is_match(&slashed))
    }

    /// Whether a thing with such labels has every `label=` asked for and none of `label!=`.
    pub fn labels<'a>(&self, has: impl Fn(&str) -> Option<&'a str>) -> bool {
        let matches = |wanted: &str| match wanted.split_once('=') {
            Some((name, value)) => has(name) == Some(value),
            None => has(wanted).is_some(),
        };
        self.values("label").all(matches) && !self.values("label!").any(matches)
    }
}

impl Key {
    fn check(self, value: &str) -> Result<Option<Regex>, Error> {
        let name = self.name;
        let wrong = |why: String, instead: String| {
            Err(Error::new(
                format!("--filter {name}={value}: {why}"),
                instead,
            ))
        };
        match self.takes {
            Takes::Label if value.is_empty() || value.starts_with('=') => wrong(
                "the label has no name".to_owned(),
                format!("--filter {name}=NAME or --filter {name}=NAME=VALUE"),
            ),
            Takes::Text | Takes::Label => Ok(None),
            Takes::Pattern => match Regex::new(value) {
                Ok(pattern) => Ok(Some(pattern)),
                Err(error) => wrong(
                    format!("it is no regular expression: {error}"),
                    format!("--filter '{name}=^exact$' or --filter {name}=part"),
                ),
            },
            Takes::Number => match value.parse::<i64>() {
                Ok(_) => Ok(None),
                Err(_) => wrong(
                    "it is no whole number".to_owned(),
                    format!("--filter {name}=0"),
                ),
            },
            Takes::Truth => match truth(value) {
                Some(_) => Ok(None),
                None => wrong(
                    "it is neither true nor false".to_owned(),
                    format!("--filter {name}=true"),
                ),
            },
            Takes::Word(words) if words.contains(&value) => Ok(None),
            Takes::Word(words) => wrong(
                "there is no such value".to_owned(),
                format!("--filter {name}= with one of {}", words.join(", ")),
            ),
        }
    }
}

/// The truth values that docker's filters take.
pub fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [Key; 5] = [
        Key::new("name", Takes::Pattern),
        Key::new("label", Takes::Label),
        Key::new("label!", Takes::Label),
        Key::new("status", Takes::Word(&["running", "exited"])),
        Key::new("exited", Takes::Number),
    ];

    fn filters(typed: &[&str]) -> Filters {
        Filters::parse(typed, &KEYS).unwrap()
    }

    #[test]
    fn a_name_is_found_by_a_part_or_whole_by_an_anchored_pattern() {
        for (typed, name, found) in [
            ("name=agent", "my-agent-1", true),
            ("name=^agent$", "my-agent-1", false),
            ("name=^/agent$", "agent", true),
            ("name=^agent$", "agent", true),
            // docker's users write shell patterns, which are regular expressions that happen to match.
            ("name=ggen-*", "ggen-7-1700000000", true),
            ("name=ggen-*", "agent", false),
        ] {
            assert_eq!(
                filters(&[typed]).finds("name", name),
                found,
                "{typed} {name}"
            );
        }
        assert!(filters(&["name=a", "name=b"]).finds("name", "b"));
        assert!(filters(&[]).finds("name", "anything"));
    }

    #[test]
    fn labels_must_all_be_there_and_other_values_are_alternatives() {
        let has = |name: &str| (name == "a").then_some("1");
        for (typed, accepted) in [
            (&["label=a"][..], true),
            (&["label=a=1"], true),
            (&["label=a=2"], false),
            (&["label=a", "label=b"], false),
            (&["label!=a"], false),
            (&["label!=a=2"], true),
            (&[], true),
        ] {
            assert_eq!(filters(typed).labels(has), accepted, "{typed:?}");
        }
        let two = filters(&["status=running", "status=exited"]);
        assert!(two.is("status", "exited") && two.is("exited", "anything"));
        assert!(!filters(&["STATUS = running"]).is("status", "exited"));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_what_there_is() {
        for (typed, message, remedy) in [
            ("name", "is not KEY=VALUE", "name, label"),
            ("colour=red", "no filter `colour`", "status, exited"),
            ("status=asleep", "no such value", "running, exited"),
            ("exited=x", "no whole number", "exited=0"),
            ("name=(", "no regular expression", "^exact$"),
            ("label==x", "no name", "NAME=VALUE"),
        ] {
            let error = Filters::parse([typed], &KEYS).unwrap_err();
            assert!(error.message.contains(message), "{}", error.message);
            assert!(error.remedy.contains(remedy), "{}", error.remedy);
        }
    }
}
