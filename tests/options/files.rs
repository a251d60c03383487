//! `-v`, `--mount`, `--tmpfs`, `--read-only`, `--rm`, `--shm-size`, `--device`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use nix::unistd::geteuid;

use crate::place::{is_root, on};
use crate::remains::run_without_remains;
use crate::rig::{Rig, assert_code, below, describe, end, entries, text};

fn volume(rig: &Rig, name: &str, rest: &str) -> String {
    format!("{}:{rest}", rig.path(name).display())
}

#[test]
fn a_directory_of_the_host_is_shown_and_written_to() {
    let rig = Rig::new();
    fs::write(rig.path("workspace/in"), "from the host").unwrap();
    let workspace = volume(&rig, "workspace", "/workspace");
    let options = ["-v", workspace.as_str(), "-w", "/workspace"];
    let output = run_without_remains(&rig, &options, &["sh", "-c", "cat in && echo made >out"]);
    assert_eq!(
        text(&output.stdout),
        "from the host",
        "{}",
        describe(&output)
    );
    assert_eq!(
        fs::read_to_string(rig.path("workspace/out")).unwrap(),
        "made\n"
    );
    assert_eq!(
        fs::metadata(rig.path("workspace/out")).unwrap().uid(),
        geteuid().as_raw()
    );
    assert_eq!(entries(&rig.path("workspace")), ["in", "out"]);
}

#[test]
fn a_read_only_directory_cannot_be_changed() {
    let rig = Rig::new();
    fs::write(rig.path("workspace/in"), "kept").unwrap();
    let path = rig.path("workspace").display().to_string();
    for options in [
        vec!["-v".to_owned(), format!("{path}:/w:ro")],
        vec![
            "--mount".to_owned(),
            format!("type=bind,src={path},dst=/w,readonly"),
        ],
        vec![
            "--mount".to_owned(),
            format!("type=bind,source={path},target=/w,ro=true"),
        ],
    ] {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let script = "cat /w/in && for try in 'echo x >/w/in' 'touch /w/new' 'rm /w/in' 'mkdir /w/d'; do \
                      sh -c \"$try\" 2>/dev/null && echo \"done: $try\"; done; :";
        let output = run_without_remains(&rig, &options, &["sh", "-c", script]);
        assert_eq!(
            text(&output.stdout),
            "kept",
            "{options:?} {}",
            describe(&output)
        );
        assert_eq!(entries(&rig.path("workspace")), ["in"]);
    }
}

#[test]
fn a_relative_source_is_relative_to_where_the_caller_is() {
    let rig = Rig::new();
    fs::write(rig.path("workspace/here"), "").unwrap();
    for source in [".", "./", "../workspace"] {
        let option = format!("{source}:/w");
        let mut command = rig.command(&["-v", &option], &["ls", "/w"]);
        let output = end(command.current_dir(rig.path("workspace")).spawn().unwrap());
        assert_eq!(
            text(&output.stdout),
            "here\n",
            "{source} {}",
            describe(&output)
        );
    }
}

#[test]
fn a_missing_source_is_made_for_v_and_belongs_to_the_caller() {
    let rig = Rig::new();
    let option = volume(&rig, "workspace/new/deep", "/w");
    let output = run_without_remains(&rig, &["-v", &option], &["touch", "/w/f"]);
    assert_code(&output, 0);
    for path in [
        "workspace/new",
        "workspace/new/deep",
        "workspace/new/deep/f",
    ] {
        assert_eq!(
            fs::metadata(rig.path(path)).unwrap().uid(),
            geteuid().as_raw(),
            "{path}"
        );
    }
}

#[test]
fn a_missing_source_is_not_made_where_the_run_fails_beforehand() {
    let rig = Rig::new();
    let option = volume(&rig, "workspace/new", "/w");
    let image = format!("oci:{}", rig.path("no-such-layout").display());
    let output = end(on(&rig, &["-v", &option], &image, &["true"])
        .spawn()
        .unwrap());
    assert_code(&output, 125);
    assert!(entries(&rig.path("workspace")).is_empty());
}

#[test]
fn one_file_can_be_shown() {
    let rig = Rig::new();
    fs::write(rig.path("workspace/credentials"), "token").unwrap();
    let option = volume(&rig, "workspace/credentials", "/etc/credentials:ro");
    let output = run_without_remains(&rig, &["-v", &option], &["cat", "/etc/credentials"]);
    assert_eq!(text(&output.stdout), "token", "{}", describe(&output));
}

/// As systemd makes them. Where they are not shared, every mount is the sandbox's own anyway.
#[test]
fn no_mount_of_a_sandbox_shows_on_a_host_whose_mounts_are_shared() {
    let rig = Rig::new();
    fs::create_dir_all(rig.path("workspace/inner")).unwrap();
    fs::create_dir(rig.path("other")).unwrap();
    let outer = volume(&rig, "workspace", "/w");
    let inner = volume(&rig, "other", "/w/inner");
    let run = rig.command(&["-v", &outer, "-v", &inner], &["echo", "ran"]);
    let mut host = vec!["unshare"];
    // An ordinary user makes mounts in a user namespace only.
    if !is_root() {
        host.extend(["--user", "--map-current-user", "--keep-caps"]);
    }
    let script = "\"$@\" && cat /proc/self/mountinfo";
    host.extend(["-m", "--propagation", "shared", "sh", "-c", script, "sh"]);
    let output = end(below(&host, &run).spawn().unwrap());
    assert_code(&output, 0);
    let said = text(&output.stdout);
    assert!(
        said.starts_with("ran\n") && said.contains(" shared:"),
        "{said}"
    );
    let mark = rig.mark();
    let shown: Vec<_> = said.lines().filter(|line| line.contains(&mark)).collect();
    assert!(shown.is_empty(), "{shown:?}");
}

#[test]
fn what_lies_inside_another_mount_is_seen_whatever_the_order_on_the_line() {
    let rig = Rig::new();
    fs::create_dir_all(rig.path("workspace/inner")).unwrap();
    fs::create_dir(rig.path("other")).unwrap();
    fs::write(rig.path("other/o"), "").unwrap();
    let outer = volume(&rig, "workspace", "/w");
    let inner = volume(&rig, "other", "/w/inner");
    for options in [["-v", &outer, "-v", &inner], ["-v", &inner, "-v", &outer]] {
        let output = run_without_remains(&rig, &options, &["ls", "/w/inner"]);
        assert_eq!(text(&output.stdout), "o\n", "{}", describe(&output));
    }
}

#[test]
fn paths_with_colons_commas_and_spaces_have_the_long_form() {
    let rig = Rig::new();
    let odd = rig.path("a:b, c");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("f"), "odd").unwrap();
    let option = format!("type=bind,\"src={}\",dst=/w", odd.display());
    let output = run_without_remains(&rig, &["--mount", &option], &["cat", "/w/f"]);
    assert_eq!(text(&output.stdout), "odd", "{}", describe(&output));
}

#[test]
fn memory_of_a_size_holds_that_much_and_no_more() {
    let rig = Rig::new();
    for option in [
        ["--tmpfs", "/c:size=64k"],
        ["--mount", "type=tmpfs,dst=/c,tmpfs-size=64k"],
    ] {
        let script = "dd if=/dev/zero of=/c/full bs=64k count=1 && echo fits; rm /c/full; dd if=/dev/zero of=/c/over bs=65537 count=1 || echo full";
        let output = run_without_remains(&rig, &option, &["sh", "-c", script]);
        assert_eq!(
            text(&output.stdout),
            "fits\nfull\n",
            "{option:?} {}",
            describe(&output)
        );
        assert!(
            text(&output.stderr).contains("No space left"),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn programs_on_memory_run_only_where_that_is_asked_for() {
    let rig = Rig::new();
    let script = "cat /bin/busybox >/c/program; busybox chmod 755 /c/program; exec /c/program true";
    let run = |option| rig.sh(&["--tmpfs", option], &script.replace("program", "busybox"));
    assert_code(&run("/c:exec"), 0);
    for option in ["/c", "/c:noexec", "/c:rw,noexec,nosuid"] {
        let output = run(option);
        assert_code(&output, 126);
        assert!(
            text(&output.stderr).contains("Permission denied"),
            "{}",
            describe(&output)
        );
    }
}

#[test]
fn memory_over_the_home_directory_keeps_what_the_image_has_there() {
    let rig = Rig::new();
    fs::create_dir_all(rig.path("image/home/agent")).unwrap();
    fs::write(
        rig.path("image/home/agent/entrypoint"),
        "#!/bin/sh\necho started\ntouch ~/new && echo writable\n",
    )
    .unwrap();
    let mode = Permissions::from_mode(0o755);
    fs::set_permissions(rig.path("image/home/agent/entrypoint"), mode).unwrap();
    if is_root() {
        // Else everything in the image belongs to the caller, and so to the command.
        chown(rig.path("image/home/agent"), Some(1000), Some(1000)).unwrap();
    }
    fs::write(
        rig.path("image/etc/passwd"),
        "agent:x:1000:1000::/home/agent:/bin/sh\n",
    )
    .unwrap();
    for options in [&[][..], &["--tmpfs", "/home/agent:size=256m,exec"]] {
        let output = run_without_remains(&rig, options, &["/home/agent/entrypoint"]);
        assert_eq!(
            text(&output.stdout),
            "started\nwritable\n",
            "{}",
            describe(&output)
        );
    }
    assert_eq!(entries(&rig.path("image/home/agent")), ["entrypoint"]);
}

#[test]
fn the_image_is_read_only_and_the_writable_places_are_writable() {
    let rig = Rig::new();
    let script = "for place in / /bin /etc /workspace; do touch $place/new 2>/dev/null && echo $place is writable; done; \
                  for place in /tmp /run /dev/shm $HOME; do touch $place/new || echo $place is not; done";
    for options in [
        &[][..],
        &["--read-only"],
        &["--policy", "strict"],
        &["--policy", "compat", "--read-only"],
    ] {
        let output = run_without_remains(&rig, options, &["sh", "-c", script]);
        assert_eq!(
            text(&output.stdout),
            "",
            "{options:?} {}",
            describe(&output)
        );
    }
    assert!(!entries(&rig.path("image")).contains(&"new".to_owned()));
}

#[test]
fn a_writable_root_is_discarded_and_never_reaches_the_image() {
    let rig = Rig::new();
    let script =
        "echo new >/new && echo changed >/bin/not-executable && rm /bin/lost-script && cat /new";
    let before = fs::read(rig.path("image/bin/not-executable")).unwrap();
    // As the image's root: its files are root's where palisade keeps owners.
    let options = ["--read-only=false", "--user=0"];
    let output = run_without_remains(&rig, &options, &["sh", "-c", script]);
    assert_eq!(text(&output.stdout), "new\n", "{}", describe(&output));
    assert_eq!(
        fs::read(rig.path("image/bin/not-executable")).unwrap(),
        before
    );
    assert!(rig.path("image/bin/lost-script").exists());
    assert!(!rig.path("image/new").exists());
    assert_code(&rig.sh(&options, "test ! -e /new"), 0);
}

#[test]
fn without_rm_the_writable_layer_of_a_sandbox_is_kept() {
    let rig = Rig::new();
    let cidfile = rig.path("id");
    let option = format!("--cidfile={}", cidfile.display());
    let output = rig.sh(
        &["--rm=false", "--read-only=false", "--user=0", &option],
        "echo kept >/new",
    );
    assert_code(&output, 0);
    let id = fs::read_to_string(cidfile).unwrap();
    let kept = rig.path("store/sandboxes").join(id).join("upper/new");
    assert_eq!(fs::read_to_string(kept).unwrap(), "kept\n");
}

#[test]
fn shared_memory_has_the_size_asked_for() {
    let rig = Rig::new();
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1048577 count=1";
    assert_code(&rig.sh(&["--shm-size", "1m"], script), 1);
    assert_code(&rig.sh(&["--shm-size", "2m"], script), 0);
}

#[test]
fn a_device_is_shown_where_it_is_asked_for_and_works() {
    let rig = Rig::new();
    assert_code(&rig.sh(&[], "test -e /dev/mine"), 1);
    let output = rig.sh(
        &["--device", "/dev/zero:/dev/mine"],
        "test -c /dev/mine && head -c 3 /dev/mine | tr '\\0' z && echo x >/dev/mine",
    );
    assert_eq!(text(&output.stdout), "zzz", "{}", describe(&output));
    assert_code(&output, 0);
}

#[test]
fn a_path_alone_is_a_volume_of_the_sandboxs_own_that_starts_with_the_images_files() {
    let rig = Rig::new();
    fs::create_dir(rig.path("image/cache")).unwrap();
    fs::set_permissions(rig.path("image/cache"), Permissions::from_mode(0o777)).unwrap();
    fs::write(rig.path("image/cache/seed"), "seed").unwrap();
    let output = run_without_remains(
        &rig,
        &["-v", "/cache"],
        &["sh", "-c", "cat /cache/seed; touch /cache/new"],
    );
    assert_eq!(text(&output.stdout), "seed", "{}", describe(&output));
    assert_code(&output, 0);
    assert_eq!(entries(&rig.path("image/cache")), ["seed"]);
}
