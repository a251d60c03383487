//! `palisade receipt`: what the shim crate knows of receipts, printed.

pub mod asked;

use std::fmt::Write;
use std::path::PathBuf;

use clap::ArgMatches;
use palisade_shim::receipt::{self, Checked, Expected, PublicKey};
use serde_json::Value;

use crate::failure::{Failure, printable};
use crate::verb::print;

const SCHEMA: &str = include_str!("../../docs/receipt.schema.json");

/// `verify`, `show`, `keygen`, `schema`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    match matches.subcommand() {
        Some(("verify", matches)) => verify(matches),
        Some(("show", matches)) => show(matches),
        Some(("keygen", matches)) => keygen(matches),
        Some(("schema", _)) => print(SCHEMA).map(|()| 0),
        _ => Ok(0),
    }
}

fn files(matches: &ArgMatches) -> Vec<PathBuf> {
    let files = matches.get_many::<String>("FILE");
    files.into_iter().flatten().map(PathBuf::from).collect()
}

fn failed(error: &palisade_shim::Error) -> Failure {
    Failure::new(error.to_string(), error.advice().unwrap_or_default())
}

fn verify(matches: &ArgMatches) -> Result<u8, Failure> {
    let word = |name: &str| matches.get_one::<String>(name);
    let key = word("key").map(|path| PublicKey::read(path.as_ref()));
    let expected = Expected {
        key: key.transpose().map_err(|error| failed(&error))?,
        after: digest("--after", word("after"))?,
        head: digest("--head", word("head"))?,
    };
    let all = receipt::verify(&files(matches), &expected).map_err(|error| failed(&error))?;
    let text = if matches.get_flag("json") {
        json(&all)?
    } else {
        all.iter().map(line).collect()
    };
    print(&text)?;
    Ok(u8::from(
        all.iter().any(|checked| !checked.faults.is_empty()),
    ))
}

/// A digest as `sha256sum` prints it will do too.
fn digest(option: &str, typed: Option<&String>) -> Result<Option<String>, Failure> {
    let Some(typed) = typed else { return Ok(None) };
    let digits = typed.strip_prefix("sha256:").unwrap_or(typed);
    let whole = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !whole {
        return Err(Failure::new(
            format!("{option} {typed} is no SHA-256 digest"),
            format!("{option} sha256: and 64 hexadecimal digits, as a receipt's `digest`"),
        ));
    }
    Ok(Some(format!("sha256:{}", digits.to_ascii_lowercase())))
}

fn json(all: &[Checked]) -> Result<String, Failure> {
    serde_json::to_string_pretty(all)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(format!("cannot print the result: {error}"), ""))
}

/// What is said of one receipt.
fn line(checked: &Checked) -> String {
    let mut text = printable(&checked.file.display().to_string());
    if let Some(line) = checked.line {
        let _ = write!(text, ":{line}");
    }
    if !checked.faults.is_empty() {
        let _ = writeln!(text, ": broken: {}", printable(&checked.faults.join("; ")));
        return text;
    }
    text.push_str(": good");
    if let Some(sequence) = checked.sequence {
        let _ = write!(text, ", number {sequence}");
    }
    if let (Some(code), Some(reason)) = (checked.exit_code, &checked.reason) {
        let _ = write!(text, ", exit code {code} ({reason})");
    }
    match &checked.key {
        None => text.push_str(", not signed"),
        Some(key) if checked.signature_checked => {
            let _ = write!(text, ", signed by {key}");
        }
        Some(key) => {
            let _ = write!(
                text,
                ", names {key} as its key; --key FILE checks its signature"
            );
        }
    }
    text.push('\n');
    printable(text.trim_end()) + "\n"
}

fn show(matches: &ArgMatches) -> Result<u8, Failure> {
    let mut text = String::new();
    for path in files(matches) {
        for receipt in receipt::read_receipts(&path).map_err(|error| failed(&error))? {
            if matches.get_flag("json") {
                let _ = writeln!(text, "{receipt:#}");
            } else {
                text.push_str(&summary(&receipt));
            }
        }
    }
    print(&text).map(|()| 0)
}

/// The receipt in a few lines.
fn summary(receipt: &Value) -> String {
    let mut text = String::new();
    let mut say = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<12} {}", printable(value.trim_end()));
        }
    };
    let word = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(word) => word.clone(),
        other => other.to_string(),
    };
    let words = |value: &Value| {
        let items = value.as_array().into_iter().flatten();
        items.map(word).collect::<Vec<_>>().join(" ")
    };
    let both =
        |one: &Value, other: &Value| format!("{} {}", word(one), word(other)).trim().to_owned();
    let (image, policy, result, usage) = (
        &receipt["image"],
        &receipt["policy"],
        &receipt["result"],
        &receipt["usage"],
    );
    say("sandbox", both(&receipt["id"], &receipt["name"]));
    say("image", both(&image["reference"], &image["manifest"]));
    say("policy", both(&policy["name"], &policy["digest"]));
    say("tier", word(&receipt["tier"]));
    say("command", words(&receipt["command"]["argv"]));
    say("start", word(&receipt["start"]));
    say("end", word(&receipt["end"]));
    match word(&result["reason"]) {
        reason if reason.is_empty() => say("result", word(&receipt["state"])),
        reason => say(
            "result",
            format!("exit code {} ({reason})", word(&result["exit_code"])),
        ),
    }
    say("error", word(&result["error"]));
    say("full", words(&result["full"]));
    if let (Some(cpu), Some(memory)) = (
        usage["cpu_microseconds"].as_u64(),
        usage["memory_peak_bytes"].as_u64(),
    ) {
        let memory = palisade_policies::format_size(memory);
        say("usage", format!("{cpu} µs of CPU time, {memory} of memory"));
    }
    for name in ["stdout", "stderr"] {
        let stream = &receipt["output"][name];
        if let Some(bytes) = stream["bytes"].as_u64() {
            say(name, format!("{bytes} bytes {}", word(&stream["sha256"])));
        }
    }
    for warning in ["warnings", "missing"] {
        for sentence in receipt[warning].as_array().into_iter().flatten() {
            say(warning.trim_end_matches('s'), word(sentence));
        }
    }
    say("protections", protections(receipt));
    say("digest", word(&receipt["digest"]));
    let chain = &receipt["chain"];
    if let Some(sequence) = chain["sequence"].as_u64() {
        say(
            "chain",
            format!("number {sequence} {}", word(&chain["previous"])),
        );
    }
    text.push('\n');
    text
}

fn protections(receipt: &Value) -> String {
    let all = receipt["protections"].as_object().into_iter().flatten();
    let named = all.map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default()));
    named.collect::<Vec<_>>().join(", ")
}

fn keygen(matches: &ArgMatches) -> Result<u8, Failure> {
    for path in files(matches) {
        let public = receipt::generate(&path).map_err(|error| {
            Failure::new(
                error.to_string(),
                "palisade receipt keygen with a new file's name",
            )
        })?;
        print(&format!(
            "{}: sign with run --receipt-key\n{}: check with receipt verify --key\n",
            path.display(),
            public.display()
        ))?;
    }
    Ok(0)
}
