//! One extended attribute of a cgroup.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Whether the attribute's value begins with `1`.
pub(super) fn is_one(path: &Path, name: &CStr) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let mut value = [0_u8; 8];
    // SAFETY: both strings end in NUL, and the kernel writes at most value.len() bytes into value.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    length > 0 && value[0] == b'1'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_the_attribute_is_not_delegated() {
        assert!(!is_one(Path::new("/"), c"user.delegate"));
        assert!(!is_one(Path::new("/does/not/exist"), c"user.delegate"));
    }
}
