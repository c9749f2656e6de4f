//! Where changes are written. A target decides nothing: it is told what to write and says what became of it.
//!
//! To add one: a folder here with the same files as `postgres/`, a `mod` line, a variant and a match arm where the
//! configuration opens it, and a line in the conformance suite.

pub mod postgres;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use syncline_event::avro::value::Value;
use syncline_event::header::BarrierKind;
use syncline_event::position::Position;
use syncline_event::stamp::{Seen, Stamp};
use syncline_event::table::TableDefinition;
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::row::{ConflictType, Operation, Version};

use crate::rows::{CellForm, Rows};

/// A partition of a topic as a target remembers it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The consumer group.
    pub group: String,
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's id: a topic that was deleted and created again has another.
    pub topic_id: String,
    /// The partition.
    pub partition: i32,
}

/// A row of `_syncline.progress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The offset to read next.
    pub next_offset: i64,
    /// The position of the last record of ours that was applied; `None` before the first, and for records that are
    /// not ours.
    pub position: Option<Position>,
    /// The marker the partition waits at: nothing behind it may be applied until the barrier is released.
    pub waits_for: Option<Position>,
    /// Whether an operator has to act before the partition goes on, and why.
    pub stopped: Option<String>,
}

impl Progress {
    /// Of a partition of which nothing has been applied.
    #[must_use]
    pub fn untouched() -> Self {
        Self { next_offset: 0, position: None, waits_for: None, stopped: None }
    }
}

/// What a target promises; compared with the topology at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarantees {
    /// Rows and progress move in one transaction: each change counts exactly once.
    pub exactly_once: bool,
    /// What each row has been through is kept with it, and its own writers are reckoned with: the target can be a node
    /// among several that are written to.
    pub resolves_conflicts: bool,
}

impl Guarantees {
    /// What the target lacks to be a node of a topology of several writable databases.
    #[must_use]
    pub fn missing_of_a_node(self) -> Option<&'static str> {
        if !self.exactly_once {
            return Some("it cannot move rows and progress in one transaction, so that a change could count twice");
        }
        (!self.resolves_conflicts)
            .then_some("it cannot tell its own writers' changes from those that were applied to it")
    }
}

/// One target database. Opened once; cheap to share.
#[async_trait]
pub trait Target: Send + Sync {
    /// What the target promises.
    fn guarantees(&self) -> Guarantees;

    /// Creates or upgrades the bookkeeping (`_syncline`); repeating it is harmless.
    ///
    /// # Errors
    ///
    /// Unreachable, not allowed, or laid out by a newer version.
    async fn prepare(&self) -> Result<(), TargetError>;

    /// Housekeeping that is due from time to time: of a node, the days of its log of conflicts. Repeating it is harmless.
    ///
    /// # Errors
    ///
    /// Unreachable or refused; nothing else depends on it.
    async fn maintain(&self) -> Result<(), TargetError>;

    /// How many conflicts between nodes were written down within a while until now.
    ///
    /// # Errors
    ///
    /// Unreachable or refused; nothing else depends on it.
    async fn conflicts_since(&self, window: Duration) -> Result<u64, TargetError>;

    /// Opens a writer: one connection, one transaction at a time.
    ///
    /// # Errors
    ///
    /// Unreachable or refused.
    async fn writer(&self) -> Result<Box<dyn Writer>, TargetError>;
}

/// One connection to a target. Not cancel-safe: a dropped call leaves the connection in an unknown state, so the
/// writer must be dropped too.
#[async_trait]
pub trait Writer: Send {
    /// Reads the partition's progress, after inserting a row at offset 0 where there is none.
    ///
    /// The flag is true where the row was inserted by this call.
    async fn progress(&mut self, partition: &PartitionKey) -> Result<(Progress, bool), TargetError>;

    /// Every progress row of the topic's name in the group and cluster, whatever its topic id, in no order. Inserts
    /// none. A row under another id tells that the topic was deleted and created again; a row of another partition,
    /// how far another member has come.
    async fn topic_progress(
        &mut self,
        group: &str,
        cluster_id: &str,
        topic: &str,
    ) -> Result<Vec<(PartitionKey, Progress)>, TargetError>;

    /// Compares the target's table with the definition and answers how rows of it are written. Changes nothing: what
    /// the table lacks (the table itself, a new nullable column) is made in the transaction of the first batch that
    /// uses the plan.
    ///
    /// # Errors
    ///
    /// [`TargetError`] of class `BadRecord` where the table does not fit and may not be made to: a changed type, a
    /// further unique index, a foreign key, a missing privilege.
    async fn plan(&mut self, definition: &Arc<TableDefinition>) -> Result<Arc<dyn TablePlan>, TargetError>;

    /// A definition of the target's own table, for records of a topic that do not tell its columns; `None` where there
    /// is no table. Its number is 0.
    ///
    /// # Errors
    ///
    /// [`TargetError`] of class `BadRecord` where the table has no primary key.
    async fn describe(
        &mut self,
        topic: &str,
        schema: &str,
        table: &str,
    ) -> Result<Option<TableDefinition>, TargetError>;

    /// Writes a batch in one transaction: first the progress moves, then the rows, then the barrier.
    ///
    /// # Errors
    ///
    /// An error means nothing of the batch is applied, or, where the connection broke during the commit, that it is
    /// not known: read the progress again before trying again.
    async fn write(&mut self, batch: &Batch<'_>) -> Result<Written, TargetError>;

    /// Settles what waits of some partitions for changes of this node, as far as those have come by. What still waits is
    /// counted in the answer.
    ///
    /// # Errors
    ///
    /// As for [`Writer::write`].
    async fn settle(&mut self, partitions: &[PartitionKey]) -> Result<Contested, TargetError>;

    /// How many records of the group wait for changes of this node, of whichever member's partitions.
    ///
    /// # Errors
    ///
    /// The target is away.
    async fn waiting(&mut self, group: &str, cluster_id: &str) -> Result<u64, TargetError>;

    /// Whether the barrier at `position` of the topic has been released (or dropped).
    async fn barrier_released(&mut self, partition: &PartitionKey, position: Position) -> Result<bool, TargetError>;

    /// Notes that a partition stopped and why, or, with `None`, that it runs again.
    async fn note_stop(&mut self, partition: &PartitionKey, reason: Option<&str>) -> Result<(), TargetError>;
}

/// How the rows of one definition are written into one target table.
pub trait TablePlan: Send + Sync {
    /// The definition the plan was made for.
    fn definition(&self) -> &Arc<TableDefinition>;

    /// Appends a value of a column (index into the definition) in the target's encoding.
    ///
    /// # Errors
    ///
    /// The value does not fit the target's column. The text names no value.
    fn encode(&self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<CellForm, String>;

    /// Appends a value of a key column so that equal keys have equal bytes (a numeric 1.50 is 1.5).
    ///
    /// # Errors
    ///
    /// As for [`TablePlan::encode`].
    fn encode_key(&self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<CellForm, String>;

    /// For the target that made it.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// What one transaction does.
pub struct Batch<'a> {
    /// Every partition whose records are in the batch, with the move of its row.
    pub moves: &'a [Move],
    /// Rows by table. A table that several topics are written to occurs once for each.
    pub tables: &'a [TableBatch],
    /// Markers that partitions of `moves` arrived at, behind all their rows of the batch.
    pub arrivals: &'a [Arrival],
    /// Markers of nodes' fences, each partition's in their order.
    pub fences: &'a [FenceArrival],
}

/// The compare-and-swap of a progress row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Whose row.
    pub partition: PartitionKey,
    /// `next_offset` as it must be now.
    pub from: i64,
    /// `next_offset` from now on.
    pub to: i64,
    /// The position of the last record, if it was ours.
    pub position: Option<Position>,
    /// The target table for the view `_sync_metadata`, `schema.table`.
    pub table: String,
    /// Records applied, for the view.
    pub records: u64,
    /// The key of the last record in printable form, for the view.
    pub last_key: Option<String>,
}

/// The rows of one table in one batch: coalesced, so a key occurs in `deletes` at most once and in one of `upserts`
/// and `updates` at most once. Deletes go first. Sorted by key.
pub struct TableBatch {
    /// How to write them.
    pub plan: Arc<dyn TablePlan>,
    /// All rows, as wide as the definition.
    pub rows: Rows,
    /// Rows (indexes) of which only the key cells count, in key order of the definition.
    pub deletes: Vec<u32>,
    /// Rows to insert, or to overwrite where the key is there.
    pub upserts: Vec<u32>,
    /// Rows with unknown cells: an UPDATE of the known ones. A missing row is an error.
    pub updates: Vec<u32>,
    /// The same of rows that may be missing: those that are, an incremental snapshot brings later.
    pub fills: Vec<u32>,
    /// In a topology of several writable nodes, instead of the four above.
    pub contest: Contest,
}

/// Changes of rows that other nodes change, too, in the order of their records.
#[derive(Debug, Default)]
pub struct Contest {
    /// The changes.
    pub changes: Vec<Contender>,
    /// Their keys, as [`TablePlan::encode_key`] writes them.
    pub keys: Vec<u8>,
}

/// A change that has to be compared with what is known of its row.
#[derive(Debug, Clone)]
pub struct Contender {
    /// What it does.
    pub operation: Operation,
    /// The new row, of a delete the old one; an index into [`TableBatch::rows`].
    pub row: u32,
    /// The old row of an update.
    pub old: Option<u32>,
    /// Its key in [`Contest::keys`].
    pub key: Range<usize>,
    /// When and where it was made, and what had been seen there.
    pub version: Version,
    /// Its transaction's id, as the row's `xmin` shows it; 0 for a snapshot's rows.
    pub transaction: u32,
    /// Whether this node has made it: the row has it already.
    pub own: bool,
    /// Whose record it is.
    pub partition: PartitionKey,
}

/// A marker of a fence: everything that its node committed before it asked has come by in this partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceArrival {
    /// The fence, by its node's number.
    pub id: u64,
    /// The partition of the node's topic.
    pub partition: PartitionKey,
    /// How many partitions the topic has.
    pub partitions: u32,
    /// What all changes behind it have seen of other nodes, where it says so.
    pub seen: Option<Seen>,
}

/// A partition's arrival at a marker.
#[derive(Clone)]
pub struct Arrival {
    /// The partition.
    pub partition: PartitionKey,
    /// The marker.
    pub position: Position,
    /// What the marker is about; `Epoch` markers are no arrivals.
    pub kind: BarrierKind,
    /// Partitions of the topic.
    pub partitions: u32,
    /// The tables to clear, where the kind says so.
    pub clears: Vec<Clearing>,
}

/// A table whose rows a barrier takes away.
#[derive(Clone)]
pub struct Clearing {
    /// The table.
    pub plan: Arc<dyn TablePlan>,
    /// What becomes of its rows.
    pub how: Clear,
}

/// What becomes of the rows of a table that is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// They go.
    Delete,
    /// They stay, and those that hold NULL in this column (index into the definition) get the time.
    Mark(usize),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Committed. For each arrival of the batch, whether the barrier is released.
    Applied {
        /// In the order of [`Batch::arrivals`].
        released: Vec<bool>,
        /// What was found between nodes.
        contested: Contested,
    },
    /// Rolled back: at least one progress row was not where it was expected, so someone else owns a partition.
    Fenced,
}

impl Written {
    /// Committed without anything to compare.
    #[must_use]
    pub fn released(released: Vec<bool>) -> Self {
        Self::Applied { released, contested: Contested::default() }
    }
}

/// What came of comparing changes of several nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contested {
    /// Conflicts by table and type.
    pub conflicts: BTreeMap<(String, ConflictType), u64>,
    /// Records that wait for changes of this node to come by.
    pub set_aside: u64,
    /// The latest stamp among other nodes' changes.
    pub latest: Option<Stamp>,
}

impl Contested {
    /// With what came of a later transaction.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        for (of, count) in later.conflicts {
            *self.conflicts.entry(of).or_default() += count;
        }
        Self { set_aside: later.set_aside, latest: self.latest.max(later.latest), ..self }
    }
}

/// A target's error, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TargetError {
    /// Transient, bad record or fatal.
    pub class: ErrorClass,
    /// What happened, to which table, and what to do. No values, no secrets.
    pub message: String,
    /// The table (index into [`Batch::tables`]) the error is about, where it is known.
    pub table: Option<usize>,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}
