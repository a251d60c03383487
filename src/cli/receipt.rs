//! `palisade receipt` as clap knows it.

use clap::{Arg, ArgAction, Command, ValueHint};

/// `palisade receipt`.
pub fn verb() -> Command {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .required(true)
            .help(help)
            .value_hint(ValueHint::FilePath)
    };
    let digest = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("DIGEST").help(help)
    };
    let json = |help: &'static str| {
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help(help)
    };
    Command::new("receipt")
        .about("Verify and show the receipts of runs, and make keys to sign them with")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("verify")
                .about(
                    "Check receipts, and logs of them, in the order given: digest, signature, and place in their chain; \
                     exit code 1 if anything is wrong",
                )
                .arg(
                    Arg::new("key")
                        .long("key")
                        .value_name("FILE")
                        .help("Public key in PEM that must have signed every one")
                        .value_hint(ValueHint::FilePath),
                )
                .arg(digest("after", "Digest of the receipt before the first, where the chain is not given from its beginning"))
                .arg(digest("head", "Digest of the last: finds receipts that were removed from the end"))
                .arg(json("Print an array of objects instead of lines"))
                .arg(file("FILE", "Receipts or logs").num_args(1..)),
        )
        .subcommand(
            Command::new("show")
                .about("Print what receipts say, without checking it")
                .arg(json("Print the receipts themselves, without signature"))
                .arg(file("FILE", "Receipts or logs").num_args(1..)),
        )
        .subcommand(Command::new("schema").about("Print the JSON Schema of receipts"))
        .subcommand(
            Command::new("keygen")
                .about("Make an Ed25519 key to sign receipts with: FILE for --receipt-key, FILE.pub for verify --key")
                .arg(file("FILE", "A file that does not exist yet")),
        )
}
