//! The image `host`: this machine's own programs, read-only, with a minimal /etc and nothing of /home, /root, /run, /var.

use std::path::{Path, PathBuf};

use palisade_rootfs::Users;
use palisade_runtime::File;

use super::file;

/// Directories that hold programs and libraries.
const PROGRAMS: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];

/// Files and directories of /etc that hold no secrets and without which programs do not start or speak TLS.
const ETC: [&str; 11] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    // Debian's Java looks for its configuration here.
    "/etc/java-11-openjdk",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
];

/// What of this machine is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTree {
    /// Real directories and files, shown read-only at the same place.
    pub shown: Vec<PathBuf>,
    /// Symbolic links, `(link, target)`.
    pub links: Vec<(PathBuf, PathBuf)>,
}

impl HostTree {
    /// Looks at this machine.
    pub fn read() -> Self {
        let mut tree = Self::default();
        for path in PROGRAMS.iter().chain(&ETC).map(Path::new) {
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            if !metadata.is_symlink() {
                tree.shown.push(path.to_owned());
            } else if let Ok(target) = path.read_link()
                && leads_into_usr(path, &target)
            {
                tree.links.push((path.to_owned(), target));
            }
        }
        tree
    }

    /// Looks at this machine if `wanted`; an empty tree else.
    pub fn read_if(wanted: bool) -> Self {
        if wanted {
            Self::read()
        } else {
            Self::default()
        }
    }

    /// Files of the minimal /etc beside those of every sandbox.
    pub fn files() -> Vec<File> {
        vec![
            file(
                "/etc/nsswitch.conf",
                "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
            ),
            file("/etc/shells", "/bin/sh\n/bin/bash\n"),
        ]
    }
}

/// Whether a link at the top or in /etc stays inside what is shown.
fn leads_into_usr(link: &Path, target: &Path) -> bool {
    let full = link.parent().unwrap_or(Path::new("/")).join(target);
    let mut clean = PathBuf::from("/");
    for part in full.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean.starts_with("/usr")
}

/// The users of the image `host`: none of this machine's.
pub fn users() -> Users {
    Users {
        passwd: b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n".to_vec(),
        group: b"root:x:0:\ntty:x:5:\nnogroup:x:65534:\n".to_vec(),
    }
}

/// `/etc/hostname`, `/etc/hosts`, and with the host's network its resolver.
pub fn names(hostname: &str, network_is_hosts: bool) -> Vec<File> {
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    hosts.push_str("127.0.1.1\t");
    hosts.push_str(hostname);
    hosts.push('\n');
    let mut files = vec![file("/etc/hostname", format!("{hostname}\n"))];
    if network_is_hosts {
        // The host's own names are reachable with its network, so they keep their meaning.
        if let Some(known) = read_small("/etc/hosts") {
            hosts.push_str(&known);
        }
        if let Some(resolver) = read_small("/etc/resolv.conf") {
            files.push(file("/etc/resolv.conf", resolver));
        }
    }
    files.push(file("/etc/hosts", hosts));
    files
}

/// A text file of the host of at most 64 KiB.
fn read_small(path: &str) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .filter(|text| text.len() <= 65_536)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_home_root_run_or_var_is_shown() {
        let tree = HostTree::read();
        for path in tree
            .shown
            .iter()
            .chain(tree.links.iter().map(|(link, _)| link))
        {
            for private in [
                "/home",
                "/root",
                "/run",
                "/var",
                "/etc/shadow",
                "/etc/ssl/private",
            ] {
                assert!(
                    !path.starts_with(private) && path != Path::new("/etc"),
                    "{}",
                    path.display()
                );
            }
        }
        assert!(tree.shown.contains(&PathBuf::from("/usr")));
    }

    #[test]
    fn links_that_lead_elsewhere_are_left_out() {
        assert!(leads_into_usr(Path::new("/bin"), Path::new("usr/bin")));
        assert!(leads_into_usr(
            Path::new("/etc/localtime"),
            Path::new("../usr/share/zoneinfo/UTC")
        ));
        assert!(!leads_into_usr(Path::new("/bin"), Path::new("/home/x/bin")));
        assert!(!leads_into_usr(
            Path::new("/etc/localtime"),
            Path::new("/usr/../etc/shadow")
        ));
    }
}
