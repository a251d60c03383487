//! PAX extended headers (POSIX.1-2001, pax, "pax Header Block").

use super::fault::{Fault, broken};
use super::number;
use super::sparse::Pax as Sparse;

/// The most extended attributes of one entry.
const MOST_XATTRS: usize = 1000;

/// What extended headers say about the next entry, or about all that follow.
#[derive(Debug, Default)]
pub(crate) struct Extended {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Sparse,
    dirty: bool,
}

impl Extended {
    pub(crate) fn clear(&mut self) {
        if self.dirty {
            *self = Self::default();
        }
    }

    /// Reads the records `LENGTH KEY=VALUE\n`. An empty value takes back what was said before.
    pub(crate) fn read(&mut self, mut text: &[u8], global: bool) -> Result<(), Fault> {
        self.dirty = true;
        while !text.is_empty() {
            let (record, rest) = split(text)
                .ok_or_else(|| Fault::Archive("a PAX header is malformed".to_owned()))?;
            let Some(equals) = record.iter().position(|&b| b == b'=') else {
                return broken("a PAX record has no `=`");
            };
            self.set(&record[..equals], &record[equals + 1..], global)?;
            text = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], global: bool) -> Result<(), Fault> {
        let text = (!value.is_empty()).then(|| value.to_vec());
        let bad = || {
            Fault::Archive(format!(
                "the PAX value of {} is not a number in range",
                key.escape_ascii()
            ))
        };
        let number = || {
            text.as_ref()
                .map(|_| number::decimal(value).ok_or_else(bad))
                .transpose()
        };
        // What names one file or its extent cannot hold for all of them.
        let single = matches!(key, b"path" | b"linkpath" | b"size")
            || key.starts_with(b"GNU.sparse.")
            || key.starts_with(b"SCHILY.xattr.");
        if global && single {
            return broken(format!("a global PAX header sets {}", key.escape_ascii()));
        }
        match key {
            b"path" => self.path = text,
            b"linkpath" => self.link = text,
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => {
                self.mtime = text
                    .as_ref()
                    .map(|_| number::time(value).ok_or_else(bad))
                    .transpose()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(name, value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return broken("an extended attribute's name is empty, too long or holds a NUL byte");
        }
        if value.len() > 1 << 16 {
            return broken("an extended attribute is longer than 64 KiB");
        }
        self.xattrs.retain(|(known, _)| known != name);
        if self.xattrs.len() == MOST_XATTRS {
            return broken("it has more than 1000 extended attributes");
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// The first record without length and newline, and what follows it.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = text.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(number::decimal(&text[..blank])?).ok()?;
    let record = text.get(..length)?;
    let body = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    Some((body, &text[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_an_empty_value_takes_one_back() {
        let mut extended = Extended::default();
        extended
            .read(b"12 path=a/b\n11 size=12\n10 path=c\n8 size=\n", false)
            .unwrap();
        assert_eq!(
            (extended.path.as_deref(), extended.size),
            (Some(&b"c"[..]), None)
        );
        extended.clear();
        assert_eq!(extended.path, None);
    }

    #[test]
    fn values_may_hold_newlines_and_equal_signs() {
        let mut extended = Extended::default();
        extended
            .read(b"13 path=a\n=b\n28 SCHILY.xattr.user.a=\0b=c\n", false)
            .unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a\n=b"[..]));
        assert_eq!(extended.xattrs, [(b"user.a".to_vec(), b"\0b=c".to_vec())]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"6 a=b",
            b"0 a=b\n",
            b"2 a=b\n",
            b"99999999999999999999 a=b\n",
            b"-6 a=b\n",
            b"6 abc\n",
            b"12 size=-12\n",
            b"29 size=18446744073709551616\n",
            b"19 SCHILY.xattr.=x\n",
        ] {
            assert!(
                Extended::default().read(bad, false).is_err(),
                "{}",
                bad.escape_ascii()
            );
        }
    }

    #[test]
    fn a_global_header_cannot_name_a_file() {
        assert!(Extended::default().read(b"10 path=c\n", true).is_err());
        assert!(Extended::default().read(b"15 comment=abc\n", true).is_ok());
    }
}
