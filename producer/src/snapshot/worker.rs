//! Reads tables by COPY and encodes their rows.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use sqlx::PgConnection;
use syncline_catalog::ident::{qualified, quote_identifier};
use syncline_event::avro::encode::{SnapshotMarker, SourceInfo, TableEncoder};
use syncline_event::table::TableDefinition;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Snapshot;
use crate::captured::CapturedTable;
use crate::error::ProducerError;
use crate::rows::{EncodedRow, arrange, encode_read};
use crate::sources::postgres::copy::CopyRow;
use crate::stats::TableStats;

/// Bytes of encoded rows that travel together from a worker to the publisher.
const CHUNK_BYTES: usize = 256 * 1024;

/// Encoded rows of one table.
pub(super) struct Chunk {
    pub(super) table: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) rows: Vec<EncodedRow>,
}

/// What a worker needs of a table.
struct Job {
    definition: Arc<TableDefinition>,
    encoder: Arc<TableEncoder>,
    stats: Arc<TableStats>,
}

/// Tables that wait for a worker, smallest first: the largest is taken first, so that none is left for the end.
type Queue = Arc<Mutex<Vec<(u64, usize)>>>;

/// Starts the workers; each holds a session in the exported snapshot.
pub(super) async fn spawn(
    snapshot: &Snapshot<'_>,
    tables: &[CapturedTable],
    sender: mpsc::Sender<Chunk>,
) -> Result<JoinSet<Result<(), ProducerError>>, ProducerError> {
    let mut session = open_session(snapshot).await?;
    let taken = snapshot_facts(&mut session).await?;
    let mut queue = Vec::new();
    let mut jobs = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let estimate = estimate_rows(&mut session, &table.definition).await?;
        table.stats.snapshot_rows.store(0, Ordering::Relaxed);
        table.stats.snapshot_estimate.store(estimate, Ordering::Relaxed);
        queue.push((estimate, index));
        jobs.push(Job {
            definition: Arc::clone(&table.definition),
            encoder: Arc::clone(&table.encoder),
            stats: Arc::clone(&table.stats),
        });
    }
    queue.sort_unstable();
    let (queue, jobs) = (Arc::new(Mutex::new(queue)), Arc::new(jobs));

    let mut sessions = vec![session];
    while sessions.len() < snapshot.parallel_tables.min(tables.len()) {
        sessions.push(open_session(snapshot).await?);
    }
    let mut workers = JoinSet::new();
    for session in sessions {
        let consistent_point = snapshot.consistent_point;
        let worker = Worker { session, taken, consistent_point, sender: sender.clone() };
        workers.spawn(worker.run(Arc::clone(&queue), Arc::clone(&jobs)));
    }
    Ok(workers)
}

async fn open_session(snapshot: &Snapshot<'_>) -> Result<PgConnection, ProducerError> {
    let mut connection = syncline_catalog::connect::connect(snapshot.source, "syncline-snapshot").await?;
    // The name comes from the server; it is a literal here all the same.
    let import = format!("SET TRANSACTION SNAPSHOT '{}'", snapshot.name.replace('\'', "''"));
    for statement in ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned(), import] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .map_err(|error| ProducerError::source("the exported snapshot cannot be imported", error))?;
    }
    Ok(connection)
}

/// When the snapshot was taken.
#[derive(Clone, Copy)]
struct Taken {
    transaction_id: i64,
    at_us: i64,
}

async fn snapshot_facts(session: &mut PgConnection) -> Result<Taken, ProducerError> {
    let facts = "SELECT txid_snapshot_xmax(txid_current_snapshot()), \
                 (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let (transaction_id, at_us) = sqlx::query_as(facts)
        .fetch_one(session)
        .await
        .map_err(|error| ProducerError::source("the snapshot's transaction cannot be read", error))?;
    Ok(Taken { transaction_id, at_us })
}

pub(crate) async fn estimate_rows(session: &mut PgConnection, table: &TableDefinition) -> Result<u64, ProducerError> {
    // A partitioned table has no rows of its own; a table that was never analysed says -1.
    let estimate = "WITH root AS (SELECT format('%I.%I', $1::text, $2::text)::regclass AS oid) \
                    SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class c, root \
                    WHERE c.oid = root.oid OR c.oid IN (SELECT relid FROM pg_partition_tree(root.oid) WHERE isleaf)";
    let rows: i64 = sqlx::query_scalar(estimate)
        .bind(&table.schema)
        .bind(&table.table)
        .fetch_one(session)
        .await
        .map_err(|error| ProducerError::source(&format!("table {}", table.qualified_name()), error))?;
    Ok(rows.max(0).cast_unsigned())
}

struct Worker {
    session: PgConnection,
    taken: Taken,
    consistent_point: u64,
    sender: mpsc::Sender<Chunk>,
}

impl Worker {
    async fn run(mut self, queue: Queue, jobs: Arc<Vec<Job>>) -> Result<(), ProducerError> {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((_, index)) = next else { return Ok(()) };
            let job = &jobs[index];
            let rows = self.copy_table(index, job).await?;
            job.stats.snapshot_estimate.store(rows, Ordering::Relaxed);
            tracing::info!(table = job.definition.qualified_name(), rows, "table is read");
        }
    }

    /// Reads one table. The server sends one row a message; a row is encoded when the next one is there, since the
    /// table's last row is marked.
    async fn copy_table(&mut self, index: usize, job: &Job) -> Result<u64, ProducerError> {
        let name = job.definition.qualified_name();
        let failed = |error| ProducerError::source(&format!("table {name} cannot be read"), error);
        let mut builder = ChunkBuilder::new(index, job, self.taken, self.consistent_point);
        let mut copy = {
            let statement = copy_statement(&job.definition)?;
            self.session.copy_out_raw(&statement).await.map_err(failed)?
        };
        let mut held: Option<Bytes> = None;
        while let Some(message) = copy.next().await {
            if let Some(row) = held.replace(message.map_err(failed)?) {
                let first = builder.count == 0;
                builder.push(&row, if first { SnapshotMarker::FirstInDataCollection } else { SnapshotMarker::True })?;
                if builder.chunk.bytes.len() >= CHUNK_BYTES {
                    send(&self.sender, builder.take()).await?;
                }
            }
        }
        if let Some(row) = held {
            builder.push(&row, SnapshotMarker::LastInDataCollection)?;
        }
        send(&self.sender, builder.take()).await?;
        Ok(builder.count)
    }
}

async fn send(sender: &mpsc::Sender<Chunk>, chunk: Chunk) -> Result<(), ProducerError> {
    // The receiver is gone only when the snapshot has failed elsewhere; that error is the one to report.
    sender.send(chunk).await.map_err(|_| ProducerError::Internal("the snapshot ended early".to_owned()))
}

/// `COPY (SELECT …) TO STDOUT` of the columns that the log carries too.
fn copy_statement(table: &TableDefinition) -> Result<String, ProducerError> {
    let mut columns = Vec::new();
    for column in table.columns.iter().filter(|column| column.generated.is_none()) {
        columns.push(quote_identifier(&column.name)?);
    }
    Ok(format!("COPY (SELECT {} FROM {}) TO STDOUT", columns.join(", "), qualified(&table.schema, &table.table)?))
}

struct ChunkBuilder<'a> {
    job: &'a Job,
    taken: Taken,
    consistent_point: u64,
    chunk: Chunk,
    count: u64,
    parsed: CopyRow,
}

impl<'a> ChunkBuilder<'a> {
    fn new(table: usize, job: &'a Job, taken: Taken, consistent_point: u64) -> Self {
        let chunk = Chunk { table, bytes: Vec::with_capacity(CHUNK_BYTES * 5 / 4), rows: Vec::new() };
        Self { job, taken, consistent_point, chunk, count: 0, parsed: CopyRow::default() }
    }

    fn push(&mut self, row: &[u8], snapshot: SnapshotMarker) -> Result<(), ProducerError> {
        let definition = &self.job.definition;
        let malformed = |error| ProducerError::Protocol(format!("table {}: {error}", definition.qualified_name()));
        let copied = self.parsed.parse(row).map_err(malformed)?;
        let cells = arrange(definition, copied).map_err(malformed)?;
        let source = SourceInfo {
            ts_us: self.taken.at_us,
            snapshot,
            sequence: (None, self.consistent_point),
            tx_id: Some(self.taken.transaction_id),
            lsn: self.consistent_point,
            origin: None,
            origin_lsn: None,
        };
        let encoded = encode_read(definition, &self.job.encoder, &cells, source, &mut self.chunk.bytes);
        let row = encoded.map_err(|error| match error {
            ProducerError::NullInNotNull { table, column } => ProducerError::Encode {
                table,
                reason: format!(
                    "column {column} is NULL in a row, and was NOT NULL when the table was looked at: it was altered \
                     meanwhile; start again, the snapshot starts over"
                ),
            },
            other => other,
        })?;
        self.chunk.rows.push(row);
        self.count += 1;
        Ok(())
    }

    fn take(&mut self) -> Chunk {
        let empty = Chunk { table: self.chunk.table, bytes: Vec::with_capacity(CHUNK_BYTES * 5 / 4), rows: Vec::new() };
        std::mem::replace(&mut self.chunk, empty)
    }
}
