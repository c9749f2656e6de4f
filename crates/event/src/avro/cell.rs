//! One value: PostgreSQL's text into Avro bytes.

mod extension;

use std::borrow::Cow;

use super::base64;
use super::column::{Form, TextEncoding};
use super::text::{
    Malformed, array,
    decimal::{self, Numeric},
    interval, number,
    temporal::{self, DAY, Moment, SECOND, Timestamp},
};
use super::write;

/// What the bytes say about the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fidelity {
    /// All of it.
    Exact,
    /// Not all of it: the source's text has to travel along.
    Lossy,
    /// Nothing, and nothing was written: Debezium has no form for the value. The text has to travel along.
    Absent,
}

use Fidelity::{Absent, Exact, Lossy};

/// Debezium's infinities (`PostgresValueConverter`): days, and microseconds.
const INFINITY_DAYS: i64 = -2_147_472_692;
const MINUS_INFINITY_DAYS: i64 = -2_147_472_691;
const INFINITY_MICROS: i64 = 9_223_372_036_825_200_000;
const MINUS_INFINITY_MICROS: i64 = -9_223_372_036_832_400_000;

/// Appends the value of `text`. Where it is malformed, `out` may hold part of it.
pub(super) fn write(form: &Form, text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    match form {
        Form::Boolean => out.push(boolean(text)?),
        Form::Bit => return bit(text, out),
        Form::Int16 => integer(text, i64::from(i16::MIN), i64::from(i16::MAX), out)?,
        Form::Int32 => integer(text, i64::from(i32::MIN), i64::from(i32::MAX), out)?,
        Form::Int64 => integer(text, i64::MIN, i64::MAX, out)?,
        Form::Oid => integer(text, 0, i64::from(u32::MAX), out)?,
        Form::Float32 => out.extend_from_slice(&number::float::<f32>(text)?.to_le_bytes()),
        Form::Float64 => write::double(out, number::float(text)?),
        Form::Text(_) | Form::Enum { .. } => {
            // Avro strings are UTF-8, and a database may be declared SQL_ASCII.
            std::str::from_utf8(text).map_err(|_| Malformed)?;
            write::bytes(out, text);
        }
        Form::Bytes => {
            write::length(out, number::hex_length(text));
            number::hex(text, out)?;
        }
        Form::Decimal { precision, scale } => return decimal(text, *precision, *scale, out),
        Form::BytesText(encoding) => text_of_bytes(text, *encoding, out)?,
        Form::VariableDecimal => return variable_decimal(text, out),
        Form::DecimalDouble => write::double(out, number::float(text)?),
        Form::DecimalText { scale } => return decimal_text(text, *scale, out),
        Form::Money => return Ok(decimal::money(text, out).map_or(Absent, |()| Exact)),
        Form::MoneyDouble => match money_text(text) {
            Some(amount) => write::double(out, number::float(amount.as_bytes())?),
            None => return Ok(Absent),
        },
        Form::MoneyText => match money_text(text) {
            Some(amount) => write::bytes(out, amount.as_bytes()),
            None => return Ok(Absent),
        },
        Form::Date => write::long(out, days(text)?.0),
        Form::ConnectDate => return date(text, out),
        Form::IsoDate => return iso_date(text, out),
        Form::TimeMillis | Form::ConnectTime => write::long(out, temporal::time(text)? / 1_000),
        Form::TimeMicros => write::long(out, temporal::time(text)?),
        Form::TimeNanos => write::long(out, temporal::time(text)? * 1_000),
        Form::IsoTime => return iso_time(text, out),
        Form::TimestampMillis | Form::ConnectTimestamp => return timestamp(text, Unit::Millis, out),
        Form::TimestampMicros => return timestamp(text, Unit::Micros, out),
        Form::TimestampNanos => return nano_timestamp(text, out),
        Form::IsoTimestamp => return iso_timestamp(text, out),
        Form::ZonedTimestamp { digits } => return zoned_timestamp(text, *digits, out),
        Form::ZonedTime => return zoned_time(text, out),
        Form::Interval => {
            let duration = interval::interval(text)?;
            write::long(out, duration.micros);
            return Ok(if duration.exact { Exact } else { Lossy });
        }
        Form::IsoInterval => match interval::iso(text)? {
            Some(iso) => write::bytes(out, iso.as_bytes()),
            None => return Ok(Absent),
        },
        Form::Bits { length } => {
            write::length(out, number::bits_length(text));
            number::bits(text, out)?;
            // The length of a longer `varbit` does not show in its bytes.
            return Ok(if usize::try_from(*length) == Ok(text.len()) { Exact } else { Lossy });
        }
        Form::Point => point(text, out)?,
        Form::Spatial(_) => return extension::spatial(text, out),
        Form::DoubleVector => return extension::double_vector(text, out),
        Form::FloatVector => return extension::float_vector(text, out),
        Form::SparseVector => return extension::sparse_vector(text, out),
        Form::Hstore => return extension::hstore_json(text, out),
        Form::HstoreMap => return extension::hstore_map(text, out),
        Form::Array(element) => return array(text, element, out),
    }
    Ok(Exact)
}

/// Appends what Debezium puts where a value is missing but has to be (`JdbcValueConverters.convertValue`).
pub(super) fn write_zero(form: &Form, out: &mut Vec<u8>) {
    match form {
        Form::Float32 => out.extend_from_slice(&[0; 4]),
        Form::Float64 | Form::DecimalDouble | Form::MoneyDouble => out.extend_from_slice(&[0; 8]),
        Form::Decimal { .. } | Form::Money => write::bytes(out, &[0]),
        Form::VariableDecimal => {
            out.push(0);
            write::bytes(out, &[0]);
        }
        Form::DecimalText { scale } => write::bytes(out, with_scale("0", *scale).as_bytes()),
        Form::MoneyText => write::bytes(out, b"0.00"),
        Form::ZonedTimestamp { .. } | Form::IsoTimestamp => write::bytes(out, b"1970-01-01T00:00:00Z"),
        Form::ZonedTime | Form::IsoTime => write::bytes(out, b"00:00:00Z"),
        Form::IsoDate => write::bytes(out, b"1970-01-01Z"),
        Form::IsoInterval => write::bytes(out, b"P0Y0M0DT0H0M0S"),
        Form::Point => write_point(0.0, 0.0, out),
        Form::Hstore => write::bytes(out, b"{}"),
        Form::Spatial(_) => {
            write::bytes(out, extension::EMPTY_COLLECTION);
            out.push(0);
        }
        Form::SparseVector => out.extend_from_slice(&[0, 0]),
        // One zero byte: false, the number 0, or nothing in a text, bytes or an array.
        _ => out.push(0),
    }
}

fn boolean(text: &[u8]) -> Result<u8, Malformed> {
    match text {
        b"t" | b"true" => Ok(1),
        b"f" | b"false" => Ok(0),
        _ => Err(Malformed),
    }
}

fn bit(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let (value, fidelity) = match text {
        b"1" => (1, Exact),
        b"0" => (0, Exact),
        // Only a `varbit(1)` may be empty.
        b"" => (0, Lossy),
        _ => return Err(Malformed),
    };
    out.push(value);
    Ok(fidelity)
}

fn integer(text: &[u8], min: i64, max: i64, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let value = number::integer(text)?;
    if value < min || value > max {
        return Err(Malformed);
    }
    write::long(out, value);
    Ok(())
}

fn decimal(text: &[u8], precision: u32, scale: i32, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let Numeric::Finite(number) = decimal::numeric(text)? else { return Ok(Absent) };
    number.write(scale, out).ok_or(Malformed)?;
    // Avro's decimals know neither a negative scale nor one beyond the precision; readers disagree about them.
    let common = u32::try_from(scale).is_ok_and(|scale| scale <= precision);
    Ok(if common { Exact } else { Lossy })
}

fn variable_decimal(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let Numeric::Finite(number) = decimal::numeric(text)? else { return Ok(Absent) };
    let stripped = number.stripped();
    let scale = i32::try_from(stripped.scale()).map_err(|_| Malformed)?;
    write::long(out, i64::from(scale));
    stripped.write(scale, out).ok_or(Malformed)?;
    Ok(if stripped.scale() == number.scale() { Exact } else { Lossy })
}

/// Specials have the names of Debezium's `SpecialValueDecimal`, which no database reads.
fn decimal_text(text: &[u8], scale: usize, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let special = match text {
        b"NaN" => "NAN",
        b"Infinity" => "POSITIVE_INFINITY",
        b"-Infinity" => "NEGATIVE_INFINITY",
        _ => {
            decimal::numeric(text)?;
            let number = std::str::from_utf8(text).map_err(|_| Malformed)?;
            write::bytes(out, with_scale(number, scale).as_bytes());
            return Ok(Exact);
        }
    };
    write::bytes(out, special.as_bytes());
    Ok(Lossy)
}

/// The number with at least `scale` digits behind the point, which the server's own text always has; a default's
/// expression may have fewer.
fn with_scale(number: &str, scale: usize) -> Cow<'_, str> {
    let digits = number.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    if digits >= scale {
        return Cow::Borrowed(number);
    }
    let point = if digits == 0 { "." } else { "" };
    Cow::Owned(format!("{number}{point}{}", "0".repeat(scale - digits)))
}

/// A `money` as a plain number; `None` for other locales, see [`decimal::money`].
fn money_text(text: &[u8]) -> Option<String> {
    decimal::money(text, &mut Vec::new())?;
    let plain = text.iter().filter(|byte| !matches!(byte, b'$' | b',')).copied().collect();
    String::from_utf8(plain).ok()
}

fn text_of_bytes(text: &[u8], encoding: TextEncoding, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if encoding == TextEncoding::Hex {
        let digits = text.strip_prefix(b"\\x").ok_or(Malformed)?;
        if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Malformed);
        }
        write::bytes(out, digits);
        return Ok(());
    }
    let mut bytes = Vec::with_capacity(number::hex_length(text));
    number::hex(text, &mut bytes)?;
    write::length(out, bytes.len().div_ceil(3) * 4);
    base64::encode(&bytes, encoding == TextEncoding::Base64Url, |digit| out.push(digit));
    Ok(())
}

/// Days, and whether they are finite.
fn days(text: &[u8]) -> Result<(i64, bool), Malformed> {
    Ok(match temporal::date(text)? {
        Moment::Infinity => (INFINITY_DAYS, false),
        Moment::MinusInfinity => (MINUS_INFINITY_DAYS, false),
        Moment::At(days) => (days, true),
    })
}

fn date(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let (days, finite) = days(text)?;
    write::long(out, days);
    Ok(if finite { Exact } else { Lossy })
}

fn iso_date(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let (days, finite) = days(text)?;
    let mut common = false;
    text_with_length(out, |out| common = temporal::write_iso_date(days, out));
    Ok(if finite && common { Exact } else { Lossy })
}

fn iso_time(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let micros = temporal::time(text)?;
    // 24:00:00 is midnight to Java.
    text_with_length(out, |out| temporal::write_zoned_time(micros % DAY, out));
    Ok(if micros < DAY { Exact } else { Lossy })
}

fn iso_timestamp(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let (moment, finite) = match temporal::timestamp(text, false)? {
        Moment::At(moment) => (moment, true),
        Moment::Infinity => (of_micros(INFINITY_MICROS), false),
        Moment::MinusInfinity => (of_micros(MINUS_INFINITY_MICROS), false),
    };
    let mut common = false;
    text_with_length(out, |out| common = temporal::write_zoned_timestamp(moment, 0, out));
    Ok(if finite && common { Exact } else { Lossy })
}

fn of_micros(micros: i64) -> Timestamp {
    Timestamp { day: micros.div_euclid(DAY), micros: micros.rem_euclid(DAY) }
}

/// Nanoseconds reach from 1677 to 2262; Debezium has no value for others (`NanoTimestamp.toEpochNanos`).
fn nano_timestamp(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let Moment::At(Timestamp { day, micros }) = temporal::timestamp(text, false)? else { return Ok(Absent) };
    let nanos = day.checked_mul(DAY).and_then(|start| start.checked_add(micros)).and_then(|at| at.checked_mul(1_000));
    Ok(match nanos {
        Some(nanos) => {
            write::long(out, nanos);
            Exact
        }
        None => Absent,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Millis,
    Micros,
}

fn timestamp(text: &[u8], unit: Unit, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    // Debezium divides its infinities too; what is left in milliseconds is an ordinary time to other readers.
    let (infinity, minus_infinity, infinite) = match unit {
        Unit::Millis => (INFINITY_MICROS / 1_000, MINUS_INFINITY_MICROS.div_euclid(1_000), Lossy),
        Unit::Micros => (INFINITY_MICROS, MINUS_INFINITY_MICROS, Exact),
    };
    let (value, fidelity) = match temporal::timestamp(text, false)? {
        Moment::Infinity => (infinity, infinite),
        Moment::MinusInfinity => (minus_infinity, infinite),
        Moment::At(moment) => {
            let (value, exact) = match unit {
                Unit::Millis => (millis(moment), true),
                Unit::Micros => micros(moment),
            };
            // Minus infinity lies before the calendar's first day.
            (value, if exact && value != infinity { Exact } else { Lossy })
        }
    };
    write::long(out, value);
    Ok(fidelity)
}

fn millis(Timestamp { day, micros }: Timestamp) -> i64 {
    day * (DAY / 1_000) + micros.div_euclid(1_000)
}

/// Microseconds since 1970, and whether 64 bits hold them: for the last 29 years of PostgreSQL's calendar Debezium adds
/// the fraction to Java's `TimeUnit.SECONDS.toMicros`, which stops at the largest number, and wraps.
fn micros(Timestamp { day, micros }: Timestamp) -> (i64, bool) {
    match day.checked_mul(DAY).and_then(|start| start.checked_add(micros)) {
        Some(micros) => (micros, true),
        None => (i64::MAX.wrapping_add(micros.rem_euclid(SECOND)), false),
    }
}

fn zoned_timestamp(text: &[u8], digits: usize, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let Moment::At(moment) = temporal::timestamp(text, true)? else {
        write::bytes(out, text);
        return Ok(Exact);
    };
    let mut common = false;
    text_with_length(out, |out| common = temporal::write_zoned_timestamp(moment, digits, out));
    Ok(if common { Exact } else { Lossy })
}

fn zoned_time(text: &[u8], out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let time = temporal::zoned_time(text)?;
    // 24:00:00 is a time of its own in PostgreSQL, and midnight in Java.
    let fidelity = if time.offset == 0 && time.micros < DAY { Exact } else { Lossy };
    let micros = (time.micros - time.offset * SECOND).rem_euclid(DAY);
    text_with_length(out, |out| temporal::write_zoned_time(micros, out));
    Ok(fidelity)
}

/// Appends a text of less than 64 bytes behind its length, which takes one byte then.
fn text_with_length(out: &mut Vec<u8>, build: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    build(out);
    let length = u8::try_from(out.len() - start - 1).expect("times are short texts");
    out[start] = length << 1;
}

fn point(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let inner = text.strip_prefix(b"(").and_then(|text| text.strip_suffix(b")")).ok_or(Malformed)?;
    let comma = inner.iter().position(|byte| *byte == b',').ok_or(Malformed)?;
    write_point(number::float(&inner[..comma])?, number::float(&inner[comma + 1..])?, out);
    Ok(())
}

/// `io.debezium.data.geometry.Point`: both coordinates, the same as little-endian WKB, and no SRID.
fn write_point(x: f64, y: f64, out: &mut Vec<u8>) {
    write::double(out, x);
    write::double(out, y);
    out.push(2);
    write::length(out, 21);
    out.extend_from_slice(&[1, 1, 0, 0, 0]);
    write::double(out, x);
    write::double(out, y);
    out.push(0);
}

/// Arrays with several dimensions, or one that does not begin at 1, are flattened, and lossy. One element without a
/// form takes the whole array with it.
fn array(text: &[u8], form: &Form, out: &mut Vec<u8>) -> Result<Fidelity, Malformed> {
    let start = out.len();
    let mut elements = array::elements(text, form.delimiter())?;
    let mut fidelity = if elements.is_plain() { Exact } else { Lossy };
    let count = elements.clone().count()?;
    if count > 0 {
        write::length(out, count);
    }
    let nullable = form.null_in_arrays();
    while let Some(element) = elements.advance()? {
        let branch = out.len();
        if nullable {
            out.push(2);
        }
        let written = match element.text() {
            Some(text) => write(form, &text, out)?,
            None if nullable => {
                out[branch] = 0;
                Exact
            }
            None => Absent,
        };
        if written == Absent {
            out.truncate(start);
            return Ok(Absent);
        }
        if written != Exact {
            fidelity = Lossy;
        }
    }
    out.push(0);
    Ok(fidelity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(form: &Form, value: &str) -> (String, Fidelity) {
        let mut out = Vec::new();
        let fidelity = write(form, value.as_bytes(), &mut out).unwrap();
        let text = super::super::reader::Reader::new(&out).text().unwrap().to_owned();
        (text, fidelity)
    }

    fn long(form: &Form, value: &str) -> (i64, Fidelity) {
        let mut out = Vec::new();
        let fidelity = write(form, value.as_bytes(), &mut out).unwrap();
        (super::super::reader::Reader::new(&out).long().unwrap(), fidelity)
    }

    fn double(form: &Form, value: &str) -> f64 {
        let mut out = Vec::new();
        assert_eq!(write(form, value.as_bytes(), &mut out), Ok(Exact));
        f64::from_le_bytes(out.try_into().unwrap())
    }

    #[test]
    fn decimals_as_text_and_as_doubles() {
        let decimal = Form::DecimalText { scale: 2 };
        assert_eq!(text(&decimal, "-1234567890123456789.50"), ("-1234567890123456789.50".to_owned(), Exact));
        // A default's expression has the digits its writer gave it.
        assert_eq!(text(&decimal, "0.0").0, "0.00");
        assert_eq!(text(&decimal, "7").0, "7.00");
        assert_eq!(text(&decimal, "NaN"), ("NAN".to_owned(), Lossy));
        assert_eq!(text(&Form::DecimalText { scale: 0 }, "-Infinity"), ("NEGATIVE_INFINITY".to_owned(), Lossy));
        assert_eq!(write(&decimal, b"1e5", &mut Vec::new()), Err(Malformed));
        assert_eq!(text(&Form::MoneyText, "-$1,234.50"), ("-1234.50".to_owned(), Exact));
        assert!((double(&Form::DecimalDouble, "0.1") - 0.1).abs() < f64::EPSILON);
        assert!(double(&Form::DecimalDouble, "NaN").is_nan());
        assert!((double(&Form::MoneyDouble, "$12.34") - 12.34).abs() < f64::EPSILON);
        assert_eq!(write(&Form::MoneyText, "1.234,50 €".as_bytes(), &mut Vec::new()), Ok(Absent));
    }

    #[test]
    fn bytes_as_text() {
        let encoded = |encoding| text(&Form::BytesText(encoding), "\\xfbff00").0;
        assert_eq!(encoded(TextEncoding::Hex), "fbff00");
        assert_eq!(encoded(TextEncoding::Base64), "+/8A");
        assert_eq!(encoded(TextEncoding::Base64Url), "-_8A");
        assert_eq!(text(&Form::BytesText(TextEncoding::Base64), "\\x").0, "");
        assert_eq!(text(&Form::BytesText(TextEncoding::Base64), "\\x66").0, "Zg==");
        for malformed in ["66", "\\x6", "\\x6g"] {
            for encoding in [TextEncoding::Hex, TextEncoding::Base64] {
                assert!(write(&Form::BytesText(encoding), malformed.as_bytes(), &mut Vec::new()).is_err());
            }
        }
    }

    #[test]
    fn times_in_every_mode() {
        for (form, value, expected) in [
            (Form::IsoDate, "2017-09-15", ("2017-09-15Z", Exact)),
            (Form::IsoDate, "0044-03-15 BC", ("-0043-03-15Z", Lossy)),
            (Form::IsoDate, "infinity", ("-5877611-06-21Z", Lossy)),
            (Form::IsoTime, "04:05:11.789", ("04:05:11.789Z", Exact)),
            (Form::IsoTime, "24:00:00", ("00:00:00Z", Lossy)),
            (Form::IsoTimestamp, "2016-11-04 13:51:30.123456", ("2016-11-04T13:51:30.123456Z", Exact)),
            (Form::IsoTimestamp, "infinity", ("+294247-01-10T04:00:25.2Z", Lossy)),
            (Form::IsoInterval, "1 year 2 mons 3 days 04:05:06.78", ("P1Y2M3DT4H5M6.78S", Exact)),
        ] {
            assert_eq!(text(&form, value), (expected.0.to_owned(), expected.1), "{value}");
        }
        for (form, value, expected) in [
            (Form::ConnectDate, "1970-01-02", (1, Exact)),
            (Form::ConnectDate, "infinity", (INFINITY_DAYS, Lossy)),
            (Form::ConnectTime, "00:00:01.0019", (1_001, Exact)),
            (Form::TimeNanos, "00:00:00.000001", (1_000, Exact)),
            (Form::ConnectTimestamp, "1969-12-31 23:59:59.9999", (-1, Exact)),
            (Form::ConnectTimestamp, "infinity", (9_223_372_036_825_200, Lossy)),
            (Form::TimestampNanos, "1970-01-01 00:00:00.000001", (1_000, Exact)),
        ] {
            assert_eq!(long(&form, value), expected, "{value}");
        }
        // Beyond 64 bits of nanoseconds there is no value.
        for value in ["2262-04-12 00:00:00", "1677-09-21 00:00:00", "infinity"] {
            let mut out = Vec::new();
            assert_eq!(write(&Form::TimestampNanos, value.as_bytes(), &mut out), Ok(Absent));
            assert!(out.is_empty());
        }
    }
}
