//! `palisade exec`: another command in a running sandbox.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use palisade_rootfs::Users;
use palisade_runtime::{JoinCommand, Plan, Service, Usage, User, terminal};
use palisade_shim::joined::{self, Transfer};
use palisade_shim::monitor::{LEAVE, Request};
use palisade_shim::receipt::{self, Facts};
use palisade_shim::state::{Entry, Registry};
use palisade_shim::{Error, Outcome, Reason};

use crate::caller::Caller;
use crate::cli::exec::{ExecArguments, parse};
use crate::cli::render;
use crate::failure::Failure;
use crate::receipt::asked;
use crate::request::{Receipt, environment, text};
use crate::verb::{complain, print};
use crate::{data, sandboxes, verb};

/// How long a command has between the stop signal and SIGKILL, as docker gives it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command in a sandbox and returns its exit code.
pub fn main(args: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    let arguments = parse(args)?;
    if arguments.help {
        let mut help = render::exec_verb().bin_name("palisade exec");
        return print(&help.render_help().to_string()).map(|()| 0);
    }
    if arguments.privileged {
        return Err(Failure::new(
            "--privileged: a command in a sandbox never has more rights than the sandbox",
            "leave it out; palisade run --policy compat, or --cap-add, for a sandbox with more",
        ));
    }
    let caller = Caller::of_process()?;
    let wanted = Receipt::understand(
        arguments.receipt.clone(),
        arguments.receipt_log.clone(),
        arguments.receipt_key.clone(),
        false,
        &caller,
    )?;
    let start = SystemTime::now();
    let recorded_failure = |failure| of_failure(&wanted, &arguments.sandbox, start, failure);
    let entry =
        find(arguments.root.as_deref(), &arguments.sandbox, &caller).map_err(recorded_failure)?;
    let command = understand(&arguments, &entry, &caller).map_err(recorded_failure)?;
    let hand_in = |connection| hand_in(&entry, &connection);
    if command.detached {
        if wanted.is_asked_for() {
            return Err(Failure::new(
                "--receipt: nobody waits for the end of a command that is left in the background (-d)",
                "leave out -d, or --receipt",
            ));
        }
        return joined::leave(&command, hand_in)
            .map(|()| 0)
            .map_err(|error| failure(&entry, &error));
    }
    let typed = arguments.detach_keys.as_deref();
    let leave = typed.map(|typed| text::detach_keys("--detach-keys", typed));
    let leave = leave
        .transpose()
        .map_err(recorded_failure)?
        .flatten()
        .unwrap_or(LEAVE.to_vec());
    let outcome = if wanted.is_asked_for() {
        let (plan, facts) =
            recorded(&entry, &command, arguments.interactive).map_err(recorded_failure)?;
        // Whoever wants a receipt waits for the end.
        joined::recorded(&asked::with(&wanted, facts), &plan, || {
            joined::run(&command, arguments.interactive, &[], &entry, hand_in)
        })
    } else {
        joined::run(&command, arguments.interactive, &leave, &entry, hand_in)
    };
    let outcome = outcome.map_err(|error| failure(&entry, &error))?;
    let Some(outcome) = outcome else {
        // It was left, and goes on.
        return Ok(0);
    };
    tell(&outcome, command.timeout);
    for problem in &outcome.problems {
        complain(&sandboxes::failure(problem));
    }
    Ok(outcome.code)
}

/// Writes the receipt, where one was asked for, of a command that never got to its sandbox.
fn of_failure(wanted: &Receipt, sandbox: &OsStr, start: SystemTime, failure: Failure) -> Failure {
    if wanted.is_asked_for() {
        let facts = Facts {
            name: Some(sandbox.to_string_lossy().into_owned()),
            ..Facts::default()
        };
        let request = asked::with(wanted, facts);
        let written = receipt::failed(&request, start, failure.code(), failure.message());
        if let Err(problem) = written {
            complain(&sandboxes::failure(&problem));
        }
    }
    failure
}

/// What a receipt says of a command that joins: the sandbox's plan with the command in the place of its first one.
fn recorded(
    entry: &Entry,
    command: &JoinCommand,
    interactive: bool,
) -> Result<(Plan, Facts), Failure> {
    let told = |error: Error| failure(entry, &error);
    let config = entry.config().map_err(told)?;
    let mut plan = entry.plan().map_err(told)?;
    let mut process = plan.spec.process().clone().unwrap_or_default();
    let shown = |text: &OsString| text.to_string_lossy().into_owned();
    let mut env: Vec<String> = process.env().clone().unwrap_or_default();
    env.extend(command.env.iter().map(shown));
    // A receipt has their names.
    env.sort_by(|one, other| one.split('=').next().cmp(&other.split('=').next()));
    env.dedup_by(|one, other| one.split('=').next() == other.split('=').next());
    process
        .set_args(Some(command.args.iter().map(shown).collect()))
        .set_env(Some(env))
        .set_terminal(Some(command.terminal.is_some()));
    if let Some(cwd) = &command.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(user) = &command.user {
        let mut ids = process.user().clone();
        ids.set_uid(user.uid)
            .set_gid(user.gid)
            .set_additional_gids(Some(user.groups.clone()));
        process.set_user(ids);
    }
    plan.spec.set_process(Some(process));
    plan.interactive = interactive;
    plan.timeout = command.timeout;
    plan.output_limit = None;
    let facts = Facts {
        name: Some(config.name),
        labels: config.labels,
        image: Some(receipt::Image {
            reference: config.image.reference,
            manifest: config.image.digest,
            layers: Vec::new(),
        }),
        policy: Some(receipt::Policy {
            name: config.policy,
            digest: None,
        }),
        identity: Some(config.identity),
        ..Facts::default()
    };
    Ok((plan, facts))
}

/// The sandbox that a name, an id or the beginning of one stands for.
pub fn find(root: Option<&OsStr>, name: &OsStr, caller: &Caller) -> Result<Entry, Failure> {
    let root = root.map(|root| caller.absolute(Path::new(root)));
    let registry = Registry::new(&data::directory(root.as_deref(), caller)?);
    let name = name.to_string_lossy();
    registry
        .find(&name)
        .map_err(|error| Failure::new(error.to_string(), error.advice().unwrap_or_default()))
}

/// Gives a connection to the sandbox's monitor, which passes it on to PID 1.
pub fn hand_in(entry: &Entry, connection: &OwnedFd) -> Result<(), Error> {
    let not_running = || Error::NotRunning {
        id: entry.short().to_owned(),
    };
    let client = sandboxes::connect(entry)?.ok_or_else(not_running)?;
    client
        .ask_with(Request::Join, &[connection.as_fd()])
        .map(drop)
}

/// What went wrong before the command ran.
pub fn failure(entry: &Entry, error: &Error) -> Failure {
    match error {
        // It ended while the command was on its way.
        Error::NeverStarted => Failure::new(
            format!("sandbox {} ended before the command ran", entry.short()),
            "palisade ps -a shows how it ended; palisade start starts it again",
        ),
        error => Failure::new(error.to_string(), error.advice().unwrap_or_default())
            .with_code(error.exit_code()),
    }
}

fn understand(
    arguments: &ExecArguments,
    entry: &Entry,
    caller: &Caller,
) -> Result<JoinCommand, Failure> {
    let mut env = Vec::new();
    if arguments.tty {
        env.push(OsString::from("TERM=xterm"));
    }
    let user = match &arguments.user {
        Some(typed) => Some(user(typed, entry, &mut env)?),
        None => None,
    };
    let (files, typed) = (arguments.env_file.clone(), arguments.env.clone());
    for (name, value) in environment::collect(files, typed, caller)? {
        env.push(format!("{name}={value}").into());
    }
    let stop_signal = match &arguments.stop_signal {
        Some(typed) => text::signal(&typed.to_string_lossy()).ok_or_else(|| {
            Failure::new(
                format!("--stop-signal {} is no signal", typed.display()),
                "--stop-signal TERM, or a number from 1 to 64",
            )
        })?,
        None => nix::libc::SIGTERM,
    };
    let size = || {
        let own = (std::io::stdout(), std::io::stdin());
        terminal::window_size(&own.0)
            .or_else(|_| terminal::window_size(&own.1))
            .map_or((24, 80), |size| (size.ws_row, size.ws_col))
    };
    Ok(JoinCommand {
        args: arguments.command.clone(),
        env,
        cwd: arguments
            .workdir
            .as_ref()
            .map(|typed| crate::request::sandbox_path("--workdir", typed))
            .transpose()?,
        user,
        terminal: arguments.tty.then(size),
        service: None,
        lasting: None,
        detached: arguments.detach,
        timeout: arguments
            .timeout
            .as_deref()
            .map(|typed| text::duration("--timeout", typed))
            .transpose()?,
        stop_signal,
        stop_timeout: arguments
            .stop_timeout
            .as_deref()
            .map(|typed| text::stop_timeout("--stop-timeout", typed))
            .transpose()?
            .unwrap_or(PATIENCE),
    })
}

/// `-u`, resolved by the sandbox's own files; the user's home becomes HOME.
fn user(typed: &OsStr, entry: &Entry, env: &mut Vec<OsString>) -> Result<User, Failure> {
    let typed = text::utf8("--user", typed.to_owned())?;
    let users = Users {
        passwd: file(entry, "/etc/passwd")?,
        group: file(entry, "/etc/group")?,
    };
    let user = users.resolve(&typed).map_err(|error| {
        Failure::new(
            error.to_string(),
            "-u with a name of the sandbox's /etc/passwd, or with a number",
        )
    })?;
    if let Some(home) = &user.home {
        env.push(format!("HOME={home}").into());
    }
    // A number alone is the sandbox's own user with the sandbox's own group, where it is that user.
    Ok(User {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
    })
}

/// A small file of the sandbox, as the sandbox sees it now; empty where there is none.
fn file(entry: &Entry, path: &str) -> Result<Vec<u8>, Failure> {
    const LONGEST: u64 = 1 << 20;
    let command = JoinCommand {
        args: vec![path.into(), "file".into()],
        service: Some(Service::Pack { follow: true }),
        ..JoinCommand::default()
    };
    let failed = |error: &Error| failure(entry, error);
    let (transfer, stream) = Transfer::begin(&command, |connection| hand_in(entry, &connection))
        .map_err(|e| failed(&e))?;
    let content = palisade_runtime::archive::first_file(stream.take(LONGEST));
    match (transfer.finish(), content) {
        (Ok(()), Ok(content)) => Ok(content),
        (Err(Error::Runtime(_)), _) => Ok(Vec::new()),
        (Err(error), _) => Err(failed(&error)),
        (_, Err(error)) => Err(Failure::new(
            format!("cannot read the sandbox's {path}: {error}"),
            "-u with a number",
        )),
    }
}

/// Why the command ended, where its exit code does not say it.
fn tell(outcome: &Outcome, limit: Option<Duration>) {
    let Usage {
        oom_kills,
        pids_denied,
        ..
    } = outcome.usage;
    let text = match outcome.reason {
        Reason::Timeout => {
            let limit = limit.map(palisade_policies::format_duration);
            format!(
                "the time limit of {} ended the command",
                limit.unwrap_or_default()
            )
        }
        Reason::OutOfMemory => {
            format!(
                "the command failed, and the sandbox's memory limit had killed {oom_kills} processes meanwhile"
            )
        }
        Reason::Pids => {
            format!(
                "the command failed, and the sandbox's limit on processes had refused {pids_denied} meanwhile"
            )
        }
        _ => return,
    };
    verb::tell("note", &[text]);
}
