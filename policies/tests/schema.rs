//! The JSON Schema for editors and the reference keep up with what the reader reads.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use palisade_policies::{KEYS, Policy};
use serde_json::Value;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The keys of every object that the schema closes, as the reader names them.
fn keys_of(schema: &Value, section: &str, keys: &mut BTreeSet<String>) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    assert_eq!(
        schema["additionalProperties"],
        Value::Bool(false),
        "{section} takes unknown keys"
    );
    for (name, property) in properties {
        let path = if section.is_empty() {
            name.clone()
        } else {
            format!("{section}.{name}")
        };
        assert!(
            property["description"].is_string(),
            "{path} has no description"
        );
        keys_of(property, &path, keys);
        let items = &property["items"];
        keys_of(items, &path, keys);
        for choice in items["anyOf"].as_array().into_iter().flatten() {
            keys_of(choice, &path, keys);
        }
        keys.insert(path);
    }
}

#[test]
fn the_schema_has_the_keys_that_the_reader_reads() {
    let schema: Value = serde_json::from_str(&document("policy.schema.json")).expect("JSON");
    let mut in_schema = BTreeSet::new();
    keys_of(&schema, "", &mut in_schema);
    let read: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(in_schema, read);
}

#[test]
fn the_schema_has_the_words_that_the_reader_reads() {
    let schema: Value = serde_json::from_str(&document("policy.schema.json")).expect("JSON");
    for key in KEYS {
        let mut node = &schema;
        for part in key.path.split('.') {
            node = [
                &node["properties"][part],
                &node["items"]["properties"][part],
            ]
            .into_iter()
            .find(|found| !found.is_null())
            .unwrap_or(&Value::Null);
        }
        for word in node["enum"].as_array().into_iter().flatten() {
            let word = word.as_str().expect("a word");
            let text = match key.section() {
                "" => format!("{} = {word:?}", key.name()),
                section => format!("[{section}]\n{} = {word:?}", key.name()),
            };
            Policy::parse(&text, "schema").unwrap_or_else(|error| panic!("{error}"));
            assert!(
                key.expects.contains(&format!("{word:?}")),
                "{}: {word}",
                key.path
            );
        }
    }
}

#[test]
fn the_reference_describes_every_key() {
    let reference = document("policy.md");
    for key in KEYS {
        assert!(
            reference.contains(&format!("`{}`", key.name())),
            "docs/policy.md does not describe {}",
            key.path
        );
    }
}

#[test]
fn the_examples_of_the_reference_are_policies() {
    let reference = document("policy.md");
    let examples: Vec<&str> = reference
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(examples.len() >= 8, "{} examples", examples.len());
    for example in examples {
        Policy::parse(example, "docs/policy.md")
            .unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}
