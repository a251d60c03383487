//! A manifest is read in one way or refused, and an image it describes has only layers that can be unpacked.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use palisade_rootfs::Document;

fuzz_target!(|json: &[u8]| {
    let Ok(document) = Document::parse(json, Path::new("-")) else {
        return;
    };
    let value: serde_json::Value = serde_json::from_slice(json).expect("what was read is JSON");
    match document {
        Document::Index(_) => assert!(value["config"].is_null() && value["layers"].is_null()),
        Document::Manifest(manifest) => {
            assert!(value["manifests"].is_null());
            if manifest.check().is_ok() {
                assert!(
                    manifest
                        .layers
                        .iter()
                        .all(|layer| layer.path().len() == "blobs/sha256/".len() + 64)
                );
            }
        }
    }
});
