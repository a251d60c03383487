//! Further commands in a running sandbox.
//!
//! Nobody enters a sandbox from outside. PID 1, which has every namespace, the cgroup, the confinement and the Landlock
//! rules already, makes a copy of itself for each command: its [`keeper`]. The keeper is handed a connection to whoever
//! wants the command, reads the [`request`] from it, starts the command by the same steps as the first one, and stays as
//! the command's parent: it passes on signals, keeps the time limit, and ends the command's whole tree when its caller is
//! gone. [`joined`] is the caller's side.

pub(crate) mod joined;
pub(crate) mod keeper;
pub(crate) mod request;
mod service;
