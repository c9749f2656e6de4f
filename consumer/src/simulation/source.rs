//! A source and its producer: what Kafka's partitions hold, and what the table is in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use syncline_event::avro::encode::{ConnectorInfo, RowChange, SnapshotMarker, SourceInfo, TableEncoder};
use syncline_event::avro::schema::{envelope_schema, key_schema};
use syncline_event::handling::Handling;
use syncline_event::header::{Barrier, BarrierKind, Header};
use syncline_event::operation::Operation;
use syncline_event::position::{Phase, Position};
use syncline_event::table::{Column, ColumnType, ReplicaIdentity, TableDefinition, TypeKind};
use syncline_event::tuple::TupleCell;

use super::memory::Row;
use super::world::Chaos;

pub(crate) const TOPIC: &str = "p.public.t";
pub(super) const PARTITIONS: i32 = 3;
pub(crate) const KEY_SCHEMA: u32 = 1;
pub(crate) const VALUE_SCHEMA: u32 = 2;

/// xorshift: a history is its seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// A record in Kafka.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) header: Vec<u8>,
}

/// What one change puts into Kafka.
#[derive(Clone)]
struct Step {
    /// A change; `None` is a truncate.
    change: Option<Change>,
    number: u64,
}

#[derive(Clone)]
struct Change {
    id: u64,
    operation: Operation,
    /// Name, big text (`None`: unchanged), sequence.
    after: Option<(String, Option<String>)>,
}

pub(super) struct Source {
    pub(super) logs: Vec<Vec<Stored>>,
    /// The table in the end, in the target's encoding.
    pub(super) rows: BTreeMap<Vec<u8>, Row>,
    pub(super) definition: Arc<TableDefinition>,
}

struct Producer {
    random: Random,
    chaos: Chaos,
    encoder: TableEncoder,
    logs: Vec<Vec<Stored>>,
    table: BTreeMap<u64, (String, String)>,
    epoch: u32,
    /// Steps of this epoch, which a restarted producer repeats.
    steps: Vec<Step>,
    /// Records of epochs that are over, which a zombie sends.
    old: Vec<(usize, Stored)>,
    numbers: u64,
}

fn column(name: &str, oid: u32, type_name: &str, nullable: bool) -> Column {
    Column {
        name: name.into(),
        field: name.into(),
        column_type: ColumnType {
            oid,
            name: type_name.into(),
            schema: "pg_catalog".into(),
            modifier: -1,
            format: type_name.into(),
            kind: TypeKind::Base,
            domain: None,
        },
        nullable,
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    }
}

pub(crate) fn definition() -> TableDefinition {
    TableDefinition {
        topic: TOPIC.into(),
        number: 1,
        schema: "public".into(),
        table: "t".into(),
        columns: vec![
            column("id", 20, "int8", false),
            column("name", 25, "text", true),
            column("big", 25, "text", true),
        ],
        key: vec![0],
        replica_identity: ReplicaIdentity::Default,
        handling: Handling::default(),
    }
}

pub(crate) fn schema(id: u32) -> String {
    if id == KEY_SCHEMA { key_schema(&definition()) } else { envelope_schema(&definition()) }
}

pub(crate) const SOURCE: SourceInfo<'_> = SourceInfo {
    ts_us: 1,
    snapshot: SnapshotMarker::False,
    sequence: (None, 1),
    tx_id: Some(1),
    lsn: 1,
    origin: None,
    origin_lsn: None,
};

/// A random source, by its seed.
pub(super) fn source(seed: u64, chaos: Chaos) -> Source {
    let definition = Arc::new(definition());
    let connector = ConnectorInfo { version: "3.6.0.Final".into(), name: "p".into(), db: "d".into() };
    let encoder = TableEncoder::new(Arc::clone(&definition), &connector, KEY_SCHEMA, VALUE_SCHEMA).unwrap();
    let mut producer = Producer {
        random: Random::new(seed),
        chaos,
        encoder,
        logs: vec![Vec::new(); PARTITIONS as usize],
        table: BTreeMap::new(),
        epoch: 1,
        steps: Vec::new(),
        old: Vec::new(),
        numbers: 0,
    };
    producer.mark(BarrierKind::Epoch, Position::opening(1), usize::MAX);
    for _ in 0..producer.random.below(150) + 10 {
        match producer.random.below(40) {
            0 if chaos.barriers => producer.truncate(),
            1 | 2 if chaos.repeats => producer.restart(),
            3 if chaos.repeats && chaos.barriers => producer.open_epoch(),
            4 if chaos.repeats => producer.wake_zombie(),
            _ => producer.change(),
        }
    }
    let cell = |text: &str| Some(text.as_bytes().to_vec());
    let rows = producer.table.iter().map(|(id, (name, big))| {
        let id = id.to_string();
        (id.clone().into_bytes(), vec![cell(&id), cell(name), cell(big)])
    });
    Source { rows: rows.collect(), logs: producer.logs, definition }
}

impl Producer {
    fn position(&self, number: u64) -> Position {
        Position { epoch: self.epoch, phase: Phase::Stream, lsn: 100 + number / 4, number: number % 4 + 1, sub: 0 }
    }

    /// A random change of the table, sent.
    fn change(&mut self) {
        self.numbers += 1;
        let number = self.numbers;
        let id = self.random.below(8);
        let name = format!("name {number}");
        let big = format!("big {number}");
        let (operation, after) = match (self.table.get(&id).cloned(), self.random.below(10)) {
            (None, _) => (Operation::Create, Some((name, Some(big)))),
            (Some(_), 0..=2) => (Operation::Delete, None),
            (Some(_), 3..=6) => (Operation::Update, Some((name, None))),
            (Some(_), _) => (Operation::Update, Some((name, Some(big)))),
        };
        match &after {
            None => drop(self.table.remove(&id)),
            Some((name, big)) => {
                let kept = self.table.get(&id).map(|(_, big)| big.clone()).unwrap_or_default();
                self.table.insert(id, (name.clone(), big.clone().unwrap_or(kept)));
            }
        }
        let step = Step { change: Some(Change { id, operation, after }), number };
        self.send(&step, usize::MAX);
        self.steps.push(step);
    }

    fn truncate(&mut self) {
        self.numbers += 1;
        self.table.clear();
        let step = Step { change: None, number: self.numbers };
        self.send(&step, usize::MAX);
        self.steps.push(step);
    }

    /// A producer that dies, perhaps in the middle of a truncate's markers, and repeats from its checkpoint.
    fn restart(&mut self) {
        if self.chaos.barriers && self.random.below(3) == 0 {
            self.truncate_in_part();
        }
        let back = self.random.below(self.steps.len() as u64 + 1) as usize;
        let from = self.steps.len() - back;
        for step in self.steps.clone().drain(from..) {
            self.send(&step, usize::MAX);
        }
    }

    /// Markers of a truncate reach some partitions only; the restart that follows repeats it.
    fn truncate_in_part(&mut self) {
        self.numbers += 1;
        self.table.clear();
        let step = Step { change: None, number: self.numbers };
        let reached = self.random.below(PARTITIONS as u64) as usize;
        self.send(&step, reached);
        self.send(&step, usize::MAX);
        self.steps.push(step);
    }

    /// A new epoch, by a snapshot or because the source's timeline changed; perhaps while a truncate has not reached
    /// all partitions.
    fn open_epoch(&mut self) {
        let mut unsent = None;
        if self.random.below(2) == 0 {
            self.numbers += 1;
            self.table.clear();
            let step = Step { change: None, number: self.numbers };
            let reached = self.random.below(PARTITIONS as u64) as usize;
            self.send(&step, reached);
            unsent = Some(step);
        }
        for step in std::mem::take(&mut self.steps) {
            self.old.extend(self.records(&step));
        }
        self.epoch += 1;
        if self.random.below(2) == 0 {
            self.mark(BarrierKind::Snapshot, Position::opening(self.epoch), usize::MAX);
            for (number, (id, (name, big))) in (1..).zip(self.table.clone()) {
                let after = Some((name, Some(big)));
                let change = Change { id, operation: Operation::Read, after };
                let position = Position { epoch: self.epoch, phase: Phase::Snapshot, lsn: 1, number, sub: 0 };
                let (partition, record) = self.encode(&change, position);
                self.logs[partition].push(record);
            }
        } else {
            self.mark(BarrierKind::Epoch, Position::opening(self.epoch), usize::MAX);
            if let Some(step) = unsent {
                self.send(&step, usize::MAX);
                self.steps.push(step);
            }
        }
    }

    fn wake_zombie(&mut self) {
        for _ in 0..self.random.below(10) {
            if self.old.is_empty() {
                return;
            }
            let index = self.random.below(self.old.len() as u64) as usize;
            let (partition, record) = self.old[index].clone();
            self.logs[partition].push(record);
        }
    }

    /// Puts a step into Kafka; its markers into the first `reached` partitions only.
    fn send(&mut self, step: &Step, reached: usize) {
        for (partition, record) in self.records(step) {
            if step.change.is_some() || partition < reached {
                self.logs[partition].push(record);
            }
        }
    }

    fn records(&self, step: &Step) -> Vec<(usize, Stored)> {
        let position = self.position(step.number);
        match &step.change {
            Some(change) => {
                let (partition, record) = self.encode(change, position);
                let mut records = vec![(partition, record.clone())];
                if change.operation == Operation::Delete {
                    let mut header = Vec::new();
                    Header::new(Position { sub: 1, ..position }, 1).encode(&mut header);
                    records.push((partition, Stored { value: None, header, ..record }));
                }
                records
            }
            None => {
                let record = self.marker(BarrierKind::Truncate, position);
                (0..PARTITIONS as usize).map(|partition| (partition, record.clone())).collect()
            }
        }
    }

    fn mark(&mut self, kind: BarrierKind, position: Position, reached: usize) {
        let record = self.marker(kind, position);
        for log in self.logs.iter_mut().take(reached) {
            log.push(record.clone());
        }
    }

    fn marker(&self, kind: BarrierKind, position: Position) -> Stored {
        let mut header = Header::new(position, 1);
        header.barrier = Some(Barrier { kind, partitions: PARTITIONS as u32 });
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        Stored { header: bytes, ..Stored::default() }
    }

    fn encode(&self, change: &Change, position: Position) -> (usize, Stored) {
        let id = change.id.to_string();
        let old = [TupleCell::Text(id.as_bytes()), TupleCell::Null, TupleCell::Null];
        let new = change.after.as_ref().map(|(name, big)| {
            let big = big.as_ref().map_or(TupleCell::Unchanged, |big| TupleCell::Text(big.as_bytes()));
            [TupleCell::Text(id.as_bytes()), TupleCell::Text(name.as_bytes()), big]
        });
        let row = RowChange {
            operation: change.operation,
            before: (change.operation == Operation::Delete).then_some(&old[..]),
            before_is_key_only: true,
            after: new.as_ref().map(|new| &new[..]),
            source: SOURCE,
            transaction: None,
            now_ns: 0,
        };
        let (mut key, mut value, mut header_bytes) = (Vec::new(), Vec::new(), Vec::new());
        let mut header = Header::new(position, 1);
        self.encoder.key(&old, &mut key).unwrap();
        self.encoder.envelope(&row, &mut value, &mut header).unwrap();
        header.encode(&mut header_bytes);
        let partition = (change.id % PARTITIONS as u64) as usize;
        (partition, Stored { key: Some(key), value: Some(value), header: header_bytes })
    }
}
