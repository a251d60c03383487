//! Why a system call was refused, and what would allow it.

use super::bases::tables;
use super::rule::{Action, Comparison, Condition, Table, Width};
use super::x86_64::{X32, name};
use crate::policy::{Base, Syscalls};
use crate::value::CAPABILITIES;

/// A refused system call in terms of the policy that refused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The key of the policy that refuses it, and how.
    pub rule: String,
    /// What would let it pass the filter, one way each; none where nothing would.
    pub remedies: Vec<String>,
    /// Whether the kernel then asks for a capability, always or for some arguments.
    pub kernel_asks: bool,
}

/// Which arguments of system call `number` the tables look at: with these, and the number, its refusal is explained.
#[must_use]
pub fn telling_arguments(number: u32) -> &'static [usize] {
    match name(number) {
        Some("socket") => &[0, 1, 2],
        Some("clone" | "personality" | "socketpair") => &[0],
        Some("ioctl") => &[1],
        _ => &[],
    }
}

/// Why `syscalls`, for a command that keeps `capabilities` (`CAP_…`), refuses this call; none if it does not.
#[must_use]
pub fn explain(
    syscalls: &Syscalls,
    capabilities: &[String],
    number: u32,
    arguments: &[u64; 6],
) -> Option<Refusal> {
    if number >= X32 {
        return Some(Refusal {
            rule: "x32 system calls exist in no policy".to_owned(),
            remedies: Vec::new(),
            kernel_asks: false,
        });
    }
    let (part, action) = decided_by(&tables(syscalls, capabilities), number, arguments);
    if action == Action::Allow {
        return None;
    }
    let call = name(number).unwrap_or("(unknown)");
    let base = format!("syscalls.base = {:?}", syscalls.base.word());
    let first = arguments[0] & 0xffff_ffff;
    let rule = match (part, call) {
        (SERVED, _) => format!("{base} does not serve it, as on an older kernel"),
        (REFUSED, _) => format!("{base} refuses it"),
        (ARGUMENTS, "clone") => format!("{base} refuses new namespaces (flags {first:#x})"),
        (ARGUMENTS, "ioctl") => format!(
            "{base} refuses the request {:#x}",
            arguments[1] & 0xffff_ffff
        ),
        (ARGUMENTS, _) => format!("{base} refuses the value {first:#x}"),
        (FAMILIES, _) => format!("{base} has no sockets of {}", family(first)),
        (PROTOCOLS, _) => format!(
            "{base} has no internet sockets of type {} and protocol {}",
            arguments[1] & 0xf,
            arguments[2] & 0xffff_ffff
        ),
        _ => "syscalls.deny names it".to_owned(),
    };
    let mut kernel_asks = ASKED_FOR.contains(&call);
    let mut remedies = Vec::new();
    if part == DENIED {
        remedies.push("a policy whose syscalls.deny does not name it".to_owned());
    }
    let denies = syscalls.deny.iter().any(|denied| denied.name == call);
    if !denies && name(number).is_some() {
        let allows = |base| {
            let other = Syscalls {
                base,
                ..syscalls.clone()
            };
            decided_by(&tables(&other, capabilities), number, arguments).1 == Action::Allow
        };
        let wider = [Base::Default, Base::Compat].into_iter();
        if let Some(wider) = wider
            .filter(|base| *base != syscalls.base)
            .find(|base| allows(*base))
        {
            remedies.push(format!("syscalls.base = {:?}", wider.word()));
        }
        if TOPOLOGY.contains(&call) {
            // Each of the three walls refuses it by itself.
            remedies.push(
                "--cap-add SYS_ADMIN together with --security-opt landlock=unconfined, as Landlock refuses any change of mounts"
                    .to_owned(),
            );
        } else {
            let lets_pass = |capability: &&&str| {
                let mut kept = capabilities.to_vec();
                kept.push((**capability).to_owned());
                decided_by(&tables(syscalls, &kept), number, arguments).1 == Action::Allow
            };
            for capability in CAPABILITIES.iter().filter(lets_pass) {
                kernel_asks = true;
                remedies.push(format!("--cap-add {}", &capability["CAP_".len()..]));
            }
            remedies.push(format!("syscalls.allow = [{call:?}]"));
        }
    }
    Some(Refusal {
        rule,
        remedies,
        kernel_asks,
    })
}

/// Calls for which the kernel asks for a capability, and which no capability lets pass the filter.
const ASKED_FOR: [&str; 6] = [
    "kexec_file_load",
    "kexec_load",
    "mknod",
    "mknodat",
    "swapoff",
    "swapon",
];

/// Calls that change what is mounted: Landlock refuses them to whom it holds (landlock(7)), whatever a filter says.
const TOPOLOGY: [&str; 5] = ["mount", "move_mount", "pivot_root", "umount", "umount2"];

// The tables by their place in the list.
const SERVED: usize = 0;
const REFUSED: usize = 1;
const ARGUMENTS: usize = 2;
const FAMILIES: usize = 3;
const PROTOCOLS: usize = 4;
const DENIED: usize = 5;

/// What the tables say together, and the place of the one that decided.
fn decided_by(tables: &[Table], number: u32, arguments: &[u64; 6]) -> (usize, Action) {
    let start = (SERVED, Action::Allow);
    tables
        .iter()
        .enumerate()
        .fold(start, |(part, older), (index, table)| {
            let newer = action(table, number, arguments);
            let stacked = older.stacked(newer);
            // On a tie the newer one's errno holds.
            if newer == Action::Allow || stacked != newer {
                (part, older)
            } else {
                (index, newer)
            }
        })
}

fn action(table: &Table, number: u32, arguments: &[u64; 6]) -> Action {
    let rules = table.rules.get(&number).into_iter().flatten();
    let mut holding = rules.filter(|rule| rule.conditions.iter().all(|c| holds(c, arguments)));
    holding.next().map_or(table.default, |rule| rule.action)
}

fn holds(condition: &Condition, arguments: &[u64; 6]) -> bool {
    let whole = |value: u64| match condition.width {
        Width::Dword => value & 0xffff_ffff,
        Width::Qword => value,
    };
    let argument = whole(arguments[usize::from(condition.argument)]);
    let value = whole(condition.value);
    match condition.comparison {
        Comparison::Eq => argument == value,
        Comparison::Ne => argument != value,
        Comparison::Lt => argument < value,
        Comparison::Le => argument <= value,
        Comparison::Gt => argument > value,
        Comparison::Ge => argument >= value,
        Comparison::MaskedEq(mask) => argument & whole(mask) == value,
    }
}

/// A socket family as people know it (linux/socket.h).
fn family(number: u64) -> String {
    let name = match number {
        1 => "AF_UNIX",
        2 => "AF_INET",
        4 => "AF_IPX",
        10 => "AF_INET6",
        15 => "AF_KEY",
        16 => "AF_NETLINK with this protocol",
        17 => "AF_PACKET",
        29 => "AF_CAN",
        31 => "AF_BLUETOOTH",
        38 => "AF_ALG",
        40 => "AF_VSOCK",
        44 => "AF_XDP",
        _ => return format!("family {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::x86_64;
    use super::*;
    use crate::policy::Denied;

    fn call(name: &str) -> u32 {
        x86_64::number(name).unwrap()
    }

    fn of(base: Base) -> Syscalls {
        Syscalls {
            base,
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }

    fn why(syscalls: &Syscalls, name: &str, arguments: [u64; 6]) -> Refusal {
        explain(syscalls, &[], call(name), &arguments).unwrap()
    }

    #[test]
    fn each_part_of_a_table_is_named_with_what_would_allow_the_call() {
        let default = of(Base::Default);
        let mount = why(&default, "mount", [0; 6]);
        assert_eq!(mount.rule, "syscalls.base = \"default\" refuses it");
        assert_eq!(
            mount.remedies,
            [
                "--cap-add SYS_ADMIN together with --security-opt landlock=unconfined, as Landlock refuses any change of mounts"
            ]
        );
        let vmsplice = why(&default, "vmsplice", [0; 6]);
        assert_eq!(
            vmsplice.rule,
            "syscalls.base = \"default\" does not serve it, as on an older kernel"
        );
        assert_eq!(vmsplice.remedies[0], "syscalls.base = \"compat\"");
        let packet = why(&default, "socket", [17, 3, 0, 0, 0, 0]);
        assert!(
            packet.rule.ends_with("no sockets of AF_PACKET"),
            "{packet:?}"
        );
        let raw = why(&default, "socket", [2, 3, 1, 0, 0, 0]);
        assert_eq!(raw.remedies[0], "--cap-add NET_RAW");
        assert!(raw.kernel_asks && packet.kernel_asks && !vmsplice.kernel_asks);
        let vhangup = why(&default, "vhangup", [0; 6]);
        assert_eq!(
            vhangup.remedies,
            ["--cap-add SYS_TTY_CONFIG", "syscalls.allow = [\"vhangup\"]"]
        );
        assert!(raw.rule.ends_with("type 3 and protocol 1"), "{raw:?}");
        let typing = why(&default, "ioctl", [0, 0x5412, 0, 0, 0, 0]);
        assert!(typing.rule.ends_with("the request 0x5412"), "{typing:?}");
        let namespaces = why(&default, "clone", [0x1000_0000, 0, 0, 0, 0, 0]);
        assert!(namespaces.rule.contains("new namespaces"), "{namespaces:?}");
    }

    #[test]
    fn what_a_policy_denies_itself_is_told_from_what_its_base_refuses() {
        let mut syscalls = of(Base::Default);
        syscalls.deny.push(Denied {
            name: "ptrace".to_owned(),
            errno: 1,
        });
        let ptrace = why(&syscalls, "ptrace", [0; 6]);
        assert_eq!(ptrace.rule, "syscalls.deny names it");
        assert_eq!(
            ptrace.remedies,
            ["a policy whose syscalls.deny does not name it"]
        );
    }

    #[test]
    fn what_is_served_needs_no_explanation_and_x32_has_no_remedy() {
        let syscalls = of(Base::Default);
        assert_eq!(explain(&syscalls, &[], call("read"), &[0; 6]), None);
        let x32 = explain(&syscalls, &[], X32 | 1, &[0; 6]).unwrap();
        assert!(x32.remedies.is_empty());
    }
}
