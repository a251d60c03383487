//! Points in time as they are written down.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `time` by RFC 3339, in UTC, with `digits` (0 to 9) of the second's fraction.
pub fn rfc3339(time: SystemTime, digits: usize) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs();
    let (mut days, mut year) = (seconds / 86_400, 1970);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let day = days + 1;
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if digits > 0 {
        let nanoseconds = format!("{:09}", since.subsec_nanos());
        text.push('.');
        text.push_str(&nanoseconds[..digits.min(9)]);
    }
    text.push('Z');
    text
}

/// Nanoseconds since 1970, for files that programs read.
pub fn to_nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The reverse of [`to_nanoseconds`].
pub fn from_nanoseconds(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// For serde: a [`SystemTime`] as nanoseconds since 1970.
pub(crate) mod stored {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(super::to_nanoseconds(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        u64::deserialize(from).map(super::from_nanoseconds)
    }
}

/// The same where there may be none.
pub(crate) mod stored_option {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[allow(clippy::ref_option)] // serde's signature.
    pub fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        time.map(super::to_nanoseconds).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(super::from_nanoseconds))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{from_nanoseconds, rfc3339, to_nanoseconds};

    #[test]
    fn a_time_has_as_many_digits_as_asked_for() {
        let time = UNIX_EPOCH + Duration::new(951_782_400, 12_345_678);
        assert_eq!(rfc3339(time, 0), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(time, 3), "2000-02-29T00:00:00.012Z");
        assert_eq!(rfc3339(time, 9), "2000-02-29T00:00:00.012345678Z");
        assert_eq!(from_nanoseconds(to_nanoseconds(time)), time);
    }

    #[test]
    fn times_are_written_in_utc_across_leap_days_and_year_ends() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(
                rfc3339(UNIX_EPOCH + Duration::from_secs(seconds), 0),
                expected
            );
        }
    }
}
