//! Looking a store through: is everything that a name leads to here, and is it what its digest says?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::layout::Layout;
use super::remove::Extent;
use super::used::Used;
use super::{Removed, Store};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, Document};
use crate::unpack::{Blob, Bytes};

/// What is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The list of names cannot be read: why.
    Index(String),
    /// A blob is not what its name says.
    Damaged(Digest),
    /// An image lacks a part: its name or digest, and which blob.
    Incomplete(String, Digest),
    /// A document of an image cannot be understood: its name or digest, and why.
    Broken(String, String),
    /// A blob that no name leads to, with its bytes.
    Orphan(Digest, u64),
    /// What is left of a blob that did not arrive, by the blob's digits.
    Partial(String),
}

impl Problem {
    /// Whether something is lost, and not only superfluous.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Orphan(..) | Self::Partial(_))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(why) => write!(f, "damaged: index.json: {why}"),
            Self::Damaged(digest) => write!(f, "damaged: blob {digest}"),
            Self::Incomplete(image, digest) => {
                write!(f, "incomplete: {image} lacks the blob {digest}")
            }
            Self::Broken(image, why) => write!(f, "broken: {image}: {why}"),
            Self::Orphan(digest, bytes) => {
                write!(
                    f,
                    "orphan: blob {digest} ({bytes} bytes), which no name leads to"
                )
            }
            Self::Partial(name) => write!(f, "partial: blob sha256:{name} did not arrive whole"),
        }
    }
}

/// What looking through a store found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Blobs that were read.
    pub blobs: usize,
    /// Entries of index.json that are complete.
    pub images: usize,
    /// Entries that are not.
    bad: Vec<Descriptor>,
}

impl Store {
    /// Reads every blob of the store and compares it with its digest; follows every name to everything it needs.
    ///
    /// # Errors
    /// [`Error::Io`] if the store cannot be read.
    pub fn check(&self) -> Result<Findings> {
        let mut findings = Findings::default();
        let Some(layout) = self.layout()? else {
            return Ok(findings);
        };
        let mut sizes = BTreeMap::new();
        for digest in layout.blobs()? {
            findings.blobs += 1;
            match verify(&layout, digest) {
                Ok(size) => drop(sizes.insert(digest, size)),
                Err(Error::DigestMismatch { .. } | Error::NotAnImage { .. }) => {
                    findings.problems.push(Problem::Damaged(digest));
                }
                Err(error) => return Err(error),
            }
        }
        let entries = match layout.index() {
            Ok(index) => index.manifests,
            Err(error) => {
                // Without it nothing can be said of what is needed.
                findings.problems.push(Problem::Index(error.to_string()));
                return Ok(findings);
            }
        };
        let mut used = Used::default();
        for entry in entries {
            used.add(&layout, &entry);
            let before = findings.problems.len();
            let called = entry
                .name()
                .map_or_else(|| entry.digest.to_string(), str::to_owned);
            follow(&layout, &entry, &called, &sizes, &mut findings.problems);
            if findings.problems.len() == before {
                findings.images += 1;
            } else {
                findings.bad.push(entry);
            }
        }
        for (digest, size) in sizes {
            if !used.blobs.contains(&digest) {
                findings.problems.push(Problem::Orphan(digest, size));
            }
        }
        let partial = std::fs::read_dir(self.dir.join("partial"));
        for entry in partial.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if Digest::from_hex(&name).is_some() {
                findings.problems.push(Problem::Partial(name));
            }
        }
        Ok(findings)
    }

    /// Removes what [`Store::check`] found to be damaged, incomplete or superfluous, so that pulling or loading brings it back whole. A list
    /// of names that cannot be read is put aside as `index.json.damaged`, and every image that is whole gets an entry without a name.
    ///
    /// # Errors
    /// [`Error::Store`] while content is arriving; [`Error::Io`].
    pub fn repair(
        &self,
        findings: &Findings,
        keep: &BTreeSet<std::path::PathBuf>,
    ) -> Result<Removed> {
        let Some(layout) = self.layout()? else {
            return Ok(Removed::default());
        };
        let mut bytes = 0;
        for problem in &findings.problems {
            match problem {
                Problem::Damaged(digest) => bytes += layout.remove(*digest)?.unwrap_or(0),
                Problem::Index(_) => self.rebuild(&layout)?,
                _ => {}
            }
        }
        // Without its damaged blobs, an image may be incomplete that was not before.
        let again = self.check()?;
        let mut removed = self.remove(Extent::Unused, keep, move |_| Ok(again.bad))?;
        if removed.deferred {
            return Err(Error::Store {
                path: self.dir.clone(),
                reason: "content is arriving in it (repair it when that has ended)".to_owned(),
            });
        }
        removed.bytes += bytes;
        Ok(removed)
    }

    /// A new list of names, from the manifests that are here.
    fn rebuild(&self, layout: &Layout) -> Result<()> {
        let path = layout.path();
        let index = path.join("index.json");
        std::fs::rename(&index, path.join("index.json.damaged"))
            .map_err(|e| Error::io("put aside", &index, e))?;
        let layout = self.make_layout()?;
        let mut found = Vec::new();
        for digest in layout.blobs()? {
            let Ok(Some(part)) = layout
                .place()
                .open(&format!("blobs/sha256/{}", digest.hex()))
            else {
                continue;
            };
            let mut descriptor = Descriptor::of(crate::manifest::media_type::OCI_MANIFEST, b"");
            (descriptor.digest, descriptor.size) = (digest, part.length);
            if let Ok(Document::Manifest(_)) = layout.document(&descriptor)
                && layout.require(&descriptor).is_ok()
            {
                found.push(descriptor);
            }
        }
        layout.edit(|entries| {
            entries.extend(found.iter().map(|d| super::layout::Entry::new(d, None)));
            Ok(())
        })
    }
}

/// Reads a blob; its length if it is what its name says.
fn verify(layout: &Layout, digest: Digest) -> Result<u64> {
    let name = format!("blobs/sha256/{}", digest.hex());
    let Some(part) = layout.place().open(&name)? else {
        return Ok(0);
    };
    let length = part.length;
    let bytes = Bytes::new(Blob {
        source: Box::new(part.file),
        length,
        digest: None,
    });
    let found = bytes
        .digest()
        .map_err(|e| Error::io("read", &layout.path().join(&name), e))?;
    if found == digest {
        return Ok(length);
    }
    Err(Error::DigestMismatch {
        what: "blob".to_owned(),
        expected: digest,
        found,
    })
}

/// Finds what an image lacks.
fn follow(
    layout: &Layout,
    entry: &Descriptor,
    called: &str,
    sizes: &BTreeMap<Digest, u64>,
    problems: &mut Vec<Problem>,
) {
    let mut seen = BTreeSet::new();
    let mut todo = vec![(entry.clone(), true)];
    while let Some((descriptor, needed)) = todo.pop() {
        if !seen.insert(descriptor.digest) {
            continue;
        }
        if sizes.get(&descriptor.digest) != Some(&descriptor.size) {
            if needed {
                problems.push(Problem::Incomplete(called.to_owned(), descriptor.digest));
            }
            continue;
        }
        match layout.document(&descriptor) {
            // An index may tell of more than is here.
            Ok(Document::Index(index)) => {
                todo.extend(index.manifests.into_iter().map(|d| (d, false)));
            }
            Ok(Document::Manifest(manifest)) => {
                for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    if sizes.get(&part.digest) != Some(&part.size) {
                        problems.push(Problem::Incomplete(called.to_owned(), part.digest));
                    }
                }
            }
            Err(error) => problems.push(Problem::Broken(called.to_owned(), error.to_string())),
        }
    }
}
