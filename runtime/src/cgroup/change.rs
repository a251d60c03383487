//! Other limits for a cgroup that has processes: all of them, or none.

use std::time::Duration;

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use super::controllers::Controllers;
use super::host::Host;
use super::limits::Limits;
use super::place::Place;
use super::settings::Setting;
use super::view::Cpus;
use super::{Cgroup, Error, Request, Tree, legacy, unified};

impl Cgroup {
    /// Changes limits; those that `resources` does not name stay. What the kernel took is read back. `id`, `request` and
    /// `tree` are those of [`Cgroup::create`] and [`Cgroup::surround`]: a controller that was not needed before is added, and
    /// the processes are moved into its directory.
    ///
    /// # Errors
    /// As for [`Cgroup::create`], and for less memory than is in use. The limits are what they were then.
    pub(crate) fn change(
        &mut self,
        id: &str,
        resources: &LinuxResources,
        request: &Request,
        tree: &impl Tree,
    ) -> Result<(), Error> {
        let limits = Limits::new(resources)?;
        self.refuse_too_little_memory(resources)?;
        self.add_controllers(id, &limits, request, tree)?;
        let settings = if self.v1.is_empty() {
            limits.v2()?
        } else {
            limits.v1()?
        };
        let before: Vec<Setting> = settings.iter().filter_map(|new| self.held(new)).collect();
        let result = self
            .write_all(&settings)
            .and_then(|()| settings.iter().try_for_each(|new| self.check(new)));
        if let Err(error) = &result {
            // In both orders: v1 takes memory and memory plus swap in one of them.
            let backwards: Vec<Setting> = before.iter().rev().cloned().collect();
            let _ = self.write_all(&backwards);
            let _ = self.write_all(&before);
            if let Err(kept) = before.iter().try_for_each(|old| self.check(old)) {
                return Err(Error::Invalid(format!(
                    "{error}; and not all limits are what they were: {kept}"
                )));
            }
        }
        result
    }

    /// cgroup v2 would kill what does not fit; v1 says so by itself.
    fn refuse_too_little_memory(&self, resources: &LinuxResources) -> Result<(), Error> {
        let memory = resources.memory().as_ref();
        let limit = memory.and_then(oci_spec::runtime::LinuxMemory::limit);
        let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok()) else {
            return Ok(());
        };
        let used = self.usage();
        let firm = used
            .memory
            .unwrap_or(0)
            .saturating_sub(used.memory_inactive.unwrap_or(0));
        if limit > 0 && limit < firm {
            return Err(Error::Invalid(format!(
                "it uses {firm} bytes of memory, more than the new limit of {limit}"
            )));
        }
        Ok(())
    }

    fn add_controllers(
        &mut self,
        id: &str,
        limits: &Limits,
        request: &Request,
        tree: &impl Tree,
    ) -> Result<(), Error> {
        let needed = limits.controllers();
        if self.v1.is_empty() {
            let (Some(own), Some(hierarchy)) = (&self.unified, Host::find()?.unified) else {
                return Ok(());
            };
            unified::reach(self.kind, &hierarchy, own.path(), needed)?;
            return match self.leaf {
                Some(_) => unified::enable(self.kind, own.path(), needed),
                None => Ok(()),
            };
        }
        let had: Controllers = self
            .v1
            .iter()
            .flat_map(|(controllers, _)| controllers.iter())
            .collect();
        let absent = needed.without(had);
        if absent.is_empty() {
            return Ok(());
        }
        let place = Place::new(id, request, Duration::ZERO)?;
        let host = Host::find()?;
        let was_frozen = self.is_frozen()?;
        let had = self.v1.len();
        let moved = legacy::add(self, &host, &place, absent)
            .and_then(|()| self.freeze())
            .and_then(|()| self.take_in(tree));
        if moved.is_err() {
            // A limit in a directory that not all are in would be one that does not hold.
            legacy::take_back(self, &host, had, tree);
        }
        if was_frozen {
            return moved;
        }
        moved.and(self.thaw())
    }

    /// What a file holds now, as a setting that puts it back.
    fn held(&self, new: &Setting) -> Option<Setting> {
        let held = self.directory_of(new.controller)?.read(&new.file).ok()?;
        // An empty list is written as an empty line.
        let held = held.trim();
        let value = if held.is_empty() { "\n" } else { held };
        Some(Setting {
            value: value.to_owned(),
            ..new.clone()
        })
    }

    /// Whether the kernel has taken a value.
    fn check(&self, new: &Setting) -> Result<(), Error> {
        let Some(directory) = self.directory_of(new.controller) else {
            return Ok(());
        };
        let Ok(held) = directory.read(&new.file) else {
            // What is not there and need not be: place::set has decided that.
            return Ok(());
        };
        if is_same(&new.file, new.value.trim(), held.trim()) {
            return Ok(());
        }
        Err(Error::system(
            format!(
                "set {} (it holds {:?} instead of {:?}) in",
                new.what,
                held.trim(),
                new.value
            ),
            directory.path().join(&*new.file),
            Errno::ERANGE,
        ))
    }
}

/// Whether a file holds what was written to it, as the kernel shows it.
fn is_same(file: &str, wanted: &str, held: &str) -> bool {
    /// The kernel counts memory in pages, and rounds down.
    const PAGE: u64 = 4096;
    match file {
        "cpuset.cpus" | "cpuset.mems" => {
            let numbers =
                |list: &str| Cpus::parse(list).map(|cpus| cpus.iter().collect::<Vec<_>>());
            numbers(wanted) == numbers(held)
        }
        _ if file.starts_with("memory.") => match (wanted.parse::<u64>(), held.parse::<u64>()) {
            (Ok(wanted), Ok(held)) => wanted / PAGE == held / PAGE || wanted == held,
            // v1 shows its highest number for none.
            (Err(_), Ok(held)) => wanted == "-1" && held > u64::MAX / 4,
            _ => wanted == held,
        },
        // v2 weights of io and the like have more to them than the value.
        _ if file.starts_with("io.") || file.starts_with("blkio.") => true,
        _ => wanted == held,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Listed, alone, end, groups, id, unless_refused, waiting};
    use super::*;

    /// A cgroup v1 that only limits the number of processes; none where this host has no v1, or this user can have none.
    fn only_pids(id: &str) -> Option<Cgroup> {
        let resources = serde_json::from_str(r#"{"pids":{"limit":20}}"#).unwrap();
        let made = Cgroup::create(id, &resources, &Request::default());
        let cgroup = unless_refused(made)?.unwrap();
        if cgroup.v1.is_empty() {
            cgroup.remove().unwrap();
            return None;
        }
        Some(cgroup)
    }

    #[test]
    fn a_controller_that_cannot_be_added_leaves_no_directory_that_holds_nobody() {
        let _alone = alone();
        let id = id();
        let Some(mut cgroup) = only_pids(&id) else {
            return;
        };
        // Without it, processes cannot be stopped to be moved.
        let unified = cgroup.unified.take();
        let had = cgroup.v1.len();
        let more = serde_json::from_str(r#"{"cpu":{"shares":512}}"#).unwrap();
        // The second attempt must not find what the first one has made.
        for _ in 0..2 {
            let changed = cgroup.change(&id, &more, &Request::default(), &Listed(vec![]));
            assert!(
                matches!(changed, Err(Error::NoSuchLimit { .. })),
                "{changed:?}"
            );
            assert_eq!(cgroup.v1.len(), had);
        }
        cgroup.unified = unified;
        cgroup.remove().unwrap();
    }

    #[test]
    fn processes_go_back_where_they_were_when_a_controller_is_taken_away_again() {
        let _alone = alone();
        let id = id();
        let Some(mut cgroup) = only_pids(&id) else {
            return;
        };
        let (had, host) = (cgroup.v1.len(), Host::find().unwrap());
        let place = Place::new(&id, &Request::default(), Duration::ZERO).unwrap();
        let mut cpu = Controllers::default();
        cpu.insert(super::super::Controller::Cpu);
        legacy::add(&mut cgroup, &host, &place, cpu).unwrap();
        let added = cgroup.v1[had].1.path().to_owned();
        let (child, pid) = waiting();
        let of_cpu = || {
            let names = |line: &&str| {
                let names = line.split(':').nth(1).unwrap_or_default();
                names.split(',').any(|name| name == "cpu")
            };
            groups(pid).lines().find(names).unwrap().to_owned()
        };
        let before = of_cpu();
        cgroup.join(pid).unwrap();
        legacy::take_back(&mut cgroup, &host, had, &Listed(vec![pid]));
        let after = of_cpu();
        let (length, exists) = (cgroup.v1.len(), added.exists());
        end(child);
        cgroup.remove().unwrap();
        assert_eq!((length, exists, after), (had, false, before));
    }

    #[test]
    fn a_value_is_the_same_in_the_kernels_own_words_and_nothing_else_is() {
        for (file, wanted, held, same) in [
            ("memory.max", "104857600", "104857600", true),
            ("memory.max", "104857601", "104857600", true),
            ("memory.max", "104857600", "209715200", false),
            ("memory.max", "max", "max", true),
            ("memory.limit_in_bytes", "-1", "9223372036854771712", true),
            ("memory.limit_in_bytes", "-1", "4096", false),
            ("cpuset.cpus", "0,1", "0-1", true),
            ("cpuset.cpus", "0", "0-1", false),
            ("cpu.max", "150000 100000", "150000 100000", true),
            ("pids.max", "10", "max", false),
        ] {
            assert_eq!(is_same(file, wanted, held), same, "{file} {wanted} {held}");
        }
    }
}
