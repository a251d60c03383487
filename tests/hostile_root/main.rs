//! Root directories and images made to hurt: each is refused with a reason, or runs safely. Nothing outside is touched.

mod accounts;
mod layout;
mod links;
mod mounts;
mod programs;
mod rig;
mod working_directory;
