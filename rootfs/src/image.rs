//! An image that is ready to be run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::platform::Platform;
use crate::store::Hold;
use crate::users::Users;

/// An image whose layers are all unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What the image says about running it. Empty for a prepared directory.
    pub config: ImageConfig,
    /// What it is made for; none for a prepared directory.
    pub platform: Option<Platform>,
    /// The manifest's digest; none for a prepared directory and for docker archives, which have no manifest of their own.
    pub manifest_digest: Option<Digest>,
    /// The configuration's digest, which is docker's image id; none for a prepared directory.
    pub config_digest: Option<Digest>,
    /// The layers, the bottom one first; at least one. A layer that occurs twice is listed where it occurs last,
    /// because an overlay takes no directory twice.
    pub layers: Vec<Layer>,
    /// What was done otherwise than the image asked, in words for the user.
    pub notes: Vec<String>,
    /// Whether nobody was told these notes yet: it was unpacked just now.
    #[serde(skip)]
    pub fresh: bool,
    /// `/etc/passwd` and `/etc/group` as the merged layers have them.
    #[serde(skip)]
    pub users: Users,
    /// Keeps the layers from being removed while the image is in use.
    #[serde(skip)]
    pub hold: Hold,
}

/// One unpacked layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the layer's tar stream; none for a prepared directory.
    pub diff_id: Option<Digest>,
    /// Digest of the blob it came from; none where the source has none (docker archives, prepared directories).
    pub digest: Option<Digest>,
    /// The directory, absolute: a lower directory of the overlay.
    pub path: PathBuf,
}
