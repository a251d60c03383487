//! Sizes and spans of time as docker prints them (docker/go-units).

use std::time::Duration;

/// Units of a thousand.
const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// Units of 1024.
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Bytes in units of a thousand with three digits: `7.8MB`.
pub fn size(bytes: u64) -> String {
    scaled(bytes, 1000.0, 3, &DECIMAL)
}

/// Bytes in units of 1024 with four digits, as memory is given: `1.944MiB`.
pub fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, 4, &BINARY)
}

fn scaled(bytes: u64, base: f64, digits: usize, units: &[&str]) -> String {
    #[allow(clippy::cast_precision_loss)] // Four digits are shown.
    let mut size = bytes as f64;
    let mut unit = 0;
    // What rounds up to the next unit is given in that.
    while unit + 1 < units.len() && rounded(size, digits) >= base {
        size /= base;
        unit += 1;
    }
    let size = rounded(size, digits);
    // 1000 to 1023 units of 1024 take four digits, and `%g` would write an exponent for three.
    let places = digits.saturating_sub(whole_digits(size));
    format!("{}{}", trimmed(format!("{size:.places$}")), units[unit])
}

fn whole_digits(size: f64) -> usize {
    format!("{:.0}", size.trunc()).len()
}

fn rounded(size: f64, digits: usize) -> f64 {
    let places = digits.saturating_sub(whole_digits(size));
    format!("{size:.places$}").parse().unwrap_or(size)
}

fn trimmed(text: String) -> String {
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// `%.Ng` of a number that is not negative.
pub fn significant(size: f64, digits: usize) -> String {
    let scientific = format!("{size:.*e}", digits.saturating_sub(1));
    let (number, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let digits = i64::try_from(digits).unwrap_or(i64::MAX);
    if power < -4 || power >= digits {
        let number = trimmed(number.to_owned());
        return super::value::exponent(&format!("{number}e{power}"));
    }
    let places = usize::try_from(digits - 1 - power).unwrap_or(0);
    trimmed(format!("{size:.places$}"))
}

/// A span of time in words: `About a minute`, `3 hours`.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ => match hours {
            0 | 1 => "About an hour".to_owned(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{} days", hours / 24),
            336..1440 => format!("{} weeks", hours / 24 / 7),
            1440..17520 => format!("{} months", hours / 24 / 30),
            _ => format!("{} years", seconds / 3600 / 24 / 365),
        },
    }
}

/// How long ago something was: `2 hours ago`.
pub fn ago(span: Duration) -> String {
    format!("{} ago", duration(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_docker_s() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (7_800_000, "7.8MB"),
            (123_456_789, "123MB"),
            (999_999, "1MB"),
            (1_500_000_000, "1.5GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (2_038_431, "1.944MiB"),
            (536_870_912, "512MiB"),
            (1_048_575, "1MiB"),
        ] {
            assert_eq!(binary_size(bytes), expected);
        }
    }

    #[test]
    fn spans_are_docker_s() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (180, "3 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (7200, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (61 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(
                duration(Duration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
        assert_eq!(ago(Duration::from_hours(2)), "2 hours ago");
    }

    #[test]
    fn significant_digits_are_go_s() {
        for (number, digits, expected) in [
            (7.8, 3, "7.8"),
            (123.4, 3, "123"),
            (1234.0, 3, "1.23e+03"),
            (0.000_01, 3, "1e-05"),
            (0.0, 3, "0"),
        ] {
            assert_eq!(significant(number, digits), expected);
        }
    }
}
