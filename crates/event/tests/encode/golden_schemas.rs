//! Schema text. Defaults and forms that the golden schemas lack follow the source of Debezium and of the converter.

use syncline_event::avro::schema::{envelope_schema, key_schema, unsupported_columns};
use syncline_event::table::{ReplicaIdentity, TableDefinition};

use crate::definitions::{self, not_null, nullable, table, with_default};
use crate::material::schema;

#[test]
fn key_schemas_are_debeziums() {
    for definition in [
        definitions::types(),
        definitions::pkmove(),
        definitions::truncated(),
        definitions::toasted(),
        definitions::toastfull(),
        definitions::compkey(),
        definitions::evolving(1),
        definitions::evolving(6),
    ] {
        assert_eq!(key_schema(&definition), schema(&format!("{}-key.v1", definition.topic)));
    }
}

#[test]
fn envelope_schemas_are_debeziums() {
    let first = |definition: TableDefinition| (definition, 1);
    for (definition, version) in [
        first(definitions::types()),
        first(definitions::pkmove()),
        first(definitions::truncated()),
        first(definitions::toasted()),
        first(definitions::toastfull()),
        first(definitions::compkey()),
        first(definitions::nokey()),
        first(definitions::evolving(1)),
        (definitions::evolving(2), 2),
        (definitions::evolving(5), 5),
        (definitions::evolving(6), 6),
    ] {
        assert_eq!(envelope_schema(&definition), schema(&format!("{}-value.v{version}", definition.topic)));
    }
}

/// The field of a table's only column beside its key.
fn field(column: syncline_event::table::Column) -> String {
    let definition = table("t", vec![not_null("id", "integer"), column], &["id"], ReplicaIdentity::Default);
    let text = envelope_schema(&definition);
    let (_, rest) = text.split_once(r#"{"name":"id","type":"int"},"#).unwrap();
    rest.split_once(r#"],"connect.name":"gold.public.t.Value""#).unwrap().0.to_owned()
}

#[test]
fn defaults_are_typed() {
    for (format, expression, value, expected) in [
        (
            "smallint",
            "'-1'::integer",
            Some("-1"),
            r#"[{"type":"int","connect.default":-1,"connect.type":"int16"},"null"],"default":-1"#,
        ),
        ("boolean", "true", Some("t"), r#"[{"type":"boolean","connect.default":true},"null"],"default":true"#),
        ("double precision", "1", Some("1"), r#"[{"type":"double","connect.default":1.0},"null"],"default":1.0"#),
        (
            "numeric(5,2)",
            "'-1.28'::numeric",
            Some("-1.28"),
            concat!(
                r#"[{"type":"bytes","scale":2,"precision":5,"connect.version":1,"#,
                r#""connect.parameters":{"scale":"2","connect.decimal.precision":"5"},"connect.default":"#,
                "\"\u{80}\"",
                r#","connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"},"null"],"default":"#,
                "\"\u{80}\"",
            ),
        ),
        (
            "mood",
            "'ok'::mood",
            Some("ok"),
            concat!(
                r#"[{"type":"string","connect.version":1,"connect.parameters":{"allowed":"sad,ok,happy"},"#,
                r#""connect.default":"ok","connect.name":"io.debezium.data.Enum"},"null"],"default":"ok""#,
            ),
        ),
        (
            "text",
            "'a\"b\\\n\u{1f}é'::text",
            Some("a\"b\\\n\u{1f}é"),
            r#"[{"type":"string","connect.default":"a\"b\\\n\u001Fé"},"null"],"default":"a\"b\\\n\u001Fé""#,
        ),
    ] {
        let column = with_default(nullable("c", format), expression, value);
        assert_eq!(field(column), format!(r#"{{"name":"c","type":{expected}}}"#), "{format}");
    }
}

#[test]
fn defaults_of_functions_are_empty_values() {
    for (format, expression, expected) in [
        ("integer", "nextval('t_id_seq'::regclass)", r#"{"type":"int","connect.default":0},"default":0"#),
        ("text", "lower('A'::text)", r#"{"type":"string","connect.default":""},"default":"""#),
        (
            "uuid",
            "gen_random_uuid()",
            concat!(
                r#"{"type":"string","connect.version":1,"connect.default":"00000000-0000-0000-0000-000000000000","#,
                r#""connect.name":"io.debezium.data.Uuid"},"default":"00000000-0000-0000-0000-000000000000""#,
            ),
        ),
        (
            "timestamp with time zone",
            "now()",
            concat!(
                r#"{"type":"string","connect.version":1,"connect.default":"1970-01-01T00:00:00.000000Z","#,
                r#""connect.name":"io.debezium.time.ZonedTimestamp"},"default":"1970-01-01T00:00:00.000000Z""#,
            ),
        ),
        (
            "date",
            "CURRENT_DATE",
            concat!(
                r#"{"type":"int","connect.version":1,"connect.default":0,"#,
                r#""connect.name":"io.debezium.time.Date"},"default":0"#,
            ),
        ),
    ] {
        let column = with_default(not_null("c", format), expression, None);
        assert_eq!(field(column), format!(r#"{{"name":"c","type":{expected}}}"#), "{format}");
    }
}

/// Types that Debezium reads no defaults of, and defaults that JSON does not know.
#[test]
fn other_defaults_are_left_out() {
    for (format, expression, value) in [
        ("bytea", "'\\x00'::bytea", Some("\\x00")),
        ("inet", "'::1'::inet", Some("::1")),
        ("numeric", "1.5", Some("1.5")),
        ("integer[]", "'{1}'::integer[]", Some("{1}")),
        ("real", "'NaN'::real", Some("NaN")),
        ("integer", "(1 + 1)", None),
        ("text", "NULL::text", None),
        ("mood", "('ok'::text)::mood", None),
    ] {
        let with = field(with_default(nullable("c", format), expression, value));
        assert_eq!(with, field(nullable("c", format)), "{format}");
    }
}

#[test]
fn named_records_are_written_once() {
    let columns = vec![
        not_null("id", "numeric"),
        nullable("n", "numeric"),
        nullable("ns", "numeric[]"),
        nullable("p", "point"),
        nullable("q", "point"),
    ];
    let text = envelope_schema(&table("t", columns, &["id"], ReplicaIdentity::Default));
    assert_eq!(text.matches(r#""name":"VariableScaleDecimal""#).count(), 1);
    assert_eq!(text.matches(r#""name":"Point""#).count(), 1);
    assert!(text.contains(r#"{"name":"n","type":["null","io.debezium.data.VariableScaleDecimal"],"default":null}"#));
    let array = r#"{"type":"array","items":["null","io.debezium.data.VariableScaleDecimal"]}"#;
    assert!(text.contains(array));
    assert!(text.contains(r#"{"name":"q","type":["null","io.debezium.data.geometry.Point"],"default":null}"#));
}

#[test]
fn unsupported_columns_are_left_out_and_named() {
    let columns = vec![not_null("id", "integer"), nullable("area", "polygon"), nullable("v", "text")];
    let definition = table("t", columns, &["id"], ReplicaIdentity::Default);
    assert!(!envelope_schema(&definition).contains("area"));
    let unsupported = unsupported_columns(&definition);
    assert!(matches!(unsupported.as_slice(), [(1, reason)] if reason.contains("polygon")), "{unsupported:?}");
}
