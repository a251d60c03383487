//! What can go wrong between a Plan and a running command.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::control::Step;

/// Why a sandbox could not be launched. Nothing of it remains when this is returned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Plan asks for something the launch cannot do.
    #[error("{what}: {why}")]
    Unsupported {
        /// What was asked for, in the user's words.
        what: String,
        /// Why it cannot be done.
        why: String,
    },
    /// A string of the Plan cannot be passed to the kernel.
    #[error("{what} {value:?} contains a NUL byte")]
    Nul {
        /// Which part of the Plan.
        what: &'static str,
        /// Its value, shortened.
        value: String,
    },
    /// A system call of the launching process failed.
    #[error("{action}: {}", errno.desc())]
    Launch {
        /// What was being done, to what.
        action: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// A system call about namespaces failed.
    #[error("{action}: {}", errno.desc())]
    Namespaces {
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// An id map could not be set.
    #[error("map {what} into the sandbox: {detail}")]
    IdMap {
        /// `user ids` or `group ids`.
        what: &'static str,
        /// What the kernel or the helper program said.
        detail: String,
    },
    /// A step of the set-up inside the sandbox failed.
    #[error("{step}{}: {}", Subject(subject), errno.desc())]
    Setup {
        /// Which step.
        step: Step,
        /// What it was being done to; empty where the step says it all.
        subject: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The command does not exist.
    #[error("{}: {}", program.display(), MissingReason(interpreter.as_deref()))]
    NotFound {
        /// The command as it was given.
        program: PathBuf,
        /// The interpreter it names, when that is what is missing.
        interpreter: Option<String>,
    },
    /// The command exists and cannot be executed.
    #[error("{}: {}", program.display(), errno.desc())]
    NotExecutable {
        /// The command as it was given.
        program: PathBuf,
        /// What execve(2) said.
        errno: Errno,
    },
    /// What the kernel reports about the finished set-up differs from the Plan.
    #[error("the sandbox is not as planned: {0}")]
    NotAsPlanned(String),
    /// A command cannot join as it is asked to.
    #[error("{0}")]
    Refused(String),
    /// Limits could not be set.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    /// The init process ended before the command ran and could not say why.
    #[error("the sandbox's init process ended before the command ran ({0})")]
    InitLost(String),
}

struct Subject<'a>(&'a str);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.0)
        }
    }
}

struct MissingReason<'a>(Option<&'a str>);

impl fmt::Display for MissingReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(interpreter) => write!(
                f,
                "its interpreter {interpreter} does not exist in the sandbox"
            ),
            None => f.write_str("no such command in the sandbox"),
        }
    }
}

impl Error {
    /// The exit code palisade ends with: 127 not found, 126 cannot be executed, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    /// Whether something around palisade may be what refused: [`crate::probe`] can tell what.
    pub fn may_be_refused(&self) -> bool {
        match self {
            Self::IdMap { .. } | Self::InitLost(_) => true,
            // Without /proc they cannot be read.
            Self::Namespaces { errno, .. } if *errno == Errno::ENOENT => true,
            Self::Launch { errno, .. }
            | Self::Namespaces { errno, .. }
            | Self::Setup { errno, .. } => {
                matches!(
                    errno,
                    Errno::EPERM
                        | Errno::EACCES
                        | Errno::ENOSYS
                        | Errno::ENOSPC
                        | Errno::EUSERS
                        | Errno::EOPNOTSUPP
                        | Errno::EINVAL
                )
            }
            _ => false,
        }
    }

    /// What the user can do now, where that is known.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::NotFound { interpreter: Some(interpreter), program } => Some(format!(
                "install {interpreter} in the image, or correct the first line of {}",
                program.display()
            )),
            Self::NotFound { program, .. } if program.components().count() > 1 => {
                Some("give a path that exists inside the sandbox; host paths are not visible there".into())
            }
            Self::NotFound { .. } => Some("check the name, or give the path of the command inside the image".into()),
            Self::NotExecutable { errno: Errno::ENOEXEC, .. } => {
                Some("the file is no program for this machine: a script needs a first line such as #!/bin/sh".into())
            }
            Self::NotExecutable { .. } => {
                Some("check that it is a file with execute permission, on a mount without noexec".into())
            }
            Self::Namespaces { errno: Errno::EPERM | Errno::ENOSPC | Errno::EUSERS, .. } => Some(
                "user namespaces are refused here: see /proc/sys/user/max_user_namespaces, \
                 /proc/sys/kernel/unprivileged_userns_clone and /proc/sys/kernel/apparmor_restrict_unprivileged_userns"
                    .into(),
            ),
            Self::Launch { errno: Errno::ENOSYS, .. } | Self::Namespaces { errno: Errno::ENOSYS, .. } => Some(
                "the kernel, or a filter around palisade, has no such system call: Linux 5.13 or newer, outside of what filters".into(),
            ),
            Self::Launch { errno: Errno::EPERM | Errno::EACCES, .. } | Self::Namespaces { errno: Errno::EACCES, .. } => Some(
                "see who may read it; or something around palisade refuses this, such as an outer container: run palisade outside of it".into(),
            ),
            Self::Setup { step, errno, .. } => step.advice(*errno).map(Into::into),
            Self::Cgroup(_) => Some(
                "--best-effort goes on with what can be had, and where --require full was asked for, --require no-cgroup; palisade doctor \
                 says what is in the way"
                    .into(),
            ),
            _ => None,
        }
    }
}
