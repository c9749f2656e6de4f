//! PostgreSQL's `numeric`: exact decimals with a display scale, NaN and infinities.
//!
//! Numbers of up to 38 digits are 128-bit integers; only longer ones take the slow way. The rules about scales are
//! those of PostgreSQL's `numeric.c`.

use std::cmp::Ordering;

use bumpalo::Bump;
use bumpalo::collections::{String as BumpString, Vec as BumpVec};
use num_bigint::{BigInt, Sign};

use crate::fault::{self, Fault};

/// `NUMERIC_MIN_SIG_DIGITS`: digits that a quotient has at least.
const MIN_SIGNIFICANT: i64 = 16;
/// `NUMERIC_MAX_DISPLAY_SCALE`.
const MAX_QUOTIENT_SCALE: i64 = 1_000;
/// `NUMERIC_DSCALE_MAX`.
const MAX_SCALE: u32 = 16_383;
/// Digits in front of the point.
const MAX_DIGITS: usize = 131_072;

/// A `numeric`. `scale` is how many digits behind the point are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Numeric<'a> {
    Small {
        unscaled: i128,
        scale: u32,
    },
    /// Big-endian two's complement.
    Large {
        unscaled: &'a [u8],
        scale: u32,
    },
    NaN,
    Infinity,
    MinusInfinity,
}

use Numeric::{Infinity, Large, MinusInfinity, NaN, Small};

type Answer<'a> = Result<Numeric<'a>, Fault>;

fn pow10(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

fn big_pow10(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

impl<'a> Numeric<'a> {
    pub(crate) const fn integer(value: i64) -> Self {
        Small { unscaled: value as i128, scale: 0 }
    }

    /// From an event's decimal; a negative scale becomes trailing zeros.
    pub(crate) fn from_decimal(unscaled: &'a [u8], scale: i32, bump: &'a Bump) -> Answer<'a> {
        let Ok(positive) = u32::try_from(scale) else {
            let number = BigInt::from_signed_bytes_be(unscaled) * big_pow10(scale.unsigned_abs());
            return Self::make(&number, 0, bump);
        };
        if unscaled.len() <= 16 {
            let negative = unscaled.first().is_some_and(|byte| byte & 0x80 != 0);
            let mut bytes = [if negative { 0xFF } else { 0 }; 16];
            bytes[16 - unscaled.len()..].copy_from_slice(unscaled);
            return Ok(Small { unscaled: i128::from_be_bytes(bytes), scale: positive });
        }
        Ok(Large { unscaled, scale: positive })
    }

    fn make(number: &BigInt, scale: u32, bump: &'a Bump) -> Answer<'a> {
        if let Ok(unscaled) = i128::try_from(number) {
            return Ok(Small { unscaled, scale });
        }
        // 10 digits take more than 33 bits.
        if number.bits() / 33 * 10 > MAX_DIGITS as u64 + u64::from(scale) + 20
            || digits(number) > MAX_DIGITS + scale as usize
        {
            return Err(fault::NUMERIC_OVERFLOW);
        }
        Ok(Large { unscaled: bump.alloc_slice_copy(&number.to_signed_bytes_be()), scale })
    }

    fn big(self) -> Option<(BigInt, u32)> {
        match self {
            Small { unscaled, scale } => Some((BigInt::from(unscaled), scale)),
            Large { unscaled, scale } => Some((BigInt::from_signed_bytes_be(unscaled), scale)),
            NaN | Infinity | MinusInfinity => None,
        }
    }

    pub(crate) fn is_zero(self) -> bool {
        matches!(self, Small { unscaled: 0, .. })
    }

    fn sign(self) -> i32 {
        match self {
            Small { unscaled, .. } => unscaled.signum() as i32,
            Large { unscaled, .. } => {
                if unscaled[0] & 0x80 == 0 {
                    1
                } else {
                    -1
                }
            }
            NaN => 0,
            Infinity => 1,
            MinusInfinity => -1,
        }
    }

    pub(crate) fn neg(self, bump: &'a Bump) -> Answer<'a> {
        Ok(match self {
            Small { unscaled, scale } if unscaled != i128::MIN => Small { unscaled: -unscaled, scale },
            NaN => NaN,
            Infinity => MinusInfinity,
            MinusInfinity => Infinity,
            finite => {
                let (number, scale) = finite.big().ok_or(fault::NUMERIC_OVERFLOW)?;
                Self::make(&-number, scale, bump)?
            }
        })
    }

    pub(crate) fn abs(self, bump: &'a Bump) -> Answer<'a> {
        if self.sign() < 0 { self.neg(bump) } else { Ok(self) }
    }

    pub(crate) fn add(self, other: Self, bump: &'a Bump) -> Answer<'a> {
        if let (Small { unscaled: a, scale: sa }, Small { unscaled: b, scale: sb }) = (self, other) {
            let scale = sa.max(sb);
            let sum = align(a, scale - sa).zip(align(b, scale - sb)).and_then(|(a, b)| a.checked_add(b));
            if let Some(unscaled) = sum {
                return Ok(Small { unscaled, scale });
            }
        }
        match (self, other) {
            (NaN, _) | (_, NaN) | (Infinity, MinusInfinity) | (MinusInfinity, Infinity) => Ok(NaN),
            (Infinity, _) | (_, Infinity) => Ok(Infinity),
            (MinusInfinity, _) | (_, MinusInfinity) => Ok(MinusInfinity),
            _ => {
                let (a, b, scale) = aligned(self, other)?;
                Self::make(&(a + b), scale, bump)
            }
        }
    }

    pub(crate) fn sub(self, other: Self, bump: &'a Bump) -> Answer<'a> {
        self.add(other.neg(bump)?, bump)
    }

    pub(crate) fn mul(self, other: Self, bump: &'a Bump) -> Answer<'a> {
        if let (Small { unscaled: a, scale: sa }, Small { unscaled: b, scale: sb }) = (self, other)
            && let Some(unscaled) = a.checked_mul(b)
            && sa + sb <= MAX_SCALE
        {
            return Ok(Small { unscaled, scale: sa + sb });
        }
        match (self.big(), other.big()) {
            (Some((a, sa)), Some((b, sb))) => Self::make(&(a * b), sa + sb, bump)?.round_to(MAX_SCALE, bump),
            _ => Ok(match (matches!(self, NaN) || matches!(other, NaN), self.sign() * other.sign()) {
                (true, _) | (_, 0) => NaN,
                (_, sign) if sign > 0 => Infinity,
                _ => MinusInfinity,
            }),
        }
    }

    pub(crate) fn div(self, other: Self, bump: &'a Bump) -> Answer<'a> {
        match (self, other) {
            (NaN, _) | (_, NaN) => return Ok(NaN),
            (Infinity | MinusInfinity, Infinity | MinusInfinity) => return Ok(NaN),
            (Infinity | MinusInfinity, finite) => {
                return match self.sign() * finite.sign() {
                    0 => Err(fault::DIVISION_BY_ZERO),
                    1 => Ok(Infinity),
                    _ => Ok(MinusInfinity),
                };
            }
            (_, Infinity | MinusInfinity) => return Ok(Self::integer(0)),
            _ => {}
        }
        if other.is_zero() {
            return Err(fault::DIVISION_BY_ZERO);
        }
        let scale = quotient_scale(self, other);
        let (a, sa) = self.big().ok_or(fault::NUMERIC_OVERFLOW)?;
        let (b, sb) = other.big().ok_or(fault::NUMERIC_OVERFLOW)?;
        let shift = i64::from(scale) + i64::from(sb) - i64::from(sa);
        if let (Small { unscaled: a, .. }, Small { unscaled: b, .. }, Ok(shift)) = (self, other, u32::try_from(shift))
            && let Some(a) = align(a, shift)
            && b != i128::MIN
            && a != i128::MIN
        {
            return Ok(Small { unscaled: rounded_quotient(a, b), scale });
        }
        let (a, b) = match u32::try_from(shift) {
            Ok(shift) => (a * big_pow10(shift), b),
            Err(_) => (a, b * big_pow10(u32::try_from(-shift).map_err(|_| fault::NUMERIC_OVERFLOW)?)),
        };
        Self::make(&big_rounded_quotient(&a, &b), scale, bump)
    }

    pub(crate) fn rem(self, other: Self, bump: &'a Bump) -> Answer<'a> {
        match (self, other) {
            (NaN, _) | (_, NaN) => return Ok(NaN),
            (_, finite) if finite.is_zero() => return Err(fault::DIVISION_BY_ZERO),
            (Infinity | MinusInfinity, _) => return Ok(NaN),
            (finite, Infinity | MinusInfinity) => return Ok(finite),
            _ => {}
        }
        if let (Small { unscaled: a, scale: sa }, Small { unscaled: b, scale: sb }) = (self, other) {
            let scale = sa.max(sb);
            if let Some((a, b)) = align(a, scale - sa).zip(align(b, scale - sb)) {
                return Ok(Small { unscaled: a.checked_rem(b).unwrap_or(0), scale });
            }
        }
        let (a, b, scale) = aligned(self, other)?;
        Self::make(&(a % b), scale, bump)
    }

    /// At most `scale` digits behind the point, half away from zero.
    fn round_to(self, scale: u32, bump: &'a Bump) -> Answer<'a> {
        match self {
            Small { scale: own, .. } | Large { scale: own, .. } if own > scale => self.round(scale as i32, bump),
            _ => Ok(self),
        }
    }

    /// `round(numeric, int)`.
    pub(crate) fn round(self, places: i32, bump: &'a Bump) -> Answer<'a> {
        self.shorten(places, bump, rounded_quotient, big_rounded_quotient)
    }

    /// `trunc(numeric, int)`.
    pub(crate) fn trunc(self, places: i32, bump: &'a Bump) -> Answer<'a> {
        self.shorten(places, bump, |a, b| a / b, |a, b| a / b)
    }

    fn shorten(
        self,
        places: i32,
        bump: &'a Bump,
        small: fn(i128, i128) -> i128,
        large: fn(&BigInt, &BigInt) -> BigInt,
    ) -> Answer<'a> {
        let (Small { scale, .. } | Large { scale, .. }) = self else { return Ok(self) };
        let places = places.clamp(-(MAX_DIGITS as i32), MAX_SCALE as i32);
        let wanted = u32::try_from(places).unwrap_or(0);
        if let Small { unscaled, scale } = self {
            if let Ok(places) = u32::try_from(places)
                && places >= scale
            {
                if let Some(unscaled) = align(unscaled, places - scale) {
                    return Ok(Small { unscaled, scale: places });
                }
            } else if let Some(unit) = pow10((i64::from(scale) - i64::from(places)) as u32) {
                let unscaled = small(unscaled, unit);
                if let Some(unscaled) = align(unscaled, places.min(0).unsigned_abs()) {
                    return Ok(Small { unscaled, scale: wanted });
                }
            }
        }
        let (number, _) = self.big().ok_or(fault::NUMERIC_OVERFLOW)?;
        let drop = i64::from(scale) - i64::from(places);
        let number = match u32::try_from(drop) {
            Ok(drop) => large(&number, &big_pow10(drop)) * big_pow10(places.min(0).unsigned_abs()),
            Err(_) => number * big_pow10(drop.unsigned_abs() as u32),
        };
        Self::make(&number, wanted, bump)
    }

    pub(crate) fn floor(self, bump: &'a Bump) -> Answer<'a> {
        let whole = self.trunc(0, bump)?;
        if self.sign() < 0 && whole.compare(self) != Ordering::Equal {
            return whole.sub(Self::integer(1), bump);
        }
        Ok(whole)
    }

    pub(crate) fn ceil(self, bump: &'a Bump) -> Answer<'a> {
        let whole = self.trunc(0, bump)?;
        if self.sign() > 0 && whole.compare(self) != Ordering::Equal {
            return whole.add(Self::integer(1), bump);
        }
        Ok(whole)
    }

    pub(crate) fn signum(self) -> Self {
        if matches!(self, NaN) { NaN } else { Self::integer(i64::from(self.sign())) }
    }

    /// NaN equals itself and is above everything.
    pub(crate) fn compare(self, other: Self) -> Ordering {
        let rank = |number: Self| match number {
            MinusInfinity => 0,
            Small { .. } | Large { .. } => 1,
            Infinity => 2,
            NaN => 3,
        };
        if rank(self) != 1 || rank(other) != 1 {
            return rank(self).cmp(&rank(other));
        }
        if let (Small { unscaled: a, scale: sa }, Small { unscaled: b, scale: sb }) = (self, other) {
            if sa == sb {
                return a.cmp(&b);
            }
            let scale = sa.max(sb);
            if let Some((a, b)) = align(a, scale - sa).zip(align(b, scale - sb)) {
                return a.cmp(&b);
            }
        }
        aligned(self, other).map_or(Ordering::Equal, |(a, b, _)| a.cmp(&b))
    }

    /// As `numeric(precision, scale)` takes it.
    pub(crate) fn fit(self, precision: u32, scale: i32, bump: &'a Bump) -> Answer<'a> {
        if matches!(self, Infinity | MinusInfinity) {
            return Err(fault::NUMERIC_OVERFLOW);
        }
        let fitted = self.round(scale, bump)?;
        let Some((number, own)) = fitted.big() else { return Ok(fitted) };
        let whole = i64::from(precision) - i64::from(scale);
        let count = if number.sign() == Sign::NoSign { 0 } else { digits(&number) as i64 };
        let front = count - i64::from(own);
        if number.sign() != Sign::NoSign && front > whole { Err(fault::NUMERIC_OVERFLOW) } else { Ok(fitted) }
    }

    /// Rounded to a whole number.
    pub(crate) fn to_integer(self, bump: &'a Bump) -> Result<i64, Fault> {
        match self {
            NaN | Infinity | MinusInfinity => Err(fault::NO_NUMERIC),
            finite => match finite.round(0, bump)? {
                Small { unscaled, .. } => i64::try_from(unscaled).map_err(|_| fault::INTEGER_RANGE),
                _ => Err(fault::INTEGER_RANGE),
            },
        }
    }

    pub(crate) fn to_f64(self, bump: &'a Bump) -> Result<f64, Fault> {
        match self {
            NaN => Ok(f64::NAN),
            Infinity => Ok(f64::INFINITY),
            MinusInfinity => Ok(f64::NEG_INFINITY),
            Small { unscaled, scale: 0 } if unscaled.unsigned_abs() < 1 << 53 => Ok(unscaled as f64),
            finite => {
                let value: f64 = finite.print(bump).parse().map_err(|_| fault::NO_TEXT_FORM)?;
                if value.is_infinite() {
                    return Err(fault::FLOAT_OVERFLOW);
                }
                if value == 0.0 && !finite.is_zero() { Err(fault::FLOAT_UNDERFLOW) } else { Ok(value) }
            }
        }
    }

    /// As PostgreSQL does it: by way of 15 (`float8`) or 6 (`float4`) significant digits.
    pub(crate) fn from_f64(value: f64, significant: usize, bump: &'a Bump) -> Answer<'a> {
        if value.is_nan() {
            return Ok(NaN);
        }
        if value.is_infinite() {
            return Ok(if value > 0.0 { Infinity } else { MinusInfinity });
        }
        let mut text = BumpString::new_in(bump);
        write(&mut text, format_args!("{value:.*e}", significant - 1));
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa =
            if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
        let mut shortest = BumpString::new_in(bump);
        write(&mut shortest, format_args!("{mantissa}e{exponent}"));
        Self::parse(shortest.into_bump_str(), bump)
    }

    /// PostgreSQL's input, without hexadecimal, octal and binary numbers.
    pub(crate) fn parse(text: &str, bump: &'a Bump) -> Answer<'a> {
        let text = text.trim_matches(is_space);
        let (negative, rest) = match text.as_bytes() {
            [b'-', ..] => (true, text.get(1..).unwrap_or_default()),
            [b'+', ..] => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        if rest.eq_ignore_ascii_case("nan") && rest.len() == text.len() {
            return Ok(NaN);
        }
        if rest.eq_ignore_ascii_case("infinity") || rest.eq_ignore_ascii_case("inf") {
            return Ok(if negative { MinusInfinity } else { Infinity });
        }
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => {
                let exponent = rest.get(at + 1..).unwrap_or_default();
                let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(fault::NO_TEXT_FORM);
                }
                (rest.get(..at).unwrap_or_default(), exponent.parse::<i32>().map_err(|_| fault::NUMERIC_OVERFLOW)?)
            }
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
        {
            return Err(fault::NO_TEXT_FORM);
        }
        let scale = fraction.len() as i64 - i64::from(exponent);
        if whole.len() + fraction.len() <= 38 && (0..=i64::from(MAX_SCALE)).contains(&scale) {
            let digits = whole.bytes().chain(fraction.bytes());
            let number = digits.fold(0_i128, |number, digit| number * 10 + i128::from(digit - b'0'));
            return Ok(Small { unscaled: if negative { -number } else { number }, scale: scale as u32 });
        }
        if scale.unsigned_abs() > (MAX_DIGITS as u64) * 2 {
            return Err(fault::NUMERIC_OVERFLOW);
        }
        let mut all = BumpVec::new_in(bump);
        all.extend(whole.bytes().chain(fraction.bytes()));
        let mut number = BigInt::parse_bytes(&all, 10).ok_or(fault::NO_TEXT_FORM)?;
        if negative {
            number = -number;
        }
        match u32::try_from(scale) {
            Ok(scale) => Self::make(&number, scale, bump)?.round_to(MAX_SCALE, bump),
            Err(_) => Self::make(&(number * big_pow10(scale.unsigned_abs() as u32)), 0, bump),
        }
    }

    /// PostgreSQL's output.
    pub(crate) fn print(self, bump: &'a Bump) -> &'a str {
        let mut text = BumpString::new_in(bump);
        let (digits, negative, scale) = match self {
            NaN => return "NaN",
            Infinity => return "Infinity",
            MinusInfinity => return "-Infinity",
            Small { unscaled, scale } => {
                let mut digits = BumpString::new_in(bump);
                write(&mut digits, format_args!("{}", unscaled.unsigned_abs()));
                (digits, unscaled < 0, scale as usize)
            }
            Large { unscaled, scale } => {
                let number = BigInt::from_signed_bytes_be(unscaled);
                let digits = BumpString::from_str_in(&number.magnitude().to_string(), bump);
                (digits, number.sign() == Sign::Minus, scale as usize)
            }
        };
        if negative {
            text.push('-');
        }
        let whole = digits.len().saturating_sub(scale);
        let (front, back) = digits.split_at_checked(whole).unwrap_or((&digits, ""));
        text.push_str(if front.is_empty() { "0" } else { front });
        if scale > 0 {
            text.push('.');
            text.extend(std::iter::repeat_n('0', scale - back.len()));
            text.push_str(back);
        }
        text.into_bump_str()
    }

    /// The unscaled value, big-endian two's complement, and the scale; `None` for NaN and the infinities.
    pub(crate) fn to_decimal(self, bump: &'a Bump) -> Option<(&'a [u8], i32)> {
        match self {
            Small { unscaled, scale } => Some((bump.alloc(unscaled.to_be_bytes()), i32::try_from(scale).ok()?)),
            Large { unscaled, scale } => Some((unscaled, i32::try_from(scale).ok()?)),
            NaN | Infinity | MinusInfinity => None,
        }
    }
}

fn write(out: &mut BumpString<'_>, text: std::fmt::Arguments<'_>) {
    std::fmt::Write::write_fmt(out, text).expect("a text takes every write");
}

/// C's `isspace`.
pub(crate) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0B' | '\x0C')
}

fn digits(number: &BigInt) -> usize {
    number.magnitude().to_string().len()
}

fn align(number: i128, by: u32) -> Option<i128> {
    if by == 0 { Some(number) } else { number.checked_mul(pow10(by)?) }
}

fn aligned(a: Numeric<'_>, b: Numeric<'_>) -> Result<(BigInt, BigInt, u32), Fault> {
    let (a, sa) = a.big().ok_or(fault::NUMERIC_OVERFLOW)?;
    let (b, sb) = b.big().ok_or(fault::NUMERIC_OVERFLOW)?;
    let scale = sa.max(sb);
    Ok((a * big_pow10(scale - sa), b * big_pow10(scale - sb), scale))
}

fn rounded_quotient(a: i128, b: i128) -> i128 {
    let (quotient, rest) = (a / b, a % b);
    // Not doubled: that could overflow.
    if rest.unsigned_abs() >= b.unsigned_abs() - rest.unsigned_abs() {
        quotient + if (a < 0) == (b < 0) { 1 } else { -1 }
    } else {
        quotient
    }
}

fn big_rounded_quotient(a: &BigInt, b: &BigInt) -> BigInt {
    let (quotient, rest) = (a / b, a % b);
    if rest.magnitude() * 2_u32 >= *b.magnitude() {
        quotient + if (a.sign() == Sign::Minus) == (b.sign() == Sign::Minus) { 1 } else { -1 }
    } else {
        quotient
    }
}

/// `select_div_scale`: at least 16 significant digits, counted in PostgreSQL's digits of four.
fn quotient_scale(a: Numeric<'_>, b: Numeric<'_>) -> u32 {
    let (weight_a, first_a, scale_a) = leading(a);
    let (weight_b, first_b, scale_b) = leading(b);
    let mut weight = weight_a - weight_b;
    if first_a <= first_b {
        weight -= 1;
    }
    let scale = (MIN_SIGNIFICANT - weight * 4).max(i64::from(scale_a)).max(i64::from(scale_b));
    scale.clamp(0, MAX_QUOTIENT_SCALE) as u32
}

/// Weight and value of the first digit to base 10,000, and the scale; all zero for zero.
fn leading(number: Numeric<'_>) -> (i64, u32, u32) {
    let (text, scale) = match number {
        Small { unscaled: 0, scale } => return (0, 0, scale),
        Small { unscaled, scale } => {
            let magnitude = unscaled.unsigned_abs();
            let length = magnitude.ilog10() + 1;
            let top = i64::from(length) - 1 - i64::from(scale);
            let count = top.rem_euclid(4) as u32 + 1;
            let first = match length.checked_sub(count) {
                Some(behind) => magnitude / 10_u128.pow(behind),
                None => magnitude * 10_u128.pow(count - length),
            };
            return (top.div_euclid(4), first as u32, scale);
        }
        Large { unscaled, scale } => (BigInt::from_signed_bytes_be(unscaled).magnitude().to_string(), scale),
        NaN | Infinity | MinusInfinity => return (0, 0, 0),
    };
    let top = text.len() as i64 - 1 - i64::from(scale);
    let (weight, count) = (top.div_euclid(4), top.rem_euclid(4) + 1);
    let first = text.bytes().take(count as usize);
    (weight, first.fold(0, |first, digit| first * 10 + u32::from(digit - b'0')), scale)
}
