//! What /proc/PID/stat says (proc_pid_stat(5)).

/// What it says of a process; none where that is gone.
pub(crate) fn of(pid: i32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/stat")).ok()
}

/// The parent: the fourth field.
pub(crate) fn parent_in(stat: &[u8]) -> Option<i32> {
    fields_in(stat)?.nth(1)?.parse().ok()
}

/// Processor time in clock ticks (sysconf(3), `_SC_CLK_TCK`), of ended children that were waited for included: fields 14 to 17.
pub(crate) fn ticks_in(stat: &[u8]) -> Option<u64> {
    let times = fields_in(stat)?.skip(11).take(4);
    times.map(|field| field.parse::<u64>().ok()).sum()
}

/// Whether nothing of the process runs any more, or will: it waits for its parent, or ends just now. The third field is the
/// state, the ninth the flags, the twentieth the number of threads: the first thread may have ended before others.
pub(crate) fn is_over(stat: &[u8]) -> bool {
    let threads = fields_in(stat).and_then(|mut fields| fields.nth(17)?.parse().ok());
    thread_is_over(stat) && threads.is_none_or(|threads: u64| threads <= 1)
}

/// The same of the first thread alone, or of the one whose /proc/PID/task/TID/stat it is.
pub(crate) fn thread_is_over(stat: &[u8]) -> bool {
    /// `PF_EXITING` of the kernel's include/linux/sched.h.
    const EXITING: u64 = 4;
    let mut fields = fields_in(stat).into_iter().flatten();
    let Some(state) = fields.next() else {
        return true;
    };
    let flags = fields.nth(5).and_then(|field| field.parse::<u64>().ok());
    matches!(state, "Z" | "X") || flags.is_some_and(|flags| flags & EXITING != 0)
}

/// The fields from the third on. The second, the name in parentheses, may hold any byte.
fn fields_in(stat: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(&stat[name_ends + 1..]).ok()?;
    Some(fields.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_and_its_ended_children_is_one_sum() {
        let stat = b"12 (a) b) R 7 12 12 0 -1 4 1 2 3 4 10 20 300 4000 20 0 1 0 99";
        assert_eq!(ticks_in(stat), Some(4330));
        assert_eq!(ticks_in(b"12 (sh) R 7"), Some(0));
        assert_eq!(ticks_in(b"12"), None);
    }

    #[test]
    fn a_process_is_over_when_its_last_thread_is() {
        let stat = |state: &str, flags: u64, threads: u64| {
            format!(
                "12 (Z) {state} 7 12 12 0 -1 {flags} 1 2 3 4 10 20 300 4000 20 0 {threads} 0 99"
            )
        };
        for (state, flags, threads, over) in [
            ("S", 4_194_304, 1, false),
            ("Z", 4_194_308, 1, true),
            ("Z", 4_194_308, 2, false),
            ("R", 4_194_308, 1, true),
            ("T", 4_194_304, 3, false),
        ] {
            let stat = stat(state, flags, threads);
            assert_eq!(is_over(stat.as_bytes()), over, "{stat}");
        }
        assert!(is_over(b""));
    }

    #[test]
    fn the_parent_is_found_behind_whatever_the_name_is() {
        assert_eq!(parent_in(b"12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in(b"12 (a) R 1 (b)) T 9 12"), Some(9));
        assert_eq!(parent_in(b"17 (a) b) R 5 17 17 0"), Some(5));
        assert_eq!(parent_in(b"17 (\xff) R 5 17 17 0"), Some(5));
        assert_eq!(parent_in(b"17 (x"), None);
        assert_eq!(parent_in(b"12"), None);
    }
}
