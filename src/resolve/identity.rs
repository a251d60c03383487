//! Who the command is: its ids, and how they map to the host's.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use palisade_rootfs::{ImageConfig, User, Users};

use crate::caller::{Caller, IdRange};
use crate::failure::Failure;
use crate::request::{Request, Userns};

/// The default user and group.
const DEFAULT_ID: u32 = 1000;

/// Ids that a range has inside.
const RANGE: u32 = 65_536;

/// systemd's range of ids for containers, in which sandboxes of root take theirs (UIDS-GIDS.md of systemd).
const CONTAINER_IDS: std::ops::Range<u32> = 524_288..1_878_982_656;

/// The command's ids and their map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary groups inside.
    pub groups: Vec<u32>,
    /// The home directory of the image's entry.
    pub home: Option<String>,
    /// Whether the image's /etc/passwd has the user.
    pub known: bool,
    /// Whether the image's /etc/group has the group.
    pub group_known: bool,
    /// How the ids are mapped.
    pub mode: Mode,
    /// The map of user ids; empty without a user namespace.
    pub uid_map: Vec<LinuxIdMapping>,
    /// The map of group ids; empty without a user namespace.
    pub gid_map: Vec<LinuxIdMapping>,
}

/// How ids are mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The caller's own ids alone.
    #[default]
    Single,
    /// 0 to 65535, with the caller's own ids for the command.
    Range,
    /// 0 to 65535 to ids that nobody has: the caller is root.
    Foreign,
    /// Not at all.
    Host,
}

impl Mode {
    /// The word for it in receipts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Range | Self::Foreign => "range",
            Self::Host => "host",
        }
    }
}

impl Identity {
    /// Whether there is a user namespace.
    pub fn namespace(&self) -> bool {
        self.mode != Mode::Host
    }

    /// Whether group `gid` exists inside.
    pub fn has_group(&self, gid: u32) -> bool {
        !self.namespace() || host_id(&self.gid_map, gid).is_some()
    }

    /// The maps of a mount (ids inside to ids on the disk), so that what belongs to `owner` and `group` on the host
    /// belongs to the command inside, and what it writes there to them; none where that is so without.
    pub fn map_of_mount(&self, owner: u32, group: u32) -> Option<(LinuxIdMapping, LinuxIdMapping)> {
        if self.mode != Mode::Foreign {
            return None;
        }
        Some((mapping(self.uid, owner, 1), mapping(self.gid, group, 1)))
    }

    /// The maps of a mount whose files have on the disk the ids that they have inside; none where that is so without.
    pub fn maps_of_kept(&self) -> Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)> {
        let same = |own: u32| {
            if own < RANGE {
                vec![mapping(0, 0, RANGE)]
            } else {
                vec![mapping(0, 0, RANGE - 1), mapping(own, own, 1)]
            }
        };
        (self.mode == Mode::Foreign).then(|| (same(self.uid), same(self.gid)))
    }
}

/// The host's id for an id inside.
fn host_id(map: &[LinuxIdMapping], id: u32) -> Option<u32> {
    map.iter().find_map(|map| {
        let offset = id.checked_sub(map.container_id())?;
        (offset < map.size()).then(|| map.host_id() + offset)
    })
}

fn mapping(inside: u32, host: u32, size: u32) -> LinuxIdMapping {
    let builder = LinuxIdMappingBuilder::default()
        .container_id(inside)
        .host_id(host)
        .size(size);
    builder.build().expect("no field is missing")
}

/// Decides all of it.
pub fn resolve(
    request: &Request,
    config: &ImageConfig,
    users: &Users,
    caller: &Caller,
    id: &str,
    notes: &mut Vec<String>,
) -> Result<Identity, Failure> {
    let user = user(request, config, users, notes)?;
    let mut groups = user.groups;
    for group in &request.groups {
        let gid = users
            .resolve_group(group)
            .map_err(|error| Failure::new(error.to_string(), "--group-add with a number"))?;
        if gid != user.gid && !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    let asked_for_root = request.user.is_some() && user.uid == 0;
    let mode = mode(
        request,
        caller,
        asked_for_root || !request.groups.is_empty(),
    )?;
    let mut identity = Identity {
        uid: user.uid,
        gid: user.gid,
        groups,
        home: user.home,
        known: user.name.is_some(),
        group_known: user.group_listed,
        mode,
        uid_map: Vec::new(),
        gid_map: Vec::new(),
    };
    match mode {
        Mode::Host => {}
        Mode::Single => {
            identity.uid_map = vec![mapping(user.uid, caller.uid, 1)];
            identity.gid_map = vec![mapping(user.gid, caller.gid, 1)];
            if !request.groups.is_empty() {
                return Err(Failure::new(
                    "--group-add needs more ids than the caller's own, and --userns single maps no other",
                    "--userns range, with entries in /etc/subuid and /etc/subgid and the package uidmap installed",
                ));
            }
            // Other groups do not exist in a map of one.
            identity.groups.clear();
        }
        Mode::Range => {
            identity.uid_map = range_map(user.uid, caller.uid, &caller.subordinate_uids);
            identity.gid_map = range_map(user.gid, caller.gid, &caller.subordinate_gids);
        }
        Mode::Foreign => {
            let base = foreign_base(id, &caller.reserved);
            identity.uid_map = foreign_map(user.uid, base);
            identity.gid_map = foreign_map(user.gid, base);
        }
    }
    let (kept, lost): (Vec<u32>, Vec<u32>) = identity
        .groups
        .iter()
        .partition(|gid| identity.has_group(**gid));
    if !lost.is_empty() {
        notes.push(format!(
            "groups {lost:?} of the user lie outside the id map and are left out"
        ));
    }
    identity.groups = kept;
    Ok(identity)
}

/// `--user`, else the image's USER unless that is root, else 1000:1000.
fn user(
    request: &Request,
    config: &ImageConfig,
    users: &Users,
    notes: &mut Vec<String>,
) -> Result<User, Failure> {
    if let Some(text) = &request.user {
        return users.resolve(text).map_err(|error| {
            Failure::new(
                error.to_string(),
                "--user 1000:1000, or a name of the image's /etc/passwd",
            )
        });
    }
    if !config.user.is_empty() {
        let user = users.resolve(&config.user).map_err(|error| {
            Failure::new(
                format!("the image's USER cannot be used: {error}"),
                "--user 1000:1000",
            )
        })?;
        if user.uid != 0 {
            return Ok(user);
        }
        notes.push(
            "the image wants to run as root and runs as user 1000; --user 0 makes it root inside"
                .to_owned(),
        );
    }
    let mut user = users
        .resolve(&DEFAULT_ID.to_string())
        .map_err(|error| Failure::new(error.to_string(), "--user 1000:1000"))?;
    if !user.gid_known {
        user = users
            .resolve(&format!("{DEFAULT_ID}:{DEFAULT_ID}"))
            .map_err(|error| Failure::new(error.to_string(), "--user 1000:1000"))?;
    }
    Ok(user)
}

fn mode(request: &Request, caller: &Caller, needs_range: bool) -> Result<Mode, Failure> {
    let has_range = !caller.subordinate_uids.is_empty() && !caller.subordinate_gids.is_empty();
    match request.userns {
        Userns::Host if caller.is_root() => Ok(Mode::Host),
        Userns::Host => Err(Failure::new(
            "--userns host needs root: an ordinary user cannot do without a user namespace",
            "--userns auto",
        )),
        Userns::Single if caller.is_real_root() => Err(Failure::new(
            "--userns single as root would give the command the host's root id",
            "--userns auto, which takes ids that nobody has; or an ordinary user",
        )),
        _ if caller.is_real_root() => Ok(Mode::Foreign),
        Userns::Range if has_range => Ok(Mode::Range),
        Userns::Range => Err(Failure::new(
            format!("--userns range: user {} has no ids to hand out", caller.uid),
            "install newuidmap and newgidmap (package uidmap) and add lines such as NAME:100000:65536 to /etc/subuid \
             and /etc/subgid; or --userns single",
        )),
        Userns::Auto if needs_range && has_range => Ok(Mode::Range),
        Userns::Auto | Userns::Single => Ok(Mode::Single),
    }
}

/// Ids 0 to 65535 from `ranges` in order, with the caller's id in the place of `own`.
fn range_map(own: u32, caller: u32, ranges: &[IdRange]) -> Vec<LinuxIdMapping> {
    let mut map = vec![mapping(own, caller, 1)];
    let mut inside = 0;
    for range in ranges {
        let IdRange {
            mut first,
            mut count,
        } = *range;
        while count > 0 && inside < RANGE {
            if inside == own {
                inside += 1;
                continue;
            }
            let end = if inside < own { own.min(RANGE) } else { RANGE };
            let size = count.min(end - inside);
            map.push(mapping(inside, first, size));
            (inside, first, count) = (inside + size, first + size, count - size);
        }
    }
    map.sort_by_key(LinuxIdMapping::container_id);
    map
}

/// Ids 0 to 65535 from `base`; an own id above takes the last one's place.
fn foreign_map(own: u32, base: u32) -> Vec<LinuxIdMapping> {
    if own < RANGE {
        vec![mapping(0, base, RANGE)]
    } else {
        vec![
            mapping(0, base, RANGE - 1),
            mapping(own, base + RANGE - 1, 1),
        ]
    }
}

/// A block of 65536 ids in systemd's range for containers, chosen by the sandbox's id, that no user has been given.
fn foreign_base(id: &str, reserved: &[IdRange]) -> u32 {
    let blocks = (CONTAINER_IDS.end - CONTAINER_IDS.start) / RANGE;
    let seed = id
        .get(..8)
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .unwrap_or(0);
    (0..blocks)
        .map(|step| CONTAINER_IDS.start + (seed.wrapping_add(step) % blocks) * RANGE)
        .find(|base| {
            reserved.iter().all(|range| {
                let end = u64::from(range.first) + u64::from(range.count);
                u64::from(*base) + u64::from(RANGE) <= u64::from(range.first)
                    || u64::from(*base) >= end
            })
        })
        .unwrap_or(CONTAINER_IDS.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triples(map: &[LinuxIdMapping]) -> Vec<(u32, u32, u32)> {
        map.iter()
            .map(|map| (map.container_id(), map.host_id(), map.size()))
            .collect()
    }

    #[test]
    fn the_caller_takes_the_place_of_the_commands_user_in_a_range() {
        let ranges = [IdRange {
            first: 100_000,
            count: 65_536,
        }];
        assert_eq!(
            triples(&range_map(1000, 501, &ranges)),
            [(0, 100_000, 1000), (1000, 501, 1), (1001, 101_000, 64_535)]
        );
        assert_eq!(
            triples(&range_map(0, 501, &ranges)),
            [(0, 501, 1), (1, 100_000, 65_535)]
        );
        assert_eq!(
            triples(&range_map(70_000, 501, &ranges)),
            [(0, 100_000, 65_536), (70_000, 501, 1)]
        );
    }

    #[test]
    fn short_and_several_ranges_are_used_one_after_another() {
        let ranges = [
            IdRange {
                first: 10,
                count: 5,
            },
            IdRange {
                first: 100,
                count: 3,
            },
        ];
        assert_eq!(
            triples(&range_map(2, 7, &ranges)),
            [(0, 10, 2), (2, 7, 1), (3, 12, 3), (6, 100, 3)]
        );
    }

    #[test]
    fn ids_of_a_sandbox_of_root_belong_to_nobody() {
        let zero = "0".repeat(64);
        assert_eq!(foreign_base(&zero, &[]), 524_288);
        assert_eq!(
            foreign_base(
                &zero,
                &[IdRange {
                    first: 500_000,
                    count: 100_000
                }]
            ),
            655_360
        );
        let last = foreign_base(&"f".repeat(64), &[]);
        assert_eq!(last % RANGE, 0);
        assert!(CONTAINER_IDS.contains(&last) && CONTAINER_IDS.contains(&(last + RANGE - 1)));
    }

    #[test]
    fn an_id_above_the_range_takes_the_last_place() {
        assert_eq!(triples(&foreign_map(1000, 524_288)), [(0, 524_288, 65_536)]);
        assert_eq!(
            triples(&foreign_map(100_000, 524_288)),
            [(0, 524_288, 65_535), (100_000, 589_823, 1)]
        );
    }
}
