//! A Plan for tests that need one and launch nothing.

use std::time::Duration;

use oci_spec::runtime::Spec;
use palisade_runtime::{Plan, Root, Scratch};

pub fn plan(spec: Spec) -> Plan {
    Plan {
        id: "ab".repeat(32),
        spec,
        root: Root::Tmpfs {
            scratch: Scratch {
                size: 1 << 20,
                inodes: None,
            },
            links: Vec::new(),
        },
        files: Vec::new(),
        landlock: None,
        landlock_complete: true,
        seccomp: Vec::new(),
        custom_seccomp: false,
        watch_denials: false,
        args: None,
        interactive: false,
        timeout: None,
        output_limit: None,
        stop_signal: 15,
        stop_timeout: Duration::from_secs(10),
        joinable: false,
        tier: palisade_runtime::Tier::NoCgroup,
        best_effort: false,
    }
}
