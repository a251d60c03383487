//! What is refused beside a policy's own table where the command shares the caller's namespaces.

mod interpreter;

use interpreter::{Call, run};
use palisade_policies::seccomp::{Action, compile, shared, x86_64::number};
use palisade_policies::{NetworkMode, Policy};

const HIGH: u64 = 0xdead_beef << 32;

fn answer(network: NetworkMode, name: &str, arguments: &[u64]) -> u32 {
    let program = compile(&[shared(network)], "shared").unwrap();
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    run(&program.0, &Call::native(number(name).unwrap(), all)).0
}

fn allowed(network: NetworkMode, name: &str, arguments: &[u64]) -> bool {
    answer(network, name, arguments) == Action::Allow.value()
}

#[test]
fn no_family_of_sockets_is_there_without_a_network_and_never_a_unix_socket() {
    for family in 0..64 {
        assert!(
            !allowed(NetworkMode::None, "socket", &[family, 1, 0]),
            "{family}"
        );
        let inet = matches!(family, 2 | 10 | 16);
        assert_eq!(
            allowed(NetworkMode::Host, "socket", &[family, 1, 0]),
            inet,
            "{family}"
        );
        // The kernel takes an int: high bits change nothing.
        assert_eq!(
            allowed(NetworkMode::Host, "socket", &[family | HIGH, 1, 0]),
            inet,
            "{family}"
        );
    }
}

#[test]
fn only_pairs_that_stay_connected_can_be_made() {
    const CLOEXEC_AND_NONBLOCK: u64 = 0o2_004_000;
    for network in [NetworkMode::None, NetworkMode::Host] {
        for kind in 0..16 {
            let kept = matches!(kind, 1 | 5);
            for flags in [0, CLOEXEC_AND_NONBLOCK, HIGH] {
                assert_eq!(
                    allowed(network, "socketpair", &[1, kind | flags, 0]),
                    kept,
                    "{kind}"
                );
                assert!(
                    !allowed(network, "socketpair", &[2, kind | flags, 0]),
                    "{kind}"
                );
            }
        }
    }
}

#[test]
fn other_processes_are_neither_limited_nor_scheduled() {
    for name in [
        "prlimit64",
        "sched_setaffinity",
        "sched_setattr",
        "sched_setparam",
        "sched_setscheduler",
    ] {
        assert!(allowed(NetworkMode::None, name, &[0, 1]), "{name}");
        for process in [1, 4711, u64::from(u32::MAX), 1 | HIGH] {
            assert!(
                !allowed(NetworkMode::None, name, &[process, 1]),
                "{name} {process}"
            );
        }
        // A pid_t: high bits do not hide oneself.
        assert!(allowed(NetworkMode::None, name, &[HIGH, 1]), "{name}");
    }
    assert!(allowed(NetworkMode::None, "setpriority", &[0, 0, 5]));
    assert!(allowed(NetworkMode::None, "ioprio_set", &[1, 0, 5]));
    for (name, which, who) in [
        ("setpriority", 0, 7),
        ("setpriority", 2, 0),
        ("ioprio_set", 1, 7),
        ("ioprio_set", 3, 0),
    ] {
        assert!(
            !allowed(NetworkMode::None, name, &[which, who, 5]),
            "{name} {which} {who}"
        );
    }
}

#[test]
fn nothing_else_is_refused() {
    for name in [
        "read", "openat", "execve", "clone", "kill", "connect", "chmod", "seccomp",
    ] {
        assert!(allowed(NetworkMode::None, name, &[1, 1, 1]), "{name}");
    }
    for name in ["shmget", "semget", "msgget", "mq_open"] {
        assert!(!allowed(NetworkMode::Host, name, &[]), "{name}");
    }
}

#[test]
fn one_program_refuses_what_either_would() {
    for name in ["strict", "default", "compat", "task"] {
        for network in [NetworkMode::None, NetworkMode::Host] {
            let mut policy = Policy::builtin(name).unwrap();
            policy.network.mode = network;
            let own = policy.seccomp().unwrap();
            let alone = compile(&[shared(network)], "shared").unwrap();
            let both = policy.seccomp_shared().unwrap();
            assert_eq!((own.len(), both.len()), (1, 1));
            for number in 0..512 {
                for first in [0, 1, 2, 10, 16, 0x1000_0000] {
                    let call = Call::native(number, [first, 1, 0, 0, 0, 0]);
                    let [own, alone, both] =
                        [&own[0], &alone, &both[0]].map(|program| run(&program.0, &call).0);
                    // Where both refuse, the policy's errno is what the command sees, and what is explained.
                    let expected = if own == Action::Allow.value() {
                        alone
                    } else {
                        own
                    };
                    assert_eq!(both, expected, "{name} {network:?} {number} {first:#x}");
                }
            }
        }
    }
}
