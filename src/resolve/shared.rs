//! The plan for tier no-namespace: on the caller's own root, as the caller, held by Landlock, seccomp and resource limits.
//!
//! There is no mount to show, hide or protect anything: what the command may open is a list of paths at which things lie on
//! this machine already. Whatever was asked for and cannot be had this way is refused.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process, Root as SpecRoot, Spec, User as SpecUser};
use palisade_policies::landlock::{Access, PathRule};
use palisade_policies::{NetworkMode, Policy, RootMode, Tier};
use palisade_rootfs::{ImageConfig, Ownership};
use palisade_runtime::Root;

use super::{
    Frame, Place, Resolved, Source, Volumes, annotations, command, environment, limits, plan,
    protection,
};
use crate::caller::Caller;
use crate::failure::{Failure, reason};
use crate::request::{Bind, Mount, Request, Seccomp, Userns};

/// Files of /etc that every user may read, and that programs look things up in.
const ETC: [&str; 8] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/protocols",
    "/etc/services",
    "/etc/shells",
];

/// What /proc tells of the machine. Of processes the command sees itself alone: see the launch.
const PROC: [&str; 8] = [
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys",
    "/proc/uptime",
    "/proc/version",
];

const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Where programs lie in a prepared root directory.
const PROGRAMS: [&str; 6] = [
    "usr/local/sbin",
    "usr/local/bin",
    "usr/sbin",
    "usr/bin",
    "sbin",
    "bin",
];

/// The plan for a request under a policy (already refined), where namespaces are refused by `refused`.
///
/// # Errors
/// What cannot be had without namespaces, with the option that asked for it.
pub fn resolve(
    request: &Request,
    policy: &Policy,
    source: Source<'_>,
    caller: &Caller,
    place: Place<'_>,
    refused: &str,
) -> Result<Resolved, Failure> {
    refuse(request, policy, caller)?;
    let nothing = ImageConfig::default();
    let tree = match source {
        Source::Host(_) => None,
        Source::Image(image) => image.layers.first().map(|layer| layer.path.as_path()),
    };
    let scratch = place.directory.join("upper");
    let home = scratch.join("home");
    let (mut rules, create) = rules(request, policy, source, &home)?;
    rules.push(PathRule {
        path: scratch.clone(),
        access: scratch_access(policy),
    });

    let mut args = command::resolve(request, &nothing, tree.is_none())?;
    let mut cwd = command::working_directory(request, &nothing)?;
    let mut env = environment::resolve(&environment::Inputs {
        request,
        policy,
        config: &nothing,
        caller,
        hostname: &host_name(),
        home: &home,
    });
    set(&mut env, "TMPDIR", &scratch.join("tmp"));
    set(&mut env, "XDG_RUNTIME_DIR", &scratch.join("run"));
    if let Some(tree) = tree {
        let path: Vec<String> = PROGRAMS
            .iter()
            .map(|directory| tree.join(directory).to_string_lossy().into_owned())
            .collect();
        set(&mut env, "PATH", Path::new(&path.join(":")));
        // What is inside of the directory is named as if it were the root, as everywhere else.
        if let Some(inside) = args
            .first()
            .and_then(|program| Path::new(program).strip_prefix("/").ok())
        {
            args[0] = tree.join(inside).into();
        }
        cwd = tree.join(cwd.strip_prefix("/").unwrap_or(&cwd));
    }

    let spec = spec(request, policy, caller, &args, env, cwd)?;
    Ok(Resolved {
        identity: "host",
        notes: vec![format!(
            "tier no-namespace, as namespaces are refused: {refused}. The command runs as user {} of this machine; it can open \
             nothing but what is listed, yet sees names, and can change modes and times of files that belong to that user",
            caller.uid
        )],
        create,
        volumes: no_volumes(caller, place),
        plan: plan(
            request,
            policy,
            &nothing,
            args,
            Frame {
                tier: Tier::NoNamespace,
                id: place.id,
                spec,
                root: Root::Callers { scratch },
                files: Vec::new(),
                landlock: Some(rules),
            },
        )?,
    })
}

/// The runtime configuration: a process and its limits, and nothing around it.
fn spec(
    request: &Request,
    policy: &Policy,
    caller: &Caller,
    args: &[OsString],
    env: Vec<String>,
    cwd: PathBuf,
) -> Result<Spec, Failure> {
    let text = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    let mut user = SpecUser::default();
    user.set_uid(caller.uid).set_gid(caller.gid);
    let mut process = Process::default();
    process
        .set_terminal(Some(false))
        .set_user(user)
        .set_args(Some(text.collect()))
        .set_env(Some(env))
        .set_cwd(cwd)
        .set_capabilities(Some(protection::capabilities(policy)?))
        .set_rlimits(Some(limits::rlimits(request, policy, caller)?))
        .set_no_new_privileges(Some(true));
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(Vec::new()))
        .set_devices(None)
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_resources(limits::resources(request, policy)?);
    let mut root = SpecRoot::default();
    root.set_path("/".into()).set_readonly(Some(true));
    let mut spec = Spec::default();
    spec.set_version("1.2.0".to_owned())
        .set_root(Some(root))
        .set_process(Some(process))
        .set_hostname(None)
        .set_mounts(None)
        .set_linux(Some(linux))
        .set_annotations(Some(annotations(request, policy)));
    Ok(spec)
}

/// Where nothing is mounted there are none.
fn no_volumes(caller: &Caller, place: Place<'_>) -> Volumes {
    Volumes {
        data: place.data.to_owned(),
        used: Vec::new(),
        ownership: Ownership::Caller,
        owner: (caller.uid, caller.gid),
        root_is_owner: false,
    }
}

/// A failure for what this tier cannot do.
fn cannot(what: &str, why: &str, remedy: &str) -> Failure {
    Failure::new(format!("{what}: tier no-namespace {why}"), remedy)
}

/// What was asked for and cannot be had.
fn refuse(request: &Request, policy: &Policy, caller: &Caller) -> Result<(), Failure> {
    let leave_out =
        |option: &str| format!("leave {option} out, or run palisade where namespaces are allowed");
    let asked = [
        (
            "--detach",
            request.life.detach,
            "stays with whoever started it, as no other command could find it",
        ),
        ("--tty", request.tty, "has no terminal of its own to give"),
        (
            "--hostname",
            request.hostname.is_some(),
            "has this machine's name",
        ),
        (
            "--domainname",
            request.domainname.is_some(),
            "has this machine's name",
        ),
        (
            "--group-add",
            !request.groups.is_empty(),
            "has the caller's groups and no others",
        ),
        (
            "--shm-size",
            request.limits.shm.is_some(),
            "has no /dev/shm",
        ),
        (
            "--userns",
            !matches!(request.userns, Userns::Auto | Userns::Host),
            "has no user namespace",
        ),
        (
            "--security-opt landlock=unconfined",
            request.protection.without_landlock,
            "is held by Landlock",
        ),
        (
            "--security-opt seccomp=unconfined",
            request.protection.seccomp == Seccomp::Unconfined,
            "is held by seccomp",
        ),
    ];
    if let Some((option, _, why)) = asked.iter().find(|(_, asked, _)| *asked) {
        return Err(cannot(option, why, &leave_out(option)));
    }
    if let Some(user) = &request.user {
        let (uid, gid) = (caller.uid.to_string(), caller.gid.to_string());
        let (name, group) = user.split_once(':').unwrap_or((user, &gid));
        if name != uid || group != gid {
            return Err(cannot(
                &format!("--user {user}"),
                "can run as the caller alone",
                &format!("--user {uid}:{gid}, or leave it out"),
            ));
        }
    }
    if policy.filesystem.root != RootMode::ReadOnly {
        return Err(cannot(
            "a writable root",
            "runs on this machine's own root, which stays as it is",
            "--read-only, or a policy with root = \"read-only\"",
        ));
    }
    if !policy.capabilities.is_empty() {
        return Err(cannot(
            &policy.capabilities.join(", "),
            "gives no capabilities, as they would be the machine's",
            &leave_out("--cap-add"),
        ));
    }
    if !request.protection.best_effort && limits::resources(request, policy)?.is_some() {
        return Err(cannot(
            "limits on memory, processors or processes",
            "has no control group",
            "leave them out, or --best-effort for what resource limits and a watcher can do",
        ));
    }
    Ok(())
}

/// What the command may open, and the missing sources of `-v`.
fn rules(
    request: &Request,
    policy: &Policy,
    source: Source<'_>,
    home: &Path,
) -> Result<(Vec<PathRule>, Vec<PathBuf>), Failure> {
    let mut hidden = policy.masked_paths(home);
    // Landlock goes by the file: what is hidden under one name is so under each that links lead to.
    let targets = hidden.iter().map(|path| target(path));
    let targets: Vec<PathBuf> = targets.filter(|path| !hidden.contains(path)).collect();
    hidden.extend(targets);
    let mut rules = Vec::new();
    let mut create = Vec::new();
    let programs: Vec<&Path> = match source {
        Source::Host(tree) => tree.shown.iter().map(PathBuf::as_path).collect(),
        Source::Image(image) => image
            .layers
            .iter()
            .map(|layer| layer.path.as_path())
            .collect(),
    };
    for path in programs {
        // A prepared directory stands for the root: what the policy says of / holds for it.
        let as_seen = match source {
            Source::Host(_) => path,
            Source::Image(_) => Path::new("/"),
        };
        rules.extend(granted(policy, home, path, as_seen));
    }
    let mut readable: Vec<&str> = PROC.to_vec();
    if matches!(source, Source::Host(_)) {
        readable.extend(ETC);
    }
    if policy.network.mode == NetworkMode::Host {
        readable.push("/etc/resolv.conf");
    }
    let rule = |path: &Path, access| PathRule {
        path: path.to_owned(),
        access,
    };
    rules.extend(
        readable
            .iter()
            .map(|path| rule(Path::new(path), Access::Read)),
    );
    rules.extend(
        DEVICES
            .iter()
            .map(|path| rule(Path::new(path), Access::WriteFiles)),
    );
    for mount in &request.mounts {
        let bind = bind(mount)?;
        match bind.source.metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && bind.create => {
                create.push(bind.source.clone());
            }
            Err(error) => {
                return Err(Failure::new(
                    format!("cannot show {}: {}", bind.source.display(), reason(&error)),
                    format!("mkdir -p {}, or another source", bind.source.display()),
                ));
            }
        }
        let access = if bind.read_only {
            Access::ReadExec
        } else {
            Access::WriteExec
        };
        rules.push(rule(&bind.source, access));
    }
    let mut kept = Vec::with_capacity(rules.len());
    for rule in rules {
        let target = target(&rule.path);
        if hidden
            .iter()
            .any(|hidden| rule.path.starts_with(hidden) || target.starts_with(hidden))
        {
            continue;
        }
        // Landlock adds rights up: it cannot take one out of what lies above.
        if let Some(hidden) = hidden.iter().find(|hidden| {
            (hidden.starts_with(&rule.path) || hidden.starts_with(&target)) && hidden.exists()
        }) {
            return Err(cannot(
                &format!("policy {} hides {}", policy.name, hidden.display()),
                &format!("shows {} and cannot hide a part of it", rule.path.display()),
                "a policy that grants the parts one by one, or run palisade where namespaces are allowed",
            ));
        }
        kept.push(rule);
    }
    Ok((kept, create))
}

/// Where a path leads, or itself where it leads nowhere.
fn target(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What a policy grants on a path that the sandbox sees as `as_seen`: read and execute, never more.
fn granted(policy: &Policy, home: &Path, path: &Path, as_seen: &Path) -> Vec<PathRule> {
    let reads = |access| match access {
        Access::ReadExec | Access::WriteExec => Access::ReadExec,
        Access::Read | Access::WriteFiles | Access::Write => Access::Read,
    };
    let mut rules: Vec<PathRule> = Vec::new();
    for rule in policy.path_rules(home) {
        if matches!(rule.access, Access::Write | Access::WriteFiles) {
            continue;
        }
        let at = if as_seen.starts_with(&rule.path) {
            path.to_owned()
        } else if let Ok(below) = rule.path.strip_prefix(as_seen) {
            path.join(below)
        } else {
            continue;
        };
        rules.push(PathRule {
            path: at,
            access: reads(rule.access),
        });
    }
    rules
}

/// `-v SRC:SRC`: nothing else can be shown without mounts.
fn bind(mount: &Mount) -> Result<&Bind, Failure> {
    let same = "-v PATH:PATH, which opens a path at its own place";
    match mount {
        Mount::Bind(bind) if bind.source == Path::new("/") => Err(cannot(
            "all of /",
            "has nothing but a list of paths to keep the command in",
            "-v with the directories that it needs",
        )),
        Mount::Bind(bind) if bind.source == bind.destination => Ok(bind),
        Mount::Bind(bind) => {
            let source = bind.source.display();
            Err(cannot(
                &format!("{source} at {}", bind.destination.display()),
                "has no mounts, so that every path keeps its place",
                &format!("-v {source}:{source} -w {source}"),
            ))
        }
        Mount::Tmpfs(tmpfs) => Err(cannot(
            &format!("--tmpfs {}", tmpfs.destination.display()),
            "has no mounts; $TMPDIR and $HOME are directories that go with the sandbox",
            same,
        )),
        Mount::Volume(volume) => Err(cannot(
            &format!("a volume on {}", volume.destination.display()),
            "has no mounts",
            same,
        )),
        Mount::Device { source, .. } => Err(cannot(
            &format!("--device {}", source.display()),
            "shows null, zero, full, random and urandom alone",
            "run palisade where namespaces are allowed",
        )),
    }
}

/// What may be done in the sandbox's own directory: as the policy says of /tmp.
fn scratch_access(policy: &Policy) -> Access {
    let noexec = policy
        .filesystem
        .tmpfs
        .iter()
        .any(|tmpfs| tmpfs.path == "/tmp" && tmpfs.noexec);
    if noexec {
        Access::Write
    } else {
        Access::WriteExec
    }
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

fn set(env: &mut Vec<String>, name: &str, value: &Path) {
    env.retain(|variable| variable.split('=').next() != Some(name));
    env.push(format!("{name}={}", value.display()));
}
