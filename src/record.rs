//! The record of a sandbox: what it was made as, from what was asked for and what was planned.

use std::time::{Duration, SystemTime};

use palisade_rootfs::{Healthcheck, Image};
use palisade_runtime::Plan;
use palisade_shim::state::{self, Config, Limits};

use crate::request::{Mount, Request};
use crate::resolve::{Resolved, Span, Volume};

/// docker's defaults of a health check.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// What is kept of a sandbox for the verbs that come later.
pub fn config(
    request: &Request,
    policy: &str,
    image: Option<&Image>,
    resolved: &Resolved,
) -> Config {
    let plan = &resolved.plan;
    let created = SystemTime::now();
    let process = plan.spec.process().as_ref();
    let texts = |texts: Option<&Vec<String>>| texts.cloned().unwrap_or_default();
    let image_config = image.map(|image| &image.config);
    let mut labels = image_config.map_or_else(Default::default, |config| config.labels.clone());
    labels.extend(request.labels.iter().cloned());
    let entrypoint = match &request.entrypoint {
        Some(program) => usize::from(!program.is_empty()),
        None => image_config.map_or(0, |config| config.entrypoint.len()),
    };
    let mounts = request.mounts.iter().filter_map(mount);
    let mounts = mounts.chain(resolved.volumes.used.iter().map(volume));
    let mounts = mounts.collect();
    let own_user = image_config.map(|config| config.user.clone());
    Config {
        id: plan.id.clone(),
        name: request.name.clone().unwrap_or_default(),
        created,
        image: state::Image {
            reference: request.image_name.clone(),
            digest: image
                .and_then(|image| image.manifest_digest)
                .map(|digest| digest.to_string()),
            id: image
                .and_then(|image| image.config_digest)
                .map(|digest| digest.to_string()),
        },
        args: texts(process.and_then(|process| process.args().as_ref())),
        typed: typed(),
        made_in: std::env::current_dir()
            .ok()
            .and_then(|directory| directory.into_os_string().into_string().ok())
            .unwrap_or_default(),
        entrypoint,
        env: texts(process.and_then(|process| process.env().as_ref())),
        user: request.user.clone().or(own_user).unwrap_or_default(),
        working_dir: process
            .map_or_else(String::new, |process| process.cwd().display().to_string()),
        hostname: plan.spec.hostname().clone().unwrap_or_default(),
        tty: request.tty,
        interactive: request.interactive,
        labels,
        mounts,
        network: network(plan).to_owned(),
        exposed_ports: image_config.map_or_else(Vec::new, |config| config.exposed_ports.clone()),
        limits: limits(plan),
        read_only: plan
            .spec
            .root()
            .as_ref()
            .and_then(oci_spec::runtime::Root::readonly)
            .unwrap_or(false),
        policy: policy.to_owned(),
        policy_source: request.policy.clone(),
        identity: resolved.identity.to_owned(),
        stop_signal: plan.stop_signal,
        stop_timeout: plan.stop_timeout,
        auto_remove: request.remove,
        foreground: !request.life.detach && request.life.detach_keys.is_none(),
        restart: request.life.restart,
        health: health(
            request,
            image_config.and_then(|config| config.healthcheck.as_ref()),
        ),
        log: request.life.log,
        ttl: request.life.ttl,
        expires: request.life.ttl.and_then(|ttl| created.checked_add(ttl)),
    }
}

fn mount(mount: &Mount) -> Option<state::Mount> {
    let destination = mount.destination().display().to_string();
    Some(match mount {
        Mount::Bind(bind) => state::Mount {
            kind: "bind".into(),
            source: bind.source.display().to_string(),
            destination,
            writable: !bind.read_only,
            ..state::Mount::default()
        },
        Mount::Tmpfs(tmpfs) => state::Mount {
            kind: "tmpfs".into(),
            destination,
            writable: !tmpfs.read_only,
            ..state::Mount::default()
        },
        // Where volumes lie was resolved.
        Mount::Volume(_) | Mount::Device { .. } => return None,
    })
}

fn volume(volume: &Volume) -> state::Mount {
    state::Mount {
        kind: "volume".into(),
        name: Some(volume.name.clone()),
        source: volume.source.display().to_string(),
        destination: volume.destination.display().to_string(),
        writable: !volume.read_only,
        anonymous: volume.span != Span::Named,
    }
}

/// This process's words from `run` or `create` on, for `generate systemd --new`.
fn typed() -> Vec<String> {
    let words = std::env::args_os().skip(1);
    let words = words.skip_while(|word| word == "container");
    let words: Result<_, _> = words.map(std::ffi::OsString::into_string).collect();
    words.unwrap_or_default()
}

/// A sandbox without a network namespace of its own has the host's.
fn network(plan: &Plan) -> &'static str {
    use oci_spec::runtime::LinuxNamespaceType::Network;
    let namespaces = plan
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    let own = namespaces.is_some_and(|all| all.iter().any(|one| one.typ() == Network));
    if own { "none" } else { "host" }
}

/// Limits as docker has them.
pub fn limits(plan: &Plan) -> Limits {
    let linux = plan.spec.linux().as_ref();
    let Some(resources) = linux.and_then(|linux| linux.resources().as_ref()) else {
        return Limits::default();
    };
    let memory = resources.memory().as_ref();
    let cpu = resources.cpu().as_ref();
    let quota = cpu.and_then(oci_spec::runtime::LinuxCpu::quota);
    let period = cpu.and_then(oci_spec::runtime::LinuxCpu::period);
    let nano_cpus = quota.zip(period).map_or(0, |(quota, period)| {
        let period = i64::try_from(period.max(1)).unwrap_or(i64::MAX);
        quota.saturating_mul(1_000_000_000) / period
    });
    Limits {
        memory: memory
            .and_then(oci_spec::runtime::LinuxMemory::limit)
            .unwrap_or(0),
        memory_swap: memory
            .and_then(oci_spec::runtime::LinuxMemory::swap)
            .unwrap_or(0),
        nano_cpus,
        pids: resources
            .pids()
            .as_ref()
            .map_or(0, oci_spec::runtime::LinuxPids::limit),
        cpu_shares: cpu
            .and_then(oci_spec::runtime::LinuxCpu::shares)
            .unwrap_or(0),
        cpuset: cpu.and_then(|cpu| cpu.cpus().clone()).unwrap_or_default(),
    }
}

/// The check that was asked for, else the image's, with docker's defaults for what neither says.
fn health(request: &Request, image: Option<&Healthcheck>) -> Option<state::Health> {
    let asked = &request.life.health;
    if asked.none {
        return None;
    }
    let (test, shell) = match (&asked.line, image) {
        (Some(line), _) => (vec![line.clone()], true),
        (None, Some(check)) => match check.test.split_first() {
            Some((word, rest)) if word == "CMD" && !rest.is_empty() => (rest.to_vec(), false),
            Some((word, [line])) if word == "CMD-SHELL" => (vec![line.clone()], true),
            _ => return None,
        },
        (None, None) => return None,
    };
    let given = |time: fn(&Healthcheck) -> Duration| image.map(time).filter(|time| !time.is_zero());
    let retries = image.map(|check| check.retries).filter(|count| *count > 0);
    Some(state::Health {
        test,
        shell,
        interval: asked.interval.or(given(|c| c.interval)).unwrap_or(INTERVAL),
        timeout: asked.timeout.or(given(|c| c.timeout)).unwrap_or(TIMEOUT),
        start_period: asked
            .start_period
            .or(given(|c| c.start_period))
            .unwrap_or_default(),
        start_interval: asked.start_interval.unwrap_or(START_INTERVAL),
        retries: asked.retries.or(retries).unwrap_or(RETRIES),
    })
}
