//! Turns the built-in policies (`*.toml` beside this file) and the built-in system call tables into Rust source, so that
//! using them at run time parses no TOML and compiles no seccomp program.

use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::{env, fs};

#[path = "src/error.rs"]
#[allow(dead_code, reason = "the library also reads files")]
mod error;
#[path = "src/filter/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the library also compiles profiles of users"
)]
mod filter;
#[path = "src/format.rs"]
#[allow(dead_code, reason = "the library also reads pins")]
mod format;
#[path = "src/keys.rs"]
mod keys;
#[path = "src/nearest.rs"]
mod nearest;
#[path = "src/policy.rs"]
#[allow(dead_code, reason = "the library also writes policies and asks them")]
mod policy;
#[path = "src/program.rs"]
#[allow(dead_code, reason = "the library also runs programs")]
mod program;
#[path = "src/quantity.rs"]
#[allow(dead_code, reason = "the library also writes quantities")]
mod quantity;
#[path = "src/reader.rs"]
mod reader;
#[path = "src/value.rs"]
mod value;

use policy::{Base, NetworkMode, Policy, Rlimit, Syscalls, Tmpfs};

/// In the order in which they are listed. Each may extend those before it in [`read_all`].
const NAMES: [&str; 4] = ["strict", "default", "compat", "task"];

const BASES: [Base; 3] = [Base::Strict, Base::Default, Base::Compat];

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");
    let mut source = String::new();
    let policies = read_all();
    writeln!(
        source,
        "/// The name and description of each, strictest first."
    )
    .unwrap();
    let listed: Vec<_> = policies
        .iter()
        .map(|policy| (&policy.name, &policy.description))
        .collect();
    writeln!(source, "pub const POLICIES: &[(&str, &str)] = &{listed:?};").unwrap();
    writeln!(source, "/// The built-in policy `name`.\npub fn policy(name: &str) -> Option<Policy> {{\n    match name {{").unwrap();
    for policy in &policies {
        writeln!(
            source,
            "        {:?} => Some({}()),",
            policy.name, policy.name
        )
        .unwrap();
    }
    writeln!(source, "        _ => None,\n    }}\n}}").unwrap();
    for policy in &policies {
        writeln!(
            source,
            "fn {}() -> Policy {{\n    {}\n}}",
            policy.name,
            policy_source(policy)
        )
        .unwrap();
    }
    programs(&mut source);
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("builtin.rs"), source).expect("OUT_DIR can be written");
}

/// The policies in `*.toml`.
fn read_all() -> Vec<Policy> {
    let read = |name: &str, base: Option<&Policy>| {
        let file = format!("{name}.toml");
        println!("cargo::rerun-if-changed={file}");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let reader = reader::Reader {
            text: &text,
            origin: &file,
        };
        let policy = format::read_policy(reader, name, |extends| match (extends, base) {
            (None, None) => Ok(Policy::blank()),
            (Some("default"), Some(base)) => Ok(base.clone()),
            _ => Err(format::Unextendable::Because(
                "a built-in policy extends \"default\"".to_owned(),
            )),
        });
        policy.unwrap_or_else(|error| panic!("{error}"))
    };
    let default = read("default", None);
    let each = |name| {
        if name == "default" {
            default.clone()
        } else {
            read(name, Some(&default))
        }
    };
    NAMES.map(each).to_vec()
}

/// The seccomp program of each table.
fn programs(source: &mut String) {
    writeln!(source, "/// The program of a base that nothing refines.").unwrap();
    writeln!(
        source,
        "pub fn program(base: Base) -> &'static [Instruction] {{\n    match base {{"
    )
    .unwrap();
    let compiled = |base: Base, mut tables: Vec<filter::Table>| {
        let own = Syscalls {
            base,
            allow: Vec::new(),
            deny: Vec::new(),
        };
        tables.extend(filter::tables(&own, &[]));
        filter::compile(&tables, base.word()).unwrap_or_else(|error| panic!("{error}"))
    };
    for base in BASES {
        let program = compiled(base, Vec::new());
        writeln!(source, "        Base::{base:?} => &{:?},", program.0).unwrap();
    }
    writeln!(source, "    }}\n}}").unwrap();
    writeln!(
        source,
        "/// The same with what is refused where the command shares the caller's namespaces."
    )
    .unwrap();
    writeln!(source, "pub fn shared_program(base: Base, network: bool) -> &'static [Instruction] {{\n    match (base, network) {{").unwrap();
    for base in BASES {
        for network in [NetworkMode::None, NetworkMode::Host] {
            let program = compiled(base, vec![filter::shared(network)]);
            let host = network == NetworkMode::Host;
            writeln!(
                source,
                "        (Base::{base:?}, {host}) => &{:?},",
                program.0
            )
            .unwrap();
        }
    }
    writeln!(source, "    }}\n}}").unwrap();
}

/// An expression that makes `policy`.
fn policy_source(policy: &Policy) -> String {
    let Policy {
        filesystem: files,
        limits,
        environment,
        ..
    } = policy;
    assert!(
        policy.syscalls.allow.is_empty() && policy.syscalls.deny.is_empty() && limits.io.is_empty()
    );
    format!(
        "Policy {{ name: {}, description: {}, capabilities: {}, timeout: {}, stop_timeout: {}, minimum_tier: Tier::{:?}, \
         output_cap: {:?}, flags: Flags::{:?}, \
         filesystem: Filesystem {{ root: RootMode::{:?}, read: {}, write: {}, write_existing: {}, exec: {}, deny: {}, \
         tmpfs: vec![{}], scratch_size: {}, scratch_inodes: {:?}, setuid: Setuid::{:?}, landlock_handles: Handles::{:?}, sys: Sys::{:?}, \
         masked_paths: {}, readonly_paths: {} }}, \
         network: Network {{ mode: NetworkMode::{:?} }}, \
         syscalls: Syscalls {{ base: Base::{:?}, allow: vec![], deny: vec![] }}, \
         limits: Limits {{ memory: {:?}, swap: {:?}, cpus: {:?}, cpuset: {}, pids: {:?}, shm: {}, \
         rlimits: [{}].into(), io: vec![] }}, \
         environment: Environment {{ pass: {}, set: [{}].into() }} }}",
        text(&policy.name),
        text(&policy.description),
        texts(&policy.capabilities),
        policy.timeout.map_or_else(
            || "None".to_owned(),
            |timeout| format!("Some({})", duration(timeout))
        ),
        duration(policy.stop_timeout),
        policy.minimum_tier,
        policy.output_cap,
        policy.flags,
        files.root,
        texts(&files.read),
        texts(&files.write),
        texts(&files.write_existing),
        texts(&files.exec),
        texts(&files.deny),
        joined(files.tmpfs.iter().map(tmpfs)),
        files.scratch_size,
        files.scratch_inodes,
        files.setuid,
        files.landlock_handles,
        files.sys,
        texts(&files.masked_paths),
        texts(&files.readonly_paths),
        policy.network.mode,
        policy.syscalls.base,
        limits.memory,
        limits.swap,
        limits.cpus,
        limits
            .cpuset
            .as_ref()
            .map_or_else(|| "None".to_owned(), |set| format!("Some({})", text(set))),
        limits.pids,
        limits.shm,
        joined(limits.rlimits.iter().map(|(name, limit)| {
            let Rlimit { soft, hard } = limit;
            format!("({}, Rlimit {{ soft: {soft}, hard: {hard} }})", text(name))
        })),
        texts(&environment.pass),
        joined(environment.set.iter().map(|(name, value)| format!(
            "({}, {})",
            text(name),
            text(value)
        ))),
    )
}

fn tmpfs(mount: &Tmpfs) -> String {
    let Tmpfs {
        path,
        size,
        inodes,
        noexec,
    } = mount;
    format!(
        "Tmpfs {{ path: {}, size: {size}, inodes: {inodes:?}, noexec: {noexec} }}",
        text(path)
    )
}

fn duration(duration: std::time::Duration) -> String {
    format!(
        "Duration::new({}, {})",
        duration.as_secs(),
        duration.subsec_nanos()
    )
}

fn texts(items: &[String]) -> String {
    format!("vec![{}]", joined(items.iter().map(text)))
}

fn text(text: impl Debug) -> String {
    format!("{text:?}.to_owned()")
}

fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
