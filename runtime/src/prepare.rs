//! From a [`Plan`] to what the set-up needs: every string NUL-terminated, every flag a number, every list in order.
//!
//! Everything that can fail without the kernel fails here, before anything is changed; after it nothing allocates.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::pty::Winsize;
use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxResources, Process, Spec};
use palisade_policies::seccomp::x86_64;
use palisade_policies::{Program, SystemCall, Tier};

use crate::capabilities::Capabilities;
use crate::cgroup::fallback_rlimits;
use crate::idmap::Identity;
use crate::landlock::PreparedLandlock;
use crate::mount::{MountStep, NewFilesystem};
use crate::plan::{Plan, Root, Scratch, Upper};
use crate::readback::Namespace;
use crate::sys::{Pointers, Rlimit};
use crate::view::View;
use crate::{Error, mount};

/// A Plan in the form the set-up reads.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent decision of the Plan"
)]
pub(crate) struct Prepared {
    pub(crate) namespaces: u64,
    /// The supervisor's own namespaces of these kinds, which the command must not be in.
    pub(crate) host_namespaces: Vec<Namespace>,
    /// The supervisor moves PID 1 into its cgroup.
    pub(crate) joins_cgroup: bool,
    /// The cgroup namespace is made only after the cgroup was joined.
    pub(crate) late_cgroup_namespace: bool,
    pub(crate) identity: Identity,
    pub(crate) root: PreparedRoot,
    pub(crate) files: Vec<PreparedFile>,
    pub(crate) mounts: Vec<MountStep>,
    /// Devices bound from the host, as paths relative to the root.
    pub(crate) devices: Vec<mount::Device>,
    /// Whether the usual links are made in a new /dev.
    pub(crate) dev_links: Option<usize>,
    /// Hidden paths that are not in a new /proc.
    pub(crate) masked: Vec<CString>,
    /// Read-only paths that are not in a new /proc.
    pub(crate) read_only: Vec<CString>,
    pub(crate) root_read_only: bool,
    pub(crate) hostname: Option<CString>,
    pub(crate) domainname: Option<CString>,
    /// For /proc/self/oom_score_adj (proc_pid_oom_score_adj(5)).
    pub(crate) oom_score_adj: Option<CString>,
    pub(crate) loopback: bool,
    /// Whether a missing working directory is made: not where it would appear in a bind-mounted host directory.
    pub(crate) make_cwd: bool,
    pub(crate) capabilities: Capabilities,
    /// Whether the bounding set can be dropped: an ordinary user without a namespace of its own may not, and need not, as no
    /// program gives it capabilities any more.
    pub(crate) drops_bounding: bool,
    /// Whether /proc is everybody's, so that the command is let read its own part of it alone.
    pub(crate) shares_proc: bool,
    pub(crate) no_new_privileges: bool,
    pub(crate) umask: u32,
    pub(crate) rlimits: Vec<(Rlimit, CString)>,
    pub(crate) landlock: Option<PreparedLandlock>,
    /// What programs read about the machine, where it is limited.
    pub(crate) view: Option<View>,
    pub(crate) seccomp: Vec<Program>,
    /// The last of them, as it is loaded for the first command where its denials are watched.
    pub(crate) listening: Option<Program>,
    /// The seccomp programs came from the user, and may forbid even to look at what holds.
    pub(crate) custom_seccomp: bool,
    /// How many seccomp filters the caller itself runs under.
    pub(crate) inherited_filters: u64,
    pub(crate) ignored_signals: Vec<i32>,
    /// Whether further commands may join the sandbox.
    pub(crate) joinable: bool,
    pub(crate) command: PreparedCommand,
}

/// What differs from one command of a sandbox to the next; the rest of [`Prepared`] holds for all.
pub(crate) struct PreparedCommand {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) cwd: PreparedPath,
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<Winsize>,
    /// The files to try, in order, with execve(2); absent where there is no command and PID 1 waits alone.
    pub(crate) candidates: Option<Vec<CString>>,
    pub(crate) argv: Pointers,
    pub(crate) envp: Pointers,
}

/// How the root file system is made.
pub(crate) enum PreparedRoot {
    Overlay {
        /// The directory that the lower directories' names are relative to.
        base: CString,
        /// Lower directories, topmost first.
        lower: Vec<CString>,
        /// The same as one string, for kernels that want that.
        joined: CString,
        /// `/etc` of each, named likewise.
        etc: Vec<CString>,
        /// Options for the scratch tmpfs, or the host directory of `upper` and `work`.
        upper: PreparedUpper,
    },
    Tmpfs {
        scratch: PreparedScratch,
        links: Vec<(PreparedPath, CString)>,
    },
    /// There is no other than the caller's.
    Callers,
}

pub(crate) enum PreparedUpper {
    Tmpfs(PreparedScratch),
    Directory(CString),
}

/// Mount options of a tmpfs.
pub(crate) struct PreparedScratch {
    pub(crate) size: CString,
    pub(crate) inodes: Option<CString>,
}

/// A path inside the sandbox, relative to its root, with the names that lead to it.
#[derive(Clone, Debug)]
pub(crate) struct PreparedPath {
    /// Without the leading slash; `.` for the root itself.
    pub(crate) path: CString,
    /// Every directory on the way, shortest first, the path itself excluded.
    pub(crate) parents: Vec<CString>,
}

impl PreparedPath {
    /// The last component.
    pub(crate) fn name(&self) -> &CStr {
        let bytes = self.path.to_bytes_with_nul();
        let start = bytes
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        CStr::from_bytes_until_nul(&bytes[start..]).unwrap_or_default()
    }
}

impl PreparedFile {
    /// Writes the whole content.
    pub(crate) fn write_to(&self, file: BorrowedFd<'_>) -> nix::Result<()> {
        let mut rest = self.contents.as_slice();
        while !rest.is_empty() {
            let written = nix::unistd::write(file, rest)?;
            rest = &rest[written..];
        }
        Ok(())
    }
}

pub(crate) struct PreparedFile {
    pub(crate) path: PreparedPath,
    pub(crate) contents: Vec<u8>,
    pub(crate) mode: u32,
}

/// A C string of `value`, which is `what` to the user.
pub(crate) fn c_string(what: &'static str, value: impl AsRef<OsStr>) -> Result<CString, Error> {
    let value = value.as_ref();
    CString::new(value.as_bytes()).map_err(|_| Error::Nul {
        what,
        value: value.to_string_lossy().chars().take(60).collect(),
    })
}

impl PreparedPath {
    /// An absolute path inside the sandbox without `..`.
    pub(crate) fn new(what: &'static str, path: &Path) -> Result<Self, Error> {
        let mut walked = PathBuf::new();
        let mut parents = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    if !walked.as_os_str().is_empty() {
                        parents.push(c_string(what, &walked)?);
                    }
                    walked.push(name);
                }
                Component::ParentDir | Component::Prefix(_) => return Err(not_inside(what, path)),
            }
        }
        if !path.is_absolute() {
            return Err(not_inside(what, path));
        }
        if walked.as_os_str().is_empty() {
            walked.push(".");
        }
        Ok(Self {
            path: c_string(what, &walked)?,
            parents,
        })
    }
}

fn not_inside(what: &'static str, path: &Path) -> Error {
    Error::Unsupported {
        what: format!("{what} {}", path.display()),
        why: "it must be an absolute path without ..".into(),
    }
}

impl Prepared {
    pub(crate) fn new(plan: &Plan) -> Result<Self, Error> {
        let spec = &plan.spec;
        let process = spec.process().as_ref().ok_or_else(|| missing("process"))?;
        let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
        refuse_unknown(spec, process, linux)?;
        let args = match &plan.args {
            Some(args) => args.iter().map(OsString::as_os_str).collect::<Vec<_>>(),
            None => process.args().iter().flatten().map(OsStr::new).collect(),
        };
        let identity = Identity::new(linux, process.user())?;
        let mounts = mount::steps(spec, &identity)?;
        let devices = mount::devices(linux, &mounts)?;
        let namespaces = namespaces(plan)?;
        let no_new_privileges = process.no_new_privileges().unwrap_or(false);
        let (masked, read_only) = mount::paths_outside_proc(linux, &mounts)?;
        let inherited = Inherited::read();
        let mut capabilities = Capabilities::new(process.capabilities().as_ref());
        let drops_bounding = plan.tier != Tier::NoNamespace || inherited.may_drop_bounding;
        if !drops_bounding {
            capabilities.bounding = inherited.bounding;
        }
        let landlock = plan
            .landlock
            .as_deref()
            .map(|rules| PreparedLandlock::new(rules, plan))
            .transpose()?
            .flatten();
        let environment = truthful(process.env().as_deref(), landlock.is_some());
        Ok(Self {
            joins_cgroup: false,
            late_cgroup_namespace: false,
            loopback: namespaces & libc::CLONE_NEWNET as u64 != 0,
            host_namespaces: Namespace::read(namespaces).map_err(|errno| Error::Launch {
                action: "read palisade's own namespaces from /proc".into(),
                errno,
            })?,
            namespaces,
            identity,
            root: prepare_root(&plan.root)?,
            files: plan
                .files
                .iter()
                .map(prepare_file)
                .collect::<Result<_, _>>()?,
            dev_links: mounts.iter().position(MountStep::is_new_dev),
            devices,
            masked,
            read_only,
            root_read_only: spec
                .root()
                .as_ref()
                .and_then(oci_spec::runtime::Root::readonly)
                .unwrap_or(false),
            hostname: spec
                .hostname()
                .as_ref()
                .map(|name| c_string("host name", name))
                .transpose()?,
            domainname: spec
                .domainname()
                .as_ref()
                .map(|name| c_string("domain name", name))
                .transpose()?,
            oom_score_adj: process
                .oom_score_adj()
                .map(|value| c_string("OOM score", value.to_string()))
                .transpose()?,
            make_cwd: !mount::below_a_bind(&mounts, process.cwd()),
            mounts,
            capabilities,
            drops_bounding,
            shares_proc: plan.tier == Tier::NoNamespace,
            no_new_privileges,
            umask: process.user().umask().unwrap_or(0o022),
            rlimits: rlimits(process)?,
            view: View::new(spec, &plan.id)?,
            seccomp: plan.seccomp.clone(),
            listening: None,
            custom_seccomp: plan.custom_seccomp,
            inherited_filters: inherited.filters,
            ignored_signals: inherited.ignored_signals,
            joinable: plan.joinable,
            command: PreparedCommand {
                uid: process.user().uid(),
                gid: process.user().gid(),
                cwd: PreparedPath::new("working directory", process.cwd())?,
                terminal: process.terminal().unwrap_or(false),
                console_size: console_size(process),
                candidates: if args.is_empty() && plan.joinable {
                    None
                } else {
                    let env = process.env().as_deref().unwrap_or_default();
                    Some(candidates(env, &args)?)
                },
                argv: strings("argument", &args)?,
                envp: strings("environment variable", &environment)?,
            },
            landlock,
        })
    }

    /// The sandbox's new /proc, if it is to show less than all.
    pub(crate) fn restricted_proc(&self) -> Option<&NewFilesystem> {
        self.mounts.iter().find_map(MountStep::restricted_proc)
    }

    /// Whether PID 1 must wait for the supervisor before it may go on.
    pub(crate) fn needs_supervisor(&self) -> bool {
        self.identity.mapped_by_supervisor() || self.joins_cgroup
    }

    /// Whether PID 1 keeps the right to change ids, for commands that join as another user: in a user namespace of more
    /// than one id.
    pub(crate) fn keeps_right_to_change_ids(&self) -> bool {
        self.joinable && self.identity.mapped_by_supervisor()
    }

    /// Why the host's abstract UNIX sockets would be in reach, if they are: they belong to the network namespace, and
    /// Landlock keeps them apart only since its sixth version (Linux 6.12).
    pub(crate) fn reaches_abstract_sockets(&self) -> Option<String> {
        let landlock = self.landlock.as_ref()?;
        (!self.loopback && !landlock.scopes_abstract_sockets()).then(|| {
            format!(
                "this kernel's Landlock (version {}) cannot keep the host's abstract UNIX sockets out of reach; \
                 --best-effort goes on",
                landlock.abi
            )
        })
    }

    /// The denials of the first command are to be watched. Its process hands the listener over on `control`; where the
    /// filter refuses that, nobody could answer, and the filter refuses by itself.
    pub(crate) fn watch_denials(&mut self, control: RawFd) {
        let hands_over = |program: &Program| {
            let call = SystemCall {
                number: x86_64::number("sendmsg").unwrap_or(u32::MAX),
                arch: x86_64::AUDIT_ARCH,
                arguments: [
                    control.unsigned_abs().into(),
                    0,
                    libc::MSG_NOSIGNAL.unsigned_abs().into(),
                    0,
                    0,
                    0,
                ],
            };
            program.errno(&call).is_none()
        };
        if self.seccomp.iter().all(hands_over) {
            self.listening = self.seccomp.last().map(Program::notifying);
        }
    }

    /// PID 1 opens nothing of the host's /sys: sources of bind mounts come from the supervisor, and no cgroup is shown.
    pub(crate) fn leaves_sys_alone(&self) -> bool {
        self.identity.loses_the_callers_rights()
            && !self.view.as_ref().is_some_and(View::shows_cgroup)
            && !self
                .devices
                .iter()
                .any(|device| device.source.as_bytes().starts_with(b"/sys/"))
    }

    /// The supervisor will move PID 1 into its cgroup. The cgroup namespace is made after that: its root must be the
    /// sandbox's own cgroup, not the caller's (cgroup_namespaces(7)).
    pub(crate) fn join_cgroup_late(&mut self) {
        self.joins_cgroup = true;
        self.make_cgroup_namespace_late();
    }

    /// The root of a cgroup namespace is the cgroup of whoever made it: with clone3(2) that is the caller's, even where
    /// the new process begins in another.
    pub(crate) fn make_cgroup_namespace_late(&mut self) {
        let cgroup_namespace = libc::CLONE_NEWCGROUP as u64;
        self.late_cgroup_namespace = self.namespaces & cgroup_namespace != 0;
        self.namespaces &= !cgroup_namespace;
    }

    /// What rlimits can do in place of a cgroup, where the user goes on without one.
    pub(crate) fn limit_without_cgroup(&mut self, resources: &LinuxResources) {
        for limit in fallback_rlimits(resources) {
            let rlimit = Rlimit {
                resource: limit.resource as u32,
                soft: limit.value,
                hard: limit.value,
            };
            let name = CString::new(format!("{:?}", limit.resource)).unwrap_or_default();
            // One that is set already holds where it is lower.
            let mut others = self.rlimits.iter_mut().map(|(limit, _)| limit);
            match others.find(|other| other.resource == rlimit.resource) {
                Some(other) => {
                    other.soft = other.soft.min(rlimit.soft);
                    other.hard = other.hard.min(rlimit.hard);
                }
                None => self.rlimits.push((rlimit, name)),
            }
        }
    }
}

fn missing(part: &str) -> Error {
    Error::Unsupported {
        what: "the runtime configuration".into(),
        why: format!("it has no `{part}`"),
    }
}

/// Parts of the runtime-spec that the launch does not know are an error, never ignored.
fn refuse_unknown(spec: &Spec, process: &Process, linux: &Linux) -> Result<(), Error> {
    let asked = [
        ("hooks", spec.hooks().is_some()),
        (
            "linux.sysctl",
            linux
                .sysctl()
                .as_ref()
                .is_some_and(|sysctl| !sysctl.is_empty()),
        ),
        ("linux.seccomp", linux.seccomp().is_some()),
        (
            "linux.mountLabel",
            linux
                .mount_label()
                .as_ref()
                .is_some_and(|label| !label.is_empty()),
        ),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.personality", linux.personality().is_some()),
        (
            "linux.timeOffsets",
            linux
                .time_offsets()
                .as_ref()
                .is_some_and(|offsets| !offsets.is_empty()),
        ),
        (
            "linux.netDevices",
            linux
                .net_devices()
                .as_ref()
                .is_some_and(|devices| !devices.is_empty()),
        ),
        (
            "process.apparmorProfile",
            process
                .apparmor_profile()
                .as_ref()
                .is_some_and(|profile| !profile.is_empty()),
        ),
        (
            "process.selinuxLabel",
            process
                .selinux_label()
                .as_ref()
                .is_some_and(|label| !label.is_empty()),
        ),
        ("process.scheduler", process.scheduler().is_some()),
        ("process.ioPriority", process.io_priority().is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((part, _)) => Err(Error::Unsupported {
            what: format!("`{part}` of the runtime configuration"),
            why: "it is not supported".into(),
        }),
    }
}

/// The command's variables, in which `LANDLOCK_ENABLED`, where it is set, says whether Landlock holds the command.
fn truthful(environment: Option<&[String]>, landlock: bool) -> Vec<String> {
    environment
        .unwrap_or_default()
        .iter()
        .map(|variable| match variable.split_once('=') {
            Some((name @ "LANDLOCK_ENABLED", _)) => format!("{name}={}", u8::from(landlock)),
            _ => variable.clone(),
        })
        .collect()
}

fn namespaces(plan: &Plan) -> Result<u64, Error> {
    let mut flags = 0_i32;
    let linux = plan.spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
    for namespace in linux.namespaces().as_deref().unwrap_or_default() {
        if let Some(path) = namespace.path() {
            return Err(Error::Unsupported {
                what: format!("{} namespace {}", namespace.typ(), path.display()),
                why: "joining an existing namespace is not supported".into(),
            });
        }
        flags |= match namespace.typ() {
            LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
            LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
            LinuxNamespaceType::User => libc::CLONE_NEWUSER,
            LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
            LinuxNamespaceType::Network => libc::CLONE_NEWNET,
            LinuxNamespaceType::Time => libc::CLONE_NEWTIME,
        };
    }
    if plan.tier == Tier::NoNamespace {
        return match flags {
            0 => Ok(0),
            _ => Err(Error::Unsupported {
                what: "namespaces".into(),
                why: "tier no-namespace has none".into(),
            }),
        };
    }
    for (flag, name) in [(libc::CLONE_NEWNS, "mount"), (libc::CLONE_NEWPID, "pid")] {
        if flags & flag == 0 {
            return Err(Error::Unsupported {
                what: format!("no {name} namespace"),
                why: "a sandbox always has its own".into(),
            });
        }
    }
    Ok(u64::from(flags.cast_unsigned()))
}

fn prepare_root(root: &Root) -> Result<PreparedRoot, Error> {
    Ok(match root {
        Root::Overlay { lower, upper } => {
            let base = common_parent(lower);
            let lower = lower
                .iter()
                .map(|path| {
                    let relative = path
                        .strip_prefix(&base)
                        .ok()
                        .filter(|p| !p.as_os_str().is_empty());
                    c_string("layer", relative.map_or(Path::new("."), |p| p))
                })
                .collect::<Result<Vec<_>, _>>()?;
            if lower.is_empty() {
                return Err(Error::Unsupported {
                    what: "an image without layers".into(),
                    why: "there is nothing to run".into(),
                });
            }
            PreparedRoot::Overlay {
                base: c_string("layer", &base)?,
                joined: join_layers(&lower)?,
                etc: lower
                    .iter()
                    .map(|layer| {
                        c_string(
                            "layer",
                            Path::new(OsStr::from_bytes(layer.to_bytes())).join("etc"),
                        )
                    })
                    .collect::<Result<_, _>>()?,
                lower,
                upper: match upper {
                    Upper::Tmpfs(scratch) => PreparedUpper::Tmpfs(prepare_scratch(*scratch)?),
                    Upper::Directory(path) => {
                        PreparedUpper::Directory(c_string("writable layer", path)?)
                    }
                },
            }
        }
        Root::Callers { .. } => PreparedRoot::Callers,
        Root::Tmpfs { scratch, links } => PreparedRoot::Tmpfs {
            scratch: prepare_scratch(*scratch)?,
            links: links
                .iter()
                .map(|(link, target)| {
                    Ok((PreparedPath::new("link", link)?, c_string("link", target)?))
                })
                .collect::<Result<_, Error>>()?,
        },
    })
}

fn prepare_scratch(scratch: Scratch) -> Result<PreparedScratch, Error> {
    Ok(PreparedScratch {
        size: c_string("size", scratch.size.to_string())?,
        inodes: scratch
            .inodes
            .map(|inodes| c_string("inodes", inodes.to_string()))
            .transpose()?,
    })
}

/// Lower directories as one mount option: colons separate, a backslash takes a colon's meaning away.
fn join_layers(lower: &[CString]) -> Result<CString, Error> {
    let mut joined = Vec::new();
    for layer in lower {
        if !joined.is_empty() {
            joined.push(b':');
        }
        for byte in layer.to_bytes() {
            if matches!(byte, b':' | b'\\' | b',') {
                joined.push(b'\\');
            }
            joined.push(*byte);
        }
    }
    c_string("layer", OsStr::from_bytes(&joined))
}

/// The longest directory that holds all of `paths`; for a single path, that path.
fn common_parent(paths: &[PathBuf]) -> PathBuf {
    let Some((first, rest)) = paths.split_first() else {
        return PathBuf::from("/");
    };
    let mut base = first.as_path();
    for path in rest {
        while !path.starts_with(base) {
            base = base.parent().unwrap_or(Path::new("/"));
        }
    }
    base.to_owned()
}

fn prepare_file(file: &crate::plan::File) -> Result<PreparedFile, Error> {
    Ok(PreparedFile {
        path: PreparedPath::new("file", &file.path)?,
        contents: file.contents.clone(),
        mode: file.mode,
    })
}

pub(crate) fn strings(what: &'static str, values: &[impl AsRef<OsStr>]) -> Result<Pointers, Error> {
    Ok(Pointers::new(
        values
            .iter()
            .map(|value| c_string(what, value))
            .collect::<Result<_, _>>()?,
    ))
}

/// The files that execve(2) tries for the command, as execvp(3) would with the sandbox's PATH.
pub(crate) fn candidates(
    env: &[impl AsRef<OsStr>],
    args: &[&OsStr],
) -> Result<Vec<CString>, Error> {
    let program = *args.first().ok_or_else(|| Error::Unsupported {
        what: "an empty command".into(),
        why: "neither the command line nor the image names one".into(),
    })?;
    if program.is_empty() || program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string("command", program)?]);
    }
    let path = env
        .iter()
        .find_map(|variable| variable.as_ref().as_bytes().strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
    path.split(|byte| *byte == b':')
        .filter(|directory| directory.starts_with(b"/"))
        .map(|directory| {
            let directory = Path::new(OsStr::from_bytes(directory));
            c_string("command", directory.join(program))
        })
        .collect()
}

/// The size that the terminal has before the command starts.
fn console_size(process: &Process) -> Option<Winsize> {
    let size = process.console_size()?;
    let short = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
    Some(Winsize {
        ws_row: short(size.height()),
        ws_col: short(size.width()),
        ws_xpixel: 0,
        ws_ypixel: 0,
    })
}

fn rlimits(process: &Process) -> Result<Vec<(Rlimit, CString)>, Error> {
    use oci_spec::runtime::PosixRlimitType as Type;
    let mut limits = Vec::new();
    for limit in process.rlimits().as_deref().unwrap_or_default() {
        let resource = match limit.typ() {
            Type::RlimitCpu => libc::RLIMIT_CPU,
            Type::RlimitFsize => libc::RLIMIT_FSIZE,
            Type::RlimitData => libc::RLIMIT_DATA,
            Type::RlimitStack => libc::RLIMIT_STACK,
            Type::RlimitCore => libc::RLIMIT_CORE,
            Type::RlimitRss => libc::RLIMIT_RSS,
            Type::RlimitNproc => libc::RLIMIT_NPROC,
            Type::RlimitNofile => libc::RLIMIT_NOFILE,
            Type::RlimitMemlock => libc::RLIMIT_MEMLOCK,
            Type::RlimitAs => libc::RLIMIT_AS,
            Type::RlimitLocks => libc::RLIMIT_LOCKS,
            Type::RlimitSigpending => libc::RLIMIT_SIGPENDING,
            Type::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
            Type::RlimitNice => libc::RLIMIT_NICE,
            Type::RlimitRtprio => libc::RLIMIT_RTPRIO,
            Type::RlimitRttime => libc::RLIMIT_RTTIME,
        };
        limits.push((
            Rlimit {
                resource,
                soft: limit.soft(),
                hard: limit.hard(),
            },
            c_string("resource limit", limit.typ().to_string())?,
        ));
    }
    Ok(limits)
}

/// The number of CAP_SETPCAP (linux/capability.h).
const CAP_SETPCAP: u64 = 8;

/// What a command inherits from the calling process beyond the Plan.
struct Inherited {
    /// Signals that this process ignores: Rust's runtime ignores SIGPIPE, nohup(1) SIGHUP.
    ignored_signals: Vec<i32>,
    /// seccomp filters that this process runs under.
    filters: u64,
    /// The capability bounding set, and whether this process may drop from it (capabilities(7), CAP_SETPCAP).
    bounding: u64,
    may_drop_bounding: bool,
}

impl Inherited {
    fn read() -> Self {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let ignored = field("SigIgn:")
            .and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .unwrap_or(u64::MAX);
        let mask = |name: &str| {
            field(name)
                .and_then(|mask| u64::from_str_radix(mask, 16).ok())
                .unwrap_or(0)
        };
        let settable = |signal: &i32| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP);
        Self {
            ignored_signals: (1..=64)
                .filter(|signal| ignored & (1 << (signal - 1)) != 0)
                .filter(settable)
                .collect(),
            bounding: mask("CapBnd:"),
            may_drop_bounding: mask("CapEff:") & 1 << CAP_SETPCAP != 0,
            filters: field("Seccomp_filters:")
                .and_then(|count| count.parse().ok())
                .unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_in_one_directory_are_named_relative_to_it() {
        let paths = [PathBuf::from("/s/layers/a"), PathBuf::from("/s/layers/b")];
        assert_eq!(common_parent(&paths), Path::new("/s/layers"));
        assert_eq!(common_parent(&paths[..1]), Path::new("/s/layers/a"));
        assert_eq!(common_parent(&["/a/b".into(), "/c".into()]), Path::new("/"));
    }

    #[test]
    fn a_path_that_leaves_the_sandbox_is_refused() {
        assert!(PreparedPath::new("test", Path::new("/a/../../b")).is_err());
        assert!(PreparedPath::new("test", Path::new("a/b")).is_err());
    }

    #[test]
    fn a_path_lists_the_directories_that_lead_to_it() {
        let path = PreparedPath::new("test", Path::new("/a/b/c")).expect("valid");
        assert_eq!(path.path.as_c_str(), c"a/b/c");
        assert_eq!(path.parents, [CString::from(c"a"), CString::from(c"a/b")]);
        assert_eq!(
            PreparedPath::new("test", Path::new("/"))
                .expect("valid")
                .path
                .as_c_str(),
            c"."
        );
    }

    #[test]
    fn what_the_command_reads_of_landlock_is_the_truth() {
        let given = ["A=1".to_owned(), "LANDLOCK_ENABLED=1".to_owned()];
        assert_eq!(truthful(Some(&given), true), given);
        assert_eq!(truthful(Some(&given), false), ["A=1", "LANDLOCK_ENABLED=0"]);
        assert!(truthful(Some(&given[..1]), true).len() == 1);
    }

    #[test]
    fn the_signal_that_rust_ignores_is_reset_for_the_command() {
        assert!(Inherited::read().ignored_signals.contains(&libc::SIGPIPE));
    }
}
