//! The mounts of a sandbox: a list of operations in order. The order is the meaning.
//!
//! A target in the image's tree is resolved once, inside the root, to a descriptor, and mounted on through it. A target
//! directly below a file system that this set-up has just made (a new /dev) needs no such care: nobody else has put
//! anything there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use nix::unistd::{fchdir, symlinkat};
use oci_spec::runtime::{Linux, LinuxIdMapping, Mount, Spec};

use crate::Error;
use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::idmap::Identity;
use crate::prepare::{PreparedPath, c_string};
use crate::sys::{self, MountAttributes};

/// MOUNT_ATTR_* of linux/mount.h.
pub(crate) mod attribute {
    pub(crate) const RDONLY: u64 = 0x1;
    pub(crate) const NOSUID: u64 = 0x2;
    pub(crate) const NODEV: u64 = 0x4;
    pub(crate) const NOEXEC: u64 = 0x8;
    pub(crate) const NOATIME: u64 = 0x10;
    pub(crate) const IDMAP: u64 = 0x10_0000;
}

/// OPEN_TREE_CLONE of linux/mount.h.
pub(crate) const OPEN_TREE_CLONE: u32 = 1;

/// One mount, ready to be made.
pub(crate) struct MountStep {
    /// The destination as the user knows it, for messages.
    pub(crate) destination: CString,
    target: PreparedPath,
    /// The last component of the target.
    name: CString,
    /// The earlier step whose new file system the target lies directly in.
    parent: Option<usize>,
    /// Whether later steps need a descriptor on what this one mounts.
    keep: bool,
    kind: Kind,
}

enum Kind {
    /// A new file system.
    New(NewFilesystem),
    /// A part of the host's tree.
    Bind {
        source: Source,
        recursive: bool,
        attributes: u64,
        directory: bool,
    },
}

struct NewFilesystem {
    kind: CString,
    flags: MsFlags,
    data: CString,
    /// What the image has there stays visible.
    copy_up: bool,
    /// Becomes read-only after everything below it is made.
    read_only_late: bool,
    /// For proc: paths relative to it.
    masked: Vec<CString>,
    read_only: Vec<CString>,
}

/// Where a bind mount comes from.
pub(crate) enum Source {
    /// A host path that PID 1 opens.
    Path(CString),
    /// A tree that the supervisor has opened: its number in the list.
    Tree(TreeRequest),
}

/// A host tree for the supervisor to open, where PID 1 lacks the caller's rights.
pub(crate) struct TreeRequest {
    pub(crate) source: CString,
    pub(crate) map: Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)>,
}

/// A device bound from the host's own.
pub(crate) struct Device {
    /// Absolute host path.
    pub(crate) source: CString,
    target: PreparedPath,
    name: CString,
    parent: Option<usize>,
}

impl MountStep {
    /// Whether this puts a new file system on /dev.
    pub(crate) fn is_new_dev(&self) -> bool {
        matches!(self.kind, Kind::New(_)) && self.target.path.as_c_str() == c"dev"
    }

    fn is_new_devpts(&self) -> bool {
        matches!(&self.kind, Kind::New(new) if new.kind.as_c_str() == c"devpts")
    }

    /// Whether this puts a new procfs on /proc.
    pub(crate) fn is_proc(&self) -> bool {
        matches!(&self.kind, Kind::New(new) if new.kind.as_c_str() == c"proc")
            && self.target.path.as_c_str() == c"proc"
    }

    /// What the supervisor has to open for this mount, with the attributes it must have.
    pub(crate) fn tree_request(&self) -> Option<(&TreeRequest, bool, u64)> {
        match &self.kind {
            Kind::Bind {
                source: Source::Tree(request),
                recursive,
                attributes,
                ..
            } => Some((request, *recursive, *attributes)),
            _ => None,
        }
    }
}

/// The spec's mounts as steps.
pub(crate) fn steps(spec: &Spec, identity: &Identity) -> Result<Vec<MountStep>, Error> {
    let linux = spec.linux().as_ref();
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mut steps: Vec<MountStep> = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let mut step = step(mount, linux, identity)?;
        step.parent = steps.iter().position(|earlier| {
            matches!(&earlier.kind, Kind::New(new) if !new.copy_up && new.kind.as_c_str() == c"tmpfs")
                && mount.destination().parent() == Some(Path::new(&*earlier.destination.to_string_lossy()))
        });
        if let Some(parent) = step.parent {
            steps[parent].keep = true;
        }
        steps.push(step);
    }
    Ok(steps)
}

fn step(mount: &Mount, linux: Option<&Linux>, identity: &Identity) -> Result<MountStep, Error> {
    let destination = mount.destination();
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = if options.bind || mount.typ().as_deref() == Some("bind") {
        bind(mount, &options, identity)?
    } else {
        Kind::New(new_filesystem(mount, options, linux)?)
    };
    let keep = matches!(&kind, Kind::New(new) if new.kind.as_c_str() == c"proc" || destination == Path::new("/dev"));
    Ok(MountStep {
        destination: c_string("mount target", destination)?,
        target: PreparedPath::new("mount target", destination)?,
        name: c_string("mount target", destination.file_name().unwrap_or_default())?,
        parent: None,
        keep,
        kind,
    })
}

fn bind(mount: &Mount, options: &Options, identity: &Identity) -> Result<Kind, Error> {
    let source = mount
        .source()
        .as_deref()
        .ok_or_else(|| Error::Unsupported {
            what: format!("bind mount on {}", mount.destination().display()),
            why: "it has no source".into(),
        })?;
    let directory = std::fs::metadata(source).map_err(|error| Error::Setup {
        step: Step::Mount,
        subject: source.display().to_string(),
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
    })?;
    let path = c_string("mount source", source)?;
    let map = mount
        .uid_mappings()
        .clone()
        .zip(mount.gid_mappings().clone());
    let source = if identity.loses_the_callers_rights() {
        Source::Tree(TreeRequest { source: path, map })
    } else if map.is_some() {
        return Err(Error::Unsupported {
            what: format!("an id-mapped mount on {}", mount.destination().display()),
            why: "only root can make one".into(),
        });
    } else {
        Source::Path(path)
    };
    Ok(Kind::Bind {
        source,
        recursive: options.recursive,
        attributes: options.attributes(),
        directory: directory.is_dir(),
    })
}

fn new_filesystem(
    mount: &Mount,
    options: Options,
    linux: Option<&Linux>,
) -> Result<NewFilesystem, Error> {
    let kind = mount.typ().as_deref().unwrap_or("none");
    if !matches!(
        kind,
        "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "cgroup2"
    ) {
        return Err(Error::Unsupported {
            what: format!(
                "a mount of type {kind} on {}",
                mount.destination().display()
            ),
            why: "known types are bind, tmpfs, proc, sysfs, devpts, mqueue, cgroup2".into(),
        });
    }
    let on_proc = kind == "proc" && mount.destination() == Path::new("/proc");
    let below_proc = |paths: Option<&Vec<String>>| -> Result<Vec<CString>, Error> {
        paths
            .into_iter()
            .flatten()
            .filter_map(|path| path.strip_prefix("/proc/").filter(|_| on_proc))
            .map(|path| c_string("path", path))
            .collect()
    };
    // /dev is filled after it is mounted, so it becomes read-only last.
    let read_only_late = options.flags.contains(MsFlags::MS_RDONLY) && kind == "tmpfs";
    let flags = if read_only_late {
        options.flags - MsFlags::MS_RDONLY
    } else {
        options.flags
    };
    Ok(NewFilesystem {
        kind: c_string("mount type", kind)?,
        flags,
        data: c_string("mount options", options.data.join(","))?,
        copy_up: options.copy_up,
        read_only_late,
        masked: below_proc(linux.and_then(|l| l.masked_paths().as_ref()))?,
        read_only: below_proc(linux.and_then(|l| l.readonly_paths().as_ref()))?,
    })
}

/// fstab-style options of a mount (runtime-spec, config.md, "Linux mount options").
struct Options {
    flags: MsFlags,
    bind: bool,
    recursive: bool,
    copy_up: bool,
    data: Vec<String>,
}

impl Options {
    fn parse(options: &[String]) -> Self {
        let mut parsed = Self {
            flags: MsFlags::empty(),
            bind: false,
            recursive: false,
            copy_up: false,
            data: Vec::new(),
        };
        for option in options {
            let (flag, on) = match option.as_str() {
                "ro" | "rro" => (MsFlags::MS_RDONLY, true),
                "rw" => (MsFlags::MS_RDONLY, false),
                "nosuid" => (MsFlags::MS_NOSUID, true),
                "suid" => (MsFlags::MS_NOSUID, false),
                "nodev" => (MsFlags::MS_NODEV, true),
                "dev" => (MsFlags::MS_NODEV, false),
                "noexec" => (MsFlags::MS_NOEXEC, true),
                "exec" => (MsFlags::MS_NOEXEC, false),
                "noatime" => (MsFlags::MS_NOATIME, true),
                "strictatime" => (MsFlags::MS_STRICTATIME, true),
                "bind" | "rbind" => {
                    parsed.bind = true;
                    parsed.recursive |= option == "rbind";
                    continue;
                }
                "tmpcopyup" => {
                    parsed.copy_up = true;
                    continue;
                }
                // Propagation is always private, the mapping is in the mount's own fields, and the rest is the default.
                "private" | "rprivate" | "slave" | "rslave" | "idmap" | "ridmap" | "relatime"
                | "defaults" | "async" => {
                    continue;
                }
                data => {
                    parsed.data.push(data.to_owned());
                    continue;
                }
            };
            parsed.flags.set(flag, on);
        }
        parsed
    }

    /// As mount_setattr(2) wants them.
    fn attributes(&self) -> u64 {
        [
            (MsFlags::MS_RDONLY, attribute::RDONLY),
            (MsFlags::MS_NOSUID, attribute::NOSUID),
            (MsFlags::MS_NODEV, attribute::NODEV),
            (MsFlags::MS_NOEXEC, attribute::NOEXEC),
            (MsFlags::MS_NOATIME, attribute::NOATIME),
        ]
        .iter()
        .filter(|(flag, _)| self.flags.contains(*flag))
        .fold(0, |all, (_, attribute)| all | attribute)
    }
}

/// The spec's devices, bound from the host: a user namespace cannot make nodes.
pub(crate) fn devices(linux: &Linux, mounts: &[MountStep]) -> Result<Vec<Device>, Error> {
    let new_dev = mounts.iter().position(MountStep::is_new_dev);
    linux
        .devices()
        .iter()
        .flatten()
        .map(|device| {
            let path = device.path();
            Ok(Device {
                source: c_string("device", path)?,
                target: PreparedPath::new("device", path)?,
                name: c_string("device", path.file_name().unwrap_or_default())?,
                parent: new_dev.filter(|_| path.parent() == Some(Path::new("/dev"))),
            })
        })
        .collect()
}

/// Masked and read-only paths that a new /proc does not take care of, relative to the root.
pub(crate) fn paths_outside_proc(
    linux: &Linux,
    mounts: &[MountStep],
) -> Result<(Vec<CString>, Vec<CString>), Error> {
    let new_proc = mounts.iter().any(MountStep::is_proc);
    let pick = |paths: &Option<Vec<String>>| -> Result<Vec<CString>, Error> {
        paths
            .iter()
            .flatten()
            .filter(|path| !(new_proc && path.starts_with("/proc/")))
            .map(|path| Ok(PreparedPath::new("path", Path::new(path))?.path))
            .collect()
    };
    Ok((pick(linux.masked_paths())?, pick(linux.readonly_paths())?))
}

/// Whether `path` lies in, or is, the target of a bind mount.
pub(crate) fn below_a_bind(mounts: &[MountStep], path: &Path) -> bool {
    mounts.iter().any(|mount| {
        matches!(mount.kind, Kind::Bind { .. })
            && path.starts_with(Path::new(&*mount.destination.to_string_lossy()))
    })
}

/// The sandbox's root while it is being put together.
pub(crate) struct Tree<'a> {
    pub(crate) root: OwnedFd,
    /// For each mount step, a descriptor on what it mounted, where later steps need one.
    pub(crate) made: &'a mut [Option<OwnedFd>],
    /// Trees that the supervisor opened, in the order of the steps that want one.
    pub(crate) trees: &'a mut [Option<OwnedFd>],
}

/// What a missing target becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Directory,
    File,
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

    /// Opens a mount target, making it and the directories on the way where they are missing.
    fn target(
        &self,
        target: &PreparedPath,
        missing: Missing,
        follow: bool,
    ) -> nix::Result<OwnedFd> {
        let resolution = if follow {
            ResolveFlag::RESOLVE_IN_ROOT
        } else {
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS
        };
        let root = self.root.as_fd();
        match resolve(root, &target.path, OFlag::O_PATH, Mode::empty(), resolution) {
            Err(Errno::ENOENT) => {}
            result => return result,
        }
        self.make_parents(target)?;
        match missing {
            Missing::Directory => self.make_directory(&target.path)?,
            Missing::File => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
                resolve(
                    root,
                    &target.path,
                    flags,
                    Mode::from_bits_truncate(0o644),
                    resolution,
                )?;
            }
        }
        resolve(root, &target.path, OFlag::O_PATH, Mode::empty(), resolution)
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
        let parent = match name_at {
            0 => c".",
            _ => {
                let length = name_at - 1;
                parent
                    .get_mut(..length)
                    .ok_or(Errno::ENAMETOOLONG)?
                    .copy_from_slice(&bytes[..length]);
                CStr::from_bytes_until_nul(&parent).map_err(|_| Errno::ENAMETOOLONG)?
            }
        };
        let parent = self.open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let name = &path.to_bytes_with_nul()[name_at..];
        let name = CStr::from_bytes_until_nul(name).map_err(|_| Errno::EINVAL)?;
        match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Makes a symbolic link whose parent directory exists.
    pub(crate) fn link(&self, link: &PreparedPath, target: &CStr) -> nix::Result<()> {
        let parent = self.open(
            link.parents.last().map_or(c".", |parent| parent),
            OFlag::O_PATH | OFlag::O_DIRECTORY,
        )?;
        let path = link.path.to_bytes_with_nul();
        let name_at = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        symlinkat(
            target,
            &parent,
            CStr::from_bytes_until_nul(&path[name_at..]).map_err(|_| Errno::EINVAL)?,
        )
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
                    step.name.as_c_str(),
                    OFlag::O_PATH | OFlag::O_CLOEXEC,
                    Mode::empty(),
                ),
                None => self.open(&step.target.path, OFlag::O_PATH | OFlag::O_DIRECTORY),
            };
            self.made[index] = Some(opened.or_fail(Step::Mount, &step.destination)?);
        }
        if let Kind::New(new) = &step.kind
            && let Some(proc) = self.made[index].as_ref()
        {
            restrict_proc(proc.as_fd(), new)?;
        }
        Ok(())
    }

    fn mount_new(&self, step: &MountStep, new: &NewFilesystem) -> nix::Result<()> {
        let mount = |target: &CStr| {
            nix::mount::mount(
                Some(new.kind.as_c_str()),
                target,
                Some(new.kind.as_c_str()),
                new.flags,
                Some(new.data.as_c_str()),
            )
        };
        if let Some(parent) = step.parent.and_then(|parent| self.made[parent].as_ref()) {
            make_in(parent.as_fd(), &step.name, Missing::Directory)?;
            fchdir(parent)?;
            return mount(&step.name);
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
        let target = match step.parent.and_then(|parent| self.made[parent].as_ref()) {
            Some(parent) => {
                make_in(parent.as_fd(), &step.name, missing)?;
                openat(
                    parent,
                    step.name.as_c_str(),
                    OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )?
            }
            None => self.target(&step.target, missing, true)?,
        };
        sys::move_mount(tree.as_fd(), target.as_fd())
    }

    fn is_empty(&self, path: &CStr) -> nix::Result<bool> {
        let directory = self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        sys::getdents_is_empty(directory.as_fd())
    }

    /// Binds the host's device node.
    pub(crate) fn device<'s>(&self, device: &'s Device) -> Result<(), Failure<'s>> {
        let bind = |target: &CStr| {
            nix::mount::mount(
                Some(device.source.as_c_str()),
                target,
                None::<&CStr>,
                MsFlags::MS_BIND,
                None::<&CStr>,
            )
        };
        let made = match device.parent.and_then(|parent| self.made[parent].as_ref()) {
            Some(parent) => make_in(parent.as_fd(), &device.name, Missing::File)
                .and_then(|()| fchdir(parent))
                .and_then(|()| bind(&device.name)),
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
        &self,
        dev: usize,
        terminal: BorrowedFd<'_>,
    ) -> Result<(), Failure<'static>> {
        let Some(dev) = self.made[dev].as_ref() else {
            return Ok(());
        };
        make_in(dev.as_fd(), c"console", Missing::File).or_fail(Step::Terminal, c"/dev/console")?;
        fchdir(dev).or_fail(Step::Terminal, c"/dev/console")?;
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

/// Makes an entry in a directory that this set-up has just made.
fn make_in(directory: BorrowedFd<'_>, name: &CStr, missing: Missing) -> nix::Result<()> {
    let made = match missing {
        Missing::Directory => mkdirat(directory, name, Mode::from_bits_truncate(0o755)),
        Missing::File => mknodat(
            directory,
            name,
            SFlag::S_IFREG,
            Mode::from_bits_truncate(0o644),
            0,
        ),
    };
    match made {
        Err(Errno::EEXIST) => Ok(()),
        result => result,
    }
}

/// A detached copy of a host tree with these attributes.
pub(crate) fn clone_tree(path: &CStr, recursive: bool, attributes: u64) -> nix::Result<OwnedFd> {
    let recursion = if recursive {
        libc::AT_RECURSIVE as u32
    } else {
        0
    };
    let host = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let tree = sys::open_tree(
        host.as_fd(),
        c"",
        OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32 | recursion,
    )?;
    if attributes != 0 {
        set(tree.as_fd(), recursive, attributes)?;
    }
    Ok(tree)
}

fn set(mount: BorrowedFd<'_>, recursive: bool, attributes: u64) -> nix::Result<()> {
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    sys::mount_setattr(
        mount,
        flags,
        &MountAttributes {
            set: attributes,
            ..MountAttributes::default()
        },
    )
}

/// Keeps a directory of the root as a mount of its own, which stays writable when the root becomes read-only.
fn bind_onto_itself(target: BorrowedFd<'_>, flags: MsFlags) -> nix::Result<()> {
    let tree = sys::open_tree(target, c"", OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32)?;
    let attributes = Options {
        flags,
        bind: false,
        recursive: false,
        copy_up: false,
        data: Vec::new(),
    }
    .attributes();
    if attributes != 0 {
        set(tree.as_fd(), false, attributes)?;
    }
    sys::move_mount(tree.as_fd(), target)
}

/// Hides what is at `target`. The source is the host's own null device, never a file of the image (CVE-2025-31133).
fn hide(target: &CStr) -> nix::Result<()> {
    match nix::mount::mount(
        Some(c"/dev/null"),
        target,
        None::<&CStr>,
        MsFlags::MS_BIND,
        None::<&CStr>,
    ) {
        Err(Errno::ENOTDIR) => {
            let flags =
                MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            nix::mount::mount(
                Some(c"tmpfs"),
                target,
                Some(c"tmpfs"),
                flags,
                Some(c"nr_inodes=2,mode=555"),
            )
        }
        result => result,
    }
}

fn restrict_proc<'s>(proc: BorrowedFd<'_>, new: &'s NewFilesystem) -> Result<(), Failure<'s>> {
    if new.masked.is_empty() && new.read_only.is_empty() {
        return Ok(());
    }
    fchdir(proc).or_fail(Step::Mask, c"/proc")?;
    for path in &new.masked {
        match hide(path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => {
                return Err(Failure {
                    step: Step::Mask,
                    errno,
                    subject: path,
                });
            }
        }
    }
    for path in &new.read_only {
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        match nix::mount::mount(
            Some(path.as_c_str()),
            path.as_c_str(),
            None::<&CStr>,
            bind,
            None::<&CStr>,
        ) {
            Ok(()) => {}
            Err(Errno::ENOENT) => continue,
            Err(errno) => {
                return Err(Failure {
                    step: Step::ReadOnly,
                    errno,
                    subject: path,
                });
            }
        }
        let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | new.flags;
        nix::mount::mount(
            None::<&CStr>,
            path.as_c_str(),
            None::<&CStr>,
            remount,
            None::<&CStr>,
        )
        .or_fail(Step::ReadOnly, path)?;
    }
    Ok(())
}

/// The path `/proc/self/fd/N` of a descriptor, for calls that take only paths.
pub(crate) struct FdPath([u8; 48]);

impl FdPath {
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Self {
        Self::with_name(fd, "")
    }

    /// The path of `name`, which starts with a slash and is short, below a descriptor.
    pub(crate) fn with_name(fd: BorrowedFd<'_>, name: &str) -> Self {
        use std::io::Write as _;
        let mut path = [0; 48];
        // 48 bytes hold the prefix, ten digits and the short names that are used here.
        let _ = write!(&mut path[..47], "/proc/self/fd/{}{name}", fd.as_raw_fd());
        Self(path)
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Options {
        Options::parse(&list.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_two_contrary_options_wins() {
        assert_eq!(options(&["ro", "rw"]).attributes(), 0);
        assert_eq!(
            options(&["rw", "ro", "nosuid"]).attributes(),
            attribute::RDONLY | attribute::NOSUID
        );
    }

    #[test]
    fn what_is_no_flag_goes_to_the_file_system() {
        assert_eq!(
            options(&["nodev", "size=64k", "mode=755"]).data,
            ["size=64k", "mode=755"]
        );
    }

    #[test]
    fn the_path_of_a_descriptor_leads_to_its_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "here").expect("written");
        let path = FdPath::new(file.as_file().as_fd());
        assert_eq!(
            std::fs::read(path.as_c_str().to_str().expect("text")).expect("read"),
            b"here"
        );
    }

    #[test]
    fn an_unknown_kind_of_mount_is_refused() {
        let mut mount = Mount::default();
        mount
            .set_destination("/x".into())
            .set_typ(Some("ext4".into()));
        assert!(new_filesystem(&mount, options(&[]), None).is_err());
    }
}
