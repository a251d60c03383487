//! `--mount`: everything by keys.

use std::path::PathBuf;

use palisade_policies::parse_size;

use super::tmpfs::octal;
use super::{Bind, Mount, Tmpfs, Volume, host_path, target, volume_name};
use crate::caller::Caller;
use crate::failure::Failure;

/// The fields of `--mount`.
struct Long {
    kind: &'static str,
    source: Option<String>,
    destination: Option<PathBuf>,
    read_only: bool,
    recursive: bool,
    size: Option<u64>,
    mode: Option<u32>,
    copy: bool,
}

pub(super) fn mount(typed: &str, caller: &Caller) -> Result<Mount, Failure> {
    let wrong = |why: &str| {
        Failure::new(
            format!("--mount {typed}: {why}"),
            "--mount type=bind,src=./dir,dst=/workspace,ro or --mount type=tmpfs,dst=/cache,tmpfs-size=64m",
        )
    };
    let mut long = Long {
        kind: "volume",
        source: None,
        destination: None,
        read_only: false,
        recursive: true,
        size: None,
        mode: None,
        copy: true,
    };
    for field in fields(typed) {
        let (key, value) = field
            .split_once('=')
            .map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        match long.set(key, value) {
            Ok(()) => {}
            Err(Odd::Field(why)) => return Err(wrong(&why)),
            Err(Odd::Target(failure)) => return Err(failure),
        }
    }
    let destination = long.destination.ok_or_else(|| wrong("dst is missing"))?;
    if long.kind != "tmpfs" && (long.size.is_some() || long.mode.is_some()) {
        return Err(wrong("tmpfs-size and tmpfs-mode belong to type=tmpfs"));
    }
    let (read_only, recursive) = (long.read_only, long.recursive);
    match (long.kind, long.source) {
        ("bind", Some(source)) => {
            let source = host_path("--mount", &source, caller)?;
            Ok(Mount::Bind(Bind {
                source,
                destination,
                read_only,
                recursive,
                create: false,
            }))
        }
        ("bind", None) => Err(wrong("src is missing")),
        ("tmpfs", None) => Ok(Mount::Tmpfs(Tmpfs {
            destination,
            size: long.size,
            inodes: None,
            mode: long.mode.unwrap_or(0o1777),
            exec: false,
            read_only,
            owner: (None, None),
        })),
        ("tmpfs", Some(_)) => Err(wrong("a tmpfs has no src")),
        (_, name) => Ok(Mount::Volume(Volume {
            name: name
                .map(|name| volume_name("--mount", &name, &destination.to_string_lossy()))
                .transpose()?,
            destination,
            read_only,
            copy: long.copy,
        })),
    }
}

/// Why a field of `--mount` is refused.
enum Odd {
    Field(String),
    Target(Failure),
}

impl Long {
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), Odd> {
        let wrong = |why: &str| Odd::Field(why.to_owned());
        let needed = || {
            value
                .filter(|v| !v.is_empty())
                .ok_or_else(|| Odd::Field(format!("{key} needs a value")))
        };
        let truth = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(Odd::Field(format!("{key} is true or false"))),
        };
        match key {
            "type" => {
                self.kind = match needed()? {
                    "bind" => "bind",
                    "tmpfs" => "tmpfs",
                    "volume" => "volume",
                    other => return Err(Odd::Field(format!("type `{other}` does not exist here"))),
                }
            }
            "source" | "src" => self.source = Some(needed()?.to_owned()),
            "target" | "destination" | "dst" => {
                self.destination = Some(target("--mount", needed()?).map_err(Odd::Target)?);
            }
            "readonly" | "ro" => self.read_only = truth()?,
            "bind-recursive" => {
                self.recursive = match needed()? {
                    "enabled" | "writable" | "readonly" => true,
                    "disabled" => false,
                    _ => return Err(wrong("bind-recursive is enabled or disabled")),
                }
            }
            "bind-nonrecursive" => self.recursive = !truth()?,
            "bind-propagation" if matches!(needed()?, "private" | "rprivate") => {}
            "bind-propagation" => {
                return Err(wrong(
                    "mounts are private: nothing mounted inside reaches the host",
                ));
            }
            "consistency" => {}
            "volume-nocopy" => self.copy = !truth()?,
            "volume-driver" if matches!(needed()?, "local") => {}
            "volume-driver" | "volume-opt" => {
                return Err(wrong(
                    "volumes are directories of this machine (driver local)",
                ));
            }
            "tmpfs-size" => {
                let size = parse_size(needed()?).filter(|&n| n > 0);
                self.size = Some(size.ok_or_else(|| wrong("tmpfs-size is a size such as 64m"))?);
            }
            "tmpfs-mode" => {
                let mode = octal(needed()?)
                    .ok_or_else(|| wrong("tmpfs-mode is an octal number such as 1777"))?;
                self.mode = Some(mode);
            }
            _ => return Err(Odd::Field(format!("unknown key `{key}`"))),
        }
        Ok(())
    }
}

/// The fields of a comma-separated list with quotes (RFC 4180), as docker reads `--mount`.
fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let last = fields.len() - 1;
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                fields[last].push('"');
            }
            '"' if quoted || fields[last].is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    fields
}
