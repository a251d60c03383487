//! A reference is parsed or refused, and one that is parsed is parsed to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_rootfs::{Platform, Reference, Users};

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        let again = Reference::parse(&reference.to_string())
            .expect("what was parsed is refused when written");
        assert_eq!(again.to_string(), reference.to_string());
    }
    let _ = Platform::parse(text);
    // The same text as a user, and as the file that users are looked up in.
    let users = Users {
        passwd: text.as_bytes().to_vec(),
        group: text.as_bytes().to_vec(),
    };
    for name in [text, "root", "1000"] {
        if let Ok(user) = users.resolve(name) {
            assert!(user.uid != u32::MAX && user.gid != u32::MAX);
        }
    }
});
