//! Landlock: the second wall behind the mounts. Rules apply beneath paths of the finished root.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use landlock::{ABI, Access as _, AccessFs, BitFlags};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use palisade_policies::Tier;
use palisade_policies::landlock::{Access, PathRule};

use crate::Error;
use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::plan::Plan;
use crate::prepare::c_string;
use crate::sys::{self, LandlockRuleset};

/// Rules as the kernel takes them.
pub(crate) struct PreparedLandlock {
    ruleset: LandlockRuleset,
    size: usize,
    rules: Vec<(CString, u64)>,
    file_access: u64,
    pub(crate) abi: i32,
}

/// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET of linux/landlock.h, since ABI 6.
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
/// LANDLOCK_SCOPE_SIGNAL, since ABI 6. A PID namespace does that better: PID 1 of a sandbox is in no domain.
pub(crate) const SCOPE_SIGNAL: u64 = 2;

impl PreparedLandlock {
    /// None where the kernel has no Landlock and the caller goes on without.
    ///
    /// Without namespaces it is what keeps the command from the caller's other processes: there it is a must, in a version that
    /// does that.
    pub(crate) fn new(rules: &[PathRule], plan: &Plan) -> Result<Option<Self>, Error> {
        let alone = plan.tier == Tier::NoNamespace;
        let version = match sys::landlock_abi() {
            Ok(version) if alone && version < 6 => {
                return Err(Error::Unsupported {
                    what: "tier no-namespace".into(),
                    why: format!(
                        "this kernel's Landlock (version {version}) cannot keep signals inside, as Linux 6.12 does"
                    ),
                });
            }
            Ok(version) => version,
            Err(_) if plan.best_effort && !alone => return Ok(None),
            Err(errno) => {
                return Err(Error::Setup {
                    step: Step::Landlock,
                    subject: String::new(),
                    errno,
                });
            }
        };
        let abi = ABI::from(version);
        let scoped = if version >= 6 {
            SCOPE_ABSTRACT_UNIX_SOCKET
        } else {
            0
        };
        let decided = handled(abi, rules, plan.landlock_complete);
        let ruleset = LandlockRuleset {
            handled_access_fs: decided.bits(),
            handled_access_net: 0,
            scoped: if alone { scoped | SCOPE_SIGNAL } else { scoped },
        };
        let rules = rules
            .iter()
            .map(|rule| (rule, rights(abi, rule.access) & decided))
            .filter(|(_, granted)| !granted.is_empty())
            .map(|(rule, granted)| Ok((c_string("Landlock path", &rule.path)?, granted.bits())))
            .collect::<Result<_, Error>>()?;
        let size = match version {
            ..4 => 8,
            4 | 5 => 16,
            _ => 24,
        };
        Ok(Some(Self {
            ruleset,
            size,
            rules,
            file_access: AccessFs::from_file(abi).bits(),
            abi: version,
        }))
    }

    /// Whether abstract UNIX sockets outside the sandbox are out of reach.
    pub(crate) fn scopes_abstract_sockets(&self) -> bool {
        self.ruleset.scoped & SCOPE_ABSTRACT_UNIX_SOCKET != 0
    }

    /// The rules as the kernel holds them, for every command of the sandbox: paths resolve in the calling process's root,
    /// once, before any command could put something else in their place. One that does not exist grants nothing.
    pub(crate) fn ruleset(&self) -> Result<OwnedFd, Failure<'_>> {
        let ruleset =
            sys::landlock_create_ruleset(&self.ruleset, self.size).or_fail(Step::Landlock, c"")?;
        for (path, access) in &self.rules {
            let fd = match open(
                path.as_c_str(),
                OFlag::O_PATH | OFlag::O_CLOEXEC,
                Mode::empty(),
            ) {
                Ok(fd) => fd,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP) => continue,
                Err(errno) => {
                    return Err(Failure {
                        step: Step::Landlock,
                        errno,
                        subject: path,
                    });
                }
            };
            match sys::landlock_add_path(ruleset.as_fd(), fd.as_fd(), *access) {
                // A file takes only the rights that make sense for files.
                Err(Errno::EINVAL) => {
                    sys::landlock_add_path(ruleset.as_fd(), fd.as_fd(), access & self.file_access)
                        .or_fail(Step::Landlock, path)?;
                }
                result => result.or_fail(Step::Landlock, path)?,
            }
        }
        Ok(ruleset)
    }
}

/// Restricts the calling process for good.
pub(crate) fn restrict(ruleset: BorrowedFd<'_>) -> Result<(), Failure<'static>> {
    sys::landlock_restrict_self(ruleset).or_fail(Step::Landlock, c"")
}

/// The access rights that the rules are about; those left out are everybody's.
fn handled(abi: ABI, rules: &[PathRule], complete: bool) -> BitFlags<AccessFs> {
    let all = AccessFs::from_all(abi);
    let read = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    let everywhere = rules
        .iter()
        .filter(|rule| rule.path == Path::new("/"))
        .fold(BitFlags::EMPTY, |granted, rule| {
            granted | rights(abi, rule.access)
        });
    if !complete && everywhere.contains(read) {
        // The kernel asks about truncation at every opening, also of a file that is only read.
        all & !(read | AccessFs::Truncate)
    } else {
        all
    }
}

/// Lets the calling process read what /proc tells of itself. Its own directory is known only once it is there.
pub(crate) fn add_own_proc(ruleset: BorrowedFd<'_>) -> Result<(), Failure<'static>> {
    let own = open(
        c"/proc/self",
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .or_fail(Step::Landlock, c"/proc/self")?;
    let access = AccessFs::ReadFile | AccessFs::ReadDir;
    sys::landlock_add_path(ruleset, own.as_fd(), access.bits())
        .or_fail(Step::Landlock, c"/proc/self")
}

fn rights(abi: ABI, access: Access) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let change_files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    // No sandbox makes device nodes.
    let write = AccessFs::from_write(abi) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let granted = match access {
        Access::Read => read,
        Access::ReadExec => read | AccessFs::Execute,
        Access::WriteFiles => read | change_files,
        Access::Write => read | change_files | write,
        Access::WriteExec => read | change_files | write | AccessFs::Execute,
    };
    granted & AccessFs::from_all(abi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_access_grants_device_nodes_or_more_than_the_kernel_knows() {
        for abi in [ABI::V1, ABI::V3, ABI::V5, ABI::V6] {
            for access in [
                Access::Read,
                Access::ReadExec,
                Access::WriteFiles,
                Access::Write,
                Access::WriteExec,
            ] {
                let granted = rights(abi, access);
                assert!(!granted.intersects(AccessFs::MakeChar | AccessFs::MakeBlock));
                assert!(AccessFs::from_all(abi).contains(granted));
            }
        }
    }

    #[test]
    fn reading_is_left_out_only_where_it_is_granted_everywhere() {
        let rule = |path: &str, access| PathRule {
            path: path.into(),
            access,
        };
        let left_out = |rules: &[PathRule], complete| {
            AccessFs::from_all(ABI::V6) & !handled(ABI::V6, rules, complete)
        };
        let everywhere = [rule("/", Access::ReadExec), rule("/tmp", Access::Write)];
        assert_eq!(
            left_out(&everywhere, false),
            AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute | AccessFs::Truncate
        );
        assert!(left_out(&everywhere, true).is_empty());
        for fewer in [
            [rule("/usr", Access::ReadExec), rule("/tmp", Access::Write)],
            [rule("/", Access::Read), rule("/usr", Access::ReadExec)],
        ] {
            assert!(left_out(&fewer, false).is_empty());
        }
    }

    #[test]
    fn only_exec_kinds_grant_execution() {
        for access in [Access::Read, Access::WriteFiles, Access::Write] {
            assert!(!rights(ABI::V6, access).contains(AccessFs::Execute));
        }
    }
}
