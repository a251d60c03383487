//! Whether and when an ended sandbox is started again: docker's rules.

use std::time::Duration;

use crate::state::Restart;

/// The first pause; each one after it is twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// No pause is longer.
const LONGEST: Duration = Duration::from_mins(1);

/// A command that ran so long has come up: the next pause is the first again.
const CAME_UP: Duration = Duration::from_secs(10);

/// Whether a command that ended with `code`, after so many restarts, is started again.
pub fn again(policy: Restart, code: u8, restarts: u32, stopped: bool) -> bool {
    if stopped {
        return false;
    }
    match policy {
        Restart::No => false,
        Restart::OnFailure(most) => code != 0 && (most == 0 || restarts < most),
        Restart::Always | Restart::UnlessStopped => true,
    }
}

/// The pauses between starts.
#[derive(Debug, Default)]
pub struct Backoff(Option<Duration>);

impl Backoff {
    /// The pause before the next start, after a run of this length.
    pub fn next(&mut self, ran: Duration) -> Duration {
        let pause = match self.0 {
            Some(last) if ran < CAME_UP => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.0 = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_starts_again_when_it_says() {
        assert!(!again(Restart::No, 1, 0, false));
        assert!(again(Restart::Always, 0, 1000, false));
        assert!(!again(Restart::Always, 0, 0, true));
        assert!(again(Restart::UnlessStopped, 137, 0, false));
        assert!(!again(Restart::OnFailure(0), 0, 0, false));
        assert!(again(Restart::OnFailure(0), 1, 1000, false));
        assert!(again(Restart::OnFailure(3), 1, 2, false));
        assert!(!again(Restart::OnFailure(3), 1, 3, false));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_long_run() {
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push(backoff.next(Duration::ZERO).as_millis());
        }
        assert_eq!(&pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], 60_000);
        assert_eq!(backoff.next(CAME_UP), FIRST);
        assert_eq!(backoff.next(Duration::ZERO), FIRST * 2);
    }
}
