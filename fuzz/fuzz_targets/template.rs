//! A template is refused, or ends with a text of bounded size; so do filters and times.
#![no_main]
#![allow(dead_code, unused_imports)]

use std::time::UNIX_EPOCH;

use libfuzzer_sys::fuzz_target;
use serde_json::json;

#[path = "../../src/format/mod.rs"]
mod format;

use format::{Filters, Key, Listing, Row, Takes, Template, parse_time};

const LISTING: Listing = Listing {
    headings: &[("ID", "CONTAINER ID"), ("Name", "NAME"), ("Labels", "LABELS")],
    table: "{{.ID}}",
    quiet: "{{.ID}}",
};

fuzz_target!(|text: &str| {
    let value = json!({
        "Id": "4f5e", "Name": "/agent", "Pid": 42, "None": null, "Ratio": 0.5, "Running": true,
        "Mounts": [{"Type": "bind", "Source": "/srv/w", "RW": true}, {"Type": "volume", "RW": false}],
        "Labels": {"a.b": "1", "c": "x:y"},
    });
    if let Ok(template) = Template::parse(text)
        && let Ok(text) = template.render(&value)
    {
        assert!(text.len() <= 128 << 20);
    }
    let row = Row::new([("ID", "4f5e".into()), ("Name", "é".into())]).with_labels([("a.b", "1")]);
    if let Ok(text) = LISTING.print(Some(text), false, &[row]) {
        assert!(text.ends_with('\n') || text.is_empty());
    }
    let keys = [Key::new("name", Takes::Pattern), Key::new("label", Takes::Label)];
    if let Ok(filters) = Filters::parse(text.lines(), &keys) {
        let _ = (filters.finds("name", text), filters.labels(|_| Some("1")));
    }
    let _ = parse_time("--since", text, UNIX_EPOCH);
});
