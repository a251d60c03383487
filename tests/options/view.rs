//! What programs read about the machine agrees with the limits. `--best-effort` lets an ordinary user whom the host gives
//! no cgroup see it too.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread::available_parallelism;

use crate::rig::{Rig, assert_code, describe, text};

const LIMITS: [&str; 7] = [
    "-q",
    "--best-effort",
    "--memory",
    "64m",
    "--memory-swap=64m",
    "--cpus",
    "1",
];

const MEMORY: &str = "busybox grep -E '^(MemTotal|SwapTotal):' /proc/meminfo";

#[track_caller]
fn said(rig: &Rig, options: &[&str], script: &str) -> String {
    let output = rig.sh(options, script);
    assert_code(&output, 0);
    text(&output.stdout)
}

fn host_has_processors_to_spare() -> bool {
    available_parallelism().unwrap().get() > 1
}

#[test]
fn memory_is_the_limit() {
    let rig = Rig::new();
    assert_eq!(
        said(&rig, &LIMITS, MEMORY),
        "MemTotal:          65536 kB\nSwapTotal:             0 kB\n"
    );
}

#[test]
fn processors_are_as_many_as_the_limit_leaves_wherever_a_program_counts_them() {
    let rig = Rig::new();
    let script = "busybox nproc; busybox grep -c ^processor /proc/cpuinfo; busybox grep -c '^cpu[0-9]' /proc/stat; \
                  cd /sys/devices/system/cpu; for list in online possible present; do busybox wc -l <$list; done; \
                  set -- cpu*; echo $#; test cpu$(cat online) = $1";
    if host_has_processors_to_spare() {
        assert_eq!(
            said(&rig, &LIMITS, script),
            "1\n1\n1\n1\n1\n1\n1\n".to_owned()
        );
        let only = "ls -d /sys/d*; ls /sys/devices; ls /sys | busybox grep -vx fs";
        assert_eq!(said(&rig, &LIMITS, only), "/sys/devices\nsystem\ndevices\n");
    }
}

#[test]
fn a_limit_of_more_than_one_processor_is_rounded_up() {
    let rig = Rig::new();
    let all = available_parallelism().unwrap().get();
    let options = ["-q", "--best-effort", "--cpus", "1.25"];
    assert_eq!(
        said(&rig, &options, "busybox nproc"),
        format!("{}\n", all.min(2))
    );
}

#[test]
fn without_limits_the_hosts_numbers_show_and_nothing_is_mounted() {
    let rig = Rig::new();
    let host = fs::read_to_string("/proc/meminfo").unwrap();
    let total = host.lines().next().unwrap();
    let script = "head -n 1 /proc/meminfo; ls /sys; busybox cut -d ' ' -f 5 /proc/self/mountinfo | \
                  busybox grep -cE '^/(sys|proc/(meminfo|stat|cpuinfo|loadavg))$'; \
                  busybox nproc";
    let all = available_parallelism().unwrap();
    assert_eq!(said(&rig, &[], script), format!("{total}\n0\n{all}\n"));
}

#[test]
fn nothing_of_it_can_be_changed_from_inside() {
    let rig = Rig::new();
    let script = "for path in /proc/meminfo /proc/loadavg; do echo x 2>/dev/null >$path; echo $?; done; \
                  busybox chmod 777 /proc/meminfo 2>/dev/null; echo $?; busybox umount /proc/meminfo 2>/dev/null; echo $?";
    assert_eq!(said(&rig, &LIMITS, script), "1\n1\n1\n1\n");
}

#[test]
fn what_a_policy_hides_stays_hidden() {
    let rig = Rig::new();
    let policy = rig.path("hides.toml");
    let masked = r#"["/proc/meminfo", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"]"#;
    fs::write(&policy, format!("[filesystem]\nmasked-paths = {masked}\n")).unwrap();
    let option = format!("--policy={}", policy.display());
    let options = [&[option.as_str()], LIMITS.as_slice()].concat();
    assert_eq!(
        said(
            &rig,
            &options,
            "busybox wc -c </proc/meminfo; cat /proc/loadavg"
        ),
        "0\n0.00 0.00 0.00 1/1 1\n"
    );
}

/// What there is of cgroups inside, and what the sandbox can do to it.
const OWN_CGROUP: &str = "
    cd /sys/fs/cgroup 2>/dev/null || { echo none; exit; }
    for file in memory.max memory/memory.limit_in_bytes; do test -e $file && cat $file; done
    echo self $(busybox cut -d: -f3 /proc/self/cgroup | busybox sort -u)
    for place in . *; do
        test -d $place && echo 1 2>/dev/null >$place/cgroup.procs && echo joined
        test -d $place && busybox mkdir $place/new 2>/dev/null && echo made
    done
    test -e memory/memory.limit_in_bytes && cd memory
    # Those of the sandbox alone: its first process and these shells.
    busybox cat cgroup.procs sandbox/cgroup.procs 2>/dev/null | busybox grep -c . | busybox grep -qx '[1-9]' && echo few
    # Below the root of cgroup v2 the processes are in a leaf of the sandbox's own.
    busybox find . -mindepth 1 -type d ! -path ./sandbox";

#[test]
fn the_sandboxs_own_cgroup_is_shown_read_only_and_no_other() {
    let rig = Rig::new();
    let policy = rig.path("sys.toml");
    fs::write(&policy, "[filesystem]\nsys = \"read-only\"\n").unwrap();
    let with_sys = format!("--policy={}", policy.display());
    let has_cgroup = rig.sh(&["-q", "--require=full"], "true").status.success();
    for more in [&[][..], &[with_sys.as_str()]] {
        let options = [more, &LIMITS].concat();
        let expected = if has_cgroup {
            "67108864\nself /\nfew\n"
        } else if more.is_empty() {
            "none\n"
        } else {
            // The kernel's own, empty.
            continue;
        };
        assert_eq!(said(&rig, &options, OWN_CGROUP), expected, "{more:?}");
    }
    // Nothing is limited, and nothing shown.
    assert_eq!(said(&rig, &["-q"], OWN_CGROUP), "none\n");
}

#[test]
fn a_cgroup_file_system_of_the_users_own_stays() {
    let rig = Rig::new();
    let place = rig.path("workspace");
    fs::write(place.join("mine"), "").unwrap();
    let mount = format!("{}:/sys/fs/cgroup", place.display());
    let options = [&["-v", &mount], LIMITS.as_slice()].concat();
    assert_eq!(said(&rig, &options, "ls /sys/fs/cgroup"), "mine\n");
}

#[test]
fn a_policys_own_limits_show_too() {
    let rig = Rig::new();
    let options = ["-q", "--policy=task", "--best-effort"];
    let total = said(&rig, &options, "head -n 1 /proc/meminfo");
    assert_eq!(total, "MemTotal:         524288 kB\n");
}

#[test]
fn a_read_only_sys_shows_the_processors_of_the_limit() {
    let rig = Rig::new();
    let policy = rig.path("sys.toml");
    fs::write(&policy, "[filesystem]\nsys = \"read-only\"\n").unwrap();
    let option = format!("--policy={}", policy.display());
    let options = [&[option.as_str()], LIMITS.as_slice()].concat();
    if host_has_processors_to_spare() {
        let script = "busybox wc -l </sys/devices/system/cpu/online; cat /sys/devices/system/cpu/online | busybox tr -d '0-9\\n' | busybox wc -c; \
                      test -d /sys/class && echo whole";
        assert_eq!(said(&rig, &options, script), "1\n0\nwhole\n");
    }
}

#[test]
fn an_image_whose_sys_leads_elsewhere_is_refused() {
    if !host_has_processors_to_spare() {
        return;
    }
    let rig = Rig::new();
    let image = rig.path("image");
    fs::remove_dir(image.join("sys")).unwrap();
    symlink("/etc", image.join("sys")).unwrap();
    let output = rig.run(&LIMITS, &["true"]);
    assert_code(&output, 125);
    let said = text(&output.stderr);
    assert!(said.contains("mount"), "{}", describe(&output));
}
