//! What the program itself takes of the memory, and its arguments.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use libc::c_int;

use super::exit_now;

/// What a program must see to first, before it opens anything: that 0, 1 and 2 are open, as a file that took the place of a
/// closed one would be written to by whoever says something (CVE-2002-0572); and that a reader who went away is an error
/// to handle, not the end of the process.
///
/// Ends the process where there is no /dev/null to put in the place of a closed descriptor.
pub fn begin() {
    for descriptor in 0..3 {
        // SAFETY: F_GETFD touches nothing but the flags of a descriptor, and no memory.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
            // SAFETY: the path is a C string.
            let opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
            if opened != descriptor {
                exit_now(125);
            }
        }
    }
    // SAFETY: SIG_IGN is no handler that could run.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Where this process's argument strings lie, one after the other (proc_pid_cmdline(5)).
static ARGUMENTS: (AtomicPtr<u8>, AtomicUsize) =
    (AtomicPtr::new(std::ptr::null_mut()), AtomicUsize::new(0));

/// glibc calls what is listed here before `main`, with main's arguments.
#[cfg(target_env = "gnu")]
#[used]
// SAFETY: the section holds pointers to functions of this type, and nothing else is put there.
#[unsafe(link_section = ".init_array")]
static REMEMBER_ARGUMENTS: extern "C" fn(c_int, *const *mut u8) = {
    extern "C" fn remember(count: c_int, words: *const *mut u8) {
        let Some(last) = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_sub(1))
        else {
            return;
        };
        // SAFETY: there are `count` words; the kernel has put their bytes one after the other (execve(2)).
        unsafe {
            let (first, last) = (*words, *words.add(last));
            let end = last.add(libc::strlen(last.cast_const().cast()) + 1);
            ARGUMENTS.0.store(first, Ordering::Relaxed);
            ARGUMENTS
                .1
                .store(end.addr() - first.addr(), Ordering::Relaxed);
        }
    }
    remember
};

/// Overwrites the arguments that this process shows in /proc: they name files of the host and values of variables, and
/// everybody in the sandbox may read those of its PID 1.
pub(crate) fn forget_arguments() {
    const SHOWN: &[u8] = b"palisade";
    let (first, length) = (
        ARGUMENTS.0.load(Ordering::Relaxed),
        ARGUMENTS.1.load(Ordering::Relaxed),
    );
    if first.is_null() {
        return;
    }
    // SAFETY: the strings lie in this process's own stack, which is writable; no reference to them is kept.
    unsafe {
        first.write_bytes(0, length);
        first.copy_from(SHOWN.as_ptr(), SHOWN.len().min(length - 1));
    }
}

/// Lets go of the pages of this program's code and constants (madvise(2) MADV_DONTNEED): they stay in the page cache, and
/// the few that are needed again are mapped again. A start touches most of the program, waiting for the end very little.
/// For whoever has waited for a second already: what has ended before that would only map the pages again.
pub fn release_program() {
    // SAFETY: the linker defines both names, for the first byte of the program and the first byte after its code; only
    // their addresses are used.
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE: usize = 4096;
    let start = (&raw const __executable_start).addr() & !(PAGE - 1);
    let end = (&raw const etext).addr() & !(PAGE - 1);
    // SAFETY: the range holds only pages of the file that nobody has written to: relocated data lies behind the code. So
    // what is mapped again is what was there. Failure changes nothing.
    unsafe {
        libc::madvise(
            (&raw const __executable_start)
                .cast_mut()
                .cast::<libc::c_void>()
                .with_addr(start),
            end.saturating_sub(start),
            libc::MADV_DONTNEED,
        )
    };
}

/// Has the heap grow now by what a start needs. A heap that cannot grow any more ends the process, and with it who would remove
/// what was made meanwhile.
pub(crate) fn reserve_heap() {
    // What malloc(3) takes from the heap and not from mmap(2), twice what a start needs.
    const RESERVE: usize = 100 * 1024;
    // SAFETY: sets a number of the allocator's, and frees what it has just given.
    unsafe {
        // Or else it would be returned at once. glibc does not move its other thresholds by itself from then on (mallopt(3)).
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
        // Seen by nobody, the two calls would be left out.
        libc::free(std::hint::black_box(libc::malloc(RESERVE)));
    }
}

/// Gives free memory of the heap back to the kernel (malloc_trim(3)).
pub(crate) fn trim_heap() {
    // SAFETY: takes an integer only; the allocator keeps its own books.
    unsafe { libc::malloc_trim(0) };
}
