//! What /proc/PID/stat says (proc_pid_stat(5)).

/// The parent: the fourth field. The second, the name in parentheses, may hold any byte.
pub(crate) fn parent_in(stat: &[u8]) -> Option<i32> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[name_ends + 1..])
        .ok()?
        .split_ascii_whitespace();
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
