//! `palisade inspect`: a sandbox as docker shows a container.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::ArgMatches;
use nix::sys::signal::Signal;
use palisade_rootfs::Platform;
use palisade_rootfs::volumes::{self, Volumes};
use palisade_runtime::{Plan, Root};
use palisade_shim::state::{
    Check, Config, Exited, Healthiness, Known, Mount, Registry, State, Status, Verdict,
};
use palisade_shim::{Error, log};
use serde_json::{Map, Value, json};

use crate::caller::Caller;
use crate::failure::Failure;
use crate::format::{inspected, rfc3339};
use crate::sandboxes::{failure, registry};
use crate::verb::{complain, print};
use crate::{image, volume};

mod host_config;

use host_config::host_config;

/// What docker gives for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Prints everything that was found, and says what was not.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let kind = matches.get_one::<String>("type").map(String::as_str);
    all(matches, kind)
}

/// `container inspect`, and `inspect` with or without a kind.
pub fn all(matches: &ArgMatches, kind: Option<&str>) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let format = matches.get_one::<String>("format").map(String::as_str);
    let mut values = Vec::new();
    let mut code = 0;
    for name in matches.get_many::<String>("NAME").into_iter().flatten() {
        match one(&registry, name, kind, matches.get_flag("size")) {
            Ok(value) => values.push(value),
            Err(failure) => {
                code = failure.code();
                complain(&failure);
            }
        }
    }
    print(&inspected(format, &values).map_err(|error| Failure::from(error).with_code(1))?)?;
    Ok(code)
}

fn one(registry: &Registry, name: &str, kind: Option<&str>, sized: bool) -> Result<Value, Failure> {
    if kind.is_none_or(|kind| kind == "container") {
        match registry.find(name) {
            Ok(entry) => {
                let known = entry.look().map_err(|error| failure(&error))?;
                let checks = entry.checks().map_err(|error| failure(&error))?;
                // Removed meanwhile, or written by another palisade: the rest is known all the same.
                let plan = entry.plan().ok();
                let mut value = sandbox(&known, &checks, plan.as_ref());
                if sized {
                    let upper = entry.directory.join("upper");
                    // Where there is none, the layer is in memory.
                    let written = volumes::usage(&upper).unwrap_or(0);
                    value["SizeRw"] = written.into();
                    let lower = plan.iter().flat_map(lower);
                    let image: u64 = lower.filter_map(|layer| volumes::usage(layer).ok()).sum();
                    value["SizeRootFs"] = (image + written).into();
                }
                return Ok(value);
            }
            Err(Error::NoSuchSandbox { .. }) => {}
            Err(error) => return Err(failure(&error)),
        }
    }
    if kind.is_none_or(|kind| kind == "image") {
        let caller = Caller::read(false)?;
        let data = registry.data().to_owned();
        match image::Place::below(data, &caller, Platform::host())
            .and_then(|place| image::inspect::value(&place, name))
        {
            Ok(value) => return Ok(value),
            Err(failure) if kind.is_some() => return Err(failure.with_code(1)),
            // Something else may have the name.
            Err(_) => {}
        }
    }
    if kind.is_none_or(|kind| kind == "volume") {
        let found = Volumes::new(registry.data()).find(name);
        let found = found.map_err(|error| Failure::new(error.to_string(), "").with_code(1))?;
        if let Some(found) = found {
            return Ok(volume::shown(&found));
        }
    }
    let kind = kind
        .unwrap_or("sandbox, image or volume")
        .replace("container", "sandbox");
    Err(Failure::new(
        format!("there is no {kind} {name}"),
        "palisade ps -a, palisade images, palisade volume ls",
    )
    .with_code(1))
}

/// The image's unpacked layers.
fn lower(plan: &Plan) -> &[PathBuf] {
    match &plan.root {
        Root::Overlay { lower, .. } => lower,
        _ => &[],
    }
}

/// A sandbox in docker's form; what only its plan knows is empty without one.
pub fn sandbox(known: &Known, checks: &[Check], plan: Option<&Plan>) -> Value {
    let config = &known.config;
    let (path, args) = config
        .args
        .split_first()
        .map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    json!({
        "Id": config.id,
        "Created": rfc3339(config.created),
        "Path": path,
        "Args": args,
        "State": state(known, checks),
        "Image": config.image.id.clone().or_else(|| config.image.digest.clone()).unwrap_or_default(),
        "LogPath": if config.foreground || !config.log.keep {
            String::new()
        } else {
            known.entry.directory.join("log").to_string_lossy().into_owned()
        },
        "Name": format!("/{}", config.name),
        "RestartCount": known.state.restarts,
        "Driver": "overlay",
        "GraphDriver": { "Name": "overlay", "Data": null },
        "Platform": "linux",
        "AppArmorProfile": "",
        "ProcessLabel": "",
        "MountLabel": "",
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "ExecIDs": null,
        "HostConfig": host_config(config, plan),
        "Mounts": config.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": own_config(config, plan),
        "NetworkSettings": {
            "Gateway": "",
            "IPAddress": "",
            "IPPrefixLen": 0,
            "MacAddress": "",
            "SandboxID": "",
            "SandboxKey": "",
            "Networks": { config.network.clone(): { "IPAddress": "", "Gateway": "" } },
            "Ports": {},
        },
        "Palisade": {
            "Policy": config.policy,
            "Identity": config.identity,
            "Foreground": config.foreground,
            "Monitor": known.state.monitor.unwrap_or(0),
            "Expires": config.expires.map(rfc3339),
            "LogLost": log::lost(&known.entry.directory.join("log")),
        },
    })
}

fn state(known: &Known, checks: &[Check]) -> Value {
    let state: &State = &known.state;
    let time = |time: Option<SystemTime>| time.map_or_else(|| NEVER.to_owned(), rfc3339);
    // Before the first check has ended.
    let expected = known.config.health.is_some() && state.status.is_live();
    let health = state.health.or(expected.then_some(Healthiness {
        verdict: Verdict::Starting,
        failing: 0,
    }));
    let health = health.map(|health| {
        let log = checks.iter().map(|check| {
            json!({
                "Start": rfc3339(check.start),
                "End": rfc3339(check.end),
                "ExitCode": check.code,
                "Output": check.output,
            })
        });
        json!({
            "Status": health.verdict.word(),
            "FailingStreak": health.failing,
            "Log": log.collect::<Vec<_>>(),
        })
    });
    json!({
        "Status": state.status.word(),
        "Running": state.status.is_live(),
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.exit.as_ref().is_some_and(Exited::was_out_of_memory),
        "Dead": state.status == Status::Dead,
        "Pid": state.pid.unwrap_or(0),
        "ExitCode": known.exit_code(),
        "Error": state.error.clone().unwrap_or_default(),
        "StartedAt": time(state.started),
        "FinishedAt": time(state.exit.as_ref().map(|exit| exit.finished)),
        "Health": health,
    })
}

fn mount(mount: &Mount) -> Value {
    let mut value = json!({
        "Type": mount.kind,
        "Source": mount.source,
        "Destination": mount.destination,
        "Mode": if mount.writable { "" } else { "ro" },
        "RW": mount.writable,
        "Propagation": if mount.kind == "bind" { "rprivate" } else { "" },
    });
    if let Some(name) = &mount.name {
        value["Name"] = name.as_str().into();
        value["Driver"] = "local".into();
    }
    value
}

fn own_config(config: &Config, plan: Option<&Plan>) -> Value {
    let (entrypoint, command) = config
        .args
        .split_at(config.entrypoint.min(config.args.len()));
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let signal = Signal::try_from(config.stop_signal);
    let health = config.health.as_ref().map(|health| {
        let word = if health.shell { "CMD-SHELL" } else { "CMD" };
        let test = std::iter::once(word).chain(health.test.iter().map(String::as_str));
        json!({
            "Test": test.collect::<Vec<_>>(),
            "Interval": nanoseconds(health.interval),
            "Timeout": nanoseconds(health.timeout),
            "StartPeriod": nanoseconds(health.start_period),
            "StartInterval": nanoseconds(health.start_interval),
            "Retries": health.retries,
        })
    });
    let anonymous = config.mounts.iter().filter(|mount| mount.anonymous);
    let volumes: Map<String, Value> = anonymous
        .map(|mount| (mount.destination.clone(), json!({})))
        .collect();
    let ports: Map<String, Value> = config
        .exposed_ports
        .iter()
        .map(|port| (port.clone(), json!({})))
        .collect();
    json!({
        "Hostname": config.hostname,
        "Domainname": plan.and_then(|plan| plan.spec.domainname().as_deref()).unwrap_or_default(),
        "User": config.user,
        "AttachStdin": config.foreground && config.interactive,
        "AttachStdout": config.foreground,
        "AttachStderr": config.foreground,
        "ExposedPorts": ports,
        "Tty": config.tty,
        "OpenStdin": config.interactive,
        "StdinOnce": config.foreground && config.interactive,
        "OnBuild": null,
        "Env": config.env,
        "Cmd": command,
        "Entrypoint": entrypoint,
        "Image": config.image.reference,
        "Volumes": if volumes.is_empty() { Value::Null } else { volumes.into() },
        "WorkingDir": config.working_dir,
        "Labels": config.labels,
        "StopSignal": signal.map_or_else(|_| config.stop_signal.to_string(), |signal| signal.as_str().to_owned()),
        "StopTimeout": config.stop_timeout.as_secs(),
        "Healthcheck": health,
    })
}
