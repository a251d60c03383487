//! `-v`, `--mount`, `--tmpfs` and `--device`: what is shown inside, and where.

mod device;
mod long;
mod tmpfs;
mod volume;

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use palisade_rootfs::volumes::Volumes;

use super::text;
use crate::caller::Caller;
use crate::cli::run::MountArgument;
use crate::failure::Failure;

/// One thing shown inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A host directory or file.
    Bind(Bind),
    /// An empty file system in memory.
    Tmpfs(Tmpfs),
    /// A volume, with a name or without.
    Volume(Volume),
    /// A host device.
    Device {
        /// On the host.
        source: PathBuf,
        /// Inside.
        destination: PathBuf,
    },
}

/// A host directory or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Absolute, on the host.
    pub source: PathBuf,
    /// Inside.
    pub destination: PathBuf,
    /// Cannot be changed from inside.
    pub read_only: bool,
    /// With what is mounted beneath the source.
    pub recursive: bool,
    /// A source that is missing is made, as docker does for `-v`; else it is an error.
    pub create: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name; none for one that is made for this sandbox.
    pub name: Option<String>,
    /// Inside.
    pub destination: PathBuf,
    /// Cannot be changed from inside.
    pub read_only: bool,
    /// Where it is empty, it starts with what the image has there.
    pub copy: bool,
}

/// An empty file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Inside.
    pub destination: PathBuf,
    /// Bytes; none for the policy's scratch size.
    pub size: Option<u64>,
    /// Files and directories; none for no bound of its own.
    pub inodes: Option<u64>,
    /// Permission bits.
    pub mode: u32,
    /// Programs on it can be executed.
    pub exec: bool,
    /// Nothing can be written.
    pub read_only: bool,
    /// Owner and group, where given.
    pub owner: (Option<u32>, Option<u32>),
}

impl Mount {
    /// Where it is shown inside.
    pub fn destination(&self) -> &Path {
        match self {
            Self::Bind(bind) => &bind.destination,
            Self::Volume(volume) => &volume.destination,
            Self::Tmpfs(tmpfs) => &tmpfs.destination,
            Self::Device { destination, .. } => destination,
        }
    }
}

/// Understands all of them, and refuses two on the same place.
pub fn understand(
    typed: Vec<MountArgument>,
    devices: Vec<OsString>,
    caller: &Caller,
) -> Result<Vec<Mount>, Failure> {
    let mut mounts: Vec<Mount> = Vec::with_capacity(typed.len() + devices.len());
    for typed in typed {
        let mount = match typed {
            MountArgument::Volume(typed) => {
                volume::volume(&text::utf8("--volume", typed)?, caller)?
            }
            MountArgument::Mount(typed) => long::mount(&text::utf8("--mount", typed)?, caller)?,
            MountArgument::Tmpfs(typed) => tmpfs::tmpfs(&text::utf8("--tmpfs", typed)?)?,
        };
        mounts.push(mount);
    }
    for typed in devices {
        mounts.push(device::device(&text::utf8("--device", typed)?, caller)?);
    }
    for (index, mount) in mounts.iter().enumerate() {
        if mounts[..index]
            .iter()
            .any(|earlier| earlier.destination() == mount.destination())
        {
            return Err(Failure::new(
                format!("two mounts on {}", mount.destination().display()),
                "one mount for each place inside",
            ));
        }
    }
    Ok(mounts)
}

/// A path inside the sandbox: absolute, without `..`, written without what does not matter.
pub fn sandbox_path(option: &str, typed: &OsStr) -> Result<PathBuf, Failure> {
    let path = Path::new(typed);
    let odd = |why: &str| {
        Failure::new(
            format!("{option} {}: {why}", path.display()),
            format!("{option} with a path such as /workspace"),
        )
    };
    if !path.is_absolute() {
        return Err(odd("the path inside the sandbox is not absolute"));
    }
    if typed.as_encoded_bytes().contains(&0) || typed.len() >= 4096 {
        return Err(odd("the path is too long or holds a NUL byte"));
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => return Err(odd("the path inside the sandbox has a ..")),
            _ => {}
        }
    }
    Ok(clean)
}

/// A place that a mount may have: neither the root nor a part of what the sandbox is made of.
fn target(option: &str, typed: &str) -> Result<PathBuf, Failure> {
    let path = sandbox_path(option, typed.as_ref())?;
    let odd = |why: &str, instead: &str| {
        Failure::new(format!("{option} on {}: {why}", path.display()), instead)
    };
    if path == Path::new("/") {
        return Err(odd(
            "the root is the image's",
            "an image dir:PATH for a root directory of your own",
        ));
    }
    if path.starts_with("/proc") {
        return Err(odd(
            "/proc belongs to the sandbox (CVE-2019-16884)",
            "another place inside",
        ));
    }
    if path == Path::new("/dev") {
        return Err(odd(
            "/dev belongs to the sandbox",
            "--device for each device that is needed",
        ));
    }
    Ok(path)
}

fn host_path(option: &str, typed: &str, caller: &Caller) -> Result<PathBuf, Failure> {
    if typed.contains('\0') {
        return Err(Failure::new(
            format!("{option}: the path on the host holds a NUL byte"),
            "",
        ));
    }
    Ok(caller.absolute(Path::new(typed)))
}

/// The name of a volume; what looks like a path is told how paths are written.
fn volume_name(option: &str, name: &str, destination: &str) -> Result<String, Failure> {
    match Volumes::check_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(error) => Err(Failure::new(
            format!("{option}: {error}"),
            format!("-v name:{destination}, or -v ./{name}:{destination} for a directory here"),
        )),
    }
}

#[cfg(test)]
mod tests;
