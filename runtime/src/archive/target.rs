//! Where a copy goes, by docker's rules.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::ArchiveError;

/// The directory a copy is put into, and what it is called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// An existing directory.
    pub directory: PathBuf,
    /// The copy's name; none where a directory's content goes into `directory` itself.
    pub name: Option<OsString>,
}

impl Target {
    /// For a copy of something called `name` to `destination`, as `docker cp` has it: into a directory that exists, else
    /// as that name in a directory that exists. `directory` says whether a directory is copied, `content` that only what
    /// is in it is.
    ///
    /// # Errors
    /// The destination does not fit.
    pub fn find(
        destination: &Path,
        name: &OsStr,
        directory: bool,
        content: bool,
    ) -> Result<Self, ArchiveError> {
        let refused = |path: &Path, why| {
            Err(ArchiveError::Refused {
                path: path.to_owned(),
                why,
            })
        };
        let ends_in_slash = destination.as_os_str().as_bytes().ends_with(b"/");
        match std::fs::metadata(destination) {
            Ok(found) if found.is_dir() => Ok(Self {
                directory: destination.to_owned(),
                name: (!(directory && content)).then(|| name.to_owned()),
            }),
            Ok(_) if directory => refused(
                destination,
                "a directory cannot be copied onto what is none",
            ),
            Ok(_) if ends_in_slash => refused(destination, "it is no directory"),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ArchiveError::Io {
                action: "look at",
                path: destination.to_owned(),
                source: error,
            }),
            Err(_) if ends_in_slash && !directory => {
                refused(destination, "there is no such directory")
            }
            _ => {
                let (Some(parent), Some(name)) = (destination.parent(), destination.file_name())
                else {
                    return refused(destination, "it names no file");
                };
                let parent = if parent.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    parent
                };
                if !parent.is_dir() {
                    return refused(parent, "there is no such directory");
                }
                Ok(Self {
                    directory: parent.to_owned(),
                    name: Some(name.to_owned()),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_goes_where_docker_puts_it() {
        let place = tempfile::tempdir().expect("a directory");
        let path = |name: &str| place.path().join(name);
        std::fs::create_dir(path("dir")).expect("made");
        std::fs::write(path("file"), "").expect("made");
        let find = |destination: &str, directory, content| {
            Target::find(&path(destination), OsStr::new("src"), directory, content)
                .map(|target| {
                    let directory = target.directory.strip_prefix(place.path()).expect("inside");
                    let name = target.name.map(|name| name.into_string().expect("text"));
                    (directory.to_str().expect("text").to_owned(), name)
                })
                .ok()
        };
        let at = |directory: &str, name: Option<&str>| {
            Some((directory.to_owned(), name.map(str::to_owned)))
        };
        assert_eq!(find("dir", false, false), at("dir", Some("src")));
        assert_eq!(find("dir/", true, false), at("dir", Some("src")));
        assert_eq!(find("dir", true, true), at("dir", None));
        assert_eq!(find("file", false, false), at("", Some("file")));
        assert_eq!(find("new", false, false), at("", Some("new")));
        assert_eq!(find("new", true, false), at("", Some("new")));
        assert_eq!(find("new/", true, true), at("", Some("new")));
        assert_eq!(find("file", true, false), None);
        assert_eq!(find("file/", false, false), None);
        assert_eq!(find("new/", false, false), None);
        assert_eq!(find("missing/new", false, false), None);
    }
}
