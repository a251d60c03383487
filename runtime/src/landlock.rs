//! Landlock: the second wall behind the mounts. Rules apply beneath paths of the finished root.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use landlock::{ABI, Access as _, AccessFs, BitFlags};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use palisade_policies::landlock::{Access, PathRule};

use crate::Error;
use crate::control::Step;
use crate::failure::{Failure, Try};
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

impl PreparedLandlock {
    /// None where the kernel has no Landlock and the caller goes on without.
    pub(crate) fn new(rules: &[PathRule], best_effort: bool) -> Result<Option<Self>, Error> {
        let version = match sys::landlock_abi() {
            Ok(version) => version,
            Err(_) if best_effort => return Ok(None),
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
        let ruleset = LandlockRuleset {
            handled_access_fs: AccessFs::from_all(abi).bits(),
            handled_access_net: 0,
            scoped,
        };
        let rules = rules
            .iter()
            .map(|rule| {
                Ok((
                    c_string("Landlock path", &rule.path)?,
                    rights(abi, rule.access).bits(),
                ))
            })
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
    fn only_exec_kinds_grant_execution() {
        for access in [Access::Read, Access::WriteFiles, Access::Write] {
            assert!(!rights(ABI::V6, access).contains(AccessFs::Execute));
        }
    }
}
