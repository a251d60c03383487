//! How a command is confined and run: Plan, namespaces, mounts, capabilities, filters, the init process.
//!
//! [`launch()`] takes a [`Plan`] and returns a [`Sandbox`]: one clone, one socket, one PID 1 that puts the sandbox
//! together and starts the command. `docs/architecture.md` lists the steps in order.

pub mod archive;
mod aside;
mod capabilities;
pub mod cgroup;
mod command;
mod control;
mod denials;
pub mod detach;
mod error;
mod failure;
mod full;
mod idmap;
mod init;
mod interpreter;
mod join;
mod landlock;
mod launch;
mod mount;
mod plan;
mod prepare;
pub mod probe;
mod readback;
mod root;
mod sandbox;
mod stat;
mod sys;
pub mod terminal;
mod tier;
mod view;

pub use control::Step;
pub use denials::Denial;
pub use error::Error;
pub use idmap::helper;
pub use join::joined::{JoinEvent, Joined};
pub use join::request::{
    Copied, JoinCommand, Lasting, OTHER_VERSION, OTHER_VERSION_ADVICE, REQUEST_VERSION, Service,
    User,
};
pub use launch::{launch, launch_recorded};
pub use palisade_policies::{
    Tier,
    landlock::{Access, PathRule},
};
pub use plan::{File, Plan, Root, Scratch, Upper};
pub use sandbox::{Event, Exit, Protections, Sandbox, Stdio, Usage};
pub use sys::{begin, release_program};
pub use tier::usage as usage_below;
