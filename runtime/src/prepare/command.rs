//! What is executed, and with what.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::pty::Winsize;
use oci_spec::runtime::Process;

use super::path::{PreparedPath, c_string};
use crate::Error;
use crate::sys::{Pointers, Rlimit};

/// What differs from one command of a sandbox to the next; the rest of [`super::Prepared`] holds for all.
pub(crate) struct PreparedCommand {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) cwd: PreparedPath,
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<Winsize>,
    /// The files to try, in order, with execve(2); absent where there is no command and PID 1 waits alone.
    pub(crate) candidates: Option<Vec<CString>>,
    pub(crate) argv: Pointers,
    pub(crate) envp: Pointers,
}

/// The command's variables, in which `LANDLOCK_ENABLED`, where it is set, says whether Landlock holds the command.
pub(super) fn truthful(environment: Option<&[String]>, landlock: bool) -> Vec<String> {
    environment
        .unwrap_or_default()
        .iter()
        .map(|variable| match variable.split_once('=') {
            Some((name @ "LANDLOCK_ENABLED", _)) => format!("{name}={}", u8::from(landlock)),
            _ => variable.clone(),
        })
        .collect()
}

/// The files that execve(2) tries for the command, as execvp(3) would with the sandbox's PATH.
pub(crate) fn candidates(
    env: &[impl AsRef<OsStr>],
    args: &[&OsStr],
) -> Result<Vec<CString>, Error> {
    let program = *args.first().ok_or_else(|| Error::Unsupported {
        what: "an empty command".into(),
        why: "neither the command line nor the image names one".into(),
    })?;
    if program.is_empty() || program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string("command", program)?]);
    }
    let path = env
        .iter()
        .find_map(|variable| variable.as_ref().as_bytes().strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    path.split(|byte| *byte == b':')
        .filter(|directory| directory.starts_with(b"/"))
        .map(|directory| {
            let directory = Path::new(OsStr::from_bytes(directory));
            c_string("command", directory.join(program))
        })
        .collect()
}

/// The size that the terminal has before the command starts.
pub(super) fn console_size(process: &Process) -> Option<Winsize> {
    let size = process.console_size()?;
    let short = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
    Some(Winsize {
        ws_row: short(size.height()),
        ws_col: short(size.width()),
        ws_xpixel: 0,
        ws_ypixel: 0,
    })
}

pub(super) fn rlimits(process: &Process) -> Result<Vec<(Rlimit, CString)>, Error> {
    use oci_spec::runtime::PosixRlimitType as Type;
    let mut limits = Vec::new();
    for limit in process.rlimits().as_deref().unwrap_or_default() {
        let resource = match limit.typ() {
            Type::RlimitCpu => libc::RLIMIT_CPU,
            Type::RlimitFsize => libc::RLIMIT_FSIZE,
            Type::RlimitData => libc::RLIMIT_DATA,
            Type::RlimitStack => libc::RLIMIT_STACK,
            Type::RlimitCore => libc::RLIMIT_CORE,
            Type::RlimitRss => libc::RLIMIT_RSS,
            Type::RlimitNproc => libc::RLIMIT_NPROC,
            Type::RlimitNofile => libc::RLIMIT_NOFILE,
            Type::RlimitMemlock => libc::RLIMIT_MEMLOCK,
            Type::RlimitAs => libc::RLIMIT_AS,
            Type::RlimitLocks => libc::RLIMIT_LOCKS,
            Type::RlimitSigpending => libc::RLIMIT_SIGPENDING,
            Type::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
            Type::RlimitNice => libc::RLIMIT_NICE,
            Type::RlimitRtprio => libc::RLIMIT_RTPRIO,
            Type::RlimitRttime => libc::RLIMIT_RTTIME,
        };
        limits.push((
            Rlimit {
                resource,
                soft: limit.soft(),
                hard: limit.hard(),
            },
            c_string("resource limit", limit.typ().to_string())?,
        ));
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_reads_of_landlock_is_the_truth() {
        let given = ["A=1".to_owned(), "LANDLOCK_ENABLED=1".to_owned()];
        assert_eq!(truthful(Some(&given), true), given);
        assert_eq!(truthful(Some(&given), false), ["A=1", "LANDLOCK_ENABLED=0"]);
        assert!(truthful(Some(&given[..1]), true).len() == 1);
    }
}
