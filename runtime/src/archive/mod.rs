//! Files and directories as a tar stream, for `cp` between a sandbox and the host.
//!
//! The side in the sandbox runs there, as a process that is confined like the sandbox's commands: whatever its paths
//! resolve to, they reach nothing that a command could not (CVE-2018-15664), and no program or library of the sandbox is
//! loaded (CVE-2019-14271). The side on the host follows no symbolic link below the directory that it writes to.

mod pack;
mod target;
mod unpack;

use std::io;
use std::path::PathBuf;

pub use pack::pack;
pub use target::Target;
pub use unpack::{Unpacking, Where, unpack};

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file could not be read or written.
    #[error("{action} {}: {}", path.display(), reason(source))]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The stream is no archive, or ends early.
    #[error("read the archive: {}", reason(.0))]
    Stream(io::Error),
    /// The archive cannot be written on.
    #[error("write the archive: {}", reason(.0))]
    Sink(io::Error),
    /// What is asked for cannot be.
    #[error("{}: {why}", path.display())]
    Refused {
        /// The path it is about.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
}

/// The content of the first entry of an archive.
///
/// # Errors
/// What the stream says.
pub fn first_file(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut archive = tar::Archive::new(from);
    let mut content = Vec::new();
    if let Some(entry) = archive.entries()?.next() {
        io::Read::read_to_end(&mut entry?, &mut content)?;
    }
    // Whoever writes it waits for the rest to be read.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(content)
}

/// What the kernel said, without the number that Rust puts behind it.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// For `map_err`: a failed call, with what it was for.
fn failed(
    action: &'static str,
    path: &std::path::Path,
) -> impl Fn(nix::errno::Errno) -> ArchiveError {
    move |errno| ArchiveError::Io {
        action,
        path: path.to_owned(),
        source: errno.into(),
    }
}
