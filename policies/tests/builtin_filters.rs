//! The built-in filters against docs/policy.md's table, written down a second time in seccompiler's terms, and against the
//! running kernel.

mod interpreter;

use std::process::Command;

use interpreter::{Call, run};
use palisade_policies::seccomp::x86_64::{self, number};
use palisade_policies::{Base, Denied, Instruction, Policy};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EPROTONOSUPPORT: u32 = 93;
const EAFNOSUPPORT: u32 = 97;
const BUILTINS: [(&str, Base); 3] = [
    ("strict", Base::Strict),
    ("default", Base::Default),
    ("compat", Base::Compat),
];

fn ours(name: &str) -> Vec<Instruction> {
    let mut programs = Policy::builtin(name)
        .expect("built in")
        .seccomp()
        .expect("static");
    assert_eq!(programs.len(), 1);
    programs.remove(0).0.into_owned()
}

fn filter(
    rules: Vec<(&str, Vec<SeccompRule>)>,
    other: SeccompAction,
    matched: SeccompAction,
) -> Vec<Instruction> {
    let rules = rules
        .into_iter()
        .map(|(name, rules)| (i64::from(number(name).expect(name)), rules))
        .collect();
    let filter = SeccompFilter::new(rules, other, matched, TargetArch::x86_64).expect("valid");
    let program: BpfProgram = filter.try_into().expect("compiles");
    program
        .iter()
        .map(|i| Instruction {
            code: i.code,
            jt: i.jt,
            jf: i.jf,
            k: i.k,
        })
        .collect()
}

fn all(conditions: &[(u8, Op, u64)]) -> SeccompRule {
    let conditions = conditions.iter();
    let conditions = conditions.map(|(argument, op, value)| {
        SeccompCondition::new(*argument, Len::Dword, op.clone(), *value).expect("valid")
    });
    SeccompRule::new(conditions.collect()).expect("valid")
}

/// A column of the table as four filters with one action each.
fn oracle(base: Base) -> Vec<Vec<Instruction>> {
    let errno = SeccompAction::Errno;
    let not = |argument, values: &[u64]| {
        values
            .iter()
            .map(move |v| (argument, Op::Ne, *v))
            .collect::<Vec<_>>()
    };
    let served = served(base)
        .into_iter()
        .map(|name| (name, vec![]))
        .collect();
    let mut refused = refused(base);
    let namespaces = [
        0x0002_0000,
        0x0200_0000,
        0x0400_0000,
        0x0800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
    ];
    refused.push((
        "clone",
        namespaces
            .map(|flag| all(&[(0, Op::MaskedEq(flag), flag)]))
            .to_vec(),
    ));
    let requests = [0x5412, 0x541c, 0x5423, 0x541d, 0x4b3a];
    refused.push((
        "ioctl",
        requests
            .map(|request| all(&[(1, Op::Eq, request)]))
            .to_vec(),
    ));
    let personalities: &[u64] = match base {
        Base::Strict => &[0, 0xffff_ffff],
        Base::Default => &[0, 0xffff_ffff, 8, 0x20000, 0x20008],
        Base::Compat => &[
            0,
            0xffff_ffff,
            8,
            0x20000,
            0x20008,
            0x40000,
            0x40008,
            0x60000,
            0x60008,
        ],
    };
    refused.push(("personality", vec![all(&not(0, personalities))]));
    let netlink: &[u64] = if base == Base::Compat {
        &[0, 4, 15, 16]
    } else {
        &[0]
    };
    let mut other_netlink = not(2, netlink);
    other_netlink.push((0, Op::Eq, 16));
    let families = vec![
        (
            "socket",
            vec![all(&not(0, &[1, 2, 10, 16])), all(&other_netlink)],
        ),
        ("socketpair", vec![all(&not(0, &[1]))]),
    ];
    let protocols: &[u64] = if base == Base::Strict {
        &[0, 6, 17]
    } else {
        &[0, 6, 17, 1, 58]
    };
    let mut inet = Vec::new();
    for family in [2, 10] {
        let mut other = not(2, protocols);
        other.push((0, Op::Eq, family));
        inet.push(all(&other));
        // Neither SOCK_STREAM nor SOCK_DGRAM.
        for kind in [0].into_iter().chain(3..16) {
            inet.push(all(&[(0, Op::Eq, family), (1, Op::MaskedEq(0xf), kind)]));
        }
    }
    vec![
        filter(served, errno(ENOSYS), SeccompAction::Allow),
        filter(refused, SeccompAction::Allow, errno(EPERM)),
        filter(families, SeccompAction::Allow, errno(EAFNOSUPPORT)),
        filter(
            vec![("socket", inet)],
            SeccompAction::Allow,
            errno(EPROTONOSUPPORT),
        ),
    ]
}

/// What is refused whatever its arguments.
fn refused(base: Base) -> Vec<(&'static str, Vec<SeccompRule>)> {
    let mut refused: Vec<(&'static str, Vec<SeccompRule>)> = "mount umount2 chroot pivot_root setns open_tree move_mount fsopen fsconfig \
        fsmount fspick mount_setattr open_tree_attr bpf perf_event_open userfaultfd io_uring_setup io_uring_enter \
        io_uring_register keyctl add_key request_key pidfd_getfd open_by_handle_at quotactl quotactl_fd kexec_load \
        kexec_file_load init_module finit_module delete_module reboot swapon swapoff acct settimeofday clock_settime \
        clock_adjtime adjtimex sethostname setdomainname iopl ioperm vhangup syslog fanotify_init fanotify_mark \
        move_pages migrate_pages unshare create_module query_module get_kernel_syms nfsservctl"
        .split_whitespace()
        .map(|name| (name, vec![]))
        .collect();
    if base != Base::Compat {
        let more = "process_vm_readv process_vm_writev process_madvise kcmp get_mempolicy mbind set_mempolicy set_mempolicy_home_node";
        refused.extend(more.split_whitespace().map(|name| (name, vec![])));
    }
    if base == Base::Strict {
        refused.extend(
            "ptrace mknod mknodat name_to_handle_at"
                .split_whitespace()
                .map(|name| (name, vec![])),
        );
    }
    refused
}

/// The allow list: moby's profile for a container without capabilities, read from its own file, less and plus what the
/// table says.
fn served(base: Base) -> Vec<&'static str> {
    let mut served: Vec<&str> = include_str!("moby-without-capabilities.txt")
        .split_whitespace()
        .collect();
    let less = "memfd_secret clock_adjtime adjtimex fanotify_mark vmsplice uretprobe modify_ldt remap_file_pages \
        name_to_handle_at process_vm_readv process_vm_writev";
    let strict = "ptrace mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mknod mknodat statmount \
        listmount sched_setaffinity sched_setattr sched_setparam sched_setscheduler ioprio_set process_mrelease";
    let compat = "process_vm_readv process_vm_writev process_madvise kcmp get_mempolicy mbind set_mempolicy \
        set_mempolicy_home_node modify_ldt name_to_handle_at vmsplice";
    served.retain(|name| !less.split_whitespace().any(|less| less == *name));
    match base {
        Base::Strict => served.retain(|name| !strict.split_whitespace().any(|less| less == *name)),
        Base::Default => {}
        Base::Compat => served.extend(compat.split_whitespace()),
    }
    served.sort_unstable();
    served.dedup();
    served
}

/// What the kernel makes of several filters: the lowest action as a signed number, and of equal ones the newest.
fn kernel(filters: &[Vec<Instruction>], call: &Call) -> u32 {
    let action = |value: u32| (value & 0xffff_0000).cast_signed();
    filters
        .iter()
        .rev()
        .map(|filter| run(filter, call).0)
        .reduce(|newer, older| {
            if action(older) < action(newer) {
                older
            } else {
                newer
            }
        })
        .expect("there are filters")
}

/// Calls with arguments that matter to some rule, and with garbage in the high halves.
fn calls(number: u32) -> Vec<Call> {
    let interesting: [&[u64]; 3] = [
        &[
            0,
            1,
            2,
            8,
            10,
            16,
            17,
            40,
            0x11,
            0x20000,
            0x20008,
            0x40000,
            0x60008,
            0x003d_0f00,
            0x1000_0011,
            0x0200_0000,
            0xffff_ffff,
        ],
        &[
            0, 1, 2, 3, 5, 0x80001, 0x80003, 0x80802, 0x5412, 0x541c, 0x541d, 0x5423, 0x4b3a,
            0x5413,
        ],
        &[0, 1, 4, 6, 15, 16, 17, 58, 132, 255, 262],
    ];
    let mut calls = Vec::new();
    for first in interesting[0] {
        for second in interesting[1] {
            for third in interesting[2] {
                for high in [0, 1 << 32, 0xffff_ffff_0000_0000] {
                    calls.push(Call::native(
                        number,
                        [first | high, second | high, third | high, 0, 0, 0],
                    ));
                }
            }
        }
    }
    calls
}

#[test]
fn every_system_call_gets_what_the_table_says() {
    let argument_checked = ["clone", "ioctl", "personality", "socket", "socketpair"]
        .map(|name| number(name).expect(name));
    for (name, base) in BUILTINS {
        let (ours, oracle) = (ours(name), oracle(base));
        for number in 0..600 {
            let all = calls(number);
            let some = if argument_checked.contains(&number) {
                &all[..]
            } else {
                &all[..40]
            };
            for call in some {
                assert_eq!(
                    run(&ours, call).0,
                    kernel(&oracle, call),
                    "{name}: {:?} {call:x?}",
                    x86_64::name(number)
                );
            }
        }
    }
}

#[test]
fn x32_calls_are_unknown_and_foreign_ones_kill() {
    for (name, _) in BUILTINS {
        let ours = ours(name);
        for number in 0..600 {
            let mut call = Call::native(x86_64::X32 | number, [0; 6]);
            assert_eq!(
                run(&ours, &call).0,
                0x0005_0000 | ENOSYS,
                "{name}: x32 {number}"
            );
            call.number = number;
            // i386, arm, aarch64, riscv64, nothing.
            for arch in [0x4000_0003, 0x4000_0028, 0xc000_00b7, 0xc000_00f3, 0] {
                call.arch = arch;
                assert_eq!(
                    run(&ours, &call).0,
                    0x8000_0000,
                    "{name}: {arch:x} {number}"
                );
            }
        }
        for number in [u32::MAX, 1 << 31, 0x3fff_ffff] {
            assert_eq!(
                run(&ours, &Call::native(number, [0; 6])).0,
                0x0005_0000 | ENOSYS,
                "{name}: {number:x}"
            );
        }
    }
}

#[test]
fn the_programs_are_short_and_shallow() {
    for (name, _) in BUILTINS {
        let ours = ours(name);
        let steps: Vec<usize> = (0..470)
            .map(|number| run(&ours, &Call::native(number, [0; 6])).1)
            .collect();
        let socket = run(&ours, &Call::native(41, [2, 1, 6, 0, 0, 0])).1;
        let ioctl = run(&ours, &Call::native(16, [0, 0x5401, 0, 0, 0, 0])).1;
        let clone = run(&ours, &Call::native(56, [0x003d_0f00, 0, 0, 0, 0, 0])).1;
        let most = steps.iter().max().expect("there are calls");
        let average = steps.iter().sum::<usize>() / steps.len();
        println!(
            "{name}: {} instructions; per call {average} on average, {most} at most; socket {socket}, ioctl {ioctl}, clone {clone}",
            ours.len()
        );
        assert!(ours.len() <= 120, "{name} has {} instructions", ours.len());
        assert!(
            *most <= 20 && socket <= 20 && ioctl <= 20 && clone <= 20,
            "{name} is deep"
        );
    }
}

/// What a process sees under `policy`: for each system call, an errno, or 0.
fn errnos_under(policy: &Policy, calls: &[String]) -> Vec<u32> {
    let programs = policy.seccomp().expect("it compiles");
    let script = calls.iter().fold("$| = 1;".to_owned(), |script, call| {
        script + &format!("$! = 0; my $r = syscall({call}); print $r == -1 ? $! + 0 : 0, qq(\\n);")
    });
    let probed = std::thread::spawn(move || {
        for program in programs {
            let program: Vec<sock_filter> = program
                .0
                .iter()
                .map(|i| sock_filter {
                    code: i.code,
                    jt: i.jt,
                    jf: i.jf,
                    k: i.k,
                })
                .collect();
            seccompiler::apply_filter(&program).expect("the kernel takes the program");
        }
        Command::new("perl")
            .args(["-e", &script])
            .output()
            .expect("perl starts under the filter")
    });
    let output = probed.join().expect("the thread ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines()
        .map(|line| line.parse().expect("an errno"))
        .collect()
}

#[test]
fn the_kernel_takes_every_program_and_refuses_what_it_should() {
    let expected: [(&str, &str, u32); 17] = [
        ("getpid", "", 0),
        ("clone3", ", 0, 0", ENOSYS),
        ("file_getattr", ", 0, 0, 0, 0, 0", ENOSYS),
        ("memfd_secret", ", 0", ENOSYS),
        ("unshare", ", 0", EPERM),
        ("mount", ", 0, 0, 0, 0, 0", EPERM),
        ("io_uring_setup", ", 0, 0", EPERM),
        ("keyctl", ", 0, 0, 0, 0, 0", EPERM),
        ("clone", ", 0x10000011, 0, 0, 0, 0", EPERM),
        ("ioctl", ", 0, 0x5412, 0", EPERM),
        ("ioctl", ", 0, 0x100005412, 0", EPERM),
        ("personality", ", 0x0080000", EPERM),
        ("personality", ", 0xffffffff", 0),
        ("socket", ", 40, 1, 0", EAFNOSUPPORT),
        ("socket", ", 2, 3, 1", EPROTONOSUPPORT),
        ("socket", ", 2, 1, 262", EPROTONOSUPPORT),
        ("socket", ", 1, 1, 0", 0),
    ];
    let calls: Vec<_> = expected
        .iter()
        .map(|(name, arguments, _)| format!("{}{arguments}", number(name).expect(name)))
        .collect();
    for (name, _) in BUILTINS {
        let errnos = errnos_under(&Policy::builtin(name).expect("built in"), &calls);
        for ((call, arguments, expected), seen) in expected.iter().zip(errnos) {
            assert_eq!(seen, *expected, "{name}: {call}{arguments}");
        }
    }
}

#[test]
fn a_policy_refines_its_table_by_name() {
    let mut policy = Policy::builtin("default").expect("built in");
    policy.syscalls.allow = vec!["vmsplice".to_owned()];
    policy.syscalls.deny = vec![Denied {
        name: "getppid".to_owned(),
        errno: 13,
    }];
    let vmsplice = format!("{}, -1, 0, 0, 0", number("vmsplice").expect("vmsplice"));
    let getppid = number("getppid").expect("getppid").to_string();
    let ebadf = 9;
    assert_eq!(errnos_under(&policy, &[vmsplice, getppid]), [ebadf, 13]);
}

#[test]
fn a_capability_adds_what_docker_adds_for_it_and_a_denial_still_wins() {
    let mut policy = Policy::builtin("default").expect("built in");
    policy.capabilities = vec!["CAP_SYS_ADMIN".to_owned(), "CAP_NET_RAW".to_owned()];
    policy.syscalls.deny = vec![Denied {
        name: "setns".to_owned(),
        errno: 1,
    }];
    let program = policy.seccomp().expect("it compiles").remove(0).0;
    let act = |name, arguments| {
        run(
            &program,
            &Call::native(number(name).expect(name), arguments),
        )
        .0
    };
    assert_eq!(act("mount", [0; 6]), 0x7fff_0000);
    assert_eq!(act("clone", [0x1000_0000, 0, 0, 0, 0, 0]), 0x7fff_0000);
    assert_eq!(act("socket", [17, 3, 0, 0, 0, 0]), 0x7fff_0000);
    assert_eq!(act("socket", [2, 3, 1, 0, 0, 0]), 0x7fff_0000);
    assert_eq!(act("setns", [0; 6]), 0x0005_0001);
    assert_eq!(act("kexec_load", [0; 6]), 0x0005_0001);
    assert_eq!(
        act("socket", [40, 1, 0, 0, 0, 0]),
        0x0005_0000 | EAFNOSUPPORT
    );
}

#[test]
fn a_program_that_asks_a_listener_answers_as_the_one_that_refuses() {
    const ASKED: u32 = 0x7fc0_0000;
    for (name, _) in BUILTINS {
        let plain = palisade_policies::Program(ours(name).into());
        let asking = plain.notifying();
        let (mut refused, mut same) = (0, 0);
        for number in (0..600).chain([0x4000_0001]) {
            for first in [0, 1, 2, 16, 17, 0x1000_0000, u64::MAX] {
                let arguments = [first, 0x5412, first, 0, 0, 0];
                let call = Call::native(number, arguments);
                let (before, after) = (run(&plain.0, &call).0, run(&asking.0, &call).0);
                let seen = palisade_policies::SystemCall {
                    number,
                    arch: x86_64::AUDIT_ARCH,
                    arguments,
                };
                assert_eq!(plain.result(&seen), Some(before));
                if let Some(errno) = plain.errno(&seen) {
                    assert_eq!((before, after), (0x5_0000 | u32::from(errno), ASKED));
                    refused += 1;
                } else {
                    assert_eq!(before, after);
                    same += 1;
                }
            }
        }
        assert!(refused > 100 && same > 100, "{name}");
        let foreign = palisade_policies::SystemCall {
            number: 1,
            arch: 0x4000_0003,
            arguments: [0; 6],
        };
        assert_eq!(asking.result(&foreign), Some(0x8000_0000), "still killed");
    }
}
