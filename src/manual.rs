//! `palisade completions` and `palisade man`: made from the same tables as the help.

use std::path::Path;

use clap::{ArgMatches, Command};
use clap_complete::{Shell, generate};

use crate::cli::render;
use crate::failure::Failure;
use crate::verb::print;

/// Prints the completion script of a shell.
pub fn completions(matches: &ArgMatches) -> Result<u8, Failure> {
    let shell = match matches.get_one::<String>("SHELL").map(String::as_str) {
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    generate(shell, &mut render::tree(), "palisade", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// Prints the manual page of the whole command, or writes one page per verb into a directory.
pub fn man(matches: &ArgMatches) -> Result<u8, Failure> {
    let mut tree = render::tree();
    tree.build();
    let Some(directory) = matches.get_one::<String>("DIR") else {
        print(&String::from_utf8_lossy(&page(&tree, "palisade")?))?;
        return Ok(0);
    };
    let directory = Path::new(directory);
    write_page(directory, &tree, "palisade")?;
    for verb in tree
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
    {
        let name = format!("palisade-{}", verb.get_name());
        write_page(directory, verb, &name)?;
    }
    Ok(0)
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let named = command.clone().display_name(name.to_owned());
    clap_mangen::Man::new(named)
        .title(name.to_uppercase())
        .render(&mut text)
        .map_err(|error| {
            Failure::new(format!("cannot make the manual page {name}: {error}"), "")
        })?;
    Ok(text)
}

fn write_page(directory: &Path, command: &Command, name: &str) -> Result<(), Failure> {
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page(command, name)?).map_err(|error| {
        Failure::new(
            format!("cannot write {}: {error}", path.display()),
            "palisade man DIR with an existing directory that you may write to",
        )
    })
}
