//! Namespaces of each kind, the ids in a user namespace, the loopback interface in a network namespace.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Uid, pipe2};

use super::child::{Answer, Doing as _, Failed, ask, enter_user_namespace};
use super::cure::finding;
use super::surroundings::Surroundings;
use super::{Blocked, Finding, Group, Layer, NAMESPACED, Probe, calls};
use crate::{idmap, sys};

/// Name, flag, the limit on their number, and what making one is called.
const KINDS: [(&str, libc::c_int, &str, &str); 6] = [
    (
        "mount",
        libc::CLONE_NEWNS,
        "user.max_mnt_namespaces",
        "make a mount namespace",
    ),
    (
        "pid",
        libc::CLONE_NEWPID,
        "user.max_pid_namespaces",
        "make a PID namespace",
    ),
    (
        "ipc",
        libc::CLONE_NEWIPC,
        "user.max_ipc_namespaces",
        "make an IPC namespace",
    ),
    (
        "uts",
        libc::CLONE_NEWUTS,
        "user.max_uts_namespaces",
        "make a UTS namespace",
    ),
    (
        "cgroup-namespace",
        libc::CLONE_NEWCGROUP,
        "user.max_cgroup_namespaces",
        "make a cgroup namespace",
    ),
    (
        "network",
        libc::CLONE_NEWNET,
        "user.max_net_namespaces",
        "make a network namespace",
    ),
];

pub(super) fn probe(around: &Surroundings) -> Vec<Probe> {
    let user_limit = "user.max_user_namespaces";
    let mut probes = vec![
        Probe::new(
            Group::Namespaces,
            "user",
            NAMESPACED,
            finding(ask(user), |failed| {
                around.refused_namespace(user_limit, failed)
            }),
        ),
        Probe::new(
            Group::Namespaces,
            "id-map",
            NAMESPACED,
            finding(
                ask(|| enter_user_namespace().map(|()| String::new())),
                |failed| around.refused_namespace(user_limit, failed),
            ),
        ),
    ];
    for (name, flag, limit, doing) in KINDS {
        let answer = ask(|| {
            enter_user_namespace()?;
            calls::unshare(flag).doing(doing)?;
            Ok(String::new())
        });
        let blame = |failed: &Failed| around.refused_namespace(limit, failed);
        probes.push(Probe::new(
            Group::Namespaces,
            name,
            NAMESPACED,
            finding(answer, blame),
        ));
    }
    // A sandbox without network is whole even where its loopback stays down.
    let blame = |failed: &Failed| around.refused_namespace("user.max_net_namespaces", failed);
    probes.push(Probe::new(
        Group::Namespaces,
        "loopback",
        &[],
        finding(ask(loopback), blame),
    ));
    probes.push(Probe::new(
        Group::Namespaces,
        "id-range",
        &[],
        range(around),
    ));
    probes
}

fn user() -> Answer {
    calls::unshare(libc::CLONE_NEWUSER).doing("make a user namespace")?;
    Ok(String::new())
}

fn loopback() -> Answer {
    enter_user_namespace()?;
    calls::unshare(libc::CLONE_NEWNET).doing("make a network namespace")?;
    sys::loopback_up().doing("bring up the loopback interface")?;
    std::net::UdpSocket::bind("127.0.0.1:0")
        .and_then(|socket| socket.connect("127.0.0.1:9"))
        .doing("reach the loopback interface")?;
    Ok(String::new())
}

/// What `--userns range` needs of an ordinary user; root has every id to give.
fn range(around: &Surroundings) -> Finding {
    if around.ids.0 == 0 {
        return Finding::Available("as root".into());
    }
    let blocked = |by, shown: &str, cure: &str| {
        Finding::Blocked(Blocked {
            by,
            shown: shown.into(),
            errno: None,
            cure: cure.into(),
        })
    };
    if ["newuidmap", "newgidmap"]
        .iter()
        .any(|name| idmap::helper(name).is_none())
    {
        return blocked(
            Layer::NoMapHelpers,
            "newuidmap and newgidmap are not installed",
            "install the package uidmap (shadow-utils); without it --userns single still works",
        );
    }
    let (uid, gid) = around.ids;
    let (Some(uids), Some(gids)) = (
        subordinate("/etc/subuid", uid),
        subordinate("/etc/subgid", uid),
    ) else {
        return blocked(
            Layer::NoSubordinateIds,
            "/etc/subuid or /etc/subgid has no range for this user",
            &format!(
                "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 with the name of user {uid}"
            ),
        );
    };
    let answer = mapped(
        &[(0, uid, 1), (1, uids.0, uids.1)],
        &[(0, gid, 1), (1, gids.0, gids.1)],
    );
    finding(
        answer.map(|()| format!("{} ids from {}", uids.1, uids.0)),
        |failed| {
            Blocked {
        by: Layer::NoMapHelpers,
        shown: failed.doing.clone(),
        errno: None,
        cure: "check that newuidmap and newgidmap are setuid root, or have their file capabilities".into(),
    }
        },
    )
}

/// The first range in subuid(5) of the user with this id.
fn subordinate(table: &str, uid: u32) -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    range_of(
        &std::fs::read_to_string(table).ok()?,
        &passwd,
        Uid::from_raw(uid),
    )
}

fn range_of(table: &str, passwd: &str, uid: Uid) -> Option<(u32, u32)> {
    let number = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)? == number).then_some(name)
    });
    table.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (owner == number || Some(owner) == name).then_some(range)
    })
}

type Maps<'a> = &'a [(u32, u32, u32)];

/// Has the helpers map a child that waits in a user namespace of its own.
fn mapped(uids: Maps<'_>, gids: Maps<'_>) -> Result<(), Failed> {
    let (ready, made) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
    let (stay, done) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
    match sys::fork().doing("start a process")? {
        None => {
            drop((ready, done));
            let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
            if calls::unshare(libc::CLONE_NEWUSER).is_ok() {
                let _ = nix::unistd::write(&made, b"1");
            }
            drop(made);
            wait_for_end(&stay);
            sys::exit_now(0)
        }
        Some(pid) => {
            drop((made, stay));
            let mut byte = [0];
            let started = nix::unistd::read(&ready, &mut byte).doing("wait for a probe")?;
            let result = if started == 1 {
                helper("newuidmap", pid, uids).and_then(|()| helper("newgidmap", pid, gids))
            } else {
                Err(Errno::EPERM).doing("no user namespace to map ids of")
            };
            drop(done);
            while let Err(Errno::EINTR) = sys::wait4(pid, 0) {}
            result
        }
    }
}

fn wait_for_end(pipe: &OwnedFd) {
    let mut byte = [0];
    while let Err(Errno::EINTR) = nix::unistd::read(pipe, &mut byte) {}
}

fn helper(program: &str, pid: i32, maps: Maps<'_>) -> Result<(), Failed> {
    let words = maps
        .iter()
        .flat_map(|(inside, outside, count)| [inside, outside, count])
        .map(u32::to_string);
    let said = idmap::run_map_helper(program, pid, words);
    said.map_err(|error| Failed {
        errno: Errno::EPERM,
        doing: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_number_and_by_name() {
        let passwd = "root:x:0:0::/:/bin/sh\nme:x:1000:1000::/:/bin/sh\n";
        let table = "other:1:2\nme:100000:65536\n";
        assert_eq!(
            range_of(table, passwd, Uid::from_raw(1000)),
            Some((100_000, 65536))
        );
        assert_eq!(range_of("7:5:6\n", passwd, Uid::from_raw(7)), Some((5, 6)));
        assert_eq!(range_of(table, passwd, Uid::from_raw(7)), None);
        assert_eq!(range_of("me:x:1\n", passwd, Uid::from_raw(1000)), None);
    }
}
