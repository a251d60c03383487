//! What happened to sandboxes: a file that is only appended to, until it is full and begins anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Config;
use crate::time::stored;

/// Bytes after which a file of events is full; the one before it is kept.
const FULL: u64 = 1 << 20;

/// The events of one data directory.
#[derive(Clone, Debug)]
pub struct Events {
    path: PathBuf,
}

/// Something that happened to a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    #[serde(with = "stored")]
    pub time: SystemTime,
    /// docker's word: `create`, `start`, `die`, `stop`, `kill`, `pause`, `unpause`, `oom`, `restart`, `rename`, `destroy`,
    /// `health_status: healthy`, …
    pub action: String,
    /// The sandbox.
    pub id: String,
    /// `name`, `image`, labels, and what belongs to the action, as `exitCode`.
    pub attributes: BTreeMap<String, String>,
}

impl Events {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file that is appended to.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Adds an event. One that cannot be written is lost: nothing that happens to a sandbox waits for it.
    pub fn record(&self, action: &str, config: &Config, more: &[(&str, &str)]) {
        let mut attributes = config.labels.clone();
        attributes.insert("name".into(), config.name.clone());
        attributes.insert("image".into(), config.image.reference.clone());
        for (name, value) in more {
            attributes.insert((*name).to_owned(), (*value).to_owned());
        }
        let event = Event {
            time: SystemTime::now(),
            action: action.to_owned(),
            id: config.id.clone(),
            attributes,
        };
        if let Ok(mut line) = serde_json::to_vec(&event) {
            line.push(b'\n');
            let _ = self.append(&line);
        }
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let open = || {
            File::options()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.path)
        };
        let mut file = open()?;
        if file.metadata()?.len() >= FULL {
            // Two that find it full at once lose the older file, no more.
            fs::rename(&self.path, self.path.with_extension("1"))?;
            file = open()?;
        }
        // One write: appended lines of several processes do not mix (open(2)).
        file.write_all(line)
    }

    /// Every event that is kept, the oldest first. A line that a crash cut is left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        for path in [&self.path.with_extension("1"), &self.path] {
            let mut text = Vec::new();
            match File::open(path).and_then(|mut file| file.read_to_end(&mut text)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => drop(other?),
            }
            let lines = text.split(|byte| *byte == b'\n');
            events.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
        }
        Ok(events)
    }
}
