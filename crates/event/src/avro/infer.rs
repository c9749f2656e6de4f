//! A table definition from Debezium's own schemas, for records without our header.
//!
//! What the schema does not say is lost: a `varchar(40)` is `text`, a `json` is `jsonb`, an enum is `text`, and names
//! are the event's. Defaults are left out: for an expression Debezium writes a stand-in, which looks like a constant.

use crate::handling::Handling;
use crate::table::{Column, ColumnType, ReplicaIdentity, TableDefinition, TypeKind};

use super::column::Spatial;
use super::decode::{ChangeRow, DecoderError, change_row};
use super::flat;
use super::semantic::{Meaning, Unit, meaning};
use super::writer_schema::{Field, NodeId, WriterSchema};

/// A schema that no table definition can be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// The schemas are malformed or no envelope.
    #[error("topic {topic}: {source}")]
    Schema {
        /// The topic.
        topic: String,
        /// What is wrong.
        source: DecoderError,
    },
    /// The record has no key.
    #[error("topic {topic} has records without a key; give the table a primary key or set message.key.columns")]
    NoKey {
        /// The topic.
        topic: String,
    },
    /// A key field is no field of the row.
    #[error("topic {topic}: the key's field {field} is not in the row; let the connector write it in both")]
    KeyField {
        /// The topic.
        topic: String,
        /// The field.
        field: String,
    },
    /// A field has no PostgreSQL type.
    #[error(
        "topic {topic}: field {field} has type {found}, which has no column type here; exclude it in the connector \
         (column.exclude.list)"
    )]
    Unsupported {
        /// The topic.
        topic: String,
        /// The field.
        field: String,
        /// Its Avro type, with the semantic type's name.
        found: String,
    },
}

/// Infers a definition; schema and table are the last two parts of the topic's name (`prefix.schema.table`, for MySQL
/// `prefix.database.table`), or `public` and the topic where it has one part.
///
/// # Errors
///
/// See [`InferError`].
pub fn definition(topic: &str, key_schema: Option<&str>, value_schema: &str) -> Result<TableDefinition, InferError> {
    let mut parts = topic.rsplit('.');
    let table = parts.next().unwrap_or(topic);
    let schema = parts.next().unwrap_or("public");
    definition_of(topic, schema, table, Key::Schema(key_schema), value_schema)
}

/// Where the key's columns are named.
#[derive(Debug, Clone, Copy)]
pub enum Key<'a> {
    /// In the key's schema; there may be none.
    Schema(Option<&'a str>),
    /// These fields of the row.
    Fields(&'a [String]),
}

/// Infers the definition of a table whose name is known. Its number is 0, since the records name none.
///
/// # Errors
///
/// See [`InferError`].
pub fn definition_of(
    topic: &str,
    schema: &str,
    table: &str,
    key: Key<'_>,
    value_schema: &str,
) -> Result<TableDefinition, InferError> {
    let malformed = |source| InferError::Schema { topic: topic.into(), source };
    let parse = |text: &str| WriterSchema::parse(text).map_err(|reason| malformed(DecoderError::Schema(reason)));
    let no_key = || InferError::NoKey { topic: topic.into() };

    let key_fields: Vec<String> = match key {
        Key::Fields(fields) => fields.to_vec(),
        Key::Schema(None) => return Err(no_key()),
        Key::Schema(Some(schema)) => {
            let schema = parse(schema)?;
            let (_, fields) = schema.record(schema.root).ok_or_else(no_key)?;
            fields.iter().map(|field| field.name.clone()).collect()
        }
    };
    let value_schema = parse(value_schema)?;
    let (row, flat) = match change_row(&value_schema).map_err(malformed)? {
        ChangeRow::Envelope(row) => (row, false),
        ChangeRow::Flat => (value_schema.root, true),
    };
    let (_, fields) = value_schema.record(row).unwrap_or_default();
    let columns = fields.iter().filter(|field| !(flat && flat::is_added(&field.name))).map(|field| {
        column(&value_schema, field).map_err(|found| InferError::Unsupported {
            topic: topic.into(),
            field: field.name.clone(),
            found,
        })
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;

    let key = key_fields.iter().map(|key| {
        let position = columns.iter().position(|column| column.field == *key);
        position.ok_or_else(|| InferError::KeyField { topic: topic.into(), field: key.clone() })
    });
    let key = key.collect::<Result<Vec<_>, _>>()?;
    if key.is_empty() {
        return Err(no_key());
    }
    Ok(TableDefinition {
        topic: topic.into(),
        number: 0,
        schema: schema.into(),
        table: table.into(),
        columns,
        key,
        replica_identity: replica_identity(&value_schema),
        handling: Handling::default(),
    })
}

/// What an envelope's old rows are: whole where they come from a binlog with full row images, which Debezium asks for.
/// PostgreSQL's do not tell.
fn replica_identity(schema: &WriterSchema) -> ReplicaIdentity {
    let (_, fields) = schema.record(schema.root).unwrap_or_default();
    let source = fields.iter().find(|field| field.name == "source");
    let record = source.and_then(|source| schema.record(schema.strip_null(source.node)?.1));
    match record {
        Some(("io.debezium.connector.mysql.Source" | "io.debezium.connector.mariadb.Source", _)) => {
            ReplicaIdentity::Full
        }
        _ => ReplicaIdentity::Default,
    }
}

fn column(schema: &WriterSchema, field: &Field) -> Result<Column, String> {
    let Some((branches, node)) = schema.strip_null(field.node) else {
        return Err("a union other than of one type and null".into());
    };
    Ok(Column {
        name: field.name.clone(),
        field: field.name.clone(),
        column_type: column_type(schema, node)?,
        nullable: branches.nullable(),
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    })
}

fn column_type(schema: &WriterSchema, node: NodeId) -> Result<ColumnType, String> {
    let meaning = meaning(schema, node)?;
    if let Meaning::Array(items) = meaning {
        let (_, items) = schema.strip_null(items).ok_or("an array of a union other than of one type and null")?;
        return array_type(column_type(schema, items)?);
    }
    let plain = |name: &'static str, format: &str| (name, -1, format.to_owned());
    let (name, modifier, format) = match meaning {
        Meaning::Boolean => plain("bool", "boolean"),
        Meaning::Int16 => plain("int2", "smallint"),
        Meaning::Int32 => plain("int4", "integer"),
        Meaning::Int64 => plain("int8", "bigint"),
        Meaning::Float32 => plain("float4", "real"),
        Meaning::Float64 => plain("float8", "double precision"),
        Meaning::Text => plain("text", "text"),
        Meaning::Uuid => plain("uuid", "uuid"),
        Meaning::Json | Meaning::TextMap(_) => plain("jsonb", "jsonb"),
        Meaning::Xml => plain("xml", "xml"),
        Meaning::Tsvector => plain("tsvector", "tsvector"),
        Meaning::Bytes => plain("bytea", "bytea"),
        Meaning::Decimal { scale, precision } => match numeric_modifier(precision, scale) {
            Some((precision, modifier)) => ("numeric", modifier, format!("numeric({precision},{scale})")),
            None => plain("numeric", "numeric"),
        },
        Meaning::VariableScaleDecimal => plain("numeric", "numeric"),
        Meaning::Date | Meaning::IsoDate => plain("date", "date"),
        Meaning::Time(Unit::Millis) => ("time", 3, "time(3) without time zone".into()),
        Meaning::Time(_) | Meaning::IsoTime => plain("time", "time without time zone"),
        Meaning::Timestamp(Unit::Millis) => ("timestamp", 3, "timestamp(3) without time zone".into()),
        Meaning::Timestamp(_) | Meaning::IsoTimestamp => plain("timestamp", "timestamp without time zone"),
        Meaning::ZonedTimestamp => plain("timestamptz", "timestamp with time zone"),
        Meaning::ZonedTime => plain("timetz", "time with time zone"),
        Meaning::Duration(_) | Meaning::Interval => plain("interval", "interval"),
        Meaning::Bits(i32::MAX) => plain("varbit", "bit varying"),
        Meaning::Bits(length) => ("bit", length, format!("bit({length})")),
        Meaning::Point => plain("point", "point"),
        Meaning::Spatial(Spatial::Geometry) => plain("geometry", "geometry"),
        Meaning::Spatial(Spatial::Geography) => plain("geography", "geography"),
        Meaning::SparseVector => plain("sparsevec", "sparsevec"),
        Meaning::Array(_) => return Err("an array of arrays".into()),
    };
    // Where the extension stands in the source does not show; this is where it is put by default.
    let of_extension = matches!(meaning, Meaning::Spatial(_) | Meaning::SparseVector);
    Ok(ColumnType {
        oid: oids(name).0,
        name: name.into(),
        schema: if of_extension { "public" } else { "pg_catalog" }.into(),
        modifier,
        format,
        kind: TypeKind::Base,
        domain: None,
    })
}

fn array_type(element: ColumnType) -> Result<ColumnType, String> {
    if !matches!(element.kind, TypeKind::Base) {
        return Err("an array of arrays".into());
    }
    Ok(ColumnType {
        oid: oids(&element.name).1,
        name: format!("_{}", element.name),
        schema: element.schema.clone(),
        modifier: element.modifier,
        format: format!("{}[]", element.format),
        kind: TypeKind::Array { element: Box::new(element) },
        domain: None,
    })
}

/// `numeric`'s `atttypmod`, with the precision; `None` where the source declared none, or one that PostgreSQL before
/// version 15 does not have.
fn numeric_modifier(precision: Option<u32>, scale: i32) -> Option<(i32, i32)> {
    let precision = i32::try_from(precision?).ok().filter(|precision| (1..=1000).contains(precision))?;
    (0..=precision).contains(&scale).then_some((precision, ((precision << 16) | scale) + 4))
}

/// `pg_type.oid` of a built-in type and of its array type.
fn oids(name: &str) -> (u32, u32) {
    match name {
        "bool" => (16, 1000),
        "bytea" => (17, 1001),
        "int8" => (20, 1016),
        "int2" => (21, 1005),
        "int4" => (23, 1007),
        "xml" => (142, 143),
        "point" => (600, 1017),
        "float4" => (700, 1021),
        "float8" => (701, 1022),
        "date" => (1082, 1182),
        "time" => (1083, 1183),
        "timestamp" => (1114, 1115),
        "timestamptz" => (1184, 1185),
        "interval" => (1186, 1187),
        "timetz" => (1266, 1270),
        "bit" => (1560, 1561),
        "varbit" => (1562, 1563),
        "numeric" => (1700, 1231),
        "uuid" => (2950, 2951),
        "tsvector" => (3614, 3643),
        "jsonb" => (3802, 3807),
        // Those of extensions are another in every database.
        "geometry" | "geography" | "sparsevec" => (0, 0),
        _ => (25, 1009),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"type":"record","name":"Key","namespace":"p.s.t","fields":[{"name":"b","type":"string"},{"name":"a","type":"int"}]}"#;

    fn envelope(fields: &str) -> String {
        format!(
            r#"{{"type":"record","name":"Envelope","namespace":"p.s.t","fields":[
               {{"name":"before","type":["null",{{"type":"record","name":"Value","fields":[{fields}]}}]}},
               {{"name":"after","type":["null","Value"]}},{{"name":"op","type":"string"}}]}}"#
        )
    }

    const ROW: &str = r#"{"name":"a","type":"int"},{"name":"b","type":"string"},{"name":"c","type":[{"type":"bytes","scale":2,"connect.parameters":{"scale":"2","connect.decimal.precision":"12"},"connect.name":"org.apache.kafka.connect.data.Decimal"},"null"]}"#;

    #[test]
    fn names_come_from_the_topic_and_the_key_order_from_the_key() {
        let definition = definition("p.s.t", Some(KEY), &envelope(ROW)).unwrap();
        assert_eq!(definition.qualified_name(), "s.t");
        assert_eq!((definition.number, &definition.key), (0, &vec![1, 0]));
        let nullable: Vec<_> = definition.columns.iter().map(|column| column.nullable).collect();
        assert_eq!(nullable, [false, false, true]);
        let numeric = &definition.columns[2].column_type;
        assert_eq!((numeric.oid, numeric.modifier, numeric.format.as_str()), (1700, 786_438, "numeric(12,2)"));
    }

    #[test]
    fn types_of_postgis_and_pgvector_are_where_extensions_are_put_by_default() {
        let spatial = |name: &str| {
            format!(
                r#"{{"type":"record","name":"{name}","namespace":"io.debezium.data.geometry","fields":[{{"name":"wkb","type":"bytes"}},{{"name":"srid","type":["null","int"]}}]}}"#
            )
        };
        let sparse = r#"{"type":"record","name":"SparseDoubleVector","namespace":"io.debezium.data","fields":[{"name":"dimensions","type":"int"},{"name":"vector","type":{"type":"array","items":{"type":"record","name":"MapEntry","fields":[{"name":"key","type":"int"},{"name":"value","type":"double"}]}}}]}"#;
        let vector = r#"{"type":"array","items":"double","connect.name":"io.debezium.data.DoubleVector"}"#;
        let columns = format!(
            r#"{ROW},{{"name":"g","type":["null",{}]}},{{"name":"h","type":{}}},{{"name":"i","type":{{"type":"array","items":["null","io.debezium.data.geometry.Geometry"]}}}},{{"name":"s","type":{sparse}}},{{"name":"v","type":{vector}}}"#,
            spatial("Geometry"),
            spatial("Geography"),
        );
        let definition = definition("p.s.t", Some(KEY), &envelope(&columns)).unwrap();
        let found = |column: &Column| {
            let found = &column.column_type;
            (found.schema.clone(), found.name.clone(), found.format.clone())
        };
        let expected = [
            ("public", "geometry", "geometry"),
            ("public", "geography", "geography"),
            ("public", "_geometry", "geometry[]"),
            ("public", "sparsevec", "sparsevec"),
            // What it holds; nothing says that the target has pgvector.
            ("pg_catalog", "_float8", "double precision[]"),
        ];
        let expected = expected.map(|(schema, name, format)| (schema.into(), name.into(), format.into()));
        assert_eq!(definition.columns[3..].iter().map(found).collect::<Vec<_>>(), expected);

        let vectors = format!(r#"{ROW},{{"name":"v","type":{{"type":"array","items":{vector}}}}}"#);
        let error = super::definition("p.s.t", Some(KEY), &envelope(&vectors)).unwrap_err();
        assert!(matches!(error, InferError::Unsupported { found, .. } if found == "an array of arrays"));
    }

    #[test]
    fn tables_that_cannot_be_kept_are_refused_with_the_field() {
        let no_key = definition("p.s.t", None, &envelope(ROW)).unwrap_err();
        assert_eq!(no_key, InferError::NoKey { topic: "p.s.t".into() });
        let missing = definition("p.s.t", Some(KEY), &envelope(r#"{"name":"a","type":"int"}"#)).unwrap_err();
        assert_eq!(missing, InferError::KeyField { topic: "p.s.t".into(), field: "b".into() });
        let map = format!(r#"{ROW},{{"name":"m","type":{{"type":"map","values":"long"}}}}"#);
        let unsupported = definition("p.s.t", Some(KEY), &envelope(&map)).unwrap_err();
        assert!(matches!(unsupported, InferError::Unsupported { field, found, .. } if field == "m" && found == "map"));
        let cut = envelope(ROW).replace(r#"{"name":"op","type":"string"}"#, r#"{"name":"ts_ms","type":"long"}"#);
        let cut = definition("p.s.t", Some(KEY), &cut).unwrap_err();
        assert!(cut.to_string().contains("p.s.t.Envelope is neither a debezium envelope"), "{cut}");
    }
}
