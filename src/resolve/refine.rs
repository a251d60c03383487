//! Options over the policy: what was asked for on the command line becomes part of it, if the policy allows that.

use palisade_policies::{Flags, Pins, Policy, Tier};

use super::limits;
use crate::failure::Failure;
use crate::request::{Mount, Request, Seccomp, Userns};

/// The policy that holds: `policy` with the request's options in it, and lowered to what the administrator pinned.
///
/// # Errors
/// An option that loosens a policy that may only be tightened.
pub fn refine(
    policy: &Policy,
    request: &Request,
    pins: &Pins,
    notes: &mut Vec<String>,
) -> Result<Policy, Failure> {
    let mut refined = policy.clone();
    limits::refine(&mut refined, request);
    refined.timeout = request.timeout.or(refined.timeout);
    refined.output_cap = request.limits.output.or(refined.output_cap);
    refined.stop_timeout = request.stop_timeout.unwrap_or(refined.stop_timeout);
    refined.network.mode = request.network.unwrap_or(refined.network.mode);
    refined.filesystem.root = request.root_mode.unwrap_or(refined.filesystem.root);
    capabilities(&mut refined, request);
    // --best-effort goes on with less than was asked for, and never with less than the policy demands.
    refined.minimum_tier = request.protection.require.unwrap_or(policy.minimum_tier);
    if policy.flags == Flags::TightenOnly {
        if let Some(option) = loosens(request) {
            return Err(Failure::new(
                format!(
                    "{option} loosens the policy {}, which options may only tighten",
                    policy.name
                ),
                "leave the option out, or ask for another policy",
            ));
        }
        let mut all = refined.clone();
        all.filesystem.scratch_size = layer(request, policy);
        policy.check_refined(&all).map_err(|error| {
            Failure::new(
                error.to_string(),
                "leave the option out, or ask for another policy",
            )
        })?;
    }
    let (refined, lowered) = refined.pinned_by(pins);
    for pin in lowered {
        notes.push(format!(
            "{}: {} instead of {}, as {} pins it",
            pin.key, pin.to, pin.from, pin.origin
        ));
    }
    refuse_unenforced(&refined, request)?;
    Ok(refined)
}

/// Bytes that a layer in memory takes. What was asked for is about that layer alone: the policy's scratch size is every tmpfs's.
pub fn layer(request: &Request, policy: &Policy) -> u64 {
    request
        .limits
        .layer
        .unwrap_or(policy.filesystem.scratch_size)
}

/// What a policy demands and palisade cannot hold is an error, never ignored.
fn refuse_unenforced(policy: &Policy, request: &Request) -> Result<(), Failure> {
    let refused = |what: &str, remedy: &str| {
        Err(Failure::new(
            format!("policy {}: {what}", policy.name),
            remedy,
        ))
    };
    if policy.minimum_tier == Tier::Full && request.protection.best_effort {
        return refused(
            "the tier full is required, and --best-effort would go on with less",
            "leave --best-effort out",
        );
    }
    Ok(())
}

fn capabilities(policy: &mut Policy, request: &Request) {
    let (add, drop) = (&request.protection.add, &request.protection.drop);
    if drop.all {
        policy.capabilities.clear();
    }
    policy
        .capabilities
        .retain(|name| !drop.names.contains(name));
    let wanted = if add.all { all() } else { add.names.clone() };
    for name in wanted {
        if !policy.capabilities.contains(&name) && !drop.names.contains(&name) {
            policy.capabilities.push(name);
        }
    }
}

/// Every capability there is (capabilities(7), Linux 5.9 and later).
fn all() -> Vec<String> {
    const NAMES: [&str; 41] = [
        "AUDIT_CONTROL",
        "AUDIT_READ",
        "AUDIT_WRITE",
        "BLOCK_SUSPEND",
        "BPF",
        "CHECKPOINT_RESTORE",
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "IPC_LOCK",
        "IPC_OWNER",
        "KILL",
        "LEASE",
        "LINUX_IMMUTABLE",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "MKNOD",
        "NET_ADMIN",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_RAW",
        "PERFMON",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYSLOG",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_CHROOT",
        "SYS_MODULE",
        "SYS_NICE",
        "SYS_PACCT",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "WAKE_ALARM",
    ];
    NAMES.iter().map(|name| format!("CAP_{name}")).collect()
}

/// The first option that loosens what a policy has no word for.
fn loosens(request: &Request) -> Option<&'static str> {
    match &request.protection.seccomp {
        Seccomp::Policy => {}
        Seccomp::File(_) | Seccomp::Unconfined => return Some("--security-opt seccomp"),
    }
    if request.protection.without_landlock {
        return Some("--security-opt landlock");
    }
    if request.protection.best_effort {
        return Some("--best-effort");
    }
    if request.userns == Userns::Host {
        return Some("--userns host");
    }
    request
        .mounts
        .iter()
        .any(|mount| matches!(mount, Mount::Device { .. }))
        .then_some("--device")
}
