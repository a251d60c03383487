//! seccomp profiles of users: docker's JSON (moby's profile format) and runtime-spec's `linux.seccomp` JSON.

use serde::Deserialize;

use crate::error::Error;
use crate::filter::{Action, Comparison, Condition, Rule, Table, Width};
use crate::filter::{compile, x86_64};
use crate::nearest::nearest;
use crate::program::Program;

const EPERM: u32 = 1;

/// Most conditions on one system call; a decision about more would not fit a program.
const MOST_CONDITIONS: usize = 1000;

/// Compiles a profile as `--security-opt seccomp=FILE` takes it: docker's JSON, or runtime-spec's `linux.seccomp` JSON.
/// `origin` names the file in errors; `capabilities` (`CAP_…`) are those the command keeps, on which docker's rules can
/// depend. `older` are tables of which the program answers as if they had been loaded before.
///
/// Where several rules of one system call apply, one without conditions holds before those with, and else the earlier
/// one. An argument that the kernel takes as an int is compared as one. Whatever the profile says, system calls of other
/// architectures kill the process and x32 calls fail. `flags` are read and not used.
///
/// # Errors
/// [`Error::File`] for JSON that is no profile, for a refusal of a system call that does not exist (an allowance of one is
/// left out), and for what needs a listener; [`Error::ProgramTooLong`].
pub fn from_json(
    text: &str,
    origin: &str,
    capabilities: &[String],
    older: &[Table],
) -> Result<Program, Error> {
    let profile: Profile = serde_json::from_str(text).map_err(|error| Error::File {
        origin: origin.to_owned(),
        line: error.line(),
        column: error.column(),
        message: format!("not a seccomp profile: {}", without_place(&error)),
        help: Some(EXAMPLE.to_owned()),
    })?;
    let source = Source {
        text,
        origin,
        capabilities,
    };
    let mut tables = older.to_vec();
    tables.push(source.table(&profile)?);
    compile(&tables, origin)
}

/// The smallest profile.
const EXAMPLE: &str = r#"for example: { "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [ { "names": ["read"], "action": "SCMP_ACT_ALLOW" } ] }"#;

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// The union of both formats.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    /// The errno's name, which containers' profiles have beside the number.
    #[allow(dead_code, reason = "defaultErrnoRet is what counts")]
    default_errno: Option<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "other architectures are killed whatever it says")]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    #[allow(dead_code, reason = "other architectures are killed whatever it says")]
    arch_map: Option<Vec<Architecture>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "other architectures are killed whatever it says")]
struct Architecture {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    /// The errno's name, which containers' profiles have beside the number.
    #[allow(dead_code, reason = "errnoRet is what counts")]
    errno: Option<String>,
    args: Option<Vec<Argument>>,
    #[allow(dead_code, reason = "for people")]
    comment: Option<String>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// What the profile was read from and for.
struct Source<'a> {
    text: &'a str,
    origin: &'a str,
    capabilities: &'a [String],
}

impl Source<'_> {
    fn table(&self, profile: &Profile) -> Result<Table, Error> {
        if profile.listener_path.is_some() || profile.listener_metadata.is_some() {
            return Err(self.wrong(
                "listenerPath",
                "a listener for notifications is not supported: leave it out".to_owned(),
            ));
        }
        for flag in profile.flags.iter().flatten() {
            if !FLAGS.contains(&flag.as_str()) {
                return Err(self.unknown(flag, "flag", FLAGS.iter().copied()));
            }
        }
        let default = self.action(&profile.default_action, profile.default_errno_ret)?;
        let mut table = Table::new(default);
        for entry in profile.syscalls.iter().flatten() {
            // An omitted errno is the kernel's EPERM, not the default action's.
            let action = self.action(&entry.action, entry.errno_ret)?;
            let conditions = entry.args.iter().flatten();
            let conditions = conditions
                .map(|argument| self.condition(argument))
                .collect::<Result<Vec<_>, _>>()?;
            if !self.applies(entry)? {
                continue;
            }
            for name in entry.name.iter().chain(&entry.names) {
                let Some(number) = x86_64::number(name) else {
                    if action == Action::Allow || action == default || x86_64::is_foreign(name) {
                        continue;
                    }
                    return Err(self.unknown(
                        name,
                        "system call",
                        x86_64::SYSCALLS.iter().map(|(name, _)| *name),
                    ));
                };
                if action != default {
                    add(&mut table, number, name, &conditions, action);
                }
            }
        }
        for (number, rules) in &table.rules {
            if rules
                .iter()
                .map(|rule| rule.conditions.len())
                .sum::<usize>()
                > MOST_CONDITIONS
            {
                let name = x86_64::name(*number).unwrap_or_default();
                return Err(self.wrong(
                    name,
                    format!("{name} has more than {MOST_CONDITIONS} conditions"),
                ));
            }
        }
        Ok(table)
    }

    fn action(&self, word: &str, errno: Option<u32>) -> Result<Action, Error> {
        let number = errno.unwrap_or(EPERM);
        let data = || match u16::try_from(number) {
            Ok(number) if number <= 4095 => Ok(number),
            _ => Err(self.wrong(
                &number.to_string(),
                format!("errnoRet {number} is above 4095"),
            )),
        };
        Ok(match word {
            "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
            "SCMP_ACT_TRAP" => Action::Trap,
            "SCMP_ACT_ERRNO" => Action::Errno(data()?),
            "SCMP_ACT_TRACE" => Action::Trace(data()?),
            "SCMP_ACT_LOG" => Action::Log,
            "SCMP_ACT_ALLOW" => Action::Allow,
            "SCMP_ACT_NOTIFY" => {
                let message =
                    "SCMP_ACT_NOTIFY needs a listener, which is not supported: use SCMP_ACT_ERRNO";
                return Err(self.wrong(word, message.to_owned()));
            }
            _ => return Err(self.unknown(word, "action", ACTIONS.iter().copied())),
        })
    }

    fn condition(&self, argument: &Argument) -> Result<Condition, Error> {
        if argument.index > 5 {
            let message = format!(
                "argument index {} is above 5: system calls have six arguments",
                argument.index
            );
            return Err(self.wrong("index", message));
        }
        let (comparison, value) = match argument.op.as_str() {
            "SCMP_CMP_EQ" => (Comparison::Eq, argument.value),
            "SCMP_CMP_NE" => (Comparison::Ne, argument.value),
            "SCMP_CMP_LT" => (Comparison::Lt, argument.value),
            "SCMP_CMP_LE" => (Comparison::Le, argument.value),
            "SCMP_CMP_GT" => (Comparison::Gt, argument.value),
            "SCMP_CMP_GE" => (Comparison::Ge, argument.value),
            "SCMP_CMP_MASKED_EQ" => (Comparison::MaskedEq(argument.value), argument.value_two),
            other => return Err(self.unknown(other, "comparison", COMPARISONS.iter().copied())),
        };
        Ok(Condition {
            argument: argument.index,
            width: Width::Qword,
            comparison,
            value,
        })
    }

    /// Whether docker would use this rule here.
    fn applies(&self, entry: &Entry) -> Result<bool, Error> {
        let has = |capability: &String| self.capabilities.contains(capability);
        let native = |arch: &String| arch == "amd64" || arch == "x86_64";
        if let Some(includes) = &entry.includes
            && (!includes.caps.iter().all(has)
                || !(includes.arches.is_empty() || includes.arches.iter().any(native))
                || !self.reached(includes.min_kernel.as_deref(), true)?)
        {
            return Ok(false);
        }
        Ok(match &entry.excludes {
            None => true,
            Some(excludes) => {
                !excludes.caps.iter().any(has)
                    && !excludes.arches.iter().any(native)
                    && !self.reached(excludes.min_kernel.as_deref(), false)?
            }
        })
    }

    /// Whether the running kernel is at least `wanted`, which is `MAJOR.MINOR`; `unasked` where nothing is wanted.
    fn reached(&self, wanted: Option<&str>, unasked: bool) -> Result<bool, Error> {
        let Some(wanted) = wanted else {
            return Ok(unasked);
        };
        let version = |text: &str| {
            let mut parts = text
                .split(|c: char| !c.is_ascii_digit())
                .map(str::parse::<u32>);
            Some((parts.next()?.ok()?, parts.next()?.ok()?))
        };
        let Some(least) = version(wanted) else {
            return Err(self.wrong(
                wanted,
                format!("minKernel {wanted:?} is not a version as \"4.8\""),
            ));
        };
        let path = "/proc/sys/kernel/osrelease";
        let running = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?;
        version(&running)
            .map(|running| running >= least)
            .ok_or_else(|| {
                self.wrong(
                    wanted,
                    format!("cannot compare minKernel with this kernel's version {running:?}"),
                )
            })
    }

    fn unknown<'k>(&self, word: &str, what: &str, known: impl Iterator<Item = &'k str>) -> Error {
        let meant = nearest(word, known)
            .map(|meant| format!("; did you mean {meant:?}?"))
            .unwrap_or_default();
        self.wrong(word, format!("unknown {what} {word:?}{meant}"))
    }

    /// An error where `word` first stands in the file.
    fn wrong(&self, word: &str, message: String) -> Error {
        let start = self.text.find(word).unwrap_or(0);
        let before = &self.text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Error::File {
            origin: self.origin.to_owned(),
            line,
            column,
            message,
            help: None,
        }
    }
}

/// Adds a rule for one system call.
fn add(table: &mut Table, number: u32, name: &str, conditions: &[Condition], action: Action) {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|condition| as_the_kernel_takes_it(name, *condition))
        .collect();
    let rules = table.rules.entry(number).or_default();
    if rules.iter().any(|rule| rule.conditions.is_empty()) {
        return;
    }
    if conditions.is_empty() {
        rules.clear();
    }
    // Two conditions on one argument are alternatives: so docker's runtimes have it, and profiles rely on it.
    let repeated = conditions.iter().enumerate().any(|(index, condition)| {
        conditions[..index]
            .iter()
            .any(|earlier| earlier.argument == condition.argument)
    });
    if repeated {
        rules.extend(conditions.into_iter().map(|condition| Rule {
            conditions: vec![condition],
            action,
        }));
    } else {
        rules.push(Rule { conditions, action });
    }
}

/// The condition in the width in which the kernel looks at the argument.
fn as_the_kernel_takes_it(name: &str, condition: Condition) -> Condition {
    let is_int = INTS
        .iter()
        .any(|(call, arguments)| *call == name && arguments.contains(&condition.argument));
    let fits = |value: u64| u32::try_from(value).is_ok();
    let mask_fits = !matches!(condition.comparison, Comparison::MaskedEq(mask) if !fits(mask));
    if is_int && fits(condition.value) && mask_fits {
        Condition {
            width: Width::Dword,
            ..condition
        }
    } else {
        condition
    }
}

/// Arguments that the kernel takes as an int and profiles look at: (system call, arguments). clone's flags are a long of
/// which the kernel reads the low half.
#[rustfmt::skip]
const INTS: &[(&str, &[u8])] = &[
    ("clone", &[0]), ("fcntl", &[0, 1]), ("futex", &[1]), ("ioctl", &[0, 1]), ("keyctl", &[0]), ("kill", &[0, 1]),
    ("madvise", &[2]), ("mknod", &[1]), ("mknodat", &[0, 2]), ("openat", &[0, 2]), ("open", &[1]),
    ("personality", &[0]), ("prctl", &[0]), ("setns", &[1]), ("seccomp", &[0, 1]), ("setsockopt", &[0, 1, 2]),
    ("getsockopt", &[0, 1, 2]), ("socket", &[0, 1, 2]), ("socketpair", &[0, 1, 2]), ("tgkill", &[0, 1, 2]),
    ("chmod", &[1]), ("fchmod", &[0, 1]), ("fchmodat", &[0, 2]), ("bpf", &[0]), ("umount2", &[1]),
];

const ACTIONS: &[&str] = &[
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
    "SCMP_ACT_ALLOW",
];

const COMPARISONS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_GT",
    "SCMP_CMP_GE",
    "SCMP_CMP_MASKED_EQ",
];

const FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];
