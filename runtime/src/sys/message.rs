//! Messages with descriptors beside them (unix(7), `SCM_RIGHTS`), from and into memory of a fixed size: nix's own take the
//! memory for the descriptors from the heap, which may not happen between clone and exec.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::c_int;
use nix::Result;
use nix::errno::Errno;

use super::received_descriptor;

/// The most descriptors that one message can carry (`SCM_MAX_FD` of the kernel).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// Room for a header and that many numbers, aligned as a cmsghdr must be.
struct Space([u64; 4 + MOST_DESCRIPTORS / 2]);

impl Space {
    const EMPTY: Self = Self([0; 4 + MOST_DESCRIPTORS / 2]);
}

/// A message of `bytes`, with no name and no control data yet.
fn about(bytes: &libc::iovec) -> libc::msghdr {
    // SAFETY: msghdr is plain data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = std::ptr::from_ref(bytes).cast_mut();
    message.msg_iovlen = 1;
    message
}

/// Sends `bytes` and a descriptor as one message. A receiver that is gone is an error, not a signal.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptor: BorrowedFd<'_>) -> Result<()> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut space = Space::EMPTY;
    let mut message = about(&part);
    message.msg_control = space.0.as_mut_ptr().cast();
    // SAFETY: takes an integer only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as usize;
    // SAFETY: the control buffer is larger than one header, and aligned for it.
    let header = unsafe { &mut *libc::CMSG_FIRSTHDR(&raw const message) };
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: takes an integer only.
    header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) } as usize;
    let number = descriptor.as_raw_fd().to_ne_bytes();
    // SAFETY: the data of the header, four bytes, lies inside the buffer.
    unsafe { libc::CMSG_DATA(header).cast::<[u8; 4]>().write(number) };
    // SAFETY: every pointer in the message is valid for its length; sendmsg(2) only reads.
    Errno::result(unsafe {
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    })
    .map(drop)
}

/// Receives one message into `bytes`, and its descriptors into `into`, in order. Returns how many there are of both; no byte
/// is the end. Descriptors are close-on-exec.
///
/// # Errors
/// EMSGSIZE for more descriptors than there is room for: those beyond are closed.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    into: &mut [Option<OwnedFd>],
    flags: c_int,
) -> Result<(usize, usize)> {
    let part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut space = Space::EMPTY;
    let mut message = about(&part);
    message.msg_control = space.0.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Space>();
    let flags = flags | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: every pointer in the message is valid for its length, and what they lead to is ours to write.
    let received =
        Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;
    let mut count = 0;
    let mut too_many = false;
    // SAFETY: the kernel has filled in the control buffer that the message describes.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: a non-null header of CMSG_FIRSTHDR or CMSG_NXTHDR lies inside the buffer.
        let control = unsafe { &*header };
        if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the data of a header starts inside the buffer; the length is what the kernel wrote.
            let (data, overhead) = unsafe { (libc::CMSG_DATA(header), libc::CMSG_LEN(0) as usize) };
            for index in 0..(control.cmsg_len - overhead) / size_of::<RawFd>() {
                // SAFETY: `index` is below the number of descriptors in this header.
                let number = unsafe {
                    data.add(index * size_of::<RawFd>())
                        .cast::<[u8; 4]>()
                        .read()
                };
                let descriptor = received_descriptor(RawFd::from_ne_bytes(number));
                match into.get_mut(count) {
                    Some(slot) => *slot = Some(descriptor),
                    None => too_many = true,
                }
                count += 1;
            }
        }
        // SAFETY: `header` came from this message.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    if too_many {
        return Err(Errno::EMSGSIZE);
    }
    Ok((received as usize, count))
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read as _, Write as _};
    use std::os::fd::AsFd as _;

    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
    };

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let (family, kind) = (AddressFamily::Unix, SockType::SeqPacket);
        socketpair(family, kind, None, SockFlag::SOCK_CLOEXEC).expect("a pair")
    }

    #[test]
    fn a_descriptor_arrives_open_and_closes_at_exec() {
        let (ours, theirs) = pair();
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        send(ours.as_fd(), b"word", writer.as_fd()).expect("sent");
        drop(writer);
        let (mut bytes, mut slot) = ([0; 8], [None]);
        let counts = receive(theirs.as_fd(), &mut bytes, &mut slot, 0).expect("received");
        assert_eq!((counts, &bytes[..4]), ((4, 1), b"word".as_slice()));
        let writer = slot[0].take().expect("a descriptor");
        let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFD).expect("flags");
        assert_eq!(flags, libc::FD_CLOEXEC);
        std::fs::File::from(writer)
            .write_all(b"through")
            .expect("open");
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("text");
        assert_eq!(read, "through");
    }

    #[test]
    fn more_descriptors_than_expected_are_refused_and_closed() {
        let (ours, theirs) = pair();
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let two = [writer.as_raw_fd(); 2];
        let rights = [ControlMessage::ScmRights(&two)];
        let part = [IoSlice::new(b"word")];
        sendmsg::<()>(ours.as_raw_fd(), &part, &rights, MsgFlags::empty(), None).expect("sent");
        drop(writer);
        let (mut bytes, mut slot) = ([0; 8], [None]);
        let received = receive(theirs.as_fd(), &mut bytes, &mut slot, 0);
        assert_eq!(received, Err(Errno::EMSGSIZE));
        drop(slot);
        // Its end is the end of the last copy.
        assert_eq!(reader.read(&mut [0; 1]).expect("an end"), 0);
    }

    #[test]
    fn the_other_sides_end_is_no_message() {
        let (ours, theirs) = pair();
        drop(ours);
        assert_eq!(receive(theirs.as_fd(), &mut [0; 8], &mut [], 0), Ok((0, 0)));
    }
}
