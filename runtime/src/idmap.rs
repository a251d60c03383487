//! Who the command is: ids inside the sandbox, and the user namespace that maps them (user_namespaces(7)).

use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getegid, geteuid, getpid, getppid};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespaceType, User};

use crate::Error;
use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::sys::{self, Cloned};

/// The ids of the command and how they come into being.
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) map: Map,
}

/// Who writes the user namespace's id maps.
pub(crate) enum Map {
    /// There is no user namespace.
    None,
    /// One id of an unprivileged caller: PID 1 may write that itself, and need not wait for anybody.
    Own { uid: CString, gid: CString },
    /// The supervisor is root and writes them.
    Privileged {
        uids: Vec<LinuxIdMapping>,
        gids: Vec<LinuxIdMapping>,
    },
    /// The supervisor asks newuidmap(1) and newgidmap(1).
    Helpers {
        uids: Vec<LinuxIdMapping>,
        gids: Vec<LinuxIdMapping>,
    },
}

impl Identity {
    pub(crate) fn new(linux: &Linux, user: &User) -> Result<Self, Error> {
        let own_namespace = linux
            .namespaces()
            .iter()
            .flatten()
            .any(|namespace| namespace.typ() == LinuxNamespaceType::User);
        let map = if own_namespace {
            Map::new(
                linux.uid_mappings().clone().unwrap_or_default(),
                linux.gid_mappings().clone().unwrap_or_default(),
            )?
        } else {
            Map::None
        };
        let groups = user.additional_gids().clone().unwrap_or_default();
        Ok(Self {
            uid: user.uid(),
            gid: user.gid(),
            groups,
            map,
        })
    }

    /// The command's user and group, as they are inside.
    pub(crate) fn command(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    pub(crate) fn mapped_by_supervisor(&self) -> bool {
        matches!(self.map, Map::Privileged { .. } | Map::Helpers { .. })
    }

    /// Whether host paths must be opened by the supervisor, as PID 1 has no right to what the caller may reach.
    pub(crate) fn loses_the_callers_rights(&self) -> bool {
        matches!(self.map, Map::Privileged { .. })
    }

    /// In PID 1: writes the map where PID 1 does that.
    pub(crate) fn map_own(&self) -> Result<(), Failure<'_>> {
        let Map::Own { uid, gid } = &self.map else {
            return Ok(());
        };
        write(c"/proc/self/setgroups", c"deny")?;
        write(c"/proc/self/uid_map", uid)?;
        write(c"/proc/self/gid_map", gid)
    }

    /// In PID 1, once mapped: the id that does the set-up. Root of the namespace where the caller was the host's root,
    /// so that what is made belongs to root; else the caller's own id, which can reach the caller's files.
    pub(crate) fn assume_for_setup(&self) -> Result<(), Failure<'_>> {
        let Map::Privileged { uids, .. } = &self.map else {
            return Ok(());
        };
        sys::setgroups(&[]).or_fail(Step::Credentials, c"(supplementary groups)")?;
        let root_is_mapped = uids.iter().any(|map| map.container_id() == 0);
        let (uid, gid) = if root_is_mapped {
            (0, 0)
        } else {
            (self.uid, self.gid)
        };
        sys::set_ids(uid, gid).or_fail(Step::Credentials, c"(ids for the set-up)")
    }

    /// In PID 1, at the end: the command's ids.
    pub(crate) fn assume(&self) -> Result<(), Failure<'_>> {
        // With one id mapped the kernel refuses setgroups(2): see "setgroups" in user_namespaces(7).
        if !matches!(self.map, Map::Own { .. }) {
            sys::setgroups(&self.groups).or_fail(Step::Credentials, c"(supplementary groups)")?;
        }
        sys::set_ids(self.uid, self.gid).or_fail(Step::Credentials, c"(ids)")
    }

    /// A mount's mapping, given as ids of the sandbox and ids on the disk, for the user namespace of an id-mapped mount:
    /// ids on the disk, and the host ids that the sandbox's ids stand for.
    pub(crate) fn on_disk(
        &self,
        uids: &[LinuxIdMapping],
        gids: &[LinuxIdMapping],
    ) -> Result<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>), Error> {
        let Map::Privileged {
            uids: user_map,
            gids: group_map,
        } = &self.map
        else {
            return Ok((uids.to_vec(), gids.to_vec()));
        };
        Ok((
            turn(uids, user_map, "user ids")?,
            turn(gids, group_map, "group ids")?,
        ))
    }

    /// In the supervisor: maps the ids of process `pid`, where that is the supervisor's part.
    pub(crate) fn map_for(&self, pid: i32) -> Result<(), Error> {
        match &self.map {
            Map::None | Map::Own { .. } => Ok(()),
            Map::Privileged { uids, gids } => {
                write_map(pid, "uid_map", uids)?;
                write_map(pid, "gid_map", gids)
            }
            Map::Helpers { uids, gids } => {
                run_helper("newuidmap", "user ids", pid, uids)?;
                run_helper("newgidmap", "group ids", pid, gids)
            }
        }
    }
}

impl Map {
    fn new(uids: Vec<LinuxIdMapping>, gids: Vec<LinuxIdMapping>) -> Result<Self, Error> {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let single = |maps: &[LinuxIdMapping], own: u32| matches!(maps, [map] if map.size() == 1 && map.host_id() == own);
        if uids.is_empty() || gids.is_empty() {
            let what = if uids.is_empty() {
                "user ids"
            } else {
                "group ids"
            };
            return Err(Error::IdMap {
                what,
                detail: "the runtime configuration maps none".into(),
            });
        }
        if single(&uids, user) && single(&gids, group) {
            let line = |map: &LinuxIdMapping| {
                CString::new(format!("{} {} 1\n", map.container_id(), map.host_id()))
                    .unwrap_or_default()
            };
            return Ok(Self::Own {
                uid: line(&uids[0]),
                gid: line(&gids[0]),
            });
        }
        // After the single id: root of an outer user namespace has its own id to give and no id-mapped mounts.
        if user == 0 {
            return Ok(Self::Privileged { uids, gids });
        }
        Ok(Self::Helpers { uids, gids })
    }
}

/// From (sandbox id, id on the disk) to (id on the disk, host id).
fn turn(
    wanted: &[LinuxIdMapping],
    own: &[LinuxIdMapping],
    what: &'static str,
) -> Result<Vec<LinuxIdMapping>, Error> {
    wanted
        .iter()
        .map(|map| {
            let id = map.container_id();
            let host = own
                .iter()
                .find(|own| id >= own.container_id() && id - own.container_id() < own.size())
                .and_then(|own| own.host_id().checked_add(id - own.container_id()))
                .ok_or_else(|| Error::IdMap {
                    what,
                    detail: format!("id {id} of a mount is not mapped in the sandbox"),
                })?;
            Ok(id_mapping(map.host_id(), host, map.size()))
        })
        .collect()
}

/// An id mapping of the runtime-spec.
pub(crate) fn id_mapping(container: u32, host: u32, size: u32) -> LinuxIdMapping {
    LinuxIdMappingBuilder::default()
        .container_id(container)
        .host_id(host)
        .size(size)
        .build()
        .expect("every field has a default")
}

fn write(path: &'static std::ffi::CStr, text: &std::ffi::CStr) -> Result<(), Failure<'static>> {
    let file =
        open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).or_fail(Step::IdMap, path)?;
    nix::unistd::write(&file, text.to_bytes())
        .map(drop)
        .or_fail(Step::IdMap, path)
}

fn lines(maps: &[LinuxIdMapping]) -> String {
    let mut text = String::new();
    for map in maps {
        let _ = writeln!(
            text,
            "{} {} {}",
            map.container_id(),
            map.host_id(),
            map.size()
        );
    }
    text
}

fn write_map(pid: i32, name: &'static str, maps: &[LinuxIdMapping]) -> Result<(), Error> {
    let what = if name == "uid_map" {
        "user ids"
    } else {
        "group ids"
    };
    std::fs::write(format!("/proc/{pid}/{name}"), lines(maps)).map_err(|error| Error::IdMap {
        what,
        detail: format!("write /proc/{pid}/{name}: {error}"),
    })
}

/// Runs newuidmap(1) or newgidmap(1): by absolute path and with an empty environment, as it is setuid root.
fn run_helper(
    program: &str,
    what: &'static str,
    pid: i32,
    maps: &[LinuxIdMapping],
) -> Result<(), Error> {
    let path = helper(program).ok_or_else(|| Error::IdMap {
        what,
        detail: format!(
            "{program} is not installed (package uidmap); --userns=single needs no helper"
        ),
    })?;
    let lines = lines(maps);
    let said = ask_helper(&path, pid, lines.split_whitespace()).map_err(|error| Error::IdMap {
        what,
        detail: format!("run {}: {error}", path.display()),
    })?;
    match said {
        None => Ok(()),
        Some(said) => Err(Error::IdMap {
            what,
            detail: format!(
                "{}: {said}; --userns=single needs no helper",
                path.display()
            ),
        }),
    }
}

/// What the helper complained of, if it failed.
fn ask_helper<S: AsRef<std::ffi::OsStr>>(
    path: &Path,
    pid: i32,
    words: impl IntoIterator<Item = S>,
) -> std::io::Result<Option<String>> {
    let output = Command::new(path)
        .arg(pid.to_string())
        .args(words)
        .env_clear()
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok((!output.status.success()).then(|| said.trim().to_owned()))
}

/// For a probe: the helper `program` on process `pid` with a map's numbers.
pub(crate) fn run_map_helper(
    program: &str,
    pid: i32,
    words: impl IntoIterator<Item = String>,
) -> std::io::Result<()> {
    let path = helper(program).ok_or(std::io::ErrorKind::NotFound)?;
    match ask_helper(&path, pid, words)? {
        None => Ok(()),
        Some(said) => Err(std::io::Error::other(said)),
    }
}

/// Where a helper program is installed, if it is.
pub fn helper(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
}

/// The user namespace of process `pid`, as mount_setattr(2) wants it for an id-mapped mount.
pub(crate) fn user_namespace_of(pid: i32) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{pid}/ns/user");
    File::open(&path)
        .map(OwnedFd::from)
        .map_err(|error| Error::IdMap {
            what: "user ids",
            detail: format!("open {path}: {error}"),
        })
}

/// A user namespace with these maps that no process lives in: ids on a file system on the left, host ids on the right.
pub(crate) fn user_namespace(
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::Namespaces {
        action: "make a user namespace for an id-mapped mount",
        errno,
    };
    let supervisor = getpid();
    match sys::clone3(libc::CLONE_NEWUSER as u64, None) {
        Ok(Cloned::Child) => hold_namespace(supervisor),
        Ok(Cloned::Parent { pid, pidfd }) => {
            let made = write_map(pid, "uid_map", uids)
                .and_then(|()| write_map(pid, "gid_map", gids))
                .and_then(|()| user_namespace_of(pid));
            // It dies with this process if it cannot be killed: waiting for it would be for ever.
            sys::pidfd_send_signal(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL)
                .map_err(failed)?;
            while let Err(Errno::EINTR) = sys::wait4(pid, 0) {}
            made
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// The life of the process that a user namespace needs until it is held by a descriptor. It must neither outlive the
/// supervisor nor hold a descriptor that somebody waits for the end of.
fn hold_namespace(supervisor: Pid) -> ! {
    let bound = sys::close_range(0, u32::MAX, 0)
        .and_then(|()| sys::block_all_signals())
        .and_then(|()| sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0));
    if bound.is_err() || getppid() != supervisor {
        sys::exit_now(125);
    }
    loop {
        nix::unistd::pause();
    }
}

#[cfg(test)]
mod tests {
    use super::id_mapping as map;
    use super::*;

    #[test]
    fn maps_are_written_as_the_kernel_reads_them() {
        assert_eq!(
            lines(&[map(0, 100_000, 1000), map(1000, 7, 1)]),
            "0 100000 1000\n1000 7 1\n"
        );
    }

    #[test]
    fn a_namespace_without_maps_is_refused() {
        assert!(Map::new(vec![], vec![map(0, 0, 1)]).is_err());
    }
}
