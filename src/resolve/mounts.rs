//! The list of mounts: its order is its meaning.

use std::fmt::Write;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount as SpecMount};
use palisade_policies::landlock::{Access, PathRule};
use palisade_policies::{Flags, NetworkMode, Policy, Sys};
use palisade_rootfs::ImageConfig;

use super::host::HostTree;
use super::identity::Identity;
use super::limits::SHM;
use super::memory::{self, Allowed};
use super::volumes::{self, Volumes};
use crate::failure::{Failure, reason};
use crate::request::{Bind, Mount, Request, Tmpfs};

/// What the list is made from.
pub struct Inputs<'a> {
    /// `-v` and the like.
    pub request: &'a Request,
    /// Which tmpfs there are, and /sys.
    pub policy: &'a Policy,
    /// `Volumes`.
    pub config: &'a ImageConfig,
    /// Whom things belong to.
    pub identity: &'a Identity,
    /// What `~` stands for.
    pub home: &'a Path,
    /// Volumes on disk.
    pub volumes: &'a Volumes,
    /// This machine, if it is the image.
    pub host: Option<&'a HostTree>,
}

impl Inputs<'_> {
    fn allowed(&self, destination: &Path) -> Allowed {
        memory::allowed(destination, self.policy, self.home)
    }

    /// Bytes and files of a tmpfs for which none were asked for.
    fn unasked(&self, allowed: Allowed) -> (u64, Option<u64>) {
        let files = &self.policy.filesystem;
        match self.policy.flags {
            Flags::TightenOnly => (allowed.size, allowed.inodes),
            Flags::Refine => (files.scratch_size, files.scratch_inodes),
        }
    }
}

/// The list, and what follows from it.
#[derive(Debug, Default)]
pub struct Mounts {
    /// The mounts, in order.
    pub list: Vec<SpecMount>,
    /// What Landlock grants on mounts that the policy does not know.
    pub rules: Vec<PathRule>,
    /// Missing sources, to be made.
    pub create: Vec<PathBuf>,
}

/// All mounts.
pub fn resolve(inputs: &Inputs<'_>) -> Result<Mounts, Failure> {
    let mut all = Mounts::default();
    for path in inputs.host.iter().flat_map(|tree| &tree.shown) {
        all.list.push(new(
            path,
            "bind",
            path,
            words(&["rbind", "ro", "nosuid", "nodev"]),
        ));
    }
    all.list.extend(system(inputs.policy, inputs.identity));
    let mut placed = policy_tmpfs(inputs);
    image_volumes(inputs, &mut placed, &mut all.rules)?;
    for volume in &inputs.volumes.used {
        let access = if volume.declared {
            Access::Write
        } else {
            access(volume.read_only)
        };
        all.rules.push(rule(&volume.destination, access));
        let noexec = volume.declared && !inputs.allowed(&volume.destination).exec;
        placed.push(volumes::mount(volume, inputs.identity, noexec));
    }
    for mount in &inputs.request.mounts {
        if let Some((made, access)) = asked(mount, inputs, &mut all.create)? {
            all.rules.push(rule(mount.destination(), access));
            placed.push(made);
        }
    }
    // A stable sort: what lies inside something else is mounted after it, whatever the order on the line.
    placed.sort_by_key(|mount| mount.destination().components().count());
    all.list.extend(placed);
    Ok(all)
}

/// What is in memory by the policy.
fn policy_tmpfs(inputs: &Inputs<'_>) -> Vec<SpecMount> {
    let mut mounts = Vec::new();
    for (destination, tmpfs) in memory::tmpfs(inputs.policy, inputs.home) {
        if taken(inputs.request, &destination) || inputs.volumes.takes(&destination) {
            continue;
        }
        let mut options = words(&["nosuid", "nodev", "tmpcopyup"]);
        if tmpfs.noexec {
            options.push("noexec".to_owned());
        }
        sized(&mut options, tmpfs.size, tmpfs.inodes);
        if destination == Path::new("/tmp") || destination == Path::new("/var/tmp") {
            options.push("mode=1777".to_owned());
        } else {
            options.push("mode=0755".to_owned());
            own(&mut options, inputs.identity);
        }
        mounts.push(new(&destination, "tmpfs", "tmpfs", options));
    }
    mounts
}

/// What the image declares as volumes and is not on disk: memory that starts with what the image has there.
fn image_volumes(
    inputs: &Inputs<'_>,
    placed: &mut Vec<SpecMount>,
    rules: &mut Vec<PathRule>,
) -> Result<(), Failure> {
    for destination in volumes::declared(inputs.request, inputs.config)? {
        let there = placed
            .iter()
            .any(|mount| mount.destination() == &destination);
        if !there && !inputs.volumes.takes(&destination) {
            // Whether anything may be executed there is the policy's to say, not the image's.
            rules.push(rule(&destination, Access::Write));
            placed.push(in_memory(inputs, &destination));
        }
    }
    Ok(())
}

/// What was asked for on the line, and what Landlock grants there; none for a volume.
fn asked(
    mount: &Mount,
    inputs: &Inputs<'_>,
    create: &mut Vec<PathBuf>,
) -> Result<Option<(SpecMount, Access)>, Failure> {
    Ok(Some(match mount {
        Mount::Bind(wanted) => (
            bind(wanted, inputs.identity, create)?,
            access(wanted.read_only),
        ),
        Mount::Volume(_) => return Ok(None),
        Mount::Tmpfs(wanted) => (tmpfs(wanted, inputs)?, access(wanted.read_only)),
        Mount::Device {
            source,
            destination,
        } => (device(source, destination)?, Access::WriteFiles),
    }))
}

fn access(read_only: bool) -> Access {
    if read_only {
        Access::ReadExec
    } else {
        Access::WriteExec
    }
}

fn in_memory(inputs: &Inputs<'_>, destination: &Path) -> SpecMount {
    let allowed = inputs.allowed(destination);
    let (size, inodes) = inputs.unasked(allowed);
    let mut options = words(&["nosuid", "nodev", "tmpcopyup", "mode=0755"]);
    if !allowed.exec {
        options.push("noexec".to_owned());
    }
    sized(&mut options, size, inodes);
    own(&mut options, inputs.identity);
    new(destination, "tmpfs", "tmpfs", options)
}

/// The file systems of every sandbox.
fn system(policy: &Policy, identity: &Identity) -> Vec<SpecMount> {
    let mut pts = words(&[
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ]);
    // Group tty, where it exists inside: the kernel refuses an id without a map.
    if identity.has_group(5) {
        pts.push("gid=5".to_owned());
    }
    let mut shm = words(&["nosuid", "noexec", "nodev", "mode=1777"]);
    sized(&mut shm, policy.limits.shm, None);
    let mut mounts = vec![
        new(
            "/proc",
            "proc",
            "proc",
            words(&["nosuid", "noexec", "nodev"]),
        ),
        new(
            "/dev",
            "tmpfs",
            "tmpfs",
            words(&["nosuid", "noexec", "strictatime", "mode=0755", "size=65536"]),
        ),
        new("/dev/pts", "devpts", "devpts", pts),
        new(SHM, "tmpfs", "shm", shm),
        new(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            words(&["nosuid", "noexec", "nodev"]),
        ),
    ];
    match (policy.filesystem.sys, policy.network.mode) {
        (Sys::None, _) => {}
        (Sys::ReadOnly, NetworkMode::None) => {
            mounts.push(new(
                "/sys",
                "sysfs",
                "sysfs",
                words(&["nosuid", "noexec", "nodev", "ro"]),
            ));
        }
        // The kernel gives a sysfs to the owner of the network namespace alone.
        (Sys::ReadOnly, NetworkMode::Host) => {
            mounts.push(new(
                "/sys",
                "bind",
                "/sys",
                words(&["rbind", "nosuid", "noexec", "nodev", "ro"]),
            ));
        }
    }
    mounts
}

/// The devices of every sandbox, shown from the host.
pub fn default_devices() -> Vec<LinuxDevice> {
    [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ]
    .into_iter()
    .map(|(name, major, minor)| {
        let mut device = LinuxDevice::default();
        device
            .set_path(Path::new("/dev").join(name))
            .set_typ(LinuxDeviceType::C)
            .set_major(major)
            .set_minor(minor)
            .set_file_mode(Some(0o666));
        device
    })
    .collect()
}

fn bind(
    wanted: &Bind,
    identity: &Identity,
    create: &mut Vec<PathBuf>,
) -> Result<SpecMount, Failure> {
    let source = &wanted.source;
    let metadata = match source.metadata() {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && wanted.create => {
            create.push(source.clone());
            None
        }
        Err(error) => {
            return Err(Failure::new(
                format!(
                    "cannot show {} inside: {}",
                    source.display(),
                    reason(&error)
                ),
                format!("mkdir -p {}, or another source", source.display()),
            ));
        }
    };
    let mut options = words(&[
        if wanted.recursive { "rbind" } else { "bind" },
        "nosuid",
        "nodev",
    ]);
    if wanted.read_only {
        options.push("ro".to_owned());
    }
    let mut mount = new(&wanted.destination, "bind", source, Vec::new());
    // What palisade is about to make belongs to its caller, who is root where there is a map.
    let (owner, group) = metadata.map_or((0, 0), |metadata: Metadata| {
        (metadata.uid(), metadata.gid())
    });
    if let Some((uid, gid)) = identity.map_of_mount(owner, group) {
        options.push("idmap".to_owned());
        mount
            .set_uid_mappings(Some(vec![uid]))
            .set_gid_mappings(Some(vec![gid]));
    }
    mount.set_options(Some(options));
    Ok(mount)
}

fn tmpfs(wanted: &Tmpfs, inputs: &Inputs<'_>) -> Result<SpecMount, Failure> {
    let tight = inputs.policy.flags == Flags::TightenOnly;
    let allowed = inputs.allowed(&wanted.destination);
    let (most, most_inodes) = (allowed.size, allowed.inodes);
    let (otherwise, otherwise_inodes) = inputs.unasked(allowed);
    let shm = wanted.destination == Path::new(SHM);
    // What was asked for at /dev/shm is the policy's limit by now, or was lowered by a pin.
    let size = if shm {
        most
    } else {
        wanted.size.unwrap_or(otherwise)
    };
    let inodes = wanted.inodes.or(otherwise_inodes);
    let looser = [
        (size > most, format!("size={most}")),
        (
            most_inodes.is_some_and(|most| inodes.is_none_or(|inodes| inodes > most)),
            format!("nr_inodes={}", most_inodes.unwrap_or_default()),
        ),
        (wanted.exec && !allowed.exec, "noexec".to_owned()),
    ];
    if let Some((_, most)) = looser.iter().find(|(looser, _)| tight && *looser) {
        let place = wanted.destination.display();
        return Err(Failure::new(
            format!(
                "--tmpfs {place} loosens the policy {}, which options may only tighten: it allows {most} there",
                inputs.policy.name
            ),
            format!("--tmpfs {place}:{most}, or another policy"),
        ));
    }
    let mut options = words(&[
        "nosuid",
        "nodev",
        if wanted.exec { "exec" } else { "noexec" },
    ]);
    if wanted.read_only {
        options.push("ro".to_owned());
    }
    // Over the home directory what the image has there stays visible: entrypoints live there.
    if wanted.destination == inputs.home && memory::may_cover(inputs.home) {
        options.push("tmpcopyup".to_owned());
    }
    sized(&mut options, size, inodes);
    options.push(format!("mode={:04o}", wanted.mode));
    options.push(format!(
        "uid={}",
        wanted.owner.0.unwrap_or(inputs.identity.uid)
    ));
    options.push(format!(
        "gid={}",
        wanted.owner.1.unwrap_or(inputs.identity.gid)
    ));
    Ok(new(&wanted.destination, "tmpfs", "tmpfs", options))
}

fn device(source: &Path, destination: &Path) -> Result<SpecMount, Failure> {
    let kind = source.metadata().map(|metadata| metadata.file_type());
    if !kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device()) {
        return Err(Failure::new(
            format!(
                "--device {}: there is no such device on the host",
                source.display()
            ),
            "ls -l /dev; -v shows files and directories",
        ));
    }
    let options = words(&["bind", "nosuid", "noexec"]);
    Ok(new(destination, "bind", source, options))
}

/// Whether a mount on the command line takes this place.
fn taken(request: &Request, destination: &Path) -> bool {
    request
        .mounts
        .iter()
        .any(|mount| mount.destination() == destination)
}

fn sized(options: &mut Vec<String>, size: u64, inodes: Option<u64>) {
    options.push(format!("size={size}"));
    options.extend(inodes.map(|inodes| format!("nr_inodes={inodes}")));
}

fn own(options: &mut Vec<String>, identity: &Identity) {
    let mut owner = String::new();
    let _ = write!(owner, "uid={}", identity.uid);
    options.push(owner);
    options.push(format!("gid={}", identity.gid));
}

fn rule(path: &Path, access: Access) -> PathRule {
    PathRule {
        path: path.to_owned(),
        access,
    }
}

fn new(
    destination: impl AsRef<Path>,
    kind: &str,
    source: impl AsRef<Path>,
    options: Vec<String>,
) -> SpecMount {
    let mut mount = SpecMount::default();
    mount
        .set_destination(destination.as_ref().to_owned())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.as_ref().to_owned()))
        .set_options(Some(options));
    mount
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Paths as the runtime configuration has them.
pub fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}
