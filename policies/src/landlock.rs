//! Path rules in terms of what a command may do beneath a path; the runtime turns them into Landlock access rights.

use std::path::PathBuf;

/// What a rule grants beneath its path. Rights of several rules on nested paths add up (landlock(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// One rule: `access` beneath `path`, a path inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// Absolute path inside the sandbox. A path that does not exist there grants nothing.
    pub path: PathBuf,
    /// What is granted beneath it.
    pub access: Access,
}
