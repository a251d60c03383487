//! The users and groups of an image.

use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};
use crate::merged::Merged;

/// The most an image's `/etc/passwd` or `/etc/group` may hold, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// `/etc/passwd` and `/etc/group` of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// The text of `/etc/passwd`; empty if there is none.
    pub passwd: Vec<u8>,
    /// The text of `/etc/group`; empty if there is none.
    pub group: Vec<u8>,
}

/// A user to run a command as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id, below 4294967295.
    pub uid: u32,
    /// Group id, below 4294967295. As docker has it: the given group, else that of the user's entry, else 0.
    pub gid: u32,
    /// Supplementary groups, without `gid`; none where a group was given.
    pub groups: Vec<u32>,
    /// The login name, if the image knows the user.
    pub name: Option<String>,
    /// The home directory of the user's entry, if that has an absolute one.
    pub home: Option<String>,
    /// The shell of the user's entry, if that has an absolute one.
    pub shell: Option<String>,
    /// Whether a group was given or came with the user's entry (else `gid` is docker's default).
    pub gid_known: bool,
    /// Whether `/etc/group` has an entry for `gid`.
    pub group_listed: bool,
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
}

impl Users {
    /// Reads both files in the merged view of layers, given bottom first. A missing file, or one that is no regular file, is an empty one.
    ///
    /// # Errors
    /// [`Error::Io`] if a layer cannot be read, [`Error::Limit`] if a file is longer than 1 MiB.
    pub fn read<P: AsRef<Path>>(layers: &[P]) -> Result<Self> {
        let merged = Merged::open(layers)?;
        let read = |path: &str| -> Result<Vec<u8>> {
            // A link loop is the image's own mistake: the file is missing then, as it would be inside.
            let Ok(Some(file)) = merged.open_file(path.as_ref()) else {
                return Ok(Vec::new());
            };
            let mut text = Vec::new();
            file.take(LONGEST_FILE + 1)
                .read_to_end(&mut text)
                .map_err(|e| Error::io("read", path.as_ref(), e))?;
            if text.len() as u64 > LONGEST_FILE {
                return Err(Error::limit(format!("the image's {path}"), "1 MiB"));
            }
            Ok(text)
        };
        Ok(Self {
            passwd: read("/etc/passwd")?,
            group: read("/etc/group")?,
        })
    }

    /// Resolves `USER[:GROUP]`, each a name or a number; empty stands for `0`.
    ///
    /// What is made of digits is a number and never a name, whatever the image's files say (CVE-2016-3697).
    ///
    /// # Errors
    /// [`Error::User`] for an unknown name, a number over 4294967294, and everything that is neither name nor number.
    pub fn resolve(&self, text: &str) -> Result<User> {
        let fail = |reason: String| Error::User {
            text: text.chars().take(200).collect(),
            reason,
        };
        if text.is_empty() {
            return self.resolve("0");
        }
        let (user, group) = text
            .split_once(':')
            .map_or((text, None), |(user, group)| (user, Some(group)));
        let wanted = word(user).map_err(&fail)?;
        let entry = self.entries().find(|entry| match wanted {
            Word::Number(uid) => entry.uid == uid,
            Word::Name(name) => entry.name == name,
        });
        let (uid, entry_gid) = match (&entry, wanted) {
            (Some(entry), _) => (entry.uid, Some(entry.gid)),
            (None, Word::Number(uid)) => (uid, None),
            (None, Word::Name(_)) => {
                return Err(fail(
                    "the image's /etc/passwd has no such user; give a number, or a name it has"
                        .to_owned(),
                ));
            }
        };
        let given = match group.map(word).transpose().map_err(&fail)? {
            Some(Word::Number(gid)) => Some(gid),
            Some(Word::Name(name)) => {
                let found = self
                    .groups()
                    .find(|(group, ..)| *group == name)
                    .map(|(_, gid, _)| gid);
                Some(found.ok_or_else(|| {
                    fail(
                        "the image's /etc/group has no such group; give a number, or a name it has"
                            .to_owned(),
                    )
                })?)
            }
            None => None,
        };
        let gid = given.or(entry_gid).unwrap_or(0);
        let mut groups = Vec::new();
        if let (None, Some(entry)) = (given, &entry) {
            for (_, member_of, members) in self.groups() {
                let member = members.split(',').any(|member| member == entry.name);
                if member && member_of != gid && !groups.contains(&member_of) {
                    groups.push(member_of);
                }
            }
        }
        let absolute = |path: &str| path.starts_with('/').then(|| path.to_owned());
        Ok(User {
            uid,
            gid,
            groups,
            name: entry.as_ref().map(|entry| entry.name.clone()),
            home: entry.as_ref().and_then(|entry| absolute(&entry.home)),
            shell: entry.as_ref().and_then(|entry| absolute(&entry.shell)),
            gid_known: given.or(entry_gid).is_some(),
            group_listed: self.groups().any(|(_, listed, _)| listed == gid),
        })
    }

    /// The number of a group, given by name or number.
    ///
    /// # Errors
    /// As [`Users::resolve`].
    pub fn resolve_group(&self, text: &str) -> Result<u32> {
        let fail = |reason: String| Error::User {
            text: text.chars().take(200).collect(),
            reason,
        };
        match word(text).map_err(&fail)? {
            Word::Number(gid) => Ok(gid),
            Word::Name(name) => self
                .groups()
                .find(|(group, ..)| *group == name)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| {
                    fail(
                        "the image's /etc/group has no such group; give a number, or a name it has"
                            .to_owned(),
                    )
                }),
        }
    }

    /// The well-formed entries of `/etc/passwd` (passwd(5)).
    fn entries(&self) -> impl Iterator<Item = Entry> {
        lines(&self.passwd).filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, shell] = fields[..] else {
                return None;
            };
            let Ok(Word::Name(name)) = word(name) else {
                return None;
            };
            Some(Entry {
                name: name.to_owned(),
                uid: number(uid)?,
                gid: number(gid)?,
                home: home.to_owned(),
                shell: shell.to_owned(),
            })
        })
    }

    /// The well-formed entries of `/etc/group` (group(5)): name, number, members.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        lines(&self.group).filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            let Ok(Word::Name(name)) = word(name) else {
                return None;
            };
            Some((name, number(gid)?, fields.next().unwrap_or_default()))
        })
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|&b| b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim_end)
}

#[derive(Clone, Copy)]
enum Word<'a> {
    Number(u32),
    Name(&'a str),
}

fn word(text: &str) -> Result<Word<'_>, String> {
    let first = *text
        .as_bytes()
        .first()
        .ok_or("a user or group is missing")?;
    if first.is_ascii_digit() {
        return number(text)
            .map(Word::Number)
            .ok_or_else(|| "a number goes from 0 to 4294967294, without leading zeros".to_owned());
    }
    let fits = |b: u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'$') || b >= 0x80
    };
    if text.len() <= 255
        && first != b'-'
        && text.bytes().all(fits)
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        Ok(Word::Name(text))
    } else {
        Err("it is neither a name nor a number".to_owned())
    }
}

/// A user or group id. 4294967295 is left out: to the kernel it means "do not change".
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|&id| plain && id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users {
            passwd: b"root:x:0:0:root:/root:/bin/bash\napp:x:10001:10002::/home/app:/bin/sh\n1000:x:0:0::/:/bin/sh\nshort:x:5\n\
                      bad:x:-1:0::/:\nbig:x:4294967296:0::/:\n+::::::\n\xff:x:7:7::/:\nrel:x:8:8::home:sh\n"
                .to_vec(),
            group: b"root:x:0:\nstaff:x:50:app,other\nwheel:x:60:other\nappg:x:10002:app\n".to_vec(),
        }
    }

    #[test]
    fn names_and_numbers_resolve_with_group_home_and_supplementary_groups() {
        let app = users().resolve("app").unwrap();
        assert_eq!(
            (app.uid, app.gid, &app.groups[..], app.home.as_deref()),
            (10001, 10002, &[50][..], Some("/home/app"))
        );
        assert_eq!(users().resolve("10001").unwrap(), app);
        let given = users().resolve("app:root").unwrap();
        assert_eq!((given.uid, given.gid, given.groups.len()), (10001, 0, 0));
        let unknown = users().resolve("7777").unwrap();
        assert_eq!(
            (unknown.uid, unknown.gid, unknown.gid_known, unknown.home),
            (7777, 0, false, None)
        );
        assert_eq!(users().resolve("7777:8888").unwrap().gid, 8888);
        assert_eq!(users().resolve("").unwrap().uid, 0);
        assert_eq!(users().resolve("rel").unwrap().home, None);
    }

    #[test]
    fn a_name_made_of_digits_is_never_a_name() {
        assert_eq!(users().resolve("1000").unwrap().uid, 1000);
    }

    #[test]
    fn what_is_neither_known_name_nor_number_is_refused() {
        for bad in [
            "nobody",
            "-1",
            "+1",
            "01",
            "00",
            "0x10",
            "1e3",
            "4294967295",
            "4294967296",
            "99999999999999999999",
            ":",
            "app:",
            ":app",
            "app:nogroup",
            "app:-1",
            "a:b:c",
            " app",
            "app ",
            "a/b",
            "a\nb",
            "\u{1b}[0m",
            "short",
            "bad",
            "big",
            "*",
            "app:4294967295",
            "1000x",
        ] {
            assert!(users().resolve(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
