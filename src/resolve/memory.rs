//! What the policy has in memory, and what that allows at a place and below it.

use std::path::{Path, PathBuf};

use palisade_policies::{Policy, Tmpfs};

use super::limits::SHM;

/// What a tmpfs at a place may be by the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Most bytes.
    pub size: u64,
    /// Most files and directories; none for the kernel's default.
    pub inodes: Option<u64>,
    /// Something on it can be executed.
    pub exec: bool,
}

/// What the policy allows at a place: what the nearest of its tmpfs at or above it allows, else what its scratch space does.
pub fn allowed(destination: &Path, policy: &Policy, home: &Path) -> Allowed {
    let files = &policy.filesystem;
    let elsewhere = Allowed {
        size: files.scratch_size,
        inodes: files.scratch_inodes,
        exec: !nothing_executes(policy),
    };
    // Every sandbox has these, and nothing is executed there.
    let everywhere = [("/dev", files.scratch_size), (SHM, policy.limits.shm)];
    let everywhere = everywhere.into_iter().map(|(path, size)| {
        let exec = false;
        (
            PathBuf::from(path),
            Allowed {
                size,
                exec,
                ..elsewhere
            },
        )
    });
    tmpfs(policy, home)
        .map(|(path, tmpfs)| {
            let allowed = Allowed {
                size: tmpfs.size,
                inodes: tmpfs.inodes,
                exec: !tmpfs.noexec,
            };
            (path, allowed)
        })
        .chain(everywhere)
        .filter(|(path, _)| destination.starts_with(path))
        .max_by_key(|(path, _)| path.components().count())
        .map_or(elsewhere, |(_, allowed)| allowed)
}

/// The policy's tmpfs and where they are; not the one of a home directory that must not be covered.
pub fn tmpfs<'a>(
    policy: &'a Policy,
    home: &'a Path,
) -> impl Iterator<Item = (PathBuf, &'a Tmpfs)> + 'a {
    let all = policy.filesystem.tmpfs.iter();
    all.filter_map(move |tmpfs| {
        let is_home = tmpfs.path == "~" || Path::new(&tmpfs.path) == home;
        let path = expand(&tmpfs.path, home);
        (!is_home || may_cover(&path)).then_some((path, tmpfs))
    })
}

/// Whether the policy lets nothing be executed on what is in memory.
fn nothing_executes(policy: &Policy) -> bool {
    let tmpfs = &policy.filesystem.tmpfs;
    !tmpfs.is_empty() && tmpfs.iter().all(|tmpfs| tmpfs.noexec)
}

/// Whether a home directory is one that may be covered: system users live in /, /bin or /usr/sbin.
pub fn may_cover(home: &Path) -> bool {
    const SYSTEM: [&str; 11] = [
        "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin", "/sys",
        "/usr",
    ];
    const PLACES: [&str; 5] = ["/", "/home", "/opt", "/srv", "/var"];
    !PLACES.iter().any(|place| home == Path::new(place))
        && !SYSTEM.iter().any(|place| home.starts_with(place))
}

/// A policy's path, where a leading `~` is the home directory.
fn expand(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix('~') {
        Some(rest) => home
            .join(rest.trim_start_matches('/'))
            .components()
            .collect(),
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_homes_of_system_users_are_not_covered() {
        for home in [
            "/",
            "/bin",
            "/usr/sbin",
            "/dev",
            "/var",
            "/home",
            "/usr/local/x",
        ] {
            assert!(!may_cover(Path::new(home)), "{home}");
        }
        for home in ["/root", "/home/agent", "/var/lib/postgresql", "/app"] {
            assert!(may_cover(Path::new(home)), "{home}");
        }
    }

    #[test]
    fn a_tilde_stands_for_home() {
        assert_eq!(expand("~", Path::new("/home/a")), Path::new("/home/a"));
        assert_eq!(
            expand("~/.cache", Path::new("/home/a")),
            Path::new("/home/a/.cache")
        );
        assert_eq!(expand("/tmp", Path::new("/home/a")), Path::new("/tmp"));
    }

    #[test]
    fn the_nearest_tmpfs_says_what_is_allowed_below_it() {
        let policy = "[limits]\nshm = \"3MiB\"\n[filesystem]\nscratch-size = \"9MiB\"\ntmpfs = [\
            { path = \"/tmp\", size = \"1MiB\", inodes = 100, noexec = true }, \
            { path = \"/tmp/in\", size = \"2MiB\" }, { path = \"~\", size = \"4MiB\", noexec = true }]";
        let policy = Policy::parse(policy, "test").unwrap();
        for (path, home, size, exec) in [
            ("/tmp", "/home/a", 1, false),
            ("/tmp/x/y", "/home/a", 1, false),
            ("/tmp/in/x", "/home/a", 2, true),
            ("/tmpx", "/home/a", 9, true),
            ("/dev/shm/x", "/home/a", 3, false),
            ("/dev/x", "/home/a", 9, false),
            ("/home/a/x", "/home/a", 4, false),
            // This home is not covered: it bounds nothing.
            ("/srv/x", "/", 9, true),
        ] {
            let found = allowed(Path::new(path), &policy, Path::new(home));
            assert_eq!((found.size, found.exec), (size << 20, exec), "{path}");
        }
        let found = allowed(Path::new("/tmp/x"), &policy, Path::new("/home/a"));
        assert_eq!(found.inodes, Some(100));
    }
}
