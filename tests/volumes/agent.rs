//! A skill runner's day: tools installed into a volume by one sandbox, used by the next.

use std::fs;

use crate::place::{image, on};
use crate::rig::{Rig, assert_code, end, text};

#[test]
fn tools_that_one_sandbox_installs_the_next_one_has() {
    let rig = Rig::new();
    let agent = format!("oci:{}", image("agent.oci").display());
    let package = rig.path("workspace/tool");
    fs::create_dir_all(&package).unwrap();
    let description = r#"{"name": "tool", "version": "1.0.0", "bin": {"tool": "tool.js"}}"#;
    fs::write(package.join("package.json"), description).unwrap();
    fs::write(
        package.join("tool.js"),
        "#!/usr/bin/env node\nconsole.log(process.getuid());\n",
    )
    .unwrap();
    let workspace = format!("{}:/workspace", rig.path("workspace").display());
    let run = |user: &[&str], script: &str| {
        let mut options = vec![
            "--rm",
            "-q",
            "-v",
            &workspace,
            "-v",
            "home:/home/agent",
            "-e",
            "HOME=/home/agent",
        ];
        options.extend_from_slice(user);
        end(on(&rig, &options, &agent, &["bash", "-c", script])
            .spawn()
            .unwrap())
    };
    let install = "cd ~ && test -x entrypoint.sh && cp -r /workspace/tool . && \
                   npm install -g --offline --silent --no-audit --no-fund --prefix ~/.global ./tool";
    let output = run(&[], install);
    assert_code(&output, 0);
    let output = run(&[], "~/.global/bin/tool");
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "1000\n");
    // Another user of the image reads and executes what the first has left.
    let output = run(&["--user", "10001:10001"], "~/.global/bin/tool");
    assert_code(&output, 0);
    assert_eq!(text(&output.stdout), "10001\n");
}
