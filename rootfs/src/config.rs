//! What an image says about running it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::platform::Platform;

/// The part of an image configuration that concerns running (OCI image-spec, config.md; `Healthcheck` and `Shell` are docker's).
///
/// What is here has been checked: no string holds a NUL byte, every `env` entry is `NAME=value`, `working_dir` is
/// empty or absolute without `..`. The user is only a text: [`crate::Users::resolve`] checks it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `USER`: empty, a name, a number, or one of them, a colon and a group.
    pub user: String,
    /// `ENV`, as `NAME=value`.
    pub env: Vec<String>,
    /// `ENTRYPOINT`; empty if there is none.
    pub entrypoint: Vec<String>,
    /// `CMD`; empty if there is none.
    pub cmd: Vec<String>,
    /// `WORKDIR`; empty if there is none.
    pub working_dir: String,
    /// `EXPOSE`, as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `VOLUME`.
    pub volumes: Vec<String>,
    /// `LABEL`.
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`, a name or a number.
    pub stop_signal: Option<String>,
    /// `SHELL`; empty if there is none.
    pub shell: Vec<String>,
    /// `HEALTHCHECK`.
    pub healthcheck: Option<Healthcheck>,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
}

/// An image's health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", arg…]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Between two checks; zero stands for the default.
    pub interval: Duration,
    /// For one check; zero stands for the default.
    pub timeout: Duration,
    /// In which failures do not count.
    pub start_period: Duration,
    /// Failures in a row that mean unhealthy; zero stands for the default.
    pub retries: u32,
}

/// A whole configuration document, checked.
#[derive(Debug)]
pub(crate) struct Document {
    pub platform: Platform,
    pub config: ImageConfig,
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawDocument {
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawConfig>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    exposed_ports: Option<Keys>,
    volumes: Option<Keys>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    shell: Option<Vec<String>>,
    healthcheck: Option<RawHealthcheck>,
}

/// The keys of an object whose values say nothing: Go's way to write a set.
#[derive(Default, Deserialize)]
#[serde(from = "BTreeMap<String, serde_json::Value>")]
struct Keys(Vec<String>);

impl From<BTreeMap<String, serde_json::Value>> for Keys {
    fn from(map: BTreeMap<String, serde_json::Value>) -> Self {
        Self(map.into_keys().collect())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawHealthcheck {
    test: Option<Vec<String>>,
    #[serde(default)]
    interval: i64,
    #[serde(default)]
    timeout: i64,
    #[serde(default)]
    start_period: i64,
    #[serde(default)]
    retries: i64,
}

impl ImageConfig {
    /// Reads and checks a configuration document (the JSON whose digest is the image id).
    ///
    /// # Errors
    /// [`Error::Json`] if it is not such a document, [`Error::Config`] if a field is not acceptable.
    pub fn parse(json: &[u8]) -> Result<Self> {
        Document::parse(json, Path::new("-")).map(|document| document.config)
    }
}

impl Document {
    pub(crate) fn parse(json: &[u8], path: &Path) -> Result<Self> {
        let broken = |reason: String| Error::Json {
            what: "configuration",
            path: path.to_owned(),
            reason,
        };
        let raw: RawDocument = serde_json::from_slice(json).map_err(|e| broken(e.to_string()))?;
        if raw.rootfs.kind != "layers" {
            return Err(broken(format!(
                "rootfs.type is `{}`, not `layers`",
                raw.rootfs.kind.escape_debug()
            )));
        }
        let host = Platform::host();
        let platform = Platform {
            os: raw.os.filter(|os| !os.is_empty()).unwrap_or(host.os),
            architecture: raw
                .architecture
                .filter(|a| !a.is_empty())
                .unwrap_or(host.architecture),
            variant: raw.variant.filter(|v| !v.is_empty()),
        };
        let mut config = raw.config.unwrap_or_default().check()?;
        config.created = raw.created;
        Ok(Self {
            platform,
            config,
            diff_ids: raw.rootfs.diff_ids.unwrap_or_default(),
        })
    }
}

impl RawConfig {
    fn check(self) -> Result<ImageConfig> {
        let config = ImageConfig {
            user: self.user.unwrap_or_default(),
            env: self.env.unwrap_or_default(),
            entrypoint: self.entrypoint.unwrap_or_default(),
            cmd: self.cmd.unwrap_or_default(),
            working_dir: self.working_dir.unwrap_or_default(),
            exposed_ports: self.exposed_ports.unwrap_or_default().0,
            volumes: self.volumes.unwrap_or_default().0,
            labels: self.labels.unwrap_or_default(),
            stop_signal: self.stop_signal.filter(|signal| !signal.is_empty()),
            shell: self.shell.unwrap_or_default(),
            healthcheck: self.healthcheck.map(RawHealthcheck::check).transpose()?,
            created: None,
        };
        no_nul("User", [&config.user])?;
        no_nul("Env", &config.env)?;
        no_nul("Entrypoint", &config.entrypoint)?;
        no_nul("Cmd", &config.cmd)?;
        no_nul("Shell", &config.shell)?;
        no_nul("Volumes", &config.volumes)?;
        no_nul("ExposedPorts", &config.exposed_ports)?;
        for entry in &config.env {
            if entry.find('=').is_none_or(|at| at == 0) {
                return Err(refused(
                    "Env",
                    format!("`{}` is not NAME=value", entry.escape_debug()),
                ));
            }
        }
        directory("WorkingDir", &config.working_dir)?;
        config
            .volumes
            .iter()
            .try_for_each(|volume| directory("Volumes", volume))?;
        Ok(config)
    }
}

impl RawHealthcheck {
    fn check(self) -> Result<Healthcheck> {
        let duration = |nanoseconds: i64| {
            u64::try_from(nanoseconds)
                .map(Duration::from_nanos)
                .map_err(|_| refused("Healthcheck", "it has a negative time".to_owned()))
        };
        let test = self.test.unwrap_or_default();
        no_nul("Healthcheck", &test)?;
        Ok(Healthcheck {
            test,
            interval: duration(self.interval)?,
            timeout: duration(self.timeout)?,
            start_period: duration(self.start_period)?,
            retries: u32::try_from(self.retries).map_err(|_| {
                refused(
                    "Healthcheck",
                    format!("{} retries are out of range", self.retries),
                )
            })?,
        })
    }
}

fn refused(field: &'static str, reason: String) -> Error {
    Error::Config { field, reason }
}

fn no_nul<'a>(field: &'static str, texts: impl IntoIterator<Item = &'a String>) -> Result<()> {
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(refused(field, "it holds a NUL byte".to_owned()));
    }
    Ok(())
}

fn directory(field: &'static str, path: &str) -> Result<()> {
    let reason = if path.contains('\0') {
        "it holds a NUL byte"
    } else if path.len() >= 4096 {
        "the path is longer than 4095 bytes"
    } else if !path.is_empty() && !path.starts_with('/') {
        "the path is not absolute"
    } else if path.split('/').any(|part| part == "..") {
        "the path has a `..`"
    } else {
        return Ok(());
    };
    let shown: String = path.chars().take(100).collect();
    Err(refused(
        field,
        format!("{reason}: `{}`", shown.escape_debug()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: &str) -> Result<ImageConfig> {
        ImageConfig::parse(
            format!(r#"{{"config":{config},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#)
                .as_bytes(),
        )
    }

    #[test]
    fn a_configuration_full_of_nulls_is_an_empty_one() {
        let nulls = r#"{"User":null,"Env":null,"Entrypoint":null,"Cmd":null,"Volumes":null,"Labels":null,"ExposedPorts":null,"Healthcheck":null}"#;
        assert_eq!(parse(nulls).unwrap(), ImageConfig::default());
        assert_eq!(parse("null").unwrap(), ImageConfig::default());
    }

    #[test]
    fn every_field_is_read() {
        let config = parse(
            r#"{"User":"a:b","Env":["A=b","C="],"Entrypoint":["/e"],"Cmd":["c"],"WorkingDir":"/w","ExposedPorts":{"80/tcp":{}},
                "Volumes":{"/v":{}},"Labels":{"l":"m"},"StopSignal":"SIGINT","Shell":["/bin/sh","-c"],
                "Healthcheck":{"Test":["CMD","x"],"Interval":30000000000,"Retries":3}}"#,
        )
        .unwrap();
        assert_eq!(
            (
                config.user.as_str(),
                config.env.len(),
                config.working_dir.as_str()
            ),
            ("a:b", 2, "/w")
        );
        assert_eq!(config.exposed_ports, ["80/tcp"]);
        assert_eq!(config.volumes, ["/v"]);
        let health = config.healthcheck.unwrap();
        assert_eq!(
            (health.interval, health.retries),
            (Duration::from_secs(30), 3)
        );
    }

    #[test]
    fn odd_fields_are_refused() {
        for bad in [
            r#"{"Env":["NOVALUE"]}"#,
            r#"{"Env":["=x"]}"#,
            r#"{"Env":[""]}"#,
            r#"{"Env":["A=\u0000"]}"#,
            r#"{"Env":"A=b"}"#,
            r#"{"WorkingDir":"relative"}"#,
            r#"{"WorkingDir":"/a/../.."}"#,
            r#"{"WorkingDir":"/a\u0000b"}"#,
            r#"{"WorkingDir":7}"#,
            r#"{"User":"a\u0000b"}"#,
            r#"{"User":0}"#,
            r#"{"Cmd":["\u0000"]}"#,
            r#"{"Volumes":{"../x":{}}}"#,
            r#"{"Healthcheck":{"Retries":-1}}"#,
            r#"{"Healthcheck":{"Interval":-1}}"#,
            r#"{"User":"a","User":"b"}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_document_without_layers_or_of_another_kind_is_refused() {
        for bad in [
            "",
            "{",
            "[]",
            "null",
            "{}",
            r#"{"rootfs":{"type":"other"}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["x"]}}"#,
        ] {
            assert!(
                ImageConfig::parse(bad.as_bytes()).is_err(),
                "{bad} was accepted"
            );
        }
    }
}
