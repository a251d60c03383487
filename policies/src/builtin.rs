//! The built-in policies and their seccomp programs, made from `policies/*.toml` when palisade is built (`build.rs`).

#![allow(
    clippy::unreadable_literal,
    clippy::too_many_lines,
    reason = "generated data"
)]

use std::time::Duration;

use crate::policy::{
    Base, Environment, Filesystem, Flags, Handles, Limits, Network, NetworkMode, Policy, Rlimit,
    RootMode, Setuid, Sys, Syscalls, Tier, Tmpfs,
};
use crate::program::Instruction;

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
