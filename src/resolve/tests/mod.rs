//! Plans compared with what they should be.

mod command;
mod environment;
mod identity;
mod limits;
mod memory;
mod mounts;
mod protection;
mod refine;

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount as SpecMount;
use palisade_policies::{Pins, Policy};
use palisade_rootfs::{Image, ImageConfig, Layer, Users};
use palisade_runtime::{Plan, Root, Upper};

use super::{Place, Resolved, Source, host::HostTree, refine::refine, resolve};
use crate::caller::Caller;
use crate::cli;
use crate::dry_run;
use crate::failure::Failure;
use crate::request::Request;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn ordinary() -> Caller {
    Caller {
        uid: 501,
        gid: 502,
        cwd: "/home/me".into(),
        environment: vec![
            ("SECRET_TOKEN".into(), "s3cret".into()),
            ("LANG".into(), "C.UTF-8".into()),
        ],
        ..Caller::default()
    }
}

fn root() -> Caller {
    Caller {
        cwd: "/root".into(),
        initial_user_namespace: true,
        ..Caller::default()
    }
}

fn image(config: ImageConfig) -> Image {
    let layer = |path: &str| Layer {
        diff_id: None,
        digest: None,
        path: path.into(),
    };
    Image {
        config,
        platform: None,
        manifest_digest: None,
        config_digest: None,
        layers: vec![layer("/l/bottom"), layer("/l/top")],
        notes: vec![],
        fresh: true,
        users: Users {
            passwd: b"root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nweb:x:10001:33::/srv/web:/bin/sh\n".to_vec(),
            group: b"root:x:0:\nnode:x:1000:\nwww:x:33:\nextra:x:44:node\n".to_vec(),
        },
        hold: palisade_rootfs::Hold::default(),
    }
}

fn request(line: &[&str], caller: &Caller) -> Result<Request, Failure> {
    Request::new(cli::run::parse("run", line.iter().map(Into::into))?, caller)
}

fn plan_on(image: &Image, caller: &Caller, line: &[&str]) -> Result<Resolved, Failure> {
    plan_under(
        &Policy::builtin("default").unwrap(),
        Source::Image(image),
        caller,
        line,
    )
}

fn plan_under(
    policy: &Policy,
    source: Source<'_>,
    caller: &Caller,
    line: &[&str],
) -> Result<Resolved, Failure> {
    let request = request(line, caller)?;
    let pins = Pins::load(Path::new("/nonexistent")).unwrap();
    let policy = refine(policy, &request, &pins, &mut Vec::new())?;
    resolve(
        &request,
        &policy,
        source,
        caller,
        Place {
            id: ID,
            directory: Path::new("/d/sandboxes/x"),
            data: Path::new("/d"),
            recorded: request.has_record(),
        },
    )
}

fn plan(line: &[&str]) -> Plan {
    plan_on(&image(ImageConfig::default()), &ordinary(), line)
        .unwrap()
        .plan
}

fn args(plan: &Plan) -> Vec<String> {
    plan.spec
        .process()
        .as_ref()
        .unwrap()
        .args()
        .clone()
        .unwrap()
}

fn mounts(plan: &Plan) -> &[SpecMount] {
    plan.spec.mounts().as_deref().unwrap()
}

fn mount<'a>(plan: &'a Plan, destination: &str) -> &'a SpecMount {
    let mut found = mounts(plan)
        .iter()
        .filter(|mount| mount.destination() == Path::new(destination));
    let mount = found
        .next()
        .unwrap_or_else(|| panic!("nothing is mounted on {destination}"));
    assert!(found.next().is_none(), "two mounts on {destination}");
    mount
}

fn has_option(mount: &SpecMount, option: &str) -> bool {
    mount.options().iter().flatten().any(|o| o == option)
}

#[test]
fn the_root_is_read_only_over_a_layer_in_memory_unless_it_shall_be_writable() {
    let read_only = plan(&["x", "true"]);
    assert_eq!(
        read_only.spec.root().as_ref().unwrap().readonly(),
        Some(true)
    );
    let Root::Overlay {
        lower,
        upper: Upper::Tmpfs(_),
    } = &read_only.root
    else {
        panic!("{:?}", read_only.root)
    };
    assert_eq!(
        lower,
        &[PathBuf::from("/l/top"), PathBuf::from("/l/bottom")]
    );
    let writable = plan(&["--read-only=false", "x", "true"]);
    assert_eq!(
        writable.spec.root().as_ref().unwrap().readonly(),
        Some(false)
    );
    let Root::Overlay { upper, .. } = &writable.root else {
        panic!()
    };
    assert_eq!(upper, &Upper::Directory("/d/sandboxes/x".into()));
}

#[test]
fn every_namespace_is_the_sandboxs_own_but_the_network_on_request() {
    let kinds = |plan: &Plan| {
        plan.spec
            .linux()
            .as_ref()
            .unwrap()
            .namespaces()
            .as_ref()
            .unwrap()
            .len()
    };
    assert_eq!(kinds(&plan(&["x", "true"])), 7);
    let host = plan(&["--network", "host", "x", "true"]);
    assert_eq!(kinds(&host), 6);
    assert!(
        plan_on(
            &image(ImageConfig::default()),
            &ordinary(),
            &["--network", "bridge", "x", "true"]
        )
        .is_err()
    );
}

#[test]
fn the_host_image_shows_programs_and_nothing_private() {
    let tree = HostTree::read();
    let policy = Policy::builtin("default").unwrap();
    let resolved = plan_under(&policy, Source::Host(&tree), &ordinary(), &["host"]).unwrap();
    assert_eq!(args(&resolved.plan), ["/bin/sh"]);
    assert!(matches!(resolved.plan.root, Root::Tmpfs { .. }));
    for mount in mounts(&resolved.plan)
        .iter()
        .filter(|mount| mount.typ().as_deref() == Some("bind"))
    {
        assert!(
            has_option(mount, "ro"),
            "{} is writable",
            mount.destination().display()
        );
    }
    assert!(
        mounts(&resolved.plan)
            .iter()
            .any(|mount| mount.destination() == Path::new("/usr"))
    );
}

#[test]
fn a_dry_run_prints_the_same_text_each_time() {
    let image = image(ImageConfig::default());
    let line = [
        "--cap-add",
        "ALL",
        "--label",
        "a=1",
        "--label",
        "b=2",
        "--name",
        "n1",
        "x",
        "true",
    ];
    let text = || dry_run::text(&plan_on(&image, &ordinary(), &line).unwrap()).unwrap();
    let first = text();
    for _ in 0..8 {
        assert_eq!(first, text());
    }
    assert!(first.contains("io.palisade.label.a"));
}
