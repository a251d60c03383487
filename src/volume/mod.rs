//! `palisade volume`: directories that outlive the sandboxes that use them.

mod take;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use palisade_rootfs::volumes::{ANONYMOUS, Volume, Volumes};
use palisade_shim::state::{Config, Known, Registry};
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::failure::Failure;
use crate::format::{self, Filters, Key, Listing, Row, Takes};
use crate::verb::print;
use crate::{confirm, data};

pub use take::{forget, make, take};

/// How `volume ls` prints.
const LISTING: Listing = Listing {
    headings: &[
        ("Driver", "DRIVER"),
        ("Name", "VOLUME NAME"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Scope", "SCOPE"),
        ("Size", "SIZE"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
    table: "{{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
};

/// Filters of `volume ls`.
const FILTERS: [Key; 4] = [
    Key::new("dangling", Takes::Truth),
    Key::new("driver", Takes::Text),
    Key::new("label", Takes::Label),
    Key::new("name", Takes::Pattern),
];

/// Filters of `volume prune`.
const PRUNE_FILTERS: [Key; 3] = [
    Key::new("all", Takes::Truth),
    Key::new("label", Takes::Label),
    Key::new("label!", Takes::Label),
];

/// `palisade volume`, for its help.
pub fn command() -> Command {
    let names = || {
        Arg::new("VOLUME")
            .num_args(1..)
            .required(true)
            .help("Their names")
    };
    let filter = || {
        Arg::new("filter")
            .long("filter")
            .action(ArgAction::Append)
            .value_name("KEY=VALUE")
    };
    let format = |short: bool| {
        let arg = Arg::new("format")
            .long("format")
            .value_name("TEMPLATE")
            .help("Print by a Go template, as docker's; json for JSON");
        if short { arg.short('f') } else { arg }
    };
    let switch = |name: &'static str, short: char| {
        Arg::new(name)
            .long(name)
            .short(short)
            .action(ArgAction::SetTrue)
    };
    let root = Arg::new("root")
        .long("root")
        .global(true)
        .value_name("DIR")
        .help("The data directory [default: $PALISADE_ROOT, else the user's]");
    Command::new("volume")
        .about("Make, list, show and remove volumes: directories that outlive sandboxes")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(root)
        .subcommand(
            Command::new("create")
                .about("Make a volume and print its name; one that is there stays as it is")
                .arg(
                    Arg::new("label")
                        .long("label")
                        .action(ArgAction::Append)
                        .value_name("NAME[=VALUE]")
                        .help("Label of the volume"),
                )
                .arg(
                    Arg::new("driver")
                        .long("driver")
                        .short('d')
                        .value_parser(["local"])
                        .help("Accepted for docker's sake: volumes are directories here"),
                )
                .arg(
                    Arg::new("opt")
                        .long("opt")
                        .short('o')
                        .action(ArgAction::Append)
                        .value_name("NAME=VALUE")
                        .help("Refused: options of docker's volume driver"),
                )
                .arg(Arg::new("VOLUME").help("Its name [default: 64 hexadecimal digits]")),
        )
        .subcommand(
            Command::new("ls")
                .visible_alias("list")
                .about("List volumes")
                .arg(switch("quiet", 'q').help("Names alone"))
                .arg(
                    filter()
                        .short('f')
                        .help("dangling=, driver=, label= or name="),
                )
                .arg(format(false)),
        )
        .subcommand(
            Command::new("inspect")
                .about("Print all that is known of volumes, as JSON")
                .arg(format(true))
                .arg(names()),
        )
        .subcommand(
            Command::new("rm")
                .visible_alias("remove")
                .about("Remove volumes that no sandbox has, with all their files")
                .arg(switch("force", 'f').help("A volume that is not there is no error"))
                .arg(names()),
        )
        .subcommand(
            Command::new("prune")
                .about("Remove the volumes without a name of their own that no sandbox has")
                .arg(switch("all", 'a').help("Also those that were given a name"))
                .arg(switch("force", 'f').help("Do not ask"))
                .arg(filter().help("all=, label= or label!=")),
        )
}

/// `create`, `ls`, `inspect`, `rm`, `prune`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let caller = Caller::read(false)?;
    let root = matches.get_one::<String>("root").map(PathBuf::from);
    let root = root.map(|path| caller.absolute(&path));
    let data = data::directory(root.as_deref(), &caller)?;
    let place = Place {
        volumes: Volumes::new(&data),
        registry: Registry::new(&data),
    };
    let result = match matches.subcommand() {
        Some(("create", matches)) => place.create(matches),
        Some(("inspect", matches)) => place.inspect(matches),
        Some(("rm", matches)) => place.remove(matches),
        Some(("prune", matches)) => place.prune(matches),
        Some((_, matches)) => place.list(matches),
        None => Ok(0),
    };
    // docker's code where a verb fails.
    result.map_err(|failure| failure.with_code(1))
}

struct Place {
    volumes: Volumes,
    registry: Registry,
}

fn words(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches
        .get_many::<String>(name)
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

fn failed(error: &palisade_rootfs::Error) -> Failure {
    Failure::new(
        error.to_string(),
        "palisade volume ls; palisade ps -a --filter volume=NAME",
    )
}

impl Place {
    fn create(&self, matches: &ArgMatches) -> Result<u8, Failure> {
        if let Some(option) = words(matches, "opt").first() {
            return Err(Failure::new(
                format!(
                    "--opt {option}: a volume here is a directory, and mounts nothing of its own"
                ),
                "--tmpfs DST or --mount type=bind,src=DIR,dst=DST at palisade run, for memory or another file system",
            ));
        }
        let mut labels = BTreeMap::new();
        for label in words(matches, "label") {
            let (name, value) = label.split_once('=').unwrap_or((&label, ""));
            if name.is_empty() {
                return Err(Failure::new(
                    format!("--label {label} has no name"),
                    "--label name=value",
                ));
            }
            labels.insert(name.to_owned(), value.to_owned());
        }
        let name = if let Some(name) = matches.get_one::<String>("VOLUME") {
            name.clone()
        } else {
            labels.insert(ANONYMOUS.to_owned(), String::new());
            crate::run::fresh_id()?
        };
        let volume = self
            .volumes
            .create(&name, &labels)
            .map_err(|error| failed(&error))?;
        print(&format!("{}\n", volume.name))?;
        Ok(0)
    }

    fn list(&self, matches: &ArgMatches) -> Result<u8, Failure> {
        let filters = Filters::parse(words(matches, "filter"), &FILTERS)?;
        let used = self.used()?;
        let links = |volume: &Volume| used.iter().filter(|(_, name)| *name == volume.name).count();
        let mut volumes = self.volumes.list().map_err(|error| failed(&error))?;
        volumes.extend(self.passing()?);
        volumes.sort_by(|one, other| one.name.cmp(&other.name));
        volumes.retain(|volume| {
            filters.finds("name", &volume.name)
                && filters.is("driver", "local")
                && filters.labels(|name| volume.labels.get(name).map(String::as_str))
                && filters.accepts("dangling", |value| {
                    format::truth(value) == Some(links(volume) == 0)
                })
        });
        let rows: Vec<Row> = volumes
            .iter()
            .map(|volume| {
                Row::new([
                    ("Driver", "local".into()),
                    ("Name", volume.name.as_str().into()),
                    ("Links", links(volume).to_string().into()),
                    ("Mountpoint", volume.mountpoint.to_string_lossy().into()),
                    ("Scope", "local".into()),
                    ("Size", "N/A".into()),
                    ("Availability", "N/A".into()),
                    ("Group", "N/A".into()),
                    ("Status", "N/A".into()),
                ])
                .with_labels(
                    volume
                        .labels
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_str())),
                )
            })
            .collect();
        let format = matches.get_one::<String>("format").map(String::as_str);
        print(&LISTING.print(format, matches.get_flag("quiet"), &rows)?)?;
        Ok(0)
    }

    fn inspect(&self, matches: &ArgMatches) -> Result<u8, Failure> {
        let mut values = Vec::new();
        for name in words(matches, "VOLUME") {
            let mut volume = self.volumes.find(&name).map_err(|error| failed(&error))?;
            if volume.is_none() {
                volume = self.passing()?.into_iter().find(|one| one.name == name);
            }
            let volume = volume.ok_or_else(|| {
                Failure::new(format!("there is no volume {name}"), "palisade volume ls")
            })?;
            values.push(shown(&volume));
        }
        let format = matches.get_one::<String>("format").map(String::as_str);
        print(&format::inspected(format, &values)?)?;
        Ok(0)
    }

    fn remove(&self, matches: &ArgMatches) -> Result<u8, Failure> {
        for name in words(matches, "VOLUME") {
            if matches.get_flag("force")
                && self
                    .volumes
                    .find(&name)
                    .map_err(|error| failed(&error))?
                    .is_none()
            {
                continue;
            }
            self.remove_one(&name)?;
            print(&format!("{name}\n"))?;
        }
        Ok(0)
    }

    fn remove_one(&self, name: &str) -> Result<(), Failure> {
        if let Some((sandbox, _)) = self.used()?.into_iter().find(|(_, used)| used == name) {
            let remedy = if self.passing()?.iter().any(|volume| volume.name == name) {
                format!("palisade rm {sandbox}, which removes it, too")
            } else {
                format!("palisade rm {sandbox}, then palisade volume rm {name}")
            };
            return Err(Failure::new(
                format!("the volume {name} belongs to the sandbox {sandbox}"),
                remedy,
            ));
        }
        self.volumes.remove(name).map_err(|error| failed(&error))
    }

    fn prune(&self, matches: &ArgMatches) -> Result<u8, Failure> {
        let filters = Filters::parse(words(matches, "filter"), &PRUNE_FILTERS)?;
        let all = matches.get_flag("all")
            || filters
                .values("all")
                .any(|value| format::truth(value) == Some(true));
        let question = if all {
            "This removes every volume that no sandbox has, with all its files."
        } else {
            "This removes every volume without a name of its own that no sandbox has, with all its files."
        };
        if !matches.get_flag("force") && !confirm::ask(question, "palisade volume prune --force")? {
            return Ok(0);
        }
        let used = self.used()?;
        let mut text = String::new();
        let mut bytes = 0;
        for volume in self.volumes.list().map_err(|error| failed(&error))? {
            let labels = |name: &str| volume.labels.get(name).map(String::as_str);
            if used.iter().any(|(_, name)| *name == volume.name)
                || !(all || volume.labels.contains_key(ANONYMOUS))
                || !filters.labels(labels)
            {
                continue;
            }
            let size = self.volumes.size(&volume.name).unwrap_or(0);
            match self.volumes.remove(&volume.name) {
                Ok(()) => {}
                // A running sandbox that is not registered has it.
                Err(palisade_rootfs::Error::Volume { .. }) => continue,
                Err(error) => return Err(failed(&error)),
            }
            if text.is_empty() {
                text.push_str("Deleted Volumes:\n");
            }
            text.push_str(&volume.name);
            text.push('\n');
            bytes += size;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        print(&format!(
            "{text}Total reclaimed space: {}\n",
            format::size(bytes)
        ))?;
        Ok(0)
    }

    /// The volumes that lie in the directories of sandboxes, with which they go.
    fn passing(&self) -> Result<Vec<Volume>, Failure> {
        let mut all = Vec::new();
        for known in sandboxes(&self.registry)? {
            let own = known.entry.directory;
            let created = known.config.created;
            let mounts = known.config.mounts.into_iter();
            all.extend(mounts.filter_map(|mount| {
                let mountpoint = PathBuf::from(&mount.source);
                (mount.anonymous && mountpoint.starts_with(&own)).then_some(Volume {
                    name: mount.name?,
                    created,
                    labels: BTreeMap::from([(ANONYMOUS.to_owned(), String::new())]),
                    mountpoint,
                })
            }));
        }
        Ok(all)
    }

    /// Which sandbox, running or not, has which volume.
    fn used(&self) -> Result<Vec<(String, String)>, Failure> {
        Ok(sandboxes(&self.registry)?
            .into_iter()
            .flat_map(|known| {
                let name = known.config.name;
                let mounts = known.config.mounts.into_iter();
                mounts.filter_map(move |mount| Some((name.clone(), mount.name?)))
            })
            .collect())
    }
}

/// All sandboxes.
fn sandboxes(registry: &Registry) -> Result<Vec<Known>, Failure> {
    let listing = registry
        .list()
        .map_err(|error| Failure::new(error.to_string(), "palisade ps -a"))?;
    // A sandbox that cannot be read may have any of the volumes.
    match listing.problems.first() {
        Some(problem) => Err(Failure::new(
            format!("cannot tell which volumes are in use: {problem}"),
            "palisade ps -a",
        )),
        None => Ok(listing.sandboxes),
    }
}

/// Removes the volumes that were made for a sandbox that is gone, but for those that another one has too.
pub fn remove_of(registry: &Registry, config: &Config) -> Result<(), Failure> {
    let place = Place {
        volumes: Volumes::new(registry.data()),
        registry: registry.clone(),
    };
    let own: Vec<&String> = config
        .mounts
        .iter()
        .filter(|mount| mount.anonymous)
        .filter_map(|mount| mount.name.as_ref())
        .collect();
    if own.is_empty() {
        return Ok(());
    }
    let used = place.used()?;
    for name in own {
        if used.iter().any(|(_, other)| other == name) {
            continue;
        }
        match place.volumes.remove(name) {
            // It went with the sandbox's directory, or somebody has just taken or removed it.
            Ok(()) | Err(palisade_rootfs::Error::Volume { .. }) => {}
            Err(error) => return Err(failed(&error).with_code(1)),
        }
    }
    Ok(())
}

/// A volume as docker shows it.
pub fn shown(volume: &Volume) -> Value {
    json!({
        "CreatedAt": format::rfc3339(volume.created),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volume.mountpoint.to_string_lossy(),
        "Name": volume.name,
        "Options": {},
        "Scope": "local",
    })
}
