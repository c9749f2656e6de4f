//! A node of a topology of several writable databases: which changes are its own, and their stamps.
//!
//! Everything here follows from the log alone, message by message, so a life that goes on from a checkpoint gives each
//! change the stamp that an earlier life gave it. For that the checkpoint keeps, with its position, what the node knew
//! there ([`NodeCheckpoint`]): a [`Mark`] is made at the end of each transaction and waits for the acknowledgements that
//! the position waits for.
//!
//! **Stamps.** A transaction's first row message ticks the clock, published or not, and so does a truncate; all changes
//! of the transaction share the stamp, since they became visible together. Rows of a snapshot were there before the
//! first sync: their clock is 0, their counter the node's priority.
//!
//! **Applied changes.** A transaction in which Syncline applies changes of other nodes begins with a transactional
//! message ([`APPLIED_PREFIX`]). It counts if no row of its transaction came before it; then the transaction's rows are
//! not published and have no stamp, and further messages of the transaction are listened to wherever they stand. A first
//! one that comes later is passed over with a warning: rows of its transaction are published already. Messages of other
//! topologies are passed over: what other syncs write is this node's own.
//!
//! **Fences.** A message outside of transactions ([`FENCE_PREFIX`]) is answered with a marker in every partition of the
//! tables it names. The server delivers it between the transactions that were committed before it and those behind
//! it, so the markers stand behind all records of the former.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use syncline_event::header::Stamped;
use syncline_event::horizon::Horizon;
use syncline_event::position::Lsn;
use syncline_event::stamp::{APPLIED_PREFIX, Applied, Clock, FENCE_PREFIX, Fence, Seen, Stamp, key_hash};
use syncline_event::table::TableDefinition;
use syncline_event::tuple::TupleCell;

use crate::config::NodeSettings;
use crate::error::ProducerError;
use crate::sources::postgres::pgoutput::Logical;

/// The highest number a partition can have in a header.
const MOST_PARTITIONS: u32 = u16::MAX as u32 - 1;

/// Why a node's tables are not read again.
pub(crate) const NODE_READS_ONCE: &str = "a node's tables cannot be read again yet: a snapshot would publish what other \
    nodes have written as if it had been there before the first sync, and lose to what is older. To begin anew, give the \
    node an empty kafka.topic_prefix, another slot and another publication";

/// What the checkpoint keeps of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCheckpoint {
    /// The topology's name.
    pub topology: String,
    /// The node's name.
    pub name: String,
    /// Its clock.
    pub clock: Clock,
    /// What it had applied of other nodes' changes, by table (`schema.table`). Also of tables that are not captured:
    /// they may be later.
    #[serde(default)]
    pub seen: BTreeMap<String, Horizon>,
}

impl NodeCheckpoint {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(settings: &NodeSettings) -> Self {
        Self {
            topology: settings.topology.clone(),
            name: settings.name.clone(),
            clock: Clock::default(),
            seen: BTreeMap::new(),
        }
    }

    /// Takes over what was known at a place.
    pub fn note(&mut self, mark: &Mark) {
        self.clock = mark.clock;
        self.seen.clone_from(&mark.seen);
    }
}

/// What a node knew at a place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    clock: Clock,
    /// Shared by all marks until it changes.
    seen: Arc<BTreeMap<String, Horizon>>,
}

/// The stamp of a row that was there before the first sync.
#[must_use]
pub fn before_sync(settings: &NodeSettings) -> Stamped {
    Stamped {
        stamp: Stamp { clock_us: 0, counter: settings.priority, origin: settings.name.clone() },
        transaction: 0,
        seen: Seen::default(),
    }
}

/// What one life knows of its node.
#[derive(Debug)]
pub struct Node {
    topology: String,
    clock: Clock,
    seen: Arc<BTreeMap<String, Horizon>>,
    /// By the captured tables' indexes.
    tables: Vec<NodeTable>,
    /// Syncline wrote the transaction under way.
    is_applied: bool,
    /// The time of the transaction under way, once it has changed a row.
    time: Option<(u64, u32)>,
}

/// A captured table.
#[derive(Debug)]
struct NodeTable {
    /// `schema.table`.
    name: String,
    /// What its next change is stamped with.
    stamped: Stamped,
    /// Whether some rows do not show all that has been applied.
    holds: bool,
}

impl Node {
    /// Goes on from the checkpoint with these tables.
    #[must_use]
    pub fn new(settings: &NodeSettings, checkpoint: &NodeCheckpoint, tables: impl Iterator<Item = String>) -> Self {
        let tables = tables.map(|name| {
            let horizon = checkpoint.seen.get(&name);
            let seen = horizon.map(|horizon| horizon.seen_by(&[])).unwrap_or_default();
            let holds = horizon.is_some_and(Horizon::holds);
            NodeTable { name, stamped: Stamped { seen, ..before_sync(settings) }, holds }
        });
        Self {
            topology: settings.topology.clone(),
            clock: checkpoint.clock,
            tables: tables.collect(),
            seen: Arc::new(checkpoint.seen.clone()),
            is_applied: false,
            time: None,
        }
    }

    /// A transaction begins.
    pub fn begin(&mut self) {
        self.is_applied = false;
        self.time = None;
    }

    /// A row message of the transaction, or a truncate: its time, where it is the node's own change.
    pub fn change(&mut self, commit_us: i64) -> Option<(u64, u32)> {
        if self.is_applied {
            return None;
        }
        // A commit before 1970 is as early as times get.
        Some(*self.time.get_or_insert_with(|| self.clock.tick(u64::try_from(commit_us).unwrap_or_default())))
    }

    /// What a change of a table is stamped with. `keys` are the [`hashes`] of the row's keys, before and behind.
    pub fn stamped(
        &mut self,
        table: usize,
        (clock_us, counter): (u64, u32),
        transaction: u32,
        keys: impl FnOnce() -> Option<Vec<u64>>,
    ) -> &Stamped {
        let NodeTable { name, stamped, holds } = &mut self.tables[table];
        if *holds && let Some(horizon) = self.seen.get(name) {
            stamped.seen = match keys() {
                Some(keys) => horizon.seen_by(&keys),
                None => horizon.seen_by_all(),
            };
        }
        (stamped.stamp.clock_us, stamped.stamp.counter) = (clock_us, counter);
        stamped.transaction = transaction;
        stamped
    }

    /// What a fence's markers in a table's topic say: all that comes behind them is later than the clock, and has seen
    /// what they have; nothing while a snapshot `is_filling` the topic, whose rows were read before and come behind.
    pub fn marker(&self, table: usize, is_filling: bool) -> Stamped {
        let NodeTable { name, stamped, .. } = &self.tables[table];
        let mut marker = Stamped { transaction: 0, ..stamped.clone() };
        (marker.stamp.clock_us, marker.stamp.counter) = self.clock.time();
        let horizon = self.seen.get(name).filter(|_| !is_filling);
        marker.seen = horizon.map(Horizon::seen_by_all).unwrap_or_default();
        marker
    }

    /// A logical message: gives the fence to answer, if it is one. `rows` have come before it in its transaction.
    ///
    /// # Errors
    ///
    /// A message of this topology that is not of the known form.
    pub fn message(&mut self, message: &Logical<'_>, rows: u64) -> Result<Option<Fence>, ProducerError> {
        match message.prefix {
            APPLIED_PREFIX => {
                let Some(applied) = self.read::<Applied>(message, true)? else { return Ok(None) };
                if let Some(progress) = applied.progress.iter().find(|one| one.partition > MOST_PARTITIONS) {
                    return Err(misunderstood(message, format!("it names the partition {}", progress.partition)));
                }
                self.applied(&applied, message.lsn, rows);
                Ok(None)
            }
            FENCE_PREFIX => {
                let fence: Option<Fence> = self.read(message, false)?;
                if let Some(fence) = &fence {
                    self.clock.learn(fence.clock_us, fence.counter);
                }
                Ok(fence)
            }
            _ => Ok(None),
        }
    }

    fn applied(&mut self, applied: &Applied, lsn: u64, rows: u64) {
        // A further one comes before the rows of another table.
        if rows > 0 && !self.is_applied {
            tracing::warn!(
                lsn = %Lsn(lsn),
                prefix = APPLIED_PREFIX,
                "a message that has to be the first of its transaction is not, and is passed over: the transaction is \
                 captured like any other"
            );
            return;
        }
        self.is_applied = true;
        self.clock.learn(applied.clock_us, applied.counter);
        if applied.progress.is_empty() && applied.held.is_empty() {
            return;
        }
        let seen = Arc::make_mut(&mut self.seen);
        for progress in &applied.progress {
            seen.entry(progress.table.clone()).or_default().progress(progress);
        }
        for held in &applied.held {
            seen.entry(held.table.clone()).or_default().hold(held);
        }
        let told = applied.progress.iter().map(|progress| &progress.table);
        let told = told.chain(applied.held.iter().map(|held| &held.table));
        for name in told {
            let (table, horizon) = (self.tables.iter_mut().find(|table| table.name == *name), seen.get(name));
            if let Some((table, horizon)) = table.zip(horizon) {
                table.holds = horizon.holds();
                table.stamped.seen = horizon.seen_by(&[]);
            }
        }
    }

    /// The content of a message of this topology; `None` of another one.
    fn read<T: DeserializeOwned>(
        &self,
        message: &Logical<'_>,
        transactional: bool,
    ) -> Result<Option<T>, ProducerError> {
        #[derive(Deserialize)]
        struct Addressed {
            topology: String,
        }
        // Without the parser's words, which may quote the content.
        let unreadable = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            misunderstood(message, format!("its content is not of the known form (at line {line}, column {column})"))
        };
        let addressed: Addressed = serde_json::from_slice(message.content).map_err(unreadable)?;
        if addressed.topology != self.topology {
            return Ok(None);
        }
        if message.transactional != transactional {
            let wrong = if transactional { "it is in no transaction" } else { "it is in a transaction" };
            return Err(misunderstood(message, wrong.to_owned()));
        }
        serde_json::from_slice(message.content).map(Some).map_err(unreadable)
    }

    /// What is known now. Between transactions only.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { clock: self.clock, seen: Arc::clone(&self.seen) }
    }
}

/// The hashes of a row's keys, as [`Held`](syncline_event::stamp::Held) has them; `None` where the log does not tell a
/// key.
pub(crate) fn hashes(definition: &TableDefinition, rows: [Option<&[TupleCell<'_>]>; 2]) -> Option<Vec<u64>> {
    let mut columns = definition.key.clone();
    columns.sort_unstable_by_key(|column| &definition.columns[*column].name);
    let of_row = |row: &[TupleCell<'_>]| {
        let text = |column: &usize| match row[*column] {
            TupleCell::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        };
        columns.iter().map(text).collect::<Option<Vec<&str>>>().map(key_hash)
    };
    rows.into_iter().flatten().map(of_row).collect()
}

fn misunderstood(message: &Logical<'_>, reason: String) -> ProducerError {
    ProducerError::OwnMessage { prefix: message.prefix.to_owned(), at: Lsn(message.lsn), reason }
}

#[cfg(test)]
mod tests;
