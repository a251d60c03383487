//! `--tmpfs`: an empty file system in memory.

use palisade_policies::parse_size;

use super::{Mount, Tmpfs, target};
use crate::failure::Failure;

pub(super) fn tmpfs(typed: &str) -> Result<Mount, Failure> {
    let option = "--tmpfs";
    let (destination, options) = typed.split_once(':').unwrap_or((typed, ""));
    let wrong = |why: String| {
        Failure::new(
            format!("{option} {typed}: {why}"),
            "--tmpfs /cache:size=64m,mode=1777,exec",
        )
    };
    let mut tmpfs = Tmpfs {
        destination: target(option, destination)?,
        size: None,
        inodes: None,
        mode: 0o1777,
        exec: false,
        read_only: false,
        owner: (None, None),
    };
    for part in options.split(',').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let bad = || wrong(format!("`{part}` is not understood"));
        match key {
            "size" => tmpfs.size = Some(parse_size(value).filter(|&n| n > 0).ok_or_else(bad)?),
            "nr_inodes" => {
                tmpfs.inodes = Some(parse_size(value).filter(|&n| n > 0).ok_or_else(bad)?);
            }
            "mode" => tmpfs.mode = octal(value).ok_or_else(bad)?,
            "uid" => tmpfs.owner.0 = Some(value.parse().map_err(|_| bad())?),
            "gid" => tmpfs.owner.1 = Some(value.parse().map_err(|_| bad())?),
            "exec" if value.is_empty() => tmpfs.exec = true,
            "noexec" if value.is_empty() => tmpfs.exec = false,
            "ro" if value.is_empty() => tmpfs.read_only = true,
            // What is so anyway.
            "rw" | "nosuid" | "nodev" | "relatime" | "noatime" | "async" if value.is_empty() => {}
            "suid" | "dev" => return Err(wrong(format!("`{key}` is never given"))),
            _ => return Err(bad()),
        }
    }
    Ok(Mount::Tmpfs(tmpfs))
}

/// Permission bits as they are written.
pub(super) fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777 && !text.starts_with('+'))
}
