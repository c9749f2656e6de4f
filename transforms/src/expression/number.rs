//! Arithmetic: one function per operator and type, with PostgreSQL's ranges and errors.

use bumpalo::Bump;

use super::node::Strict;
use crate::datum::{Answer, Datum};
use crate::fault::{self, Fault};
use crate::numeric::Numeric;
use crate::sql_type::SqlType;

/// An operator of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// The function of an operator for two values of one type; none where PostgreSQL has none.
pub(super) fn arithmetic(operator: Arithmetic, sql_type: SqlType) -> Option<Strict> {
    use Arithmetic::{Add, Divide, Multiply, Remainder, Subtract};
    Some(match (sql_type, operator) {
        (SqlType::Int2 | SqlType::Int4 | SqlType::Int8, _) => return Some(integers(operator, sql_type)),
        (SqlType::Float8, Add) => |a, _| floats(a, |a, b| a + b, false),
        (SqlType::Float8, Subtract) => |a, _| floats(a, |a, b| a - b, false),
        (SqlType::Float8, Multiply) => |a, _| floats(a, |a, b| a * b, true),
        (SqlType::Float8, Divide) => |a, _| {
            let [Datum::Float8(x), Datum::Float8(y)] = a else { return Err(fault::VALUE_FORM) };
            if *y == 0.0 && !x.is_nan() {
                return Err(fault::DIVISION_BY_ZERO);
            }
            let quotient = x / y;
            if quotient.is_infinite() && x.is_finite() {
                return Err(fault::FLOAT_OVERFLOW);
            }
            if quotient == 0.0 && *x != 0.0 && y.is_finite() {
                return Err(fault::FLOAT_UNDERFLOW);
            }
            Ok(Datum::Float8(quotient))
        },
        (SqlType::Float4, Add) => |a, _| singles(a, |a, b| a + b, false),
        (SqlType::Float4, Subtract) => |a, _| singles(a, |a, b| a - b, false),
        (SqlType::Float4, Multiply) => |a, _| singles(a, |a, b| a * b, true),
        (SqlType::Float4, Divide) => |a, _| {
            let [Datum::Float4(x), Datum::Float4(y)] = a else { return Err(fault::VALUE_FORM) };
            if *y == 0.0 && !x.is_nan() {
                return Err(fault::DIVISION_BY_ZERO);
            }
            let quotient = x / y;
            if quotient.is_infinite() && x.is_finite() {
                return Err(fault::FLOAT_OVERFLOW);
            }
            if quotient == 0.0 && *x != 0.0 && y.is_finite() {
                return Err(fault::FLOAT_UNDERFLOW);
            }
            Ok(Datum::Float4(quotient))
        },
        (SqlType::Numeric, Add) => |a, bump| numerics(a, bump, Numeric::add),
        (SqlType::Numeric, Subtract) => |a, bump| numerics(a, bump, Numeric::sub),
        (SqlType::Numeric, Multiply) => |a, bump| numerics(a, bump, Numeric::mul),
        (SqlType::Numeric, Divide) => |a, bump| numerics(a, bump, Numeric::div),
        (SqlType::Numeric, Remainder) => |a, bump| numerics(a, bump, Numeric::rem),
        _ => return None,
    })
}

fn integers(operator: Arithmetic, sql_type: SqlType) -> Strict {
    macro_rules! ranged {
        ($operation:expr) => {
            match sql_type {
                SqlType::Int2 => |a, _| integer::<{ i16::MIN as i64 }, { i16::MAX as i64 }>(a, $operation),
                SqlType::Int4 => |a, _| integer::<{ i32::MIN as i64 }, { i32::MAX as i64 }>(a, $operation),
                _ => |a, _| integer::<{ i64::MIN }, { i64::MAX }>(a, $operation),
            }
        };
    }
    match operator {
        Arithmetic::Add => ranged!(|a: i64, b: i64| a.checked_add(b).ok_or(fault::INTEGER_RANGE)),
        Arithmetic::Subtract => ranged!(|a: i64, b: i64| a.checked_sub(b).ok_or(fault::INTEGER_RANGE)),
        Arithmetic::Multiply => ranged!(|a: i64, b: i64| a.checked_mul(b).ok_or(fault::INTEGER_RANGE)),
        Arithmetic::Divide => ranged!(|a: i64, b: i64| match b {
            0 => Err(fault::DIVISION_BY_ZERO),
            b => a.checked_div(b).ok_or(fault::INTEGER_RANGE),
        }),
        Arithmetic::Remainder => ranged!(|a: i64, b: i64| match b {
            0 => Err(fault::DIVISION_BY_ZERO),
            b => Ok(a.checked_rem(b).unwrap_or(0)),
        }),
    }
}

fn integer<'a, const LEAST: i64, const MOST: i64>(
    arguments: &[Datum<'a>],
    operation: impl FnOnce(i64, i64) -> Result<i64, Fault>,
) -> Answer<'a> {
    let [Datum::Int(a), Datum::Int(b)] = arguments else { return Err(fault::VALUE_FORM) };
    in_range::<LEAST, MOST>(operation(*a, *b)?)
}

fn in_range<'a, const LEAST: i64, const MOST: i64>(value: i64) -> Answer<'a> {
    if (LEAST..=MOST).contains(&value) { Ok(Datum::Int(value)) } else { Err(fault::INTEGER_RANGE) }
}

fn floats<'a>(arguments: &[Datum<'a>], operation: impl FnOnce(f64, f64) -> f64, may_vanish: bool) -> Answer<'a> {
    let [Datum::Float8(a), Datum::Float8(b)] = arguments else { return Err(fault::VALUE_FORM) };
    let value = operation(*a, *b);
    if value.is_infinite() && a.is_finite() && b.is_finite() {
        return Err(fault::FLOAT_OVERFLOW);
    }
    if may_vanish && value == 0.0 && *a != 0.0 && *b != 0.0 {
        return Err(fault::FLOAT_UNDERFLOW);
    }
    Ok(Datum::Float8(value))
}

fn singles<'a>(arguments: &[Datum<'a>], operation: impl FnOnce(f32, f32) -> f32, may_vanish: bool) -> Answer<'a> {
    let [Datum::Float4(a), Datum::Float4(b)] = arguments else { return Err(fault::VALUE_FORM) };
    let value = operation(*a, *b);
    if value.is_infinite() && a.is_finite() && b.is_finite() {
        return Err(fault::FLOAT_OVERFLOW);
    }
    if may_vanish && value == 0.0 && *a != 0.0 && *b != 0.0 {
        return Err(fault::FLOAT_UNDERFLOW);
    }
    Ok(Datum::Float4(value))
}

fn numerics<'a>(
    arguments: &[Datum<'a>],
    bump: &'a Bump,
    operation: fn(Numeric<'a>, Numeric<'a>, &'a Bump) -> Result<Numeric<'a>, Fault>,
) -> Answer<'a> {
    let [Datum::Numeric(a), Datum::Numeric(b)] = arguments else { return Err(fault::VALUE_FORM) };
    operation(*a, *b, bump).map(Datum::Numeric)
}

fn int1<'a>(arguments: &[Datum<'a>]) -> Result<i64, Fault> {
    if let [Datum::Int(value)] = arguments { Ok(*value) } else { Err(fault::VALUE_FORM) }
}

/// `-x`
pub(super) fn negate(sql_type: SqlType) -> Option<Strict> {
    Some(match sql_type {
        SqlType::Int2 => |a, _| in_range::<{ i16::MIN as i64 }, { i16::MAX as i64 }>(-int1(a)?),
        SqlType::Int4 => |a, _| in_range::<{ i32::MIN as i64 }, { i32::MAX as i64 }>(-int1(a)?),
        SqlType::Int8 => |a, _| int1(a)?.checked_neg().map(Datum::Int).ok_or(fault::INTEGER_RANGE),
        SqlType::Float4 | SqlType::Float8 => |a, _| match a {
            [Datum::Float4(value)] => Ok(Datum::Float4(-value)),
            [Datum::Float8(value)] => Ok(Datum::Float8(-value)),
            _ => Err(fault::VALUE_FORM),
        },
        SqlType::Numeric => |a, bump| numeric1(a, |number| number.neg(bump)),
        SqlType::Interval => |a, _| match a {
            [Datum::Interval(interval)] => interval.neg().map(Datum::Interval),
            _ => Err(fault::VALUE_FORM),
        },
        _ => return None,
    })
}

fn numeric1<'a>(
    arguments: &[Datum<'a>],
    operation: impl FnOnce(Numeric<'a>) -> Result<Numeric<'a>, Fault>,
) -> Answer<'a> {
    let [Datum::Numeric(number)] = arguments else { return Err(fault::VALUE_FORM) };
    operation(*number).map(Datum::Numeric)
}

fn float1<'a>(arguments: &[Datum<'a>], operation: fn(f64) -> f64) -> Answer<'a> {
    let [Datum::Float8(value)] = arguments else { return Err(fault::VALUE_FORM) };
    Ok(Datum::Float8(operation(*value)))
}

/// `ABS`
pub(super) fn absolute(sql_type: SqlType) -> Option<Strict> {
    Some(match sql_type {
        SqlType::Int2 => |a, _| in_range::<{ i16::MIN as i64 }, { i16::MAX as i64 }>(int1(a)?.abs()),
        SqlType::Int4 => |a, _| in_range::<{ i32::MIN as i64 }, { i32::MAX as i64 }>(int1(a)?.abs()),
        SqlType::Int8 => |a, _| int1(a)?.checked_abs().map(Datum::Int).ok_or(fault::INTEGER_RANGE),
        SqlType::Float4 => |a, _| match a {
            [Datum::Float4(value)] => Ok(Datum::Float4(value.abs())),
            _ => Err(fault::VALUE_FORM),
        },
        SqlType::Float8 => |a, _| float1(a, f64::abs),
        SqlType::Numeric => |a, bump| numeric1(a, |number| number.abs(bump)),
        _ => return None,
    })
}

/// `ROUND`, `CEIL`, `FLOOR`, `TRUNC` and `SIGN` of one argument; their type is `numeric` or `double precision`.
pub(super) fn rounding(name: &str, sql_type: SqlType) -> Option<Strict> {
    Some(match (name, sql_type) {
        ("round", SqlType::Numeric) => |a, bump| numeric1(a, |number| number.round(0, bump)),
        ("trunc", SqlType::Numeric) => |a, bump| numeric1(a, |number| number.trunc(0, bump)),
        ("ceil" | "ceiling", SqlType::Numeric) => |a, bump| numeric1(a, |number| number.ceil(bump)),
        ("floor", SqlType::Numeric) => |a, bump| numeric1(a, |number| number.floor(bump)),
        ("sign", SqlType::Numeric) => |a, _| numeric1(a, |number| Ok(number.signum())),
        ("round", _) => |a, _| float1(a, f64::round_ties_even),
        ("trunc", _) => |a, _| float1(a, f64::trunc),
        ("ceil" | "ceiling", _) => |a, _| float1(a, f64::ceil),
        ("floor", _) => |a, _| float1(a, f64::floor),
        ("sign", _) => |a, _| {
            float1(a, |value| {
                if value > 0.0 {
                    1.0
                } else if value < 0.0 {
                    -1.0
                } else {
                    0.0
                }
            })
        },
        _ => return None,
    })
}

/// `ROUND` and `TRUNC` to places of a numeric.
pub(super) fn round_to<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let [Datum::Numeric(number), Datum::Int(places)] = arguments else { return Err(fault::VALUE_FORM) };
    number.round(*places as i32, bump).map(Datum::Numeric)
}

pub(super) fn trunc_to<'a>(arguments: &[Datum<'a>], bump: &'a Bump) -> Answer<'a> {
    let [Datum::Numeric(number), Datum::Int(places)] = arguments else { return Err(fault::VALUE_FORM) };
    number.trunc(*places as i32, bump).map(Datum::Numeric)
}
