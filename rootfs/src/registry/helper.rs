//! Credential helpers: programs named `docker-credential-NAME` that keep secrets in a key ring or fetch them from a cloud
//! (docker/docker-credential-helpers). They are the caller's own programs, named in the caller's own file, and run with the
//! caller's environment, which most of them need to find what they guard.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::credentials::Login;
use super::options::Options;
use crate::error::{Error, Result};

/// The name that says that the secret is a token.
const TOKEN: &str = "<token>";
/// The most that a helper may say, in bytes.
const LONGEST: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks for a registry's credentials; none if the helper has none.
pub(super) fn get(options: &Options, name: &str, key: &str, file: &Path) -> Result<Option<Login>> {
    let (answered, text) = run(options, name, "get", key.as_bytes(), file)?;
    if !answered {
        return if is_missing(&text) {
            Ok(None)
        } else {
            Err(failed(name, "get", &text))
        };
    }
    let answer: Answer = serde_json::from_slice(&text)
        .map_err(|_| failed(name, "get", b"its answer is not credentials"))?;
    Ok(match answer {
        Answer { secret, .. } if secret.is_empty() => None,
        Answer { username, secret } if username == TOKEN => Some(Login::Identity(secret)),
        Answer { username, secret } => Some(Login::Password {
            user: username,
            password: secret,
        }),
    })
}

/// Gives credentials to be kept.
pub(super) fn store(
    options: &Options,
    name: &str,
    key: &str,
    login: &Login,
    file: &Path,
) -> Result<()> {
    let (user, secret) = match login {
        Login::Password { user, password } => (user.as_str(), password),
        Login::Identity(token) => (TOKEN, token),
    };
    let text = serde_json::json!({"ServerURL": key, "Username": user, "Secret": secret});
    let (stored, said) = run(options, name, "store", text.to_string().as_bytes(), file)?;
    if stored {
        Ok(())
    } else {
        Err(failed(name, "store", &said))
    }
}

/// Has credentials forgotten; false if there were none.
pub(super) fn erase(options: &Options, name: &str, key: &str, file: &Path) -> Result<bool> {
    let (erased, said) = run(options, name, "erase", key.as_bytes(), file)?;
    if erased || is_missing(&said) {
        Ok(erased)
    } else {
        Err(failed(name, "erase", &said))
    }
}

fn is_missing(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).contains("credentials not found")
}

fn failed(name: &str, verb: &str, said: &[u8]) -> Error {
    let said: String = String::from_utf8_lossy(said)
        .trim()
        .chars()
        .take(200)
        .collect();
    Error::Registry {
        doing: "get an answer from",
        what: format!("docker-credential-{name} {verb}"),
        reason: said,
        remedy: "run the helper by hand, or take its name out of config.json",
    }
}

/// Runs a helper; returns whether it went well, and what it said.
fn run(
    options: &Options,
    name: &str,
    verb: &str,
    input: &[u8],
    file: &Path,
) -> Result<(bool, Vec<u8>)> {
    let program = find(options, name).ok_or_else(|| Error::Settings {
        path: file.to_owned(),
        reason: format!(
            "it names the credential helper `{}`, and docker-credential-{} is not in the PATH",
            name.escape_debug(),
            name.escape_debug()
        ),
    })?;
    let fail = |e| Error::io("run", &program, e);
    let mut child = Command::new(&program)
        .arg(verb)
        .env_clear()
        .envs(options.variables.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read says why in its answer.
        let _ = stdin.write_all(input);
    }
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST).read_to_end(&mut text).map_err(fail)?;
    }
    let status = child.wait().map_err(fail)?;
    Ok((status.success(), text))
}

/// The helper's program, by the directories of the caller's PATH that are absolute.
fn find(options: &Options, name: &str) -> Option<PathBuf> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return None;
    }
    let (_, path) = options.variables.iter().find(|(n, _)| n == "PATH")?;
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(format!("docker-credential-{name}")))
        .find(|program| {
            rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok() && program.is_file()
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::credentials;
    use super::*;

    /// A helper that keeps what it is given in a file.
    const HELPER: &str = r#"#!/bin/sh
case $1 in
    store) cat >"$HOME/kept" ;;
    get) read -r key; grep -q "\"$key\"" "$HOME/kept" 2>/dev/null && cat "$HOME/kept" ||
        { echo "credentials not found in native keychain"; exit 1; } ;;
    erase) rm "$HOME/kept" ;;
esac
"#;

    #[test]
    fn a_helper_keeps_gives_and_forgets_and_the_file_holds_no_secret() {
        let home = tempfile::tempdir().unwrap();
        let bin = home.path().join("bin");
        std::fs::create_dir_all(home.path().join(".docker")).unwrap();
        std::fs::create_dir(&bin).unwrap();
        let program = bin.join("docker-credential-test");
        std::fs::write(&program, HELPER).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let config = home.path().join(".docker/config.json");
        std::fs::write(&config, r#"{"credHelpers":{"r.example":"test"}}"#).unwrap();
        let path = std::env::join_paths([bin.as_path(), Path::new("/usr/bin"), Path::new("/bin")]);
        let options = Options {
            variables: vec![
                ("HOME".into(), home.path().into()),
                ("PATH".into(), path.unwrap()),
            ],
            ..Options::default()
        };
        let login = Login::Password {
            user: "me".to_owned(),
            password: "hidden".to_owned(),
        };
        assert_eq!(credentials::find(&options, "r.example", "x").unwrap(), None);
        let kept = credentials::keep(&options, "r.example", &login).unwrap();
        assert_eq!(kept.helper.as_deref(), Some("test"));
        assert!(!std::fs::read_to_string(&config).unwrap().contains("auth\""));
        let found = credentials::find(&options, "r.example", "x").unwrap();
        assert_eq!(found, Some(login));
        assert_eq!(credentials::find(&options, "other", "x").unwrap(), None);
        assert!(credentials::forget(&options, "r.example").unwrap());
        assert_eq!(credentials::find(&options, "r.example", "x").unwrap(), None);
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config.json");
        std::fs::write(&config, r#"{"credsStore":"../../evil"}"#).unwrap();
        let options = Options {
            variables: vec![
                ("DOCKER_CONFIG".into(), home.path().into()),
                ("PATH".into(), "/usr/bin".into()),
            ],
            ..Options::default()
        };
        let error = credentials::find(&options, "r", "x").unwrap_err();
        assert!(error.to_string().contains("evil"), "{error}");
    }
}
