//! docker's options that palisade does not have, each with what to use instead.

/// `(long, short, what to do instead)`, sorted by name.
const TABLE: &[(&str, char, &str)] = &[
    (
        "add-host",
        '\0',
        "--mount type=bind,src=./hosts,dst=/etc/hosts,ro: no container network to name hosts of",
    ),
    (
        "attach",
        'a',
        "nothing: without -d standard output and error are always attached; -i attaches standard input",
    ),
    (
        "blkio-weight",
        '\0',
        "--memory, --cpus and --pids-limit are the limits there are",
    ),
    (
        "blkio-weight-device",
        '\0',
        "--memory, --cpus and --pids-limit are the limits there are",
    ),
    ("cap-file", '\0', "--cap-add, within what the policy allows"),
    (
        "cgroup-parent",
        '\0',
        "start palisade in the cgroup it shall stand below",
    ),
    (
        "cgroupns",
        '\0',
        "nothing: a sandbox always has its own cgroup namespace",
    ),
    ("cpu-count", '\0', "--cpus"),
    ("cpu-percent", '\0', "--cpus"),
    ("cpu-rt-period", '\0', "--cpus"),
    ("cpu-rt-runtime", '\0', "--cpus"),
    (
        "device-cgroup-rule",
        '\0',
        "--device, which shows one device and nothing more",
    ),
    (
        "device-read-bps",
        '\0',
        "--memory, --cpus and --pids-limit are the limits there are",
    ),
    (
        "device-read-iops",
        '\0',
        "--memory, --cpus and --pids-limit are the limits there are",
    ),
    (
        "device-write-bps",
        '\0',
        "--memory, --cpus and --pids-limit are the limits there are",
    ),
    (
        "device-write-iops",
        '\0',
        "--memory, --cpus and --pids-limit are the limits there are",
    ),
    (
        "disable-content-trust",
        '\0',
        "nothing: every digest is verified while an image is unpacked",
    ),
    (
        "dns",
        '\0',
        "--network host, which uses the host's resolver",
    ),
    (
        "dns-option",
        '\0',
        "--network host, which uses the host's resolver",
    ),
    (
        "dns-search",
        '\0',
        "--network host, which uses the host's resolver",
    ),
    (
        "expose",
        '\0',
        "nothing: it only documents a port; --network host reaches the host's ports",
    ),
    (
        "gpus",
        '\0',
        "--device /dev/... for each device the program needs",
    ),
    ("ip", '\0', "--network none or --network host"),
    ("ip6", '\0', "--network none or --network host"),
    (
        "ipc",
        '\0',
        "nothing: a sandbox always has its own IPC namespace; --shm-size sizes its /dev/shm",
    ),
    ("isolation", '\0', "--policy"),
    (
        "kernel-memory",
        '\0',
        "--memory, which counts kernel memory too",
    ),
    ("label-file", '\0', "--label, once for each"),
    ("link", '\0', "--network host"),
    ("link-local-ip", '\0', "--network none or --network host"),
    ("mac-address", '\0', "--network none or --network host"),
    ("memory-swappiness", '\0', "--memory-swap"),
    ("network-alias", '\0', "--network none or --network host"),
    (
        "oom-kill-disable",
        '\0',
        "--memory with a higher limit: a sandbox out of memory is ended, exit code 137",
    ),
    (
        "oom-score-adj",
        '\0',
        "--memory, which ends the sandbox alone when it takes too much",
    ),
    (
        "pid",
        '\0',
        "nothing: a sandbox always has its own PID namespace",
    ),
    (
        "privileged",
        '\0',
        "--policy compat, and --device or --cap-add for what is missing",
    ),
    (
        "publish",
        'p',
        "--network host, where a port listened on is the host's",
    ),
    (
        "publish-all",
        'P',
        "--network host, where a port listened on is the host's",
    ),
    ("runtime", '\0', "nothing: palisade is the runtime"),
    (
        "sysctl",
        '\0',
        "leave it out: kernel settings are read-only in a sandbox",
    ),
    (
        "use-api-socket",
        '\0',
        "leave it out: there is no daemon and no socket",
    ),
    (
        "uts",
        '\0',
        "nothing: a sandbox always has its own UTS namespace; --hostname names it",
    ),
    ("volume-driver", '\0', "-v with a host directory"),
    ("volumes-from", '\0', "-v, the same for both"),
];

/// What to do in place of docker's option `long`, if it is one that palisade lacks.
pub fn instead_of(long: &str) -> Option<&'static str> {
    TABLE.iter().find(|row| row.0 == long).map(|row| row.2)
}

/// The long name of docker's short option.
pub fn long_of(short: char) -> Option<&'static str> {
    TABLE.iter().find(|row| row.1 == short).map(|row| row.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_is_both_there_and_not() {
        for option in crate::cli::run::OPTIONS {
            assert_eq!(instead_of(option.long), None, "--{}", option.long);
            assert!(
                option.short.is_none_or(|s| long_of(s).is_none()),
                "-{:?}",
                option.short
            );
        }
    }
}
