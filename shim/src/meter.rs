//! What a command writes, counted, hashed and cut off at its limit, where it passes through palisade.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use sha2::{Digest, Sha256};

/// What is to be known of a command's output. Where nothing is, its streams are handed over as they are.
#[derive(Clone, Debug)]
pub struct Gauge {
    limit: Rc<Limit>,
    digest: bool,
}

/// What both streams together may still hold.
#[derive(Debug)]
struct Limit {
    left: Cell<Option<u64>>,
    exceeded: Cell<bool>,
}

impl Gauge {
    /// Cuts the output off after `limit` bytes and computes a digest of each stream; none if there is nothing to do.
    pub fn new(limit: Option<u64>, digest: bool) -> Option<Self> {
        (limit.is_some() || digest).then(|| Self {
            limit: Rc::new(Limit {
                left: Cell::new(limit),
                exceeded: Cell::new(false),
            }),
            digest,
        })
    }

    /// Whether the command wrote more than it may.
    pub fn exceeded(&self) -> bool {
        self.limit.exceeded.get()
    }

    /// For one stream.
    pub fn meter(&self) -> Rc<Meter> {
        Rc::new(Meter {
            limit: Rc::clone(&self.limit),
            passed: Cell::new(0),
            hash: RefCell::new(self.digest.then(Sha256::new)),
        })
    }
}

/// One stream's part.
#[derive(Debug)]
pub struct Meter {
    limit: Rc<Limit>,
    passed: Cell<u64>,
    hash: RefCell<Option<Sha256>>,
}

/// What passed on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Bytes that reached the caller.
    pub bytes: u64,
    /// Their SHA-256, where it was asked for.
    pub sha256: Option<[u8; 32]>,
}

impl Meter {
    /// How many of `count` bytes that the command wrote may pass.
    pub fn admit(&self, count: usize) -> usize {
        let Some(left) = self.limit.left.get() else {
            return count;
        };
        let allowed = usize::try_from(left).map_or(count, |left| left.min(count));
        self.limit.left.set(Some(left - allowed as u64));
        if allowed < count {
            self.limit.exceeded.set(true);
        }
        allowed
    }

    /// These bytes have reached the caller.
    pub fn passed(&self, bytes: &[u8]) {
        self.passed.set(self.passed.get() + bytes.len() as u64);
        if let Some(hash) = self.hash.borrow_mut().as_mut() {
            hash.update(bytes);
        }
    }

    /// All of it.
    pub fn read(&self) -> Stream {
        Stream {
            bytes: self.passed.get(),
            sha256: self
                .hash
                .borrow()
                .as_ref()
                .map(|hash| hash.clone().finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gauge, Stream};

    #[test]
    fn two_streams_share_one_limit_and_the_last_byte_of_it_passes() {
        let gauge = Gauge::new(Some(10), false).unwrap();
        let (out, err) = (gauge.meter(), gauge.meter());
        assert_eq!(out.admit(6), 6);
        assert_eq!(err.admit(4), 4);
        assert!(!gauge.exceeded());
        assert_eq!(out.admit(1), 0);
        assert!(gauge.exceeded());
        assert_eq!(err.admit(100), 0);
    }

    #[test]
    fn what_passed_is_counted_and_hashed() {
        let meter = Gauge::new(None, true).unwrap().meter();
        assert_eq!(meter.admit(usize::MAX), usize::MAX);
        meter.passed(b"ab");
        meter.passed(b"c");
        let Stream { bytes, sha256 } = meter.read();
        assert_eq!(bytes, 3);
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256.unwrap()[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn nothing_to_know_needs_no_gauge() {
        assert!(Gauge::new(None, false).is_none());
    }
}
