//! The types an expression knows, and what a table definition calls them.

use std::fmt;

use syncline_event::table::{ColumnType, TypeKind};

/// A type of PostgreSQL as far as expressions tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SqlType {
    /// A literal in quotes whose type is not known yet, or NULL.
    Literal,
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `text`, `varchar`, `name`
    Text,
    /// `char(n)`
    Bpchar,
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    Timestamptz,
    /// `interval`
    Interval,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// `uuid`
    Uuid,
    /// An enum type: compares for equality with its labels, and is cast to text.
    Enum,
    /// A type whose values are read as their text and nothing more.
    Textual,
    /// Any other type: may be copied and compared with NULL.
    Opaque,
}

impl SqlType {
    /// The type of a column.
    #[must_use]
    pub fn of(column: &ColumnType) -> Self {
        match &column.kind {
            TypeKind::Enum { .. } => Self::Enum,
            TypeKind::Array { .. } => Self::Opaque,
            TypeKind::Base => Self::named_in(&column.schema, &column.name),
        }
    }

    /// A type that is no enum and no array, by its schema and its name in `pg_type`.
    #[must_use]
    pub fn named_in(schema: &str, name: &str) -> Self {
        if schema != "pg_catalog" {
            return if name == "citext" { Self::Textual } else { Self::Opaque };
        }
        match name {
            "bool" => Self::Bool,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" | "oid" => Self::Int8,
            "float4" => Self::Float4,
            "float8" => Self::Float8,
            "numeric" => Self::Numeric,
            "text" | "varchar" | "name" => Self::Text,
            "bpchar" => Self::Bpchar,
            "bytea" => Self::Bytea,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::Timestamptz,
            "interval" => Self::Interval,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "uuid" => Self::Uuid,
            "inet" | "cidr" | "macaddr" | "macaddr8" | "xml" | "tsvector" | "int4range" | "int8range" | "numrange"
            | "tsrange" | "tstzrange" | "daterange" => Self::Textual,
            _ => Self::Opaque,
        }
    }

    /// The type by one of its SQL names, without a modifier.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" | "bool" => Self::Bool,
            "smallint" | "int2" => Self::Int2,
            "integer" | "int" | "int4" => Self::Int4,
            "bigint" | "int8" => Self::Int8,
            "real" | "float4" => Self::Float4,
            "double precision" | "float8" => Self::Float8,
            "numeric" | "decimal" => Self::Numeric,
            "text" | "varchar" | "character varying" => Self::Text,
            "char" | "character" | "bpchar" => Self::Bpchar,
            "bytea" => Self::Bytea,
            "date" => Self::Date,
            "time" | "time without time zone" => Self::Time,
            "timestamp" | "timestamp without time zone" => Self::Timestamp,
            "timestamptz" | "timestamp with time zone" => Self::Timestamptz,
            "interval" => Self::Interval,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    pub(crate) fn is_integer(self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }

    pub(crate) fn is_number(self) -> bool {
        self.is_integer() || matches!(self, Self::Float4 | Self::Float8 | Self::Numeric)
    }

    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Bpchar)
    }

    /// How a table definition says it, without a modifier.
    #[must_use]
    pub fn column_type(self, modifier: i32) -> ColumnType {
        let (oid, name, format) = match self {
            Self::Bool => (16, "bool", "boolean"),
            Self::Int2 => (21, "int2", "smallint"),
            Self::Int4 => (23, "int4", "integer"),
            Self::Int8 => (20, "int8", "bigint"),
            Self::Float4 => (700, "float4", "real"),
            Self::Float8 => (701, "float8", "double precision"),
            Self::Numeric => (1700, "numeric", "numeric"),
            Self::Bpchar => (1042, "bpchar", "character"),
            Self::Bytea => (17, "bytea", "bytea"),
            Self::Date => (1082, "date", "date"),
            Self::Time => (1083, "time", "time without time zone"),
            Self::Timestamp => (1114, "timestamp", "timestamp without time zone"),
            Self::Timestamptz => (1184, "timestamptz", "timestamp with time zone"),
            Self::Interval => (1186, "interval", "interval"),
            Self::Json => (114, "json", "json"),
            Self::Jsonb => (3802, "jsonb", "jsonb"),
            Self::Uuid => (2950, "uuid", "uuid"),
            Self::Text | Self::Literal | Self::Enum | Self::Textual | Self::Opaque => (25, "text", "text"),
        };
        let format = match (self, modifier) {
            (Self::Numeric, 4..) => {
                let modifier = modifier - 4;
                // The scale is a signed number of 11 bits.
                let scale = ((modifier & 0x7FF) ^ 1024) - 1024;
                format!("numeric({},{scale})", (modifier >> 16) & 0xFFFF)
            }
            (Self::Bpchar, 5..) => format!("character({})", modifier - 4),
            _ => format.to_owned(),
        };
        ColumnType {
            oid,
            name: name.into(),
            schema: "pg_catalog".into(),
            modifier,
            format,
            kind: TypeKind::Base,
            domain: None,
        }
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Literal => "unknown",
            Self::Enum => "an enum type",
            Self::Textual | Self::Opaque => "a type without operators here",
            Self::Bpchar => "character",
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Float4 => "real",
            Self::Float8 => "double precision",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Bytea => "bytea",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamp with time zone",
            Self::Interval => "interval",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Uuid => "uuid",
        })
    }
}
