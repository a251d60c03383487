//! What is around this process: the kernel, its switches, filters, profiles, containers.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::path::Path;

/// Facts that are read, not tried. They say who it is that refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The kernel's release (uname(2)).
    pub kernel: String,
    /// Effective user and group id of the caller.
    pub ids: (u32, u32),
    /// /proc/self/uid_map in one line: `inside outside count`, ranges separated by commas.
    pub uid_map: String,
    /// /proc/self/gid_map likewise.
    pub gid_map: String,
    /// Effective capabilities, as a mask.
    pub capabilities: u64,
    /// Whether a system call filter is around this process.
    pub filtered: bool,
    /// Whether no_new_privs is set already.
    pub no_new_privileges: bool,
    /// The LSMs that the kernel runs, where it tells.
    pub lsm: Option<String>,
    /// The AppArmor profile, or SELinux context, of this process; none if there is none.
    pub confinement: Option<String>,
    /// What kind of container this seems to be in.
    pub container: Option<String>,
    /// Switches that matter, by their sysctl(8) names, as far as the kernel has them.
    pub sysctls: BTreeMap<&'static str, String>,
    /// Mounts below /proc, which keep a new one from being made in a user namespace.
    pub covers_of_proc: Vec<String>,
}

const SYSCTLS: [(&str, &str); 11] = [
    (
        "kernel.unprivileged_userns_clone",
        "/proc/sys/kernel/unprivileged_userns_clone",
    ),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    ),
    (
        "kernel.apparmor_restrict_unprivileged_unconfined",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_unconfined",
    ),
    (
        "user.max_user_namespaces",
        "/proc/sys/user/max_user_namespaces",
    ),
    (
        "user.max_mnt_namespaces",
        "/proc/sys/user/max_mnt_namespaces",
    ),
    (
        "user.max_pid_namespaces",
        "/proc/sys/user/max_pid_namespaces",
    ),
    (
        "user.max_ipc_namespaces",
        "/proc/sys/user/max_ipc_namespaces",
    ),
    (
        "user.max_uts_namespaces",
        "/proc/sys/user/max_uts_namespaces",
    ),
    (
        "user.max_net_namespaces",
        "/proc/sys/user/max_net_namespaces",
    ),
    (
        "user.max_cgroup_namespaces",
        "/proc/sys/user/max_cgroup_namespaces",
    ),
    (
        "kernel.yama.ptrace_scope",
        "/proc/sys/kernel/yama/ptrace_scope",
    ),
];

impl Surroundings {
    /// Reads them. What cannot be read is left empty: nothing here decides what holds.
    pub fn read() -> Self {
        let text = |path: &str| read_to_string(path).unwrap_or_default();
        let status = text("/proc/thread-self/status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        Self {
            kernel: nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            ids: (
                nix::unistd::geteuid().as_raw(),
                nix::unistd::getegid().as_raw(),
            ),
            uid_map: one_line(&text("/proc/self/uid_map")),
            gid_map: one_line(&text("/proc/self/gid_map")),
            capabilities: u64::from_str_radix(&field("CapEff:"), 16).unwrap_or(0),
            filtered: field("Seccomp:") == "2",
            no_new_privileges: field("NoNewPrivs:") == "1",
            lsm: read_to_string("/sys/kernel/security/lsm")
                .ok()
                .map(|list| list.trim().to_owned()),
            confinement: confinement(),
            container: container(),
            sysctls: SYSCTLS
                .iter()
                .filter_map(|(name, path)| {
                    let value = read_to_string(path).ok()?;
                    Some((*name, value.trim().to_owned()))
                })
                .collect(),
            covers_of_proc: covers_of_proc(&text("/proc/self/mountinfo")),
        }
    }

    /// Whether a switch stands at `value`.
    pub(super) fn switch(&self, name: &str, value: &str) -> bool {
        self.sysctls.get(name).is_some_and(|found| found == value)
    }

    /// Whether the caller is root of the machine, and not of a user namespace alone.
    pub(super) fn is_real_root(&self) -> bool {
        self.ids.0 == 0 && self.uid_map == "0 0 4294967295"
    }

    /// Whether the caller is a root that may not have its own id mapped.
    pub(super) fn is_root_without_setfcap(&self) -> bool {
        const CAP_SETFCAP: u64 = 31;
        self.ids.0 == 0 && self.capabilities & 1 << CAP_SETFCAP == 0
    }

    /// Whether the calling user is one that its own user namespace knows (user_namespaces(7), EPERM).
    pub(super) fn ids_are_mapped(&self) -> bool {
        maps(&self.uid_map, self.ids.0) && maps(&self.gid_map, self.ids.1)
    }
}

/// A map of /proc/self/uid_map in one line.
fn one_line(map: &str) -> String {
    map.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

fn maps(map: &str, id: u32) -> bool {
    // An unreadable map tells nothing.
    map.is_empty()
        || map.split(", ").any(|range| {
            let mut numbers = range.split(' ').map(|word| word.parse::<u64>().ok());
            match (numbers.next(), numbers.nth(1)) {
                (Some(Some(first)), Some(Some(count))) => {
                    (first..first.saturating_add(count)).contains(&u64::from(id))
                }
                _ => false,
            }
        })
}

/// The LSM context of this process, where it confines.
fn confinement() -> Option<String> {
    let current = read_to_string("/proc/self/attr/apparmor/current")
        .or_else(|_| read_to_string("/proc/self/attr/current"))
        .ok()?;
    let current = current.trim_matches(['\0', '\n', ' ']).to_owned();
    (!current.is_empty() && current != "unconfined").then_some(current)
}

/// The marks that engines leave.
fn container() -> Option<String> {
    let env = |name| std::env::var(name).ok();
    let kind = if env("KUBERNETES_SERVICE_HOST").is_some() {
        "kubernetes".to_owned()
    } else if Path::new("/.dockerenv").exists() {
        "docker".to_owned()
    } else if Path::new("/run/.containerenv").exists() {
        "podman".to_owned()
    } else {
        env("container").filter(|kind| !kind.is_empty() && kind.len() < 40)?
    };
    Some(kind)
}

/// Mount points below /proc. binfmt_misc is mounted on a directory made for it, and hides nothing (fs/namespace.c,
/// mount_too_revealing: permanently empty directories do not count).
fn covers_of_proc(mountinfo: &str) -> Vec<String> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.starts_with("/proc/") && *point != "/proc/sys/fs/binfmt_misc")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_in_a_map_or_it_is_not() {
        let map = one_line("         0       1000          1\n      1000     100000      65536\n");
        assert_eq!(map, "0 1000 1, 1000 100000 65536");
        assert!(maps(&map, 0) && maps(&map, 1000) && maps(&map, 66_535));
        assert!(!maps(&map, 1) && !maps(&map, 66_536));
    }

    #[test]
    fn what_covers_proc_is_found_and_binfmt_misc_does_not_count() {
        let mountinfo = "22 1 0:21 / /proc rw - proc proc rw\n\
             23 22 0:22 / /proc/sys/fs/binfmt_misc rw - binfmt_misc b rw\n\
             24 22 0:23 / /proc/kcore rw - tmpfs tmpfs rw\n\
             25 22 0:21 /sys /proc/sys ro - proc proc rw\n";
        assert_eq!(covers_of_proc(mountinfo), ["/proc/kcore", "/proc/sys"]);
    }

    #[test]
    fn this_machine_has_a_kernel_and_maps_its_caller() {
        let surroundings = Surroundings::read();
        assert!(surroundings.kernel.contains('.'));
        assert!(surroundings.ids_are_mapped());
    }
}
