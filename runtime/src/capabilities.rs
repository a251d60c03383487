//! Capability sets, ids and securebits: what capabilities(7) calls the thread's credentials.

use std::ffi::CStr;

use nix::errno::Errno;
use oci_spec::runtime::{Capability, LinuxCapabilities};

use crate::control::Step;
use crate::failure::{Failure, Try};
use crate::sys::{self, CapabilitySets};

/// The five sets as bit masks, bit n for capability number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) sets: CapabilitySets,
    pub(crate) bounding: u64,
    pub(crate) ambient: u64,
}

/// SECBIT_NOROOT, SECBIT_NO_SETUID_FIXUP, SECBIT_NO_CAP_AMBIENT_RAISE and the lock of each, of linux/securebits.h;
/// SECBIT_KEEP_CAPS is only locked.
pub(crate) const LOCKED_SECUREBITS: u8 = 0b1110_1111;

impl Capabilities {
    pub(crate) fn new(capabilities: Option<&LinuxCapabilities>) -> Self {
        let Some(wanted) = capabilities else {
            return Self::default();
        };
        let mask = |set: &Option<std::collections::HashSet<Capability>>| {
            set.iter()
                .flatten()
                .fold(0_u64, |mask, capability| mask | 1 << number(*capability))
        };
        Self {
            sets: CapabilitySets {
                effective: mask(wanted.effective()),
                permitted: mask(wanted.permitted()),
                inheritable: mask(wanted.inheritable()),
            },
            bounding: mask(wanted.bounding()),
            ambient: mask(wanted.ambient()),
        }
    }

    /// Whether the command is to have none at all.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The sets with the right to change ids added to the permitted one, and if `used` to the effective one.
    pub(crate) fn with_ids(&self, used: bool) -> CapabilitySets {
        let ids =
            1 << caps::Capability::CAP_SETUID.index() | 1 << caps::Capability::CAP_SETGID.index();
        CapabilitySets {
            effective: self.sets.effective | if used { ids } else { 0 },
            permitted: self.sets.permitted | ids,
            inheritable: self.sets.inheritable,
        }
    }

    /// Drops from the bounding set, by number up to the first the kernel does not know, all that is not kept.
    pub(crate) fn drop_bounding(&self) -> Result<(), Failure<'static>> {
        const WHAT: &CStr = c"(bounding set)";
        for number in 0..64 {
            if self.bounding & 1 << number != 0 {
                continue;
            }
            match sys::prctl(libc::PR_CAPBSET_DROP, number, 0) {
                Ok(_) => {}
                Err(Errno::EINVAL) => break,
                Err(errno) => {
                    return Err(Failure {
                        step: Step::Credentials,
                        errno,
                        subject: WHAT,
                    });
                }
            }
        }
        Ok(())
    }

    /// Locks the securebits, so that no later execve(2) gives root's id capabilities. Needs CAP_SETPCAP.
    /// With capabilities kept, the bits stay as they are: they rest on them.
    pub(crate) fn lock_securebits(&self) -> Result<(), Failure<'static>> {
        if !self.is_empty() {
            return Ok(());
        }
        sys::prctl(libc::PR_SET_SECUREBITS, LOCKED_SECUREBITS.into(), 0)
            .map(drop)
            .or_fail(Step::Credentials, c"(securebits)")
    }

    /// Sets effective, permitted and inheritable to `sets`, then the ambient set.
    pub(crate) fn apply(&self, sets: CapabilitySets) -> Result<(), Failure<'static>> {
        sys::capset(sets).or_fail(Step::Credentials, c"(capset)")?;
        if self.ambient == 0 {
            return Ok(());
        }
        for number in 0..64 {
            if self.ambient & 1 << number != 0 {
                sys::prctl(
                    libc::PR_CAP_AMBIENT,
                    libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong,
                    number,
                )
                .or_fail(Step::Credentials, c"(ambient set)")?;
            }
        }
        Ok(())
    }
}

/// The kernel's number of a capability (linux/capability.h), by way of the caps crate.
fn number(capability: Capability) -> u8 {
    let name = format!("CAP_{capability}");
    name.parse::<caps::Capability>()
        .map_or(63, |known| known.index())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        assert_eq!(number(Capability::Chown), 0);
        assert_eq!(number(Capability::SysAdmin), 21);
        assert_eq!(number(Capability::CheckpointRestore), 40);
    }

    #[test]
    fn no_capabilities_asked_for_means_five_empty_sets() {
        assert!(Capabilities::new(None).is_empty());
    }
}
