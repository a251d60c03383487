//! `--explain`: what was refused, which rule of which policy refused it, and what would allow it.
//!
//! Only what the kernel let palisade know is said: refused system calls. Which paths Landlock refused, or where there was no
//! network, it tells nobody but an administrator; that is said too, lest silence be taken for an answer.

use palisade_policies::{NetworkMode, Policy, seccomp};
use palisade_shim::{Denials, Refused};

use crate::request::{Request, Seccomp};

/// Lines for standard error.
pub fn lines(request: &Request, policy: &Policy, denials: Option<&Denials>) -> Vec<String> {
    let Some(denials) = denials else {
        let why = if request.protection.seccomp == Seccomp::Unconfined {
            "no system call is filtered"
        } else {
            "somebody else, or the filter itself, keeps palisade from listening"
        };
        return vec![format!("denied system calls were not watched: {why}")];
    };
    let source = match &request.protection.seccomp {
        Seccomp::File(path) => Source::Profile(path.display().to_string()),
        Seccomp::Policy | Seccomp::Unconfined => Source::Policy(policy, &request.policy),
    };
    let unseen = unseen(policy);
    if denials.system_calls.is_empty() {
        return vec!["no system call was denied".to_owned(), unseen];
    }
    let told: u64 = denials
        .system_calls
        .iter()
        .map(|refused| refused.count)
        .sum();
    let mut kernel_asks = false;
    let mut lines: Vec<String> = denials
        .system_calls
        .iter()
        .flat_map(|refused| about(refused, &source, &mut kernel_asks))
        .collect();
    if told < denials.total {
        lines.push(format!("{} more, of other kinds", denials.total - told));
    }
    if kernel_asks {
        lines.push(
            "what is allowed so, the kernel may still refuse: it asks for a capability, and those that --cap-add keeps count inside \
             the sandbox's own user namespace alone"
                .to_owned(),
        );
    }
    lines.push(unseen);
    lines
}

/// What is refused without anybody being told.
fn unseen(policy: &Policy) -> String {
    let network = if policy.network.mode == NetworkMode::None {
        "; nor what has no network to go to: Network is unreachable (network.mode = \"none\")"
    } else {
        ""
    };
    format!(
        "not counted, as the kernel tells nobody: paths that Landlock, mounts and permissions refuse: Permission denied, \
         Read-only file system (filesystem.*){network}"
    )
}

/// What the filter was made from.
enum Source<'a> {
    /// A policy, and how the user named it.
    Policy(&'a Policy, &'a str),
    /// A seccomp profile in a file.
    Profile(String),
}

fn about(refused: &Refused, source: &Source<'_>, kernel_asks: &mut bool) -> Vec<String> {
    let name = refused.name.map_or_else(
        || format!("system call {:#x}", refused.number),
        str::to_owned,
    );
    let times = match refused.count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    };
    let callers: Vec<String> = refused
        .processes
        .iter()
        .map(|caller| match caller.pid {
            Some(pid) => format!("{} (pid {pid})", caller.name),
            None => caller.name.clone(),
        })
        .collect();
    let mut lines = vec![format!(
        "{name} was denied {times}, with {}: {}",
        refused.errno,
        callers.join(", ")
    )];
    match source {
        Source::Profile(path) => {
            lines.push(format!("  rule: the seccomp profile {path} refuses it"));
            lines.push(format!(
                "  to allow it: SCMP_ACT_ALLOW for {name} in {path}"
            ));
        }
        Source::Policy(policy, named) => {
            let arguments = refused.known_arguments();
            let refusal = seccomp::explain(
                &policy.syscalls,
                &policy.capabilities,
                refused.number,
                &arguments,
            );
            if refusal.is_none() {
                lines
                    .push("  rule: not the policy's, but one that this tier adds to it".to_owned());
            }
            if let Some(refusal) = refusal {
                *kernel_asks |= refusal.kernel_asks;
                lines.push(format!("  rule: {} (policy {named})", refusal.rule));
                if refusal.remedies.is_empty() {
                    lines.push("  nothing allows it".to_owned());
                } else {
                    lines.push(format!("  to allow it: {}", refusal.remedies.join(", or ")));
                }
            }
        }
    }
    lines
}
