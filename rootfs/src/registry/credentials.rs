//! Names and passwords for registries, as docker and podman keep them: `config.json` (docker-login(1)),
//! `auth.json` (containers-auth.json(5)), and the credential helpers these name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::FlockOperation;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::helper;
use super::options::Options;
use crate::error::{Error, Result};

/// What a registry's user proves to be one with. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password, or a token that stands for it.
        password: String,
    },
    /// A token that other tokens are got with (OAuth 2 refresh token).
    Identity(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Login({user}, …)"),
            Self::Identity(_) => f.write_str("Login(…)"),
        }
    }
}

/// The largest file of credentials that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// What docker calls its own registry in its files.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// The credentials for a repository of a registry; none if the caller has none.
///
/// # Errors
/// [`Error::Settings`] for a file that cannot be understood, [`Error::Io`] for one that cannot be read or a helper that
/// cannot be run.
pub(super) fn find(options: &Options, registry: &str, repository: &str) -> Result<Option<Login>> {
    for path in places(options) {
        let Some(document) = read(&path)? else {
            continue;
        };
        let helper = document
            .cred_helpers
            .iter()
            .find(|(key, _)| host_of(key) == canonical(registry))
            .map(|(_, helper)| helper)
            .or(document.creds_store.as_ref())
            .filter(|name| !name.is_empty());
        if let Some(name) = helper
            && let Some(login) = helper::get(options, name, key_of(registry), &path)?
        {
            return Ok(Some(login));
        }
        if let Some(login) = stored(&document, registry, repository, &path)? {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

/// Keeps credentials in docker's file, or gives them to the helper it names. Returns where they are.
///
/// # Errors
/// As [`find`], and [`Error::Io`] if the file cannot be written.
pub(super) fn keep(options: &Options, registry: &str, login: &Login) -> Result<Kept> {
    let path = docker_file(options).ok_or_else(homeless)?;
    let helper = helper_of(&path, registry)?;
    let key = key_of(registry).to_owned();
    let mut entry = json!({});
    if let Some(name) = &helper {
        helper::store(options, name, &key, login, &path)?;
    } else {
        match login {
            Login::Password { user, password } => {
                entry["auth"] = json!(BASE64_STANDARD.encode(format!("{user}:{password}")));
            }
            Login::Identity(token) => {
                entry["auth"] = json!(BASE64_STANDARD.encode("<token>:"));
                entry["identitytoken"] = json!(token);
            }
        }
    }
    change(&path, |auths| {
        auths.retain(|other, _| {
            host_of(other) != canonical(registry) || other.contains('/') && !is_whole(other)
        });
        auths.insert(key, entry);
        true
    })?;
    Ok(Kept { file: path, helper })
}

/// Where credentials were kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    pub file: PathBuf,
    /// The helper that has them, where the file only names it.
    pub helper: Option<String>,
}

/// Forgets a registry's credentials, in docker's file and in podman's; false if there were none.
///
/// # Errors
/// As [`keep`].
pub(super) fn forget(options: &Options, registry: &str) -> Result<bool> {
    let mut found = false;
    for path in places(options) {
        let Some(document) = read(&path)? else {
            continue;
        };
        let has = document
            .auths
            .keys()
            .any(|key| host_of(key) == canonical(registry));
        if let Some(name) = helper_of(&path, registry)? {
            found |= helper::erase(options, &name, key_of(registry), &path)?;
        }
        if has {
            change(&path, |auths| {
                let before = auths.len();
                auths.retain(|key, _| host_of(key) != canonical(registry) || !is_whole(key));
                before != auths.len()
            })?;
            found = true;
        }
    }
    Ok(found)
}

fn helper_of(path: &Path, registry: &str) -> Result<Option<String>> {
    let document = read(path)?.unwrap_or_default();
    let own = document
        .cred_helpers
        .iter()
        .find(|(key, _)| host_of(key) == canonical(registry))
        .map(|(_, helper)| helper.clone());
    Ok(own.or(document.creds_store).filter(|name| !name.is_empty()))
}

/// The files, in the order they are asked.
fn places(options: &Options) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = options.path("REGISTRY_AUTH_FILE").into_iter().collect();
    places.extend(docker_file(options));
    let podman = [options.path("XDG_RUNTIME_DIR"), options.configuration()];
    places.extend(
        podman
            .into_iter()
            .flatten()
            .map(|directory| directory.join("containers/auth.json")),
    );
    places
}

fn docker_file(options: &Options) -> Option<PathBuf> {
    options
        .path("DOCKER_CONFIG")
        .or_else(|| Some(options.path("HOME")?.join(".docker")))
        .map(|directory| directory.join("config.json"))
}

fn homeless() -> Error {
    Error::Settings {
        path: "config.json".into(),
        reason: "there is no place for it: HOME and DOCKER_CONFIG are not set".to_owned(),
    }
}

fn read_text(path: &Path) -> Result<Option<Vec<u8>>> {
    let fail = |e| Error::io("read the credentials in", path, e);
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > LARGEST || !metadata.is_file() => Err(Error::Settings {
            path: path.to_owned(),
            reason: "it is not a file of up to 1 MiB".to_owned(),
        }),
        Ok(_) => std::fs::read(path).map(Some).map_err(fail),
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(fail(e)),
    }
}

fn read(path: &Path) -> Result<Option<Document>> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| broken(path, &e))
}

fn broken(path: &Path, reason: &dyn fmt::Display) -> Error {
    Error::Settings {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// The entry of a document for a repository: that of the longest name it begins with.
fn stored(
    document: &Document,
    registry: &str,
    repository: &str,
    path: &Path,
) -> Result<Option<Login>> {
    let whole = format!("{}/{repository}", canonical(registry));
    let mut best: Option<(&str, &Entry)> = None;
    for (key, entry) in &document.auths {
        let name = if is_whole(key) { host_of(key) } else { key };
        let fits = whole
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if fits && best.is_none_or(|(longest, _)| name.len() > longest.len()) {
            best = Some((name, entry));
        }
    }
    let Some((_, entry)) = best else {
        return Ok(None);
    };
    if let Some(token) = entry.identitytoken.as_ref().filter(|t| !t.is_empty()) {
        return Ok(Some(Login::Identity(token.clone())));
    }
    let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) else {
        return Ok(None);
    };
    let bad = || broken(path, &format!("the entry for {registry} is damaged"));
    let plain = BASE64_STANDARD.decode(auth).map_err(|_| bad())?;
    let plain = String::from_utf8(plain).map_err(|_| bad())?;
    let (user, password) = plain.split_once(':').ok_or_else(bad)?;
    Ok(Some(Login::Password {
        user: user.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    }))
}

/// Whether a key stands for a whole registry: it is a host, or an old address of one.
fn is_whole(key: &str) -> bool {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    match rest.unwrap_or(key).split_once('/') {
        None => true,
        Some((_, path)) => rest.is_some() || matches!(path.trim_end_matches('/'), "" | "v1" | "v2"),
    }
}

/// The host of a key, docker's own under its one name.
fn host_of(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    canonical(key.split('/').next().unwrap_or_default())
}

fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// What a registry is called in docker's files and by its helpers.
fn key_of(registry: &str) -> &str {
    if canonical(registry) == "docker.io" {
        DOCKER_KEY
    } else {
        registry
    }
}

/// Changes the entries of a file, which keeps all else it holds. It is replaced whole, and readable by its owner alone.
fn change(path: &Path, edit: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<()> {
    let fail = |e: std::io::Error| Error::io("write the credentials to", path, e);
    // A link is followed, as those who keep their settings elsewhere expect.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = target.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(fail)?;
    let held = File::open(directory).map_err(fail)?;
    rustix::fs::flock(&held, FlockOperation::LockExclusive).map_err(|e| fail(e.into()))?;
    let text = read_text(&target)?.unwrap_or_default();
    let mut document: Value = if text.trim_ascii().is_empty() {
        json!({})
    } else {
        serde_json::from_slice(&text).map_err(|e| broken(path, &e))?
    };
    let entries = document
        .as_object_mut()
        .ok_or_else(|| broken(path, &"it is not an object"))?
        .entry("auths")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .ok_or_else(|| broken(path, &"`auths` is not an object"))?;
    if !edit(entries) {
        return Ok(());
    }
    let mut text = serde_json::to_vec_pretty(&document).map_err(|e| broken(path, &e))?;
    text.push(b'\n');
    let temporary = directory.join(format!(".palisade-{}.tmp", std::process::id()));
    let write = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&temporary);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &target)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        fail(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn at(home: &Path) -> Options {
        Options {
            variables: vec![("HOME".into(), home.into())],
            ..Options::default()
        }
    }

    fn password(user: &str, password: &str) -> Login {
        Login::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    fn write(home: &Path, name: &str, value: &Value) {
        let path = home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value.to_string()).unwrap();
    }

    fn auth(text: &str) -> Value {
        json!({"auth": BASE64_STANDARD.encode(text)})
    }

    #[test]
    fn what_is_kept_is_found_and_what_is_forgotten_is_not_and_nothing_else_is_lost() {
        let home = tempfile::tempdir().unwrap();
        let options = at(home.path());
        write(
            home.path(),
            ".docker/config.json",
            &json!({"psFormat": "x", "auths": {"other.example": auth("a:b")}}),
        );
        let kept = keep(&options, "r.example:5000", &password("me", "s:ecret")).unwrap();
        assert_eq!(kept.helper, None);
        let mode = std::fs::metadata(&kept.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            find(&options, "r.example:5000", "a/b").unwrap(),
            Some(password("me", "s:ecret"))
        );
        assert_eq!(find(&options, "r.example", "a/b").unwrap(), None);
        assert!(forget(&options, "r.example:5000").unwrap());
        assert!(!forget(&options, "r.example:5000").unwrap());
        assert_eq!(find(&options, "r.example:5000", "a/b").unwrap(), None);
        let left: Value = serde_json::from_slice(&std::fs::read(&kept.file).unwrap()).unwrap();
        assert_eq!(left["psFormat"], "x");
        assert_eq!(
            find(&options, "other.example", "x").unwrap(),
            Some(password("a", "b"))
        );
    }

    #[test]
    fn dockers_own_registry_is_found_under_each_of_its_names() {
        let home = tempfile::tempdir().unwrap();
        let options = at(home.path());
        keep(&options, "docker.io", &password("me", "pw")).unwrap();
        let text = std::fs::read_to_string(home.path().join(".docker/config.json")).unwrap();
        assert!(text.contains(DOCKER_KEY), "{text}");
        assert!(find(&options, "docker.io", "library/x").unwrap().is_some());
        write(
            home.path(),
            ".docker/config.json",
            &json!({"auths": {"docker.io": auth("p:q")}}),
        );
        assert!(find(&options, "docker.io", "library/x").unwrap().is_some());
    }

    #[test]
    fn the_longest_name_decides_and_podmans_file_comes_after_dockers() {
        let home = tempfile::tempdir().unwrap();
        let options = at(home.path());
        write(
            home.path(),
            ".config/containers/auth.json",
            &json!({"auths": {
                "r.example": auth("all:1"), "r.example/team": auth("team:2"), "r.example/team/app": auth("app:3"),
                "https://old.example/v1/": auth("old:4"), "id.example": {"auth": "", "identitytoken": "tok"}}}),
        );
        let user = |registry: &str, repository: &str| match find(&options, registry, repository)
            .unwrap()
        {
            Some(Login::Password { user, .. }) => user,
            Some(Login::Identity(token)) => token,
            None => String::new(),
        };
        assert_eq!(user("r.example", "team/app"), "app");
        assert_eq!(user("r.example", "team/apple"), "team");
        assert_eq!(user("r.example", "teamed"), "all");
        assert_eq!(user("old.example", "x"), "old");
        assert_eq!(user("id.example", "x"), "tok");
        write(
            home.path(),
            ".docker/config.json",
            &json!({"auths": {"r.example": auth("docker:5")}}),
        );
        assert_eq!(user("r.example", "team/app"), "docker");
    }

    #[test]
    fn a_broken_file_is_an_error_and_a_secret_is_not_shown() {
        let home = tempfile::tempdir().unwrap();
        let options = at(home.path());
        for bad in [
            json!([]),
            json!({"auths": {"r": {"auth": "!"}}}),
            json!({"auths": 3}),
        ] {
            write(home.path(), ".docker/config.json", &bad);
            assert!(find(&options, "r", "x").is_err(), "{bad}");
        }
        assert!(!format!("{:?}", password("me", "secret")).contains("secret"));
    }
}
