//! Path rules in terms of what a command may do beneath a path; the runtime turns them into Landlock access rights.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::policy::{Policy, RootMode, Tmpfs};

/// What a rule grants beneath its path. Rights of several rules on nested paths add up (landlock(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read files and list directories.
    Read,
    /// Read, list and execute.
    ReadExec,
    /// Read, write existing files, truncate, ioctl on devices; create and remove nothing.
    WriteFiles,
    /// Everything but execute: also create, remove, rename, link.
    Write,
    /// Everything.
    WriteExec,
}

impl Access {
    /// Whether it lets anything be changed.
    #[must_use]
    pub fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::ReadExec)
    }
}

/// One rule: `access` beneath `path`, a path inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// Absolute path inside the sandbox. A path that does not exist there grants nothing.
    pub path: PathBuf,
    /// What is granted beneath it.
    pub access: Access,
}

impl Policy {
    /// The Landlock rules for a user whose home directory inside the sandbox is `home`. Mounts that were asked for on the
    /// command line are the caller's to add. `filesystem.deny` is not among them, as Landlock cannot take away what a
    /// rule above grants: [`Policy::masked_paths`] has it.
    #[must_use]
    pub fn path_rules(&self, home: &Path) -> Vec<PathRule> {
        let files = &self.filesystem;
        let mut rules: Vec<PathRule> = Vec::new();
        let mut add = |paths: &[String], access: Access| {
            for path in paths.iter().filter_map(|path| expand(path, home)) {
                match rules
                    .iter_mut()
                    .find(|rule| rule.path == path && both(rule.access, access).is_some())
                {
                    Some(rule) => rule.access = both(rule.access, access).unwrap_or(access),
                    None => rules.push(PathRule { path, access }),
                }
            }
        };
        add(&files.read, Access::Read);
        add(&files.exec, Access::ReadExec);
        add(&files.write_existing, Access::WriteFiles);
        add(&files.write, Access::Write);
        if files.root != RootMode::ReadOnly {
            add(&["/".to_owned()], Access::Write);
        }
        rules
    }

    /// What is hidden: `filesystem.masked-paths` and, whatever they are, `filesystem.deny` (runtime-spec's `maskedPaths`).
    #[must_use]
    pub fn masked_paths(&self, home: &Path) -> Vec<PathBuf> {
        let files = &self.filesystem;
        files
            .masked_paths
            .iter()
            .chain(&files.deny)
            .filter_map(|path| expand(path, home))
            .collect()
    }

    /// What is read-only in `/proc` and `/sys` (runtime-spec's `readonlyPaths`).
    #[must_use]
    pub fn readonly_paths(&self) -> Vec<PathBuf> {
        self.filesystem
            .readonly_paths
            .iter()
            .map(PathBuf::from)
            .collect()
    }

    /// The in-memory file systems with `~` replaced by `home`, in mount order.
    #[must_use]
    pub fn tmpfs_mounts(&self, home: &Path) -> Vec<Tmpfs> {
        let at_home = |mount: &Tmpfs| {
            let path = expand(&mount.path, home)?.to_string_lossy().into_owned();
            Some(Tmpfs {
                path,
                ..mount.clone()
            })
        };
        self.filesystem.tmpfs.iter().filter_map(at_home).collect()
    }
}

/// `path` with `~` replaced; none for a `~` that would mean everything, as the home directory is `/`.
fn expand(path: &str, home: &Path) -> Option<PathBuf> {
    match path.strip_prefix('~') {
        None => Some(PathBuf::from(path)),
        Some("") if home == Path::new("/") => None,
        Some(below) => Some(
            home.join(below.trim_start_matches('/'))
                .components()
                .collect(),
        ),
    }
}

/// The access that two rules on one path give together, if there is a word for it.
fn both(a: Access, b: Access) -> Option<Access> {
    use Access::{Read, ReadExec, Write, WriteExec, WriteFiles};
    match (a, b) {
        _ if a == b => Some(a),
        (Read, other) | (other, Read) => Some(other),
        (WriteFiles, other @ (Write | WriteExec)) | (other @ (Write | WriteExec), WriteFiles) => {
            Some(other)
        }
        (WriteExec | ReadExec, Write | WriteExec) | (Write | WriteExec, WriteExec | ReadExec) => {
            Some(WriteExec)
        }
        _ => None,
    }
}
