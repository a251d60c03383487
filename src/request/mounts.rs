//! `-v`, `--mount`, `--tmpfs` and `--device`: what is shown inside, and where.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use palisade_policies::parse_size;

use super::text;
use crate::caller::Caller;
use crate::cli::run::MountArgument;
use crate::failure::Failure;

/// One thing shown inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A host directory or file.
    Bind(Bind),
    /// An empty file system in memory.
    Tmpfs(Tmpfs),
    /// An anonymous volume: memory that starts with what the image has there.
    Anonymous(PathBuf),
    /// A host device.
    Device {
        /// On the host.
        source: PathBuf,
        /// Inside.
        destination: PathBuf,
    },
}

/// A host directory or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Absolute, on the host.
    pub source: PathBuf,
    /// Inside.
    pub destination: PathBuf,
    /// Cannot be changed from inside.
    pub read_only: bool,
    /// With what is mounted beneath the source.
    pub recursive: bool,
    /// A source that is missing is made, as docker does for `-v`; else it is an error.
    pub create: bool,
}

/// An empty file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Inside.
    pub destination: PathBuf,
    /// Bytes; none for the policy's scratch size.
    pub size: Option<u64>,
    /// Files and directories; none for no bound of its own.
    pub inodes: Option<u64>,
    /// Permission bits.
    pub mode: u32,
    /// Programs on it can be executed.
    pub exec: bool,
    /// Nothing can be written.
    pub read_only: bool,
    /// Owner and group, where given.
    pub owner: (Option<u32>, Option<u32>),
}

impl Mount {
    /// Where it is shown inside.
    pub fn destination(&self) -> &Path {
        match self {
            Self::Bind(bind) => &bind.destination,
            Self::Tmpfs(tmpfs) => &tmpfs.destination,
            Self::Anonymous(destination) | Self::Device { destination, .. } => destination,
        }
    }
}

/// Understands all of them, and refuses two on the same place.
pub fn understand(
    typed: Vec<MountArgument>,
    devices: Vec<OsString>,
    caller: &Caller,
) -> Result<Vec<Mount>, Failure> {
    let mut mounts: Vec<Mount> = Vec::with_capacity(typed.len() + devices.len());
    for typed in typed {
        let mount = match typed {
            MountArgument::Volume(typed) => volume(&text::utf8("--volume", typed)?, caller)?,
            MountArgument::Mount(typed) => mount(&text::utf8("--mount", typed)?, caller)?,
            MountArgument::Tmpfs(typed) => tmpfs(&text::utf8("--tmpfs", typed)?)?,
        };
        mounts.push(mount);
    }
    for typed in devices {
        mounts.push(device(&text::utf8("--device", typed)?, caller)?);
    }
    for (index, mount) in mounts.iter().enumerate() {
        if mounts[..index]
            .iter()
            .any(|earlier| earlier.destination() == mount.destination())
        {
            return Err(Failure::new(
                format!("two mounts on {}", mount.destination().display()),
                "one mount for each place inside",
            ));
        }
    }
    Ok(mounts)
}

/// A path inside the sandbox: absolute, without `..`, written without what does not matter.
pub fn sandbox_path(option: &str, typed: &OsStr) -> Result<PathBuf, Failure> {
    let path = Path::new(typed);
    let odd = |why: &str| {
        Failure::new(
            format!("{option} {}: {why}", path.display()),
            format!("{option} with a path such as /workspace"),
        )
    };
    if !path.is_absolute() {
        return Err(odd("the path inside the sandbox is not absolute"));
    }
    if typed.as_encoded_bytes().contains(&0) || typed.len() >= 4096 {
        return Err(odd("the path is too long or holds a NUL byte"));
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => return Err(odd("the path inside the sandbox has a ..")),
            _ => {}
        }
    }
    Ok(clean)
}

/// A place that a mount may have: neither the root nor a part of what the sandbox is made of.
fn target(option: &str, typed: &str) -> Result<PathBuf, Failure> {
    let path = sandbox_path(option, typed.as_ref())?;
    let odd = |why: &str, instead: &str| {
        Failure::new(format!("{option} on {}: {why}", path.display()), instead)
    };
    if path == Path::new("/") {
        return Err(odd(
            "the root is the image's",
            "an image dir:PATH for a root directory of your own",
        ));
    }
    if path.starts_with("/proc") {
        return Err(odd(
            "/proc belongs to the sandbox (CVE-2019-16884)",
            "another place inside",
        ));
    }
    if path == Path::new("/dev") {
        return Err(odd(
            "/dev belongs to the sandbox",
            "--device for each device that is needed",
        ));
    }
    Ok(path)
}

fn host_path(option: &str, typed: &str, caller: &Caller) -> Result<PathBuf, Failure> {
    if typed.contains('\0') {
        return Err(Failure::new(
            format!("{option}: the path on the host holds a NUL byte"),
            "",
        ));
    }
    Ok(caller.absolute(Path::new(typed)))
}

fn volume(typed: &str, caller: &Caller) -> Result<Mount, Failure> {
    let option = "--volume";
    let example = "-v ./dir:/workspace or -v /dir:/workspace:ro";
    let parts: Vec<&str> = typed.split(':').collect();
    let (source, destination, modes) = match parts[..] {
        [destination] => return Ok(Mount::Anonymous(target(option, destination)?)),
        [source, destination] => (source, destination, ""),
        [source, destination, modes] => (source, destination, modes),
        _ => {
            return Err(Failure::new(
                format!("{option} {typed} has too many colons"),
                "--mount type=bind,src=PATH,dst=PATH for paths with colons",
            ));
        }
    };
    let is_path = source.starts_with('/')
        || source == "."
        || source == ".."
        || source.starts_with("./")
        || source.starts_with("../");
    if source.is_empty() {
        return Err(Failure::new(
            format!("{option} {typed} has no source"),
            example,
        ));
    }
    if !is_path {
        return Err(Failure::new(
            format!(
                "{option} {typed}: `{source}` would be a named volume, which palisade does not have yet"
            ),
            format!("-v ./{source}:{destination} for a directory here, or an absolute path"),
        ));
    }
    let mut bind = Bind {
        source: host_path(option, source, caller)?,
        destination: target(option, destination)?,
        read_only: false,
        recursive: true,
        create: true,
    };
    for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
        match mode {
            "ro" => bind.read_only = true,
            // Labels, caching and propagation that docker knows: nothing here depends on them.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "default" | "nocopy"
            | "private" | "rprivate" | "rbind" => {}
            "bind" => bind.recursive = false,
            mode => {
                return Err(Failure::new(
                    format!("{option} {typed}: unknown mode `{mode}`"),
                    example,
                ));
            }
        }
    }
    Ok(Mount::Bind(bind))
}

/// The fields of `--mount`.
struct Long {
    kind: &'static str,
    source: Option<String>,
    destination: Option<PathBuf>,
    read_only: bool,
    recursive: bool,
    size: Option<u64>,
    mode: Option<u32>,
}

fn mount(typed: &str, caller: &Caller) -> Result<Mount, Failure> {
    let wrong = |why: &str| {
        Failure::new(
            format!("--mount {typed}: {why}"),
            "--mount type=bind,src=./dir,dst=/workspace,ro or --mount type=tmpfs,dst=/cache,tmpfs-size=64m",
        )
    };
    let mut long = Long {
        kind: "volume",
        source: None,
        destination: None,
        read_only: false,
        recursive: true,
        size: None,
        mode: None,
    };
    for field in fields(typed) {
        let (key, value) = field
            .split_once('=')
            .map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        match long.set(key, value) {
            Ok(()) => {}
            Err(Odd::Field(why)) => return Err(wrong(&why)),
            Err(Odd::Target(failure)) => return Err(failure),
        }
    }
    let destination = long.destination.ok_or_else(|| wrong("dst is missing"))?;
    if long.kind != "tmpfs" && (long.size.is_some() || long.mode.is_some()) {
        return Err(wrong("tmpfs-size and tmpfs-mode belong to type=tmpfs"));
    }
    let (read_only, recursive) = (long.read_only, long.recursive);
    match (long.kind, long.source) {
        ("bind", Some(source)) => {
            let source = host_path("--mount", &source, caller)?;
            Ok(Mount::Bind(Bind {
                source,
                destination,
                read_only,
                recursive,
                create: false,
            }))
        }
        ("bind", None) => Err(wrong("src is missing")),
        ("tmpfs", None) => Ok(Mount::Tmpfs(Tmpfs {
            destination,
            size: long.size,
            inodes: None,
            mode: long.mode.unwrap_or(0o1777),
            exec: false,
            read_only,
            owner: (None, None),
        })),
        ("tmpfs", Some(_)) => Err(wrong("a tmpfs has no src")),
        (_, None) if !read_only => Ok(Mount::Anonymous(destination)),
        _ => Err(wrong(
            "named volumes do not exist yet; use type=bind with a directory",
        )),
    }
}

/// Why a field of `--mount` is refused.
enum Odd {
    Field(String),
    Target(Failure),
}

impl Long {
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), Odd> {
        let wrong = |why: &str| Odd::Field(why.to_owned());
        let needed = || {
            value
                .filter(|v| !v.is_empty())
                .ok_or_else(|| Odd::Field(format!("{key} needs a value")))
        };
        let truth = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(Odd::Field(format!("{key} is true or false"))),
        };
        match key {
            "type" => {
                self.kind = match needed()? {
                    "bind" => "bind",
                    "tmpfs" => "tmpfs",
                    "volume" => "volume",
                    other => return Err(Odd::Field(format!("type `{other}` does not exist here"))),
                }
            }
            "source" | "src" => self.source = Some(needed()?.to_owned()),
            "target" | "destination" | "dst" => {
                self.destination = Some(target("--mount", needed()?).map_err(Odd::Target)?);
            }
            "readonly" | "ro" => self.read_only = truth()?,
            "bind-recursive" => {
                self.recursive = match needed()? {
                    "enabled" | "writable" | "readonly" => true,
                    "disabled" => false,
                    _ => return Err(wrong("bind-recursive is enabled or disabled")),
                }
            }
            "bind-nonrecursive" => self.recursive = !truth()?,
            "bind-propagation" if matches!(needed()?, "private" | "rprivate") => {}
            "bind-propagation" => {
                return Err(wrong(
                    "mounts are private: nothing mounted inside reaches the host",
                ));
            }
            "consistency" => {}
            "tmpfs-size" => {
                let size = parse_size(needed()?).filter(|&n| n > 0);
                self.size = Some(size.ok_or_else(|| wrong("tmpfs-size is a size such as 64m"))?);
            }
            "tmpfs-mode" => {
                let mode = octal(needed()?)
                    .ok_or_else(|| wrong("tmpfs-mode is an octal number such as 1777"))?;
                self.mode = Some(mode);
            }
            _ => return Err(Odd::Field(format!("unknown key `{key}`"))),
        }
        Ok(())
    }
}

/// The fields of a comma-separated list with quotes (RFC 4180), as docker reads `--mount`.
fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let last = fields.len() - 1;
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                fields[last].push('"');
            }
            '"' if quoted || fields[last].is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    fields
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777 && !text.starts_with('+'))
}

fn tmpfs(typed: &str) -> Result<Mount, Failure> {
    let option = "--tmpfs";
    let (destination, options) = typed.split_once(':').unwrap_or((typed, ""));
    let wrong = |why: String| {
        Failure::new(
            format!("{option} {typed}: {why}"),
            "--tmpfs /cache:size=64m,mode=1777,exec",
        )
    };
    let mut tmpfs = Tmpfs {
        destination: target(option, destination)?,
        size: None,
        inodes: None,
        mode: 0o1777,
        exec: false,
        read_only: false,
        owner: (None, None),
    };
    for part in options.split(',').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let bad = || wrong(format!("`{part}` is not understood"));
        match key {
            "size" => tmpfs.size = Some(parse_size(value).filter(|&n| n > 0).ok_or_else(bad)?),
            "nr_inodes" => {
                tmpfs.inodes = Some(parse_size(value).filter(|&n| n > 0).ok_or_else(bad)?);
            }
            "mode" => tmpfs.mode = octal(value).ok_or_else(bad)?,
            "uid" => tmpfs.owner.0 = Some(value.parse().map_err(|_| bad())?),
            "gid" => tmpfs.owner.1 = Some(value.parse().map_err(|_| bad())?),
            "exec" if value.is_empty() => tmpfs.exec = true,
            "noexec" if value.is_empty() => tmpfs.exec = false,
            "ro" if value.is_empty() => tmpfs.read_only = true,
            // What is so anyway.
            "rw" | "nosuid" | "nodev" | "relatime" | "noatime" | "async" if value.is_empty() => {}
            "suid" | "dev" => return Err(wrong(format!("`{key}` is never given"))),
            _ => return Err(bad()),
        }
    }
    Ok(Mount::Tmpfs(tmpfs))
}

fn device(typed: &str, caller: &Caller) -> Result<Mount, Failure> {
    let option = "--device";
    let wrong = |why: &str| {
        Failure::new(
            format!("{option} {typed}: {why}"),
            "--device /dev/fuse, or --device /dev/sdb:/dev/disk; chmod on the host decides who may write",
        )
    };
    let parts: Vec<&str> = typed.split(':').collect();
    let permissions =
        |text: &str| !text.is_empty() && text.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    let (source, destination, rights) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, rights] if permissions(rights) => (source, source, rights),
        [source, destination] => (source, destination, "rwm"),
        [source, destination, rights] if permissions(rights) => (source, destination, rights),
        _ => return Err(wrong("the rights are letters of rwm")),
    };
    if !source.starts_with('/') {
        return Err(wrong("a device is named by its absolute path"));
    }
    // A read-only mount does not keep anybody from writing to a device, and device cgroups need the host's root.
    if !(rights.contains('r') && rights.contains('w')) {
        return Err(wrong("a device is readable and writable or not there"));
    }
    Ok(Mount::Device {
        source: host_path(option, source, caller)?,
        destination: target(option, destination)?,
    })
}

#[cfg(test)]
mod tests {
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
    fn a_name_without_a_slash_is_a_named_volume_and_refused_with_the_way_out() {
        let failure = volume("ws:/workspace", &caller()).unwrap_err();
        assert!(
            failure.remedy().contains("-v ./ws:/workspace"),
            "{}",
            failure.remedy()
        );
    }

    #[test]
    fn a_place_alone_is_an_anonymous_volume() {
        assert_eq!(
            volume("/data", &caller()).unwrap(),
            Mount::Anonymous("/data".into())
        );
        assert_eq!(
            mount("dst=/data", &caller()).unwrap(),
            Mount::Anonymous("/data".into())
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
            "type=volume,src=x,dst=/w",
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
}
