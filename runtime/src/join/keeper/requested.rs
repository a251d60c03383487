//! The command that a request asks for: its strings, ids and terminal, or why there is none.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::pty::Winsize;
use nix::sys::stat::{fstat, major, minor};
use nix::sys::statfs::fstatfs;

use crate::Error;
use crate::control::{Kind, Record, Step};
use crate::failure::{Failure, Try};
use crate::idmap::Map;
use crate::init;
use crate::join::request::{JoinCommand, User};
use crate::prepare::{self, Prepared, PreparedCommand, PreparedPath};
use crate::sandbox::Stdio;
use crate::sys;

/// The command, with what the request does not say taken from the sandbox's first.
pub(super) fn prepare(
    prepared: &Prepared,
    request: &JoinCommand,
) -> Result<PreparedCommand, Refusal> {
    let first = &prepared.command;
    let env = request.environment(first.envp.strings());
    let args: Vec<_> = request.args.iter().map(AsRef::as_ref).collect();
    let (uid, gid) = match &request.user {
        Some(user) => (user.uid, user.gid),
        None => (first.uid, first.gid),
    };
    let made = || -> Result<PreparedCommand, Error> {
        Ok(PreparedCommand {
            uid,
            gid,
            cwd: match &request.cwd {
                Some(cwd) => PreparedPath::new("working directory", cwd)?,
                None => first.cwd.clone(),
            },
            terminal: request.terminal.is_some(),
            console_size: request.terminal.map(|(rows, columns)| Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            }),
            candidates: Some(prepare::candidates(&env, &args)?),
            argv: prepare::strings("argument", &args)?,
            envp: prepare::strings("environment variable", &env)?,
        })
    };
    made().map_err(|error| Refusal::because(&error.to_string()))
}

/// Takes the command's ids, and lets go of the right to.
pub(super) fn assume(prepared: &Prepared, user: Option<&User>) -> Result<(), Refusal> {
    let own = &prepared.identity;
    let other =
        user.filter(|user| (user.uid, user.gid, &user.groups) != (own.uid, own.gid, &own.groups));
    if let Some(user) = other {
        if !prepared.keeps_right_to_change_ids() {
            // With one id there are no groups to choose either (user_namespaces(7)).
            if matches!(own.map, Map::Own { .. }) && (user.uid, user.gid) == (own.uid, own.gid) {
                return Ok(prepared.capabilities.apply(prepared.capabilities.sets)?);
            }
            return Err(Refusal::because(&format!(
                "user {}:{} does not exist in this sandbox, which has the ids {}:{} alone\nleave -u out; a sandbox made with --userns range, or by root, has other users",
                user.uid, user.gid, own.uid, own.gid
            )));
        }
        let set = prepared.capabilities.with_ids(true);
        sys::capset(set).or_fail(Step::Credentials, c"(capset)")?;
        if !prepared.capabilities.is_empty() {
            sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).or_fail(Step::Credentials, c"(keepcaps)")?;
        }
        sys::setgroups(&user.groups)
            .and_then(|()| sys::set_ids(user.uid, user.gid))
            .map_err(|errno| {
                Refusal::because(&format!(
                    "user {}:{} of the sandbox: {}",
                    user.uid,
                    user.gid,
                    errno.desc()
                ))
            })?;
        // A change of ids has set it anew (prctl(2)).
        sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).or_fail(Step::ProcessFlags, c"(dumpable)")?;
    }
    Ok(prepared.capabilities.apply(prepared.capabilities.sets)?)
}

/// A terminal from the sandbox's own devpts. That is still where it was mounted, as nobody inside may mount; to be sure,
/// no link is followed and what was opened is looked at (CVE-2025-52565).
pub(super) fn open_terminal(
    command: &PreparedCommand,
    connection: BorrowedFd<'_>,
) -> Result<Stdio, Failure<'static>> {
    const DEVPTS: i64 = 0x1cd1;
    let open = || {
        let how = OpenHow::new()
            .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let master = openat2(AT_FDCWD, c"/dev/pts/ptmx", how)?;
        let device = fstat(&master)?.st_rdev;
        if (major(device), minor(device)) != (5, 2)
            || fstatfs(&master)?.filesystem_type().0 != DEVPTS
        {
            return Err(Errno::ENOTTY);
        }
        init::hand_over_terminal(&master, command.console_size.as_ref(), connection)
    };
    let slave = open().or_fail(Step::Terminal, c"/dev/pts/ptmx")?;
    init::thrice(slave)
}

/// Why there is no command, as the caller is told.
pub(super) struct Refusal(pub(super) Box<Record>);

impl Refusal {
    pub(super) fn because(text: &str) -> Self {
        Self(Box::new(Record::new(Kind::Refused, 0, 0, text.as_bytes())))
    }
}

impl From<Refusal> for Record {
    fn from(refusal: Refusal) -> Self {
        *refusal.0
    }
}

impl From<Failure<'_>> for Refusal {
    fn from(failure: Failure<'_>) -> Self {
        Self(Box::new(Record::failed(
            failure.step,
            failure.errno,
            failure.subject.to_bytes(),
        )))
    }
}
