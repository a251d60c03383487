//! `run --queue POOL`: a slot among a bounded number of runs, waited for in the order of arrival.

mod size;
mod slots;

use std::path::Path;

use size::{Machine, Size};
pub use slots::Slot;
use slots::{Asked, Slots};

use crate::caller::Caller;
use crate::failure::{Failure, reason};

/// Takes a slot of a pool, waiting for it; `waiting` is told once what for.
///
/// # Errors
/// As many wait as may, or the pool's files cannot be used.
pub fn take(
    data: &Path,
    name: &str,
    caller: &Caller,
    waiting: impl FnOnce(String),
) -> Result<Slot, Failure> {
    let size = Size::of(name, caller)?;
    let count = size.slots(Machine::read());
    let directory = data.join("pools").join(name);
    let failed = |error: std::io::Error| {
        Failure::new(
            format!(
                "cannot use the pool {}: {}",
                directory.display(),
                reason(&error)
            ),
            "--root DIR with a directory you may write to",
        )
    };
    let slots = Slots::open(&directory, count, size.queue).map_err(failed)?;
    match slots.ask().map_err(failed)? {
        Asked::Got(slot) => Ok(slot),
        Asked::Waiting(ticket, before) => {
            waiting(format!(
                "waiting for one of the {count} slots of the pool {name}; {before} wait before"
            ));
            slots.wait(ticket).map_err(failed)
        }
        Asked::Full => Err(Failure::new(
            format!(
                "the pool {name} is full: {count} run and {} wait, as many as may",
                size.queue
            ),
            "again later, or a larger queue in the pool's file",
        )),
    }
}
