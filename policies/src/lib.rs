//! What is allowed: policy files and their compilation to Landlock rules, seccomp programs, capability sets and limits.

pub mod landlock;
mod program;

pub use program::{Instruction, Program};
