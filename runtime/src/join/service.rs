//! What a keeper does itself: files between the sandbox and its caller.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use super::request::{Copied, JoinCommand, Service};
use crate::archive::{ArchiveError, Target, Unpacking, Where, pack, unpack};

/// As much as a pipe holds.
const BUFFER: usize = 64 * 1024;

/// Does it, with the archive on standard input or output.
pub(super) fn serve(service: Service, request: &JoinCommand) -> Result<(), ArchiveError> {
    // Not by the library's own streams, whose buffers are copies of the supervisor's.
    let own = |stream: BorrowedFd<'_>| stream.try_clone_to_owned().map(File::from);
    let arg = |index: usize| request.args.get(index).cloned().unwrap_or_default();
    let (path, name) = (PathBuf::from(arg(0)), arg(1));
    match service {
        Service::Pack { follow } => {
            let mut out = BufWriter::with_capacity(
                BUFFER,
                own(io::stdout().as_fd()).map_err(ArchiveError::Sink)?,
            );
            pack(&path, &name, follow, &mut out)?;
            out.flush().map_err(ArchiveError::Sink)
        }
        Service::Unpack { copied, owners } => {
            let (directory, top) = match copied {
                Copied::Anything => (path, None),
                copied => {
                    let content = copied == Copied::Content;
                    let whole = content || copied == Copied::Directory;
                    let target = Target::find(&path, &name, whole, content)?;
                    (target.directory, Some(target.name.unwrap_or_default()))
                }
            };
            let how = Unpacking {
                place: Where::Sandbox,
                directory,
                top,
                owners,
                lasting: request.lasting.clone(),
            };
            unpack(
                BufReader::with_capacity(
                    BUFFER,
                    own(io::stdin().as_fd()).map_err(ArchiveError::Stream)?,
                ),
                &how,
            )
        }
    }
}
