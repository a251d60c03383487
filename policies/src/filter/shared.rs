//! What is refused besides the policy where the command shares the caller's namespaces: what Landlock does not mediate.

use super::rule::{Action, Comparison, Condition, Rule, Table};
use super::x86_64;
use crate::policy::NetworkMode;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
const EPROTONOSUPPORT: u16 = 93;
const EAFNOSUPPORT: u16 = 97;

/// Address families and socket types (socket(2)); a type's flags are above its low four bits.
const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const SOCK_STREAM: u64 = 1;
const SOCK_SEQPACKET: u64 = 5;
const TYPE: u64 = 0xf;

/// Without an IPC namespace these reach segments and queues of the caller's other programs.
const IPC: [&str; 16] = [
    "shmget",
    "shmat",
    "shmctl",
    "shmdt",
    "semget",
    "semop",
    "semtimedop",
    "semctl",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
    "mq_open",
    "mq_unlink",
    "mq_notify",
    "mq_getsetattr",
];

/// Ways around the rules for sockets, and keys that are the caller's own: refused whatever the policy's own table allows.
const AROUND: [(&str, u16); 6] = [
    ("io_uring_setup", ENOSYS),
    ("io_uring_enter", ENOSYS),
    ("io_uring_register", ENOSYS),
    ("keyctl", EPERM),
    ("add_key", EPERM),
    ("request_key", EPERM),
];

/// Calls that take a process id in their first argument, and change another process of the same user by it.
const ON_A_PROCESS: [&str; 5] = [
    "prlimit64",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
];

/// The table that goes before a policy's own where the command has neither namespaces nor a root of its own.
///
/// - Sockets: a UNIX socket by path leads to every service of the caller's (Landlock mediates that since its ninth version),
///   so there is none but a connected pair. Without a network, no other family either.
/// - System V IPC, message queues, io_uring and keyrings are missing.
/// - Limits, scheduling and priority of other processes cannot be set.
#[must_use]
pub fn shared(network: NetworkMode) -> Table {
    let mut table = Table::new(Action::Allow);
    let mut rule = |name: &str, conditions: Vec<Condition>, action| {
        if let Some(number) = x86_64::number(name) {
            table.push(number, Rule { conditions, action });
        }
    };
    let family = |family| vec![Condition::int(0, Comparison::Eq, family)];
    if network == NetworkMode::Host {
        for known in [AF_INET, AF_INET6, AF_NETLINK] {
            rule("socket", family(known), Action::Allow);
        }
    }
    rule("socket", Vec::new(), Action::Errno(EAFNOSUPPORT));
    // A datagram socket of a pair can be connected anew, to a path (unix(7)); these two cannot.
    for kind in [SOCK_STREAM, SOCK_SEQPACKET] {
        let mut conditions = family(AF_UNIX);
        conditions.push(Condition {
            comparison: Comparison::MaskedEq(TYPE),
            ..Condition::int(1, Comparison::Eq, u32::try_from(kind).unwrap_or(0))
        });
        rule("socketpair", conditions, Action::Allow);
    }
    rule("socketpair", Vec::new(), Action::Errno(EPROTONOSUPPORT));
    for name in IPC {
        rule(name, Vec::new(), Action::Errno(ENOSYS));
    }
    for (name, errno) in AROUND {
        rule(name, Vec::new(), Action::Errno(errno));
    }
    for name in ON_A_PROCESS {
        rule(
            name,
            vec![Condition::int(0, Comparison::Ne, 0)],
            Action::Errno(EPERM),
        );
    }
    for name in ["setpriority", "ioprio_set"] {
        rule(
            name,
            vec![Condition::int(1, Comparison::Ne, 0)],
            Action::Errno(EPERM),
        );
        // 0 stands for oneself in PRIO_PROCESS and IOPRIO_WHO_PROCESS alone, which are 0 and 1.
        let most = u32::from(name == "ioprio_set");
        rule(
            name,
            vec![Condition::int(0, Comparison::Gt, most)],
            Action::Errno(EPERM),
        );
    }
    table
}
