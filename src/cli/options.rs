//! Options as a table: what is parsed on the start path, and what help, man pages and completions are made from.
//!
//! Building a clap command of some sixty options, before it parses anything, takes eighty thousand instructions;
//! walking a static table takes a few thousand, and follows docker's rules exactly (options end at the first operand, a value may begin with a hyphen, `--flag=false`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::unavailable;
use crate::failure::Failure;

/// One option of a verb whose low-level arguments are a `T`.
pub struct Opt<T> {
    /// Long name without hyphens.
    pub long: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// Name of the value in help; empty for a switch.
    pub value: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Which section of the help it stands in.
    pub heading: &'static str,
    /// The values there are, for completion; empty when open.
    pub choices: &'static [&'static str],
    /// Where it goes.
    pub take: Take<T>,
}

/// What an option does to the low-level arguments.
pub enum Take<T> {
    /// A switch: `--name`, `--name=true`, `--name=false`.
    Switch(fn(&mut T, bool)),
    /// An option with a value: replaced or appended to, as the function does.
    Value(fn(&mut T, OsString)),
}

impl<T> Opt<T> {
    /// A switch.
    pub const fn switch(long: &'static str, help: &'static str, take: fn(&mut T, bool)) -> Self {
        let take = Take::Switch(take);
        Self {
            long,
            short: None,
            value: "",
            help,
            heading: "",
            choices: &[],
            take,
        }
    }

    /// An option with a value.
    pub const fn value(
        long: &'static str,
        value: &'static str,
        help: &'static str,
        take: fn(&mut T, OsString),
    ) -> Self {
        let take = Take::Value(take);
        Self {
            long,
            short: None,
            value,
            help,
            heading: "",
            choices: &[],
            take,
        }
    }

    /// With a short name.
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// With the values there are.
    pub const fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    /// In a section of the help.
    pub const fn under(mut self, heading: &'static str) -> Self {
        self.heading = heading;
        self
    }
}

/// What is done with an option that was found, and its value.
type Found<'a, T> = dyn FnMut(&'static Opt<T>, Option<OsString>) -> Result<(), Failure> + 'a;

/// Parses options up to the first operand and returns the operands, untouched.
///
/// # Errors
/// An unknown option, a missing value, or a switch with a value that is no truth value.
pub fn parse<T>(
    verb: &str,
    table: &'static [Opt<T>],
    into: &mut T,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, Failure> {
    let mut args = args.into_iter();
    walk(verb, table, &mut args, &mut |option, value| {
        match (&option.take, value) {
            (Take::Switch(take), value) => take(into, truth(option.long, value.as_deref())?),
            (Take::Value(take), value) => take(into, value.unwrap_or_default()),
        }
        Ok(())
    })
}

/// The options up to the first operand, by their long names, each with the value that was typed; and the operands.
///
/// # Errors
/// An unknown option or a missing value.
#[expect(clippy::type_complexity)] // Two lists, said once.
pub fn given<T>(
    verb: &str,
    table: &'static [Opt<T>],
    args: impl IntoIterator<Item = OsString>,
) -> Result<(Vec<(&'static str, Option<OsString>)>, Vec<OsString>), Failure> {
    let mut options = Vec::new();
    let operands = walk(verb, table, &mut args.into_iter(), &mut |option, value| {
        options.push((option.long, value));
        Ok(())
    })?;
    Ok((options, operands))
}

/// Hands every option and its value to `found`: a switch has one only where `=` gives it one.
fn walk<T>(
    verb: &str,
    table: &'static [Opt<T>],
    args: &mut dyn Iterator<Item = OsString>,
    found: &mut Found<'_, T>,
) -> Result<Vec<OsString>, Failure> {
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        if bytes == b"--" {
            return Ok(args.collect());
        }
        if let Some(long) = bytes.strip_prefix(b"--") {
            walk_long(verb, table, long, args, found)?;
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            walk_short(verb, table, &bytes[1..], args, found)?;
        } else {
            return Ok(std::iter::once(arg).chain(args).collect());
        }
    }
    Ok(Vec::new())
}

fn walk_long<T>(
    verb: &str,
    table: &'static [Opt<T>],
    long: &[u8],
    rest: &mut dyn Iterator<Item = OsString>,
    found: &mut Found<'_, T>,
) -> Result<(), Failure> {
    let equals = long.iter().position(|&b| b == b'=');
    let (name, attached) = match equals {
        Some(at) => (
            &long[..at],
            Some(OsString::from_vec(long[at + 1..].to_vec())),
        ),
        None => (long, None),
    };
    let Some(option) = table.iter().find(|o| o.long.as_bytes() == name) else {
        let name = String::from_utf8_lossy(name);
        return Err(unknown_long(verb, table, &name));
    };
    match option.take {
        Take::Switch(_) => found(option, attached),
        Take::Value(_) => match attached.or_else(|| rest.next()) {
            Some(value) => found(option, Some(value)),
            None => Err(missing_value(&format!("--{}", option.long), option.value)),
        },
    }
}

fn walk_short<T>(
    verb: &str,
    table: &'static [Opt<T>],
    letters: &[u8],
    rest: &mut dyn Iterator<Item = OsString>,
    found: &mut Found<'_, T>,
) -> Result<(), Failure> {
    let mut at = 0;
    while at < letters.len() {
        let letter = char::from(letters[at]);
        at += 1;
        let Some(option) = table.iter().find(|o| o.short == Some(letter)) else {
            return Err(unknown_short(verb, letter));
        };
        match option.take {
            // `-t=false` names a truth value; the letters of `-it` are switches of their own.
            Take::Switch(_) if letters.get(at) == Some(&b'=') => {
                let value = OsString::from_vec(letters[at + 1..].to_vec());
                return found(option, Some(value));
            }
            Take::Switch(_) => found(option, None)?,
            Take::Value(_) => {
                let attached = &letters[at..];
                let attached = attached.strip_prefix(b"=").unwrap_or(attached);
                let value = if at < letters.len() {
                    Some(OsString::from_vec(attached.to_vec()))
                } else {
                    rest.next()
                };
                return match value {
                    Some(value) => found(option, Some(value)),
                    None => Err(missing_value(&format!("-{letter}"), option.value)),
                };
            }
        }
    }
    Ok(())
}

/// The spellings docker takes (Go's `strconv.ParseBool`).
fn truth(name: &str, value: Option<&OsStr>) -> Result<bool, Failure> {
    let Some(value) = value else { return Ok(true) };
    match value.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Ok(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Ok(false),
        _ => Err(Failure::new(
            format!("--{name}={} is neither true nor false", value.display()),
            format!("--{name} or --{name}=false"),
        )),
    }
}

fn missing_value(option: &str, value: &str) -> Failure {
    Failure::new(
        format!("option {option} needs a value"),
        format!("{option} {value}"),
    )
}

fn unknown_long<T>(verb: &str, table: &[Opt<T>], name: &str) -> Failure {
    let message = format!("palisade {verb} has no option --{name}");
    if let Some(instead) = unavailable::instead_of(name) {
        return Failure::new(message, instead);
    }
    let near = table
        .iter()
        .map(|o| (distance(name, o.long), o.long))
        .min()
        .filter(|(distance, long)| near_enough(*distance, name, long));
    match near {
        Some((_, long)) => Failure::new(message, format!("--{long}")),
        None => Failure::new(
            message,
            format!(
                "palisade {verb} --help; what belongs to the command comes after the image's name"
            ),
        ),
    }
}

/// Whether a name that is `distance` away from what was typed is likely to be what was meant: most of both is the same.
pub fn near_enough(distance: usize, typed: &str, name: &str) -> bool {
    distance <= 2 && distance * 3 <= typed.len().min(name.len())
}

fn unknown_short(verb: &str, letter: char) -> Failure {
    let message = format!("palisade {verb} has no option -{letter}");
    let instead = unavailable::long_of(letter).and_then(unavailable::instead_of);
    Failure::new(
        message,
        instead.map_or_else(|| format!("palisade {verb} --help"), str::to_owned),
    )
}

/// Edit distance (insert, remove, replace).
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Got {
        on: bool,
        tty: Option<bool>,
        list: Vec<OsString>,
    }

    type Test = Opt<Got>;

    const TABLE: &[Test] = &[
        Test::switch("interactive", "", |g, v| g.on = v).short('i'),
        Test::switch("tty", "", |g, v| g.tty = Some(v)).short('t'),
        Test::value("env", "NAME=VALUE", "", |g, v| g.list.push(v)).short('e'),
    ];

    fn parsed(args: &[&str]) -> Result<(Got, Vec<OsString>), Failure> {
        let mut got = Got::default();
        let rest = parse("run", TABLE, &mut got, args.iter().map(OsString::from))?;
        Ok((got, rest))
    }

    #[test]
    fn everything_after_the_first_operand_is_left_alone() {
        let (got, rest) = parsed(&["-i", "image", "--", "-e", "", "--tty", "a b\n"]).unwrap();
        assert!(got.on && got.tty.is_none() && got.list.is_empty());
        assert_eq!(rest, ["image", "--", "-e", "", "--tty", "a b\n"]);
    }

    #[test]
    fn two_hyphens_end_the_options_once() {
        let (_, rest) = parsed(&["--", "-image", "--"]).unwrap();
        assert_eq!(rest, ["-image", "--"]);
    }

    #[test]
    fn short_switches_may_be_joined_and_take_truth_values() {
        let (got, _) = parsed(&["-it", "-i=false", "--tty=0"]).unwrap();
        assert_eq!((got.on, got.tty), (false, Some(false)));
        assert!(parsed(&["--tty=maybe"]).is_err());
    }

    #[test]
    fn values_may_be_attached_separate_or_begin_with_a_hyphen() {
        let (got, rest) = parsed(&[
            "-eA=1", "-e", "-B", "--env=C=", "--env", "--", "-ieD", "-e=E=2",
        ])
        .unwrap();
        assert_eq!(got.list, ["A=1", "-B", "C=", "--", "D", "E=2"]);
        assert!(got.on && rest.is_empty());
    }

    #[test]
    fn a_missing_value_is_named() {
        assert!(
            parsed(&["--env"])
                .unwrap_err()
                .to_string()
                .contains("--env")
        );
        assert!(parsed(&["-ie"]).unwrap_err().to_string().contains("-e"));
    }

    #[test]
    fn an_unknown_option_names_the_nearest_or_what_stands_in_for_dockers() {
        let failure = parsed(&["--interactiv"]).unwrap_err();
        assert_eq!(failure.remedy(), "--interactive");
        let failure = parsed(&["--privileged"]).unwrap_err();
        assert!(failure.remedy().contains("--policy"));
        let failure = parsed(&["-d"]).unwrap_err();
        assert!(failure.to_string().contains("-d"));
    }

    #[test]
    fn bytes_that_are_not_utf8_pass_through() {
        let odd = OsString::from_vec(vec![b'A', b'=', 0xff]);
        let mut got = Got::default();
        let args = ["-e".into(), odd.clone(), "image".into(), odd.clone()];
        let rest = parse("run", TABLE, &mut got, args).unwrap();
        assert_eq!((&got.list[0], &rest[1]), (&odd, &odd));
    }
}
