//! What scripts written for docker ask of `ps`, `inspect`, `events` and `container`, and what they read.

mod events;
mod inspect;
mod list;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
mod sandboxes;
