//! The store: unpacked layers, and what is remembered of the images they came from.
//!
//! ```text
//! images/                  an OCI image layout: images that have a name here
//! partial/                 blobs that are arriving
//! sizes/<diff-id>          how many bytes the files of a layer have
//! layers/<diff-id>/        a layer whose files belong to the caller (Ownership::Caller)
//! layers-kept/<diff-id>/   a layer whose files belong to whom the archive says (Ownership::Kept)
//! records/                 one small file per resolved reference: what a second run reads instead of the image
//! ```
//!
//! A layer that could not be unpacked without looking at those beneath it (a hard link to a lower file, a parent
//! directory it does not list) is named `<diff-id>.<chain-id of those beneath>`: above other layers it is another tree,
//! and must not be shared with them.
//!
//! Layers are not flushed to disk one by one, as other tools do not either: after a power failure a layer written in the seconds
//! before it is to be removed and unpacked again.

mod check;
mod hold;
mod images;
mod intake;
mod layers;
mod layout;
mod load;
mod lock;
mod make;
mod record;
mod remove;
mod save;
mod stack;
mod used;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

pub use self::check::{Findings, Problem};
pub use self::hold::Hold;
pub use self::images::{Details, Stored};
pub use self::intake::{Incoming, Intake, Open, Taken};
use self::layers::Layers;
pub use self::layers::diff_id_of;
pub use self::load::{Loaded, Naming, Origin};
pub use self::make::NewLayer;
use self::record::{Identity, Key};
pub use self::remove::{Extent, Removed};
pub use self::save::Form;
pub(crate) use self::stack::Below;
use crate::config::ImageConfig;
use crate::error::{Error, Result};
use crate::image::{Image, Layer};
use crate::merged::open_regular;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::source::layout::{Wanted, find};
use crate::source::{Place, Source, docker};
use crate::unpack::Limits;
use crate::users::Users;

/// Whose the files of unpacked layers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The caller's: for a user namespace that maps a single id. Setuid and setgid bits are dropped, devices left out.
    Caller,
    /// Those of the archive: for root, and inside a user namespace that maps a range of ids.
    Kept,
}

impl Ownership {
    /// Where the layers of a store lie that are unpacked so.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Caller => "layers",
            Self::Kept => "layers-kept",
        }
    }
}

/// A directory of images and unpacked layers, private to its user.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    limits: Limits,
}

impl Store {
    /// Opens the store in `dir` (`$XDG_DATA_HOME/palisade`, for root `/var/lib/palisade`), which need not exist yet.
    ///
    /// # Errors
    /// [`Error::Store`] if the directory belongs to someone else or others may write to it.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).map_err(|e| Error::io("find", dir, e))?;
        let refuse = |reason: &str| {
            Err(Error::Store {
                path: dir.clone(),
                reason: reason.to_owned(),
            })
        };
        match rustix::fs::stat(&dir) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                return refuse("it is not a directory");
            }
            Ok(stat) if stat.st_mode & 0o022 != 0 => {
                return refuse("others may write to it (chmod go-w it)");
            }
            Ok(stat) => {
                let me = rustix::process::geteuid().as_raw();
                if stat.st_uid != me && !(me == 0 && in_user_namespace()) {
                    return refuse("it belongs to another user");
                }
            }
            Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::io("look at the store", &dir, e)),
        }
        Ok(Self {
            dir,
            limits: Limits::default(),
        })
    }

    /// The same store with other limits on what images may ask for.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes an image ready to run: finds it, and unpacks those of its layers the store has not got.
    ///
    /// What was resolved before, from a file or index that has not changed since, is read from one small record: the
    /// image is not looked at again. An image given by `dir:` is a single layer, the directory itself.
    ///
    /// # Errors
    /// Any [`Error`]; nothing half-made is left in the store.
    pub fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        ownership: Ownership,
    ) -> Result<Image> {
        let absolute =
            |path: &Path| std::path::absolute(path).map_err(|e| Error::io("find", path, e));
        match reference {
            Reference::Host => Err(Error::Reference {
                text: "host".to_owned(),
                reason: "it is this machine, which the store has no layers of".to_owned(),
            }),
            Reference::Directory(path) => prepared(path),
            Reference::OciLayout { dir, tag } => {
                let dir = absolute(dir)?;
                let wanted = tag.as_deref().map_or(Wanted::Only, Wanted::Tag);
                let key = Key::new("oci", &dir, tag.as_deref(), platform, ownership);
                self.remembered(&key, &dir.join("index.json"), ownership, |_| {
                    let place = Place::directory(&dir)?;
                    let source = find(&place, wanted, platform)?;
                    Ok((place, source))
                })
            }
            Reference::OciArchive { file, tag } => {
                let file = absolute(file)?;
                let wanted = tag.as_deref().map_or(Wanted::Only, Wanted::Tag);
                let key = Key::new("oci-archive", &file, tag.as_deref(), platform, ownership);
                self.remembered(&key, &file, ownership, |open| {
                    let place = self.archive(&file, open)?;
                    let source = find(&place, wanted, platform)?;
                    Ok((place, source))
                })
            }
            Reference::DockerArchive { file, reference } => {
                let file = absolute(file)?;
                let tag = reference.as_deref();
                let key = Key::new("docker-archive", &file, tag, platform, ownership);
                self.remembered(&key, &file, ownership, |open| {
                    let place = self.archive(&file, open)?;
                    let source = docker::find(&place, tag, platform)?;
                    Ok((place, source))
                })
            }
            Reference::Registry(name) => self.stored(Wanted::Name(name), platform, ownership),
            Reference::Id(id) => self.stored(Wanted::Id(*id), platform, ownership),
        }
    }

    /// An image of the store's own layout.
    fn stored(
        &self,
        wanted: Wanted<'_>,
        platform: &Platform,
        ownership: Ownership,
    ) -> Result<Image> {
        let dir = self.dir.join("images");
        // As it was typed too: the beginning of an id would complete to a name.
        let (name, key) = match wanted {
            Wanted::Name(name) => (name.to_string(), format!("{name} {}", name.typed)),
            Wanted::Id(id) => (id.to_string(), id.to_string()),
            Wanted::Tag(tag) => (tag.to_owned(), tag.to_owned()),
            Wanted::Only => (String::new(), String::new()),
        };
        let key = Key::new("store", &dir, Some(&key), platform, ownership);
        let found = self.remembered(&key, &dir.join("index.json"), ownership, |_| {
            let place = Place::directory(&dir)?;
            let source = find(&place, wanted, platform)?;
            Ok((place, source))
        });
        found.map_err(|error| match error {
            Error::NoSuchImage { .. } => Error::NotInStore { name },
            Error::Io {
                ref path,
                ref source,
                ..
            } if path.starts_with(&dir) && source.kind() == std::io::ErrorKind::NotFound => {
                Error::NotInStore { name }
            }
            error => error,
        })
    }

    /// The files of an archive.
    fn archive(&self, file: &Path, open: File) -> Result<Place> {
        Place::archive(file, open, &self.made("records")?, &self.limits)
    }

    /// Resolves through the record of an earlier time, else by `find`, which is given the file opened.
    /// `file` is what tells whether the record still holds: the archive, or a layout's index.json.
    fn remembered(
        &self,
        key: &Key,
        file: &Path,
        ownership: Ownership,
        find: impl FnOnce(File) -> Result<(Place, Source)>,
    ) -> Result<Image> {
        let records = self.dir.join("records");
        if let Some(image) = record::read(&records, key, file, &self.layers_dir(ownership)) {
            return Ok(image);
        }
        // The identity is taken before the content is read: what changes meanwhile makes the record stale.
        let opened = open_image(file)?;
        let identity = Identity::of(&opened).map_err(|e| Error::io("look at", file, e))?;
        let (place, source) = find(opened)?;
        let image = self.unpack(&place, source, ownership)?;
        if let Some(identity) = identity {
            let place = (!file.starts_with(self.dir.join("images"))).then_some(file);
            record::write(&self.made("records")?, key, (&identity, place), &image)?;
        }
        Ok(image)
    }

    fn layers_dir(&self, ownership: Ownership) -> PathBuf {
        self.dir.join(ownership.directory())
    }

    /// Unpacks what is missing of an image.
    fn unpack(&self, place: &Place, source: Source, ownership: Ownership) -> Result<Image> {
        if source.layers.len() > self.limits.layers {
            return Err(Error::limit(
                "the number of the image's layers",
                self.limits.layers.to_string(),
            ));
        }
        if source.layers.is_empty() {
            return Err(Error::NotAnImage {
                path: place.path().to_owned(),
                kind: "an image that can be run",
                reason: "it has no layers".to_owned(),
            });
        }
        let dir = self.made(ownership.directory())?;
        let store = Layers::new(dir, self.made("sizes")?, ownership, self.limits)?;
        let (unpacked, hold) = store.ensure(place, &source.layers)?;
        let mut notes = Vec::new();
        let mut layers: Vec<Layer> = Vec::new();
        for (packed, path) in source.layers.iter().zip(unpacked) {
            for note in store.notes(&path) {
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
            if is_opaque(&path) {
                // An overlay does not look for the mark on its roots.
                layers.clear();
            }
            layers.retain(|layer| layer.path != path);
            layers.push(Layer {
                diff_id: Some(packed.diff_id),
                digest: packed.digest,
                path,
            });
        }
        let paths: Vec<&Path> = layers.iter().map(|layer| layer.path.as_path()).collect();
        Ok(Image {
            users: Users::read(&paths)?,
            config: source.document.config,
            platform: Some(source.document.platform),
            manifest_digest: source.manifest_digest,
            config_digest: Some(source.config_digest),
            layers,
            notes,
            fresh: true,
            hold,
        })
    }

    /// A directory of the store, made if it is missing. It belongs to whom the store belongs to, for others act in it as root of
    /// a user namespace.
    fn made(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.is_dir() {
            return Ok(path);
        }
        let fail = |e: Errno| Error::io("make the store's directory", &path, e);
        if let Some(above) = self.dir.parent() {
            std::fs::create_dir_all(above)
                .map_err(|e| Error::io("make the directory of the store", above, e))?;
        }
        for dir in [&self.dir, &path] {
            match rustix::fs::mkdir(dir, Mode::RWXU) {
                Ok(()) => {
                    // A setgid directory above would pass its bit and group on to every file of a layer.
                    rustix::fs::chmod(dir, Mode::RWXU).map_err(fail)?;
                    if *dir == path {
                        give(&path, &self.dir).map_err(fail)?;
                    }
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Ok(path)
    }
}

/// Gives `path` to the owner of `to`, where root of a user namespace acts in somebody's store.
fn give(path: &Path, to: &Path) -> rustix::io::Result<()> {
    let owner = rustix::fs::stat(to)?;
    if owner.st_uid != rustix::process::geteuid().as_raw() {
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(owner.st_uid),
            rustix::fs::Gid::from_raw(owner.st_gid),
        );
        rustix::fs::chownat(
            rustix::fs::CWD,
            path,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

/// Whether ids are mapped: user namespaces but the first list another map (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Opens an archive or index without waiting for a FIFO's writer.
fn open_image(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::io("open the image", path, e))?;
    let file = File::from(open);
    if !file
        .metadata()
        .map_err(|e| Error::io("look at", path, e))?
        .is_file()
    {
        let reason =
            "it is not a regular file (a directory is given as oci:DIR or dir:PATH)".to_owned();
        return Err(Error::NotAnImage {
            path: path.to_owned(),
            kind: "an image",
            reason,
        });
    }
    Ok(file)
}

fn is_opaque(layer: &Path) -> bool {
    let mut value = [0_u8; 2];
    rustix::fs::lgetxattr(layer, "user.overlay.opaque", &mut value)
        .is_ok_and(|length| &value[..length] == b"y")
}

/// A root directory somebody has prepared.
fn prepared(path: &Path) -> Result<Image> {
    let not = |reason: &str| Error::NotAnImage {
        path: path.to_owned(),
        kind: "a root directory",
        reason: reason.to_owned(),
    };
    let real =
        std::fs::canonicalize(path).map_err(|e| Error::io("find the root directory", path, e))?;
    if real == Path::new("/") {
        return Err(not(
            "it is this machine's own root; `host` gives a safe part of it",
        ));
    }
    if !real.is_dir() {
        return Err(not("it is not a directory"));
    }
    Ok(Image {
        config: ImageConfig::default(),
        platform: None,
        manifest_digest: None,
        config_digest: None,
        users: Users::read(&[&real])?,
        layers: vec![Layer {
            diff_id: None,
            digest: None,
            path: real,
        }],
        notes: Vec::new(),
        fresh: true,
        hold: Hold::default(),
    })
}

/// Opens a file of the store's own.
fn open_own(dir: &OwnedFd, name: &str) -> rustix::io::Result<File> {
    open_regular(dir, name.as_ref())
}
