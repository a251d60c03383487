//! `palisade ps`.

use std::time::SystemTime;

use clap::ArgMatches;
use palisade_rootfs::volumes;
use palisade_shim::state::{Known, Status};
use serde_json::Value;

use crate::failure::{Failure, printable};
use crate::format::{self, Listing, Row};
use crate::sandboxes::{failure, registry};
use crate::selection::Selection;
use crate::verb::{complain, print};

const LISTING: Listing = Listing {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("RunningFor", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Status", "STATUS"),
        ("State", "STATE"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Networks", "NETWORKS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
    ],
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
};

/// With `-s`.
const SIZED: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    ..LISTING
};

/// Lists sandboxes: those that run, or with `-a` all.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let listing = registry.survey().map_err(|error| failure(&error))?;
    for problem in &listing.problems {
        complain(&failure(problem));
    }
    let selection = Selection::of_list(&registry, matches)?;
    let last = match matches.get_one::<i64>("last") {
        _ if matches.get_flag("latest") => Some(1),
        Some(count) => Some(usize::try_from(*count).unwrap_or(usize::MAX)),
        None => None,
    };
    let all = matches.get_flag("all") || last.is_some() || selection.names_a_state();
    let format = matches.get_one::<String>("format").map(String::as_str);
    let sized = matches.get_flag("size");
    let measured = sized || format.is_some_and(|format| format.contains(".Size"));
    let whole = matches.get_flag("no-trunc");
    let now = SystemTime::now();
    let rows: Vec<Row> = listing
        .sandboxes
        .iter()
        .filter(|known| all || known.state.status.is_live())
        .filter(|known| selection.accepts(known))
        .take(last.unwrap_or(usize::MAX))
        .map(|known| row(known, whole, now, measured))
        .collect();
    let listing = if sized { SIZED } else { LISTING };
    let text = listing
        .print(format, matches.get_flag("quiet"), &rows)
        .map_err(|error| Failure::new(error.message, error.remedy))?;
    print(&text).map(|()| 0)
}

fn row(known: &Known, whole: bool, now: SystemTime, measured: bool) -> Row {
    let (config, state) = (&known.config, &known.state);
    let id = if whole {
        &config.id
    } else {
        known.entry.short()
    };
    let short = |text: String, most| {
        if whole {
            text
        } else {
            format::shortened(&text, most)
        }
    };
    let command = short(command_line(&config.args), 20);
    let since = |time: SystemTime| now.duration_since(time).unwrap_or_default();
    let mounts: Vec<String> = config
        .mounts
        .iter()
        .map(|mount| mount.name.as_deref().unwrap_or(&mount.source))
        .filter(|source| !source.is_empty())
        .map(|source| short(source.to_owned(), 15))
        .collect();
    let volumes = config.mounts.iter().filter(|mount| mount.kind == "volume");
    let volumes = volumes.count();
    let size = if measured {
        // Where there is no such directory, the layer is in memory.
        format::size(volumes::usage(&known.entry.directory.join("upper")).unwrap_or(0))
    } else {
        String::new()
    };
    let text = |text: &str| Value::from(printable(text));
    Row::new([
        ("ID", text(id)),
        ("Image", text(&config.image.reference)),
        ("Command", text(&format::quoted(&command))),
        ("RunningFor", text(&format::ago(since(config.created)))),
        ("CreatedAt", text(&format::created_at(config.created))),
        ("Status", text(&status(known, now))),
        ("State", text(state.status.word())),
        ("Ports", text("")),
        ("Names", text(&config.name)),
        ("Networks", text(&config.network)),
        ("Mounts", text(&mounts.join(","))),
        ("LocalVolumes", text(&volumes.to_string())),
        ("Size", text(&size)),
    ])
    .with_labels(
        config
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    )
}

/// A command line as docker shows it: arguments with blanks in them in single quotes.
fn command_line(args: &[String]) -> String {
    let mut words = args.iter();
    let program = words.next().cloned().into_iter();
    let words = words.map(|word| {
        if word.contains(' ') {
            format!("'{word}'")
        } else {
            word.clone()
        }
    });
    program.chain(words).collect::<Vec<_>>().join(" ")
}

/// docker's sentence about where a sandbox stands.
pub fn status(known: &Known, now: SystemTime) -> String {
    let state = &known.state;
    let since = |time: SystemTime| now.duration_since(time).unwrap_or_default();
    let up = || {
        let started = state
            .started
            .map_or_else(String::new, |time| format::duration(since(time)));
        format!("Up {started}")
    };
    let ended = || {
        let code = known.exit_code();
        state.exit.as_ref().map_or_else(
            || format!("({code})"),
            |exit| format!("({code}) {}", format::ago(since(exit.finished))),
        )
    };
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => match state.health {
            Some(health) => match health.verdict.word() {
                "starting" => format!("{} (health: starting)", up()),
                word => format!("{} ({word})", up()),
            },
            None => up(),
        },
        Status::Paused => format!("{} (Paused)", up()),
        Status::Restarting => format!("Restarting {}", ended()),
        Status::Exited => format!("Exited {}", ended()),
        Status::Dead => "Dead".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_as_docker_quotes_it() {
        let shown = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            format::quoted(&command_line(&words))
        };
        assert_eq!(shown(&["sleep", "infinity"]), r#""sleep infinity""#);
        assert_eq!(
            shown(&["sh", "-c", "echo \"a\"\n"]),
            r#""sh -c 'echo \"a\"\n'""#
        );
        assert_eq!(shown(&[]), r#""""#);
    }
}
