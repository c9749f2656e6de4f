//! Which type becomes which, by itself and by `CAST`.

use bumpalo::Bump;
use bumpalo::collections::String as BumpString;
use sqlparser::tokenizer::Span;

use super::node::{Node, Strict};
use super::typed::{Typed, call, prepared};
use crate::calendar::{self, DAY};
use crate::datum::{Answer, Datum};
use crate::fault::{self, Fault};
use crate::interval::Interval;
use crate::json;
use crate::numeric::Numeric;
use crate::sql_type::SqlType::{
    self, Bool, Bpchar, Bytea, Date, Enum, Float4, Float8, Int2, Int4, Int8, Json, Jsonb, Literal, Opaque, Text,
    Textual, Time, Timestamp, Timestamptz,
};
use crate::text_form;

/// A mistake without the expression's text yet.
pub(super) type Wrong = (Span, String);

/// Whether PostgreSQL casts by itself.
pub(super) fn is_implicit(from: SqlType, to: SqlType) -> bool {
    from == to
        || match to {
            Int4 => from == Int2,
            Int8 => matches!(from, Int2 | Int4),
            SqlType::Numeric => from.is_integer(),
            Float4 => from.is_integer() || from == SqlType::Numeric,
            Float8 => from.is_number(),
            Text => from == Bpchar,
            Bpchar => from == Text,
            Timestamp => from == Date,
            Timestamptz => matches!(from, Date | Timestamp),
            SqlType::Interval => from == Time,
            _ => false,
        }
        || (from == Literal && !matches!(to, Opaque))
}

/// The value as another type, where PostgreSQL does it by itself.
pub(super) fn implicit(value: Typed, to: SqlType) -> Result<Typed, Wrong> {
    if is_implicit(value.sql_type, to) {
        return convert(value, to, -1);
    }
    let (from, span) = (value.sql_type, value.span);
    Err((span, format!("is {from} where {to} is expected; cast it: (…)::{to}")))
}

/// `CAST(value AS type)`, with the type's modifier where it has one.
pub(super) fn explicit(value: Typed, to: SqlType, modifier: i32) -> Result<Typed, Wrong> {
    let (from, span) = (value.sql_type, value.span);
    let possible = from == to
        || from == Literal
        || to.is_text()
        || from.is_text()
        || is_implicit(from, to)
        || (from.is_number() && to.is_number())
        || matches!((from, to), (Int4, Bool) | (Bool, Int4) | (Json, Jsonb) | (Jsonb, Json))
        || matches!((from, to), (Timestamp | Timestamptz, Date | Time | Timestamp | Timestamptz))
        || matches!((from, to), (SqlType::Interval, Time));
    if !possible || from == Opaque {
        return Err((span, format!("cannot cast {from} to {to}")));
    }
    convert(value, to, modifier)
}

fn convert(value: Typed, to: SqlType, modifier: i32) -> Result<Typed, Wrong> {
    let span = value.span;
    let failed = |fault: Fault| (span, format!("{fault} (wanted: {to})"));
    let mut node = value.node;
    if value.sql_type == Literal || (value.sql_type.is_text() && !to.is_text()) {
        if to != Text && to != Bpchar {
            node = call(reader(to), vec![node]).map_err(failed)?;
        }
    } else if let Some(function) = conversion(value.sql_type, to) {
        node = call(function, vec![node]).map_err(failed)?;
    }
    if modifier >= 0
        && let Some(fit) = fitting(to, modifier)
    {
        node = prepared(fit, vec![node]).map_err(failed)?;
    }
    Ok(Typed { node, sql_type: to, modifier, span })
}

/// Reads a type from text.
fn reader(to: SqlType) -> Strict {
    macro_rules! read {
        ($($sql_type:ident),*) => {
            match to {
                $(SqlType::$sql_type => |a, bump| from_text(a, SqlType::$sql_type, bump),)*
                _ => |a, _| Ok(a[0]),
            }
        };
    }
    read!(
        Bool,
        Int2,
        Int4,
        Int8,
        Float4,
        Float8,
        Numeric,
        Bytea,
        Date,
        Time,
        Timestamp,
        Timestamptz,
        Interval,
        Json,
        Jsonb,
        Uuid
    )
}

fn from_text<'a>(arguments: &[Datum<'a>], to: SqlType, bump: &'a Bump) -> Answer<'a> {
    let [Datum::Text(text)] = arguments else { return Err(fault::VALUE_FORM) };
    text_form::parse(text, to, bump)
}

/// Prints a value as `CAST(… AS text)`.
fn printer(from: SqlType) -> Option<Strict> {
    Some(match from {
        Text | Literal | Json | Jsonb | SqlType::Uuid | Enum | Textual => return None,
        Bpchar => |a, _| match a {
            [Datum::Text(text)] => Ok(Datum::Text(text.trim_end_matches(' '))),
            _ => Err(fault::VALUE_FORM),
        },
        Bool => |a, _| match a {
            [Datum::Bool(value)] => Ok(Datum::Text(if *value { "true" } else { "false" })),
            _ => Err(fault::VALUE_FORM),
        },
        Timestamptz => |a, bump| Ok(Datum::Text(text_form::print(a[0], Timestamptz, bump))),
        _ => |a, bump| Ok(Datum::Text(text_form::print(a[0], Text, bump))),
    })
}

/// Between types that are no text; none where the datum is the same.
fn conversion(from: SqlType, to: SqlType) -> Option<Strict> {
    if from == to {
        return None;
    }
    Some(match (from, to) {
        (Text, Bpchar) | (Text, Text) => return None,
        (_, Text | Bpchar) => return printer(from),
        (Int2 | Int4 | Int8, Int2) => |a, _| narrow(a, i64::from(i16::MIN), i64::from(i16::MAX)),
        (Int2 | Int4 | Int8, Int4) => |a, _| narrow(a, i64::from(i32::MIN), i64::from(i32::MAX)),
        (Int2 | Int4, Int8) => return None,
        (Int2 | Int4 | Int8, Float8) => |a, _| Ok(Datum::Float8(integer(a)? as f64)),
        (Int2 | Int4 | Int8, Float4) => |a, _| Ok(Datum::Float4(integer(a)? as f32)),
        (Int2 | Int4 | Int8, SqlType::Numeric) => |a, _| Ok(Datum::Numeric(Numeric::integer(integer(a)?))),
        (Int4, Bool) => |a, _| Ok(Datum::Bool(integer(a)? != 0)),
        (Bool, Int4) => |a, _| match a {
            [Datum::Bool(value)] => Ok(Datum::Int(i64::from(*value))),
            _ => Err(fault::VALUE_FORM),
        },
        (Float4 | Float8, Int2) => |a, _| whole(a, i64::from(i16::MIN), i64::from(i16::MAX)),
        (Float4 | Float8, Int4) => |a, _| whole(a, i64::from(i32::MIN), i64::from(i32::MAX)),
        (Float4 | Float8, Int8) => |a, _| whole(a, i64::MIN, i64::MAX),
        (Float4, Float8) => |a, _| Ok(Datum::Float8(float(a)?)),
        (Float8, Float4) => |a, _| {
            let value = float(a)?;
            let single = value as f32;
            if single.is_infinite() && value.is_finite() {
                return Err(fault::FLOAT_OVERFLOW);
            }
            if single == 0.0 && value != 0.0 { Err(fault::FLOAT_UNDERFLOW) } else { Ok(Datum::Float4(single)) }
        },
        (Float4, SqlType::Numeric) => |a, bump| Ok(Datum::Numeric(Numeric::from_f64(float(a)?, 6, bump)?)),
        (Float8, SqlType::Numeric) => |a, bump| Ok(Datum::Numeric(Numeric::from_f64(float(a)?, 15, bump)?)),
        (SqlType::Numeric, Int2) => |a, bump| rounded(a, i64::from(i16::MIN), i64::from(i16::MAX), bump),
        (SqlType::Numeric, Int4) => |a, bump| rounded(a, i64::from(i32::MIN), i64::from(i32::MAX), bump),
        (SqlType::Numeric, Int8) => |a, bump| rounded(a, i64::MIN, i64::MAX, bump),
        (SqlType::Numeric, Float8) => |a, bump| Ok(Datum::Float8(numeric(a)?.to_f64(bump)?)),
        (SqlType::Numeric, Float4) => |a, bump| text_form::parse(numeric(a)?.print(bump), Float4, bump),
        (Date, Timestamp | Timestamptz) => |a, _| match a {
            [Datum::Date(date)] => calendar::date_to_timestamp(*date).map(Datum::Timestamp),
            _ => Err(fault::VALUE_FORM),
        },
        (Timestamp | Timestamptz, Date) => |a, _| Ok(Datum::Date(calendar::timestamp_to_date(micros(a)?))),
        (Timestamp | Timestamptz, Time) => |a, _| match micros(a)? {
            finite if calendar::is_finite(finite) => Ok(Datum::Time(finite.rem_euclid(DAY))),
            _ => Ok(Datum::Null),
        },
        (Time, SqlType::Interval) => |a, _| match a {
            [Datum::Time(micros)] => Ok(Datum::Interval(Interval { months: 0, days: 0, micros: *micros })),
            _ => Err(fault::VALUE_FORM),
        },
        (SqlType::Interval, Time) => |a, _| match a {
            [Datum::Interval(interval)] if interval.is_finite() => Ok(Datum::Time(interval.micros.rem_euclid(DAY))),
            [Datum::Interval(_)] => Err(fault::DATETIME_RANGE),
            _ => Err(fault::VALUE_FORM),
        },
        (Json, Jsonb) => |a, bump| match a {
            [Datum::Text(text)] => json::normalize(text, bump).map(Datum::Text),
            _ => Err(fault::VALUE_FORM),
        },
        _ => return None,
    })
}

fn integer(arguments: &[Datum<'_>]) -> Result<i64, Fault> {
    if let [Datum::Int(value)] = arguments { Ok(*value) } else { Err(fault::VALUE_FORM) }
}

fn float(arguments: &[Datum<'_>]) -> Result<f64, Fault> {
    match arguments {
        [Datum::Float4(value)] => Ok(f64::from(*value)),
        [Datum::Float8(value)] => Ok(*value),
        _ => Err(fault::VALUE_FORM),
    }
}

fn numeric<'a>(arguments: &[Datum<'a>]) -> Result<Numeric<'a>, Fault> {
    if let [Datum::Numeric(number)] = arguments { Ok(*number) } else { Err(fault::VALUE_FORM) }
}

fn micros(arguments: &[Datum<'_>]) -> Result<i64, Fault> {
    if let [Datum::Timestamp(micros)] = arguments { Ok(*micros) } else { Err(fault::VALUE_FORM) }
}

fn narrow<'a>(arguments: &[Datum<'a>], least: i64, most: i64) -> Answer<'a> {
    let value = integer(arguments)?;
    if (least..=most).contains(&value) { Ok(Datum::Int(value)) } else { Err(fault::INTEGER_RANGE) }
}

fn whole<'a>(arguments: &[Datum<'a>], least: i64, most: i64) -> Answer<'a> {
    let value = float(arguments)?.round_ties_even();
    // The upper bound of bigint is no float: one above it is.
    if value >= least as f64 && value < most as f64 + if most == i64::MAX { 0.0 } else { 1.0 } {
        Ok(Datum::Int(value as i64))
    } else {
        Err(fault::INTEGER_RANGE)
    }
}

fn rounded<'a>(arguments: &[Datum<'a>], least: i64, most: i64, bump: &'a Bump) -> Answer<'a> {
    let value = numeric(arguments)?.to_integer(bump)?;
    if (least..=most).contains(&value) { Ok(Datum::Int(value)) } else { Err(fault::INTEGER_RANGE) }
}

/// Fits a value into `numeric(p,s)`, `varchar(n)`, `char(n)`, as an explicit cast does.
fn fitting(to: SqlType, modifier: i32) -> Option<super::node::Prepared> {
    match to {
        SqlType::Numeric => {
            let (precision, scale) = numeric_modifier(modifier);
            Some(Box::new(move |a, bump| Ok(Datum::Numeric(numeric(a)?.fit(precision, scale, bump)?))))
        }
        Text | Bpchar => {
            let length = usize::try_from(modifier - 4).ok()?;
            let pads = to == Bpchar;
            Some(Box::new(move |a, bump| {
                let [Datum::Text(text)] = a else { return Err(fault::VALUE_FORM) };
                let end = text.char_indices().nth(length).map_or(text.len(), |(at, _)| at);
                let cut = text.get(..end).unwrap_or(text);
                let missing = length.saturating_sub(cut.chars().count());
                if !pads || missing == 0 {
                    return Ok(Datum::Text(cut));
                }
                let mut padded = BumpString::from_str_in(cut, bump);
                padded.extend(std::iter::repeat_n(' ', missing));
                Ok(Datum::Text(padded.into_bump_str()))
            }))
        }
        _ => None,
    }
}

/// Precision and scale of a numeric's `atttypmod`.
pub(super) fn numeric_modifier(modifier: i32) -> (u32, i32) {
    let modifier = modifier - 4;
    (((modifier >> 16) & 0xFFFF) as u32, ((modifier & 0x7FF) ^ 1024) - 1024)
}

/// The type that several parts come to (`CASE`, `COALESCE`, `IN`, …): PostgreSQL's rules for UNION and CASE.
pub(super) fn common_type(parts: &[&Typed], what: &str) -> Result<SqlType, Wrong> {
    let mut found: Option<SqlType> = None;
    for part in parts {
        let next = part.sql_type;
        match found {
            _ if next == Literal => {}
            None => found = Some(next),
            Some(current) if current == next => {}
            Some(current) if category(current) != category(next) => {
                return Err((
                    part.span,
                    format!("{what} types {current} and {next} cannot be matched; cast one of them"),
                ));
            }
            Some(current) => {
                if !is_preferred(current) && is_implicit(current, next) && !is_implicit(next, current) {
                    found = Some(next);
                }
            }
        }
    }
    Ok(found.unwrap_or(Text))
}

fn is_preferred(sql_type: SqlType) -> bool {
    matches!(sql_type, Bool | Float8 | Text | Timestamptz | SqlType::Interval)
}

fn category(sql_type: SqlType) -> u8 {
    match sql_type {
        Bool => b'B',
        Int2 | Int4 | Int8 | Float4 | Float8 | SqlType::Numeric => b'N',
        Text | Bpchar => b'S',
        Date | Time | Timestamp | Timestamptz => b'D',
        SqlType::Interval => b'T',
        Json => b'j',
        Jsonb => b'J',
        SqlType::Uuid => b'u',
        Bytea => b'b',
        Enum => b'E',
        Literal => b'X',
        Textual | Opaque => b'O',
    }
}

/// The output text of any type, as `CONCAT` uses it.
pub(super) fn output(value: Typed) -> Result<Node, Wrong> {
    let span = value.span;
    let function: Strict = match value.sql_type {
        Opaque => return Err((span, "has a type whose text is not known here".into())),
        Text | Literal | Json | Jsonb | SqlType::Uuid | Enum | Textual | Bpchar => return Ok(value.node),
        Timestamptz => |a, bump| Ok(Datum::Text(text_form::print(a[0], Timestamptz, bump))),
        _ => |a, bump| Ok(Datum::Text(text_form::print(a[0], Text, bump))),
    };
    call(function, vec![value.node]).map_err(|fault| (span, fault.to_string()))
}
