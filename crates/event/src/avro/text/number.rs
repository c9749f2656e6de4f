//! Integers, floats, hexadecimal and bits.

use super::Malformed;

/// A decimal integer with an optional `-`.
pub(in crate::avro) fn integer(text: &[u8]) -> Result<i64, Malformed> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(Malformed);
    }
    // Downwards, since the smallest number has no positive counterpart.
    let mut value = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Malformed);
        }
        value = value.checked_mul(10).and_then(|value| value.checked_sub(i64::from(digit))).ok_or(Malformed)?;
    }
    if negative { Ok(value) } else { value.checked_neg().ok_or(Malformed) }
}

/// A run of up to 18 digits.
pub(super) fn digits(text: &[u8]) -> Result<i64, Malformed> {
    if text.is_empty() || text.len() > 18 {
        return Err(Malformed);
    }
    text.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'9' => Ok(value * 10 + i64::from(byte - b'0')),
        _ => Err(Malformed),
    })
}

/// A float, `NaN`, `Infinity` or `-Infinity`.
pub(in crate::avro) fn float<F: std::str::FromStr>(text: &[u8]) -> Result<F, Malformed> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

/// Appends the bytes of a `bytea` under `bytea_output=hex`: `\x00ff`.
pub(in crate::avro) fn hex(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (pairs, []) = text.strip_prefix(b"\\x").ok_or(Malformed)?.as_chunks::<2>() else {
        return Err(Malformed);
    };
    out.reserve(pairs.len());
    for [high, low] in pairs {
        out.push(nibble(*high)? << 4 | nibble(*low)?);
    }
    Ok(())
}

/// Length in bytes of a `bytea`'s text.
pub(in crate::avro) fn hex_length(text: &[u8]) -> usize {
    text.len().saturating_sub(2) / 2
}

fn nibble(digit: u8) -> Result<u8, Malformed> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Malformed),
    }
}

/// Bits as Debezium has them (`PostgresValueConverter.convertBits`): the last bit is the lowest, bytes are
/// little-endian, trailing zero bytes are cut. Returns how many bytes that is; [`bits`] yields them.
pub(in crate::avro) fn bits_length(text: &[u8]) -> usize {
    text.iter().position(|bit| *bit == b'1').map_or(0, |first| (text.len() - first).div_ceil(8))
}

/// Appends the bytes of a bit string, see [`bits_length`].
pub(in crate::avro) fn bits(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    if text.iter().any(|bit| !matches!(bit, b'0' | b'1')) {
        return Err(Malformed);
    }
    let bytes = text.rchunks(8).take(bits_length(text));
    out.extend(bytes.map(|chunk| chunk.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits_of(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        bits(text.as_bytes(), &mut out).unwrap();
        out
    }

    #[test]
    fn bits_are_little_endian_and_cut() {
        assert_eq!(bits_of("101"), [5]);
        assert_eq!(bits_of("000"), [0_u8; 0]);
        assert_eq!(bits_of("10110"), [0x16]);
        assert_eq!(bits_of("1000000000"), [0, 2]);
        assert_eq!(bits(b"12", &mut Vec::new()), Err(Malformed));
    }

    #[test]
    fn odd_hex_and_other_bytea_output_are_malformed() {
        for text in ["\\x0", "00", "\\000", "\\x0g"] {
            assert_eq!(hex(text.as_bytes(), &mut Vec::new()), Err(Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_are_those_of_the_standard_library(text in "-?[0-9]{0,20}|[0-9a-z+ -]{0,4}") {
            let expected = if text.starts_with('+') { None } else { text.parse::<i64>().ok() };
            prop_assert_eq!(integer(text.as_bytes()).ok(), expected);
        }

        #[test]
        fn every_integer_is_read(value in any::<i64>()) {
            prop_assert_eq!(integer(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn hex_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let text = format!("\\x{text}");
            let mut read = Vec::new();
            prop_assert_eq!(hex(text.as_bytes(), &mut read), Ok(()));
            prop_assert_eq!(read.len(), hex_length(text.as_bytes()));
            prop_assert_eq!(read, bytes);
        }

        #[test]
        fn bits_round_trip(text in "[01]{0,40}") {
            let bytes = bits_of(&text);
            prop_assert_eq!(bytes.len(), bits_length(text.as_bytes()));
            prop_assert!(bytes.last() != Some(&0));
            let back: String = (0..text.len())
                .rev()
                .map(|bit| if bytes.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1) { '1' } else { '0' })
                .collect();
            prop_assert_eq!(back, text);
        }
    }
}
