//! From a [`Plan`] to what the set-up needs: every string NUL-terminated, every flag a number, every list in order.
//!
//! Everything that can fail without the kernel fails here, before anything is changed; after it nothing allocates.

mod command;
mod inherited;
mod path;
mod root;

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::RawFd;

use oci_spec::runtime::{Linux, LinuxNamespaceType, LinuxResources, Process, Spec};
use palisade_policies::seccomp::x86_64;
use palisade_policies::{Program, SystemCall, Tier};

use crate::capabilities::Capabilities;
use crate::cgroup::fallback_rlimits;
use crate::idmap::Identity;
use crate::landlock::PreparedLandlock;
use crate::mount::{MountStep, NewFilesystem};
use crate::plan::Plan;
use crate::readback::Namespace;
use crate::sys::Rlimit;
use crate::view::View;
use crate::{Error, mount};

pub(crate) use command::{PreparedCommand, candidates};
use command::{console_size, rlimits, truthful};
use inherited::Inherited;
pub(crate) use path::{PreparedFile, PreparedPath, c_string, strings};
use root::prepare_root;
pub(crate) use root::{PreparedRoot, PreparedScratch, PreparedUpper};

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
            host_namespaces: Namespace::read(namespaces).map_err(|errno| Error::Namespaces {
                action: "read palisade's own namespaces from /proc",
                errno,
            })?,
            namespaces,
            identity,
            root: prepare_root(&plan.root)?,
            files: plan
                .files
                .iter()
                .map(PreparedFile::new)
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
