//! What rlimits can do where no cgroup can be had: less, and said so.

use oci_spec::runtime::LinuxResources;

/// A resource limit of setrlimit(2), soft and hard alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_NPROC` or `RLIMIT_DATA`.
    pub resource: nix::sys::resource::Resource,
    /// Processes, or bytes.
    pub value: u64,
}

/// The resource limits that come nearest to `resources` without a cgroup, to be set inside the new user namespace.
///
/// - `pids` becomes `RLIMIT_NPROC`, which since Linux 5.14 counts a user's processes per user namespace: it bounds a fork
///   bomb, unless the command runs as root of the initial user namespace, whom it does not bind.
/// - `memory` becomes `RLIMIT_DATA`, which bounds each process alone (heap and private writable mappings), not their sum.
/// - cpu, cpuset by affinity apart (see [`super::view::cpus_for`]), and io have no counterpart.
pub fn fallback_rlimits(resources: &LinuxResources) -> Vec<Rlimit> {
    use nix::sys::resource::Resource;
    let pids = resources
        .pids()
        .as_ref()
        .map(oci_spec::runtime::LinuxPids::limit);
    let memory = resources
        .memory()
        .as_ref()
        .and_then(oci_spec::runtime::LinuxMemory::limit);
    let mut list = Vec::new();
    for (resource, limit) in [
        (Resource::RLIMIT_NPROC, pids),
        (Resource::RLIMIT_DATA, memory),
    ] {
        if let Some(value) = limit
            .and_then(|limit| u64::try_from(limit).ok())
            .filter(|limit| *limit > 0)
        {
            list.push(Rlimit { resource, value });
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::Resource;

    use super::*;

    #[test]
    fn pids_and_memory_have_a_counterpart_and_unlimited_has_none() {
        let resources = super::super::tests::resources(
            r#"{"memory":{"limit":4096},"pids":{"limit":7},"cpu":{"quota":1}}"#,
        );
        assert_eq!(
            fallback_rlimits(&resources),
            [
                Rlimit {
                    resource: Resource::RLIMIT_NPROC,
                    value: 7
                },
                Rlimit {
                    resource: Resource::RLIMIT_DATA,
                    value: 4096
                }
            ]
        );
        assert!(
            fallback_rlimits(&super::super::tests::resources(
                r#"{"memory":{"limit":-1},"pids":{"limit":0}}"#
            ))
            .is_empty()
        );
    }
}
