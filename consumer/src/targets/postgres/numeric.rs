//! Decimals as PostgreSQL's binary `numeric`: groups of four decimal digits (`numeric_send`,
//! `src/backend/utils/adt/numeric.c`).

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;
/// Digits behind the point that the format can count.
const MOST_SCALE: usize = 0x3FFF;
/// Length of the fields before the groups.
const HEAD: usize = 8;

/// Decimal digits of a big-endian two's complement integer, without leading zeros; empty for zero. Returns whether it
/// is negative.
pub(super) fn push_digits(unscaled: &[u8], out: &mut Vec<u8>) -> bool {
    let negative = unscaled.first().is_some_and(|byte| byte & 0x80 != 0);
    if let Some(value) = small(unscaled) {
        out.extend_from_slice(ascii(value.unsigned_abs(), &mut [b'0'; 20]));
        return negative;
    }
    // Limbs of 18 decimal digits, lowest first: limbs = limbs × 2^32 + the next four bytes of the magnitude.
    const LIMB: u128 = 1_000_000_000_000_000_000;
    let fill = if negative { 0xFF } else { 0 };
    let padding = unscaled.len().next_multiple_of(4) - unscaled.len();
    let mut magnitude: Vec<u8> = std::iter::repeat_n(fill, padding).chain(unscaled.iter().copied()).collect();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
            *byte = sum;
            carry = overflow;
        }
    }
    let mut limbs: Vec<u64> = vec![0];
    for word in magnitude.chunks_exact(4) {
        let mut carry = u128::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        for limb in &mut limbs {
            let value = (u128::from(*limb) << 32) + carry;
            *limb = (value % LIMB) as u64;
            carry = value / LIMB;
        }
        if carry > 0 {
            limbs.push(carry as u64);
        }
    }
    for (index, limb) in limbs.iter().rev().enumerate() {
        let mut space = [b'0'; 20];
        let digits = ascii(*limb, &mut space);
        if index > 0 {
            out.extend(std::iter::repeat_n(b'0', 18 - digits.len()));
        }
        out.extend_from_slice(digits);
    }
    negative
}

/// A number of at most eight bytes.
fn small(unscaled: &[u8]) -> Option<i64> {
    let at = 8_usize.checked_sub(unscaled.len())?;
    let mut bytes = if unscaled.first().is_some_and(|byte| byte & 0x80 != 0) { [0xFF; 8] } else { [0; 8] };
    bytes[at..].copy_from_slice(unscaled);
    Some(i64::from_be_bytes(bytes))
}

/// Decimal digits; none for zero.
fn ascii(mut value: u64, space: &mut [u8; 20]) -> &[u8] {
    let mut at = space.len();
    while value > 0 {
        at -= 1;
        space[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    &space[at..]
}

/// Appends `unscaled × 10^-scale` as binary numeric; `None` where PostgreSQL has no such number.
pub(super) fn push_decimal(unscaled: &[u8], scale: i32, out: &mut Vec<u8>) -> Option<()> {
    if let Some(value) = small(unscaled) {
        let mut space = [b'0'; 20];
        return push_binary(value < 0, ascii(value.unsigned_abs(), &mut space), i64::from(scale), out);
    }
    let mut digits = Vec::with_capacity(24);
    let negative = push_digits(unscaled, &mut digits);
    push_binary(negative, &digits, i64::from(scale), out)
}

/// Appends the text form of a decimal number as binary numeric; `None` for what is no number.
pub(super) fn push_text(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let special = match text {
        "NaN" => Some(NAN),
        "Infinity" => Some(INFINITY),
        "-Infinity" => Some(NEGATIVE_INFINITY),
        _ => None,
    };
    if let Some(sign) = special {
        push_head(0, 0, sign, 0, out);
        return Some(());
    }
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], std::str::from_utf8(&unsigned[at + 1..]).ok()?.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let mut digits = Vec::with_capacity(mantissa.len());
    let mut scale = None;
    for byte in mantissa {
        match byte {
            b'0'..=b'9' => {
                digits.push(*byte);
                scale = scale.map(|scale: i64| scale + 1);
            }
            b'.' if scale.is_none() => scale = Some(0),
            _ => return None,
        }
    }
    if digits.is_empty() {
        return None;
    }
    push_binary(negative, &digits, scale.unwrap_or(0) - i64::from(exponent), out)
}

/// `digits` (ASCII) `× 10^-scale`.
fn push_binary(negative: bool, digits: &[u8], scale: i64, out: &mut Vec<u8>) -> Option<()> {
    let leading = digits.iter().take_while(|digit| **digit == b'0').count();
    let digits = &digits[leading..];
    let display_scale = usize::try_from(scale.max(0)).ok().filter(|scale| *scale <= MOST_SCALE)?;
    let start = out.len();
    push_head(0, 0, POSITIVE, display_scale as u16, out);
    if digits.is_empty() {
        return Some(());
    }
    // The first group may begin before the first digit, the last may end behind the last one.
    let whole = i64::try_from(digits.len()).ok()? - scale;
    let padding = (-whole).rem_euclid(4);
    let mut weight = (whole + padding) / 4 - 1;
    let mut group: u16 = 0;
    let mut filled = padding;
    let mut groups = 0_usize;
    for digit in digits {
        group = group * 10 + u16::from(digit - b'0');
        filled += 1;
        if filled == 4 {
            out.extend_from_slice(&group.to_be_bytes());
            groups += 1;
            group = 0;
            filled = 0;
        }
    }
    if filled > 0 {
        for _ in filled..4 {
            group *= 10;
        }
        out.extend_from_slice(&group.to_be_bytes());
        groups += 1;
    }
    // The first digit is not zero, so the first group is not; trailing zero groups are not stored.
    while groups > 0 && out.ends_with(&[0, 0]) {
        out.truncate(out.len() - 2);
        groups -= 1;
    }
    if groups == 0 {
        weight = 0;
    }
    let head = Head {
        groups: i16::try_from(groups).ok()?,
        weight: i16::try_from(weight).ok()?,
        sign: if negative { NEGATIVE } else { POSITIVE },
        display_scale: display_scale as u16,
    };
    out[start..start + HEAD].copy_from_slice(&head.bytes());
    Some(())
}

struct Head {
    groups: i16,
    weight: i16,
    sign: u16,
    display_scale: u16,
}

impl Head {
    fn bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0..2].copy_from_slice(&self.groups.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.weight.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.sign.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.display_scale.to_be_bytes());
        bytes
    }
}

fn push_head(groups: i16, weight: i16, sign: u16, display_scale: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&Head { groups, weight, sign, display_scale }.bytes());
}

/// Turns the binary numeric at `out[start..]` into bytes that sort as the numbers do, equal for equal numbers
/// (1.50 and 1.5), and end by themselves.
pub(super) fn make_sortable(out: &mut Vec<u8>, start: usize) {
    let sign = u16::from_be_bytes([out[start + 4], out[start + 5]]);
    let groups = out.len() - start - HEAD;
    let class = match sign {
        NEGATIVE_INFINITY => 0,
        NEGATIVE => 1,
        POSITIVE if groups == 0 => 2,
        INFINITY => 4,
        NAN => 5,
        _ => 3,
    };
    if class != 1 && class != 3 {
        out.truncate(start);
        out.push(class);
        return;
    }
    // class, weight with its sign turned over, groups + 1, a zero that ends them.
    let weight = [out[start + 2] ^ 0x80, out[start + 3]];
    out[start] = class;
    out[start + 1..start + 3].copy_from_slice(&weight);
    out.copy_within(start + HEAD.., start + 3);
    out.truncate(start + 3 + groups);
    for group in out[start + 3..].chunks_exact_mut(2) {
        let plus_one = u16::from_be_bytes([group[0], group[1]]) + 1;
        group.copy_from_slice(&plus_one.to_be_bytes());
    }
    out.extend_from_slice(&[0, 0]);
    if class == 1 {
        for byte in &mut out[start + 1..] {
            *byte = !*byte;
        }
    }
}

/// Appends `unscaled × 10^-scale` in plain notation.
pub(super) fn push_plain(unscaled: &[u8], scale: i32, out: &mut Vec<u8>) {
    let mut digits = Vec::with_capacity(24);
    if push_digits(unscaled, &mut digits) {
        out.push(b'-');
    }
    let scale_digits = usize::try_from(scale).unwrap_or(0);
    if digits.len() <= scale_digits {
        digits.splice(0..0, std::iter::repeat_n(b'0', scale_digits + 1 - digits.len()));
    }
    let whole = digits.len() - scale_digits;
    out.extend_from_slice(&digits[..whole]);
    if scale < 0 && digits != b"0" {
        out.extend(std::iter::repeat_n(b'0', usize::try_from(-i64::from(scale)).unwrap_or(0)));
    }
    if scale_digits > 0 {
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(unscaled: &[u8], scale: i32) -> String {
        let mut out = Vec::new();
        push_plain(unscaled, scale, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn binary(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        push_text(text, &mut out).unwrap();
        out
    }

    fn sortable(text: &str) -> Vec<u8> {
        let mut out = binary(text);
        make_sortable(&mut out, 0);
        out
    }

    #[test]
    fn known_encodings() {
        assert_eq!(binary("0"), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(binary("0.00"), [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(binary("-1.5"), [0, 2, 0, 0, 0x40, 0, 0, 1, 0, 1, 0x13, 0x88]);
        assert_eq!(binary("10000"), [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(binary("0.0001"), [0, 1, 0xFF, 0xFF, 0, 0, 0, 4, 0, 1]);
        assert_eq!(binary("0.00001"), [0, 1, 0xFF, 0xFE, 0, 0, 0, 5, 0x03, 0xE8]);
        assert_eq!(binary("NaN"), [0, 0, 0, 0, 0xC0, 0, 0, 0]);
    }

    #[test]
    fn plain_notation() {
        assert_eq!(plain(&[0x01, 0xE2, 0x3A], 2), "1234.50");
        assert_eq!(plain(&[0xFF], 2), "-0.01");
        assert_eq!(plain(&[], 2), "0.00");
        assert_eq!(plain(&[5], -2), "500");
    }

    #[test]
    fn no_number_is_refused() {
        for text in ["", "-", ".", "1.2.3", "1x", "1e", "nan"] {
            assert_eq!(push_text(text, &mut Vec::new()), None, "{text}");
        }
    }

    #[test]
    fn equal_numbers_have_equal_keys() {
        assert_eq!(sortable("1.50"), sortable("1.5"));
        assert_eq!(sortable("-0"), sortable("0.000"));
        assert_eq!(sortable("1e3"), sortable("1000"));
    }

    proptest! {
        #[test]
        fn text_and_bytes_agree(value in any::<i128>(), scale in 0..60_i32) {
            let bytes = value.to_be_bytes();
            let mut from_bytes = Vec::new();
            push_decimal(&bytes, scale, &mut from_bytes).unwrap();
            prop_assert_eq!(from_bytes, binary(&plain(&bytes, scale)));
            prop_assert_eq!(plain(&bytes, 0), value.to_string());
        }

        #[test]
        fn short_and_long_bytes_agree(value in any::<i64>()) {
            prop_assert_eq!(plain(&value.to_be_bytes(), 3), plain(&i128::from(value).to_be_bytes(), 3));
        }

        #[test]
        fn keys_sort_as_numbers(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
            let text = |value: i64| plain(&value.to_be_bytes(), 5);
            prop_assert_eq!(sortable(&text(a)).cmp(&sortable(&text(b))), a.cmp(&b));
        }

        #[test]
        fn keys_end_by_themselves(a in any::<i64>(), b in any::<i64>()) {
            prop_assume!(a != b);
            prop_assert!(!sortable(&a.to_string()).starts_with(&sortable(&b.to_string())));
        }
    }
}
