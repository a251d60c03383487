//! Mounts and file systems, each made in namespaces of the child's own.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::fchdir;

use super::child::{Answer, Doing as _, Failed, ask, enter_user_namespace};
use super::cure::finding;
use super::surroundings::Surroundings;
use super::{Group, NAMESPACED, Probe, calls};
use crate::mount::{OPEN_TREE_CLONE, attribute};
use crate::sys::{self, MountAttributes};

pub(super) fn probe(around: &Surroundings) -> Vec<Probe> {
    let probe = |name, tiers, body: fn() -> Answer| {
        let answer = ask(|| {
            enter()?;
            body()
        });
        let blame = |failed: &Failed| around.refused_inside(failed);
        Probe::new(Group::Mounts, name, tiers, finding(answer, blame))
    };
    let proc = finding(ask(proc), |failed| around.refused_proc(failed));
    let mut probes = vec![
        probe("private-tree", NAMESPACED, || Ok(String::new())),
        probe("tmpfs", NAMESPACED, || {
            attached_tmpfs().map(|_| String::new())
        }),
        probe("bind", NAMESPACED, bind),
        probe("read-only", NAMESPACED, read_only),
        probe("overlay", NAMESPACED, overlay),
        Probe::new(Group::Mounts, "proc", NAMESPACED, proc),
        probe("devpts", NAMESPACED, || {
            new(
                c"devpts",
                &[(c"newinstance", None), (c"ptmxmode", Some(c"0666"))],
            )
            .map(|_| String::new())
        }),
        probe("mqueue", NAMESPACED, || {
            calls::unshare(libc::CLONE_NEWIPC).doing("make an IPC namespace")?;
            new(c"mqueue", &[]).map(|_| String::new())
        }),
        probe("pivot-root", NAMESPACED, pivot_root),
        // Policies that show a /sys of the sandbox's own need it.
        probe("sysfs", &[], || {
            calls::unshare(libc::CLONE_NEWNET).doing("make a network namespace")?;
            new(c"sysfs", &[]).map(|_| String::new())
        }),
    ];
    if around.is_real_root() {
        // What root mounts into a sandbox keeps its owners by it.
        let idmapped = finding(ask(idmapped), |failed| around.refused(failed));
        probes.push(Probe::new(Group::Mounts, "idmapped-mounts", &[], idmapped));
    }
    probes
}

/// Everything that a sandbox needs of namespaces and mounts, in one go.
pub(super) fn whole_works() -> bool {
    let whole = || {
        enter()?;
        let flags = libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWPID;
        calls::unshare(flags).doing("make the other namespaces")?;
        ask(|| {
            let proc = new(c"proc", &[])?;
            new(c"devpts", &[(c"newinstance", None)])?;
            new(c"mqueue", &[])?;
            overlay()?;
            drop(proc);
            pivot_root()
        })
    };
    ask(whole).is_ok()
}

/// Into namespaces in which mounts may be made, with a tree that nobody else sees.
fn enter() -> Result<(), Failed> {
    enter_user_namespace()?;
    calls::unshare(libc::CLONE_NEWNS).doing("make a mount namespace")?;
    sys::make_all_private().doing("make the mount tree private")
}

/// A new file system, not attached to anything.
fn new(kind: &CStr, options: &[(&CStr, Option<&CStr>)]) -> Result<OwnedFd, Failed> {
    let name = kind.to_string_lossy();
    let make = || {
        let context = sys::fsopen(kind)?;
        for (key, value) in options {
            match value {
                Some(value) => sys::fsconfig_string(context.as_fd(), key, value)?,
                None => sys::fsconfig_flag(context.as_fd(), key)?,
            }
        }
        sys::fsconfig_create(context.as_fd())?;
        sys::fsmount(context.as_fd(), attribute::NOSUID | attribute::NODEV)
    };
    make().doing(&format!("mount a new {name}"))
}

/// A tmpfs on top of the root; the working directory is in it.
fn attached_tmpfs() -> Result<OwnedFd, Failed> {
    let tmpfs = new(
        c"tmpfs",
        &[(c"size", Some(c"65536")), (c"mode", Some(c"0755"))],
    )?;
    sys::move_mount_to_path(tmpfs.as_fd(), AT_FDCWD, c"/").doing("attach a mount by move_mount")?;
    fchdir(&tmpfs).doing("enter a new mount")?;
    Ok(tmpfs)
}

fn directory(name: &CStr) -> Result<(), Failed> {
    mkdirat(AT_FDCWD, name, Mode::from_bits_truncate(0o755)).doing("make a directory in a tmpfs")
}

fn bind() -> Answer {
    let host =
        nix::fcntl::open("/usr", nix::fcntl::OFlag::O_PATH, Mode::empty()).doing("open /usr")?;
    let tree = sys::open_tree(
        host.as_fd(),
        c"",
        OPEN_TREE_CLONE | libc::AT_EMPTY_PATH.unsigned_abs() | libc::AT_RECURSIVE.unsigned_abs(),
    )
    .doing("clone a mount by open_tree")?;
    attached_tmpfs()?;
    directory(c"usr")?;
    sys::move_mount_to_path(tree.as_fd(), AT_FDCWD, c"usr")
        .doing("attach a mount by move_mount")?;
    Ok(String::new())
}

fn read_only() -> Answer {
    let tmpfs = attached_tmpfs()?;
    let attributes = MountAttributes {
        set: attribute::RDONLY,
        ..MountAttributes::default()
    };
    sys::mount_setattr(tmpfs.as_fd(), libc::AT_RECURSIVE, &attributes)
        .doing("make a mount read-only by mount_setattr")?;
    match directory(c"x") {
        Err(failed) if failed.errno == Errno::EROFS => Ok(String::new()),
        Err(failed) => Err(failed),
        Ok(()) => Err(Errno::EPERM).doing("make a mount read-only by mount_setattr"),
    }
}

fn overlay() -> Answer {
    attached_tmpfs()?;
    for name in [c"lower", c"upper", c"work"] {
        directory(name)?;
    }
    let text = |value| Some(value);
    let overlay = new(
        c"overlay",
        &[
            (c"lowerdir", text(c"lower")),
            (c"upperdir", text(c"upper")),
            (c"workdir", text(c"work")),
            (c"userxattr", None),
        ],
    )?;
    fchdir(&overlay).doing("enter an overlay")?;
    directory(c"x").map(|()| String::new())
}

fn proc() -> Answer {
    enter()?;
    calls::unshare(libc::CLONE_NEWPID).doing("make a PID namespace")?;
    // A PID namespace begins with the next child.
    ask(|| new(c"proc", &[]).map(|_| String::new()))
}

fn pivot_root() -> Answer {
    attached_tmpfs()?;
    sys::pivot_root_here().doing("change the root by pivot_root")?;
    umount2(c".", MntFlags::MNT_DETACH).doing("let go of the old root")?;
    Ok(String::new())
}

/// A mount that shows other owners (mount_setattr(2)): the kernel lets only the machine's root make one.
fn idmapped() -> Answer {
    calls::unshare(libc::CLONE_NEWNS).doing("make a mount namespace")?;
    let root = nix::fcntl::open("/", nix::fcntl::OFlag::O_PATH, Mode::empty()).doing("open /")?;
    let tree = sys::open_tree(
        root.as_fd(),
        c"",
        OPEN_TREE_CLONE | libc::AT_EMPTY_PATH.unsigned_abs(),
    )
    .doing("clone a mount by open_tree")?;
    let map = [crate::idmap::id_mapping(0, 100_000, 65_536)];
    let namespace = crate::idmap::user_namespace(&map, &map).map_err(|error| Failed {
        errno: Errno::EPERM,
        doing: error.to_string(),
    })?;
    let attributes = MountAttributes {
        set: attribute::IDMAP,
        userns_fd: namespace.as_raw_fd().unsigned_abs().into(),
        ..MountAttributes::default()
    };
    sys::mount_setattr(tree.as_fd(), 0, &attributes)
        .doing("map ids of a mount by mount_setattr")?;
    Ok("on the root file system".into())
}
