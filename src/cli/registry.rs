//! `pull`, `push`, `login` and `logout` as clap knows them.

use clap::{Arg, ArgAction, Command, ValueHint};

/// `palisade pull`.
pub fn pull_verb() -> Command {
    reaching(
        Command::new("pull")
            .about("Fetch images from registries")
            .after_help(
                "Where a name leads: docs/images.md. What has arrived when a pull is broken off is kept, and the next goes on from there.",
            )
            .arg(
                image("The image, as debian, debian:12, ghcr.io/owner/name:tag or name@sha256:…")
                    .num_args(1..),
            )
            .arg(all_tags("Every tag of the repository; what is no image is left out"))
            .arg(
                Arg::new("platform")
                    .long("platform")
                    .value_name("OS/ARCH[/VARIANT]")
                    .help("Which of an image's platforms [default: this machine's]"),
            ),
    )
    .arg(root())
    .arg(quiet("Print the image's name alone"))
    .arg(json())
}

/// `palisade push`.
pub fn push_verb() -> Command {
    reaching(
        Command::new("push")
            .about("Send an image of the store to a registry")
            .arg(image(
                "The name, as localhost:5000/app:1.0; palisade tag gives an image another",
            ))
            .arg(destination().conflicts_with("all-tags"))
            .arg(all_tags("Every tag that the repository has in the store"))
            .arg(compression()),
    )
    .arg(root())
    .arg(quiet("Print the name alone"))
    .arg(json())
}

/// `palisade manifest push`.
pub fn manifest_push() -> Command {
    reaching(
        Command::new("push")
            .about("Send a list, and the images in it, to a registry")
            .arg(image("The list's name"))
            .arg(destination())
            .arg(
                Arg::new("all")
                    .long("all")
                    .action(ArgAction::SetTrue)
                    .help("Accepted for podman's sake: the images of the list are always sent"),
            )
            .arg(
                Arg::new("purge")
                    .long("purge")
                    .visible_alias("rm")
                    .short('p')
                    .action(ArgAction::SetTrue)
                    .help("Take the name away here when the list is there"),
            )
            .arg(compression()),
    )
    .arg(root())
    .arg(quiet("Print the name alone"))
    .arg(json())
}

/// `palisade image referrers`.
pub fn referrers_verb() -> Command {
    reaching(
        Command::new("referrers")
            .about("List what refers to an image at its registry: signatures, attestations, lists of what is in it")
            .arg(image("The image"))
            .arg(
                Arg::new("artifact-type")
                    .long("artifact-type")
                    .value_name("TYPE")
                    .help("Only what is of this type"),
            )
            .arg(
                Arg::new("format")
                    .long("format")
                    .value_name("TEMPLATE")
                    .help("`table`, `json`, or a Go template, with `table` before it for headings"),
            )
            .arg(
                Arg::new("quiet")
                    .short('q')
                    .long("quiet")
                    .action(ArgAction::SetTrue)
                    .help("Only digests"),
            ),
    )
}

/// `palisade login`.
pub fn login_verb() -> Command {
    reaching(
        Command::new("login")
            .about("Log in to a registry, and keep the credentials where docker keeps them")
            .arg(server())
            .arg(
                Arg::new("username")
                    .short('u')
                    .long("username")
                    .value_name("NAME")
                    .help("The user's name [default: asked for on the terminal]"),
            )
            .arg(
                Arg::new("password")
                    .short('p')
                    .long("password")
                    .value_name("PASSWORD")
                    .conflicts_with("password-stdin")
                    .help("The password or token; others on this machine see it: --password-stdin hides it"),
            )
            .arg(
                Arg::new("password-stdin")
                    .long("password-stdin")
                    .action(ArgAction::SetTrue)
                    .help("Read the password or token from standard input"),
            ),
    )
}

/// `palisade logout`.
pub fn logout_verb() -> Command {
    Command::new("logout")
        .about("Forget the credentials for a registry")
        .arg(server())
}

fn image(help: &'static str) -> Arg {
    Arg::new("IMAGE").required(true).help(help)
}

fn destination() -> Arg {
    Arg::new("DESTINATION").help("The name it gets there [default: the same]")
}

fn all_tags(help: &'static str) -> Arg {
    Arg::new("all-tags")
        .short('a')
        .long("all-tags")
        .action(ArgAction::SetTrue)
        .help(help)
}

fn compression() -> Arg {
    Arg::new("compression-format")
        .long("compression-format")
        .value_name("FORM")
        .value_parser(["gzip", "zstd"])
        .help("How all layers are compressed [default: gzip for those that are not]")
}

fn server() -> Arg {
    Arg::new("SERVER")
        .default_value("docker.io")
        .value_hint(ValueHint::Hostname)
        .help("The registry's host, with its port if it is not the usual one")
}

fn quiet(help: &'static str) -> Arg {
    Arg::new("quiet")
        .short('q')
        .long("quiet")
        .action(ArgAction::SetTrue)
        .help(help)
}

fn json() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .conflicts_with("quiet")
        .help("Print what happens as JSON, one object a line")
}

/// With the options on how a registry is reached.
pub fn reaching(command: Command) -> Command {
    command.arg(
        Arg::new("ca-file")
            .long("ca-file")
            .value_name("FILE")
            .action(ArgAction::Append)
            .value_hint(ValueHint::FilePath)
            .help("Believe the certificates in this file (PEM) too"),
    )
}

fn root() -> Arg {
    Arg::new("root")
        .long("root")
        .value_name("DIR")
        .value_hint(ValueHint::DirPath)
        .help("Where images are kept [default: $PALISADE_ROOT, else the user's data directory]")
}
