//! Who calls palisade, and from where: the facts of the machine that a plan is resolved against.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use nix::unistd::{getegid, geteuid};

use crate::failure::{Failure, reason};

/// The caller's side of a run. Tests fill it by hand.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// The working directory.
    pub cwd: PathBuf,
    /// The environment, in its order.
    pub environment: Vec<(OsString, OsString)>,
    /// Ids the caller may hand out: the ranges of /etc/subuid (subuid(5)), if newuidmap and newgidmap are installed.
    pub subordinate_uids: Vec<IdRange>,
    /// The same of /etc/subgid.
    pub subordinate_gids: Vec<IdRange>,
    /// Every range of /etc/subuid and /etc/subgid, whoever's it is. Read for root alone.
    pub reserved: Vec<IdRange>,
    /// Whether uid 0 is the machine's real one: false inside a user namespace.
    pub initial_user_namespace: bool,
    /// Hard resource limits by name; what is not listed has none.
    pub hard_limits: Vec<(String, u64)>,
}

/// Ids `first..first + count` of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first id.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Caller {
    /// Reads the facts. The tables of subordinate ids are read where a range may be needed: for root, and on `ranges`.
    ///
    /// # Errors
    /// The working directory is gone, or a table that root's ids are chosen by cannot be read.
    pub fn read(ranges: bool) -> Result<Self, Failure> {
        let mut caller = Self::of_process()?;
        if caller.is_root() {
            // They may not be guessed: the ids that stand for the sandbox's on the host are chosen by them.
            for table in ["/etc/subuid", "/etc/subgid"] {
                let table = readable(table)?.unwrap_or_default();
                caller.reserved.extend(ranges_of(&table, |_| true));
            }
        } else if ranges && has_map_helpers() {
            let passwd = read_table("/etc/passwd");
            let name = name_of(&passwd, caller.uid);
            let number = caller.uid.to_string();
            let mine = |owner: &str| owner == number || name == Some(owner);
            caller.subordinate_uids = ranges_of(&read_table("/etc/subuid"), mine);
            caller.subordinate_gids = ranges_of(&read_table("/etc/subgid"), mine);
        }
        Ok(caller)
    }

    /// The facts of this process alone, for a verb that hands out no ids.
    ///
    /// # Errors
    /// The working directory is gone, or root's user namespace cannot be told.
    pub fn of_process() -> Result<Self, Failure> {
        let cwd = std::env::current_dir().map_err(|error| {
            Failure::new(
                format!("cannot tell the working directory: {}", reason(&error)),
                "cd to a directory that exists",
            )
        })?;
        let mut caller = Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            cwd,
            environment: std::env::vars_os().collect(),
            ..Self::default()
        };
        if caller.is_root() {
            // Not to be guessed either: the host's root has its sandboxes and images elsewhere.
            let map = readable("/proc/self/uid_map")?.unwrap_or_default();
            caller.initial_user_namespace = maps_everything(&map);
        }
        Ok(caller)
    }

    /// Whether the effective user id is 0, in whatever user namespace.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether the caller may hand out any id of the machine.
    pub fn is_real_root(&self) -> bool {
        self.is_root() && self.initial_user_namespace
    }

    /// A variable of the caller's environment.
    pub fn variable(&self, name: &OsStr) -> Option<&OsStr> {
        self.environment
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// `path` as an absolute path without `.` and `..` by name alone: symbolic links are left for the kernel.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        let mut out = PathBuf::new();
        for part in self.cwd.join(path).components() {
            match part {
                Component::ParentDir => {
                    out.pop();
                }
                Component::CurDir => {}
                part => out.push(part),
            }
        }
        out
    }
}

/// A file's text; none where there is no such file.
fn readable(path: &str) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(
            format!("cannot read {path}: {}", reason(&error)),
            "make it readable: the ids of sandboxes are chosen by it",
        )),
    }
}

fn read_table(path: &str) -> String {
    // An unreadable table grants nothing.
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The name of a user in passwd(5). getpwuid(3) would load the host's NSS libraries, which crashes a static program.
fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

fn has_map_helpers() -> bool {
    ["newuidmap", "newgidmap"].iter().all(|name| {
        ["/usr/bin", "/bin", "/usr/sbin"]
            .iter()
            .any(|dir| Path::new(dir).join(name).exists())
    })
}

/// Whether a uid_map (user_namespaces(7)) is that of the initial namespace.
fn maps_everything(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The ranges in `owner:first:count` lines whose owner is wanted.
fn ranges_of(table: &str, wanted: impl Fn(&str) -> bool) -> Vec<IdRange> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next().filter(|owner| wanted(owner))?;
            let first = fields.next()?.parse().ok()?;
            let count = fields.next()?.parse().ok()?;
            (fields.next().is_none() && !owner.is_empty()).then_some(IdRange { first, count })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_that_hands_out_no_ids_takes_this_process_for_the_root_that_the_others_do() {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        let real = geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"]);
        assert_eq!(Caller::of_process().unwrap().is_real_root(), real);
        assert_eq!(Caller::read(false).unwrap().is_real_root(), real);
    }

    #[test]
    fn lines_of_subuid_that_make_no_sense_grant_nothing() {
        let table = "me:100000:65536\n1000:300000:10\nother:1:2\n:7:7\nme:x:1\nme:1\nme:1:2:3\n";
        let ranges = ranges_of(table, |owner| {
            owner == "me" || owner == "1000" || owner.is_empty()
        });
        assert_eq!(
            ranges,
            [
                IdRange {
                    first: 100_000,
                    count: 65536
                },
                IdRange {
                    first: 300_000,
                    count: 10
                }
            ]
        );
    }

    #[test]
    fn a_user_is_named_as_passwd_has_it_or_not_at_all() {
        let passwd = "root:x:0:0::/:/bin/sh\n:x:7:7:::\nodd\nme:x:1000:100::/home/me:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000), Some("me"));
        assert_eq!(name_of(passwd, 0), Some("root"));
        assert_eq!((name_of(passwd, 7), name_of(passwd, 54321)), (None, None));
    }

    #[test]
    fn the_initial_user_namespace_is_told_from_another() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("         0     100000      65536\n"));
        assert!(!maps_everything(""));
    }

    #[test]
    fn paths_become_absolute_by_name() {
        let caller = Caller {
            cwd: "/srv/tree".into(),
            ..Caller::default()
        };
        assert_eq!(
            caller.absolute(Path::new("./a/../b")),
            Path::new("/srv/tree/b")
        );
        assert_eq!(caller.absolute(Path::new("../../..")), Path::new("/"));
        assert_eq!(caller.absolute(Path::new("/x/./y")), Path::new("/x/y"));
    }
}
