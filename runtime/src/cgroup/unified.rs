//! The ways of cgroup v2: in the hierarchy's root, below a delegated cgroup, in a scope of systemd.

use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Uid;

use super::controllers::Controllers;
use super::directory::Directory;
use super::host::{Hierarchy, Host};
use super::limits::Limits;
use super::place::{Place, Wanted, explain};
use super::systemd::{Manager, Scope, is_delegated};
use super::{Cgroup, Error, Kind};

/// Where processes of a delegated cgroup go, so that the cgroup itself may have limited children.
pub(super) const CALLER: &str = "palisade-caller";
/// The leaf that processes join where the cgroup with the limits needs a child, see [`V2::in_the_root`].
const LEAF: &str = "sandbox";

/// The ways of cgroup v2.
pub(super) struct V2<'a> {
    pub hierarchy: &'a Hierarchy,
    pub place: &'a Place,
    pub needed: Controllers,
    pub limits: &'a Limits,
}

impl V2<'_> {
    /// In the hierarchy's root.
    pub fn in_the_root(&self) -> Result<Cgroup, Error> {
        let base = &self.hierarchy.root;
        if base.join("cgroup.type").exists() {
            return Err(Error::Blocked(format!(
                "{} is a container's cgroup, not the root of the hierarchy",
                base.display()
            )));
        }
        // systemd turns controllers off in the root that its own units do not need, unless a child hands them on.
        // Those that nobody needs yet may be wanted by a later change.
        let guarded = Path::new("/run/systemd/system").exists();
        self.make(Kind::V2Root, base, guarded)
    }

    /// Below the caller's own cgroup.
    pub fn delegated(&self) -> Result<Cgroup, Error> {
        let own = self.hierarchy.own.as_deref().ok_or_else(|| {
            Error::Blocked("the caller's own cgroup is not visible in /sys/fs/cgroup; mount cgroup2 there anew in this container".into())
        })?;
        let base = match &self.place.path {
            Some(Wanted::Absolute(_)) => self.hierarchy.root.as_path(),
            _ if own.ends_with(CALLER) => own.parent().unwrap_or(own),
            _ => own,
        };
        // Where room was made before, the scope is one that palisade was given.
        if !own.ends_with(CALLER) && is_managed(base) && !is_delegated(base) {
            return Err(Error::Blocked(format!(
                "{} belongs to systemd; start palisade in a unit with Delegate=yes, such as: systemd-run --user --scope -p Delegate=yes",
                base.display()
            )));
        }
        if base == own && !self.needed.is_empty() {
            make_room(base).map_err(|error| explain(error, &[self.hierarchy]))?;
        }
        self.make(Kind::V2Delegated, base, false)
            .map_err(|error| explain(error, &[self.hierarchy]))
    }

    /// In a scope of the service manager.
    pub fn by_systemd(&self) -> Result<Cgroup, Error> {
        let scope = match &self.place.path {
            Some(Wanted::Scope { slice, unit }) => Scope {
                unit: unit.clone(),
                slice: Some(slice.clone()).filter(|slice| !slice.is_empty()),
            },
            _ => Scope {
                unit: format!("{}.scope", self.place.name),
                slice: None,
            },
        };
        Manager::connect()?.start(&scope)?;
        // The manager has moved the caller there.
        let own = Host::find()?.unified.and_then(|hierarchy| hierarchy.own);
        let own = own.ok_or_else(|| {
            Error::Blocked("the cgroup of the scope is not visible in /sys/fs/cgroup".into())
        })?;
        make_room(&own)?;
        self.make(Kind::Systemd, &own, false)
    }

    fn make(&self, kind: Kind, base: &Path, guarded: bool) -> Result<Cgroup, Error> {
        let directory = self
            .place
            .make(base, |parent| enable(kind, parent, self.needed))?;
        let mut cgroup = Cgroup {
            kind,
            unified: Some(directory),
            leaf: None,
            v1: Vec::new(),
        };
        let result = self.finish(&mut cgroup, guarded);
        if result.is_err() {
            // The first failure is the one to report.
            let _ = cgroup.remove();
        }
        result.map(|()| cgroup)
    }

    fn finish(&self, cgroup: &mut Cgroup, guarded: bool) -> Result<(), Error> {
        let Some(directory) = &cgroup.unified else {
            return Ok(());
        };
        if guarded {
            enable(cgroup.kind, directory.path(), self.needed)?;
            let leaf = directory.path().join(LEAF);
            Directory::make(&leaf, true)?;
            cgroup.leaf = Some(Directory::open(&leaf)?);
        }
        cgroup.apply(self.limits)
    }
}

/// Hands controllers on to the children of `parent`.
pub(super) fn enable(kind: Kind, parent: &Path, needed: Controllers) -> Result<(), Error> {
    if needed.is_empty() {
        return Ok(());
    }
    let parent = &Directory::open(parent)?;
    match parent.write("cgroup.subtree_control", &needed.list("+")) {
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EINVAL)) => {
            Err(missing(kind, parent, needed).unwrap_or(error))
        }
        Err(error) if error.errno() == Some(Errno::EBUSY) => Err(Error::Blocked(format!(
            "{} has processes of its own, so that it cannot hand the controllers {} on; move them to another control group, \
             or start palisade in one of its own",
            parent.path().display(),
            needed.list("")
        ))),
        other => other,
    }
}

/// Has controllers reach a cgroup that was made without them: each of those above it hands them on, and the one in which
/// palisade itself is makes room for that.
pub(super) fn reach(
    kind: Kind,
    hierarchy: &Hierarchy,
    path: &Path,
    needed: Controllers,
) -> Result<(), Error> {
    let directory = Directory::open(path)?;
    let absent = needed.without(Controllers::of_list(&directory.read("cgroup.controllers")?));
    let parent = path
        .parent()
        .filter(|parent| parent.starts_with(&hierarchy.root));
    if absent.is_empty() {
        return Ok(());
    }
    let Some(parent) = parent else {
        return enable(kind, path, absent);
    };
    match reach(kind, hierarchy, parent, absent) {
        // Whoever delegated it has to do that.
        Err(error)
            if matches!(
                error.errno(),
                Some(Errno::EACCES | Errno::EPERM | Errno::EROFS)
            ) =>
        {
            return Err(missing(kind, &Directory::open(parent)?, absent).unwrap_or(error));
        }
        other => other?,
    }
    let own = hierarchy.own.as_deref();
    if kind == Kind::V2Delegated
        && own.is_some_and(|own| own == parent || own == parent.join(CALLER))
    {
        make_room(parent)?;
    }
    enable(kind, parent, absent)
}

/// Moves the processes of a delegated cgroup into a leaf of it: a cgroup has processes or limited children, not both.
///
/// Before the controllers are enabled: the kernel lets those of pids and cpu be enabled beside processes, and then lets no
/// process into the children.
fn make_room(parent: &Path) -> Result<(), Error> {
    let leaf = parent.join(CALLER);
    Directory::make(&leaf, true)?;
    let (parent, leaf) = (Directory::open(parent)?, Directory::open(&leaf)?);
    // Those that were forked meanwhile come in the next round.
    for _ in 0..100 {
        let processes = parent.read("cgroup.procs")?;
        if processes.is_empty() {
            return Ok(());
        }
        for pid in processes.lines() {
            match leaf.write("cgroup.procs", pid) {
                // It ended meanwhile.
                Err(error) if error.errno() == Some(Errno::ESRCH) => {}
                other => other?,
            }
        }
    }
    Err(Error::Blocked(format!(
        "new processes appear in {} faster than they can be moved; start palisade in a cgroup of its own",
        parent.path().display()
    )))
}

/// Says which controllers `parent` does not have, and how it could.
fn missing(kind: Kind, parent: &Directory, needed: Controllers) -> Option<Error> {
    let available = Controllers::of_list(&parent.read("cgroup.controllers").ok()?);
    let absent = needed.without(available);
    if absent.is_empty() {
        return None;
    }
    let cure = match kind {
        Kind::Systemd => {
            let uid = Uid::effective();
            format!(
                "as root, write \"[Service]\\nDelegate=cpu cpuset io memory pids\" to /etc/systemd/system/user@.service.d/delegate.conf, \
                 then run: systemctl daemon-reload && systemctl restart user@{uid}.service"
            )
        }
        Kind::V2Delegated => "have its parent enable them in cgroup.subtree_control, or its unit name them in Delegate=".into(),
        _ => "check the kernel's command line for cgroup_disable= and for controllers that a v1 hierarchy holds".into(),
    };
    Some(Error::Blocked(format!(
        "{} has no controller {}; {cure}",
        parent.path().display(),
        absent.list("")
    )))
}

/// Whether a service manager made this cgroup: it names all of its own like this.
fn is_managed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        extension == "scope" || extension == "service" || extension == "slice"
    })
}
