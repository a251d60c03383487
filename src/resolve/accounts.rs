//! `/etc/passwd` and `/etc/group`: completed where they lack the sandbox's user, so that programs find a name and a home.

use std::path::{Path, PathBuf};

use palisade_rootfs::Users;
use palisade_runtime::File;

use super::file;
use super::identity::Identity;

/// Home of a user that the image does not know.
const HOME: &str = "/home/sandbox";

/// What the user's account says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The home directory: absolute, without `..`.
    pub home: PathBuf,
}

/// Finds the user's home, and adds the files that must be written. `always` writes them even if they lack nothing.
pub fn complete(
    users: &Users,
    identity: &Identity,
    always: bool,
    files: &mut Vec<File>,
) -> Account {
    let home = identity
        .home
        .as_deref()
        .filter(|home| is_plain(home))
        .unwrap_or(HOME);
    let (uid, gid) = (identity.uid, identity.gid);
    if !identity.known {
        let name = free_name(&users.passwd, uid);
        let line = format!("{name}:x:{uid}:{gid}:palisade sandbox:{home}:/bin/sh\n");
        files.push(file("/etc/passwd", with_line(&users.passwd, &line)));
    } else if always {
        files.push(file("/etc/passwd", users.passwd.clone()));
    }
    if !identity.group_known {
        let name = free_name(&users.group, gid);
        let line = format!("{name}:x:{gid}:\n");
        files.push(file("/etc/group", with_line(&users.group, &line)));
    } else if always {
        files.push(file("/etc/group", users.group.clone()));
    }
    Account { home: home.into() }
}

/// Absolute, without `..`, and fit for a line of passwd(5) and an environment variable.
fn is_plain(home: &str) -> bool {
    home.starts_with('/')
        && home.len() < 4096
        && !home.contains(|c: char| c.is_control() || c == ':')
        && !Path::new(home)
            .components()
            .any(|part| part == std::path::Component::ParentDir)
}

fn with_line(text: &[u8], line: &str) -> Vec<u8> {
    let mut text = text.to_vec();
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(line.as_bytes());
    text
}

/// `sandbox`, or with the number where another entry has that name.
fn free_name(text: &[u8], number: u32) -> String {
    if text
        .split(|b| *b == b'\n')
        .any(|line| line.starts_with(b"sandbox:"))
    {
        format!("sandbox{number}")
    } else {
        "sandbox".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(known: bool, home: Option<&str>) -> Identity {
        Identity {
            uid: 1000,
            gid: 1000,
            known,
            group_known: known,
            home: home.map(str::to_owned),
            ..Identity::default()
        }
    }

    #[test]
    fn an_unknown_user_gets_a_line_in_both_files() {
        let users = Users {
            passwd: b"root:x:0:0::/root:/bin/sh".to_vec(),
            group: b"sandbox:x:7:\n".to_vec(),
        };
        let mut files = Vec::new();
        let account = complete(&users, &identity(false, None), false, &mut files);
        assert_eq!(account.home, Path::new("/home/sandbox"));
        assert_eq!(
            String::from_utf8_lossy(&files[0].contents),
            "root:x:0:0::/root:/bin/sh\nsandbox:x:1000:1000:palisade sandbox:/home/sandbox:/bin/sh\n"
        );
        assert_eq!(
            String::from_utf8_lossy(&files[1].contents),
            "sandbox:x:7:\nsandbox1000:x:1000:\n"
        );
    }

    #[test]
    fn a_known_user_keeps_the_images_files_and_home() {
        let mut files = Vec::new();
        let account = complete(
            &Users::default(),
            &identity(true, Some("/home/node")),
            false,
            &mut files,
        );
        assert_eq!(
            (account.home.to_str(), files.len()),
            (Some("/home/node"), 0)
        );
    }

    #[test]
    fn a_home_that_is_no_plain_path_is_not_used() {
        for odd in ["/a/../../etc", "relative", "/a\nHOME=/b", "/a:b", ""] {
            let account = complete(
                &Users::default(),
                &identity(true, Some(odd)),
                false,
                &mut Vec::new(),
            );
            assert_eq!(account.home, Path::new(HOME), "{odd:?}");
        }
    }
}
