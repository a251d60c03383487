//! Limits: a control group with every usual limit is made and removed.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use palisade_policies::Tier;

use super::child::{Answer, Failed, ask};
use super::{Blocked, Finding, Group, Layer, Probe};
use crate::cgroup::{Cgroup, Error, Request};

const CURE: &str =
    "run palisade as root, or have a control group delegated to this user (docs/doctor.md)";

pub(super) fn cgroup() -> Probe {
    // In a child, as some ways move whoever asks into a cgroup of its own.
    let finding = match ask(make_and_remove) {
        Ok(way) => Finding::Available(way),
        Err(failed) => {
            let (shown, cure) = failed.doing.split_once('\n').unwrap_or((&failed.doing, ""));
            Finding::Blocked(Blocked {
                by: Layer::Cgroups,
                shown: shown.to_owned(),
                errno: None,
                cure: if cure.is_empty() { CURE } else { cure }.to_owned(),
            })
        }
    };
    Probe::new(Group::Limits, "cgroup", &[Tier::Full], finding)
}

fn make_and_remove() -> Answer {
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(64 << 20));
    let mut cpu = LinuxCpu::default();
    cpu.set_quota(Some(100_000)).set_period(Some(100_000));
    let mut pids = LinuxPids::default();
    pids.set_limit(64);
    let mut resources = LinuxResources::default();
    resources
        .set_memory(Some(memory))
        .set_cpu(Some(cpu))
        .set_pids(Some(pids));
    let id = format!("probe-{}", std::process::id());
    // Whatever is limited, a start has all of these.
    let request = Request {
        always: true,
        ..Request::default()
    };
    let made = Cgroup::create(&id, &resources, &request);
    let failed = |error: Error| Failed {
        errno: nix::errno::Errno::EPERM,
        doing: in_two_lines(&error),
    };
    let Some(cgroup) = made.map_err(failed)? else {
        return Ok(String::new());
    };
    let way = cgroup.kind().to_string();
    cgroup.remove().map_err(failed)?;
    Ok(way)
}

/// What was in the way of each way that was tried, and in a second line how to clear it.
fn in_two_lines(error: &Error) -> String {
    let Error::Unavailable { obstacles, .. } = error else {
        return error.to_string();
    };
    let (mut why, mut cures) = (Vec::new(), Vec::new());
    for obstacle in obstacles {
        let (reason, cure) = match obstacle.reason.split_once("; ") {
            Some((reason, cure)) => (reason, Some(cure)),
            None => (obstacle.reason.as_str(), None),
        };
        why.push(format!("{}: {reason}", obstacle.kind));
        cures.extend(cure);
    }
    format!("{}\n{}", why.join("; "), cures.join("; or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Kind, Obstacle};

    #[test]
    fn obstacles_and_cures_are_told_apart() {
        let obstacle = |kind, reason: &str| Obstacle {
            kind,
            reason: reason.into(),
        };
        let error = Error::Unavailable {
            limits: "memory".into(),
            obstacles: vec![
                obstacle(Kind::V2Delegated, "no controller; start it delegated"),
                obstacle(Kind::Systemd, "no bus"),
            ],
        };
        assert_eq!(
            in_two_lines(&error),
            "delegated cgroup v2: no controller; cgroup v2 by systemd: no bus\nstart it delegated"
        );
    }
}
