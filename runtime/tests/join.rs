//! Commands that join a running sandbox: what they have, how they end, and what ends with them.

mod plans;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use palisade_policies::landlock::{Access, PathRule};
use palisade_runtime::{
    Copied, Error, Event, Exit, JoinCommand, JoinEvent, Joined, Plan, Sandbox, Service, Stdio,
    User, launch,
};

/// Tests one after the other, as each makes sandboxes from this process, which may have one thread alone.
fn main() {
    let cases: &[(&str, fn())] = &[
        (
            "a_joined_command_has_what_the_first_has",
            a_joined_command_has_what_the_first_has,
        ),
        ("every_way_to_end_comes_back", every_way_to_end_comes_back),
        (
            "a_command_that_cannot_be_executed_says_so",
            a_command_that_cannot_be_executed_says_so,
        ),
        (
            "environment_and_directory_are_the_first_commands_but_for_what_is_said",
            environment_and_directory_are_the_first_commands_but_for_what_is_said,
        ),
        (
            "a_signal_reaches_the_command_alone",
            a_signal_reaches_the_command_alone,
        ),
        (
            "the_time_limit_ends_the_whole_tree_and_nothing_else",
            the_time_limit_ends_the_whole_tree_and_nothing_else,
        ),
        (
            "a_caller_that_is_gone_takes_the_tree_along_unless_it_is_detached",
            a_caller_that_is_gone_takes_the_tree_along_unless_it_is_detached,
        ),
        (
            "what_stays_in_the_background_does_not_hold_up_the_end",
            what_stays_in_the_background_does_not_hold_up_the_end,
        ),
        (
            "another_user_only_where_there_is_more_than_one_id",
            another_user_only_where_there_is_more_than_one_id,
        ),
        (
            "a_terminal_comes_from_the_sandboxs_own_devpts",
            a_terminal_comes_from_the_sandboxs_own_devpts,
        ),
        (
            "a_rule_for_a_path_that_was_replaced_holds_for_what_was_there_before",
            a_rule_for_a_path_that_was_replaced_holds_for_what_was_there_before,
        ),
        (
            "files_go_in_and_come_out_under_the_commands_own_confinement",
            files_go_in_and_come_out_under_the_commands_own_confinement,
        ),
        (
            "a_request_of_another_version_is_refused_with_a_word_about_it",
            a_request_of_another_version_is_refused_with_a_word_about_it,
        ),
        (
            "nobody_inside_can_look_into_a_keeper",
            nobody_inside_can_look_into_a_keeper,
        ),
        (
            "a_sandbox_that_ends_closes_its_connections",
            a_sandbox_that_ends_closes_its_connections,
        ),
    ];
    for (name, case) in cases {
        case();
        println!("test {name} ... ok");
    }
}

/// A sandbox whose first command waits.
struct Place {
    sandbox: Sandbox,
}

fn null() -> OwnedFd {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .expect("null")
        .into()
}

impl Place {
    fn new(plan: &Plan) -> Self {
        let stdio = Stdio {
            stdin: null(),
            stdout: null(),
            stderr: std::io::stderr()
                .as_fd()
                .try_clone_to_owned()
                .expect("a copy"),
        };
        let mut sandbox = launch(plan, stdio).expect("a sandbox");
        loop {
            wait(&sandbox.control());
            match sandbox.event().expect("it starts") {
                Some(Event::Started(_)) => return Self { sandbox },
                other => assert!(other.is_none(), "{other:?}"),
            }
        }
    }

    fn idle() -> Self {
        let mut plan = plans::plan(&["sleep", "1000"]);
        plan.joinable = true;
        Self::new(&plan)
    }

    fn join(&self, command: &JoinCommand) -> Running {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (input, feed) = std::io::pipe().expect("a pipe");
        let stdio = Stdio {
            stdin: input.into(),
            stdout: OwnedFd::from(writer.try_clone().expect("a copy")),
            stderr: OwnedFd::from(writer),
        };
        let (joined, theirs) = Joined::new(command, &stdio).expect("a request");
        self.sandbox.admit(theirs.as_fd()).expect("admitted");
        Running {
            joined,
            output: OwnedFd::from(reader).into(),
            feed: OwnedFd::from(feed).into(),
        }
    }

    /// Runs a command to its end.
    fn run(&self, command: &JoinCommand) -> Result<(Exit, bool, String), Error> {
        let mut running = self.join(command);
        let (exit, timed_out) = running.end()?;
        let mut text = String::new();
        running.output.read_to_string(&mut text).expect("text");
        Ok((exit, timed_out, text))
    }

    fn sh(&self, script: &str) -> String {
        let (exit, _, text) = self.run(&sh(script)).expect("it runs");
        assert_eq!(exit, Exit::Code(0), "{script}: {text}");
        text
    }
}

struct Running {
    joined: Joined,
    output: File,
    feed: File,
}

impl Running {
    fn event(&mut self) -> Result<JoinEvent, Error> {
        loop {
            wait(&self.joined.control());
            if let Some(event) = self.joined.event()? {
                return Ok(event);
            }
        }
    }

    fn end(&mut self) -> Result<(Exit, bool), Error> {
        loop {
            match self.event()? {
                JoinEvent::Exited {
                    exit, timed_out, ..
                } => return Ok((exit, timed_out)),
                JoinEvent::Closed => panic!("closed before the end"),
                JoinEvent::Terminal | JoinEvent::Started(_) => {}
            }
        }
    }

    /// Reads what the command says first.
    fn ready(&mut self) {
        let mut said = [0; 6];
        self.output.read_exact(&mut said).expect("it speaks");
        assert_eq!(&said, b"ready\n");
    }
}

/// Reads to the end: a command's output ends when its last process has.
fn until_closed(output: &mut File) {
    let mut buffer = [0; 4096];
    loop {
        let mut ready = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        let came = poll(&mut ready, PollTimeout::from(60_000_u16)).expect("poll");
        assert_eq!(came, 1, "somebody holds it open");
        if output.read(&mut buffer).expect("read") == 0 {
            return;
        }
    }
}

fn wait(fd: &impl AsFd) {
    let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::NONE).expect("poll");
}

fn command(args: &[&str]) -> JoinCommand {
    JoinCommand {
        args: args.iter().map(Into::into).collect(),
        stop_signal: libc::SIGTERM,
        stop_timeout: Duration::from_secs(10),
        ..JoinCommand::default()
    }
}

fn sh(script: &str) -> JoinCommand {
    command(&["sh", "-c", script])
}

/// What is the same for every command of a sandbox, as the command itself can see it.
const LOOK: &str = "for n in user mnt pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done; \
    grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups|SigIgn|SigBlk|Umask)' /proc/self/status; cat /proc/self/cgroup; \
    ulimit -a; pwd; hostname; ls /proc/self/fd; grep -c . /proc/self/mountinfo; touch /dev/shm/x 2>&1; cat /proc/self/oom_score_adj";

fn a_joined_command_has_what_the_first_has() {
    let mut plan = plans::plan(&["sh", "-c", &format!("({LOOK}) > /tmp/first; sleep 1000")]);
    plan.joinable = true;
    let place = Place::new(&plan);
    place.sh("until [ -s /tmp/first ] && grep -q '^0$' /tmp/first; do :; done");
    // The shell of a pipe or a redirection has the same descriptors as one without.
    let text = place.sh(&format!(
        "({LOOK}) > /tmp/second; diff /tmp/first /tmp/second && echo same"
    ));
    assert_eq!(text, "same\n");
    let first = place.sh("cat /tmp/first");
    assert!(first.contains("Permission denied"), "Landlock: {first}");
    assert!(first.contains("CapBnd:\t0000000000000000"), "{first}");
}

fn every_way_to_end_comes_back() {
    let place = Place::idle();
    for code in 0..=255_u8 {
        let (exit, ..) = place.run(&sh(&format!("exit {code}"))).expect("it runs");
        assert_eq!(exit, Exit::Code(code));
    }
    for (script, exit) in [
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -SEGV $$", Exit::Signal(11)),
        ("kill -PIPE $$", Exit::Signal(13)),
    ] {
        assert_eq!(place.run(&sh(script)).expect("it runs").0, exit, "{script}");
    }
    let mut running = place.join(&command(&["cat"]));
    running.feed.write_all(b"to the end").expect("fed");
    let Running {
        mut joined,
        mut output,
        feed,
    } = running;
    drop(feed);
    let mut text = String::new();
    output.read_to_string(&mut text).expect("text");
    assert_eq!(text, "to the end");
    wait(&joined.control());
    assert!(matches!(joined.event(), Ok(Some(JoinEvent::Started(_)))));
}

fn a_command_that_cannot_be_executed_says_so() {
    let place = Place::idle();
    for (program, code) in [("no-such-command", 127), ("/usr", 126)] {
        let error = place.run(&command(&[program])).expect_err("it cannot");
        assert_eq!(error.exit_code(), code, "{error}");
    }
    let mut command = sh("true");
    command.cwd = Some("/no/such/place".into());
    let error = place.run(&command).expect_err("it cannot");
    assert_eq!(
        error.to_string(),
        "enter the working directory /no/such/place: No such file or directory"
    );
}

fn environment_and_directory_are_the_first_commands_but_for_what_is_said() {
    let place = Place::idle();
    assert_eq!(place.sh("echo $PATH $A; pwd"), "/usr/bin:/bin\n/tmp\n");
    let mut command = sh("echo $A; pwd");
    command.env = vec!["A=1".into(), "A=2".into()];
    command.cwd = Some("/usr".into());
    assert_eq!(place.run(&command).expect("it runs").2, "2\n/usr\n");
    // Programs are looked for in the command's own PATH.
    let mut command = sh("true");
    command.env = vec!["PATH=/nowhere".into()];
    assert_eq!(place.run(&command).expect_err("lost").exit_code(), 127);
}

fn a_signal_reaches_the_command_alone() {
    let place = Place::idle();
    let script = "trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let mut one = place.join(&sh(script));
    let mut other = place.join(&sh(script));
    one.ready();
    other.ready();
    one.joined.signal(libc::SIGTERM).expect("sent");
    assert_eq!(one.end().expect("it ran").0, Exit::Code(7));
    other.joined.kill().expect("sent");
    assert_eq!(other.end().expect("it ran").0, Exit::Signal(9));
}

/// Processes inside, by their command lines, that hold this mark.
fn marked(place: &Place, mark: &str) -> String {
    // The mark is put together inside, so that the one who looks does not find itself.
    let (head, tail) = mark.split_at(1);
    place.sh(&format!(
        "m={head}; m=${{m}}{tail}; (for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -- \"$m\"; done) 2>/dev/null; true"
    ))
}

fn the_time_limit_ends_the_whole_tree_and_nothing_else() {
    let place = Place::idle();
    let mut bystander = place.join(&sh("echo ready; sleep 1111.5"));
    bystander.ready();
    // A daemon of a session of its own, whose parents have ended, and a command that does not listen.
    let mut limited = sh(
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; (sleep 2222.5 & sleep 2222.5) & sleep 2222.5' &); echo ready; \
         while :; do sleep 2222.5; done",
    );
    limited.timeout = Some(Duration::from_millis(300));
    limited.stop_timeout = Duration::from_millis(100);
    let mut running = place.join(&limited);
    running.ready();
    let (exit, timed_out) = running.end().expect("it ran");
    assert_eq!((exit, timed_out), (Exit::Signal(9), true));
    assert_eq!(marked(&place, "2222.5"), "");
    assert!(marked(&place, "1111.5").contains("sleep 1111.5"));
    // One that ends when asked to leaves nothing either.
    let mut polite = sh("setsid sleep 2222.5 & echo ready; sleep 2222.5");
    polite.timeout = Some(Duration::from_millis(100));
    let mut running = place.join(&polite);
    let (exit, timed_out) = running.end().expect("it ran");
    assert_eq!((exit, timed_out), (Exit::Signal(15), true));
    assert_eq!(marked(&place, "2222.5"), "");
    bystander.joined.kill().expect("sent");
    assert_eq!(bystander.end().expect("it ran").0, Exit::Signal(9));
}

fn a_caller_that_is_gone_takes_the_tree_along_unless_it_is_detached() {
    let place = Place::idle();
    let script = "(setsid sleep 3333.5 &); echo ready; sleep 3333.5";
    let mut left = sh(script);
    left.detached = true;
    let mut running = place.join(&left);
    running.ready();
    drop(running.joined);
    let mut running = place.join(&sh(script));
    running.ready();
    drop(running.joined);
    until_closed(&mut running.output);
    // One who goes before it is known that the command runs takes it along as well.
    let mut running = place.join(&sh(script));
    drop(running.joined);
    until_closed(&mut running.output);
    let sleeping = marked(&place, "3333.5");
    let sleeping = sleeping.lines().filter(|line| line.starts_with("sleep "));
    assert_eq!(sleeping.count(), 2, "those of the detached one");
}

fn what_stays_in_the_background_does_not_hold_up_the_end() {
    let place = Place::idle();
    let mut running = place.join(&sh("sleep 4444.5 & echo ready"));
    assert_eq!(running.end().expect("it ran").0, Exit::Code(0));
    running.ready();
    assert!(marked(&place, "4444.5").contains("sleep 4444.5"));
}

fn another_user_only_where_there_is_more_than_one_id() {
    let place = Place::idle();
    let mut command = sh("id -u; id -g; id -G; grep -E 'Cap(Prm|Eff)' /proc/self/status");
    command.user = Some(User {
        uid: 7,
        gid: 8,
        groups: vec![8, 9],
    });
    let ran = place.run(&command);
    if nix::unistd::geteuid().is_root() {
        let none = "0000000000000000";
        let expected = format!("7\n8\n8 9\nCapPrm:\t{none}\nCapEff:\t{none}\n");
        assert_eq!(ran.expect("it runs").2, expected);
        command.user = Some(User {
            uid: 70_000,
            gid: 8,
            groups: vec![],
        });
        let error = place.run(&command).expect_err("no such id").to_string();
        assert!(error.contains("70000"), "{error}");
    } else {
        let error = ran.expect_err("one id").to_string();
        assert!(
            error.contains("which has the ids 1000:1000 alone"),
            "{error}"
        );
        command.user = Some(User {
            uid: 1000,
            gid: 1000,
            groups: vec![],
        });
        assert!(
            place
                .run(&command)
                .expect("it runs")
                .2
                .starts_with("1000\n1000\n")
        );
    }
}

fn a_terminal_comes_from_the_sandboxs_own_devpts() {
    let place = Place::idle();
    let mut command = sh("tty; stty size; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all");
    command.terminal = Some((33, 111));
    let mut running = place.join(&command);
    assert!(matches!(running.event(), Ok(JoinEvent::Terminal)));
    let master = running.joined.terminal().expect("a terminal");
    let mut master = File::from(master.try_clone_to_owned().expect("a copy"));
    let mut text = Vec::new();
    // A master's end is an error, when nobody has the other side open (pty(7)).
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    assert_eq!(text, "/dev/pts/0\r\n33 111\r\nall\r\n");
    assert_eq!(running.end().expect("it ran").0, Exit::Code(0));
}

fn a_rule_for_a_path_that_was_replaced_holds_for_what_was_there_before() {
    let mut plan = plans::plan(&["sleep", "1000"]);
    plan.joinable = true;
    plan.landlock.as_mut().expect("rules").push(PathRule {
        path: "/tmp/key".into(),
        access: Access::Write,
    });
    let place = Place::new(&plan);
    place.sh("ln -s /dev/shm /tmp/key");
    // Were the rules' paths resolved again, this command could write where no rule allows it.
    let text = place.sh("touch /tmp/key/x || echo refused");
    assert!(text.ends_with("refused\n"), "{text}");
}

fn files_go_in_and_come_out_under_the_commands_own_confinement() {
    let place = Place::idle();
    place.sh("mkdir /tmp/d; echo hello > /tmp/d/f; ln -s ../.. /tmp/d/up");
    let pack = |path: &str| JoinCommand {
        args: vec![path.into(), "name".into()],
        service: Some(Service::Pack { follow: false }),
        ..JoinCommand::default()
    };
    let (exit, _, stream) = place.run(&pack("/tmp/d")).expect("packed");
    assert_eq!(exit, Exit::Code(0));
    assert!(stream.contains("name/f\0") && stream.contains("hello\n"));
    let error = place.run(&pack("/no/such")).expect_err("missing");
    assert_eq!(
        error.to_string(),
        "read /no/such: No such file or directory"
    );
    let unpack = |path: &str| {
        let command = JoinCommand {
            args: vec![path.into(), "name".into()],
            service: Some(Service::Unpack {
                copied: Copied::Directory,
                owners: false,
            }),
            ..JoinCommand::default()
        };
        let mut running = place.join(&command);
        // One that has refused reads nothing.
        let _ = running.feed.write_all(stream.as_bytes());
        running.feed = File::open("/dev/null").expect("null");
        running.end()
    };
    assert_eq!(unpack("/tmp/copy").expect("unpacked").0, Exit::Code(0));
    assert_eq!(place.sh("cat /tmp/copy/f"), "hello\n");
    // Landlock holds for the copy as it does for a command, and the root is as read-only.
    let error = unpack("/dev/shm").expect_err("no rule").to_string();
    assert_eq!(error, "write /dev/shm/name: Permission denied");
    let error = unpack("/usr/x").expect_err("read-only").to_string();
    assert!(error.contains("Read-only file system"), "{error}");
}

fn a_request_of_another_version_is_refused_with_a_word_about_it() {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
    };
    let place = Place::idle();
    let file = memfd_create(c"request", MFdFlags::MFD_CLOEXEC).expect("a file");
    let version = palisade_runtime::REQUEST_VERSION + 1;
    let request = [&version.to_ne_bytes()[..], b"whatever it says"].concat();
    nix::unistd::write(&file, &request).expect("written");
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a pair");
    let (file, ours, stream) = (file.as_raw_fd(), ours.as_raw_fd(), null());
    let descriptors = [
        file,
        stream.as_raw_fd(),
        stream.as_raw_fd(),
        stream.as_raw_fd(),
    ];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let byte = [std::io::IoSlice::new(&[1])];
    sendmsg::<()>(ours, &byte, &rights, MsgFlags::empty(), None).expect("sent");
    place.sandbox.admit(theirs.as_fd()).expect("admitted");
    let mut answer = [0; 4096];
    let count = recv(ours, &mut answer, MsgFlags::empty()).expect("an answer");
    let said = String::from_utf8_lossy(&answer[..count]);
    assert!(said.contains("another version of palisade"), "{said}");
    assert!(said.contains("palisade restart"), "{said}");
}

fn nobody_inside_can_look_into_a_keeper() {
    let place = Place::idle();
    // While commands join, one inside looks at every process that it sees: only its own open to it.
    let watch = "echo ready; while :; do for p in /proc/[0-9]*; do \
        l=$(readlink $p/exe 2>/dev/null); case $l in ''|/usr/*|/bin/*) ;; *) echo found $l;; esac; \
        for f in $p/fd/*; do t=$(readlink $f 2>/dev/null); case $t in *memfd*|*socket*) echo found $p $t;; esac; done; \
        done; done";
    let mut spy = place.join(&sh(watch));
    spy.ready();
    for _ in 0..200 {
        assert_eq!(
            place.run(&command(&["true"])).expect("it runs").0,
            Exit::Code(0)
        );
    }
    spy.joined.kill().expect("sent");
    spy.end().expect("it ran");
    let mut found = String::new();
    spy.output.read_to_string(&mut found).expect("text");
    assert_eq!(found, "");
}

fn a_sandbox_that_ends_closes_its_connections() {
    let place = Place::idle();
    let mut running = place.join(&sh("echo ready; sleep 5555.5"));
    running.ready();
    assert!(matches!(running.event(), Ok(JoinEvent::Started(_))));
    place.sandbox.kill().expect("killed");
    assert!(matches!(running.event(), Ok(JoinEvent::Closed)));
}
