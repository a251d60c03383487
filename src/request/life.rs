//! What concerns a sandbox that lives on: detaching, restarts, time to live, logs, health.

use std::ffi::OsString;
use std::time::Duration;

use palisade_shim::monitor::LEAVE;
use palisade_shim::state::{LogOptions, Restart};

use super::{each, optional, text};
use crate::cli::run::RunArguments;
use crate::failure::Failure;

/// docker's `max-buffer-size`, in bytes.
const LOG_BUFFER: u64 = 1 << 20;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// `-d`.
    pub detach: bool,
    /// `--restart`.
    pub restart: Restart,
    /// `--ttl`.
    pub ttl: Option<Duration>,
    /// `--queue`.
    pub queue: Option<String>,
    /// `--replace`.
    pub replace: bool,
    /// `--detach-keys`, where there is a terminal to type them at.
    pub detach_keys: Option<Vec<u8>>,
    /// `--log-driver` and `--log-opt`.
    pub log: LogOptions,
    /// `--health-…`.
    pub health: Health,
}

/// What of the health check was given; the rest is the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `--no-healthcheck`.
    pub none: bool,
    /// `--health-cmd`.
    pub line: Option<String>,
    /// `--health-interval`.
    pub interval: Option<Duration>,
    /// `--health-timeout`.
    pub timeout: Option<Duration>,
    /// `--health-retries`.
    pub retries: Option<u32>,
    /// `--health-start-period`.
    pub start_period: Option<Duration>,
    /// `--health-start-interval`.
    pub start_interval: Option<Duration>,
}

/// Understands all of it.
pub fn understand(typed: &mut RunArguments) -> Result<Life, Failure> {
    let restart = optional(typed.restart.take(), |v| {
        restart(&text::utf8("--restart", v)?)
    })?;
    let restart = restart.unwrap_or_default();
    if typed.remove && restart != Restart::No {
        return Err(Failure::new(
            "--rm removes the sandbox when it ends, and --restart starts it again then",
            "one of the two",
        ));
    }
    Ok(Life {
        detach: typed.detach,
        restart,
        queue: optional(typed.queue.take(), |v| text::sandbox_name("--queue", v))?,
        ttl: optional(typed.ttl.take(), |v| text::duration("--ttl", &v))?,
        replace: typed.replace,
        detach_keys: detach_keys(typed)?,
        log: log(typed.log_driver.take(), std::mem::take(&mut typed.log_opt))?,
        health: health(typed)?,
    })
}

/// `--detach-keys`, which makes a sandbox that can be left.
fn detach_keys(typed: &mut RunArguments) -> Result<Option<Vec<u8>>, Failure> {
    let keys = optional(typed.detach_keys.take(), |v| {
        text::detach_keys("--detach-keys", &v)
    })?;
    let at_a_terminal = typed.interactive && typed.tty && !typed.detach;
    Ok(keys
        .filter(|_| at_a_terminal)
        .map(|keys| keys.unwrap_or_else(|| LEAVE.to_vec())))
}

/// `--restart`.
pub fn restart(typed: &str) -> Result<Restart, Failure> {
    let odd = || {
        Failure::new(
            format!("--restart {typed} is no restart policy"),
            "--restart no, on-failure, on-failure:5, always or unless-stopped",
        )
    };
    Ok(match typed {
        "no" | "" => Restart::No,
        "always" => Restart::Always,
        "unless-stopped" => Restart::UnlessStopped,
        "on-failure" => Restart::OnFailure(0),
        _ => {
            let count = typed.strip_prefix("on-failure:").ok_or_else(odd)?;
            Restart::OnFailure(count.parse().map_err(|_| odd())?)
        }
    })
}

fn log(driver: Option<OsString>, options: Vec<OsString>) -> Result<LogOptions, Failure> {
    let mut log = LogOptions::default();
    if let Some(driver) = driver {
        match driver.to_str() {
            Some("local" | "json-file") => {}
            Some("none") => log.keep = false,
            _ => {
                return Err(Failure::new(
                    format!("--log-driver {} does not exist here", driver.display()),
                    "--log-driver local or json-file, which palisade logs reads, or none; palisade logs -f in a pipe for others",
                ));
            }
        }
    }
    let mut mode = None;
    let mut buffer = None;
    for (name, value) in each(options, |v| text::pair("--log-opt", v))? {
        let odd = |example: &str| {
            Failure::new(
                format!("--log-opt {name}={value} makes no sense"),
                format!("--log-opt {name}={example}"),
            )
        };
        match name.as_str() {
            "max-size" => {
                let size = palisade_policies::parse_size(&value).ok_or_else(|| odd("10m"))?;
                if size < 4096 {
                    return Err(odd("4k, or more"));
                }
                log.max_size = size;
            }
            "max-file" => {
                let count = value
                    .parse()
                    .ok()
                    .filter(|count| (1..=1000).contains(count));
                log.max_file = count.ok_or_else(|| odd("3"))?;
            }
            "mode" => match value.as_str() {
                "blocking" | "non-blocking" => mode = Some(value == "non-blocking"),
                _ => return Err(odd("blocking, or non-blocking")),
            },
            "max-buffer-size" => {
                let size = palisade_policies::parse_size(&value).filter(|size| *size > 0);
                buffer = Some(size.ok_or_else(|| odd("1m"))?);
            }
            _ => {
                return Err(Failure::new(
                    format!("there is no --log-opt {name}"),
                    "max-size=10m, max-file=3, mode=blocking or non-blocking, max-buffer-size=1m",
                ));
            }
        }
    }
    match (mode, buffer) {
        (Some(true), size) => log.buffer = Some(size.unwrap_or(LOG_BUFFER)),
        (_, Some(_)) => {
            return Err(Failure::new(
                "--log-opt max-buffer-size: nothing is buffered where the command waits for its log",
                "--log-opt mode=non-blocking with it",
            ));
        }
        _ => {}
    }
    Ok(log)
}

fn health(typed: &mut RunArguments) -> Result<Health, Failure> {
    let time = |option, typed: &mut Option<OsString>| {
        optional(typed.take(), |v| text::duration(option, &v))
    };
    let health = Health {
        none: typed.no_healthcheck,
        line: optional(typed.health_cmd.take(), |v| text::utf8("--health-cmd", v))?,
        interval: time("--health-interval", &mut typed.health_interval)?,
        timeout: time("--health-timeout", &mut typed.health_timeout)?,
        retries: optional(typed.health_retries.take(), |v| {
            let typed = text::utf8("--health-retries", v)?;
            let count = typed.parse().ok().filter(|count| *count > 0);
            count.ok_or_else(|| {
                Failure::new(
                    format!("--health-retries {typed} is not a number above nothing"),
                    "--health-retries 3",
                )
            })
        })?,
        start_period: optional(typed.health_start_period.take(), |v| {
            text::span("--health-start-period", &v)
        })?,
        start_interval: time("--health-start-interval", &mut typed.health_start_interval)?,
    };
    let nothing = Health {
        none: true,
        ..Health::default()
    };
    if health.none && health != nothing {
        return Err(Failure::new(
            "--no-healthcheck checks nothing, and another --health option says how",
            "one of the two",
        ));
    }
    Ok(health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies_are_dockers() {
        assert_eq!(restart("no").unwrap(), Restart::No);
        assert_eq!(restart("on-failure").unwrap(), Restart::OnFailure(0));
        assert_eq!(restart("on-failure:7").unwrap(), Restart::OnFailure(7));
        assert_eq!(restart("unless-stopped").unwrap(), Restart::UnlessStopped);
        for odd in [
            "On-Failure",
            "on-failure:",
            "on-failure:-1",
            "always:3",
            "never",
        ] {
            assert!(restart(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn log_options_bound_the_space_and_nothing_else_is_taken() {
        let of = |options: &[&str]| log(None, options.iter().map(OsString::from).collect());
        let log = of(&["max-size=1m", "max-file=2"]).unwrap();
        assert_eq!((log.max_size, log.max_file), (1 << 20, 2));
        let log = of(&["mode=non-blocking", "max-buffer-size=4m"]).unwrap();
        assert_eq!(log.buffer, Some(4 << 20));
        assert_eq!(of(&["mode=non-blocking"]).unwrap().buffer, Some(1 << 20));
        assert_eq!(of(&["mode=blocking"]).unwrap().buffer, None);
        for odd in [
            "max-buffer-size=1m",
            "max-size=1",
            "max-size=x",
            "max-file=0",
            "max-file=x",
            "mode=x",
            "=1",
        ] {
            assert!(of(&[odd]).is_err(), "{odd}");
        }
    }
}
