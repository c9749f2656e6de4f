//! Values as elements of PostgreSQL's binary arrays, and as keys that compare by their bytes.

use syncline_event::avro::value::Value;
use syncline_event::table::{ColumnType, TypeKind};

use super::datetime;
use super::numeric;
use super::text;
use crate::rows::CellForm;

/// How a column's values travel to the server. What has no binary form here goes as text and is cast there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    /// `text`, and what a `text` is assigned to without reading it (`varchar`, `bpchar`, `name`).
    Text,
    Json,
    Jsonb,
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    /// Anything else: its text form.
    Cast,
}

impl Codec {
    /// The codec of a target column's type.
    pub(super) fn of(schema: &str, name: &str, kind: &TypeKind) -> Self {
        if schema != "pg_catalog" || *kind != TypeKind::Base {
            return Self::Cast;
        }
        match name {
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "oid" => Self::Oid,
            "float4" => Self::Float4,
            "float8" => Self::Float8,
            "numeric" => Self::Numeric,
            "text" | "varchar" | "bpchar" | "name" => Self::Text,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "bytea" => Self::Bytea,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::Timestamptz,
            _ => Self::Cast,
        }
    }

    /// The type of the array's elements: name, OID, and OID of the array type (`pg_type.dat`).
    pub(super) fn element(self) -> (&'static str, u32, u32) {
        match self {
            Self::Bool => ("bool", 16, 1000),
            Self::Int2 => ("int2", 21, 1005),
            Self::Int4 => ("int4", 23, 1007),
            Self::Int8 => ("int8", 20, 1016),
            Self::Oid => ("oid", 26, 1028),
            Self::Float4 => ("float4", 700, 1021),
            Self::Float8 => ("float8", 701, 1022),
            Self::Numeric => ("numeric", 1700, 1231),
            Self::Text | Self::Cast => ("text", 25, 1009),
            Self::Json => ("json", 114, 199),
            Self::Jsonb => ("jsonb", 3802, 3807),
            Self::Bytea => ("bytea", 17, 1001),
            Self::Uuid => ("uuid", 2950, 2951),
            Self::Date => ("date", 1082, 1182),
            Self::Time => ("time", 1083, 1183),
            Self::Timestamp => ("timestamp", 1114, 1115),
            Self::Timestamptz => ("timestamptz", 1184, 1185),
        }
    }
}

/// Appends a value as an array element (without its length).
///
/// # Errors
///
/// The value does not fit the type; the text names the reason, not the value.
pub(super) fn push(
    codec: Codec,
    source: &ColumnType,
    value: &Value<'_>,
    out: &mut Vec<u8>,
) -> Result<CellForm, String> {
    match (codec, *value) {
        (_, Value::Null) => return Ok(CellForm::Null),
        (_, Value::Unknown) => return Ok(CellForm::Unknown),
        (Codec::Int8, Value::Integer(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (Codec::Int4, Value::Integer(value)) => {
            out.extend_from_slice(&i32::try_from(value).map_err(|_| too_large("int4"))?.to_be_bytes());
        }
        (Codec::Int2, Value::Integer(value)) => {
            out.extend_from_slice(&i16::try_from(value).map_err(|_| too_large("int2"))?.to_be_bytes());
        }
        (Codec::Oid, Value::Integer(value)) => {
            out.extend_from_slice(&u32::try_from(value).map_err(|_| too_large("oid"))?.to_be_bytes());
        }
        (Codec::Text, Value::Text(text) | Value::SourceText(text)) => push_string(text, out)?,
        (Codec::Json, Value::Text(text) | Value::SourceText(text)) => out.extend_from_slice(text.as_bytes()),
        (Codec::Jsonb, Value::Text(text) | Value::SourceText(text)) => {
            // The version of the binary form (`jsonb_recv`).
            out.push(1);
            out.extend_from_slice(text.as_bytes());
        }
        (Codec::Bool, Value::Boolean(value)) => out.push(u8::from(value)),
        (Codec::Float4, Value::Float32(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (Codec::Float8, Value::Float64(value)) => out.extend_from_slice(&value.to_be_bytes()),
        (Codec::Float8, Value::Float32(value)) => out.extend_from_slice(&f64::from(value).to_be_bytes()),
        (Codec::Numeric, Value::Decimal { unscaled, scale }) => {
            numeric::push_decimal(unscaled, scale, out).ok_or_else(|| too_large("numeric"))?;
        }
        (Codec::Numeric, Value::Integer(value)) => {
            numeric::push_decimal(&value.to_be_bytes(), 0, out).ok_or_else(|| too_large("numeric"))?;
        }
        (Codec::Bytea, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
        (Codec::Bytea, Value::EncodedBytes(text)) => text.decode(out).ok_or("text that does not encode bytes")?,
        (Codec::Uuid, Value::Text(text) | Value::SourceText(text)) => push_uuid(text, out)?,
        (Codec::Date, Value::Date(days)) => {
            out.extend_from_slice(&datetime::pg_date(days).ok_or_else(|| too_large("date"))?.to_be_bytes());
        }
        (Codec::Time, Value::Time(micros)) if (0..=86_400_000_000).contains(&micros) => {
            out.extend_from_slice(&micros.to_be_bytes());
        }
        (Codec::Timestamp | Codec::Timestamptz, Value::Timestamp(micros)) => {
            let micros = datetime::pg_timestamp(micros).ok_or_else(|| too_large("timestamp"))?;
            out.extend_from_slice(&micros.to_be_bytes());
        }
        (Codec::Timestamp | Codec::Timestamptz, Value::TimestampMillis(millis)) => {
            let micros = datetime::pg_timestamp_of_millis(millis).ok_or_else(|| too_large("timestamp"))?;
            out.extend_from_slice(&micros.to_be_bytes());
        }
        (Codec::Timestamptz, Value::ZonedTimestamp(text)) => push_text(codec, text, out)?,
        (Codec::Cast, _) => text::push(source, value, out)?,
        (_, Value::Text(text) | Value::SourceText(text)) => push_text(codec, text, out)?,
        // A target column of another type than the source's: by way of text.
        (_, _) => {
            let mut printed = Vec::new();
            text::push(source, value, &mut printed)?;
            let printed = std::str::from_utf8(&printed).map_err(|_| "not UTF-8".to_owned())?;
            push_text(codec, printed, out)?;
        }
    }
    Ok(CellForm::Written)
}

/// Appends the text form of a value as an array element.
fn push_text(codec: Codec, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let name = codec.element().0;
    let refused = || format!("text that is no {name}, or one outside its range");
    match codec {
        Codec::Bool => out.push(match text {
            "t" | "true" | "1" => 1,
            "f" | "false" | "0" => 0,
            _ => return Err(refused()),
        }),
        Codec::Int2 => out.extend_from_slice(&text.parse::<i16>().map_err(|_| refused())?.to_be_bytes()),
        Codec::Int4 => out.extend_from_slice(&text.parse::<i32>().map_err(|_| refused())?.to_be_bytes()),
        Codec::Int8 => out.extend_from_slice(&text.parse::<i64>().map_err(|_| refused())?.to_be_bytes()),
        Codec::Oid => out.extend_from_slice(&text.parse::<u32>().map_err(|_| refused())?.to_be_bytes()),
        // Rust reads what PostgreSQL prints: digits, exponents, NaN, Infinity.
        Codec::Float4 => out.extend_from_slice(&text.parse::<f32>().map_err(|_| refused())?.to_be_bytes()),
        Codec::Float8 => out.extend_from_slice(&text.parse::<f64>().map_err(|_| refused())?.to_be_bytes()),
        Codec::Numeric => numeric::push_text(text, out).ok_or_else(refused)?,
        Codec::Text | Codec::Cast => push_string(text, out)?,
        Codec::Json => out.extend_from_slice(text.as_bytes()),
        Codec::Jsonb => {
            out.push(1);
            out.extend_from_slice(text.as_bytes());
        }
        Codec::Bytea => push_unhexed(text.strip_prefix("\\x").ok_or_else(refused)?.as_bytes(), out)?,
        Codec::Uuid => push_uuid(text, out)?,
        Codec::Date => out.extend_from_slice(&datetime::parse_date(text).ok_or_else(refused)?.to_be_bytes()),
        Codec::Time => out.extend_from_slice(&datetime::parse_time(text).ok_or_else(refused)?.to_be_bytes()),
        Codec::Timestamp | Codec::Timestamptz => {
            out.extend_from_slice(&datetime::parse_timestamp(text).ok_or_else(refused)?.to_be_bytes());
        }
    }
    Ok(())
}

/// PostgreSQL's text cannot hold the character NUL; refusing it here names the column.
fn push_string(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    if text.as_bytes().contains(&0) {
        return Err("text with the character NUL, which PostgreSQL cannot store".into());
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn too_large(name: &str) -> String {
    format!("a value outside the range of {name}")
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

fn push_unhexed(digits: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let refused = || "text that is no hexadecimal number".to_owned();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(refused());
    }
    for [high, low] in pairs {
        out.push(nibble(*high).ok_or_else(refused)? << 4 | nibble(*low).ok_or_else(refused)?);
    }
    Ok(())
}

fn push_uuid(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let mut digits = [0; 32];
    let mut count = 0;
    for byte in text.bytes().filter(|byte| *byte != b'-') {
        *digits.get_mut(count).ok_or("text that is no uuid")? = byte;
        count += 1;
    }
    if count != digits.len() {
        return Err("text that is no uuid".into());
    }
    push_unhexed(&digits, out)
}

/// Appends a key's value so that equal keys have equal bytes, none is the beginning of another (so that the columns
/// of a key may stand side by side), and, for the usual types, bytes sort as values do.
///
/// # Errors
///
/// As for [`push`].
pub(super) fn push_key(
    codec: Codec,
    source: &ColumnType,
    value: &Value<'_>,
    out: &mut Vec<u8>,
) -> Result<CellForm, String> {
    let start = out.len();
    let form = push(codec, source, value, out)?;
    if form != CellForm::Written {
        return Ok(form);
    }
    match codec {
        Codec::Bool | Codec::Oid | Codec::Uuid => {}
        // Two's complement sorts as unsigned numbers do once the sign bit is turned over.
        Codec::Int2 | Codec::Int4 | Codec::Int8 | Codec::Date | Codec::Time | Codec::Timestamp | Codec::Timestamptz => {
            out[start] ^= 0x80;
        }
        Codec::Float4 | Codec::Float8 => make_float_sortable(&mut out[start..]),
        Codec::Numeric => numeric::make_sortable(out, start),
        Codec::Bytea => escape_zeros(out, start),
        Codec::Text | Codec::Json | Codec::Jsonb | Codec::Cast => {
            // Trailing blanks of a bpchar do not count.
            if source.name == "bpchar" {
                while out.len() > start && out.last() == Some(&b' ') {
                    out.pop();
                }
            }
            out.push(0);
        }
    }
    Ok(form)
}

fn make_float_sortable(bytes: &mut [u8]) {
    let magnitude_is_zero = bytes[0] & 0x7F == 0 && bytes[1..].iter().all(|byte| *byte == 0);
    let is_nan = match *bytes {
        [a, b, c, d] => f32::from_be_bytes([a, b, c, d]).is_nan(),
        [a, b, c, d, e, f, g, h] => f64::from_be_bytes([a, b, c, d, e, f, g, h]).is_nan(),
        _ => false,
    };
    if is_nan {
        // All NaNs are equal and above everything else.
        bytes.fill(0xFF);
    } else if magnitude_is_zero {
        bytes[0] = 0x80;
    } else if bytes[0] & 0x80 == 0 {
        bytes[0] ^= 0x80;
    } else {
        for byte in bytes {
            *byte = !*byte;
        }
    }
}

/// 00 becomes 00 FF, and 00 00 ends it.
fn escape_zeros(out: &mut Vec<u8>, start: usize) {
    let mut at = start;
    while at < out.len() {
        if out[at] == 0 {
            out.insert(at + 1, 0xFF);
            at += 1;
        }
        at += 1;
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    fn codec(name: &str) -> Codec {
        Codec::of("pg_catalog", name, &TypeKind::Base)
    }

    fn cell(name: &str, value: Value<'_>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        push(codec(name), &column_type(name), &value, &mut out).map(|_| out)
    }

    fn key(name: &str, value: Value<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        push_key(codec(name), &column_type(name), &value, &mut out).unwrap();
        out
    }

    #[test]
    fn text_and_typed_values_agree() {
        for (name, text, value) in [
            ("bool", "t", Value::Boolean(true)),
            ("int2", "-32768", Value::Integer(-32768)),
            ("int8", "9223372036854775807", Value::Integer(i64::MAX)),
            ("oid", "4294967295", Value::Integer(4_294_967_295)),
            ("float4", "1.25", Value::Float32(1.25)),
            ("float8", "-Infinity", Value::Float64(f64::NEG_INFINITY)),
            ("numeric", "12.34", Value::Decimal { unscaled: &[0x04, 0xD2], scale: 2 }),
            ("bytea", "\\x00ff", Value::Bytes(&[0, 255])),
            ("date", "2024-02-29", Value::Date(19_782)),
            ("time", "12:34:56.789012", Value::Time(45_296_789_012)),
            ("timestamp", "2024-02-29 12:34:56.789012", Value::Timestamp(1_709_210_096_789_012)),
            ("timestamp", "294276-12-31 23:59:59", Value::TimestampMillis(9_224_318_015_999_000)),
            ("timestamptz", "2024-02-29 12:34:56+01", Value::ZonedTimestamp("2024-02-29T11:34:56.000000Z")),
        ] {
            assert_eq!(cell(name, Value::SourceText(text)), cell(name, value), "{name}");
            assert!(cell(name, value).is_ok(), "{name}");
        }
    }

    #[test]
    fn values_outside_the_range_are_refused_without_showing_them() {
        for (name, value) in [
            ("int2", Value::Integer(40_000)),
            ("int4", Value::Integer(1 << 40)),
            ("oid", Value::Integer(-1)),
            ("date", Value::Date(i32::MIN)),
            ("timestamp", Value::Timestamp(i64::MIN)),
            ("uuid", Value::Text("40000")),
            ("text", Value::Text("40000\0")),
            ("int4", Value::SourceText("40000x")),
        ] {
            let error = cell(name, value).unwrap_err();
            assert!(!error.contains("40000"), "{error}");
        }
    }

    #[test]
    fn equal_keys_have_equal_bytes() {
        assert_eq!(key("bpchar", Value::Text("ab  ")), key("bpchar", Value::Text("ab")));
        assert_eq!(key("float8", Value::Float64(-0.0)), key("float8", Value::Float64(0.0)));
        assert_eq!(key("numeric", Value::SourceText("1.50")), key("numeric", Value::SourceText("1.5")));
    }

    proptest! {
        #[test]
        fn integer_keys_sort(a in any::<i64>(), b in any::<i64>()) {
            prop_assert_eq!(key("int8", Value::Integer(a)).cmp(&key("int8", Value::Integer(b))), a.cmp(&b));
        }

        #[test]
        fn float_keys_sort(a in -1e300..1e300_f64, b in -1e300..1e300_f64) {
            let order = a.partial_cmp(&b).unwrap();
            prop_assert_eq!(key("float8", Value::Float64(a)).cmp(&key("float8", Value::Float64(b))), order);
        }

        #[test]
        fn bytes_keys_sort_and_end_by_themselves(a in proptest::collection::vec(0..3_u8, 0..6), b in proptest::collection::vec(0..3_u8, 0..6)) {
            let (left, right) = (key("bytea", Value::Bytes(&a)), key("bytea", Value::Bytes(&b)));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert!(a == b || !left.starts_with(&right));
        }
    }
}
