//! The text of a unit.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use palisade_shim::state::Config;

use super::quote::{Part, line, word};
use crate::cli::options::given;
use crate::cli::run::{self, OPTIONS};
use crate::failure::Failure;

/// Beyond the time that the command has to stop: for the monitor to put the sandbox away.
const SLACK: Duration = Duration::from_mins(1);

/// What the unit does itself, or what ends with the command line.
const LEFT_OUT: [&str; 9] = [
    "cidfile",
    "detach",
    "dry-run",
    "name",
    "replace",
    "restart",
    "rm",
    "root",
    "sig-proxy",
];

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// `--new`: a new sandbox at each start.
    pub new: bool,
    /// `--name`: by its name, not its id.
    pub named: bool,
    /// `--restart-policy`.
    pub restart: String,
    /// `--restart-sec`.
    pub pause: Option<u64>,
    /// `--start-timeout`, in seconds.
    pub start: Option<u64>,
    /// `--time`: how long the command has to stop; none for what the sandbox says.
    pub stop: Option<Duration>,
    /// `--env`.
    pub env: Vec<String>,
    /// `--after`, `--requires` and `--wants`.
    pub after: Vec<String>,
    /// See there.
    pub requires: Vec<String>,
    /// See there.
    pub wants: Vec<String>,
    /// `--no-header`.
    pub bare: bool,
}

/// Where things are on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// This program.
    pub program: &'a Path,
    /// The data directory.
    pub data: &'a Path,
    /// The unit's file name.
    pub unit: &'a str,
}

/// The unit of a sandbox.
///
/// # Errors
/// What cannot be started by a unit, and why.
pub fn text(config: &Config, wishes: &Wishes, machine: Machine<'_>) -> Result<String, Failure> {
    let stop = wishes.stop.unwrap_or(config.stop_timeout).as_secs();
    let what = if wishes.new || wishes.named {
        config.name.as_str()
    } else {
        config.id.as_str()
    };
    let palisade = |arguments: &[&str]| {
        let mut text = word(&machine.program.to_string_lossy(), Part::Program);
        for argument in arguments {
            text.push(' ');
            text.push_str(&word(argument, Part::Argument));
        }
        text
    };
    let data = machine.data.to_string_lossy();
    let seconds = stop.to_string();
    let start = if wishes.new {
        anew(config, &data, &palisade)?
    } else {
        if config.auto_remove {
            return Err(Failure::new(
                format!(
                    "sandbox {} is removed when it ends (--rm), and a unit could not start it again",
                    config.name
                ),
                format!("palisade generate systemd --new {}", config.name),
            ));
        }
        palisade(&["start", "--root", &data, "--attach", what])
    };

    let mut out = String::new();
    if !wishes.bare {
        let _ = write!(
            out,
            "# {}\n# Made by palisade {} generate systemd\n\n",
            line(machine.unit),
            env!("CARGO_PKG_VERSION")
        );
    }
    let mut say = |key: &str, value: &str| {
        let _ = writeln!(out, "{key}={value}");
    };
    say(
        "[Unit]\nDescription",
        &line(&format!("Palisade sandbox {what}")),
    );
    let list = |first: &[&str], more: &[String]| {
        let first = first.iter().map(|unit| (*unit).to_owned());
        // Names of units have no quotes (systemd.syntax(7)).
        let more = more.iter().map(|unit| line(unit));
        first.chain(more).collect::<Vec<_>>().join(" ")
    };
    say("Wants", &list(&["network-online.target"], &wishes.wants));
    say("After", &list(&["network-online.target"], &wishes.after));
    if !wishes.requires.is_empty() {
        say("Requires", &list(&[], &wishes.requires));
    }
    say("RequiresMountsFor", &word(&data, Part::Value));

    say("\n[Service]\nType", "exec");
    say("Environment", "PALISADE_SYSTEMD_UNIT=%n");
    for variable in &wishes.env {
        say("Environment", &word(variable, Part::Value));
    }
    if wishes.new && !config.made_in.is_empty() {
        if !fills_a_line(&config.made_in) {
            return Err(Failure::new(
                format!(
                    "sandbox {} was made in {:?}, and a unit cannot name that directory",
                    config.name, config.made_in
                ),
                "make it in a directory whose path has no line breaks, and neither a blank nor a backslash at its end",
            ));
        }
        // A path fills its line: no quotes, no escapes but the specifiers'.
        say("WorkingDirectory", &config.made_in.replace('%', "%%"));
    }
    say("ExecStart", &start);
    // A sandbox that has ended by itself cannot be stopped, and one that has gone not removed: neither is a failure.
    let stop_it = palisade(&["stop", "--root", &data, "--time", &seconds, what]);
    say("ExecStop", &format!("-{stop_it}"));
    if wishes.new {
        let remove = palisade(&["rm", "--root", &data, "--force", "--volumes", what]);
        say("ExecStopPost", &format!("-{remove}"));
    }
    say("Restart", &wishes.restart);
    if let Some(pause) = wishes.pause {
        say("RestartSec", &pause.to_string());
    }
    if let Some(start) = wishes.start {
        say("TimeoutStartSec", &start.to_string());
    }
    say("TimeoutStopSec", &(stop + SLACK.as_secs()).to_string());
    // Ended by the stop signal, as it was asked to, is no failure.
    say("SuccessExitStatus", &(128 + config.stop_signal).to_string());
    // The sandbox's own supervisor is to hear of the end from palisade stop.
    say("KillMode", "mixed");

    say("\n[Install]\nWantedBy", "default.target");
    Ok(out)
}

/// Whether systemd reads a path to the end of its line as it is: it cuts blanks, and a backslash joins the next line.
fn fills_a_line(path: &str) -> bool {
    !path.contains(char::is_control) && !path.ends_with([' ', '\\'])
}

/// The command line that made the sandbox, in the foreground, and with what takes the place of an earlier one.
fn anew(
    config: &Config,
    data: &str,
    palisade: &dyn Fn(&[&str]) -> String,
) -> Result<String, Failure> {
    let (options, operands) = asked(config)?;
    let name = format!("--name={}", config.name);
    let mut lines = vec![palisade(&[
        "run",
        "--root",
        data,
        "--rm",
        "--replace",
        &name,
    ])];
    for (option, value) in &options {
        if LEFT_OUT.contains(option) {
            continue;
        }
        lines.push(match value {
            Some(value) => word(&format!("--{option}={value}"), Part::Argument),
            None => format!("--{option}"),
        });
    }
    let mut command = vec!["--".to_owned()];
    command.extend(operands.iter().map(|text| word(text, Part::Argument)));
    lines.push(command.join(" "));
    Ok(lines.join(" \\\n    "))
}

/// The options and operands that made the sandbox.
#[expect(clippy::type_complexity)] // Two lists, said once.
fn asked(config: &Config) -> Result<(Vec<(&'static str, Option<String>)>, Vec<String>), Failure> {
    let mut words = config.typed.iter().map(Into::into);
    let unknown = || {
        Failure::new(
            format!(
                "how sandbox {} was made is not in its record, or not as text",
                config.name
            ),
            format!("palisade generate systemd {}, without --new", config.name),
        )
    };
    if words.next().is_none() {
        return Err(unknown());
    }
    let (options, operands) = given::<run::RunArguments>("run", OPTIONS, words)?;
    let text = |word: std::ffi::OsString| word.into_string().map_err(|_| unknown());
    let options = options
        .into_iter()
        .map(|(name, value)| Ok((name, value.map(text).transpose()?)))
        .collect::<Result<_, Failure>>()?;
    let operands = operands.into_iter().map(text).collect::<Result<_, _>>()?;
    Ok((options, operands))
}

/// Variables whose values the command line took from its caller, which a unit does not have: `-e NAME`.
///
/// # Errors
/// As [`text`] with `--new`.
pub fn inherited(config: &Config, wishes: &Wishes) -> Result<Vec<String>, Failure> {
    let (options, _) = asked(config)?;
    let set = |name: &str| {
        let mut given = wishes.env.iter();
        given.any(|variable| variable.split('=').next() == Some(name))
    };
    Ok(options
        .into_iter()
        .filter(|(option, _)| *option == "env")
        .filter_map(|(_, value)| value)
        .filter(|value| !value.contains('=') && !set(value))
        .collect())
}

/// Whether values of variables are in the unit, which no other user is to read.
pub fn holds_values(config: &Config, wishes: &Wishes) -> bool {
    let typed = || {
        asked(config).is_ok_and(|(options, _)| {
            options.iter().any(|(option, value)| {
                *option == "env" && value.as_ref().is_some_and(|value| value.contains('='))
            })
        })
    };
    !wishes.env.is_empty() || (wishes.new && typed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(typed: &[&str]) -> Config {
        Config {
            id: "c0ffee".repeat(10) + "abcd",
            name: "web".into(),
            typed: typed.iter().map(|word| (*word).to_owned()).collect(),
            made_in: "/srv/a 100%".into(),
            stop_timeout: Duration::from_secs(7),
            stop_signal: 2,
            ..Config::default()
        }
    }

    fn made(config: &Config, wishes: &Wishes) -> Result<String, Failure> {
        let machine = Machine {
            program: Path::new("/usr/bin/palisade"),
            data: Path::new("/var/lib/palisade"),
            unit: "palisade-web.service",
        };
        text(config, wishes, machine)
    }

    /// The value of a setting, with continued lines joined.
    fn value<'a>(unit: &'a str, key: &str) -> Option<&'a str> {
        let at = unit.find(&format!("\n{key}="))? + key.len() + 2;
        let rest = &unit[at..];
        let end = rest
            .match_indices('\n')
            .find(|(at, _)| !rest[..*at].ends_with('\\'))
            .map_or(rest.len(), |(at, _)| at);
        Some(&rest[..end])
    }

    fn wishes(new: bool) -> Wishes {
        Wishes {
            new,
            named: true,
            restart: "on-failure".into(),
            ..Wishes::default()
        }
    }

    #[test]
    fn a_unit_starts_the_sandbox_that_is_there_and_stops_it_in_its_time() {
        let unit = made(&config(&[]), &wishes(false)).unwrap();
        assert_eq!(
            value(&unit, "ExecStart"),
            Some("/usr/bin/palisade start --root /var/lib/palisade --attach web")
        );
        assert_eq!(
            value(&unit, "ExecStop"),
            Some("-/usr/bin/palisade stop --root /var/lib/palisade --time 7 web")
        );
        assert_eq!(value(&unit, "TimeoutStopSec"), Some("67"));
        assert_eq!(value(&unit, "SuccessExitStatus"), Some("130"));
        assert_eq!(value(&unit, "WorkingDirectory"), None);
        let by_id = Wishes {
            named: false,
            stop: Some(Duration::from_secs(30)),
            ..wishes(false)
        };
        let unit = made(&config(&[]), &by_id).unwrap();
        assert!(value(&unit, "ExecStart").unwrap().ends_with("c0ffeeabcd"));
        assert_eq!(value(&unit, "TimeoutStopSec"), Some("90"));
    }

    #[test]
    fn a_new_sandbox_is_made_as_the_first_one_was_but_in_the_foreground() {
        let typed = [
            "run",
            "-dit",
            "--name",
            "web",
            "--restart=always",
            "-e",
            "A=100% $HOME",
            "-v",
            "./x y:/w",
            "--read-only=false",
            "image",
            "sh",
            "-c",
            "echo \"$1\"\necho 2",
            "--name",
            "",
        ];
        let unit = made(&config(&typed), &wishes(true)).unwrap();
        let start = value(&unit, "ExecStart").unwrap().replace("\\\n", "");
        let words: Vec<&str> = start.split_whitespace().collect();
        assert_eq!(
            &words[..10],
            [
                "/usr/bin/palisade",
                "run",
                "--root",
                "/var/lib/palisade",
                "--rm",
                "--replace",
                "--name=web",
                "--interactive",
                "--tty",
                "\"--env=A=100%%"
            ]
        );
        assert!(start.contains("\"--volume=./x y:/w\""), "{start}");
        assert!(start.contains("--read-only=false"), "{start}");
        assert!(
            start.ends_with(r#"-- image sh -c "echo \"$$1\"\necho 2" --name """#),
            "{start}"
        );
        assert!(!start.contains("--detach") && !start.contains("--restart"));
        assert_eq!(value(&unit, "WorkingDirectory"), Some("/srv/a 100%%"));
        assert!(made(&config(&[]), &wishes(true)).is_err());
    }

    #[test]
    fn units_are_named_without_quotes() {
        let asked = Wishes {
            after: vec!["a-b\\x20c.service".into(), "d@e.service".into()],
            requires: vec!["f.service".into()],
            ..wishes(false)
        };
        let unit = made(&config(&[]), &asked).unwrap();
        assert_eq!(
            value(&unit, "After"),
            Some("network-online.target a-b\\x20c.service d@e.service")
        );
        assert_eq!(value(&unit, "Requires"), Some("f.service"));
    }

    #[test]
    fn a_directory_that_does_not_fill_its_line_is_refused() {
        for path in ["/srv/a\\", "/srv/a ", "/srv/a\nUser=root"] {
            let config = Config {
                made_in: path.into(),
                ..config(&["run", "image"])
            };
            assert!(made(&config, &wishes(true)).is_err(), "{path}");
            assert!(made(&config, &wishes(false)).is_ok(), "{path}");
        }
    }

    #[test]
    fn what_is_removed_at_its_end_can_only_be_made_anew() {
        let passing = Config {
            auto_remove: true,
            ..config(&["run", "--rm", "image"])
        };
        let failure = made(&passing, &wishes(false)).unwrap_err();
        assert!(failure.remedy().contains("--new"));
        assert!(made(&passing, &wishes(true)).is_ok());
    }

    #[test]
    fn variables_of_the_caller_are_named_unless_they_are_given() {
        let config = config(&["run", "-e", "TOKEN", "-e", "B=1", "-e", "C", "image"]);
        let given = Wishes {
            env: vec!["C=3".into()],
            ..wishes(true)
        };
        assert_eq!(inherited(&config, &given).unwrap(), ["TOKEN"]);
    }
}
