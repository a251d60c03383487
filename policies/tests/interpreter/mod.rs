//! Runs classic BPF as the kernel's seccomp does, and tables of rules as their words say.
#![allow(
    clippy::cast_possible_truncation,
    reason = "words of arguments, and small random numbers"
)]

use palisade_policies::Instruction;
use palisade_policies::seccomp::{Action, Comparison, Condition, Table, Width, x86_64};

/// What a filter sees (`struct seccomp_data`, linux/seccomp.h).
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub number: u32,
    pub arch: u32,
    pub arguments: [u64; 6],
}

impl Call {
    pub fn native(number: u32, arguments: [u64; 6]) -> Self {
        Self {
            number,
            arch: x86_64::AUDIT_ARCH,
            arguments,
        }
    }

    fn word(&self, offset: u32) -> u32 {
        assert!(
            offset.is_multiple_of(4) && offset < 64,
            "the kernel refuses a load at {offset}"
        );
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            _ => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) {
                    argument as u32
                } else {
                    (argument >> 32) as u32
                }
            }
        }
    }
}

/// The program's result and how many instructions it took.
pub fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    assert!(!program.is_empty() && program.len() <= 4096);
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    for steps in 1..=program.len() {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x45 => at += branch(accumulator & k != 0),
            0x06 => return (k, steps),
            _ => panic!(
                "instruction {code:#x} is not one that the kernel's cache of served calls understands"
            ),
        }
    }
    panic!("the program does not end");
}

/// What `tables` say, rule by rule.
#[allow(dead_code, reason = "not every test file uses it")]
pub fn naive(tables: &[Table], call: &Call) -> Action {
    if call.arch != x86_64::AUDIT_ARCH {
        return Action::KillProcess;
    }
    let x32 = call.number >= x86_64::X32;
    let start = if x32 {
        Action::Errno(38)
    } else {
        Action::Allow
    };
    tables.iter().fold(start, |older, table| {
        let rules = if x32 {
            None
        } else {
            table.rules.get(&call.number)
        };
        let holding = rules
            .into_iter()
            .flatten()
            .find(|rule| rule.conditions.iter().all(|c| holds(c, call)));
        older.stacked(holding.map_or(table.default, |rule| rule.action))
    })
}

fn holds(condition: &Condition, call: &Call) -> bool {
    let whole = |value: u64| match condition.width {
        Width::Dword => value & 0xffff_ffff,
        Width::Qword => value,
    };
    let argument = whole(call.arguments[usize::from(condition.argument)]);
    let value = whole(condition.value);
    match condition.comparison {
        Comparison::Eq => argument == value,
        Comparison::Ne => argument != value,
        Comparison::Lt => argument < value,
        Comparison::Le => argument <= value,
        Comparison::Gt => argument > value,
        Comparison::Ge => argument >= value,
        Comparison::MaskedEq(mask) => argument & whole(mask) == value,
    }
}

/// A generator of numbers that gives the same ones every time (xorshift64*, Vigna 2016).
#[allow(dead_code, reason = "not every test file uses it")]
pub struct Random(pub u64);

#[allow(dead_code, reason = "not every test file uses it")]
impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
