//! `palisade events`.

use std::fmt::Write;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::ArgMatches;
use palisade_shim::state::Event;
use serde_json::{Value, json};

use crate::failure::{Failure, printable, reason};
use crate::format::{Filters, Key, Takes, Template, parse_time, rfc3339};
use crate::sandboxes::registry;
use crate::selection::typed;
use crate::verb::print;

const FILTERS: [Key; 5] = [
    Key::new("container", Takes::Text),
    Key::new("event", Takes::Text),
    Key::new("image", Takes::Text),
    Key::new("label", Takes::Label),
    Key::new(
        "type",
        Takes::Word(&["container", "daemon", "image", "network", "volume"]),
    ),
];

/// Prints events until `--until`, or for ever.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let now = SystemTime::now();
    let time = |name: &str| {
        let typed = matches.get_one::<String>(name);
        typed
            .map(|typed| parse_time(&format!("--{name}"), typed, now))
            .transpose()
    };
    let (since, until) = (time("since")?.unwrap_or(now), time("until")?);
    let filters = Filters::parse(typed(matches), &FILTERS)?;
    let format = matches.get_one::<String>("format");
    let template = format.map(|text| Template::parse(text)).transpose()?;
    let end = until.map(|until| Instant::now() + until.duration_since(now).unwrap_or_default());

    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot read the events: {}", reason(&error)), "")
    };
    let events = registry(matches)?.events();
    let mut follower = events.follow().map_err(failed)?;
    loop {
        for event in follower.read().map_err(failed)? {
            let in_time = event.time >= since && until.is_none_or(|until| event.time <= until);
            if in_time && accepts(&filters, &event) {
                print(&line(&event, template.as_ref())?)?;
            }
        }
        if end.is_some_and(|end| end <= Instant::now()) {
            return Ok(0);
        }
        follower.wait(end).map_err(failed)?;
    }
}

fn accepts(filters: &Filters, event: &Event) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
    filters.accepts("container", |value| {
        attribute("name") == Some(value) || (!value.is_empty() && event.id.starts_with(value))
    }) && filters.accepts("event", |value| {
        // `health_status` stands for `health_status: healthy` and its like.
        event.action.split(':').next() == Some(value) || event.action == value
    }) && filters.is("image", attribute("image").unwrap_or_default())
        && filters.labels(attribute)
        && filters.is("type", "container")
}

fn line(event: &Event, template: Option<&Template>) -> Result<String, Failure> {
    let mut text = String::new();
    if let Some(template) = template {
        text = template.render(&shown(event))?;
    } else {
        let time = rfc3339(event.time);
        let _ = write!(text, "{time} container {} {}", event.action, event.id);
        let attributes: Vec<String> = event
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let _ = write!(text, " ({})", attributes.join(", "));
        text = printable(&text);
    }
    text.push('\n');
    Ok(text)
}

fn shown(event: &Event) -> Value {
    let since = event.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "status": event.action,
        "id": event.id,
        "from": event.attributes.get("image").cloned().unwrap_or_default(),
        "Type": "container",
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": since.as_secs(),
        "timeNano": u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    })
}
