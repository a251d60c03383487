//! Mount options as fstab(5) and the runtime-spec write them.

use nix::mount::MsFlags;

use super::attribute;

/// fstab-style options of a mount (runtime-spec, config.md, "Linux mount options").
#[derive(Debug)]
pub(super) struct Options {
    pub(super) flags: MsFlags,
    pub(super) bind: bool,
    pub(super) recursive: bool,
    pub(super) copy_up: bool,
    pub(super) data: Vec<String>,
}

impl Options {
    pub(super) fn parse(options: &[String]) -> Self {
        let mut parsed = Self {
            flags: MsFlags::empty(),
            bind: false,
            recursive: false,
            copy_up: false,
            data: Vec::new(),
        };
        for option in options {
            let (flag, on) = match option.as_str() {
                "ro" | "rro" => (MsFlags::MS_RDONLY, true),
                "rw" => (MsFlags::MS_RDONLY, false),
                "nosuid" => (MsFlags::MS_NOSUID, true),
                "suid" => (MsFlags::MS_NOSUID, false),
                "nodev" => (MsFlags::MS_NODEV, true),
                "dev" => (MsFlags::MS_NODEV, false),
                "noexec" => (MsFlags::MS_NOEXEC, true),
                "exec" => (MsFlags::MS_NOEXEC, false),
                "noatime" => (MsFlags::MS_NOATIME, true),
                "strictatime" => (MsFlags::MS_STRICTATIME, true),
                "bind" | "rbind" => {
                    parsed.bind = true;
                    parsed.recursive |= option == "rbind";
                    continue;
                }
                "tmpcopyup" => {
                    parsed.copy_up = true;
                    continue;
                }
                // Propagation is always private, the mapping is in the mount's own fields, and the rest is the default.
                "private" | "rprivate" | "slave" | "rslave" | "idmap" | "ridmap" | "relatime"
                | "defaults" | "async" => {
                    continue;
                }
                data => {
                    parsed.data.push(data.to_owned());
                    continue;
                }
            };
            parsed.flags.set(flag, on);
        }
        parsed
    }
}

/// Flags of mount(2) as attributes of mount_setattr(2).
pub(super) fn attributes(flags: MsFlags) -> u64 {
    [
        (MsFlags::MS_RDONLY, attribute::RDONLY),
        (MsFlags::MS_NOSUID, attribute::NOSUID),
        (MsFlags::MS_NODEV, attribute::NODEV),
        (MsFlags::MS_NOEXEC, attribute::NOEXEC),
        (MsFlags::MS_NOATIME, attribute::NOATIME),
    ]
    .iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(0, |all, (_, attribute)| all | attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Options {
        Options::parse(&list.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_two_contrary_options_wins() {
        assert_eq!(attributes(options(&["ro", "rw"]).flags), 0);
        let read_only = attributes(options(&["rw", "ro", "nosuid"]).flags);
        assert_eq!(read_only, attribute::RDONLY | attribute::NOSUID);
    }

    #[test]
    fn what_is_no_flag_goes_to_the_file_system() {
        let parsed = options(&["nodev", "size=64k", "mode=755"]);
        assert_eq!(parsed.data, ["size=64k", "mode=755"]);
    }
}
