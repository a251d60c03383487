//! The options of `palisade run`, as typed.

use std::ffi::OsString;

use super::options::{self, Opt};
use crate::failure::Failure;

/// What stands on the line after `palisade run`, before anything of it is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, clippy::struct_excessive_bools)] // Each field is the option of the same name in OPTIONS, which says what it is.
pub struct RunArguments {
    pub annotation: Vec<OsString>,
    pub best_effort: bool,
    pub cap_add: Vec<OsString>,
    pub cap_drop: Vec<OsString>,
    pub cidfile: Option<OsString>,
    pub cpu_period: Option<OsString>,
    pub cpu_quota: Option<OsString>,
    pub cpu_shares: Option<OsString>,
    pub cpus: Option<OsString>,
    pub cpuset_cpus: Option<OsString>,
    pub cpuset_mems: Option<OsString>,
    pub detach: bool,
    pub detach_keys: Option<OsString>,
    pub device: Vec<OsString>,
    pub domainname: Option<OsString>,
    pub dry_run: bool,
    pub entrypoint: Option<OsString>,
    pub env: Vec<OsString>,
    pub env_file: Vec<OsString>,
    pub group_add: Vec<OsString>,
    pub health_cmd: Option<OsString>,
    pub health_interval: Option<OsString>,
    pub health_retries: Option<OsString>,
    pub health_start_interval: Option<OsString>,
    pub health_start_period: Option<OsString>,
    pub health_timeout: Option<OsString>,
    pub help: bool,
    pub hostname: Option<OsString>,
    pub init: bool,
    pub interactive: bool,
    pub label: Vec<OsString>,
    pub log_driver: Option<OsString>,
    pub log_opt: Vec<OsString>,
    pub memory: Option<OsString>,
    pub memory_reservation: Option<OsString>,
    pub memory_swap: Option<OsString>,
    pub mounts: Vec<MountArgument>,
    pub name: Option<OsString>,
    pub network: Option<OsString>,
    pub no_healthcheck: bool,
    pub pids_limit: Option<OsString>,
    pub output_limit: Option<OsString>,
    pub platform: Option<OsString>,
    pub pull: Option<OsString>,
    pub policy: Option<OsString>,
    pub quiet: bool,
    pub read_only: Option<bool>,
    pub storage_opt: Option<OsString>,
    pub explain: bool,
    pub receipt: Option<OsString>,
    pub receipt_key: Option<OsString>,
    pub receipt_log: Option<OsString>,
    pub receipt_output: bool,
    pub remove: bool,
    pub replace: bool,
    pub restart: Option<OsString>,
    pub require: Option<OsString>,
    pub root: Option<OsString>,
    pub security_opt: Vec<OsString>,
    pub shm_size: Option<OsString>,
    pub stop_signal: Option<OsString>,
    pub stop_timeout: Option<OsString>,
    pub timeout: Option<OsString>,
    pub ttl: Option<OsString>,
    pub queue: Option<OsString>,
    pub tty: bool,
    pub ulimit: Vec<OsString>,
    pub user: Option<OsString>,
    pub userns: Option<OsString>,
    pub workdir: Option<OsString>,
    /// The image.
    pub image: OsString,
    /// Everything after it.
    pub command: Vec<OsString>,
}

/// `-v`, `--mount` and `--tmpfs` in the order given, which is the order they are mounted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountArgument {
    /// `-v SRC:DST[:MODE]`.
    Volume(OsString),
    /// `--mount type=…,…`.
    Mount(OsString),
    /// `--tmpfs DST[:OPTIONS]`.
    Tmpfs(OsString),
}

type Run = Opt<RunArguments>;

const COMMAND: &str = "Command";
const FILES: &str = "Files";
const IDENTITY: &str = "Identity";
const LIMITS: &str = "Limits";
const PROTECTION: &str = "Protection";
const LIFE: &str = "Detached sandboxes";
const RECORDS: &str = "Names and records";

/// Every option, in the order of the help.
#[rustfmt::skip]
pub static OPTIONS: &[Opt<RunArguments>] = &[
    Run::value("env", "NAME[=VALUE]", "Set an environment variable; NAME alone takes the caller's value", |a, v| a.env.push(v)).short('e').under(COMMAND),
    Run::value("env-file", "FILE", "Read environment variables from a file, one NAME=VALUE a line", |a, v| a.env_file.push(v)).under(COMMAND),
    Run::value("workdir", "DIR", "Working directory inside the sandbox", |a, v| a.workdir = Some(v)).short('w').under(COMMAND),
    Run::value("entrypoint", "PROGRAM", "Replace the image's entrypoint; empty for none", |a, v| a.entrypoint = Some(v)).under(COMMAND),
    Run::switch("interactive", "Connect standard input", |a, v| a.interactive = v).short('i').under(COMMAND),
    Run::switch("tty", "Give the command a terminal of its own", |a, v| a.tty = v).short('t').under(COMMAND),
    Run::switch("init", "Accepted for docker's sake: a sandbox always has an init that reaps", |a, v| a.init = v).under(COMMAND),
    Run::value("timeout", "DURATION", "Stop the command after this time, with exit code 124 (90s, 10m, 1h30m)", |a, v| a.timeout = Some(v)).under(COMMAND),
    Run::value("stop-signal", "SIGNAL", "Signal that asks the command to stop [default: the image's, else TERM]", |a, v| a.stop_signal = Some(v)).under(COMMAND),
    Run::value("stop-timeout", "SECONDS", "Time between the stop signal and SIGKILL [default: the policy's]", |a, v| a.stop_timeout = Some(v)).under(COMMAND),

    Run::value("volume", "SRC:DST[:ro|rw]", "Show a host directory or file (absolute, or beginning with ./ or ../) or a named volume inside", |a, v| a.mounts.push(MountArgument::Volume(v))).short('v').under(FILES),
    Run::value("mount", "type=bind|volume|tmpfs,...", "The same in long form: type=bind,src=PATH,dst=PATH[,ro], type=volume,src=NAME,dst=PATH or type=tmpfs,dst=PATH[,tmpfs-size=SIZE]", |a, v| a.mounts.push(MountArgument::Mount(v))).under(FILES),
    Run::value("tmpfs", "DST[:OPTIONS]", "Mount an empty file system in memory (options: size=, mode=, nr_inodes=, exec, noexec, ro)", |a, v| a.mounts.push(MountArgument::Tmpfs(v))).under(FILES),
    Run::value("storage-opt", "size=SIZE", "Keep what the command changes in the image in memory, with at most this size", |a, v| a.storage_opt = Some(v)).under(FILES),
    Run::switch("read-only", "Make the image's files read-only, or writable with =false [default: the policy's]", |a, v| a.read_only = Some(v)).under(FILES),
    Run::value("device", "HOST[:DST[:rwm]]", "Show a host device inside", |a, v| a.device.push(v)).under(FILES),
    Run::value("shm-size", "SIZE", "Size of /dev/shm [default: the policy's]", |a, v| a.shm_size = Some(v)).under(FILES),
    Run::switch("rm", "Remove the sandbox with its writable layer when it ends", |a, v| a.remove = v).under(FILES),

    Run::value("user", "USER[:GROUP]", "Run as this user of the image, by name or number [default: the image's unless that is root, else 1000:1000]", |a, v| a.user = Some(v)).short('u').under(IDENTITY),
    Run::value("group-add", "GROUP", "Join another group of the image, by name or number", |a, v| a.group_add.push(v)).under(IDENTITY),
    Run::value("userns", "MODE", "How user ids are mapped: auto, single (one id, no helper), range (newuidmap), host (dangerous)", |a, v| a.userns = Some(v)).choices(&["auto", "single", "range", "host"]).under(IDENTITY),
    Run::value("hostname", "NAME", "Host name inside [default: the first 12 digits of the sandbox's id]", |a, v| a.hostname = Some(v)).short('h').under(IDENTITY),
    Run::value("domainname", "NAME", "NIS domain name inside", |a, v| a.domainname = Some(v)).under(IDENTITY),

    Run::value("policy", "NAME|FILE", "What is allowed: strict, default, compat, task, or a TOML file", |a, v| a.policy = Some(v)).choices(&["strict", "default", "compat", "task"]).under(PROTECTION),
    Run::value("network", "MODE", "none (loopback alone) or host [default: the policy's]", |a, v| a.network = Some(v)).choices(&["none", "host"]).under(PROTECTION),
    Run::value("net", "MODE", "The same as --network", |a, v| a.network = Some(v)).choices(&["none", "host"]).under(PROTECTION),
    Run::value("cap-add", "CAP", "Keep a capability (in the sandbox's user namespace alone)", |a, v| a.cap_add.push(v)).under(PROTECTION),
    Run::value("cap-drop", "CAP", "Drop a capability that the policy keeps; none is kept by the built-in ones", |a, v| a.cap_drop.push(v)).under(PROTECTION),
    Run::value("security-opt", "OPTION", "no-new-privileges[:true], seccomp=FILE, seccomp=unconfined, or landlock=unconfined", |a, v| a.security_opt.push(v)).under(PROTECTION),
    Run::value("require", "TIER", "Run with at least this: full, no-cgroup or no-namespace [default: the policy's minimum-tier]", |a, v| a.require = Some(v)).choices(&["full", "no-cgroup", "no-namespace"]).under(PROTECTION),
    Run::switch("best-effort", "Warn about a protection that cannot be had instead of stopping", |a, v| a.best_effort = v).under(PROTECTION),

    Run::value("memory", "SIZE", "Memory, as 512m or 2g", |a, v| a.memory = Some(v)).short('m').under(LIMITS),
    Run::value("memory-swap", "SIZE", "Memory and swap together; -1 for unlimited swap", |a, v| a.memory_swap = Some(v)).under(LIMITS),
    Run::value("memory-reservation", "SIZE", "Memory that is reclaimed last", |a, v| a.memory_reservation = Some(v)).under(LIMITS),
    Run::value("cpus", "NUMBER", "Processors' worth of time, as 1.5", |a, v| a.cpus = Some(v)).under(LIMITS),
    Run::value("cpu-shares", "WEIGHT", "Share of busy processors, against 1024", |a, v| a.cpu_shares = Some(v)).short('c').under(LIMITS),
    Run::value("cpu-period", "MICROSECONDS", "Period of --cpu-quota", |a, v| a.cpu_period = Some(v)).under(LIMITS),
    Run::value("cpu-quota", "MICROSECONDS", "Time in each period", |a, v| a.cpu_quota = Some(v)).under(LIMITS),
    Run::value("cpuset-cpus", "LIST", "Processors that may be used, as 0-3,6", |a, v| a.cpuset_cpus = Some(v)).under(LIMITS),
    Run::value("cpuset-mems", "LIST", "Memory nodes that may be used, as 0-1", |a, v| a.cpuset_mems = Some(v)).under(LIMITS),
    Run::value("pids-limit", "NUMBER", "Processes and threads; -1 for unlimited", |a, v| a.pids_limit = Some(v)).under(LIMITS),
    Run::value("output-limit", "SIZE", "Bytes on standard output and error together; more ends the command, with exit code 137", |a, v| a.output_limit = Some(v)).under(LIMITS),
    Run::value("ulimit", "NAME=SOFT[:HARD]", "Limit of each process (getrlimit(2)), as nofile=1024:4096", |a, v| a.ulimit.push(v)).under(LIMITS),

    Run::switch("detach", "Leave the sandbox running, watched by a small process of its own, and print its id", |a, v| a.detach = v).short('d').under(LIFE),
    Run::value("detach-keys", "KEYS", "With -it: leave the sandbox running when these keys are typed (ctrl-p,ctrl-q)", |a, v| a.detach_keys = Some(v)).under(LIFE),
    Run::value("restart", "POLICY", "Start the command again when it ends: no, on-failure[:N], always, unless-stopped", |a, v| a.restart = Some(v)).under(LIFE),
    Run::value("queue", "POOL", "Wait for a slot among the runs of this pool, in the order of arrival", |a, v| a.queue = Some(v)).under(LIFE),
    Run::value("ttl", "DURATION", "Stop and remove the sandbox after this time (1h30m)", |a, v| a.ttl = Some(v)).under(LIFE),
    Run::switch("replace", "Remove the sandbox that has the same --name first", |a, v| a.replace = v).under(LIFE),
    Run::value("log-driver", "DRIVER", "How output is kept: local (the default; json-file means the same), or none", |a, v| a.log_driver = Some(v)).under(LIFE),
    Run::value("log-opt", "NAME=VALUE", "max-size=10m (of one log file), max-file=3 (how many are kept), mode=non-blocking (output that finds no room is lost, the command never waits), max-buffer-size=1m (that room)", |a, v| a.log_opt.push(v)).under(LIFE),
    Run::value("health-cmd", "COMMAND", "Check the sandbox's health by this line of its shell [default: the image's check]", |a, v| a.health_cmd = Some(v)).under(LIFE),
    Run::value("health-interval", "DURATION", "Time from one check to the next [default: 30s]", |a, v| a.health_interval = Some(v)).under(LIFE),
    Run::value("health-timeout", "DURATION", "Time that a check may take [default: 30s]", |a, v| a.health_timeout = Some(v)).under(LIFE),
    Run::value("health-retries", "NUMBER", "Failures in a row that mean unhealthy [default: 3]", |a, v| a.health_retries = Some(v)).under(LIFE),
    Run::value("health-start-period", "DURATION", "Time in which failures do not count [default: 0s]", |a, v| a.health_start_period = Some(v)).under(LIFE),
    Run::value("health-start-interval", "DURATION", "Time between checks in the start period [default: 5s]", |a, v| a.health_start_interval = Some(v)).under(LIFE),
    Run::switch("no-healthcheck", "Check no health, whatever the image says", |a, v| a.no_healthcheck = v).under(LIFE),

    Run::value("name", "NAME", "Name of the sandbox", |a, v| a.name = Some(v)).under(RECORDS),
    Run::value("label", "NAME[=VALUE]", "Label of the sandbox", |a, v| a.label.push(v)).short('l').under(RECORDS),
    Run::value("annotation", "NAME=VALUE", "Annotation of the runtime configuration", |a, v| a.annotation.push(v)).under(RECORDS),
    Run::value("cidfile", "FILE", "Write the sandbox's id to a file that does not exist yet", |a, v| a.cidfile = Some(v)).under(RECORDS),
    Run::value("receipt", "FILE", "Write what ran, under which protections, and how it ended, as JSON; - for standard output", |a, v| a.receipt = Some(v)).under(RECORDS),
    Run::value("receipt-log", "FILE", "Append the receipt to a log in which each names the one before it by its digest", |a, v| a.receipt_log = Some(v)).under(RECORDS),
    Run::value("receipt-key", "FILE", "Sign the receipt with this Ed25519 key (palisade receipt keygen)", |a, v| a.receipt_key = Some(v)).under(RECORDS),
    Run::switch("explain", "Say at the end which system calls were refused, by which rule, and what would allow them", |a, v| a.explain = v).under(RECORDS),
    Run::switch("receipt-output", "Pass output through palisade, for its size and digest in the receipt", |a, v| a.receipt_output = v).under(RECORDS),
    Run::switch("dry-run", "Print what would be done and do nothing", |a, v| a.dry_run = v).under(RECORDS),
    Run::value("platform", "OS/ARCH[/VARIANT]", "Which of an image's platforms", |a, v| a.platform = Some(v)).under(RECORDS),
    Run::value("pull", "WHEN", "When to fetch the image from its registry: missing, always, never, newer", |a, v| a.pull = Some(v)).choices(&["missing", "always", "never", "newer"]).under(RECORDS),
    Run::value("root", "DIR", "Where images and layers are kept [default: $PALISADE_ROOT, else the user's data directory]", |a, v| a.root = Some(v)).under(RECORDS),
    Run::switch("quiet", "Print no notes", |a, v| a.quiet = v).short('q').under(RECORDS),
    Run::switch("sig-proxy", "Accepted for docker's sake: signals always reach the command", |_, _| ()).under(RECORDS),
    Run::switch("help", "Print this help", |a, v| a.help = v).under(RECORDS),
];

/// Parses what follows `palisade run`, or `palisade create`, which takes the same.
///
/// # Errors
/// Whatever [`options::parse`] refuses, and a missing image.
pub fn parse(
    verb: &str,
    args: impl IntoIterator<Item = OsString>,
) -> Result<RunArguments, Failure> {
    let mut arguments = RunArguments::default();
    let mut operands = options::parse(verb, OPTIONS, &mut arguments, args)?.into_iter();
    if arguments.help {
        return Ok(arguments);
    }
    let Some(image) = operands.next() else {
        return Err(Failure::new(
            format!("palisade {verb} needs an image"),
            format!("palisade {verb} host true, or palisade {verb} oci:DIR[:TAG] COMMAND"),
        ));
    };
    arguments.image = image;
    arguments.command = operands.collect();
    Ok(arguments)
}
