//! A sandbox made from a Plan written by hand: what the launch itself must hold, without the command line.

mod plans;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use palisade_runtime::{Error, Event, Exit, Plan, Protections, Stdio, launch};

use plans::{mount, plan};

struct Ran {
    output: String,
    exit: Option<Exit>,
    held: Protections,
}

fn run(plan: &Plan) -> Result<Ran, Error> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let stdio = Stdio {
        stdin: OwnedFd::from(File::open("/dev/null").expect("null")),
        stdout: OwnedFd::from(writer.try_clone().expect("a copy")),
        stderr: OwnedFd::from(writer),
    };
    let mut sandbox = launch(plan, stdio)?;
    let (mut exit, mut held) = (None, Protections::default());
    loop {
        let mut ready = [
            PollFd::new(sandbox.control(), PollFlags::POLLIN),
            PollFd::new(sandbox.pidfd(), PollFlags::POLLIN),
        ];
        poll(&mut ready, PollTimeout::NONE).expect("poll");
        let ended = ready[1].revents().is_some_and(|events| !events.is_empty());
        while let Some(event) = sandbox.event()? {
            match event {
                Event::Terminal => {}
                Event::Started(protections) => held = protections,
                Event::Exited(status) => exit = Some(status),
            }
        }
        if ended {
            break;
        }
    }
    let usage = sandbox.finish()?;
    assert!(usage.memory_peak > 0);
    let mut output = String::new();
    { reader }.read_to_string(&mut output).expect("text");
    Ok(Ran { output, exit, held })
}

#[test]
fn a_command_runs_as_the_sandbox_user_without_capabilities() {
    let ran = run(&plan(&[
        "sh",
        "-c",
        "id -u; id -g; grep -E 'Cap|NoNewPrivs' /proc/self/status; hostname; pwd",
    ]))
    .expect("it runs");
    assert!(ran.output.starts_with("1000\n1000\n"), "{}", ran.output);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            ran.output.contains(&format!("{set}:\t0000000000000000")),
            "{}",
            ran.output
        );
    }
    assert!(ran.output.contains("NoNewPrivs:\t1"), "{}", ran.output);
    assert!(ran.output.ends_with("sandbox\n/tmp\n"), "{}", ran.output);
    assert_eq!(ran.exit, Some(Exit::Code(0)));
    assert!(
        ran.held.lines.contains(&("NoNewPrivs".into(), "1".into())),
        "{:?}",
        ran.held
    );
}

#[test]
fn every_way_to_end_comes_back() {
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 255", Exit::Code(255)),
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -TERM 1; sleep 5", Exit::Signal(15)),
    ] {
        assert_eq!(
            run(&plan(&["sh", "-c", script])).expect("it runs").exit,
            Some(exit),
            "{script}"
        );
    }
}

#[test]
fn a_command_that_does_not_exist_is_127_and_one_without_permission_126() {
    let error = run(&plan(&["no-such-command"]))
        .err()
        .expect("it does not run");
    assert_eq!(error.exit_code(), 127, "{error}");
    let error = run(&plan(&["/usr"])).err().expect("it does not run");
    assert_eq!(error.exit_code(), 126, "{error}");
}

#[test]
fn a_failing_mount_names_itself_and_leaves_nothing_running() {
    let mut broken = plan(&["true"]);
    let mounts = broken.spec.mounts_mut().as_mut().expect("mounts");
    mounts.push(mount("/x", "tmpfs", &["no-such-option=1"]));
    let error = run(&broken).err().expect("it does not run");
    assert!(error.to_string().starts_with("mount /x: "), "{error}");
    assert_eq!(error.exit_code(), 125);
}

#[test]
fn the_root_is_read_only_and_landlock_stands_behind_it() {
    let ran = run(&plan(&[
        "sh",
        "-c",
        "touch /x /usr/x /dev/x; touch /tmp/x /dev/shm/x",
    ]))
    .expect("it runs");
    assert_eq!(
        ran.output.matches("Read-only file system").count(),
        3,
        "{}",
        ran.output
    );
    // /dev/shm is mounted writable, but no rule allows to make a file there; /tmp has one.
    assert!(
        ran.output.contains("'/dev/shm/x': Permission denied"),
        "{}",
        ran.output
    );
    assert!(!ran.output.contains("/tmp/x"), "{}", ran.output);
}

#[test]
fn nothing_of_the_host_is_visible() {
    let ran = run(&plan(&["sh", "-c", "ls /; ls /proc | grep -c '^[0-9]'; ls /proc/self/fd; wc -c < /proc/keys; ls /proc/1/root /proc/1/cwd 2>&1; cat /proc/1/environ 2>&1"]))
        .expect("it runs");
    assert!(!ran.output.contains("home\n"), "{}", ran.output);
    assert!(ran.output.contains("Permission denied"), "{}", ran.output);
}
