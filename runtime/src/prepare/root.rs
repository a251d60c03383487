//! How the root file system is made.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::path::{PreparedPath, c_string};
use crate::Error;
use crate::plan::{Root, Scratch, Upper};

/// How the root file system is made.
pub(crate) enum PreparedRoot {
    Overlay {
        /// The directory that the lower directories' names are relative to.
        base: CString,
        /// Lower directories, topmost first.
        lower: Vec<CString>,
        /// The same as one string, for kernels that want that.
        joined: CString,
        /// `/etc` of each, named likewise.
        etc: Vec<CString>,
        /// Options for the scratch tmpfs, or the host directory of `upper` and `work`.
        upper: PreparedUpper,
    },
    Tmpfs {
        scratch: PreparedScratch,
        links: Vec<(PreparedPath, CString)>,
    },
    /// There is no other than the caller's.
    Callers,
}

pub(crate) enum PreparedUpper {
    Tmpfs(PreparedScratch),
    Directory(CString),
}

/// Mount options of a tmpfs.
pub(crate) struct PreparedScratch {
    pub(crate) size: CString,
    pub(crate) inodes: Option<CString>,
}

pub(super) fn prepare_root(root: &Root) -> Result<PreparedRoot, Error> {
    Ok(match root {
        Root::Overlay { lower, upper } => {
            let base = common_parent(lower);
            let lower = lower
                .iter()
                .map(|path| {
                    let relative = path
                        .strip_prefix(&base)
                        .ok()
                        .filter(|p| !p.as_os_str().is_empty());
                    c_string("layer", relative.map_or(Path::new("."), |p| p))
                })
                .collect::<Result<Vec<_>, _>>()?;
            if lower.is_empty() {
                return Err(Error::Unsupported {
                    what: "an image without layers".into(),
                    why: "there is nothing to run".into(),
                });
            }
            PreparedRoot::Overlay {
                base: c_string("layer", &base)?,
                joined: join_layers(&lower)?,
                etc: lower
                    .iter()
                    .map(|layer| {
                        c_string(
                            "layer",
                            Path::new(OsStr::from_bytes(layer.to_bytes())).join("etc"),
                        )
                    })
                    .collect::<Result<_, _>>()?,
                lower,
                upper: match upper {
                    Upper::Tmpfs(scratch) => PreparedUpper::Tmpfs(prepare_scratch(*scratch)?),
                    Upper::Directory(path) => {
                        PreparedUpper::Directory(c_string("writable layer", path)?)
                    }
                },
            }
        }
        Root::Callers { .. } => PreparedRoot::Callers,
        Root::Tmpfs { scratch, links } => PreparedRoot::Tmpfs {
            scratch: prepare_scratch(*scratch)?,
            links: links
                .iter()
                .map(|(link, target)| {
                    Ok((PreparedPath::new("link", link)?, c_string("link", target)?))
                })
                .collect::<Result<_, Error>>()?,
        },
    })
}

fn prepare_scratch(scratch: Scratch) -> Result<PreparedScratch, Error> {
    Ok(PreparedScratch {
        size: c_string("size", scratch.size.to_string())?,
        inodes: scratch
            .inodes
            .map(|inodes| c_string("inodes", inodes.to_string()))
            .transpose()?,
    })
}

/// Lower directories as one mount option: colons separate, a backslash takes a colon's meaning away.
fn join_layers(lower: &[CString]) -> Result<CString, Error> {
    let mut joined = Vec::new();
    for layer in lower {
        if !joined.is_empty() {
            joined.push(b':');
        }
        for byte in layer.to_bytes() {
            if matches!(byte, b':' | b'\\' | b',') {
                joined.push(b'\\');
            }
            joined.push(*byte);
        }
    }
    c_string("layer", OsStr::from_bytes(&joined))
}

/// The longest directory that holds all of `paths`; for a single path, that path.
fn common_parent(paths: &[PathBuf]) -> PathBuf {
    let Some((first, rest)) = paths.split_first() else {
        return PathBuf::from("/");
    };
    let mut base = first.as_path();
    for path in rest {
        while !path.starts_with(base) {
            base = base.parent().unwrap_or(Path::new("/"));
        }
    }
    base.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_in_one_directory_are_named_relative_to_it() {
        let paths = [PathBuf::from("/s/layers/a"), PathBuf::from("/s/layers/b")];
        assert_eq!(common_parent(&paths), Path::new("/s/layers"));
        assert_eq!(common_parent(&paths[..1]), Path::new("/s/layers/a"));
        assert_eq!(common_parent(&["/a/b".into(), "/c".into()]), Path::new("/"));
    }
}
