//! The `palisade` command.

mod caller;
mod cli;
mod data;
mod diagnosis;
mod doctor;
mod dry_run;
mod failure;
#[allow(dead_code)] // Verbs take it into use one by one.
#[allow(unused_imports)]
mod format;
mod manual;
mod policy;
mod registry;
mod request;
mod resolve;
mod run;
mod verb;

fn main() -> std::process::ExitCode {
    verb::dispatch(std::env::args_os().skip(1)).into()
}
