//! `palisade stats`: what running sandboxes use.

use std::collections::HashMap;
use std::io::{ErrorKind, IsTerminal as _, Write as _, stdout};
use std::thread;
use std::time::Duration;

use clap::ArgMatches;
use palisade_shim::measure::{Sample, memory_of_machine};
use palisade_shim::state::{Known, Registry};
use serde_json::Value;

use crate::failure::{Failure, printable, reason};
use crate::format::{Listing, Row, binary_size, size};
use crate::sandboxes::{failure, named, registry};
use crate::verb::{self, complain};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

const LISTING: Listing = Listing {
    headings: &[
        ("BlockIO", "BLOCK I/O"),
        ("CPUPerc", "CPU %"),
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("MemPerc", "MEM %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("Name", "NAME"),
        ("NetIO", "NET I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
};

/// Prints what sandboxes use: once, or each second until interrupted or none of those that were named runs.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let registry = registry(matches)?;
    let names = named(matches);
    let once = matches.get_flag("no-stream");
    let format = matches.get_one::<String>("format").map(String::as_str);
    let picture = stdout().is_terminal() && format.is_none_or(|format| format.starts_with("table"));
    let mut before: HashMap<String, Sample> = HashMap::new();
    let mut told = false;
    let (mut known, code) = look(&registry, matches, &names, true)?;
    if known.is_empty() && !names.is_empty() {
        return Ok(code);
    }
    loop {
        for one in &known {
            if let Some(sample) = Sample::of(one) {
                before.insert(one.config.id.clone(), sample);
            }
        }
        thread::sleep(INTERVAL);
        let mut now = HashMap::new();
        let rows: Vec<Row> = known
            .iter()
            .map(|one| {
                let sample = Sample::of(one);
                let earlier = before.get(&one.config.id);
                let whole = matches.get_flag("no-trunc");
                let row = row(one, sample.as_ref(), earlier, whole, typed(&names, one));
                now.extend(sample.map(|sample| (one.config.id.clone(), sample)));
                row
            })
            .collect();
        let mut text = LISTING
            .print(format, false, &rows)
            .map_err(|error| Failure::new(error.message, error.remedy))?;
        if picture && !once {
            // To the upper left corner of an empty screen (console_codes(4)).
            text.insert_str(0, "\x1b[2J\x1b[H");
        }
        let mut output = stdout().lock();
        match output
            .write_all(text.as_bytes())
            .and_then(|()| output.flush())
        {
            // Nobody reads any more.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(code),
            other => other.map_err(|error| {
                Failure::new(
                    format!("cannot write to standard output: {}", reason(&error)),
                    "",
                )
            })?,
        }
        drop(output);
        if !told {
            told = true;
            tell(&known, &now);
        }
        if once || (!names.is_empty() && now.is_empty()) {
            return Ok(code);
        }
        before = now;
        (known, _) = look(&registry, matches, &names, false)?;
    }
}

/// The sandboxes that were named, else those that run, or with `-a` all; and the exit code.
fn look(
    registry: &Registry,
    matches: &ArgMatches,
    names: &[&str],
    complaining: bool,
) -> Result<(Vec<Known>, u8), Failure> {
    if names.is_empty() {
        let all = matches.get_flag("all");
        let listing = registry.list().map_err(|error| failure(&error))?;
        let mut known = listing.sandboxes;
        known.retain(|known| all || known.state.status.is_live());
        return Ok((known, 0));
    }
    let mut found = Vec::new();
    let mut code = 0;
    for name in names {
        match registry.find(name).and_then(|entry| entry.look()) {
            Ok(known) => found.push(known),
            Err(error) => {
                let failure = failure(&error);
                code = failure.code();
                if complaining {
                    complain(&failure);
                }
            }
        }
    }
    Ok((found, code))
}

/// Says once which figures are sums over processes.
fn tell(known: &[Known], now: &HashMap<String, Sample>) {
    let summed: Vec<&str> = known
        .iter()
        .filter(|known| {
            now.get(&known.config.id)
                .is_some_and(|sample| !sample.counted)
        })
        .map(|known| known.config.name.as_str())
        .collect();
    if summed.is_empty() {
        return;
    }
    let text = format!(
        "without a control group the figures are sums over processes, and BLOCK I/O is not counted: {}",
        summed.join(", ")
    );
    verb::tell("note", &[text]);
}

/// The word that a sandbox was asked for by, which docker shows as its container.
fn typed<'a>(names: &[&'a str], known: &Known) -> Option<&'a str> {
    let names = names.iter().copied();
    names
        .clone()
        .find(|name| *name == known.config.name)
        .or_else(|| {
            let mut names = names;
            names.find(|name| known.config.id.starts_with(name))
        })
}

fn row(
    known: &Known,
    sample: Option<&Sample>,
    before: Option<&Sample>,
    whole: bool,
    typed: Option<&str>,
) -> Row {
    let id = if whole {
        &known.config.id
    } else {
        known.entry.short()
    };
    let limit = u64::try_from(known.config.limits.memory)
        .ok()
        .filter(|limit| *limit > 0);
    let machine = memory_of_machine();
    let limit = limit
        .into_iter()
        .chain(machine)
        .min()
        .filter(|_| sample.is_some());
    let memory = sample.and_then(Sample::memory);
    let processors = sample
        .zip(before)
        .and_then(|(now, before)| now.processors(before));
    let pair = |pair: Option<(u64, u64)>, shown: fn(u64) -> String| match pair {
        Some((one, other)) => format!("{} / {}", shown(one), shown(other)),
        None => "--".to_owned(),
    };
    let io = sample.and_then(|sample| sample.usage.io_read.zip(sample.usage.io_written));
    #[allow(clippy::cast_precision_loss)] // Two digits are shown.
    let share = memory
        .zip(limit)
        .map(|(memory, limit)| memory as f64 / limit as f64);
    let percent = |share: Option<f64>| {
        share.map_or_else(|| "--".to_owned(), |share| format!("{:.2}%", share * 100.0))
    };
    let pids = sample.and_then(|sample| sample.usage.pids);
    let text = |text: &str| Value::from(printable(text));
    Row::new([
        ("BlockIO", text(&pair(io, size))),
        ("CPUPerc", text(&percent(processors))),
        ("Container", text(typed.unwrap_or(id))),
        ("ID", text(id)),
        ("MemPerc", text(&percent(share))),
        ("MemUsage", text(&pair(memory.zip(limit), binary_size))),
        ("Name", text(&known.config.name)),
        (
            "NetIO",
            text(&pair(sample.and_then(|sample| sample.network), size)),
        ),
        (
            "PIDs",
            text(&pids.map_or_else(|| "--".to_owned(), |pids| pids.to_string())),
        ),
    ])
}
