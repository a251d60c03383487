//! A store of a test's own, and the verbs on it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::layout::{self, Packing};
use crate::place::on;
use crate::rig::{Rig, binary, describe, end, text};

pub struct Shelf {
    pub rig: Rig,
}

impl Shelf {
    pub fn new() -> Self {
        Self { rig: Rig::new() }
    }

    /// A store with one image, whose configuration has this `config`.
    pub fn with(name: &str, config: &Value) -> Self {
        let shelf = Self::new();
        shelf.add(name, config);
        shelf
    }

    /// Makes an image of the rig's directory and loads it under a name; returns the layout it came from.
    pub fn add(&self, name: &str, config: &Value) -> PathBuf {
        let layout = format!("from-{}", name.replace(['/', ':'], "-"));
        let layout = layout::write(&self.rig, &layout, config, Packing::Gzip);
        let said = self.ok(&["load", "-i", &format!("oci:{}", layout.display()), name]);
        assert_eq!(said.lines().count(), 1, "{said}");
        layout
    }

    /// Adds a file to what images are made of from now on.
    pub fn put(&self, path: &str, content: &str) {
        fs::write(self.rig.path("image").join(path), content).unwrap();
    }

    /// A verb with its arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut palisade = Command::new(binary());
        let (verb, rest) = arguments.split_first().unwrap();
        palisade.arg(verb);
        let mut rest = rest;
        if ["image", "manifest", "store"].contains(verb) {
            palisade.arg(rest[0]);
            rest = &rest[1..];
        }
        palisade
            .arg("--root")
            .arg(self.rig.path("store"))
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        palisade
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        end(self.command(arguments).spawn().unwrap())
    }

    /// What a verb that must succeed prints.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            describe(&output)
        );
        text(&output.stdout)
    }

    /// Asserts that a verb fails and says these words.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str], words: &[&str]) {
        let output = self.run(arguments);
        // docker's code for docker's verbs.
        let expected = if arguments[0] == "store" { 125 } else { 1 };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{}",
            describe(&output)
        );
        let said = text(&output.stderr);
        for word in words {
            assert!(said.contains(word), "no `{word}`: {}", describe(&output));
        }
    }

    /// Asserts that an image runs, and what a command in it prints.
    #[track_caller]
    pub fn runs(&self, image: &str, command: &[&str], expected: &str) {
        let output = end(on(&self.rig, &["--rm"], image, command).spawn().unwrap());
        assert_eq!(
            text(&output.stdout),
            expected,
            "{image}: {}",
            describe(&output)
        );
    }

    /// The id of an image, in full.
    pub fn id(&self, image: &str) -> String {
        let id = self.ok(&["images", "-q", "--no-trunc", image]);
        id.trim().to_owned()
    }

    pub fn index(&self) -> Value {
        let text = fs::read(self.rig.path("store/images/index.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Digests of the blobs that are there.
    pub fn blobs(&self) -> Vec<String> {
        crate::rig::entries(&self.rig.path("store/images/blobs/sha256"))
    }

    /// Names of the unpacked layers.
    pub fn layers(&self) -> Vec<String> {
        ["layers", "layers-kept"]
            .iter()
            .flat_map(|place| crate::rig::entries(&self.rig.path("store").join(place)))
            .filter(|name| name.len() == 64)
            .collect()
    }
}

/// A configuration with a command.
pub fn says(word: &str) -> Value {
    json!({"Cmd": ["echo", word], "Labels": {"word": word}})
}
