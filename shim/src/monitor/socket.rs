//! The sockets between a monitor and those who ask it something (unix(7)).

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::request::LONGEST;

/// The socket's name in a sandbox's directory.
const NAME: &str = "control";

/// Most descriptors in one message.
const DESCRIPTORS: usize = 16;

/// Listens in a sandbox's directory. For whoever has its lock.
pub fn listen_in(directory: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(directory.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = make(SocketFlags::NONBLOCK)?;
    let (_directory, address) = address(directory)?;
    rustix::net::bind(&listener, &address)?;
    rustix::net::listen(&listener, 64)?;
    Ok(listener)
}

/// Connects to the monitor of the sandbox in a directory.
pub fn connect_to(directory: &Path) -> io::Result<OwnedFd> {
    let socket = make(SocketFlags::empty())?;
    let (_directory, address) = address(directory)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

fn make(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok(socket)
}

/// An address holds 107 bytes, a path may be longer: the directory is named by its descriptor.
fn address(directory: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd());
    let address = SocketAddrUnix::new(path.as_str())?;
    Ok((directory, address))
}

/// The next connection of somebody who may ask; none where nobody waits.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(listener, flags) {
            Ok(connection) if may_ask(connection.as_fd()) => return Ok(Some(connection)),
            Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The same user or root, and never a process of a sandbox, whichever way it came to see the socket: a workspace may hold
/// the data directory.
fn may_ask(connection: BorrowedFd<'_>) -> bool {
    let Ok(peer) = sockopt::socket_peercred(connection) else {
        return false;
    };
    let own = rustix::process::geteuid();
    if peer.uid != own && !peer.uid.is_root() {
        return false;
    }
    if !own.is_root() && peer.uid.is_root() {
        // Root of our own user namespace: a sandbox's root shows as another id here.
        return true;
    }
    ["user", "pid"].into_iter().all(|kind| {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
        let theirs = of(&peer.pid.as_raw_nonzero().to_string());
        theirs.is_some() && theirs == of("self")
    })
}

/// Sends one message; [`Errno::AGAIN`] where the other side does not read and the socket does not wait.
pub fn send(to: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    loop {
        let slices = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(to, &slices, &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

/// Receives one message and its descriptors; none at the end of the connection.
pub fn receive(from: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let count = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(from, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            other => break other?.bytes,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    bytes.truncate(count);
    Ok((count > 0).then_some((bytes, descriptors)))
}
