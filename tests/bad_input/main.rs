//! What cannot be done: one line that says so, one that says what to do, and nothing left.

mod images;
mod kernel;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/layout.rs"]
mod layout;
mod options;
mod paths;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/place.rs"]
mod place;
#[path = "../rig/refusal.rs"]
mod refusal;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/remains.rs"]
mod remains;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
