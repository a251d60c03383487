//! Limits that hold, on the host this runs on. Where none can be had, the error must say so: an ordinary user of a host
//! with cgroup v1 gets none. `PALISADE_EXPECT_CGROUP` names the [`Kind`] that must be had, so that a machine that is known to
//! give limits cannot pass by giving none.

mod abandoned;
mod control;
mod limits;
mod place;

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::geteuid;
use oci_spec::runtime::LinuxResources;

use super::*;

/// Resources from the JSON of a runtime configuration.
pub(super) fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).expect("valid resources")
}

/// Processes that are named one by one; a negative number stands for one that cannot be held.
pub(super) struct Listed(pub Vec<i32>);

impl Tree for Listed {
    fn processes(&self) -> Vec<i32> {
        self.0.clone()
    }

    fn hold(&self, pid: i32) -> nix::Result<Option<OwnedFd>> {
        match crate::sys::pidfd_open(pid) {
            Err(Errno::ESRCH) => Ok(None),
            other => other.map(Some),
        }
    }
}

/// One at a time: making a cgroup may move the whole test process.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a sandbox that no other test has.
pub(super) fn id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

fn expected() -> Option<String> {
    std::env::var("PALISADE_EXPECT_CGROUP").ok()
}

/// What was made; none where this user of this host can have no cgroup, and the error says what is missing.
pub(super) fn unless_refused<T>(made: Result<T, Error>) -> Option<T> {
    let error = match made {
        Ok(made) => return Some(made),
        Err(error) => error,
    };
    match &error {
        Error::Unavailable { obstacles, .. } if !geteuid().is_root() && expected().is_none() => {
            let text = error.to_string();
            assert!(!obstacles.is_empty(), "{text}");
            assert!(
                text.starts_with("cannot limit ") && text.contains("/sys/fs/cgroup"),
                "{text}"
            );
            None
        }
        _ => panic!("{error}"),
    }
}

/// A process that waits for the end of its input, and its number.
pub(super) fn waiting() -> (Child, i32) {
    let child = Command::new("/bin/cat")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    (child, pid)
}

pub(super) fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// The cgroups of a process, as /proc tells them.
pub(super) fn groups(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()
}

impl Cgroup {
    /// Moves a process into every directory of this cgroup.
    pub(super) fn join(&self, pid: i32) -> Result<(), Error> {
        if let Some(joined) = self.joined() {
            joined.write("cgroup.procs", &pid.to_string())?;
        }
        self.join_v1(pid)
    }

    /// The processes in it.
    pub(super) fn processes(&self) -> Result<Vec<i32>, Error> {
        let first = self.v1.first().map(|(_, directory)| directory);
        let list = self.joined().or(first).expect("a directory");
        Ok(list
            .read("cgroup.procs")?
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect())
    }
}

/// A cgroup that is killed and removed with the test.
pub(super) struct Limited(pub(super) Cgroup);

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let removed = self.0.remove();
        if !std::thread::panicking() {
            removed.expect("removed");
            for path in paths(&self.0) {
                assert!(!path.exists(), "{} is left behind", path.display());
            }
        }
    }
}

pub(super) fn paths(cgroup: &Cgroup) -> Vec<PathBuf> {
    let record = cgroup.record();
    let v1 = record.v1.into_iter().map(|(_, path)| path);
    record
        .unified
        .into_iter()
        .chain(record.leaf)
        .chain(v1)
        .collect()
}

fn limited(json: &str) -> Option<Limited> {
    limited_at(json, &Request::default())
}

fn limited_at(json: &str, request: &Request) -> Option<Limited> {
    let made = unless_refused(Cgroup::create(&id(), &resources(json), request))?;
    Some(Limited(made.expect("a cgroup, as there are limits")))
}

/// A shell that runs `script` once it is in the cgroup.
fn start(cgroup: &Cgroup, script: &str) -> Child {
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    cgroup
        .join(i32::try_from(child.id()).unwrap())
        .expect("joined");
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

fn run(cgroup: &Cgroup, script: &str) -> (ExitStatus, String) {
    let output = start(cgroup, script).wait_with_output().unwrap();
    (output.status, String::from_utf8(output.stdout).unwrap())
}

/// Waits until the shell says that it has done its part.
fn wait_for_line(child: &mut Child) {
    use std::io::{BufRead as _, BufReader};
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
}
