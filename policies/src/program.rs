//! A compiled seccomp program: the exchange type between whatever generates filters and what loads them.

use std::borrow::Cow;

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter` (see bpf(2), seccomp(2)).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation code.
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A seccomp filter ready to load: at most 4096 instructions (`BPF_MAXINSNS`).
///
/// Programs of the built-in policies are static data made when palisade is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(pub Cow<'static, [Instruction]>);
