//! What users of docker type, and what it means.

use super::device::device;
use super::long::mount;
use super::tmpfs::tmpfs;
use super::volume::volume;
use super::*;

fn caller() -> Caller {
    Caller {
        cwd: "/home/me/project".into(),
        ..Caller::default()
    }
}

fn bind(mount: Mount) -> Bind {
    match mount {
        Mount::Bind(bind) => bind,
        other => panic!("{other:?} is no bind mount"),
    }
}

#[test]
fn relative_sources_are_relative_to_the_callers_directory() {
    let got = bind(volume("./ws:/workspace", &caller()).unwrap());
    assert_eq!(got.source, Path::new("/home/me/project/ws"));
    assert_eq!(got.destination, Path::new("/workspace"));
    assert!(got.create && !got.read_only && got.recursive);
    assert_eq!(
        bind(volume("..:/w:ro,Z", &caller()).unwrap()).source,
        Path::new("/home/me")
    );
    assert!(bind(volume(".:/w:ro", &caller()).unwrap()).read_only);
}

#[test]
fn a_name_without_a_slash_is_a_named_volume() {
    let named = |read_only, copy| {
        Mount::Volume(Volume {
            name: Some("ws".into()),
            destination: "/w".into(),
            read_only,
            copy,
        })
    };
    assert_eq!(volume("ws:/w", &caller()).unwrap(), named(false, true));
    assert_eq!(
        volume("ws:/w:ro,nocopy", &caller()).unwrap(),
        named(true, false)
    );
    let long = |typed: &str| mount(typed, &caller());
    assert_eq!(
        long("type=volume,src=ws,dst=/w").unwrap(),
        named(false, true)
    );
    assert_eq!(
        long("src=ws,dst=/w,ro,volume-nocopy").unwrap(),
        named(true, false)
    );
    for odd in [
        "type=volume,src=ws,dst=/w,volume-opt=type=nfs",
        "type=volume,src=./ws,dst=/w",
    ] {
        assert!(long(odd).is_err(), "{odd}");
    }
    let failure = volume("sub/dir:/w", &caller()).unwrap_err();
    assert!(
        failure.remedy().contains("-v ./sub/dir:/w"),
        "{}",
        failure.remedy()
    );
    assert!(volume("ws:/w:rx", &caller()).is_err());
}

fn nameless(destination: &str, read_only: bool) -> Mount {
    Mount::Volume(Volume {
        name: None,
        destination: destination.into(),
        read_only,
        copy: true,
    })
}

#[test]
fn a_place_alone_is_an_anonymous_volume() {
    assert_eq!(
        mount("dst=/data,ro", &caller()).unwrap(),
        nameless("/data", true)
    );
    assert_eq!(
        volume("/data", &caller()).unwrap(),
        nameless("/data", false)
    );
    assert_eq!(
        mount("dst=/data", &caller()).unwrap(),
        nameless("/data", false)
    );
}

#[test]
fn places_that_belong_to_the_sandbox_are_refused() {
    for odd in [
        "/a:/",
        "/a:/proc",
        "/a:/proc/sys",
        "/a:/dev",
        "/a:/..",
        "/a:/x/../proc",
        "/a:b",
        "/a:",
        ":/a",
        "/a:/b:rx",
        "/a:/b:ro:x",
    ] {
        assert!(volume(odd, &caller()).is_err(), "{odd}");
    }
    assert!(volume("/a:/dev/x", &caller()).is_ok());
}

#[test]
fn the_long_form_takes_dockers_keys_and_quotes() {
    let got = bind(mount("type=bind,\"src=/a,b\",dst=/w,readonly", &caller()).unwrap());
    assert_eq!(
        (got.source.to_str(), got.read_only, got.create),
        (Some("/a,b"), true, false)
    );
    let got = mount(
        "type=tmpfs,target=/c,tmpfs-size=64m,tmpfs-mode=0700",
        &caller(),
    )
    .unwrap();
    assert!(matches!(
        got,
        Mount::Tmpfs(Tmpfs {
            size: Some(67_108_864),
            mode: 0o700,
            ..
        })
    ));
    for odd in [
        "type=bind,dst=/w",
        "type=bind,src=/a",
        "type=nfs,dst=/w",
        "type=bind,src=/a,dst=/w,tmpfs-size=1m",
        "type=bind,src=/a,dst=/w,odd=1",
        "type=bind,src=/a,dst=/w,bind-propagation=shared",
        "type=tmpfs,src=/a,dst=/w",
        "",
    ] {
        assert!(mount(odd, &caller()).is_err(), "{odd}");
    }
}

#[test]
fn tmpfs_takes_dockers_options_and_executes_nothing_unless_asked() {
    let Mount::Tmpfs(got) = tmpfs("/c:rw,size=512m,mode=0755,uid=5,nosuid").unwrap() else {
        panic!()
    };
    assert_eq!(
        (got.size, got.mode, got.exec, got.owner),
        (Some(512 << 20), 0o755, false, (Some(5), None))
    );
    let Mount::Tmpfs(got) = tmpfs("/c:exec").unwrap() else {
        panic!()
    };
    assert!(got.exec);
    for odd in [
        "c",
        "/c:size=",
        "/c:size=x",
        "/c:mode=9",
        "/c:mode=77777",
        "/c:suid",
        "/c:odd",
    ] {
        assert!(tmpfs(odd).is_err(), "{odd}");
    }
}

#[test]
fn two_mounts_on_one_place_are_refused() {
    let typed = vec![
        MountArgument::Volume("/a:/w".into()),
        MountArgument::Tmpfs("/w/".into()),
    ];
    assert!(understand(typed, vec![], &caller()).is_err());
}

#[test]
fn devices_have_docker_syntax() {
    let got = device("/dev/sdb:/dev/disk", &caller()).unwrap();
    let Mount::Device {
        source,
        destination,
    } = got
    else {
        panic!()
    };
    assert_eq!(
        (source.to_str(), destination.to_str()),
        (Some("/dev/sdb"), Some("/dev/disk"))
    );
    assert!(device("/dev/fuse:rw", &caller()).is_ok());
    for odd in [
        "fuse",
        "/dev/sdb:/dev/disk:r",
        "/dev/fuse:/dev/x:q",
        "/dev/fuse:a:b:c",
    ] {
        assert!(device(odd, &caller()).is_err(), "{odd}");
    }
}
