//! Why a limit cannot be had.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use super::Kind;

/// Why a cgroup could not be made, changed, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None of the ways in which this host could give limits works.
    #[error("cannot limit {limits} on this host: {}", Obstacles(obstacles))]
    Unavailable {
        /// What was to be limited, in words: `memory, pids`.
        limits: String,
        /// Each way that was tried, in order, and what was in its way.
        obstacles: Vec<Obstacle>,
    },
    /// A system call on a file of a cgroup failed.
    #[error("cannot {operation} {}: {}{}", path.display(), errno.desc(), Hint(*errno))]
    System {
        /// What was being done: `make`, `open`, `write "…" to`, `read`, `remove`.
        operation: String,
        /// The cgroup's file or directory.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// The kernel has no such limit.
    #[error("cannot limit {what}: the kernel has no {}; {advice}", file.display())]
    NoSuchLimit {
        /// The limit in words.
        what: &'static str,
        /// The control file that does not exist.
        file: PathBuf,
        /// What to do now.
        advice: &'static str,
    },
    /// The resources contradict themselves, or ask for what no cgroup of this kind has.
    #[error("{0}")]
    Invalid(String),
    /// A way of getting limits is closed: what is missing, and how to get it.
    #[error("{0}")]
    Blocked(String),
    /// The service manager did not make a scope.
    #[error("systemd did not make a scope for the limits: {0}")]
    Systemd(String),
}

/// One way of getting limits that did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The way.
    pub kind: Kind,
    /// What is missing, and how to get it, in one sentence each.
    pub reason: String,
}

impl Error {
    pub(super) fn system(
        operation: impl Into<String>,
        path: impl Into<PathBuf>,
        errno: Errno,
    ) -> Self {
        Self::System {
            operation: operation.into(),
            path: path.into(),
            errno,
        }
    }

    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether trying another way of getting limits makes sense after this.
    pub(super) fn is_about_the_way(&self) -> bool {
        match self {
            // A value that the kernel refuses is refused by every hierarchy.
            Self::System {
                operation, errno, ..
            } => {
                !(operation.starts_with("write") && matches!(errno, Errno::EINVAL | Errno::ERANGE))
            }
            Self::NoSuchLimit { .. } | Self::Invalid(_) => false,
            Self::Unavailable { .. } | Self::Blocked(_) | Self::Systemd(_) => true,
        }
    }
}

struct Obstacles<'a>(&'a [Obstacle]);

impl fmt::Display for Obstacles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, obstacle) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", obstacle.kind, obstacle.reason)?;
        }
        Ok(())
    }
}

struct Hint(Errno);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Errno::EACCES | Errno::EPERM => " (this cgroup belongs to another user)",
            Errno::EROFS => " (the cgroup file system is mounted read-only)",
            Errno::ENOENT => " (the controller is not enabled there)",
            Errno::EINVAL | Errno::ERANGE => " (the kernel refuses this value)",
            _ => "",
        })
    }
}
