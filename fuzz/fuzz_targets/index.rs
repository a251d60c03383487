//! Of an index, an entry is chosen that fits, or none; what it is called never leads out of the layout.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use palisade_rootfs::{Index, Name, Platform};

fuzz_target!(|json: &[u8]| {
    let Ok(index) = Index::parse(json, Path::new("-")) else {
        return;
    };
    let host = Platform::host();
    if let Ok(chosen) = index.choose(&host) {
        assert!(chosen.platform.as_ref().is_none_or(|p| host.accepts(p)));
        assert!(!chosen.path().contains(".."));
    }
    for entry in &index.manifests {
        if let Some(name) = entry.name().and_then(|name| Name::parse(name).ok()) {
            assert!(entry.is_called(&name) || name.digest.is_some());
        }
    }
});
