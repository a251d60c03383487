//! Removing directory trees that images filled.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

/// Removes a tree by handle, following no link, directories without permissions included. What is not there is no error.
pub(crate) fn tree(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    let dir = match open() {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        result => result?,
    };
    let mut tried_mode = false;
    // Reading while removing may skip names, so it starts over until nothing is left.
    loop {
        let names: Vec<_> = Dir::read_from(&dir)?
            .filter_map(|entry| {
                entry
                    .ok()
                    .map(|entry| entry.file_name().to_bytes().to_vec())
            })
            .filter(|name| name != b"." && name != b"..")
            .collect();
        if names.is_empty() {
            break;
        }
        for name in names {
            match tree(dir.as_fd(), &name) {
                Err(Errno::ACCESS) if !tried_mode => {
                    tried_mode = true;
                    rustix::fs::fchmod(&dir, Mode::RWXU)?;
                    tree(dir.as_fd(), &name)?;
                }
                result => result?,
            }
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
