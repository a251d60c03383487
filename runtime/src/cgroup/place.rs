//! Finding a place for a cgroup: each way is tried by using it.

use std::path::{Component, Path};

use nix::errno::Errno;
use nix::unistd::{Uid, geteuid};

use super::controllers::{Controller, Controllers};
use super::directory::{Directory, read_path};
use super::host::{Hierarchy, Host};
use super::limits::Limits;
use super::settings::Setting;
use super::systemd::{self, Scope};
use super::{Cgroup, Error, Kind, Obstacle, Request, Systemd};

/// Where processes of a delegated cgroup go, so that the cgroup itself may have limited children.
const CALLER: &str = "palisade-caller";
/// The leaf that processes join where the cgroup with the limits needs a child, see [`V2::guarded`].
const LEAF: &str = "sandbox";

/// Makes the cgroup in the first way that works.
pub(super) fn make(id: &str, limits: &Limits, request: &Request) -> Result<Cgroup, Error> {
    if id.is_empty() || id.starts_with('.') || id.contains(['/', '\0', '\n']) {
        return Err(Error::Invalid(format!(
            "{id:?} cannot be the name of a cgroup"
        )));
    }
    let place = Place::new(id, request)?;
    let host = Host::find()?;
    let needed = limits.controllers();
    let in_v1: Controllers = host
        .v1
        .iter()
        .flat_map(|(controllers, _)| controllers.iter())
        .collect();
    let mut obstacles = Vec::new();
    let mut attempt = |kind: Kind, result: Result<Cgroup, Error>| match result {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(error) if error.is_about_the_way() => {
            obstacles.push(Obstacle {
                kind,
                reason: error.to_string(),
            });
            Ok(None)
        }
        Err(error) => Err(error),
    };
    let v1_has_one = needed.without(in_v1) != needed || (needed.is_empty() && !in_v1.is_empty());
    if v1_has_one {
        let kind = if host.unified.is_some() {
            Kind::Hybrid
        } else {
            Kind::V1
        };
        if let Some(cgroup) = attempt(kind, v1(&host, &place, limits, request.always))? {
            return Ok(cgroup);
        }
    } else if let Some(hierarchy) = &host.unified {
        let v2 = V2 {
            hierarchy,
            place: &place,
            needed,
            limits,
        };
        if !place.is_scope() {
            if geteuid().is_root()
                && let Some(cgroup) = attempt(Kind::V2Root, v2.in_the_root())?
            {
                return Ok(cgroup);
            }
            if let Some(cgroup) = attempt(Kind::V2Delegated, v2.delegated())? {
                return Ok(cgroup);
            }
        }
        if request.systemd == Systemd::Auto
            && let Some(cgroup) = attempt(Kind::Systemd, v2.by_systemd(id))?
        {
            return Ok(cgroup);
        }
    } else {
        obstacles.push(Obstacle {
            kind: Kind::V2Root,
            reason: "no cgroup file system is mounted; as root, mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup".into(),
        });
    }
    let limits = if needed.is_empty() {
        "and watch processes".into()
    } else {
        limits.in_words()
    };
    Err(Error::Unavailable { limits, obstacles })
}

/// Where the cgroup is to be.
struct Place {
    name: String,
    path: Option<Wanted>,
}

/// OCI's cgroupsPath, understood.
enum Wanted {
    Absolute(Vec<String>),
    Relative(Vec<String>),
    Scope { slice: String, unit: String },
}

impl Place {
    fn new(id: &str, request: &Request) -> Result<Self, Error> {
        let path = request
            .path
            .as_deref()
            .map(|path| Wanted::new(path, request.systemd))
            .transpose()?;
        Ok(Self {
            name: format!("palisade-{id}"),
            path,
        })
    }

    fn is_scope(&self) -> bool {
        matches!(self.path, Some(Wanted::Scope { .. }))
    }

    /// The directory itself, made below `base`; `prepare` is called with each directory that gets a child.
    fn make(
        &self,
        base: &Path,
        prepare: impl Fn(&Path) -> Result<(), Error>,
    ) -> Result<Directory, Error> {
        let names = match &self.path {
            Some(Wanted::Absolute(names) | Wanted::Relative(names)) => names.as_slice(),
            _ => std::slice::from_ref(&self.name),
        };
        let mut path = base.to_owned();
        for name in names {
            prepare(&path)?;
            path.push(name);
            // A path that an engine chose may exist already: it made the parents, or the cgroup itself.
            Directory::make(&path, self.path.is_some())?;
        }
        Directory::open(&path)
    }
}

impl Wanted {
    fn new(path: &Path, systemd: Systemd) -> Result<Self, Error> {
        let invalid = || {
            Error::Invalid(format!(
                "the cgroups path {} is not a plain path below a cgroup root",
                path.display()
            ))
        };
        let text = path
            .to_str()
            .filter(|text| !text.contains(['\n', '\t', '\0']))
            .ok_or_else(invalid)?;
        if let [slice, prefix, name] = text.split(':').collect::<Vec<_>>()[..]
            && systemd == Systemd::Auto
            && !text.contains('/')
            && !name.is_empty()
        {
            let unit = if prefix.is_empty() {
                format!("{name}.scope")
            } else {
                format!("{prefix}-{name}.scope")
            };
            return Ok(Self::Scope {
                slice: slice.into(),
                unit,
            });
        }
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => {
                    names.push(name.to_str().ok_or_else(invalid)?.to_owned());
                }
                _ => return Err(invalid()),
            }
        }
        if names.is_empty() {
            return Err(invalid());
        }
        Ok(if path.is_absolute() {
            Self::Absolute(names)
        } else {
            Self::Relative(names)
        })
    }
}

/// The ways of cgroup v2.
struct V2<'a> {
    hierarchy: &'a Hierarchy,
    place: &'a Place,
    needed: Controllers,
    limits: &'a Limits,
}

impl V2<'_> {
    /// In the hierarchy's root.
    fn in_the_root(&self) -> Result<Cgroup, Error> {
        let base = &self.hierarchy.root;
        if base.join("cgroup.type").exists() {
            return Err(Error::Blocked(format!(
                "{} is a container's cgroup, not the root of the hierarchy",
                base.display()
            )));
        }
        // systemd turns controllers off in the root that its own units do not need, unless a child hands them on.
        let guarded = Path::new("/run/systemd/system").exists() && !self.needed.is_empty();
        self.make(Kind::V2Root, base, guarded)
    }

    /// Below the caller's own cgroup.
    fn delegated(&self) -> Result<Cgroup, Error> {
        let own = self.hierarchy.own.as_deref().ok_or_else(|| {
            Error::Blocked("the caller's own cgroup is not visible in /sys/fs/cgroup; mount cgroup2 there anew in this container".into())
        })?;
        let base = match &self.place.path {
            Some(Wanted::Absolute(_)) => self.hierarchy.root.as_path(),
            _ if own.ends_with(CALLER) => own.parent().unwrap_or(own),
            _ => own,
        };
        if is_managed(base) && !systemd::is_delegated(base) {
            return Err(Error::Blocked(format!(
                "{} belongs to systemd; start palisade in a unit with Delegate=yes, such as: systemd-run --user --scope -p Delegate=yes",
                base.display()
            )));
        }
        if base == own && !self.needed.is_empty() {
            make_room(base).map_err(|error| explain(error, self.hierarchy))?;
        }
        self.make(Kind::V2Delegated, base, false)
            .map_err(|error| explain(error, self.hierarchy))
    }

    /// In a scope of the service manager.
    fn by_systemd(&self, id: &str) -> Result<Cgroup, Error> {
        let scope = match &self.place.path {
            Some(Wanted::Scope { slice, unit }) => Scope {
                unit: unit.clone(),
                slice: Some(slice.clone()).filter(|slice| !slice.is_empty()),
            },
            _ => Scope {
                unit: format!("palisade-{id}.scope"),
                slice: None,
            },
        };
        systemd::start(&scope)?;
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
fn enable(kind: Kind, parent: &Path, needed: Controllers) -> Result<(), Error> {
    if needed.is_empty() {
        return Ok(());
    }
    let parent = &Directory::open(parent)?;
    match parent.write("cgroup.subtree_control", &needed.list("+")) {
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EINVAL)) => {
            Err(missing(kind, parent, needed).unwrap_or(error))
        }
        other => other,
    }
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

/// In every v1 hierarchy that is needed, and in a cgroup v2 without controllers beside them.
fn v1(host: &Host, place: &Place, limits: &Limits, always: bool) -> Result<Cgroup, Error> {
    let needed = limits.controllers();
    let mut wanted = needed;
    if always {
        for controller in [Controller::Memory, Controller::Pids, Controller::Cpuacct] {
            wanted.insert(controller);
        }
    }
    let mut cgroup = Cgroup {
        kind: Kind::V1,
        unified: None,
        leaf: None,
        v1: Vec::new(),
    };
    let result = fill_v1(&mut cgroup, host, place, limits, (needed, wanted), always);
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
    (needed, mut wanted): (Controllers, Controllers),
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
        wanted.insert(Controller::Freezer);
    }
    for (controllers, hierarchy) in &host.v1 {
        if controllers.without(wanted) == *controllers {
            continue;
        }
        let cpuset = controllers.contains(Controller::Cpuset);
        let directory = below(hierarchy, place, |parent| {
            if cpuset {
                inherit_cpuset(parent)
            } else {
                Ok(())
            }
        })?;
        cgroup.v1.push((*controllers, directory));
        if cpuset && let Some((_, directory)) = cgroup.v1.last() {
            inherit_cpuset(directory.path())?;
        }
    }
    let got: Controllers = cgroup
        .v1
        .iter()
        .flat_map(|(controllers, _)| controllers.iter())
        .collect();
    let absent = needed.without(got);
    if let Some(controller) = absent.iter().next() {
        return Err(Error::Blocked(format!(
            "no hierarchy of cgroup v1 has the controller {name}; as root, mount it: \
             mkdir -p /sys/fs/cgroup/{name} && mount -t cgroup -o {name} cgroup /sys/fs/cgroup/{name}",
            name = controller.v1_name()
        )));
    }
    cgroup.apply(limits)
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
    .map_err(|error| explain(error, hierarchy))
}

/// Says how a user who may not make a cgroup here could.
fn explain(error: Error, hierarchy: &Hierarchy) -> Error {
    let (uid, root) = (geteuid(), hierarchy.root.display());
    let cure = match error.errno() {
        Some(Errno::EACCES | Errno::EPERM) => format!(
            "have root start this in a cgroup of user {uid}: mkdir {root}/user-{uid} && chown -R {uid} {root}/user-{uid} && \
             echo PID > {root}/user-{uid}/cgroup.procs, where PID is the calling shell's"
        ),
        Some(Errno::EROFS) => {
            "start the container that this runs in with a writable /sys/fs/cgroup".to_owned()
        }
        _ => return error,
    };
    Error::Blocked(format!("{error}; {cure}"))
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

/// Writes one limit, to the file's other name where a kernel has that.
pub(super) fn set(directory: &Directory, setting: &Setting) -> Result<(), Error> {
    let error = match directory.write(&setting.file, &setting.value) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => error,
        other => return other,
    };
    let absent = |advice| Error::NoSuchLimit {
        what: setting.what,
        file: directory.path().join(&*setting.file),
        advice,
    };
    match &*setting.file {
        // Not asked for by anybody; since Linux 4.19.
        "memory.oom.group" => Ok(()),
        "memory.swap.max" | "memory.memsw.limit_in_bytes" => {
            // Without swap there is nothing to limit.
            if read_path("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() < 2) {
                return Ok(());
            }
            Err(absent(
                "boot with swapaccount=1, or leave out the limit on swap",
            ))
        }
        "io.weight" => {
            let weight: u64 = setting
                .value
                .rsplit(' ')
                .next()
                .and_then(|value| value.parse().ok())
                .unwrap_or(100);
            let value = (weight / 10).max(1).to_string();
            directory
                .write("io.bfq.weight", &value)
                .map_err(|_| absent("use the bfq or iocost io scheduler, or leave out the weight"))
        }
        "blkio.bfq.weight" => directory
            .write("blkio.weight", &setting.value)
            .map_err(|_| absent("use the bfq io scheduler, or leave out the weight")),
        _ if directory.read("cgroup.procs").is_err() => Err(error),
        _ => Err(absent(
            "use a newer kernel or one built with it, or leave out the limit",
        )),
    }
}
