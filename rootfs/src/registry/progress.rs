//! What happens while an image is on its way, for whoever shows it.

use crate::digest::Digest;
use crate::manifest::Descriptor;

/// Told of what happens, from several threads.
pub trait Progress: Sync {
    /// Something has happened.
    fn tell(&self, event: Event<'_>);
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// These blobs are going to be carried, or found to be there.
    Planned(&'a [Descriptor]),
    /// So many bytes of a blob have been carried so far.
    At(Digest, u64),
    /// A blob was there already.
    Present(Digest),
    /// A registry has a blob in another of its repositories, and uses that.
    Mounted(Digest),
    /// A blob has been carried whole, checked, and unpacked where it is a layer that comes in.
    Done(Digest),
}

/// Tells nobody.
impl Progress for () {
    fn tell(&self, _: Event<'_>) {}
}
