//! A plan as text: JSON with sorted keys, the same for the same plan.

use oci_spec::runtime::Spec;
use palisade_runtime::{Root, Upper};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::resolve::Resolved;

/// The plan, and what would be done besides.
///
/// # Errors
/// None that is known: the specification's types always have a JSON form.
pub fn text(resolved: &Resolved) -> Result<String, Failure> {
    let plan = &resolved.plan;
    let files: Vec<Value> = plan
        .files
        .iter()
        .map(|file| {
            json!({
                "path": file.path,
                "mode": format!("{:04o}", file.mode),
                "contents": String::from_utf8_lossy(&file.contents),
            })
        })
        .collect();
    let landlock = plan.landlock.as_ref().map(|rules| {
        let rules = rules
            .iter()
            .map(|rule| json!({ "path": rule.path, "access": format!("{:?}", rule.access) }));
        rules.collect::<Vec<_>>()
    });
    let seccomp: Vec<Value> = plan
        .seccomp
        .iter()
        .map(|program| json!({ "instructions": program.0.len() }))
        .collect();
    let value = json!({
        "id": plan.id,
        "identity": resolved.identity,
        "root": root(&plan.root),
        "files": files,
        "landlock": landlock,
        "seccomp": seccomp,
        "interactive": plan.interactive,
        "timeoutSeconds": plan.timeout.map(|time| time.as_secs_f64()),
        "stopSignal": plan.stop_signal,
        "stopTimeoutSeconds": plan.stop_timeout.as_secs_f64(),
        "tier": plan.tier.word(),
        "bestEffort": plan.best_effort,
        "notes": resolved.notes,
        "createDirectories": resolved.create,
        "spec": spec(&plan.spec)?,
    });
    let mut text = serde_json::to_string_pretty(&value).map_err(|error| failed(&error))?;
    text.push('\n');
    Ok(text)
}

fn failed(error: &serde_json::Error) -> Failure {
    Failure::new(format!("cannot write the plan as JSON: {error}"), "")
}

/// Sets have no order of their own, so that their lists are sorted here.
fn spec(spec: &Spec) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(spec).map_err(|error| failed(&error))?;
    if let Some(sets) = value
        .pointer_mut("/process/capabilities")
        .and_then(Value::as_object_mut)
    {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by_key(ToString::to_string);
        }
    }
    Ok(value)
}

fn root(root: &Root) -> Value {
    match root {
        Root::Callers { scratch } => json!({ "callers": { "scratch": scratch } }),
        Root::Overlay { lower, upper } => {
            let upper = match upper {
                Upper::Tmpfs(scratch) => {
                    json!({ "tmpfs": { "size": scratch.size, "inodes": scratch.inodes } })
                }
                Upper::Directory(path) => json!({ "directory": path }),
            };
            json!({ "overlay": { "lower": lower, "upper": upper } })
        }
        Root::Tmpfs { scratch, links } => {
            json!({ "tmpfs": { "size": scratch.size, "inodes": scratch.inodes, "links": links } })
        }
    }
}
