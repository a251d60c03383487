//! Where things lie for a test: the images that scripts/make-test-images makes, and who runs the test.

use std::path::PathBuf;
use std::process::Command;

use crate::rig::{Rig, binary};

/// `palisade run OPTIONS IMAGE COMMAND` on any image, not yet started.
pub fn on(rig: &Rig, options: &[&str], image: &str, command: &[&str]) -> Command {
    let mut palisade = Command::new(binary());
    palisade
        .arg("run")
        .arg("--root")
        .arg(rig.path("store"))
        .args(options)
        .arg(image)
        .args(command)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    palisade
}

/// One of the images that scripts/make-test-images makes.
pub fn image(name: &str) -> PathBuf {
    let directory = std::env::var_os("PALISADE_TEST_IMAGES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/images"),
        PathBuf::from,
    );
    let path = directory.join(name);
    assert!(
        path.exists(),
        "{} is missing: run scripts/make-test-images",
        path.display()
    );
    path
}

/// Whether the test runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
