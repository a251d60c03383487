//! Rules as people write them: which system call, under which conditions on its arguments, what happens.

use std::collections::BTreeMap;

/// What the kernel does with a system call (seccomp(2)), from most to least restrictive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// SIGSYS ends the whole process.
    KillProcess,
    /// SIGSYS ends the calling thread.
    KillThread,
    /// The thread gets SIGSYS and can handle it.
    Trap,
    /// The call fails with this errno, 0 to 4095.
    Errno(u16),
    /// A tracer is told this number; without one the call fails with ENOSYS.
    Trace(u16),
    /// The call is served and logged.
    Log,
    /// The call is served.
    Allow,
}

impl Action {
    /// What a program returns for it (`SECCOMP_RET_…`, linux/seccomp.h).
    #[must_use]
    pub fn value(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Trace(message) => 0x7ff0_0000 | u32::from(message),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// What the kernel does when an older filter says `self` and a `newer` one says that: the more restrictive action
    /// holds, and on a tie the newer filter's data.
    #[must_use]
    pub fn stacked(self, newer: Self) -> Self {
        if self.restriction() > newer.restriction() {
            self
        } else {
            newer
        }
    }

    /// The larger, the more restrictive.
    fn restriction(self) -> u8 {
        match self {
            Self::KillProcess => 6,
            Self::KillThread => 5,
            Self::Trap => 4,
            Self::Errno(_) => 3,
            Self::Trace(_) => 2,
            Self::Log => 1,
            Self::Allow => 0,
        }
    }
}

/// How much of an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// The low 32 bits: for every argument that the kernel takes as an int, or else high bits slip past (CVE-2019-10063).
    Dword,
    /// All 64 bits.
    Qword,
}

/// How an argument is compared, without sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Equal in the bits of this mask.
    MaskedEq(u64),
}

/// One condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How much of it.
    pub width: Width,
    /// How.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

impl Condition {
    /// A condition on an argument that the kernel takes as an int.
    #[must_use]
    pub const fn int(argument: u8, comparison: Comparison, value: u32) -> Self {
        Self {
            argument,
            width: Width::Dword,
            comparison,
            value: value as u64,
        }
    }
}

/// What happens when all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold; none always holds.
    pub conditions: Vec<Condition>,
    /// What then happens.
    pub action: Action,
}

impl Rule {
    /// A rule that always holds.
    #[must_use]
    pub fn always(action: Action) -> Self {
        Self {
            conditions: Vec::new(),
            action,
        }
    }
}

/// One filter: rules per system call number and an action for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What happens where no rule holds.
    pub default: Action,
    /// Rules in order: the first that holds decides.
    pub rules: BTreeMap<u32, Vec<Rule>>,
}

impl Table {
    /// A table without rules.
    #[must_use]
    pub fn new(default: Action) -> Self {
        Self {
            default,
            rules: BTreeMap::new(),
        }
    }

    /// Adds a rule after those that the system call has.
    pub fn push(&mut self, number: u32, rule: Rule) {
        self.rules.entry(number).or_default().push(rule);
    }
}
