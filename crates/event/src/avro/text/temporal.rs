//! Dates and times under `DateStyle` ISO: `2024-02-29 12:34:56.789+02`, years before Christ with ` BC` at the end.

use super::{Malformed, number};

/// Microseconds of a second.
pub(in crate::avro) const SECOND: i64 = 1_000_000;
/// Microseconds of a day.
pub(in crate::avro) const DAY: i64 = 86_400 * SECOND;

/// A moment that may lie at no finite time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::avro) enum Moment<T> {
    /// `infinity`.
    Infinity,
    /// `-infinity`.
    MinusInfinity,
    /// A finite one.
    At(T),
}

/// A date and a time of day, in no zone or already in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::avro) struct Timestamp {
    /// Days since 1970-01-01.
    pub(in crate::avro) day: i64,
    /// Microseconds since midnight.
    pub(in crate::avro) micros: i64,
}

/// A time of day and its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::avro) struct ZonedTime {
    /// Microseconds since midnight there, up to a whole day.
    pub(in crate::avro) micros: i64,
    /// Seconds east of Greenwich.
    pub(in crate::avro) offset: i64,
}

/// Reads a `date`: days since 1970-01-01.
pub(in crate::avro) fn date(text: &[u8]) -> Result<Moment<i64>, Malformed> {
    Ok(match text {
        b"infinity" => Moment::Infinity,
        b"-infinity" => Moment::MinusInfinity,
        _ => {
            let (text, before_christ) = era(text);
            match day(text, before_christ)? {
                (day, []) => Moment::At(day),
                _ => return Err(Malformed),
            }
        }
    })
}

/// Reads a `time`: microseconds since midnight.
pub(in crate::avro) fn time(text: &[u8]) -> Result<i64, Malformed> {
    match time_of_day(text)? {
        (micros, []) => Ok(micros),
        _ => Err(Malformed),
    }
}

/// Reads a `timetz`.
pub(in crate::avro) fn zoned_time(text: &[u8]) -> Result<ZonedTime, Malformed> {
    let (micros, rest) = time_of_day(text)?;
    Ok(ZonedTime { micros, offset: offset(rest)? })
}

/// Reads a `timestamp`, or a `timestamptz` where `zoned`, which is shifted to UTC.
pub(in crate::avro) fn timestamp(text: &[u8], zoned: bool) -> Result<Moment<Timestamp>, Malformed> {
    match text {
        b"infinity" => return Ok(Moment::Infinity),
        b"-infinity" => return Ok(Moment::MinusInfinity),
        _ => {}
    }
    let (text, before_christ) = era(text);
    let (day, rest) = day(text, before_christ)?;
    let (micros, rest) = time_of_day(rest.strip_prefix(b" ").ok_or(Malformed)?)?;
    let offset = match (zoned, rest) {
        (true, rest) => offset(rest)?,
        (false, []) => 0,
        (false, _) => return Err(Malformed),
    };
    let micros = micros - offset * SECOND;
    Ok(Moment::At(Timestamp { day: day + micros.div_euclid(DAY), micros: micros.rem_euclid(DAY) }))
}

fn era(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |text| (text, true))
}

/// `YYYY-MM-DD` with four or more digits of year, as days since 1970-01-01.
fn day(text: &[u8], before_christ: bool) -> Result<(i64, &[u8]), Malformed> {
    let dash = text.iter().position(|byte| *byte == b'-').ok_or(Malformed)?;
    let (year, rest) = text.split_at(dash);
    let (month, rest) = two_digits(&rest[1..])?;
    let (day, rest) = two_digits(rest.strip_prefix(b"-").ok_or(Malformed)?)?;
    // PostgreSQL's years have at most seven digits; more would overflow below.
    if year.len() < 4 || year.len() > 7 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(Malformed);
    }
    let year = number::digits(year)?;
    Ok((days_from_civil(if before_christ { 1 - year } else { year }, month, day), rest))
}

/// `HH:MM:SS` with up to six digits of fraction, in microseconds.
pub(super) fn time_of_day(text: &[u8]) -> Result<(i64, &[u8]), Malformed> {
    let (hours, rest) = two_digits(text)?;
    let (micros, rest) = minutes(rest)?;
    Ok((hours * 3_600 * SECOND + micros, rest))
}

/// `:MM:SS` with up to six digits of fraction, in microseconds.
pub(super) fn minutes(text: &[u8]) -> Result<(i64, &[u8]), Malformed> {
    let (minutes, rest) = two_digits(text.strip_prefix(b":").ok_or(Malformed)?)?;
    let (seconds, rest) = two_digits(rest.strip_prefix(b":").ok_or(Malformed)?)?;
    let micros = (minutes * 60 + seconds) * SECOND;
    let Some(fraction) = rest.strip_prefix(b".") else {
        return Ok((micros, rest));
    };
    let length = fraction.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(fraction.len());
    let (fraction, rest) = fraction.split_at(length);
    let missing = 6_u32.checked_sub(u32::try_from(length).map_err(|_| Malformed)?).ok_or(Malformed)?;
    Ok((micros + number::digits(fraction)? * 10_i64.pow(missing), rest))
}

/// `+HH`, `-HH:MM` or `+HH:MM:SS`, in seconds.
fn offset(text: &[u8]) -> Result<i64, Malformed> {
    let (sign, rest) = match text {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return Err(Malformed),
    };
    let (hours, mut rest) = two_digits(rest)?;
    let mut seconds = hours * 3_600;
    for unit in [60, 1] {
        if let Some(part) = rest.strip_prefix(b":") {
            let (value, behind) = two_digits(part)?;
            seconds += value * unit;
            rest = behind;
        }
    }
    if rest.is_empty() { Ok(sign * seconds) } else { Err(Malformed) }
}

fn two_digits(text: &[u8]) -> Result<(i64, &[u8]), Malformed> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] => {
            Ok((i64::from(tens - b'0') * 10 + i64::from(ones - b'0'), rest))
        }
        _ => Err(Malformed),
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar; year 0 is 1 BC. Years begin in March here, so that the
/// leap day is the last of its year; 400 of them have 146,097 days.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    cycle * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
}

/// The year, month and day of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = cycle * 400 + year + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Appends Java's `ISO_OFFSET_DATE_TIME` in UTC with `digits` of fraction, or with as many as there are where that is
/// 0 (`io.debezium.time.ZonedTimestamp`): `2024-02-29T11:34:56.789012Z`. Returns whether the year has four digits, so
/// that other parsers of ISO 8601 read it too.
pub(in crate::avro) fn write_zoned_timestamp(moment: Timestamp, digits: usize, out: &mut Vec<u8>) -> bool {
    let common = write_date(moment.day, out);
    out.push(b'T');
    write_time(moment.micros, if digits == 0 { None } else { Some(digits) }, out);
    out.push(b'Z');
    common
}

/// Appends Java's `ISO_OFFSET_DATE` in UTC (`io.debezium.time.IsoDate`): `2024-02-29Z`. Returns whether the year has
/// four digits.
pub(in crate::avro) fn write_iso_date(day: i64, out: &mut Vec<u8>) -> bool {
    let common = write_date(day, out);
    out.push(b'Z');
    common
}

fn write_date(day: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil_from_days(day);
    let sign = if year < 0 {
        "-"
    } else if year > 9_999 {
        "+"
    } else {
        ""
    };
    out.extend_from_slice(sign.as_bytes());
    let width = (year.unsigned_abs().max(1).ilog10() + 1).max(4) as usize;
    write_digits(year.abs(), width, out);
    out.push(b'-');
    write_digits(month, 2, out);
    out.push(b'-');
    write_digits(day, 2, out);
    (1..=9_999).contains(&year)
}

/// Appends Java's `ISO_OFFSET_TIME` in UTC (`io.debezium.time.ZonedTime`): `10:04:56.789Z`.
pub(in crate::avro) fn write_zoned_time(micros: i64, out: &mut Vec<u8>) {
    write_time(micros, None, out);
    out.push(b'Z');
}

fn write_time(micros: i64, digits: Option<usize>, out: &mut Vec<u8>) {
    let seconds = micros / SECOND;
    write_digits(seconds / 3_600, 2, out);
    out.push(b':');
    write_digits(seconds / 60 % 60, 2, out);
    out.push(b':');
    write_digits(seconds % 60, 2, out);
    let fraction = micros % SECOND;
    let digits = digits.unwrap_or_else(|| if fraction == 0 { 0 } else { 6 - trailing_zeros(fraction) });
    if digits > 0 {
        out.push(b'.');
        let start = out.len();
        write_digits(fraction, 6, out);
        out.truncate(start + digits.min(6));
    }
}

fn trailing_zeros(mut fraction: i64) -> usize {
    let mut zeros = 0;
    while fraction % 10 == 0 {
        fraction /= 10;
        zeros += 1;
    }
    zeros
}

fn write_digits(value: i64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = value;
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn iso(text: &str, digits: usize) -> (String, bool) {
        let Ok(Moment::At(moment)) = timestamp(text.as_bytes(), true) else { panic!("{text}") };
        let mut out = Vec::new();
        let common = write_zoned_timestamp(moment, digits, &mut out);
        (String::from_utf8(out).unwrap(), common)
    }

    fn iso_time(text: &str) -> String {
        let time = zoned_time(text.as_bytes()).unwrap();
        let mut out = Vec::new();
        write_zoned_time((time.micros - time.offset * SECOND).rem_euclid(DAY), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_are_days_since_1970() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("2024-02-29", 19_782),
            ("0001-01-01", -719_162),
            ("0001-12-31 BC", -719_163),
            ("4714-11-24 BC", -2_440_588),
            ("5874897-12-31", 2_145_042_905),
        ] {
            assert_eq!(date(text.as_bytes()), Ok(Moment::At(days)), "{text}");
        }
        assert_eq!(date(b"infinity"), Ok(Moment::Infinity));
        for text in ["2024-2-29", "2024-02-29 ", "24-02-29", "2024-13-01", "12345678-01-01", "BC", ""] {
            assert_eq!(date(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn times_have_up_to_six_digits() {
        assert_eq!(time(b"12:34:56.789012"), Ok(45_296_789_012));
        assert_eq!(time(b"00:00:00.5"), Ok(500_000));
        assert_eq!(time(b"24:00:00"), Ok(DAY));
        for text in ["12:34", "12:34:56.", "12:34:56.1234567", "12:34:56+00", "1:34:56"] {
            assert_eq!(time(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn zoned_times_are_shifted_to_utc() {
        assert_eq!(iso_time("12:34:56.789012+02:30"), "10:04:56.789012Z");
        assert_eq!(iso_time("23:59:59.999999-11"), "10:59:59.999999Z");
        assert_eq!(iso_time("00:00:00.120+00"), "00:00:00.12Z");
        assert_eq!(iso_time("00:30:00+01:00:30"), "23:29:30Z");
    }

    #[test]
    fn zoned_timestamps_are_iso_8601() {
        assert_eq!(iso("2024-02-29 11:34:56.789012+00", 6), ("2024-02-29T11:34:56.789012Z".into(), true));
        assert_eq!(iso("1582-10-04 00:00:00+00", 6), ("1582-10-04T00:00:00.000000Z".into(), true));
        assert_eq!(iso("2024-12-31 23:59:59.5-01", 3), ("2025-01-01T00:59:59.500Z".into(), true));
        assert_eq!(iso("2024-01-01 00:00:00+00", 0), ("2024-01-01T00:00:00Z".into(), true));
        assert_eq!(iso("0044-03-15 00:00:00+00 BC", 6), ("-0043-03-15T00:00:00.000000Z".into(), false));
        assert_eq!(iso("0001-03-15 00:00:00+00 BC", 6), ("0000-03-15T00:00:00.000000Z".into(), false));
        assert_eq!(iso("12024-03-15 00:00:00+00", 6), ("+12024-03-15T00:00:00.000000Z".into(), false));
    }

    proptest! {
        #[test]
        fn days_follow_each_other(days in -2_440_588_i64..2_145_042_905) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), days);
            let next = civil_from_days(days + 1);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][usize::try_from(month - 1).unwrap()];
            let expected = match (day == length, month) {
                (false, _) => (year, month, day + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
            prop_assert_eq!(next, expected);
        }

        #[test]
        fn timestamps_round_trip_through_iso(day in -719_162_i64..2_932_896, micros in 0..DAY) {
            let mut out = Vec::new();
            let common = write_zoned_timestamp(Timestamp { day, micros }, 6, &mut out);
            prop_assert!(common);
            let text = String::from_utf8(out).unwrap().replace('T', " ").replace('Z', "+00");
            prop_assert_eq!(timestamp(text.as_bytes(), true), Ok(Moment::At(Timestamp { day, micros })));
            let local = text.replace("+00", "+05:30");
            let Ok(Moment::At(moment)) = timestamp(local.as_bytes(), true) else { panic!("{local}") };
            prop_assert_eq!(day * DAY + micros - moment.day * DAY - moment.micros, 330 * 60 * SECOND);
        }

        #[test]
        fn no_bytes_panic(text in "[0-9:. BC+-]{0,30}") {
            let text = text.as_bytes();
            let read = [timestamp(text, true).is_ok(), date(text).is_ok(), zoned_time(text).is_ok()];
            prop_assert!(read.into_iter().filter(|read| *read).count() <= 1);
        }
    }
}
