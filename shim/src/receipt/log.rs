//! A log of receipts: one to a line, each naming the one before it by its digest.
//!
//! Several palisades append to one log: each holds a lock while it reads the last line and writes the next. A line is
//! written at once; what a killed palisade left of one is cut off by the next that appends.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use palisade_runtime::Plan;
use serde_json::{Value, json};

use super::key::{KeyFile, shared, within_reach};
use super::{canonical, seal};
use crate::Error;
use crate::error::said;

/// Bytes read at once, from the end backwards.
const STEP: u64 = 64 * 1024;

/// A log that is open for appending, known to end in a good receipt.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

/// The last receipt of a log.
struct Last {
    sequence: u64,
    digest: String,
    /// Where its line ends: beyond is what was cut short.
    end: u64,
}

impl Log {
    /// Opens a log, or makes an empty one that its owner alone may read.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            // A FIFO would block.
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| damaged(path, &said(&error)))?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(damaged(path, &"it is no regular file"));
        }
        let log = Self {
            path: path.into(),
            file,
        };
        let lock = log.lock()?;
        log.last()?;
        drop(lock);
        Ok(log)
    }

    /// Refuses a log that the command of `plan` could rewrite.
    pub(crate) fn refuse_exposed(&self, plan: &Plan) -> Result<(), Error> {
        let path = std::fs::canonicalize(&self.path)
            .map_err(|error| damaged(&self.path, &said(&error)))?;
        if let Some(directory) = within_reach(plan, &path, true) {
            return Err(damaged(
                &self.path,
                &format!(
                    "the command, which sees the host's files here, may write below {}",
                    directory.display()
                ),
            ));
        }
        let exposed = shared(plan).find(|mount| {
            let writable = !mount
                .options()
                .iter()
                .flatten()
                .any(|option| option == "ro");
            let source = mount.source().as_deref();
            let source = source.and_then(|source| std::fs::canonicalize(source).ok());
            writable && source.is_some_and(|source| path.starts_with(source))
        });
        match exposed {
            None => Ok(()),
            Some(mount) => Err(damaged(
                &self.path,
                &format!(
                    "the sandbox could rewrite it below {}",
                    mount.destination().display()
                ),
            )),
        }
    }

    /// Gives the receipt its place in the chain, seals it, writes it to the log, and returns it sealed.
    pub(crate) fn append(&self, mut receipt: Value, key: Option<&KeyFile>) -> Result<Value, Error> {
        let lock = self.lock()?;
        let last = self.last()?;
        let (sequence, previous, end) = match last {
            Some(last) => (last.sequence + 1, Some(last.digest), last.end),
            None => (1, None, 0),
        };
        receipt["chain"] = json!({"sequence": sequence, "previous": previous});
        let sealed = seal::seal(receipt, key)?;
        let mut line = canonical::text(&sealed);
        line.push('\n');
        let failed = |error: io::Error| damaged(&self.path, &said(&error));
        self.file.set_len(end).map_err(failed)?;
        (&self.file).write_all(line.as_bytes()).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        drop(lock);
        Ok(sealed)
    }

    /// The last complete line; none in an empty log.
    fn last(&self) -> Result<Option<Last>, Error> {
        let failed = |error: io::Error| damaged(&self.path, &said(&error));
        let length = self.file.metadata().map_err(failed)?.len();
        let mut tail = Vec::new();
        let mut from = length;
        // Two line ends, or the beginning of the file and one: between them lies the last line.
        while from > 0 && tail.split(|&byte| byte == b'\n').nth(2).is_none() {
            let step = from.min(STEP);
            from -= step;
            let mut before = vec![0; usize::try_from(step).unwrap_or_default()];
            self.file.read_exact_at(&mut before, from).map_err(failed)?;
            before.append(&mut tail);
            tail = before;
        }
        let Some(end) = tail.iter().rposition(|&byte| byte == b'\n') else {
            return match tail.is_empty() {
                true => Ok(None),
                // What begins like a receipt is one that a killed palisade began.
                false if tail.starts_with(b"{\"") => Ok(None),
                false => Err(damaged(
                    &self.path,
                    &"it holds something else than receipts",
                )),
            };
        };
        let start = tail[..end]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |before| before + 1);
        let broken =
            |why: String| damaged(&self.path, &format!("its last receipt is broken: {why}"));
        let document =
            serde_json::from_slice(&tail[start..end]).map_err(|error| broken(error.to_string()))?;
        let sealed = seal::open(document, None).map_err(broken)?;
        if let Some(fault) = sealed.faults.into_iter().next() {
            return Err(broken(fault));
        }
        let link = Link::of(&sealed.receipt)
            .ok_or_else(|| broken("it has no place in a chain".to_owned()))?;
        Ok(Some(Last {
            sequence: link.sequence,
            digest: link.digest,
            end: from + end as u64 + 1,
        }))
    }

    /// Waits for the others. The lock ends with the returned value.
    fn lock(&self) -> Result<Lock<'_>, Error> {
        wait_for(&self.file, libc::F_WRLCK)
            .map(|()| Lock(&self.file))
            .map_err(|errno| damaged(&self.path, &errno.desc()))
    }
}

/// Keeps a log from growing until its descriptor is closed.
pub(crate) fn shared_lock(file: &File) -> io::Result<()> {
    wait_for(file, libc::F_RDLCK).map_err(io::Error::from)
}

fn wait_for(file: &File, kind: libc::c_int) -> nix::Result<()> {
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&whole(kind))) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// A receipt's place in a chain.
pub(crate) struct Link {
    pub(crate) sequence: u64,
    pub(crate) previous: Option<String>,
    pub(crate) digest: String,
}

impl Link {
    /// None where the receipt has none.
    pub(crate) fn of(receipt: &Value) -> Option<Self> {
        let chain = receipt["chain"].as_object()?;
        Some(Self {
            sequence: chain.get("sequence")?.as_u64()?,
            previous: chain.get("previous")?.as_str().map(str::to_owned),
            digest: receipt["digest"].as_str()?.to_owned(),
        })
    }
}

/// The lock on a log, of its open file (fcntl(2), F_OFD_SETLK): it works across network file systems and goes with the
/// descriptor.
struct Lock<'f>(&'f File);

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // It would end with the descriptor in any case.
        let _ = fcntl(self.0, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)));
    }
}

/// A lock of this kind on a whole file.
pub(crate) fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Whether somebody holds a write lock on the whole file.
pub(crate) fn is_locked(file: impl AsFd) -> bool {
    let mut query = whole(libc::F_RDLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut query)).is_ok()
        && i32::from(query.l_type) != libc::F_UNLCK
}

fn damaged(path: &Path, why: &dyn Display) -> Error {
    Error::ReceiptLog {
        path: path.into(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::{Link, Log};
    use crate::receipt::SCHEMA;

    fn log() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        (directory, path)
    }

    fn append(path: &std::path::Path, id: &str) -> Value {
        let receipt = json!({"schema": SCHEMA, "id": id});
        Log::open(path).unwrap().append(receipt, None).unwrap()
    }

    #[test]
    fn each_receipt_names_the_one_before_it() {
        let (_directory, path) = log();
        let [first, second] = ["a", "b"].map(|id| Link::of(&append(&path, id)).unwrap());
        assert_eq!((first.sequence, first.previous), (1, None));
        assert_eq!((second.sequence, second.previous), (2, Some(first.digest)));
    }

    #[test]
    fn what_a_killed_palisade_left_of_a_line_goes_with_the_next() {
        let (_directory, path) = log();
        for torn in [&b"{\"chain\":{\"seq"[..], b"{\"", b"{\"a\":\"\xc3"] {
            append(&path, &"x".repeat(100_000));
            let good = fs::read(&path).unwrap();
            fs::write(&path, [&good, torn].concat()).unwrap();
            append(&path, "after");
            let all = fs::read(&path).unwrap();
            assert!(all.starts_with(&good));
            assert!(all.ends_with(b"\n"));
            assert_eq!(str::from_utf8(&all).unwrap().lines().count() % 2, 0);
        }
        fs::write(&path, "{\"cha").unwrap();
        assert_eq!(Link::of(&append(&path, "first")).unwrap().sequence, 1);
    }

    #[test]
    fn a_log_whose_last_receipt_was_changed_and_a_file_that_is_no_log_take_no_more() {
        let (_directory, path) = log();
        append(&path, "a");
        let changed = fs::read_to_string(&path).unwrap().replace("\"a\"", "\"b\"");
        for wrong in [changed.as_str(), "hello\n", "hello", "{}\n", "[1]\n"] {
            fs::write(&path, wrong).unwrap();
            let error = Log::open(&path).unwrap_err();
            assert!(error.advice().is_some(), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), wrong);
        }
        assert!(Log::open(std::path::Path::new("/dev/null")).is_err());
    }
}
