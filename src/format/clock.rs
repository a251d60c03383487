//! Points in time: as answers give them, and as `--since` and `--until` take them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Error;

const DAY: u64 = 86_400;

/// RFC 3339 in UTC with as many digits of a second as it needs: `2026-11-21T03:17:30.5Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let (date, clock, nanoseconds) = parts(time);
    let mut text = format!("{date}T{clock}");
    if nanoseconds > 0 {
        text.push_str(format!(".{nanoseconds:09}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// As docker's lists give it: `2026-11-21 03:17:30 +0000 UTC`.
pub fn created_at(time: SystemTime) -> String {
    let (date, clock, _) = parts(time);
    format!("{date} {clock} +0000 UTC")
}

fn parts(time: SystemTime) -> (String, String, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / DAY, since.as_secs() % DAY);
    // Days to a date in the proleptic Gregorian calendar, by its cycles of 400 years that begin in March.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60),
        since.subsec_nanos(),
    )
}

/// A point in time as docker's options take it: RFC 3339, a date, a date and a time (UTC), seconds since 1970, or how
/// long ago (`10m`, `1h30m`).
///
/// # Errors
/// What is none of these.
pub fn parse_time(option: &str, typed: &str, now: SystemTime) -> Result<SystemTime, Error> {
    let wrong = || {
        Error::new(
            format!("{option} {typed} is no point in time"),
            format!("{option} 10m, {option} 2026-11-21T03:17:30Z or {option} 1795231050"),
        )
    };
    if let Some(time) = calendar(typed).or_else(|| unix(typed)) {
        return UNIX_EPOCH.checked_add(time).ok_or_else(wrong);
    }
    span(typed)
        .and_then(|span| now.checked_sub(span))
        .ok_or_else(wrong)
}

/// A span of time as Go writes them: `1h30m`, `1.5s`, `300ms`.
pub fn span(typed: &str) -> Option<Duration> {
    let mut rest = typed;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        rest = &rest[end..];
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    (!typed.is_empty()).then_some(total)
}

fn unix(typed: &str) -> Option<Duration> {
    let (seconds, fraction) = typed.split_once('.').unwrap_or((typed, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(seconds.parse().ok()?, nanoseconds))
}

/// `2026-11-21`, with `T03:17`, `:30`, `.5` and `Z` or `+01:00` behind it, as far as given.
fn calendar(typed: &str) -> Option<Duration> {
    let field = |from: usize, to: usize| -> Option<u64> {
        let digits = typed.get(from..to)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let is = |at: usize, any: &[u8]| typed.as_bytes().get(at).is_some_and(|b| any.contains(b));
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    if !is(4, b"-") || !is(7, b"-") || year < 1970 {
        return None;
    }
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let longest = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=longest).contains(&day) {
        return None;
    }
    // The inverse of what `parts` does.
    let shifted = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (shifted / 400, shifted % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let mut at = 10;
    let mut time = Duration::from_secs(days * DAY);
    if is(at, b"T ") {
        let (hour, minute) = (field(11, 13)?, field(14, 16)?);
        if hour > 23 || minute > 59 || !is(13, b":") {
            return None;
        }
        time += Duration::from_secs(hour * 3600 + minute * 60);
        at = 16;
        if is(at, b":") {
            let second = field(17, 19).filter(|second| *second <= 60)?;
            time += Duration::from_secs(second);
            at = 19;
            if is(at, b".") {
                let digits = typed[20..].bytes().take_while(u8::is_ascii_digit).count();
                let fraction = typed.get(20..20 + digits.min(9))?;
                time += Duration::from_nanos(format!("{fraction:0<9}").parse().ok()?);
                at = 20 + digits;
            }
        }
    }
    match typed.get(at..)? {
        "" | "Z" => Some(time),
        zone if zone.len() == 6 && is(at, b"+-") && is(at + 3, b":") => {
            let offset = field(at + 1, at + 3)? * 3600 + field(at + 4, at + 6)? * 60;
            let offset = Duration::from_secs(offset);
            if is(at, b"+") {
                time.checked_sub(offset)
            } else {
                time.checked_add(offset)
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanoseconds: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanoseconds)
    }

    #[test]
    fn times_are_written_and_read_back() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_231_050, "2026-11-21T03:17:30Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(at(seconds, 0)), text);
            assert_eq!(parse_time("--since", text, at(1, 0)), Ok(at(seconds, 0)));
        }
        assert_eq!(rfc3339(at(1, 500_000_000)), "1970-01-01T00:00:01.5Z");
        assert_eq!(created_at(at(1, 5)), "1970-01-01 00:00:01 +0000 UTC");
    }

    #[test]
    fn docker_s_ways_to_name_a_time_are_read() {
        let now = at(1_000_000, 0);
        for (typed, expected) in [
            ("10m", at(999_400, 0)),
            ("1h30m", at(994_600, 0)),
            ("1.5s", at(999_998, 500_000_000)),
            ("77", at(77, 0)),
            ("77.25", at(77, 250_000_000)),
            ("1970-01-02", at(86_400, 0)),
            ("1970-01-02T01:00", at(90_000, 0)),
            ("1970-01-01T02:00:00+01:00", at(3600, 0)),
            ("1970-01-01T00:00:00.000000001-00:01", at(60, 1)),
        ] {
            assert_eq!(parse_time("--since", typed, now), Ok(expected), "{typed}");
        }
        for typed in [
            "",
            "x",
            "10",
            "1970-13-01",
            "1970-02-30",
            "1970-01-01T25:00",
            "10d",
            "-1m",
            "99999999999999999999h",
            "1970-01-01T00:00:00Zx",
            "1970-01-01é",
            "1.0000000001",
        ] {
            let parsed = parse_time("--since", typed, now);
            assert_eq!(parsed.is_ok(), typed == "10", "{typed}");
        }
    }
}
