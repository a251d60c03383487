//! Commands and files that go into a running sandbox: what they have, how they end, and what they leave alone.

mod command;
mod files;
mod keeper;
mod receipt;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../detached/sandbox.rs"]
mod sandbox;
mod version;
