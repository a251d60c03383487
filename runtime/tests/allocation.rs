//! Nothing is allocated or freed between clone and exec: what was cloned is a copy of a memory whose other threads are gone,
//! with whatever lock one of them held.

mod plans;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use palisade_policies::landlock::{Access, PathRule};
use palisade_policies::{NetworkMode, Policy};
use palisade_runtime::{Event, Exit, Plan, Root, Stdio, Tier, launch};

use plans::plan;

/// The one process that may allocate and free; 0 for any.
static OWN: AtomicI32 = AtomicI32::new(0);

/// The system's allocator, which ends every other process that asks it for memory or gives some back.
struct Guarded;

fn check() {
    // SAFETY: takes nothing.
    let caller = unsafe { libc::getpid() };
    let own = OWN.load(Ordering::Relaxed);
    if own != 0 && caller != own {
        // SAFETY: ends the process.
        unsafe { libc::_exit(99) };
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        check();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

/// Runs it to its end, reading what it writes on a pipe or on its terminal.
fn run(plan: &Plan) -> (Option<Exit>, String) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let stdio = Stdio {
        stdin: OwnedFd::from(File::open("/dev/null").expect("null")),
        stdout: OwnedFd::from(writer.try_clone().expect("a copy")),
        stderr: OwnedFd::from(writer),
    };
    let mut sandbox = launch(plan, stdio).expect("it is launched");
    let mut exit = None;
    loop {
        let mut ready = [
            PollFd::new(sandbox.control(), PollFlags::POLLIN),
            PollFd::new(sandbox.pidfd(), PollFlags::POLLIN),
        ];
        poll(&mut ready, PollTimeout::NONE).expect("poll");
        let ended = ready[1].revents().is_some_and(|events| !events.is_empty());
        while let Some(event) = sandbox.event().expect("it says what happens") {
            if let Event::Exited(status) = event {
                exit = Some(status);
            }
        }
        if ended {
            break;
        }
    }
    sandbox.finish().expect("it ends");
    let mut output = String::new();
    reader.read_to_string(&mut output).expect("text");
    (exit, output)
}

/// The same plan for the caller's own root, without namespaces.
fn alone(scratch: &std::path::Path) -> Plan {
    let mut plan = plan(&["sh", "-c", "echo $((6 * 7)); (sleep 1000 &)"]);
    plan.tier = Tier::NoNamespace;
    plan.root = Root::Callers {
        scratch: scratch.to_owned(),
    };
    let programs = ["/usr", "/bin", "/lib", "/lib64"].map(|path| PathRule {
        path: path.into(),
        access: Access::ReadExec,
    });
    plan.landlock = Some(programs.to_vec());
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let process = plan.spec.process_mut().as_mut().expect("a process");
    process
        .user_mut()
        .set_uid(user.as_raw())
        .set_gid(group.as_raw());
    process.set_cwd("/".into());
    plan.spec.set_mounts(None).set_hostname(None);
    let linux = plan.spec.linux_mut().as_mut().expect("linux");
    linux
        .set_namespaces(Some(Vec::new()))
        .set_uid_mappings(None)
        .set_gid_mappings(None)
        .set_devices(None)
        .set_masked_paths(None)
        .set_readonly_paths(None);
    plan
}

/// One test, so that there is one thread that launches.
#[test]
fn nothing_is_allocated_or_freed_between_clone_and_exec() {
    let script = ["sh", "-c", "echo $((6 * 7)); exit 3"];
    let policy = Policy::builtin("default").expect("built in");
    let mut terminal = plan(&script);
    let process = terminal.spec.process_mut().as_mut().expect("a process");
    process.set_terminal(Some(true));
    let mut watched = plan(&script);
    watched.seccomp = policy.seccomp().expect("a program");
    watched.watch_denials = true;
    let missing = plan(&["no-such-command"]);
    let scratch = std::env::temp_dir();
    let mut lonely = alone(&scratch);
    let mut offline = policy;
    offline.network.mode = NetworkMode::None;
    lonely.seccomp = offline.seccomp_shared().expect("a program");

    OWN.store(nix::unistd::getpid().as_raw(), Ordering::Relaxed);
    for (name, plan, code) in [
        ("plain", plan(&script), 3),
        ("terminal", terminal, 3),
        ("watched", watched, 3),
        ("alone", lonely, 0),
    ] {
        let (exit, output) = run(&plan);
        assert_eq!(exit, Some(Exit::Code(code)), "{name}: {output}");
        assert_eq!(output.contains("42\n"), name != "terminal", "{name}");
    }
    let null = || OwnedFd::from(File::open("/dev/null").expect("null"));
    let stdio = Stdio {
        stdin: null(),
        stdout: null(),
        stderr: null(),
    };
    let mut sandbox = launch(&missing, stdio).expect("it is launched");
    let mut ready = [PollFd::new(sandbox.pidfd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::NONE).expect("poll");
    let error = loop {
        match sandbox.event() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it said nothing"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.exit_code(), 127, "{error}");
    // Memory that a process of the sandbox asks for, or gives back, ends it: that this is so is tried.
    let kept = Box::new(1);
    assert_eq!(
        ends(|| std::mem::forget(std::hint::black_box(Box::new(1)))),
        99
    );
    assert_eq!(ends(|| drop(std::hint::black_box(kept))), 99);
    assert_eq!(ends(|| ()), 0);
}

/// The exit code of another process that does this.
fn ends(act: impl FnOnce()) -> i32 {
    // SAFETY: the child does no more than that, and ends.
    match unsafe { nix::unistd::fork() }.expect("fork") {
        nix::unistd::ForkResult::Child => {
            act();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            match nix::sys::wait::waitpid(child, None).expect("waited") {
                nix::sys::wait::WaitStatus::Exited(_, code) => code,
                other => panic!("{other:?}"),
            }
        }
    }
}
