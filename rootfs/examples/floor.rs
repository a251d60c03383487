//! What unpacking an image costs at least on this machine: each of its parts alone, in one thread.
//!
//! ```text
//! floor inflate BLOB...        decompress the layers, keep nothing
//! floor hash BLOB...           SHA-256 of the layers as they are and as they are decompressed
//! floor create TREE NEW        make every file, directory and link of TREE once more under NEW, from memory
//! ```
//!
//! Prints one JSON object: wall and CPU seconds, bytes, entries. Reading comes before the clock starts.

use std::error::Error;
use std::fs;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use rustix::fs::{self as at, AtFlags, Mode, OFlags, Timespec, Timestamps};
use sha2::{Digest, Sha256};

/// How much is decompressed or hashed at a time.
const CHUNK: usize = 256 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["inflate", ref blobs @ ..] => {
            let blobs = read(blobs)?;
            measure(|| {
                blobs.iter().try_fold((0, 0), |(bytes, n), blob| {
                    Ok((bytes + inflate(blob, |_| {})?, n + 1))
                })
            })
        }
        ["hash", ref blobs @ ..] => {
            let mut blobs = read(blobs)?;
            for i in 0..blobs.len() {
                let mut inflated = Vec::new();
                inflate(&blobs[i], |chunk| inflated.extend_from_slice(chunk))?;
                blobs.push(inflated);
            }
            measure(|| {
                Ok(blobs
                    .iter()
                    .fold((0, 0), |(bytes, n), blob| (bytes + hash(blob), n + 1)))
            })
        }
        ["create", tree, new] => {
            let mut entries = Vec::new();
            load(Path::new(tree), &mut entries)?;
            rustix::process::umask(Mode::empty());
            let parent = at::open(new, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            measure(|| Ok((create(&parent, &entries)?, count(&entries))))
        }
        _ => Err("usage: floor inflate BLOB... | hash BLOB... | create TREE NEW".into()),
    }
}

/// Runs the work, which returns bytes and entries, and prints what it took.
fn measure(
    work: impl FnOnce() -> Result<(u64, u64), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let (start, cpu) = (Instant::now(), cpu()?);
    let (bytes, entries) = work()?;
    let (wall, cpu) = (
        start.elapsed().as_secs_f64(),
        self::cpu()?.saturating_sub(cpu).as_secs_f64(),
    );
    println!(r#"{{"wall": {wall:.4}, "cpu": {cpu:.4}, "bytes": {bytes}, "entries": {entries}}}"#);
    Ok(())
}

fn cpu() -> nix::Result<Duration> {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from)
}

fn read(paths: &[&str]) -> io::Result<Vec<Vec<u8>>> {
    paths.iter().map(fs::read).collect()
}

/// Decompresses one layer, gzip or zstd, and returns how many bytes it held.
fn inflate(blob: &[u8], mut each: impl FnMut(&[u8])) -> Result<u64, Box<dyn Error>> {
    let mut reader: Box<dyn Read + '_> = match blob {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(BufReader::new(blob))?),
        _ => return Err("neither gzip nor zstd".into()),
    };
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(total),
            n => {
                each(&chunk[..n]);
                total += n as u64;
            }
        }
    }
}

fn hash(blob: &[u8]) -> u64 {
    let mut hasher = Sha256::new();
    for chunk in blob.chunks(CHUNK) {
        hasher.update(chunk);
    }
    std::hint::black_box(hasher.finalize());
    blob.len() as u64
}

/// A directory entry, held in memory.
struct Entry {
    name: Vec<u8>,
    mode: u32,
    modified: Timespec,
    kind: Kind,
}

enum Kind {
    Directory(Vec<Entry>),
    File(Vec<u8>),
    Symlink(Vec<u8>),
}

fn load(directory: &Path, into: &mut Vec<Entry>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let path = entry.path();
        let kind = if metadata.is_dir() {
            let mut children = Vec::new();
            load(&path, &mut children)?;
            Kind::Directory(children)
        } else if metadata.is_symlink() {
            Kind::Symlink(fs::read_link(&path)?.as_os_str().as_bytes().to_vec())
        } else if metadata.is_file() {
            Kind::File(fs::read(&path)?)
        } else {
            continue;
        };
        let modified = Timespec {
            tv_sec: metadata.mtime(),
            tv_nsec: metadata.mtime_nsec(),
        };
        let name = entry.file_name().as_bytes().to_vec();
        into.push(Entry {
            name,
            mode: metadata.permissions().mode() & 0o7777,
            modified,
            kind,
        });
    }
    Ok(())
}

fn count(entries: &[Entry]) -> u64 {
    entries
        .iter()
        .map(|entry| {
            1 + if let Kind::Directory(below) = &entry.kind {
                count(below)
            } else {
                0
            }
        })
        .sum()
}

/// Makes the entries with the calls that cannot be left out: content, permission bits and modification time.
fn create(parent: &OwnedFd, entries: &[Entry]) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in entries {
        let mode = Mode::from_raw_mode(entry.mode);
        let times = Timestamps {
            last_access: entry.modified,
            last_modification: entry.modified,
        };
        match &entry.kind {
            Kind::Directory(below) => {
                at::mkdirat(parent, &entry.name[..], mode)?;
                let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let directory = at::openat(parent, &entry.name[..], flags, Mode::empty())?;
                bytes += create(&directory, below)?;
                at::futimens(&directory, &times)?;
            }
            Kind::File(content) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = at::openat(parent, &entry.name[..], flags, mode)?;
                write(&file, content)?;
                at::futimens(&file, &times)?;
                bytes += content.len() as u64;
            }
            Kind::Symlink(target) => {
                at::symlinkat(&target[..], parent, &entry.name[..])?;
                at::utimensat(parent, &entry.name[..], &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
    }
    Ok(bytes)
}

fn write(file: impl AsFd, mut content: &[u8]) -> io::Result<()> {
    while !content.is_empty() {
        content = &content[rustix::io::write(&file, content)?..];
    }
    Ok(())
}
