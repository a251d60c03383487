//! From what the kernel said, and what is around, to who refuses and what to do about it.

use nix::errno::Errno;

use super::child::Failed;
use super::surroundings::Surroundings;
use super::{Blocked, Finding, Layer};

/// For filters around palisade: docker's words, then Kubernetes'.
const OUTER_SECCOMP: &str = "start the outer container with --security-opt seccomp=unconfined (Kubernetes: \
     seccompProfile: {type: Unconfined}), or with a profile that allows clone3, unshare and the mount calls; \
     or go on with less by --require no-namespace";

/// What a child said, as a finding.
pub(super) fn finding(
    answer: Result<String, Failed>,
    blame: impl FnOnce(&Failed) -> Blocked,
) -> Finding {
    match answer {
        Ok(more) => Finding::Available(more),
        Err(failed) => Finding::Blocked(blame(&failed)),
    }
}

fn blocked(
    by: Layer,
    shown: impl Into<String>,
    failed: &Failed,
    cure: impl Into<String>,
) -> Blocked {
    Blocked {
        by,
        shown: shown.into(),
        errno: Some(failed.errno),
        cure: cure.into(),
    }
}

impl Surroundings {
    /// A namespace that could not be made; `limit` is the sysctl(8) name of its own limit.
    pub(super) fn refused_namespace(&self, limit: &'static str, failed: &Failed) -> Blocked {
        // Every other namespace is tried within a user namespace of its own.
        let limit = if failed.doing.ends_with("user namespace") {
            "user.max_user_namespaces"
        } else {
            limit
        };
        match failed.errno {
            Errno::ENOSPC | Errno::EUSERS => self.namespace_limit(limit, failed),
            Errno::EPERM
                if self.switch("kernel.unprivileged_userns_clone", "0") && self.ids.0 != 0 =>
            {
                blocked(
                    Layer::UsernsClone,
                    "kernel.unprivileged_userns_clone is 0",
                    failed,
                    "as root: sysctl -w kernel.unprivileged_userns_clone=1 (and a file in /etc/sysctl.d to keep it)",
                )
            }
            Errno::EPERM if !self.ids_are_mapped() => blocked(
                Layer::Caller,
                "the caller's id is not mapped in its own user namespace",
                failed,
                "map the calling user's id where the outer user namespace is made",
            ),
            // Since Linux 5.12 (user_namespaces(7), CAP_SETFCAP).
            Errno::EPERM if failed.doing.ends_with("uid_map") && self.is_root_without_setfcap() => {
                blocked(
                    Layer::Caller,
                    "the caller is root without CAP_SETFCAP, and the kernel then lets nobody map its id",
                    failed,
                    "run palisade as another user of the outer container, or give that the capability SETFCAP",
                )
            }
            Errno::EINVAL => self.kernel("user namespaces (CONFIG_USER_NS)", failed),
            _ => self.refused(failed),
        }
    }

    /// What is tried inside of new namespaces, which may themselves be what is refused.
    pub(super) fn refused_inside(&self, failed: &Failed) -> Blocked {
        if failed.doing.ends_with("namespace") || failed.doing.ends_with("id_map") {
            self.refused_namespace("user.max_user_namespaces", failed)
        } else {
            self.refused(failed)
        }
    }

    /// A limit here, or one of an outer user namespace that cannot be read from here.
    fn namespace_limit(&self, limit: &'static str, failed: &Failed) -> Blocked {
        let exhausted = [limit, "user.max_user_namespaces"]
            .into_iter()
            .find(|name| self.switch(name, "0"));
        match exhausted {
            Some(name) => blocked(
                Layer::NamespaceLimit,
                format!("{name} is 0"),
                failed,
                format!(
                    "as root: sysctl -w {name}=15000 (in the outermost namespace that sets it to 0)"
                ),
            ),
            None if failed.errno == Errno::EUSERS => blocked(
                Layer::NamespaceLimit,
                "user namespaces are nested too deep",
                failed,
                "run palisade in fewer nested containers: the kernel allows 32 levels",
            ),
            None => blocked(
                Layer::NamespaceLimit,
                format!("{limit}, here or in an outer user namespace, is used up"),
                failed,
                format!("as root, outside: sysctl -w {limit}=15000"),
            ),
        }
    }

    /// A new procfs that the kernel refuses.
    pub(super) fn refused_proc(&self, failed: &Failed) -> Blocked {
        if failed.errno != Errno::EPERM
            || self.covers_of_proc.is_empty()
            || failed.doing.ends_with("namespace")
        {
            return self.refused_inside(failed);
        }
        let mut covers: Vec<&str> = self.covers_of_proc.iter().map(String::as_str).collect();
        let more = covers.len().saturating_sub(3);
        covers.truncate(3);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        blocked(
            Layer::MaskedProc,
            format!(
                "a masked /proc: mounts on {}{more} lie over it, and the kernel then refuses a new one",
                covers.join(", ")
            ),
            failed,
            "start the outer container with an unmasked /proc (docker: --security-opt systempaths=unconfined, \
             Kubernetes: procMount: Unmasked); or go on with less by --require no-namespace",
        )
    }

    /// Landlock that cannot be had.
    pub(super) fn refused_landlock(&self, failed: &Failed) -> Blocked {
        match failed.errno {
            Errno::EOPNOTSUPP => {
                let list = self.lsm.as_deref().unwrap_or("capability,...");
                blocked(
                    Layer::LandlockOff,
                    "Landlock was not enabled when the kernel was started",
                    failed,
                    format!(
                        "boot with lsm=landlock,{list}; --best-effort goes on without Landlock"
                    ),
                )
            }
            // This number is old enough that a filter without it answers so, and a kernel without it too.
            Errno::ENOSYS if !self.filtered => {
                let mut found = self.kernel("Landlock (CONFIG_SECURITY_LANDLOCK)", failed);
                found
                    .cure
                    .push_str("; --best-effort goes on without Landlock");
                found
            }
            _ => self.refused(failed),
        }
    }

    /// What the kernel has no part for.
    pub(super) fn kernel(&self, what: &str, failed: &Failed) -> Blocked {
        blocked(
            Layer::Kernel,
            format!("this kernel ({}) has no {what}", self.kernel),
            failed,
            "run on Linux 5.13 or newer, built with what distributions build in",
        )
    }

    /// Anything else: whoever around this process is known to refuse such things.
    pub(super) fn refused(&self, failed: &Failed) -> Blocked {
        let Failed { errno, doing } = failed;
        if *errno == Errno::ENOENT && doing.contains("/proc/") {
            return blocked(
                Layer::NoProc,
                "there is no /proc here",
                failed,
                "as root: mount -t proc proc /proc; in a chroot or container, where that is made",
            );
        }
        let denied = matches!(errno, Errno::EPERM | Errno::EACCES);
        if *errno == Errno::ENOSYS && !self.filtered {
            return self.kernel(doing, failed);
        }
        if denied
            && self.confinement.is_none()
            && self.switch("kernel.apparmor_restrict_unprivileged_userns", "1")
            && !(self.filtered && doing.ends_with("namespace"))
        {
            return blocked(
                Layer::AppArmor,
                "AppArmor: kernel.apparmor_restrict_unprivileged_userns is 1",
                failed,
                "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give palisade an AppArmor profile \
                 with `userns,` (docs/doctor.md has one)",
            );
        }
        if (denied || *errno == Errno::ENOSYS) && self.filtered {
            return blocked(
                Layer::OuterSeccomp,
                match &self.container {
                    Some(kind) => format!("the seccomp filter of the outer container ({kind})"),
                    None => {
                        "the seccomp filter around this process, as containers have one".to_owned()
                    }
                },
                failed,
                OUTER_SECCOMP,
            );
        }
        match &self.confinement {
            Some(profile) if denied && profile.contains(':') => blocked(
                Layer::SeLinux,
                format!("SELinux, which runs this process as {profile}"),
                failed,
                "start the outer container with --security-opt label=disable, or allow it in the policy (ausearch -m avc)",
            ),
            Some(profile) if denied => blocked(
                Layer::AppArmor,
                format!("the AppArmor profile {profile}"),
                failed,
                "start the outer container with --security-opt apparmor=unconfined (Kubernetes: appArmorProfile: {type: Unconfined})",
            ),
            _ => blocked(
                Layer::Unknown,
                format!("something around this process: {doing}: {}", errno.desc()),
                failed,
                "look for a filter, a security module or a chroot around palisade; dmesg may name it",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(errno: Errno) -> Failed {
        Failed {
            errno,
            doing: "make a user namespace".into(),
        }
    }

    fn around(switches: &[(&'static str, &str)]) -> Surroundings {
        Surroundings {
            ids: (1000, 1000),
            uid_map: "0 0 4294967295".into(),
            gid_map: "0 0 4294967295".into(),
            sysctls: switches
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            ..Surroundings::default()
        }
    }

    fn user(around: &Surroundings, errno: Errno) -> Blocked {
        around.refused_namespace("user.max_user_namespaces", &failed(errno))
    }

    #[test]
    fn a_limit_on_user_namespaces_is_not_taken_for_one_on_what_is_made_in_them() {
        let around = around(&[("user.max_user_namespaces", "100")]);
        let found = around.refused_namespace("user.max_mnt_namespaces", &failed(Errno::ENOSPC));
        assert!(found.shown.starts_with("user.max_user_namespaces"));
        let inner = Failed {
            errno: Errno::ENOSPC,
            doing: "make a mount namespace".into(),
        };
        let found = around.refused_namespace("user.max_mnt_namespaces", &inner);
        assert!(found.shown.starts_with("user.max_mnt_namespaces"));
    }

    #[test]
    fn a_missing_proc_is_named_with_its_cure() {
        let found = around(&[]).refused_inside(&Failed {
            errno: Errno::ENOENT,
            doing: "write /proc/self/uid_map".into(),
        });
        assert_eq!(found.by, Layer::NoProc);
        assert!(found.cure.contains("mount -t proc"), "{}", found.cure);
    }

    #[test]
    fn debians_switch_is_named_with_its_cure() {
        let found = user(
            &around(&[("kernel.unprivileged_userns_clone", "0")]),
            Errno::EPERM,
        );
        assert_eq!(found.by, Layer::UsernsClone);
        assert!(found.cure.contains("kernel.unprivileged_userns_clone=1"));
    }

    #[test]
    fn a_limit_of_zero_is_told_from_one_that_is_used_up_elsewhere() {
        let zero = user(&around(&[("user.max_user_namespaces", "0")]), Errno::ENOSPC);
        assert_eq!(
            (zero.by, zero.shown.as_str()),
            (Layer::NamespaceLimit, "user.max_user_namespaces is 0")
        );
        let outer = user(
            &around(&[("user.max_user_namespaces", "100")]),
            Errno::ENOSPC,
        );
        assert!(outer.shown.contains("outer"), "{}", outer.shown);
        let deep = user(&around(&[]), Errno::EUSERS);
        assert!(deep.shown.contains("deep"), "{}", deep.shown);
    }

    #[test]
    fn root_without_the_capability_to_map_itself_is_told_so() {
        let mut container = around(&[]);
        container.ids = (0, 0);
        let refused = Failed {
            errno: Errno::EPERM,
            doing: "write /proc/self/uid_map".into(),
        };
        let found = container.refused_inside(&refused);
        assert_eq!(found.by, Layer::Caller);
        assert!(found.shown.contains("CAP_SETFCAP"));
        container.capabilities = 1 << 31;
        assert_eq!(container.refused_inside(&refused).by, Layer::Unknown);
    }

    #[test]
    fn ubuntus_restriction_is_named_where_nothing_else_confines() {
        let ubuntu = around(&[("kernel.apparmor_restrict_unprivileged_userns", "1")]);
        let found = ubuntu.refused(&Failed {
            errno: Errno::EACCES,
            doing: "make a mount namespace".into(),
        });
        assert_eq!(found.by, Layer::AppArmor);
        assert!(
            found
                .cure
                .contains("apparmor_restrict_unprivileged_userns=0")
        );
    }

    #[test]
    fn a_containers_filter_is_named_for_the_errors_that_filters_give() {
        let mut container = around(&[]);
        container.filtered = true;
        container.container = Some("docker".into());
        for errno in [Errno::EPERM, Errno::ENOSYS] {
            let found = user(&container, errno);
            assert_eq!(found.by, Layer::OuterSeccomp, "{errno}");
            assert!(found.shown.contains("docker") && found.cure.contains("seccomp=unconfined"));
        }
        assert_eq!(user(&container, Errno::ENOSPC).by, Layer::NamespaceLimit);
    }

    #[test]
    fn a_masked_proc_names_what_covers_it() {
        let mut container = around(&[]);
        container.covers_of_proc = vec!["/proc/kcore".into(), "/proc/sys".into()];
        let refused = Failed {
            doing: "mount a new /proc".into(),
            ..failed(Errno::EPERM)
        };
        let found = container.refused_proc(&refused);
        assert_eq!(found.by, Layer::MaskedProc);
        assert!(found.shown.contains("/proc/kcore, /proc/sys"));
    }

    #[test]
    fn landlock_that_is_off_is_told_from_landlock_that_is_missing() {
        let mut machine = around(&[]);
        machine.lsm = Some("capability,yama".into());
        let off = machine.refused_landlock(&failed(Errno::EOPNOTSUPP));
        assert_eq!(off.by, Layer::LandlockOff);
        assert!(off.cure.contains("lsm=landlock,capability,yama"));
        assert_eq!(
            machine.refused_landlock(&failed(Errno::ENOSYS)).by,
            Layer::Kernel
        );
        machine.filtered = true;
        assert_eq!(
            machine.refused_landlock(&failed(Errno::ENOSYS)).by,
            Layer::OuterSeccomp
        );
    }

    #[test]
    fn what_nobody_known_refuses_is_not_blamed_on_anybody() {
        let found = user(&around(&[]), Errno::EPERM);
        assert_eq!(found.by, Layer::Unknown);
        assert!(found.shown.contains("make a user namespace"));
    }
}
