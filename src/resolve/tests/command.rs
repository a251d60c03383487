//! The command, its directory and its stop signal.

use std::path::Path;

use palisade_rootfs::{Image, ImageConfig};

use super::{args, image, ordinary, plan_on};

#[test]
fn entrypoint_and_cmd_follow_dockers_rules() {
    let config = ImageConfig {
        entrypoint: vec!["/entry".into(), "-x".into()],
        cmd: vec!["serve".into()],
        ..ImageConfig::default()
    };
    let image = image(config);
    let args =
        |line: &[&str]| plan_on(&image, &ordinary(), line).map(|resolved| args(&resolved.plan));
    assert_eq!(args(&["x"]).unwrap(), ["/entry", "-x", "serve"]);
    assert_eq!(
        args(&["x", "a", "--", "", "--rm"]).unwrap(),
        ["/entry", "-x", "a", "--", "", "--rm"]
    );
    assert_eq!(args(&["--entrypoint", "/e", "x"]).unwrap(), ["/e"]);
    assert_eq!(
        args(&["--entrypoint", "/e", "x", "b"]).unwrap(),
        ["/e", "b"]
    );
    assert_eq!(args(&["--entrypoint=", "x", "b"]).unwrap(), ["b"]);
    assert!(
        args(&["--entrypoint=", "x"])
            .unwrap_err()
            .to_string()
            .contains("no command")
    );
}

#[test]
fn working_directories_in_proc_are_refused() {
    let with = |path: &str| {
        image(ImageConfig {
            working_dir: path.to_owned(),
            ..ImageConfig::default()
        })
    };
    assert!(plan_on(&with("/proc/self/fd/8"), &ordinary(), &["x", "true"]).is_err());
    let plan = plan_on(&with("/app/"), &ordinary(), &["x", "true"])
        .unwrap()
        .plan;
    assert_eq!(
        plan.spec.process().as_ref().unwrap().cwd(),
        Path::new("/app")
    );
    let plan = plan_on(&with("/app"), &ordinary(), &["-w", "/w", "x", "true"])
        .unwrap()
        .plan;
    assert_eq!(plan.spec.process().as_ref().unwrap().cwd(), Path::new("/w"));
    assert!(plan_on(&with(""), &ordinary(), &["-w", "w", "x", "true"]).is_err());
}

#[test]
fn stop_signals_come_from_the_option_then_the_image() {
    let with = |signal: &str| {
        image(ImageConfig {
            stop_signal: Some(signal.to_owned()),
            ..ImageConfig::default()
        })
    };
    let of = |image: &Image, line: &[&str]| {
        plan_on(image, &ordinary(), line).map(|resolved| resolved.plan.stop_signal)
    };
    assert_eq!(of(&with("SIGQUIT"), &["x", "true"]).unwrap(), 3);
    assert_eq!(
        of(&with("SIGQUIT"), &["--stop-signal", "2", "x", "true"]).unwrap(),
        2
    );
    assert_eq!(
        of(&image(ImageConfig::default()), &["x", "true"]).unwrap(),
        15
    );
    assert!(of(&with("SIGNOPE"), &["x", "true"]).is_err());
}
