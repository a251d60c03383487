//! The supervisor's side of a start: one clone, and what only the caller may do.

use std::ffi::CStr;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

use oci_spec::runtime::LinuxResources;
use palisade_policies::Tier;

use crate::aside::Aside;
use crate::cgroup::{self, Cgroup};
use crate::init::{self, Init};
use crate::mount::{self, TreeRequest, attribute};
use crate::plan::Plan;
use crate::prepare::Prepared;
use crate::sandbox::{Sandbox, Stdio};
use crate::sys::{self, Cloned, MountAttributes, Stack};
use crate::{Error, idmap, tier};

/// Bytes of stack for the command's process until it executes; an unoptimised build uses two thirds of it.
const STACK: usize = 120 * 1024;

/// Launches `plan`: makes the namespaces and PID 1, which then sets up the rest by itself. Returns at once; what comes
/// of it is told by [`Sandbox::event`].
///
/// The calling process must have a single thread. Signals that the supervisor wants to read must be blocked before.
///
/// # Errors
/// What could not be prepared. Failures of the set-up inside come from [`Sandbox::event`].
pub fn launch(plan: &Plan, stdio: Stdio) -> Result<Sandbox, Error> {
    launch_recorded(plan, stdio, None)
}

/// The same, where PID 1 also writes the command's wait status (four bytes, native order) to a file, so that it is known
/// even if the supervisor is killed before it can read it.
///
/// # Errors
/// As for [`launch`].
pub fn launch_recorded(
    plan: &Plan,
    stdio: Stdio,
    record: Option<OwnedFd>,
) -> Result<Sandbox, Error> {
    let mut prepared = Prepared::new(plan)?;
    check_numbers(&stdio)?;
    let (control, child_control) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|errno| at("make a socket pair", errno))?;
    let mut missing = Vec::new();
    if plan.landlock.is_some() && prepared.landlock.is_none() {
        missing.push("Landlock: this kernel has none".to_owned());
    }
    if let Some(why) = prepared.reaches_abstract_sockets() {
        if !plan.best_effort {
            return Err(Error::Unsupported {
                what: "--network host".into(),
                why,
            });
        }
        missing.push(format!("the scope of abstract sockets: {why}"));
    }
    let cgroup = make_cgroup(plan, &mut prepared, &mut missing)?;
    if plan.watch_denials {
        prepared.watch_denials(child_control.as_raw_fd());
    }
    let mut init = Init {
        control: child_control,
        stdio,
        record,
        made: prepared.mounts.iter().map(|_| None).collect(),
        trees: tree_requests(&prepared).iter().map(|_| None).collect(),
        stack: Stack::new(STACK),
        aside: Aside::new(prepared.loopback, prepared.restricted_proc()),
        prepared: &prepared,
    };
    let watched_memory = cgroup.is_none().then(|| memory_limit(plan)).flatten();
    let alone = plan.tier == Tier::NoNamespace;
    let cloned = if alone {
        tier::start()
    } else {
        sys::clone3(
            prepared.namespaces & !(libc::CLONE_NEWNET as u64),
            cgroup.as_ref().and_then(Cgroup::directory),
        )
    };
    let (pid, pidfd) = match cloned {
        Ok(Cloned::Child) => {
            drop(control);
            if alone {
                tier::run(init);
            }
            init::run(init)
        }
        Ok(Cloned::Parent { pid, pidfd }) => (pid, pidfd),
        Err(errno) => {
            if let Some(cgroup) = cgroup {
                let _ = cgroup.remove();
            }
            return Err(Error::Namespaces {
                action: "make the sandbox's namespaces",
                errno,
            });
        }
    };
    init.made.clear();
    drop(init);
    let args = plan
        .spec
        .process()
        .as_ref()
        .and_then(|process| process.args().as_ref());
    let sandbox = Sandbox {
        pidfd,
        pid,
        control,
        terminal: None,
        cgroup,
        program: args
            .and_then(|args| args.first())
            .map(Into::into)
            .unwrap_or_default(),
        reaped: None,
        started: false,
        missing,
        full: Vec::new(),
        without_namespaces: alone,
        entered_late: false,
        watched_memory,
        listener: None,
        filter: prepared
            .listening
            .as_ref()
            .and_then(|_| prepared.seccomp.last().cloned()),
    };
    if prepared.needs_supervisor() {
        assist(&prepared, &sandbox)?;
    }
    Ok(sandbox)
}

fn at(action: impl Into<String>, errno: Errno) -> Error {
    Error::Launch {
        action: action.into(),
        errno,
    }
}

/// Descriptors that take the place of 0, 1 and 2 one after the other must not be among those numbers.
fn check_numbers(stdio: &Stdio) -> Result<(), Error> {
    if [&stdio.stdin, &stdio.stdout, &stdio.stderr]
        .iter()
        .any(|descriptor| descriptor.as_raw_fd() < 3)
    {
        return Err(at("pass on standard input and output", Errno::EBADF));
    }
    Ok(())
}

/// The limit on the sandbox's memory, in bytes.
fn memory_limit(plan: &Plan) -> Option<u64> {
    let linux = plan.spec.linux().as_ref()?;
    let memory = linux.resources().as_ref()?.memory().as_ref()?;
    u64::try_from(memory.limit()?).ok()
}

/// The cgroup for the plan's limits; where there can be none and the plan goes on without, what rlimits can do.
fn make_cgroup(
    plan: &Plan,
    prepared: &mut Prepared,
    missing: &mut Vec<String>,
) -> Result<Option<Cgroup>, Error> {
    let linux = plan.spec.linux().as_ref();
    let asked = linux.and_then(|linux| linux.resources().as_ref());
    if plan.tier != Tier::Full {
        return match asked {
            Some(_) if !plan.best_effort => Err(Error::Unsupported {
                what: "limits on a whole sandbox".into(),
                why: format!("tier {} has no control group", plan.tier.word()),
            }),
            Some(resources) => {
                missing.push(format!(
                    "limits by cgroup: tier {} has none",
                    plan.tier.word()
                ));
                prepared.limit_without_cgroup(resources);
                Ok(None)
            }
            None => Ok(None),
        };
    }
    let nothing = LinuxResources::default();
    let resources = asked.unwrap_or(&nothing);
    let request = cgroup::Request {
        path: linux.and_then(|linux| linux.cgroups_path().clone()),
        always: true,
        ..cgroup::Request::default()
    };
    sys::reserve_heap();
    let cgroup = match Cgroup::create(&plan.id, resources, &request) {
        Err(error) if plan.best_effort => {
            missing.push(format!("limits by cgroup: {error}"));
            prepared.limit_without_cgroup(resources);
            None
        }
        result => result?,
    };
    if let Some(cgroup) = &cgroup {
        if cgroup.needs_join() {
            prepared.join_cgroup_late();
        } else {
            prepared.make_cgroup_namespace_late();
        }
        if let Some(view) = &mut prepared.view {
            view.show(cgroup, &plan.spec).inspect_err(|_| {
                let _ = cgroup.remove();
            })?;
        }
    }
    Ok(cgroup)
}

/// A host tree that only the supervisor may open.
enum Request<'a> {
    /// A directory of the root, seen through the sandbox's own id map.
    Root(&'a CStr),
    /// A bind mount's source.
    Bind {
        request: &'a TreeRequest,
        recursive: bool,
        attributes: u64,
    },
}

fn tree_requests(prepared: &Prepared) -> Vec<Request<'_>> {
    if !prepared.identity.loses_the_callers_rights() {
        return Vec::new();
    }
    let binds = prepared
        .mounts
        .iter()
        .filter_map(mount::MountStep::tree_request);
    prepared
        .root
        .tree_requests()
        .map(Request::Root)
        .chain(binds.map(|(request, recursive, attributes)| Request::Bind {
            request,
            recursive,
            attributes,
        }))
        .collect()
}

/// Does for a waiting PID 1 what it may not do itself: ids, cgroup, trees. Then lets it go on.
fn assist(prepared: &Prepared, sandbox: &Sandbox) -> Result<(), Error> {
    prepared.identity.map_for(sandbox.pid)?;
    if let Some(cgroup) = sandbox.cgroup.as_ref().filter(|cgroup| cgroup.needs_join()) {
        cgroup.join_v1(sandbox.pid)?;
    }
    let requests = tree_requests(prepared);
    if requests.len() > sys::MOST_DESCRIPTORS {
        return Err(Error::Unsupported {
            what: format!("{} bind mounts", requests.len()),
            why: format!("at most {} are possible", sys::MOST_DESCRIPTORS - 2),
        });
    }
    let mut trees = Vec::with_capacity(requests.len());
    for request in &requests {
        trees.push(open_tree(request, prepared, sandbox.pid)?);
    }
    let numbers: Vec<RawFd> = trees.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control: &[ControlMessage<'_>] = if numbers.is_empty() { &[] } else { &rights };
    let byte = [IoSlice::new(&[1])];
    match sendmsg::<()>(
        sandbox.control.as_raw_fd(),
        &byte,
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    ) {
        // PID 1 has failed already: its own report says why.
        Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        Err(errno) => Err(at("let the sandbox's init process go on", errno)),
    }
}

fn open_tree(request: &Request<'_>, prepared: &Prepared, pid: i32) -> Result<OwnedFd, Error> {
    match request {
        Request::Root(path) => {
            let tree = mount::clone_shared(path, false)
                .map_err(|errno| at(format!("open {}", path.to_string_lossy()), errno))?;
            let namespace = idmap::user_namespace_of(pid)?;
            match map_ids(&tree, false, &namespace) {
                // A file system without id-mapped mounts (mount_setattr(2)): files show the host's owners, and are
                // readable as far as others may read them.
                Err(Errno::EINVAL) => mount::set(tree.as_fd(), false, 0),
                result => result,
            }
            .map(|()| tree)
            .map_err(|errno| at(format!("map ids of {}", path.to_string_lossy()), errno))
        }
        Request::Bind {
            request,
            recursive,
            attributes,
        } => {
            let path = request.source.to_string_lossy();
            let tree = mount::clone_tree(&request.source, *recursive, *attributes)
                .map_err(|errno| at(format!("mount {path}"), errno))?;
            if let Some((uids, gids)) = &request.map {
                let (uids, gids) = prepared.identity.on_disk(uids, gids)?;
                let namespace = idmap::user_namespace(&uids, &gids)?;
                map_ids(&tree, *recursive, &namespace).map_err(|errno| match errno {
                    Errno::EINVAL => Error::Unsupported {
                        what: format!("the mount of {path}"),
                        why: "its file system has no id-mapped mounts, so files could not be given their owner; \
                              put it on ext4, xfs, btrfs or tmpfs, or run palisade as an ordinary user"
                            .into(),
                    },
                    errno => at(format!("map ids of {path}"), errno),
                })?;
            }
            Ok(tree)
        }
    }
}

/// Maps the ids of a detached tree, and makes it private.
fn map_ids(tree: &OwnedFd, recursive: bool, namespace: &OwnedFd) -> nix::Result<()> {
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    let attributes = MountAttributes {
        set: attribute::IDMAP,
        propagation: libc::MS_PRIVATE,
        userns_fd: namespace.as_raw_fd().unsigned_abs().into(),
        ..MountAttributes::default()
    };
    sys::mount_setattr(tree.as_fd(), flags, &attributes)
}
