//! What a progress display shows: counters that the consumer moves and anyone may read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use syncline_transforms::resolve::row::ConflictType;

/// The consumer's counters. Cheap to share; moved once a batch, not once a record.
#[derive(Debug, Default)]
pub struct Stats {
    state: Mutex<Snapshot>,
}

/// All counters at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// By the source's table (`schema.table`).
    pub tables: BTreeMap<String, TableStats>,
    /// By topic and partition, of the partitions assigned to this process.
    pub partitions: BTreeMap<(String, i32), PartitionStats>,
    /// When the target last committed.
    pub last_commit: Option<Instant>,
    /// Transactions committed in the target.
    pub commits: u64,
    /// Conflicts between nodes, by table and type.
    pub conflicts: BTreeMap<(String, ConflictType), u64>,
}

impl Snapshot {
    /// Counts conflicts.
    pub fn note_conflicts(&mut self, found: &BTreeMap<(String, ConflictType), u64>) {
        for (of, count) in found {
            *self.conflicts.entry(of.clone()).or_default() += count;
        }
    }
}

/// What one table has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Records whose change is in the target.
    pub applied: u64,
    /// Records left out because they repeat what was applied.
    pub repeated: u64,
    /// Records left out because their epoch is over.
    pub outdated: u64,
    /// Bytes of keys, values and headers taken in.
    pub bytes: u64,
    /// The latest commit time at the source among what was applied, in microseconds since 1970.
    pub source_time_us: i64,
}

/// Where one partition stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionStats {
    /// The source's table, or the topic's name while the table is not known.
    pub table: String,
    /// The offset to apply next.
    pub next_offset: i64,
    /// The offset behind the last record in Kafka, where it is known.
    pub end_offset: Option<i64>,
    /// Whether it waits for other partitions at a marker.
    pub waiting: bool,
    /// Why it stopped, where it did, and the offset of the record.
    pub stopped: Option<(i64, String)>,
}

impl PartitionStats {
    /// Records between here and the end, where that is known.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        self.end_offset.map(|end| (end - self.next_offset).max(0))
    }
}

impl Stats {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A copy of everything.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the counters.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Changes one partition's counters, if this process still has it.
    pub(crate) fn partition(&self, topic: &str, partition: i32, change: impl FnOnce(&mut PartitionStats)) {
        self.update(|state| {
            if let Some(found) = state.partitions.get_mut(&(topic.to_owned(), partition)) {
                change(found);
            }
        });
    }
}
