//! `palisade container`: docker's longer names of the verbs, and `container prune`.

use std::ffi::OsString;

use clap::ArgMatches;
use palisade_rootfs::volumes;
use palisade_shim::state::Status;

use crate::failure::Failure;
use crate::selection::Selection;
use crate::verb::{complain, print};
use crate::{confirm, format, sandboxes};

/// The arguments of the verb that `container …` stands for, its name first; none where it has no shorter name.
pub fn shorter(args: &[OsString]) -> Option<Vec<OsString>> {
    let (verb, rest) = args.split_first()?;
    let rest = rest.iter().cloned();
    let mut words: Vec<OsString> = match verb.to_str()? {
        "ls" | "list" | "ps" => vec!["ps".into()],
        "inspect" => vec!["inspect".into(), "--type=container".into()],
        "attach" | "commit" | "cp" | "create" | "diff" | "exec" | "export" | "kill" | "logs"
        | "pause" | "port" | "rename" | "restart" | "rm" | "run" | "start" | "stats" | "stop"
        | "top" | "unpause" | "update" | "wait" => vec![verb.clone()],
        _ => return None,
    };
    words.extend(rest);
    Some(words)
}

/// `palisade container prune`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("prune", matches)) => prune(matches),
        other => Err(Failure::new(
            format!(
                "there is no verb container {}",
                other.map_or("", |(verb, _)| verb)
            ),
            "palisade --help",
        )),
    }
}

fn prune(matches: &ArgMatches) -> Result<u8, Failure> {
    let selection = Selection::of_prune(matches)?;
    let registry = sandboxes::registry(matches)?;
    let question = "This removes every sandbox that does not run.";
    if !matches.get_flag("force") && !confirm::ask(question, "palisade container prune --force")? {
        return Ok(0);
    }
    let _ = registry.sweep();
    let listing = registry
        .list()
        .map_err(|error| sandboxes::failure(&error))?;
    let mut code = 0;
    let mut text = String::new();
    let mut bytes = 0;
    for known in &listing.sandboxes {
        let ended = matches!(
            known.state.status,
            Status::Created | Status::Exited | Status::Dead
        );
        if !ended || !selection.accepts(known) {
            continue;
        }
        let size = volumes::usage(&known.entry.directory).unwrap_or(0);
        match sandboxes::remove(&registry, &known.entry, false, false) {
            Ok(()) => {}
            Err(failure) => {
                code = failure.code();
                complain(&failure);
                continue;
            }
        }
        if text.is_empty() {
            text.push_str("Deleted Containers:\n");
        }
        text.push_str(&known.config.id);
        text.push('\n');
        bytes += size;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let freed = format::size(bytes);
    print(&format!("{text}Total reclaimed space: {freed}\n"))?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_names_stand_for_shorter_ones() {
        let of = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            shorter(&words).map(|words| {
                words
                    .iter()
                    .map(|word| word.to_string_lossy().into_owned())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
        assert_eq!(of(&["ls", "-a"]).as_deref(), Some("ps -a"));
        assert_eq!(of(&["rm", "-f", "x"]).as_deref(), Some("rm -f x"));
        assert_eq!(
            of(&["inspect", "x"]).as_deref(),
            Some("inspect --type=container x")
        );
        assert_eq!(of(&["prune"]), None);
        assert_eq!(of(&["volume"]), None);
        assert_eq!(of(&[]), None);
    }
}
