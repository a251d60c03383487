//! The verbs that act on running sandboxes from outside, as clap knows them.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

use super::life::root;

/// All of them.
pub fn verbs() -> Vec<Command> {
    vec![pause(), unpause(), stats(), update()]
}

fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).arg(root())
}

/// The names and ids that a verb acts on.
fn sandboxes() -> Arg {
    Arg::new("SANDBOX")
        .required(true)
        .num_args(1..)
        .help("Names, ids, or beginnings of ids")
}

/// `palisade pause`.
pub fn pause() -> Command {
    verb(
        "pause",
        "Stop every process of running sandboxes until unpause",
    )
    .arg(sandboxes())
}

/// `palisade unpause`.
pub fn unpause() -> Command {
    verb("unpause", "Let the processes of paused sandboxes go on").arg(sandboxes())
}

/// `palisade stats`.
pub fn stats() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    verb(
        "stats",
        "Print what sandboxes use of processors, memory, network and disks, each second",
    )
    .arg(switch("all", "Also those that do not run").short('a'))
    .arg(switch("no-stream", "Once, not each second"))
    .arg(switch("no-trunc", "Whole ids"))
    .arg(
        Arg::new("format")
            .long("format")
            .value_name("TEMPLATE")
            .help(
                "A Go template, as '{{.Name}} {{.CPUPerc}} {{.MemUsage}}', table TEMPLATE, or json",
            ),
    )
    .arg(sandboxes().required(false).num_args(0..))
}

/// `palisade update`.
pub fn update() -> Command {
    let limit = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .allow_hyphen_values(true)
            .value_parser(clap::value_parser!(OsString))
            .help(help)
    };
    verb(
        "update",
        "Give sandboxes other limits or another restart policy",
    )
    .arg(limit("memory", "SIZE", "Memory limit (512m, 2g)").short('m'))
    .arg(limit(
        "memory-swap",
        "SIZE",
        "Limit on memory and swap together; -1 for unlimited swap",
    ))
    .arg(limit("cpus", "NUMBER", "Processors' worth of time (1.5)"))
    .arg(limit("cpu-period", "MICROSECONDS", "Period of --cpu-quota"))
    .arg(limit(
        "cpu-quota",
        "MICROSECONDS",
        "Time in each period, another word for --cpus",
    ))
    .arg(limit(
        "cpuset-cpus",
        "LIST",
        "Processors that may be used (0-3, 0,1)",
    ))
    .arg(limit("cpu-shares", "WEIGHT", "Weight against 1024").short('c'))
    .arg(limit(
        "pids-limit",
        "NUMBER",
        "Processes and threads; -1 for no limit",
    ))
    .arg(
        Arg::new("restart")
            .long("restart")
            .value_name("POLICY")
            .help("no, on-failure[:N], always or unless-stopped"),
    )
    .arg(sandboxes())
}
