//! The verbs that act on running sandboxes from outside, as clap knows them.

use clap::{Arg, Command};

use super::life::root;

/// All of them.
pub fn verbs() -> Vec<Command> {
    vec![pause(), unpause()]
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
