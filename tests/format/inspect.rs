//! `inspect` and `port`.

use serde_json::Value;

use crate::rig::{code, describe, text};
use crate::sandboxes::Sandboxes;

#[test]
fn a_sandbox_answers_as_a_container_does() {
    let all = Sandboxes::new();
    let workspace = format!("{}:/workspace:ro", all.rig.path("workspace").display());
    let id = all.start(
        &[
            "--name",
            "agent",
            "--label",
            "a.b=1",
            "-e",
            "TOKEN=x",
            "-w",
            "/tmp",
            "-u",
            "1000:1000",
            "--hostname",
            "box",
            "-v",
            &workspace,
            "-v",
            "cache:/cache",
            "--restart",
            "on-failure:2",
            "--health-cmd",
            "true",
        ],
        "while true; do sleep 600; done",
    );
    let ask = |format: &str| all.prints(&["inspect", "-f", format, "agent"]);
    for (format, expected) in [
        ("{{.State.Running}}", "true"),
        (
            "{{.State.Status}} {{.State.Paused}} {{.State.ExitCode}} {{.State.OOMKilled}}",
            "running false 0 false",
        ),
        ("{{.Id}}", &id),
        ("{{.ID}}", &id),
        ("{{.Name}}", "/agent"),
        ("{{.Path}} {{index .Args 0}}", "sh -c"),
        (
            "{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.RW}} {{end}}",
            "bind:/workspace:false volume:/cache:true ",
        ),
        ("{{(index .Mounts 1).Name}}", "cache"),
        (
            "{{.Config.User}} {{.Config.WorkingDir}} {{.Config.Hostname}} {{.Config.Tty}}",
            "1000:1000 /tmp box false",
        ),
        (
            "{{index .Config.Labels \"a.b\"}}{{.Config.Labels.none}}",
            "1<no value>",
        ),
        ("{{range .Config.Env}}{{println .}}{{end}}", "*TOKEN=x\n"),
        (
            "{{join .Config.Cmd \" \"}}",
            "sh -c while true; do sleep 600; done",
        ),
        (
            "{{.HostConfig.NetworkMode}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.AutoRemove}}",
            "none true false",
        ),
        (
            "{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}",
            "on-failure:2",
        ),
        (
            "{{json .Config.Healthcheck.Test}}",
            r#"["CMD-SHELL","true"]"#,
        ),
        (
            "{{if .State.Health}}checked{{else}}unchecked{{end}}",
            "checked",
        ),
        ("{{len .NetworkSettings.Ports}} {{.RestartCount}}", "0 0"),
    ] {
        let said = ask(format);
        match expected.strip_prefix('*') {
            Some(part) => assert!(said.contains(part), "{format}: {said}"),
            None => assert_eq!(said, format!("{expected}\n"), "{format}"),
        }
    }
    let pid: u32 = ask("{{.State.Pid}}").trim().parse().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    let both: Value =
        serde_json::from_str(&all.prints(&["inspect", "-s", "agent", "cache"])).unwrap();
    assert_eq!(both[0]["Id"], id.as_str());
    assert_eq!(both[0]["SizeRw"], 0);
    assert!(both[0]["SizeRootFs"].as_u64() > Some(0), "{}", both[0]);
    assert_eq!(both[1]["Name"], "cache");
    all.prints(&["kill", "agent"]);
    all.prints(&["wait", "agent"]);
    assert_eq!(
        ask("{{.State.Running}} {{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}"),
        "false exited 137 0\n"
    );
}

#[test]
fn what_docker_has_in_its_host_configuration_is_answered() {
    let all = Sandboxes::new();
    let options = [
        "--name",
        "agent",
        "-v",
        "cache:/cache",
        "--cap-add",
        "CHOWN",
        "--ulimit",
        "nofile=100:200",
        "--shm-size",
        "2m",
    ];
    all.start(&options, "exit 0");
    for (format, expected) in [
        (
            "{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}} {{.HostConfig.ShmSize}}",
            "[CAP_CHOWN] [ALL] 2097152",
        ),
        (
            "{{range .HostConfig.Ulimits}}{{.Name}}={{.Soft}}:{{.Hard}} {{end}}",
            "*nofile=100:200 ",
        ),
        (
            "{{.HostConfig.Init}} {{.HostConfig.IpcMode}} {{.HostConfig.PidMode}}{{.HostConfig.UsernsMode}} {{.HostConfig.ExtraHosts}}",
            "true private  []",
        ),
        (
            "{{range .HostConfig.Mounts}}{{.Type}}:{{.Source}} {{end}}",
            "*volume:cache ",
        ),
        (
            "{{.Config.Domainname}}{{.GraphDriver.Name}} {{.NetworkSettings.Gateway}}",
            "overlay ",
        ),
    ] {
        let said = all.prints(&["inspect", "-f", format, "agent"]);
        match expected.strip_prefix('*') {
            Some(part) => assert!(said.contains(part), "{format}: {said}"),
            None => assert_eq!(said, format!("{expected}\n"), "{format}"),
        }
    }
}

#[test]
fn what_is_not_there_is_said_and_the_rest_is_printed() {
    let all = Sandboxes::new();
    all.start(&["--name", "agent"], "exit 0");
    all.prints(&["wait", "agent"]);
    let output = all.palisade(&["inspect", "--format", "{{.Name}}", "nobody", "agent"]);
    assert_eq!(code(&output), 1, "{}", describe(&output));
    assert_eq!(text(&output.stdout), "/agent\n");
    assert!(
        text(&output.stderr).contains("no sandbox, image or volume nobody"),
        "{}",
        describe(&output)
    );
    for args in [
        &["inspect", "--type", "volume", "agent"][..],
        &["inspect", "--type", "image", "agent"],
        &["inspect", "--format", "{{.State.Sleeping}}", "agent"],
        &["port", "nobody"],
        &["port", "agent", "80"],
    ] {
        let output = all.palisade(args);
        assert_eq!(code(&output), 1, "{args:?}: {}", describe(&output));
        assert!(!text(&output.stderr).is_empty());
    }
    assert_eq!(all.prints(&["port", "agent"]), "");
}
