//! A probe's child process: does one thing, says what came of it, and is gone.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::calls;
use crate::sys;

/// What a child could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// What the kernel said.
    pub(super) errno: Errno,
    /// What was being done.
    pub(super) doing: String,
}

/// What came of it: more about it, or why not.
pub(super) type Answer = Result<String, Failed>;

/// Names what a call was for.
pub(super) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, Failed>;
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, what: &str) -> Result<T, Failed> {
        self.map_err(|errno| Failed {
            errno,
            doing: what.to_owned(),
        })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: &str) -> Result<T, Failed> {
        self.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .doing(what)
    }
}

/// Longer than any probe takes; one that hangs is ended.
const MOST_MILLISECONDS: u16 = 10_000;

/// Runs `body` in a child. Whatever it does to itself ends with it.
pub(super) fn ask(body: impl FnOnce() -> Answer) -> Answer {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
    match sys::fork().doing("start a process")? {
        None => {
            drop(reader);
            // A parent that is gone has nobody to tell.
            let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
            tell(writer, &body());
            sys::exit_now(0)
        }
        Some(pid) => {
            drop(writer);
            let said = listen(reader);
            sys::kill(pid, libc::SIGKILL);
            while let Err(Errno::EINTR) = sys::wait4(pid, 0) {}
            said
        }
    }
}

fn tell(writer: OwnedFd, answer: &Answer) {
    let (number, text) = match answer {
        Ok(text) => (0, text),
        Err(failed) => (failed.errno as i32, &failed.doing),
    };
    let mut bytes = number.to_ne_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    // By write(2) alone: what stands in this process's buffers is the parent's to write.
    let _ = File::from(writer).write_all(&bytes);
}

fn listen(reader: OwnedFd) -> Answer {
    let mut ready = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    let came = loop {
        match poll(&mut ready, PollTimeout::from(MOST_MILLISECONDS)) {
            Err(Errno::EINTR) => {}
            other => break other.doing("wait for a probe")?,
        }
    };
    let mut bytes = Vec::new();
    if came > 0 {
        File::from(reader)
            .take(1 << 16)
            .read_to_end(&mut bytes)
            .doing("hear from a probe")?;
    }
    let Some((number, text)) = bytes.split_first_chunk::<4>() else {
        // A filter that kills leaves no word.
        let errno = if came > 0 {
            Errno::EACCES
        } else {
            Errno::ETIMEDOUT
        };
        return Err(errno).doing("it was killed for trying");
    };
    let text = String::from_utf8_lossy(text).into_owned();
    match i32::from_ne_bytes(*number) {
        0 => Ok(text),
        number => Err(Failed {
            errno: Errno::from_raw(number),
            doing: text,
        }),
    }
}

/// In a child: a user namespace in which it has every capability, with the caller's one id as 0.
pub(super) fn enter_user_namespace() -> Result<(), Failed> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    calls::unshare(libc::CLONE_NEWUSER).doing("make a user namespace")?;
    std::fs::write("/proc/self/setgroups", "deny").doing("write /proc/self/setgroups")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))
        .doing("write /proc/self/uid_map")?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1\n")).doing("write /proc/self/gid_map")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_answer_comes_back_whole() {
        assert_eq!(ask(|| Ok("version 7".into())), Ok("version 7".into()));
        let failed = ask(|| Err(Errno::ENOSPC).doing("make it")).unwrap_err();
        assert_eq!(
            (failed.errno, failed.doing.as_str()),
            (Errno::ENOSPC, "make it")
        );
    }

    #[test]
    fn a_child_that_is_killed_is_no_success() {
        let failed = ask(|| {
            sys::kill(nix::unistd::getpid().as_raw(), libc::SIGKILL);
            Ok(String::new())
        });
        assert!(failed.is_err());
    }

    #[test]
    fn what_a_child_does_to_itself_ends_with_it() {
        let before = std::env::current_dir().unwrap();
        let moved = ask(|| {
            nix::unistd::chdir("/").doing("chdir")?;
            Ok(std::env::current_dir().unwrap().display().to_string())
        });
        assert_eq!(moved, Ok("/".into()));
        assert_eq!(std::env::current_dir().unwrap(), before);
    }
}
