//! docker's options that palisade does not have, each with what to use instead.

/// Long options and what to do in place of each of them, sorted by the first.
#[rustfmt::skip]
const TABLE: &[(&[&str], &str)] = &[
    (&["add-host"], "--mount type=bind,src=./hosts,dst=/etc/hosts,ro: no container network to name hosts of"),
    (&["attach"], "nothing: without -d standard output and error are always attached; -i attaches standard input"),
    (&["blkio-weight", "blkio-weight-device"], "--memory, --cpus and --pids-limit are the limits there are"),
    (&["cap-file"], "--cap-add, within what the policy allows"),
    (&["cgroup-parent"], "start palisade in the cgroup it shall stand below"),
    (&["cgroupns"], "nothing: a sandbox always has its own cgroup namespace"),
    (&["cpu-count", "cpu-percent", "cpu-rt-period", "cpu-rt-runtime"], "--cpus"),
    (&["device-cgroup-rule"], "--device, which shows one device and nothing more"),
    (&["device-read-bps", "device-read-iops", "device-write-bps", "device-write-iops"],
     "--policy FILE with the rates in its limits.io: io = [{ device = \"/dev/sda\", read-bps = \"50MiB\" }]"),
    (&["disable-content-trust"], "nothing: every digest is verified while an image is unpacked"),
    (&["dns", "dns-option", "dns-search"], "--network host, which uses the host's resolver"),
    (&["expose"], "nothing: it only documents a port; --network host reaches the host's ports"),
    (&["gpus"], "--device /dev/... for each device the program needs"),
    (&["ip", "ip6", "link-local-ip", "mac-address", "network-alias"], "--network none or --network host"),
    (&["ipc"], "nothing: a sandbox always has its own IPC namespace; --shm-size sizes its /dev/shm"),
    (&["isolation"], "--policy"),
    (&["kernel-memory"], "--memory, which counts kernel memory too"),
    (&["label-file"], "--label, once for each"),
    (&["link"], "--network host"),
    (&["memory-swappiness"], "--memory-swap"),
    (&["oom-kill-disable"], "--memory with a higher limit: a sandbox out of memory is ended, exit code 137"),
    (&["oom-score-adj"], "--memory, which ends the sandbox alone when it takes too much"),
    (&["pid"], "nothing: a sandbox always has its own PID namespace"),
    (&["privileged"], "--policy compat, and --device or --cap-add for what is missing"),
    (&["publish", "publish-all"], "--network host, where a port listened on is the host's"),
    (&["runtime"], "nothing: palisade is the runtime"),
    (&["sysctl"], "leave it out: kernel settings are read-only in a sandbox"),
    (&["use-api-socket"], "leave it out: there is no daemon and no socket"),
    (&["uts"], "nothing: a sandbox always has its own UTS namespace; --hostname names it"),
    (&["volume-driver"], "-v with a host directory"),
    (&["volumes-from"], "-v, the same for both"),
];

/// Their short names.
const SHORT: &[(char, &str)] = &[('a', "attach"), ('p', "publish"), ('P', "publish-all")];

/// What to do in place of docker's option `long`, if it is one that palisade lacks.
pub fn instead_of(long: &str) -> Option<&'static str> {
    let row = TABLE.iter().find(|(names, _)| names.contains(&long));
    row.map(|(_, instead)| *instead)
}

/// The long name of docker's short option.
pub fn long_of(short: char) -> Option<&'static str> {
    let row = SHORT.iter().find(|(letter, _)| *letter == short);
    row.map(|(_, long)| *long)
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
