//! A rig with a data directory of its own and the verbs as a user types them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::rig::{Rig, binary, code, describe, end, started, text};

/// A place for sandboxes. What a failed test leaves running ends with it.
pub struct Sandboxes {
    pub rig: Rig,
}

impl Sandboxes {
    pub fn new() -> Self {
        Self { rig: Rig::new() }
    }

    /// `palisade ARGUMENTS` in the rig's data directory, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut palisade = Command::new(binary());
        palisade
            .args(arguments)
            .env("PALISADE_ROOT", self.rig.path("store"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        palisade
    }

    /// Runs a verb to its end.
    pub fn palisade(&self, arguments: &[&str]) -> Output {
        end(self.command(arguments).spawn().unwrap())
    }

    /// What a verb that must succeed prints, without the last newline.
    #[track_caller]
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.palisade(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", describe(&output));
        text(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// The image as it is named on the command line.
    pub fn image(&self) -> String {
        format!("dir:{}", self.rig.path("image").display())
    }

    /// `run -d OPTIONS image sh -c SCRIPT`: the id.
    #[track_caller]
    pub fn detached(&self, options: &[&str], script: &str) -> String {
        let image = self.image();
        let mut all = vec!["run", "-d"];
        all.extend_from_slice(options);
        all.extend_from_slice(&[&image, "sh", "-c", script]);
        let id = self.says(&all);
        assert_eq!(id.len(), 64, "{id}");
        id
    }

    /// Waits until the first thing that a sandbox has said is a line `ready`.
    #[track_caller]
    pub fn until_ready(&self, name: &str) {
        let mut follower = started(&mut self.command(&["logs", "-f", name]));
        let _ = follower.kill();
        follower.wait().unwrap();
    }

    /// Names and states of all sandboxes, in the order of `ps`.
    #[track_caller]
    pub fn states(&self) -> Vec<String> {
        let listed = self.says(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
        listed.lines().map(str::to_owned).collect()
    }

    /// The process id that a record has under `field`.
    #[track_caller]
    pub fn process(&self, id: &str, field: &str) -> nix::unistd::Pid {
        let path = self.rig.path("store/sandboxes").join(id).join("state.json");
        let state: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let number = state[field].as_i64().expect("it runs");
        nix::unistd::Pid::from_raw(i32::try_from(number).unwrap())
    }

    /// What is left below the data directory's folders of sandboxes and names.
    pub fn left(&self) -> Vec<PathBuf> {
        ["store/sandboxes", "store/names"]
            .iter()
            .filter_map(|place| fs::read_dir(self.rig.path(place)).ok())
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

impl Drop for Sandboxes {
    fn drop(&mut self) {
        let listed = self.palisade(&["ps", "-a", "-q", "--no-trunc"]);
        for id in text(&listed.stdout).lines() {
            let _ = self.palisade(&["rm", "-f", id]);
        }
    }
}
