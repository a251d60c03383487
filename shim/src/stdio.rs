//! What becomes 0, 1 and 2 of the command: the caller's own pipe, file or socket where that is safe, else something between.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};
use nix::unistd::{isatty, pipe2};
use palisade_runtime::{Plan, Stdio};

use crate::Error;
use crate::meter::{Gauge, Meter};
use crate::relay::{Relay, Sink};

/// Writes of this size into a terminal or pipe that cannot be made non-blocking do not block after poll(2) said so.
const SMALL_WRITE: usize = 512;

/// The standard streams of whoever wants the sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Standard input.
    pub stdin: BorrowedFd<'a>,
    /// Standard output.
    pub stdout: BorrowedFd<'a>,
    /// Standard error.
    pub stderr: BorrowedFd<'a>,
}

/// The command's streams, and the relays that stand between some of them and the caller's.
#[derive(Debug)]
pub struct Streams {
    /// For the launch.
    pub handed: Stdio,
    /// From the caller's standard input.
    pub input: Option<Relay>,
    /// To the caller's standard output and standard error.
    pub output: [Option<Relay>; 2],
    /// What measures these two, where a gauge was given: one alone where both streams end in the same file.
    pub meters: [Option<Rc<Meter>>; 2],
}

/// What may be handed in as it is.
#[derive(Clone, Copy, Debug)]
struct Trust {
    /// The caller's standard input is the command's.
    interactive: bool,
    /// Regular files: where Landlock keeps one that was opened for reading from being opened again for writing.
    files: bool,
    /// Pipes and sockets for output: where nothing of the command stays when it has ended.
    output: bool,
}

/// How one of the caller's streams reaches the command.
enum Passage {
    /// As it is.
    Direct,
    /// Through a pipe that the supervisor copies.
    Pipe,
    /// Not at all: it is closed.
    Closed,
}

impl Streams {
    /// Looks at the caller's streams and prepares the command's.
    ///
    /// A terminal is never handed in, as a command could type into it (CVE-2017-5226); a directory would be a way out of
    /// the root (CVE-2024-21626) and is an error. With a gauge, output passes through palisade whatever it goes to.
    pub fn prepare(plan: &Plan, caller: Caller, gauge: Option<&Gauge>) -> Result<Self, Error> {
        let trust = Trust {
            interactive: plan.interactive,
            files: plan.landlock.is_some() && !plan.best_effort,
            output: true,
        };
        Self::trusting(trust, caller, gauge)
    }

    /// The same for a command that joins a sandbox: what it leaves there in the background must not hold on to a pipe of
    /// the caller's, who would wait for its end.
    pub fn join(interactive: bool, caller: Caller) -> Result<Self, Error> {
        let trust = Trust {
            interactive,
            files: false,
            output: false,
        };
        Self::trusting(trust, caller, None)
    }

    fn trusting(trust: Trust, caller: Caller, gauge: Option<&Gauge>) -> Result<Self, Error> {
        let (stdin, input) = if trust.interactive {
            standard_input(caller.stdin, trust)?
        } else {
            (null()?, None)
        };
        let (mut out, out_stat) = passage(caller.stdout, "standard output", trust)?;
        let (mut err, err_stat) = passage(caller.stderr, "standard error", trust)?;
        for (passage, stat) in [(&mut out, &out_stat), (&mut err, &err_stat)] {
            let copied =
                gauge.is_some() || !trust.output && !stat.as_ref().is_some_and(is_harmless_device);
            if copied && matches!(passage, Passage::Direct) {
                *passage = Passage::Pipe;
            }
        }
        let (stdout, out_relay) = outward(caller.stdout, &out)?;
        // One terminal or file behind both: one pipe, so that what the command writes stays in its order.
        let (stderr, err_relay) = if out_relay.is_some()
            && matches!(err, Passage::Pipe)
            && same_file(out_stat.as_ref(), err_stat.as_ref())
            && !out_stat.as_ref().is_some_and(is_harmless_device)
        {
            (duplicate(stdout.as_fd())?, None)
        } else {
            outward(caller.stderr, &err)?
        };
        let meter = |relay: &Option<Relay>| relay.as_ref().and(gauge).map(Gauge::meter);
        let meters = [meter(&out_relay), meter(&err_relay)];
        let measured = |relay: Option<Relay>, meter: &Option<Rc<Meter>>| {
            relay.map(|relay| relay.measured(meter.clone()))
        };
        Ok(Self {
            handed: Stdio {
                stdin,
                stdout,
                stderr,
            },
            input,
            output: [
                measured(out_relay, &meters[0]),
                measured(err_relay, &meters[1]),
            ],
            meters,
        })
    }

    /// For a command that gets a terminal of its own: nothing is handed in, and relays come with the terminal.
    pub fn none() -> Result<Self, Error> {
        Ok(Self {
            handed: Stdio {
                stdin: null()?,
                stdout: null()?,
                stderr: null()?,
            },
            input: None,
            output: [None, None],
            meters: [None, None],
        })
    }
}

fn standard_input(caller: BorrowedFd, trust: Trust) -> Result<(OwnedFd, Option<Relay>), Error> {
    match passage(caller, "standard input", trust)?.0 {
        Passage::Closed => Ok((null()?, None)),
        Passage::Direct => Ok((duplicate(caller)?, None)),
        Passage::Pipe => {
            let (end, sink) = pipe(Side::Write)?;
            let relay = Relay::new(source(caller)?, Sink::unblocking(sink));
            Ok((end, Some(relay)))
        }
    }
}

fn outward(caller: BorrowedFd, passage: &Passage) -> Result<(OwnedFd, Option<Relay>), Error> {
    match passage {
        Passage::Closed => Ok((null()?, None)),
        Passage::Direct => Ok((duplicate(caller)?, None)),
        Passage::Pipe => {
            let (end, source) = pipe(Side::Read)?;
            Ok((end, Some(Relay::new(source, sink(caller)?))))
        }
    }
}

fn passage(
    fd: BorrowedFd,
    stream: &'static str,
    trust: Trust,
) -> Result<(Passage, Option<FileStat>), Error> {
    let stat = match fstat(fd) {
        Err(Errno::EBADF) => return Ok((Passage::Closed, None)),
        other => other.map_err(Error::system("look at a standard stream"))?,
    };
    let refused = |kind| Error::Handle { stream, kind };
    let passage = match type_of(&stat) {
        SFlag::S_IFIFO | SFlag::S_IFSOCK => Passage::Direct,
        // Through /proc/self/fd a file opened for reading can be opened for writing; Landlock is what refuses that.
        SFlag::S_IFREG if trust.files => Passage::Direct,
        SFlag::S_IFCHR if is_harmless_device(&stat) => Passage::Direct,
        SFlag::S_IFREG | SFlag::S_IFCHR => Passage::Pipe,
        SFlag::S_IFDIR => return Err(refused("a directory")),
        SFlag::S_IFBLK => return Err(refused("a block device")),
        _ => return Err(refused("neither file, pipe, socket nor terminal")),
    };
    Ok((passage, Some(stat)))
}

fn type_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn file_type(fd: BorrowedFd) -> Option<SFlag> {
    fstat(fd).ok().map(|stat| type_of(&stat))
}

/// null, zero, full, random and urandom: every sandbox has these anyway (null(4), full(4), random(4)).
fn is_harmless_device(stat: &FileStat) -> bool {
    type_of(stat) == SFlag::S_IFCHR
        && major(stat.st_rdev) == 1
        && matches!(minor(stat.st_rdev), 3 | 5 | 7 | 8 | 9)
}

fn same_file(one: Option<&FileStat>, other: Option<&FileStat>) -> bool {
    one.zip(other)
        .is_some_and(|(one, other)| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// The caller's stream for reading, without waiting where it can be opened anew.
pub fn source(fd: BorrowedFd) -> Result<OwnedFd, Error> {
    match reopen(fd, OFlag::O_RDONLY) {
        Some(own) => Ok(own),
        None => duplicate(fd),
    }
}

/// The caller's stream for writing, without waiting where it can be opened anew.
///
/// The caller's own descriptor is never made non-blocking: it shares that mode with the caller's shell.
pub fn sink(fd: BorrowedFd) -> Result<Sink, Error> {
    if let Some(own) = reopen(fd, OFlag::O_WRONLY) {
        return Ok(Sink::unblocking(own));
    }
    let stat = fstat(fd).ok();
    let own = duplicate(fd)?;
    Ok(match stat.as_ref().map(type_of) {
        // A regular file takes everything at once.
        Some(SFlag::S_IFREG) => Sink::unblocking(own),
        Some(SFlag::S_IFSOCK) => Sink::socket(own),
        _ if stat.as_ref().is_some_and(is_harmless_device) => Sink::unblocking(own),
        _ => Sink {
            chunk: SMALL_WRITE,
            ..Sink::unblocking(own)
        },
    })
}

/// A terminal or pipe can be opened anew, with a mode of its own; a regular file would lose its position, a socket has no name.
fn reopen(fd: BorrowedFd, access: OFlag) -> Option<OwnedFd> {
    if !isatty(fd).unwrap_or(false) && file_type(fd) != Some(SFlag::S_IFIFO) {
        return None;
    }
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty()).ok()
}

#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

/// A pipe: (the end the command gets, ours in non-blocking mode, which is `ours`).
fn pipe(ours: Side) -> Result<(OwnedFd, OwnedFd), Error> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("make a pipe"))?;
    let (theirs, ours) = match ours {
        Side::Read => (write, read),
        Side::Write => (read, write),
    };
    set_nonblocking(&ours).map_err(Error::system("make a pipe"))?;
    Ok((theirs, ours))
}

/// Sets `O_NONBLOCK` on a descriptor that nobody else holds.
pub fn set_nonblocking(fd: impl AsFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// The same open file under another number.
pub fn duplicate(fd: BorrowedFd) -> Result<OwnedFd, Error> {
    fd.try_clone_to_owned().map_err(|error| Error::System {
        action: "duplicate a standard stream",
        errno: Errno::try_from(error).unwrap_or(Errno::UnknownErrno),
    })
}

/// A new handle on /dev/null, for reading and writing.
pub fn null() -> Result<OwnedFd, Error> {
    File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/null")
        .map(OwnedFd::from)
        .map_err(|error| Error::System {
            action: "open /dev/null",
            errno: Errno::try_from(error).unwrap_or(Errno::UnknownErrno),
        })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Read, Write, pipe};
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use nix::pty::openpty;
    use palisade_runtime::Plan;

    use super::{Caller, Streams};
    use crate::Error;
    use crate::relay::Flow;

    fn plan(landlock: bool) -> Plan {
        let mut plan = crate::sample::plan(oci_spec::runtime::Spec::default());
        plan.landlock = landlock.then(Vec::new);
        plan.interactive = true;
        plan
    }

    fn all(fd: &impl AsFd) -> Caller<'_> {
        let fd = fd.as_fd();
        Caller {
            stdin: fd,
            stdout: fd,
            stderr: fd,
        }
    }

    fn same(one: impl AsFd, other: impl AsFd) -> bool {
        let inode = |fd: BorrowedFd| {
            let file = File::from(fd.try_clone_to_owned().unwrap());
            let metadata = file.metadata().unwrap();
            (metadata.dev(), metadata.ino())
        };
        inode(one.as_fd()) == inode(other.as_fd())
    }

    #[test]
    fn pipes_sockets_files_and_null_are_handed_over_as_they_are() {
        let (read, _write) = pipe().unwrap();
        let (socket, _other) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        let null = File::open("/dev/null").unwrap();
        let streams: [OwnedFd; 4] = [read.into(), socket.into(), file.into(), null.into()];
        for stream in streams {
            let streams = Streams::prepare(&plan(true), all(&stream), None).unwrap();
            assert!(same(&stream, &streams.handed.stdin));
            assert!(same(&stream, &streams.handed.stdout));
            assert!(same(&stream, &streams.handed.stderr));
            assert!(streams.input.is_none() && streams.output.iter().all(Option::is_none));
        }
    }

    #[test]
    fn without_interactive_the_command_reads_nothing_of_the_callers() {
        let (read, mut write) = pipe().unwrap();
        write.write_all(b"a secret").unwrap();
        let mut plan = plan(true);
        plan.interactive = false;
        let streams = Streams::prepare(&plan, all(&read), None).unwrap();
        let mut got = Vec::new();
        File::from(streams.handed.stdin)
            .read_to_end(&mut got)
            .unwrap();
        assert!(got.is_empty());
    }

    #[test]
    fn a_directory_is_refused_by_name_on_each_stream() {
        let directory = File::open("/").unwrap();
        let (read, _write) = pipe().unwrap();
        for (index, name) in ["standard input", "standard output", "standard error"]
            .into_iter()
            .enumerate()
        {
            let mut caller = all(&read);
            match index {
                0 => caller.stdin = directory.as_fd(),
                1 => caller.stdout = directory.as_fd(),
                _ => caller.stderr = directory.as_fd(),
            }
            let error = Streams::prepare(&plan(true), caller, None).unwrap_err();
            assert!(
                matches!(error, Error::Handle { stream, .. } if stream == name),
                "{error}"
            );
            assert_eq!(error.exit_code(), 125);
        }
    }

    #[test]
    fn a_terminal_is_never_handed_in_and_its_two_streams_keep_their_order() {
        let pty = openpty(None, None).unwrap();
        let streams = Streams::prepare(&plan(true), all(&pty.slave), None).unwrap();
        for fd in [
            &streams.handed.stdin,
            &streams.handed.stdout,
            &streams.handed.stderr,
        ] {
            assert!(!nix::unistd::isatty(fd).unwrap());
        }
        let [out, err] = streams.output;
        assert!(err.is_none(), "both streams go through one pipe");
        let (mut stdout, mut stderr) = (
            File::from(streams.handed.stdout),
            File::from(streams.handed.stderr),
        );
        stdout.write_all(b"1").unwrap();
        stderr.write_all(b"2").unwrap();
        stdout.write_all(b"3").unwrap();
        assert_eq!(out.unwrap().pump(), Flow::Open);
        let mut got = [0; 3];
        File::from(pty.master).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"123");
    }

    #[test]
    fn without_landlock_a_file_for_reading_cannot_be_opened_again_for_writing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("input");
        fs::write(&path, "data").unwrap();
        let file = File::open(&path).unwrap();
        let (_read, write) = pipe().unwrap();
        let caller = Caller {
            stdin: file.as_fd(),
            stdout: write.as_fd(),
            stderr: write.as_fd(),
        };
        let streams = Streams::prepare(&plan(false), caller, None).unwrap();
        assert!(!same(&file, &streams.handed.stdin));
        let mut relay = streams.input.unwrap();
        while relay.pump() == Flow::Open {}
        let mut got = String::new();
        File::from(streams.handed.stdin)
            .read_to_string(&mut got)
            .unwrap();
        assert_eq!(got, "data");
    }
}
