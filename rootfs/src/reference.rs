//! What a user calls an image.

use std::fmt;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// A parsed image reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `oci:DIR[:TAG]`: an OCI image layout. The tag may be a digest. The directory ends at the first colon.
    OciLayout {
        /// The layout's directory.
        dir: PathBuf,
        /// Which of its images; needed where there are several.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: an OCI image layout in a tar file.
    OciArchive {
        /// The tar file, plain or gzip.
        file: PathBuf,
        /// Which of its images; needed where there are several.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:REF]`: what `docker save` writes.
    DockerArchive {
        /// The tar file, plain or gzip.
        file: PathBuf,
        /// Which of its images (`name[:tag]`); needed where there are several.
        reference: Option<String>,
    },
    /// `dir:PATH`: a prepared root directory.
    Directory(PathBuf),
    /// `host`: this machine's own programs. Not an image of the store.
    Host,
    /// A name in docker's grammar: looked up in the store.
    Registry(Name),
    /// 64 hexadecimal digits, with or without `sha256:` before them: an image of the store, by its id.
    Id(Digest),
}

/// A name in docker's grammar, completed: `debian` is `docker.io/library/debian:latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Host and port.
    pub registry: String,
    /// The path there.
    pub repository: String,
    /// The tag; `latest` if neither tag nor digest was given.
    pub tag: Option<String>,
    /// The manifest's digest, if pinned.
    pub digest: Option<Digest>,
    /// As typed.
    pub typed: String,
}

const LONGEST: usize = 4096;

impl Reference {
    /// Parses what a user typed.
    ///
    /// # Errors
    /// [`Error::Reference`] with the reason.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |reason: &str| Error::Reference {
            text: text.chars().take(200).collect(),
            reason: reason.to_owned(),
        };
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.len() > LONGEST {
            return Err(bad("it is longer than 4096 bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err(bad("it has a control character"));
        }
        if text == "host" {
            return Ok(Self::Host);
        }
        let place = |rest: &str| -> Result<(PathBuf, Option<String>)> {
            let (path, tag) = rest
                .split_once(':')
                .map_or((rest, None), |(path, tag)| (path, Some(tag)));
            match (path, tag) {
                ("", _) => Err(bad("the path is missing")),
                (_, Some("")) => Err(bad("nothing follows the last colon")),
                (path, tag) => Ok((path.into(), tag.map(str::to_owned))),
            }
        };
        match text.split_once(':') {
            Some(("oci", rest)) => place(rest).map(|(dir, tag)| Self::OciLayout { dir, tag }),
            Some(("oci-archive", rest)) => {
                place(rest).map(|(file, tag)| Self::OciArchive { file, tag })
            }
            Some(("docker-archive", rest)) => {
                place(rest).map(|(file, reference)| Self::DockerArchive { file, reference })
            }
            Some(("dir", "")) => Err(bad("the path is missing")),
            Some(("dir", path)) => Ok(Self::Directory(path.into())),
            _ if text.starts_with(['/', '.', '~']) => Err(bad(
                "a path needs to say what it is: oci:DIR, oci-archive:FILE, docker-archive:FILE or dir:PATH",
            )),
            Some((
                kind @ ("docker" | "containers-storage" | "docker-daemon" | "ostree" | "sif"),
                rest,
            )) if rest.starts_with('/') || kind != "docker" => Err(bad(&format!(
                "{kind}: is not a place palisade reads; copy the image with `skopeo copy` to oci:DIR"
            ))),
            _ => match text.parse().ok().or_else(|| Digest::from_hex(text)) {
                Some(id) => Ok(Self::Id(id)),
                None => Name::parse(text).map(Self::Registry),
            },
        }
    }
}

impl Name {
    /// Parses docker's reference grammar (github.com/distribution/reference).
    ///
    /// # Errors
    /// [`Error::Reference`] with the reason.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |reason: &str| Error::Reference {
            text: text.chars().take(200).collect(),
            reason: reason.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(digest.parse::<Digest>().map_err(|reason| bad(&reason))?),
            ),
            None => (text, None),
        };
        // The tag's colon comes after the last slash; one before it belongs to a port.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match rest[slash..].split_once(':') {
            Some((last, tag)) => (&rest[..slash + last.len()], Some(tag)),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad(
                "a tag has up to 128 letters, digits, `_`, `.`, `-` and starts with neither `.` nor `-`",
            ));
        }
        let (registry, repository) = match path.split_once('/') {
            Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => {
                (host, repository)
            }
            _ => ("docker.io", path),
        };
        if !is_host(registry) {
            return Err(bad("the registry's name is not a host name"));
        }
        if !repository.split('/').all(is_component) {
            return Err(bad(
                "a repository's name has lower-case letters and digits, separated by `.`, `_`, `__`, `-` or `/`",
            ));
        }
        if path == repository && Digest::from_hex(path).is_some() {
            return Err(bad("64 hexadecimal digits are an image's id, not a name"));
        }
        let repository =
            if matches!(registry, "docker.io" | "index.docker.io") && !repository.contains('/') {
                format!("library/{repository}")
            } else {
                repository.to_owned()
            };
        let registry = if registry == "index.docker.io" {
            "docker.io"
        } else {
            registry
        };
        // Of the completed name: it must be accepted again as it is written.
        if repository.len() + registry.len() > 255 {
            return Err(bad("the name is longer than 255 characters"));
        }
        let tag = tag
            .map(str::to_owned)
            .or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
            typed: text.to_owned(),
        })
    }
}

impl Name {
    /// Whether `text` means this registry, repository, tag and digest, however short it is written.
    pub(crate) fn is(&self, text: &str) -> bool {
        Self::parse(text).is_ok_and(|other| {
            other.registry == self.registry
                && other.repository == self.repository
                && other.tag == self.tag
                && other.digest == self.digest
        })
    }

    /// What was typed, if it could also be the beginning of an image's id.
    pub(crate) fn id_prefix(&self) -> Option<&str> {
        let typed = self.typed.strip_prefix("sha256:").unwrap_or(&self.typed);
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        ((1..64).contains(&typed.len()) && typed.bytes().all(hex)).then_some(typed)
    }

    /// Registry and repository as docker shows them: without what is understood.
    pub fn familiar(&self) -> String {
        match self.registry.as_str() {
            "docker.io" => {
                let short = self.repository.strip_prefix("library/");
                short.unwrap_or(&self.repository).to_owned()
            }
            registry => format!("{registry}/{}", self.repository),
        }
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_host(host: &str) -> bool {
    let (name, port) = host
        .split_once(':')
        .map_or((host, None), |(name, port)| (name, Some(port)));
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label)
        && port.is_none_or(|port| {
            port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit())
        })
}

/// Lower-case alphanumeric runs joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes.split(|&b| alphanumeric(b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
    })
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest
            .iter()
            .try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, path, tag) = match self {
            Self::OciLayout { dir, tag } => ("oci", dir, tag),
            Self::OciArchive { file, tag } => ("oci-archive", file, tag),
            Self::DockerArchive { file, reference } => ("docker-archive", file, reference),
            Self::Directory(path) => return write!(f, "dir:{}", path.display()),
            Self::Host => return f.write_str("host"),
            Self::Registry(name) => return name.fmt(f),
            Self::Id(id) => return id.fmt(f),
        };
        write!(f, "{kind}:{}", path.display())?;
        tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Reference::parse(text)
            .unwrap_or_else(|e| panic!("{text}: {e}"))
            .to_string()
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        assert_eq!(shown("debian"), "docker.io/library/debian:latest");
        assert_eq!(shown("me/app:1.2"), "docker.io/me/app:1.2");
        assert_eq!(shown("localhost/app"), "localhost/app:latest");
        assert_eq!(
            shown("localhost:5000/a/b-c__d:x"),
            "localhost:5000/a/b-c__d:x"
        );
        assert_eq!(shown("ghcr.io/o/r"), "ghcr.io/o/r:latest");
        assert_eq!(
            shown("index.docker.io/debian"),
            "docker.io/library/debian:latest"
        );
        let digest = Digest::of(b"");
        assert_eq!(
            shown(&format!("debian@{digest}")),
            format!("docker.io/library/debian@{digest}")
        );
        assert_eq!(
            shown(&format!("debian:12@{digest}")),
            format!("docker.io/library/debian:12@{digest}")
        );
    }

    #[test]
    fn places_on_disk_are_told_by_their_prefix() {
        assert_eq!(
            Reference::parse("oci:/a/b:docker.io/library/x:latest").unwrap(),
            Reference::OciLayout {
                dir: "/a/b".into(),
                tag: Some("docker.io/library/x:latest".into())
            }
        );
        assert_eq!(
            Reference::parse("oci:d").unwrap(),
            Reference::OciLayout {
                dir: "d".into(),
                tag: None
            }
        );
        assert_eq!(
            Reference::parse("docker-archive:f.tar:x:1").unwrap(),
            Reference::DockerArchive {
                file: "f.tar".into(),
                reference: Some("x:1".into())
            }
        );
        assert_eq!(
            Reference::parse("dir:/a:b").unwrap(),
            Reference::Directory("/a:b".into())
        );
        assert_eq!(Reference::parse("host").unwrap(), Reference::Host);
        assert_eq!(shown("docker:latest"), "docker.io/library/docker:latest");
    }

    #[test]
    fn what_is_no_reference_is_refused_with_a_reason() {
        let long = "a".repeat(300);
        for bad in [
            "",
            ":",
            "/",
            "/tmp/x",
            "./x",
            "~/x",
            "Debian",
            "a//b",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:",
            "a:-x",
            "a@",
            "a@sha256:12",
            "a:b:c",
            "a b",
            "a\nb",
            "a\0b",
            "oci:",
            "oci::t",
            "oci:d:",
            "dir:",
            "docker-archive:",
            "docker://debian",
            "localhost:99999/a",
            "ex_ample.com/a",
            "é",
            &long,
            "@",
            "a@sha256:",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_id_is_no_name_and_its_beginning_may_be_either() {
        let id = Digest::of(b"");
        assert_eq!(Reference::parse(&id.hex()).unwrap(), Reference::Id(id));
        assert_eq!(
            Reference::parse(&id.to_string()).unwrap(),
            Reference::Id(id)
        );
        assert!(Name::parse(&id.hex()).is_err());
        for (text, prefix) in [
            ("e3b0c442", Some("e3b0c442")),
            ("sha256:e3b0", Some("e3b0")),
            ("e3b0:latest", None),
            ("debian", None),
        ] {
            assert_eq!(Name::parse(text).unwrap().id_prefix(), prefix, "{text}");
        }
    }

    #[test]
    fn a_name_is_shown_without_what_is_understood() {
        for (text, shown) in [
            ("debian", "debian"),
            ("docker.io/me/app:1", "me/app"),
            ("localhost:5000/a/b", "localhost:5000/a/b"),
        ] {
            assert_eq!(Name::parse(text).unwrap().familiar(), shown);
        }
    }

    #[test]
    fn a_name_that_is_too_long_once_completed_is_refused() {
        assert!(Reference::parse(&"a".repeat(238)).is_ok());
        assert!(Reference::parse(&"a".repeat(239)).is_err());
        assert!(Reference::parse(&"a".repeat(250)).is_err());
    }
}
