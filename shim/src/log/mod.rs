//! What a sandbox wrote: numbered files of records in its `log` directory.
//!
//! A record is a header of [`HEADER`] bytes and then what the command wrote: a little-endian length (4 bytes), the stream
//! (1 byte), three bytes that mark a header, and the time in nanoseconds since 1970 (8 bytes). One record holds whatever
//! one read returned, so it costs nothing to keep up with a fast writer. A record that a crash cut short is the last of
//! its file; what there is of it is shown once nobody writes any more.
//!
//! A full file is followed by the next number, and the oldest goes: no file is ever renamed, so a reader that follows
//! loses nothing to a rotation.

mod follow;
mod queue;
mod reader;
mod record;
mod writer;

pub use follow::Growth;
pub use queue::{Log, Queue};
pub use reader::{Line, Reader, Wanted};
pub use record::{HEADER, Stream};
pub use writer::Writer;

use std::fs;
use std::io;
use std::path::Path;

/// The file that says how much was lost, in decimal digits.
const LOST: &str = "lost";

/// The numbers of the files in a log directory, the oldest first.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match directory.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Bytes of output that a log does not have since it was begun: the disk or the queue before it had no room.
pub fn lost(directory: &Path) -> u64 {
    let text = fs::read_to_string(directory.join(LOST)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Bytes that a log takes on disk.
///
/// # Errors
/// The directory cannot be read.
pub fn size(directory: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for number in numbers(directory)? {
        sum += fs::metadata(directory.join(number.to_string())).map_or(0, |file| file.len());
    }
    Ok(sum)
}
