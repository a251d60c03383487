//! The verbs that act on sandboxes that have a record, as clap knows them.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, ValueHint};

/// All of them.
pub fn verbs() -> Vec<Command> {
    vec![
        start(),
        stop(),
        restart(),
        kill(),
        wait(),
        remove(),
        rename(),
        logs(),
        attach(),
        ps(),
        copy(),
        top(),
    ]
}

fn verb(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).arg(root())
}

/// `--root`, of every verb that looks at sandboxes.
pub fn root() -> Arg {
    Arg::new("root")
        .long("root")
        .value_name("DIR")
        .value_hint(ValueHint::DirPath)
        .value_parser(clap::value_parser!(OsString))
        .help("Where sandboxes are kept [default: $PALISADE_ROOT, else the user's data directory]")
}

fn switch(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .short(short)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// The names and ids that a verb acts on.
fn sandboxes() -> Arg {
    Arg::new("SANDBOX")
        .required(true)
        .num_args(1..)
        .help("Names, ids, or beginnings of ids")
}

/// The one that a verb acts on.
fn sandbox() -> Arg {
    Arg::new("SANDBOX")
        .required(true)
        .help("Its name, id, or the beginning of its id")
}

fn time() -> Arg {
    Arg::new("time")
        .long("time")
        .visible_alias("timeout")
        .short('t')
        .value_name("SECONDS")
        .allow_hyphen_values(true)
        .value_parser(clap::value_parser!(OsString))
        .help(
            "Time between the stop signal and SIGKILL; -1 for no SIGKILL [default: the sandbox's]",
        )
}

fn signal(help: &'static str) -> Arg {
    Arg::new("signal")
        .long("signal")
        .short('s')
        .value_name("SIGNAL")
        .help(help)
}

fn detach_keys() -> Arg {
    Arg::new("detach-keys")
        .long("detach-keys")
        .value_name("KEYS")
        .value_parser(clap::value_parser!(OsString))
        .help("Keys that leave it running when they are typed on its terminal [default: ctrl-p,ctrl-q]")
}

/// docker's switch, on by default.
fn sig_proxy() -> Arg {
    Arg::new("sig-proxy")
        .long("sig-proxy")
        .value_name("true|false")
        .value_parser(clap::value_parser!(bool))
        .num_args(0..=1)
        .require_equals(true)
        .default_value("true")
        .default_missing_value("true")
        .hide_default_value(true)
        .help(
            "Whether signals go to the command; with =false they leave it running [default: true]",
        )
}

/// `palisade start`.
pub fn start() -> Command {
    verb("start", "Start sandboxes that were made or have ended")
        .arg(switch(
            "attach",
            'a',
            "Show its output until it ends, and end with its exit code",
        ))
        .arg(switch("interactive", 'i', "Connect standard input too"))
        .arg(detach_keys())
        .arg(sig_proxy())
        .arg(sandboxes())
}

/// `palisade stop`.
pub fn stop() -> Command {
    verb(
        "stop",
        "Ask sandboxes to end, and end them where they do not",
    )
    .arg(time())
    .arg(signal(
        "Signal that asks [default: the sandbox's stop signal]",
    ))
    .arg(sandboxes())
}

/// `palisade restart`.
pub fn restart() -> Command {
    verb("restart", "Stop sandboxes and start them again")
        .arg(time())
        .arg(signal(
            "Signal that asks [default: the sandbox's stop signal]",
        ))
        .arg(sandboxes())
}

/// `palisade kill`.
pub fn kill() -> Command {
    verb("kill", "Send the commands of running sandboxes a signal")
        .arg(signal("Signal [default: KILL]"))
        .arg(sandboxes())
}

/// `palisade wait`.
pub fn wait() -> Command {
    verb(
        "wait",
        "Wait until sandboxes end and print their exit codes",
    )
    .arg(sandboxes())
}

/// `palisade rm`.
pub fn remove() -> Command {
    verb(
        "rm",
        "Remove sandboxes, with their writable layers and logs",
    )
    .arg(switch(
        "force",
        'f',
        "Also those that run; they are ended at once",
    ))
    .arg(switch(
        "volumes",
        'v',
        "Also the volumes without a name that were made for them",
    ))
    .arg(sandboxes())
}

/// `palisade rename`.
pub fn rename() -> Command {
    verb("rename", "Give a sandbox another name")
        .arg(sandbox())
        .arg(Arg::new("NAME").required(true).help("The new name"))
}

/// `palisade logs`.
pub fn logs() -> Command {
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    verb("logs", "Print what a sandbox wrote")
        .arg(switch("follow", 'f', "Go on until it ends"))
        .arg(switch("timestamps", 't', "With the time of each line"))
        .arg(
            value("tail", "LINES", "Only the last lines, or all")
                .short('n')
                .allow_hyphen_values(true),
        )
        .arg(value(
            "since",
            "TIME",
            "Nothing older: a date (RFC 3339), seconds since 1970, or a time ago (10m)",
        ))
        .arg(value("until", "TIME", "Nothing newer"))
        .arg(
            Arg::new("details")
                .long("details")
                .action(ArgAction::SetTrue)
                .help("Accepted for docker's sake: logs have no further attributes"),
        )
        .arg(sandbox())
}

/// `palisade attach`.
pub fn attach() -> Command {
    verb("attach", "Be connected to a running sandbox's streams")
        .arg(
            Arg::new("no-stdin")
                .long("no-stdin")
                .action(ArgAction::SetTrue)
                .help("Do not connect standard input"),
        )
        .arg(detach_keys())
        .arg(sig_proxy())
        .arg(sandbox())
}

/// `palisade cp`.
pub fn copy() -> Command {
    let path = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .required(true)
            .value_parser(clap::value_parser!(OsString))
            .value_hint(ValueHint::AnyPath)
            .help(help)
    };
    verb(
        "cp",
        "Copy files and directories between a sandbox, running or not, and this machine",
    )
    .arg(switch(
        "archive",
        'a',
        "Keep owners, as far as they may be given",
    ))
    .arg(switch(
        "follow-link",
        'L',
        "Copy what a symbolic link at the source leads to",
    ))
    .arg(switch(
        "quiet",
        'q',
        "Accepted for docker's sake: nothing is printed",
    ))
    .arg(path(
        "SOURCE",
        "SANDBOX:PATH or PATH; DIR/. for what is in a directory; - for a tar archive on standard input",
    ))
    .arg(path(
        "DESTINATION",
        "PATH or SANDBOX:PATH; - for a tar archive on standard output",
    ))
}

/// `palisade top`.
pub fn top() -> Command {
    verb(
        "top",
        "List the processes of a running sandbox, with their ids here and inside",
    )
    .arg(sandbox())
    .arg(
        Arg::new("OPTION")
            .num_args(0..)
            .allow_hyphen_values(true)
            .trailing_var_arg(true)
            .help("Options of this machine's ps(1), as -o pid,comm or aux, whose columns are shown instead"),
    )
}

/// `palisade ps`.
pub fn ps() -> Command {
    verb("ps", "List sandboxes")
        .arg(switch("all", 'a', "Also those that do not run"))
        .arg(switch("quiet", 'q', "Only ids"))
        .arg(
            Arg::new("last")
                .long("last")
                .short('n')
                .value_name("NUMBER")
                .value_parser(clap::value_parser!(i64))
                .allow_negative_numbers(true)
                .help("The last made so many, whether they run or not; -1 for no bound"),
        )
        .arg(switch("latest", 'l', "The last made one, whether it runs or not"))
        .arg(switch("size", 's', "With the size of the writable layer"))
        .arg(
            Arg::new("filter")
                .long("filter")
                .short('f')
                .action(ArgAction::Append)
                .value_name("KEY=VALUE")
                .help("ancestor=, before=, exited=, health=, id=, label=, name=, network=, since=, status= or volume="),
        )
        .arg(
            Arg::new("no-trunc")
                .long("no-trunc")
                .action(ArgAction::SetTrue)
                .help("Whole ids and command lines"),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("TEMPLATE")
                .help("A Go template, table TEMPLATE, or json"),
        )
}
