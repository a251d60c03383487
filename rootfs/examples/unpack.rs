//! Resolves an image into a store and says what came of it: `unpack STORE REFERENCE [caller|kept]`.

use std::process::ExitCode;
use std::time::Instant;

use palisade_rootfs::{Error, Ownership, Platform, Reference, Store};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, reference, rest @ ..] = &arguments[..] else {
        eprintln!("usage: unpack STORE REFERENCE [caller|kept]");
        return ExitCode::from(2);
    };
    let ownership = if rest.first().is_some_and(|word| word == "kept") {
        Ownership::Kept
    } else {
        Ownership::Caller
    };
    match resolve(store, reference, ownership) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unpack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn resolve(store: &str, reference: &str, ownership: Ownership) -> Result<(), Error> {
    let start = Instant::now();
    let store = Store::open(store.as_ref())?;
    let image = store.resolve(&Reference::parse(reference)?, &Platform::host(), ownership)?;
    let took = start.elapsed();
    image
        .layers
        .iter()
        .for_each(|layer| println!("{}", layer.path.display()));
    image
        .notes
        .iter()
        .for_each(|note| eprintln!("note: {note}"));
    eprintln!("{} layers in {} µs", image.layers.len(), took.as_micros());
    Ok(())
}
