//! What can go wrong while a sandbox is watched.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// Why a sandbox could not be supervised, or what was left undone after it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sandbox could not be launched.
    #[error(transparent)]
    Runtime(#[from] palisade_runtime::Error),
    /// A terminal was asked for together with standard input, which is none.
    #[error("standard input cannot drive a terminal: the input device is not a TTY")]
    NotATerminal,
    /// A standard stream is something that must not reach a sandbox.
    #[error("{stream} is {kind}, which is never handed to a sandbox")]
    Handle {
        /// `standard input`, `standard output` or `standard error`.
        stream: &'static str,
        /// What it is, with an article.
        kind: &'static str,
    },
    /// The sandbox was ended, by a second request to end or by somebody's SIGKILL, before the command ran.
    #[error("the sandbox was ended before the command ran")]
    NeverStarted,
    /// A system call of the supervisor failed.
    #[error("{action}: {}", errno.desc())]
    System {
        /// What was being done, to what.
        action: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// The receipt could not be written.
    #[error("write the receipt {}: {}", path.display(), said(source))]
    Receipt {
        /// Where it should have gone.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A sandbox's record could not be read, written or locked.
    #[error("{action} {}: {source}", path.display())]
    State {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A sandbox's record makes no sense.
    #[error("{} is broken: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such sandbox.
    #[error("no sandbox is named {what}, and no id begins with that")]
    NoSuchSandbox {
        /// What was looked for.
        what: String,
    },
    /// The beginning of an id fits several sandboxes.
    #[error("the ids of several sandboxes begin with {what}")]
    Ambiguous {
        /// What was looked for.
        what: String,
    },
    /// A name is in use.
    #[error("the name {name} is in use by sandbox {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// Somebody else holds the sandbox's lock.
    #[error("sandbox {id} is being started or removed by another command")]
    Busy {
        /// The sandbox.
        id: String,
    },
    /// A sandbox's monitor will not do something.
    #[error("sandbox {id}: {why}")]
    Refused {
        /// The sandbox.
        id: String,
        /// Why not.
        why: String,
        /// What to do now.
        advice: String,
    },
    /// A sandbox does not run.
    #[error("sandbox {id} is not running")]
    NotRunning {
        /// The sandbox.
        id: String,
    },
    /// A sandbox's monitor ended while it was asked.
    #[error("sandbox {id} ended")]
    MonitorGone {
        /// The sandbox.
        id: String,
    },
    /// A key for receipts is not one, or cannot be read.
    #[error("the key {}: {why}", path.display())]
    ReceiptKey {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A log of receipts cannot be appended to.
    #[error("the log of receipts {}: {why}", path.display())]
    ReceiptLog {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file that should hold receipts cannot be read.
    #[error("read {}: {}", path.display(), said(source))]
    ReceiptFile {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A run failed, and something after it too, such as writing its receipt.
    #[error("{error}; then: {problem}")]
    Twice {
        /// Why the run failed.
        error: Box<Error>,
        /// What could not be done after it.
        problem: Box<Error>,
    },
    /// A directory of the sandbox could not be removed after it.
    #[error("remove {}: {}", path.display(), said(source))]
    Cleanup {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What the kernel said, without the number that Rust puts behind it.
pub(crate) fn said(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

impl Error {
    /// The exit code palisade ends with: 127 and 126 where the command is missing or cannot be executed, else 125.
    pub fn exit_code(&self) -> u8 {
        match self.first() {
            Self::Runtime(error) => error.exit_code(),
            _ => 125,
        }
    }

    /// What the user can do now, where that is known.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Twice { error, .. } => error.advice(),
            Self::Runtime(error) => error.advice(),
            Self::NotATerminal => {
                Some("leave out -t to pass data in, or -i to only show output".into())
            }
            Self::Handle { .. } => {
                Some("redirect it to a file, a pipe or /dev/null; mount a directory with -v".into())
            }
            Self::Receipt { .. } => Some(
                "name a file in an existing directory you can write to, or - for standard output"
                    .into(),
            ),
            Self::ReceiptKey { .. } => Some(
                "palisade receipt keygen FILE makes a key, and FILE.pub for those who verify; \
                 keep it where no sandbox can read it"
                    .into(),
            ),
            Self::ReceiptLog { .. } => Some(
                "a log that you may write to, in an existing directory, made by --receipt-log alone; palisade receipt verify says what is wrong with one"
                    .into(),
            ),
            Self::ReceiptFile { .. } => Some("check the path and who may read it".into()),
            Self::Cleanup { .. } => Some("remove it by hand; nothing uses it any more".into()),
            Self::State { .. } => Some("--root DIR with a directory of your own".into()),
            Self::Broken { .. } => Some("palisade rm -f ID, and make the sandbox again".into()),
            Self::NoSuchSandbox { .. } => Some("palisade ps -a, which lists every sandbox".into()),
            Self::Ambiguous { .. } => Some("more digits of the id".into()),
            Self::NameTaken { name, .. } => Some(format!(
                "another --name; --replace, which removes that one first; or palisade rm -f {name}"
            )),
            Self::Refused { advice, .. } => Some(advice.clone()),
            Self::MonitorGone { .. } => Some("palisade ps -a, which says what became of it".into()),
            Self::NotRunning { id } => Some(format!("palisade start {id}")),
            Self::Busy { .. } => Some("the same again in a moment".into()),
            Self::NeverStarted | Self::System { .. } => None,
        }
    }

    /// What failed first.
    pub fn first(&self) -> &Self {
        match self {
            Self::Twice { error, .. } => error.first(),
            error => error,
        }
    }

    /// With what failed after it.
    pub(crate) fn and(self, problem: Self) -> Self {
        Self::Twice {
            error: Box::new(self),
            problem: Box::new(problem),
        }
    }

    /// For `map_err`: a failed call, named by what it was for.
    pub(crate) fn system(action: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { action, errno }
    }
}
