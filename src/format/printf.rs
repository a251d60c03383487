//! Go's `fmt.Sprintf` for the values of templates.

use std::fmt::Write;

use serde_json::Value;

use super::value::{exponent, kind, text};

/// A width or precision beyond this is Go's `BADWIDTH` here.
const WIDEST: usize = 10_000;

/// What stands between `%` and the verb.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // Flags as they are written.
struct Spec {
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// The text; what is wrong is said in it, as Go does.
pub fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut rest = arguments.iter();
    let mut characters = format.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = characters.next_if(|c| "-+ 0#".contains(*c)) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => spec.sharp = true,
            }
        }
        spec.width = count(&mut characters, &mut rest);
        if characters.next_if_eq(&'.').is_some() {
            spec.precision = Some(count(&mut characters, &mut rest).unwrap_or(0));
        }
        let Some(verb) = characters.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if spec.width.is_some_and(|n| n > WIDEST) || spec.precision.is_some_and(|n| n > WIDEST) {
            out.push_str("%!(BADWIDTH)");
        } else if verb == '%' {
            out.push('%');
        } else if let Some(value) = rest.next() {
            one(&mut out, verb, &spec, value);
        } else {
            out.push_str("%!");
            out.push(verb);
            out.push_str("(MISSING)");
        }
    }
    let extra: Vec<String> = rest
        .map(|value| format!("{}={}", kind(value), text(value)))
        .collect();
    if !extra.is_empty() {
        out.push_str("%!(EXTRA ");
        out.push_str(&extra.join(", "));
        out.push(')');
    }
    out
}

/// Digits, or `*` for the next argument.
fn count(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    rest: &mut std::slice::Iter<'_, Value>,
) -> Option<usize> {
    if characters.next_if_eq(&'*').is_some() {
        let number = rest.next().and_then(Value::as_u64);
        return Some(number.map_or(WIDEST + 1, |n| usize::try_from(n).unwrap_or(WIDEST + 1)));
    }
    let mut number = None;
    while let Some(digit) = characters.next_if(char::is_ascii_digit) {
        let digit = digit.to_digit(10).unwrap_or(0) as usize;
        number = Some((number.unwrap_or(0) * 10 + digit).min(WIDEST + 1));
    }
    number
}

fn one(out: &mut String, verb: char, spec: &Spec, value: &Value) {
    let body = match (verb, value) {
        ('v', Value::String(text)) if spec.sharp => Some(quoted(text)),
        ('v', Value::Number(number)) if !number.is_f64() => integer(spec, number, 10),
        ('v', value) => Some(cut(spec, &text(value))),
        ('T', value) => Some(kind(value).to_owned()),
        ('t', Value::Bool(yes)) => Some(yes.to_string()),
        ('s', Value::Array(_) | Value::Object(_)) => Some(text(value)),
        ('s', Value::String(text)) => Some(cut(spec, text)),
        ('q', Value::String(text)) => Some(quoted(text)),
        ('q', Value::Array(list)) => {
            let words: Vec<String> = list.iter().map(|value| quoted(&text(value))).collect();
            Some(format!("[{}]", words.join(" ")))
        }
        ('x' | 'X', Value::String(text)) => Some(
            text.bytes()
                .map(|byte| match verb {
                    'x' => format!("{byte:02x}"),
                    _ => format!("{byte:02X}"),
                })
                .collect(),
        ),
        ('d', Value::Number(number)) => integer(spec, number, 10),
        ('b', Value::Number(number)) => integer(spec, number, 2),
        ('o', Value::Number(number)) => integer(spec, number, 8),
        ('x', Value::Number(number)) => integer(spec, number, 16),
        ('X', Value::Number(number)) => integer(spec, number, 16).map(|text| text.to_uppercase()),
        ('c', Value::Number(number)) => number
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .map(|number| char::from_u32(number).unwrap_or('\u{fffd}').to_string()),
        ('f' | 'F' | 'e' | 'g', Value::Number(number)) if number.is_f64() => {
            number.as_f64().map(|number| float(spec, verb, number))
        }
        _ => None,
    };
    if let Some(body) = body {
        pad(out, spec, &body, value.is_number());
        return;
    }
    let _ = match value {
        Value::Null => write!(out, "%!{verb}(<nil>)"),
        value => write!(out, "%!{verb}({}={})", kind(value), text(value)),
    };
}

fn cut(spec: &Spec, text: &str) -> String {
    match spec.precision {
        Some(most) => text.chars().take(most).collect(),
        None => text.to_owned(),
    }
}

/// In double quotes, with those inside, backslashes and control characters escaped, as Go's `%q`.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' | '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn integer(spec: &Spec, number: &serde_json::Number, radix: u8) -> Option<String> {
    let value = number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))?;
    let size = value.unsigned_abs();
    let mut digits = match radix {
        2 => format!("{size:b}"),
        8 => format!("{size:o}"),
        16 => format!("{size:x}"),
        _ => size.to_string(),
    };
    if let Some(least) = spec.precision {
        digits = format!("{digits:0>least$}");
    }
    if spec.sharp {
        let prefix = match radix {
            2 => "0b",
            8 => "0",
            16 => "0x",
            _ => "",
        };
        digits.insert_str(0, prefix);
    }
    Some(format!("{}{digits}", sign(spec, value < 0)))
}

fn float(spec: &Spec, verb: char, number: f64) -> String {
    let size = number.abs();
    let digits = match verb {
        'e' => exponent(&format!("{size:.*e}", spec.precision.unwrap_or(6))),
        'g' => match spec.precision {
            Some(precision) => super::quantity::significant(size, precision.max(1)),
            None => text(&serde_json::Value::from(size)),
        },
        _ => format!("{size:.*}", spec.precision.unwrap_or(6)),
    };
    format!("{}{digits}", sign(spec, number.is_sign_negative()))
}

fn sign(spec: &Spec, negative: bool) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    }
}

fn pad(out: &mut String, spec: &Spec, body: &str, number: bool) {
    let missing = spec.width.unwrap_or(0).saturating_sub(body.chars().count());
    if spec.minus {
        out.push_str(body);
        out.push_str(&" ".repeat(missing));
    } else if spec.zero && number && spec.precision.is_none() {
        let digits = body.trim_start_matches(['-', '+', ' ']);
        out.push_str(&body[..body.len() - digits.len()]);
        out.push_str(&"0".repeat(missing));
        out.push_str(digits);
    } else {
        out.push_str(&" ".repeat(missing));
        out.push_str(body);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verbs_print_as_go_prints_them() {
        for (format, arguments, expected) in [
            ("%s is %d", vec![json!("a"), json!(7)], "a is 7"),
            (
                "%5d|%-5d|%05d",
                vec![json!(42), json!(42), json!(-42)],
                "   42|42   |-0042",
            ),
            (
                "%5s|%-5s|%.2s",
                vec![json!("ab"), json!("ab"), json!("abc")],
                "   ab|ab   |ab",
            ),
            (
                "%q %v %t",
                vec![json!("a\"b"), json!([1, 2]), json!(true)],
                "\"a\\\"b\" [1 2] true",
            ),
            (
                "%q",
                vec![json!("é\t\u{7}\u{1b}\u{7f}\u{85}")],
                r#""é\t\a\x1b\x7f\u0085""#,
            ),
            (
                "%x %X %#x %b %o",
                vec![json!(255), json!(255), json!(255), json!(5), json!(8)],
                "ff FF 0xff 101 10",
            ),
            (
                "%.2f %e %g",
                vec![json!(2.345_67), json!(1234.5), json!(0.5)],
                "2.35 1.234500e+03 0.5",
            ),
            ("%+d %*d", vec![json!(1), json!(3), json!(2)], "+1   2"),
            ("100%%", vec![], "100%"),
            ("%d", vec![json!("hi")], "%!d(string=hi)"),
            ("%s", vec![], "%!s(MISSING)"),
            ("x", vec![json!(1)], "x%!(EXTRA int=1)"),
            ("%", vec![], "%!(NOVERB)"),
            (
                "%99999999999d",
                vec![json!(1)],
                "%!(BADWIDTH)%!(EXTRA int=1)",
            ),
        ] {
            assert_eq!(printf(format, &arguments), expected, "{format}");
        }
    }
}
