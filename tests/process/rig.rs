//! A busybox image of a test's own, and commands run from it through the palisade binary.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Far beyond what any test needs: a hang becomes a failure.
const HANG: Duration = Duration::from_mins(5);

const APPLETS: &str = "sh cat dd echo env false fg head id kill ls mkdir nohup printf ps pwd rm setsid sleep stty test touch \
                       tr true tty wc yes";

/// An image, a place for files, and a store, all gone with this.
pub struct Rig {
    directory: TempDir,
}

impl Rig {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("palisade-process-")
            .tempdir()
            .unwrap();
        let root = directory.path().join("image");
        for inner in ["bin", "dev", "etc", "proc", "sys", "tmp", "workspace"] {
            fs::create_dir_all(root.join(inner)).unwrap();
        }
        // By a child: a descriptor that writes it, inherited by what another test starts just then, makes it a busy text file.
        let copied = Command::new("cp")
            .arg("/bin/busybox")
            .arg(root.join("bin"))
            .status();
        assert!(copied.unwrap().success(), "busybox-static is installed");
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("bin/not-executable"), "#!/bin/sh\n").unwrap();
        fs::write(root.join("bin/lost-script"), "#!/opt/missing/interpreter\n").unwrap();
        fs::set_permissions(
            root.join("bin/lost-script"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        fs::create_dir(directory.path().join("workspace")).unwrap();
        Self { directory }
    }

    /// A path of the test's own on the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A word that no other test's processes carry.
    pub fn mark(&self) -> String {
        self.directory
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    }

    /// `palisade run OPTIONS image COMMAND`, not yet started, with no input and all output piped.
    pub fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut palisade = Command::new(binary());
        palisade
            .arg("run")
            .arg("--rm")
            .arg("--root")
            .arg(self.path("store"))
            .args(options)
            .arg(format!("dir:{}", self.path("image").display()))
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        palisade
    }

    /// A shell script in the sandbox, not yet started.
    pub fn script(&self, options: &[&str], script: &str) -> Command {
        self.command(options, &["sh", "-c", script])
    }

    /// Runs a command to its end.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Output {
        end(self.command(options, command).spawn().unwrap())
    }

    /// Runs a shell script in the sandbox to its end.
    pub fn sh(&self, options: &[&str], script: &str) -> Output {
        self.run(options, &["sh", "-c", script])
    }
}

/// The same command below another program: the words of `outer` come first.
pub fn below(outer: &[&str], inner: &Command) -> Command {
    let (program, arguments) = outer.split_first().unwrap();
    let set = inner
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(inner.get_program())
        .args(inner.get_args())
        .envs(set)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The palisade under test.
pub fn binary() -> PathBuf {
    std::env::var_os("PALISADE_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_palisade").into(), PathBuf::from)
}

/// Kills the process when it is not called off in time, so that whoever waits for it goes on.
pub struct Guard {
    _call_off: mpsc::Sender<()>,
}

impl Guard {
    pub fn over(child: &Child) -> Self {
        let pid = pid(child);
        let (call_off, called_off) = mpsc::channel::<()>();
        thread::spawn(move || {
            if called_off.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        Self {
            _call_off: call_off,
        }
    }
}

/// Waits for the end, reading everything.
pub fn end(child: Child) -> Output {
    let _guard = Guard::over(&child);
    child.wait_with_output().unwrap()
}

/// Starts a command and waits until it has written `ready` on its standard output.
#[track_caller]
pub fn started(command: &mut Command) -> Child {
    let mut child = command.spawn().unwrap();
    assert_eq!(&said(&mut child), b"ready\n");
    child
}

/// The next bytes of a command's standard output.
#[track_caller]
pub fn said<const N: usize>(child: &mut Child) -> [u8; N] {
    let _guard = Guard::over(child);
    let mut said = [0; N];
    if let Err(error) = child.stdout.as_mut().unwrap().read_exact(&mut said) {
        let mut stderr = Vec::new();
        let _ = child.stderr.as_mut().unwrap().read_to_end(&mut stderr);
        let output = Output {
            status: child.wait().unwrap(),
            stdout: said.to_vec(),
            stderr,
        };
        panic!("it says no more: {error}; {}", describe(&output));
    }
    said
}

/// Feeds `input` to a command and waits for its end.
pub fn feed(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing breaks this pipe, which is no failure here.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = end(child);
    writer.join().unwrap();
    output
}

pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// The exit code; a palisade that was itself killed by a signal is a failure.
#[track_caller]
pub fn code(output: &Output) -> i32 {
    match output.status.code() {
        Some(code) => code,
        None => panic!("palisade died of a signal: {}", describe(output)),
    }
}

#[track_caller]
pub fn assert_code(output: &Output, expected: i32) {
    assert_eq!(code(output), expected, "{}", describe(output));
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn describe(output: &Output) -> String {
    let tail = |bytes: &[u8]| text(&bytes[bytes.len().saturating_sub(2000)..]);
    format!(
        "{}; stdout: {}; stderr: {}",
        output.status,
        tail(&output.stdout),
        tail(&output.stderr)
    )
}

/// Waits until there is something to read, which for a pidfd is its process's end.
#[track_caller]
pub fn until_readable(fd: impl AsFd, what: &str) {
    let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(HANG).unwrap();
    assert_eq!(poll(&mut ready, timeout), Ok(1), "never: {what}");
}

/// Command lines of the processes on this machine that carry `mark`.
pub fn processes_with(mark: &str) -> Vec<String> {
    let found = numbered_with(mark).into_iter();
    found.map(|(_, line)| line).collect()
}

/// Waits until there is none: what was killed, or has only to exit, is gone when the kernel gets to it.
#[track_caller]
pub fn until_none_with(mark: &str) {
    loop {
        let found = numbered_with(mark);
        let Some((number, line)) = found.first() else {
            return;
        };
        let pid = rustix::process::Pid::from_raw(*number).unwrap();
        let flags = rustix::process::PidfdFlags::empty();
        // One that cannot be opened has ended meanwhile.
        if let Ok(process) = rustix::process::pidfd_open(pid, flags) {
            until_readable(process, &format!("the end of {line}"));
        }
    }
}

/// The same with their process ids.
fn numbered_with(mark: &str) -> Vec<(i32, String)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            let mut line = Vec::new();
            File::open(path.join("cmdline"))
                .ok()?
                .read_to_end(&mut line)
                .ok()?;
            let line = text(&line).replace('\0', " ");
            line.contains(mark).then_some((number, line))
        })
        .collect()
}

/// Names of the entries of a directory; none where it does not exist.
pub fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
