//! Volumes, as a user would use them.

mod agent;
mod anonymous;
mod first_use;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/layout.rs"]
mod layout;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/place.rs"]
mod place;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../detached/sandbox.rs"]
mod sandbox;
mod verb;
