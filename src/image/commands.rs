//! The command line of the verbs on images.

use clap::{Arg, ArgAction, Command, ValueHint};

use crate::cli::registry;

/// The verbs, each as clap knows it.
pub fn verbs() -> Vec<Command> {
    vec![
        list("images"),
        Command::new("image")
            .about("List, inspect, move, tag, remove and prune images")
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommand(list("ls").alias("list"))
            .subcommand(inspect())
            .subcommand(history())
            .subcommand(remove("rm").alias("remove"))
            .subcommand(tag())
            .subcommand(prune())
            .subcommand(size())
            .subcommand(load())
            .subcommand(save())
            .subcommand(import())
            .subcommand(registry::pull_verb())
            .subcommand(registry::push_verb())
            .subcommand(registry::referrers_verb()),
        history(),
        load(),
        save(),
        import(),
        export(),
        commit(),
        manifest(),
        store(),
        remove("rmi"),
        tag(),
    ]
}

fn list(name: &'static str) -> Command {
    Command::new(name)
        .about("List the images of the store")
        .arg(
            Arg::new("NAME").help("Only images of that name: NAME, NAME:TAG, or with * and ? in it"),
        )
        .arg(switch("all", 'a', "All images; there are none that are not shown"))
        .arg(switch("quiet", 'q', "Only ids"))
        .arg(long_switch("digests", "Show the digests that registries know them by"))
        .arg(long_switch("no-trunc", "Show ids in full"))
        .arg(filter("dangling=true|false, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME or reference=PATTERN"))
        .arg(format())
        .arg(root())
}

fn size() -> Command {
    Command::new("size")
        .about("Show how much of each image is shared with others")
        .arg(Arg::new("NAME").help("Only images of that name"))
        .arg(long_switch("no-trunc", "Show ids in full"))
        .arg(format())
        .arg(root())
}

fn inspect() -> Command {
    Command::new("inspect")
        .about("Show everything about images, as JSON")
        .arg(images("A name or id"))
        .arg(
            Arg::new("format")
                .long("format")
                .short('f')
                .value_name("TEMPLATE")
                .help("Print what a Go template makes of it"),
        )
        .arg(platform())
        .arg(root())
}

fn history() -> Command {
    Command::new("history")
        .about("Show how an image was made, the latest step first")
        .arg(Arg::new("IMAGE").required(true).help("A name or id"))
        .arg(switch("quiet", 'q', "Only ids"))
        .arg(
            Arg::new("human")
                .long("human")
                .short('H')
                .value_name("true|false")
                .num_args(0..=1)
                .require_equals(true)
                .default_value("true")
                .default_missing_value("true")
                .value_parser(["true", "false"])
                .help("Sizes and times in words"),
        )
        .arg(long_switch("no-trunc", "Show everything in full"))
        .arg(format())
        .arg(platform())
        .arg(root())
}

fn remove(name: &'static str) -> Command {
    Command::new(name)
        .about("Remove names, and images without any, with everything that no other image needs")
        .arg(images("A name, which is taken away, or an id"))
        .arg(switch(
            "force",
            'f',
            "Also an image that has several names or is in use; do not fail where there is none",
        ))
        .arg(long_switch(
            "no-prune",
            "Accepted for docker's sake: parents are not removed anyway",
        ))
        .arg(root())
}

fn tag() -> Command {
    Command::new("tag")
        .about("Give an image another name")
        .arg(Arg::new("IMAGE").required(true).help("A name or id"))
        .arg(
            Arg::new("NAME")
                .required(true)
                .help("The new name, NAME[:TAG]"),
        )
        .arg(root())
}

fn load() -> Command {
    Command::new("load")
        .about("Load images from an archive that docker, podman, skopeo or palisade wrote")
        .arg(Arg::new("NAME").help("The name it gets, instead of those the archive gives"))
        .arg(
            Arg::new("input")
                .long("input")
                .short('i')
                .value_name("FILE")
                .value_hint(ValueHint::FilePath)
                .help("An archive, or oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF] [default: standard input]"),
        )
        .arg(switch("quiet", 'q', "Accepted for docker's sake: nothing but the names is printed anyway"))
        .arg(platform())
        .arg(root())
}

fn save() -> Command {
    Command::new("save")
        .about("Save images to an archive that docker, podman, skopeo or palisade can load")
        .arg(images("A name, which it has in the archive too, or an id"))
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("FILE")
                .value_hint(ValueHint::FilePath)
                .help("Where to [default: standard output]"),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORM")
                .value_parser(["docker-archive", "oci-archive"])
                .default_value("docker-archive")
                .help("docker-archive can be read as either"),
        )
        .arg(platform())
        .arg(root())
}

fn import() -> Command {
    Command::new("import")
        .about("Make an image of a tar archive of a root directory")
        .arg(
            Arg::new("FILE")
                .required(true)
                .value_hint(ValueHint::FilePath)
                .help("A tar archive, plain, gzip or zstd; - is standard input"),
        )
        .arg(Arg::new("NAME").help("The image's name"))
        .arg(change())
        .arg(text(
            "message",
            'm',
            "MESSAGE",
            "What the image's history says of it",
        ))
        .arg(platform())
        .arg(root())
}

fn export() -> Command {
    Command::new("export")
        .about("Write the files of a sandbox, or of an image, as a tar archive")
        .arg(
            Arg::new("NAME")
                .required(true)
                .help("A sandbox's name or id, else an image's"),
        )
        .arg(
            text("output", 'o', "FILE", "Where to [default: standard output]")
                .value_hint(ValueHint::FilePath),
        )
        .arg(platform())
        .arg(root())
}

fn commit() -> Command {
    Command::new("commit")
        .about("Make an image of what a sandbox changed")
        .after_help("The sandbox has its writable layer on disk (--read-only=false). An image that lies elsewhere, as oci:DIR, comes into the store; a\nprepared directory (dir:PATH) and what was changed become one layer.")
        .arg(
            Arg::new("SANDBOX")
                .required(true)
                .help("A sandbox's name or id"),
        )
        .arg(Arg::new("NAME").help("The image's name"))
        .arg(change())
        .arg(text("author", 'a', "NAME", "Who made it"))
        .arg(text(
            "message",
            'm',
            "MESSAGE",
            "What the image's history says of it",
        ))
        .arg(root())
}

fn manifest() -> Command {
    let list = || Arg::new("LIST").required(true).help("The list's name");
    let member = || {
        Arg::new("IMAGE")
            .required(true)
            .help("Which of the list: a name, an id, or a manifest's digest")
    };
    Command::new("manifest")
        .about("Give images of several platforms one name")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("create")
                .about("Make a list of images of the store")
                .arg(list())
                .arg(images("A name or id"))
                .arg(switch("amend", 'a', "Add to a list that is there"))
                .arg(root()),
        )
        .subcommand(
            described(Command::new("add"))
                .about("Add images to a list, in the place of those for the same platform")
                .arg(list())
                .arg(images("A name or id"))
                .arg(root()),
        )
        .subcommand(
            described(Command::new("annotate"))
                .about("Change what a list says of one of its images")
                .arg(list())
                .arg(member())
                .arg(root()),
        )
        .subcommand(
            Command::new("remove")
                .about("Take an image out of a list")
                .arg(list())
                .arg(member())
                .arg(root()),
        )
        .subcommand(registry::manifest_push())
        .subcommand(remove("rm").about("Remove lists; their images stay if they have names"))
        .subcommand(
            registry::reaching(Command::new("inspect"))
                .about("Show a list, or an image's manifest: of the store, else of its registry")
                .arg(Arg::new("IMAGE").required(true).help("A name or id"))
                .arg(text(
                    "format",
                    'f',
                    "TEMPLATE",
                    "Print what a Go template makes of it",
                ))
                .arg(root()),
        )
}

/// With the options on what a list says of an image.
fn described(command: Command) -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    command
        .arg(option("os", "OS", "The system it is for"))
        .arg(option("arch", "ARCH", "The machine it is for"))
        .arg(option("variant", "VARIANT", "The machine's variant"))
        .arg(option("annotation", "KEY=VALUE", "What else is said of it").action(ArgAction::Append))
}

fn store() -> Command {
    Command::new("store")
        .about("Check what palisade keeps on disk")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("check")
                .about("Verify every digest, and find what is missing and what is left over")
                .after_help("Exit code: 0 when nothing is wrong, or nothing is any more; 1 else")
                .arg(long_switch(
                    "repair",
                    "Remove what is damaged, incomplete or left over",
                ))
                .arg(root()),
        )
}

fn change() -> Arg {
    text("change", 'c', "INSTRUCTION", "Apply a Dockerfile's instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR")
        .action(ArgAction::Append)
}

fn text(long: &'static str, short: char, value: &'static str, help: &'static str) -> Arg {
    Arg::new(long)
        .long(long)
        .short(short)
        .value_name(value)
        .help(help)
}

fn prune() -> Command {
    Command::new("prune")
        .about("Remove images without a name, and everything that nothing leads to any more")
        .arg(switch(
            "all",
            'a',
            "All images that no sandbox was made from",
        ))
        .arg(switch("force", 'f', "Do not ask"))
        .arg(long_filter(
            "until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]",
        ))
        .arg(root())
}

fn images(help: &'static str) -> Arg {
    Arg::new("IMAGE").required(true).num_args(1..).help(help)
}

fn switch(long: &'static str, short: char, help: &'static str) -> Arg {
    long_switch(long, help).short(short)
}

fn long_switch(long: &'static str, help: &'static str) -> Arg {
    Arg::new(long)
        .long(long)
        .action(ArgAction::SetTrue)
        .help(help)
}

fn filter(help: &'static str) -> Arg {
    long_filter(help).short('f')
}

fn long_filter(help: &'static str) -> Arg {
    Arg::new("filter")
        .long("filter")
        .value_name("KEY=VALUE")
        .action(ArgAction::Append)
        .help(help)
}

fn format() -> Arg {
    Arg::new("format")
        .long("format")
        .value_name("TEMPLATE")
        .help("`table`, `json`, or a Go template, with `table` before it for headings")
}

fn platform() -> Arg {
    Arg::new("platform")
        .long("platform")
        .value_name("OS/ARCH")
        .help("Which image of an index [default: this machine's]")
}

fn root() -> Arg {
    Arg::new("root")
        .long("root")
        .value_name("DIR")
        .value_hint(ValueHint::DirPath)
        .help(
            "Where palisade keeps things [default: PALISADE_ROOT, else the user's data directory]",
        )
}
