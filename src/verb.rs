//! From the first word of the command line to the file that does it, and from its result to an exit code.

use std::ffi::OsString;
use std::io::Write;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command};

use crate::cli::{
    control, life as cli, look, receipt as receipt_cli, registry as registry_cli, render,
};
use crate::failure::{EXIT_PALISADE, Failure, printable, reason};
use crate::image;
use crate::registry::{login, pull, push};
use crate::{attach, create, doctor, exec, life, logs, manual, policy, ps, receipt, run, volume};
use crate::{container, cp, events, generate, inspect, pause, port, stats, top, update};

/// Does what the arguments (without the program's name) ask for and returns the exit code.
pub fn dispatch(args: Vec<OsString>) -> u8 {
    let mut args = args.into_iter();
    let verb = args.next().unwrap_or_default();
    let result = match verb.to_str() {
        Some("run") => run::main(args),
        Some("pull") => matched(registry_cli::pull_verb(), verb, args, &pull::main),
        Some("push") => matched(registry_cli::push_verb(), verb, args, &push::main),
        Some("login") => matched(registry_cli::login_verb(), verb, args, &login::login),
        Some("logout") => matched(registry_cli::logout_verb(), verb, args, &login::logout),
        Some("create") => create::main(args),
        Some("exec") => exec::main(args),
        Some("start") => matched(cli::start(), verb, args, &life::start),
        Some("stop") => matched(cli::stop(), verb, args, &life::stop),
        Some("restart") => matched(cli::restart(), verb, args, &life::restart),
        Some("kill") => matched(cli::kill(), verb, args, &life::kill),
        Some("wait") => matched(cli::wait(), verb, args, &life::wait),
        Some("rm") => matched(cli::remove(), verb, args, &life::remove),
        Some("rename") => matched(cli::rename(), verb, args, &life::rename),
        Some("logs") => matched(cli::logs(), verb, args, &logs::main),
        Some("attach") => matched(cli::attach(), verb, args, &attach::main),
        Some("cp") => matched(cli::copy(), verb, args, &cp::main),
        Some("top") => matched(cli::top(), verb, args, &top::main),
        Some("pause") => matched(control::pause(), verb, args, &pause::pause),
        Some("unpause") => matched(control::unpause(), verb, args, &pause::unpause),
        Some("stats") => matched(control::stats(), verb, args, &stats::main),
        Some("update") => matched(control::update(), verb, args, &update::main),
        Some("ps") => matched(cli::ps(), verb, args, &ps::main),
        Some("inspect") => matched(look::inspect(), verb, args, &inspect::main),
        Some("events") => matched(look::events(), verb, args, &events::main),
        Some("port") => matched(look::port(), verb, args, &port::main),
        Some("container") => {
            if let Some(shorter) = container::shorter(args.as_slice()) {
                return dispatch(shorter);
            }
            let command = look::container();
            matched(command, verb, args, &container::main)
        }
        Some("policy") => matched(render::policy_verb(), verb, args, &policy::main),
        Some("receipt") => matched(receipt_cli::verb(), verb, args, &receipt::main),
        Some("doctor") => matched(render::doctor_verb(), verb, args, &doctor::main),
        Some("generate") => matched(generate::command(), verb, args, &generate::main),
        Some("volume") => matched(volume::command(), verb, args, &volume::main),
        Some("completions") => {
            matched(render::completions_verb(), verb, args, &manual::completions)
        }
        Some("man") => matched(render::man_verb(), verb, args, &manual::man),
        name => {
            let image = image::verbs()
                .into_iter()
                .find(|c| Some(c.get_name()) == name);
            match image {
                Some(command) => {
                    let name = command.get_name().to_owned();
                    matched(command, verb, args, &|matches| image::main(&name, matches))
                }
                None => matched(render::tree(), verb, args, &|_| Ok(0)),
            }
        }
    };
    result.unwrap_or_else(|failure: Failure| {
        complain(&failure);
        failure.code()
    })
}

/// docker's exit code where a verb fails.
const EXIT_FAILED: u8 = 1;

/// Verbs that docker does not have, whose exit code 1 is an answer.
const OWN_VERBS: [&str; 6] = ["completions", "doctor", "man", "policy", "receipt", "store"];

/// Parses one verb by clap and does it.
fn matched(
    command: Command,
    verb: OsString,
    args: impl Iterator<Item = OsString>,
    action: &dyn Fn(&ArgMatches) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let name = command.get_name().to_owned();
    let verb_name = name.clone();
    let shown = if name == "palisade" {
        name.clone()
    } else {
        format!("palisade {name}")
    };
    let command = command.bin_name(shown.clone());
    let whole = name == "palisade" && !verb.is_empty();
    let words = std::iter::once(OsString::from(name))
        .chain(whole.then_some(verb))
        .chain(args);
    match command.try_get_matches_from(words) {
        // docker's code where one of its verbs fails; 125 is for a command line that nobody understands.
        Ok(matches) => action(&matches).map_err(|failure| match failure.code() {
            EXIT_PALISADE if !OWN_VERBS.contains(&verb_name.as_str()) => {
                failure.with_code(EXIT_FAILED)
            }
            _ => failure,
        }),
        Err(error) if !error.use_stderr() => {
            // Help and version.
            let _ = error.print();
            Ok(0)
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Ok(EXIT_PALISADE)
        }
        Err(error) => {
            let text = error.to_string();
            Err(Failure::new(sentence(&text), format!("{shown} --help")))
        }
    }
}

/// What clap says is wrong, in one line: what it lists below comes after the colon.
fn sentence(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let first = first.trim_start_matches("error: ");
    if !first.ends_with(':') {
        return first.to_owned();
    }
    let listed: Vec<&str> = lines
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect();
    format!("{first} {}", listed.join(", "))
}

/// Writes to standard output; a reader that went away is no failure.
///
/// # Errors
/// Any other failure to write.
pub fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(
            format!("cannot write to standard output: {}", reason(&error)),
            "",
        )),
        _ => Ok(()),
    }
}

/// Lines on standard error; a closed one is no failure.
pub fn tell(kind: &str, lines: &[String]) {
    for line in lines {
        let _ = std::io::stderr().write_all(format!("{kind}: {}\n", printable(line)).as_bytes());
    }
}

/// Writes a failure to standard error; a closed one leaves the exit code to tell.
pub fn complain(failure: &Failure) {
    let _ = std::io::stderr().write_all(failure.render().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_in_the_same_line() {
        let text = "error: the following required arguments were not provided:\n  <SANDBOX>\n  <NAME>\n\nUsage: x\n";
        assert_eq!(
            sentence(text),
            "the following required arguments were not provided: <SANDBOX>, <NAME>"
        );
        assert_eq!(
            sentence("error: unexpected x\n\n  tip: y\n"),
            "unexpected x"
        );
    }
}
