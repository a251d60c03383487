//! docker's `HostConfig` of a sandbox.

use std::collections::BTreeSet;
use std::path::Path;

use palisade_runtime::Plan;
use palisade_shim::state::{Config, Mount, Restart};
use serde_json::{Map, Value, json};

use crate::resolve::limits::SHM;

/// What of docker's `HostConfig` there is: limits, mounts, and what holds the command.
pub fn host_config(config: &Config, plan: Option<&Plan>) -> Value {
    let (policy, most) = match config.restart {
        Restart::No => ("no", 0),
        Restart::OnFailure(most) => ("on-failure", most),
        Restart::Always => ("always", 0),
        Restart::UnlessStopped => ("unless-stopped", 0),
    };
    let binds = config.mounts.iter().filter_map(|mount| {
        let source = match mount.kind.as_str() {
            "bind" => mount.source.as_str(),
            "volume" if !mount.anonymous => mount.name.as_deref()?,
            _ => return None,
        };
        let mode = if mount.writable { "" } else { ":ro" };
        Some(format!("{source}:{}{mode}", mount.destination))
    });
    let tmpfs: Map<String, Value> = config
        .mounts
        .iter()
        .filter(|mount| mount.kind == "tmpfs")
        .map(|mount| (mount.destination.clone(), "".into()))
        .collect();
    let mut value = json!({
        "Binds": binds.collect::<Vec<_>>(),
        "NetworkMode": config.network,
        "PortBindings": {},
        "RestartPolicy": { "Name": policy, "MaximumRetryCount": most },
        "AutoRemove": config.auto_remove,
        "Memory": config.limits.memory,
        "MemorySwap": config.limits.memory_swap,
        "NanoCpus": config.limits.nano_cpus,
        "PidsLimit": config.limits.pids,
        "CpuShares": config.limits.cpu_shares,
        "CpusetCpus": config.limits.cpuset,
        "ReadonlyRootfs": config.read_only,
        "Privileged": false,
        "SecurityOpt": ["no-new-privileges"],
        "Tmpfs": tmpfs,
        "LogConfig": {
            "Type": if config.log.keep { "local" } else { "none" },
            "Config": log_options(config),
        },
        "UsernsMode": if config.identity == "host" { "host" } else { "" },
        "Mounts": config.mounts.iter().map(typed_mount).collect::<Vec<_>>(),
    });
    if let (Value::Object(all), Value::Object(fixed)) = (&mut value, fixed()) {
        all.extend(fixed);
        if let Some(Value::Object(planned)) = plan.map(planned) {
            all.extend(planned);
        }
    }
    value
}

/// What is the same for every sandbox: namespaces of its own, an init, and nothing of docker's networks.
fn fixed() -> Value {
    json!({
        "Init": true,
        "PidMode": "",
        "IpcMode": "private",
        "UTSMode": "",
        "CgroupnsMode": "private",
        "CgroupParent": "",
        "Runtime": "palisade",
        "Isolation": "",
        "VolumeDriver": "",
        "VolumesFrom": [],
        "Links": [],
        "PublishAllPorts": false,
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": [],
        "OomKillDisable": false,
        "OomScoreAdj": 0,
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CapDrop": ["ALL"],
    })
}

/// What the plan alone knows.
fn planned(plan: &Plan) -> Value {
    let spec = &plan.spec;
    let process = spec.process().as_ref();
    let linux = spec.linux().as_ref();
    let kept = process
        .and_then(|process| process.capabilities().as_ref()?.bounding().as_ref())
        .map(|kept| {
            kept.iter()
                .map(|one| format!("CAP_{one}"))
                .collect::<BTreeSet<_>>()
        });
    let groups = process.and_then(|process| process.user().additional_gids().as_ref());
    let groups = groups.map(|groups| groups.iter().map(u32::to_string).collect::<Vec<_>>());
    let ulimits = process.and_then(|process| process.rlimits().as_ref());
    let ulimits = ulimits.map(|limits| {
        let shown = limits.iter().map(|limit| {
            let name = limit.typ().to_string().to_lowercase();
            let name = name.trim_start_matches("rlimit_");
            json!({ "Name": name, "Soft": limit.soft(), "Hard": limit.hard() })
        });
        shown.collect::<Vec<_>>()
    });
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let reserved = resources
        .and_then(|all| all.memory().as_ref()?.reservation())
        .unwrap_or(0);
    let nodes = resources
        .and_then(|all| all.cpu().as_ref()?.mems().clone())
        .unwrap_or_default();
    json!({
        "CapAdd": kept.unwrap_or_default(),
        "GroupAdd": groups.unwrap_or_default(),
        "Ulimits": ulimits.unwrap_or_default(),
        "ShmSize": shared_memory(plan),
        "MemoryReservation": reserved,
        "CpusetMems": nodes,
        "MaskedPaths": linux.and_then(|linux| linux.masked_paths().as_ref()),
        "ReadonlyPaths": linux.and_then(|linux| linux.readonly_paths().as_ref()),
    })
}

/// Bytes of /dev/shm.
fn shared_memory(plan: &Plan) -> u64 {
    let mounts = plan.spec.mounts().iter().flatten();
    mounts
        .filter(|mount| mount.destination() == Path::new(SHM))
        .flat_map(|mount| mount.options().iter().flatten())
        .find_map(|option| option.strip_prefix("size=")?.parse().ok())
        .unwrap_or(0)
}

/// A mount as `--mount` says it.
fn typed_mount(mount: &Mount) -> Value {
    json!({
        "Type": mount.kind,
        "Source": mount.name.as_deref().unwrap_or(&mount.source),
        "Target": mount.destination,
        "ReadOnly": !mount.writable,
    })
}

/// docker's options of a log, as far as there are such.
fn log_options(config: &Config) -> Value {
    let log = &config.log;
    let mut options = json!({
        "max-size": log.max_size.to_string(),
        "max-file": log.max_file.to_string(),
    });
    if let Some(buffer) = log.buffer {
        options["mode"] = "non-blocking".into();
        options["max-buffer-size"] = buffer.to_string().into();
    }
    options
}
