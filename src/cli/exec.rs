//! The options of `palisade exec`, as typed.

use std::ffi::OsString;

use super::options::{self, Opt};
use crate::failure::Failure;

/// What stands on the line after `palisade exec`, before anything of it is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, clippy::struct_excessive_bools)] // Each field is the option of the same name in OPTIONS, which says what it is.
pub struct ExecArguments {
    pub detach: bool,
    pub detach_keys: Option<OsString>,
    pub env: Vec<OsString>,
    pub env_file: Vec<OsString>,
    pub help: bool,
    pub interactive: bool,
    pub privileged: bool,
    pub receipt: Option<OsString>,
    pub receipt_key: Option<OsString>,
    pub receipt_log: Option<OsString>,
    pub root: Option<OsString>,
    pub stop_signal: Option<OsString>,
    pub stop_timeout: Option<OsString>,
    pub timeout: Option<OsString>,
    pub tty: bool,
    pub user: Option<OsString>,
    pub workdir: Option<OsString>,
    /// Which sandbox.
    pub sandbox: OsString,
    /// The command.
    pub command: Vec<OsString>,
}

type Exec = Opt<ExecArguments>;

/// Every option, in the order of the help.
#[rustfmt::skip]
pub static OPTIONS: &[Opt<ExecArguments>] = &[
    Exec::switch("detach", "Leave the command running in the background, with nothing on its standard streams", |a, v| a.detach = v).short('d'),
    Exec::value("detach-keys", "KEYS", "With -it: leave the command running when these keys are typed [default: ctrl-p,ctrl-q]", |a, v| a.detach_keys = Some(v)),
    Exec::value("env", "NAME[=VALUE]", "Set an environment variable beside the sandbox's; NAME alone takes the caller's value", |a, v| a.env.push(v)).short('e'),
    Exec::value("env-file", "FILE", "Read environment variables from a file, one NAME=VALUE a line", |a, v| a.env_file.push(v)),
    Exec::switch("interactive", "Connect standard input", |a, v| a.interactive = v).short('i'),
    Exec::switch("tty", "Give the command a terminal of its own", |a, v| a.tty = v).short('t'),
    Exec::value("user", "USER[:GROUP]", "Run as this user of the sandbox, by name or number, where it has more than one [default: the sandbox's]", |a, v| a.user = Some(v)).short('u'),
    Exec::value("workdir", "DIR", "Working directory inside the sandbox [default: the sandbox's]", |a, v| a.workdir = Some(v)).short('w'),
    Exec::value("timeout", "DURATION", "End the command and all that it started after this time, with exit code 124 (90s, 10m, 1h30m)", |a, v| a.timeout = Some(v)),
    Exec::value("stop-signal", "SIGNAL", "Signal that asks the command to stop at its time limit [default: TERM]", |a, v| a.stop_signal = Some(v)),
    Exec::value("stop-timeout", "SECONDS", "Time between that signal and SIGKILL [default: 10]", |a, v| a.stop_timeout = Some(v)),
    Exec::value("receipt", "FILE", "Write what ran, under which protections, and how it ended, as JSON; - for standard output", |a, v| a.receipt = Some(v)),
    Exec::value("receipt-log", "FILE", "Append the receipt to a log in which each names the one before it by its digest", |a, v| a.receipt_log = Some(v)),
    Exec::value("receipt-key", "FILE", "Sign the receipt with this Ed25519 key (palisade receipt keygen)", |a, v| a.receipt_key = Some(v)),
    Exec::switch("privileged", "Refused: a command has no more rights than its sandbox", |a, v| a.privileged = v),
    Exec::value("root", "DIR", "Where sandboxes are kept [default: $PALISADE_ROOT, else the user's data directory]", |a, v| a.root = Some(v)),
    Exec::switch("help", "Print this help", |a, v| a.help = v).short('h'),
];

/// Parses what follows `palisade exec`.
///
/// # Errors
/// Whatever [`options::parse`] refuses, a missing sandbox or a missing command.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<ExecArguments, Failure> {
    let mut arguments = ExecArguments::default();
    let mut operands = options::parse("exec", OPTIONS, &mut arguments, args)?.into_iter();
    if arguments.help {
        return Ok(arguments);
    }
    let needs = |what| {
        Failure::new(
            format!("palisade exec needs {what}"),
            "palisade exec SANDBOX COMMAND; palisade ps lists the sandboxes",
        )
    };
    arguments.sandbox = operands.next().ok_or_else(|| needs("a sandbox"))?;
    arguments.command = operands.collect();
    if arguments.command.is_empty() {
        return Err(needs("a command"));
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_at_the_sandbox_and_the_command_is_taken_byte_for_byte() {
        let words = ["-it", "-e", "A=1", "box", "sh", "-c", "", "--user", "-i"];
        let parsed = parse(words.map(OsString::from)).expect("parsed");
        assert!(parsed.interactive && parsed.tty && parsed.user.is_none());
        assert_eq!(parsed.sandbox, "box");
        assert_eq!(parsed.command, ["sh", "-c", "", "--user", "-i"]);
        assert!(parse(["box".into()]).is_err());
        assert!(parse([]).is_err());
    }
}
