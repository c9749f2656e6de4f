//! A typed value while an expression runs, and its way from and to an event's values.

use std::cmp::Ordering;

use bumpalo::Bump;
use syncline_event::avro::value::Value;

use crate::calendar::{self, DAY, EPOCH_DAYS};
use crate::fault::{self, Fault};
use crate::interval::Interval;
use crate::numeric::Numeric;
use crate::sql_type::SqlType;
use crate::text_form;

/// A value. Which variant stands for a type is fixed, so the evaluator never asks for the type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Datum<'a> {
    Null,
    /// Not in the event.
    Unknown,
    Bool(bool),
    /// All integers.
    Int(i64),
    Float4(f32),
    Float8(f64),
    Numeric(Numeric<'a>),
    /// Text, `char(n)`, JSON, UUID, enum labels.
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since 2000-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 2000-01-01; in UTC where there is a zone.
    Timestamp(i64),
    Interval(Interval),
    /// A value of a type without operators.
    Opaque(Value<'a>),
}

pub(crate) type Answer<'a> = Result<Datum<'a>, Fault>;

impl<'a> Datum<'a> {
    /// The value of a column.
    pub(crate) fn of(value: &Value<'a>, sql_type: SqlType, bump: &'a Bump) -> Answer<'a> {
        Ok(match (sql_type, *value) {
            (_, Value::Null) => Self::Null,
            (_, Value::Unknown) => Self::Unknown,
            (SqlType::Opaque, value) => Self::Opaque(value),
            (SqlType::Bool, Value::Boolean(value)) => Self::Bool(value),
            (SqlType::Int2 | SqlType::Int4 | SqlType::Int8, Value::Integer(value)) => Self::Int(value),
            (SqlType::Float4, Value::Float32(value)) => Self::Float4(value),
            (SqlType::Float8, Value::Float64(value)) => Self::Float8(value),
            (SqlType::Float8, Value::Float32(value)) => Self::Float8(f64::from(value)),
            (SqlType::Numeric, Value::Decimal { unscaled, scale }) => {
                Self::Numeric(Numeric::from_decimal(unscaled, scale, bump)?)
            }
            (SqlType::Numeric, Value::Integer(value)) => Self::Numeric(Numeric::integer(value)),
            (SqlType::Date, Value::Date(days)) => Self::Date(calendar::date(i64::from(days) - EPOCH_DAYS)?),
            (SqlType::Time, Value::Time(micros)) => Self::Time(micros),
            (SqlType::Timestamp | SqlType::Timestamptz, Value::Timestamp(micros)) => {
                let micros = i128::from(micros) - i128::from(EPOCH_DAYS * DAY);
                Self::Timestamp(calendar::timestamp(micros)?)
            }
            (SqlType::Timestamp | SqlType::Timestamptz, Value::TimestampMillis(millis)) => {
                let micros = i128::from(millis) * 1_000 - i128::from(EPOCH_DAYS * DAY);
                Self::Timestamp(calendar::timestamp(micros)?)
            }
            (SqlType::Timestamptz, Value::ZonedTimestamp(text)) => {
                Self::Timestamp(calendar::parse_timestamp(text, true)?)
            }
            (SqlType::Interval, Value::Duration(micros)) => Self::Interval(Interval { months: 0, days: 0, micros }),
            (SqlType::Bytea, Value::Bytes(bytes)) => Self::Bytes(bytes),
            (SqlType::Bytea, Value::EncodedBytes(text)) => {
                let mut bytes = Vec::new();
                text.decode(&mut bytes).ok_or(fault::VALUE_FORM)?;
                Self::Bytes(bump.alloc_slice_copy(&bytes))
            }
            // `decimal.handling.mode=double`
            (SqlType::Numeric, Value::Float64(value)) => Self::Numeric(Numeric::from_f64(value, 15, bump)?),
            (sql_type, Value::Text(text) | Value::SourceText(text)) => match sql_type {
                SqlType::Text | SqlType::Bpchar | SqlType::Enum | SqlType::Textual | SqlType::Json | SqlType::Jsonb => {
                    Self::Text(text)
                }
                other => text_form::parse(text, other, bump)?,
            },
            _ => return Err(fault::VALUE_FORM),
        })
    }

    /// The value as a target takes it.
    pub(crate) fn to_value(self, sql_type: SqlType, bump: &'a Bump) -> Value<'a> {
        match self {
            Self::Null => Value::Null,
            Self::Unknown => Value::Unknown,
            Self::Bool(value) => Value::Boolean(value),
            Self::Int(value) => Value::Integer(value),
            Self::Float4(value) => Value::Float32(value),
            Self::Float8(value) => Value::Float64(value),
            Self::Numeric(number) => match number.to_decimal(bump) {
                Some((unscaled, scale)) => Value::Decimal { unscaled, scale },
                None => Value::SourceText(number.print(bump)),
            },
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::Date(calendar::DATE_INFINITY) | Self::Timestamp(calendar::INFINITY) => Value::Text("infinity"),
            Self::Date(calendar::DATE_MINUS_INFINITY) | Self::Timestamp(calendar::MINUS_INFINITY) => {
                Value::Text("-infinity")
            }
            Self::Date(days) => match i32::try_from(i64::from(days) + EPOCH_DAYS) {
                Ok(days) => Value::Date(days),
                Err(_) => Value::SourceText(text_form::print(self, sql_type, bump)),
            },
            Self::Time(micros) => Value::Time(micros),
            Self::Timestamp(micros) => match micros.checked_add(EPOCH_DAYS * DAY) {
                Some(micros) if sql_type == SqlType::Timestamp => Value::Timestamp(micros),
                Some(_) | None => Value::ZonedTimestamp(text_form::print(self, sql_type, bump)),
            },
            Self::Interval(_) => Value::SourceText(text_form::print(self, SqlType::Interval, bump)),
            Self::Opaque(value) => value,
        }
    }
}

/// Compares two values of one type. NaN equals itself and is above every number; text compares by its bytes.
pub(crate) fn compare(a: Datum<'_>, b: Datum<'_>) -> Ordering {
    match (a, b) {
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(&b),
        (Datum::Int(a), Datum::Int(b)) => a.cmp(&b),
        (Datum::Float4(a), Datum::Float4(b)) => floats(f64::from(a), f64::from(b)),
        (Datum::Float8(a), Datum::Float8(b)) => floats(a, b),
        (Datum::Numeric(a), Datum::Numeric(b)) => a.compare(b),
        (Datum::Text(a), Datum::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Datum::Bytes(a), Datum::Bytes(b)) => a.cmp(b),
        (Datum::Date(a), Datum::Date(b)) => a.cmp(&b),
        (Datum::Time(a), Datum::Time(b)) | (Datum::Timestamp(a), Datum::Timestamp(b)) => a.cmp(&b),
        (Datum::Interval(a), Datum::Interval(b)) => a.compare(b),
        _ => Ordering::Equal,
    }
}

fn floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}
