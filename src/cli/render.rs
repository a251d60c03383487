//! The command line as clap knows it: help, shell completions and man pages, and the parsing of verbs that no sandbox
//! waits for.

use clap::{Arg, ArgAction, Command, ValueHint, builder::PossibleValuesParser};

use palisade_policies::Tier;

use super::life;
use super::options::{Opt, Take};
use super::{exec, registry, run};

const ABOUT: &str =
    "Runs a command in a sandbox made of the kernel's own parts: no daemon, no privilege";

const EXIT_CODES: &str = "\
Exit codes:
  0..255  the command's own
  128+n   the command was killed by signal n (137 also when memory ran out)
  124     the time limit was reached
  125     palisade failed before the command ran
  126     the command was found but cannot be run
  127     the command was not found";

const EXAMPLES: &str = "\
Images:
  host                       this machine's own programs, read-only
  NAME[:TAG][@DIGEST]        from the store, or pulled from its registry
  oci:DIR[:TAG]              an OCI image layout
  oci-archive:FILE[:TAG]     the same in a tar file
  docker-archive:FILE[:REF]  what `docker save` writes
  dir:PATH                   a prepared root directory

Examples:
  palisade run host uname -a
  palisade run -v .:/workspace -w /workspace host make
  palisade run --policy task --timeout 2m oci:agent bash -c 'npm test'
  palisade run -it --user 0 oci-archive:debian.tar bash
  palisade run --dry-run host true";

/// The whole command.
pub fn tree() -> Command {
    Command::new("palisade")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run_verb())
        .subcommand(registry::pull_verb())
        .subcommand(registry::push_verb())
        .subcommand(registry::login_verb())
        .subcommand(registry::logout_verb())
        .subcommand(create_verb())
        .subcommand(exec_verb())
        .subcommands(life::verbs())
        .subcommands(super::control::verbs())
        .subcommands(super::look::verbs())
        .subcommand(policy_verb())
        .subcommand(super::receipt::verb())
        .subcommand(doctor_verb())
        .subcommand(crate::volume::command())
        .subcommand(crate::generate::command())
        .subcommands(crate::image::verbs())
        .subcommand(completions_verb())
        .subcommand(man_verb())
}

/// `palisade run`, for its help.
pub fn run_verb() -> Command {
    with_options(
        Command::new("run")
            .about("Run a command in a new sandbox")
            .override_usage("palisade run [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]")
            .after_help(format!("{EXAMPLES}\n\n{EXIT_CODES}"))
            .disable_help_flag(true),
        run::OPTIONS,
    )
    .arg(Arg::new("IMAGE").required(true).help("What to run it on"))
    .arg(
        Arg::new("COMMAND")
            .num_args(0..)
            .trailing_var_arg(true)
            .value_hint(ValueHint::CommandWithArguments)
            .help("The command and its arguments, passed on byte for byte [default: the image's]"),
    )
}

/// `palisade create`, for its help.
pub fn create_verb() -> Command {
    run_verb()
        .name("create")
        .about("Make a sandbox without starting it, and print its id")
        .override_usage("palisade create [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]")
}

/// `palisade exec`, for its help.
pub fn exec_verb() -> Command {
    with_options(
        Command::new("exec")
            .about("Run another command in a running sandbox, with the sandbox's own confinement")
            .override_usage("palisade exec [OPTIONS] SANDBOX COMMAND [ARGUMENT]...")
            .after_help(EXIT_CODES)
            .disable_help_flag(true),
        exec::OPTIONS,
    )
    .arg(
        Arg::new("SANDBOX")
            .required(true)
            .help("Its name, id, or the beginning of its id"),
    )
    .arg(
        Arg::new("COMMAND")
            .required(true)
            .num_args(1..)
            .trailing_var_arg(true)
            .value_hint(ValueHint::CommandWithArguments)
            .help("The command and its arguments, passed on byte for byte"),
    )
}

/// `palisade policy`.
pub fn policy_verb() -> Command {
    let policy = |help: &'static str| {
        Arg::new("POLICY")
            .required(true)
            .help(help)
            .value_hint(ValueHint::AnyPath)
    };
    Command::new("policy")
        .about("List, show, check and compare policies; print their schema")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("List the built-in policies, the strictest first"))
        .subcommand(
            Command::new("show")
                .about("Print a policy whole, with everything it extends, as TOML")
                .arg(policy("A built-in policy's name, or a file")),
        )
        .subcommand(
            Command::new("check")
                .about("Check policy files")
                .arg(policy("Files, or built-in policies' names").num_args(1..)),
        )
        .subcommand(
            Command::new("diff")
                .about("Say what the second policy allows more or less than the first; exit code 1 if they differ")
                .arg(policy("A name or a file"))
                .arg(Arg::new("OTHER").required(true).help("A name or a file").value_hint(ValueHint::AnyPath)),
        )
        .subcommand(Command::new("schema").about("Print the JSON Schema of policies, for editors"))
}

/// `palisade doctor`.
pub fn doctor_verb() -> Command {
    Command::new("doctor")
        .about(
            "Try out what this machine can give, and say what blocks the rest and how to cure it",
        )
        .after_help("Exit code: 0 when the tier can be had, 1 when it cannot")
        .arg(
            Arg::new("require")
                .long("require")
                .value_name("TIER")
                .value_parser(PossibleValuesParser::new(Tier::WORDS))
                .help("The tier that the exit code is about [default: full]")
                .hide_possible_values(true),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print it as JSON (docs/doctor.md)"),
        )
}

/// `palisade completions`.
pub fn completions_verb() -> Command {
    Command::new("completions")
        .about("Print a shell's completion script")
        .arg(
            Arg::new("SHELL")
                .required(true)
                .value_parser(PossibleValuesParser::new(["bash", "zsh", "fish"]))
                .help("Which shell"),
        )
}

/// `palisade man`.
pub fn man_verb() -> Command {
    Command::new("man")
        .about("Print the manual page, or write one per verb to a directory")
        .arg(
            Arg::new("DIR")
                .value_hint(ValueHint::DirPath)
                .help("Where to write palisade.1, palisade-run.1, …"),
        )
}

fn with_options<T>(mut command: Command, options: &'static [Opt<T>]) -> Command {
    for option in options {
        let mut arg = Arg::new(option.long).long(option.long).help(option.help);
        if let Some(short) = option.short {
            arg = arg.short(short);
        }
        if !option.heading.is_empty() {
            arg = arg.help_heading(option.heading);
        }
        arg = match option.take {
            Take::Switch(_) => arg.action(ArgAction::SetTrue),
            Take::Value(_) => arg.action(ArgAction::Append).value_name(option.value),
        };
        if !option.choices.is_empty() {
            // For completion; what else may stand there is checked by those who read the value.
            arg = arg
                .value_parser(PossibleValuesParser::new(option.choices))
                .hide_possible_values(true);
        } else if option.value == "FILE" {
            arg = arg.value_hint(ValueHint::FilePath);
        } else if option.value == "DIR" {
            arg = arg.value_hint(ValueHint::DirPath);
        }
        command = command.arg(arg);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        tree().debug_assert();
    }

    #[test]
    fn every_option_is_in_the_help_of_run() {
        let help = run_verb().render_help().to_string();
        for option in run::OPTIONS {
            assert!(
                help.contains(&format!("--{}", option.long)),
                "--{}",
                option.long
            );
            assert!(help.contains(option.help.split_whitespace().next().unwrap()));
        }
    }
}
