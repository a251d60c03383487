//! As much of D-Bus as starting one unit needs: a synchronous client over a Unix socket.
//!
//! Source: the D-Bus specification, <https://dbus.freedesktop.org/doc/dbus-specification.html>. Little-endian only.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;

/// A connection to a message bus, or to a service directly.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

/// A message received.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub kind: u8,
    /// Which call it answers.
    pub reply_to: u32,
    pub member: String,
    /// The name of the error, when it is one.
    pub error: String,
    pub signature: String,
    pub body: Vec<u8>,
}

/// A method to call.
pub(super) struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub signature: &'a str,
    pub body: Vec<u8>,
}

pub(super) const REPLY: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

const CALL: u8 = 1;
/// More than this no message of a service manager has.
const LARGEST: usize = 1 << 20;
/// A busy service manager answers in well under this.
const PATIENCE: Duration = Duration::from_secs(30);

impl Bus {
    /// Connects and authenticates as the effective user.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let uid = hexadecimal(&geteuid().to_string());
        stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut byte = [0];
        // Byte by byte: what follows the line is the first message.
        while !answer.ends_with(b"\r\n") && answer.len() < 512 {
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        if answer.starts_with(b"OK") {
            Ok(Self { stream, serial: 0 })
        } else {
            let answer = String::from_utf8_lossy(&answer).trim().to_owned();
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("authentication answered by {answer:?}"),
            ))
        }
    }

    /// Sends a method call; returns its serial number.
    pub fn send(&mut self, call: &Call) -> io::Result<u32> {
        self.serial += 1;
        self.stream.write_all(&call.marshal(self.serial))?;
        Ok(self.serial)
    }

    /// Waits for the next message.
    pub fn receive(&mut self) -> io::Result<Message> {
        let mut fixed = [0; 16];
        self.stream.read_exact(&mut fixed)?;
        let number = |at: usize| {
            u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]) as usize
        };
        let (body, fields) = (number(4), number(12));
        if fixed[0] != b'l' || fixed[3] != 1 || body > LARGEST || fields > LARGEST {
            return Err(invalid());
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.stream.read_exact(&mut rest)?;
        let body = rest.split_off(fields.next_multiple_of(8));
        rest.truncate(fields);
        let mut message = Message {
            kind: fixed[1],
            body,
            ..Message::default()
        };
        message.read_fields(&rest).ok_or_else(invalid)?;
        Ok(message)
    }

    /// Calls a method and waits for its answer; other messages that arrive meanwhile are dropped.
    pub fn call(&mut self, call: &Call) -> io::Result<Message> {
        let serial = self.send(call)?;
        loop {
            let message = self.receive()?;
            match message.kind {
                REPLY if message.reply_to == serial => return Ok(message),
                ERROR if message.reply_to == serial => {
                    return Err(io::Error::other(message.error_text()));
                }
                _ => {}
            }
        }
    }
}

/// The form in which SASL takes an identity.
fn hexadecimal(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hexadecimal, byte| {
        let _ = write!(hexadecimal, "{byte:02x}");
        hexadecimal
    })
}

fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the message is no D-Bus message",
    )
}

impl Call<'_> {
    fn marshal(&self, serial: u32) -> Vec<u8> {
        let mut fields = Writer::default();
        for (code, kind, value) in [
            (1, "o", self.path),
            (2, "s", self.interface),
            (3, "s", self.member),
            (6, "s", self.destination),
            (8, "g", self.signature),
        ] {
            if value.is_empty() {
                continue;
            }
            fields.align(8);
            fields.0.push(code);
            fields.signature(kind);
            if kind == "g" {
                fields.signature(value);
            } else {
                fields.string(value);
            }
        }
        let mut message = Writer(vec![b'l', CALL, 0, 1]);
        message.number(length(self.body.len()));
        message.number(serial);
        // The array's length, then its elements, which begin at a multiple of eight already.
        message.number(length(fields.0.len()));
        message.0.extend_from_slice(&fields.0);
        message.align(8);
        message.0.extend_from_slice(&self.body);
        message.0
    }
}

impl Message {
    /// The error's name and the text it carries.
    pub fn error_text(&self) -> String {
        let text = if self.signature.starts_with('s') {
            Reader::new(&self.body).string()
        } else {
            None
        };
        text.unwrap_or_else(|| self.error.clone())
    }

    fn read_fields(&mut self, fields: &[u8]) -> Option<()> {
        let mut reader = Reader::new(fields);
        while reader.at < fields.len() {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (3, "s") => self.member = reader.string()?,
                (4, "s") => self.error = reader.string()?,
                (5, "u") => self.reply_to = reader.number()?,
                (8, "g") => self.signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.string()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.number()?),
                _ => return None,
            }
        }
        Some(())
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Writes values in D-Bus's form; alignment counts from the start of the buffer.
#[derive(Default)]
pub(super) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub fn number(&mut self, value: u32) {
        self.align(4);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn string(&mut self, value: &str) {
        self.number(length(value.len()));
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
    }

    pub fn signature(&mut self, value: &str) {
        self.0.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements begin at multiples of `alignment`.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let at = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        elements(self);
        let bytes = length(self.0.len() - start).to_le_bytes();
        self.0[at..at + 4].copy_from_slice(&bytes);
    }
}

/// Reads values in D-Bus's form.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    pub fn number(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_le_bytes)
    }

    pub fn string(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let text = std::str::from_utf8(self.take(length)?).ok()?.to_owned();
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn call() -> Call<'static> {
        let mut body = Writer::default();
        body.string("x");
        Call {
            destination: "a.b",
            path: "/a",
            interface: "a.b",
            member: "M",
            signature: "s",
            body: body.0,
        }
    }

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let expected = b"l\x01\0\x01\x06\0\0\0\x07\0\0\0\x45\0\0\0\
            \x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0\
            \x02\x01s\0\x03\0\0\0a.b\0\0\0\0\0\
            \x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0\
            \x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0\
            \x08\x01g\0\x01s\0\0\
            \x01\0\0\0x\0";
        let mut message = call().marshal(7);
        // The padding between the last field and the body.
        let fields = u32::from_le_bytes(message[12..16].try_into().unwrap()) as usize;
        assert_eq!(message.len(), 16 + fields.next_multiple_of(8) + 6);
        message[12] = 0x45;
        assert_eq!(message, expected);
    }

    #[test]
    fn an_array_of_structures_is_aligned_and_its_length_leaves_out_the_padding() {
        let mut writer = Writer::default();
        writer.number(1);
        writer.array(8, |writer| {
            writer.align(8);
            writer.string("k");
        });
        assert_eq!(writer.0, b"\x01\0\0\0\x06\0\0\0\x01\0\0\0k\0");
    }

    #[test]
    fn a_server_that_answers_is_understood_and_signals_between_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(b"BEGIN\r\n") {
                stream.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
            let uid = hexadecimal(&geteuid().to_string());
            assert_eq!(
                seen,
                format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").into_bytes()
            );
            stream.write_all(b"OK 0123456789abcdef\r\n").unwrap();
            let mut header = [0; 16];
            stream.read_exact(&mut header).unwrap();
            // A signal without body, then the reply to call 1 with one string.
            stream
                .write_all(
                    b"l\x04\0\x01\0\0\0\0\x01\0\0\0\x0a\0\0\0\x03\x01s\0\x01\0\0\0S\0\0\0\0\0\0\0",
                )
                .unwrap();
            stream.write_all(b"l\x02\0\x01\x07\0\0\0\x02\0\0\0\x0f\0\0\0\x05\x01u\0\x01\0\0\0\x08\x01g\0\x01s\0\0\x02\0\0\0ok\0").unwrap();
        });
        let mut bus = Bus::connect(&socket).unwrap();
        let reply = bus.call(&call()).unwrap();
        assert_eq!(Reader::new(&reply.body).string().as_deref(), Some("ok"));
        server.join().unwrap();
    }

    #[test]
    fn broken_messages_are_errors_and_not_panics() {
        for fields in [
            &b"\x03\x01s\0\xff\xff\xff\xff"[..],
            b"\x03",
            b"\x03\xffs",
            b"\x03\x01v\0\0\0\0\0",
            b"\x08\x01g\0\x05s",
        ] {
            assert_eq!(Message::default().read_fields(fields), None, "{fields:?}");
        }
    }
}
