//! `ps` and `container`.

use serde_json::Value;

use crate::rig::{code, describe, text};
use crate::sandboxes::Sandboxes;

/// One that runs, one that ended with 3, one that was never started.
fn three() -> (Sandboxes, String) {
    let all = Sandboxes::new();
    let options = [
        "--name",
        "agent",
        "--label",
        "team=a",
        "--label",
        "x.y=1,2",
        "-v",
        "cache:/cache",
    ];
    let id = all.start(&options, "while true; do sleep 600; done");
    all.start(&["--name", "agent-done", "--label", "team=b"], "exit 3");
    all.prints(&["wait", "agent-done"]);
    let image = format!("dir:{}", all.rig.path("image").display());
    all.prints(&["create", "--name", "later", &image, "true"]);
    (all, id)
}

#[test]
fn command_lines_and_mounts_are_shown_as_docker_shows_them() {
    let all = Sandboxes::new();
    let volume = "a-volume-with-a-long-name:/data";
    all.start(
        &["--name", "agent", "-v", volume],
        "echo \"a b\"; sleep 600",
    );
    let row = ["ps", "--format", "{{.Command}} {{.Mounts}}"];
    assert_eq!(
        all.prints(&row),
        "\"sh -c 'echo \\\"a b\\\"; …\" a-volume-with-…\n"
    );
    let whole = ["ps", "--no-trunc", "--format", "{{.Command}} {{.Mounts}}"];
    assert_eq!(
        all.prints(&whole),
        "\"sh -c 'echo \\\"a b\\\"; sleep 600'\" a-volume-with-a-long-name\n"
    );
}

#[test]
fn sandboxes_are_found_by_docker_s_filters() {
    let (all, id) = three();
    let image = format!("ancestor=dir:{}", all.rig.path("image").display());
    let part = format!("id={}", &id[..10]);
    for (filters, expected) in [
        (&["name=agent"][..], "agent-done agent"),
        (&["name=^agent$"], "agent"),
        (&["name=^/agent$"], "agent"),
        (&["name=agent-*"], "agent-done agent"),
        (&["name=none"], ""),
        (&["label=team"], "agent-done agent"),
        (&["label=team=a"], "agent"),
        (&["label=team=a", "label=none"], ""),
        (&["label=x.y=1,2"], "agent"),
        (&["status=running"], "agent"),
        (&["status=exited", "status=created"], "later agent-done"),
        (&["exited=3"], "agent-done"),
        (&["exited=0"], ""),
        (&["health=none", "name=^agent$"], "agent"),
        (&["health=healthy"], ""),
        (&["volume=cache"], "agent"),
        (&["volume=/cache"], "agent"),
        (&["network=none"], "later agent-done agent"),
        (&["network=host"], ""),
        (&["before=later"], "agent-done agent"),
        (&["since=agent"], "later agent-done"),
        (&[&part], "agent"),
        (&[&image], "later agent-done agent"),
        (&["ancestor=busybox"], ""),
    ] {
        let mut args = vec!["ps", "-a", "--format", "{{.Names}}"];
        for filter in filters {
            args.extend(["--filter", filter]);
        }
        let names: Vec<String> = all.prints(&args).lines().map(str::to_owned).collect();
        assert_eq!(names.join(" "), expected, "{filters:?}");
    }
    for filter in [
        "colour=red",
        "status=asleep",
        "name=(",
        "exited=x",
        "before=nobody",
        "name",
    ] {
        let output = all.palisade(&["ps", "--filter", filter]);
        assert_ne!(code(&output), 0, "{filter}: {}", describe(&output));
        assert!(
            text(&output.stderr).lines().count() == 2,
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn a_list_has_the_form_that_was_asked_for() {
    let (all, id) = three();
    let short = &id[..12];
    // What a pool's script and a runner's script ask.
    assert_eq!(
        all.prints(&["ps", "-q", "-f", "name=^agent$"]),
        format!("{short}\n")
    );
    let format = "table {{.ID}}\\t{{.Names}}\\t{{.Status}}\\t{{.Ports}}";
    let table = all.prints(&["ps", "--filter", "name=agent", "--format", format]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("CONTAINER ID   NAMES     STATUS"),
        "{table}"
    );
    assert!(
        lines[1].starts_with(&format!("{short}   agent     Up ")),
        "{table}"
    );
    assert_eq!(lines.len(), 2, "{table}");
    assert_eq!(
        all.prints(&["ps", "-l", "--format", "{{.Names}}"]),
        "later\n"
    );
    assert_eq!(
        all.prints(&["ps", "-n", "2", "--format", "{{.Names}}"]),
        "later\nagent-done\n"
    );
    assert_eq!(all.prints(&["ps", "--no-trunc", "-q"]), format!("{id}\n"));
    assert_eq!(
        all.prints(&["ps", "--format", "{{.Label \"x.y\"}} {{.Size}} {{.Mounts}}"]),
        "1,2 0B cache\n"
    );
    let rows = all.prints(&["ps", "-a", "--format", "json"]);
    let rows: Vec<Value> = rows
        .lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1]["Names"], "agent-done");
    assert_eq!(rows[1]["State"], "exited");
    assert!(
        rows[1]["Status"]
            .as_str()
            .unwrap()
            .starts_with("Exited (3) ")
    );
    let output = all.palisade(&["ps", "--format", "{{.Nmaes}}"]);
    assert_eq!(code(&output), 1, "{}", describe(&output));
    assert!(
        text(&output.stderr).contains("template: :1:2: executing \"\" at <.Nmaes>"),
        "{}",
        describe(&output)
    );
}

#[test]
fn docker_s_longer_names_do_the_same_and_prune_leaves_what_runs() {
    let (all, _) = three();
    assert_eq!(
        all.prints(&["container", "ls", "-aq"]),
        all.prints(&["ps", "-aq"])
    );
    assert_eq!(
        all.prints(&["container", "inspect", "-f", "{{.Name}}", "agent"]),
        "/agent\n"
    );
    let output = all.palisade(&["container", "frobnicate"]);
    assert_eq!(code(&output), 1, "{}", describe(&output));
    assert_eq!(code(&all.palisade(&["container", "prune"])), 1);
    let said = all.prints(&["container", "prune", "-f", "--filter", "label=team=b"]);
    assert_eq!(said.lines().count(), 4, "{said}");
    assert_eq!(
        all.prints(&["ps", "-a", "--format", "{{.Names}}"]),
        "later\nagent\n"
    );
    let said = all.prints(&["container", "prune", "-f"]);
    assert!(
        said.starts_with("Deleted Containers:\n") && said.contains("\n\nTotal reclaimed space: "),
        "{said}"
    );
    assert_eq!(
        all.prints(&["ps", "-a", "--format", "{{.Names}}"]),
        "agent\n"
    );
}
