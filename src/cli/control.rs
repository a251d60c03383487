//! The verbs that act on running sandboxes from outside, as clap knows them.

use clap::{Arg, ArgAction, Command};

use super::life::root;

/// All of them.
pub fn verbs() -> Vec<Command> {
    vec![pause(), unpause(), stats()]
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
