//! How much an image may ask for before it is refused.

/// Limits that keep a hostile image from using the machine up. The defaults are far above any image in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one layer's tar stream, and of the files in it (holes counted).
    pub layer_bytes: u64,
    /// Entries of one layer.
    pub entries: u64,
    /// Directories above a file.
    pub depth: usize,
    /// How many times larger than its blob a layer may be, past the first 256 MiB.
    pub ratio: u64,
    /// Layers of one image. An overlay takes 500, docker stops at 127.
    pub layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: 64 << 30,
            entries: 4_000_000,
            depth: 256,
            ratio: 500,
            layers: 127,
        }
    }
}

impl Limits {
    /// Whether a stream of `bytes` made from `compressed` bytes is a decompression bomb.
    pub(crate) fn is_bomb(&self, bytes: u64, compressed: u64) -> bool {
        const FREE: u64 = 256 << 20;
        bytes > FREE.min(self.layer_bytes / 2) && bytes / compressed.max(1) > self.ratio
    }
}

/// The longest path of an entry, in bytes: PATH_MAX less its NUL.
pub(crate) const LONGEST_PATH: usize = 4095;
/// The most a PAX header or a GNU long name may hold, in bytes.
pub(crate) const LONGEST_HEADER: u64 = 1 << 20;
/// The most pieces a sparse file may have.
pub(crate) const MOST_PIECES: usize = 1 << 20;
