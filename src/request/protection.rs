//! `--cap-add`, `--cap-drop`, `--security-opt` and `--best-effort`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec::runtime::Capability;
use palisade_policies::{CAPABILITIES, Tier};

use super::text;
use crate::caller::Caller;
use crate::cli::options::{distance, near_enough};
use crate::failure::Failure;

/// What was asked for beside the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// `--cap-add`.
    pub add: Capabilities,
    /// `--cap-drop`.
    pub drop: Capabilities,
    /// seccomp.
    pub seccomp: Seccomp,
    /// `landlock=unconfined`.
    pub without_landlock: bool,
    /// `--best-effort`.
    pub best_effort: bool,
    /// `--require`.
    pub require: Option<Tier>,
}

/// A set of capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `ALL`.
    pub all: bool,
    /// Single ones, as `CAP_…`.
    pub names: Vec<String>,
}

/// Which system calls are filtered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// As the policy says.
    #[default]
    Policy,
    /// By a docker profile or a runtime configuration's, in a file.
    File(PathBuf),
    /// Not at all.
    Unconfined,
}

/// Understands all of them.
pub fn understand(
    add: Vec<OsString>,
    drop: Vec<OsString>,
    options: Vec<OsString>,
    best_effort: bool,
    require: Option<OsString>,
    caller: &Caller,
) -> Result<Protection, Failure> {
    let mut protection = Protection {
        add: capabilities("--cap-add", add)?,
        drop: capabilities("--cap-drop", drop)?,
        best_effort,
        require: require.map(tier).transpose()?,
        ..Protection::default()
    };
    for typed in options {
        let typed = text::utf8("--security-opt", typed)?;
        // docker takes `:` as well as `=` here.
        let (key, value) = typed.split_once(['=', ':']).unwrap_or((&typed, ""));
        match (key, value) {
            // Always so.
            ("no-new-privileges", "" | "true")
            | ("apparmor", "unconfined")
            | ("label", "disable") => {}
            ("seccomp", "unconfined") => protection.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => protection.seccomp = Seccomp::Policy,
            ("seccomp", file) if !file.is_empty() => {
                protection.seccomp = Seccomp::File(caller.absolute(file.as_ref()));
            }
            ("landlock", "unconfined") => protection.without_landlock = true,
            ("no-new-privileges", "false") => {
                return Err(Failure::new(
                    "--security-opt no-new-privileges=false: no command in a sandbox ever gains privileges",
                    "--user 0 for root inside, or --cap-add for a capability",
                ));
            }
            ("systempaths" | "mask" | "unmask", _) => {
                return Err(Failure::new(
                    format!("--security-opt {typed}: the policy says which paths are hidden"),
                    "--policy FILE with masked-paths under [filesystem]",
                ));
            }
            _ => {
                return Err(Failure::new(
                    format!("--security-opt {typed} does not exist here"),
                    "--security-opt seccomp=FILE, seccomp=unconfined, landlock=unconfined or no-new-privileges",
                ));
            }
        }
    }
    Ok(protection)
}

fn tier(typed: OsString) -> Result<Tier, Failure> {
    let word = text::utf8("--require", typed)?;
    Tier::from_word(&word).ok_or_else(|| {
        Failure::new(
            format!("--require {word} is no tier"),
            "--require full, no-cgroup or no-namespace; palisade doctor says which can be had",
        )
    })
}

/// The capability whose name is nearly this, without `CAP_`.
fn nearest(typed: &str) -> Option<&'static str> {
    CAPABILITIES
        .iter()
        .map(|name| name.trim_start_matches("CAP_"))
        .map(|name| (distance(typed, name), name))
        .min()
        .filter(|(distance, name)| near_enough(*distance, typed, name))
        .map(|(_, name)| name)
}

fn capabilities(option: &str, typed: Vec<OsString>) -> Result<Capabilities, Failure> {
    let mut set = Capabilities::default();
    for typed in typed {
        let typed = text::utf8(option, typed)?;
        for word in typed.split(',') {
            let name = word.to_ascii_uppercase();
            let bare = name.strip_prefix("CAP_").unwrap_or(&name);
            if bare == "ALL" {
                set.all = true;
            } else if Capability::from_str(bare).is_ok() {
                set.names.push(format!("CAP_{bare}"));
            } else {
                return Err(Failure::new(
                    format!("{option} {word}: there is no such capability"),
                    match nearest(bare) {
                        Some(name) => format!("{option} {name}"),
                        None => format!("{option} NET_BIND_SERVICE; capabilities(7) lists them"),
                    },
                ));
            }
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(typed: &[&str]) -> Result<Protection, Failure> {
        let caller = Caller {
            cwd: "/w".into(),
            ..Caller::default()
        };
        understand(
            vec![],
            vec![],
            typed.iter().map(OsString::from).collect(),
            false,
            None,
            &caller,
        )
    }

    #[test]
    fn dockers_spellings_of_no_new_privileges_are_taken_and_change_nothing() {
        for typed in [
            "no-new-privileges",
            "no-new-privileges:true",
            "no-new-privileges=true",
        ] {
            assert_eq!(options(&[typed]).unwrap(), Protection::default());
        }
        assert!(options(&["no-new-privileges=false"]).is_err());
    }

    #[test]
    fn a_tier_is_one_of_three_words() {
        assert_eq!(tier("no-cgroup".into()).unwrap(), Tier::NoCgroup);
        assert!(tier("most".into()).unwrap_err().remedy().contains("doctor"));
    }

    #[test]
    fn a_seccomp_profile_is_a_file_of_the_callers() {
        assert_eq!(
            options(&["seccomp=p.json"]).unwrap().seccomp,
            Seccomp::File("/w/p.json".into())
        );
        assert_eq!(
            options(&["seccomp:unconfined"]).unwrap().seccomp,
            Seccomp::Unconfined
        );
        for odd in [
            "seccomp=",
            "seccomp",
            "odd",
            "systempaths=unconfined",
            "label=user:x",
        ] {
            assert!(options(&[odd]).is_err(), "{odd}");
        }
    }

    #[test]
    fn capabilities_are_known_with_and_without_prefix_in_any_case() {
        let set = capabilities(
            "--cap-add",
            vec!["net_raw".into(), "CAP_SYS_PTRACE,all".into()],
        )
        .unwrap();
        assert_eq!(set.names, ["CAP_NET_RAW", "CAP_SYS_PTRACE"]);
        assert!(set.all);
        assert!(capabilities("--cap-add", vec!["SYS_NOTHING".into()]).is_err());
    }
}
