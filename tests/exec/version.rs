//! What a sandbox says to another version of palisade, as after an upgrade.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket,
};
use palisade_shim::monitor::{Answer, Request};

use crate::rig::until_readable;
use crate::sandbox::Sandboxes;

/// Asks a sandbox's monitor for something in the words of the next version; none where it answers by closing the connection.
fn ask(boxes: &Sandboxes, id: &str, request: Request) -> Option<Answer> {
    let directory = File::open(boxes.rig.path("store/sandboxes").join(id)).unwrap();
    // The path itself may be longer than an address holds.
    let path = format!("/proc/self/fd/{}/control", directory.as_raw_fd());
    let flags = SockFlag::SOCK_CLOEXEC;
    let connection = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    connect(
        connection.as_raw_fd(),
        &UnixAddr::new(path.as_str()).unwrap(),
    )
    .unwrap();
    let mut bytes = request.to_bytes();
    let version = bytes.len() - 4;
    bytes[version] += 1;
    send(connection.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL).unwrap();
    until_readable(&connection, "an answer");
    let mut buffer = [0; 4096];
    let count = recv(connection.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
    (count > 0).then(|| Answer::from_bytes(&buffer[..count]).expect("an answer"))
}

#[test]
fn what_another_version_asks_is_refused_with_a_word_about_it_and_ending_is_not() {
    let boxes = Sandboxes::new();
    let id = boxes.detached(&["--name", "old"], "while :; do sleep 1000; done");
    for request in [
        Request::Join,
        Request::Pause,
        Request::Update,
        Request::Input,
    ] {
        let Some(Answer::Refused { why, advice }) = ask(&boxes, &id, request) else {
            panic!("{request:?} was not refused")
        };
        assert!(why.contains("another version of palisade"), "{why}");
        assert!(advice.contains("palisade restart"), "{advice}");
    }
    assert_eq!(boxes.states(), ["old running"]);
    assert_eq!(ask(&boxes, &id, Request::Signal(18)), Some(Answer::Done));
    let stop = Request::Stop {
        signal: None,
        timeout: None,
    };
    assert_eq!(ask(&boxes, &id, stop), None);
    assert_eq!(boxes.says(&["wait", "old"]), "143");
}
