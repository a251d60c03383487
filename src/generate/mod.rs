//! `palisade generate systemd`: a unit for a sandbox that is to survive a reboot. systemd starts it and watches it: there is no daemon.

mod quote;
mod unit;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::failure::{Failure, reason};
use crate::sandboxes::{failure, registry};
use crate::verb::{print, tell};
use unit::{Machine, Wishes};

/// What systemd knows (systemd.service(5)).
const RESTARTS: [&str; 7] = [
    "no",
    "always",
    "on-success",
    "on-failure",
    "on-abnormal",
    "on-abort",
    "on-watchdog",
];

/// `palisade generate`.
pub fn command() -> Command {
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    let seconds = |name: &'static str, help: &'static str| {
        value(name, "SECONDS", help).value_parser(clap::value_parser!(u64))
    };
    let units = |name: &'static str, help: &'static str| {
        value(name, "UNIT", help)
            .action(ArgAction::Append)
            .value_delimiter(',')
    };
    let systemd = Command::new("systemd")
        .about("Print a unit that runs a sandbox under systemd, in the foreground and across reboots")
        .after_help(
            "As root: --files in /etc/systemd/system, systemctl daemon-reload, systemctl enable --now UNIT.\n\
             As a user: --files in ~/.config/systemd/user, systemctl --user …, and loginctl enable-linger to run without a login.",
        )
        .arg(switch("files", "Write it to NAME.service here and print that path").short('f'))
        .arg(switch("name", "Know the sandbox by its name, not its id").short('n'))
        .arg(switch(
            "new",
            "Make a new sandbox at each start, by the options that made this one, and remove it at each stop",
        ))
        .arg(
            value("restart-policy", "POLICY", "When systemd starts it again")
                .value_parser(RESTARTS)
                .default_value("on-failure"),
        )
        .arg(seconds("restart-sec", "Pause before that"))
        .arg(seconds("start-timeout", "Time that a start may take"))
        .arg(
            seconds("time", "Time that the command has to stop [default: the sandbox's]")
                .short('t')
                .visible_alias("stop-timeout"),
        )
        .arg(
            value("env", "NAME=VALUE", "Variable of palisade under systemd, for -e NAME without a value")
                .short('e')
                .action(ArgAction::Append),
        )
        .arg(units("after", "Start after these units"))
        .arg(units("requires", "Need these units"))
        .arg(units("wants", "Start these units too"))
        .arg(value("container-prefix", "TEXT", "Beginning of the unit's name").default_value("palisade"))
        .arg(value("separator", "TEXT", "What stands between that and the sandbox").default_value("-"))
        .arg(switch("no-header", "Without the comment that says where it comes from"))
        .arg(crate::cli::life::root())
        .arg(
            Arg::new("SANDBOX")
                .required(true)
                .help("Its name, id, or the beginning of its id"),
        );
    Command::new("generate")
        .about("Write what another program needs to run a sandbox")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(systemd)
}

/// `generate systemd`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some((_, matches)) => systemd(matches).map_err(|failure| failure.with_code(1)),
        None => Ok(0),
    }
}

fn systemd(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let list = |name: &str| -> Vec<String> {
        let all = matches.get_many::<String>(name).into_iter().flatten();
        all.cloned().collect()
    };
    let number = |name: &str| matches.get_one::<u64>(name).copied();
    let entry = registry
        .find(&text("SANDBOX"))
        .map_err(|error| failure(&error))?;
    let config = entry.config().map_err(|error| failure(&error))?;
    let wishes = Wishes {
        new: matches.get_flag("new"),
        named: matches.get_flag("name"),
        restart: text("restart-policy"),
        pause: number("restart-sec"),
        start: number("start-timeout"),
        stop: number("time").map(Duration::from_secs),
        env: list("env"),
        after: list("after"),
        requires: list("requires"),
        wants: list("wants"),
        bare: matches.get_flag("no-header"),
    };
    if let Some(odd) = wishes.env.iter().find(|variable| !variable.contains('=')) {
        return Err(Failure::new(
            format!("--env {odd} has no value"),
            format!("--env {odd}=VALUE"),
        ));
    }
    let what = if wishes.named {
        &config.name
    } else {
        &config.id
    };
    let unit = format!(
        "{}{}{what}.service",
        text("container-prefix"),
        text("separator")
    );
    check_name(
        &unit,
        "--container-prefix and --separator of such characters",
    )?;
    for name in [&wishes.after, &wishes.requires, &wishes.wants]
        .into_iter()
        .flatten()
    {
        check_name(name, "--after, --requires and --wants with names of units")?;
    }
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(
            format!("cannot tell where palisade is: {}", reason(&error)),
            "mount /proc",
        )
    })?;
    let data = std::path::absolute(registry.data()).map_err(|error| {
        Failure::new(
            format!(
                "cannot tell where the data directory is: {}",
                reason(&error)
            ),
            "--root with an absolute path",
        )
    })?;
    let machine = Machine {
        program: &program,
        data: &data,
        unit: &unit,
    };
    let written = unit::text(&config, &wishes, machine)?;
    if wishes.new {
        for name in unit::inherited(&config, &wishes)? {
            tell(
                "note",
                &[format!(
                    "-e {name} takes its value from systemd, which has none: --env {name}=VALUE puts it into the unit"
                )],
            );
        }
    }
    if !matches.get_flag("files") {
        return print(&written).map(|()| 0);
    }
    let path = std::path::absolute(Path::new(&unit)).unwrap_or_else(|_| unit.clone().into());
    write(&path, &written, unit::holds_values(&config, &wishes)).map_err(|error| {
        Failure::new(
            format!("cannot write {}: {}", path.display(), reason(&error)),
            "a directory that you may write to; without --files it is printed",
        )
    })?;
    print(&format!("{}\n", path.display())).map(|()| 0)
}

/// Writes a new file and puts it where `path` is: what a link there leads to stays as it is.
fn write(path: &Path, text: &str, secret: bool) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = Path::new(&part);
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(if secret { 0o600 } else { 0o644 })
        .open(part)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| fs::rename(part, path));
    if written.is_err() {
        let _ = fs::remove_file(part);
    }
    written
}

/// A unit's name has at most 255 characters of these (systemd.unit(5)).
fn check_name(unit: &str, remedy: &str) -> Result<(), Failure> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    if !unit.is_empty() && unit.len() <= 255 && unit.bytes().all(known) {
        return Ok(());
    }
    Err(Failure::new(
        format!("{unit} is no name of a unit: letters, digits and : - _ . \\ @, at most 255"),
        remedy,
    ))
}
