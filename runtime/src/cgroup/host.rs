//! Where this host has its cgroup hierarchies, and where the calling process is in each.
//!
//! Sources: cgroups(7), `proc_pid_mountinfo(5)`.

use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::Error;
use super::controllers::Controllers;
use super::directory::read_path;

/// The hierarchies of a host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    /// cgroup v2, which may be without controllers on a hybrid host.
    pub unified: Option<Hierarchy>,
    /// cgroup v1, each with the controllers it has.
    pub v1: Vec<(Controllers, Hierarchy)>,
}

/// One mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// The directory where it is mounted.
    pub root: PathBuf,
    /// The directory of the calling process's own cgroup, when it can be seen there.
    pub own: Option<PathBuf>,
}

const USUAL_ROOT: &str = "/sys/fs/cgroup";

impl Host {
    /// Looks at this host.
    pub fn find() -> Result<Self, Error> {
        Self::around(&read_path("/proc/self/cgroup")?)
    }

    /// Looks at this host as another process would: its own cgroups are that process's.
    pub fn of(pid: i32) -> Result<Self, Error> {
        Self::around(&read_path(&format!("/proc/{pid}/cgroup"))?)
    }

    fn around(membership: &str) -> Result<Self, Error> {
        // A host with thousands of mounts makes the reading of mountinfo slow, and most have cgroup v2 where it is expected.
        if statfs(USUAL_ROOT).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
            && let Some(path) = membership.lines().find_map(|line| line.strip_prefix("0::"))
        {
            let own = below(Path::new(USUAL_ROOT), path);
            if own.join("cgroup.procs").exists() {
                return Ok(Self {
                    unified: Some(Hierarchy {
                        root: USUAL_ROOT.into(),
                        own: Some(own),
                    }),
                    v1: Vec::new(),
                });
            }
        }
        Ok(Self::parse(&read_path("/proc/self/mountinfo")?, membership))
    }

    /// All of them, those of cgroup v1 first: they may be mounted on directories of cgroup v2.
    pub fn hierarchies(&self) -> impl Iterator<Item = &Hierarchy> {
        let v1 = self.v1.iter().map(|(_, hierarchy)| hierarchy);
        v1.chain(&self.unified)
    }

    /// The process's own cgroup in the hierarchy that a directory is in, when it can be seen there.
    pub fn own_in_hierarchy_of(&self, directory: &Path) -> Option<&Path> {
        let mut hierarchies = self.hierarchies();
        let found = hierarchies.find(|hierarchy| directory.starts_with(&hierarchy.root));
        found?.own.as_deref()
    }

    /// Reads the two files of /proc/self.
    fn parse(mountinfo: &str, membership: &str) -> Self {
        let mut host = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let mut right = right.split(' ');
            let unified = match right.next() {
                Some("cgroup2") => true,
                Some("cgroup") => false,
                _ => continue,
            };
            let mut left = left.split(' ').skip(3);
            let (Some(mount_root), Some(mount_point)) = (left.next(), left.next()) else {
                continue;
            };
            let root = PathBuf::from(unescape(mount_point));
            let options = right.nth(1).unwrap_or_default();
            let controllers = Controllers::of_v1_list(options);
            let known = if unified {
                host.unified.is_some()
            } else {
                host.v1.iter().any(|(seen, _)| *seen == controllers)
            };
            if known || (!unified && controllers.is_empty()) {
                continue;
            }
            let own = membership.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':');
                let (id, names, path) = (fields.next()?, fields.next()?, fields.next()?);
                let ours = if unified {
                    id == "0" && names.is_empty()
                } else {
                    Controllers::of_v1_list(names) == controllers
                };
                let inside = Path::new(path)
                    .strip_prefix(unescape(mount_root))
                    .ok()?
                    .to_str()?
                    .to_owned();
                ours.then(|| below(&root, &inside))
            });
            let hierarchy = Hierarchy { root, own };
            if unified {
                host.unified = Some(hierarchy);
            } else {
                host.v1.push((controllers, hierarchy));
            }
        }
        host
    }
}

/// How control groups are laid out on this host, in a few words.
pub fn layout() -> &'static str {
    match Host::find() {
        Err(_) => "cannot be told",
        Ok(host) => match (host.unified.is_some(), host.v1.is_empty()) {
            (true, true) => "v2",
            (true, false) => "v1 and v2 (hybrid)",
            (false, false) => "v1",
            (false, true) => "none mounted",
        },
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    if path.is_empty() {
        root.into()
    } else {
        root.join(path)
    }
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            None => plain.push_str(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::super::controllers::Controller;
    use super::*;

    #[test]
    fn a_v2_host_has_one_hierarchy_and_no_v1() {
        let host = Host::parse(
            "28 22 0:25 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n29 22 0:26 / /proc rw - proc proc rw\n",
            "0::/user.slice/user-1000.slice/session-1.scope\n",
        );
        let own = "/sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope";
        assert_eq!(
            host.unified,
            Some(Hierarchy {
                root: "/sys/fs/cgroup".into(),
                own: Some(own.into())
            })
        );
        assert!(host.v1.is_empty());
    }

    #[test]
    fn a_hybrid_host_has_both_and_named_hierarchies_are_left_alone() {
        let host = Host::parse(
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "9:name=systemd:/\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n",
        );
        assert_eq!(
            host.unified.unwrap().root,
            Path::new("/sys/fs/cgroup/unified")
        );
        assert_eq!(host.v1.len(), 2);
        assert!(
            host.v1[0].0.contains(Controller::Cpu) && host.v1[0].0.contains(Controller::Cpuacct)
        );
        assert_eq!(
            host.v1[0].1.own.as_deref(),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct"))
        );
        assert_eq!(
            host.v1[1].1.own.as_deref(),
            Some(Path::new("/sys/fs/cgroup/memory/a/b"))
        );
    }

    #[test]
    fn inside_a_container_the_own_cgroup_is_found_below_the_mounts_root() {
        let host = Host::parse(
            "35 31 0:32 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            "4:memory:/docker/x/child\n",
        );
        assert_eq!(
            host.v1[0].1.own.as_deref(),
            Some(Path::new("/sys/fs/cgroup/memory/child"))
        );
        let elsewhere = Host::parse(
            "35 31 0:32 /docker/x /m ro - cgroup cgroup rw,memory\n",
            "4:memory:/other\n",
        );
        assert_eq!(elsewhere.v1[0].1.own, None);
    }

    #[test]
    fn a_mount_point_with_a_space_is_read_rightly() {
        let host = Host::parse("1 2 0:3 / /a\\040b rw - cgroup2 c rw\n", "0::/\n");
        assert_eq!(host.unified.unwrap().root, Path::new("/a b"));
    }

    #[test]
    fn broken_lines_are_no_hierarchies() {
        assert_eq!(
            Host::parse("\n - cgroup2\n1 2 - cgroup cgroup rw,memory\nx", "0:\n:\n"),
            Host::default()
        );
    }
}
