//! Tiers: which one holds a command, what is refused, and what holds without namespaces.

mod alone;
mod choice;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/place.rs"]
mod place;
mod refusals;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
mod without;
