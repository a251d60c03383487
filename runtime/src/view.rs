//! What programs read about the machine, where it is limited: files over those of /proc, a /sys/devices/system/cpu and the
//! cgroup of the sandbox's own, and the affinity mask.

mod own;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use oci_spec::runtime::Spec;

use crate::Error;
use crate::cgroup::Cgroup;
use crate::cgroup::view::{self, Cpus};
use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::mount::{OPEN_TREE_CLONE, Tree, attribute};
use crate::prepare::c_string;
use crate::sys;

use own::Own;

/// What is shown in place of the host's numbers, and the processors that the command may use.
pub(crate) struct View {
    affinity: Vec<u64>,
    /// Names directly in /proc, with contents.
    files: Vec<(CString, Vec<u8>)>,
    processors: Option<Processors>,
    cgroup: Own,
    /// The sandbox has a /sys, or something in it; else what is shown there is all of it.
    has_sys: bool,
}

/// A directory like /sys/devices/system/cpu.
struct Processors {
    /// The processors as a list, with a final newline.
    list: Vec<u8>,
    /// `cpu0` and so on: older C libraries count these.
    directories: Vec<CString>,
}

/// Where older and newer C libraries, node and java look.
const LISTS: [&CStr; 3] = [c"online", c"possible", c"present"];

/// Inside the view's own file system; each is the directory of the next.
const SYS: [&CStr; 4] = [c"sys", c"sys/devices", c"sys/devices/system", CPU];
const CPU: &CStr = c"sys/devices/system/cpu";

impl View {
    /// The view for the spec's limits; none where they leave the machine as it is. `id` spreads sandboxes over the
    /// processors: it is a sandbox's own, in hexadecimal digits.
    pub(crate) fn new(spec: &Spec, id: &str) -> Result<Option<Self>, Error> {
        let resources = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().as_ref());
        let Some(resources) = resources else {
            return Ok(None);
        };
        let seed = id
            .get(..16)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let cpus = match resources.cpu() {
            Some(cpu) => view::cpus_for(cpu, &own_cpus()?, seed.unwrap_or(0)),
            None => None,
        };
        let read = |path: &str| std::fs::read_to_string(path);
        let files = view::files(resources, cpus.as_ref(), read).map_err(|error| Error::Launch {
            action: "read what the machine has, to show the limits instead".into(),
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        })?;
        if files.is_empty() && cpus.is_none() {
            return Ok(None);
        }
        let files = files.into_iter().map(|(path, text)| {
            let name = path.trim_start_matches("/proc/");
            Ok((c_string("file", name)?, text.into_bytes()))
        });
        Ok(Some(Self {
            affinity: cpus.as_ref().map(mask).unwrap_or_default(),
            files: files.collect::<Result<_, Error>>()?,
            processors: cpus.as_ref().map(Processors::new).transpose()?,
            cgroup: Own::default(),
            has_sys: spec
                .mounts()
                .iter()
                .flatten()
                .any(|mount| mount.destination().starts_with("/sys")),
        }))
    }

    /// Whether it shows the sandbox's own cgroup.
    pub(crate) fn shows_cgroup(&self) -> bool {
        !self.cgroup.is_empty()
    }

    /// Shows the sandbox's own cgroup too.
    pub(crate) fn show(&mut self, cgroup: &Cgroup, spec: &Spec) -> Result<(), Error> {
        self.cgroup = Own::new(cgroup, spec)?;
        Ok(())
    }

    /// Keeps the calling process, and those it starts, on its processors (sched_setaffinity(2)).
    pub(crate) fn stay(&self) -> Result<(), Failure<'static>> {
        if self.affinity.is_empty() {
            return Ok(());
        }
        sys::set_affinity(&self.affinity).or_fail(Step::ProcessFlags, c"(processors)")
    }

    /// Puts the files in their places. `proc` is the sandbox's own procfs, which nobody else has touched yet.
    pub(crate) fn mount(
        &self,
        tree: &Tree<'_>,
        proc: Option<BorrowedFd<'_>>,
    ) -> Result<(), Failure<'_>> {
        let shown = c"(what programs read of the limits)";
        let made = self.make(proc.is_some()).or_fail(Step::Mount, shown)?;
        if let Some(proc) = proc {
            for (name, _) in &self.files {
                cover(made.as_fd(), proc, name).or_fail(Step::Mount, name)?;
            }
        }
        if self.has_sys {
            if self.processors.is_some() {
                mount_processors(tree, made.as_fd()).or_fail(Step::Mount, CPU)?;
            }
        } else if self.processors.is_some() || !self.cgroup.is_empty() {
            mount_sys(tree, made.as_fd()).or_fail(Step::Mount, SYS[0])?;
        }
        self.cgroup
            .mount(tree, made.as_fd(), !self.has_sys)
            .or_fail(Step::Mount, own::PLACE)?;
        // The places hold what they show; nothing else leads there.
        umount2(c"/", MntFlags::MNT_DETACH).or_fail(Step::Mount, shown)
    }

    /// A read-only file system with everything in it, attached on top of the host's root: parts of a detached one can be
    /// copied only since Linux 6.15.
    fn make(&self, with_files: bool) -> nix::Result<OwnedFd> {
        let context = sys::fsopen(c"tmpfs")?;
        sys::fsconfig_string(context.as_fd(), c"mode", c"0555")?;
        sys::fsconfig_create(context.as_fd())?;
        let flags = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
        let made = sys::fsmount(context.as_fd(), flags)?;
        for (name, contents) in self.files.iter().filter(|_| with_files) {
            write(made.as_fd(), name, contents)?;
        }
        if let Some(processors) = &self.processors {
            for path in SYS {
                mkdirat(&made, path, Mode::from_bits_truncate(0o555))?;
            }
            let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let cpu = openat(&made, CPU, directory, Mode::empty())?;
            for name in LISTS {
                write(cpu.as_fd(), name, &processors.list)?;
            }
            for name in &processors.directories {
                mkdirat(&cpu, name.as_c_str(), Mode::from_bits_truncate(0o555))?;
            }
        }
        self.cgroup.make_places(made.as_fd())?;
        crate::mount::set(made.as_fd(), false, attribute::RDONLY)?;
        sys::move_mount_to_path(made.as_fd(), AT_FDCWD, c"/")?;
        Ok(made)
    }
}

impl Processors {
    fn new(cpus: &Cpus) -> Result<Self, Error> {
        let directories = cpus
            .iter()
            .map(|number| c_string("file", format!("cpu{number}")));
        Ok(Self {
            list: format!("{cpus}\n").into_bytes(),
            directories: directories.collect::<Result<_, _>>()?,
        })
    }
}

/// The processors into a /sys that the sandbox has.
fn mount_processors(tree: &Tree<'_>, made: BorrowedFd<'_>) -> nix::Result<()> {
    let target = match tree.open_without_links(CPU) {
        // A /sys of the user's own making shows what it shows.
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        target => target?,
    };
    let copy = sys::open_tree(made, CPU, OPEN_TREE_CLONE)?;
    sys::move_mount(copy.as_fd(), target.as_fd())
}

/// What is shown, as all that there is in /sys.
fn mount_sys(tree: &Tree<'_>, made: BorrowedFd<'_>) -> nix::Result<()> {
    tree.make_directory(SYS[0])?;
    let target = tree.open_without_links(SYS[0])?;
    let copy = sys::open_tree(made, SYS[0], OPEN_TREE_CLONE)?;
    sys::move_mount(copy.as_fd(), target.as_fd())
}

/// Puts a copy of the file `name` in `made` over the one in `proc`. What the policy hides there stays hidden.
fn cover(made: BorrowedFd<'_>, proc: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    let target = match openat2(proc, name, how) {
        Err(Errno::EXDEV | Errno::ENOENT) => return Ok(()),
        target => target?,
    };
    if fstat(&target)?.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err(Errno::EINVAL);
    }
    let copy = sys::open_tree(made, name, OPEN_TREE_CLONE)?;
    sys::move_mount(copy.as_fd(), target.as_fd())
}

/// A new file that everybody may read.
fn write(directory: BorrowedFd<'_>, name: &CStr, contents: &[u8]) -> nix::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::from_bits_truncate(0o444))?;
    let mut rest = contents;
    while !rest.is_empty() {
        rest = &rest[nix::unistd::write(&file, rest)?..];
    }
    Ok(())
}

/// The processors that this process may use.
fn own_cpus() -> Result<Cpus, Error> {
    let mask = sys::affinity().map_err(|errno| Error::Launch {
        action: "read which processors palisade may use".into(),
        errno,
    })?;
    let numbers = (0_u32..).zip(
        mask.iter()
            .flat_map(|word| (0..64).map(move |bit| word >> bit & 1)),
    );
    let numbers: Vec<u32> = numbers
        .filter(|(_, bit)| *bit == 1)
        .map(|(number, _)| number)
        .collect();
    Ok(Cpus::from(numbers))
}

/// As the kernel takes them, lowest number first.
fn mask(cpus: &Cpus) -> Vec<u64> {
    let last = cpus.iter().last().unwrap_or(0);
    let mut mask = vec![0; last as usize / 64 + 1];
    for number in cpus.iter() {
        mask[number as usize / 64] |= 1 << (number % 64);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_a_bit_for_each_processor() {
        assert_eq!(mask(&Cpus::from(vec![0, 3])), [0b1001]);
        assert_eq!(mask(&Cpus::from(vec![64])), [0, 1]);
    }

    #[test]
    fn this_process_may_use_a_processor_and_can_be_kept_on_what_it_has() {
        let own = own_cpus().expect("readable");
        assert!(!own.is_empty());
        sys::set_affinity(&mask(&own)).expect("no change");
    }

    #[test]
    fn a_spec_without_limits_changes_nothing() {
        assert!(
            View::new(&Spec::default(), "0")
                .expect("nothing to read")
                .is_none()
        );
    }
}
