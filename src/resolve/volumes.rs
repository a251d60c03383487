//! Volumes of a sandbox: which, where their files lie, and whose those are.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount as SpecMount;
use palisade_rootfs::{Digest, ImageConfig, Ownership, Users, volumes};

use super::Place;
use super::identity::{Identity, Mode};
use super::limits::SHM;
use crate::failure::Failure;
use crate::request::{Mount, Request, sandbox_path};

/// What has to be done about volumes before the sandbox starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volumes {
    /// The data directory.
    pub data: PathBuf,
    /// Which: those of the command line in its order, then those that the image declares.
    pub used: Vec<Volume>,
    /// Whose their files are on the disk.
    pub ownership: Ownership,
    /// The command's user and group.
    pub owner: (u32, u32),
    /// Whether the command's user is what root is in the image.
    pub root_is_owner: bool,
}

/// A volume of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name; of one that was given none, 64 hexadecimal digits.
    pub name: String,
    /// Where it is shown inside.
    pub destination: PathBuf,
    /// Cannot be changed from inside.
    pub read_only: bool,
    /// Where it is empty, it starts with what the image has there.
    pub copy: bool,
    /// The image declares it, and nobody asked for it.
    pub declared: bool,
    /// How long it is there.
    pub span: Span,
    /// What the sandbox sees, on the host.
    pub source: PathBuf,
}

/// How long a volume is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// Until `volume rm`: it was given a name.
    Named,
    /// Until `rm -v` of its sandbox, or `volume prune`.
    Anonymous,
    /// As long as its sandbox, in whose directory it lies.
    Sandbox(PathBuf),
}

impl Volumes {
    /// Those of a request and an image.
    ///
    /// A sandbox without a record has the image's volumes in memory: it cannot be started again. At the places `kept` the
    /// image has none: what the policy has there stays.
    ///
    /// # Errors
    /// A volume of the image at a place that belongs to the sandbox.
    pub fn of(
        request: &Request,
        config: &ImageConfig,
        users: &Users,
        identity: &Identity,
        place: Place<'_>,
        kept: &[PathBuf],
    ) -> Result<Self, Failure> {
        let mut all = Self {
            data: place.data.to_owned(),
            used: Vec::new(),
            ownership: match identity.mode {
                Mode::Foreign | Mode::Host => Ownership::Kept,
                Mode::Single | Mode::Range => Ownership::Caller,
            },
            owner: (identity.uid, identity.gid),
            root_is_owner: request.user.is_none()
                && (config.user.is_empty()
                    || users.resolve(&config.user).is_ok_and(|user| user.uid == 0))
                && identity.uid != 0,
        };
        // Nothing could name those of a sandbox without a record when it has ended.
        let passing = request.remove || request.life.ttl.is_some() || !place.recorded;
        for mount in &request.mounts {
            if let Mount::Volume(wanted) = mount {
                let name = wanted.name.clone();
                let mut made = all.one(name, &wanted.destination, passing, place);
                made.read_only = wanted.read_only;
                made.copy = wanted.copy;
                all.used.push(made);
            }
        }
        if place.recorded {
            let mut declared = declared(request, config)?;
            declared.retain(|destination| !kept.contains(destination));
            for destination in declared {
                let mut made = all.one(None, &destination, passing, place);
                made.declared = true;
                all.used.push(made);
            }
        }
        Ok(all)
    }

    fn one(
        &self,
        name: Option<String>,
        destination: &Path,
        passing: bool,
        place: Place<'_>,
    ) -> Volume {
        let below = volumes::Volumes::new(&self.data);
        let mut span = Span::Named;
        let name = name.unwrap_or_else(|| {
            span = if passing {
                let number = self.used.len().to_string();
                Span::Sandbox(place.directory.join("volumes").join(number))
            } else {
                Span::Anonymous
            };
            let origin = format!("{} {}", place.id, destination.display());
            Digest::of(origin.as_bytes()).hex()
        });
        Volume {
            source: match &span {
                Span::Sandbox(directory) => volumes::data_of(directory),
                Span::Named | Span::Anonymous => below.mountpoint(&name),
            },
            name,
            destination: destination.to_owned(),
            read_only: false,
            copy: true,
            declared: false,
            span,
        }
    }

    /// The directory of the sandbox, where one of them lies in it.
    pub fn home(&self) -> Option<&Path> {
        self.used.iter().find_map(|volume| match &volume.span {
            Span::Sandbox(directory) => directory.parent().and_then(Path::parent),
            Span::Named | Span::Anonymous => None,
        })
    }

    /// Whether there is one at a place inside.
    pub fn takes(&self, destination: &Path) -> bool {
        self.used
            .iter()
            .any(|volume| volume.destination == destination)
    }
}

/// Where the image declares volumes that no option takes the place of. Two spellings of one place are one volume.
///
/// # Errors
/// A place that belongs to the sandbox.
pub fn declared(request: &Request, config: &ImageConfig) -> Result<Vec<PathBuf>, Failure> {
    let mut places: Vec<PathBuf> = Vec::new();
    for volume in &config.volumes {
        let destination = sandbox_path("the image's VOLUME", volume.as_ref())?;
        let belongs_to_sandbox = ["/", "/proc", "/dev", "/sys"]
            .iter()
            .any(|path| destination == Path::new(path));
        if belongs_to_sandbox || destination.starts_with("/proc") {
            let shown = destination.display();
            return Err(Failure::new(
                format!("the image declares a VOLUME on {shown}, which belongs to the sandbox"),
                "an image without it",
            ));
        }
        let asked = request
            .mounts
            .iter()
            .any(|mount| mount.destination() == destination);
        // Shared memory and queues are there, with the policy's limits.
        let there = [SHM, "/dev/mqueue"]
            .iter()
            .any(|path| destination == Path::new(path));
        if !asked && !there && !places.contains(&destination) {
            places.push(destination);
        }
    }
    Ok(places)
}

/// The mount of a volume.
pub fn mount(volume: &Volume, identity: &Identity, noexec: bool) -> SpecMount {
    let mut options = vec!["bind", "nosuid", "nodev"];
    if volume.read_only {
        options.push("ro");
    }
    if noexec {
        options.push("noexec");
    }
    let mut mount = SpecMount::default();
    if let Some((uids, gids)) = identity.maps_of_kept() {
        options.push("idmap");
        mount
            .set_uid_mappings(Some(uids))
            .set_gid_mappings(Some(gids));
    }
    mount
        .set_destination(volume.destination.clone())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(volume.source.clone()))
        .set_options(Some(options.into_iter().map(str::to_owned).collect()));
    mount
}
