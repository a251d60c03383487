//! `palisade completions` and `palisade man`: made from the same tables as the help.

use std::path::Path;

use clap::{ArgMatches, Command};
use clap_complete::{Shell, generate};

use crate::cli::render;
use crate::failure::{Failure, reason};
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
            Failure::new(
                format!("cannot make the manual page {name}: {}", reason(&error)),
                "",
            )
        })?;
    Ok(text)
}

fn write_page(directory: &Path, command: &Command, name: &str) -> Result<(), Failure> {
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page(command, name)?).map_err(|error| {
        Failure::new(
            format!("cannot write {}: {}", path.display(), reason(&error)),
            "palisade man DIR with an existing directory that you may write to",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every verb's help, as docs/cli.md holds it.
    fn reference() -> String {
        let mut text = "# The command line\n\nMade from the options themselves: \
                        `PALISADE_WRITE_DOCS=1 cargo test the_reference` writes this file.\n"
            .to_owned();
        let mut tree = render::tree();
        tree.build();
        let mut add = |name: &str, command: &Command| {
            // A fixed width, so that the text does not depend on the terminal.
            let help = command
                .clone()
                .bin_name(name.to_owned())
                .term_width(110)
                .render_help();
            let help = help.to_string();
            let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
            text.extend(["\n## ", name, "\n\n```text\n", &lines.join("\n"), "\n```\n"]);
        };
        add("palisade", &tree);
        for verb in tree
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help")
        {
            let name = format!("palisade {}", verb.get_name());
            add(&name, verb);
            for inner in verb
                .get_subcommands()
                .filter(|inner| inner.get_name() != "help")
            {
                add(&format!("{name} {}", inner.get_name()), inner);
            }
        }
        text
    }

    #[test]
    fn the_reference_of_the_command_line_says_what_help_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
        if std::env::var_os("PALISADE_WRITE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        assert_eq!(include_str!("../docs/cli.md"), reference());
    }

    #[test]
    fn every_verb_has_a_manual_page_and_every_shell_a_script() {
        let directory = tempfile::tempdir().unwrap();
        let matches =
            render::man_verb().get_matches_from(["man", directory.path().to_str().unwrap()]);
        assert_eq!(man(&matches).unwrap(), 0);
        let page = std::fs::read_to_string(directory.path().join("palisade-run.1")).unwrap();
        assert!(page.contains("pids\\-limit"));
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            generate(shell, &mut render::tree(), "palisade", &mut script);
            assert!(
                String::from_utf8(script).unwrap().contains("pids-limit"),
                "{shell}"
            );
        }
    }
}
