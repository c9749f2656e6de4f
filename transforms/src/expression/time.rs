//! Functions and operators of dates, times, timestamps and intervals.

use jiff::civil::{Date as CivilDate, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use super::cast::{Wrong, implicit};
use super::node::{Prepared, Strict};
use super::number::Arithmetic;
use super::operators::made;
use super::typed::Typed;
use crate::calendar::{self, Civil, DATE_INFINITY, DATE_MINUS_INFINITY, DAY, EPOCH_DAYS, HOUR, MINUTE, SECOND};
use crate::datum::{Answer, Datum};
use crate::fault::{self, Fault};
use crate::interval::Interval;
use crate::numeric::Numeric;
use crate::sql_type::SqlType::{self, Date, Int2, Int4, Literal, Time, Timestamp, Timestamptz};

/// Operators of dates and times; none where there is no such operator.
pub(super) fn computed(left: Typed, operator: Arithmetic, right: Typed) -> Option<Result<Typed, Wrong>> {
    use Arithmetic::{Add, Subtract};
    let span = left.span;
    let interval = SqlType::Interval;
    // An untyped literal is of the other side's type, where that makes sense.
    let (a, b) = match (left.sql_type, right.sql_type) {
        (Literal, other) | (other, Literal) if operator == Subtract || other == interval => (other, other),
        pair => pair,
    };
    let (function, result): (Strict, SqlType) = match (a, operator, b) {
        (Date, Add, Int2 | Int4) => (|a, _| add_days(a[0], a[1], 1), Date),
        (Int2 | Int4, Add, Date) => (|a, _| add_days(a[1], a[0], 1), Date),
        (Date, Subtract, Int2 | Int4) => (|a, _| add_days(a[0], a[1], -1), Date),
        (Date, Subtract, Date) => (between_dates, Int4),
        (Date, Add, Time) => (|a, _| date_and_time(a[0], a[1]), Timestamp),
        (Time, Add, Date) => (|a, _| date_and_time(a[1], a[0]), Timestamp),
        (Date | Timestamp, Add, SqlType::Interval) => (|a, _| move_by(a[0], a[1], false), Timestamp),
        (Date | Timestamp, Subtract, SqlType::Interval) => (|a, _| move_by(a[0], a[1], true), Timestamp),
        (SqlType::Interval, Add, Date | Timestamp) => (|a, _| move_by(a[1], a[0], false), Timestamp),
        (Timestamptz, Add, SqlType::Interval) => (|a, _| move_by(a[0], a[1], false), Timestamptz),
        (Timestamptz, Subtract, SqlType::Interval) => (|a, _| move_by(a[0], a[1], true), Timestamptz),
        (SqlType::Interval, Add, Timestamptz) => (|a, _| move_by(a[1], a[0], false), Timestamptz),
        (Timestamp, Subtract, Timestamp | Date)
        | (Date, Subtract, Timestamp)
        | (Timestamptz, Subtract, Timestamptz | Timestamp | Date)
        | (Timestamp | Date, Subtract, Timestamptz) => (between, interval),
        (Time, Add, SqlType::Interval) => (|a, _| turn(a[0], a[1], 1), Time),
        (SqlType::Interval, Add, Time) => (|a, _| turn(a[1], a[0], 1), Time),
        (Time, Subtract, SqlType::Interval) => (|a, _| turn(a[0], a[1], -1), Time),
        (Time, Subtract, Time) => (between_times, interval),
        (SqlType::Interval, Add, SqlType::Interval) => (|a, _| sum(a[0], a[1], false), interval),
        (SqlType::Interval, Subtract, SqlType::Interval) => (|a, _| sum(a[0], a[1], true), interval),
        _ => return None,
    };
    // Dates among timestamps are midnights.
    let wide = |own: SqlType, other: SqlType| match (own, result, other) {
        (Date, Timestamp, Time) => Date,
        (Date, SqlType::Interval | Timestamp, _) => Timestamp,
        (own, ..) => own,
    };
    let (to_a, to_b) = (wide(a, b), wide(b, a));
    Some((|| made(function, vec![implicit(left, to_a)?.node, implicit(right, to_b)?.node], result, span))())
}

fn add_days<'a>(date: Datum<'a>, days: Datum<'a>, sign: i64) -> Answer<'a> {
    let (Datum::Date(date), Datum::Int(days)) = (date, days) else { return Err(fault::VALUE_FORM) };
    if matches!(date, DATE_INFINITY | DATE_MINUS_INFINITY) {
        return Ok(Datum::Date(date));
    }
    calendar::date(i64::from(date) + days * sign).map(Datum::Date)
}

fn between_dates<'a>(arguments: &[Datum<'a>], _: &'a bumpalo::Bump) -> Answer<'a> {
    let [Datum::Date(a), Datum::Date(b)] = arguments else { return Err(fault::VALUE_FORM) };
    if [a, b].iter().any(|date| matches!(**date, DATE_INFINITY | DATE_MINUS_INFINITY)) {
        return Err(fault::DATETIME_RANGE);
    }
    Ok(Datum::Int(i64::from(*a) - i64::from(*b)))
}

fn date_and_time<'a>(date: Datum<'a>, time: Datum<'a>) -> Answer<'a> {
    let (Datum::Date(date), Datum::Time(time)) = (date, time) else { return Err(fault::VALUE_FORM) };
    match calendar::date_to_timestamp(date)? {
        finite if calendar::is_finite(finite) => {
            calendar::timestamp(i128::from(finite) + i128::from(time)).map(Datum::Timestamp)
        }
        infinite => Ok(Datum::Timestamp(infinite)),
    }
}

fn move_by<'a>(timestamp: Datum<'a>, interval: Datum<'a>, back: bool) -> Answer<'a> {
    let (Datum::Timestamp(timestamp), Datum::Interval(interval)) = (timestamp, interval) else {
        return Err(fault::VALUE_FORM);
    };
    let interval = if back { interval.neg()? } else { interval };
    interval.after(timestamp).map(Datum::Timestamp)
}

fn between<'a>(arguments: &[Datum<'a>], _: &'a bumpalo::Bump) -> Answer<'a> {
    let [Datum::Timestamp(a), Datum::Timestamp(b)] = arguments else { return Err(fault::VALUE_FORM) };
    Interval::between(*a, *b).map(Datum::Interval)
}

fn turn<'a>(time: Datum<'a>, interval: Datum<'a>, sign: i64) -> Answer<'a> {
    let (Datum::Time(time), Datum::Interval(interval)) = (time, interval) else { return Err(fault::VALUE_FORM) };
    if !interval.is_finite() {
        return Err(fault::DATETIME_RANGE);
    }
    Ok(Datum::Time((time + interval.micros % DAY * sign).rem_euclid(DAY)))
}

fn between_times<'a>(arguments: &[Datum<'a>], _: &'a bumpalo::Bump) -> Answer<'a> {
    let [Datum::Time(a), Datum::Time(b)] = arguments else { return Err(fault::VALUE_FORM) };
    Ok(Datum::Interval(Interval { months: 0, days: 0, micros: a - b }))
}

fn sum<'a>(a: Datum<'a>, b: Datum<'a>, negates: bool) -> Answer<'a> {
    let (Datum::Interval(a), Datum::Interval(b)) = (a, b) else { return Err(fault::VALUE_FORM) };
    a.add(if negates { b.neg()? } else { b }).map(Datum::Interval)
}

/// A field of `EXTRACT` and `DATE_TRUNC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Epoch,
    Dow,
    Isodow,
    Doy,
    Isoyear,
}

impl Field {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "microsecond" | "microseconds" => Self::Microseconds,
            "millisecond" | "milliseconds" => Self::Milliseconds,
            "second" | "seconds" => Self::Second,
            "minute" | "minutes" => Self::Minute,
            "hour" | "hours" => Self::Hour,
            "day" | "days" => Self::Day,
            "week" | "weeks" => Self::Week,
            "month" | "months" => Self::Month,
            "quarter" => Self::Quarter,
            "year" | "years" => Self::Year,
            "decade" | "decades" => Self::Decade,
            "century" | "centuries" => Self::Century,
            "millennium" | "millennia" => Self::Millennium,
            "epoch" => Self::Epoch,
            "dow" => Self::Dow,
            "isodow" => Self::Isodow,
            "doy" => Self::Doy,
            "isoyear" => Self::Isoyear,
            _ => return None,
        })
    }

    fn is_of_day(self) -> bool {
        matches!(self, Self::Microseconds | Self::Milliseconds | Self::Second | Self::Minute | Self::Hour)
    }

    fn truncates(self) -> bool {
        !matches!(self, Self::Epoch | Self::Dow | Self::Isodow | Self::Doy | Self::Isoyear)
    }
}

fn scaled(unscaled: i64, scale: u32) -> Datum<'static> {
    Datum::Numeric(Numeric::Small { unscaled: i128::from(unscaled), scale })
}

/// `EXTRACT(field FROM value)`; none where the type has no such field.
pub(super) fn extract(field: Field, sql_type: SqlType) -> Option<Prepared> {
    match sql_type {
        Date if !field.is_of_day() => Some(Box::new(move |a, _| match a {
            [Datum::Date(DATE_INFINITY)] => Ok(of_infinity(field, Numeric::Infinity)),
            [Datum::Date(DATE_MINUS_INFINITY)] => Ok(of_infinity(field, Numeric::MinusInfinity)),
            [Datum::Date(date)] => Ok(match field {
                Field::Epoch => scaled((i64::from(*date) + EPOCH_DAYS) * 86_400, 0),
                field => of_day(field, i64::from(*date)),
            }),
            _ => Err(fault::VALUE_FORM),
        })),
        Timestamp | Timestamptz => Some(Box::new(move |a, _| match a {
            [Datum::Timestamp(calendar::INFINITY)] => Ok(of_infinity(field, Numeric::Infinity)),
            [Datum::Timestamp(calendar::MINUS_INFINITY)] => Ok(of_infinity(field, Numeric::MinusInfinity)),
            [Datum::Timestamp(micros)] => Ok(match field {
                Field::Epoch => {
                    let unscaled = i128::from(*micros) + i128::from(EPOCH_DAYS * DAY);
                    Datum::Numeric(Numeric::Small { unscaled, scale: 6 })
                }
                field if field.is_of_day() => of_time(field, micros.rem_euclid(DAY)),
                field => of_day(field, micros.div_euclid(DAY)),
            }),
            _ => Err(fault::VALUE_FORM),
        })),
        Time if field.is_of_day() || field == Field::Epoch => Some(Box::new(move |a, _| match a {
            [Datum::Time(micros)] if field == Field::Epoch => Ok(scaled(*micros, 6)),
            [Datum::Time(micros)] => Ok(of_time(field, *micros)),
            _ => Err(fault::VALUE_FORM),
        })),
        SqlType::Interval
            if !matches!(field, Field::Week | Field::Dow | Field::Isodow | Field::Doy | Field::Isoyear) =>
        {
            Some(Box::new(move |a, _| match a {
                [Datum::Interval(Interval::INFINITY)] => Ok(of_infinite_interval(field, Numeric::Infinity)),
                [Datum::Interval(Interval::MINUS_INFINITY)] => Ok(of_infinite_interval(field, Numeric::MinusInfinity)),
                [Datum::Interval(interval)] => Ok(of_interval(field, *interval)),
                _ => Err(fault::VALUE_FORM),
            }))
        }
        _ => None,
    }
}

fn of_infinity(field: Field, infinity: Numeric<'static>) -> Datum<'static> {
    match field {
        Field::Year | Field::Decade | Field::Century | Field::Millennium | Field::Epoch | Field::Isoyear => {
            Datum::Numeric(infinity)
        }
        _ => Datum::Null,
    }
}

fn of_infinite_interval(field: Field, infinity: Numeric<'static>) -> Datum<'static> {
    match field {
        Field::Hour | Field::Day => Datum::Numeric(infinity),
        field => of_infinity(field, infinity),
    }
}

fn of_time(field: Field, micros: i64) -> Datum<'static> {
    match field {
        Field::Microseconds => scaled(micros % MINUTE, 0),
        Field::Milliseconds => scaled(micros % MINUTE, 3),
        Field::Second => scaled(micros % MINUTE, 6),
        Field::Minute => scaled(micros / MINUTE % 60, 0),
        _ => scaled(micros / HOUR, 0),
    }
}

/// A year without the year 0.
fn counted_year(year: i64) -> i64 {
    if year > 0 { year } else { year - 1 }
}

/// The number of the span of `length` years that a year is in, counted from 1.
fn counted_span(year: i64, length: i64) -> i64 {
    if year > 0 { (year + length - 1) / length } else { -((length - 1 - (year - 1)) / length) }
}

fn decade(year: i64) -> i64 {
    if year >= 0 { year / 10 } else { -((8 - (year - 1)) / 10) }
}

fn of_day(field: Field, day: i64) -> Datum<'static> {
    let civil = calendar::civil(day);
    let value = match field {
        Field::Day => i64::from(civil.day),
        Field::Week => calendar::iso_week(day).1,
        Field::Month => i64::from(civil.month),
        Field::Quarter => i64::from((civil.month - 1) / 3 + 1),
        Field::Year => counted_year(civil.year),
        Field::Decade => decade(civil.year),
        Field::Century => counted_span(civil.year, 100),
        Field::Millennium => counted_span(civil.year, 1_000),
        Field::Dow => calendar::weekday(day),
        Field::Isodow => (calendar::weekday(day) + 6) % 7 + 1,
        Field::Doy => day - calendar::days(Civil { year: civil.year, month: 1, day: 1 }) + 1,
        _ => counted_year(calendar::iso_week(day).0),
    };
    scaled(value, 0)
}

fn of_interval(field: Field, interval: Interval) -> Datum<'static> {
    let (years, months) = (i64::from(interval.months / 12), i64::from(interval.months % 12));
    match field {
        Field::Microseconds => scaled(interval.micros % MINUTE, 0),
        Field::Milliseconds => scaled(interval.micros % MINUTE, 3),
        Field::Second => scaled(interval.micros % MINUTE, 6),
        Field::Minute => scaled(interval.micros / MINUTE % 60, 0),
        Field::Hour => scaled(interval.micros / HOUR, 0),
        Field::Day => scaled(i64::from(interval.days), 0),
        Field::Month => scaled(months, 0),
        Field::Quarter => {
            // PostgreSQL 18 counts backwards in negative intervals.
            scaled(if interval.months >= 0 { months / 3 + 1 } else { -(-months / 3 + 1) }, 0)
        }
        Field::Decade => scaled(years / 10, 0),
        Field::Century => scaled(years / 100, 0),
        Field::Millennium => scaled(years / 1_000, 0),
        Field::Epoch => {
            // A year is 365.25 days, a month 30.
            let quarter_days = i128::from(years) * 1_461 + i128::from(months) * 120 + i128::from(interval.days) * 4;
            let unscaled = quarter_days * i128::from(DAY / 4) + i128::from(interval.micros);
            Datum::Numeric(Numeric::Small { unscaled, scale: 6 })
        }
        _ => scaled(years, 0),
    }
}

/// `DATE_TRUNC(field, value)` of a timestamp with or without a zone (UTC), and of an interval.
pub(super) fn truncate(field: Field, sql_type: SqlType) -> Option<Prepared> {
    match sql_type {
        Timestamp | Timestamptz if field.truncates() => Some(Box::new(move |a, _| match a {
            [Datum::Timestamp(micros)] if calendar::is_finite(*micros) => {
                truncated(field, *micros).map(Datum::Timestamp)
            }
            [infinite] => Ok(*infinite),
            _ => Err(fault::VALUE_FORM),
        })),
        SqlType::Interval if field.truncates() && field != Field::Week => Some(Box::new(move |a, _| match a {
            [Datum::Interval(interval)] if interval.is_finite() => {
                Ok(Datum::Interval(truncated_interval(field, *interval)))
            }
            [infinite] => Ok(*infinite),
            _ => Err(fault::VALUE_FORM),
        })),
        _ => None,
    }
}

fn truncated(field: Field, micros: i64) -> Result<i64, Fault> {
    let unit = match field {
        Field::Microseconds => 1,
        Field::Milliseconds => 1_000,
        Field::Second => SECOND,
        Field::Minute => MINUTE,
        Field::Hour => HOUR,
        _ => DAY,
    };
    let day = micros.div_euclid(DAY);
    let Civil { year, month, .. } = calendar::civil(day);
    let first_of = |year, month| calendar::days(Civil { year, month, day: 1 });
    let day = match field {
        Field::Week => day - (calendar::weekday(day) + 6) % 7,
        Field::Month => first_of(year, month),
        Field::Quarter => first_of(year, (month - 1) / 3 * 3 + 1),
        Field::Year => first_of(year, 1),
        Field::Decade => first_of(if year > 0 { year / 10 * 10 } else { -((8 - (year - 1)) / 10) * 10 }, 1),
        Field::Century => first_of(first_year(year, 100), 1),
        Field::Millennium => first_of(first_year(year, 1_000), 1),
        _ => return Ok(micros.div_euclid(unit) * unit),
    };
    calendar::timestamp(i128::from(day) * i128::from(DAY))
}

fn first_year(year: i64, length: i64) -> i64 {
    if year > 0 {
        (year + length - 1) / length * length - (length - 1)
    } else {
        -((length - 1 - (year - 1)) / length) * length + 1
    }
}

fn truncated_interval(field: Field, interval: Interval) -> Interval {
    let months = |unit: i32| Interval { months: interval.months / unit * unit, days: 0, micros: 0 };
    let micros = |unit: i64| Interval { micros: interval.micros / unit * unit, ..interval };
    match field {
        Field::Microseconds => interval,
        Field::Milliseconds => micros(1_000),
        Field::Second => micros(SECOND),
        Field::Minute => micros(MINUTE),
        Field::Hour => micros(HOUR),
        Field::Month => months(1),
        Field::Quarter => months(3),
        Field::Year => months(12),
        Field::Decade => months(120),
        Field::Century => months(1_200),
        Field::Millennium => months(12_000),
        _ => Interval { micros: 0, ..interval },
    }
}

/// A zone by its name in the time zone database.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("utc") || name.eq_ignore_ascii_case("gmt") || name.eq_ignore_ascii_case("z") {
        return Some(TimeZone::UTC);
    }
    // Other abbreviations (EST, PST) PostgreSQL reads from a list of its own.
    if !name.contains('/') {
        return None;
    }
    TimeZoneDatabase::bundled().get(name).ok()
}

/// `value AT TIME ZONE zone`: from one kind of timestamp to the other.
pub(super) fn at_zone(zone: TimeZone, sql_type: SqlType) -> Option<(Prepared, SqlType)> {
    match sql_type {
        Timestamptz => Some((Box::new(move |a, _| shift(a, |micros| to_local(&zone, micros))), Timestamp)),
        Timestamp => Some((Box::new(move |a, _| shift(a, |micros| from_local(&zone, micros))), Timestamptz)),
        _ => None,
    }
}

fn shift<'a>(arguments: &[Datum<'a>], by: impl FnOnce(i64) -> Result<i64, Fault>) -> Answer<'a> {
    match arguments {
        [Datum::Timestamp(micros)] if calendar::is_finite(*micros) => {
            calendar::timestamp(i128::from(by(*micros)?)).map(Datum::Timestamp)
        }
        [infinite] => Ok(*infinite),
        _ => Err(fault::VALUE_FORM),
    }
}

fn to_local(zone: &TimeZone, micros: i64) -> Result<i64, Fault> {
    let instant = jiff::Timestamp::from_microsecond(micros.checked_add(EPOCH_DAYS * DAY).ok_or(fault::ZONE_RANGE)?);
    let offset = zone.to_offset(instant.map_err(|_| fault::ZONE_RANGE)?);
    Ok(micros + i64::from(offset.seconds()) * SECOND)
}

/// In a gap the offset before it holds, in a fold the one after it (`DetermineTimeZoneOffset`).
fn from_local(zone: &TimeZone, micros: i64) -> Result<i64, Fault> {
    let Civil { year, month, day } = calendar::civil(micros.div_euclid(DAY));
    let (year, month, day) = (i16::try_from(year), i8::try_from(month), i8::try_from(day));
    let (Ok(year), Ok(month), Ok(day)) = (year, month, day) else { return Err(fault::ZONE_RANGE) };
    let seconds = micros.rem_euclid(DAY) / SECOND;
    let date = CivilDate::new(year, month, day).map_err(|_| fault::ZONE_RANGE)?;
    let local: DateTime = date.at((seconds / 3600) as i8, (seconds / 60 % 60) as i8, (seconds % 60) as i8, 0);
    let offset = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } => before,
        AmbiguousOffset::Fold { after, .. } => after,
    };
    Ok(micros - i64::from(offset.seconds()) * SECOND)
}

/// `TO_TIMESTAMP(double precision)`: seconds since 1970.
pub(super) fn from_epoch<'a>(arguments: &[Datum<'a>], _: &'a bumpalo::Bump) -> Answer<'a> {
    let [Datum::Float8(seconds)] = arguments else { return Err(fault::VALUE_FORM) };
    if seconds.is_nan() {
        return Err(fault::DATETIME_RANGE);
    }
    if seconds.is_infinite() {
        return Ok(Datum::Timestamp(if *seconds > 0.0 { calendar::INFINITY } else { calendar::MINUS_INFINITY }));
    }
    let seconds = seconds - (EPOCH_DAYS * 86_400) as f64;
    let micros = (seconds * 1e6).round_ties_even();
    if micros.abs() > 9.3e18 {
        return Err(fault::DATETIME_RANGE);
    }
    calendar::timestamp(micros as i128).map(Datum::Timestamp)
}
