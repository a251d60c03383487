//! What this machine can give, found out by using it: each probe is a child process that tries one thing and ends.
//!
//! [`Survey::take`] asks everything. [`Survey::blockers`] says what stands between this machine and a tier, and each
//! [`Blocked`] names the layer that refuses and what to do about it. The same answers explain a run that could not start.

mod calls;
mod child;
mod cure;
mod filters;
mod limits;
mod mounts;
mod namespaces;
mod processes;
mod surroundings;

use nix::errno::Errno;
use palisade_policies::Tier;

pub use surroundings::Surroundings;

/// What a probe is about, for people who read a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Namespaces and the ids in them.
    Namespaces,
    /// Mounts and file systems.
    Mounts,
    /// Landlock and seccomp.
    Filters,
    /// Processes and their descriptors.
    Processes,
    /// Limits.
    Limits,
}

impl Group {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Mounts => "mounts",
            Self::Filters => "filters",
            Self::Processes => "processes",
            Self::Limits => "limits",
        }
    }
}

/// Who refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// The kernel is too old, or built without it.
    Kernel,
    /// Debian's switch `kernel.unprivileged_userns_clone`.
    UsernsClone,
    /// A limit on the number of namespaces: `user.max_user_namespaces` and its kin, here or further out.
    NamespaceLimit,
    /// AppArmor: its restriction of unprivileged user namespaces, or the profile around this process.
    AppArmor,
    /// SELinux's policy.
    SeLinux,
    /// A system call filter around this process, such as an outer container's.
    OuterSeccomp,
    /// /proc is covered in part, so that the kernel refuses a new one.
    MaskedProc,
    /// There is no /proc to ask the kernel by.
    NoProc,
    /// The kernel has Landlock and was started without it.
    LandlockOff,
    /// No control group may be made here.
    Cgroups,
    /// newuidmap and newgidmap are not installed.
    NoMapHelpers,
    /// The caller has no subordinate ids.
    NoSubordinateIds,
    /// The caller's id does not exist in its own user namespace, or the process is in a chroot.
    Caller,
    /// Something that cannot be told from here.
    Unknown,
}

impl Layer {
    /// The word for it in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::UsernsClone => "unprivileged-userns-clone",
            Self::NamespaceLimit => "namespace-limit",
            Self::AppArmor => "apparmor",
            Self::SeLinux => "selinux",
            Self::OuterSeccomp => "outer-seccomp",
            Self::MaskedProc => "masked-proc",
            Self::NoProc => "no-proc",
            Self::LandlockOff => "landlock-off",
            Self::Cgroups => "cgroups",
            Self::NoMapHelpers => "no-map-helpers",
            Self::NoSubordinateIds => "no-subordinate-ids",
            Self::Caller => "caller",
            Self::Unknown => "unknown",
        }
    }
}

/// Why something cannot be had, and how it could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Who refuses.
    pub by: Layer,
    /// The same in a few words that name the switch, profile or limit.
    pub shown: String,
    /// What the kernel said, where it was asked.
    pub errno: Option<Errno>,
    /// What to do now.
    pub cure: String,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It works. The text says more where there is more to say, such as a version.
    Available(String),
    /// It does not.
    Blocked(Blocked),
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What it is about.
    pub group: Group,
    /// Its name, the same in every version.
    pub name: &'static str,
    /// The tiers that need it; none for what only an option needs.
    pub tiers: &'static [Tier],
    /// What came of it.
    pub finding: Finding,
}

/// Tiers with namespaces.
const NAMESPACED: &[Tier] = &[Tier::Full, Tier::NoCgroup];
/// Every tier.
const ALL: &[Tier] = &[Tier::Full, Tier::NoCgroup, Tier::NoNamespace];

impl Probe {
    fn new(group: Group, name: &'static str, tiers: &'static [Tier], finding: Finding) -> Self {
        Self {
            group,
            name,
            tiers,
            finding,
        }
    }

    /// Why it cannot be had; none if it can.
    pub fn blocked(&self) -> Option<&Blocked> {
        match &self.finding {
            Finding::Available(_) => None,
            Finding::Blocked(blocked) => Some(blocked),
        }
    }
}

/// Everything that was tried.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What is around this process.
    pub surroundings: Surroundings,
    /// The probes, in the order a sandbox is put together.
    pub probes: Vec<Probe>,
}

impl Survey {
    /// Tries everything. The calling process must have a single thread; it takes some ten milliseconds, and leaves
    /// nothing behind.
    pub fn take() -> Self {
        let mut survey = Self::without_limits();
        survey.probes.push(limits::cgroup());
        survey
    }

    /// Whether namespaces can be had, and what is done in them: one child that tries it all, for those who must know before.
    pub fn namespaces_work() -> bool {
        processes::clone3_works() && mounts::whole_works()
    }

    /// The same without making a control group.
    pub fn without_limits() -> Self {
        let surroundings = Surroundings::read();
        let mut probes = processes::probe(&surroundings);
        probes.extend(namespaces::probe(&surroundings));
        probes.extend(mounts::probe(&surroundings));
        probes.extend(filters::probe(&surroundings));
        Self {
            surroundings,
            probes,
        }
    }

    /// What stands between this machine and `tier`; nothing if it can be had.
    pub fn blockers(&self, tier: Tier) -> Vec<(&Probe, &Blocked)> {
        self.probes
            .iter()
            .filter(|probe| probe.tiers.contains(&tier))
            .filter_map(|probe| probe.blocked().map(|blocked| (probe, blocked)))
            .collect()
    }

    /// The strongest tier that can be had.
    pub fn strongest(&self) -> Option<Tier> {
        [Tier::Full, Tier::NoCgroup, Tier::NoNamespace]
            .into_iter()
            .find(|tier| self.blockers(*tier).is_empty())
    }

    /// The first blocker of `tier`, in the order a sandbox is put together: what comes after it mostly follows from it.
    pub fn root_cause(&self, tier: Tier) -> Option<&Blocked> {
        let blockers = self.blockers(tier);
        // A layer that is known says more than one that is not.
        let known = blockers
            .iter()
            .find(|(_, blocked)| blocked.by != Layer::Unknown);
        known.or(blockers.first()).map(|(_, blocked)| *blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(name: &'static str, tiers: &'static [Tier], by: Option<Layer>) -> Probe {
        let finding = by.map_or(Finding::Available(String::new()), |by| {
            Finding::Blocked(Blocked {
                by,
                shown: by.word().into(),
                errno: None,
                cure: String::new(),
            })
        });
        Probe::new(Group::Filters, name, tiers, finding)
    }

    fn survey(probes: Vec<Probe>) -> Survey {
        Survey {
            surroundings: Surroundings::default(),
            probes,
        }
    }

    #[test]
    fn the_strongest_tier_is_the_first_that_nothing_blocks() {
        let cgroup = |by| probe("cgroup", &[Tier::Full], by);
        let user = |by| probe("user", NAMESPACED, by);
        let landlock = |by| probe("landlock", ALL, by);
        let of = |a, b, c| survey(vec![cgroup(a), user(b), landlock(c)]).strongest();
        assert_eq!(of(None, None, None), Some(Tier::Full));
        assert_eq!(of(Some(Layer::Cgroups), None, None), Some(Tier::NoCgroup));
        let refused = Some(Layer::OuterSeccomp);
        assert_eq!(of(None, refused, None), Some(Tier::NoNamespace));
        assert_eq!(of(None, None, Some(Layer::LandlockOff)), None);
    }

    #[test]
    fn what_only_an_option_needs_blocks_no_tier() {
        let survey = survey(vec![probe("range", &[], Some(Layer::NoMapHelpers))]);
        assert_eq!(survey.strongest(), Some(Tier::Full));
        assert!(survey.root_cause(Tier::Full).is_none());
    }

    #[test]
    fn a_known_layer_is_named_before_one_that_is_not() {
        let survey = survey(vec![
            probe("user", NAMESPACED, Some(Layer::Unknown)),
            probe("proc", NAMESPACED, Some(Layer::MaskedProc)),
        ]);
        let cause = survey.root_cause(Tier::NoCgroup).unwrap();
        assert_eq!(cause.by, Layer::MaskedProc);
    }
}
