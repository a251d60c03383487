//! The conveyor between the thread that inflates and the thread that writes files.
//!
//! Hashing the stream belongs to neither: whichever of the two would have to wait hashes the next chunk instead, so
//! that both cores stay busy whether a layer is hard to inflate or full of small files.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::tar::Input;
use crate::digest::Digest;

/// Bytes of a chunk: a multiple of a tar block, and small enough to be hashed and written from the cache.
pub(crate) const CHUNK: usize = 256 << 10;
/// Chunks under way at once, 5 MiB: enough that on a busy machine neither thread waits for the other to be scheduled after every few, and
/// little enough for the several layers of a pull. Buffers are made as they are needed, so that two threads in step use far fewer.
const RING: usize = 20;

#[derive(Default)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    change: Condvar,
    hasher: Mutex<Sha256>,
}

#[derive(Default)]
struct State {
    /// Chunks that are still to be taken or hashed; the first has the number `base`.
    chunks: VecDeque<Arc<Vec<u8>>>,
    base: usize,
    taken: usize,
    hashed: usize,
    hashing: bool,
    /// The producer has no more; true if it failed.
    ended: Option<bool>,
    /// The consumer wants no more.
    abandoned: bool,
    free: Vec<Vec<u8>>,
}

impl State {
    fn produced(&self) -> usize {
        self.base + self.chunks.len()
    }

    fn reclaim(&mut self) {
        while self.base < self.taken.min(self.hashed) {
            let Some(chunk) = self.chunks.pop_front() else {
                return;
            };
            self.base += 1;
            self.free.extend(Arc::try_unwrap(chunk).ok());
        }
    }
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes a chunk, or waits for a change if there is none to hash.
    fn hash_or_wait<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.hashing || state.hashed == state.produced() {
            return self
                .change
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let chunk = Arc::clone(&state.chunks[state.hashed - state.base]);
        state.hashing = true;
        drop(state);
        self.hasher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .update(&*chunk);
        drop(chunk);
        let mut state = self.lock();
        state.hashing = false;
        state.hashed += 1;
        state.reclaim();
        self.change.notify_all();
        state
    }

    /// A buffer to fill.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        self.lock().free.pop().unwrap_or_default()
    }

    /// Hands a filled buffer on; false if nobody wants it.
    pub(crate) fn push(&self, chunk: Vec<u8>) -> bool {
        let mut state = self.lock();
        while state.chunks.len() >= RING && !state.abandoned {
            state = self.hash_or_wait(state);
        }
        if !state.abandoned {
            state.chunks.push_back(Arc::new(chunk));
        }
        self.change.notify_all();
        !state.abandoned
    }

    /// Says that no more comes, because of a failure or not.
    pub(crate) fn end(&self, failed: bool) {
        self.lock().ended = Some(failed);
        self.change.notify_all();
    }

    /// Says that no more is wanted.
    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
        self.change.notify_all();
    }

    /// The digest of everything pushed; hashes what is left. To be called once all has been taken.
    pub(crate) fn digest(&self) -> Digest {
        let mut state = self.lock();
        while state.hashing || state.hashed < state.produced() {
            state = self.hash_or_wait(state);
        }
        Digest::finish(std::mem::take(
            &mut *self.hasher.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// The writing end's view of a [`Pipe`].
pub(crate) struct Outlet<'a> {
    pipe: &'a Pipe,
    chunk: Option<Arc<Vec<u8>>>,
    position: usize,
}

impl<'a> Outlet<'a> {
    pub(crate) fn new(pipe: &'a Pipe) -> Self {
        Self {
            pipe,
            chunk: None,
            position: 0,
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        let mut state = self.pipe.lock();
        if self.chunk.take().is_some() {
            state.taken += 1;
            state.reclaim();
            self.pipe.change.notify_all();
        }
        self.position = 0;
        loop {
            if state.taken < state.produced() {
                self.chunk = Some(Arc::clone(&state.chunks[state.taken - state.base]));
                return Ok(());
            }
            match state.ended {
                Some(false) => return Ok(()),
                Some(true) => return Err(io::Error::other("the layer cannot be read further")),
                None => state = self.pipe.hash_or_wait(state),
            }
        }
    }
}

impl Drop for Outlet<'_> {
    fn drop(&mut self) {
        self.pipe.abandon();
    }
}

impl Read for Outlet<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(out.len());
        out[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Outlet<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self
            .chunk
            .as_ref()
            .is_none_or(|chunk| self.position == chunk.len())
        {
            self.advance()?;
        }
        Ok(self
            .chunk
            .as_ref()
            .map_or(&[], |chunk| &chunk[self.position..]))
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

impl Input for Outlet<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(chunks: usize, slow_reader: bool) -> (Vec<u8>, Digest) {
        let pipe = Pipe::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..chunks {
                    let mut buffer = pipe.buffer();
                    buffer.clear();
                    buffer.resize(1000, u8::try_from(i % 251).unwrap());
                    if !pipe.push(buffer) {
                        return;
                    }
                }
                pipe.end(false);
            });
            let mut outlet = Outlet::new(&pipe);
            let mut all = Vec::new();
            if slow_reader {
                let mut byte = [0; 7];
                while let Ok(count @ 1..) = outlet.read(&mut byte) {
                    all.extend_from_slice(&byte[..count]);
                }
            } else {
                outlet.read_to_end(&mut all).unwrap();
            }
            (all, pipe.digest())
        })
    }

    #[test]
    fn everything_arrives_in_order_and_is_hashed_once_whoever_waits() {
        for slow in [false, true] {
            let (all, digest) = pass(500, slow);
            assert_eq!(all.len(), 500_000);
            assert!(
                all.chunks(1000)
                    .enumerate()
                    .all(|(i, chunk)| chunk == [u8::try_from(i % 251).unwrap(); 1000])
            );
            assert_eq!(digest, Digest::of(&all));
        }
        assert_eq!(pass(0, false).1, Digest::of(b""));
    }

    #[test]
    fn a_reader_that_goes_away_frees_the_producer() {
        let pipe = Pipe::default();
        std::thread::scope(|scope| {
            let producer = scope.spawn(|| while pipe.push(vec![0; 10]) {});
            drop(Outlet::new(&pipe));
            producer.join().unwrap();
        });
    }

    #[test]
    fn a_producer_that_fails_is_an_error_at_the_reader() {
        let pipe = Pipe::default();
        pipe.push(vec![1]);
        pipe.end(true);
        let mut outlet = Outlet::new(&pipe);
        assert!(outlet.read_to_end(&mut Vec::new()).is_err());
    }
}
