//! How long to wait before trying once more.

use std::time::Duration;

/// When a request that failed for a passing reason is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How often a request is made at most.
    pub attempts: u32,
    /// The pause after the first failure; each further one is twice as long.
    pub first: Duration,
    /// The longest pause, also when a registry asks for a longer one: past that it is an error.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(250),
            longest: Duration::from_mins(1),
        }
    }
}

impl Patience {
    /// The pause before the attempt after the `failures`th failure; none if there is to be no other. `asked` is what the
    /// registry asked for (`Retry-After`). Half of the pause is chance, so that many who failed together do not return together.
    pub(super) fn pause(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        if let Some(asked) = asked {
            return (asked <= self.longest).then_some(asked);
        }
        let doubled = self
            .first
            .saturating_mul(
                1_u32
                    .checked_shl(failures.saturating_sub(1))
                    .unwrap_or(u32::MAX),
            )
            .min(self.longest);
        Some(doubled / 2 + doubled.mul_f64(0.5 * chance()))
    }
}

/// A number from 0 up to 1.
fn chance() -> f64 {
    let mut byte = [0_u8; 1];
    // Without random bytes the pause is only less scattered.
    let _ = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK);
    f64::from(byte[0]) / 256.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        attempts: 4,
        first: Duration::from_millis(100),
        longest: Duration::from_millis(300),
    };

    #[test]
    fn pauses_grow_to_the_longest_and_then_there_is_no_other_attempt() {
        for (failures, longest) in [(1, 100), (2, 200), (3, 300)] {
            let pause = PATIENCE.pause(failures, None).unwrap();
            let longest = Duration::from_millis(longest);
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?}");
        }
        assert_eq!(PATIENCE.pause(4, None), None);
        assert!(
            Patience {
                attempts: 100,
                ..PATIENCE
            }
            .pause(99, None)
            .is_some()
        );
    }

    #[test]
    fn what_the_registry_asks_for_is_kept_unless_it_is_too_long() {
        let asked = Duration::from_millis(250);
        assert_eq!(PATIENCE.pause(1, Some(asked)), Some(asked));
        assert_eq!(PATIENCE.pause(1, Some(Duration::from_hours(1))), None);
    }
}
