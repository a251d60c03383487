//! How a command is confined and run: Plan, namespaces, mounts, capabilities, filters, the init process.

pub mod cgroup;
mod plan;

pub use plan::{File, Plan, Root, Upper};
