//! `palisade login` and `palisade logout`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};

use clap::ArgMatches;
use nix::sys::termios::{self, LocalFlags, SetArg};
use palisade_rootfs::registry::Login;

use super::interrupt::stoppable;
use super::{failed, open, word};
use crate::caller::Caller;
use crate::failure::{Failure, reason};
use crate::verb::{print, tell};

/// The longest password or token that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// Tries credentials and keeps them.
pub fn login(matches: &ArgMatches) -> Result<u8, Failure> {
    let caller = Caller::read(false)?;
    let files = matches.get_many::<String>("ca-file").into_iter().flatten();
    let registries = open(&caller, files.map(|file| caller.absolute(file.as_ref())))?;
    let server = word(matches, "SERVER").unwrap_or_default();
    let from_stdin = matches.get_flag("password-stdin");
    let user = match word(matches, "username") {
        Some(user) => user.to_owned(),
        None if from_stdin => {
            return Err(Failure::new(
                "--password-stdin needs a user's name",
                "-u NAME --password-stdin",
            ));
        }
        None => ask("Username: ", true)?,
    };
    let password = match word(matches, "password") {
        Some(password) => password.to_owned(),
        None if from_stdin => from_standard_input()?,
        None => ask("Password: ", false)?,
    };
    if user.is_empty() || password.is_empty() || user.contains(':') {
        return Err(Failure::new(
            "a user's name without colons and a password are needed",
            "-u NAME --password-stdin <FILE",
        ));
    }
    let login = Login::Password { user, password };
    let kept = stoppable(&registries, || {
        registries.login(server, &login).map_err(failed)
    })?;
    print("Login Succeeded\n")?;
    let place = match kept.helper {
        Some(helper) => format!("kept by docker-credential-{helper}"),
        None => format!("kept in {}, readable by you alone", kept.file.display()),
    };
    tell("note", &[format!("the credentials are {place}")]);
    Ok(0)
}

/// Forgets credentials.
pub fn logout(matches: &ArgMatches) -> Result<u8, Failure> {
    let caller = Caller::read(false)?;
    let registries = open(&caller, std::iter::empty())?;
    let server = word(matches, "SERVER").unwrap_or_default();
    if registries.logout(server).map_err(failed)? {
        print(&format!("Removing login credentials for {server}\n"))?;
    } else {
        print(&format!("Not logged in to {server}\n"))?;
    }
    Ok(0)
}

fn from_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::new(
                format!(
                    "cannot read the password from standard input: {}",
                    reason(&error)
                ),
                "",
            )
        })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks on the terminal; what is typed is not shown unless it may be.
fn ask(question: &str, shown: bool) -> Result<String, Failure> {
    let fail = |error: std::io::Error| {
        Failure::new(
            format!("cannot ask on the terminal: {}", reason(&error)),
            "-u NAME --password-stdin <FILE",
        )
    };
    let mut options = File::options();
    let terminal = options
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(fail)?;
    (&terminal).write_all(question.as_bytes()).map_err(fail)?;
    let before = termios::tcgetattr(&terminal).map_err(|e| fail(e.into()))?;
    if !shown {
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent).map_err(|e| fail(e.into()))?;
    }
    let mut answer = String::new();
    let read = BufReader::new((&terminal).take(LONGEST)).read_line(&mut answer);
    if !shown {
        let _ = termios::tcsetattr(&terminal, SetArg::TCSAFLUSH, &before);
        let _ = (&terminal).write_all(b"\n");
    }
    read.map_err(fail)?;
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}
