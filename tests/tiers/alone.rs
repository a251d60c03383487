//! What holds a command where there are no namespaces.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::rig::{
    Guard, Rig, assert_code, below, describe, end, entries, pid, processes_with, said, started,
    text,
};
use crate::without::{alone, host, on_host, without_namespaces};

fn run(rig: &Rig, options: &[&str], script: &str) -> std::process::Output {
    end(alone(rig, options, script).spawn().unwrap())
}

/// A process that stays whatever happens to it, and carries the mark in its command line.
fn stubborn(mark: &str) -> String {
    format!("sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1000; done' {mark}")
}

/// Processes of the command that carry the mark; palisade's own, whose arguments carry it too, may be about to end.
fn left(rig: &Rig) -> Vec<String> {
    let mark = rig.mark();
    processes_with(&mark)
        .into_iter()
        .filter(|line| line.starts_with("sh -c"))
        .collect()
}

#[test]
fn exit_codes_are_the_commands_own() {
    let rig = Rig::new();
    assert_code(&run(&rig, &[], "exit 0"), 0);
    assert_code(&run(&rig, &[], "exit 255"), 255);
    assert_code(&run(&rig, &[], "kill -9 $$"), 137);
    assert_code(&run(&rig, &[], "kill -TERM $$"), 143);
    let missing = on_host(&rig, &[], "exec no-such-program");
    assert_code(&missing, 127);
    assert_code(
        &run(
            &rig,
            &["--timeout", "200ms", "--stop-timeout", "1"],
            "sleep 1000",
        ),
        124,
    );
}

#[test]
fn what_the_command_left_running_ends_with_it() {
    let rig = Rig::new();
    let stays = stubborn(&rig.mark());
    let script = format!(
        "{stays} & setsid {stays} & (setsid {stays} &) ; nohup {stays} >/dev/null 2>&1 & exit 4"
    );
    assert_code(&run(&rig, &[], &script), 4);
    assert_eq!(left(&rig), [""; 0]);
    assert_eq!(entries(&rig.path("store/sandboxes")), [""; 0]);
}

#[test]
fn the_time_limit_ends_the_whole_tree() {
    let rig = Rig::new();
    let stays = stubborn(&rig.mark());
    let options = ["--timeout", "1s", "--stop-timeout", "1"];
    assert_code(
        &run(&rig, &options, &format!("setsid {stays} & {stays}")),
        124,
    );
    assert_eq!(left(&rig), [""; 0]);
}

#[test]
fn a_swarm_of_orphans_is_ended() {
    let rig = Rig::new();
    let stays = stubborn(&rig.mark());
    let script =
        format!("i=0; while [ $i -lt 60 ]; do (setsid {stays} &); i=$((i+1)); done; exit 6");
    assert_code(&run(&rig, &[], &script), 6);
    assert_eq!(left(&rig), [""; 0]);
}

/// `command` where whoever takes hold of processes one by one is slow.
fn slowly(command: &Command) -> Command {
    let strace =
        "strace -f -qq -o /dev/null -e trace=pidfd_open -e inject=pidfd_open:delay_enter=100000";
    let strace: Vec<&str> = strace.split(' ').collect();
    below(&strace, command)
}

#[test]
fn a_chain_of_forks_does_not_outrun_the_end() {
    let rig = Rig::new();
    // Each makes the next and ends: no list of processes is ever up to date.
    let next = format!("sh -c \"$0\" \"$0\" {} &", rig.mark());
    let chain = format!("next='{next}'; sh -c \"$next\" \"$next\"");
    for (options, last, code) in [
        (&[][..], "exit 4", 4),
        (
            &["--timeout", "1s", "--stop-timeout", "0"],
            "exec sleep 1000",
            124,
        ),
    ] {
        let command = alone(&rig, options, &format!("{chain}; {last}"));
        assert_code(&end(slowly(&command).spawn().unwrap()), code);
        assert_eq!(left(&rig), [""; 0]);
    }
}

#[test]
fn what_was_written_before_the_end_of_the_tree_arrives() {
    let rig = Rig::new();
    let place = rig.path("workspace").display().to_string();
    // What is in the file has been written to standard output before.
    let script = format!(
        "trap '' TERM; exec python3 -c '
import os
last = os.open(\"{place}/last\", os.O_CREAT | os.O_WRONLY)
number = 0
while True:
    number += 1
    os.write(1, b\"%d\\n\" % number)
    os.pwrite(last, b\"%20d\" % number, 0)'"
    );
    let mount = format!("{place}:{place}");
    let limits = ["--output-limit=1g", "--timeout=1s", "--stop-timeout=0"];
    let first = ["--require=no-namespace", "-v", &mount];
    let command = without_namespaces(&host(&rig, &first, &limits, &script));
    let output = end(slowly(&command).spawn().unwrap());
    assert_code(&output, 124);
    let number = |text: &str| text.trim().parse::<u64>().unwrap();
    let written = number(&fs::read_to_string(rig.path("workspace/last")).unwrap());
    let arrived = number(text(&output.stdout).lines().next_back().unwrap());
    assert!(arrived >= written, "{arrived} of {written}");
}

#[test]
fn what_this_tier_refuses_besides_is_counted_and_explained() {
    let rig = Rig::new();
    let receipt = rig.path("receipt.json");
    let options = ["--explain", "--receipt", receipt.to_str().unwrap()];
    let script = "python3 -c '
import socket
for _ in range(3):
    try:
        socket.socket(socket.AF_INET)
    except OSError as error:
        print(error.errno)'";
    let output = on_host(&rig, &options, script);
    assert_eq!(
        text(&output.stdout),
        "97\n97\n97\n",
        "{}",
        describe(&output)
    );
    let receipt: serde_json::Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    let calls = receipt["denials"]["system_calls"].as_array().unwrap();
    let socket = calls.iter().find(|call| call["name"] == "socket").unwrap();
    assert_eq!(
        (&socket["count"], &socket["errno"]),
        (&3.into(), &"EAFNOSUPPORT".into())
    );
    let said = text(&output.stderr);
    assert!(said.contains("socket was denied 3 times"), "{said}");
    assert!(said.contains("one that this tier adds"), "{said}");
}

#[test]
fn when_palisade_is_killed_everything_in_the_sandbox_dies() {
    let rig = Rig::new();
    let stays = stubborn(&rig.mark());
    let mut child = started(&mut alone(
        &rig,
        &[],
        &format!("setsid {stays} & echo ready; {stays}"),
    ));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    let _guard = Guard::over(&child);
    // The end of the pipe is the end of the last process that held it.
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    child.wait().unwrap();
    assert_eq!(left(&rig), [""; 0]);
}

#[test]
fn when_the_process_between_is_killed_everything_in_the_sandbox_dies() {
    let rig = Rig::new();
    let stays = stubborn(&rig.mark());
    let script =
        format!("setsid {stays} & trap 'echo again' USR1; echo ready; while :; do sleep 0.1; done");
    let mut child = started(&mut alone(&rig, &[], &script));
    // A signal goes through palisade and the process between, so that both know of the command when it arrives.
    kill(pid(&child), Signal::SIGUSR1).unwrap();
    assert_eq!(&said(&mut child), b"again\n");
    // The only child of palisade, which `sh` has become by exec.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let between: i32 = children.trim().parse().unwrap();
    kill(nix::unistd::Pid::from_raw(between), Signal::SIGKILL).unwrap();
    let output = end(child);
    assert_code(&output, 137);
    assert_eq!(left(&rig), [""; 0]);
}

#[test]
fn signals_reach_the_command() {
    let rig = Rig::new();
    let child = started(&mut alone(
        &rig,
        &[],
        "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.1; done",
    ));
    kill(pid(&child), Signal::SIGTERM).unwrap();
    let output = end(child);
    assert_code(&output, 9);
    assert!(
        text(&output.stdout).contains("caught"),
        "{}",
        describe(&output)
    );
}

#[test]
fn no_process_outside_can_be_signalled_or_looked_into() {
    let rig = Rig::new();
    let script = "for p in $PPID 1; do kill -0 $p 2>/dev/null && echo signalled; cat /proc/$p/environ /proc/$p/cmdline /proc/$p/maps; done; \
                  ls /proc; cat /proc/self/cmdline >/dev/null; while read -r line; do echo own; break; done </proc/self/status";
    let output = on_host(&rig, &[], script);
    // The shell reads its own status, as it opens the file itself.
    assert_eq!(text(&output.stdout), "own\n", "{}", describe(&output));
}

#[test]
fn no_file_of_the_callers_can_be_opened_and_no_place_but_its_own_written() {
    let rig = Rig::new();
    let secret = rig.path("secret");
    fs::write(&secret, "secret").unwrap();
    let script = format!(
        "cat {0}; echo x >{0}; echo x >/tmp/palisade-probe; mkdir /tmp/palisade-probe; ls {1}; ls /; ls /home; ls /etc; cat /etc/shadow; \
         ln {0} $TMPDIR/link && cat $TMPDIR/link; mv {0} $TMPDIR/moved; rm -f {0}; touch $TMPDIR/a $HOME/b $XDG_RUNTIME_DIR/c && echo wrote",
        secret.display(),
        rig.path("").display()
    );
    let output = on_host(&rig, &[], &script);
    assert_eq!(text(&output.stdout), "wrote\n", "{}", describe(&output));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert!(!std::path::Path::new("/tmp/palisade-probe").exists());
}

#[test]
fn a_workspace_at_its_own_place_is_writable_or_not_as_asked() {
    let rig = Rig::new();
    let place = rig.path("workspace").display().to_string();
    let script = format!("echo made >{place}/file && cat {place}/file");
    let output = on_host(
        &rig,
        &["-v", &format!("{place}:{place}"), "-w", &place],
        &script,
    );
    assert_eq!(text(&output.stdout), "made\n", "{}", describe(&output));
    let output = on_host(
        &rig,
        &["-v", &format!("{place}:{place}:ro")],
        &format!("cat {place}/file; echo y >{place}/file"),
    );
    assert_eq!(text(&output.stdout), "made\n", "{}", describe(&output));
    assert_eq!(
        fs::read_to_string(rig.path("workspace/file")).unwrap(),
        "made\n"
    );
}

#[test]
fn no_socket_leads_out() {
    let rig = Rig::new();
    let place = rig.path("workspace/socket");
    let _listener = UnixListener::bind(&place).unwrap();
    let workspace = rig.path("workspace").display().to_string();
    let script = format!(
        "python3 - <<'END'
import socket
def attempt(name, make):
    try:
        make()
        print(name)
    except OSError:
        pass
attempt('unix', lambda: socket.socket(socket.AF_UNIX).connect('{0}'))
attempt('inet', lambda: socket.socket(socket.AF_INET))
attempt('inet6', lambda: socket.socket(socket.AF_INET6))
attempt('netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt('datagram pair', lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
attempt('pair', lambda: socket.socketpair())
END",
        place.display()
    );
    let options = ["-v", &format!("{workspace}:{workspace}")];
    assert_eq!(text(&on_host(&rig, &options, &script).stdout), "pair\n");
    // With the host's network there is that, and still no way to a service's UNIX socket.
    let options = [
        "-v",
        &format!("{workspace}:{workspace}"),
        "--network",
        "host",
    ];
    assert_eq!(
        text(&on_host(&rig, &options, &script).stdout),
        "inet\ninet6\nnetlink\npair\n"
    );
}

#[test]
fn shared_memory_and_limits_of_others_are_out_of_reach() {
    let rig = Rig::new();
    let script = "python3 - <<'END'
import ctypes, os, resource
libc = ctypes.CDLL(None, use_errno=True)
print('shm', libc.shmget(0x1234, 4096, 0o1600) < 0)
try:
    resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))
    print('limited')
except OSError:
    print('refused')
print('own', resource.prlimit(0, resource.RLIMIT_CORE))
END";
    let output = on_host(&rig, &[], script);
    assert_eq!(
        text(&output.stdout),
        "shm True\nrefused\nown (0, 0)\n",
        "{}",
        describe(&output)
    );
}

#[test]
fn the_callers_variables_and_descriptors_do_not_cross() {
    let rig = Rig::new();
    let mut command = alone(&rig, &[], "env; ls /proc/self/fd 2>/dev/null");
    command.env("SECRET_TOKEN", "hunter2");
    let output = end(command.spawn().unwrap());
    assert_code(&output, 0);
    let said = text(&output.stdout);
    assert!(
        said.contains("HOME=") && !said.contains("hunter2"),
        "{said}"
    );
    // The last is the directory that is being listed.
    assert!(said.ends_with("\n0\n1\n2\n3\n"), "{said}");
}

#[test]
fn a_prepared_directory_is_all_that_a_static_program_of_it_sees() {
    let rig = Rig::new();
    let output = run(
        &rig,
        &[],
        "cat /etc/passwd; ls /usr; cat ../../etc/passwd; echo from $0; pwd",
    );
    assert_code(&output, 0);
    let said = text(&output.stdout);
    let image = rig.path("image").display().to_string();
    assert_eq!(said, format!("from sh\n{image}\n"), "{}", describe(&output));
}

#[test]
fn ordinary_work_goes_on() {
    let rig = Rig::new();
    let place = rig.path("workspace").display().to_string();
    let script = format!(
        "cd {place} && printf 'int main(void){{return 42;}}' >a.c && gcc a.c -o a && ./a; echo $?; git init -q r && cd r && \
         git -c user.name=a -c user.email=b@c commit -q --allow-empty -m x && git log --oneline | wc -l; \
         python3 -c 'import subprocess; print(subprocess.run([\"echo\", \"child\"], capture_output=True, text=True).stdout)'; \
         echo one two | tr ' ' '\\n' | sort -r"
    );
    let output = on_host(&rig, &["-v", &format!("{place}:{place}")], &script);
    assert_eq!(
        text(&output.stdout),
        "42\n1\nchild\n\ntwo\none\n",
        "{}",
        describe(&output)
    );
}
