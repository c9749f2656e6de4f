//! Any row comes back: encoded, read by apache-avro, decoded, completed by the header, and printed.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::strategy::Union;
use syncline_event::avro::decode::{Envelope, EnvelopeDecoder};
use syncline_event::avro::encode::{ConnectorInfo, RowChange, SnapshotMarker, SourceInfo, TableEncoder};
use syncline_event::avro::frame;
use syncline_event::avro::schema::envelope_schema;
use syncline_event::header::Header;
use syncline_event::operation::Operation;
use syncline_event::position::Position;
use syncline_event::table::{Column, ReplicaIdentity, TableDefinition};
use syncline_event::tuple::TupleCell;

use crate::definitions::{not_null, nullable, table};
use crate::render::{self, render};

type Text = BoxedStrategy<String>;

fn pattern(regex: &'static str) -> Text {
    regex.prop_map(String::from).boxed()
}

fn printed<T: ToString + std::fmt::Debug + 'static>(value: impl Strategy<Value = T> + 'static) -> Text {
    value.prop_map(|value| value.to_string()).boxed()
}

fn or(common: Text, rare: &[&'static str]) -> Text {
    let rare = proptest::sample::select(rare.to_vec()).prop_map(String::from).boxed();
    Union::new_weighted(vec![(4, common), (1, rare)]).boxed()
}

fn array(element: Text) -> Text {
    proptest::collection::vec(proptest::option::of(element), 0..4)
        .prop_map(|elements| render::literal(elements.into_iter()))
        .boxed()
}

const DAY: i64 = 86_400_000_000;

/// Seconds more often than microseconds.
fn clock() -> BoxedStrategy<i64> {
    prop_oneof![0..DAY, (0_i64..86_400).prop_map(|seconds| seconds * 1_000_000)].boxed()
}

/// From 4713 BC to the end of the calendar, today's centuries more often.
fn day(last: i64) -> BoxedStrategy<i64> {
    prop_oneof![-100_000_i64..100_000, -2_440_588..last].boxed()
}

/// Types as `format_type` prints them, and what PostgreSQL prints for their values.
fn types() -> Vec<(&'static str, Text)> {
    let text = pattern("[a-zA-Z0-9 ,{}\"\\\\é☃\n]{0,12}");
    let numeric = pattern("-?[1-9][0-9]{0,45}(\\.[0-9]{1,30})?");
    let date = day(2_145_042_905).prop_map(render::date).boxed();
    let timestamp = (day(106_751_990), clock()).prop_map(|(day, clock)| render::timestamp(day, clock)).boxed();
    let zoned = (day(106_751_990), clock()).prop_map(|(day, clock)| render::zoned_timestamp(day, clock)).boxed();
    let zoned_time =
        (clock(), "\\+00|[+-]0[1-9](:30(:15)?)?").prop_map(|(clock, zone)| render::time(clock) + &zone).boxed();
    let zoned_time = or(zoned_time, &["24:00:00+00", "24:00:00+02"]);
    let float = or(printed(any::<f64>().prop_filter("finite", |value| value.is_finite())), &["NaN", "-Infinity", "-0"]);
    let time_only = any::<i32>().prop_map(|seconds| render::duration(i64::from(seconds) * 1_000_000)).boxed();
    let bits = |length: usize| proptest::collection::vec("[01]", length).prop_map(|bits| bits.concat()).boxed();
    vec![
        ("boolean", pattern("t|f")),
        ("smallint", printed(any::<i16>())),
        ("integer", printed(any::<i32>())),
        ("bigint", printed(any::<i64>())),
        ("oid", printed(any::<u32>())),
        ("double precision", float.clone()),
        ("real", or(printed(any::<f32>().prop_filter("finite", |value| value.is_finite())), &["NaN", "Infinity"])),
        ("numeric(12,2)", or(pattern("-?(0|[1-9][0-9]{0,9})\\.[1-9]{2}"), &["NaN", "0.00"])),
        ("numeric(60,10)", pattern("-?[1-9][0-9]{0,49}\\.[0-9]{10}")),
        ("numeric(3,-2)", or(pattern("-?[1-9][0-9]{0,2}00"), &["0"])),
        ("numeric(2,5)", pattern("0\\.000[1-9][0-9]")),
        ("numeric", or(numeric.clone(), &["NaN", "Infinity", "-Infinity", "0", "0.00", "100"])),
        ("money", or(pattern("-?\\$[1-9],[0-9]{3}\\.[0-9]{2}"), &["$0.00", "1.234,50 €"])),
        ("text", text.clone()),
        ("character varying(40)", text.clone()),
        ("character(5)", pattern("[a-z]{2}   ")),
        ("name", pattern("[a-z_]{1,9}")),
        ("json", pattern("\\{\"a\": [0-9]{1,5}\\}")),
        ("jsonb", pattern("\\[[0-9]{1,5}\\]")),
        ("xml", pattern("<a>[a-z]{0,9}</a>")),
        ("uuid", pattern("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")),
        ("tsvector", pattern("('[a-z]{1,5}':[1-9])?")),
        ("inet", pattern("10\\.0\\.[0-9]\\.[0-9](/[89])?")),
        ("int4range", pattern("empty|\\[[0-9],\\)")),
        ("bytea", pattern("\\\\x([0-9a-f]{2}){0,9}")),
        ("mood", pattern("sad|ok|happy")),
        ("date", or(date.clone(), &["infinity", "-infinity", "4714-11-24 BC", "5874897-12-31"])),
        ("time without time zone", or(clock().prop_map(render::time).boxed(), &["24:00:00"])),
        ("time(3) without time zone", (0_i64..86_400_000).prop_map(|millis| render::time(millis * 1_000)).boxed()),
        ("time with time zone", zoned_time.clone()),
        (
            "timestamp without time zone",
            or(
                timestamp,
                &[
                    "infinity",
                    "-infinity",
                    "294276-12-31 23:59:59.999999",
                    "294247-01-10 04:00:25.2",
                    "4714-11-24 00:00:00 BC",
                ],
            ),
        ),
        (
            "timestamp(3) without time zone",
            or(day(100_000).prop_map(|day| render::timestamp(day, 1_000)).boxed(), &["infinity", "-infinity"]),
        ),
        ("timestamp with time zone", or(zoned.clone(), &["infinity", "-infinity"])),
        ("timestamp(2) with time zone", day(100_000).prop_map(|day| render::zoned_timestamp(day, 10_000)).boxed()),
        ("timestamp(0) with time zone", day(100_000).prop_map(|day| render::zoned_timestamp(day, 0)).boxed()),
        (
            "interval",
            or(
                time_only,
                &[
                    "1 day",
                    "1 mon",
                    "-1 years -2 mons +3 days -04:05:06.000001",
                    "24:00:00",
                    "-00:00:00.000001",
                    "infinity",
                    "178000000 years",
                ],
            ),
        ),
        ("bit(1)", bits(1)),
        ("bit(11)", bits(11)),
        ("bit varying(9)", pattern("[01]{0,9}")),
        ("bit varying", pattern("[01]{0,30}")),
        ("bit varying(1)", pattern("[01]?")),
        ("point", (float.clone(), float.clone()).prop_map(|(x, y)| format!("({x},{y})")).boxed()),
        ("integer[]", or(array(printed(any::<i32>())), &["{{1,2},{NULL,3}}", "[0:1]={1,2}"])),
        ("smallint[]", array(printed(any::<i16>()))),
        ("bigint[]", array(printed(any::<i64>()))),
        ("text[]", or(array(text), &["{{a,\"b c\"},{\"\",NULL}}"])),
        ("numeric[]", array(or(numeric, &["NaN", "1.50", "7"]))),
        ("numeric(6,2)[]", array(or(pattern("-?[1-9]\\.[0-9]{2}"), &["NaN"]))),
        ("boolean[]", array(pattern("t|f"))),
        ("double precision[]", array(float)),
        ("uuid[]", array(pattern("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"))),
        ("bytea[]", array(pattern("\\\\x([0-9a-f]{2}){0,9}"))),
        ("jsonb[]", array(pattern("\\{\"a\": [0-9]{1,5}\\}"))),
        ("mood[]", array(pattern("sad|ok|happy"))),
        ("date[]", array(or(date, &["infinity"]))),
        ("time with time zone[]", array(zoned_time)),
        ("timestamp with time zone[]", array(or(zoned, &["infinity"]))),
        ("int8range[]", array(pattern("\\[[0-9],\\)"))),
    ]
}

fn wide_table() -> TableDefinition {
    let mut columns: Vec<Column> = vec![not_null("id", "integer")];
    columns.extend(types().iter().enumerate().map(|(index, (format, _))| nullable(&format!("c{index}"), format)));
    table("wide", columns, &["id"], ReplicaIdentity::Full)
}

fn row() -> BoxedStrategy<Vec<Option<String>>> {
    let id = any::<i32>().prop_map(|id| Some(id.to_string())).boxed();
    let cells = types().into_iter().map(|(_, text)| proptest::option::weighted(0.8, text).boxed());
    std::iter::once(id).chain(cells).collect::<Vec<_>>().boxed()
}

fn cells(row: &[Option<String>]) -> Vec<TupleCell<'_>> {
    row.iter().map(|cell| cell.as_ref().map_or(TupleCell::Null, |text| TupleCell::Text(text.as_bytes()))).collect()
}

/// Floats are compared as numbers: PostgreSQL, Rust and Java print them in different ways.
fn same(given: &str, come_back: &str, format: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let parts = text.split(['(', ')', ',', '{', '}']).filter(|part| !part.is_empty());
        parts.map(|part| part.parse::<f64>().map_or(0, f64::to_bits)).collect()
    };
    match format {
        "real" => given.parse::<f32>().unwrap().to_bits() == come_back.parse::<f32>().unwrap().to_bits(),
        "double precision" | "point" | "double precision[]" => numbers(given) == numbers(come_back),
        "money" => given.replace(['$', ','], "") == come_back.replace(['$', ','], ""),
        _ => given == come_back,
    }
}

static WIDE: LazyLock<Arc<TableDefinition>> = LazyLock::new(|| Arc::new(wide_table()));
static SCHEMA: LazyLock<String> = LazyLock::new(|| envelope_schema(&WIDE));
static APACHE: LazyLock<apache_avro::Schema> = LazyLock::new(|| apache_avro::Schema::parse_str(&SCHEMA).unwrap());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_row_comes_back(before in row(), after in row()) {
        let definition = WIDE.clone();
        let connector = ConnectorInfo { version: "3.6.3.Final".into(), name: "gold".into(), db: "golden".into() };
        let encoder = TableEncoder::new(definition.clone(), &connector, 1, 2).unwrap();
        let (old, new) = (cells(&before), cells(&after));
        let source = SourceInfo {
            ts_us: 1,
            snapshot: SnapshotMarker::False,
            sequence: (None, 2),
            tx_id: Some(3),
            lsn: 4,
            origin: Some("hub"),
            origin_lsn: Some(5),
        };
        let change = RowChange {
            operation: Operation::Update,
            before: Some(&old),
            before_is_key_only: false,
            after: Some(&new),
            source,
            transaction: None,
            now_ns: 6,
        };
        let mut header = Header::new(Position::opening(1), 1);
        let mut record = Vec::new();
        encoder.envelope(&change, &mut record, &mut header).unwrap();
        let (id, datum) = frame::split(&record).unwrap();
        prop_assert_eq!(id, 2);

        let mut rest = datum;
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&APACHE).build().unwrap();
        reader.read_value(&mut rest).unwrap();
        prop_assert!(rest.is_empty());

        let decoder = EnvelopeDecoder::compile(&SCHEMA, &definition).unwrap();
        let mut envelope = Envelope::new();
        decoder.decode(datum, &mut envelope).unwrap();
        envelope.apply_header(&header).unwrap();
        for (image, row) in [(&envelope.before, &before), (&envelope.after, &after)] {
            for ((value, column), given) in image.values.iter().zip(&definition.columns).zip(row) {
                let come_back = render(value, &column.column_type);
                let format = &column.column_type.format;
                let equal = match (given, &come_back) {
                    (Some(given), Some(come_back)) => same(given, come_back, format),
                    (given, come_back) => given == come_back,
                };
                prop_assert!(equal, "{}: {:?} came back as {:?}", format, given, come_back);
            }
        }
    }
}
