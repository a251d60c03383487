//! Paths and strings in the form that system calls take.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::Error;
use crate::sys::Pointers;

/// A path inside the sandbox, relative to its root, with the names that lead to it.
#[derive(Clone, Debug)]
pub(crate) struct PreparedPath {
    /// Without the leading slash; `.` for the root itself.
    pub(crate) path: CString,
    /// Every directory on the way, shortest first, the path itself excluded.
    pub(crate) parents: Vec<CString>,
}

impl PreparedPath {
    /// An absolute path inside the sandbox without `..`.
    pub(crate) fn new(what: &'static str, path: &Path) -> Result<Self, Error> {
        let mut walked = PathBuf::new();
        let mut parents = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    if !walked.as_os_str().is_empty() {
                        parents.push(c_string(what, &walked)?);
                    }
                    walked.push(name);
                }
                Component::ParentDir | Component::Prefix(_) => return Err(not_inside(what, path)),
            }
        }
        if !path.is_absolute() {
            return Err(not_inside(what, path));
        }
        if walked.as_os_str().is_empty() {
            walked.push(".");
        }
        Ok(Self {
            path: c_string(what, &walked)?,
            parents,
        })
    }

    /// The last component.
    pub(crate) fn name(&self) -> &CStr {
        let bytes = self.path.to_bytes_with_nul();
        let start = bytes
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        CStr::from_bytes_until_nul(&bytes[start..]).unwrap_or_default()
    }
}

/// A file that palisade itself writes into the root.
pub(crate) struct PreparedFile {
    pub(crate) path: PreparedPath,
    pub(crate) contents: Vec<u8>,
    pub(crate) mode: u32,
}

impl PreparedFile {
    pub(super) fn new(file: &crate::plan::File) -> Result<Self, Error> {
        Ok(Self {
            path: PreparedPath::new("file", &file.path)?,
            contents: file.contents.clone(),
            mode: file.mode,
        })
    }

    /// Writes the whole content.
    pub(crate) fn write_to(&self, file: BorrowedFd<'_>) -> nix::Result<()> {
        let mut rest = self.contents.as_slice();
        while !rest.is_empty() {
            let written = nix::unistd::write(file, rest)?;
            rest = &rest[written..];
        }
        Ok(())
    }
}

fn not_inside(what: &'static str, path: &Path) -> Error {
    Error::Unsupported {
        what: format!("{what} {}", path.display()),
        why: "it must be an absolute path without ..".into(),
    }
}

/// A C string of `value`, which is `what` to the user.
pub(crate) fn c_string(what: &'static str, value: impl AsRef<OsStr>) -> Result<CString, Error> {
    let value = value.as_ref();
    CString::new(value.as_bytes()).map_err(|_| Error::Nul {
        what,
        value: value.to_string_lossy().chars().take(60).collect(),
    })
}

/// The same for each.
pub(crate) fn strings(what: &'static str, values: &[impl AsRef<OsStr>]) -> Result<Pointers, Error> {
    Ok(Pointers::new(
        values
            .iter()
            .map(|value| c_string(what, value))
            .collect::<Result<_, _>>()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_sandbox_is_refused() {
        assert!(PreparedPath::new("test", Path::new("/a/../../b")).is_err());
        assert!(PreparedPath::new("test", Path::new("a/b")).is_err());
    }

    #[test]
    fn a_path_lists_the_directories_that_lead_to_it() {
        let path = PreparedPath::new("test", Path::new("/a/b/c")).expect("valid");
        assert_eq!(path.path.as_c_str(), c"a/b/c");
        assert_eq!(path.parents, [CString::from(c"a"), CString::from(c"a/b")]);
        assert_eq!(
            PreparedPath::new("test", Path::new("/"))
                .expect("valid")
                .path
                .as_c_str(),
            c"."
        );
    }
}
