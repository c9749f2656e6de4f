//! Small envelopes written by hand: what the golden records do not hold.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, as tests may")]

use syncline_event::avro::decode::{DecoderError, Envelope, EnvelopeDecoder, PLACEHOLDER, Problem};
use syncline_event::avro::infer;
use syncline_event::avro::value::Value;
use syncline_event::table::TableDefinition;

const KEY: &str = r#"{"type":"record","name":"Key","namespace":"p.s.t","fields":[{"name":"id","type":"int"}]}"#;

/// An envelope of rows with an `id` and a `v` of this type.
fn schema(v: &str) -> String {
    format!(
        r#"{{"type":"record","name":"Envelope","namespace":"p.s.t","fields":[
        {{"name":"before","type":["null",{{"type":"record","name":"Value","fields":[
          {{"name":"id","type":"int"}},{{"name":"v","type":{v}}}]}}]}},
        {{"name":"after","type":["null","Value"]}},{{"name":"op","type":"string"}}]}}"#
    )
}

fn named(avro: &str, name: &str) -> String {
    format!(r#"{{"type":"{avro}","connect.name":"{name}"}}"#)
}

fn definition(schema: &str) -> TableDefinition {
    infer::definition("p.s.t", Some(KEY), schema).unwrap()
}

/// The envelope of a create whose `v` has these bytes.
fn create(v: &[u8]) -> Vec<u8> {
    [&[0, 2, 2], v, &[2, b'c']].concat()
}

fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut out = Vec::new();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

fn text(text: &str) -> Vec<u8> {
    [long(i64::try_from(text.len()).unwrap()), text.as_bytes().to_vec()].concat()
}

/// What `v` of this type decodes to, as its debug text, after the placeholder was looked for.
fn decoded(v: &str, bytes: &[u8]) -> Result<String, Problem> {
    let schema = schema(v);
    let decoder = EnvelopeDecoder::compile(&schema, &definition(&schema)).unwrap();
    let datum = create(bytes);
    let mut envelope = Envelope::new();
    decoder.decode(&datum, &mut envelope).map_err(|error| error.problem)?;
    envelope.apply_placeholder();
    Ok(format!("{:?}", envelope.after.values[1]))
}

#[test]
fn units_become_microseconds_without_loss() {
    let cases = [
        ("int", "io.debezium.time.Time", 5, Ok("Time(5000)")),
        ("int", "org.apache.kafka.connect.data.Time", 5, Ok("Time(5000)")),
        ("long", "io.debezium.time.NanoTime", 5_000, Ok("Time(5)")),
        ("long", "io.debezium.time.NanoTime", 5_001, Err(Problem::Nanoseconds)),
        ("long", "org.apache.kafka.connect.data.Timestamp", -5, Ok("Timestamp(-5000)")),
        ("long", "io.debezium.time.Timestamp", i64::MAX / 10, Err(Problem::Range)),
        ("long", "io.debezium.time.NanoTimestamp", i64::MAX, Ok(r#"Text("infinity")"#)),
        ("long", "io.debezium.time.NanoTimestamp", i64::MIN, Ok(r#"Text("-infinity")"#)),
        ("long", "io.debezium.time.NanoDuration", 7_000, Ok("Duration(7)")),
        ("int", "io.debezium.time.Date", -2_147_472_691, Ok(r#"Text("-infinity")"#)),
        ("int", "io.debezium.time.Year", 2024, Ok("Integer(2024)")),
    ];
    for (avro, name, value, expected) in cases {
        assert_eq!(decoded(&named(avro, name), &long(value)), expected.map(str::to_owned), "{name} {value}");
    }
}

#[test]
fn iso_texts_lose_the_zone_their_type_does_not_have() {
    for (name, value, expected) in [
        ("IsoDate", "2017-09-15Z", "2017-09-15"),
        ("IsoTime", "04:05:11.789Z", "04:05:11.789"),
        ("IsoTimestamp", "2017-09-15T04:05:11.789Z", "2017-09-15T04:05:11.789"),
        ("Interval", "P1Y2M3DT4H5M6.78S", "P1Y2M3DT4H5M6.78S"),
    ] {
        let value = decoded(&named("string", &format!("io.debezium.time.{name}")), &text(value)).unwrap();
        assert_eq!(value, format!("Text({expected:?})"));
    }
}

#[test]
fn placeholders_of_every_type_become_unknown() {
    let one = |element: &[u8]| [&[2], element, &[0]].concat();
    let bytes: Vec<_> = PLACEHOLDER.bytes().flat_map(|byte| long(byte.into())).collect();
    let each = [long(i64::try_from(PLACEHOLDER.len()).unwrap()), bytes, vec![0]].concat();
    let array = |items: &str| format!(r#"{{"type":"array","items":{items}}}"#);
    let hstore = format!(r#"{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}"#);
    let uuid = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";
    for (schema, bytes) in [
        (r#""string""#.into(), text(PLACEHOLDER)),
        (r#""bytes""#.into(), text(PLACEHOLDER)),
        (named("string", "io.debezium.data.Json"), text(&hstore)),
        (array(r#""string""#), one(&text(PLACEHOLDER))),
        (array(r#""bytes""#), one(&text(PLACEHOLDER))),
        (array(&named("string", "io.debezium.data.Uuid")), one(&text(uuid))),
        (array(r#""int""#), each.clone()),
        (array(r#""long""#), each.clone()),
        (array(&named("int", "io.debezium.time.Date")), each),
    ] {
        assert_eq!(decoded(&schema, &bytes).as_deref(), Ok("Unknown"), "{schema}");
    }
    let other = decoded(&array(r#""string""#), &one(&text("other"))).unwrap();
    assert_eq!(other, r#"Array([Text("other")])"#);
}

#[test]
fn an_array_block_of_another_size_is_refused() {
    let array = r#"{"type":"array","items":"long"}"#;
    assert_eq!(decoded(array, &[3, 4, 2, 4, 0]).as_deref(), Ok("Array([Integer(1), Integer(2)])"));
    assert_eq!(decoded(array, &[3, 6, 2, 4, 0]), Err(Problem::Block));
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(decoded(array, &huge), Err(Problem::Truncated));
}

#[test]
fn errors_name_schema_and_field_but_no_value() {
    let schema = schema(r#""string""#);
    let decoder = EnvelopeDecoder::compile(&schema, &definition(&schema)).unwrap();
    let datum = create(&[4, 0xff, b's']);
    let error = decoder.decode(&datum, &mut Envelope::new()).unwrap_err();
    assert_eq!(error.to_string(), "field after.v of record p.s.t.Envelope: a string is not valid UTF-8");
    let longer = [&create(&text("s"))[..], &[0]].concat();
    let error = decoder.decode(&longer, &mut Envelope::new()).unwrap_err();
    assert_eq!(error.to_string(), "record p.s.t.Envelope: the datum goes on behind its last field");
    for (datum, problem) in [
        (vec![0, 0, 2, b'u'], Problem::NoRow),
        (vec![0, 0, 2, b'x'], Problem::Operation),
        (vec![4, 0, 2, b'd'], Problem::Branch),
    ] {
        assert_eq!(decoder.decode(&datum, &mut Envelope::new()).unwrap_err().problem, problem);
    }
    let mut envelope = Envelope::new();
    decoder.decode(&[0, 0, 2, b't'], &mut envelope).unwrap();
    assert!(!envelope.after.present && envelope.after.values.is_empty());
}

#[test]
fn types_without_a_meaning_are_refused_by_name() {
    let known = definition(&schema(r#""string""#));
    for (v, found) in [
        (r#"{"type":"map","values":"long"}"#, "map"),
        (r#"["string","long"]"#, "a union other than of one type and null"),
        (r#"{"type":"array","items":{"type":"array","items":"int"}}"#, "an array of arrays"),
        (
            r#"{"type":"record","name":"Geometry","namespace":"io.debezium.data.geometry","fields":[]}"#,
            "io.debezium.data.geometry.Geometry without wkb (bytes) and srid (int)",
        ),
        (r#"{"type":"string","connect.name":"io.debezium.time.MicroTime"}"#, "string (io.debezium.time.MicroTime)"),
    ] {
        let error = EnvelopeDecoder::compile(&schema(v), &known).unwrap_err();
        let expected =
            DecoderError::Unsupported { schema: "p.s.t.Value".into(), field: "v".into(), found: found.into() };
        assert_eq!(error, expected);
    }
}

/// As MySQL's and PostgreSQL's connectors register them, with and without a null branch.
#[test]
fn types_of_postgis_and_pgvector_are_read() {
    let geometry = r#"{"type":"record","name":"Geometry","namespace":"io.debezium.data.geometry","fields":[{"name":"wkb","type":"bytes"},{"name":"srid","type":["null","int"],"default":null}],"connect.name":"io.debezium.data.geometry.Geometry"}"#;
    let wkb = [&[10, 1, 7, 0, 0, 0][..], &[2, 0xcc, 0x43]].concat();
    let found = "Spatial(SpatialValue { wkb: [1, 7, 0, 0, 0], srid: Some(4326) })";
    assert_eq!(decoded(geometry, &wkb).as_deref(), Ok(found));
    let nullable = format!(r#"["null",{geometry}]"#);
    assert_eq!(decoded(&nullable, &[&[2], &wkb[..]].concat()).as_deref(), Ok(found));
    assert_eq!(decoded(&nullable, &[0]).as_deref(), Ok("Null"));
    let without = "Spatial(SpatialValue { wkb: [1], srid: None })";
    assert_eq!(decoded(geometry, &[2, 1, 0]).as_deref(), Ok(without));
    // Connect's form of a field with a default, and fields in another order.
    let other = r#"{"type":"record","name":"g","connect.name":"io.debezium.data.geometry.Geography","fields":[{"name":"srid","type":["int","null"]},{"name":"more","type":"long"},{"name":"wkb","type":"bytes"}]}"#;
    assert_eq!(decoded(other, &[2, 6, 2, 1]).as_deref(), Ok(without));
    let array = format!(r#"{{"type":"array","items":{nullable}}}"#);
    assert_eq!(decoded(&array, &[4, 0, 2, 2, 1, 0, 0]).unwrap(), format!("Array([Null, {without}])"));

    let sparse = r#"{"type":"record","name":"SparseDoubleVector","namespace":"io.debezium.data","fields":[{"name":"dimensions","type":{"type":"int","connect.type":"int16"}},{"name":"vector","type":{"type":"array","items":{"type":"record","name":"MapEntry","namespace":"io.confluent.connect.avro","fields":[{"name":"key","type":{"type":"int","connect.type":"int16"}},{"name":"value","type":"double"}]}}}],"connect.name":"io.debezium.data.SparseDoubleVector"}"#;
    let half = 0.5_f64.to_le_bytes();
    let pairs = [&[14, 2, 2][..], &half, &[2, 6], &half, &[0]].concat();
    assert_eq!(decoded(sparse, &pairs).as_deref(), Ok("SparseVector({1:5e-1,3:5e-1}/7)"));
    assert_eq!(decoded(sparse, &pairs[..pairs.len() - 1]), Err(Problem::Truncated));
    assert_eq!(decoded(sparse, &[14, 0]).as_deref(), Ok("SparseVector({}/7)"));
}

#[test]
fn equal_arrays_are_equal_whatever_their_blocks() {
    let schema = schema(r#"{"type":"array","items":"int"}"#);
    let decoder = EnvelopeDecoder::compile(&schema, &definition(&schema)).unwrap();
    let (one, two, other) = (create(&[4, 2, 4, 0]), create(&[2, 2, 1, 2, 4, 0]), create(&[4, 2, 6, 0]));
    let decode = |datum| {
        let mut envelope = Envelope::new();
        decoder.decode(datum, &mut envelope).unwrap();
        envelope.after.values[1]
    };
    let (one, two, other): (Value<'_>, Value<'_>, Value<'_>) = (decode(&one), decode(&two), decode(&other));
    assert_eq!(one, two);
    assert_ne!(one, other);
}
