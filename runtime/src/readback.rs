//! The last look before execve(2): what the kernel says this process has, compared with the Plan.
//!
//! Nothing here allocates: it runs between clone and exec. Each check is a few words of text for the receipt.

use std::ffi::CStr;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, stat};

use crate::capabilities::LOCKED_SECUREBITS;
use crate::command::Start;
use crate::control::{Kind, Record, Step, TEXT};
use crate::failure::{Failure, Try};
use crate::idmap::Map;
use crate::mount::attribute;
use crate::prepare::Prepared;
use crate::sys;

/// A namespace of the supervisor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespace {
    /// Its link in a directory `ns` of /proc, and what the receipt calls it.
    name: &'static CStr,
    identity: Identity,
}

/// What a link of a directory `ns` says, as `mnt:[4026531841]`: one namespace's alone while it lives (namespaces(7)). Read
/// and not followed, which would make an inode for the namespace.
type Identity = [u8; 32];

/// The calling process's links.
const LINKS: &CStr = c"/proc/thread-self/ns";
/// The same, relative to a /proc.
const LINKS_BELOW_PROC: &CStr = c"thread-self/ns";

const NAMESPACES: [(i32, &CStr); 8] = [
    (libc::CLONE_NEWCGROUP, c"cgroup"),
    (libc::CLONE_NEWIPC, c"ipc"),
    (libc::CLONE_NEWNS, c"mnt"),
    (libc::CLONE_NEWNET, c"net"),
    (libc::CLONE_NEWPID, c"pid"),
    (libc::CLONE_NEWTIME, c"time"),
    (libc::CLONE_NEWUSER, c"user"),
    (libc::CLONE_NEWUTS, c"uts"),
];

impl Namespace {
    /// The calling process's namespaces of the kinds in `flags` (clone(2)): those that a sandbox must not be in.
    pub(crate) fn read(flags: u64) -> nix::Result<Vec<Self>> {
        let links = open(LINKS, LINKS_FLAGS, Mode::empty())?;
        NAMESPACES
            .iter()
            .filter(|(flag, _)| flags & u64::from(flag.cast_unsigned()) != 0)
            .map(|(_, name)| {
                let identity = identity(links.as_fd(), name)?;
                Ok(Self { name, identity })
            })
            .collect()
    }
}

const LINKS_FLAGS: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

fn identity(links: BorrowedFd<'_>, name: &CStr) -> nix::Result<Identity> {
    let mut identity = Identity::default();
    match sys::readlinkat(links, name, &mut identity)? {
        // One that is cut off could be another's.
        length if length == identity.len() => Err(Errno::ENAMETOOLONG),
        0 => Err(Errno::ENODATA),
        _ => Ok(identity),
    }
}

/// The place of a file: device and inode number.
pub(crate) type Place = (u64, u64);

/// Where a status says that its file is.
pub(crate) fn place(status: &FileStat) -> Place {
    (status.st_dev, status.st_ino)
}

/// What the kernel tells of the calling process, while that is compared with the Plan. The looks come before the filters,
/// which may refuse them, but for one at the filters themselves.
pub(crate) struct Look {
    /// /proc/thread-self/status, opened twice: to be read before the filters and after. None without a /proc of the
    /// sandbox's own: every set-up call has succeeded, and there is nothing to read more from.
    before: Option<OwnedFd>,
    after: Option<OwnedFd>,
    said: Said,
}

#[allow(
    clippy::result_large_err,
    reason = "a box would be an allocation between clone and exec"
)]
impl Look {
    /// Opens what Landlock's rules may put out of reach.
    pub(crate) fn open(proc: Option<BorrowedFd<'_>>) -> Result<Self, Failure<'static>> {
        let open = |proc: BorrowedFd<'_>| {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            openat(proc, c"thread-self/status", flags, Mode::empty())
                .or_fail(Step::ReadBack, STATUS_PATH)
        };
        Ok(Self {
            before: proc.map(open).transpose()?,
            after: proc.map(open).transpose()?,
            said: Said::default(),
        })
    }

    /// Everything but the filters. Closes all descriptors but the standard ones and its own.
    ///
    /// # Errors
    /// A record that says what differs; the command must not run.
    pub(crate) fn before_filters(&mut self, start: &Start<'_>) -> Result<(), Record> {
        let (Some(before), Some(proc)) = (self.before.take(), start.proc) else {
            return Ok(());
        };
        let mut buffer = [0_u8; STATUS_SIZE];
        let length = look(nix::unistd::read(&before, &mut buffer), STATUS_PATH)?;
        drop(before);
        let status = Status(&buffer[..length]);
        self.credentials(start, &status)?;
        self.namespaces(start, proc)?;
        self.places(start)?;
        self.process(start)?;
        self.landlock(start)?;
        // Last, as what the other looks need is closed by it.
        let after = self.after.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let control = start.control.map_or(-1, |control| control.as_raw_fd());
        self.descriptors(&status, [after.min(control), after.max(control)])
    }

    /// The filters, and the record that the command can run.
    ///
    /// # Errors
    /// As for [`Look::before_filters`].
    pub(crate) fn after_filters(mut self, prepared: &Prepared) -> Result<Record, Record> {
        let Some(status) = self.after.take() else {
            return Ok(Record::new(Kind::Started, 0, 0, b""));
        };
        let mut buffer = [0_u8; STATUS_SIZE];
        match nix::unistd::read(&status, &mut buffer) {
            Ok(length) => {
                let status = Status(&buffer[..length]);
                let filters = prepared.inherited_filters + prepared.seccomp.len() as u64;
                let said = &mut self.said;
                said.check(&status, "Seccomp_filters", 10, filters)?;
                said.check(&status, "Seccomp", 10, if filters > 0 { 2 } else { 0 })?;
            }
            // The user's own profile may forbid even that.
            Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) if prepared.custom_seccomp => {}
            Err(errno) => return Err(unseen(STATUS_PATH, errno)),
        }
        Ok(Record::new(Kind::Started, 0, 0, self.said.text()))
    }

    /// Capabilities, no_new_privs, ids (proc_pid_status(5)).
    fn credentials(&mut self, start: &Start<'_>, status: &Status<'_>) -> Result<(), Record> {
        let (prepared, said) = (start.prepared, &mut self.said);
        let capabilities = &prepared.capabilities;
        for (field, wanted) in [
            ("CapInh", capabilities.sets.inheritable),
            ("CapPrm", capabilities.sets.permitted),
            ("CapEff", capabilities.sets.effective),
            ("CapBnd", capabilities.bounding),
            ("CapAmb", capabilities.ambient),
        ] {
            said.check(status, field, 16, wanted)?;
        }
        let no_new_privileges = u64::from(prepared.no_new_privileges);
        said.check(status, "NoNewPrivs", 10, no_new_privileges)?;
        said.check(status, "Uid", 10, u64::from(start.command.uid))?;
        said.check(status, "Gid", 10, u64::from(start.command.gid))?;
        // One mapped id keeps the caller's groups: setgroups(2) is refused there (user_namespaces(7)).
        let kept = matches!(prepared.identity.map, Map::Own { .. }) || prepared.shares_proc;
        let groups = status.value("Groups").unwrap_or_default();
        if !(kept || same_groups(groups, start.groups)) {
            return Err(Said::differs("Groups", groups, format_args!("others")));
        }
        if !(kept || groups.is_empty()) {
            said.line("Groups", groups);
        }
        Ok(())
    }

    /// None of those that the Plan separates is the supervisor's.
    fn namespaces(&mut self, start: &Start<'_>, proc: BorrowedFd<'_>) -> Result<(), Record> {
        let mut names = Said::default();
        let links = look(
            openat(proc, LINKS_BELOW_PROC, LINKS_FLAGS, Mode::empty()),
            LINKS,
        )?;
        for host in &start.prepared.host_namespaces {
            let own = look(identity(links.as_fd(), host.name), LINKS)?;
            let name = host.name.to_bytes();
            if own == host.identity {
                let planned = format_args!("not the host's");
                return Err(Said::differs("Namespace", name, planned));
            }
            names.words(&[b" ", name]);
        }
        self.said.line("Namespaces", names.text().trim_ascii());
        Ok(())
    }

    /// The root is the one that was put together, and the working directory lies in it (CVE-2024-21626).
    fn places(&mut self, start: &Start<'_>) -> Result<(), Record> {
        if let Some(wanted) = start.root {
            if place(&look(stat(c"/"), c"/")?) != wanted {
                let planned = format_args!("the sandbox's");
                return Err(Said::differs("Root", b"another", planned));
            }
            self.said.line("Root", b"own");
        }
        let mut buffer = [0_u8; libc::PATH_MAX as usize];
        if look(sys::getcwd(&mut buffer), c"(working directory)")? != b'/' {
            let planned = format_args!("inside");
            return Err(Said::differs("WorkingDirectory", b"outside", planned));
        }
        self.said.line("WorkingDirectory", b"inside");
        Ok(())
    }

    /// What prctl(2) and getrlimit(2) tell.
    fn process(&mut self, start: &Start<'_>) -> Result<(), Record> {
        let prepared = start.prepared;
        // Kept capabilities rest on securebits that execve(2) changes.
        if prepared.capabilities.is_empty() && prepared.drops_bounding {
            let bits = sys::prctl(libc::PR_GET_SECUREBITS, 0, 0);
            let bits = look(bits, c"(securebits)")?;
            self.number("Securebits", bits, LOCKED_SECUREBITS.into())?;
        }
        let dumpable = sys::prctl(libc::PR_GET_DUMPABLE, 0, 0);
        self.number("Dumpable", look(dumpable, c"(dumpable)")?, 0)?;
        if start.bound {
            self.said.line("ParentDeathSignal", b"9");
        }
        let mut names = Said::default();
        for (wanted, name) in &prepared.rlimits {
            let (soft, hard) = look(sys::getrlimit(wanted.resource), name)?;
            let short = name.to_bytes();
            let short = short.strip_prefix(b"RLIMIT_").unwrap_or(short);
            if (soft, hard) != (wanted.soft, wanted.hard) {
                let planned = format_args!("{} and {}", wanted.soft, wanted.hard);
                return Err(Said::differs("Rlimit", short, planned));
            }
            names.words(&[b" ", short]);
        }
        self.said.line("Rlimits", names.text().trim_ascii());
        Ok(())
    }

    fn number(&mut self, name: &str, found: i32, wanted: i32) -> Result<(), Record> {
        let mut text = Said::default();
        text.format(format_args!("{found:#x}"));
        if found != wanted {
            return Err(Said::differs(
                name,
                text.text(),
                format_args!("{wanted:#x}"),
            ));
        }
        self.said.line(name, text.text());
        Ok(())
    }

    /// The kernel has no way to ask for Landlock, so that it is tried: by making a file where everybody may, but for
    /// Landlock, which no rule allows it.
    fn landlock(&mut self, start: &Start<'_>) -> Result<(), Record> {
        let Some(landlock) = &start.prepared.landlock else {
            return Ok(());
        };
        let tried = match start.outside {
            Some(outside) => make_file(outside),
            // On the caller's own root no rule allows to list it.
            None if start.prepared.shares_proc => nix::fcntl::open(
                c"/",
                OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            ),
            None => return Ok(()),
        };
        match tried {
            Err(Errno::EACCES) => {
                let mut version = Said::default();
                version.format(format_args!("{}", landlock.abi));
                self.said.line("Landlock", b"refuses");
                self.said.line("LandlockAbi", version.text());
                Ok(())
            }
            Err(errno) => Err(unseen(c"what Landlock must refuse", errno)),
            Ok(_) => Err(Said::differs(
                "Landlock",
                b"absent",
                format_args!("refuses"),
            )),
        }
    }

    /// The command gets nothing but the three standard descriptors (CVE-2024-21626): what set-up has left is closed here at
    /// the latest, and `kept`, in ascending order, closes when the command executes; -1 stands for none.
    fn descriptors(&mut self, status: &Status<'_>, kept: [RawFd; 2]) -> Result<(), Record> {
        let Some(slots) = status.number("FDSize") else {
            let planned = format_args!("a number");
            return Err(Said::differs("FDSize", b"(nothing)", planned));
        };
        let mut from = 3;
        for descriptor in kept {
            if descriptor > from {
                let (first, last) = (from.unsigned_abs(), (descriptor - 1).unsigned_abs());
                look(sys::close_range(first, last, 0), DESCRIPTORS)?;
            }
            from = from.max(descriptor + 1);
        }
        look(
            sys::close_range(from.unsigned_abs(), u32::MAX, 0),
            DESCRIPTORS,
        )?;
        if look(sys::first_that_stays(3, slots), DESCRIPTORS)?.is_some() {
            let planned = format_args!("0-2");
            return Err(Said::differs("Descriptors", b"more", planned));
        }
        self.said.line("Descriptors", b"0-2");
        Ok(())
    }
}

const STATUS_PATH: &CStr = c"/proc/thread-self/status";
const STATUS_SIZE: usize = 4096;
const DESCRIPTORS: &CStr = c"(descriptors)";

/// What a call found; what cannot be seen is not taken for granted.
#[allow(
    clippy::result_large_err,
    reason = "a box would be an allocation between clone and exec"
)]
fn look<T>(result: nix::Result<T>, what: &CStr) -> Result<T, Record> {
    result.map_err(|errno| unseen(what, errno))
}

fn unseen(what: &CStr, errno: Errno) -> Record {
    Record::failed(Step::ReadBack, errno, what.to_bytes())
}

/// PID 1's own: it dies with its supervisor, and the sandbox with it.
pub(crate) fn bound_to_supervisor() -> bool {
    matches!(sys::parent_death_signal(), Ok(libc::SIGKILL))
}

/// An empty file system in memory that is mounted nowhere, and in which everybody may make files. Needs the right to mount.
pub(crate) fn outside() -> Result<OwnedFd, Failure<'static>> {
    let make = || {
        let context = sys::fsopen(c"tmpfs")?;
        sys::fsconfig_create(context.as_fd())?;
        let flags = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
        sys::fsmount(context.as_fd(), flags)
    };
    make().or_fail(Step::Landlock, c"(something to try it on)")
}

fn make_file(directory: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    openat(directory, c"made", flags, Mode::empty())
}

/// Whether the words of `groups` are `wanted`, in any order.
fn same_groups(groups: &[u8], wanted: &[u32]) -> bool {
    let found = || {
        groups
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .map(|word| std::str::from_utf8(word).ok()?.parse::<u32>().ok())
    };
    found().count() == wanted.len()
        && found().all(|group| group.is_some_and(|group| wanted.contains(&group)))
        && wanted
            .iter()
            .all(|group| found().any(|found| found == Some(*group)))
}

/// The lines of a status file.
struct Status<'a>(&'a [u8]);

impl<'a> Status<'a> {
    /// What stands after `name:`.
    fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.0
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))
            .map(<[u8]>::trim_ascii)
    }

    fn number(&self, name: &str) -> Option<i32> {
        std::str::from_utf8(self.value(name)?).ok()?.parse().ok()
    }
}

/// What was read back, line by line.
struct Said {
    text: [u8; TEXT],
    length: usize,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            text: [0; TEXT],
            length: 0,
        }
    }
}

#[allow(
    clippy::result_large_err,
    reason = "a box would be an allocation between clone and exec"
)]
impl Said {
    fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// Compares every number in a line of `status` with `wanted`: ids have four.
    fn check(
        &mut self,
        status: &Status<'_>,
        name: &str,
        radix: u32,
        wanted: u64,
    ) -> Result<(), Record> {
        let value = status.value(name).filter(|value| !value.is_empty());
        let value = value.unwrap_or(b"(nothing)");
        let mut words = value.split(u8::is_ascii_whitespace);
        let first = words.clone().next().unwrap_or_default();
        let same = words.all(|word| {
            let text = std::str::from_utf8(word).ok();
            text.and_then(|text| u64::from_str_radix(text, radix).ok()) == Some(wanted)
        });
        if same {
            self.line(name, first);
            return Ok(());
        }
        Err(if radix == 16 {
            Self::differs(name, value, format_args!("{wanted:016x}"))
        } else {
            Self::differs(name, value, format_args!("{wanted}"))
        })
    }

    fn differs(name: &str, found: &[u8], planned: std::fmt::Arguments<'_>) -> Record {
        let mut said = Self::default();
        said.line(name, found);
        said.words(&[b"planned "]);
        said.format(planned);
        Record::new(Kind::Differs, 0, 0, said.text())
    }

    fn line(&mut self, name: &str, value: &[u8]) {
        self.words(&[name.as_bytes(), b" ", value, b"\n"]);
    }

    fn words(&mut self, words: &[&[u8]]) {
        for part in words {
            let end = (self.length + part.len()).min(self.text.len());
            let length = end - self.length;
            self.text[self.length..end].copy_from_slice(&part[..length]);
            self.length = end;
        }
    }

    fn format(&mut self, text: std::fmt::Arguments<'_>) {
        let mut rest = &mut self.text[self.length..];
        let before = rest.len();
        // What does not fit is cut, as everywhere in a record.
        let _ = rest.write_fmt(text);
        self.length += before - rest.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: Status<'_> = Status(
        b"Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t5\t5\t0\t5\nGroups:\t4 24 \nSeccomp:\t2\nSeccomp_filters:\t3\nFDSize:\t64\n",
    );

    #[test]
    fn a_field_is_its_own_line() {
        assert_eq!(STATUS.value("Seccomp"), Some(b"2".as_slice()));
        assert_eq!(STATUS.value("Seccomp_filters"), Some(b"3".as_slice()));
        assert_eq!(STATUS.number("FDSize"), Some(64));
        assert_eq!(STATUS.value("Missing"), None);
    }

    #[test]
    fn a_difference_names_the_field_both_values_and_stops_the_run() {
        let mut said = Said::default();
        assert!(said.check(&STATUS, "Seccomp", 10, 2).is_ok());
        let record = said.check(&STATUS, "Seccomp_filters", 10, 4);
        let record = record.expect_err("differs");
        assert_eq!(record.kind, Kind::Differs);
        assert_eq!(record.text(), b"Seccomp_filters 3\nplanned 4");
        assert!(said.check(&STATUS, "Missing", 10, 0).is_err());
    }

    #[test]
    fn each_of_the_four_ids_counts() {
        let mut said = Said::default();
        assert!(said.check(&STATUS, "Uid", 10, 1000).is_ok());
        assert_eq!(said.text(), b"Uid 1000\n");
        assert!(said.check(&STATUS, "Gid", 10, 5).is_err());
    }

    #[test]
    fn groups_are_compared_as_a_set() {
        assert!(same_groups(b"4 24", &[24, 4]));
        assert!(same_groups(b"", &[]));
        for other in [vec![], vec![4], vec![4, 25], vec![4, 24, 25]] {
            assert!(!same_groups(b"4 24", &other), "{other:?}");
        }
        assert!(!same_groups(b"4", &[]));
    }

    #[test]
    fn ones_own_namespaces_are_known_as_the_hosts() {
        let flags = u64::from((libc::CLONE_NEWNS | libc::CLONE_NEWUSER).cast_unsigned());
        let own = Namespace::read(flags).expect("readable");
        let names: Vec<_> = own.iter().map(|namespace| namespace.name).collect();
        assert_eq!(names, [c"mnt", c"user"]);
        let link = std::fs::read_link("/proc/self/ns/user").expect("there");
        let text = CStr::from_bytes_until_nul(&own[1].identity).expect("ended");
        assert_eq!(text.to_bytes(), link.as_os_str().as_encoded_bytes());
    }

    #[test]
    fn what_landlock_must_refuse_is_possible_without_it() {
        let place = tempfile::tempdir().expect("a directory");
        let place = nix::fcntl::open(place.path(), OFlag::O_PATH, Mode::empty()).expect("there");
        make_file(place.as_fd()).expect("made");
    }

    #[test]
    fn text_without_end_is_cut() {
        let mut said = Said::default();
        for _ in 0..TEXT {
            said.line("name", b"value");
        }
        assert_eq!(said.text().len(), TEXT);
    }
}
