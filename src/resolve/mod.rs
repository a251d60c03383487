//! From what was asked for, a policy and an image to a [`Plan`]. Nothing on the machine is changed here.
//!
//! To change what a sandbox is made of, open: `refine` (options over the policy), `identity` (users and id maps),
//! `accounts` (passwd and group), `environment`, `command`, `mounts`, `memory` (what the policy has there), `volumes`,
//! `host` (the image made of this machine), `shared` (the tier without namespaces), `limits`, `protection`.

mod accounts;
mod command;
mod environment;
pub mod host;
mod identity;
pub mod limits;
mod memory;
mod mounts;
mod protection;
mod refine;
pub mod shared;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Linux, LinuxNamespace, LinuxNamespaceType, Process, Root as SpecRoot, Spec, User as SpecUser,
};
use palisade_policies::landlock::PathRule;
use palisade_policies::{Flags, Handles, NetworkMode, Policy, RootMode, Tier};
use palisade_rootfs::{Image, ImageConfig, Users};
use palisade_runtime::{File, Plan, Root, Scratch, Upper};

use host::HostTree;
use identity::Identity;

use crate::caller::Caller;
use crate::failure::Failure;
use crate::request::{Request, Seccomp, signal};

pub use limits::hard_limits;
pub use refine::refine;
pub use volumes::{Span, Volume, Volumes};

/// What the command runs on.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// This machine's own programs.
    Host(&'a host::HostTree),
    /// An unpacked image.
    Image(&'a Image),
}

/// What is not in the request, the policy or the image.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The sandbox's id: 64 hexadecimal digits.
    pub id: &'a str,
    /// Where its writable layer goes, if that is on disk.
    pub directory: &'a Path,
    /// The data directory, which volumes lie below.
    pub data: &'a Path,
    /// Whether other commands can find the sandbox.
    pub recorded: bool,
}

/// A plan, and what the user is to know of it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The plan.
    pub plan: Plan,
    /// How ids are mapped: `single`, `range` or `host`.
    pub identity: &'static str,
    /// What is otherwise than one might think, one sentence each.
    pub notes: Vec<String>,
    /// Host directories to make first: missing sources of `-v`.
    pub create: Vec<PathBuf>,
    /// Volumes to make, fill and hold.
    pub volumes: Volumes,
}

/// The plan for a request under a policy (already refined) on a source.
///
/// # Errors
/// What cannot be done as asked, with the option that asked for it.
pub fn resolve(
    request: &Request,
    policy: &Policy,
    source: Source<'_>,
    caller: &Caller,
    place: Place<'_>,
) -> Result<Resolved, Failure> {
    let mut notes = Vec::new();
    let on_host = matches!(source, Source::Host(_));
    let nothing = ImageConfig::default();
    let host_users = host::users();
    let (config, users): (&ImageConfig, &Users) = match source {
        Source::Host(_) => (&nothing, &host_users),
        Source::Image(image) => {
            notes.extend(image.notes.iter().cloned());
            (&image.config, &image.users)
        }
    };
    let network_is_hosts = policy.network.mode == NetworkMode::Host;
    let hostname = request
        .hostname
        .clone()
        .unwrap_or_else(|| place.id.chars().take(12).collect());
    let identity = identity::resolve(request, config, users, caller, place.id, &mut notes)?;

    let mut files = Vec::new();
    let accounts = accounts::complete(users, &identity, on_host, &mut files);
    files.extend(host::names(&hostname, network_is_hosts));
    if on_host {
        files.extend(HostTree::files());
    }

    // What an image has for a volume is no option: it replaces no limit that options may only tighten.
    let kept = match policy.flags {
        Flags::TightenOnly => memory::tmpfs(policy, &accounts.home)
            .map(|(path, _)| path)
            .collect(),
        Flags::Refine => Vec::new(),
    };
    let volumes = Volumes::of(request, config, users, &identity, place, &kept)?;
    let places = mounts::resolve(&mounts::Inputs {
        request,
        policy,
        config,
        identity: &identity,
        home: &accounts.home,
        volumes: &volumes,
        host: match source {
            Source::Host(tree) => Some(tree),
            Source::Image(_) => None,
        },
    })?;
    let args = command::resolve(request, config, on_host)?;
    let cwd = command::working_directory(request, config)?;
    let env = environment::resolve(&environment::Inputs {
        request,
        policy,
        config,
        caller,
        hostname: &hostname,
        home: &accounts.home,
    });
    let process = process(request, policy, caller, &identity, &args, env, cwd)?;

    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(identity.namespace(), network_is_hosts)))
        .set_uid_mappings(Some(identity.uid_map.clone()).filter(|map| !map.is_empty()))
        .set_gid_mappings(Some(identity.gid_map.clone()).filter(|map| !map.is_empty()))
        .set_devices(Some(mounts::default_devices()))
        .set_masked_paths(Some(mounts::texts(&policy.masked_paths(&accounts.home))))
        .set_readonly_paths(Some(policy.filesystem.readonly_paths.clone()))
        .set_resources(limits::resources(request, policy)?);

    let read_only = policy.filesystem.root == RootMode::ReadOnly;
    let mut root = SpecRoot::default();
    root.set_path("rootfs".into()).set_readonly(Some(read_only));
    let mut spec = Spec::default();
    spec.set_version("1.2.0".to_owned())
        .set_root(Some(root))
        .set_process(Some(process))
        .set_hostname(Some(hostname))
        .set_domainname(request.domainname.clone())
        .set_mounts(Some(places.list))
        .set_linux(Some(linux))
        .set_annotations(Some(annotations(request, policy)));

    let landlock = (!request.protection.without_landlock)
        .then(|| protection::landlock(policy, &accounts.home, places.rules));
    protection::warn(request, &mut notes);
    Ok(Resolved {
        identity: identity.mode.word(),
        notes,
        create: places.create,
        volumes,
        plan: plan(
            request,
            policy,
            config,
            args,
            Frame {
                tier: tier(&spec, policy),
                id: place.id,
                spec,
                root: root_of(source, request, policy, place),
                files,
                landlock,
            },
        )?,
    })
}

/// What a command runs in: a sandbox, or its caller's own namespaces.
struct Frame<'a> {
    tier: Tier,
    id: &'a str,
    spec: Spec,
    root: Root,
    files: Vec<File>,
    landlock: Option<Vec<PathRule>>,
}

/// The plan for a command in a frame.
fn plan(
    request: &Request,
    policy: &Policy,
    config: &ImageConfig,
    args: Vec<OsString>,
    frame: Frame<'_>,
) -> Result<Plan, Failure> {
    // Without namespaces Landlock is the first wall, not the second.
    let alone = frame.tier == Tier::NoNamespace;
    Ok(Plan {
        tier: frame.tier,
        id: frame.id.to_owned(),
        spec: frame.spec,
        root: frame.root,
        files: frame.files,
        landlock: frame.landlock,
        landlock_complete: alone || policy.filesystem.landlock_handles == Handles::All,
        seccomp: protection::seccomp(request, policy, alone)?,
        args: args
            .iter()
            .any(|arg| arg.to_str().is_none())
            .then_some(args),
        custom_seccomp: matches!(request.protection.seccomp, Seccomp::File(_)),
        watch_denials: request.receipt.is_asked_for() || request.explain,
        interactive: request.interactive,
        timeout: policy.timeout,
        output_limit: policy.output_cap,
        stop_signal: stop_signal(request, config)?,
        stop_timeout: policy.stop_timeout,
        joinable: false,
        best_effort: request.protection.best_effort,
    })
}

fn process(
    request: &Request,
    policy: &Policy,
    caller: &Caller,
    identity: &Identity,
    args: &[OsString],
    env: Vec<String>,
    cwd: PathBuf,
) -> Result<Process, Failure> {
    let mut user = SpecUser::default();
    user.set_uid(identity.uid).set_gid(identity.gid);
    user.set_additional_gids((!identity.groups.is_empty()).then(|| identity.groups.clone()));
    let mut process = Process::default();
    process
        .set_terminal(Some(request.tty))
        .set_user(user)
        .set_args(Some(
            args.iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect::<Vec<_>>(),
        ))
        .set_env(Some(env))
        .set_cwd(cwd)
        .set_capabilities(Some(protection::capabilities(policy)?))
        .set_rlimits(Some(limits::rlimits(request, policy, caller)?))
        .set_no_new_privileges(Some(true));
    Ok(process)
}

/// Every namespace but those that are the host's on request.
fn namespaces(user: bool, network_is_hosts: bool) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    [User, Mount, Pid, Ipc, Uts, Cgroup, Network]
        .into_iter()
        .filter(|kind| (*kind != User || user) && (*kind != Network || !network_is_hosts))
        .map(|kind| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind);
            namespace
        })
        .collect()
}

fn root_of(source: Source<'_>, request: &Request, policy: &Policy, place: Place<'_>) -> Root {
    let scratch = Scratch {
        size: refine::layer(request, policy),
        inodes: policy.filesystem.scratch_inodes,
    };
    match source {
        Source::Host(tree) => Root::Tmpfs {
            scratch,
            links: tree.links.clone(),
        },
        Source::Image(image) => Root::Overlay {
            lower: image
                .layers
                .iter()
                .rev()
                .map(|layer| layer.path.clone())
                .collect(),
            upper: match policy.filesystem.root {
                RootMode::ReadOnly | RootMode::InMemory => Upper::Tmpfs(scratch),
                RootMode::Writable => Upper::Directory(place.directory.to_owned()),
            },
        },
    }
}

/// A control group is made where something is limited, or where it is required.
fn tier(spec: &Spec, policy: &Policy) -> Tier {
    let linux = spec.linux().as_ref();
    let limited = linux.is_some_and(|linux| linux.resources().is_some());
    if limited || policy.minimum_tier == Tier::Full {
        Tier::Full
    } else {
        Tier::NoCgroup
    }
}

/// `--stop-signal`, else the image's, else SIGTERM.
fn stop_signal(request: &Request, config: &ImageConfig) -> Result<i32, Failure> {
    const SIGTERM: i32 = 15;
    match (request.stop_signal, config.stop_signal.as_deref()) {
        (Some(number), _) => Ok(number),
        (None, Some(name)) => signal(name).ok_or_else(|| {
            Failure::new(
                format!("the image's StopSignal `{name}` is no signal"),
                "--stop-signal TERM",
            )
        }),
        (None, None) => Ok(SIGTERM),
    }
}

/// What later commands and tools find a sandbox by. Labels keep a prefix, so that none can pass for another annotation.
fn annotations(request: &Request, policy: &Policy) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = request.annotations.iter().cloned().collect();
    all.extend(
        request
            .labels
            .iter()
            .map(|(name, value)| (format!("io.palisade.label.{name}"), value.clone())),
    );
    all.insert("io.palisade.image".to_owned(), request.image_name.clone());
    all.insert("io.palisade.policy".to_owned(), policy.name.clone());
    if let Some(name) = &request.name {
        all.insert("io.palisade.name".to_owned(), name.clone());
    }
    all
}

/// A text file of the root.
fn file(path: &str, contents: impl Into<Vec<u8>>) -> File {
    File {
        path: path.into(),
        contents: contents.into(),
        mode: 0o644,
    }
}
