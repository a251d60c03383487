//! What seccomp refused, counted.

use nix::errno::Errno;
use palisade_policies::seccomp::{telling_arguments, x86_64};
use palisade_runtime::Denial;
use serde::Serialize;

/// Refusals that are told apart at most; what comes beyond is only counted.
const MOST_REFUSALS: usize = 256;
/// Processes that are named at most for each.
const MOST_PROCESSES: usize = 16;

/// Refused system calls of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Denials {
    /// How many there were.
    pub total: u64,
    /// One entry for each system call, errno and, where the filter looks at them, arguments: in the order of their numbers.
    pub system_calls: Vec<Refused>,
}

/// One kind of refused system call.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// Its name; none for a number that has none.
    pub name: Option<&'static str>,
    /// Its number in the table of x86_64.
    pub number: u32,
    /// Name of the errno it failed with.
    pub errno: String,
    /// The arguments that the filter looks at; empty where it looks at none.
    pub arguments: Vec<Argument>,
    /// How often.
    pub count: u64,
    /// Which processes called, the first sixteen.
    pub processes: Vec<Caller>,
}

/// An argument of a system call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Argument {
    /// Its place in the call, from 0.
    pub place: usize,
    /// Its lower 32 bits.
    pub value: u32,
}

/// A process that called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// Its name (proc_pid_comm(5)) when it first called.
    pub name: String,
    /// Its process id inside the sandbox.
    pub pid: Option<i32>,
    /// How often.
    pub count: u64,
}

impl Refused {
    /// The arguments as far as they are known: the others are zero.
    pub fn known_arguments(&self) -> [u64; 6] {
        let mut arguments = [0; 6];
        for Argument { place, value } in &self.arguments {
            arguments[*place] = u64::from(*value);
        }
        arguments
    }
}

impl Denials {
    /// Counts one.
    pub(crate) fn add(&mut self, denial: Denial) {
        self.total += 1;
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the lower half is what is wanted"
        )]
        let arguments: Vec<_> = telling_arguments(denial.number)
            .iter()
            .map(|place| Argument {
                place: *place,
                value: denial.arguments[*place] as u32,
            })
            .collect();
        let errno = format!("{:?}", Errno::from_raw(denial.errno));
        let key = (denial.number, &arguments, &errno);
        let found = self
            .system_calls
            .binary_search_by(|known| (known.number, &known.arguments, &known.errno).cmp(&key));
        let index = match found {
            Ok(index) => index,
            Err(_) if self.system_calls.len() == MOST_REFUSALS => return,
            Err(index) => {
                let refused = Refused {
                    name: x86_64::name(denial.number),
                    number: denial.number,
                    errno,
                    arguments,
                    count: 0,
                    processes: Vec::new(),
                };
                self.system_calls.insert(index, refused);
                index
            }
        };
        let refused = &mut self.system_calls[index];
        refused.count += 1;
        let same = |caller: &&mut Caller| caller.name == denial.name && caller.pid == denial.pid;
        if let Some(caller) = refused.processes.iter_mut().find(same) {
            caller.count += 1;
        } else if refused.processes.len() < MOST_PROCESSES {
            refused.processes.push(Caller {
                name: denial.name,
                pid: denial.pid,
                count: 1,
            });
        }
    }
}

#[cfg(test)]
impl Denials {
    /// With everything in it that there can be.
    pub(crate) fn sample() -> Self {
        let mut denials = Self::default();
        denials.add(Denial {
            number: 41,
            arguments: [17, 3, 0, 0, 0, 0],
            errno: 97,
            name: "sh".to_owned(),
            pid: Some(2),
        });
        denials
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(name: &str, first: u64, pid: i32) -> Denial {
        Denial {
            number: x86_64::number(name).unwrap(),
            arguments: [first, 0, 0, 0, 0, 0],
            errno: 1,
            name: "sh".to_owned(),
            pid: Some(pid),
        }
    }

    #[test]
    fn calls_are_told_apart_by_what_the_filter_looks_at() {
        let mut denials = Denials::default();
        for (name, first, pid) in [
            ("mount", 1, 2),
            ("mount", 7, 2),
            ("mount", 1, 3),
            ("socket", 17, 2),
            ("socket", 40, 2),
        ] {
            denials.add(denial(name, first, pid));
        }
        assert_eq!(denials.total, 5);
        let seen: Vec<_> = denials
            .system_calls
            .iter()
            .map(|refused| {
                (
                    refused.name.unwrap(),
                    refused.known_arguments()[0],
                    refused.count,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [("socket", 17, 1), ("socket", 40, 1), ("mount", 0, 3)]
        );
        let callers: Vec<_> = denials.system_calls[2]
            .processes
            .iter()
            .map(|caller| (caller.pid, caller.count))
            .collect();
        assert_eq!(callers, [(Some(2), 2), (Some(3), 1)]);
        assert_eq!(denials.system_calls[2].errno, "EPERM");
    }

    #[test]
    fn a_flood_of_different_calls_takes_no_more_memory() {
        let mut denials = Denials::default();
        for first in 0..10_000 {
            denials.add(denial("personality", first, 2));
            denials.add(denial("mount", 0, i32::try_from(first).unwrap()));
        }
        assert_eq!(denials.total, 20_000);
        assert_eq!(denials.system_calls.len(), MOST_REFUSALS);
        assert!(
            denials
                .system_calls
                .iter()
                .all(|refused| refused.processes.len() <= MOST_PROCESSES)
        );
    }
}
