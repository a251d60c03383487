//! From the runtime-spec's mounts, devices and paths to steps.

use std::ffi::CString;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;
use oci_spec::runtime::{Linux, Mount, Spec};

use super::calls::check_null_device;
use super::options::{Options, attributes};
use super::{Device, Kind, MountStep, NewFilesystem, Source, TreeRequest};
use crate::Error;
use crate::control::Step;
use crate::idmap::Identity;
use crate::prepare::{PreparedPath, c_string};

/// The spec's mounts as steps.
pub(crate) fn steps(spec: &Spec, identity: &Identity) -> Result<Vec<MountStep>, Error> {
    let linux = spec.linux().as_ref();
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let mut steps: Vec<MountStep> = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let mut step = step(mount, linux, identity)?;
        step.parent = steps.iter().position(|earlier| {
            matches!(&earlier.kind, Kind::New(new) if !new.copy_up && new.kind.as_c_str() == c"tmpfs")
                && mount.destination().parent() == Some(Path::new(&*earlier.destination.to_string_lossy()))
        });
        if let Some(parent) = step.parent {
            steps[parent].keep = true;
        }
        steps.push(step);
    }
    Ok(steps)
}

fn step(mount: &Mount, linux: Option<&Linux>, identity: &Identity) -> Result<MountStep, Error> {
    let destination = mount.destination();
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = if options.bind || mount.typ().as_deref() == Some("bind") {
        bind(mount, &options, identity)?
    } else {
        Kind::New(new_filesystem(mount, &options, linux)?)
    };
    let keep = matches!(&kind, Kind::New(new) if new.kind.as_c_str() == c"proc" || destination == Path::new("/dev"));
    Ok(MountStep {
        destination: c_string("mount target", destination)?,
        target: PreparedPath::new("mount target", destination)?,
        parent: None,
        keep,
        kind,
    })
}

fn bind(mount: &Mount, options: &Options, identity: &Identity) -> Result<Kind, Error> {
    let source = mount
        .source()
        .as_deref()
        .ok_or_else(|| Error::Unsupported {
            what: format!("bind mount on {}", mount.destination().display()),
            why: "it has no source".into(),
        })?;
    let directory = std::fs::metadata(source).map_err(|error| Error::Setup {
        step: Step::Mount,
        subject: source.display().to_string(),
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
    })?;
    let path = c_string("mount source", source)?;
    let map = mount
        .uid_mappings()
        .clone()
        .zip(mount.gid_mappings().clone());
    let source = if identity.loses_the_callers_rights() {
        Source::Tree(TreeRequest { source: path, map })
    } else if map.is_some() {
        return Err(Error::Unsupported {
            what: format!("an id-mapped mount on {}", mount.destination().display()),
            why: "only root can make one".into(),
        });
    } else {
        Source::Path(path)
    };
    Ok(Kind::Bind {
        source,
        recursive: options.recursive,
        attributes: attributes(options.flags),
        directory: directory.is_dir(),
    })
}

fn new_filesystem(
    mount: &Mount,
    options: &Options,
    linux: Option<&Linux>,
) -> Result<NewFilesystem, Error> {
    let kind = mount.typ().as_deref().unwrap_or("none");
    if !matches!(
        kind,
        "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "cgroup2"
    ) {
        return Err(Error::Unsupported {
            what: format!(
                "a mount of type {kind} on {}",
                mount.destination().display()
            ),
            why: "known types are bind, tmpfs, proc, sysfs, devpts, mqueue, cgroup2".into(),
        });
    }
    let on_proc = kind == "proc" && mount.destination() == Path::new("/proc");
    let below_proc = |paths: Option<&Vec<String>>| -> Result<Vec<CString>, Error> {
        paths
            .into_iter()
            .flatten()
            .filter_map(|path| path.strip_prefix("/proc/").filter(|_| on_proc))
            .map(|path| c_string("path", path))
            .collect()
    };
    // /dev is filled after it is mounted, so it becomes read-only last.
    let read_only_late = options.flags.contains(MsFlags::MS_RDONLY) && kind == "tmpfs";
    let flags = if read_only_late {
        options.flags - MsFlags::MS_RDONLY
    } else {
        options.flags
    };
    Ok(NewFilesystem {
        kind: c_string("mount type", kind)?,
        flags,
        data: c_string("mount options", options.data.join(","))?,
        copy_up: options.copy_up,
        read_only_late,
        masked: below_proc(linux.and_then(|l| l.masked_paths().as_ref()))?,
        read_only: below_proc(linux.and_then(|l| l.readonly_paths().as_ref()))?,
    })
}

/// The spec's devices, bound from the host: a user namespace cannot make nodes.
pub(crate) fn devices(linux: &Linux, mounts: &[MountStep]) -> Result<Vec<Device>, Error> {
    let new_dev = mounts.iter().position(MountStep::is_new_dev);
    linux
        .devices()
        .iter()
        .flatten()
        .map(|device| {
            let path = device.path();
            Ok(Device {
                source: c_string("device", path)?,
                target: PreparedPath::new("device", path)?,
                parent: new_dev.filter(|_| path.parent() == Some(Path::new("/dev"))),
            })
        })
        .collect()
}

/// Masked and read-only paths that a new /proc does not take care of, relative to the root. Where anything is masked, there
/// must be what files are masked with.
pub(crate) fn paths_outside_proc(
    linux: &Linux,
    mounts: &[MountStep],
) -> Result<(Vec<CString>, Vec<CString>), Error> {
    if linux.masked_paths().iter().flatten().next().is_some() {
        check_null_device()?;
    }
    let new_proc = mounts.iter().any(MountStep::is_proc);
    let pick = |paths: &Option<Vec<String>>| -> Result<Vec<CString>, Error> {
        paths
            .iter()
            .flatten()
            .filter(|path| !(new_proc && path.starts_with("/proc/")))
            .map(|path| Ok(PreparedPath::new("path", Path::new(path))?.path))
            .collect()
    };
    Ok((pick(linux.masked_paths())?, pick(linux.readonly_paths())?))
}

/// Whether `path` lies in, or is, the target of a bind mount.
pub(crate) fn below_a_bind(mounts: &[MountStep], path: &Path) -> bool {
    mounts.iter().any(|mount| {
        matches!(mount.kind, Kind::Bind { .. })
            && path.starts_with(Path::new(&*mount.destination.to_string_lossy()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_of_mount_is_refused() {
        let mut mount = Mount::default();
        mount
            .set_destination("/x".into())
            .set_typ(Some("ext4".into()));
        assert!(new_filesystem(&mount, &Options::parse(&[]), None).is_err());
    }
}
