//! What a sandbox leaves on the host: nothing, and this is what looks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::rig::{Rig, end, entries, processes_with};

/// Runs a command whose every trace can be found, and asserts that none is left.
///
/// Temporary files, live state and the home directory go to places of the test's own; mounts and processes are known by
/// the test's mark, cgroups by the sandbox's id.
#[track_caller]
pub fn run_without_remains(rig: &Rig, options: &[&str], command: &[&str]) -> Output {
    let cidfile = rig.path("remains.cid");
    let id_option = format!("--cidfile={}", cidfile.display());
    let mut all = vec![id_option.as_str()];
    all.extend_from_slice(options);
    let output = end(watched(rig, rig.command(&all, command)).spawn().unwrap());
    let id = fs::read_to_string(&cidfile).unwrap_or_default();
    let _ = fs::remove_file(&cidfile);
    assert_nothing_remains(rig, &id);
    output
}

/// Points everything that palisade may write to at places of the test's own.
pub fn watched(rig: &Rig, mut command: Command) -> Command {
    for (variable, place) in [
        ("TMPDIR", "tmp"),
        ("XDG_RUNTIME_DIR", "run"),
        ("HOME", "home"),
    ] {
        fs::create_dir_all(rig.path(place)).unwrap();
        command.env(variable, rig.path(place));
    }
    command.env_remove("XDG_DATA_HOME");
    command.env_remove("XDG_CONFIG_HOME");
    command
}

/// After a [`watched`] command with the id `id`, empty if it never had one.
#[track_caller]
pub fn assert_nothing_remains(rig: &Rig, id: &str) {
    for place in ["tmp", "run", "home", "store/sandboxes", "store/tmp"] {
        assert!(
            entries(&rig.path(place)).is_empty(),
            "{place} holds {:?}",
            entries(&rig.path(place))
        );
    }
    let mark = rig.mark();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let left: Vec<_> = mounts.lines().filter(|line| line.contains(&mark)).collect();
    assert!(left.is_empty(), "mounts remain: {left:?}");
    assert_eq!(processes_with(&mark), Vec::<String>::new());
    if !id.is_empty() {
        assert_eq!(cgroups_of(id), Vec::<PathBuf>::new());
    }
}

/// Directories below /sys/fs/cgroup whose name has a sandbox's id in it, but for a scope that no process is in: systemd
/// removes it once it has heard of that.
pub fn cgroups_of(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    visit(Path::new("/sys/fs/cgroup"), id, &mut found);
    found
}

fn visit(directory: &Path, id: &str, found: &mut Vec<PathBuf>) {
    // Cgroups of others come and go while this looks.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains(id) && !is_empty_scope(&entry.path()) {
                found.push(entry.path());
            }
            visit(&entry.path(), id, found);
        }
    }
}

/// What the caller was in may still be there; a directory of the sandbox's own has its id, and is found by itself.
fn is_empty_scope(directory: &Path) -> bool {
    directory.extension().is_some_and(|kind| kind == "scope")
        && fs::read_to_string(directory.join("cgroup.events"))
            .map_or(true, |events| events.contains("populated 0"))
}
