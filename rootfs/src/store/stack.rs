//! How far the layers of one image are while several of them are unpacked at a time.
//!
//! A layer that refers to those beneath it waits for them here, if a thread of this process is at work on each. Nobody waits for another
//! process: that one may have begun with the upper layer, and both would wait for ever.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::Result;
use crate::merged::Merged;

/// The layers of an image, the bottom one first. Whoever works on several takes them in this order.
#[derive(Debug)]
pub(crate) struct Stack {
    states: Mutex<Vec<State>>,
    change: Condvar,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nobody is at work on it here.
    Idle,
    /// A thread of this process is at work on it and waits for nothing but layers further down.
    Working,
    Done(PathBuf),
}

/// The work on one layer, given up when dropped.
pub(crate) struct Work<'a> {
    stack: &'a Stack,
    layer: usize,
}

/// What lies beneath a layer, once it is asked for.
pub(crate) struct Below<'a> {
    stack: &'a Stack,
    layer: usize,
    merged: OnceLock<Merged>,
}

impl Stack {
    /// Of that many layers, none of them unpacked.
    pub(crate) fn new(layers: usize) -> Self {
        Self {
            states: Mutex::new(vec![State::Idle; layers]),
            change: Condvar::new(),
        }
    }

    /// Says that this thread is at work on a layer from now on.
    pub(crate) fn begin(&self, layer: usize) -> Work<'_> {
        self.set(layer, State::Working);
        Work { stack: self, layer }
    }

    /// Says where a layer lies that is unpacked already.
    pub(crate) fn is_at(&self, layer: usize, path: PathBuf) {
        self.set(layer, State::Done(path));
    }

    /// The directories of all layers beneath a layer, waited for; none if one of them is not being unpacked here.
    fn beneath(&self, layer: usize) -> Option<Vec<PathBuf>> {
        let mut states = self.lock();
        loop {
            let lower = &states[..layer];
            if lower.contains(&State::Idle) {
                return None;
            }
            if !lower.contains(&State::Working) {
                let path = |state: &State| match state {
                    State::Done(path) => Some(path.clone()),
                    State::Idle | State::Working => None,
                };
                return lower.iter().map(path).collect();
            }
            states = self
                .change
                .wait(states)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn set(&self, layer: usize, state: State) {
        self.lock()[layer] = state;
        self.change.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work<'_> {
    /// The layer's number.
    pub(crate) fn layer(&self) -> usize {
        self.layer
    }

    /// Says that this thread has to wait for somebody else.
    pub(crate) fn waits(&self) {
        self.stack.set(self.layer, State::Idle);
    }

    /// Says that this thread goes on.
    pub(crate) fn goes_on(&self) {
        self.stack.set(self.layer, State::Working);
    }

    /// Says where the layer lies now.
    pub(crate) fn done(&self, path: PathBuf) {
        self.stack.set(self.layer, State::Done(path));
    }

    /// What lies beneath the layer.
    pub(crate) fn below(&self) -> Below<'_> {
        Below {
            stack: self.stack,
            layer: self.layer,
            merged: OnceLock::new(),
        }
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let mut states = self.stack.lock();
        if states[self.layer] == State::Working {
            states[self.layer] = State::Idle;
            self.stack.change.notify_all();
        }
    }
}

impl Below<'_> {
    /// Whether there can be anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.layer == 0
    }

    /// The layers beneath, waited for; none if they have to be unpacked first.
    pub(crate) fn layers(&self) -> Result<Option<&Merged>> {
        if self.merged.get().is_none() {
            let Some(paths) = self.stack.beneath(self.layer) else {
                return Ok(None);
            };
            let merged = Merged::open(&paths)?;
            return Ok(Some(self.merged.get_or_init(|| merged)));
        }
        Ok(self.merged.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_waits_for_those_beneath_that_are_being_unpacked() {
        let stack = Stack::new(3);
        stack.is_at(0, "zero".into());
        let lower = stack.begin(1);
        std::thread::scope(|scope| {
            let upper = scope.spawn(|| stack.beneath(2));
            lower.done("one".into());
            assert_eq!(
                upper.join().unwrap(),
                Some(vec!["zero".into(), "one".into()])
            );
        });
    }

    #[test]
    fn nobody_waits_for_a_layer_that_was_given_up_or_waits_for_another_process() {
        let stack = Stack::new(2);
        assert_eq!(stack.beneath(0), Some(Vec::new()));
        assert_eq!(stack.beneath(1), None);
        let lower = stack.begin(0);
        lower.waits();
        assert_eq!(stack.beneath(1), None);
        lower.goes_on();
        std::thread::scope(|scope| {
            let upper = scope.spawn(|| stack.beneath(1));
            drop(lower);
            assert_eq!(upper.join().unwrap(), None);
        });
    }
}
