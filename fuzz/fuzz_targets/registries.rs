//! A registries.conf is read or refused, and whatever it says a name leads to hosts and repositories, or nowhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_rootfs::Name;
use palisade_rootfs::registry::Configuration;

const NAMES: [&str; 4] = [
    "debian",
    "ghcr.io/owner/name:tag",
    "a.inner.corp:5000/x",
    "x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

fuzz_target!(|text: &str| {
    let mut configuration = Configuration::default();
    if configuration.add(text).is_err() {
        return;
    }
    for name in NAMES {
        let name = Name::parse(name).expect("it is a name");
        let Ok(name) = configuration.complete(&name) else {
            continue;
        };
        for endpoint in configuration.endpoints(&name).unwrap_or_default() {
            let whole = format!("{}/{}", endpoint.registry, endpoint.repository);
            assert!(Name::parse(&whole).is_ok(), "{whole}");
        }
    }
});
