//! What was asked for: the arguments of `palisade run`, understood and checked, with everything on the caller's side
//! (relative paths, variables, files of variables) already looked up. The rest of the program sees this alone.

pub mod environment;
mod life;
mod limits;
mod mounts;
mod protection;
mod receipt;
pub mod text;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use palisade_policies::{NetworkMode, RootMode};
use palisade_rootfs::{Platform, Reference};

pub use environment::LANDLOCK_ENABLED;
pub use life::Life;
pub use life::restart;
pub use limits::{Limits, Pids, Swap, Typed as TypedLimits, understand as limits};
pub use mounts::{Bind, Mount, Tmpfs, sandbox_path};
pub use protection::{Protection, Seccomp};
pub use receipt::Receipt;
pub use text::{detach_keys, sandbox_name, signal, stop_timeout};

use crate::caller::Caller;
use crate::cli::run::RunArguments;
use crate::failure::Failure;
use crate::registry::pull::When;

/// A run as it was asked for.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a switch of the command line.
pub struct Request {
    /// The image.
    pub image: Reference,
    /// The image as typed.
    pub image_name: String,
    /// Which of its platforms.
    pub platform: Platform,
    /// When it is fetched from its registry.
    pub pull: When,
    /// What stands after the image.
    pub command: Vec<OsString>,
    /// `--entrypoint`: none for the image's, an empty text for none at all.
    pub entrypoint: Option<String>,
    /// `--env-file` and `-e`, in that order, as `(name, value)`.
    pub environment: Vec<(String, String)>,
    /// `--workdir`.
    pub workdir: Option<PathBuf>,
    /// `-i`.
    pub interactive: bool,
    /// `-t`.
    pub tty: bool,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--stop-signal`.
    pub stop_signal: Option<i32>,
    /// `--stop-timeout`.
    pub stop_timeout: Option<Duration>,
    /// `-v`, `--mount`, `--tmpfs` and `--device`, in the order given.
    pub mounts: Vec<Mount>,
    /// `--read-only`.
    pub root_mode: Option<RootMode>,
    /// `--rm`.
    pub remove: bool,
    /// `--user`.
    pub user: Option<String>,
    /// `--group-add`.
    pub groups: Vec<String>,
    /// `--userns`.
    pub userns: Userns,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `--policy`.
    pub policy: String,
    /// `--network`.
    pub network: Option<NetworkMode>,
    /// What loosens or tightens the policy's protections.
    pub protection: Protection,
    /// Limits.
    pub limits: Limits,
    /// `--name`.
    pub name: Option<String>,
    /// `--label`, as `(name, value)`.
    pub labels: Vec<(String, String)>,
    /// `--annotation`.
    pub annotations: Vec<(String, String)>,
    /// `--cidfile`.
    pub cidfile: Option<PathBuf>,
    /// `--receipt` and what belongs to it.
    pub receipt: Receipt,
    /// `--explain`.
    pub explain: bool,
    /// What concerns a sandbox that lives on.
    pub life: Life,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--quiet`.
    pub quiet: bool,
}

/// How user ids are mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Userns {
    /// The cheapest way that gives what is needed.
    #[default]
    Auto,
    /// One id: the caller's.
    Single,
    /// 0 to 65535.
    Range,
    /// No user namespace.
    Host,
}

impl Request {
    /// Understands what was typed.
    ///
    /// # Errors
    /// The first option whose value cannot be understood, with its name, what was expected, and an example.
    pub fn new(mut arguments: RunArguments, caller: &Caller) -> Result<Self, Failure> {
        let life = life::understand(&mut arguments)?;
        let image_name = text::utf8("the image's name", arguments.image)?;
        let image = Reference::parse(&image_name).map_err(|error| {
            Failure::new(
                error.to_string(),
                "host, oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE or dir:PATH",
            )
        })?;
        let pull = when_to_pull(arguments.pull)?;
        let platform = match arguments.platform {
            None => Platform::host(),
            Some(typed) => Platform::parse(&text::utf8("--platform", typed)?)
                .map_err(|error| Failure::new(error.to_string(), "--platform linux/amd64"))?,
        };
        Ok(Self {
            image,
            image_name,
            platform,
            pull,
            command: arguments.command,
            entrypoint: optional(arguments.entrypoint, |v| text::utf8("--entrypoint", v))?,
            environment: environment::collect(arguments.env_file, arguments.env, caller)?,
            workdir: optional(arguments.workdir, |v| sandbox_path("--workdir", &v))?,
            interactive: arguments.interactive,
            tty: arguments.tty,
            timeout: optional(arguments.timeout, |v| text::duration("--timeout", &v))?,
            stop_signal: optional(arguments.stop_signal, |v| {
                let typed = text::utf8("--stop-signal", v)?;
                signal(&typed).ok_or_else(|| {
                    Failure::new(
                        format!("--stop-signal {typed} is no signal"),
                        "--stop-signal INT, or a number from 1 to 64",
                    )
                })
            })?,
            stop_timeout: optional(arguments.stop_timeout, |v| {
                text::stop_timeout("--stop-timeout", &v)
            })?,
            mounts: mounts::understand(arguments.mounts, arguments.device, caller)?,
            root_mode: root_mode(arguments.read_only, arguments.storage_opt.is_some())?,
            remove: arguments.remove,
            user: optional(arguments.user, |v| text::utf8("--user", v))?
                .filter(|user| !user.is_empty()),
            groups: each(arguments.group_add, |v| text::utf8("--group-add", v))?,
            userns: optional(arguments.userns, |v| userns(&v))?.unwrap_or_default(),
            hostname: optional(arguments.hostname, |v| text::host_name("--hostname", v))?,
            domainname: optional(arguments.domainname, |v| text::host_name("--domainname", v))?,
            policy: optional(arguments.policy, |v| text::utf8("--policy", v))?
                .unwrap_or_else(|| "default".to_owned()),
            network: optional(arguments.network, |v| network(&v))?,
            protection: protection::understand(
                arguments.cap_add,
                arguments.cap_drop,
                arguments.security_opt,
                arguments.best_effort,
                arguments.require,
                caller,
            )?,
            limits: limits::understand(limits::Typed {
                memory: arguments.memory,
                memory_swap: arguments.memory_swap,
                memory_reservation: arguments.memory_reservation,
                cpus: arguments.cpus,
                cpu_shares: arguments.cpu_shares,
                cpu_period: arguments.cpu_period,
                cpu_quota: arguments.cpu_quota,
                cpuset_cpus: arguments.cpuset_cpus,
                cpuset_mems: arguments.cpuset_mems,
                pids: arguments.pids_limit,
                shm: arguments.shm_size,
                layer: arguments.storage_opt,
                output: arguments.output_limit,
                ulimits: arguments.ulimit,
            })?,
            name: optional(arguments.name, |v| text::sandbox_name("--name", v))?,
            labels: each(arguments.label, |v| text::pair("--label", v))?,
            annotations: each(arguments.annotation, |v| text::pair("--annotation", v))?,
            cidfile: arguments.cidfile.map(|path| caller.absolute(path.as_ref())),
            receipt: Receipt::understand(
                arguments.receipt,
                arguments.receipt_log,
                arguments.receipt_key,
                arguments.receipt_output,
                caller,
            )?,
            explain: arguments.explain,
            life,
            dry_run: arguments.dry_run,
            root: arguments.root.map(|path| caller.absolute(path.as_ref())),
            quiet: arguments.quiet,
        })
    }
}

impl Request {
    /// Whether other commands shall be able to find the sandbox, whatever it runs on. A plain run in the foreground leaves no
    /// trace, and starts without writing one.
    pub fn has_record(&self) -> bool {
        let stays = self.life.detach || self.life.detach_keys.is_some();
        // Whoever ends it when its time is over finds it by its record.
        let looked_for = self.name.is_some() || self.cidfile.is_some() || self.life.ttl.is_some();
        stays || looked_for || !self.labels.is_empty()
    }
}

fn optional<T>(
    typed: Option<OsString>,
    read: impl FnOnce(OsString) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    typed.map(read).transpose()
}

fn each<T>(
    typed: Vec<OsString>,
    read: impl FnMut(OsString) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    typed.into_iter().map(read).collect()
}

fn userns(typed: &OsString) -> Result<Userns, Failure> {
    Ok(match typed.to_str() {
        Some("auto") => Userns::Auto,
        Some("single") => Userns::Single,
        Some("range") => Userns::Range,
        Some("host") => Userns::Host,
        _ => {
            return Err(Failure::new(
                format!("--userns {} is not a way to map user ids", typed.display()),
                "--userns auto, single, range or host",
            ));
        }
    })
}

/// `--read-only` and `--storage-opt`, of which the second is about what is not read-only.
fn root_mode(read_only: Option<bool>, sized: bool) -> Result<Option<RootMode>, Failure> {
    match (read_only, sized) {
        (Some(true), true) => Err(Failure::new(
            "--storage-opt is about a writable layer, and --read-only lets none be written",
            "one of the two",
        )),
        (_, true) => Ok(Some(RootMode::InMemory)),
        (Some(true), false) => Ok(Some(RootMode::ReadOnly)),
        (Some(false), false) => Ok(Some(RootMode::Writable)),
        (None, false) => Ok(None),
    }
}

fn network(typed: &OsString) -> Result<NetworkMode, Failure> {
    let word = typed.to_string_lossy();
    NetworkMode::from_word(&word).ok_or_else(|| {
        Failure::new(
            format!("--network {word} does not exist here"),
            "--network none (loopback alone) or --network host (the host's network)",
        )
    })
}
/// `--pull`.
fn when_to_pull(typed: Option<OsString>) -> Result<When, Failure> {
    let Some(typed) = typed else {
        return Ok(When::default());
    };
    let typed = text::utf8("--pull", typed)?;
    When::parse(&typed).ok_or_else(|| {
        Failure::new(
            format!("--pull `{typed}` is not a time to fetch an image"),
            "--pull missing, always, never or newer",
        )
    })
}
