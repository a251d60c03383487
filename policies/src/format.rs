//! The policy file format: each section of a file changes the policy that the file extends.
//!
//! A key that a file gives replaces the value that it extends, lists whole; `environment.set` and `limits.rlimits` are
//! merged name by name.

use toml::de::{DeTable, DeValue};

use crate::error::Error;
use crate::keys::{self, Key};
use crate::nearest::nearest;
use crate::policy::{
    Base, Denied, Environment, Filesystem, Flags, Handles, IoLimit, Limits, NetworkMode, Policy,
    Rlimit, RootMode, Setuid, Sys, Syscalls, Tier, Tmpfs,
};
use crate::reader::{self, Reader, Value};
use crate::value::{
    above_zero, call, capability, cpuset, errno, is_variable, path, pattern, processes,
};

/// Why a policy cannot be extended.
pub enum Unextendable {
    /// Something about the name, to be said at its place in the file.
    Because(String),
    /// An error of its own.
    Error(Error),
}

/// The policy in a file. `stem` is its name unless it gives one; `base` finds the policy that the file extends, given the
/// name it gives, if any.
pub fn read_policy(
    reader: Reader<'_>,
    stem: &str,
    base: impl FnOnce(Option<&str>) -> Result<Policy, Unextendable>,
) -> Result<Policy, Error> {
    let document = reader.document()?;
    let entries = reader.entries(&document, "")?;
    let extends = entries.iter().find(|(key, _)| key.path == "extends");
    let name = extends
        .map(|(key, value)| reader.text(key, value))
        .transpose()?;
    let mut policy = base(name.as_deref()).map_err(|why| match (why, extends) {
        (Unextendable::Because(why), Some((key, value))) => reader.wrong(key, value, &why),
        (Unextendable::Because(why), None) => reader.error(&(0..0), why, None),
        (Unextendable::Error(error), _) => error,
    })?;
    stem.clone_into(&mut policy.name);
    policy.description.clear();
    for (key, value) in entries {
        match key.path {
            "name" => policy.name = reader.text(key, value)?,
            "description" => policy.description = reader.text(key, value)?,
            "extends" => {}
            "capabilities" => policy.capabilities = reader.each(key, value, capability)?,
            "timeout" => {
                policy.timeout = reader.or_unlimited(key, value, above_zero(Reader::duration))?;
            }
            "stop-timeout" => policy.stop_timeout = reader.duration(key, value)?,
            "minimum-tier" => {
                policy.minimum_tier = reader.word(key, value, Tier::WORDS, Tier::from_word)?;
            }
            "output-cap" => policy.output_cap = reader.or_unlimited(key, value, Reader::size)?,
            "flags" => policy.flags = reader.word(key, value, Flags::WORDS, Flags::from_word)?,
            "filesystem" => filesystem(reader, reader.table(key, value)?, &mut policy.filesystem)?,
            "network" => network(reader, reader.table(key, value)?, &mut policy.network.mode)?,
            "syscalls" => syscalls(reader, reader.table(key, value)?, &mut policy.syscalls)?,
            "limits" => limits(reader, reader.table(key, value)?, &mut policy.limits)?,
            "environment" => {
                environment(reader, reader.table(key, value)?, &mut policy.environment)?;
            }
            _ => return Err(unread(reader, key, value)),
        }
    }
    policy.capabilities.sort();
    contradictions(reader, &document, &policy)?;
    Ok(policy)
}

/// What an administrator's pin file gives: limits, and the few top-level keys that bound a sandbox.
pub fn read_pins(reader: Reader<'_>, policy: &mut Policy) -> Result<(), Error> {
    let document = reader.document()?;
    for (key, value) in reader.entries(&document, "")? {
        match key.path {
            "description" => policy.description = reader.text(key, value)?,
            "timeout" => {
                policy.timeout = reader.or_unlimited(key, value, above_zero(Reader::duration))?;
            }
            "minimum-tier" => {
                policy.minimum_tier = reader.word(key, value, Tier::WORDS, Tier::from_word)?;
            }
            "stop-timeout" => policy.stop_timeout = reader.duration(key, value)?,
            "output-cap" => policy.output_cap = reader.or_unlimited(key, value, Reader::size)?,
            "limits" => limits(reader, reader.table(key, value)?, &mut policy.limits)?,
            _ => {
                let known = "a pin file has only limits, timeout, stop-timeout, output-cap, minimum-tier and description";
                return Err(reader.wrong(key, value, known));
            }
        }
    }
    contradictions(reader, &document, policy)
}

/// A key of the table of keys that no section reads; a test keeps this from happening.
fn unread(reader: Reader<'_>, key: &Key, value: &Value<'_>) -> Error {
    reader.wrong(key, value, "this key cannot be set here")
}

fn filesystem<'a>(
    reader: Reader<'a>,
    table: &DeTable<'a>,
    filesystem: &mut Filesystem,
) -> Result<(), Error> {
    for (key, value) in reader.entries(table, "filesystem")? {
        match key.name() {
            "root" => {
                filesystem.root = reader.word(key, value, RootMode::WORDS, RootMode::from_word)?;
            }
            "read" => filesystem.read = reader.each(key, value, path)?,
            "write" => filesystem.write = reader.each(key, value, path)?,
            "write-existing" => filesystem.write_existing = reader.each(key, value, path)?,
            "exec" => filesystem.exec = reader.each(key, value, path)?,
            "deny" => filesystem.deny = reader.each(key, value, path)?,
            "tmpfs" => filesystem.tmpfs = reader.each(key, value, tmpfs)?,
            "scratch-size" => {
                filesystem.scratch_size = above_zero(Reader::size)(reader, key, value)?;
            }
            "scratch-inodes" => {
                filesystem.scratch_inodes =
                    reader.or_unlimited(key, value, above_zero(Reader::count))?;
            }
            "setuid" => {
                filesystem.setuid = reader.word(key, value, Setuid::WORDS, Setuid::from_word)?;
            }
            "landlock-handles" => {
                filesystem.landlock_handles =
                    reader.word(key, value, Handles::WORDS, Handles::from_word)?;
            }
            "sys" => filesystem.sys = reader.word(key, value, Sys::WORDS, Sys::from_word)?,
            "masked-paths" => filesystem.masked_paths = reader.each(key, value, path)?,
            "readonly-paths" => filesystem.readonly_paths = reader.each(key, value, path)?,
            _ => return Err(unread(reader, key, value)),
        }
    }
    Ok(())
}

fn tmpfs<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<Tmpfs, Error> {
    let mut mount = Tmpfs {
        path: String::new(),
        size: 0,
        inodes: None,
        noexec: false,
    };
    for (key, value) in reader.entries(reader.table(key, value)?, "filesystem.tmpfs")? {
        match key.name() {
            "path" => mount.path = path(reader, key, value)?,
            "size" => mount.size = above_zero(Reader::size)(reader, key, value)?,
            "inodes" => {
                mount.inodes = reader.or_unlimited(key, value, above_zero(Reader::count))?;
            }
            "noexec" => mount.noexec = reader.flag(key, value)?,
            _ => return Err(unread(reader, key, value)),
        }
    }
    match (mount.path.as_str(), mount.size) {
        ("", _) => Err(reader.wrong(key, value, "an entry has no path")),
        ("/", _) => Err(reader.wrong(
            key,
            value,
            "the root cannot be a tmpfs; see filesystem.root",
        )),
        (_, 0) => Err(reader.wrong(key, value, "an entry has no size")),
        _ => Ok(mount),
    }
}

fn network<'a>(
    reader: Reader<'a>,
    table: &DeTable<'a>,
    mode: &mut NetworkMode,
) -> Result<(), Error> {
    for (key, value) in reader.entries(table, "network")? {
        match key.name() {
            "mode" => {
                *mode = reader.word(key, value, NetworkMode::WORDS, NetworkMode::from_word)?;
            }
            _ => return Err(unread(reader, key, value)),
        }
    }
    Ok(())
}

fn syscalls<'a>(
    reader: Reader<'a>,
    table: &DeTable<'a>,
    syscalls: &mut Syscalls,
) -> Result<(), Error> {
    for (key, value) in reader.entries(table, "syscalls")? {
        match key.name() {
            "base" => syscalls.base = reader.word(key, value, Base::WORDS, Base::from_word)?,
            "allow" => syscalls.allow = reader.each(key, value, call)?,
            "deny" => syscalls.deny = reader.each(key, value, denied)?,
            _ => return Err(unread(reader, key, value)),
        }
    }
    Ok(())
}

fn denied<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<Denied, Error> {
    const EPERM: u16 = 1;
    let DeValue::Table(table) = value.get_ref() else {
        return Ok(Denied {
            name: call(reader, key, value)?,
            errno: EPERM,
        });
    };
    let mut denied = Denied {
        name: String::new(),
        errno: EPERM,
    };
    for (key, value) in reader.entries(table, "syscalls.deny")? {
        match key.name() {
            "name" => denied.name = call(reader, key, value)?,
            "errno" => denied.errno = errno(reader, key, value)?,
            _ => return Err(unread(reader, key, value)),
        }
    }
    if denied.name.is_empty() {
        return Err(reader.wrong(key, value, "an entry has no name"));
    }
    Ok(denied)
}

fn limits<'a>(reader: Reader<'a>, table: &DeTable<'a>, limits: &mut Limits) -> Result<(), Error> {
    for (key, value) in reader.entries(table, "limits")? {
        match key.name() {
            "memory" => {
                limits.memory = reader.or_unlimited(key, value, above_zero(Reader::size))?;
            }
            "swap" => limits.swap = reader.or_unlimited(key, value, Reader::size)?,
            "cpus" => limits.cpus = reader.or_unlimited(key, value, Reader::processors)?,
            "cpuset" => limits.cpuset = reader.or_unlimited(key, value, cpuset)?,
            "pids" => limits.pids = reader.or_unlimited(key, value, processes)?,
            "shm" => limits.shm = above_zero(Reader::size)(reader, key, value)?,
            "rlimits" => {
                for (key, value) in reader.entries(reader.table(key, value)?, "limits.rlimits")? {
                    limits
                        .rlimits
                        .insert(key.name().to_owned(), rlimit(reader, key, value)?);
                }
            }
            "io" => limits.io = reader.each(key, value, io)?,
            _ => return Err(unread(reader, key, value)),
        }
    }
    Ok(())
}

fn rlimit<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<Rlimit, Error> {
    let bound = |value| {
        Ok(reader
            .or_unlimited(key, value, Reader::count)?
            .unwrap_or(Rlimit::UNLIMITED))
    };
    let DeValue::Table(pair) = value.get_ref() else {
        return bound(value).map(|both| Rlimit {
            soft: both,
            hard: both,
        });
    };
    let (mut soft, mut hard) = (None, None);
    for (name, value) in pair {
        match name.get_ref().as_ref() {
            "soft" => soft = Some(bound(value)?),
            "hard" => hard = Some(bound(value)?),
            other => {
                let meant = nearest(other, ["soft", "hard"]);
                let meant = meant.map_or("known here are: soft, hard".to_owned(), |meant| {
                    format!("the nearest known key is {meant:?}")
                });
                let message = format!("unknown key {other:?} in {}; {meant}", key.path);
                return Err(reader.error(&name.span(), message, Some(reader::example(key))));
            }
        }
    }
    match (soft, hard) {
        (Some(soft), Some(hard)) if soft <= hard => Ok(Rlimit { soft, hard }),
        (Some(_), Some(_)) => Err(reader.wrong(key, value, "soft is above hard")),
        _ => Err(reader.wrong(key, value, "both soft and hard are needed")),
    }
}

fn io<'a>(reader: Reader<'a>, key: &Key, value: &Value<'a>) -> Result<IoLimit, Error> {
    let mut limit = IoLimit::default();
    for (key, value) in reader.entries(reader.table(key, value)?, "limits.io")? {
        match key.name() {
            "device" => limit.device = path(reader, key, value)?.into(),
            "read-bps" => {
                limit.read_bps = reader.or_unlimited(key, value, above_zero(Reader::size))?;
            }
            "write-bps" => {
                limit.write_bps = reader.or_unlimited(key, value, above_zero(Reader::size))?;
            }
            "read-iops" => {
                limit.read_iops = reader.or_unlimited(key, value, above_zero(Reader::count))?;
            }
            "write-iops" => {
                limit.write_iops = reader.or_unlimited(key, value, above_zero(Reader::count))?;
            }
            _ => return Err(unread(reader, key, value)),
        }
    }
    if !limit.device.starts_with("/dev") {
        return Err(reader.wrong(key, value, "an entry needs a device below /dev"));
    }
    Ok(limit)
}

fn environment<'a>(
    reader: Reader<'a>,
    table: &DeTable<'a>,
    environment: &mut Environment,
) -> Result<(), Error> {
    for (key, value) in reader.entries(table, "environment")? {
        match key.name() {
            "pass" => environment.pass = reader.each(key, value, pattern)?,
            "set" => {
                for (name, value) in reader.table(key, value)? {
                    let wrong = |why: String| {
                        let message = format!("environment.set: {why}");
                        reader.error(&name.span(), message, Some(reader::example(key)))
                    };
                    if !is_variable(name.get_ref()) {
                        return Err(wrong(format!("{:?} is no variable name", name.get_ref())));
                    }
                    if name.get_ref() == "LANDLOCK_ENABLED" {
                        let why = "LANDLOCK_ENABLED cannot be set: programs choose their own protection by it, \
                                   so palisade tells them the truth";
                        return Err(wrong(why.to_owned()));
                    }
                    let DeValue::String(_) = value.get_ref() else {
                        return Err(reader.wrong(
                            key,
                            value,
                            "expected the variable's value as text in quotes",
                        ));
                    };
                    environment
                        .set
                        .insert(name.get_ref().to_string(), reader.text(key, value)?);
                }
            }
            _ => return Err(unread(reader, key, value)),
        }
    }
    Ok(())
}

/// What no single value shows: values that cannot hold together.
fn contradictions(
    reader: Reader<'_>,
    document: &DeTable<'_>,
    policy: &Policy,
) -> Result<(), Error> {
    let at = |section: &str, name: &str| {
        let table = document.get(section)?.get_ref().as_table()?;
        Some(table.get(name)?.span())
    };
    let fail = |section: &str, names: [&str; 2], message: String| {
        let span = names
            .iter()
            .find_map(|name| at(section, name))
            .unwrap_or(0..0);
        let key = keys::find(&format!("{section}.{}", names[0]));
        Err(reader.error(&span, message, key.map(reader::example)))
    };
    let files = &policy.filesystem;
    if files.deny.iter().any(|path| path == "/") {
        return fail(
            "filesystem",
            ["deny", "deny"],
            "filesystem.deny: \"/\" would deny everything".to_owned(),
        );
    }
    if let Some((name, path)) = of_one_process(files) {
        let message = format!(
            "filesystem.{name}: {path:?} is another one for each process and cannot be covered for all of them"
        );
        return fail("filesystem", [name, name], message);
    }
    for (name, paths) in [
        ("read", &files.read),
        ("write", &files.write),
        ("write-existing", &files.write_existing),
        ("exec", &files.exec),
    ] {
        if let Some(path) = paths.iter().find(|path| files.deny.contains(path)) {
            let message = format!(
                "{path:?} is both in filesystem.{name} and in filesystem.deny: leave it out of one"
            );
            return fail("filesystem", ["deny", name], message);
        }
    }
    if let Some(mount) = twice(&files.tmpfs, |mount| &mount.path) {
        let message = format!("filesystem.tmpfs: {:?} is there twice", mount.path);
        return fail("filesystem", ["tmpfs", "tmpfs"], message);
    }
    for (index, denied) in policy.syscalls.deny.iter().enumerate() {
        if policy.syscalls.allow.contains(&denied.name) {
            let message = format!(
                "{:?} is both in syscalls.allow and in syscalls.deny: leave it out of one",
                denied.name
            );
            return fail("syscalls", ["deny", "allow"], message);
        }
        if policy.syscalls.deny[..index]
            .iter()
            .any(|earlier| earlier.name == denied.name)
        {
            return fail(
                "syscalls",
                ["deny", "deny"],
                format!("syscalls.deny: {:?} is there twice", denied.name),
            );
        }
    }
    if let Some(limit) = twice(&policy.limits.io, |limit| &limit.device) {
        let device = limit.device.display();
        let message =
            format!("limits.io: {device} is there twice: give all its rates in one entry");
        return fail("limits", ["io", "io"], message);
    }
    if policy.limits.swap.is_some() && policy.limits.memory.is_none() {
        return fail(
            "limits",
            ["swap", "memory"],
            "limits.swap bounds nothing without limits.memory".to_owned(),
        );
    }
    Ok(())
}

/// The first item whose key an earlier one has.
fn twice<T, K: PartialEq>(items: &[T], key: impl Fn(&T) -> &K) -> Option<&T> {
    let mut numbered = items.iter().enumerate();
    let again = numbered.find(|(index, item)| {
        let mut earlier = items[..*index].iter();
        earlier.any(|earlier| key(earlier) == key(item))
    });
    again.map(|(_, item)| item)
}

/// The first path that would be covered, or made read-only, for one process alone, with its key.
fn of_one_process(files: &Filesystem) -> Option<(&'static str, &String)> {
    let of_a_process = |path: &&String| {
        let mut parts = path.strip_prefix("/proc/").unwrap_or("").split('/');
        let first = parts.next().unwrap_or("");
        let number = !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit());
        number || matches!(first, "self" | "thread-self")
    };
    [
        ("deny", &files.deny),
        ("masked-paths", &files.masked_paths),
        ("readonly-paths", &files.readonly_paths),
    ]
    .into_iter()
    .find_map(|(name, paths)| Some((name, paths.iter().find(of_a_process)?)))
}
