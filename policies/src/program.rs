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

/// A system call as a filter sees it (`struct seccomp_data`, linux/seccomp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Its number.
    pub number: u32,
    /// `AUDIT_ARCH_…` of the table that the number belongs to.
    pub arch: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

// linux/bpf_common.h, linux/seccomp.h.
const RETURN: u16 = 0x06;
const ACTION: u32 = 0xffff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;

impl Program {
    /// The same program, which asks a listener where this one refuses with an errno (seccomp_unotify(2)). What kills stays
    /// as it is. The listener answers with [`Program::errno`] of this program.
    #[must_use]
    pub fn notifying(&self) -> Self {
        let asked = |instruction: &Instruction| match *instruction {
            Instruction {
                code: RETURN, k, ..
            } if k & ACTION == RET_ERRNO => Instruction {
                k: RET_USER_NOTIF,
                ..*instruction
            },
            other => other,
        };
        Self(Cow::Owned(self.0.iter().map(asked).collect()))
    }

    /// The errno with which this program refuses `call`; none if it does something else.
    #[must_use]
    pub fn errno(&self, call: &SystemCall) -> Option<u16> {
        let value = self.result(call)?;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the lower half is the errno"
        )]
        (value & ACTION == RET_ERRNO).then_some(value as u16)
    }

    /// What the program returns for `call`; none if it is no program that the kernel would have taken.
    #[must_use]
    pub fn result(&self, call: &SystemCall) -> Option<u32> {
        let (mut accumulator, mut at) = (0_u32, 0_usize);
        // Every instruction leads further: no program is executed for longer than it is.
        loop {
            let Instruction { code, jt, jf, k } = *self.0.get(at)?;
            at += 1;
            let branch = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                0x20 => accumulator = call.word(k)?,
                0x54 => accumulator &= k,
                0x05 => at += k as usize,
                0x15 => at += branch(accumulator == k),
                0x25 => at += branch(accumulator > k),
                0x35 => at += branch(accumulator >= k),
                0x45 => at += branch(accumulator & k != 0),
                RETURN => return Some(k),
                _ => return None,
            }
        }
    }
}

impl SystemCall {
    /// The 32-bit word at `offset`; the instruction pointer, which no program here looks at, is zero.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "taking halves is the point"
    )]
    fn word(&self, offset: u32) -> Option<u32> {
        Some(match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            _ if offset.is_multiple_of(4) => {
                let argument = *self.arguments.get((offset as usize).checked_sub(16)? / 8)?;
                if offset.is_multiple_of(8) {
                    argument as u32
                } else {
                    (argument >> 32) as u32
                }
            }
            _ => return None,
        })
    }
}
