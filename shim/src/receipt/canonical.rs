//! The one way to write a JSON document that has a digest: RFC 8785.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// `value` as RFC 8785 writes it: no space, keys sorted by their UTF-16 code units.
///
/// Its numbers must be whole: a receipt has no others, and this writes them with all their digits.
pub fn text(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text, None);
    text
}

/// The same for people: two spaces a level, and a newline at the end.
pub fn indented(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text, Some(0));
    text.push('\n');
    text
}

/// The digest of the canonical text, as receipts have it: `sha256:` and 64 hexadecimal digits.
pub fn digest(value: &Value) -> String {
    written(Sha256::digest(text(value)).into())
}

/// `sha256:` and the hexadecimal digits of a hash.
pub fn written(hash: [u8; 32]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in hash {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Writes a value that stands at this depth, or without space where there is none.
fn write(value: &Value, text: &mut String, depth: Option<usize>) {
    let inner = depth.map(|depth| depth + 1);
    match value {
        Value::Array(items) if !items.is_empty() => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(text, index, inner);
                write(item, text, inner);
            }
            line(text, depth);
            text.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            text.push('{');
            for (index, (key, item)) in sorted(map).into_iter().enumerate() {
                separate(text, index, inner);
                // As text, serde_json escapes exactly what RFC 8785 says.
                text.push_str(&Value::from(key).to_string());
                text.push_str(if inner.is_some() { ": " } else { ":" });
                write(item, text, inner);
            }
            line(text, depth);
            text.push('}');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

fn separate(text: &mut String, index: usize, depth: Option<usize>) {
    if index > 0 {
        text.push(',');
    }
    line(text, depth);
}

fn line(text: &mut String, depth: Option<usize>) {
    if let Some(depth) = depth {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut entries: Vec<_> = map.iter().map(|(key, item)| (key.as_str(), item)).collect();
    entries.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    entries
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{digest, indented, text};

    #[test]
    fn keys_are_sorted_by_their_utf16_units_at_every_level() {
        // The example of RFC 8785, section 3.2.3.
        let value = json!({
            "\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": {"b": [], "a": {}},
        });
        assert_eq!(
            text(&value),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":{\"a\":{},\"b\":[]},\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}"
        );
    }

    #[test]
    fn strings_are_escaped_as_rfc_8785_says() {
        let value = json!("\u{8}\t\n\u{c}\r\"\\/\u{0}\u{1f}\u{7f}\u{20ac}");
        assert_eq!(
            text(&value),
            "\"\\b\\t\\n\\f\\r\\\"\\\\/\\u0000\\u001f\u{7f}\u{20ac}\""
        );
    }

    #[test]
    fn for_people_there_is_a_line_for_each_value() {
        let value = json!({"b": [1, {}], "a": {"c": []}});
        let expected = "{\n  \"a\": {\n    \"c\": []\n  },\n  \"b\": [\n    1,\n    {}\n  ]\n}\n";
        assert_eq!(indented(&value), expected);
    }

    #[test]
    fn a_digest_is_that_of_the_canonical_text() {
        // printf '{"a":1}' | sha256sum
        assert_eq!(
            digest(&json!({"a": 1})),
            "sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
        );
    }
}
