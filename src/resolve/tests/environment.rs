//! Variables, and the accounts that go with them.

use std::path::Path;

use palisade_rootfs::ImageConfig;
use palisade_runtime::Plan;

use super::{has_option, image, mount, ordinary, plan, plan_on};

fn env(plan: &Plan) -> Vec<String> {
    plan.spec.process().as_ref().unwrap().env().clone().unwrap()
}

#[test]
fn the_environment_is_the_images_then_the_lists_then_the_lines_and_no_secret_of_the_callers() {
    let config = ImageConfig {
        env: vec![
            "A=image".into(),
            "B=image".into(),
            "PATH=/p".into(),
            "HOME=/elsewhere".into(),
        ],
        ..ImageConfig::default()
    };
    let image = image(config);
    let plan = plan_on(
        &image,
        &ordinary(),
        &[
            "-e",
            "B=line",
            "-e",
            "C=",
            "--hostname",
            "h",
            "-t",
            "x",
            "true",
        ],
    );
    let env = env(&plan.unwrap().plan);
    for wanted in [
        "A=image",
        "B=line",
        "C=",
        "PATH=/p",
        "HOSTNAME=h",
        "TERM=xterm",
        "container=palisade",
        "HOME=/elsewhere",
    ] {
        assert!(
            env.iter().any(|e| e == wanted),
            "{wanted} is missing in {env:?}"
        );
    }
    assert!(env.iter().all(|e| !e.contains("s3cret")));
    let plan = plan_on(&image, &ordinary(), &["-e", "SECRET_TOKEN", "x", "true"])
        .unwrap()
        .plan;
    assert!(self::env(&plan).contains(&"SECRET_TOKEN=s3cret".to_owned()));
}

#[test]
fn home_is_the_accounts_and_a_missing_account_is_added() {
    let plan = plan(&["x", "true"]);
    assert!(env(&plan).contains(&"HOME=/home/node".to_owned()));
    assert!(
        plan.files
            .iter()
            .all(|file| file.path != Path::new("/etc/passwd"))
    );
    assert!(has_option(mount(&plan, "/home/node"), "tmpcopyup"));
    let plan = self::plan(&["--user", "7777", "x", "true"]);
    assert!(env(&plan).contains(&"HOME=/home/sandbox".to_owned()));
    let passwd = plan
        .files
        .iter()
        .find(|file| file.path == Path::new("/etc/passwd"))
        .unwrap();
    assert!(String::from_utf8_lossy(&passwd.contents).contains("\nsandbox:x:7777:0:"));
}
