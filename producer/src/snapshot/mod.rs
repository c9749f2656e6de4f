//! The initial copy: every captured table read by COPY inside one exported snapshot, several tables at once.
//!
//! The slot was created together with the snapshot, so the log goes on exactly where the snapshot ends. Workers read
//! and encode; one task, the caller, draws the positions and enqueues, so the order in a partition is the order of
//! the positions. A snapshot that ends early starts over: nothing of it can be resumed.

mod progress;
mod worker;

use std::sync::atomic::Ordering;

use syncline_event::header::Header;
use syncline_event::position::{Phase, Position};
use syncline_runtime::settings::DatabaseSettings;
use tokio::sync::mpsc;

use crate::captured::CapturedTable;
use crate::config::NodeSettings;
use crate::emit::partition;
use crate::error::ProducerError;
use crate::node::before_sync;
use crate::publish::{Publisher, Record};
use crate::rows::EncodedRow;
use progress::Progress;
use worker::Chunk;
pub(crate) use worker::estimate_rows;

/// What a snapshot is taken of.
pub struct Snapshot<'a> {
    /// The source.
    pub source: &'a DatabaseSettings,
    /// Name of the exported snapshot.
    pub name: &'a str,
    /// The slot's consistent point: where the log goes on.
    pub consistent_point: u64,
    /// The epoch of the rows.
    pub epoch: u32,
    /// Tables read at once.
    pub parallel_tables: usize,
    /// The node whose rows they are.
    pub node: Option<&'a NodeSettings>,
}

impl Snapshot<'_> {
    /// Copies all tables and waits until every row is acknowledged.
    ///
    /// # Errors
    ///
    /// The source, Kafka, or a value that cannot be encoded. The caller starts over.
    pub async fn copy(&self, publisher: &Publisher, tables: &mut [CapturedTable]) -> Result<(), ProducerError> {
        // Two chunks a worker: one on its way while the next is filled.
        let (sender, mut chunks) = mpsc::channel::<Chunk>(self.parallel_tables.max(1));
        let mut workers = worker::spawn(self, tables, sender).await?;
        let mut progress = Progress::start();
        let mut number = 0;
        while let Some(mut chunk) = chunks.recv().await {
            for row in std::mem::take(&mut chunk.rows) {
                number += 1;
                self.publish(publisher, &mut tables[chunk.table], number, &mut chunk.bytes, row).await?;
            }
            progress.log_if_due(tables);
        }
        while let Some(joined) = workers.join_next().await {
            joined.map_err(|error| ProducerError::Internal(format!("a snapshot worker ended badly: {error}")))??;
        }
        publisher.drained().await?;
        progress.log_end(number);
        Ok(())
    }

    async fn publish(
        &self,
        publisher: &Publisher,
        table: &mut CapturedTable,
        number: u64,
        bytes: &mut [u8],
        row: EncodedRow,
    ) -> Result<(), ProducerError> {
        let position =
            Position { epoch: self.epoch, phase: Phase::Snapshot, lsn: self.consistent_point, number, sub: 0 };
        let mut header = Header::new(position, table.definition.number);
        header.texts = row.texts;
        header.stamped = self.node.map(before_sync);
        let mut encoded = Vec::with_capacity(32);
        header.encode(&mut encoded);
        let partition = partition(&mut bytes[row.key.clone()], table);
        let record = Record {
            partition,
            key: Some(&bytes[row.key]),
            value: Some(&bytes[row.value]),
            headers: table.headers(&encoded, None),
        };
        publisher.send(&mut table.topic, record).await?;
        table.stats.snapshot_rows.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
