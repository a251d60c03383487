//! The `palisade` command.

mod caller;
mod cli;
mod failure;
mod manual;
mod policy;
mod request;
mod run;
mod verb;

fn main() -> std::process::ExitCode {
    verb::dispatch(std::env::args_os().skip(1)).into()
}
