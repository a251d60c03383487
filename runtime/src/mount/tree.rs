//! The tree that the command will see, while it is being put together.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{fchdir, getegid, geteuid, symlinkat};

use super::calls::{FdPath, Missing, bind_onto_itself, clone_tree, hide, make_here, set};
use super::{Device, Kind, MountStep, NewFilesystem, OPEN_TREE_CLONE, Source, attribute};
use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::prepare::PreparedPath;
use crate::sys;

/// The sandbox's root while it is being put together.
pub(crate) struct Tree<'a> {
    pub(crate) root: OwnedFd,
    /// For each mount step, a descriptor on what it mounted, where later steps need one.
    pub(crate) made: &'a mut [Option<OwnedFd>],
    /// Trees that the supervisor opened, in the order of the steps that want one.
    pub(crate) trees: &'a mut [Option<OwnedFd>],
    /// The command's user and group.
    pub(crate) command: (u32, u32),
    /// The mount step whose new file system is the working directory.
    pub(crate) entered: Option<usize>,
}

impl Tree<'_> {
    /// Opens a path of the sandbox, resolved inside its root (openat2(2)).
    pub(crate) fn open(&self, path: &CStr, flags: OFlag) -> nix::Result<OwnedFd> {
        resolve(
            self.root.as_fd(),
            path,
            flags,
            Mode::empty(),
            ResolveFlag::RESOLVE_IN_ROOT,
        )
    }

    /// Opens a path of the sandbox in which no component is a symbolic link.
    pub(crate) fn open_without_links(&self, path: &CStr) -> nix::Result<OwnedFd> {
        let resolution = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
        resolve(
            self.root.as_fd(),
            path,
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            Mode::empty(),
            resolution,
        )
    }

    /// Opens a mount target, making it and the directories on the way where they are missing.
    fn target(
        &self,
        target: &PreparedPath,
        missing: Missing,
        follow: bool,
    ) -> nix::Result<OwnedFd> {
        let mut resolution = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let root = self.root.as_fd();
        let open =
            |resolution| resolve(root, &target.path, OFlag::O_PATH, Mode::empty(), resolution);
        let mut found = open(resolution);
        let through_links = follow && matches!(found, Err(Errno::ELOOP));
        if through_links {
            resolution = ResolveFlag::RESOLVE_IN_ROOT;
            found = open(resolution);
        }
        if !matches!(found, Err(Errno::ENOENT)) {
            let found = found?;
            return if through_links && self.is_own(found.as_fd())? {
                Err(Errno::ELOOP)
            } else {
                Ok(found)
            };
        }
        self.make_parents(target)?;
        match missing {
            Missing::Directory => self.make_directory(&target.path)?,
            Missing::File => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
                let mode = Mode::from_bits_truncate(0o644);
                self.as_whoever_may(|| resolve(root, &target.path, flags, mode, resolution))?;
            }
        }
        let made = open(resolution)?;
        if through_links && self.is_own(made.as_fd())? {
            return Err(Errno::ELOOP);
        }
        Ok(made)
    }

    /// Whether it lies in the /proc or the /dev that was made for the sandbox: where a path of the user's leads there by a
    /// symbolic link, the image wants something in their place that the user has not asked for. /dev/shm is for everybody.
    fn is_own(&self, place: BorrowedFd<'_>) -> nix::Result<bool> {
        if fstat(place)?.st_dev == fstat(&self.root)?.st_dev {
            return Ok(false);
        }
        // By the kernel's path (proc_pid_fd(5)): what masks something of /proc is another file system.
        let mut buffers = [[0; libc::PATH_MAX as usize]; 2];
        let [root, path] = &mut buffers;
        let root = kernel_path(self.root.as_fd(), root)?;
        let path = kernel_path(place, path)?;
        let inside = path.strip_prefix(root.strip_suffix(b"/").unwrap_or(root));
        let lies_in = |directory: &[u8]| {
            let below = inside.and_then(|inside| inside.strip_prefix(directory));
            below.is_some_and(|below| matches!(below.first(), None | Some(b'/')))
        };
        Ok(lies_in(b"/proc") || lies_in(b"/dev") && !lies_in(b"/dev/shm"))
    }

    /// Makes the directories on the way to `path`, inside the root.
    pub(crate) fn make_parents(&self, path: &PreparedPath) -> nix::Result<()> {
        path.parents
            .iter()
            .try_for_each(|parent| self.make_directory(parent))
    }

    /// Makes one directory whose parent exists; one that is there already is fine.
    pub(crate) fn make_directory(&self, path: &CStr) -> nix::Result<()> {
        let bytes = path.to_bytes();
        let mut parent = [0_u8; libc::PATH_MAX as usize];
        let name_at = bytes
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let parent = if name_at == 0 {
            c"."
        } else {
            let length = name_at - 1;
            parent
                .get_mut(..length)
                .ok_or(Errno::ENAMETOOLONG)?
                .copy_from_slice(&bytes[..length]);
            CStr::from_bytes_until_nul(&parent).map_err(|_| Errno::ENAMETOOLONG)?
        };
        let parent = self.open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let name = &path.to_bytes_with_nul()[name_at..];
        let name = CStr::from_bytes_until_nul(name).map_err(|_| Errno::EINVAL)?;
        let mode = Mode::from_bits_truncate(0o755);
        match self.as_whoever_may(|| mkdirat(&parent, name, mode)) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Makes something; inside an id-mapped mount, where the id of the set-up stands for nobody (EOVERFLOW), as the command.
    fn as_whoever_may<T>(&self, make: impl Fn() -> nix::Result<T>) -> nix::Result<T> {
        match make() {
            Err(Errno::EOVERFLOW) => {
                let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
                sys::set_file_ids(self.command.0, self.command.1);
                let result = make();
                sys::set_file_ids(uid, gid);
                result
            }
            result => result,
        }
    }

    /// Makes a symbolic link whose parent directory exists.
    pub(crate) fn link(&self, link: &PreparedPath, target: &CStr) -> nix::Result<()> {
        let parent = self.open(
            link.parents.last().map_or(c".", |parent| parent),
            OFlag::O_PATH | OFlag::O_DIRECTORY,
        )?;
        symlinkat(target, &parent, link.name())
    }

    /// Makes one mount of the list.
    pub(crate) fn mount<'s>(
        &mut self,
        index: usize,
        step: &'s MountStep,
    ) -> Result<(), Failure<'s>> {
        let made = match &step.kind {
            Kind::New(new) => self.mount_new(step, new),
            Kind::Bind {
                source,
                recursive,
                attributes,
                directory,
            } => {
                let missing = if *directory {
                    Missing::Directory
                } else {
                    Missing::File
                };
                self.mount_bind(step, source, *recursive, *attributes, missing)
            }
        };
        made.or_fail(Step::Mount, &step.destination)?;
        if step.keep {
            let opened = match step.parent.and_then(|parent| self.made[parent].as_ref()) {
                Some(parent) => openat(
                    parent,
                    step.target.name(),
                    OFlag::O_PATH | OFlag::O_CLOEXEC,
                    Mode::empty(),
                ),
                None => self.open(&step.target.path, OFlag::O_PATH | OFlag::O_DIRECTORY),
            };
            self.made[index] = Some(opened.or_fail(Step::Mount, &step.destination)?);
        }
        Ok(())
    }

    /// Hides what a new /proc is not to show.
    pub(crate) fn restrict<'s>(
        &mut self,
        index: usize,
        new: &'s NewFilesystem,
    ) -> Result<(), Failure<'s>> {
        self.enter(index).or_fail(Step::Mask, c"/proc")?;
        new.hide_below_here()
            .map_err(|unhidden| new.failure(&unhidden))
    }

    fn mount_new(&mut self, step: &MountStep, new: &NewFilesystem) -> nix::Result<()> {
        let mount = |target: &CStr| {
            nix::mount::mount(
                Some(new.kind.as_c_str()),
                target,
                Some(new.kind.as_c_str()),
                new.flags,
                Some(new.data.as_c_str()),
            )
        };
        if let Some(parent) = step.parent {
            self.enter(parent)?;
            make_here(step.target.name(), Missing::Directory)?;
            return mount(step.target.name());
        }
        // CVE-2019-19921, CVE-2026-41579: an image may have a symbolic link where /proc, /sys or /dev belongs.
        let follow = new.copy_up || (new.kind.as_c_str() == c"tmpfs" && !step.is_new_dev());
        let target = self.target(&step.target, Missing::Directory, follow)?;
        if new.copy_up && !self.is_empty(&step.target.path)? {
            return bind_onto_itself(target.as_fd(), new.flags);
        }
        mount(FdPath::new(target.as_fd()).as_c_str())
    }

    fn mount_bind(
        &mut self,
        step: &MountStep,
        source: &Source,
        recursive: bool,
        attributes: u64,
        missing: Missing,
    ) -> nix::Result<()> {
        let tree = match source {
            Source::Tree(_) => self
                .trees
                .iter_mut()
                .find_map(Option::take)
                .ok_or(Errno::EBADF)?,
            Source::Path(path) => clone_tree(path, recursive, attributes)?,
        };
        let target = match step.parent {
            Some(parent) => {
                self.enter(parent)?;
                make_here(step.target.name(), missing)?;
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                open(step.target.name(), flags, Mode::empty())?
            }
            None => self.target(&step.target, missing, true)?,
        };
        sys::move_mount(tree.as_fd(), target.as_fd())
    }

    fn is_empty(&self, path: &CStr) -> nix::Result<bool> {
        match self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(directory) => sys::getdents_is_empty(directory.as_fd()),
            // Somebody else's directory, of an image that is not the caller's: it shows what it shows.
            Err(Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Makes `directory` the working directory, for calls that take only paths.
    fn enter(&mut self, directory: usize) -> nix::Result<()> {
        if self.entered == Some(directory) {
            return Ok(());
        }
        fchdir(self.made[directory].as_ref().ok_or(Errno::EBADF)?)?;
        self.entered = Some(directory);
        Ok(())
    }

    /// Binds the host's device node.
    pub(crate) fn device<'s>(&mut self, device: &'s Device) -> Result<(), Failure<'s>> {
        let bind = |target: &CStr| {
            nix::mount::mount(
                Some(device.source.as_c_str()),
                target,
                None::<&CStr>,
                MsFlags::MS_BIND,
                None::<&CStr>,
            )
        };
        let made = match device.parent {
            Some(parent) => self
                .enter(parent)
                .and_then(|()| make_here(device.target.name(), Missing::File))
                .and_then(|()| bind(device.target.name())),
            None => self
                .target(&device.target, Missing::File, true)
                .and_then(|target| bind(FdPath::new(target.as_fd()).as_c_str())),
        };
        made.or_fail(Step::Device, &device.source)
    }

    /// The links that runtime-spec wants in a new /dev ("Default Devices", "Dev symbolic links").
    pub(crate) fn dev_links(
        &self,
        dev: usize,
        mounts: &[MountStep],
    ) -> Result<(), Failure<'static>> {
        let Some(dev) = self.made[dev].as_ref() else {
            return Ok(());
        };
        let links = [
            (c"/proc/self/fd", c"fd"),
            (c"/proc/self/fd/0", c"stdin"),
            (c"/proc/self/fd/1", c"stdout"),
            (c"/proc/self/fd/2", c"stderr"),
        ];
        for (target, name) in links {
            symlinkat(target, dev, name).or_fail(Step::Device, name)?;
        }
        if mounts.iter().any(MountStep::is_new_devpts) {
            symlinkat(c"pts/ptmx", dev, c"ptmx").or_fail(Step::Device, c"ptmx")?;
        }
        Ok(())
    }

    /// Binds `terminal` as a new /dev's console.
    pub(crate) fn console(
        &mut self,
        dev: usize,
        terminal: BorrowedFd<'_>,
    ) -> Result<(), Failure<'static>> {
        self.enter(dev).or_fail(Step::Terminal, c"/dev/console")?;
        make_here(c"console", Missing::File).or_fail(Step::Terminal, c"/dev/console")?;
        nix::mount::mount(
            Some(FdPath::new(terminal).as_c_str()),
            c"console",
            None::<&CStr>,
            MsFlags::MS_BIND,
            None::<&CStr>,
        )
        .or_fail(Step::Terminal, c"/dev/console")
    }

    /// Hides a path: a file behind the host's null device, a directory behind an empty read-only file system.
    pub(crate) fn mask<'s>(&self, path: &'s CStr) -> Result<(), Failure<'s>> {
        match self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(errno) => Err(Failure {
                step: Step::Mask,
                errno,
                subject: path,
            }),
            Ok(target) => hide(FdPath::new(target.as_fd()).as_c_str()).or_fail(Step::Mask, path),
        }
    }

    /// Makes a path read-only.
    pub(crate) fn read_only<'s>(&self, path: &'s CStr) -> Result<(), Failure<'s>> {
        match self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(errno) => Err(Failure {
                step: Step::ReadOnly,
                errno,
                subject: path,
            }),
            Ok(target) => {
                let tree = sys::open_tree(
                    target.as_fd(),
                    c"",
                    OPEN_TREE_CLONE | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as u32,
                )
                .or_fail(Step::ReadOnly, path)?;
                set(tree.as_fd(), true, attribute::RDONLY).or_fail(Step::ReadOnly, path)?;
                sys::move_mount(tree.as_fd(), target.as_fd()).or_fail(Step::ReadOnly, path)
            }
        }
    }

    /// New file systems that are read-only once filled, and the root where the plan says so.
    pub(crate) fn seal<'s>(&self, mounts: &'s [MountStep], root: bool) -> Result<(), Failure<'s>> {
        for (index, step) in mounts.iter().enumerate() {
            let Kind::New(new) = &step.kind else { continue };
            if !new.read_only_late {
                continue;
            }
            let sealed = match &self.made[index] {
                Some(made) => set(made.as_fd(), false, attribute::RDONLY),
                None => self
                    .open(&step.target.path, OFlag::O_PATH | OFlag::O_DIRECTORY)
                    .and_then(|made| set(made.as_fd(), false, attribute::RDONLY)),
            };
            sealed.or_fail(Step::ReadOnly, &step.destination)?;
        }
        if root {
            set(self.root.as_fd(), false, attribute::RDONLY).or_fail(Step::ReadOnly, c"/")?;
        }
        Ok(())
    }
}

/// What the kernel calls the place of a descriptor.
fn kernel_path<'b>(place: BorrowedFd<'_>, buffer: &'b mut [u8]) -> nix::Result<&'b [u8]> {
    match sys::readlinkat(place, FdPath::new(place).as_c_str(), buffer)? {
        // One that is cut off could be another's.
        length if length == buffer.len() => Err(Errno::ENAMETOOLONG),
        length => Ok(&buffer[..length]),
    }
}

fn resolve(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    mode: Mode,
    resolution: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(mode)
        .resolve(resolution | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // EAGAIN: something on the host was renamed meanwhile, so the kernel could not be sure (openat2(2)).
    let mut tries = 0;
    loop {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN) if tries < 128 => tries += 1,
            result => return result,
        }
    }
}

/// Opens a file of the root for writing its whole content; only a regular file will do.
pub(crate) fn open_for_contents(
    root: BorrowedFd<'_>,
    path: &CStr,
    mode: u32,
) -> nix::Result<OwnedFd> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    resolve(
        root,
        path,
        flags,
        Mode::from_bits_truncate(mode),
        ResolveFlag::RESOLVE_IN_ROOT,
    )
}
