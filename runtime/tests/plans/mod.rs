//! Plans written by hand, for tests of the launch itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{
    LinuxBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType, LinuxIdMapping,
    LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder,
    ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use palisade_policies::landlock::{Access, PathRule};
use palisade_runtime::{Plan, Root, Scratch};

/// A mount of a new file system.
pub fn mount(destination: &str, kind: &str, options: &[&str]) -> Mount {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(kind)
        .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()
        .expect("a mount")
}

fn bind(path: &str) -> Mount {
    MountBuilder::default()
        .destination(path)
        .typ("bind")
        .source(path)
        .options(["rbind", "ro", "nosuid", "nodev"].map(String::from))
        .build()
        .expect("a mount")
}

fn device(path: &str, minor: i64) -> LinuxDevice {
    LinuxDeviceBuilder::default()
        .path(path)
        .typ(LinuxDeviceType::C)
        .major(1)
        .minor(minor)
        .build()
        .expect("a device")
}

fn one(container: u32, host: u32, size: u32) -> Vec<LinuxIdMapping> {
    vec![
        LinuxIdMappingBuilder::default()
            .container_id(container)
            .host_id(host)
            .size(size)
            .build()
            .expect("a mapping"),
    ]
}

fn spec(args: &[&str]) -> Spec {
    let namespaces = [
        LinuxNamespaceType::User,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
        LinuxNamespaceType::Network,
    ];
    let (user, group) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let (uids, gids) = if user == 0 {
        (one(0, 1_000_000, 65536), one(0, 1_000_000, 65536))
    } else {
        (one(1000, user, 1), one(1000, group, 1))
    };
    let linux = LinuxBuilder::default()
        .namespaces(namespaces.map(|typ| {
            LinuxNamespaceBuilder::default()
                .typ(typ)
                .build()
                .expect("a namespace")
        }))
        .uid_mappings(uids)
        .gid_mappings(gids)
        .masked_paths(["/proc/kcore", "/proc/acpi", "/proc/keys"].map(String::from))
        .readonly_paths(["/proc/sys", "/proc/bus"].map(String::from))
        .devices([device("/dev/null", 3), device("/dev/zero", 5)])
        .build()
        .map(|mut linux| {
            // The crate's own defaults limit devices.
            linux.set_resources(None);
            linux
        })
        .expect("linux");
    let process = ProcessBuilder::default()
        .args(args.iter().map(ToString::to_string).collect::<Vec<_>>())
        .env(["PATH=/usr/bin:/bin".to_string()])
        .cwd("/tmp")
        .user(
            UserBuilder::default()
                .uid(1000_u32)
                .gid(1000_u32)
                .build()
                .expect("a user"),
        )
        .no_new_privileges(true)
        .build()
        .map(|mut process| {
            process.set_capabilities(None).set_rlimits(None);
            process
        })
        .expect("a process");
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "nodev", "noexec"]),
        mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=64k", "ro"]),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "nodev", "noexec", "mode=1777"],
        ),
        mount(
            "/tmp",
            "tmpfs",
            &["nosuid", "nodev", "mode=1777", "tmpcopyup"],
        ),
        bind("/usr"),
    ];
    mounts.extend(
        ["/bin", "/lib", "/lib64"]
            .iter()
            .filter(|path| Path::new(path).is_dir() && !Path::new(path).is_symlink())
            .map(|path| bind(path)),
    );
    SpecBuilder::default()
        .process(process)
        .linux(linux)
        .mounts(mounts)
        .hostname("sandbox")
        .root(
            RootBuilder::default()
                .path("rootfs")
                .readonly(true)
                .build()
                .expect("a root"),
        )
        .build()
        .expect("a spec")
}

/// A sandbox of this machine's own programs, with all protections but seccomp.
pub fn plan(args: &[&str]) -> Plan {
    let links = ["/bin", "/lib", "/lib64"]
        .iter()
        .filter_map(|link| {
            std::fs::read_link(link)
                .ok()
                .map(|target| (PathBuf::from(link), target))
        })
        .collect();
    Plan {
        id: "0".repeat(64),
        spec: spec(args),
        args: None,
        root: Root::Tmpfs {
            scratch: Scratch {
                size: 1 << 20,
                inodes: None,
            },
            links,
        },
        files: Vec::new(),
        landlock_complete: true,
        landlock: Some(vec![
            PathRule {
                path: "/".into(),
                access: Access::ReadExec,
            },
            PathRule {
                path: "/tmp".into(),
                access: Access::Write,
            },
            PathRule {
                path: "/dev".into(),
                access: Access::WriteFiles,
            },
        ]),
        seccomp: Vec::new(),
        custom_seccomp: false,
        watch_denials: false,
        interactive: false,
        timeout: None,
        output_limit: None,
        stop_signal: libc::SIGTERM,
        stop_timeout: Duration::from_secs(10),
        joinable: false,
        tier: palisade_runtime::Tier::NoCgroup,
        best_effort: false,
    }
}
