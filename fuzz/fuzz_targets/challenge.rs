//! A WWW-Authenticate header is read or refused, and what is read is an address that may be asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_rootfs::registry::Challenge;

fuzz_target!(|text: &str| {
    for challenge in Challenge::parse(text).unwrap_or_default() {
        if let Challenge::Bearer { realm, .. } = challenge {
            assert!(realm.starts_with("https://") || realm.starts_with("http://"));
            assert!(!realm.contains(|c: char| c.is_control() && c != '\t'));
        }
    }
});
