//! `numeric` and `money`: decimal text into an unscaled integer of any length, big-endian two's complement.

use super::super::write;
use super::Malformed;

/// A decimal number, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

/// What a `numeric` text holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numeric<'a> {
    /// A number.
    Finite(Decimal<'a>),
    /// `NaN`, `Infinity` or `-Infinity`.
    Special,
}

/// Reads a `numeric`.
pub(crate) fn numeric(text: &[u8]) -> Result<Numeric<'_>, Malformed> {
    match text {
        b"NaN" | b"Infinity" | b"-Infinity" => Ok(Numeric::Special),
        _ => Decimal::read(text).map(Numeric::Finite),
    }
}

impl<'a> Decimal<'a> {
    fn read(text: &'a [u8]) -> Result<Self, Malformed> {
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            digits => (false, digits),
        };
        let point = digits.iter().position(|byte| *byte == b'.');
        let (whole, fraction) = point.map_or((digits, &[][..]), |point| (&digits[..point], &digits[point + 1..]));
        let no_digits = whole.is_empty() || (point.is_some() && fraction.is_empty());
        if no_digits || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return Err(Malformed);
        }
        Ok(Self { negative, whole, fraction })
    }

    /// Digits behind the point.
    pub(crate) fn scale(&self) -> usize {
        self.fraction.len()
    }

    /// The same number without trailing zeros behind the point.
    pub(crate) fn stripped(self) -> Self {
        let kept = self.fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        Self { fraction: &self.fraction[..kept], ..self }
    }

    /// Appends Avro `bytes` of the unscaled value at `scale` digits behind the point, which may be negative.
    /// `None` where the number has other digits than zeros behind that place.
    pub(crate) fn write(&self, scale: i32, out: &mut Vec<u8>) -> Option<()> {
        let shift = i64::from(scale) - i64::try_from(self.fraction.len()).ok()?;
        let zeros = usize::try_from(shift.max(0)).ok()?;
        let cut = usize::try_from((-shift).max(0)).ok()?;
        let (whole, fraction) = (self.whole, self.fraction);
        let (whole, fraction) = match fraction.len().checked_sub(cut) {
            Some(kept) => {
                let (kept, lost) = fraction.split_at(kept);
                (lost.iter().all(|digit| *digit == b'0').then_some(whole)?, kept)
            }
            None => {
                let (kept, lost) = whole.split_at(whole.len().saturating_sub(cut - fraction.len()));
                (lost.iter().chain(fraction).all(|digit| *digit == b'0').then_some(kept)?, &[][..])
            }
        };
        if whole.len() + fraction.len() + zeros <= I128_DIGITS {
            let unscaled =
                whole.iter().chain(fraction).fold(0_i128, |value, digit| value * 10 + i128::from(digit - b'0'));
            let unscaled = unscaled * 10_i128.pow(u32::try_from(zeros).ok()?);
            minimal(&(if self.negative { -unscaled } else { unscaled }).to_be_bytes(), out);
        } else {
            let mut bytes = big(whole.iter().chain(fraction).copied().chain(std::iter::repeat_n(b'0', zeros)));
            if self.negative {
                negate(&mut bytes);
            }
            minimal(&bytes, out);
        }
        Some(())
    }
}

/// The digits that always fit an `i128`.
const I128_DIGITS: usize = 38;

/// Appends the shortest two's complement, as Java's `BigInteger.toByteArray`.
fn minimal(bytes: &[u8], out: &mut Vec<u8>) {
    let redundant = bytes
        .windows(2)
        .take_while(|pair| (pair[0] == 0 && pair[1] < 0x80) || (pair[0] == 0xff && pair[1] >= 0x80))
        .count();
    write::bytes(out, &bytes[redundant..]);
}

/// Digits of any number into big-endian bytes with room for a sign.
fn big(digits: impl Iterator<Item = u8>) -> Vec<u8> {
    // Nine digits a step, in limbs of 32 bits, lowest first.
    let mut limbs: Vec<u32> = Vec::new();
    let mut push = |factor: u32, chunk: u32| {
        let mut carry = u64::from(chunk);
        for limb in &mut limbs {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    };
    let (mut factor, mut chunk) = (1, 0);
    for digit in digits {
        chunk = chunk * 10 + u32::from(digit - b'0');
        factor *= 10;
        if factor == 1_000_000_000 {
            push(factor, chunk);
            (factor, chunk) = (1, 0);
        }
    }
    push(factor, chunk);
    let mut bytes = vec![0];
    bytes.extend(limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()));
    bytes
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
    }
}

/// Appends a `money` as Avro `bytes` with two digits behind the point. `None` where the text is not of the form
/// `$1,234.50`, `-$0.01` or `1234.50`: `lc_monetary` then names a locale with another form.
pub(crate) fn money(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let rest = rest.strip_prefix(b"$").unwrap_or(rest);
    let [whole @ .., b'.', tens, ones] = rest else { return None };
    if whole.is_empty() {
        return None;
    }
    let mut cents = 0_i64;
    for digit in whole.iter().filter(|byte| **byte != b',').chain([tens, ones]) {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Downwards, since the smallest amount has no positive counterpart.
        cents = cents.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    let cents = if negative { cents } else { cents.checked_neg()? };
    minimal(&cents.to_be_bytes(), out);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unscaled(text: &str, scale: i32) -> Option<Vec<u8>> {
        let Numeric::Finite(decimal) = numeric(text.as_bytes()).unwrap() else { panic!("not finite") };
        let mut out = Vec::new();
        decimal.write(scale, &mut out)?;
        let length = if out[0] < 0x80 { 1 } else { 2 };
        Some(out.split_off(length))
    }

    #[test]
    fn the_bytes_are_those_of_a_big_integer() {
        assert_eq!(unscaled("1234.50", 2), Some(vec![0x01, 0xe2, 0x3a]));
        assert_eq!(unscaled("-9999999999.99", 2), Some(vec![0xff, 0x17, 0x2b, 0x5a, 0xf0, 0x01]));
        assert_eq!(unscaled("0.00", 2), Some(vec![0]));
        assert_eq!(unscaled("-1.28", 2), Some(vec![0x80]));
        assert_eq!(unscaled("1.28", 2), Some(vec![0, 0x80]));
    }

    #[test]
    fn scales_may_be_negative_or_beyond_the_text() {
        assert_eq!(unscaled("1200", -2), Some(vec![12]));
        assert_eq!(unscaled("0", -2), Some(vec![0]));
        assert_eq!(unscaled("1250", -2), None);
        assert_eq!(unscaled("1.5", 2), Some(vec![0, 150]));
        assert_eq!(unscaled("1.50", 1), Some(vec![15]));
    }

    #[test]
    fn other_text_is_malformed() {
        for text in ["", "-", ".", "1.", ".5", "1e5", "+1", "1.2.3", "nan"] {
            assert_eq!(numeric(text.as_bytes()), Err(Malformed), "{text}");
        }
        assert_eq!(numeric(b"-Infinity"), Ok(Numeric::Special));
    }

    #[test]
    fn money_is_read_in_one_form_only() {
        for (text, cents) in [
            ("$12.34", Some(&[0x04, 0xd2][..])),
            ("-$0.01", Some(&[0xff])),
            ("$1,234.50", Some(&[0x01, 0xe2, 0x3a])),
            ("1234.50", Some(&[0x01, 0xe2, 0x3a])),
            ("-$92,233,720,368,547,758.08", Some(&[0x80, 0, 0, 0, 0, 0, 0, 0])),
            ("1.234,50 €", None),
            ("¥1,235", None),
            ("($0.01)", None),
        ] {
            let mut out = Vec::new();
            assert_eq!(money(text.as_bytes(), &mut out).map(|()| &out[1..]), cents, "{text}");
        }
    }

    /// Schoolbook: divides the digits by 256 again and again.
    fn slow(negative: bool, digits: &str) -> Vec<u8> {
        let mut digits: Vec<u8> = digits.bytes().map(|digit| digit - b'0').collect();
        let mut bytes = Vec::new();
        while digits.iter().any(|digit| *digit != 0) {
            let mut rest = 0_u32;
            for digit in &mut digits {
                let value = rest * 10 + u32::from(*digit);
                *digit = u8::try_from(value / 256).unwrap();
                rest = value % 256;
            }
            bytes.insert(0, u8::try_from(rest).unwrap());
        }
        bytes.insert(0, 0);
        if negative {
            for byte in &mut bytes {
                *byte = !*byte;
            }
            for byte in bytes.iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
        while bytes.len() > 1 && (bytes[0] == 0 && bytes[1] < 128 || bytes[0] == 255 && bytes[1] >= 128) {
            bytes.remove(0);
        }
        bytes
    }

    proptest! {
        #[test]
        fn numbers_of_any_length_are_those_of_the_schoolbook(
            negative in any::<bool>(), whole in "[0-9]{1,60}", fraction in "[0-9]{1,60}"
        ) {
            let text = format!("{}{whole}.{fraction}", if negative { "-" } else { "" });
            let scale = i32::try_from(fraction.len()).unwrap();
            prop_assert_eq!(unscaled(&text, scale), Some(slow(negative, &format!("{whole}{fraction}"))));
            prop_assert_eq!(unscaled(&text, scale + 3), Some(slow(negative, &format!("{whole}{fraction}000"))));
        }

        #[test]
        fn numbers_are_those_of_the_standard_library(value in any::<i128>()) {
            let expected = slow(value < 0, &value.unsigned_abs().to_string());
            prop_assert_eq!(unscaled(&value.to_string(), 0), Some(expected));
        }

        #[test]
        fn stripping_removes_zeros_behind_the_point_only(whole in "[0-9]{1,5}", fraction in "[0-9]{0,5}", zeros in 0_usize..5) {
            let significant = fraction.trim_end_matches('0');
            let text = format!("{whole}.{fraction}{}", "0".repeat(zeros + 1));
            let Ok(Numeric::Finite(decimal)) = numeric(text.as_bytes()) else { panic!("not finite") };
            prop_assert_eq!(decimal.stripped().scale(), significant.len());
            prop_assert_eq!(decimal.stripped().whole, whole.as_bytes());
        }
    }
}
