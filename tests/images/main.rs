//! Every form of image, and real work on a real one.

mod agent;
mod forms;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/layout.rs"]
mod layout;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/place.rs"]
mod place;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/remains.rs"]
mod remains;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
mod store;
