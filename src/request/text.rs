//! Words, times, names and signals as they are typed.

use std::ffi::{OsStr, OsString};
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::failure::Failure;

/// Text of an option, or of the command: UTF-8, because a runtime configuration has no other.
pub fn utf8(what: &str, typed: OsString) -> Result<String, Failure> {
    typed.into_string().map_err(|typed| {
        Failure::new(
            format!("{what} is not UTF-8: {}", typed.display()),
            "pass such bytes by a file or by standard input (-i)",
        )
    })
}

/// A time with a unit, or a plain number of seconds.
pub fn duration(option: &str, typed: &OsStr) -> Result<Duration, Failure> {
    typed
        .to_str()
        .and_then(palisade_policies::parse_duration)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| {
            Failure::new(
                format!(
                    "{option} {} is not a time longer than nothing",
                    typed.display()
                ),
                format!("{option} 90s, {option} 10m or {option} 1h30m"),
            )
        })
}

/// The same, where no time at all makes sense.
pub fn span(option: &str, typed: &OsStr) -> Result<Duration, Failure> {
    typed
        .to_str()
        .and_then(palisade_policies::parse_duration)
        .ok_or_else(|| {
            Failure::new(
                format!("{option} {} is not a time", typed.display()),
                format!("{option} 30s"),
            )
        })
}

/// Seconds as docker has them, where -1 means for ever, or a time with a unit.
pub fn stop_timeout(option: &str, typed: &OsStr) -> Result<Duration, Failure> {
    const FOR_EVER: Duration = Duration::from_hours(100 * 365 * 24);
    if typed == "-1" {
        return Ok(FOR_EVER);
    }
    typed
        .to_str()
        .and_then(palisade_policies::parse_duration)
        .ok_or_else(|| {
            Failure::new(
                format!("{option} {} is not a number of seconds", typed.display()),
                format!("{option} 10"),
            )
        })
}

/// The keys that leave a sandbox running, as docker writes them: characters and `ctrl-x`, with commas between. None where there
/// are none, which means the usual ones.
pub fn detach_keys(option: &str, typed: &OsStr) -> Result<Option<Vec<u8>>, Failure> {
    let odd = || {
        Failure::new(
            format!("{option} {} is no list of keys", typed.display()),
            format!(
                "{option} ctrl-p,ctrl-q: characters, or ctrl- and one of a to z @ [ \\ ] ^ _, with commas between"
            ),
        )
    };
    let text = typed.to_str().ok_or_else(odd)?;
    if text.is_empty() {
        return Ok(None);
    }
    let key = |key: &str| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([byte], _) => Some(*byte),
        (b"DEL", _) => Some(127),
        (_, Some([letter @ (b'a'..=b'z')])) => Some(letter - b'a' + 1),
        (_, Some([sign @ (b'@' | b'['..=b'_')])) => Some(sign - b'@'),
        _ => None,
    };
    let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
    keys.map(Some).ok_or_else(odd)
}

/// A signal's number by number or name, with or without `SIG` and in any case; `RTMIN+3` and `RTMAX-1` too.
pub fn signal(typed: &str) -> Option<i32> {
    let (lowest, highest) = (34, 64);
    if let Ok(number) = typed.parse::<i32>() {
        return (1..=highest).contains(&number).then_some(number);
    }
    let name = typed.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.get(1..)?.parse::<i32>().ok()
        }
    };
    let real_time = if let Some(rest) = name.strip_prefix("RTMIN") {
        (rest.is_empty() || rest.starts_with('+'))
            .then(|| offset(rest))
            .flatten()
            .map(|n| lowest + n)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        (rest.is_empty() || rest.starts_with('-'))
            .then(|| offset(rest))
            .flatten()
            .map(|n| highest - n)
    } else {
        return Signal::from_str(&format!("SIG{name}"))
            .ok()
            .map(|signal| signal as i32);
    };
    real_time.filter(|number| (lowest..=highest).contains(number))
}

/// A host name as sethostname(2) takes it and programs expect it.
pub fn host_name(option: &str, typed: OsString) -> Result<String, Failure> {
    let name = utf8(option, typed)?;
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && !name.starts_with(['-', '.']);
    if fits {
        Ok(name)
    } else {
        Err(Failure::new(
            format!(
                "{option} {name} is not a host name of 1 to 64 letters, digits, hyphens and dots"
            ),
            format!("{option} builder-1"),
        ))
    }
}

/// A sandbox's name: docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub fn sandbox_name(option: &str, typed: OsString) -> Result<String, Failure> {
    let name = utf8(option, typed)?;
    let fits = (2..=255).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits {
        Ok(name)
    } else {
        Err(Failure::new(
            format!(
                "{option} {name} is not two or more letters, digits, _ . and -, the first one a letter or digit"
            ),
            format!("{option} agent-1"),
        ))
    }
}

/// `NAME[=VALUE]` with a name.
pub fn pair(option: &str, typed: OsString) -> Result<(String, String), Failure> {
    let text = utf8(option, typed)?;
    let (name, value) = text.split_once('=').unwrap_or((&text, ""));
    if name.is_empty() {
        return Err(Failure::new(
            format!("{option} {text} has no name"),
            format!("{option} name=value"),
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_leave_are_written_as_docker_has_them() {
        let of = |typed: &str| detach_keys("--detach-keys", OsStr::new(typed)).ok();
        assert_eq!(of("ctrl-p,ctrl-q"), Some(Some(vec![16, 17])));
        assert_eq!(
            of("a,ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_,DEL,Z"),
            Some(Some(vec![b'a', 0, 27, 28, 29, 30, 31, 127, b'Z']))
        );
        assert_eq!(of(""), Some(None));
        for odd in ["ctrl-", "ctrl-P", "ab", "a,,b", "ctrl-1", ",", "é"] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }

    #[test]
    fn signals_are_known_by_name_and_number() {
        assert_eq!(signal("TERM"), Some(15));
        assert_eq!(signal("sigint"), Some(2));
        assert_eq!(signal("9"), Some(9));
        assert_eq!(signal("SIGRTMIN+3"), Some(37));
        assert_eq!(signal("RTMAX-1"), Some(63));
        for odd in [
            "", "0", "65", "-1", "SIG", "NOSUCH", "RTMIN+40", "RTMIN-1", "RTMAX+1", "RTMINx", "é",
        ] {
            assert_eq!(signal(odd), None, "{odd}");
        }
    }

    #[test]
    fn host_names_that_the_kernel_or_programs_would_choke_on_are_refused() {
        assert!(host_name("--hostname", "a-1.b".into()).is_ok());
        for odd in ["", "-a", ".a", "a b", "a\n", &"a".repeat(65)] {
            assert!(host_name("--hostname", odd.into()).is_err(), "{odd}");
        }
    }

    #[test]
    fn names_follow_dockers_rule() {
        assert!(sandbox_name("--name", "ggen-1_2.x".into()).is_ok());
        for odd in ["", "a", "-ab", "a/b", "..", "a b"] {
            assert!(sandbox_name("--name", odd.into()).is_err(), "{odd}");
        }
    }
}
