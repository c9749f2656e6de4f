//! Types of PostGIS and pgvector, with values of Debezium's own tests (`AbstractRecordsProducerTest`) and such as a live
//! connector was seen to write.

use std::sync::Arc;

use syncline_event::avro::encode::{ConnectorInfo, EncodeError, EncoderError, TableEncoder};
use syncline_event::avro::schema::envelope_schema;
use syncline_event::header::Image;
use syncline_event::table::{Column, ReplicaIdentity, TypeKind};
use syncline_event::tuple::TupleCell::{Null, Text};

use crate::definitions::{not_null, nullable, table};
use crate::extras::{encoder, envelope, seen};

/// The same column, with a type of an extension.
fn public(mut column: Column) -> Column {
    column.column_type.schema = "public".into();
    if let TypeKind::Array { element } = &mut column.column_type.kind {
        element.schema = "public".into();
    }
    column
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn spatial(hex: &str, srid: Option<i32>) -> String {
    format!("Spatial(SpatialValue {{ wkb: {:?}, srid: {srid:?} }})", bytes(hex))
}

const POINT: &str = "0101000020730C00001C7C613255DE6540787AA52C435C42C0";
const EMPTY: &str = "010700000000000000";

#[test]
fn types_of_postgis_have_debeziums_form() {
    let columns = vec![
        not_null("id", "integer"),
        public(nullable("a", "geometry")),
        public(not_null("b", "geometry")),
        public(nullable("c", "geography")),
        public(not_null("d", "geography")),
        public(nullable("e", "geometry[]")),
    ];
    let encoder = encoder(columns, &["id"]);
    let schema = envelope_schema(encoder.definition());
    apache_avro::Schema::parse_str(&schema).unwrap();
    for part in [
        r#"{"type":"record","name":"Geometry","namespace":"io.debezium.data.geometry","fields":[{"name":"wkb","type":"bytes"},{"name":"srid","type":["null","int"],"default":null}],"connect.doc":"Geometry","connect.version":1,"connect.name":"io.debezium.data.geometry.Geometry"}"#,
        // Optional whatever the column is.
        r#"{"name":"b","type":["null","io.debezium.data.geometry.Geometry"],"default":null}"#,
        r#"{"name":"d","type":"io.debezium.data.geometry.Geography"}"#,
        r#"{"name":"e","type":["null",{"type":"array","items":["null","io.debezium.data.geometry.Geometry"]}],"default":null}"#,
    ] {
        assert!(schema.contains(part), "{part} is not in {schema}");
    }

    let array = format!("{{{EMPTY}:NULL:{POINT}}}");
    let row =
        [b"1", POINT.as_bytes(), EMPTY.as_bytes(), POINT.as_bytes(), POINT.as_bytes(), array.as_bytes()].map(Text);
    let (record, header) = envelope(&encoder, None, Some(&row)).unwrap();
    let (point, empty) = (spatial(POINT, Some(3187)), spatial(EMPTY, None));
    let elements = format!("Array([{empty}, Null, {point}])");
    let expected = ["Integer(1)", &point, &empty, &point, &point, &elements];
    assert_eq!(seen(encoder.definition(), &record, Image::After), expected);
    // The source's texts travel along, from which our consumer writes.
    let texts: Vec<&str> = header.texts.iter().map(|text| text.text.as_str()).collect();
    assert_eq!(texts, [POINT, EMPTY, POINT, POINT, &array]);

    let (record, _) = envelope(&encoder, Some(&[Text(b"1"), Null, Null, Null, Null, Null]), None).unwrap();
    let expected = ["Integer(1)", "Null", &empty, "Null", &empty, "Null"];
    assert_eq!(seen(encoder.definition(), &record, Image::Before), expected);
    for malformed in ["", "01", "010g", "0101000020"] {
        let row = [Text(b"1"), Text(malformed.as_bytes()), Text(EMPTY.as_bytes()), Null, Text(EMPTY.as_bytes()), Null];
        assert!(matches!(envelope(&encoder, None, Some(&row)), Err(EncodeError::Malformed { .. })), "{malformed}");
    }
}

#[test]
fn types_of_pgvector_have_debeziums_form() {
    let columns = vec![
        not_null("id", "integer"),
        public(nullable("a", "vector")),
        public(nullable("b", "halfvec")),
        public(not_null("c", "sparsevec")),
        public(nullable("d", "vector[]")),
        public(nullable("e", "sparsevec[]")),
    ];
    let encoder = encoder(columns, &["id"]);
    let schema = envelope_schema(encoder.definition());
    apache_avro::Schema::parse_str(&schema).unwrap();
    for part in [
        r#"{"name":"a","type":["null",{"type":"array","items":"double","connect.version":1,"connect.name":"io.debezium.data.DoubleVector"}],"default":null}"#,
        r#"{"name":"c","type":{"type":"record","name":"SparseDoubleVector","namespace":"io.debezium.data","fields":[{"name":"dimensions","type":{"type":"int","connect.type":"int16"}},{"name":"vector","type":{"type":"array","items":{"type":"record","name":"MapEntry","namespace":"io.confluent.connect.avro","fields":[{"name":"key","type":{"type":"int","connect.type":"int16"}},{"name":"value","type":"double"}]}}}],"connect.doc":"Sparse double vector","connect.version":1,"connect.name":"io.debezium.data.SparseDoubleVector"}}"#,
        r#"{"name":"d","type":["null",{"type":"array","items":{"type":"array","items":"double","connect.version":1,"connect.name":"io.debezium.data.DoubleVector"}}],"default":null}"#,
        r#"{"name":"e","type":["null",{"type":"array","items":"io.debezium.data.SparseDoubleVector"}],"default":null}"#,
    ] {
        assert!(schema.contains(part), "{part} is not in {schema}");
    }

    let texts = ["[1,2.5,-3]", "[0.5]", "{1:0.1,3:2,5:-3.5}/5", r#"{"[1,2]","[3]"}"#, r#"{"{2:1}/3","{}/7"}"#];
    let row: Vec<_> = [b"1".as_slice()].into_iter().chain(texts.map(str::as_bytes)).map(Text).collect();
    let (record, header) = envelope(&encoder, None, Some(&row)).unwrap();
    let expected = [
        "Integer(1)",
        "Array([Float64(1.0), Float64(2.5), Float64(-3.0)])",
        "Array([Float32(0.5)])",
        // In the order of Java's HashMap with four buckets.
        "SparseVector({1:1e-1,5:-3.5e0,3:2e0}/5)",
        "Array([Array([Float64(1.0), Float64(2.0)]), Array([Float64(3.0)])])",
        "Array([SparseVector({2:1e0}/3), SparseVector({}/7)])",
    ];
    assert_eq!(seen(encoder.definition(), &record, Image::After), expected);
    assert_eq!(header.texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>(), texts);

    let (record, _) = envelope(&encoder, Some(&[Text(b"1"), Null, Null, Null, Null, Null]), None).unwrap();
    assert_eq!(seen(encoder.definition(), &record, Image::Before)[3], "SparseVector({}/0)");
}

#[test]
fn what_debezium_cannot_count_or_has_no_slot_for_is_absent_beside_its_text() {
    let columns = vec![
        not_null("id", "integer"),
        public(nullable("a", "sparsevec")),
        public(not_null("b", "sparsevec")),
        public(nullable("c", "vector[]")),
    ];
    let encoder = encoder(columns, &["id"]);
    let texts = ["{1:1,40000:2}/40000", "{}/32768", r#"{"[1]",NULL}"#];
    let row: Vec<_> = [b"1".as_slice()].into_iter().chain(texts.map(str::as_bytes)).map(Text).collect();
    let (record, header) = envelope(&encoder, None, Some(&row)).unwrap();
    let expected = ["Integer(1)", "Null", "SparseVector({}/0)", "Null"];
    assert_eq!(seen(encoder.definition(), &record, Image::After), expected);
    assert_eq!(header.texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>(), texts);
    for malformed in ["{1:1}", "{1}/2", "1:1/2", "{1:x}/2", "{1:1}/x"] {
        let row = [Text(b"1"), Text(malformed.as_bytes()), Text(b"{}/1"), Null];
        assert!(matches!(envelope(&encoder, None, Some(&row)), Err(EncodeError::Malformed { .. })), "{malformed}");
    }
}

/// Buckets grow with their number, and for nine in one.
#[test]
fn pairs_of_a_sparse_vector_stand_in_the_order_of_javas_buckets() {
    let encoder = encoder(vec![not_null("id", "integer"), public(nullable("s", "sparsevec"))], &["id"]);
    for (indexes, order) in [
        (vec![1, 4, 8], vec![4, 8, 1]),
        (vec![1, 4, 8, 9], vec![8, 1, 9, 4]),
        ((0..9).map(|k| 16 * k + 1).collect(), vec![1, 33, 65, 97, 129, 17, 49, 81, 113]),
    ] {
        let pairs =
            |indexes: &[i32], one| indexes.iter().map(|index| format!("{index}:{one}")).collect::<Vec<_>>().join(",");
        let text = format!("{{{}}}/200", pairs(&indexes, "1"));
        let (record, _) = envelope(&encoder, None, Some(&[Text(b"1"), Text(text.as_bytes())])).unwrap();
        let expected = format!("SparseVector({{{}}}/200)", pairs(&order, "1e0"));
        assert_eq!(seen(encoder.definition(), &record, Image::After)[1], expected);
    }
}

#[test]
fn keys_of_these_types_are_refused() {
    let connector = ConnectorInfo { version: String::new(), name: String::new(), db: String::new() };
    for format in ["geometry", "vector", "sparsevec", "geography[]"] {
        let definition = table("t", vec![public(not_null("id", format))], &["id"], ReplicaIdentity::Default);
        let error = TableEncoder::new(Arc::new(definition), &connector, 1, 2).unwrap_err();
        let EncoderError::UnsupportedKey { reason, .. } = error;
        assert_eq!(reason, format!("type {format} has no form in the keys of change events"));
    }
}
