//! Values of policy files that are more than a number or a word: paths, names of system calls, of errnos, of capabilities.

use toml::de::DeValue;

use crate::error::Error;
use crate::filter::x86_64;
use crate::keys::Key;
use crate::nearest::nearest;
use crate::reader::{Reader, Value};

/// As many processes as the kernel can have (`PID_MAX_LIMIT`, linux/threads.h); a limit above it is refused.
pub const MOST_PROCESSES: u64 = 1 << 22;

/// `read`, but 0 is refused.
pub fn above_zero<'a, T: PartialEq + Default>(
    read: impl Fn(Reader<'a>, &Key, &Value<'a>) -> Result<T, Error>,
) -> impl Fn(Reader<'a>, &Key, &Value<'a>) -> Result<T, Error> {
    move |reader, key, value| match read(reader, key, value)? {
        zero if zero == T::default() => Err(reader.wrong(key, value, "it must be above 0")),
        value => Ok(value),
    }
}

/// A number of processes; the kernel takes no more than `PID_MAX_LIMIT` (linux/threads.h).
pub fn processes<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<u64, Error> {
    let number = above_zero(Reader::count)(reader, key, value)?;
    if number > MOST_PROCESSES {
        return Err(reader.expected(key, value));
    }
    Ok(number)
}

/// An absolute path or one that starts at the home directory, without detours and without a slash at its end.
pub fn path<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<String, Error> {
    let text = reader.text(key, value)?;
    let below = text.strip_prefix('/').or_else(|| {
        if text == "~" {
            Some("")
        } else {
            text.strip_prefix("~/")
        }
    });
    let Some(below) = below else {
        return Err(reader.wrong(
            key,
            value,
            &format!("expected an absolute path, found {text:?}"),
        ));
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    if !below.is_empty() && below.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(reader.wrong(
            key,
            value,
            &format!("{text:?} has empty, \".\" or \"..\" parts: write it without them"),
        ));
    }
    // What looks like a pattern and hides nothing would be found out too late.
    if text.contains(['*', '?']) {
        return Err(reader.wrong(
            key,
            value,
            &format!(
                "{text:?} looks like a pattern, and paths have none: name each path, or the directory above them, as everything beneath a path is meant"
            ),
        ));
    }
    if text.contains('\n') {
        return Err(reader.wrong(key, value, "there is a line break in the path"));
    }
    Ok(if text.len() > 1 {
        text.trim_end_matches('/').to_owned()
    } else {
        text
    })
}

/// A system call's name.
pub fn call<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<String, Error> {
    let name = reader.text(key, value)?;
    if x86_64::number(&name).is_some() {
        return Ok(name);
    }
    let meant = nearest(&name, x86_64::SYSCALLS.iter().map(|(name, _)| *name));
    let meant = meant
        .map(|meant| format!("; did you mean {meant:?}?"))
        .unwrap_or_default();
    Err(reader.wrong(
        key,
        value,
        &format!("{name:?} is not a system call of x86_64{meant}"),
    ))
}

/// An errno's number, given as a number or a name.
pub fn errno<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<u16, Error> {
    let number = match value.get_ref() {
        DeValue::String(name) => ERRNOS
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, errno)| *errno),
        _ => u16::try_from(reader.count(key, value)?).ok(),
    };
    number
        .filter(|number| (1..=4095).contains(number))
        .ok_or_else(|| {
            let known: Vec<_> = ERRNOS.iter().map(|(name, _)| *name).collect();
            reader.wrong(
                key,
                value,
                &format!("expected {}; names are: {}", key.expects, known.join(", ")),
            )
        })
}

/// A capability's name as `CAP_…`.
pub fn capability<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<String, Error> {
    let given = reader.text(key, value)?;
    let upper = given.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    if CAPABILITIES.contains(&full.as_str()) {
        return Ok(full);
    }
    let meant = nearest(&full, CAPABILITIES.iter().copied());
    let meant = meant
        .map(|meant| format!("; did you mean {meant:?}?"))
        .unwrap_or_default();
    Err(reader.wrong(key, value, &format!("{given:?} is not a capability{meant}")))
}

/// A list of processors as `0-3,6`.
pub fn cpuset<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<String, Error> {
    let text = reader.text(key, value)?;
    if is_processor_list(&text) {
        Ok(text)
    } else {
        Err(reader.expected(key, value))
    }
}

/// Whether this is a list of numbers and ranges, as cpuset(7) has it for processors and memory nodes; each below 65536.
pub fn is_processor_list(text: &str) -> bool {
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<u16>().ok())
            .flatten()
    };
    text.split(',').all(|part| match part.split_once('-') {
        Some((from, to)) => {
            matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to)
        }
        None => number(part).is_some(),
    })
}

/// A variable's name, perhaps with `*`.
pub fn pattern<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<String, Error> {
    let text = reader.text(key, value)?;
    if is_variable(&text) {
        Ok(text)
    } else {
        Err(reader.wrong(key, value, &format!("{text:?} is no variable name")))
    }
}

/// Whether `name` can be an environment variable's name (environ(7)).
pub fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0', '\n'])
}

/// Errnos that make sense as a refusal (errno(3), asm-generic/errno.h).
#[rustfmt::skip]
const ERRNOS: &[(&str, u16)] = &[
    ("EPERM", 1), ("ENOENT", 2), ("EINTR", 4), ("EIO", 5), ("EAGAIN", 11), ("ENOMEM", 12), ("EACCES", 13),
    ("EFAULT", 14), ("EBUSY", 16), ("EEXIST", 17), ("ENODEV", 19), ("EINVAL", 22), ("ENFILE", 23), ("EMFILE", 24),
    ("ENOTTY", 25), ("EROFS", 30), ("ENOSYS", 38), ("EPROTONOSUPPORT", 93), ("EOPNOTSUPP", 95), ("EAFNOSUPPORT", 97),
    ("ENETUNREACH", 101), ("ECONNREFUSED", 111),
];

/// Every capability (capabilities(7), linux/capability.h).
#[rustfmt::skip]
pub const CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
    "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE", "CAP_MKNOD", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW",
    "CAP_PERFMON", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT", "CAP_SYS_CHROOT", "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
];
