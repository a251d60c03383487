//! A configuration is refused, or what it says is fit to be used.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_rootfs::ImageConfig;

fuzz_target!(|json: &[u8]| {
    if let Ok(config) = ImageConfig::parse(json) {
        let texts = config
            .env
            .iter()
            .chain(&config.cmd)
            .chain(&config.entrypoint)
            .chain([&config.working_dir, &config.user]);
        assert!(texts.into_iter().all(|text| !text.contains('\0')));
        assert!(
            config
                .env
                .iter()
                .all(|entry| entry.find('=').is_some_and(|at| at > 0))
        );
        assert!(config.working_dir.is_empty() || config.working_dir.starts_with('/'));
    }
});
