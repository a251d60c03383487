//! Landlock and seccomp: a restriction is set, and what it must refuse is tried.

use std::borrow::Cow;
use std::os::fd::AsFd as _;

use landlock::{ABI, Access as _, AccessFs};
use nix::errno::Errno;
use palisade_policies::{Instruction, Program, Tier};

use super::child::{Answer, Doing as _, Failed, ask};
use super::cure::finding;
use super::surroundings::Surroundings;
use super::{ALL, Blocked, Finding, Group, Layer, Probe, calls};
use crate::sys::{self, LandlockRuleset};

pub(super) fn probe(around: &Surroundings) -> Vec<Probe> {
    let probe = |name, tiers, finding| Probe::new(Group::Filters, name, tiers, finding);
    let refused = |failed: &Failed| around.refused(failed);
    vec![
        probe(
            "landlock",
            ALL,
            finding(ask(landlock), |failed| around.refused_landlock(failed)),
        ),
        probe("landlock-scope", &[Tier::NoNamespace], scope(around)),
        probe("seccomp", ALL, finding(ask(seccomp), refused)),
        probe(
            "seccomp-notification",
            &[],
            finding(ask(notification), refused),
        ),
    ]
}

/// SCOPE_ABSTRACT_UNIX_SOCKET and SCOPE_SIGNAL of linux/landlock.h.
const SCOPES: u64 = 0b11;

/// Restricts the calling process to nothing at all.
fn restrict(scoped: u64) -> Result<i32, Failed> {
    let version = sys::landlock_abi().doing("ask for Landlock's version")?;
    let size = match version {
        ..4 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    let rules = LandlockRuleset {
        handled_access_fs: AccessFs::from_all(ABI::from(version)).bits(),
        handled_access_net: 0,
        scoped,
    };
    let rules = sys::landlock_create_ruleset(&rules, size).doing("make a Landlock ruleset")?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).doing("set no_new_privs")?;
    sys::landlock_restrict_self(rules.as_fd()).doing("apply Landlock")?;
    Ok(version)
}

fn landlock() -> Answer {
    let version = restrict(0)?;
    match std::fs::read_dir("/") {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            Ok(format!("version {version}"))
        }
        _ => Err(Errno::EPERM).doing("see Landlock refuse to list /"),
    }
}

/// Whether a signal to a process outside is refused: with no PID namespace between, this is what keeps them apart.
fn scope(around: &Surroundings) -> Finding {
    let parent = nix::unistd::getpid();
    let answer = ask(|| {
        let version = sys::landlock_abi().doing("ask for Landlock's version")?;
        if version < 6 {
            return Err(Failed {
                errno: Errno::EINVAL,
                doing: format!("version {version}"),
            });
        }
        restrict(SCOPES)?;
        match nix::sys::signal::kill(parent, None) {
            Err(Errno::EPERM) => Ok(String::new()),
            _ => Err(Errno::EPERM).doing("see Landlock refuse a signal"),
        }
    });
    finding(answer, |failed| match failed.errno {
        Errno::EINVAL => Blocked {
            by: Layer::Kernel,
            shown: format!(
                "this kernel's Landlock ({}) does not keep signals inside, as Linux 6.12 does",
                failed.doing
            ),
            errno: None,
            cure: "run on Linux 6.12 or newer; or where namespaces are allowed".into(),
        },
        _ => around.refused_landlock(failed),
    })
}

/// An errno that no kernel gives for kcmp(2), so that it can only come from the filter.
const MARK: u16 = 113;

// Instructions of linux/bpf_common.h and actions of linux/seccomp.h.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;

/// A program that answers `action` to kcmp(2) and allows everything else.
fn answering(action: u32) -> Program {
    let number = u32::try_from(libc::SYS_kcmp).unwrap_or(u32::MAX);
    let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
    Program(Cow::Owned(vec![
        instruction(LOAD_WORD, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 0, 1, number),
        instruction(RETURN, 0, 0, action),
        instruction(RETURN, 0, 0, ALLOW),
    ]))
}

fn seccomp() -> Answer {
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).doing("set no_new_privs")?;
    let program = answering(ERRNO | u32::from(MARK));
    sys::seccomp_load(&program.0).doing("load a system call filter")?;
    let said = calls::kcmp();
    if said as i32 == i32::from(MARK) {
        Ok(String::new())
    } else {
        Err(said).doing("see a system call filter answer")
    }
}

fn notification() -> Answer {
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).doing("set no_new_privs")?;
    calls::seccomp_listener(&answering(NOTIFY).0).doing("load a filter that notifies")?;
    Ok(String::new())
}
