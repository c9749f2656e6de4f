//! Which form a PostgreSQL type has in an event: Debezium's `PostgresValueConverter` and `JdbcValueConverters` under
//! their handling modes.

use crate::handling::{BinaryHandling, DecimalHandling, Handling, HstoreHandling, IntervalHandling, TimePrecision};
use crate::table::{Column, ColumnType, TypeKind};

/// The form of a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// `bool`.
    Boolean,
    /// `bit(1)` and `varbit(1)`: a boolean.
    Bit,
    /// `int2`: an `int` that Connect calls `int16`.
    Int16,
    /// `int4`.
    Int32,
    /// `int8`.
    Int64,
    /// `oid`: a `long`.
    Oid,
    /// `float4`.
    Float32,
    /// `float8`.
    Float64,
    /// PostgreSQL's text as it is.
    Text(TextForm),
    /// An enum's label.
    Enum {
        /// The labels in sort order, joined by commas.
        allowed: String,
    },
    /// `bytea`.
    Bytes,
    /// `bytea` as text.
    BytesText(TextEncoding),
    /// `numeric(p,s)`.
    Decimal {
        /// All digits.
        precision: u32,
        /// Digits behind the point; may be more than the precision.
        scale: i32,
    },
    /// `numeric`: a record of scale and value.
    VariableDecimal,
    /// `numeric` as a double.
    DecimalDouble,
    /// `numeric` as text.
    DecimalText {
        /// Digits behind the point that every value has.
        scale: usize,
    },
    /// `money`: a decimal with two digits behind the point.
    Money,
    /// `money` as a double.
    MoneyDouble,
    /// `money` as text.
    MoneyText,
    /// `date`: days.
    Date,
    /// `date`: days, under Connect's name.
    ConnectDate,
    /// `date` as ISO 8601 text.
    IsoDate,
    /// `time(0)` to `time(3)`: milliseconds.
    TimeMillis,
    /// `time`: microseconds.
    TimeMicros,
    /// `time`: nanoseconds.
    TimeNanos,
    /// `time`: milliseconds, under Connect's name.
    ConnectTime,
    /// `time` as ISO 8601 text.
    IsoTime,
    /// `timestamp(0)` to `timestamp(3)`: milliseconds.
    TimestampMillis,
    /// `timestamp`: microseconds.
    TimestampMicros,
    /// `timestamp`: nanoseconds.
    TimestampNanos,
    /// `timestamp`: milliseconds, under Connect's name.
    ConnectTimestamp,
    /// `timestamp` as ISO 8601 text.
    IsoTimestamp,
    /// `timestamptz`: ISO 8601 in UTC.
    ZonedTimestamp {
        /// Digits of the fraction; 0 writes as many as there are.
        digits: usize,
    },
    /// `timetz`: ISO 8601 in UTC.
    ZonedTime,
    /// `interval`: microseconds.
    Interval,
    /// `interval` as ISO 8601 text.
    IsoInterval,
    /// `bit(n)` and `varbit(n)`: little-endian bytes.
    Bits {
        /// The declared length; `i32::MAX` where there is none.
        length: i32,
    },
    /// `point`: a record.
    Point,
    /// PostGIS: a record of EWKB and SRID.
    Spatial(Spatial),
    /// pgvector's `vector`: an array of doubles.
    DoubleVector,
    /// pgvector's `halfvec`: an array of floats.
    FloatVector,
    /// pgvector's `sparsevec`: a record of the number of dimensions and a map from index to double.
    SparseVector,
    /// `hstore` as a JSON object.
    Hstore,
    /// `hstore` as a map.
    HstoreMap,
    /// An array of one of the others.
    Array(Box<Form>),
}

/// The types of PostGIS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spatial {
    Geometry,
    Geography,
}

/// What Debezium calls a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextForm {
    /// Nothing.
    Plain,
    /// `io.debezium.data.Json`.
    Json,
    /// `io.debezium.data.Xml`.
    Xml,
    /// `io.debezium.data.Uuid`.
    Uuid,
    /// `io.debezium.data.Tsvector`.
    Tsvector,
    /// `io.debezium.data.Ltree`.
    Ltree,
}

/// How bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextEncoding {
    Base64,
    Base64Url,
    Hex,
}

impl Form {
    /// The form of a column; the error is a reason that names the type.
    pub(super) fn of(column: &Column, handling: &Handling) -> Result<Self, String> {
        let column_type = &column.column_type;
        Self::of_type(column_type, column_type.modifier, handling)
    }

    fn of_type(column_type: &ColumnType, modifier: i32, handling: &Handling) -> Result<Self, String> {
        let unsupported = |what: &str| Err(format!("{what} {} has no form in change events", column_type.format));
        match &column_type.kind {
            TypeKind::Enum { labels } => Ok(Self::Enum { allowed: labels.join(",") }),
            TypeKind::Array { element } => match Self::of_type(element, modifier, handling) {
                Ok(form) if form.stands_in_arrays(&element.name) => Ok(Self::Array(Box::new(form))),
                _ => unsupported("array type"),
            },
            TypeKind::Base if column_type.schema != "pg_catalog" => {
                match Self::extension(&column_type.name, handling) {
                    Some(form) => Ok(form),
                    None => unsupported("extension type"),
                }
            }
            TypeKind::Base => match Self::built_in(&column_type.name, modifier, handling) {
                Some(form) => Ok(form),
                None => unsupported("type"),
            },
        }
    }

    fn built_in(name: &str, modifier: i32, handling: &Handling) -> Option<Self> {
        Some(match name {
            "bool" => Self::Boolean,
            "int2" => Self::Int16,
            "int4" => Self::Int32,
            "int8" => Self::Int64,
            "oid" => Self::Oid,
            "float4" => Self::Float32,
            "float8" => Self::Float64,
            "text" | "varchar" | "bpchar" | "name" | "char" | "inet" | "cidr" | "macaddr" | "macaddr8"
            | "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" => {
                Self::Text(TextForm::Plain)
            }
            "json" | "jsonb" => Self::Text(TextForm::Json),
            "xml" => Self::Text(TextForm::Xml),
            "uuid" => Self::Text(TextForm::Uuid),
            "tsvector" => Self::Text(TextForm::Tsvector),
            "bytea" => match handling.binary {
                BinaryHandling::Bytes => Self::Bytes,
                BinaryHandling::Base64 => Self::BytesText(TextEncoding::Base64),
                BinaryHandling::Base64UrlSafe => Self::BytesText(TextEncoding::Base64Url),
                BinaryHandling::Hex => Self::BytesText(TextEncoding::Hex),
            },
            "numeric" => numeric(modifier, handling.decimal),
            "money" => match handling.decimal {
                DecimalHandling::Precise => Self::Money,
                DecimalHandling::Double => Self::MoneyDouble,
                DecimalHandling::String => Self::MoneyText,
            },
            "date" => match handling.time {
                TimePrecision::Connect => Self::ConnectDate,
                TimePrecision::Isostring => Self::IsoDate,
                _ => Self::Date,
            },
            "time" => time(modifier, handling.time),
            "timestamp" => timestamp(modifier, handling.time),
            "timestamptz" => {
                Self::ZonedTimestamp { digits: usize::try_from(modifier).map_or(6, |digits| digits.min(6)) }
            }
            "timetz" => Self::ZonedTime,
            "interval" => match handling.interval {
                IntervalHandling::Numeric => Self::Interval,
                IntervalHandling::String => Self::IsoInterval,
            },
            "bit" | "varbit" if modifier == 1 => Self::Bit,
            "bit" | "varbit" => Self::Bits { length: if modifier > 0 { modifier } else { i32::MAX } },
            "point" => Self::Point,
            _ => return None,
        })
    }

    /// Types of well-known extensions, in whichever schema they were installed.
    fn extension(name: &str, handling: &Handling) -> Option<Self> {
        Some(match (name, handling.hstore) {
            ("citext" | "isbn", _) => Self::Text(TextForm::Plain),
            ("ltree", _) => Self::Text(TextForm::Ltree),
            ("geometry", _) => Self::Spatial(Spatial::Geometry),
            ("geography", _) => Self::Spatial(Spatial::Geography),
            ("vector", _) => Self::DoubleVector,
            ("halfvec", _) => Self::FloatVector,
            ("sparsevec", _) => Self::SparseVector,
            ("hstore", HstoreHandling::Json) => Self::Hstore,
            ("hstore", HstoreHandling::Map) => Self::HstoreMap,
            _ => return None,
        })
    }

    /// Whether Debezium captures arrays of the form.
    fn stands_in_arrays(&self, name: &str) -> bool {
        match self {
            Self::Bit
            | Self::Bits { .. }
            | Self::Money
            | Self::MoneyDouble
            | Self::MoneyText
            | Self::Interval
            | Self::IsoInterval
            | Self::Point
            | Self::Array(_)
            | Self::Text(TextForm::Xml | TextForm::Tsvector) => false,
            _ => name != "name",
        }
    }

    /// Whether an array of the form has slots for NULL elements. Debezium's enums and vectors have none
    /// (`PostgresValueConverter.columnSchemaBuilder`).
    pub(super) fn null_in_arrays(&self) -> bool {
        !matches!(self, Self::Enum { .. } | Self::DoubleVector | Self::FloatVector | Self::SparseVector)
    }

    /// Whether a key column may have the form. In these, equal values do not have equal bytes, or the source's text would
    /// be needed, which does not travel with keys.
    pub(super) fn stands_in_keys(&self) -> bool {
        match self {
            Self::HstoreMap | Self::Spatial(_) | Self::DoubleVector | Self::FloatVector | Self::SparseVector => false,
            Self::Array(element) => element.stands_in_keys(),
            _ => true,
        }
    }

    /// What stands between the elements of an array of the form (`pg_type.typdelim`).
    pub(super) fn delimiter(&self) -> u8 {
        if matches!(self, Self::Spatial(_)) { b':' } else { b',' }
    }

    /// Whether a column of the form has a null branch: Debezium's `geometry` has one whatever the column says
    /// (`Geometry.builder`).
    pub(super) fn is_nullable(&self, column: &Column) -> bool {
        column.nullable || *self == Self::Spatial(Spatial::Geometry)
    }
}

/// `numeric`'s modifier: precision and, in eleven bits, scale. Negative ones, which PostgreSQL 15 brought, are read as
/// Debezium and pgjdbc read them: -2 is 2046, which leaves the number what it is.
fn numeric(modifier: i32, handling: DecimalHandling) -> Form {
    let declared = match u32::try_from(modifier.wrapping_sub(4)) {
        Ok(bits) if modifier >= 4 => Some((bits >> 16, (bits & 0x7ff).cast_signed())),
        _ => None,
    };
    match (handling, declared) {
        (DecimalHandling::Precise, Some((precision, scale))) => Form::Decimal { precision, scale },
        (DecimalHandling::Precise, None) => Form::VariableDecimal,
        (DecimalHandling::Double, _) => Form::DecimalDouble,
        (DecimalHandling::String, declared) => {
            Form::DecimalText { scale: declared.map_or(0, |(_, scale)| usize::try_from(scale).unwrap_or(0)) }
        }
    }
}

/// Types with a precision keep it as the modifier; without one it is six digits.
fn is_short(modifier: i32) -> bool {
    (0..=3).contains(&modifier)
}

fn time(modifier: i32, handling: TimePrecision) -> Form {
    match handling {
        TimePrecision::Adaptive if is_short(modifier) => Form::TimeMillis,
        TimePrecision::Adaptive | TimePrecision::AdaptiveTimeMicroseconds | TimePrecision::Microseconds => {
            Form::TimeMicros
        }
        TimePrecision::Nanoseconds => Form::TimeNanos,
        TimePrecision::Connect => Form::ConnectTime,
        TimePrecision::Isostring => Form::IsoTime,
    }
}

fn timestamp(modifier: i32, handling: TimePrecision) -> Form {
    match handling {
        TimePrecision::Adaptive | TimePrecision::AdaptiveTimeMicroseconds if is_short(modifier) => {
            Form::TimestampMillis
        }
        TimePrecision::Adaptive | TimePrecision::AdaptiveTimeMicroseconds | TimePrecision::Microseconds => {
            Form::TimestampMicros
        }
        TimePrecision::Nanoseconds => Form::TimestampNanos,
        TimePrecision::Connect => Form::ConnectTimestamp,
        TimePrecision::Isostring => Form::IsoTimestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str, schema: &str, modifier: i32) -> ColumnType {
        ColumnType {
            oid: 0,
            name: name.into(),
            schema: schema.into(),
            modifier,
            format: name.into(),
            kind: TypeKind::Base,
            domain: None,
        }
    }

    fn array(element: ColumnType) -> ColumnType {
        let modifier = element.modifier;
        let name = format!("_{}", element.name);
        ColumnType { kind: TypeKind::Array { element: Box::new(element) }, ..base(&name, "pg_catalog", modifier) }
    }

    fn form(column_type: &ColumnType) -> Result<Form, String> {
        Form::of_type(column_type, column_type.modifier, &Handling::default())
    }

    #[test]
    fn modifiers_are_read() {
        let numeric = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        for (name, modifier, expected) in [
            ("numeric", numeric(12, 2), Form::Decimal { precision: 12, scale: 2 }),
            ("numeric", numeric(3, -2), Form::Decimal { precision: 3, scale: 2046 }),
            ("numeric", numeric(1000, 1000), Form::Decimal { precision: 1000, scale: 1000 }),
            ("numeric", -1, Form::VariableDecimal),
            ("time", 3, Form::TimeMillis),
            ("time", -1, Form::TimeMicros),
            ("timestamp", 4, Form::TimestampMicros),
            ("timestamptz", 0, Form::ZonedTimestamp { digits: 0 }),
            ("timestamptz", -1, Form::ZonedTimestamp { digits: 6 }),
            ("bit", 1, Form::Bit),
            ("varbit", -1, Form::Bits { length: i32::MAX }),
        ] {
            assert_eq!(form(&base(name, "pg_catalog", modifier)), Ok(expected), "{name} {modifier}");
        }
        let element = base("numeric", "pg_catalog", numeric(6, 2));
        assert_eq!(form(&array(element)), Ok(Form::Array(Box::new(Form::Decimal { precision: 6, scale: 2 }))));
    }

    #[test]
    fn reasons_name_the_type() {
        for unsupported in [
            base("cube", "public", -1),
            base("polygon", "pg_catalog", -1),
            array(base("money", "pg_catalog", -1)),
            array(base("name", "pg_catalog", -1)),
        ] {
            let reason = form(&unsupported).unwrap_err();
            assert!(reason.contains(&unsupported.format), "{reason}");
        }
    }
}
