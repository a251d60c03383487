//! JSON values as Go's templates see them: what is true, what equals what, how a value is printed.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::{Number, Value};

/// What Go calls the type, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

/// False, nought, nothing and whatever is empty are not true.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as `%v` prints it.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, 0);
    out
}

fn write(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null if depth == 0 => out.push_str("<no value>"),
        Value::Null => out.push_str("<nil>"),
        Value::Bool(yes) => {
            let _ = write!(out, "{yes}");
        }
        Value::Number(number) if number.is_f64() => {
            out.push_str(&shortest(number.as_f64().unwrap_or_default()));
        }
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Value::String(text) => out.push_str(text),
        Value::Array(list) => {
            out.push('[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                write(out, value, depth + 1);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write(out, value, depth + 1);
            }
            out.push(']');
        }
    }
}

/// `%v` of a float: the shortest text that reads back the same, with an exponent below 1e-4 and from 1e21 on.
fn shortest(number: f64) -> String {
    if number != 0.0 && !(1e-4..1e21).contains(&number.abs()) {
        return exponent(&format!("{number:e}"));
    }
    format!("{number}")
}

/// Go writes at least two digits of an exponent, and its sign.
pub fn exponent(text: &str) -> String {
    let Some((digits, power)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{digits}e{sign}{power:0>2}")
}

/// A number as Go writes them: decimal, `0x`, `0o`, `0b`, with underscores, with a fraction or an exponent.
pub fn number(typed: &str) -> Option<Number> {
    let (negative, digits) = match typed.as_bytes().first()? {
        b'-' => (true, &typed[1..]),
        b'+' => (false, &typed[1..]),
        _ => (false, typed),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || digits.ends_with('_') {
        return None;
    }
    let plain = digits.replace('_', "").to_ascii_lowercase();
    let (radix, body) = match plain.get(..2) {
        Some("0x") => (16, &plain[2..]),
        Some("0o") => (8, &plain[2..]),
        Some("0b") => (2, &plain[2..]),
        Some(start) if start.starts_with('0') && plain.bytes().all(|b| b.is_ascii_digit()) => {
            (8, &plain[1..])
        }
        _ => (10, plain.as_str()),
    };
    if let Ok(size) = u64::from_str_radix(body, radix) {
        return if negative {
            0_i64.checked_sub_unsigned(size).map(Number::from)
        } else {
            Some(Number::from(size))
        };
    }
    if radix != 10 {
        return None;
    }
    let size: f64 = plain.parse().ok()?;
    Number::from_f64(if negative { -size } else { size })
}

/// Go's `eq` of two values, or why they cannot be compared.
pub fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Null, b) | (b, Value::Null) => Ok(b.is_null()),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            Err("non-comparable type: use len, index or json".to_owned())
        }
        (Value::String(a), Value::String(b)) => Ok(a == b),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Number(a), Value::Number(b)) => Ok(compare(a, b) == Some(Ordering::Equal)),
        _ => Err(incompatible(a, b)),
    }
}

/// Which of two values comes first, for `lt` and the like.
pub fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => Ok(compare(a, b).unwrap_or(Ordering::Equal)),
        _ => Err(incompatible(a, b)),
    }
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!(
        "incompatible types for comparison: {} and {}",
        kind(a),
        kind(b)
    )
}

fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    let whole = |number: &Number| {
        number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_print_as_go_prints_them() {
        for (value, expected) in [
            (json!("a b"), "a b"),
            (json!(true), "true"),
            (json!(-3), "-3"),
            (json!(1.5), "1.5"),
            (json!(2.0), "2"),
            (json!(1e21), "1e+21"),
            (json!(0.000_01), "1e-05"),
            (json!([1, "x", null]), "[1 x <nil>]"),
            (json!({"b": 1, "a": {"c": []}}), "map[a:map[c:[]] b:1]"),
            (json!(null), "<no value>"),
        ] {
            assert_eq!(text(&value), expected);
        }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (typed, expected) in [
            ("0", "0"),
            ("42", "42"),
            ("-7", "-7"),
            ("+7", "7"),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("0o17", "15"),
            ("017", "15"),
            ("1_000", "1000"),
            ("1.50", "1.5"),
            ("1e3", "1000.0"),
        ] {
            assert_eq!(number(typed).unwrap().to_string(), expected, "{typed}");
        }
        for typed in ["", "-", "0x", "1a", "08", "1__", "--1", "inf", "1e999"] {
            assert!(number(typed).is_none(), "{typed}");
        }
    }

    #[test]
    fn a_number_and_a_text_cannot_be_compared() {
        assert_eq!(equal(&json!(1), &json!(1.0)), Ok(true));
        assert!(
            equal(&json!(1), &json!("1"))
                .unwrap_err()
                .contains("incompatible")
        );
        assert!(order(&json!([]), &json!([])).is_err());
    }
}
