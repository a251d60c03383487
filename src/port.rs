//! `palisade port`.

use clap::ArgMatches;

use crate::failure::Failure;
use crate::sandboxes::{failure, registry};

/// A sandbox has no network, or the host's: it publishes no port, and with the host's its own are the host's.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let name = matches
        .get_one::<String>("SANDBOX")
        .map_or("", String::as_str);
    let known = registry(matches)?
        .find(name)
        .and_then(|entry| entry.look())
        .map_err(|error| failure(&error))?;
    let Some(port) = matches.get_one::<String>("PORT") else {
        return Ok(0);
    };
    let network = &known.config.network;
    Err(Failure::new(
        format!("sandbox {name} publishes no port {port}: its network is {network}"),
        "--network host, with which a port inside is the same port of this machine",
    )
    .with_code(1))
}
