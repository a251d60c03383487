//! Palisade where namespaces are refused.

use std::process::{Command, Output, Stdio};

use crate::rig::{Rig, below, binary, end};

/// `command` in a user namespace that allows no further one.
pub fn without_namespaces(command: &Command) -> Command {
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
    below(&["unshare", "-Ur", "sh", "-c", script], command)
}

/// `palisade run --require no-namespace OPTIONS` on the rig's own root directory, where namespaces are refused.
pub fn alone(rig: &Rig, options: &[&str], script: &str) -> Command {
    let mut all = vec!["--require", "no-namespace"];
    all.extend(options);
    without_namespaces(&rig.script(&all, script))
}

/// The same on this machine's own programs, run to its end.
pub fn on_host(rig: &Rig, options: &[&str], script: &str) -> Output {
    end(
        without_namespaces(&host(rig, &["--require", "no-namespace"], options, script))
            .spawn()
            .unwrap(),
    )
}

/// `palisade run FIRST OPTIONS host sh -c SCRIPT`, wherever.
pub fn host(rig: &Rig, first: &[&str], options: &[&str], script: &str) -> Command {
    let mut palisade = Command::new(binary());
    palisade
        .args(["run", "--root"])
        .arg(rig.path("store"))
        .args(first)
        .args(options)
        .args(["host", "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    palisade
}
