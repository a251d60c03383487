//! `palisade export` and `commit`: what a sandbox made of its image.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::ArgMatches;
use palisade_rootfs::pack::{self, Source, What, Without};
use palisade_rootfs::{Descriptor, Digest, Naming, Origin, Ownership, Reference, diff_id_of};
use palisade_runtime::{Plan, Root, Upper};
use palisade_shim::state::{Config, Entry, Registry};
use serde_json::{Map, Value, json};

use super::save::Output;
use super::{Place, changes, failed, name, no_such, reference, word, words};
use crate::failure::Failure;
use crate::format::rfc3339;
use crate::verb::print;

/// `export`: the files that a sandbox or an image shows, as a tar archive.
pub fn export(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let text = word(matches, "NAME");
    let (lower, upper, plan) = match Registry::new(&place.data).find(text) {
        Ok(entry) => {
            let plan = plan(&entry)?;
            let (lower, upper) = root(&plan, text)?;
            (lower, upper, Some(plan))
        }
        Err(_) => (image_layers(&place, text)?, None, None),
    };
    let mut output = Output::open(matches.get_one::<String>("output").map(String::as_str))?;
    let kept = |uid, gid| (uid, gid);
    let all_root = |_, _| (0, 0);
    let inside = |uid, gid| {
        plan.as_ref()
            .map_or((uid, gid), |plan| inside(plan, uid, gid))
    };
    let mut sources: Vec<Source<'_>> = lower
        .into_iter()
        .map(|path| Source {
            // The files of these all belong to the caller, for want of other ids.
            owners: if is_callers(&path) { &all_root } else { &kept },
            path,
            without: &[],
        })
        .collect();
    sources.extend(upper.map(|path| Source {
        path,
        owners: &inside,
        without: &[],
    }));
    pack::archive(&sources, What::Merged, &mut output.writer).map_err(|e| failed(&e))?;
    output.finish()?;
    Ok(0)
}

/// `commit`: the writable layer of a sandbox becomes a layer of a new image.
pub fn commit(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    let text = word(matches, "SANDBOX");
    let names = match word(matches, "NAME") {
        "" => Vec::new(),
        text => vec![name(text)?],
    };
    let entry = Registry::new(&place.data)
        .find(text)
        .map_err(|error| Failure::new(error.to_string(), "palisade ps -a shows what there is"))?;
    let known = entry
        .config()
        .map_err(|error| Failure::new(error.to_string(), "palisade ps -a"))?;
    let plan = plan(&entry)?;
    let (lower, Some(upper)) = root(&plan, text)? else {
        return Err(Failure::new(
            format!(
                "sandbox {text} has no writable layer on disk: what it wrote in memory cannot be committed"
            ),
            "palisade run --read-only=false, then palisade commit",
        ));
    };
    // A prepared directory is no layer of an image: it becomes part of the new one.
    let directory = known.image.reference.starts_with("dir:");
    let base = if directory {
        None
    } else {
        let base = base(&place, &known, &lower)?;
        let details = place.store.details(base, &place.platform);
        Some(details.map_err(|e| failed(&e))?)
    };
    let document = base.as_ref().map(|base| base.document.as_slice());
    let mut config: Map<String, Value> = document
        .and_then(|document| serde_json::from_slice(document).ok())
        .unwrap_or_default();
    if base.is_none() {
        config.insert(
            "architecture".to_owned(),
            json!(place.platform.architecture),
        );
        config.insert("os".to_owned(), json!(place.platform.os));
    }
    let now = rfc3339(SystemTime::now());
    config.insert("created".to_owned(), json!(now));
    let author = word(matches, "author");
    if !author.is_empty() {
        config.insert("author".to_owned(), json!(author));
    }
    let mut step = json!({"created": now, "created_by": known.args.join(" ")});
    for (key, value) in [("author", author), ("comment", word(matches, "message"))] {
        if !value.is_empty() {
            step[key] = json!(value);
        }
    }
    complete_history(
        &mut config,
        base.as_ref().map_or(0, |base| base.diff_ids.len()),
    );
    if let Some(Value::Array(history)) = config.get_mut("history") {
        history.push(step);
    }
    let mut inner = match config.remove("config") {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    };
    for change in words(matches, "change") {
        changes::apply(&mut inner, change)?;
    }
    config.insert("config".to_owned(), Value::Object(inner));
    let owners = |uid, gid| inside(&plan, uid, gid);
    let kept = |uid, gid| (uid, gid);
    let own = own_files(&plan);
    let mut sources = vec![Source {
        path: upper,
        owners: &owners,
        without: &own,
    }];
    let mut what = What::Changes;
    if directory {
        sources.splice(
            0..0,
            lower.into_iter().map(|path| Source {
                path,
                owners: &kept,
                without: &[],
            }),
        );
        what = What::Merged;
    }
    let file = place
        .store
        .written(|out| pack::archive(&sources, what, out))
        .and_then(|file| place.store.new_layer(file))
        .map_err(|e| failed(&e))?;
    let id = place
        .store
        .make(base.as_ref(), config, &file, &names, place.ownership)
        .map_err(|e| failed(&e))?;
    print(&format!("{id}\n"))?;
    Ok(0)
}

/// What palisade wrote into the root and no image should carry on: the sandbox's names and resolver, as docker leaves out what
/// it mounts there; accounts where the command did not change them.
fn own_files(plan: &Plan) -> Vec<Without> {
    const NAMES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];
    let files = plan.files.iter().map(|file| {
        let path = file.path.strip_prefix("/").unwrap_or(&file.path);
        let always = NAMES.iter().any(|name| path == Path::new(name));
        Without {
            path: path.to_owned(),
            content: (!always).then(|| file.contents.clone()),
        }
    });
    files.collect()
}

fn plan(entry: &Entry) -> Result<Plan, Failure> {
    entry
        .plan()
        .map_err(|error| Failure::new(error.to_string(), "palisade ps -a"))
}

/// The layers of a sandbox's root, the bottom one first, and its writable one where that is on disk.
fn root(plan: &Plan, text: &str) -> Result<(Vec<PathBuf>, Option<PathBuf>), Failure> {
    let Root::Overlay { lower, upper } = &plan.root else {
        return Err(Failure::new(
            format!("sandbox {text} runs on this machine's own programs, which are no image"),
            "palisade run IMAGE, and then that sandbox",
        ));
    };
    let upper = match upper {
        Upper::Directory(directory) => Some(directory.join("upper")),
        Upper::Tmpfs(_) => None,
    };
    Ok((lower.iter().rev().cloned().collect(), upper))
}

fn image_layers(place: &Place, text: &str) -> Result<Vec<PathBuf>, Failure> {
    let image = place
        .store
        .resolve(&reference(text)?, &place.platform, place.ownership)
        .map_err(|error| no_such(text, &error))?;
    Ok(image
        .layers
        .iter()
        .map(|layer| layer.path.clone())
        .collect())
}

/// The image a sandbox was made from, by its digest: its name may stand for another one meanwhile. One that lies elsewhere
/// on this machine comes into the store, for the new image has its layers.
fn base(place: &Place, known: &Config, lower: &[PathBuf]) -> Result<Descriptor, Failure> {
    let named = known.image.reference.as_str();
    let entry = |digest| {
        let found = place.store.entry(&Reference::Id(digest), &place.platform);
        found.ok()
    };
    let digest = known.image.digest.as_deref();
    let digest: Option<Digest> = digest.and_then(|digest| digest.parse().ok());
    if let Some(found) = digest.and_then(entry) {
        return Ok(found);
    }
    let missing = || {
        Failure::new(
            format!("the sandbox's image {named} is not in the store"),
            "palisade load or palisade pull it first",
        )
    };
    if !super::load::is_reference(named) {
        return Err(missing());
    }
    let reference = Reference::parse(named).map_err(|e| failed(&e))?;
    let reference = seen_from(Path::new(&known.made_in), reference);
    let origin = Origin::Reference(&reference);
    let loaded = place
        .store
        // Names that the layout gives may be others' here.
        .load(origin, Naming::Nothing, &place.platform, place.ownership)
        .map_err(|e| failed(&e))?;
    let same = |found: &Descriptor| {
        let details = place.store.details(found.clone(), &place.platform);
        details.is_ok_and(|details| runs_on(lower, &details.diff_ids))
    };
    let changed = || {
        Failure::new(
            format!("{named} is no longer the image that the sandbox was made from"),
            "palisade export, then palisade import",
        )
    };
    loaded
        .into_iter()
        .filter_map(|image| entry(image.id))
        .find(same)
        .ok_or_else(changed)
}

/// An image on disk, whose path a sandbox's maker typed in this directory.
fn seen_from(made_in: &Path, reference: Reference) -> Reference {
    match reference {
        Reference::OciLayout { dir, tag } => Reference::OciLayout {
            dir: made_in.join(dir),
            tag,
        },
        Reference::OciArchive { file, tag } => Reference::OciArchive {
            file: made_in.join(file),
            tag,
        },
        Reference::DockerArchive { file, reference } => Reference::DockerArchive {
            file: made_in.join(file),
            reference,
        },
        other => other,
    }
}

/// Whether these unpacked layers, the bottom one first, are those of an image with these diff-ids.
fn runs_on(lower: &[PathBuf], diff_ids: &[Digest]) -> bool {
    let ids = lower.iter().map(|layer| diff_id_of(layer));
    ids.eq(diff_ids.iter().map(|diff_id| Some(*diff_id)))
}

/// Whether a layer lies where everything belongs to the caller.
fn is_callers(layer: &Path) -> bool {
    let place = layer.parent().and_then(Path::file_name);
    let place = place.map(|name| name.to_string_lossy().into_owned());
    place.as_deref() == Some(Ownership::Caller.directory())
}

/// The owner of a file inside the sandbox, by its id maps.
fn inside(plan: &Plan, uid: u32, gid: u32) -> (u32, u32) {
    let linux = plan.spec.linux().as_ref();
    let uids = linux.and_then(|linux| linux.uid_mappings().as_deref());
    let gids = linux.and_then(|linux| linux.gid_mappings().as_deref());
    let map = |maps: Option<&[oci_spec::runtime::LinuxIdMapping]>, id: u32| {
        let Some(maps) = maps.filter(|maps| !maps.is_empty()) else {
            return id;
        };
        maps.iter()
            .find_map(|map| {
                let offset = id.checked_sub(map.host_id())?;
                (offset < map.size()).then(|| map.container_id() + offset)
            })
            .unwrap_or(0)
    };
    (map(uids, uid), map(gids, gid))
}

/// A history that says nothing of some layers would give the new step to one of them.
fn complete_history(config: &mut Map<String, Value>, layers: usize) {
    let steps = config.entry("history").or_insert_with(|| json!([]));
    if !steps.is_array() {
        *steps = json!([]);
    }
    let Value::Array(steps) = steps else {
        return;
    };
    let told = steps
        .iter()
        .filter(|step| step.get("empty_layer") != Some(&json!(true)))
        .count();
    if told != layers {
        *steps = vec![json!({}); layers];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_is_compared_with_the_image() {
        let ids: Vec<Digest> = [b"one", b"two"]
            .iter()
            .map(|text| Digest::of(*text))
            .collect();
        let [one, two] = [ids[0].hex(), ids[1].hex()];
        let lower = |names: &[&str]| -> Vec<PathBuf> {
            let at = |name: &&str| Path::new("/s/layers").join(name);
            names.iter().map(at).collect()
        };
        assert!(runs_on(&lower(&[&one, &two]), &ids));
        assert!(runs_on(&lower(&[&one, &format!("{two}.{one}")]), &ids));
        assert!(!runs_on(&lower(&[&two, &two]), &ids));
        assert!(!runs_on(&lower(&[&format!("{two}.{one}"), &two]), &ids));
        assert!(!runs_on(&lower(&[&two]), &ids));
        assert!(!runs_on(&lower(&[&one, &one, &two]), &ids));
    }
}
