//! `-v`: a host directory, a named volume, or an anonymous one.

use super::{Bind, Mount, Volume, host_path, target, volume_name};
use crate::caller::Caller;
use crate::failure::Failure;

pub(super) fn volume(typed: &str, caller: &Caller) -> Result<Mount, Failure> {
    let option = "--volume";
    let example = "-v ./dir:/workspace or -v /dir:/workspace:ro";
    let parts: Vec<&str> = typed.split(':').collect();
    let (source, destination, modes) = match parts[..] {
        [destination] => {
            return Ok(Mount::Volume(Volume {
                name: None,
                destination: target(option, destination)?,
                read_only: false,
                copy: true,
            }));
        }
        [source, destination] => (source, destination, ""),
        [source, destination, modes] => (source, destination, modes),
        _ => {
            return Err(Failure::new(
                format!("{option} {typed} has too many colons"),
                "--mount type=bind,src=PATH,dst=PATH for paths with colons",
            ));
        }
    };
    let is_path = source.starts_with('/')
        || source == "."
        || source == ".."
        || source.starts_with("./")
        || source.starts_with("../");
    if source.is_empty() {
        return Err(Failure::new(
            format!("{option} {typed} has no source"),
            example,
        ));
    }
    if !is_path {
        return named(typed, source, destination, modes);
    }
    let mut bind = Bind {
        source: host_path(option, source, caller)?,
        destination: target(option, destination)?,
        read_only: false,
        recursive: true,
        create: true,
    };
    for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
        match mode {
            "ro" => bind.read_only = true,
            // Labels, caching and propagation that docker knows: nothing here depends on them.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "default" | "nocopy"
            | "private" | "rprivate" | "rbind" => {}
            "bind" => bind.recursive = false,
            mode => {
                return Err(Failure::new(
                    format!("{option} {typed}: there is no mode `{mode}` of a directory"),
                    "ro, rw, bind or rbind, after the second colon; what docker knows of labels and caching is accepted",
                ));
            }
        }
    }
    Ok(Mount::Bind(bind))
}

/// A source without a slash is the name of a volume.
fn named(typed: &str, name: &str, destination: &str, modes: &str) -> Result<Mount, Failure> {
    let mut volume = Volume {
        name: Some(volume_name("--volume", name, destination)?),
        destination: target("--volume", destination)?,
        read_only: false,
        copy: true,
    };
    for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
        match mode {
            "ro" => volume.read_only = true,
            "nocopy" => volume.copy = false,
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "default" => {}
            mode => {
                return Err(Failure::new(
                    format!("--volume {typed}: there is no mode `{mode}` of a volume"),
                    "ro, rw or nocopy, after the second colon",
                ));
            }
        }
    }
    Ok(Mount::Volume(volume))
}
