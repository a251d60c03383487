//! Policies by name or in files, with what they extend.

use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::builtin;
use crate::error::Error;
use crate::format::{Unextendable, read_policy};
use crate::nearest::nearest;
use crate::policy::Policy;
use crate::reader::{self, Reader};

/// The built-in that a file extends which names none.
const DEFAULT: &str = "default";

/// No policy file is larger than this many bytes; what is larger is no policy file.
const MOST_BYTES: u64 = 1 << 20;

/// How many files may extend each other: each is a call within a call.
const MOST_FILES: usize = 32;

impl Policy {
    /// The built-in policy `name`. It takes microseconds: nothing is read or parsed.
    #[must_use]
    pub fn builtin(name: &str) -> Option<Self> {
        builtin::policy(name)
    }

    /// The name and the description of every built-in policy.
    #[must_use]
    pub fn builtins() -> &'static [(&'static str, &'static str)] {
        builtin::POLICIES
    }

    /// What `--policy` names: a file if there is a `/` in it or it ends in `.toml`, else a built-in.
    ///
    /// # Errors
    /// [`Error::UnknownPolicy`], and those of [`Policy::load`].
    pub fn named(name: &str) -> Result<Self, Error> {
        if is_path(name) {
            return Self::load(Path::new(name));
        }
        let names = || Self::builtins().iter().map(|(name, _)| *name);
        Self::builtin(name).ok_or_else(|| Error::UnknownPolicy {
            name: name.to_owned(),
            nearest: nearest(name, names()).map(str::to_owned),
            known: names().collect::<Vec<_>>().join(", "),
        })
    }

    /// Reads a policy file and what it extends; a file that extends nothing extends `default`. A relative path in
    /// `extends` starts at the file's own directory.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::File`] for an unknown key, a wrong type, a contradiction, or files that extend each
    /// other in a circle.
    pub fn load(path: &Path) -> Result<Self, Error> {
        load(path, &mut Vec::new())
    }

    /// Reads a policy file's text; `origin` names it in errors. It can extend built-ins, and files by absolute path.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        read(text, origin, "unnamed", Path::new("/"), &mut Vec::new())
    }
}

fn load(path: &Path, chain: &mut Vec<PathBuf>) -> Result<Policy, Error> {
    let text = text(path)?;
    chain.push(path.canonicalize().map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    read(
        &text,
        &path.display().to_string(),
        &stem,
        path.parent().unwrap_or(Path::new("")),
        chain,
    )
}

fn read(
    text: &str,
    origin: &str,
    stem: &str,
    directory: &Path,
    chain: &mut Vec<PathBuf>,
) -> Result<Policy, Error> {
    read_policy(Reader { text, origin }, stem, |extends| {
        let extends = extends.unwrap_or(DEFAULT);
        if !is_path(extends) {
            return Policy::named(extends)
                .map_err(|error| Unextendable::Because(error.to_string()));
        }
        let path = directory.join(extends);
        let unreadable = |error: &dyn std::fmt::Display| Unextendable::Because(error.to_string());
        let real = path
            .canonicalize()
            .map_err(|error| unreadable(&format!("cannot read {}: {error}", path.display())))?;
        if chain.contains(&real) {
            let mut circle: Vec<_> = chain
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            circle.push(real.display().to_string());
            return Err(Unextendable::Because(format!(
                "files extend each other in a circle: {}",
                circle.join(" → ")
            )));
        }
        if chain.len() >= MOST_FILES {
            return Err(Unextendable::Because(format!(
                "more than {MOST_FILES} files extend each other"
            )));
        }
        load(&path, chain).map_err(Unextendable::Error)
    })
}

/// The text of a policy file.
pub(crate) fn text(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let refused = |why: &str| failed(io::Error::other(why.to_owned()));
    // Opening a FIFO would wait for its other end, and what is asked afterwards is the file that is read.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    // A device would never end.
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(refused("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    // Its length is not asked for: files of /proc say 0, and others grow.
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(refused("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let good = String::from_utf8_lossy(good);
        let origin = path.display().to_string();
        Reader {
            text: &good,
            origin: &origin,
        }
        .error(
            &(good.len()..good.len()),
            format!(
                "expected text in UTF-8, found the byte 0x{:02x}",
                error.as_bytes()[good.len()]
            ),
            Some(reader::SYNTAX.to_owned()),
        )
    })
}

fn is_path(name: &str) -> bool {
    name.contains('/')
        || Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "toml")
}
