//! `-e` and `--env-file`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;

use super::text;
use crate::caller::Caller;
use crate::failure::{Failure, reason};

/// Tells the command whether Landlock holds it.
pub const LANDLOCK_ENABLED: &str = "LANDLOCK_ENABLED";

/// The most an `--env-file` may hold, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// The variables that were asked for, those of files first, as docker orders them.
pub fn collect(
    files: Vec<OsString>,
    typed: Vec<OsString>,
    caller: &Caller,
) -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::new();
    for file in files {
        let path = caller.absolute(file.as_ref());
        let wrong = |why: String| {
            Failure::new(
                format!("cannot read variables from {}: {why}", path.display()),
                "--env-file with a file of NAME=VALUE lines",
            )
        };
        let mut content = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut content))
            .map_err(|error| wrong(reason(&error)))?;
        if content.len() as u64 > LONGEST_FILE {
            return Err(wrong("it is longer than 1 MiB".to_owned()));
        }
        let content =
            String::from_utf8(content).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let content = content.strip_prefix('\u{feff}').unwrap_or(&content);
        for (number, line) in content.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = line.split('=').next().unwrap_or_default();
            if name.is_empty() || name.contains(char::is_whitespace) || line.contains('\0') {
                return Err(wrong(format!("line {} is not NAME=VALUE", number + 1)));
            }
            variables.extend(variable("--env-file", line, caller)?);
        }
    }
    for typed in typed {
        let typed = text::utf8("--env", typed)?;
        if typed.is_empty() || typed.starts_with('=') {
            return Err(Failure::new(
                format!("--env {typed} has no name"),
                "-e NAME=VALUE, or -e NAME for the caller's value",
            ));
        }
        variables.extend(variable("--env", &typed, caller)?);
    }
    if variables.iter().any(|(name, _)| name == LANDLOCK_ENABLED) {
        return Err(Failure::new(
            format!(
                "{LANDLOCK_ENABLED} cannot be set: programs choose their own protection by it, so palisade tells them the truth"
            ),
            "leave it out; it is 1 where Landlock holds the command, and 0 where it does not",
        ));
    }
    Ok(variables)
}

/// `NAME=VALUE` as it is; `NAME` with the caller's value, or nothing if the caller has none.
fn variable(
    option: &str,
    text: &str,
    caller: &Caller,
) -> Result<Option<(String, String)>, Failure> {
    if let Some((name, value)) = text.split_once('=') {
        return Ok(Some((name.to_owned(), value.to_owned())));
    }
    let Some(value) = caller.variable(OsStr::new(text)) else {
        return Ok(None);
    };
    let value = text::utf8(
        &format!("the caller's variable {text} ({option})"),
        value.to_owned(),
    )?;
    Ok(Some((text.to_owned(), value)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn caller() -> Caller {
        let environment = vec![("TOKEN".into(), "s3=cret".into())];
        Caller {
            environment,
            cwd: "/".into(),
            ..Caller::default()
        }
    }

    #[test]
    fn a_bare_name_takes_the_callers_value_and_is_left_out_where_there_is_none() {
        let got = collect(
            vec![],
            vec!["TOKEN".into(), "NONE".into(), "A=".into(), "B=x=y z".into()],
            &caller(),
        );
        let got = got.unwrap();
        let got: Vec<_> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(got, [("TOKEN", "s3=cret"), ("A", ""), ("B", "x=y z")]);
    }

    #[test]
    fn a_file_of_variables_has_comments_blank_lines_and_bare_names() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "\u{feff}# note\n\n A=1 # kept\nTOKEN\nB='q'\n").unwrap();
        let got = collect(vec![file.path().into()], vec!["A=2".into()], &caller()).unwrap();
        let got: Vec<_> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            got,
            [
                ("A", "1 # kept"),
                ("TOKEN", "s3=cret"),
                ("B", "'q'"),
                ("A", "2")
            ]
        );
    }

    #[test]
    fn odd_variables_are_refused() {
        assert!(collect(vec![], vec!["=x".into()], &caller()).is_err());
        assert!(collect(vec![], vec!["".into()], &caller()).is_err());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "A B=1").unwrap();
        let failure = collect(vec![file.path().into()], vec![], &caller()).unwrap_err();
        assert!(failure.to_string().contains("line 1"), "{failure}");
        assert!(collect(vec!["/nonexistent".into()], vec![], &caller()).is_err());
    }
}
