//! What to run, from the caller to the keeper: numbers, then strings, in a file in memory.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::sys::uio::pread;

use crate::Error;
use crate::prepare::{PreparedPath, c_string};

/// A further command for a running sandbox. What is not said here is as it was for the sandbox's first command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinCommand {
    /// The program and its arguments. At least one.
    pub args: Vec<OsString>,
    /// Variables `NAME=VALUE`, added to those of the sandbox's first command or in their place.
    pub env: Vec<OsString>,
    /// The working directory; none for the first command's.
    pub cwd: Option<PathBuf>,
    /// Another user than the first command's; only in a sandbox that has more than one id.
    pub user: Option<User>,
    /// Rows and columns of a terminal of its own; none for no terminal.
    pub terminal: Option<(u16, u16)>,
    /// In place of a program: what the keeper does itself, confined like a command. [`JoinCommand::args`] are its paths.
    pub service: Option<Service>,
    /// For [`Service::Unpack`]: what outlasts the sandbox; nothing is written elsewhere. None for no such condition.
    pub lasting: Option<Lasting>,
    /// Whether the command goes on when the caller is gone. Else its whole tree is ended then.
    pub detached: bool,
    /// Time limit, in whole milliseconds.
    pub timeout: Option<Duration>,
    /// Signal number that asks the command to stop at its time limit.
    pub stop_signal: i32,
    /// How long it then has before its whole tree is ended.
    pub stop_timeout: Duration,
}

/// What a keeper can do without any program of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Writes the file or directory `args[0]` to standard output as an archive in which it is called `args[1]`.
    Pack {
        /// Whether a symbolic link at the path itself is followed.
        follow: bool,
    },
    /// Unpacks the archive on standard input to `args[0]`.
    Unpack {
        /// What is in the archive.
        copied: Copied,
        /// Whether files get the owners that the archive says.
        owners: bool,
    },
}

/// Which of a sandbox's files outlast it, beside those of file systems that are not in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasting {
    /// Those of its root.
    pub root: bool,
    /// Those of the file systems with these numbers (`st_dev`, stat(2)): of what is mounted from the host.
    pub devices: Vec<u64>,
}

/// What an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// One file, called `args[1]` in a directory that it is copied into.
    File,
    /// A directory, likewise.
    Directory,
    /// What is in a directory.
    Content,
    /// Anything, whose names stay as they are.
    Anything,
}

/// Ids inside the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// The version of what is asked of a running sandbox, here and of its monitor: both say it first. A sandbox outlives the palisade
/// that started it, and whoever asks may be another.
///
/// Raised with every change of these messages. What can be asked of any version is said there.
pub const REQUEST_VERSION: u32 = 1;

/// Why a sandbox does not do what another version of palisade asks.
pub const OTHER_VERSION: &str =
    "it was started by another version of palisade, which understands other requests";

/// What to do then.
pub const OTHER_VERSION_ADVICE: &str =
    "palisade restart, which starts it with this version; stop, kill and wait need no restart";

/// Longer requests are refused: execve(2) takes no more than this by far.
const LONGEST: usize = 16 << 20;

/// Bits of the first number.
const DETACHED: u32 = 1;
const TERMINAL: u32 = 2;
const USER: u32 = 4;
const LIMITED: u32 = 8;
const DIRECTORY: u32 = 16;
const LASTING: u32 = 32;
const LASTING_ROOT: u32 = 64;

impl Service {
    const KINDS: [Option<Self>; 11] = {
        use Copied::{Anything, Content, Directory, File};
        const fn unpack(copied: Copied, owners: bool) -> Service {
            Service::Unpack { copied, owners }
        }
        [
            None,
            Some(Self::Pack { follow: false }),
            Some(Self::Pack { follow: true }),
            Some(unpack(File, false)),
            Some(unpack(File, true)),
            Some(unpack(Directory, false)),
            Some(unpack(Directory, true)),
            Some(unpack(Content, false)),
            Some(unpack(Content, true)),
            Some(unpack(Anything, false)),
            Some(unpack(Anything, true)),
        ]
    };

    /// The number that a service has in a request; 0 for none.
    fn number(service: Option<Self>) -> u32 {
        let index = Self::KINDS.iter().position(|kind| *kind == service);
        index.and_then(|index| index.try_into().ok()).unwrap_or(0)
    }
}

impl JoinCommand {
    /// The request as a file in memory.
    pub(crate) fn file(&self) -> Result<OwnedFd, Error> {
        let failed = |errno| Error::Launch {
            action: "pass the command on".into(),
            errno,
        };
        let bytes = self.encode()?;
        let file = memfd_create(c"request", MFdFlags::MFD_CLOEXEC).map_err(failed)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let written = nix::unistd::write(&file, rest).map_err(failed)?;
            rest = &rest[written..];
        }
        Ok(file)
    }

    #[allow(clippy::cast_possible_truncation)] // Halves of a number.
    fn encode(&self) -> Result<Vec<u8>, Error> {
        if self.args.is_empty() {
            return Err(Error::Unsupported {
                what: "an empty command".into(),
                why: "name one to run in the sandbox".into(),
            });
        }
        let mut flags = 0;
        for (bit, set) in [
            (DETACHED, self.detached),
            (TERMINAL, self.terminal.is_some()),
            (USER, self.user.is_some()),
            (LIMITED, self.timeout.is_some()),
            (DIRECTORY, self.cwd.is_some()),
            (LASTING, self.lasting.is_some()),
            (
                LASTING_ROOT,
                self.lasting.as_ref().is_some_and(|lasting| lasting.root),
            ),
        ] {
            flags |= if set { bit } else { 0 };
        }
        // The lower half, then the upper one.
        let milliseconds = |time: Duration| {
            let number = u64::try_from(time.as_millis().max(1)).unwrap_or(u64::MAX);
            [number as u32, (number >> 32) as u32]
        };
        let [timeout, timeout_high] = self.timeout.map_or([0; 2], milliseconds);
        let [patience, patience_high] = milliseconds(self.stop_timeout);
        let (rows, columns) = self.terminal.unwrap_or_default();
        let user = self.user.clone().unwrap_or_default();
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(256);
        for number in [
            REQUEST_VERSION,
            flags,
            Service::number(self.service),
            user.uid,
            user.gid,
            u32::from(rows) << 16 | u32::from(columns),
            timeout,
            timeout_high,
            self.stop_signal.cast_unsigned(),
            patience,
            patience_high,
            count(user.groups.len()),
            count(self.args.len()),
            count(self.env.len()),
        ]
        .iter()
        .chain(&user.groups)
        {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        let mut push = |what, value: &OsStr| -> Result<(), Error> {
            bytes.extend_from_slice(c_string(what, value)?.as_bytes_with_nul());
            Ok(())
        };
        if let Some(cwd) = &self.cwd {
            PreparedPath::new("working directory", cwd)?;
            push("working directory", cwd.as_os_str())?;
        }
        for arg in &self.args {
            push("argument", arg)?;
        }
        for variable in &self.env {
            push("environment variable", variable)?;
        }
        if let Some(lasting) = &self.lasting {
            let devices: Vec<String> = lasting.devices.iter().map(u64::to_string).collect();
            push("devices", devices.join(" ").as_ref())?;
        }
        if bytes.len() > LONGEST {
            return Err(Error::Launch {
                action: "pass the command on".into(),
                errno: Errno::E2BIG,
            });
        }
        Ok(bytes)
    }

    /// The request in a file that [`JoinCommand::file`] made; EPROTONOSUPPORT for one of another version.
    pub(crate) fn read(file: BorrowedFd<'_>) -> nix::Result<Self> {
        let size = usize::try_from(fstat(file.as_fd())?.st_size).map_err(|_| Errno::EBADMSG)?;
        if size > LONGEST {
            return Err(Errno::E2BIG);
        }
        let mut bytes = vec![0; size];
        let mut done = 0;
        while done < size {
            match pread(
                file,
                &mut bytes[done..],
                done.try_into().unwrap_or_default(),
            )? {
                0 => return Err(Errno::EBADMSG),
                length => done += length,
            }
        }
        match bytes.split_first_chunk() {
            Some((version, rest)) if u32::from_ne_bytes(*version) == REQUEST_VERSION => {
                Self::decode(rest).ok_or(Errno::EBADMSG)
            }
            Some(_) => Err(Errno::EPROTONOSUPPORT),
            None => Err(Errno::EBADMSG),
        }
    }

    /// What comes after the version.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut number = || {
            let (head, tail) = rest.split_at_checked(4)?;
            rest = tail;
            Some(u32::from_ne_bytes(head.try_into().ok()?))
        };
        let flags = number()?;
        let service = *Service::KINDS.get(number()? as usize)?;
        let (uid, gid, size) = (number()?, number()?, number()?);
        let timeout = [number()?, number()?];
        let stop_signal = number()?;
        let stop_timeout = [number()?, number()?];
        let (groups, args, env) = (number()?, number()?, number()?);
        let groups = (0..groups).map(|_| number()).collect::<Option<_>>()?;
        let mut string = || {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let (string, tail) = rest.split_at(end);
            rest = &tail[1..];
            Some(OsString::from_vec(string.to_vec()))
        };
        let cwd = if flags & DIRECTORY != 0 {
            Some(PathBuf::from(string()?))
        } else {
            None
        };
        let args = (0..args).map(|_| string()).collect::<Option<Vec<_>>>()?;
        let env = (0..env).map(|_| string()).collect::<Option<Vec<_>>>()?;
        let lasting = if flags & LASTING != 0 {
            let devices = string()?.into_string().ok()?;
            let devices = devices.split_whitespace().map(str::parse);
            Some(Lasting {
                root: flags & LASTING_ROOT != 0,
                devices: devices.collect::<Result<_, _>>().ok()?,
            })
        } else {
            None
        };
        let short = |number: u32| u16::try_from(number & 0xffff).unwrap_or_default();
        let time =
            |[low, high]: [u32; 2]| Duration::from_millis(u64::from(high) << 32 | u64::from(low));
        (rest.is_empty() && !args.is_empty()).then_some(Self {
            args,
            env,
            cwd,
            user: (flags & USER != 0).then_some(User { uid, gid, groups }),
            terminal: (flags & TERMINAL != 0).then_some((short(size >> 16), short(size))),
            service,
            lasting,
            detached: flags & DETACHED != 0,
            timeout: (flags & LIMITED != 0).then_some(time(timeout)),
            stop_signal: stop_signal.cast_signed(),
            stop_timeout: time(stop_timeout),
        })
    }

    /// `base` with the variables of this command added, each in the place of one with the same name.
    pub(crate) fn environment(&self, base: &[CString]) -> Vec<OsString> {
        let mut env: Vec<OsString> = base
            .iter()
            .map(|variable| OsStr::from_bytes(variable.to_bytes()).to_owned())
            .collect();
        for variable in &self.env {
            let name = name(variable);
            match env.iter_mut().find(|known| self::name(known) == name) {
                Some(known) => known.clone_from(variable),
                None => env.push(variable.clone()),
            }
        }
        env
    }
}

/// What stands before the first `=`.
fn name(variable: &OsStr) -> &[u8] {
    let bytes = variable.as_bytes();
    let end = bytes.iter().position(|byte| *byte == b'=');
    &bytes[..end.unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> JoinCommand {
        JoinCommand {
            args: ["sh", "-c", "", "a\nb"].map(OsString::from).to_vec(),
            env: vec!["A=1".into(), OsString::from_vec(b"B=\xff".to_vec())],
            cwd: Some("/tmp/x".into()),
            user: Some(User {
                uid: 7,
                gid: 8,
                groups: vec![9, 10],
            }),
            terminal: Some((24, 80)),
            service: Some(Service::Unpack {
                copied: Copied::Content,
                owners: true,
            }),
            lasting: Some(Lasting {
                root: true,
                devices: vec![0, u64::MAX],
            }),
            detached: true,
            // Sixty days: more than 32 bits of milliseconds.
            timeout: Some(Duration::from_hours(1440)),
            stop_signal: libc::SIGTERM,
            stop_timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_request_comes_back_from_its_file() {
        let plain = JoinCommand {
            args: vec!["true".into()],
            stop_timeout: Duration::from_millis(1),
            ..JoinCommand::default()
        };
        for command in [full(), plain] {
            let file = command.file().expect("a file");
            assert_eq!(JoinCommand::read(file.as_fd()).expect("a request"), command);
        }
    }

    #[test]
    fn a_request_that_is_cut_or_too_long_is_refused() {
        let bytes = full().encode().expect("bytes").split_off(4);
        for length in 0..bytes.len() {
            assert_eq!(JoinCommand::decode(&bytes[..length]), None, "{length}");
        }
        let longer = [bytes.as_slice(), b"x\0"].concat();
        assert_eq!(JoinCommand::decode(&longer), None);
    }

    #[test]
    fn a_request_of_another_version_is_told_from_a_broken_one() {
        let mut bytes = full().encode().expect("bytes");
        bytes[0] ^= 1;
        let read = |bytes: &[u8]| {
            let file = memfd_create(c"request", MFdFlags::MFD_CLOEXEC).expect("a file");
            nix::unistd::write(&file, bytes).expect("written");
            JoinCommand::read(file.as_fd())
        };
        assert_eq!(read(&bytes), Err(Errno::EPROTONOSUPPORT));
        assert_eq!(read(&bytes[..3]), Err(Errno::EBADMSG));
    }

    /// Whoever changes what is sent raises [`REQUEST_VERSION`], and then this.
    #[test]
    fn what_is_sent_is_what_this_version_sends() {
        let bytes = full().encode().expect("bytes");
        let (numbers, strings) = bytes.split_at(16 * 4);
        let numbers: Vec<u32> = numbers
            .chunks_exact(4)
            .map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("four")))
            .collect();
        assert_eq!(
            (numbers.as_slice(), strings),
            (
                &[
                    1,
                    127,
                    8,
                    7,
                    8,
                    0x0018_0050,
                    889_032_704,
                    1,
                    15,
                    10_000,
                    0,
                    2,
                    4,
                    2,
                    9,
                    10
                ][..],
                &b"/tmp/x\0sh\0-c\0\0a\nb\0A=1\0B=\xff\x000 18446744073709551615\0"[..]
            )
        );
    }

    #[test]
    fn a_variable_takes_the_place_of_one_with_its_name() {
        let base = [c"PATH=/bin".into(), c"A=old".into()];
        assert_eq!(full().environment(&base)[..2], ["PATH=/bin", "A=1"]);
    }

    #[test]
    fn a_nul_byte_and_a_relative_directory_are_refused_before_anything_is_sent() {
        let mut command = full();
        command.args.push("a\0b".into());
        assert!(matches!(command.file(), Err(Error::Nul { .. })));
        let mut command = full();
        command.cwd = Some("../x".into());
        assert!(matches!(command.file(), Err(Error::Unsupported { .. })));
    }
}
