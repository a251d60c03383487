//! Who the command is, inside and on the host.

mod accounts;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/layout.rs"]
mod layout;
mod owners;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/place.rs"]
mod place;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/remains.rs"]
mod remains;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
mod userns;
mod users;
