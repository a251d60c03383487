//! The last look before execve(2): what the kernel says this process has, compared with the Plan.

use std::io::Write as _;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::control::{Kind, Record, Step};
use crate::prepare::{Prepared, PreparedCommand};

/// Compares /proc/thread-self/status with the Plan (proc_pid_status(5)).
///
/// # Errors
/// A record that says what differs; the command must not run.
#[allow(
    clippy::result_large_err,
    reason = "a box would be an allocation between clone and exec"
)]
pub(crate) fn compare(
    prepared: &Prepared,
    command: &PreparedCommand,
    proc: Option<BorrowedFd<'_>>,
) -> Result<Record, Record> {
    // Without a /proc of its own the sandbox has nothing to read this from; every set-up call has succeeded.
    let Some(proc) = proc else {
        return Ok(Record::new(Kind::Started, 0, 0, b""));
    };
    let failed = |errno| Record::failed(Step::ReadBack, errno, b"/proc/thread-self/status");
    let file = match openat(
        proc,
        c"thread-self/status",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => file,
        // The user's own seccomp profile may forbid to look.
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) if prepared.custom_seccomp => {
            return Ok(Record::new(Kind::Started, 0, 0, b""));
        }
        Err(errno) => return Err(failed(errno)),
    };
    let mut buffer = [0_u8; 4096];
    let length = nix::unistd::read(&file, &mut buffer).map_err(failed)?;
    let status = Status(&buffer[..length]);
    let mut said = Said {
        text: [0; crate::control::TEXT],
        length: 0,
    };
    let capabilities = &prepared.capabilities;
    for (field, wanted) in [
        (b"CapInh".as_slice(), capabilities.sets.inheritable),
        (b"CapPrm", capabilities.sets.permitted),
        (b"CapEff", capabilities.sets.effective),
        (b"CapBnd", capabilities.bounding),
        (b"CapAmb", capabilities.ambient),
    ] {
        said.check(&status, field, 16, wanted)?;
    }
    said.check(
        &status,
        b"NoNewPrivs",
        10,
        u64::from(prepared.no_new_privileges),
    )?;
    let filters = prepared.inherited_filters + prepared.seccomp.len() as u64;
    said.check(&status, b"Seccomp_filters", 10, filters)?;
    said.check(&status, b"Seccomp", 10, if filters > 0 { 2 } else { 0 })?;
    said.check(&status, b"Uid", 10, u64::from(command.uid))?;
    said.check(&status, b"Gid", 10, u64::from(command.gid))?;
    if let Some(landlock) = &prepared.landlock {
        // The kernel has no way to ask for it: restricting has succeeded, with this version of its rules.
        let mut digits = [0_u8; 12];
        let mut rest = digits.as_mut_slice();
        let _ = write!(rest, "{}", landlock.abi);
        let length = 12 - rest.len();
        said.line(b"LandlockAbi", &digits[..length]);
    }
    Ok(Record::new(Kind::Started, 0, 0, &said.text[..said.length]))
}

/// The lines of a status file.
struct Status<'a>(&'a [u8]);

impl<'a> Status<'a> {
    /// The first word after `name:`.
    fn field(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.0
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"))
            .and_then(|value| value.trim_ascii().split(u8::is_ascii_whitespace).next())
    }
}

/// What was read back, line by line.
struct Said {
    text: [u8; crate::control::TEXT],
    length: usize,
}

impl Said {
    #[allow(
        clippy::result_large_err,
        reason = "a box would be an allocation between clone and exec"
    )]
    fn check(
        &mut self,
        status: &Status<'_>,
        name: &[u8],
        radix: u32,
        wanted: u64,
    ) -> Result<(), Record> {
        let value = status.field(name).unwrap_or(b"(nothing)");
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| u64::from_str_radix(text, radix).ok());
        if number == Some(wanted) {
            self.line(name, value);
            return Ok(());
        }
        let mut text = Said {
            text: [0; crate::control::TEXT],
            length: 0,
        };
        text.line(name, value);
        let mut rest = &mut text.text[text.length..];
        let before = rest.len();
        let _ = if radix == 16 {
            write!(rest, "planned {wanted:016x}")
        } else {
            write!(rest, "planned {wanted}")
        };
        let length = text.length + before - rest.len();
        Err(Record::new(Kind::Differs, 0, 0, &text.text[..length]))
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, b" ", value, b"\n"] {
            let end = (self.length + part.len()).min(self.text.len());
            let length = end - self.length;
            self.text[self.length..end].copy_from_slice(&part[..length]);
            self.length = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: Status<'_> =
        Status(b"Name:\tx\nUid:\t1000\t1000\t1000\t1000\nSeccomp:\t2\nSeccomp_filters:\t3\n");

    #[test]
    fn a_field_is_the_first_word_of_its_own_line() {
        assert_eq!(STATUS.field(b"Uid"), Some(b"1000".as_slice()));
        assert_eq!(STATUS.field(b"Seccomp"), Some(b"2".as_slice()));
        assert_eq!(STATUS.field(b"Seccomp_filters"), Some(b"3".as_slice()));
        assert_eq!(STATUS.field(b"Missing"), None);
    }

    #[test]
    fn a_difference_names_the_field_both_values_and_stops_the_run() {
        let mut said = Said {
            text: [0; crate::control::TEXT],
            length: 0,
        };
        assert!(said.check(&STATUS, b"Seccomp", 10, 2).is_ok());
        let record = said
            .check(&STATUS, b"Seccomp_filters", 10, 4)
            .expect_err("differs");
        assert_eq!(record.kind, Kind::Differs);
        assert_eq!(record.text(), b"Seccomp_filters 3\nplanned 4");
    }
}
