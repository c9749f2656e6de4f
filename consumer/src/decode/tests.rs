//! Decoding of Debezium's records and ours.

use super::topic::INFERRED;
use super::*;
use crate::chunk::NamedSchemas;
use crate::simulation::memory::Plan;
use crate::simulation::source::{KEY_SCHEMA, SOURCE, TOPIC, VALUE_SCHEMA, definition, schema};
use crate::targets::PartitionKey;
use syncline_event::avro::encode::{ConnectorInfo, RowChange, TableEncoder};
use syncline_event::operation::Operation;
use syncline_event::position::{Phase, Position};
use syncline_event::tuple::TupleCell;
use syncline_transforms::mapping::{Mapping, SourceTable, Written};

/// Key and value of a change, as Debezium would write them.
fn event(operation: Operation, big: TupleCell<'_>) -> (Vec<u8>, Vec<u8>, Header) {
    let connector = ConnectorInfo { version: "3.6.0.Final".into(), name: "p".into(), db: "d".into() };
    let encoder = TableEncoder::new(Arc::new(definition()), &connector, KEY_SCHEMA, VALUE_SCHEMA).unwrap();
    let row = [TupleCell::Text(b"5"), TupleCell::Text(b"name"), big];
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let position = Position { epoch: 1, phase: Phase::Stream, lsn: 1, number: 1, sub: 0 };
    let mut header = Header::new(position, 1);
    let deletes = operation == Operation::Delete;
    let change = RowChange {
        operation,
        before: deletes.then_some(&row[..]),
        before_is_key_only: true,
        after: (!deletes).then_some(&row[..]),
        source: SOURCE,
        transaction: None,
        now_ns: 0,
    };
    encoder.key(&row, &mut key).unwrap();
    encoder.envelope(&change, &mut value, &mut header).unwrap();
    (key, value, header)
}

fn record<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> Record<'a> {
    Record { offset: 0, key: Some(key), value, header: None, named: Ok(NamedSchemas::default()) }
}

/// Meets needs until the record's shape is known.
fn shape(decoders: &mut Decoders, record: &Record<'_>, header: Option<&Header>) -> (Vec<Need>, Result<Shape, String>) {
    let mut needs = Vec::new();
    loop {
        match decoders.shape(0, record, header) {
            Ok(shape) => return (needs, Ok(shape)),
            Err(Obstacle::Bad(reason)) => return (needs, Err(reason)),
            Err(Obstacle::Needs(need)) => {
                needs.push(need);
                match need {
                    Need::Schema(id) => {
                        let SchemaId::Id(number) = id else { panic!("another id") };
                        decoders.add_schema(id, schema(number).into());
                    }
                    Need::Described { topic } => {
                        decoders.add_described(topic, Some(TableDefinition { number: 0, ..definition() }))
                    }
                    Need::ValueSchema { topic } => {
                        decoders.add_newest_value(topic, Some(SchemaId::Id(VALUE_SCHEMA)));
                    }
                    Need::Definition { topic, number } => {
                        decoders.add_definition(topic, number, Arc::new(definition()));
                    }
                    Need::Plan { topic, definition, route } => {
                        let table = Arc::clone(decoders.routed(topic, definition, route).unwrap());
                        decoders.add_plan(topic, route, Arc::new(Plan(table)));
                    }
                }
            }
        }
    }
}

fn decode(
    decoders: &mut Decoders,
    shape: Shape,
    record: &Record<'_>,
    header: Option<&Header>,
) -> (Result<Option<Change>, String>, Vec<u8>) {
    let Shape::Row { definition } = shape else { panic!("no row") };
    let mut tables = tables(decoders, definition);
    let decoded = decoders.decode(0, definition, record, header, &mut tables);
    let (change, key) = tables[0].staged().pop().unzip();
    (decoded.map(|()| change), key.unwrap_or_default())
}

fn tables(decoders: &Decoders, definition: u32) -> Vec<TableDraft> {
    let plans = decoders.plans(0, definition).into_iter();
    plans.map(|plan| TableDraft::new(0, plan, Default::default())).collect()
}

#[test]
fn debeziums_records_get_a_definition_from_their_schemas() {
    let mut decoders = Decoders::default();
    decoders.topic(TOPIC);
    let plan = Need::Plan { topic: 0, definition: INFERRED, route: 0 };
    let whole = TupleCell::Text(b"big");
    for (operation, big, change, needs) in [
        (
            Operation::Create,
            whole,
            Change::Upsert,
            vec![Need::Schema(SchemaId::Id(KEY_SCHEMA)), Need::Schema(SchemaId::Id(VALUE_SCHEMA)), plan],
        ),
        (Operation::Update, TupleCell::Unchanged, Change::Update, vec![]),
        (Operation::Delete, TupleCell::Null, Change::Delete, vec![]),
    ] {
        let (key, value, _) = event(operation, big);
        let record = record(&key, Some(&value));
        let (needed, shape) = shape(&mut decoders, &record, None);
        assert_eq!(needed, needs, "{operation}");
        assert_eq!(decode(&mut decoders, shape.unwrap(), &record, None), (Ok(Some(change)), b"5".to_vec()));
        assert_eq!(decoders.key_text(0, INFERRED, &record).as_deref(), Some("5"));
    }
    let (key, ..) = event(Operation::Delete, TupleCell::Null);
    let tombstone = record(&key, None);
    let (_, shape) = shape(&mut decoders, &tombstone, None);
    assert_eq!(decode(&mut decoders, shape.unwrap(), &tombstone, None), (Ok(Some(Change::Delete)), b"5".to_vec()));
}

#[test]
fn a_lone_tombstone_deletes_from_the_table_that_is_there() {
    let mut decoders = Decoders::default();
    decoders.topic(TOPIC);
    let (key, ..) = event(Operation::Delete, TupleCell::Null);
    let tombstone = record(&key, None);
    let (needs, known) = shape(&mut decoders, &tombstone, None);
    let plan = Need::Plan { topic: 0, definition: INFERRED, route: 0 };
    assert_eq!(needs, [Need::Described { topic: 0 }, plan, Need::Schema(SchemaId::Id(KEY_SCHEMA))]);
    assert_eq!(decode(&mut decoders, known.unwrap(), &tombstone, None), (Ok(Some(Change::Delete)), b"5".to_vec()));
    // Without a table there is no row.
    let mut decoders = Decoders::default();
    decoders.topic(TOPIC);
    decoders.add_described(0, None);
    assert_eq!(shape(&mut decoders, &tombstone, None).1, Ok(Shape::Nothing));
}

/// The table's rows with two of its columns, one under another name.
fn mapping() -> Mapping {
    let source = definition();
    let column = |index: usize| Written { value: source.columns[index].name.clone(), line: 1 };
    Mapping {
        target_table: Some(Written { value: "mapped".into(), line: 1 }),
        columns: vec![(column(0), "key".into()), (column(1), "label".into())],
        exclude_columns: vec![column(2)],
        ..Mapping::new(Written { value: SourceTable::parse(&source.qualified_name()).unwrap(), line: 1 })
    }
}

fn mapped() -> Decoders {
    let mut decoders = Decoders::new(Arc::default(), Arc::new(Mappings { list: vec![mapping()] }), None);
    decoders.topic(TOPIC);
    decoders
}

#[test]
fn a_mapped_change_is_whole_without_what_nobody_reads() {
    let mut decoders = mapped();
    let (key, value, header) = event(Operation::Update, TupleCell::Unchanged);
    let changed = record(&key, Some(&value));
    let (_, known) = shape(&mut decoders, &changed, Some(&header));
    let decoded = decode(&mut decoders, known.unwrap(), &changed, Some(&header));
    assert_eq!(decoded, (Ok(Some(Change::Upsert)), b"5".to_vec()));
    let table = decoders.routed(0, 1, 0).unwrap();
    assert_eq!((table.table.as_str(), table.columns.len(), table.columns[1].name.as_str()), ("mapped", 2, "label"));
}

#[test]
fn a_mapped_change_allocates_nothing_in_the_long_run() {
    let mut decoders = mapped();
    let (key, value, header) = event(Operation::Update, TupleCell::Unchanged);
    let changed = record(&key, Some(&value));
    let (_, known) = shape(&mut decoders, &changed, Some(&header));
    let Shape::Row { definition } = known.unwrap() else { panic!("no row") };
    let mut tables = tables(&decoders, definition);
    let partition = PartitionKey {
        group: String::new(),
        cluster_id: String::new(),
        topic: TOPIC.into(),
        topic_id: String::new(),
        partition: 0,
    };
    let mut batch = |records: usize| {
        for _ in 0..records {
            decoders.shape(0, &changed, Some(&header)).unwrap();
            decoders.decode(0, definition, &changed, Some(&header), &mut tables).unwrap();
            assert!(tables[0].settle(&partition, 0));
        }
        let table = tables.pop().unwrap();
        let plan = Arc::clone(table.plan());
        tables.push(TableDraft::new(0, plan, table.into_buffers()));
    };
    batch(100);
    batch(100);
    let counted = allocation_counter::measure(|| batch(100));
    // The simulated target prints its key as a text, twice a record: in the row, and as its key.
    assert_eq!(counted.count_total, 200);
}

#[test]
fn a_tombstone_before_any_row_is_mapped_by_the_newest_schema() {
    let mut decoders = mapped();
    let (key, ..) = event(Operation::Delete, TupleCell::Null);
    let tombstone = record(&key, None);
    let (needs, known) = shape(&mut decoders, &tombstone, None);
    assert_eq!(needs[0], Need::ValueSchema { topic: 0 });
    assert_eq!(decode(&mut decoders, known.unwrap(), &tombstone, None), (Ok(Some(Change::Delete)), b"5".to_vec()));
    let mut decoders = mapped();
    decoders.add_newest_value(0, None);
    let refused = shape(&mut decoders, &tombstone, None).1.unwrap_err();
    assert!(refused.contains("before any row") && refused.contains("resync --topic"), "{refused}");
}

#[test]
fn a_tombstone_behind_a_delete_is_passed_over_where_its_key_is_not_the_targets() {
    let mut mapping = mapping();
    mapping.key = vec![Written { value: "label".into(), line: 1 }];
    let mut decoders = Decoders::new(Arc::default(), Arc::new(Mappings { list: vec![mapping] }), None);
    decoders.topic(TOPIC);
    let (key, ..) = event(Operation::Delete, TupleCell::Null);
    let tombstone = record(&key, None);
    let (_, known) = shape(&mut decoders, &tombstone, None);
    assert_eq!(decode(&mut decoders, known.unwrap(), &tombstone, None), (Ok(None), Vec::new()));
}

#[test]
fn deletes_are_passed_over_where_the_settings_say_so() {
    let mut decoders =
        Decoders::new(Arc::new(SinkSettings { deletes: false, ..SinkSettings::default() }), Arc::default(), None);
    decoders.topic(TOPIC);
    let (key, value, _) = event(Operation::Delete, TupleCell::Null);
    let deleted = record(&key, Some(&value));
    let (_, known) = shape(&mut decoders, &deleted, None);
    assert_eq!(decode(&mut decoders, known.unwrap(), &deleted, None).0, Ok(None));
    assert_eq!(shape(&mut decoders, &record(&key, None), None).1, Ok(Shape::Nothing));
}

/// The same change as Connect's JSON converter writes it, with schemas.
const JSON_KEY: &[u8] = br#"{"schema":{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}],"optional":false,"name":"p.public.t.Key"},"payload":{"id":5}}"#;

fn json_value(operation: &str, before: &str, after: &str) -> Vec<u8> {
    let row = r#"{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"},{"type":"string","optional":true,"field":"name"}],"optional":true,"name":"p.public.t.Value""#;
    format!(
        r#"{{"schema":{{"type":"struct","fields":[{row},"field":"before"}},{row},"field":"after"}},{{"type":"string","optional":false,"field":"op"}}],"optional":false,"name":"p.public.t.Envelope","version":2}},"payload":{{"before":{before},"after":{after},"op":"{operation}"}}}}"#
    )
    .into_bytes()
}

#[test]
fn json_with_schemas_is_read_without_a_registry() {
    let mut decoders = Decoders::default();
    decoders.topic(TOPIC);
    for (value, change) in [
        (json_value("c", "null", r#"{"id":5,"name":"n"}"#), Change::Upsert),
        (json_value("u", "null", r#"{"id":5,"name":"__debezium_unavailable_value"}"#), Change::Update),
        (json_value("d", r#"{"id":5,"name":null}"#, "null"), Change::Delete),
    ] {
        let record = record(JSON_KEY, Some(&value));
        let (needs, known) = shape(&mut decoders, &record, None);
        assert!(needs.iter().all(|need| matches!(need, Need::Plan { .. })), "{needs:?}");
        let known = known.unwrap();
        let Shape::Row { definition } = known else { panic!("no row") };
        assert_eq!(decode(&mut decoders, known, &record, None), (Ok(Some(change)), b"5".to_vec()));
        assert_eq!(decoders.key_text(0, definition, &record).as_deref(), Some("5"));
    }
    let tombstone = record(JSON_KEY, None);
    let (_, known) = shape(&mut decoders, &tombstone, None);
    assert!(matches!(known, Ok(Shape::Row { .. })));
    for (value, word) in [
        (br#"{"before":null,"after":{"id":5},"op":"c"}"#.to_vec(), "schemas.enable=true"),
        (json_value("c", "null", r#"{"name":"n"}"#), "after.id"),
        (b"\x01garbage".to_vec(), "0x01"),
        (b"{\"schema\":".to_vec(), "cut off"),
    ] {
        let record = record(JSON_KEY, Some(&value));
        let refused = match shape(&mut decoders, &record, None).1 {
            Ok(known) => decode(&mut decoders, known, &record, None).0.unwrap_err(),
            Err(refused) => refused,
        };
        assert!(refused.contains(word), "{refused}");
    }
}

#[test]
fn json_alone_is_read_as_the_targets_table_says_where_that_is_asked_for() {
    let settings = SinkSettings { json_of_target: true, ..SinkSettings::default() };
    let mut decoders = Decoders::new(Arc::new(settings), Arc::default(), None);
    decoders.topic(TOPIC);
    for (value, change) in [
        (
            r#"{"before":null,"after":{"id":5,"name":"n","big":null},"source":{"ts_ms":7},"op":"c","ts_ms":1}"#,
            Change::Upsert,
        ),
        (
            r#"{"before":null,"after":{"id":5,"name":"n","big":"__debezium_unavailable_value"},"source":{"ts_ms":7},"op":"u"}"#,
            Change::Update,
        ),
        (r#"{"before":{"id":5,"name":null,"big":null},"after":null,"source":{"ts_ms":7},"op":"d"}"#, Change::Delete),
    ] {
        let record = record(br#"{"id":5}"#, Some(value.as_bytes()));
        let (needs, known) = shape(&mut decoders, &record, None);
        assert!(needs.iter().all(|need| matches!(need, Need::Plan { .. } | Need::Described { .. })), "{needs:?}");
        assert_eq!(decode(&mut decoders, known.unwrap(), &record, None), (Ok(Some(change)), b"5".to_vec()));
    }
    assert_eq!(shape(&mut decoders, &record(br#"{"id":5}"#, None), None).1, Ok(Shape::Nothing));
    // A column that the target does not have is not lost in silence.
    let value = br#"{"before":null,"after":{"id":5,"name":"n","big":null,"extra":1},"source":{"ts_ms":7},"op":"c"}"#;
    let extended = record(br#"{"id":5}"#, Some(value));
    let known = shape(&mut decoders, &extended, None).1.unwrap();
    let refused = decode(&mut decoders, known, &extended, None).0.unwrap_err();
    assert!(refused.contains("after.extra"), "{refused}");
}

#[test]
fn our_records_go_by_their_header() {
    let mut decoders = Decoders::default();
    decoders.topic(TOPIC);
    let (key, value, header) = event(Operation::Update, TupleCell::Unchanged);
    let changed = record(&key, Some(&value));
    let (needs, known) = shape(&mut decoders, &changed, Some(&header));
    let expected = [
        Need::Definition { topic: 0, number: 1 },
        Need::Plan { topic: 0, definition: 1, route: 0 },
        Need::Schema(SchemaId::Id(VALUE_SCHEMA)),
    ];
    assert_eq!(needs, expected);
    assert_eq!(decode(&mut decoders, known.unwrap(), &changed, Some(&header)).0, Ok(Some(Change::Update)));
    assert_eq!(shape(&mut decoders, &record(&key, None), Some(&header)).1, Ok(Shape::Nothing));
    let (key, value, header) = event(Operation::Create, TupleCell::Unchanged);
    let lacking = record(&key, Some(&value));
    let (_, known) = shape(&mut decoders, &lacking, Some(&header));
    let refused = decode(&mut decoders, known.unwrap(), &lacking, Some(&header)).0.unwrap_err();
    assert!(refused.contains("lacks columns"), "{refused}");
}

#[test]
fn what_can_never_be_had_stops_the_record_until_tried_again() {
    let mut decoders = Decoders::default();
    decoders.topic(TOPIC);
    let (key, value, header) = event(Operation::Update, TupleCell::Null);
    let changed = record(&key, Some(&value));
    let need = Need::Definition { topic: 0, number: 1 };
    decoders.give_up(need, "gone".into());
    assert_eq!(decoders.shape(0, &changed, Some(&header)), Err(Obstacle::Bad("gone".into())));
    decoders.retry();
    assert_eq!(decoders.shape(0, &changed, Some(&header)), Err(Obstacle::Needs(need)));
    let broken = record(&key, Some(b"{"));
    assert!(matches!(decoders.shape(0, &broken, Some(&header)), Err(Obstacle::Bad(_))));
}
