//! What a sandbox runs on: an image becomes a stack of directories.
//!
//! A [`Reference`] names an image, a [`Store`] turns it into an [`Image`]: configuration, users, and one unpacked
//! directory per layer, ready to be the lower directories of an overlay mounted with `userxattr`. Everything an image
//! says is untrusted: digests, sizes and limits are checked while the bytes stream, names are resolved inside the
//! layer's own directory by handle, and a layer appears in the store by rename, whole or not at all.
//!
//! ```no_run
//! use palisade_rootfs::{Ownership, Problem, Platform, Reference, Store};
//!
//! # fn main() -> Result<(), palisade_rootfs::Error> {
//! let store = Store::open("/home/me/.local/share/palisade".as_ref())?;
//! let image = store.resolve(&Reference::parse("oci:/srv/images/busybox")?, &Platform::host(), Ownership::Caller)?;
//! let user = image.users.resolve(&image.config.user)?;
//! println!("{} layers, uid {}", image.layers.len(), user.uid);
//! # Ok(())
//! # }
//! ```
//!
//! # Which copy of a blob is kept
//!
//! An image on disk is read where it lies: its blobs are not copied into the store, because the layers unpacked from
//! them are what runs, and a copy would double the bytes written. The store's own OCI layout (`images/`) holds what has a name
//! here: what was pulled, loaded, imported, committed or copied in by another tool. An [`Intake`] adds to it.

mod config;
mod digest;
mod error;
mod image;
pub mod manifest;
pub mod merged;
pub mod pack;
mod platform;
mod reference;
pub mod registry;
mod source;
mod store;
mod unpack;
mod users;
pub mod volumes;

pub use config::{Healthcheck, ImageConfig};
pub use digest::Digest;
pub use error::{Error, Result};
pub use image::{Image, Layer};
pub use manifest::{Descriptor, Document, Index, Manifest};
pub use platform::Platform;
pub use reference::{Name, Reference};
pub use store::{
    Details, Extent, Findings, Form, Hold, Incoming, Intake, Loaded, Naming, NewLayer, Open,
    Origin, Ownership, Problem, Removed, Store, Stored, Taken, diff_id_of,
};
pub use unpack::Limits;
pub use users::{User, Users};
