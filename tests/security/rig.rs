//! The probe program, an image that holds it, and what it looks for on the host.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::Uid;
use tempfile::TempDir;

macro_rules! sources {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../../integration/security/probe/", $name)))),*]
    };
}

const SOURCES: [(&str, &str); 9] = sources![
    "probe.h",
    "main.c",
    "fixtures.c",
    "kernel.c",
    "privilege.c",
    "paths.c",
    "sockets.c",
    "processes.c",
    "needs.c"
];

/// Errors of a kernel that has no such call, family or protocol: there is nothing to close.
const NOT_IN_THIS_KERNEL: [&str; 4] = [
    "ENOSYS",
    "EAFNOSUPPORT",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
];

/// What one probe said.
#[derive(Clone, Debug)]
pub struct Answer {
    pub name: String,
    pub severity: String,
    pub wall: String,
    pub verdict: String,
    /// Policies under which it may be open, or lost if it is needed.
    pub allowed_in: Vec<String>,
    /// The system call without which what is needed is lost.
    pub refuses: String,
    pub errno: String,
}

impl Answer {
    fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split('\t').collect();
        assert_eq!(fields.len(), 8, "{line:?}");
        assert!(!fields[7].is_empty(), "a probe without a reason: {line:?}");
        let own = |index: usize| fields[index].to_owned();
        Self {
            name: own(0),
            severity: own(1),
            wall: own(2),
            verdict: own(3),
            allowed_in: fields[4].split_whitespace().map(str::to_owned).collect(),
            refuses: own(5),
            errno: own(6),
        }
    }

    pub fn is_open(&self) -> bool {
        self.verdict == "open"
    }

    pub fn is_lost(&self) -> bool {
        self.verdict == "needed-lost"
    }

    pub fn allowed_in(&self, policy: &str) -> bool {
        self.allowed_in.iter().any(|allowed| allowed == policy)
    }

    /// Whether this kernel has nothing that could be closed.
    pub fn not_in_this_kernel(&self) -> bool {
        NOT_IN_THIS_KERNEL.contains(&self.errno.as_str())
    }
}

pub type Answers = BTreeMap<String, Answer>;

/// All of it, gone with this.
pub struct Rig {
    directory: TempDir,
    host: Child,
    fixtures: Vec<String>,
}

impl Rig {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("palisade-security-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let path = directory.path();
        let image = path.join("image");
        for inner in [
            "bin",
            "dev",
            "etc",
            "home/sandbox",
            "proc",
            "root",
            "run",
            "sys",
            "tmp",
        ] {
            fs::create_dir_all(image.join(inner)).unwrap();
        }
        fs::write(image.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        build(path, &image.join("probe"));
        fs::copy(image.join("probe"), image.join("setuid")).unwrap();
        fs::set_permissions(image.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();

        fs::create_dir(path.join("host")).unwrap();
        let mut host = Command::new(image.join("probe"))
            .arg("hold")
            .arg(path.join("host"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let fixtures: Vec<_> = BufReader::new(host.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap)
            .take_while(|line| !line.is_empty())
            .collect();
        assert!(fixtures.len() > 15, "{fixtures:?}");
        Self {
            directory,
            host,
            fixtures,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The probe program on the host.
    pub fn program(&self) -> PathBuf {
        self.path("image/probe")
    }

    /// A policy file.
    pub fn policy(&self, name: &str, text: &str) -> String {
        let path = self.path(&format!("{name}.toml"));
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Every probe's answer in a sandbox that somebody careless has started; `wrap` goes before the palisade command.
    pub fn inside(&self, wrap: &[&str], options: &[&str], probe: &[&str]) -> Answers {
        let mut command = self.careless(wrap);
        command
            .arg(binary())
            .args(["run", "--rm", "--quiet", "--root"])
            .arg(self.path("store"))
            .args(options)
            .arg(format!("dir:{}", self.path("image").display()))
            .args(["/probe", "setuid=/setuid"])
            .args(&self.fixtures)
            .args(probe);
        answers(&mut command)
    }

    /// Every probe's answer from a command that joins a detached sandbox.
    pub fn joined(&self, options: &[&str]) -> Answers {
        let palisade = || {
            let mut command = Command::new(binary());
            command
                .env("PALISADE_ROOT", self.path("store"))
                .stdin(Stdio::null());
            command
        };
        let image = format!("dir:{}", self.path("image").display());
        let started = palisade()
            .args(["run", "--detach", "--name", "probed"])
            .args(options)
            .args([&image, "/probe", "stay"])
            .output()
            .unwrap();
        assert!(started.status.success(), "{started:?}");
        let mut command = self.careless(&[]);
        command
            .env("PALISADE_ROOT", self.path("store"))
            .arg(binary())
            .args(["exec", "probed", "/probe", "setuid=/setuid"])
            .args(&self.fixtures);
        let answers = answers(&mut command);
        let removed = palisade().args(["rm", "--force", "probed"]).output();
        assert!(removed.unwrap().status.success());
        answers
    }

    /// Every probe's answer where namespaces are refused, under a policy that goes on without them.
    pub fn without_namespaces(&self, policy: &str) -> Answers {
        let policy = self.policy(
            "alone",
            &format!(
                "extends = \"{policy}\"\nflags = \"refine\"\nminimum-tier = \"no-namespace\"\n\
                 [filesystem]\nroot = \"read-only\"\nsys = \"none\"\n"
            ),
        );
        // The caller stays who he is, and has no capability there.
        let refuse = "echo 0 >/proc/sys/user/max_user_namespaces && \
                      exec setpriv --ambient-caps=-all --inh-caps=-all \"$@\"";
        let mut command = self.careless(&[
            "unshare",
            "--user",
            "--map-current-user",
            "--keep-caps",
            "sh",
            "-c",
            refuse,
            "sh",
        ]);
        command
            .arg(binary())
            .args(["run", "--rm", "--quiet", "--root"])
            .arg(self.path("store"))
            .args(["--policy", &policy])
            .arg(format!("dir:{}", self.path("image").display()))
            .arg("/probe")
            .arg(format!("setuid={}", self.path("image/setuid").display()))
            .args(&self.fixtures);
        answers(&mut command)
    }

    /// Every probe's answer outside of any sandbox.
    pub fn outside(&self, wrap: &[&str], probe: &[&str]) -> Answers {
        let mut command = self.careless(wrap);
        command.arg(self.program()).args(&self.fixtures).args(probe);
        answers(&mut command)
    }

    fn careless(&self, wrap: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.arg("start").args(wrap).stdin(Stdio::null());
        command
    }

    /// The words that tell the probe what lies on the host.
    pub fn fixtures(&self) -> &[String] {
        &self.fixtures
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.host.stdin.take());
        let _ = self.host.wait();
    }
}

fn build(directory: &Path, program: &Path) {
    let source = directory.join("source");
    fs::create_dir(&source).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-std=gnu17", "-D_GNU_SOURCE", "-static", "-o"])
        .arg(program);
    for (name, text) in SOURCES {
        fs::write(source.join(name), text).unwrap();
        if Path::new(name).extension().is_some_and(|end| end == "c") {
            compiler.arg(source.join(name));
        }
    }
    let output = compiler.output().expect("a C compiler is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a command that ends in a run of the probe program.
#[track_caller]
pub fn answers(command: &mut Command) -> Answers {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let answers: Answers = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let answer = Answer::parse(line);
            (answer.name.clone(), answer)
        })
        .collect();
    assert!(!answers.is_empty(), "{command:?} said nothing");
    answers
}

/// The palisade under test.
pub fn binary() -> PathBuf {
    std::env::var_os("PALISADE_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_palisade").into(), PathBuf::from)
}

pub fn is_root() -> bool {
    Uid::effective().is_root()
}
