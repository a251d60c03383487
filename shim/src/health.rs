//! Health checks: a command that joins the sandbox every so often, and what its exit codes mean together.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags};
use nix::unistd::pipe2;
use palisade_runtime::{Exit, JoinCommand, JoinEvent, Joined, Stdio};

use crate::Error;
use crate::state::{Check, Health, Healthiness, Verdict};
use crate::stdio::{null, set_nonblocking};

/// Outputs that are kept.
const KEPT: usize = 5;

/// Bytes that are kept of one output.
const OUTPUT: usize = 4096;

/// The exit code of a check that said nothing itself.
const NO_CODE: i32 = -1;

/// What a shell says where there is no such command.
const NOT_FOUND: i32 = 127;

/// The checks of one run of a sandbox.
#[derive(Debug)]
pub struct Checks {
    how: Health,
    /// When the command was started.
    begun: Instant,
    /// When the next check begins; none while one runs.
    next: Option<Instant>,
    running: Option<Running>,
    /// What they say so far.
    pub healthiness: Healthiness,
    /// The last ones, the oldest first.
    pub last: Vec<Check>,
}

/// A check that runs.
#[derive(Debug)]
struct Running {
    joined: Joined,
    output: Option<OwnedFd>,
    start: SystemTime,
    text: Vec<u8>,
}

impl Checks {
    /// For a command that has just been started.
    pub fn new(how: Health, last: Vec<Check>) -> Self {
        let begun = Instant::now();
        let mut checks = Self {
            how,
            begun,
            next: None,
            running: None,
            healthiness: Healthiness {
                verdict: Verdict::Starting,
                failing: 0,
            },
            last,
        };
        checks.next = checks.after(begun);
        checks
    }

    /// When something is to be done, whether or not a descriptor is ready.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Makes none while the sandbox is paused; one that runs is given up, and counts for nothing.
    pub fn suspend(&mut self, paused: bool) {
        self.running = None;
        self.next = if paused {
            None
        } else {
            self.after(Instant::now())
        };
    }

    /// What to wait for.
    pub fn interest<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        if let Some(running) = &self.running {
            fds.push(PollFd::new(running.joined.control(), PollFlags::POLLIN));
            if let Some(output) = &running.output {
                fds.push(PollFd::new(output.as_fd(), PollFlags::POLLIN));
            }
        }
    }

    /// Begins a check that is due. The descriptor lets it join the sandbox.
    pub fn begin(&mut self) -> Option<OwnedFd> {
        self.next.take_if(|at| *at <= Instant::now())?;
        let start = SystemTime::now();
        match self.join() {
            Ok((joined, output, theirs)) => {
                self.running = Some(Running {
                    joined,
                    output: Some(output),
                    start,
                    text: Vec::new(),
                });
                Some(theirs)
            }
            Err(error) => {
                self.judge(start, NO_CODE, error.to_string());
                None
            }
        }
    }

    fn join(&self) -> Result<(Joined, OwnedFd, OwnedFd), Error> {
        let (output, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("make a pipe"))?;
        set_nonblocking(&output).map_err(Error::system("make a pipe"))?;
        let copy = theirs.try_clone().map_err(|error| Error::System {
            action: "make a pipe",
            errno: error.try_into().unwrap_or(nix::errno::Errno::EMFILE),
        })?;
        let stdio = Stdio {
            stdin: null()?,
            stdout: theirs,
            stderr: copy,
        };
        let args = if self.how.shell {
            let line = self.how.test.first().cloned().unwrap_or_default();
            vec!["/bin/sh".into(), "-c".into(), line.into()]
        } else {
            self.how.test.iter().map(Into::into).collect()
        };
        let command = JoinCommand {
            args,
            timeout: Some(self.how.timeout),
            stop_signal: libc::SIGKILL,
            ..JoinCommand::default()
        };
        let (joined, connection) = Joined::new(&command, &stdio)?;
        Ok((joined, output, connection))
    }

    /// Takes note of what a running check says; true where that changed the sandbox's health or its record.
    pub fn turn(&mut self) -> bool {
        let Some(running) = &mut self.running else {
            return false;
        };
        running.read();
        let (code, word) = match running.joined.event() {
            Ok(None | Some(JoinEvent::Started(_) | JoinEvent::Terminal)) => return false,
            Ok(Some(JoinEvent::Exited {
                timed_out: true, ..
            })) => {
                let limit = self.how.timeout;
                (NO_CODE, format!("the check took longer than {limit:?}"))
            }
            Ok(Some(JoinEvent::Exited { exit, .. })) => {
                let code = match exit {
                    Exit::Code(code) => i32::from(code),
                    Exit::Signal(_) => i32::from(exit.status()),
                };
                let word = if self.how.shell && code == NOT_FOUND {
                    "a program that the check runs is not in the image; --health-cmd gives another check"
                } else {
                    ""
                };
                (code, word.to_owned())
            }
            Ok(Some(JoinEvent::Closed)) => (NO_CODE, "the check was ended".to_owned()),
            Err(error) if error.exit_code() == 127 => (
                NO_CODE,
                format!(
                    "{error}; the image does not have what the check runs: --health-cmd gives another"
                ),
            ),
            Err(error) => (NO_CODE, error.to_string()),
        };
        running.read();
        let start = running.start;
        let mut text = String::from_utf8_lossy(&running.text).into_owned();
        if !word.is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&word);
        }
        self.running = None;
        self.judge(start, code, text);
        true
    }

    /// docker's rules: one success is healthy, so many failures in a row are unhealthy, and those of the start period do
    /// not count.
    fn judge(&mut self, start: SystemTime, code: i32, output: String) {
        if self.last.len() >= KEPT {
            self.last.drain(..=self.last.len() - KEPT);
        }
        self.last.push(Check {
            start,
            end: SystemTime::now(),
            code,
            output,
        });
        let now = Instant::now();
        let health = &mut self.healthiness;
        if code == 0 {
            health.verdict = Verdict::Healthy;
            health.failing = 0;
        } else if health.verdict != Verdict::Starting || now >= self.begun + self.how.start_period {
            health.failing += 1;
            if health.failing >= self.how.retries {
                health.verdict = Verdict::Unhealthy;
            }
        }
        self.next = self.after(now);
    }

    /// When the check after `now` begins.
    fn after(&self, now: Instant) -> Option<Instant> {
        let starting = self.healthiness.verdict == Verdict::Starting
            && now < self.begun + self.how.start_period;
        let pause: Duration = if starting {
            self.how.start_interval.min(self.how.interval)
        } else {
            self.how.interval
        };
        now.checked_add(pause)
    }
}

impl Running {
    fn read(&mut self) {
        let Some(output) = &self.output else {
            return;
        };
        let mut buffer = [0; OUTPUT];
        loop {
            match nix::unistd::read(output, &mut buffer) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return,
                Ok(0) | Err(_) => {
                    self.output = None;
                    return;
                }
                Ok(count) => {
                    let room = OUTPUT.saturating_sub(self.text.len());
                    self.text.extend_from_slice(&buffer[..count.min(room)]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(start_period: u64, retries: u32) -> Checks {
        Checks::new(
            Health {
                test: vec!["true".into()],
                shell: false,
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(30),
                start_period: Duration::from_secs(start_period),
                start_interval: Duration::from_secs(5),
                retries,
            },
            Vec::new(),
        )
    }

    fn after(checks: &mut Checks, codes: &[i32]) -> (Verdict, u32) {
        for code in codes {
            checks.judge(SystemTime::now(), *code, String::new());
        }
        (checks.healthiness.verdict, checks.healthiness.failing)
    }

    #[test]
    fn so_many_failures_in_a_row_are_unhealthy_and_one_success_is_healthy() {
        let mut checks = checks(0, 3);
        assert_eq!(after(&mut checks, &[1, 1]), (Verdict::Starting, 2));
        assert_eq!(after(&mut checks, &[1]), (Verdict::Unhealthy, 3));
        assert_eq!(after(&mut checks, &[0]), (Verdict::Healthy, 0));
        assert_eq!(after(&mut checks, &[-1, -1]), (Verdict::Healthy, 2));
        assert_eq!(after(&mut checks, &[0, 1, 1, 1]), (Verdict::Unhealthy, 3));
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_and_checks_come_sooner_then() {
        let mut checks = checks(3600, 1);
        let first = checks.next().unwrap();
        assert!(first <= Instant::now() + Duration::from_secs(5));
        assert_eq!(after(&mut checks, &[1, 1, 1]), (Verdict::Starting, 0));
        assert_eq!(after(&mut checks, &[0]), (Verdict::Healthy, 0));
        assert!(checks.next().unwrap() > Instant::now() + Duration::from_secs(20));
        assert_eq!(after(&mut checks, &[1]), (Verdict::Unhealthy, 1));
    }

    #[test]
    fn no_check_comes_in_a_pause_and_the_next_one_a_whole_interval_after_it() {
        let mut checks = checks(0, 3);
        checks.suspend(true);
        assert!(checks.next().is_none() && checks.begin().is_none());
        let before = Instant::now();
        checks.suspend(false);
        assert!(checks.next().unwrap() >= before + Duration::from_secs(30));
    }

    #[test]
    fn five_outputs_are_kept() {
        let mut checks = checks(0, 3);
        after(&mut checks, &[1, 2, 3, 4, 5, 6, 7]);
        let codes: Vec<i32> = checks.last.iter().map(|check| check.code).collect();
        assert_eq!(codes, [3, 4, 5, 6, 7]);
    }
}
