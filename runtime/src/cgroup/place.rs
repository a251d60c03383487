//! Finding a place for a cgroup: each way is tried by using it.

use std::path::{Component, Path};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::controllers::Controllers;
use super::directory::{Directory, read_path};
use super::host::{Hierarchy, Host};
use super::limits::Limits;
use super::settings::Setting;
use super::unified::V2;
use super::{Cgroup, Error, Kind, Obstacle, Request, Systemd, abandoned, legacy};

/// How long processes may take to die whose supervisor was killed: what a start may wait for, and nobody who is busy with a
/// running sandbox.
pub(super) const DYING: Duration = Duration::from_secs(2);

/// Makes the cgroup in the first way that works. What a killed supervisor left in its place may take `patience` to be gone.
pub(super) fn make(
    id: &str,
    limits: &Limits,
    request: &Request,
    patience: Duration,
) -> Result<Cgroup, Error> {
    if id.is_empty() || id.starts_with('.') || id.contains(['/', '\0', '\n']) {
        return Err(Error::Invalid(format!(
            "{id:?} cannot be the name of a cgroup"
        )));
    }
    let place = Place::new(id, request, patience)?;
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
    let v1_has_one = needed.meets(in_v1) || (needed.is_empty() && !in_v1.is_empty());
    if v1_has_one {
        let kind = if host.unified.is_some() {
            Kind::Hybrid
        } else {
            Kind::V1
        };
        if let Some(cgroup) = attempt(kind, legacy::make(&host, &place, limits, request.always))? {
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
            && let Some(cgroup) = attempt(Kind::Systemd, v2.by_systemd())?
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
pub(super) struct Place {
    pub name: String,
    pub path: Option<Wanted>,
    patience: Duration,
}

/// What the cgroups of the sandbox `id` are called where no path was chosen for them.
pub(super) fn name_of(id: &str) -> String {
    format!("palisade-{id}")
}

/// OCI's cgroupsPath, understood.
pub(super) enum Wanted {
    Absolute(Vec<String>),
    Relative(Vec<String>),
    Scope { slice: String, unit: String },
}

impl Place {
    pub fn new(id: &str, request: &Request, patience: Duration) -> Result<Self, Error> {
        let path = request
            .path
            .as_deref()
            .map(|path| Wanted::new(path, request.systemd))
            .transpose()?;
        Ok(Self {
            name: name_of(id),
            path,
            patience,
        })
    }

    pub fn is_scope(&self) -> bool {
        matches!(self.path, Some(Wanted::Scope { .. }))
    }

    /// The directory itself, made below `base`; `prepare` is called with each directory that gets a child.
    pub fn make(
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
            match Directory::make(&path, self.path.is_some()) {
                // An earlier start of the same sandbox, whose supervisor was killed.
                Err(error)
                    if error.errno() == Some(Errno::EEXIST)
                        && abandoned::remove_soon(&path, Instant::now() + self.patience) =>
                {
                    Directory::make(&path, false)?;
                }
                other => other?,
            }
        }
        Directory::open(&path).inspect_err(|_| {
            // Only what was made just now, and is empty, can be removed by this.
            if self.path.is_none() {
                let _ = std::fs::remove_dir(&path);
            }
        })
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

/// Says how a user who may not make a cgroup here could.
pub(super) fn explain(error: Error, hierarchies: &[&Hierarchy]) -> Error {
    let cure = match error.errno() {
        Some(Errno::EACCES | Errno::EPERM) => {
            let roots: Vec<String> = hierarchies
                .iter()
                .map(|hierarchy| hierarchy.root.display().to_string())
                .collect();
            given(geteuid().as_raw(), &roots)
        }
        Some(Errno::EROFS) => {
            "start the container that this runs in with a writable /sys/fs/cgroup".to_owned()
        }
        _ => return error,
    };
    Error::Blocked(format!("{error}; {cure}"))
}

/// How root gives a user cgroups to divide, in a form that can be pasted.
fn given(uid: u32, roots: &[String]) -> String {
    // A new cpuset has no processor, and takes no process, unless it begins as a copy of the one above it (cpusets(7)).
    let prepared = roots.iter().find(|root| root.ends_with("/cpuset"));
    let prepared = prepared
        .map(|root| format!("echo 1 > {root}/cgroup.clone_children; "))
        .unwrap_or_default();
    format!(
        "have root give user {uid} a control group and put the shell in it that sandboxes are started from, PID: \
         {prepared}for d in {}; do mkdir -p $d/user-{uid} && chown -R {uid} $d/user-{uid} && echo PID > $d/user-{uid}/cgroup.procs; done",
        roots.join(" ")
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cure_names_every_hierarchy_that_is_needed() {
        let roots = |names: &[&str]| -> Vec<String> {
            let path = |name: &&str| format!("/sys/fs/cgroup/{name}");
            names.iter().map(path).collect()
        };
        let cure = given(1000, &roots(&["memory", "pids", "unified"]));
        let places =
            "for d in /sys/fs/cgroup/memory /sys/fs/cgroup/pids /sys/fs/cgroup/unified; do";
        assert!(
            cure.contains(places) && !cure.contains("clone_children"),
            "{cure}"
        );
        let cure = given(1000, &roots(&["cpuset"]));
        let prepared = "echo 1 > /sys/fs/cgroup/cpuset/cgroup.clone_children; for d in";
        assert!(cure.contains(prepared), "{cure}");
    }
}
