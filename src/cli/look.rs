//! The verbs that look at sandboxes and clear them away, as clap knows them.

use clap::{Arg, ArgAction, Command};

use super::life::root;

/// All of them.
pub fn verbs() -> Vec<Command> {
    vec![inspect(), events(), port(), container()]
}

fn filter(help: &'static str) -> Arg {
    Arg::new("filter")
        .long("filter")
        .short('f')
        .action(ArgAction::Append)
        .value_name("KEY=VALUE")
        .help(help)
}

/// `palisade inspect`.
pub fn inspect() -> Command {
    Command::new("inspect")
        .about("Print all that is known of sandboxes, images or volumes, as JSON in docker's form")
        .arg(root())
        .arg(
            Arg::new("format")
                .long("format")
                .short('f')
                .value_name("TEMPLATE")
                .help("Print a line each by a Go template, as '{{.State.Running}}' or json"),
        )
        .arg(
            Arg::new("type")
                .long("type")
                .value_parser(["container", "image", "volume"])
                .help("Look among these alone"),
        )
        .arg(
            Arg::new("size")
                .long("size")
                .short('s')
                .action(ArgAction::SetTrue)
                .help("With the size of the writable layer"),
        )
        .arg(
            Arg::new("NAME")
                .required(true)
                .num_args(1..)
                .help("Names, ids, or beginnings of ids"),
        )
}

/// `palisade events`.
pub fn events() -> Command {
    let time = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("TIME").help(help)
    };
    Command::new("events")
        .about("Print what happens to sandboxes, as it happens")
        .arg(root())
        .arg(filter("container=, event=, image=, label= or type="))
        .arg(time("since", "Begin with what happened since then (10m, 2026-11-21T03:17:30Z, seconds since 1970) [default: now]"))
        .arg(time("until", "End then [default: never]"))
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("TEMPLATE")
                .help("A Go template, as '{{.Action}} {{.Actor.Attributes.name}}', or json"),
        )
}

/// `palisade port`.
pub fn port() -> Command {
    Command::new("port")
        .about("Print the ports that a sandbox publishes on this machine")
        .arg(root())
        .arg(
            Arg::new("SANDBOX")
                .required(true)
                .help("Its name, id, or the beginning of its id"),
        )
        .arg(Arg::new("PORT").help("One port inside, as 80 or 80/tcp"))
}

/// `palisade container`.
pub fn container() -> Command {
    Command::new("container")
        .about("The verbs of sandboxes by docker's longer names: container ls, container rm, …")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .allow_external_subcommands(true)
        .subcommand(
            Command::new("prune")
                .about("Remove every sandbox that does not run")
                .arg(root())
                .arg(
                    Arg::new("filter")
                        .long("filter")
                        .action(ArgAction::Append)
                        .value_name("KEY=VALUE")
                        .help("label=, label!= or until="),
                )
                .arg(
                    Arg::new("force")
                        .long("force")
                        .short('f')
                        .action(ArgAction::SetTrue)
                        .help("Do not ask"),
                ),
        )
}
