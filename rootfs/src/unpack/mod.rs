//! Unpacking a layer: one pass over its blob, from compressed bytes to files.
//!
//! One thread reads, hashes and inflates; the other reads the archive and makes the files; whichever has nothing to do hashes
//! the stream. What was made counts only once every digest and size has been found right: the caller publishes it then.

mod blob;
pub(crate) mod directories;
pub(crate) mod fault;
mod limits;
pub(crate) mod metadata;
mod number;
mod pax;
mod pipe;
pub(crate) mod remove;
mod sparse;
pub(crate) mod tar;
mod tree;

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::Mode;

pub(crate) use blob::{Blob, Bytes, Section, Stream};
pub(crate) use directories::Beneath;
pub(crate) use fault::Fault;
pub use limits::Limits;
use pipe::{CHUNK, Outlet, Pipe};
use tar::{Entry, Reader};
use tree::Tree;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::Ownership;

/// What came of unpacking a layer.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// What was done otherwise than the archive asks.
    pub notes: Vec<String>,
    /// The files depend on the layers beneath, so that they are right only above these.
    pub used_beneath: bool,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Why a layer was not unpacked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It has to be tried again once the layers beneath are there.
    NeedsLower,
    /// It cannot be.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// How to unpack.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    pub ownership: Ownership,
    pub limits: Limits,
    pub beneath: Beneath<'a>,
}

/// Unpacks `blob`, whose tar stream has the digest `diff_id`, into the empty directory `root`.
pub(crate) fn layer(
    blob: Blob<'_>,
    diff_id: Digest,
    root: OwnedFd,
    how: How<'_>,
) -> Result<Unpacked, Failure> {
    let name = diff_id.to_string();
    let pipe = Pipe::default();
    let (produced, written) = std::thread::scope(|scope| {
        // The writer has a thread of its own for the sake of the umask, which unshare makes the thread's own.
        let writer = scope.spawn(|| write(Outlet::new(&pipe), root, how, &name));
        let produced = inflate(blob, &pipe, &how.limits, &name);
        (produced, writer.join())
    });
    let written = written.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // What the producer found comes first: the writer then only saw a stream cut short. A writer that gave up first is no
    // error at the producer.
    let unpacked = match (produced, written) {
        (Err(error), _) => return Err(error.into()),
        (_, Err(failure)) => return Err(failure),
        (Ok(()), Ok(unpacked)) => unpacked,
    };
    let found = pipe.digest();
    if found != diff_id {
        return Err(Error::DigestMismatch {
            what: "layer".to_owned(),
            expected: diff_id,
            found,
        }
        .into());
    }
    Ok(unpacked)
}

/// Tells the writer that the stream failed, unless told otherwise.
struct Ending<'a>(&'a Pipe, bool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

fn inflate(blob: Blob<'_>, pipe: &Pipe, limits: &Limits, name: &str) -> Result<()> {
    let mut ending = Ending(pipe, true);
    let mut stream = Stream::new(blob)?;
    let mut total = 0_u64;
    loop {
        let mut chunk = pipe.buffer();
        chunk.resize(CHUNK, 0);
        // Chunks are filled to the brim, so that a tar header never lies across two.
        let mut filled = 0;
        while filled < CHUNK {
            match stream.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(stream_error(name, &e)),
            }
        }
        chunk.truncate(filled);
        total += filled as u64;
        if total > limits.layer_bytes {
            return Err(Error::limit(
                format!("the size of layer {name}"),
                format!("{} bytes", limits.layer_bytes),
            ));
        }
        if limits.is_bomb(total, stream.blob().consumed()) {
            return Err(Error::limit(
                format!("the compression of layer {name}"),
                format!("{} to 1", limits.ratio),
            ));
        }
        if filled == 0 {
            break;
        }
        if !pipe.push(chunk) {
            ending.1 = false;
            return Ok(());
        }
    }
    stream.into_blob().finish()?;
    ending.1 = false;
    Ok(())
}

/// Counts the bytes of a layer's files, making none of them.
pub(crate) fn measure(blob: Blob<'_>, limits: &Limits, name: &str) -> Result<u64> {
    let stream = Stream::new(blob)?;
    let mut archive = Reader::new(Inflated(io::BufReader::with_capacity(CHUNK, stream)));
    let mut entry = Entry::default();
    let mut total = 0_u64;
    let mut entries = 0;
    loop {
        match archive.next(&mut entry) {
            Ok(true) => total = total.saturating_add(entry.size),
            Ok(false) => return Ok(total),
            Err(fault) => return Err(fault.at(name, &entry.path)),
        }
        entries += 1;
        if entries > limits.entries {
            return Err(Error::limit(
                format!("the number of entries of layer {name}"),
                limits.entries.to_string(),
            ));
        }
        if total > limits.layer_bytes {
            return Err(Error::limit(
                format!("the size of layer {name}"),
                format!("{} bytes", limits.layer_bytes),
            ));
        }
    }
}

/// A layer's tar stream where it is only looked through.
struct Inflated<'a>(io::BufReader<Stream<'a>>);

impl Read for Inflated<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl io::BufRead for Inflated<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }
}

impl tar::Input for Inflated<'_> {}

fn stream_error(name: &str, error: &io::Error) -> Error {
    let reason = if error.kind() == io::ErrorKind::UnexpectedEof {
        "the compressed data is cut off".to_owned()
    } else {
        format!("the compressed data is damaged: {error}")
    };
    Error::Layer {
        layer: name.to_owned(),
        entry: Vec::new(),
        reason,
    }
}

fn write(outlet: Outlet<'_>, root: OwnedFd, how: How<'_>, name: &str) -> Result<Unpacked, Failure> {
    // Where a seccomp filter refuses unshare the umask stays as it is, and modes are set by an extra call.
    let masked = unshare(CloneFlags::CLONE_FS).is_err();
    if !masked {
        rustix::process::umask(Mode::empty());
    }
    let tree = Tree::new(root, how.beneath, how.ownership, how.limits, masked);
    let mut entry = Entry::default();
    fill(outlet, tree, &mut entry).map_err(|fault| match fault {
        Fault::NeedsLower => Failure::NeedsLower,
        fault => Failure::Error(fault.at(name, &entry.path)),
    })
}

fn fill(outlet: Outlet<'_>, mut tree: Tree<'_>, entry: &mut Entry) -> Result<Unpacked, Fault> {
    let mut archive = Reader::new(outlet);
    while archive.next(entry)? {
        tree.add(entry, &mut archive)?;
    }
    entry.path.clear();
    let bytes = tree.bytes();
    let (notes, used_beneath) = tree.finish()?;
    // What follows the archive's end belongs to the digest.
    io::copy(&mut archive.into_input(), &mut io::sink())?;
    Ok(Unpacked {
        notes,
        used_beneath,
        bytes,
    })
}
