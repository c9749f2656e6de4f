//! Counters that a progress display or a metric may read at any time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What the producer has done, shared and cheap to update.
#[derive(Debug, Default)]
pub struct Stats {
    tables: Mutex<BTreeMap<String, Arc<TableStats>>>,
    /// A snapshot is under way.
    pub snapshot_running: AtomicBool,
    /// Log position up to which everything is acknowledged by Kafka and in the checkpoint.
    pub confirmed_lsn: AtomicU64,
    /// The server's log position as last heard.
    pub server_lsn: AtomicU64,
}

/// One table's counters.
#[derive(Debug, Default)]
pub struct TableStats {
    /// Rows read by a snapshot.
    pub snapshot_rows: AtomicU64,
    /// Rows the table was estimated to have when the snapshot began.
    pub snapshot_estimate: AtomicU64,
    /// Changes from the log.
    pub changes: AtomicU64,
}

impl TableStats {
    /// Rows of the snapshot and changes of the log.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.snapshot_rows.load(Ordering::Relaxed) + self.changes.load(Ordering::Relaxed)
    }
}

impl Stats {
    /// The counters of a table, `schema.table`.
    #[must_use]
    pub fn table(&self, name: &str) -> Arc<TableStats> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tables.entry(name.to_owned()).or_default())
    }

    /// All tables, by name.
    #[must_use]
    pub fn tables(&self) -> Vec<(String, Arc<TableStats>)> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.iter().map(|(name, stats)| (name.clone(), Arc::clone(stats))).collect()
    }
}
