//! The tables of `1-before-snapshot.sql` and `2-after-snapshot.sql`, as the catalog describes them.

use syncline_event::handling::Handling;
use syncline_event::table::{Column, ColumnType, ReplicaIdentity, TableDefinition, TypeKind};

/// A table of the schema `public`; the key by column names.
pub(crate) fn table(
    name: &str,
    columns: Vec<Column>,
    key: &[&str],
    replica_identity: ReplicaIdentity,
) -> TableDefinition {
    let key = key.iter().map(|key| columns.iter().position(|column| column.name == *key).unwrap()).collect();
    TableDefinition {
        topic: format!("gold.public.{name}"),
        number: 1,
        schema: "public".into(),
        table: name.into(),
        columns,
        key,
        replica_identity,
        handling: Handling::default(),
    }
}

/// A column by name and type as `format_type` prints it.
pub(crate) fn nullable(name: &str, format: &str) -> Column {
    Column {
        name: name.into(),
        field: name.into(),
        column_type: column_type(format),
        nullable: true,
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    }
}

pub(crate) fn not_null(name: &str, format: &str) -> Column {
    Column { nullable: false, ..nullable(name, format) }
}

/// The column with a default: its expression, and its value where that is constant.
pub(crate) fn with_default(column: Column, expression: &str, value: Option<&str>) -> Column {
    Column { default: Some(expression.into()), default_value: value.map(Into::into), ..column }
}

fn column_type(format: &str) -> ColumnType {
    if let Some(element) = format.strip_suffix("[]") {
        let element = column_type(element);
        return ColumnType {
            oid: 0,
            name: format!("_{}", element.name),
            schema: element.schema.clone(),
            modifier: element.modifier,
            format: format.into(),
            kind: TypeKind::Array { element: Box::new(ColumnType { modifier: -1, ..element }) },
            domain: None,
        };
    }
    if format == "mood" {
        let labels = ["sad", "ok", "happy"].map(String::from).to_vec();
        return ColumnType { schema: "public".into(), kind: TypeKind::Enum { labels }, ..base(format, "mood", -1) };
    }
    let (plain, modifiers) = split_modifiers(format);
    let (name, modifier) = match (plain.as_str(), modifiers.as_slice()) {
        ("bigint", []) => ("int8", -1),
        ("integer", []) => ("int4", -1),
        ("smallint", []) => ("int2", -1),
        ("boolean", []) => ("bool", -1),
        ("real", []) => ("float4", -1),
        ("double precision", []) => ("float8", -1),
        ("numeric", [precision, scale]) => ("numeric", (precision << 16 | scale & 0x7ff) + 4),
        ("character varying", [length]) => ("varchar", length + 4),
        ("character", [length]) => ("bpchar", length + 4),
        ("bit varying", [length]) => ("varbit", *length),
        ("bit varying", []) => ("varbit", -1),
        ("bit", [length]) => ("bit", *length),
        ("time without time zone", [precision]) => ("time", *precision),
        ("time without time zone", []) => ("time", -1),
        ("time with time zone", []) => ("timetz", -1),
        ("timestamp without time zone", [precision]) => ("timestamp", *precision),
        ("timestamp without time zone", []) => ("timestamp", -1),
        ("timestamp with time zone", [precision]) => ("timestamptz", *precision),
        ("timestamp with time zone", []) => ("timestamptz", -1),
        (name, []) => (name, -1),
        _ => panic!("no such type: {format}"),
    };
    base(format, name, modifier)
}

fn base(format: &str, name: &str, modifier: i32) -> ColumnType {
    ColumnType {
        oid: 0,
        name: name.into(),
        schema: "pg_catalog".into(),
        modifier,
        format: format.into(),
        kind: TypeKind::Base,
        domain: None,
    }
}

/// `timestamp(3) without time zone` into the name and what stands in parentheses.
fn split_modifiers(format: &str) -> (String, Vec<i32>) {
    let Some((head, rest)) = format.split_once('(') else { return (format.into(), Vec::new()) };
    let (modifiers, tail) = rest.split_once(')').unwrap();
    (format!("{head}{tail}"), modifiers.split(',').map(|modifier| modifier.parse().unwrap()).collect())
}

pub(crate) fn types() -> TableDefinition {
    let columns = vec![
        not_null("id", "bigint"),
        nullable("c_int2", "smallint"),
        nullable("c_int4", "integer"),
        nullable("c_int8", "bigint"),
        nullable("c_num12_2", "numeric(12,2)"),
        nullable("c_num", "numeric"),
        nullable("c_bool", "boolean"),
        nullable("c_text", "text"),
        nullable("c_varchar", "character varying(40)"),
        nullable("c_char", "character(5)"),
        nullable("c_uuid", "uuid"),
        nullable("c_date", "date"),
        nullable("c_time", "time without time zone"),
        nullable("c_time3", "time(3) without time zone"),
        nullable("c_timetz", "time with time zone"),
        nullable("c_ts", "timestamp without time zone"),
        nullable("c_ts3", "timestamp(3) without time zone"),
        nullable("c_tstz", "timestamp with time zone"),
        nullable("c_interval", "interval"),
        nullable("c_bytea", "bytea"),
        nullable("c_json", "json"),
        nullable("c_jsonb", "jsonb"),
        nullable("c_int_arr", "integer[]"),
        nullable("c_text_arr", "text[]"),
        nullable("c_inet", "inet"),
        nullable("c_cidr", "cidr"),
        nullable("c_macaddr", "macaddr"),
        nullable("c_enum", "mood"),
        nullable("c_point", "point"),
        nullable("c_float4", "real"),
        nullable("c_float8", "double precision"),
        nullable("c_bit3", "bit(3)"),
        nullable("c_bit1", "bit(1)"),
        nullable("c_varbit", "bit varying(10)"),
        nullable("c_money", "money"),
        nullable("c_xml", "xml"),
        nullable("c_int4range", "int4range"),
        nullable("c_tsvector", "tsvector"),
        nullable("c_num_arr", "numeric(6,2)[]"),
        nullable("c_uuid_arr", "uuid[]"),
        not_null("c_nn_text", "text"),
        not_null("c_nn_num", "numeric(5,0)"),
        with_default(nullable("c_null_dflt", "integer"), "42", Some("42")),
        with_default(not_null("c_nn_dflt", "text"), "'dflt'::text", Some("dflt")),
        with_default(
            not_null("c_ts_dflt", "timestamp with time zone"),
            "'2020-01-01 00:00:00+00'::timestamp with time zone",
            Some("2020-01-01 00:00:00+00"),
        ),
    ];
    table("types", columns, &["id"], ReplicaIdentity::Default)
}

pub(crate) fn pkmove() -> TableDefinition {
    table("pkmove", id_and_text(), &["id"], ReplicaIdentity::Default)
}

pub(crate) fn truncated() -> TableDefinition {
    table("truncated", id_and_text(), &["id"], ReplicaIdentity::Default)
}

fn id_and_text() -> Vec<Column> {
    vec![not_null("id", "integer"), nullable("v", "text")]
}

pub(crate) fn toasted() -> TableDefinition {
    let columns = vec![
        not_null("id", "integer"),
        nullable("n", "integer"),
        nullable("big", "text"),
        nullable("doc", "jsonb"),
        nullable("bin", "bytea"),
    ];
    table("toasted", columns, &["id"], ReplicaIdentity::Default)
}

pub(crate) fn toastfull() -> TableDefinition {
    let columns = vec![not_null("id", "integer"), nullable("n", "integer"), nullable("big", "text")];
    table("toastfull", columns, &["id"], ReplicaIdentity::Full)
}

pub(crate) fn compkey() -> TableDefinition {
    let columns =
        vec![not_null("a", "integer"), not_null("b", "text"), not_null("c", "numeric(6,0)"), nullable("v", "text")];
    table("compkey", columns, &["b", "a", "c"], ReplicaIdentity::Default)
}

/// A table without a key, which Syncline refuses to capture; its rows are encoded all the same.
pub(crate) fn nokey() -> TableDefinition {
    table("nokey", vec![nullable("a", "integer"), nullable("v", "text")], &[], ReplicaIdentity::Full)
}

/// The versions of the table by the version of its value's schema.
pub(crate) fn evolving(version: u32) -> TableDefinition {
    let id = not_null("id", "integer");
    let v = nullable("v", "text");
    let extra = with_default(nullable("extra", "integer"), "5", Some("5"));
    let wide = with_default(nullable("extra", "bigint"), "5", Some("5"));
    let renamed = with_default(not_null("renamed", "text"), "'x'::text", Some("x"));
    let columns = match version {
        1 => vec![id, v],
        2 => vec![id, v, extra],
        5 => vec![id, extra, renamed],
        6 => vec![id, wide, renamed],
        _ => panic!("no such version: {version}"),
    };
    table("evolving", columns, &["id"], ReplicaIdentity::Default)
}
