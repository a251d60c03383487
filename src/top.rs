//! `palisade top`: the processes of a running sandbox, as the host sees them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ArgMatches;
use nix::unistd::{SysconfVar, sysconf};
use palisade_shim::state::Status;

use crate::failure::{Failure, printable, reason};
use crate::sandboxes::{failure, registry};
use crate::verb::print;

/// Where ps(1) is looked for: never by the caller's PATH.
const PS: [&str; 2] = ["/usr/bin/ps", "/bin/ps"];

/// Prints a line for each process, PID 1 first; with options of ps(1), what that prints of them.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let name = matches
        .get_one::<String>("SANDBOX")
        .map_or("", String::as_str);
    let entry = registry(matches)?
        .find(name)
        .map_err(|error| failure(&error))?;
    let state = entry.look().map_err(|error| failure(&error))?.state;
    let live = matches!(state.status, Status::Running | Status::Paused);
    let Some(first) = state.pid.filter(|_| live) else {
        return Err(Failure::new(
            format!("sandbox {} is not running", entry.short()),
            format!("palisade start {}", entry.short()),
        )
        .with_code(1));
    };
    let typed: Vec<&str> = matches
        .get_many::<String>("OPTION")
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    if !typed.is_empty() {
        let pids = below(first, &all()).into_iter().map(|process| process.pid);
        let pids: BTreeSet<i32> = pids.collect();
        return print(&asked(&typed, &pids)?).map(|()| 0);
    }
    let mut text = String::from("UID        PID    PPID   PIDS  RSS      TIME     CMD\n");
    for process in below(first, &all()) {
        let command = printable(&process.command);
        let _ = writeln!(
            text,
            "{:<10} {:<6} {:<6} {:<5} {:<8} {:<8} {}",
            process.uid,
            process.pid,
            process.parent,
            process.inner,
            format!("{}K", process.memory / 1024),
            clock(process.time),
            command.trim_end(),
        );
    }
    print(&text).map(|()| 0)
}

/// What this machine's ps(1) prints with the options that were typed: of these processes, where the options leave that open.
fn asked(typed: &[&str], pids: &BTreeSet<i32>) -> Result<String, Failure> {
    let program = PS.iter().find(|path| Path::new(path).exists());
    let Some(program) = program else {
        return Err(Failure::new(
            "palisade top with options shows what ps prints, and this machine has none in /usr/bin or /bin",
            "the package procps, or palisade top without options",
        )
        .with_code(1));
    };
    let failed = |what: String| {
        Failure::new(
            format!("ps {}: {what}", typed.join(" ")),
            "options as ps(1) has them, with a column PID: -o pid,comm, aux or -ef",
        )
        .with_code(1)
    };
    let run = |more: Option<String>| {
        Command::new(program)
            .args(typed)
            .args(more)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(reason(&error)))
    };
    let these: Vec<String> = pids.iter().map(i32::to_string).collect();
    let output = run(Some(format!("-q{}", these.join(","))))?;
    if output.status.success() {
        // Chosen by ps already, whatever its columns are.
        let listing = String::from_utf8_lossy(&output.stdout);
        return Ok(listing
            .lines()
            .flat_map(|line| [printable(line), "\n".into()])
            .collect());
    }
    // Options that choose processes themselves, as aux, cannot stand beside it.
    let output = run(None)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find(|line| !line.trim().is_empty());
        return Err(failed(line.unwrap_or("it failed").trim().to_owned()));
    }
    chosen(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The heading of a listing, and its lines of these processes.
fn chosen(listing: &str, pids: &BTreeSet<i32>) -> Result<String, Failure> {
    let mut lines = listing.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_ascii_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| {
            Failure::new(
                "ps with these options prints no column PID, by which processes are found",
                "-o with pid among the columns, as -o pid,comm",
            )
            .with_code(1)
        })?;
    let mut text = format!("{heading}\n");
    for line in lines {
        let pid = line.split_ascii_whitespace().nth(column);
        if pid.is_some_and(|pid| pid.parse().is_ok_and(|pid| pids.contains(&pid))) {
            text.push_str(&printable(line));
            text.push('\n');
        }
    }
    Ok(text)
}

/// A process of this machine.
#[derive(Clone, Debug, Default)]
struct Process {
    pid: i32,
    parent: i32,
    /// Its process id in the innermost PID namespace it is in.
    inner: i32,
    uid: u32,
    /// Bytes of memory that it has in use.
    memory: u64,
    /// Processor time it has used.
    time: Duration,
    /// Its arguments, or its name in brackets where it has none.
    command: String,
}

/// Every process of this machine that can be seen.
fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(read).collect()
}

/// proc_pid_stat(5) and proc_pid_status(5); none when it has ended meanwhile.
fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let field = |wanted: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(wanted))
            .unwrap_or_default()
            .split_ascii_whitespace()
    };
    let unit = |name, usual: u64| {
        let value = sysconf(name).ok().flatten();
        value
            .and_then(|value| u64::try_from(value).ok())
            .unwrap_or(usual)
    };
    let ticks = unit(SysconfVar::CLK_TCK, 100);
    let mut words: Vec<_> = line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    words.pop();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        inner: field("NSpid:").next_back()?.parse().ok()?,
        uid: field("Uid:").next()?.parse().ok()?,
        memory: number(21)? * unit(SysconfVar::PAGE_SIZE, 4096),
        time: Duration::from_millis((number(11)? + number(12)?) * 1000 / ticks),
        command: if words.is_empty() {
            format!("[{name}]")
        } else {
            words.join(" ")
        },
    })
}

/// `first` and its descendants: every process of a sandbox is one of its PID 1's.
fn below(first: i32, all: &[Process]) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found: Vec<Process> = all.iter().filter(|p| p.pid == first).cloned().collect();
    let mut seen = HashSet::from([first]);
    let mut at = 0;
    while let Some(process) = found.get(at) {
        at += 1;
        let more: Vec<_> = children
            .get(&process.pid)
            .into_iter()
            .flatten()
            .filter(|child| seen.insert(child.pid))
            .map(|child| (*child).clone())
            .collect();
        found.extend(more);
    }
    found
}

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descendants_are_found_and_nobody_else() {
        let process = |pid, parent| Process {
            pid,
            parent,
            ..Process::default()
        };
        let all = [
            process(1, 0),
            process(5, 1),
            process(6, 5),
            process(7, 6),
            process(8, 1),
        ];
        let pids: Vec<i32> = below(5, &all).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [5, 6, 7]);
    }

    #[test]
    fn lines_are_chosen_by_the_column_of_process_ids() {
        let listing = "USER   PID COMMAND\nroot     5 a 6\nroot     6 b\nroot     7 5\n";
        let chosen = |listing| chosen(listing, &BTreeSet::from([5, 7]));
        assert_eq!(
            chosen(listing).expect("a column"),
            "USER   PID COMMAND\nroot     5 a 6\nroot     7 5\n"
        );
        assert!(chosen("USER COMMAND\nroot 5\n").is_err());
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let own = i32::try_from(std::process::id()).expect("a number");
        let process = read(own).expect("it runs");
        assert_eq!(process.uid, nix::unistd::getuid().as_raw());
        assert_eq!(process.parent, nix::unistd::getppid().as_raw());
        assert!(process.memory > 0);
        assert_eq!(clock(Duration::from_secs(3723)), "01:02:03");
    }
}
