//! Values as the text PostgreSQL reads: for columns that have no binary form here, and for the elements of arrays.

use std::io::Write;

use syncline_event::avro::value::Value;
use syncline_event::table::{ColumnType, TypeKind};

use super::datetime;
use super::numeric;

/// Appends a value that is neither NULL nor unknown. `column_type` is the source's.
///
/// # Errors
///
/// The value is outside PostgreSQL's range, or its text cannot be known.
pub(super) fn push(column_type: &ColumnType, value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    match *value {
        Value::Null | Value::Unknown => return Err("no value to print".into()),
        Value::Boolean(value) => {
            // Debezium writes bit(1) and varbit(1) as booleans.
            let letters = if matches!(column_type.name.as_str(), "bit" | "varbit") { b"01" } else { b"ft" };
            out.push(letters[usize::from(value)]);
        }
        Value::Integer(value) => print(out, format_args!("{value}")),
        Value::Float32(value) => push_float(out, f64::from(value), format_args!("{value:e}")),
        Value::Float64(value) => push_float(out, value, format_args!("{value:e}")),
        Value::Text(text) | Value::SourceText(text) | Value::ZonedTime(text) => out.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => push_hex(out, bytes),
        Value::EncodedBytes(text) => {
            let mut bytes = Vec::new();
            text.decode(&mut bytes).ok_or("text that does not encode bytes")?;
            push_hex(out, &bytes);
        }
        Value::Decimal { unscaled, scale } => numeric::push_plain(unscaled, scale, out),
        Value::Date(days) => {
            let days = datetime::pg_date(days).ok_or("a date outside PostgreSQL's range")?;
            datetime::push_date(out, i64::from(days));
        }
        Value::Time(micros) => {
            if !(0..=86_400_000_000).contains(&micros) {
                return Err("a time of day outside 00:00:00 to 24:00:00".into());
            }
            datetime::push_time(out, micros);
        }
        Value::Timestamp(micros) => {
            let micros = datetime::pg_timestamp(micros).ok_or("a timestamp outside PostgreSQL's range")?;
            datetime::push_timestamp(out, micros, b"");
        }
        Value::TimestampMillis(millis) => {
            let micros = datetime::pg_timestamp_of_millis(millis).ok_or("a timestamp outside PostgreSQL's range")?;
            datetime::push_timestamp(out, micros, b"");
        }
        Value::ZonedTimestamp(text) => match datetime::parse_timestamp(text) {
            Some(i64::MAX | i64::MIN) => out.extend_from_slice(text.as_bytes()),
            Some(micros) => datetime::push_timestamp(out, micros, b"+00"),
            None => return Err("no timestamp, or one outside PostgreSQL's range".into()),
        },
        Value::Duration(micros) => {
            if micros < 0 {
                out.push(b'-');
            }
            // The lowest number has no positive counterpart; PostgreSQL has no such interval of hours either.
            let magnitude = micros.checked_abs().ok_or("an interval outside PostgreSQL's range")?;
            datetime::push_time(out, magnitude);
        }
        Value::Bits { bytes, length } => push_bits(bytes, length, out)?,
        Value::Point { x, y } => {
            out.push(b'(');
            push_float(out, x, format_args!("{x:e}"));
            out.push(b',');
            push_float(out, y, format_args!("{y:e}"));
            out.push(b')');
        }
        Value::Spatial(value) => value.push_ewkb(out).ok_or("bytes that are no WKB")?,
        Value::SparseVector(vector) => print(out, format_args!("{vector}")),
        Value::Array(array) => {
            let TypeKind::Array { element } = &column_type.kind else {
                return Err(format!("an array for a column of type {}", column_type.format));
            };
            push_array(element, array.iter(), out)?;
        }
        Value::Map(map) => out.extend_from_slice(map.to_json().as_bytes()),
    }
    Ok(())
}

fn print(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every write");
}

/// Rust prints the shortest digits that read back as the same number; only the special values differ.
fn push_float(out: &mut Vec<u8>, value: f64, digits: std::fmt::Arguments<'_>) {
    if value.is_finite() {
        print(out, digits);
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\x");
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Bit 0 is the last character (`PostgresValueConverter`'s `BitSet`). A `varbit` shorter than declared comes with the
/// source's text; without it (from Debezium) an unbounded one loses its leading zeros.
fn push_bits(bytes: &[u8], length: i32, out: &mut Vec<u8>) -> Result<(), String> {
    let bit = |index: usize| bytes.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
    let highest = (0..bytes.len() * 8).rev().find(|index| bit(*index));
    let significant = highest.map_or(0, |index| index + 1);
    let length = match length {
        i32::MAX => significant,
        length => usize::try_from(length).map_err(|_| "a bit string of negative length")?,
    };
    if significant > length {
        return Err(format!("a bit string longer than {length} bits"));
    }
    out.extend((0..length).rev().map(|index| b'0' + u8::from(bit(index))));
    Ok(())
}

/// Every element in quotes: array input takes them for any type, and nothing needs to be looked at twice.
fn push_array<'a>(
    element: &ColumnType,
    values: impl Iterator<Item = Value<'a>>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    // `pg_type.typdelim`: PostGIS's types alone, of those that come in arrays, have another one than the comma.
    let delimiter = if matches!(element.name.as_str(), "geometry" | "geography") { b':' } else { b',' };
    let mut space = Vec::new();
    out.push(b'{');
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(delimiter);
        }
        match value {
            Value::Null => out.extend_from_slice(b"NULL"),
            value => {
                space.clear();
                push(element, &value, &mut space)?;
                out.push(b'"');
                for byte in &space {
                    if matches!(byte, b'"' | b'\\') {
                        out.push(b'\\');
                    }
                    out.push(*byte);
                }
                out.push(b'"');
            }
        }
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_event::avro::decode::SpatialValue;

    fn column_type(name: &str) -> ColumnType {
        ColumnType {
            oid: 0,
            name: name.into(),
            schema: "pg_catalog".into(),
            modifier: -1,
            format: name.into(),
            kind: TypeKind::Base,
            domain: None,
        }
    }

    fn text(name: &str, value: Value<'_>) -> String {
        let mut out = Vec::new();
        push(&column_type(name), &value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bits_are_read_from_the_last_character() {
        assert_eq!(text("bit", Value::Bits { bytes: &[0x05], length: 3 }), "101");
        assert_eq!(text("bit", Value::Bits { bytes: &[], length: 3 }), "000");
        assert_eq!(text("bit", Value::Bits { bytes: &[0, 1], length: 10 }), "0100000000");
        assert_eq!(text("varbit", Value::Bits { bytes: &[0x16], length: 10 }), "0000010110");
        assert_eq!(text("varbit", Value::Bits { bytes: &[0x16], length: i32::MAX }), "10110");
        assert_eq!(text("bit", Value::Boolean(true)), "1");
    }

    #[test]
    fn bits_beyond_the_length_are_refused() {
        assert!(push(&column_type("bit"), &Value::Bits { bytes: &[0x10], length: 3 }, &mut Vec::new()).is_err());
    }

    #[test]
    fn intervals_points_and_floats() {
        assert_eq!(text("interval", Value::Duration(-3_723_000_001)), "-01:02:03.000001");
        assert_eq!(text("interval", Value::Duration(360_000_000_000)), "100:00:00.000000");
        assert_eq!(text("point", Value::Point { x: 1.5, y: -2.25 }), "(1.5e0,-2.25e0)");
        assert_eq!(text("float8", Value::Float64(f64::NEG_INFINITY)), "-Infinity");
        assert_eq!(text("float8", Value::Float64(1e300)), "1e300");
    }

    #[test]
    fn postgis_gets_ewkb() {
        let value = Value::Spatial(SpatialValue { wkb: &[1, 1, 0, 0, 0, 0xff], srid: Some(4326) });
        assert_eq!(text("geometry", value), "0101000020E6100000FF");
        let mut out = Vec::new();
        push_array(&column_type("geometry"), [value, Value::Null].into_iter(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"0101000020E6100000FF":NULL}"#);
        let value = Value::Spatial(SpatialValue { wkb: &[9], srid: None });
        assert_eq!(push(&column_type("geometry"), &value, &mut Vec::new()), Err("bytes that are no WKB".to_owned()));
    }

    #[test]
    fn array_elements_are_quoted() {
        let values = [Value::Text("a\"b\\"), Value::Null, Value::Text(""), Value::Text("NULL")];
        let mut out = Vec::new();
        push_array(&column_type("text"), values.into_iter(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a\"b\\",NULL,"","NULL"}"#);
    }
}
