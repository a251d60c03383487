//! A limit on memory that no control group holds: the supervisor looks from time to time, and ends what takes too much.

use std::time::{Duration, Instant};

/// Time between two looks. What is taken and given back in between is not seen.
const PERIOD: Duration = Duration::from_millis(100);

/// The watch over one sandbox.
#[derive(Debug)]
pub struct Watch {
    limit: u64,
    next: Instant,
    exceeded: bool,
}

impl Watch {
    /// A watch that begins now. `limit` is in bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            next: Instant::now(),
            exceeded: false,
        }
    }

    /// When to look again; never once it was too much.
    pub fn next(&self) -> Option<Instant> {
        (!self.exceeded).then_some(self.next)
    }

    /// Takes what is used now, in bytes, and says whether that is too much.
    pub fn look(&mut self, used: u64) -> bool {
        self.next = Instant::now() + PERIOD;
        self.exceeded = used > self.limit;
        self.exceeded
    }

    /// Whether it was too much.
    pub fn exceeded(&self) -> bool {
        self.exceeded
    }
}

#[cfg(test)]
mod tests {
    use super::Watch;

    #[test]
    fn as_much_as_the_limit_is_not_too_much_and_after_too_much_nobody_looks() {
        let mut watch = Watch::new(100);
        assert!(!watch.look(100) && watch.next().is_some());
        assert!(watch.look(101));
        assert!(watch.exceeded() && watch.next().is_none());
    }
}
