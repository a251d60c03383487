//! Stacks for processes and threads that share this one's memory.

use std::mem::MaybeUninit;

/// Bytes at the far end that nothing may reach: beyond them lies other memory of this process.
const GUARD: usize = 16 * 1024;

/// Memory for a stack. None of it is touched before it is used: a page that is written here would be copied for PID 1.
#[derive(Default)]
pub(crate) struct Stack(Box<[MaybeUninit<u8>]>);

impl Stack {
    /// A stack of that many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let mut memory = Box::new_uninit_slice(bytes);
        if cfg!(debug_assertions) {
            memory[..GUARD].fill(MaybeUninit::new(0));
        }
        Self(memory)
    }

    /// Where it begins: its highest address, aligned as the ABI wants it.
    pub(super) fn top(&mut self) -> *mut libc::c_void {
        let top = self.0.as_mut_ptr_range().end;
        top.wrapping_sub(top as usize % 16).cast()
    }

    /// Whether nothing came near its end. Known in builds with debug assertions only; true in others.
    pub(crate) fn sufficed(&self) -> bool {
        !cfg!(debug_assertions)
            || self.0.iter().take(GUARD).all(|byte| {
                // SAFETY: `new` has written these bytes in such a build.
                unsafe { byte.assume_init() == 0 }
            })
    }
}
