//! Numbers in tar headers.

/// A numeric header field: octal digits, or base 256 where the first bit is set (GNU tar; star). None if it is neither
/// or does not fit.
pub(crate) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first()? {
        first if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

/// Octal digits between blanks, ended by a blank or a NUL. An empty field is zero.
fn octal(bytes: &[u8]) -> Option<i64> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    bytes[..end]
        .trim_ascii()
        .iter()
        .try_fold(0_i64, |value, &digit| match digit {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
            _ => None,
        })
}

/// Two's complement, big-endian, with the first bit as a marker and the second as the sign.
fn base256(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let fill = if negative { 0xff } else { 0 };
    let first = if negative { bytes[0] } else { bytes[0] & 0x7f };
    let mut value: i64 = if negative { -1 } else { 0 };
    for (at, byte) in std::iter::once(first)
        .chain(bytes[1..].iter().copied())
        .enumerate()
    {
        if bytes.len() - at > 8 {
            if byte != fill {
                return None;
            }
        } else {
            value = value.checked_mul(256)? | i64::from(byte);
        }
    }
    (negative == (value < 0)).then_some(value)
}

/// A decimal number without sign.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A PAX time: decimal seconds with a fraction, as seconds and nanoseconds; digits past the ninth are dropped.
pub(crate) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_fields_are_read_with_their_blanks() {
        assert_eq!(field(b"0000644\0"), Some(0o644));
        assert_eq!(field(b"   644 \0"), Some(0o644));
        assert_eq!(field(b"77777777777 "), Some(0o77_777_777_777));
        assert_eq!(field(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(field(b"0000648\0"), None);
        assert_eq!(field(b"-000001\0"), None);
    }

    #[test]
    fn base_256_fields_are_read_and_do_not_overflow() {
        assert_eq!(field(&[0x80, 0, 0, 0, 0, 0, 0, 5]), Some(5));
        assert_eq!(field(&[0xff; 8]), Some(-1));
        let mut large = [0; 12];
        large[0] = 0x80;
        large[4..].copy_from_slice(&i64::MAX.to_be_bytes());
        assert_eq!(field(&large), Some(i64::MAX));
        large[4] = 0x80;
        assert_eq!(field(&large), None);
        large[1] = 1;
        assert_eq!(field(&large), None);
        assert_eq!(
            field(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Some(0x00ff_ffff_ffff_ffff)
        );
    }

    #[test]
    fn pax_times_are_read_to_the_nanosecond_on_both_sides_of_the_epoch() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"12.0000000019"), Some((12, 1)));
        assert_eq!(time(b"-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        for bad in [
            &b""[..],
            b"-",
            b".5",
            b"1e3",
            b"99999999999999999999",
            b"1.-5",
            b"+1",
        ] {
            assert_eq!(time(bad), None, "{}", bad.escape_ascii());
        }
    }
}
