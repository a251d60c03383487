//! The agent image at work.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{getegid, geteuid};

use crate::place::{image, on};
use crate::remains::{assert_nothing_remains, watched};
use crate::rig::{Rig, assert_code, describe, end, text};

/// What to run, and what it prints. They follow one another in one workspace.
const WORK: [(&str, &str); 8] = [
    (
        "git clone -q /repository work && cd work && git config user.name a && git config user.email a@b && echo more >>file && \
         git commit -qam second && git log --format=%s && git push -q origin HEAD:refs/heads/agent && git status --short",
        "second\nfirst\n",
    ),
    (
        "mkdir package && cd package && npm init -y >/dev/null && echo 'module.exports = 42' >index.js && npm pack --silent",
        "package-1.0.0.tgz\n",
    ),
    (
        "mkdir user && cd user && npm init -y >/dev/null && npm install --offline --silent --no-audit --no-fund \
         ../package/package-1.0.0.tgz && node -p 'require(\"package\")'",
        "42\n",
    ),
    (
        "python3 -c 'import json, subprocess, tempfile; t = tempfile.TemporaryFile(); \
         print(json.dumps(subprocess.check_output([\"echo\", \"x\"], text=True)))'",
        "\"x\\n\"\n",
    ),
    (
        "node -e 'const {execSync} = require(\"child_process\"); require(\"fs\").writeFileSync(\"by-node\", \"1\"); \
         console.log(execSync(\"cat by-node\").toString(), typeof Worker, new (require(\"worker_threads\").Worker)(\"0\", {eval: true}) && 1)'",
        "1 undefined 1\n",
    ),
    (
        "printf '#include <stdio.h>\\nint main(void) { puts(\"compiled\"); return 7; }\\n' >main.c && gcc -O2 -o main main.c && \
         { ./main; echo $?; }",
        "compiled\n7\n",
    ),
    ("gemini --version >/dev/null && echo agent", "agent\n"),
    (
        "jq -n '1 + 1' && curl --version | head -c 4 && echo",
        "2\ncurl\n",
    ),
];

#[track_caller]
fn assert_callers(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let owner = (metadata.uid(), metadata.gid());
    assert_eq!(
        owner,
        (geteuid().as_raw(), getegid().as_raw()),
        "{}",
        path.display()
    );
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            assert_callers(&entry.unwrap().path());
        }
    }
}

fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// Whatever a runtime asks to know the machine, the answer is the limit.
fn sizes_itself_by_its_limits(rig: &Rig, agent: &str) {
    let limits = [
        "--rm",
        "-q",
        "--best-effort",
        "--memory=512m",
        "--memory-swap=512m",
        "--cpus=1",
    ];
    let script = "nproc; getconf _NPROCESSORS_ONLN; getconf _NPROCESSORS_CONF; \
        python3 -c 'import os; print(os.cpu_count(), len(os.sched_getaffinity(0)))'; \
        node -p 'const os = require(\"os\"); [os.cpus().length, os.availableParallelism(), os.totalmem() >> 20].join(\" \")'; \
        awk '/^MemTotal/ { print $2 / 1024 }' /proc/meminfo; free -m | awk '/^Mem/ { print $2 }'";
    let output = on(rig, &limits, agent, &["bash", "-c", script])
        .output()
        .unwrap();
    assert_eq!(
        text(&output.stdout),
        "1\n1\n1\n1 1\n1 1 512\n512\n512\n",
        "{}",
        describe(&output)
    );
}

#[test]
fn an_agent_works_in_its_image_and_everything_it_makes_is_the_callers() {
    let rig = Rig::new();
    let seed = rig.path("seed");
    fs::create_dir(&seed).unwrap();
    git(&seed, &["init", "-q"]);
    fs::write(seed.join("file"), "first\n").unwrap();
    git(&seed, &["add", "file"]);
    git(&seed, &["commit", "-qm", "first"]);
    git(
        &rig.path("."),
        &["clone", "-q", "--bare", "seed", "repository"],
    );

    let agent = format!("oci:{}", image("agent.oci").display());
    let workspace = format!("{}:/workspace", rig.path("workspace").display());
    let repository = format!("{}:/repository", rig.path("repository").display());
    let options = ["--rm", "-v", &workspace, "-v", &repository];
    for (script, expected) in WORK {
        let script = format!("git config --global --add safe.directory '*'; {script}");
        let command = on(&rig, &options, &agent, &["bash", "-c", &script]);
        let output = end(watched(&rig, command).spawn().unwrap());
        assert_eq!(
            text(&output.stdout),
            expected,
            "{script}: {}",
            describe(&output)
        );
        assert_nothing_remains(&rig, "");
    }
    assert_callers(&rig.path("workspace"));
    assert_callers(&rig.path("repository"));
    git(
        &rig.path("repository"),
        &["rev-parse", "--verify", "-q", "refs/heads/agent"],
    );

    sizes_itself_by_its_limits(&rig, &agent);

    // As AgentGate runs it: memory over the home directory, where the entrypoint lies, credentials read-only.
    fs::write(rig.path("token"), "t0ken").unwrap();
    let token = format!("{}:/home/agent/.token:ro", rig.path("token").display());
    let options = [
        "--rm",
        "--network",
        "none",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--tmpfs",
        "/tmp:size=512m,noexec,nosuid",
        "--tmpfs",
        "/home/agent:size=256m",
        "-v",
        &workspace,
        "-v",
        &token,
        "--label",
        "agentgate=1",
    ];
    let script = "id -un; pwd; cat ~/.token; git config --global --get-all safe.directory; echo x >~/f && cat ~/f";
    // A home that is mounted without `exec` executes nothing, so that the entrypoint is the image's program here.
    let with_exec: Vec<&str> = options
        .iter()
        .map(|option| {
            if option.starts_with("/home/agent:size") {
                "/home/agent:size=256m,exec"
            } else {
                option
            }
        })
        .collect();
    let output = end(
        watched(&rig, on(&rig, &with_exec, &agent, &["bash", "-c", script]))
            .spawn()
            .unwrap(),
    );
    assert_eq!(
        text(&output.stdout),
        "agent\n/workspace\nt0ken/workspace\nx\n",
        "{}",
        describe(&output)
    );

    let output = end(watched(
        &rig,
        on(&rig, &["--rm"], &agent, &["bash", "-c", "exit 42"]),
    )
    .spawn()
    .unwrap());
    assert_code(&output, 42);
}
