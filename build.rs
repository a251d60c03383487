//! Lays the functions of a start side by side in the executable, as `launch.ld` lists them.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=launch.ld");
    // Unoptimised builds have other functions.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let directory = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{directory}/launch.ld");
    }
}
