//! A root directory of a test's own, a canary beside it, and palisade run on it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Far beyond what any test needs: a hang becomes a failure.
const HANG: Duration = Duration::from_mins(1);

/// What no sandbox may ever read.
pub const SECRET: &str = "the canary's secret";

const APPLETS: &str = "sh cat echo grep id ls pwd readlink stat true";

/// A root directory with busybox in it, and a directory of the host's that it must not reach.
pub struct Rig {
    directory: TempDir,
}

impl Rig {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("palisade-hostile-")
            .tempdir()
            .unwrap();
        let rig = Self { directory };
        fs::create_dir_all(rig.image("bin")).unwrap();
        fs::copy("/bin/busybox", rig.image("bin/busybox")).expect("busybox-static is installed");
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", rig.image("bin").join(applet)).unwrap();
        }
        fs::create_dir_all(rig.canary().join("inner")).unwrap();
        for name in ["secret", "null", "passwd", "inner/secret"] {
            fs::write(rig.canary().join(name), SECRET).unwrap();
        }
        fs::create_dir(rig.path("workspace")).unwrap();
        rig
    }

    /// A path of the test's own on the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path in the root directory, as the host sees it.
    pub fn image(&self, name: &str) -> PathBuf {
        self.path("image").join(name)
    }

    /// The directory that nothing may be read from or written to.
    pub fn canary(&self) -> PathBuf {
        self.path("canary")
    }

    /// From the root directory up and down to the canary.
    pub fn relative_canary(&self) -> PathBuf {
        Path::new("../../../../../../../..").join(self.canary().strip_prefix("/").unwrap())
    }

    /// `palisade run OPTIONS dir:image COMMAND` to its end.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let image = format!("dir:{}", self.path("image").display());
        self.run_image(options, &image, command)
    }

    /// `palisade run OPTIONS IMAGE COMMAND` to its end. The canary and the root directory must be what they were.
    #[track_caller]
    pub fn run_image(&self, options: &[&str], image: &str, command: &[&str]) -> Output {
        let before = (listing(&self.canary()), listing(&self.path("image")));
        let child = Command::new(binary())
            .args(["run", "--rm", "--root"])
            .arg(self.path("store"))
            .args(options)
            .arg(image)
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = end(child);
        let said = describe(&output);
        assert!(!said.contains(SECRET), "the canary was read: {said}");
        let after = (listing(&self.canary()), listing(&self.path("image")));
        assert_eq!(before, after, "written outside: {said}");
        output
    }

    /// A shell script in the sandbox.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> Output {
        self.run(options, &["sh", "-c", script])
    }
}

/// The palisade under test.
pub fn binary() -> PathBuf {
    std::env::var_os("PALISADE_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_palisade").into(), PathBuf::from)
}

fn end(child: Child) -> Output {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let waiting = thread::spawn(move || child.wait_with_output().unwrap());
    let begun = Instant::now();
    while !waiting.is_finished() {
        if begun.elapsed() > HANG {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            panic!("no end: {}", describe(&waiting.join().unwrap()));
        }
        thread::park_timeout(Duration::from_millis(2));
    }
    waiting.join().unwrap()
}

/// Every path below `directory` with its kind, mode, size and time of change.
fn listing(directory: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(status) = fs::symlink_metadata(&path) else {
            continue;
        };
        // A path beyond PATH_MAX is of a test that makes one deeper than anybody lists.
        if status.is_dir() && path.as_os_str().len() < 1000 {
            for entry in fs::read_dir(&path).unwrap() {
                todo.push(entry.unwrap().path());
            }
        }
        let facts = (
            status.mode(),
            status.size(),
            status.mtime(),
            status.mtime_nsec(),
        );
        found.insert(path, facts);
    }
    found
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn describe(output: &Output) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    format!("{}; stdout: {stdout}; stderr: {stderr}", output.status)
}

/// The command did not run, for a reason that is said in one line.
pub fn is_refused(output: &Output) -> bool {
    let errors = text(&output.stderr)
        .lines()
        .filter(|line| line.starts_with("error: "))
        .count();
    matches!(output.status.code(), Some(125..=127)) && errors == 1
}

#[track_caller]
pub fn assert_refused(output: &Output) {
    assert!(is_refused(output), "{}", describe(output));
}

/// The script's first word was `ran`, or it was refused.
#[track_caller]
pub fn assert_ran_or_refused(output: &Output) {
    let ran = text(&output.stdout).starts_with("ran");
    assert!(ran || is_refused(output), "{}", describe(output));
}

#[track_caller]
pub fn assert_ran(output: &Output) {
    let ran = text(&output.stdout).starts_with("ran");
    assert!(ran, "{}", describe(output));
}

/// A FIFO at `path`.
pub fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
}
