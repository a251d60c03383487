//! The `palisade` command.

mod caller;
mod cli;
mod data;
mod dry_run;
mod failure;
mod manual;
mod policy;
mod request;
mod resolve;
mod run;
mod verb;

fn main() -> std::process::ExitCode {
    verb::dispatch(std::env::args_os().skip(1)).into()
}
