//! Debezium's own records, decoded and compared with what another Avro reader saw in them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, as tests may")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value as Json;
use syncline_event::avro::decode::{DecoderError, Envelope, EnvelopeDecoder, KeyDecoder, Problem};
use syncline_event::avro::frame;
use syncline_event::avro::infer::{self, InferError};
use syncline_event::avro::value::Value;
use syncline_event::header::{Header, Image, SourceText};
use syncline_event::operation::Operation;
use syncline_event::position::Position;
use syncline_event::table::TableDefinition;

const CONNECTORS: [&str; 3] = ["debezium-pg", "debezium-mysql", "debezium-mariadb"];

fn golden(connector: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(connector)
}

fn lines(path: &Path) -> Vec<Json> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Schema texts by id, and the newest key schema by subject.
struct Schemas {
    by_id: HashMap<u32, String>,
    by_subject: HashMap<String, String>,
}

impl Schemas {
    fn load(connector: &str) -> Self {
        let (mut by_id, mut by_subject) = (HashMap::new(), HashMap::new());
        for line in lines(&golden(connector).join("schemas.jsonl")) {
            let text = line["schema"].as_str().unwrap().to_owned();
            by_subject.insert(line["subject"].as_str().unwrap().to_owned(), text.clone());
            by_id.insert(u32::try_from(line["id"].as_u64().unwrap()).unwrap(), text);
        }
        Self { by_id, by_subject }
    }
}

fn records(connector: &str) -> Vec<(String, Vec<Json>)> {
    let mut topics: Vec<_> = fs::read_dir(golden(connector).join("records"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), lines(&path)))
        .collect();
    topics.sort_by(|a, b| a.0.cmp(&b.0));
    topics
}

fn table(connector: &str, topic: &str) -> Vec<Json> {
    lines(&golden(connector).join("records").join(format!("{topic}.jsonl")))
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn payload(record: &Json, field: &str) -> Option<Vec<u8>> {
    record[field].as_str().map(unhex)
}

/// Whether a value is what the JSON says; `field` tells columns whose unit the event has in milliseconds.
fn same(field: &str, value: Value<'_>, json: &Json) -> bool {
    let millis = ["c_time3", "c_ts3", "c_dt", "c_dt3"].contains(&field);
    let number = |micros: i64| json.as_i64() == Some(if millis { micros / 1_000 } else { micros });
    let bytes = |bytes: &[u8], json: &Json| json["$hex"].as_str().map(unhex).as_deref() == Some(bytes);
    let float = |value: f64| match json["$float"].as_str() {
        Some("nan") => value.is_nan(),
        Some("inf") => value == f64::INFINITY,
        Some("-inf") => value == f64::NEG_INFINITY,
        _ => json.as_f64() == Some(value),
    };
    match value {
        Value::Null => json.is_null(),
        Value::Unknown | Value::SourceText(_) => false,
        Value::Boolean(value) => json.as_bool() == Some(value),
        Value::Integer(value) => json.as_i64() == Some(value),
        Value::Float32(value) => float(f64::from(value)),
        Value::Float64(value) => float(value),
        Value::Text("infinity") if json.is_number() => {
            [9_223_372_036_825_200_000, -2_147_472_692].contains(&json.as_i64().unwrap())
        }
        Value::Text(text) | Value::ZonedTimestamp(text) | Value::ZonedTime(text) => json.as_str() == Some(text),
        Value::Spatial(_) | Value::SparseVector(_) => unreachable!("the recorded tables have no such columns"),
        Value::EncodedBytes(_) => unreachable!("the recorded connectors write bytes as bytes"),
        Value::Bytes(value) | Value::Bits { bytes: value, .. } => bytes(value, json),
        Value::Decimal { unscaled, scale } => match json.get("scale") {
            Some(json_scale) => json_scale.as_i64() == Some(i64::from(scale)) && bytes(unscaled, &json["value"]),
            None => bytes(unscaled, json),
        },
        Value::Date(days) => json.as_i64() == Some(i64::from(days)),
        Value::Time(number_of)
        | Value::Timestamp(number_of)
        | Value::TimestampMillis(number_of)
        | Value::Duration(number_of) => number(number_of),
        Value::Point { x, y } => json["x"].as_f64() == Some(x) && json["y"].as_f64() == Some(y),
        Value::Array(array) => {
            let elements = json.as_array().unwrap();
            array.len() == elements.len() && array.iter().zip(elements).all(|(value, json)| same(field, value, json))
        }
        Value::Map(map) => serde_json::from_str::<Json>(&map.to_json()).unwrap() == *json,
    }
}

fn assert_row(definition: &TableDefinition, values: &[Value<'_>], json: &Json, place: &str) {
    assert_eq!(values.len(), definition.columns.len());
    for (column, value) in definition.columns.iter().zip(values) {
        let expected = &json[&column.field];
        assert!(same(&column.field, *value, expected), "{place}: {} is {value:?}, not {expected}", column.field);
    }
}

#[test]
fn every_record_decodes_to_what_it_holds() {
    let mut decoded = 0;
    for connector in CONNECTORS {
        let schemas = Schemas::load(connector);
        let mut envelope = Envelope::new();
        for (topic, records) in records(connector) {
            let Some(key_schema) = schemas.by_subject.get(&format!("{topic}-key")) else { continue };
            for record in records {
                let Some(value) = payload(&record, "value_hex") else { continue };
                let place = format!("{connector} {topic} offset {}", record["offset"]);
                let (id, datum) = frame::split(&value).unwrap();
                let schema = &schemas.by_id[&id];
                let definition = match infer::definition(&topic, Some(key_schema), schema) {
                    Err(InferError::Schema { source: DecoderError::NotAChange { .. }, .. })
                        if record["value"].get("after").is_none() =>
                    {
                        continue;
                    }
                    definition => definition.unwrap(),
                };
                let decoder = EnvelopeDecoder::compile(schema, &definition).unwrap();
                let mut decoding = envelope.recycle();
                decoder.decode(datum, &mut decoding).unwrap_or_else(|error| panic!("{place}: {error}"));
                let json = &record["value"];
                assert_eq!(Some(decoding.operation.code()), json["op"].as_str(), "{place}");
                assert_eq!(Some(decoding.source_ts_us), json["source"]["ts_us"].as_i64(), "{place}");
                for (image, json) in [(&decoding.before, &json["before"]), (&decoding.after, &json["after"])] {
                    assert_eq!(image.present, !json.is_null(), "{place}");
                    if image.present {
                        assert_row(&definition, &image.values, json, &place);
                    } else {
                        assert!(image.values.is_empty(), "{place}");
                    }
                }
                if let Some(key) = payload(&record, "key_hex") {
                    let (id, datum) = frame::split(&key).unwrap();
                    let decoder = KeyDecoder::compile(&schemas.by_id[&id], &definition).unwrap();
                    let mut values = Vec::new();
                    decoder.decode(datum, &mut values).unwrap();
                    assert_eq!(values.len(), definition.key.len());
                    for (&column, value) in definition.key.iter().zip(&values) {
                        let field = &definition.columns[column].field;
                        assert!(same(field, *value, &record["key"][field]), "{place}: key {field}");
                    }
                }
                decoded += 1;
                envelope = decoding.recycle();
            }
        }
    }
    assert!(decoded > 60, "only {decoded} records were compared");
}

/// One record's datum with the decoder and the definition for it.
fn decoder_of(connector: &str, topic: &str, record: &Json) -> (Vec<u8>, EnvelopeDecoder, TableDefinition) {
    let schemas = Schemas::load(connector);
    let value = payload(record, "value_hex").unwrap();
    let (id, datum) = frame::split(&value).unwrap();
    let schema = &schemas.by_id[&id];
    let key_schema = &schemas.by_subject[&format!("{topic}-key")];
    let definition = infer::definition(topic, Some(key_schema), schema).unwrap();
    (datum.to_vec(), EnvelopeDecoder::compile(schema, &definition).unwrap(), definition)
}

#[test]
fn values_come_in_the_common_units() {
    let record = &table("debezium-pg", "gold.public.types")[0];
    let (datum, decoder, definition) = decoder_of("debezium-pg", "gold.public.types", record);
    let mut envelope = Envelope::new();
    decoder.decode(&datum, &mut envelope).unwrap();
    let value = |field: &str| {
        let column = definition.columns.iter().position(|column| column.field == field).unwrap();
        envelope.after.values[column]
    };
    assert_eq!(envelope.operation, Operation::Read);
    assert_eq!(value("c_num12_2"), Value::Decimal { unscaled: &[0x01, 0xe2, 0x3a], scale: 2 });
    assert_eq!(value("c_num"), Value::Decimal { unscaled: &[0x3a, 0xde, 0x68, 0xb1], scale: 4 });
    assert_eq!(value("c_date"), Value::Date(19_782));
    assert_eq!(value("c_time"), Value::Time(45_296_789_012));
    assert_eq!(value("c_time3"), Value::Time(45_296_789_000));
    assert_eq!(value("c_timetz"), Value::ZonedTime("10:04:56.789012Z"));
    assert_eq!(value("c_ts"), Value::Timestamp(1_709_210_096_789_012));
    assert_eq!(value("c_ts3"), Value::Timestamp(1_709_210_096_789_000));
    assert_eq!(value("c_tstz"), Value::ZonedTimestamp("2024-02-29T11:34:56.789012Z"));
    assert_eq!(value("c_interval"), Value::Duration(37_091_106_789_012));
    assert_eq!(value("c_bit3"), Value::Bits { bytes: &[5], length: 3 });
    assert_eq!(value("c_point"), Value::Point { x: 1.5, y: -2.25 });
    let Value::Array(texts) = value("c_text_arr") else { panic!("{:?}", value("c_text_arr")) };
    let texts: Vec<_> = texts.iter().collect();
    assert_eq!(texts, [Value::Text("a"), Value::Text("b c"), Value::Null, Value::Text("quote\"d")]);
}

#[test]
fn infinities_are_text() {
    let records = table("debezium-pg", "gold.public.types");
    let record = records.iter().find(|record| record["value"]["after"]["id"] == 7).unwrap();
    let (datum, decoder, definition) = decoder_of("debezium-pg", "gold.public.types", record);
    let mut envelope = Envelope::new();
    decoder.decode(&datum, &mut envelope).unwrap();
    for (column, value) in definition.columns.iter().zip(&envelope.after.values) {
        match column.field.as_str() {
            "c_date" | "c_ts" => assert_eq!(*value, Value::Text("infinity")),
            "c_tstz" => assert_eq!(*value, Value::ZonedTimestamp("-infinity")),
            _ => {}
        }
    }
}

#[test]
fn columns_may_be_fewer_others_and_in_another_order() {
    let record = &table("debezium-pg", "gold.public.types")[0];
    let (datum, _, mut definition) = decoder_of("debezium-pg", "gold.public.types", record);
    definition.columns.reverse();
    definition.columns.retain(|column| ["id", "c_uuid", "c_ts_dflt"].contains(&column.field.as_str()));
    let mut added = definition.columns[0].clone();
    added.field = "added".into();
    definition.columns.insert(1, added);
    let schema = &Schemas::load("debezium-pg").by_subject["gold.public.types-value"];
    let decoder = EnvelopeDecoder::compile(schema, &definition).unwrap();
    let mut envelope = Envelope::new();
    decoder.decode(&datum, &mut envelope).unwrap();
    let expected = [
        Value::ZonedTimestamp("2020-01-01T00:00:00.000000Z"),
        Value::Unknown,
        Value::Text("6f1c2b1e-3f0a-4c57-9d0e-0a1b2c3d4e5f"),
        Value::Integer(1),
    ];
    assert_eq!(envelope.after.values, expected);
}

#[test]
fn placeholders_of_unchanged_values_become_unknown() {
    let mut seen = 0;
    for record in table("debezium-pg", "gold.public.toasted") {
        let Some(after) = record["value"].get("after").filter(|after| !after.is_null()) else { continue };
        let (datum, decoder, definition) = decoder_of("debezium-pg", "gold.public.toasted", &record);
        let mut envelope = Envelope::new();
        decoder.decode(&datum, &mut envelope).unwrap();
        envelope.apply_placeholder();
        for (column, value) in definition.columns.iter().zip(&envelope.after.values) {
            let json = &after[&column.field];
            let hex = "5f5f646562657a69756d5f756e617661696c61626c655f76616c7565";
            let placeholder =
                json.as_str() == Some("__debezium_unavailable_value") || json["$hex"].as_str() == Some(hex);
            assert_eq!(*value == Value::Unknown, placeholder, "{}", column.field);
            seen += usize::from(placeholder);
        }
    }
    assert!(seen >= 3, "{seen} placeholders");
}

#[test]
fn a_header_completes_the_images() {
    let record = &table("debezium-pg", "gold.public.types")[0];
    let (datum, decoder, _) = decoder_of("debezium-pg", "gold.public.types", record);
    let mut header = Header::new(Position::opening(1), 1);
    header.unchanged.push(7);
    header.texts.push(SourceText { image: Image::After, column: 14, text: "12:34:56.789012+02:30".into() });
    let mut envelope = Envelope::new();
    decoder.decode(&datum, &mut envelope).unwrap();
    envelope.apply_header(&header).unwrap();
    assert_eq!(envelope.after.values[7], Value::Unknown);
    assert_eq!(envelope.after.values[14], Value::SourceText("12:34:56.789012+02:30"));

    let mut before = header.clone();
    before.texts[0].image = Image::Before;
    assert!(envelope.apply_header(&before).is_err(), "the record has no image before");
    let mut beyond = header.clone();
    beyond.unchanged[0] = 1_000;
    assert!(envelope.apply_header(&beyond).is_err());
}

#[test]
fn types_are_inferred_from_debezium_schemas() {
    let schemas = Schemas::load("debezium-pg");
    let of = |topic: &str| {
        let schema = |side: &str| &schemas.by_subject[&format!("{topic}-{side}")];
        infer::definition(topic, Some(schema("key")), schema("value")).unwrap()
    };
    let types = of("gold.public.types");
    assert_eq!(types.qualified_name(), "public.types");
    let format = |field: &str| {
        let column = types.columns.iter().find(|column| column.field == field).unwrap();
        (column.column_type.oid, column.column_type.format.as_str())
    };
    for (field, oid, expected) in [
        ("id", 20, "bigint"),
        ("c_int2", 21, "smallint"),
        ("c_int4", 23, "integer"),
        ("c_num12_2", 1700, "numeric(12,2)"),
        ("c_num", 1700, "numeric"),
        ("c_bool", 16, "boolean"),
        ("c_varchar", 25, "text"),
        ("c_uuid", 2950, "uuid"),
        ("c_date", 1082, "date"),
        ("c_time", 1083, "time without time zone"),
        ("c_time3", 1083, "time(3) without time zone"),
        ("c_timetz", 1266, "time with time zone"),
        ("c_ts", 1114, "timestamp without time zone"),
        ("c_ts3", 1114, "timestamp(3) without time zone"),
        ("c_tstz", 1184, "timestamp with time zone"),
        ("c_interval", 1186, "interval"),
        ("c_bytea", 17, "bytea"),
        ("c_json", 3802, "jsonb"),
        ("c_int_arr", 1007, "integer[]"),
        ("c_text_arr", 1009, "text[]"),
        ("c_inet", 25, "text"),
        ("c_enum", 25, "text"),
        ("c_point", 600, "point"),
        ("c_float4", 700, "real"),
        ("c_float8", 701, "double precision"),
        ("c_bit3", 1560, "bit(3)"),
        ("c_bit1", 16, "boolean"),
        ("c_money", 1700, "numeric"),
        ("c_xml", 142, "xml"),
        ("c_tsvector", 3614, "tsvector"),
        ("c_num_arr", 1231, "numeric(6,2)[]"),
        ("c_uuid_arr", 2951, "uuid[]"),
    ] {
        assert_eq!(format(field), (oid, expected), "{field}");
    }
    let key = |definition: &TableDefinition| -> Vec<String> {
        definition.key.iter().map(|&column| definition.columns[column].name.clone()).collect()
    };
    assert_eq!(key(&of("gold.public.compkey")), ["b", "a", "c"]);
    let nokey = infer::definition("gold.public.nokey", None, &schemas.by_subject["gold.public.nokey-value"]);
    assert!(matches!(nokey, Err(InferError::NoKey { .. })));
}

#[test]
fn a_key_of_other_columns_is_refused() {
    let schemas = Schemas::load("debezium-pg");
    let definition = infer::definition(
        "gold.public.compkey",
        Some(&schemas.by_subject["gold.public.compkey-key"]),
        &schemas.by_subject["gold.public.compkey-value"],
    )
    .unwrap();
    let error = KeyDecoder::compile(&schemas.by_subject["gold.public.types-key"], &definition).unwrap_err();
    assert!(matches!(error, DecoderError::Key { .. }), "{error}");
    let message = &schemas.by_subject["gold.message-value"];
    let error = EnvelopeDecoder::compile(message, &definition).unwrap_err();
    assert!(matches!(error, DecoderError::NotAChange { .. }), "{error}");
}

#[test]
fn a_cut_or_longer_datum_is_an_error() {
    let record = &table("debezium-pg", "gold.public.types")[0];
    let (mut datum, decoder, _) = decoder_of("debezium-pg", "gold.public.types", record);
    for length in 0..datum.len() {
        assert!(decoder.decode(&datum[..length], &mut Envelope::new()).is_err(), "{length} of {}", datum.len());
    }
    datum.push(0);
    assert_eq!(decoder.decode(&datum, &mut Envelope::new()).unwrap_err().problem, Problem::Trailing);
}

#[test]
fn a_reused_envelope_keeps_its_allocations() {
    let record = &table("debezium-pg", "gold.public.types")[0];
    let (datum, decoder, _) = decoder_of("debezium-pg", "gold.public.types", record);
    let mut envelope = Envelope::new();
    decoder.decode(&datum, &mut envelope).unwrap();
    let place = |envelope: &Envelope<'_>| (envelope.after.values.as_ptr().addr(), envelope.after.values.capacity());
    let before = place(&envelope);
    for _ in 0..3 {
        let copy = datum.clone();
        let mut again = envelope.recycle();
        decoder.decode(&copy, &mut again).unwrap();
        assert_eq!(place(&again), before);
        envelope = again.recycle();
    }
}

/// The datum of the record with every type, and its decoder, made once.
fn rich() -> &'static (Vec<u8>, EnvelopeDecoder) {
    static RICH: std::sync::OnceLock<(Vec<u8>, EnvelopeDecoder)> = std::sync::OnceLock::new();
    RICH.get_or_init(|| {
        let record = &table("debezium-pg", "gold.public.types")[0];
        let (datum, decoder, _) = decoder_of("debezium-pg", "gold.public.types", record);
        (datum, decoder)
    })
}

/// Walks everything that was decoded, arrays too.
fn walk(envelope: &mut Envelope<'_>) {
    envelope.apply_placeholder();
    for value in envelope.before.values.iter().chain(&envelope.after.values) {
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut envelope = Envelope::new();
        if rich().1.decode(&bytes, &mut envelope).is_ok() {
            walk(&mut envelope);
        }
    }

    #[test]
    fn no_damaged_record_panics(
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
        cut_it in any::<bool>(),
    ) {
        let (datum, decoder) = rich();
        let mut datum = datum.clone();
        for (place, byte) in damage {
            let place = place.index(datum.len());
            datum[place] = byte;
        }
        if cut_it {
            datum.truncate(cut.index(datum.len()));
        }
        let mut envelope = Envelope::new();
        if decoder.decode(&datum, &mut envelope).is_ok() {
            walk(&mut envelope);
        }
    }
}
