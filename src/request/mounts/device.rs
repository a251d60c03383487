//! `--device`: one device of the host.

use super::{Mount, host_path, target};
use crate::caller::Caller;
use crate::failure::Failure;

pub(super) fn device(typed: &str, caller: &Caller) -> Result<Mount, Failure> {
    let option = "--device";
    let wrong = |why: &str| {
        Failure::new(
            format!("{option} {typed}: {why}"),
            "--device /dev/fuse, or --device /dev/sdb:/dev/disk; chmod on the host decides who may write",
        )
    };
    let parts: Vec<&str> = typed.split(':').collect();
    let permissions =
        |text: &str| !text.is_empty() && text.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    let (source, destination, rights) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, rights] if permissions(rights) => (source, source, rights),
        [source, destination] => (source, destination, "rwm"),
        [source, destination, rights] if permissions(rights) => (source, destination, rights),
        _ => return Err(wrong("the rights are letters of rwm")),
    };
    if !source.starts_with('/') {
        return Err(wrong("a device is named by its absolute path"));
    }
    // A read-only mount does not keep anybody from writing to a device, and device cgroups need the host's root.
    if !(rights.contains('r') && rights.contains('w')) {
        return Err(wrong("a device is readable and writable or not there"));
    }
    Ok(Mount::Device {
        source: host_path(option, source, caller)?,
        destination: target(option, destination)?,
    })
}
