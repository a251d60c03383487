//! What a sandbox is shown of its own cgroup: runtimes such as Java's look for limits there and nowhere else.

use std::path::{Path, PathBuf};

use nix::sys::stat::fstat;

use super::controllers::{Controller, Controllers};
use super::directory::Directory;
use super::{Cgroup, Error};

/// One directory of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Where it is on the host.
    pub(crate) path: PathBuf,
    /// Its device and inode number: what is found at that path later must be the same.
    pub(crate) place: (u64, u64),
    /// Its name below /sys/fs/cgroup, such as `memory`; empty for cgroup v2, which has one directory for all controllers.
    pub(crate) name: String,
    /// Other names that lead to it: those of single controllers where a hierarchy of v1 has several.
    pub(crate) links: Vec<&'static str>,
}

/// What docker shows of v1. Java goes by nothing unless it finds the first four.
const SHOWN: [Controller; 6] = [
    Controller::Memory,
    Controller::Cpu,
    Controller::Cpuacct,
    Controller::Cpuset,
    Controller::Pids,
    Controller::Io,
];

impl Cgroup {
    /// The directories with its limits: none beside a v2 without controllers.
    pub(crate) fn shown(&self) -> Result<Vec<Shown>, Error> {
        if self.v1.is_empty() {
            return match &self.unified {
                Some(unified) => Ok(vec![shown(unified, Controllers::default())?]),
                None => Ok(Vec::new()),
            };
        }
        let wanted: Controllers = SHOWN.into_iter().collect();
        self.v1
            .iter()
            .filter(|(controllers, _)| controllers.meets(wanted))
            .map(|(controllers, directory)| shown(directory, *controllers))
            .collect()
    }
}

/// In v1, what goes by processors or memory is no use without the others of its kind.
pub(super) fn companions(needed: Controllers) -> Controllers {
    let sizing: Controllers = SHOWN[..4].iter().copied().collect();
    if needed.meets(sizing) {
        sizing
    } else {
        Controllers::default()
    }
}

fn shown(directory: &Directory, controllers: Controllers) -> Result<Shown, Error> {
    let status = fstat(directory.fd())
        .map_err(|errno| Error::system("look at", Path::new(directory.path()), errno))?;
    let names: Vec<_> = controllers.iter().map(Controller::v1_name).collect();
    Ok(Shown {
        path: directory.path().to_owned(),
        place: (status.st_dev, status.st_ino),
        name: names.join(","),
        links: if names.len() > 1 { names } else { Vec::new() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sizes_programs_is_shown_together_or_not_at_all() {
        let set = |of: &[Controller]| of.iter().copied().collect::<Controllers>();
        let all = set(&SHOWN[..4]);
        assert_eq!(companions(set(&[Controller::Memory])), all);
        assert_eq!(companions(set(&[Controller::Cpu, Controller::Pids])), all);
        assert!(companions(set(&[Controller::Pids])).is_empty());
    }
}
