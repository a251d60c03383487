//! Every option of `palisade run`, as a user would type it.

mod command;
mod environment;
mod files;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/layout.rs"]
mod layout;
mod limits;
mod pins;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/place.rs"]
mod place;
mod protection;
mod records;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/remains.rs"]
mod remains;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
mod view;
