//! What the calling process passes on without being asked.

/// The number of CAP_SETPCAP (linux/capability.h).
const CAP_SETPCAP: u64 = 8;

/// What a command inherits from the calling process beyond the Plan.
pub(super) struct Inherited {
    /// Signals that this process ignores: Rust's runtime ignores SIGPIPE, nohup(1) SIGHUP.
    pub(super) ignored_signals: Vec<i32>,
    /// seccomp filters that this process runs under.
    pub(super) filters: u64,
    /// The capability bounding set, and whether this process may drop from it (capabilities(7), CAP_SETPCAP).
    pub(super) bounding: u64,
    pub(super) may_drop_bounding: bool,
}

impl Inherited {
    pub(super) fn read() -> Self {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let ignored = field("SigIgn:")
            .and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .unwrap_or(u64::MAX);
        let mask = |name: &str| {
            field(name)
                .and_then(|mask| u64::from_str_radix(mask, 16).ok())
                .unwrap_or(0)
        };
        let settable = |signal: &i32| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP);
        Self {
            ignored_signals: (1..=64)
                .filter(|signal| ignored & (1 << (signal - 1)) != 0)
                .filter(settable)
                .collect(),
            bounding: mask("CapBnd:"),
            may_drop_bounding: mask("CapEff:") & 1 << CAP_SETPCAP != 0,
            filters: field("Seccomp_filters:")
                .and_then(|count| count.parse().ok())
                .unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_that_rust_ignores_is_reset_for_the_command() {
        assert!(Inherited::read().ignored_signals.contains(&libc::SIGPIPE));
    }
}
