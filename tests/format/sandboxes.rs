//! A few sandboxes to ask about, gone with the test.

use std::process::{Command, Output, Stdio};

use crate::rig::{Rig, assert_code, binary, describe, end, text};

pub struct Sandboxes {
    pub rig: Rig,
}

impl Sandboxes {
    pub fn new() -> Self {
        Self { rig: Rig::new() }
    }

    /// `palisade VERB… --root …`, run to its end.
    pub fn palisade(&self, args: &[&str]) -> Output {
        end(self.command(args).spawn().unwrap())
    }

    /// The same, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        let verb = args.iter().take_while(|arg| !arg.starts_with('-')).count();
        command
            .args(&args[..verb])
            .arg("--root")
            .arg(self.rig.path("store"))
            .args(&args[verb..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Asserts that it succeeds and returns what it prints.
    #[track_caller]
    pub fn prints(&self, args: &[&str]) -> String {
        let output = self.palisade(args);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{args:?}: {}",
            describe(&output)
        );
        text(&output.stdout)
    }

    /// Starts one that stays, and returns its id.
    #[track_caller]
    pub fn start(&self, options: &[&str], script: &str) -> String {
        let mut all = vec!["-d", "--rm=false"];
        all.extend_from_slice(options);
        let output = end(self.rig.script(&all, script).spawn().unwrap());
        assert_code(&output, 0);
        text(&output.stdout).trim().to_owned()
    }
}

impl Drop for Sandboxes {
    fn drop(&mut self) {
        let ids = text(&self.palisade(&["ps", "-a", "-q"]).stdout);
        for id in ids.lines() {
            self.palisade(&["rm", "-f", id]);
        }
    }
}
