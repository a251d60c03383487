//! The way of cgroup v1, alone or beside a cgroup v2 without controllers.

use std::path::Path;

use nix::errno::Errno;

use super::controllers::{Controller, Controllers};
use super::directory::Directory;
use super::host::{Hierarchy, Host};
use super::late::{Tree, send_home};
use super::limits::Limits;
use super::place::{Place, Wanted, explain};
use super::{Cgroup, Error, Kind, shown};

/// In every v1 hierarchy that is needed, and in a cgroup v2 without controllers beside them.
pub(super) fn make(
    host: &Host,
    place: &Place,
    limits: &Limits,
    always: bool,
) -> Result<Cgroup, Error> {
    let needed = limits.controllers();
    let mut wanted = needed;
    if always {
        for controller in [Controller::Memory, Controller::Pids, Controller::Cpuacct] {
            wanted.insert(controller);
        }
    }
    let required = wanted;
    for controller in shown::companions(needed).iter() {
        wanted.insert(controller);
    }
    let mut cgroup = Cgroup {
        kind: Kind::V1,
        unified: None,
        leaf: None,
        v1: Vec::new(),
    };
    let result = fill_v1(
        &mut cgroup,
        host,
        place,
        limits,
        (needed, required, wanted),
        always,
    );
    if result.is_err() {
        // The first failure is the one to report.
        let _ = cgroup.remove();
    }
    result.map(|()| cgroup)
}

fn fill_v1(
    cgroup: &mut Cgroup,
    host: &Host,
    place: &Place,
    limits: &Limits,
    (needed, mut required, mut wanted): (Controllers, Controllers, Controllers),
    always: bool,
) -> Result<(), Error> {
    if place.is_scope() {
        return Err(Error::Invalid(
            "a cgroups path of the form slice:prefix:name needs cgroup v2 and systemd".into(),
        ));
    }
    if let Some(hierarchy) = &host.unified
        && let Ok(directory) = below(hierarchy, place, |_| Ok(()))
    {
        cgroup.kind = Kind::Hybrid;
        cgroup.unified = Some(directory);
    } else if always {
        required.insert(Controller::Freezer);
        wanted.insert(Controller::Freezer);
    }
    for (controllers, hierarchy) in &host.v1 {
        if !controllers.meets(wanted) {
            continue;
        }
        match directory_in(hierarchy, *controllers, place) {
            Ok(directory) => cgroup.v1.push((*controllers, directory)),
            // It would only have been shown.
            Err(_) if !required.meets(*controllers) => {}
            Err(error) => return Err(explain(error, &asked_of(host, required))),
        }
    }
    let got: Controllers = cgroup
        .v1
        .iter()
        .flat_map(|(controllers, _)| controllers.iter())
        .collect();
    no_hierarchy(needed.without(got))?;
    cgroup.apply(limits)
}

/// Adds directories for controllers that a cgroup does not have; who is in the others is not in these.
pub(super) fn add(
    cgroup: &mut Cgroup,
    host: &Host,
    place: &Place,
    absent: Controllers,
) -> Result<(), Error> {
    let mut got = Controllers::default();
    for (controllers, hierarchy) in &host.v1 {
        if !controllers.meets(absent) {
            continue;
        }
        let directory = directory_in(hierarchy, *controllers, place)
            .map_err(|error| explain(error, &asked_of(host, absent)))?;
        controllers
            .iter()
            .for_each(|controller| got.insert(controller));
        cgroup.v1.push((*controllers, directory));
    }
    no_hierarchy(absent.without(got))
}

/// Undoes [`add`]: all directories but the first `had` go, and the processes of `tree` return to the caller's own cgroup.
pub(super) fn take_back(cgroup: &mut Cgroup, host: &Host, had: usize, tree: &impl Tree) {
    for (_, directory) in cgroup.v1.split_off(had.min(cgroup.v1.len())) {
        // The failure that led here is the one to report; what stays is swept once it is empty.
        let _ = send_home(&directory, host, tree);
        let _ = directory.remove();
    }
}

/// The directory of `place` for these controllers, ready to take processes.
fn directory_in(
    hierarchy: &Hierarchy,
    controllers: Controllers,
    place: &Place,
) -> Result<Directory, Error> {
    if !controllers.contains(Controller::Cpuset) {
        return below(hierarchy, place, |_| Ok(()));
    }
    let directory = below(hierarchy, place, inherit_cpuset)?;
    if let Err(error) = inherit_cpuset(directory.path()) {
        let _ = directory.remove();
        return Err(error);
    }
    Ok(directory)
}

/// An error for these, if there are any.
fn no_hierarchy(absent: Controllers) -> Result<(), Error> {
    if absent.is_empty() {
        return Ok(());
    }
    Err(Error::Blocked(unmounted(absent)))
}

/// All that is missing, and how to have it.
fn unmounted(absent: Controllers) -> String {
    let names: Vec<&str> = absent.iter().map(Controller::v1_name).collect();
    let mounts: Vec<String> = names
        .iter()
        .map(|name| format!("mkdir -p /sys/fs/cgroup/{name} && mount -t cgroup -o {name} cgroup /sys/fs/cgroup/{name}"))
        .collect();
    let (plural, them) = match names.len() {
        1 => ("", "it"),
        _ => ("s", "them"),
    };
    format!(
        "no hierarchy of cgroup v1 has the controller{plural} {}; as root, mount {them}: {}",
        names.join(" and "),
        mounts.join(" && ")
    )
}

/// The directory of `place` in a hierarchy: below its root for root, who may be refused there in a container, else below
/// the caller's own cgroup.
fn below(
    hierarchy: &Hierarchy,
    place: &Place,
    prepare: impl Fn(&Path) -> Result<(), Error>,
) -> Result<Directory, Error> {
    let in_root = place.make(&hierarchy.root, &prepare);
    match (in_root, &hierarchy.own) {
        (Err(error), Some(own))
            if *own != hierarchy.root
                && !matches!(place.path, Some(Wanted::Absolute(_)))
                && matches!(
                    error.errno(),
                    Some(Errno::EACCES | Errno::EPERM | Errno::EROFS)
                ) =>
        {
            place.make(own, &prepare)
        }
        (result, _) => result,
    }
}

/// The hierarchies in which a user needs a directory for these controllers. With cgroup v2 beside them nothing else freezes.
fn asked_of(host: &Host, controllers: Controllers) -> Vec<&Hierarchy> {
    let mut freezer = Controllers::default();
    if host.unified.is_some() {
        freezer.insert(Controller::Freezer);
    }
    let controllers = controllers.without(freezer);
    let v1 = host.v1.iter();
    v1.filter(|(of, _)| of.meets(controllers))
        .map(|(_, hierarchy)| hierarchy)
        .chain(&host.unified)
        .collect()
}

/// A new v1 cpuset has no cpu and no memory node, and takes no process before it has both.
fn inherit_cpuset(path: &Path) -> Result<(), Error> {
    let directory = Directory::open(path)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if directory.read(file)?.trim().is_empty() {
            let parent = Directory::open(path.parent().unwrap_or(path))?;
            directory.write(file, parent.read(file)?.trim())?;
        }
    }
    Ok(())
}
