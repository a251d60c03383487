//! The canonical form of a policy: a complete policy file, every key in a fixed order. Its hash is the policy's digest.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::policy::{Policy, Rlimit};
use crate::quantity::{format_duration, format_size};

impl Policy {
    /// The whole policy as a policy file that extends nothing: equal policies give equal text, and reading the text gives
    /// the policy back. `palisade policy show` prints it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut file = File::default();
        file.line("name", &quote(&self.name));
        file.line("description", &quote(&self.description));
        file.line("capabilities", &list(&self.capabilities));
        file.line(
            "timeout",
            &or_unlimited(self.timeout, |duration| quote(&format_duration(duration))),
        );
        file.line("stop-timeout", &quote(&format_duration(self.stop_timeout)));
        file.line("minimum-tier", &quote(self.minimum_tier.word()));
        file.line("output-cap", &or_unlimited(self.output_cap, size));
        file.line("flags", &quote(self.flags.word()));
        self.write_filesystem(&mut file);
        file.section("network");
        file.line("mode", &quote(self.network.mode.word()));
        file.section("syscalls");
        file.line("base", &quote(self.syscalls.base.word()));
        file.line("allow", &list(&self.syscalls.allow));
        let denied = self.syscalls.deny.iter();
        file.items(
            "deny",
            denied.map(|denied| {
                format!(
                    "{{ name = {}, errno = {} }}",
                    quote(&denied.name),
                    denied.errno
                )
            }),
        );
        self.write_limits(&mut file);
        file.section("environment");
        file.line("pass", &list(&self.environment.pass));
        file.section("environment.set");
        for (name, value) in &self.environment.set {
            file.line(&quote(name), &quote(value));
        }
        file.0
    }

    fn write_filesystem(&self, file: &mut File) {
        let files = &self.filesystem;
        file.section("filesystem");
        file.line("root", &quote(files.root.word()));
        file.line("read", &list(&files.read));
        file.line("exec", &list(&files.exec));
        file.line("write", &list(&files.write));
        file.line("write-existing", &list(&files.write_existing));
        file.line("deny", &list(&files.deny));
        file.items(
            "tmpfs",
            files.tmpfs.iter().map(|mount| {
                format!(
                    "{{ path = {}, size = {}, inodes = {}, noexec = {} }}",
                    quote(&mount.path),
                    size(mount.size),
                    or_unlimited(mount.inodes, |count| count.to_string()),
                    mount.noexec
                )
            }),
        );
        file.line("scratch-size", &size(files.scratch_size));
        file.line(
            "scratch-inodes",
            &or_unlimited(files.scratch_inodes, |count| count.to_string()),
        );
        file.line("setuid", &quote(files.setuid.word()));
        file.line("landlock-handles", &quote(files.landlock_handles.word()));
        file.line("sys", &quote(files.sys.word()));
        file.items(
            "masked-paths",
            files.masked_paths.iter().map(|path| quote(path)),
        );
        file.items(
            "readonly-paths",
            files.readonly_paths.iter().map(|path| quote(path)),
        );
    }

    fn write_limits(&self, file: &mut File) {
        let limits = &self.limits;
        file.section("limits");
        file.line("memory", &or_unlimited(limits.memory, size));
        file.line("swap", &or_unlimited(limits.swap, size));
        file.line(
            "cpus",
            &or_unlimited(limits.cpus, |cpus| format!("{cpus:?}")),
        );
        file.line("cpuset", &or_unlimited(limits.cpuset.as_deref(), quote));
        file.line(
            "pids",
            &or_unlimited(limits.pids, |count| count.to_string()),
        );
        file.line("shm", &size(limits.shm));
        file.items(
            "io",
            limits.io.iter().map(|limit| {
                let count = |count: Option<u64>| or_unlimited(count, |count| count.to_string());
                format!(
                    "{{ device = {}, read-bps = {}, write-bps = {}, read-iops = {}, write-iops = {} }}",
                    quote(&limit.device.to_string_lossy()),
                    or_unlimited(limit.read_bps, size),
                    or_unlimited(limit.write_bps, size),
                    count(limit.read_iops),
                    count(limit.write_iops),
                )
            }),
        );
        file.section("limits.rlimits");
        for (name, limit) in &limits.rlimits {
            file.line(name, &rlimit(*limit));
        }
    }

    /// `sha256:` and the hash of [`Policy::to_toml`] in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut digest = "sha256:".to_owned();
        for byte in Sha256::digest(self.to_toml()) {
            write!(digest, "{byte:02x}").expect("writing to a string cannot fail");
        }
        digest
    }
}

/// A file as it is written.
#[derive(Default)]
struct File(String);

impl File {
    fn section(&mut self, name: &str) {
        self.0.extend(["\n[", name, "]\n"]);
    }

    fn line(&mut self, key: &str, value: &str) {
        self.0.extend([key, " = ", value, "\n"]);
    }

    /// A list, an item a line.
    fn items(&mut self, key: &str, items: impl Iterator<Item = String>) {
        let mut lines = String::new();
        for item in items {
            lines.extend(["    ", &item, ",\n"]);
        }
        let value = if lines.is_empty() {
            "[]".to_owned()
        } else {
            format!("[\n{lines}]")
        };
        self.line(key, &value);
    }
}

/// A resource limit as a file has it.
pub(crate) fn rlimit(limit: Rlimit) -> String {
    let bound = |value: u64| {
        or_unlimited((value != Rlimit::UNLIMITED).then_some(value), |value| {
            value.to_string()
        })
    };
    if limit.soft == limit.hard {
        bound(limit.soft)
    } else {
        format!(
            "{{ soft = {}, hard = {} }}",
            bound(limit.soft),
            bound(limit.hard)
        )
    }
}

fn size(bytes: u64) -> String {
    quote(&format_size(bytes))
}

fn or_unlimited<T>(value: Option<T>, write: impl Fn(T) -> String) -> String {
    value.map_or_else(|| quote("unlimited"), write)
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", items.join(", "))
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(c)).expect("writing to a string cannot fail");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
