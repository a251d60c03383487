//! Where palisade keeps things.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::caller::Caller;
use crate::failure::Failure;

/// The data directory: `--root`, else `$PALISADE_ROOT`, else /var/lib/palisade for root, else
/// `$XDG_DATA_HOME/palisade`, else `~/.local/share/palisade`.
pub fn directory(option: Option<&Path>, caller: &Caller) -> Result<PathBuf, Failure> {
    // The XDG base directory specification: a relative path is to be ignored.
    let variable = |name: &str| {
        caller
            .variable(OsStr::new(name))
            .map(Path::new)
            .filter(|path| path.is_absolute())
    };
    if let Some(path) = option {
        return Ok(path.to_owned());
    }
    if let Some(path) = caller
        .variable(OsStr::new("PALISADE_ROOT"))
        .filter(|path| !path.is_empty())
    {
        return Ok(caller.absolute(Path::new(path)));
    }
    if caller.is_root() {
        return Ok("/var/lib/palisade".into());
    }
    if let Some(path) = variable("XDG_DATA_HOME") {
        return Ok(path.join("palisade"));
    }
    variable("HOME")
        .map(|home| home.join(".local/share/palisade"))
        .ok_or_else(|| {
            Failure::new(
                "there is no place for images: HOME and XDG_DATA_HOME are not set",
                "--root DIR, or set HOME",
            )
        })
}

/// The directory of one sandbox.
pub fn sandbox(data: &Path, id: &str) -> PathBuf {
    data.join("sandboxes").join(id)
}

/// Makes a sandbox's directory with an empty writable layer in it, for its owner alone.
pub fn make_writable_layer(directory: &Path) -> Result<(), Failure> {
    let make = |path: &Path, mode: u32| {
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|error| {
                Failure::new(
                    format!(
                        "cannot make {} for the writable layer: {error}",
                        path.display()
                    ),
                    "--root DIR with a directory you may write to, or --read-only",
                )
            })
    };
    make(directory, 0o700)?;
    make(&directory.join("upper"), 0o755)?;
    make(&directory.join("work"), 0o755)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, variables: &[(&str, &str)]) -> Caller {
        let environment = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Caller {
            uid,
            environment,
            cwd: "/w".into(),
            ..Caller::default()
        }
    }

    #[test]
    fn the_data_directory_is_the_option_then_the_variable_then_the_users() {
        let of = |uid, variables: &[(&str, &str)]| directory(None, &caller(uid, variables)).ok();
        assert_eq!(
            directory(
                Some(Path::new("/o")),
                &caller(0, &[("PALISADE_ROOT", "/v")])
            )
            .unwrap(),
            Path::new("/o")
        );
        assert_eq!(of(0, &[("PALISADE_ROOT", "v")]).unwrap(), Path::new("/w/v"));
        assert_eq!(
            of(0, &[("HOME", "/root")]).unwrap(),
            Path::new("/var/lib/palisade")
        );
        assert_eq!(
            of(7, &[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]).unwrap(),
            Path::new("/x/palisade")
        );
        assert_eq!(
            of(7, &[("HOME", "/h"), ("XDG_DATA_HOME", "x")]).unwrap(),
            Path::new("/h/.local/share/palisade")
        );
        assert_eq!(of(7, &[]), None);
    }
}
