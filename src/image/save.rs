//! `palisade save`: images of the store into an archive.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use palisade_rootfs::{Descriptor, Form, Name, Reference};

use super::{Place, failed, no_such, reference, word, words};
use crate::failure::{Failure, reason};

/// `save`, `image save`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let form = match word(matches, "format") {
        "oci-archive" => Form::Oci,
        _ => Form::Docker,
    };
    let mut images: Vec<(Descriptor, Vec<Name>)> = Vec::new();
    for text in words(matches, "IMAGE") {
        let (entry, names) = chosen(&place, text)?;
        match images
            .iter_mut()
            .find(|(other, _)| other.digest == entry.digest)
        {
            Some((_, all)) => all.extend(names),
            None => images.push((entry, names)),
        }
    }
    let mut output = Output::open(matches.get_one::<String>("output").map(String::as_str))?;
    place
        .store
        .save(&images, form, &place.platform, &mut output.writer)
        .map_err(|e| failed(&e))?;
    output.finish()?;
    Ok(0)
}

/// An image by a name, which it bears in the archive; by an id it has none there.
fn chosen(place: &Place, text: &str) -> Result<(Descriptor, Vec<Name>), Failure> {
    let found = reference(text)?;
    let entry = place
        .store
        .entry(&found, &place.platform)
        .map_err(|error| no_such(text, &error))?;
    let names = match found {
        Reference::Registry(name) if name.digest.is_none() && entry.is_called(&name) => vec![name],
        _ => Vec::new(),
    };
    Ok((entry, names))
}

/// Where an archive goes: a file that appears when it is complete, or standard output.
pub struct Output {
    pub writer: BufWriter<File>,
    /// Its name until it is complete, and then.
    names: Option<(PathBuf, PathBuf)>,
}

impl Output {
    /// Opens the file, or standard output for none and `-`.
    pub fn open(path: Option<&str>) -> Result<Self, Failure> {
        let fail = |path: &Path, e: &std::io::Error| {
            Failure::new(
                format!("cannot write {}: {}", path.display(), reason(e)),
                "-o FILE in a directory you may write to",
            )
        };
        let Some(path) = path.filter(|path| *path != "-").map(Path::new) else {
            let stdout = std::io::stdout();
            if stdout.is_terminal() {
                return Err(Failure::new(
                    "an archive is not written to a terminal",
                    "-o FILE, or > FILE",
                ));
            }
            let fd = std::os::fd::AsFd::as_fd(&stdout)
                .try_clone_to_owned()
                .map_err(|e| fail(Path::new("standard output"), &e))?;
            return Ok(Self {
                writer: BufWriter::with_capacity(256 << 10, File::from(fd)),
                names: None,
            });
        };
        let special = path.metadata().is_ok_and(|metadata| !metadata.is_file());
        let (file, names) = if special {
            let file = File::options().write(true).open(path);
            (file.map_err(|e| fail(path, &e))?, None)
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
            let file = File::create_new(&part).map_err(|e| fail(path, &e))?;
            (file, Some((part, path.to_owned())))
        };
        Ok(Self {
            writer: BufWriter::with_capacity(256 << 10, file),
            names,
        })
    }

    /// Writes what is left; the file gets its name.
    pub fn finish(mut self) -> Result<(), Failure> {
        let result = self.writer.flush().and_then(|()| match &self.names {
            Some((part, path)) => std::fs::rename(part, path),
            None => Ok(()),
        });
        result.map_err(|e| {
            Failure::new(
                format!("cannot write the archive: {}", reason(&e)),
                "-o FILE",
            )
        })?;
        self.names = None;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((part, _)) = &self.names {
            let _ = std::fs::remove_file(part);
        }
    }
}
