//! What PID 1 tells the supervisor: fixed-size records on one SOCK_SEQPACKET pair.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use crate::sys;

/// A step of the set-up inside the sandbox, in the order they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Step {
    /// The caller's id becomes the sandbox user's.
    IdMap,
    /// Wait for the supervisor to map ids and join the cgroup.
    Sync,
    /// Mount changes stay in this namespace.
    Private,
    /// The in-memory file system for changes.
    Scratch,
    /// The overlay of the image's layers.
    Overlay,
    /// The new root is attached.
    AttachRoot,
    /// One mount of the Plan.
    Mount,
    /// One device of the Plan.
    Device,
    /// A path of /proc or /sys is hidden.
    Mask,
    /// A path is made read-only.
    ReadOnly,
    /// A file is written into the root.
    File,
    /// The terminal.
    Terminal,
    /// pivot_root(2).
    PivotRoot,
    /// The host name.
    Hostname,
    /// The network namespace.
    NetworkNamespace,
    /// The working directory.
    WorkingDirectory,
    /// Capability sets, ids and securebits.
    Credentials,
    /// no_new_privs, dumpable, parent death signal.
    ProcessFlags,
    /// The command's process.
    Fork,
    /// Standard input, output and error.
    Stdio,
    /// The score for the kernel's out-of-memory killer.
    OomScore,
    /// A resource limit.
    Rlimit,
    /// Landlock.
    Landlock,
    /// seccomp.
    Seccomp,
    /// What holds is compared with the Plan.
    ReadBack,
    /// execve(2).
    Exec,
}

impl Step {
    const ALL: [Self; 26] = [
        Self::IdMap,
        Self::Sync,
        Self::Private,
        Self::Scratch,
        Self::Overlay,
        Self::AttachRoot,
        Self::Mount,
        Self::Device,
        Self::Mask,
        Self::ReadOnly,
        Self::File,
        Self::Terminal,
        Self::PivotRoot,
        Self::Hostname,
        Self::NetworkNamespace,
        Self::WorkingDirectory,
        Self::Credentials,
        Self::ProcessFlags,
        Self::Fork,
        Self::Stdio,
        Self::OomScore,
        Self::Rlimit,
        Self::Landlock,
        Self::Seccomp,
        Self::ReadBack,
        Self::Exec,
    ];

    /// A step's subject as the user knows it: paths inside the sandbox travel without their leading slash.
    pub(crate) fn shown(self, subject: String) -> String {
        match self {
            Self::File | Self::WorkingDirectory if !subject.starts_with(['/', '(']) => {
                format!("/{}", if subject == "." { "" } else { &subject })
            }
            _ => subject,
        }
    }

    /// The step with this number, as sent over the socket.
    pub(crate) fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// What the user can do about this failure, where that is known.
    pub(crate) fn advice(self, errno: Errno) -> Option<&'static str> {
        match (self, errno) {
            (Self::Landlock, Errno::ENOSYS | Errno::EOPNOTSUPP) => Some(
                "this kernel has no Landlock (it needs 5.13, CONFIG_SECURITY_LANDLOCK and lsm=landlock); \
                 --best-effort goes on without",
            ),
            (Self::Mount, Errno::ELOOP) => Some(
                "symbolic links of the image lead this place into the sandbox's own /proc or /dev, or in a circle: \
                 choose another one",
            ),
            (Self::Mount, Errno::ENOENT) => {
                Some("check that the source of the mount exists and that you may reach it")
            }
            (Self::Mount, Errno::EPERM) => Some(
                "the host hides parts of /proc or locks this mount, as containers do: \
                 run palisade outside, or with an unmasked /proc",
            ),
            (Self::Overlay, Errno::EINVAL) => Some(
                "the file system that holds the image cannot be an overlay layer (an overlay on an overlay, for one): \
                 put the store elsewhere with --root",
            ),
            (Self::WorkingDirectory, _) => {
                Some("give a directory that exists in the sandbox with --workdir")
            }
            (Self::Rlimit, Errno::EPERM) => {
                Some("a limit cannot be raised above the caller's own hard limit: see ulimit -H -a")
            }
            (Self::ReadBack, Errno::EMFILE) => Some(
                "the last look before the command opens more files than --ulimit nofile allows: 32 are enough",
            ),
            (Self::Seccomp, Errno::EINVAL) => Some(
                "this kernel has no system call filters (CONFIG_SECCOMP_FILTER): another kernel, or \
                --security-opt seccomp=unconfined to go on without",
            ),
            (_, Errno::ENOSYS) => Some(
                "the kernel, or a filter around palisade, has no such system call: Linux 5.13 or newer, outside of what filters",
            ),
            (_, Errno::EPERM | Errno::EACCES) => Some(
                "something around palisade refuses this, such as an outer container's seccomp profile, AppArmor or SELinux: \
                run palisade outside of it",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IdMap => "map the caller's ids",
            Self::Sync => "wait for the supervisor",
            Self::Private => "make the mount tree private",
            Self::Scratch => "make the in-memory file system of size",
            Self::Overlay => "mount the overlay of the image's layers",
            Self::AttachRoot => "attach the root file system",
            Self::Mount => "mount",
            Self::Device => "make the device",
            Self::Mask => "mask",
            Self::ReadOnly => "make read-only",
            Self::File => "write the file",
            Self::Terminal => "open the terminal",
            Self::PivotRoot => "change the root directory",
            Self::Hostname => "set the host name",
            Self::NetworkNamespace => "make the network namespace",
            Self::WorkingDirectory => "enter the working directory",
            Self::Credentials => "drop privileges",
            Self::ProcessFlags => "set process flags",
            Self::Fork => "start the command's process",
            Self::Stdio => "set standard input and output",
            Self::OomScore => "set the out-of-memory score to",
            Self::Rlimit => "set the resource limit",
            Self::Landlock => "apply Landlock",
            Self::Seccomp => "apply seccomp",
            Self::ReadBack => "read back what holds",
            Self::Exec => "execute",
        })
    }
}

/// Bytes of one record on the socket.
const SIZE: usize = 1024;
const HEADER: usize = 8;
/// Bytes of free text in a record; longer text is cut.
pub(crate) const TEXT: usize = SIZE - HEADER;

/// One record: what kind, a step, a number and a short text.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) step: u16,
    pub(crate) value: i32,
    text: [u8; TEXT],
    length: usize,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    /// The terminal's master side comes with this record.
    Terminal = 1,
    /// The command is about to be executed; the text is what was read back.
    Started,
    /// The command ended; `value` is its wait status, and the text names the full file systems (full.rs).
    Exited,
    /// A step failed; `value` is the errno, the text its subject.
    Failed,
    /// What was read back differs from the Plan; the text says in what.
    Differs,
    /// A joined command cannot be had; the text says why.
    Refused,
    /// To PID 1: the connection of a command that joins comes with this record.
    Join,
    /// To a keeper: `value` is a signal for the command.
    Signal,
    /// To a keeper: end the command's whole tree.
    Kill,
    /// From the command's process: the listener for refused system calls comes with this record.
    Listener,
}

impl Record {
    pub(crate) fn new(kind: Kind, step: u16, value: i32, text: &[u8]) -> Self {
        let length = text.len().min(TEXT);
        let mut record = Self {
            kind,
            step,
            value,
            text: [0; TEXT],
            length,
        };
        record.text[..length].copy_from_slice(&text[..length]);
        record
    }

    pub(crate) fn failed(step: Step, errno: Errno, subject: &[u8]) -> Self {
        Self::new(Kind::Failed, step as u16, errno as i32, subject)
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// The bytes to send, in `buffer`.
    pub(crate) fn encode<'a>(&self, buffer: &'a mut [u8; SIZE]) -> &'a [u8] {
        buffer[0..2].copy_from_slice(&(self.kind as u16).to_ne_bytes());
        buffer[2..4].copy_from_slice(&self.step.to_ne_bytes());
        buffer[4..8].copy_from_slice(&self.value.to_ne_bytes());
        let end = HEADER + self.length;
        buffer[HEADER..end].copy_from_slice(self.text());
        &buffer[..end]
    }

    /// The record in `bytes`, or none if they are no record.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, text) = bytes.split_at_checked(HEADER)?;
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let kind = match half(0) {
            1 => Kind::Terminal,
            2 => Kind::Started,
            3 => Kind::Exited,
            4 => Kind::Failed,
            5 => Kind::Differs,
            6 => Kind::Refused,
            7 => Kind::Join,
            8 => Kind::Signal,
            9 => Kind::Kill,
            10 => Kind::Listener,
            _ => return None,
        };
        let value = i32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        Some(Self::new(kind, half(2), value, text))
    }
}

/// Sends one record, with a descriptor where given (unix(7) SCM_RIGHTS).
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    record: &Record,
    descriptor: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let mut buffer = [0; SIZE];
    let bytes = record.encode(&mut buffer);
    match descriptor {
        None => nix::sys::socket::send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL).map(drop),
        Some(descriptor) => sys::message::send(socket, bytes, descriptor),
    }
}

/// A record and the descriptor that came with it.
pub(crate) type Received = (Record, Option<OwnedFd>);

/// Receives one record without waiting. No record now is `Err(EAGAIN)`, the other side gone is `Ok(None)`.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> nix::Result<Option<Received>> {
    let mut buffer = [0; SIZE];
    let mut received = [None];
    let (length, _) =
        sys::message::receive(socket, &mut buffer, &mut received, libc::MSG_DONTWAIT)?;
    if length == 0 {
        return Ok(None);
    }
    let [descriptor] = received;
    Record::decode(&buffer[..length])
        .map(|record| Some((record, descriptor)))
        .ok_or(Errno::EBADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_comes_back_from_its_number() {
        for step in Step::ALL {
            assert_eq!(Step::from_number(step as u16), Some(step));
        }
        assert_eq!(Step::from_number(u16::MAX), None);
    }

    #[test]
    fn a_record_comes_back_from_its_bytes() {
        let record = Record::failed(Step::Mount, Errno::EPERM, b"/proc");
        let mut buffer = [0; SIZE];
        let back = Record::decode(record.encode(&mut buffer)).expect("a record");
        assert_eq!(
            (back.kind, back.step, back.value),
            (Kind::Failed, Step::Mount as u16, Errno::EPERM as i32)
        );
        assert_eq!(back.text(), b"/proc");
    }

    #[test]
    fn text_that_is_too_long_is_cut() {
        let record = Record::failed(Step::File, Errno::EIO, &[b'x'; 2 * TEXT]);
        assert_eq!(record.text().len(), TEXT);
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        assert!(Record::decode(b"short").is_none());
        assert!(Record::decode(&[0xff; SIZE]).is_none());
    }
}
