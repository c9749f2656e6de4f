//! What the golden records do not hold: stand-ins and placeholders of other types, key headers, errors.

use std::sync::Arc;

use syncline_event::avro::decode::{Envelope, EnvelopeDecoder};
use syncline_event::avro::encode::{
    ConnectorInfo, EncodeError, EncoderError, RowChange, SnapshotMarker, SourceInfo, TableEncoder,
};
use syncline_event::avro::frame;
use syncline_event::avro::schema::envelope_schema;
use syncline_event::avro::value::Value;
use syncline_event::header::{Header, Image, SourceText};
use syncline_event::operation::Operation;
use syncline_event::position::Position;
use syncline_event::table::{Column, ReplicaIdentity, TableDefinition};
use syncline_event::tuple::TupleCell::{self, Null, Text, Unchanged};

use crate::definitions::{not_null, nullable, table, with_default};

pub(crate) fn encoder(columns: Vec<Column>, key: &[&str]) -> TableEncoder {
    let connector = ConnectorInfo { version: "3.6.3.Final".into(), name: "gold".into(), db: "golden".into() };
    TableEncoder::new(Arc::new(table("t", columns, key, ReplicaIdentity::Default)), &connector, 1, 2).unwrap()
}

/// Encodes a change with these rows, `before` with its key only.
pub(crate) fn envelope(
    encoder: &TableEncoder,
    before: Option<&[TupleCell<'_>]>,
    after: Option<&[TupleCell<'_>]>,
) -> Result<(Vec<u8>, Header), EncodeError> {
    let source = SourceInfo {
        ts_us: 1,
        snapshot: SnapshotMarker::False,
        sequence: (None, 2),
        tx_id: None,
        lsn: 4,
        origin: None,
        origin_lsn: None,
    };
    let operation = if after.is_some() { Operation::Update } else { Operation::Delete };
    let change = RowChange { operation, before, before_is_key_only: true, after, source, transaction: None, now_ns: 6 };
    let mut header = Header::new(Position::opening(1), 1);
    // Left over from the record before.
    header.unchanged.push(9);
    header.texts.push(SourceText { image: Image::After, column: 9, text: String::new() });
    let mut out = Vec::new();
    encoder.envelope(&change, &mut out, &mut header)?;
    Ok((out, header))
}

/// The debug texts of an image's values as a consumer without our header sees them.
pub(crate) fn seen(definition: &TableDefinition, record: &[u8], image: Image) -> Vec<String> {
    let decoder = EnvelopeDecoder::compile(&envelope_schema(definition), definition).unwrap();
    let mut envelope = Envelope::new();
    decoder.decode(frame::split(record).unwrap().1, &mut envelope).unwrap();
    envelope.apply_placeholder();
    let image = if image == Image::Before { &envelope.before } else { &envelope.after };
    image.values.iter().map(|value| format!("{value:?}")).collect()
}

pub(crate) fn debug(value: Value<'_>) -> String {
    format!("{value:?}")
}

#[test]
fn a_key_only_row_gets_debeziums_stand_ins() {
    let cases = [
        (nullable("a", "text"), Value::Null),
        (not_null("b", "text"), Value::Text("")),
        (not_null("c", "boolean"), Value::Boolean(false)),
        (not_null("d", "double precision"), Value::Float64(0.0)),
        (not_null("e", "numeric(5,2)"), Value::Decimal { unscaled: &[0], scale: 2 }),
        (not_null("f", "numeric"), Value::Decimal { unscaled: &[0], scale: 0 }),
        (not_null("g", "timestamp with time zone"), Value::ZonedTimestamp("1970-01-01T00:00:00Z")),
        (not_null("h", "time with time zone"), Value::ZonedTime("00:00:00Z")),
        (not_null("i", "point"), Value::Point { x: 0.0, y: 0.0 }),
        (not_null("j", "bytea"), Value::Bytes(&[])),
        // A column of the replica identity beside the key: the log holds it.
        (not_null("logged", "bytea"), Value::Bytes(&[0])),
        (with_default(nullable("k", "integer"), "42", Some("42")), Value::Integer(42)),
        (with_default(not_null("l", "text"), "'x'::text", Some("x")), Value::Text("x")),
        (with_default(nullable("m", "bytea"), "'\\x00'::bytea", Some("\\x00")), Value::Null),
    ];
    let (columns, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let columns = std::iter::once(not_null("id", "time with time zone")).chain(columns).collect();
    let encoder = encoder(columns, &["id"]);
    let mut row = vec![Text(b"12:00:00+02")];
    row.resize(expected.len() + 1, Null);
    row[11] = Text(b"\\x00");
    let (record, header) = envelope(&encoder, Some(&row), None).unwrap();
    let expected: Vec<String> = expected.into_iter().map(debug).collect();
    assert_eq!(seen(encoder.definition(), &record, Image::Before)[1..], expected);
    assert_eq!(header.texts, [SourceText { image: Image::Before, column: 0, text: "12:00:00+02".into() }]);
    assert!(header.unchanged.is_empty());
}

#[test]
fn placeholders_follow_the_type() {
    let columns = vec![
        not_null("id", "integer"),
        not_null("a", "text"),
        nullable("b", "xml"),
        nullable("c", "bytea"),
        nullable("d", "text[]"),
        nullable("e", "bytea[]"),
        nullable("f", "integer[]"),
        nullable("g", "date[]"),
        nullable("h", "bigint[]"),
        nullable("i", "uuid[]"),
        with_default(nullable("j", "text"), "'x'::text", Some("x")),
        // Debezium has no placeholder for these.
        nullable("k", "numeric"),
        nullable("l", "inet[]"),
        not_null("m", "numeric"),
        not_null("n", "double precision[]"),
    ];
    let encoder = encoder(columns, &["id"]);
    let mut row = vec![Unchanged; 15];
    row[0] = Text(b"1");
    let (record, header) = envelope(&encoder, None, Some(&row)).unwrap();
    assert_eq!(header.unchanged, (1..15).collect::<Vec<u16>>());
    let seen = seen(encoder.definition(), &record, Image::After);
    assert!(seen[1..=10].iter().all(|value| *value == debug(Value::Unknown)), "{seen:?}");
    assert_eq!(seen[11..=12], [debug(Value::Null), debug(Value::Null)]);
    assert_eq!(seen[13], debug(Value::Decimal { unscaled: &[0], scale: 0 }));
    assert_eq!(seen[14], "Array([])");
}

#[test]
fn an_unchanged_key_column_is_taken_from_the_old_key() {
    let encoder = encoder(vec![not_null("id", "text"), nullable("v", "text")], &["id"]);
    let (record, header) = envelope(&encoder, Some(&[Text(b"k"), Null]), Some(&[Unchanged, Unchanged])).unwrap();
    assert_eq!(header.unchanged, [1]);
    assert_eq!(seen(encoder.definition(), &record, Image::After)[0], debug(Value::Text("k")));
}

#[test]
fn what_debezium_has_no_form_for_is_null_or_zero_beside_its_text() {
    let columns = vec![
        not_null("id", "integer"),
        nullable("a", "numeric(5,2)"),
        not_null("b", "numeric(5,2)"),
        nullable("c", "mood[]"),
    ];
    let encoder = encoder(columns, &["id"]);
    let row = [Text(b"1"), Text(b"NaN"), Text(b"NaN"), Text(b"{ok,NULL}")];
    let (record, header) = envelope(&encoder, None, Some(&row)).unwrap();
    let seen = seen(encoder.definition(), &record, Image::After);
    assert_eq!(seen[1], debug(Value::Null));
    assert_eq!(seen[2], debug(Value::Decimal { unscaled: &[0], scale: 2 }));
    assert_eq!(seen[3], debug(Value::Null));
    let texts: Vec<_> = header.texts.iter().map(|text| (text.column, text.text.as_str())).collect();
    assert_eq!(texts, [(1, "NaN"), (2, "NaN"), (3, "{ok,NULL}")]);
}

#[test]
fn unsupported_columns_have_no_slot() {
    let columns = vec![not_null("id", "integer"), nullable("area", "polygon"), nullable("v", "numeric")];
    let encoder = encoder(columns, &["id"]);
    let (_, header) = envelope(&encoder, None, Some(&[Text(b"1"), Unchanged, Text(b"1.0")])).unwrap();
    assert!(header.unchanged.is_empty());
    // Columns are counted as in the definition.
    assert_eq!(header.texts, [SourceText { image: Image::After, column: 2, text: "1.0".into() }]);
}

#[test]
fn errors_name_table_and_column() {
    let plan = encoder(vec![not_null("id", "integer"), not_null("v", "integer")], &["id"]);
    let failure = |row: &[TupleCell<'_>]| envelope(&plan, None, Some(row)).unwrap_err();
    let (table, column) = (String::from("public.t"), String::from("v"));
    assert_eq!(
        failure(&[Text(b"1"), Null]),
        EncodeError::NullInNotNull { table: table.clone(), column: column.clone() }
    );
    for text in ["", "x", "99999999999"] {
        let error = failure(&[Text(b"1"), Text(text.as_bytes())]);
        let type_name = "integer".into();
        assert_eq!(error, EncodeError::Malformed { table: table.clone(), column: column.clone(), type_name });
    }
    assert_eq!(failure(&[Text(b"1")]), EncodeError::ColumnCount { table: table.clone(), expected: 2, found: 1 });
    let unknown = plan.key(&[Unchanged, Null], &mut Vec::new()).unwrap_err();
    assert_eq!(unknown, EncodeError::UnknownInKey { table, column: "id".into() });
    let invalid = encoder(vec![not_null("id", "text")], &["id"]);
    assert!(matches!(envelope(&invalid, None, Some(&[Text(b"\xff")])), Err(EncodeError::Malformed { .. })));
}

#[test]
fn keys_of_unsupported_types_are_refused() {
    let definition = table("t", vec![not_null("id", "polygon")], &["id"], ReplicaIdentity::Default);
    let connector = ConnectorInfo { version: String::new(), name: String::new(), db: String::new() };
    let error = TableEncoder::new(Arc::new(definition), &connector, 1, 2).unwrap_err();
    let EncoderError::UnsupportedKey { column, reason, .. } = error;
    assert_eq!(column, "id");
    assert!(reason.contains("polygon"), "{reason}");
}

#[test]
fn key_headers_are_json_of_every_type() {
    let columns = vec![
        not_null("a", "text"),
        not_null("b", "numeric(9,8)"),
        not_null("c", "numeric"),
        not_null("d", "bytea"),
        not_null("e", "timestamp with time zone"),
        not_null("f", "double precision"),
        not_null("g", "real"),
        not_null("h", "boolean"),
        not_null("i", "integer[]"),
        not_null("j", "money"),
        nullable("k", "date"),
        not_null("l", "numeric(5,2)"),
    ];
    let key = ["l", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    let encoder = encoder(columns, &key);
    let row = [
        Text("q\"\\é".as_bytes()),
        Text(b"0.00000012"),
        Text(b"1.50"),
        Text(b"\\x0102"),
        Text(b"2024-02-29 11:34:56+00"),
        Text(b"1e+300"),
        Text(b"0.1"),
        Text(b"t"),
        Text(b"{1,NULL}"),
        Text(b"-$1,234.50"),
        Null,
        Text(b"-1.50"),
    ];
    let mut out = Vec::new();
    encoder.key_json(&row, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let expected = concat!(
        r#"{"l":-1.50,"a":"q\"\\é","b":1.2E-7,"c":{"scale":1,"value":"Dw=="},"d":"AQI=","#,
        r#""e":"2024-02-29T11:34:56.000000Z","f":1.0E300,"g":0.1,"h":true,"i":[1,null],"j":-1234.50,"k":null}"#,
    );
    assert_eq!(text, expected);
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
}
