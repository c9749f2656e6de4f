//! One captured change becomes its Kafka records: Debezium's key, envelope, tombstone and headers, and our position.

use rdkafka::message::Header as KafkaHeader;
use syncline_event::avro::encode::{RowChange, SourceInfo, TransactionBlock};
use syncline_event::header::{Header, Stamped};
use syncline_event::operation::Operation;
use syncline_event::partition::partition_for_key;
use syncline_event::position::Position;
use syncline_event::tuple::TupleCell;

use crate::adopted::Place;
use crate::captured::CapturedTable;
use crate::config::SkippedOperations;
use crate::error::ProducerError;
use crate::publish::{Publisher, Record};

/// Debezium's header on the delete of a key change: the new key as JSON.
const NEW_KEY_HEADER: &str = "__debezium.newkey";
/// Debezium's header on the create of a key change: the old key as JSON.
const OLD_KEY_HEADER: &str = "__debezium.oldkey";

/// The old row as the log gives it.
#[derive(Debug, Clone, Copy)]
pub enum OldRow<'a> {
    /// Not logged.
    None,
    /// Only the cells of the replica identity are real; the others are NULL in the log whatever they were.
    Key(&'a [TupleCell<'a>]),
    /// The whole row.
    Full(&'a [TupleCell<'a>]),
}

impl<'a> OldRow<'a> {
    /// As far as the log gives them.
    pub(crate) fn cells(self) -> Option<&'a [TupleCell<'a>]> {
        match self {
            Self::None => None,
            Self::Key(cells) | Self::Full(cells) => Some(cells),
        }
    }
}

/// A row change with cells in the order of the definition's columns.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// A row read by a snapshot, or an insert.
    New(Operation, &'a [TupleCell<'a>]),
    /// An update.
    Update(OldRow<'a>, &'a [TupleCell<'a>]),
    /// A delete.
    Delete(OldRow<'a>),
}

/// Buffers that live as long as the producer, so that an ordinary change allocates nothing of ours.
#[derive(Default)]
pub struct Emitter {
    key: Vec<u8>,
    value: Vec<u8>,
    header: Vec<u8>,
    json: Vec<u8>,
}

/// Where and when a change happened.
#[derive(Clone, Copy)]
pub struct Occasion<'a> {
    /// The position of the change's first record.
    pub position: Position,
    /// The source block.
    pub source: SourceInfo<'a>,
    /// The producer's clock, nanoseconds since 1970.
    pub now_ns: i64,
    /// Kinds of changes that are not published.
    pub skipped: SkippedOperations,
    /// Whether a record without a value follows a delete.
    pub tombstones: bool,
    /// The place of the change's first record in its transaction, where that is told.
    pub transaction: Option<TransactionBlock>,
    /// The change's stamp, where the database is a node of a topology.
    pub stamped: Option<&'a Stamped>,
}

impl Occasion<'_> {
    /// The change's place in the log.
    #[must_use]
    pub fn place(&self) -> Place {
        place(self.position, &self.source)
    }
}

/// The place of a record in the log.
#[must_use]
pub fn place(position: Position, source: &SourceInfo<'_>) -> Place {
    // Transactions' ids are unsigned and of 32 bits; a snapshot has none of its own.
    let transaction = source.tx_id.and_then(|id| u32::try_from(id).ok()).unwrap_or_default();
    Place { commit_lsn: position.lsn, transaction, lsn: source.lsn }
}

impl Emitter {
    /// Publishes a change. Gives the number of its events; a tombstone is none.
    ///
    /// # Errors
    ///
    /// A value that cannot be encoded, or Kafka. Not cancel-safe.
    pub async fn change(
        &mut self,
        publisher: &Publisher,
        table: &mut CapturedTable,
        at: &Occasion<'_>,
        change: Change<'_>,
    ) -> Result<u64, ProducerError> {
        match change {
            // Rows of a snapshot are no creates.
            Change::New(Operation::Create, _) if at.skipped.creates => return Ok(0),
            Change::New(operation, row) => self.create(publisher, table, at, operation, row, None).await?,
            Change::Delete(old) => {
                let Some(cells) = old.cells() else {
                    return Err(ProducerError::MissingOldRow { table: table.definition.qualified_name() });
                };
                if at.skipped.deletes {
                    return Ok(0);
                }
                self.delete(publisher, table, at, old, cells, None).await?;
            }
            Change::Update(old, new) => match old.cells() {
                Some(old_cells) if key_changed(table, old_cells, new) => {
                    let mut at = *at;
                    if !at.skipped.deletes {
                        self.delete(publisher, table, &at, old, old_cells, Some(new)).await?;
                        at.transaction = at.transaction.map(TransactionBlock::following);
                    }
                    if !at.skipped.creates {
                        self.create(publisher, table, &at, Operation::Create, new, Some(old_cells)).await?;
                    }
                    return Ok(u64::from(!at.skipped.deletes) + u64::from(!at.skipped.creates));
                }
                _ if at.skipped.updates => return Ok(0),
                _ => self.update(publisher, table, at, old, new).await?,
            },
        }
        Ok(1)
    }

    async fn create(
        &mut self,
        publisher: &Publisher,
        table: &mut CapturedTable,
        at: &Occasion<'_>,
        operation: Operation,
        row: &[TupleCell<'_>],
        old_key: Option<&[TupleCell<'_>]>,
    ) -> Result<(), ProducerError> {
        let sub = if old_key.is_some() { 2 } else { 0 };
        let change = RowChange {
            operation,
            before: None,
            before_is_key_only: false,
            after: Some(row),
            source: at.source,
            transaction: at.transaction,
            now_ns: at.now_ns,
        };
        let partition = self.encode(table, at, sub, row, &change)?;
        self.other_key(table, old_key)?;
        let headers = table.headers(&self.header, old_key.map(|_| json_header(OLD_KEY_HEADER, &self.json)));
        let record = Record { partition, key: Some(&self.key), value: Some(&self.value), headers };
        send(publisher, table, at, record).await?;
        Ok(())
    }

    async fn update(
        &mut self,
        publisher: &Publisher,
        table: &mut CapturedTable,
        at: &Occasion<'_>,
        old: OldRow<'_>,
        new: &[TupleCell<'_>],
    ) -> Result<(), ProducerError> {
        let change = RowChange {
            operation: Operation::Update,
            // The log has an old key where a column of the replica identity changed, which may have more than the key.
            before: old.cells(),
            before_is_key_only: matches!(old, OldRow::Key(_)),
            after: Some(new),
            source: at.source,
            transaction: at.transaction,
            now_ns: at.now_ns,
        };
        let partition = self.encode(table, at, 0, new, &change)?;
        let headers = table.headers(&self.header, None);
        let record = Record { partition, key: Some(&self.key), value: Some(&self.value), headers };
        send(publisher, table, at, record).await?;
        Ok(())
    }

    async fn delete(
        &mut self,
        publisher: &Publisher,
        table: &mut CapturedTable,
        at: &Occasion<'_>,
        old: OldRow<'_>,
        cells: &[TupleCell<'_>],
        new_key: Option<&[TupleCell<'_>]>,
    ) -> Result<(), ProducerError> {
        let change = RowChange {
            operation: Operation::Delete,
            before: Some(cells),
            before_is_key_only: matches!(old, OldRow::Key(_)),
            after: None,
            source: at.source,
            transaction: at.transaction,
            now_ns: at.now_ns,
        };
        let partition = self.encode(table, at, 0, cells, &change)?;
        self.other_key(table, new_key)?;
        let headers = table.headers(&self.header, new_key.map(|_| json_header(NEW_KEY_HEADER, &self.json)));
        let record = Record { partition, key: Some(&self.key), value: Some(&self.value), headers };
        send(publisher, table, at, record).await?;
        if at.tombstones {
            let position = Position { sub: 1, ..at.position };
            self.header.clear();
            Header::new(position, table.definition.number).encode(&mut self.header);
            let headers = table.headers(&self.header, new_key.map(|_| json_header(NEW_KEY_HEADER, &self.json)));
            let record = Record { partition, key: Some(&self.key), value: None, headers };
            send(publisher, table, at, record).await?;
        }
        Ok(())
    }

    /// Fills `key`, `value` and `header`; gives the partition.
    fn encode(
        &mut self,
        table: &CapturedTable,
        at: &Occasion<'_>,
        sub: u8,
        key_of: &[TupleCell<'_>],
        change: &RowChange<'_>,
    ) -> Result<u32, ProducerError> {
        let failed = |error| ProducerError::encode(&table.definition.qualified_name(), &error);
        let mut header = Header::new(Position { sub, ..at.position }, table.definition.number);
        self.key.clear();
        table.encoder.key(key_of, &mut self.key).map_err(failed)?;
        self.value.clear();
        table.encoder.envelope(change, &mut self.value, &mut header).map_err(failed)?;
        header.filling = table.filling && change.operation == Operation::Update && !header.unchanged.is_empty();
        self.header.clear();
        header.encode_with(at.stamped, &mut self.header);
        Ok(partition(&mut self.key, table))
    }

    /// Fills `json` with the other key of a key change.
    fn other_key(&mut self, table: &CapturedTable, row: Option<&[TupleCell<'_>]>) -> Result<(), ProducerError> {
        let Some(row) = row else { return Ok(()) };
        self.json.clear();
        let encoded = table.encoder.key_json(row, &mut self.json);
        encoded.map_err(|error| ProducerError::encode(&table.definition.qualified_name(), &error))
    }
}

fn json_header<'a>(key: &'a str, json: &'a [u8]) -> KafkaHeader<'a, &'a [u8]> {
    KafkaHeader { key, value: Some(json) }
}

/// Publishes a record, unless another producer has done so before us.
async fn send(
    publisher: &Publisher,
    table: &mut CapturedTable,
    at: &Occasion<'_>,
    record: Record<'_>,
) -> Result<(), ProducerError> {
    if table.tails.hold(record.partition, at.place()) {
        return Ok(());
    }
    publisher.send(&mut table.topic, record).await?;
    Ok(())
}

/// The key's partition, as if it had the topic's first key schema id: the id is part of the key's bytes, and a row
/// must not move to another partition because its key's schema was registered anew.
pub fn partition(key: &mut [u8], table: &CapturedTable) -> u32 {
    if table.encoder.is_json() {
        return partition_for_key(key, table.topic.partitions());
    }
    let id: [u8; 4] = key[1..5].try_into().expect("an encoded key begins with a byte and its schema id");
    let first = table.first_key_schema.to_be_bytes();
    if id == first {
        return partition_for_key(key, table.topic.partitions());
    }
    key[1..5].copy_from_slice(&first);
    let partition = partition_for_key(key, table.topic.partitions());
    key[1..5].copy_from_slice(&id);
    partition
}

/// Whether an update changes the row's key.
pub(crate) fn key_changed(table: &CapturedTable, old: &[TupleCell<'_>], new: &[TupleCell<'_>]) -> bool {
    table.definition.key.iter().any(|column| match (old[*column], new[*column]) {
        (TupleCell::Text(old), TupleCell::Text(new)) => old != new,
        // An unchanged TOASTed key column is what its name says.
        _ => false,
    })
}
