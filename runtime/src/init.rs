//! PID 1 of a sandbox: puts it together, starts the command, reaps, passes signals on, reports the end.
//!
//! [`run`] and [`set_up`] read as the sequence of events. They run on a copy of the supervisor's memory between clone
//! and exec: nothing here allocates or takes a lock.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::pty::Winsize;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::chdir;

use crate::aside::Aside;
use crate::command::{self, Start};
use crate::control::{self, Kind, Record, Step};
use crate::failure::{Failure, Try};
use crate::join::keeper::Door;
use crate::landlock::PreparedLandlock;
use crate::mount::{self, Tree};
use crate::prepare::{Prepared, PreparedFile, PreparedPath, PreparedRoot};
use crate::root::{self, RootTrees};
use crate::sandbox::Stdio;
use crate::sys::{self, Stack};
use crate::{full, readback};

/// What PID 1 has from the supervisor, made before it was cloned.
pub(crate) struct Init<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) control: OwnedFd,
    pub(crate) stdio: Stdio,
    /// Where the command's wait status is written as well, for when the supervisor is killed before it reads it.
    pub(crate) record: Option<OwnedFd>,
    /// A slot for each mount whose descriptor later steps need.
    pub(crate) made: Vec<Option<OwnedFd>>,
    /// A slot for each tree that the supervisor opens: those of the root first, then those of the mounts.
    pub(crate) trees: Vec<Option<OwnedFd>>,
    /// Stack of the command's process until it executes.
    pub(crate) stack: Stack,
    /// What is made on another CPU meanwhile.
    pub(crate) aside: Aside<'a>,
}

/// The whole life of PID 1.
pub(crate) fn run(mut init: Init<'_>) -> ! {
    let control = init.control.as_raw_fd();
    let started = set_up(&mut init).and_then(|inside| {
        let start = Start {
            prepared: init.prepared,
            command: &init.prepared.command,
            stdio: &init.stdio,
            ruleset: inside.ruleset.as_ref().map(AsFd::as_fd),
            proc: inside.proc.as_ref().map(AsFd::as_fd),
            outside: inside.outside.as_ref().map(AsFd::as_fd),
            root: Some(inside.root),
            groups: &init.prepared.identity.groups,
            control: init
                .prepared
                .listening
                .as_ref()
                .map(|_| init.control.as_fd()),
            bound: true,
        };
        let command = command::start(&start, &mut init.stack)?;
        Ok((command, inside))
    });
    let (command, mut inside) = match started {
        Ok(started) => started,
        Err(failure) => {
            let _ = control::send(init.control.as_fd(), &failure.into(), None);
            sys::exit_now(125);
        }
    };
    let _ = control::send(init.control.as_fd(), &command.record, None);
    if command.record.kind != Kind::Started {
        sys::exit_now(125);
    }
    let record = init.record.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let signals = inside.signals.take();
    let door = signals.map(|signals| {
        let stack = std::mem::take(&mut init.stack);
        Door::new(init.prepared, inside, signals, stack)
    });
    // Nothing of the host and no end of a pipe stays open here: a reader of the command's output sees its end.
    let _ = match &door {
        Some(door) => door.close_all_but(init.control.as_fd(), record),
        None => sys::close_all_but(&mut [control, record]),
    };
    let executed = init.prepared.command.candidates.is_some();
    // Never returns: a stack that no door took is not freed, which could wait for a lock that nobody here will let go.
    supervise(&init, executed.then_some(command.pid), door)
}

/// What the finished sandbox's commands are started with.
pub(crate) struct Inside {
    /// Its own /proc, where it has one.
    pub(crate) proc: Option<OwnedFd>,
    /// A file system that is mounted nowhere: see [`Start::outside`].
    pub(crate) outside: Option<OwnedFd>,
    /// Its root.
    pub(crate) root: readback::Place,
    /// Its Landlock rules, where it has any.
    pub(crate) ruleset: Option<OwnedFd>,
    /// The signals that reach PID 1, where it has more to wait for.
    pub(crate) signals: Option<SignalFd>,
}

/// Everything that is done before the command's process exists.
fn set_up<'p>(init: &mut Init<'p>) -> Result<Inside, Failure<'p>> {
    let prepared = init.prepared;
    sys::block_all_signals().or_fail(Step::ProcessFlags, c"(signal mask)")?;
    sys::forget_arguments();
    // What the caller's terminal sends to its foreground group comes from the supervisor, once.
    nix::unistd::setsid().or_fail(Step::ProcessFlags, c"(session)")?;
    umask(Mode::empty());
    init.aside.begin();
    prepared.identity.map_own()?;
    if prepared.needs_supervisor() {
        wait_for_supervisor(init.control.as_fd(), &mut init.trees)?;
    }
    if prepared.late_cgroup_namespace {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
            .or_fail(Step::Sync, c"(cgroup namespace)")?;
    }
    prepared.identity.assume_for_setup()?;
    sys::make_all_private().or_fail(Step::Private, c"")?;

    let Assembled {
        proc,
        root,
        mut outside,
    } = assemble(init)?;
    if outside.is_none() && prepared.landlock.is_some() {
        outside = Some(readback::outside()?);
    }

    // Inherited by the command; it cannot be set once PID 1 is not dumpable, as the file then belongs to the host's root.
    if let (Some(value), Some(proc)) = (&prepared.oom_score_adj, &proc) {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(proc, c"self/oom_score_adj", flags, Mode::empty())
            .and_then(|file| nix::unistd::write(&file, value.to_bytes()))
            .or_fail(Step::OomScore, value)?;
    }
    if let Some(hostname) = &prepared.hostname {
        sys::sethostname(hostname).or_fail(Step::Hostname, hostname)?;
    }
    if let Some(domainname) = &prepared.domainname {
        sys::setdomainname(domainname).or_fail(Step::Hostname, domainname)?;
    }
    enter_working_directory(&prepared.command.cwd)?;
    umask(Mode::from_bits_truncate(prepared.umask));
    if let Some(view) = &prepared.view {
        view.stay()?;
    }
    drop_privileges(prepared)?;
    stay_bound_to_supervisor(init.control.as_fd())?;
    let ruleset = prepared
        .landlock
        .as_ref()
        .map(PreparedLandlock::ruleset)
        .transpose()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = prepared
        .joinable
        .then(|| SignalFd::with_flags(&SigSet::all(), flags))
        .transpose()
        .or_fail(Step::ProcessFlags, c"(signals)")?;
    Ok(Inside {
        proc,
        outside,
        root,
        ruleset,
        signals,
    })
}

/// Builds the tree that the command will see, and makes it the root.
fn assemble<'p>(init: &mut Init<'p>) -> Result<Assembled, Failure<'p>> {
    let prepared = init.prepared;
    let mut trees = RootTrees::default();
    let mut requests = prepared.root.tree_requests();
    let mut bind_trees = init.trees.as_mut_slice();
    if prepared.identity.loses_the_callers_rights() {
        for slot in [&mut trees.base, &mut trees.upper] {
            if requests.next().is_some() {
                let (first, rest) = bind_trees.split_first_mut().ok_or(Failure {
                    step: Step::Sync,
                    errno: Errno::EBADF,
                    subject: c"(layers)",
                })?;
                *slot = first.take();
                bind_trees = rest;
            }
        }
    }
    let root::Attached {
        root,
        has_etc_files,
        outside,
    } = root::attach(
        &prepared.root,
        &prepared.files,
        &mut trees,
        prepared.leaves_sys_alone(),
    )?;
    let mut tree = Tree {
        command: prepared.identity.command(),
        entered: None,
        root,
        made: &mut init.made,
        trees: bind_trees,
    };
    // Files come before mounts: they must never be written into a bind-mounted host file.
    for file in &prepared.files {
        if !(has_etc_files && root::in_etc(file)) {
            write_file(&tree, file)?;
        }
    }
    if let PreparedRoot::Tmpfs { links, .. } = &prepared.root {
        for (link, target) in links {
            tree.make_parents(link)
                .and_then(|()| tree.link(link, target))
                .or_fail(Step::File, &link.path)?;
        }
    }
    for (index, step) in prepared.mounts.iter().enumerate() {
        if step.shows_network() {
            init.aside.enter_network()?;
        }
        tree.mount(index, step)?;
        if let Some((new, proc)) = step.restricted_proc().zip(tree.made[index].as_ref())
            && !init.aside.hides(new, proc.as_fd())
        {
            tree.restrict(index, new)?;
        }
    }
    let proc = prepared.mounts.iter().position(mount::MountStep::is_proc);
    if let Some(view) = &prepared.view {
        // It shows nothing that is hidden.
        init.aside.finish()?;
        let proc = proc.and_then(|index| tree.made[index].as_ref());
        view.mount(&tree, proc.map(AsFd::as_fd))?;
    }
    for device in &prepared.devices {
        tree.device(device)?;
    }
    if let Some(dev) = prepared.dev_links {
        tree.dev_links(dev, &prepared.mounts)?;
    }
    for path in &prepared.masked {
        tree.mask(path)?;
    }
    for path in &prepared.read_only {
        tree.read_only(path)?;
    }
    if prepared.command.terminal {
        init.stdio = open_terminal(&mut tree, prepared, init.control.as_fd())?;
    }
    if prepared.make_cwd
        && matches!(
            tree.open(&prepared.command.cwd.path, OFlag::O_PATH),
            Err(Errno::ENOENT)
        )
    {
        tree.make_parents(&prepared.command.cwd)
            .or_fail(Step::WorkingDirectory, &prepared.command.cwd.path)?;
        tree.make_directory(&prepared.command.cwd.path)
            .or_fail(Step::WorkingDirectory, &prepared.command.cwd.path)?;
    }
    tree.seal(&prepared.mounts, prepared.root_read_only)?;
    // It works below the host's root.
    init.aside.finish()?;
    let root = root::pivot(tree.root.as_fd())?;
    Ok(Assembled {
        proc: proc.and_then(|index| tree.made[index].take()),
        root,
        outside,
    })
}

/// The finished tree.
struct Assembled {
    /// The sandbox's own /proc, where it has one.
    proc: Option<OwnedFd>,
    root: readback::Place,
    outside: Option<OwnedFd>,
}

fn write_file<'p>(tree: &Tree<'_>, file: &'p PreparedFile) -> Result<(), Failure<'p>> {
    let subject = file.path.path.as_c_str();
    tree.make_parents(&file.path).or_fail(Step::File, subject)?;
    let target = mount::open_for_contents(tree.root.as_fd(), subject, file.mode)
        .or_fail(Step::File, subject)?;
    let kind = fstat(&target).or_fail(Step::File, subject)?.st_mode & SFlag::S_IFMT.bits();
    if kind != SFlag::S_IFREG.bits() {
        return Err(Failure {
            step: Step::File,
            errno: Errno::EINVAL,
            subject,
        });
    }
    file.write_to(target.as_fd()).or_fail(Step::File, subject)
}

/// Waits until the supervisor has mapped ids, joined the cgroup and opened trees.
fn wait_for_supervisor(
    control: BorrowedFd<'_>,
    trees: &mut [Option<OwnedFd>],
) -> Result<(), Failure<'static>> {
    loop {
        match sys::receive_go(control, trees) {
            Ok(Some(_)) => return Ok(()),
            // The supervisor has failed, and says why itself.
            Ok(None) => sys::exit_now(125),
            Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(Failure {
                    step: Step::Sync,
                    errno,
                    subject: c"",
                });
            }
        }
    }
}

/// A terminal from the sandbox's own devpts: its other end goes to the supervisor (CVE-2025-52565: by descriptor, not
/// by a path of the image).
fn open_terminal(
    tree: &mut Tree<'_>,
    prepared: &Prepared,
    control: BorrowedFd<'_>,
) -> Result<Stdio, Failure<'static>> {
    let size = prepared.command.console_size.as_ref();
    let slave = tree
        .open(c"dev/pts/ptmx", OFlag::O_RDWR | OFlag::O_NOCTTY)
        .and_then(|master| hand_over_terminal(&master, size, control))
        .or_fail(Step::Terminal, c"/dev/pts/ptmx")?;
    if let Some(dev) = prepared.dev_links {
        tree.console(dev, slave.as_fd())?;
    }
    thrice(slave)
}

/// Gives the other side a terminal's master, and returns the end that is the command's.
pub(crate) fn hand_over_terminal(
    master: &OwnedFd,
    size: Option<&Winsize>,
    control: BorrowedFd<'_>,
) -> nix::Result<OwnedFd> {
    let slave = sys::terminal_peer(master.as_fd())?;
    if let Some(size) = size {
        crate::terminal::set_window_size(master, size)?;
    }
    control::send(
        control,
        &Record::new(Kind::Terminal, 0, 0, b""),
        Some(master.as_fd()),
    )?;
    Ok(slave)
}

/// One terminal as all three standard streams.
pub(crate) fn thrice(terminal: OwnedFd) -> Result<Stdio, Failure<'static>> {
    let copy = || {
        terminal.try_clone().map_err(|_| Failure {
            step: Step::Terminal,
            errno: Errno::EMFILE,
            subject: c"",
        })
    };
    Ok(Stdio {
        stdin: copy()?,
        stdout: copy()?,
        stderr: terminal,
    })
}

/// CVE-2024-21626: a working directory outside the root would be a way out of it.
pub(crate) fn enter_working_directory(cwd: &PreparedPath) -> Result<(), Failure<'_>> {
    let subject = cwd.path.as_c_str();
    chdir(c"/").or_fail(Step::WorkingDirectory, c"/")?;
    chdir(subject).or_fail(Step::WorkingDirectory, subject)?;
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    match sys::getcwd(&mut buffer) {
        Ok(b'/') => Ok(()),
        Ok(_) => Err(Failure {
            step: Step::WorkingDirectory,
            errno: Errno::EXDEV,
            subject,
        }),
        Err(errno) => Err(Failure {
            step: Step::WorkingDirectory,
            errno,
            subject,
        }),
    }
}

/// In the order that capabilities(7) demands: each step takes away what the one before still needed.
fn drop_privileges(prepared: &Prepared) -> Result<(), Failure<'_>> {
    let capabilities = &prepared.capabilities;
    capabilities.drop_bounding()?;
    capabilities.lock_securebits()?;
    if !capabilities.is_empty() {
        sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).or_fail(Step::Credentials, c"(keepcaps)")?;
    }
    prepared.identity.assume()?;
    // For commands that join as another user. Nothing that is executed inherits the right to it.
    capabilities.apply(if prepared.keeps_right_to_change_ids() {
        capabilities.with_ids(false)
    } else {
        capabilities.sets
    })?;
    if prepared.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
            .or_fail(Step::ProcessFlags, c"(no_new_privs)")?;
    }
    // CVE-2019-5736, CVE-2016-9962: nobody inside may look into, or execute, what PID 1 runs.
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)
        .map(drop)
        .or_fail(Step::ProcessFlags, c"(dumpable)")
}

/// Dies with the supervisor. Set after the last change of credentials, which would clear it (prctl(2)).
fn stay_bound_to_supervisor(control: BorrowedFd<'_>) -> Result<(), Failure<'static>> {
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0)
        .or_fail(Step::ProcessFlags, c"(parent death signal)")?;
    if !readback::bound_to_supervisor() {
        return Err(Failure {
            step: Step::ReadBack,
            errno: Errno::EPROTO,
            subject: c"(parent death signal)",
        });
    }
    match control::receive(control) {
        // It died before the signal was set.
        Ok(None) | Err(Errno::ECONNRESET) => sys::exit_now(125),
        _ => Ok(()),
    }
}

/// Says how the command ended, and ends.
fn end(init: &Init<'_>, status: i32) -> ! {
    if let Some(record) = &init.record {
        // A full disk: then the supervisor alone knows.
        let _ = nix::unistd::write(record, &status.to_ne_bytes());
    }
    let mut full = [0; control::TEXT];
    let full = if status == 0 {
        &[]
    } else {
        full::look(&init.prepared.mounts, &mut full)
    };
    let record = Record::new(Kind::Exited, 0, status, full);
    let _ = control::send(init.control.as_fd(), &record, None);
    sys::exit_now(0)
}

/// Reaps what ends and passes on every signal, until the command ends. Then PID 1 ends, and the kernel with it
/// everything that is left in the sandbox (pid_namespaces(7)). Without a command a signal that would end one ends PID 1.
fn supervise(init: &Init<'_>, command: Option<i32>, mut door: Option<Door<'_>>) -> ! {
    let control = init.control.as_fd();
    let mut patience = Some(sys::SHORT_LIFE);
    loop {
        // Before waiting for a signal: a child may have ended before the first wait.
        loop {
            match sys::wait4(-1, libc::WNOHANG | libc::WUNTRACED) {
                Ok(Some((pid, status, _))) if Some(pid) == command && !libc::WIFSTOPPED(status) => {
                    end(init, status);
                }
                // What it kept would go on without its limits: nothing does.
                Ok(Some((pid, status, _)))
                    if (door.as_mut()).is_some_and(|door| door.lost_keeper(pid, status)) =>
                {
                    end(init, libc::SIGKILL);
                }
                Ok(Some(_)) | Err(Errno::EINTR) => {}
                Ok(None) => break,
                Err(Errno::ECHILD) if command.is_none() => break,
                // The command's end can no longer be learned: to wait for it would be for ever.
                Err(_) => sys::exit_now(125),
            }
        }
        let signal = match &mut door {
            Some(door) => door.next_signal(control, patience),
            None => sys::next_signal(patience),
        };
        match signal {
            Err(Errno::EAGAIN) => {
                patience = None;
                sys::release_program();
            }
            Ok(libc::SIGCHLD) | Err(_) => {}
            Ok(signal) => match (command, signal) {
                // What a terminal sends to its foreground group reaches the command's group.
                (Some(command), libc::SIGINT | libc::SIGQUIT) => sys::kill(-command, signal),
                (Some(command), _) => sys::kill(command, signal),
                // What a command that sets no handler would make of it: such a wait status is the signal's number.
                (None, libc::SIGINT | libc::SIGQUIT | libc::SIGTERM | libc::SIGHUP) => {
                    end(init, signal);
                }
                (None, _) => {}
            },
        }
    }
}
