//! Copying a stream that cannot be handed to the command itself, without ever blocking on either end.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::{read, write};

use crate::meter::Meter;

/// As much as a pipe holds.
const BUFFER: usize = 64 * 1024;

/// What became of a relay at the last [`Relay::pump`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// There may be more.
    Open,
    /// All was copied, and both ends are closed.
    Ended,
    /// The caller typed the keys that leave a sandbox running.
    Left,
    /// Nobody reads on the other side any more; both ends are closed, so that the writer learns it as it would have directly.
    Broken,
}

/// One direction of copying: from `source` to `sink`, through a buffer of one pipe's size.
#[derive(Debug)]
pub struct Relay {
    ends: Option<(OwnedFd, Sink)>,
    may_block: MayBlock,
    buffer: Vec<u8>,
    held: Range<usize>,
    last: bool,
    meter: Option<Rc<Meter>>,
    /// How much more is read at most, once only the rest is wanted.
    rest: Option<usize>,
    leave: Option<Leave>,
    /// Whether anything came.
    came: bool,
}

/// Keys that end a relay when they come one after the other.
#[derive(Debug)]
struct Leave {
    keys: Vec<u8>,
    /// How many of them came last; these are held back.
    typed: usize,
}

/// Where a relay writes to.
#[derive(Debug)]
pub struct Sink {
    /// The descriptor.
    pub fd: OwnedFd,
    /// The most to write at once: where the descriptor blocks, what poll(2) promises to fit.
    pub chunk: usize,
    /// Whether it is a socket, which need not be in non-blocking mode to take only what fits.
    pub socket: bool,
}

impl Sink {
    /// A descriptor in non-blocking mode: it takes what fits.
    pub fn unblocking(fd: OwnedFd) -> Self {
        Self {
            fd,
            chunk: BUFFER,
            socket: false,
        }
    }

    /// A socket, in whatever mode.
    pub fn socket(fd: OwnedFd) -> Self {
        Self {
            socket: true,
            ..Self::unblocking(fd)
        }
    }

    fn write(&self, bytes: &[u8]) -> nix::Result<usize> {
        if self.socket {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            send(self.fd.as_raw_fd(), bytes, flags)
        } else {
            write(&self.fd, bytes)
        }
    }
}

impl Relay {
    /// Copies from `source` to `sink`. Neither is waited for, in whatever mode it is: a terminal of somebody else, as after
    /// su(1), cannot be opened anew, and its mode is shared with the caller's shell.
    pub fn new(source: OwnedFd, sink: Sink) -> Self {
        let may_block = MayBlock {
            source: blocks(&source),
            sink: !sink.socket && blocks(&sink.fd),
        };
        Self {
            may_block,
            ends: Some((source, sink)),
            buffer: Vec::new(),
            held: 0..0,
            last: false,
            meter: None,
            rest: None,
            leave: None,
            came: false,
        }
    }

    /// The same, with what passes measured.
    pub fn measured(mut self, meter: Option<Rc<Meter>>) -> Self {
        self.meter = meter;
        self
    }

    /// Ends with [`Flow::Left`] when these keys come one after the other. Until it is clear that they do not, what may be
    /// their beginning is held back. No keys end nothing.
    #[must_use]
    pub fn leaving(mut self, keys: &[u8]) -> Self {
        let (keys, typed) = (keys.to_vec(), 0);
        self.leave = (!keys.is_empty()).then_some(Leave { keys, typed });
        self
    }

    /// Whether anything has come from its source.
    pub fn came(&self) -> bool {
        self.came
    }

    /// What to wait for before the next [`pump`](Self::pump); none when the relay is over.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let (source, sink) = self.ends.as_ref()?;
        Some(if self.held.is_empty() {
            (source.as_fd(), PollFlags::POLLIN)
        } else {
            (sink.fd.as_fd(), PollFlags::POLLOUT)
        })
    }

    /// The writer that counts is gone: what is in the source now is wanted, and no more than it can hold of what others
    /// go on writing.
    pub fn rest(&mut self) {
        self.last = true;
        self.rest = self.ends.as_ref().map(|(source, _)| capacity(source));
    }

    /// Reads once where the buffer is empty, and writes once.
    pub fn pump(&mut self) -> Flow {
        let Some((source, sink)) = self.ends.as_ref() else {
            return Flow::Ended;
        };
        if self.held.is_empty() {
            if self.may_block.source && !is_ready(source.as_fd(), PollFlags::POLLIN) {
                return if self.last {
                    self.end(Flow::Ended)
                } else {
                    Flow::Open
                };
            }
            if self.buffer.is_empty() {
                self.buffer.resize(BUFFER, 0);
            }
            let most = self.rest.map_or(BUFFER, |rest| rest.min(BUFFER));
            match read(source, &mut self.buffer[..most]) {
                Err(Errno::EINTR) => return Flow::Open,
                Err(Errno::EAGAIN) if !self.last => return Flow::Open,
                // EIO is how a pty master says that its other side is closed.
                Ok(0) | Err(_) => return self.end(Flow::Ended),
                Ok(count) => {
                    self.came = true;
                    let mut count = count;
                    if let Some(leave) = &mut self.leave {
                        let Some(passed) = leave.pass(&self.buffer[..count]) else {
                            return self.end(Flow::Left);
                        };
                        count = passed.len();
                        self.buffer.resize(count.max(BUFFER), 0);
                        self.buffer[..count].copy_from_slice(&passed);
                    }
                    let admitted = self
                        .meter
                        .as_ref()
                        .map_or(count, |meter| meter.admit(count));
                    self.held = 0..admitted;
                    self.rest = self.rest.map(|rest| rest - count);
                }
            }
            if self.held.is_empty() {
                return Flow::Open;
            }
        }
        if self.may_block.sink && !is_ready(sink.fd.as_fd(), PollFlags::POLLOUT) {
            return Flow::Open;
        }
        let end = self.held.end.min(self.held.start + sink.chunk);
        match sink.write(&self.buffer[self.held.start..end]) {
            Ok(count) => {
                let passed = self.held.start..self.held.start + count;
                if let Some(meter) = &self.meter {
                    meter.passed(&self.buffer[passed.clone()]);
                }
                self.held.start = passed.end;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return self.end(Flow::Broken),
        }
        Flow::Open
    }

    fn end(&mut self, flow: Flow) -> Flow {
        self.ends = None;
        self.buffer = Vec::new();
        self.held = 0..0;
        flow
    }
}

/// Which ends would make a call wait.
#[derive(Clone, Copy, Debug)]
struct MayBlock {
    source: bool,
    sink: bool,
}

/// The most bytes that can wait in a source.
pub fn capacity(source: &OwnedFd) -> usize {
    // A terminal holds a little more than a pipe usually does, in two places; all else holds less.
    let pipe = fcntl(source, FcntlArg::F_GETPIPE_SZ).map(usize::try_from);
    pipe.map_or(2 * BUFFER, |size| size.unwrap_or_default().max(BUFFER))
}

/// Whether a descriptor is in blocking mode.
fn blocks(fd: &OwnedFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFL)
        .is_ok_and(|flags| !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK))
}

/// Whether a call would not wait now.
fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, flags)];
    poll(&mut fds, PollTimeout::ZERO) != Ok(0)
}

impl Leave {
    /// What of the held back and these bytes is to be passed on; none where all keys came.
    fn pass(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(bytes.len() + self.typed);
        for &byte in bytes {
            if byte != self.keys[self.typed] {
                passed.extend_from_slice(&self.keys[..self.typed]);
                self.typed = 0;
            }
            if byte == self.keys[self.typed] {
                self.typed += 1;
            } else {
                passed.push(byte);
            }
            if self.typed == self.keys.len() {
                return None;
            }
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::thread;

    use nix::fcntl::OFlag;
    use nix::poll::{PollFd, PollTimeout, poll};
    use nix::unistd::pipe2;

    use super::{Flow, Relay, Sink};
    use crate::stdio::set_nonblocking;

    #[test]
    fn a_descriptor_that_would_make_the_caller_wait_is_left_until_it_is_ready() {
        let (source, mut typed) = std::io::pipe().unwrap();
        let (full, sink) = std::io::pipe().unwrap();
        let mut relay = Relay::new(source.into(), Sink::unblocking(OwnedFd::from(sink)));
        assert_eq!(relay.pump(), Flow::Open);
        typed.write_all(&vec![b'a'; 65536]).unwrap();
        assert_eq!(relay.pump(), Flow::Open);
        // The sink is full, and nobody reads.
        typed.write_all(b"b").unwrap();
        assert_eq!(relay.pump(), Flow::Open);
        drop(full);
        assert_eq!(relay.pump(), Flow::Broken);
    }

    #[test]
    fn keys_that_leave_are_held_back_until_they_are_others() {
        let leave = |typed: &[&[u8]]| {
            let mut leave = super::Leave {
                keys: vec![16, 17, b'x'],
                typed: 0,
            };
            let mut passed = Vec::new();
            for bytes in typed {
                match leave.pass(bytes) {
                    Some(bytes) => passed.extend(bytes),
                    None => return (passed, true),
                }
            }
            (passed, false)
        };
        assert_eq!(leave(&[b"ab", &[16], &[17]]), (b"ab".to_vec(), false));
        assert_eq!(leave(&[&[16], &[17], b"x"]), (vec![], true));
        assert_eq!(leave(&[&[16, 17], b"y"]), (vec![16, 17, b'y'], false));
        assert_eq!(leave(&[&[16, 16, 17, b'x']]), (vec![], true));
        assert_eq!(
            leave(&[&[16, 16, 17], b"z"]),
            (vec![16, 16, 17, b'z'], false)
        );
    }

    /// A relay between two pipes: (where the writer writes, the relay, where the reader reads).
    fn between_pipes() -> (OwnedFd, Relay, OwnedFd) {
        let (source, input) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (output, sink) = pipe2(OFlag::O_CLOEXEC).unwrap();
        set_nonblocking(&source).unwrap();
        set_nonblocking(&sink).unwrap();
        (input, Relay::new(source, Sink::unblocking(sink)), output)
    }

    fn pump_until_closed(relay: &mut Relay) -> Flow {
        loop {
            let Some((fd, flags)) = relay.interest() else {
                return Flow::Ended;
            };
            poll(&mut [PollFd::new(fd, flags)], PollTimeout::NONE).unwrap();
            match relay.pump() {
                Flow::Open => {}
                flow => return flow,
            }
        }
    }

    #[test]
    fn sixty_four_mebibytes_arrive_complete_and_in_order() {
        let (input, mut relay, output) = between_pipes();
        let block: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
        let expected = block.clone();
        let writer = thread::spawn(move || {
            let mut input = File::from(input);
            for _ in 0..64 {
                input.write_all(&block).unwrap();
            }
        });
        let reader = thread::spawn(move || {
            let mut output = File::from(output);
            let mut got = vec![0; expected.len()];
            for _ in 0..64 {
                output.read_exact(&mut got).unwrap();
                assert!(got == expected, "a block differs");
            }
            assert_eq!(output.read(&mut got).unwrap(), 0);
        });
        assert_eq!(pump_until_closed(&mut relay), Flow::Ended);
        writer.join().unwrap();
        reader.join().unwrap();
    }

    #[test]
    fn a_reader_that_went_away_closes_the_pipe_under_the_writer() {
        let (input, mut relay, output) = between_pipes();
        drop(output);
        let mut input = File::from(input);
        input.write_all(b"unread").unwrap();
        assert_eq!(pump_until_closed(&mut relay), Flow::Broken);
        let error = input.write_all(b"more").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_is_in_the_pipe_is_copied_even_when_a_stranger_keeps_it_open() {
        let (input, mut relay, output) = between_pipes();
        let mut input = File::from(input);
        input.write_all(b"the last words").unwrap();
        relay.rest();
        while relay.pump() == Flow::Open {}
        let mut got = String::new();
        File::from(output).read_to_string(&mut got).unwrap();
        assert_eq!(got, "the last words");
        drop(input);
    }

    #[test]
    fn of_a_pipe_that_others_go_on_filling_only_as_much_as_it_holds_is_copied() {
        let (input, mut relay, output) = between_pipes();
        set_nonblocking(&input).unwrap();
        let (mut input, mut output) = (File::from(input), File::from(output));
        input.write_all(b"the end").unwrap();
        relay.rest();
        let mut copied = Vec::new();
        loop {
            let flow = relay.pump();
            let mut got = vec![0; super::BUFFER];
            if flow != Flow::Open {
                output.read_to_end(&mut copied).unwrap();
                break;
            }
            let count = output.read(&mut got).unwrap();
            copied.extend_from_slice(&got[..count]);
            // A full pipe takes no more.
            let _ = input.write(&got);
        }
        assert!(copied.starts_with(b"the end"));
        assert_eq!(copied.len(), super::BUFFER);
    }

    #[test]
    fn what_a_pty_holds_is_copied_after_its_other_side_closed() {
        let pty = nix::pty::openpty(None, None).unwrap();
        set_nonblocking(&pty.master).unwrap();
        let (output, sink) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut relay = Relay::new(pty.master, Sink::unblocking(sink));
        File::from(pty.slave).write_all(b"bye\n").unwrap();
        assert_eq!(pump_until_closed(&mut relay), Flow::Ended);
        let mut got = String::new();
        File::from(output).read_to_string(&mut got).unwrap();
        assert_eq!(got, "bye\r\n");
    }
}
