//! `--change`: instructions of a Dockerfile applied to an image's configuration.

use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// Applies one instruction to the `config` object of a configuration document.
pub fn apply(config: &mut Map<String, Value>, change: &str) -> Result<(), Failure> {
    let wrong = |why: &str| {
        Failure::new(
            format!("--change `{change}`: {why}"),
            "--change with CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR, as in a Dockerfile",
        )
    };
    let (word, rest) = change
        .trim()
        .split_once(char::is_whitespace)
        .unwrap_or((change.trim(), ""));
    let rest = rest.trim();
    let word = word.to_ascii_uppercase();
    if rest.is_empty() {
        return Err(wrong("nothing follows the instruction"));
    }
    match word.as_str() {
        "CMD" | "ENTRYPOINT" => {
            let key = if word == "CMD" { "Cmd" } else { "Entrypoint" };
            config.insert(key.to_owned(), json!(command(rest)));
            if word == "ENTRYPOINT" && !change.contains("CMD") {
                // As in a Dockerfile: the command of before belonged to another entrypoint.
                config.remove("Cmd");
            }
        }
        "ENV" => {
            let mut all = strings(config, "Env");
            for (name, value) in pairs(rest).ok_or_else(|| wrong("it is not NAME=value"))? {
                all.retain(|entry| entry.split('=').next() != Some(&name));
                all.push(format!("{name}={value}"));
            }
            config.insert("Env".to_owned(), json!(all));
        }
        "LABEL" => {
            let all = pairs(rest).ok_or_else(|| wrong("it is not NAME=value"))?;
            let labels = object(config, "Labels");
            for (name, value) in all {
                labels.insert(name, json!(value));
            }
        }
        "EXPOSE" => {
            let ports = object(config, "ExposedPorts");
            for port in rest.split_whitespace() {
                let port = if port.contains('/') {
                    port.to_owned()
                } else {
                    format!("{port}/tcp")
                };
                ports.insert(port, json!({}));
            }
        }
        "VOLUME" => {
            let all = match serde_json::from_str::<Vec<String>>(rest) {
                Ok(all) => all,
                Err(_) => rest.split_whitespace().map(str::to_owned).collect(),
            };
            let volumes = object(config, "Volumes");
            for volume in all {
                volumes.insert(volume, json!({}));
            }
        }
        "USER" => drop(config.insert("User".to_owned(), json!(rest))),
        "WORKDIR" => {
            let before = config.get("WorkingDir").and_then(Value::as_str);
            let dir = match before {
                Some(before) if !rest.starts_with('/') => {
                    format!("{}/{rest}", before.trim_end_matches('/'))
                }
                _ => rest.to_owned(),
            };
            config.insert("WorkingDir".to_owned(), json!(dir));
        }
        "STOPSIGNAL" => drop(config.insert("StopSignal".to_owned(), json!(rest))),
        "ONBUILD" => {
            let mut all = strings(config, "OnBuild");
            all.push(rest.to_owned());
            config.insert("OnBuild".to_owned(), json!(all));
        }
        _ => return Err(wrong("there is no such instruction")),
    }
    Ok(())
}

/// A JSON array, else a line for the shell.
fn command(text: &str) -> Vec<String> {
    serde_json::from_str(text)
        .unwrap_or_else(|_| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn strings(config: &Map<String, Value>, key: &str) -> Vec<String> {
    let all = config.get(key).and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = config.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("it was made an object above"),
    }
}

/// `A=b C="d e"`, or the old form `A b c`. Quotes and backslashes are taken away as a shell would.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().push(chars.next()?),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return None;
    }
    words.extend(word);
    let pair = |word: &String| {
        let (name, value) = word.split_once('=')?;
        (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    };
    if words.first()?.contains('=') {
        return words.iter().map(pair).collect();
    }
    let (name, value) = text.split_once(char::is_whitespace)?;
    Some(vec![(name.to_owned(), value.trim().to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Value {
        let mut config = Map::new();
        config.insert("Env".to_owned(), json!(["PATH=/bin", "A=old"]));
        for change in changes {
            apply(&mut config, change).unwrap_or_else(|e| panic!("{change}: {e}"));
        }
        Value::Object(config)
    }

    #[test]
    fn each_instruction_changes_what_it_does_in_a_dockerfile() {
        let config = changed(&[
            "CMD [\"sh\", \"-c\", \"x\"]",
            "ENV A=new B=\"two words\" C=a\\ b",
            "env OLD form of it",
            "LABEL l=m",
            "EXPOSE 80 53/udp",
            "VOLUME [\"/v\"]",
            "USER 1000:1000",
            "WORKDIR /a",
            "WORKDIR b",
            "STOPSIGNAL SIGINT",
        ]);
        assert_eq!(
            config,
            json!({
                "Cmd": ["sh", "-c", "x"],
                "Env": ["PATH=/bin", "A=new", "B=two words", "C=a b", "OLD=form of it"],
                "Labels": {"l": "m"},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "Volumes": {"/v": {}},
                "User": "1000:1000",
                "WorkingDir": "/a/b",
                "StopSignal": "SIGINT",
            })
        );
        assert_eq!(
            changed(&["CMD echo $X"])["Cmd"],
            json!(["/bin/sh", "-c", "echo $X"])
        );
        assert_eq!(changed(&["CMD x", "ENTRYPOINT [\"e\"]"]).get("Cmd"), None);
    }

    #[test]
    fn what_is_no_such_instruction_is_refused() {
        for bad in ["", "CMD", "RUN x", "ENV x", "ENV =x", "LABEL a=\"b"] {
            assert!(apply(&mut Map::new(), bad).is_err(), "{bad} was accepted");
        }
    }
}
