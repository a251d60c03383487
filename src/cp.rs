//! `palisade cp`: files between a sandbox and the host. One that does not run is set up for that moment, without its command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use palisade_runtime::archive::{ArchiveError, Target, Unpacking, Where, pack, unpack};
use palisade_runtime::{Copied, JoinCommand, Lasting, Root, Service, Upper};
use palisade_shim::Error;
use palisade_shim::joined::Transfer;
use palisade_shim::state::Entry;
use palisade_shim::still::Still;

use crate::exec::hand_in;
use crate::failure::Failure;
use crate::sandboxes::{failure, registry};

/// What the one entry at an archive's top is called on its way.
const TOP: &str = "top";
const BLOCK: usize = 512;
const BUFFER: usize = 64 * 1024;
/// What to do about what the sandbox's side says.
const ACCESSIBLE: &str = "a path that its command can read or write";

/// One side of a copy.
enum Place {
    /// A path of this machine.
    Host(PathBuf),
    /// A path of a sandbox.
    Sandbox(Entry, PathBuf),
    /// An archive on standard input or output.
    Stream,
}

/// Copies.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = |name: &str| -> Result<Place, Failure> {
        let typed = matches
            .get_one::<OsString>(name)
            .cloned()
            .unwrap_or_default();
        if typed == "-" {
            return Ok(Place::Stream);
        }
        let Some((sandbox, path)) = split(&typed) else {
            return Ok(Place::Host(typed.into()));
        };
        let entry = registry(matches)?
            .find(&sandbox)
            .map_err(|error| failure(&error))?;
        Ok(Place::Sandbox(entry, path))
    };
    let archive = matches.get_flag("archive");
    let follow = matches.get_flag("follow-link");
    match (place("SOURCE")?, place("DESTINATION")?) {
        (Place::Sandbox(entry, path), Place::Stream) => stream_out(&entry, &path, follow),
        (Place::Sandbox(entry, path), Place::Host(to)) => {
            copy_out(&entry, &path, &to, follow, archive)
        }
        (Place::Stream, Place::Sandbox(entry, path)) => {
            let service = Service::Unpack {
                copied: Copied::Anything,
                owners: archive,
            };
            send(&entry, service, &path, OsStr::new(TOP), |to| {
                io::copy(&mut io::stdin().lock(), to)
                    .map(drop)
                    .map_err(ArchiveError::Sink)
            })
        }
        (Place::Host(from), Place::Sandbox(entry, path)) => {
            copy_in(&entry, &from, &path, follow, archive)
        }
        _ => Err(wrong(
            "one of the two is a path of this machine or -, the other SANDBOX:PATH",
            "palisade cp FILE SANDBOX:PATH, or palisade cp SANDBOX:PATH FILE",
        )),
    }?;
    Ok(0)
}

/// `SANDBOX:PATH`, as docker tells it from a path: no slash before the colon, and no dot at the beginning.
fn split(typed: &OsStr) -> Option<(String, PathBuf)> {
    let bytes = typed.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (name, path) = (&bytes[..colon], &bytes[colon + 1..]);
    if name.is_empty() || name.contains(&b'/') || name[0] == b'.' {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?.to_owned();
    // From the root, as docker has it.
    Some((name, Path::new("/").join(OsStr::from_bytes(path))))
}

fn stream_out(entry: &Entry, path: &Path, follow: bool) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or(OsStr::new("."));
    receive(entry, path, name, follow, |mut from| {
        io::copy(&mut from, &mut io::stdout().lock())
            .map(drop)
            .map_err(ArchiveError::Sink)
    })
}

fn copy_out(
    entry: &Entry,
    path: &Path,
    to: &Path,
    follow: bool,
    owners: bool,
) -> Result<(), Failure> {
    let content = only_content(path);
    let name = path.file_name().unwrap_or(OsStr::new("root"));
    receive(entry, path, OsStr::new(TOP), follow, |mut from| {
        // The first header says whether a directory comes.
        let mut head = vec![0; BLOCK];
        from.read_exact(&mut head).map_err(ArchiveError::Stream)?;
        let directory = head[156] == b'5';
        let target = Target::find(to, name, directory, content)?;
        let how = Unpacking {
            place: Where::Host,
            directory: target.directory,
            top: Some(target.name.unwrap_or_default()),
            owners,
            lasting: None,
        };
        unpack(head.as_slice().chain(from), &how)
    })
}

fn copy_in(
    entry: &Entry,
    from: &Path,
    path: &Path,
    follow: bool,
    owners: bool,
) -> Result<(), Failure> {
    let content = only_content(from);
    let found = if follow || content {
        fs::metadata(from)
    } else {
        fs::symlink_metadata(from)
    };
    let found = found.map_err(|source| {
        local(&ArchiveError::Io {
            action: "read",
            path: from.to_owned(),
            source,
        })
    })?;
    let copied = match (found.is_dir(), content) {
        (false, _) => Copied::File,
        (true, false) => Copied::Directory,
        (true, true) => Copied::Content,
    };
    let name = match from.file_name() {
        Some(name) => name.to_owned(),
        // `..` and `/` have the name of the directory that they stand for.
        None => fs::canonicalize(from)
            .ok()
            .and_then(|path| path.file_name().map(OsStr::to_owned))
            .unwrap_or_else(|| "root".into()),
    };
    let service = Service::Unpack { copied, owners };
    send(entry, service, path, &name, |to| {
        let mut to = BufWriter::with_capacity(BUFFER, to);
        pack(from, OsStr::new(TOP), follow, &mut to)?;
        to.flush().map_err(ArchiveError::Sink)
    })
}

/// `DIR/.` stands for what is in the directory.
fn only_content(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

/// Has the sandbox pack `path`, and reads what comes.
fn receive(
    entry: &Entry,
    path: &Path,
    name: &OsStr,
    follow: bool,
    read: impl FnOnce(BufReader<fs::File>) -> Result<(), ArchiveError>,
) -> Result<(), Failure> {
    let command = JoinCommand {
        args: vec![path.into(), name.into()],
        service: Some(Service::Pack { follow }),
        ..JoinCommand::default()
    };
    let still = stand(entry)?;
    let (transfer, stream) = Transfer::begin(&command, |connection| {
        join(still.as_ref(), entry, &connection)
    })
    .map_err(|error| failure(&error))?;
    let result = read(BufReader::with_capacity(BUFFER, stream));
    end(transfer, still, result, ACCESSIBLE)
}

/// The sandbox as it stands, where it does not run.
fn stand(entry: &Entry) -> Result<Option<Still>, Failure> {
    Still::stand(entry).map_err(|error| {
        let failure = failure(&error);
        wrong(
            &format!(
                "cannot set up {} to copy: {}",
                entry.short(),
                failure.message()
            ),
            &error.advice().unwrap_or_default(),
        )
    })
}

fn join(still: Option<&Still>, entry: &Entry, connection: &OwnedFd) -> Result<(), Error> {
    match still {
        Some(still) => still.admit(connection),
        None => hand_in(entry, connection),
    }
}

/// What of a sandbox is still there at its next start. What a path leads to is for the side in the sandbox to find.
fn lasting(entry: &Entry) -> Result<Lasting, Failure> {
    let plan = entry.plan().map_err(|error| failure(&error))?;
    let mounts = plan.spec.mounts().iter().flatten();
    let sources = mounts
        .filter(|mount| mount.typ().as_deref() == Some("bind"))
        .filter_map(|mount| mount.source().as_ref());
    Ok(Lasting {
        root: matches!(
            plan.root,
            Root::Overlay {
                upper: Upper::Directory(_),
                ..
            }
        ),
        devices: sources
            .filter_map(|source| fs::metadata(source).ok())
            .filter(fs::Metadata::is_dir)
            .map(|found| found.dev())
            .collect(),
    })
}

/// Has the sandbox unpack at `path` what is written.
fn send(
    entry: &Entry,
    service: Service,
    path: &Path,
    name: &OsStr,
    write: impl FnOnce(&mut fs::File) -> Result<(), ArchiveError>,
) -> Result<(), Failure> {
    let still = stand(entry)?;
    let command = JoinCommand {
        args: vec![path.into(), name.into()],
        service: Some(service),
        lasting: match still {
            Some(_) => Some(lasting(entry)?),
            None => None,
        },
        ..JoinCommand::default()
    };
    let (transfer, mut stream) = Transfer::begin(&command, |connection| {
        join(still.as_ref(), entry, &connection)
    })
    .map_err(|error| failure(&error))?;
    let result = write(&mut stream);
    drop(stream);
    let remedy = format!(
        "a path that its command can write, and that is not memory: in a volume, in a mounted directory, or anywhere in a sandbox of run --read-only=false; or palisade start {} first",
        entry.short()
    );
    let remedy = if still.is_some() { &remedy } else { ACCESSIBLE };
    end(transfer, still, result, remedy)
}

/// What the sandbox's side says is the cause, where both failed: a stream breaks on both.
fn end(
    transfer: Transfer,
    still: Option<Still>,
    here: Result<(), ArchiveError>,
    remedy: &str,
) -> Result<(), Failure> {
    let there = transfer.finish();
    let put_away = still.map_or(Ok(()), Still::end);
    match (there.and(put_away), here) {
        (
            Err(Error::Runtime(error)),
            Ok(()) | Err(ArchiveError::Sink(_) | ArchiveError::Stream(_)),
        ) => Err(wrong(&format!("in the sandbox: {error}"), remedy)),
        (_, Err(error)) => Err(local(&error)),
        (Err(error), Ok(())) => Err(failure(&error)),
        (Ok(()), Ok(())) => Ok(()),
    }
}

fn local(error: &ArchiveError) -> Failure {
    wrong(&error.to_string(), "")
}

/// docker's exit code for a copy that failed is 1.
fn wrong(message: &str, remedy: &str) -> Failure {
    Failure::new(message, remedy).with_code(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_told_from_a_path() {
        let split = |typed: &str| split(OsStr::new(typed));
        assert_eq!(split("box:/a"), Some(("box".into(), "/a".into())));
        assert_eq!(split("box:a/b"), Some(("box".into(), "/a/b".into())));
        assert_eq!(split("box:"), Some(("box".into(), "/".into())));
        for path in ["./a:b", "/a:b", "a/b:c", ":a", "plain", "../x:y"] {
            assert_eq!(split(path), None, "{path}");
        }
    }

    #[test]
    fn a_dot_at_the_end_means_what_is_in_the_directory() {
        assert!(only_content(Path::new(".")) && only_content(Path::new("/a/.")));
        assert!(!only_content(Path::new("/a")) && !only_content(Path::new("..")));
    }
}
