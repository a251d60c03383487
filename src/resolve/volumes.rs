//! Named volumes of a sandbox: which, where, and whose their files are.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount as SpecMount;
use palisade_rootfs::{ImageConfig, Ownership, Users};

use super::identity::{Identity, Mode};
use crate::request::{Mount, Request, Volume};

/// What has to be done about volumes before the sandbox starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volumes {
    /// The data directory.
    pub data: PathBuf,
    /// Which, in the order given.
    pub used: Vec<Volume>,
    /// Whose their files are on the disk.
    pub ownership: Ownership,
    /// The command's user and group.
    pub owner: (u32, u32),
    /// Whether the command's user is what root is in the image.
    pub root_is_owner: bool,
}

impl Volumes {
    /// Those of a request.
    pub fn of(
        request: &Request,
        config: &ImageConfig,
        users: &Users,
        identity: &Identity,
        data: &Path,
    ) -> Self {
        let used = request.mounts.iter().filter_map(|mount| match mount {
            Mount::Volume(volume) => Some(volume.clone()),
            _ => None,
        });
        let wants_root =
            config.user.is_empty() || users.resolve(&config.user).is_ok_and(|user| user.uid == 0);
        Self {
            data: data.to_owned(),
            used: used.collect(),
            ownership: match identity.mode {
                Mode::Foreign | Mode::Host => Ownership::Kept,
                Mode::Single | Mode::Range => Ownership::Caller,
            },
            owner: (identity.uid, identity.gid),
            root_is_owner: request.user.is_none() && wants_root && identity.uid != 0,
        }
    }
}

/// The mount of a volume that lies in `source`.
pub fn mount(volume: &Volume, source: PathBuf, identity: &Identity) -> SpecMount {
    let mut options = vec!["bind", "nosuid", "nodev"];
    if volume.read_only {
        options.push("ro");
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
        .set_source(Some(source))
        .set_options(Some(options.into_iter().map(str::to_owned).collect()));
    mount
}
