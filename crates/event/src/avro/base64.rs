//! Base64 with padding, as `java.util.Base64` writes it.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Hands the digits of `bytes` to `push`; `for_urls` has `-` and `_` in the places of `+` and `/`.
pub(super) fn encode(bytes: &[u8], for_urls: bool, mut push: impl FnMut(u8)) {
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            push(if place > chunk.len() {
                b'='
            } else {
                match (DIGITS[(group >> (18 - 6 * place) & 0x3f) as usize], for_urls) {
                    (b'+', true) => b'-',
                    (b'/', true) => b'_',
                    (digit, _) => digit,
                }
            });
        }
    }
}

/// Appends the bytes of padded Base64; `None` where it is none.
pub(crate) fn decode(digits: &[u8], for_urls: bool, out: &mut Vec<u8>) -> Option<()> {
    let (groups, []) = digits.as_chunks::<4>() else { return None };
    for (index, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|digit| **digit == b'=').count();
        if padding > 2 || (padding > 0 && index + 1 < groups.len()) {
            return None;
        }
        let mut bits = 0_u32;
        for digit in &group[..4 - padding] {
            bits = bits << 6 | value(*digit, for_urls)?;
        }
        bits <<= 6 * padding;
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(())
}

fn value(digit: u8, for_urls: bool) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' if !for_urls => 62,
        b'-' if for_urls => 62,
        b'/' if !for_urls => 63,
        b'_' if for_urls => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_are_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..50), for_urls in any::<bool>()) {
            let (mut digits, mut back) = (Vec::new(), Vec::new());
            encode(&bytes, for_urls, |digit| digits.push(digit));
            prop_assert_eq!(decode(&digits, for_urls, &mut back), Some(()));
            prop_assert_eq!(back, bytes);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Z\ng=", "+/8A ", "-_8A"] {
            assert_eq!(decode(text.as_bytes(), false, &mut Vec::new()), None, "{text}");
        }
    }
}
