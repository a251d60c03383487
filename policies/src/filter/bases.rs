//! The built-in tables: which system calls `strict`, `default` and `compat` serve, and why the others are not served.
//!
//! The starting point is what Docker serves to a container without capabilities (moby's default profile). A call that
//! is in no list fails with ENOSYS, so that programs fall back as on an older kernel; a call that is known and refused
//! fails with EPERM, as it would for want of a privilege.

use super::rule::{Action, Comparison, Condition, Rule, Table};
use super::x86_64::number;
use crate::policy::{Base, Denied, Syscalls};

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
const EPROTONOSUPPORT: u16 = 93;
const EAFNOSUPPORT: u16 = 97;

/// Served by every base.
#[rustfmt::skip]
const SERVED: &[&str] = &[
    // Files: open, read, write, metadata, names, locks, watches.
    "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3",
    "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown",
    "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fremovexattr", "fsetxattr", "fstat",
    "fstatfs", "fsync", "ftruncate", "futimesat", "getcwd", "getdents", "getdents64", "getxattr", "getxattrat",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "lchown", "lgetxattr", "link", "linkat",
    "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "mkdir", "mkdirat",
    "newfstatat", "open", "openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2",
    "read", "readahead", "readlink", "readlinkat", "readv", "removexattr", "removexattrat", "rename", "renameat",
    "renameat2", "rmdir", "sendfile", "setxattr", "setxattrat", "splice", "stat", "statfs", "statx", "symlink",
    "symlinkat", "sync", "sync_file_range", "syncfs", "tee", "truncate", "umask", "unlink", "unlinkat", "utime",
    "utimensat", "utimes", "write", "writev",
    // Memory.
    "brk", "cachestat", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "mincore", "mlock", "mlock2",
    "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap", "pkey_alloc",
    "pkey_free", "pkey_mprotect",
    // Processes and threads; clone has its own rule.
    "alarm", "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "futex",
    "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "get_robust_list", "get_thread_area", "getcpu",
    "getegid", "geteuid", "getgid", "getgroups", "getitimer", "getpgid", "getpgrp", "getpid", "getppid",
    "getpriority", "getresgid", "getresuid", "getrlimit", "getrusage", "getsid", "gettid", "getuid", "ioprio_get",
    "kill", "pause", "pidfd_open", "pidfd_send_signal", "prctl", "prlimit64", "restart_syscall", "rseq",
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_yield",
    "set_robust_list", "set_thread_area", "set_tid_address", "setfsgid", "setfsuid", "setgid", "setgroups",
    "setitimer", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid", "setrlimit", "setsid",
    "setuid", "sigaltstack", "tgkill", "tkill", "vfork", "wait4", "waitid",
    // Time.
    "clock_getres", "clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "time", "timer_create",
    "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime",
    "timerfd_settime", "times",
    // Waiting, pipes, asynchronous I/O; ioctl has its own rule.
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "epoll_wait_old", "eventfd", "eventfd2", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup",
    "io_submit", "ioctl", "pipe", "pipe2", "poll", "ppoll", "pselect6", "select", "signalfd", "signalfd4",
    // Sockets; socket and socketpair have their own rules.
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketpair",
    // System V IPC: its own namespace.
    "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt",
    "shmget",
    // The machine, and confining oneself further.
    "clone", "getrandom", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "personality",
    "seccomp", "sysinfo", "uname",
];

/// Served by `default` and `compat`: debuggers, message queues, special files, scheduling.
#[rustfmt::skip]
const SERVED_BY_DEFAULT: &[&str] = &[
    "ptrace", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "mknod",
    "mknodat", "statmount", "listmount", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "ioprio_set", "process_mrelease",
];

/// Served by `compat`: looking into other processes of the sandbox, memory placement, rarely used corners.
#[rustfmt::skip]
const SERVED_BY_COMPAT: &[&str] = &[
    "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "get_mempolicy", "mbind", "set_mempolicy",
    "set_mempolicy_home_node", "modify_ldt", "name_to_handle_at", "vmsplice",
];

/// Known and refused by every base.
#[rustfmt::skip]
const REFUSED: &[&str] = &[
    // Mounts and roots, in the old words and the new.
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr",
    // Namespaces; clone has its own rule.
    "setns", "unshare",
    // Large kernel interfaces with a history of holes.
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
    // Keyrings are not namespaced.
    "keyctl", "add_key", "request_key",
    // Reaching past path checks or into other processes' descriptors.
    "pidfd_getfd", "open_by_handle_at", "fanotify_init", "fanotify_mark", "quotactl", "quotactl_fd",
    // The machine: kernel, modules, power, swap, accounting, clock, names, ports, terminals, log. The kernel has given
    // up nfsservctl and create_module to query_module.
    "kexec_load", "kexec_file_load", "create_module", "init_module", "delete_module", "finit_module",
    "get_kernel_syms", "query_module", "nfsservctl", "reboot", "swapon", "swapoff", "acct", "settimeofday",
    "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "iopl", "ioperm", "vhangup", "syslog",
    // Moving other processes' memory.
    "move_pages", "migrate_pages",
];

/// Known and refused by `strict` and `default`.
#[rustfmt::skip]
const REFUSED_BY_DEFAULT: &[&str] = &[
    "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "get_mempolicy", "mbind", "set_mempolicy",
    "set_mempolicy_home_node",
];

/// Known and refused by `strict`.
const REFUSED_BY_STRICT: &[&str] = &["ptrace", "mknod", "mknodat", "name_to_handle_at"];

/// ioctl requests that reach beyond the terminal they are made on (asm-generic/ioctls.h, linux/kd.h).
#[rustfmt::skip]
const REFUSED_IOCTLS: &[u32] = &[
    0x5412, // TIOCSTI types into the terminal (CVE-2017-5226).
    0x541c, // TIOCLINUX pastes into the console.
    0x541d, // TIOCCONS takes the console's output.
    0x5423, // TIOCSETD loads line disciplines.
    0x4b3a, // KDSETMODE.
];

/// Namespace flags of clone(2), all but `CLONE_NEWTIME`, which clone's own argument has no room for.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

// linux/socket.h, linux/net.h, linux/in.h.
const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const AF_PACKET: u32 = 17;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_TYPE_MASK: u64 = 0xf;
const IPPROTO_IP: u32 = 0;
const IPPROTO_ICMP: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_ICMPV6: u32 = 58;

/// personality(2): `ADDR_NO_RANDOMIZE`, which debuggers set.
const NO_ASLR: u64 = 0x0004_0000;

/// What each capability adds, as in Docker's profile: (capability, system calls served whatever their arguments).
#[rustfmt::skip]
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_BPF", &["bpf"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at", "name_to_handle_at"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_SYS_ADMIN", &[
        "bpf", "clone", "clone3", "fanotify_init", "fanotify_mark", "fsconfig", "fsmount", "fsopen", "fspick",
        "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr",
        "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname",
        "setns", "syslog", "umount2", "unshare",
    ]),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ("CAP_SYS_RAWIO", &["iopl", "ioperm"]),
    ("CAP_SYS_TIME", &["settimeofday", "clock_settime", "clock_adjtime", "adjtimex"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

/// The tables of `syscalls` for a command that keeps `capabilities` (`CAP_…`), oldest first: the kernel's rule for
/// stacked filters holds among them, the most restrictive action and on a tie the newest errno.
#[must_use]
pub fn tables(syscalls: &Syscalls, capabilities: &[String]) -> Vec<Table> {
    let base = syscalls.base;
    let has = |capability: &str| capabilities.iter().any(|kept| kept == capability);
    let mut tables = vec![
        served(base),
        refused(base),
        arguments(base),
        families(base, has("CAP_NET_RAW"), has("CAP_NET_ADMIN")),
        protocols(base, has("CAP_NET_RAW")),
    ];
    let by_capability = BY_CAPABILITY
        .iter()
        .filter(|(capability, _)| has(capability))
        .flat_map(|(_, names)| *names);
    let allowed = by_capability
        .copied()
        .chain(syscalls.allow.iter().map(String::as_str))
        .filter_map(number);
    for number in allowed {
        for table in &mut tables {
            table
                .rules
                .insert(number, vec![Rule::always(Action::Allow)]);
        }
    }
    tables.push(denied(&syscalls.deny));
    tables
}

/// What is served; everything else is as if the kernel did not know it.
fn served(base: Base) -> Table {
    let more: &[&[&str]] = match base {
        Base::Strict => &[],
        Base::Default => &[SERVED_BY_DEFAULT],
        Base::Compat => &[SERVED_BY_DEFAULT, SERVED_BY_COMPAT],
    };
    always(
        Action::Errno(ENOSYS),
        Action::Allow,
        [SERVED].iter().chain(more).copied().flatten(),
    )
}

/// What is known and refused.
fn refused(base: Base) -> Table {
    let more: &[&[&str]] = match base {
        Base::Strict => &[REFUSED_BY_DEFAULT, REFUSED_BY_STRICT],
        Base::Default => &[REFUSED_BY_DEFAULT],
        Base::Compat => &[],
    };
    always(
        Action::Allow,
        Action::Errno(EPERM),
        [REFUSED].iter().chain(more).copied().flatten(),
    )
}

/// What is refused for some arguments: clone, ioctl, personality.
fn arguments(base: Base) -> Table {
    let mut table = Table::new(Action::Allow);
    let refuse = Action::Errno(EPERM);
    let clone = call("clone");
    rule(
        &mut table,
        clone,
        &[Condition::int(0, Comparison::MaskedEq(CLONE_NAMESPACES), 0)],
        Action::Allow,
    );
    rule(&mut table, clone, &[], refuse);
    for request in REFUSED_IOCTLS {
        rule(
            &mut table,
            call("ioctl"),
            &[Condition::int(1, Comparison::Eq, *request)],
            refuse,
        );
    }
    let personality = call("personality");
    let (values, ignored): (&[u32], u64) = match base {
        Base::Strict => (&[0], 0),
        Base::Default => (&[0, 8, 0x20000, 0x20008], 0),
        Base::Compat => (&[0, 8, 0x20000, 0x20008], NO_ASLR),
    };
    // Asks what the personality is, and changes nothing.
    rule(
        &mut table,
        personality,
        &[Condition::int(0, Comparison::Eq, u32::MAX)],
        Action::Allow,
    );
    for value in values {
        let equal = Comparison::MaskedEq(u64::from(u32::MAX) & !ignored);
        rule(
            &mut table,
            personality,
            &[Condition::int(0, equal, *value)],
            Action::Allow,
        );
    }
    rule(&mut table, personality, &[], refuse);
    table
}

/// Which address families sockets can have.
fn families(base: Base, packet: bool, all_netlink: bool) -> Table {
    let mut table = Table::new(Action::Allow);
    let refuse = Action::Errno(EAFNOSUPPORT);
    let family = |family| Condition::int(0, Comparison::Eq, family);
    let socket = call("socket");
    for inet in [AF_INET, AF_INET6, AF_UNIX] {
        rule(&mut table, socket, &[family(inet)], Action::Allow);
    }
    if packet {
        rule(&mut table, socket, &[family(AF_PACKET)], Action::Allow);
    }
    // linux/netlink.h: 0 routes, 4 socket diagnosis, 15 device events, 16 generic.
    let netlink: &[u32] = if base == Base::Compat {
        &[0, 4, 15, 16]
    } else {
        &[0]
    };
    if all_netlink {
        rule(&mut table, socket, &[family(AF_NETLINK)], Action::Allow);
    }
    for protocol in netlink {
        let protocol = Condition::int(2, Comparison::Eq, *protocol);
        rule(
            &mut table,
            socket,
            &[family(AF_NETLINK), protocol],
            Action::Allow,
        );
    }
    rule(&mut table, socket, &[], refuse);
    // The kernel makes both sockets before it asks whether the family has pairs; only this one has any use.
    rule(
        &mut table,
        call("socketpair"),
        &[family(AF_UNIX)],
        Action::Allow,
    );
    rule(&mut table, call("socketpair"), &[], refuse);
    table
}

/// Which protocols internet sockets can have: neither raw ones nor MPTCP and its like, which Landlock's and firewalls'
/// TCP rules do not see.
fn protocols(base: Base, raw: bool) -> Table {
    let mut table = Table::new(Action::Allow);
    if raw {
        return table;
    }
    let protocols: &[u32] = match base {
        Base::Strict => &[IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP],
        Base::Default | Base::Compat => &[
            IPPROTO_IP,
            IPPROTO_TCP,
            IPPROTO_UDP,
            IPPROTO_ICMP,
            IPPROTO_ICMPV6,
        ],
    };
    let socket = call("socket");
    rule(
        &mut table,
        socket,
        &[
            Condition::int(0, Comparison::Ne, AF_INET),
            Condition::int(0, Comparison::Ne, AF_INET6),
        ],
        Action::Allow,
    );
    // The type's upper bits are SOCK_CLOEXEC and SOCK_NONBLOCK; the types that are neither are raw ones and SCTP's.
    for kind in [SOCK_STREAM, SOCK_DGRAM] {
        let kind = Condition::int(1, Comparison::MaskedEq(SOCK_TYPE_MASK), kind);
        for protocol in protocols {
            rule(
                &mut table,
                socket,
                &[kind, Condition::int(2, Comparison::Eq, *protocol)],
                Action::Allow,
            );
        }
    }
    rule(&mut table, socket, &[], Action::Errno(EPROTONOSUPPORT));
    table
}

/// What a policy refuses beyond its base.
fn denied(deny: &[Denied]) -> Table {
    let mut table = Table::new(Action::Allow);
    for denied in deny {
        if let Some(number) = number(&denied.name) {
            rule(&mut table, number, &[], Action::Errno(denied.errno));
        }
    }
    table
}

fn always<'a>(default: Action, action: Action, names: impl Iterator<Item = &'a &'a str>) -> Table {
    let mut table = Table::new(default);
    for name in names {
        rule(&mut table, call(name), &[], action);
    }
    table
}

fn rule(table: &mut Table, number: u32, conditions: &[Condition], action: Action) {
    table.push(
        number,
        Rule {
            conditions: conditions.to_vec(),
            action,
        },
    );
}

/// The number of a call that these tables name.
fn call(name: &str) -> u32 {
    number(name).unwrap_or_else(|| panic!("{name} is a system call of this architecture"))
}
