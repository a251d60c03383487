//! Capabilities, Landlock and seccomp.

use std::collections::HashSet;
use std::path::Path;
use std::str::FromStr;

use oci_spec::runtime::{Capability, LinuxCapabilities};
use palisade_policies::landlock::PathRule;
use palisade_policies::{Policy, Program, seccomp};

use crate::failure::{Failure, reason};
use crate::request::{Request, Seccomp};

/// The most a seccomp profile file may hold, in bytes.
const LONGEST_PROFILE: u64 = 1 << 20;

/// The policy's capabilities, in all five sets: a command that is not root inside would lose them otherwise.
pub fn capabilities(policy: &Policy) -> Result<LinuxCapabilities, Failure> {
    let set = policy
        .capabilities
        .iter()
        .map(|name| {
            Capability::from_str(name.strip_prefix("CAP_").unwrap_or(name)).map_err(|_| {
                Failure::new(
                    format!("the policy names an unknown capability `{name}`"),
                    "capabilities(7) lists them",
                )
            })
        })
        .collect::<Result<HashSet<_>, _>>()?;
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_inheritable(Some(set.clone()))
        .set_permitted(Some(set.clone()))
        .set_ambient(Some(set));
    Ok(capabilities)
}

/// The policy's rules and those of the mounts.
pub fn landlock(policy: &Policy, home: &Path, mounts: Vec<PathRule>) -> Vec<PathRule> {
    let mut rules = policy.path_rules(home);
    rules.extend(mounts);
    rules
}

/// The programs to load; `shared` where the command shares the caller's namespaces.
pub fn seccomp(request: &Request, policy: &Policy, shared: bool) -> Result<Vec<Program>, Failure> {
    match &request.protection.seccomp {
        Seccomp::Unconfined => Ok(Vec::new()),
        Seccomp::Policy => {
            let programs = if shared {
                policy.seccomp_shared()
            } else {
                policy.seccomp()
            };
            programs.map_err(|error| {
                Failure::new(
                    error.to_string(),
                    "palisade policy check on the policy's file",
                )
            })
        }
        Seccomp::File(path) => {
            let wrong = |why: String| {
                Failure::new(
                    format!("--security-opt seccomp={}: {why}", path.display()),
                    "a profile as docker's or a runtime configuration's linux.seccomp, in JSON",
                )
            };
            let text = read(path).map_err(|error| wrong(reason(&error)))?;
            let older: Vec<_> = shared
                .then(|| seccomp::shared(policy.network.mode))
                .into_iter()
                .collect();
            let origin = path.to_string_lossy();
            let program = seccomp::from_json(&text, &origin, &policy.capabilities, &older)
                .map_err(|error| wrong(error.to_string()))?;
            Ok(vec![program])
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(LONGEST_PROFILE)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// What was taken away on request.
pub fn warn(request: &Request, notes: &mut Vec<String>) {
    if request.protection.seccomp == Seccomp::Unconfined {
        notes.push("no system call is filtered (--security-opt seccomp=unconfined)".to_owned());
    }
    if request.protection.without_landlock {
        notes.push(
            "Landlock is off (--security-opt landlock=unconfined): mounts alone hold".to_owned(),
        );
    }
}
