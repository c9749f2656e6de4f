//! What a mapping costs an event, on top of the way without one: the consumer's own path from a record to a row of a
//! batch, without Kafka and without a target. A measurement, not a test; `BENCH_EVENTS` sets its size.
#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use syncline_consumer::batch::Limits;
use syncline_consumer::chunk::{Chunk, NamedSchemas, Record};
use syncline_consumer::decode::{Decoders, Need};
use syncline_consumer::draft::{Draft, Slice, Stop};
use syncline_consumer::partition::Partition;
use syncline_consumer::rows::CellForm;
use syncline_consumer::targets::{PartitionKey, Progress, TablePlan};
use syncline_event::avro::encode::{ConnectorInfo, RowChange, SnapshotMarker, SourceInfo, TableEncoder};
use syncline_event::avro::frame::SchemaId;
use syncline_event::avro::schema::{envelope_schema, key_schema};
use syncline_event::avro::value::Value;
use syncline_event::handling::Handling;
use syncline_event::header::Header;
use syncline_event::operation::Operation;
use syncline_event::position::{Phase, Position};
use syncline_event::table::{Column, ReplicaIdentity, TableDefinition};
use syncline_event::tuple::TupleCell;
use syncline_transforms::mapping::{Mapping, Mappings, SourceTable, Written};
use syncline_transforms::sql_type::SqlType;

const TOPIC: &str = "p.public.t";
const KEY_SCHEMA: u32 = 1;
const VALUE_SCHEMA: u32 = 2;
/// Records of one draft, drafted again and again.
const RECORDS: usize = 2_000;
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let events: usize =
        std::env::var("BENCH_EVENTS").map_or(Ok(2_000_000), |text| text.parse()).context("BENCH_EVENTS")?;
    let (plain, mapped) = (Mappings::default(), Mappings { list: vec![mapping()?] });
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(run(plain.clone(), events / ROUNDS)?);
        with.push(run(mapped.clone(), events / ROUNDS)?);
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    };
    let (without, with) = (median(&mut without), median(&mut with));
    println!("ten columns, two expressions, one filter; {events} events, median of {ROUNDS} rounds");
    println!("as it is  {without:8.0} ns an event");
    println!("mapped    {with:8.0} ns an event, {:.0} more", with - without);
    Ok(())
}

fn mapping() -> Result<Mapping> {
    let written = |text: &str| Written { value: text.to_owned(), line: 0 };
    let source = SourceTable::parse("t").map_err(|fault| anyhow!("{fault}"))?;
    let renamed = ["id", "a", "b", "c", "d", "e", "f", "g"].map(|name| (written(name), format!("{name}_of_t")));
    Ok(Mapping {
        target_table: Some(written("mapped")),
        columns: renamed.into(),
        exclude_columns: vec![written("h"), written("i")],
        calculate: vec![
            (written("sum"), "a + b * 2".into()),
            (written("kind"), "CASE WHEN c > 5 THEN d ELSE 0 END".into()),
        ],
        filters: vec![written("a >= 0")],
        ..Mapping::new(Written { value: source, line: 0 })
    })
}

/// Ten columns: seven integers, a double, a boolean, a text.
fn definition() -> TableDefinition {
    let column = |name: &str, sql_type: SqlType| Column {
        name: name.to_owned(),
        field: name.to_owned(),
        column_type: sql_type.column_type(-1),
        nullable: name != "id",
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    };
    let types = [SqlType::Int8; 7].into_iter().chain([SqlType::Float8, SqlType::Bool, SqlType::Text]);
    let names = ["id", "a", "b", "c", "d", "e", "f", "g", "h", "i"];
    TableDefinition {
        topic: TOPIC.into(),
        number: 1,
        schema: "public".into(),
        table: "t".into(),
        columns: names.into_iter().zip(types).map(|(name, sql_type)| column(name, sql_type)).collect(),
        key: vec![0],
        replica_identity: ReplicaIdentity::Default,
        handling: Handling::default(),
    }
}

/// Nanoseconds an event.
fn run(mappings: Mappings, events: usize) -> Result<f64> {
    let definition = Arc::new(definition());
    let mut decoders = Decoders::new(Arc::default(), Arc::new(mappings), None);
    let topic = decoders.topic(TOPIC);
    let key = PartitionKey {
        group: "g".into(),
        cluster_id: "c".into(),
        topic: TOPIC.into(),
        topic_id: "i".into(),
        partition: 0,
    };
    // Its epoch is open.
    let before = Position { epoch: 1, phase: Phase::Stream, lsn: 0, number: 0, sub: 0 };
    let mut partition = Partition::new(key, topic, &Progress { position: Some(before), ..Progress::untouched() });
    partition.enqueue(chunk(&definition)?);
    let mut draft = Draft::default();
    let slice = Slice { limits: Limits { changes: usize::MAX, bytes: 1 << 30 }, records: RECORDS };
    let mut seconds = 0.0;
    let mut drafted = 0;
    // The first rounds meet the needs and give the buffers their sizes.
    for round in 0..events / RECORDS + 2 {
        let begin = Instant::now();
        loop {
            match draft.extend(&mut partition, &mut decoders, slice) {
                Stop::Needs(need) => meet(&mut decoders, need, &definition)?,
                Stop::Slice => {}
                Stop::Partition | Stop::Full => break,
            }
        }
        if round >= 2 {
            seconds += begin.elapsed().as_secs_f64();
            drafted += RECORDS;
        }
        ensure!(partition.due_failure().is_none() && partition.peek().is_none(), "the records were not drafted");
        draft.clear();
        partition.reset();
    }
    Ok(seconds * 1e9 / drafted as f64)
}

fn chunk(definition: &Arc<TableDefinition>) -> Result<Chunk> {
    let connector = ConnectorInfo { version: "3.6.0.Final".into(), name: "p".into(), db: "d".into() };
    let encoder = TableEncoder::new(Arc::clone(definition), &connector, KEY_SCHEMA, VALUE_SCHEMA)?;
    let mut chunk = Chunk::new(Arc::default());
    for number in 0..RECORDS {
        let texts: Vec<String> = (0..7).map(|column| (number * 31 + column).to_string()).collect();
        let mut row: Vec<TupleCell<'_>> = texts.iter().map(|text| TupleCell::Text(text.as_bytes())).collect();
        row.extend([
            TupleCell::Text(b"2.5"),
            TupleCell::Text(b"t"),
            TupleCell::Text(b"some text that is not too short"),
        ]);
        let position = Position { epoch: 1, phase: Phase::Stream, lsn: 1, number: number as u64 + 1, sub: 0 };
        let source = SourceInfo {
            ts_us: 1,
            snapshot: SnapshotMarker::False,
            sequence: (None, 1),
            tx_id: Some(1),
            lsn: 1,
            origin: None,
            origin_lsn: None,
        };
        let change = RowChange {
            operation: Operation::Update,
            before: None,
            before_is_key_only: false,
            after: Some(&row),
            source,
            transaction: None,
            now_ns: 0,
        };
        let (mut key, mut value, mut header_bytes) = (Vec::new(), Vec::new(), Vec::new());
        let mut header = Header::new(position, 1);
        encoder.key(&row, &mut key)?;
        encoder.envelope(&change, &mut value, &mut header)?;
        header.encode(&mut header_bytes);
        chunk.push(Record {
            offset: number as i64,
            key: Some(&key),
            value: Some(&value),
            header: Some(&header_bytes),
            named: Ok(NamedSchemas::default()),
        });
    }
    Ok(chunk)
}

fn meet(decoders: &mut Decoders, need: Need, definition: &Arc<TableDefinition>) -> Result<()> {
    match need {
        Need::Schema(id) => {
            let key = id == SchemaId::Id(KEY_SCHEMA);
            let text = if key { key_schema(definition) } else { envelope_schema(definition) };
            decoders.add_schema(id, text.into());
        }
        Need::Definition { topic, number } => decoders.add_definition(topic, number, Arc::clone(definition)),
        Need::Plan { topic, definition, route } => {
            let table = decoders.routed(topic, definition, route).context("a route that is not there")?;
            let plan = Arc::new(Plan(Arc::clone(table)));
            decoders.add_plan(topic, route, plan);
        }
        Need::ValueSchema { .. } | Need::Described { .. } => anyhow::bail!("{need:?} is not needed here"),
    }
    Ok(())
}

/// A target that takes values in eight bytes, and texts as they are.
struct Plan(Arc<TableDefinition>);

impl TablePlan for Plan {
    fn definition(&self) -> &Arc<TableDefinition> {
        &self.0
    }

    fn encode(&self, _: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<CellForm, String> {
        match value {
            Value::Null => return Ok(CellForm::Null),
            Value::Unknown => return Ok(CellForm::Unknown),
            Value::Integer(number) => out.extend_from_slice(&number.to_be_bytes()),
            Value::Float64(number) => out.extend_from_slice(&number.to_be_bytes()),
            Value::Boolean(truth) => out.push(u8::from(*truth)),
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            _ => return Err("not in this measurement".into()),
        }
        Ok(CellForm::Written)
    }

    fn encode_key(&self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<CellForm, String> {
        self.encode(column, value, out)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
