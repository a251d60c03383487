//! The command's environment: what is listed, and nothing of the caller's beside it.

use std::path::Path;

use palisade_policies::Policy;
use palisade_rootfs::ImageConfig;

use crate::caller::Caller;
use crate::request::{LANDLOCK_ENABLED, Request};

/// docker's PATH for images without one.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What it is made from.
pub struct Inputs<'a> {
    /// `-e` and `--env-file`.
    pub request: &'a Request,
    /// `[environment]`.
    pub policy: &'a Policy,
    /// `Env`.
    pub config: &'a ImageConfig,
    /// Whose variables may pass.
    pub caller: &'a Caller,
    /// `HOSTNAME`.
    pub hostname: &'a str,
    /// `HOME`.
    pub home: &'a Path,
}

/// `NAME=value` strings. The later source wins: defaults, the image, the caller's variables that the policy lets pass,
/// the policy's fixed ones, the command line.
pub fn resolve(inputs: &Inputs<'_>) -> Vec<String> {
    let Inputs {
        request,
        policy,
        config,
        caller,
        hostname,
        home,
    } = inputs;
    let mut env = Environment::default();
    env.set("PATH", PATH);
    env.set("HOSTNAME", hostname);
    if request.tty {
        env.set("TERM", "xterm");
    }
    env.set("HOME", &home.to_string_lossy());
    env.set("container", "palisade");
    for entry in &config.env {
        if let Some((name, value)) = entry.split_once('=') {
            env.set(name, value);
        }
    }
    for (name, value) in &caller.environment {
        // What is not UTF-8 has no place in a runtime configuration and does not pass.
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && policy.environment.passes(name)
        {
            env.set(name, value);
        }
    }
    for (name, value) in &policy.environment.set {
        env.set(name, value);
    }
    for (name, value) in &request.environment {
        env.set(name, value);
    }
    // What programs choose their own protection by is the truth: the launch corrects it where it goes on without.
    let landlock = !request.protection.without_landlock;
    env.set(LANDLOCK_ENABLED, if landlock { "1" } else { "0" });
    env.0
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some(entry) => value.clone_into(&mut entry.1),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}
