//! What a field means: Debezium's and Connect's semantic types over Avro's.
//!
//! Sources: the `SCHEMA_NAME` constants under `io.debezium.time` and `io.debezium.data`, and
//! `org.apache.kafka.connect.data`. A name outside those packages says nothing to us and the Avro type counts.

use super::column::Spatial;
use super::reader::Problem;
use super::value::Value;
use super::writer_schema::{Node, NodeId, Shape, WriterSchema};

/// The unit of a time in the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// A field's meaning, whatever its Avro type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Boolean,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Text,
    Uuid,
    Json,
    Xml,
    Tsvector,
    Bytes,
    /// `precision` is `None` where the source declared none.
    Decimal {
        scale: i32,
        precision: Option<u32>,
    },
    VariableScaleDecimal,
    Date,
    Time(Unit),
    Timestamp(Unit),
    ZonedTimestamp,
    ZonedTime,
    Duration(Unit),
    /// ISO 8601 text.
    Interval,
    /// The declared number of bits, `i32::MAX` for an unbounded `varbit`.
    Bits(i32),
    IsoDate,
    IsoTime,
    IsoTimestamp,
    Point,
    /// An array of this element type.
    Array(NodeId),
    /// WKB beside its SRID.
    Spatial(Spatial),
    SparseVector,
    /// A map from text to text, which may be null.
    TextMap(NodeId),
}

/// Connect's precision of a decimal whose source declared none.
const UNDECLARED_PRECISION: i64 = 64;

/// The meaning of a type that is not a union. The text names the type where it has none here.
pub(super) fn meaning(schema: &WriterSchema, id: NodeId) -> Result<Meaning, String> {
    let node = schema.node(id);
    let name = node.connect_name.as_deref().or_else(|| logical_name(node)).unwrap_or_default();
    let unsupported = || {
        let shape = node.shape.name();
        if name.is_empty() || name == shape { shape.to_owned() } else { format!("{shape} ({name})") }
    };
    let meaning = match (name, &node.shape) {
        ("io.debezium.time.Date" | "org.apache.kafka.connect.data.Date", Shape::Int) => Meaning::Date,
        ("io.debezium.time.Time" | "org.apache.kafka.connect.data.Time", Shape::Int) => Meaning::Time(Unit::Millis),
        ("io.debezium.time.MicroTime", Shape::Long) => Meaning::Time(Unit::Micros),
        ("io.debezium.time.NanoTime", Shape::Long) => Meaning::Time(Unit::Nanos),
        ("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp", Shape::Long) => {
            Meaning::Timestamp(Unit::Millis)
        }
        ("io.debezium.time.MicroTimestamp", Shape::Long) => Meaning::Timestamp(Unit::Micros),
        ("io.debezium.time.NanoTimestamp", Shape::Long) => Meaning::Timestamp(Unit::Nanos),
        ("io.debezium.time.MicroDuration", Shape::Long) => Meaning::Duration(Unit::Micros),
        ("io.debezium.time.NanoDuration", Shape::Long) => Meaning::Duration(Unit::Nanos),
        ("io.debezium.time.ZonedTimestamp", Shape::String) => Meaning::ZonedTimestamp,
        ("io.debezium.time.ZonedTime", Shape::String) => Meaning::ZonedTime,
        ("io.debezium.time.Interval", Shape::String) => Meaning::Interval,
        ("io.debezium.time.IsoDate", Shape::String) => Meaning::IsoDate,
        ("io.debezium.time.IsoTime", Shape::String) => Meaning::IsoTime,
        ("io.debezium.time.IsoTimestamp", Shape::String) => Meaning::IsoTimestamp,
        ("io.debezium.time.Year", Shape::Int) => Meaning::Int32,
        ("io.debezium.data.Uuid", Shape::String) => Meaning::Uuid,
        ("io.debezium.data.Json", Shape::String) => Meaning::Json,
        ("io.debezium.data.Xml", Shape::String) => Meaning::Xml,
        ("io.debezium.data.Tsvector", Shape::String) => Meaning::Tsvector,
        ("io.debezium.data.Bits", Shape::Bytes) => {
            let length = node.parameter("length").and_then(|length| length.parse().ok());
            Meaning::Bits(length.filter(|length| *length > 0).unwrap_or(i32::MAX))
        }
        ("org.apache.kafka.connect.data.Decimal", Shape::Bytes | Shape::Fixed(1..)) => decimal(node)?,
        ("io.debezium.data.VariableScaleDecimal", Shape::Record { .. }) => Meaning::VariableScaleDecimal,
        ("io.debezium.data.geometry.Point", Shape::Record { .. }) => Meaning::Point,
        ("io.debezium.data.geometry.Geometry", Shape::Record { .. }) => Meaning::Spatial(Spatial::Geometry),
        ("io.debezium.data.geometry.Geography", Shape::Record { .. }) => Meaning::Spatial(Spatial::Geography),
        ("io.debezium.data.SparseDoubleVector", Shape::Record { .. }) => Meaning::SparseVector,
        // Another Avro type under a name of which every bit counts, or a type newer than this list.
        (name, _) if name.starts_with("io.debezium.time.") || name.starts_with("org.apache.kafka.connect.data.") => {
            return Err(unsupported());
        }
        (_, Shape::Boolean) => Meaning::Boolean,
        (_, Shape::Int) if matches!(node.connect_type.as_deref(), Some("int8" | "int16")) => Meaning::Int16,
        (_, Shape::Int) => Meaning::Int32,
        (_, Shape::Long) => Meaning::Int64,
        (_, Shape::Float) => Meaning::Float32,
        (_, Shape::Double) => Meaning::Float64,
        (_, Shape::String | Shape::Enum(_)) => Meaning::Text,
        (_, Shape::Bytes | Shape::Fixed(1..)) => Meaning::Bytes,
        (_, Shape::Array(items)) => Meaning::Array(*items),
        (_, Shape::Map(values))
            if schema.strip_null(*values).is_some_and(|(_, id)| schema.node(id).shape.name() == "string") =>
        {
            Meaning::TextMap(*values)
        }
        (_, Shape::Fixed(0) | Shape::Null | Shape::Map(_) | Shape::Union(_) | Shape::Record { .. }) => {
            return Err(unsupported());
        }
    };
    Ok(meaning)
}

/// Whether a type is one of pgvector's dense vectors, `io.debezium.data.DoubleVector` or `FloatVector`.
pub(super) fn is_vector(schema: &WriterSchema, id: NodeId) -> bool {
    let name = schema.strip_null(id).and_then(|(_, id)| schema.node(id).connect_name.as_deref());
    matches!(name, Some("io.debezium.data.DoubleVector" | "io.debezium.data.FloatVector"))
}

/// The semantic type that stands for an Avro logical type, for converters that write those alone. Connect's record
/// types are known by their full name.
fn logical_name(node: &Node) -> Option<&str> {
    match (node.logical_type.as_deref(), &node.shape) {
        (Some("decimal"), _) => Some("org.apache.kafka.connect.data.Decimal"),
        (Some("date"), _) => Some("org.apache.kafka.connect.data.Date"),
        (Some("time-millis"), _) => Some("org.apache.kafka.connect.data.Time"),
        (Some("time-micros"), _) => Some("io.debezium.time.MicroTime"),
        (Some("timestamp-millis" | "local-timestamp-millis"), _) => Some("org.apache.kafka.connect.data.Timestamp"),
        (Some("timestamp-micros" | "local-timestamp-micros"), _) => Some("io.debezium.time.MicroTimestamp"),
        (Some("uuid"), _) => Some("io.debezium.data.Uuid"),
        (_, Shape::Record { name, .. }) => Some(name),
        _ => None,
    }
}

fn decimal(node: &Node) -> Result<Meaning, String> {
    let scale = match node.parameter("scale") {
        Some(scale) => scale.parse().ok(),
        None => i32::try_from(node.scale.unwrap_or(0)).ok(),
    };
    let scale = scale.ok_or("decimal without a usable scale")?;
    let precision = match node.parameter("connect.decimal.precision") {
        Some(precision) => precision.parse().ok(),
        None => node.precision.filter(|p| *p != UNDECLARED_PRECISION).and_then(|p| u32::try_from(p).ok()),
    };
    Ok(Meaning::Decimal { scale, precision })
}

/// `date 'infinity'` through Debezium: the server's largest day number, moved from 2000 to 1970 in 32 bits.
const DATE_INFINITY: i32 = -2_147_472_692;
const DATE_MINUS_INFINITY: i32 = -2_147_472_691;
/// The PostgreSQL driver's constants (`PGStatement.DATE_POSITIVE_INFINITY`, `DATE_NEGATIVE_INFINITY`) taken as
/// microseconds, which is what Debezium makes a time of; a column of milliseconds gets that time in milliseconds.
const TIMESTAMP_INFINITY: i64 = 9_223_372_036_825_200_000;
const TIMESTAMP_MINUS_INFINITY: i64 = -9_223_372_036_832_400_000;

/// The last milliseconds since 1970 that are microseconds since 2000, which is how PostgreSQL counts.
const LAST_MILLIS: i64 = i64::MAX / 1_000 + 10_957 * 86_400_000;

const INFINITY: Value<'static> = Value::Text("infinity");
const MINUS_INFINITY: Value<'static> = Value::Text("-infinity");

/// A date from `io.debezium.time.Date`.
#[inline]
pub(super) fn date(days: i32) -> Value<'static> {
    match days {
        DATE_INFINITY => INFINITY,
        DATE_MINUS_INFINITY => MINUS_INFINITY,
        days => Value::Date(days),
    }
}

/// A timestamp from milliseconds, microseconds or nanoseconds since 1970.
#[inline]
pub(super) fn timestamp(unit: Unit, value: i64) -> Result<Value<'static>, Problem> {
    let (infinity, minus_infinity) = match unit {
        Unit::Millis => (TIMESTAMP_INFINITY / 1_000, TIMESTAMP_MINUS_INFINITY / 1_000),
        Unit::Micros => (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY),
        Unit::Nanos => (i64::MAX, i64::MIN),
    };
    if value == infinity {
        Ok(INFINITY)
    } else if value == minus_infinity {
        Ok(MINUS_INFINITY)
    } else {
        match micros(unit, value) {
            Ok(micros) => Ok(Value::Timestamp(micros)),
            Err(Problem::Range) if (0..=LAST_MILLIS).contains(&value) => Ok(Value::TimestampMillis(value)),
            Err(problem) => Err(problem),
        }
    }
}

/// Microseconds, without loss.
#[inline]
pub(super) fn micros(unit: Unit, value: i64) -> Result<i64, Problem> {
    match unit {
        Unit::Millis => value.checked_mul(1_000).ok_or(Problem::Range),
        Unit::Micros => Ok(value),
        Unit::Nanos if value % 1_000 == 0 => Ok(value / 1_000),
        Unit::Nanos => Err(Problem::Nanoseconds),
    }
}

/// ISO 8601 text of a type without a zone, which Debezium ends with a `Z` nevertheless.
#[inline]
pub(super) fn without_zone(text: &str) -> &str {
    text.strip_suffix('Z').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Meaning, String> {
        let schema = WriterSchema::parse(text).unwrap();
        meaning(&schema, schema.root)
    }

    fn named(avro: &str, name: &str) -> Result<Meaning, String> {
        of(&format!(r#"{{"type":"{avro}","connect.version":1,"connect.name":"{name}"}}"#))
    }

    #[test]
    fn names_decide_what_an_avro_type_means() {
        for (avro, name, expected) in [
            ("int", "io.debezium.time.Date", Meaning::Date),
            ("int", "org.apache.kafka.connect.data.Date", Meaning::Date),
            ("int", "io.debezium.time.Time", Meaning::Time(Unit::Millis)),
            ("int", "org.apache.kafka.connect.data.Time", Meaning::Time(Unit::Millis)),
            ("long", "io.debezium.time.MicroTime", Meaning::Time(Unit::Micros)),
            ("long", "io.debezium.time.NanoTime", Meaning::Time(Unit::Nanos)),
            ("long", "io.debezium.time.Timestamp", Meaning::Timestamp(Unit::Millis)),
            ("long", "org.apache.kafka.connect.data.Timestamp", Meaning::Timestamp(Unit::Millis)),
            ("long", "io.debezium.time.MicroTimestamp", Meaning::Timestamp(Unit::Micros)),
            ("long", "io.debezium.time.NanoTimestamp", Meaning::Timestamp(Unit::Nanos)),
            ("string", "io.debezium.time.ZonedTimestamp", Meaning::ZonedTimestamp),
            ("string", "io.debezium.time.ZonedTime", Meaning::ZonedTime),
            ("long", "io.debezium.time.MicroDuration", Meaning::Duration(Unit::Micros)),
            ("long", "io.debezium.time.NanoDuration", Meaning::Duration(Unit::Nanos)),
            ("string", "io.debezium.time.Interval", Meaning::Interval),
            ("int", "io.debezium.time.Year", Meaning::Int32),
            ("string", "io.debezium.time.IsoDate", Meaning::IsoDate),
            ("string", "io.debezium.time.IsoTime", Meaning::IsoTime),
            ("string", "io.debezium.time.IsoTimestamp", Meaning::IsoTimestamp),
            ("string", "io.debezium.data.Uuid", Meaning::Uuid),
            ("string", "io.debezium.data.Json", Meaning::Json),
            ("string", "io.debezium.data.Xml", Meaning::Xml),
            ("string", "io.debezium.data.Tsvector", Meaning::Tsvector),
            ("string", "io.debezium.data.Enum", Meaning::Text),
            ("string", "io.debezium.data.EnumSet", Meaning::Text),
            ("string", "io.debezium.data.Ltree", Meaning::Text),
            ("string", "com.example.Own", Meaning::Text),
            ("long", "com.example.Own", Meaning::Int64),
        ] {
            assert_eq!(named(avro, name), Ok(expected), "{name}");
        }
    }

    #[test]
    fn a_known_name_on_another_type_and_an_unknown_time_are_refused() {
        assert_eq!(named("string", "io.debezium.time.MicroTime").unwrap_err(), "string (io.debezium.time.MicroTime)");
        assert!(named("long", "io.debezium.time.FemtoTime").is_err());
        assert_eq!(of(r#"{"type":"map","values":"long"}"#).unwrap_err(), "map");
    }

    #[test]
    fn decimals_know_whether_a_precision_was_declared() {
        let decimal = |attributes: &str| of(&format!(r#"{{"type":"bytes",{attributes},"logicalType":"decimal"}}"#));
        let name = r#""connect.name":"org.apache.kafka.connect.data.Decimal""#;
        assert_eq!(
            decimal(&format!(
                r#""scale":2,"precision":12,"connect.parameters":{{"scale":"2","connect.decimal.precision":"12"}},{name}"#
            )),
            Ok(Meaning::Decimal { scale: 2, precision: Some(12) })
        );
        assert_eq!(
            decimal(&format!(r#""scale":2,"precision":64,"connect.parameters":{{"scale":"2"}},{name}"#)),
            Ok(Meaning::Decimal { scale: 2, precision: None })
        );
        assert_eq!(decimal(r#""scale":3,"precision":9"#), Ok(Meaning::Decimal { scale: 3, precision: Some(9) }));
    }

    #[test]
    fn bits_and_small_integers_carry_their_declaration() {
        let bits = r#"{"type":"bytes","connect.parameters":{"length":"10"},"connect.name":"io.debezium.data.Bits"}"#;
        assert_eq!(of(bits), Ok(Meaning::Bits(10)));
        assert_eq!(of(r#"{"type":"int","connect.type":"int16"}"#), Ok(Meaning::Int16));
    }

    #[test]
    fn infinities_are_text() {
        assert_eq!(date(DATE_INFINITY), Value::Text("infinity"));
        assert_eq!(date(DATE_MINUS_INFINITY), Value::Text("-infinity"));
        for (unit, plus, minus) in [
            (Unit::Millis, 9_223_372_036_825_200, -9_223_372_036_832_400),
            (Unit::Micros, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY),
            (Unit::Nanos, i64::MAX, i64::MIN),
        ] {
            assert_eq!(timestamp(unit, plus), Ok(Value::Text("infinity")));
            assert_eq!(timestamp(unit, minus), Ok(Value::Text("-infinity")));
        }
        assert_eq!(timestamp(Unit::Millis, TIMESTAMP_INFINITY), Err(Problem::Range));
        // 294276-12-31 23:59:59
        assert_eq!(timestamp(Unit::Millis, 9_224_318_015_999_000), Ok(Value::TimestampMillis(9_224_318_015_999_000)));
    }

    #[test]
    fn times_become_microseconds_or_an_error() {
        assert_eq!(micros(Unit::Millis, -1), Ok(-1_000));
        assert_eq!(micros(Unit::Millis, i64::MAX / 999), Err(Problem::Range));
        assert_eq!(micros(Unit::Nanos, -5_000), Ok(-5));
        assert_eq!(micros(Unit::Nanos, 5_001), Err(Problem::Nanoseconds));
    }
}
