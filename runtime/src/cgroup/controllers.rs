//! The controllers of cgroups, by what they limit.

/// One controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Cpuset,
    Pids,
    /// `io` in v2, `blkio` in v1.
    Io,
    /// v1 alone; part of `cpu` in v2.
    Cpuacct,
    /// v1 alone; every v2 cgroup can be frozen.
    Freezer,
}

impl Controller {
    const ALL: [Self; 7] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuset,
        Self::Pids,
        Self::Io,
        Self::Cpuacct,
        Self::Freezer,
    ];

    /// The name in cgroup v2 and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Pids => "pids",
            Self::Io => "io",
            Self::Cpuacct => "cpuacct",
            Self::Freezer => "freezer",
        }
    }

    /// The name as a mount option of cgroup v1.
    pub fn v1_name(self) -> &'static str {
        if self == Self::Io {
            "blkio"
        } else {
            self.name()
        }
    }

    /// The controller whose control file in cgroup v2 has this name.
    pub fn of_file(file: &str) -> Option<Self> {
        let name = file.split('.').next()?;
        [Self::Memory, Self::Cpu, Self::Cpuset, Self::Pids, Self::Io]
            .into_iter()
            .find(|controller| controller.name() == name)
    }
}

/// A set of controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Controllers(u8);

impl Controllers {
    pub fn insert(&mut self, controller: Controller) {
        self.0 |= 1 << controller as u8;
    }

    pub fn contains(self, controller: Controller) -> bool {
        self.0 & (1 << controller as u8) != 0
    }

    /// Whether one is in both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL
            .into_iter()
            .filter(move |controller| self.contains(*controller))
    }

    /// Those of a list in cgroup v2's form, `cpu memory pids`.
    pub fn of_list(list: &str) -> Self {
        list.split_ascii_whitespace()
            .filter_map(|word| Controller::ALL.into_iter().find(|c| c.name() == word))
            .collect()
    }

    /// Those that are not in `other`.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names with `sign` before each: `+memory +pids` enables them in `cgroup.subtree_control`.
    pub fn list(self, sign: &str) -> String {
        self.iter()
            .map(|controller| format!("{sign}{}", controller.name()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl FromIterator<Controller> for Controllers {
    fn from_iter<I: IntoIterator<Item = Controller>>(iter: I) -> Self {
        let mut set = Self::default();
        iter.into_iter()
            .for_each(|controller| set.insert(controller));
        set
    }
}

impl Controllers {
    /// Those of a list in cgroup v1's form, `cpu,cpuacct`.
    pub fn of_v1_list(list: &str) -> Self {
        list.split(',')
            .filter_map(|word| Controller::ALL.into_iter().find(|c| c.v1_name() == word))
            .collect()
    }
}
