//! Sandboxes that live on: made, found, logged, watched, stopped and removed, with nobody's daemon.

mod crash;
mod generate;
mod health;
mod leave;
mod life;
mod logs;
mod names;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/remains.rs"]
mod remains;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../process/rig.rs"]
mod rig;
mod sandbox;
#[allow(dead_code)] // Each suite uses its part of the rig.
#[path = "../rig/screen.rs"]
mod screen;
