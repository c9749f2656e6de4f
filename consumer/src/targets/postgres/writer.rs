//! One connection that writes batches.
//!
//! Locks are taken in one order by all writers, so that they do not deadlock: progress rows (sorted), the right to
//! change tables, barriers (by topic and position), tables by name, rows by key.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection};
use syncline_event::position::Position;
use syncline_event::table::TableDefinition;
use syncline_runtime::retry::ErrorClass;

use super::Connector;
use super::barriers;
use super::bind::ColumnArray;
use super::contest::{self, Keys};
use super::described;
use super::error::{Contention, Doing};
use super::plan::PostgresPlan;
use super::progress;
use crate::config::{NodeSettings, SinkSettings};
use crate::targets::{
    Batch, Clear, Contested, PartitionKey, Progress, TableBatch, TablePlan, TargetError, Writer, Written,
};

/// How often a row that is always locked is queued up for.
const INSISTENCE: Duration = Duration::from_secs(2);

/// How long others are reckoned with who have inserted the same keys.
const CARE: Duration = Duration::from_secs(10);

/// Held by a transaction that changes tables: \"sync\" and \"ddl\" as numbers.
const CHANGING_TABLES: &str = "SELECT pg_catalog.pg_advisory_xact_lock(1937337955, 6581356)";

/// A writer. It connects anew by itself when its connection is lost.
pub(super) struct PostgresWriter {
    connector: Arc<Connector>,
    sink: Arc<SinkSettings>,
    node: Option<Arc<NodeSettings>>,
    /// How far the round through what waits has come.
    round: contest::Round,
    /// When somebody else was met who inserts the same keys.
    met_others: Option<Instant>,
    /// When a row was last queued up for.
    insisted: Instant,
    /// `None` after an error that left the connection in an unknown state.
    conn: Option<PgConnection>,
}

/// What a batch does to one table.
struct Step<'a> {
    plan: &'a PostgresPlan,
    /// Index into the batch's tables; `None` for a table that is only emptied.
    index: Option<usize>,
}

impl PostgresWriter {
    pub(super) fn new(
        connector: Arc<Connector>,
        sink: Arc<SinkSettings>,
        node: Option<Arc<NodeSettings>>,
        conn: PgConnection,
    ) -> Self {
        Self {
            connector,
            sink,
            node,
            round: contest::Round::default(),
            met_others: None,
            insisted: Instant::now(),
            conn: Some(conn),
        }
    }

    /// Writes to a node as if nobody else inserted the same keys, which costs least; where somebody does, with more and more
    /// care.
    async fn write_to_node(
        &mut self,
        conn: &mut PgConnection,
        batch: &Batch<'_>,
        steps: &[Step<'_>],
        node: &NodeSettings,
    ) -> Result<Written, TargetError> {
        let shares = self.met_others.is_some_and(|met| met.elapsed() < CARE);
        let mut keys = if shares { Keys::Shared } else { Keys::Fresh };
        loop {
            let result = write(conn, batch, steps, Some((node, keys))).await;
            let Err(error) = &result else { return result };
            keys = match (Contention::of(error), keys) {
                (Some(Contention::Inserted), Keys::Fresh) => Keys::Shared,
                (Some(Contention::Locked), Keys::Fresh | Keys::Shared) => Keys::Contended,
                _ => return result,
            };
            tracing::debug!(%error, ?keys, "another session is in the way, writing the batch again with more care");
            self.met_others = Some(Instant::now());
            if error.class == ErrorClass::Transient {
                control(conn, "ROLLBACK").await?;
            }
        }
    }

    /// The connection, taken out: whoever finds it usable afterwards puts it back.
    async fn take(&mut self) -> Result<PgConnection, TargetError> {
        match self.conn.take() {
            Some(conn) => Ok(conn),
            None => self.connector.connect().await,
        }
    }

    /// Puts the connection back unless it is broken.
    fn put_back<T>(&mut self, conn: PgConnection, result: &Result<T, TargetError>) {
        if !matches!(result, Err(error) if error.class == ErrorClass::Transient) {
            self.conn = Some(conn);
        }
    }
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn progress(&mut self, partition: &PartitionKey) -> Result<(Progress, bool), TargetError> {
        let mut conn = self.take().await?;
        let result = progress::read(&mut conn, partition).await;
        self.put_back(conn, &result);
        result
    }

    async fn topic_progress(
        &mut self,
        group: &str,
        cluster_id: &str,
        topic: &str,
    ) -> Result<Vec<(PartitionKey, Progress)>, TargetError> {
        let mut conn = self.take().await?;
        let result = progress::read_topic(&mut conn, group, cluster_id, topic).await;
        self.put_back(conn, &result);
        result
    }

    async fn plan(&mut self, definition: &Arc<TableDefinition>) -> Result<Arc<dyn TablePlan>, TargetError> {
        let mut conn = self.take().await?;
        let mut result = PostgresPlan::make(&mut conn, definition, &self.sink).await;
        if self.node.is_some() && result.is_ok() && self.connector.fires_triggers.load(Ordering::Acquire) {
            let checked = contest::check_triggers(&mut conn, definition).await;
            result = checked.and(result);
        }
        self.put_back(conn, &result);
        Ok(Arc::new(result?))
    }

    async fn describe(
        &mut self,
        topic: &str,
        schema: &str,
        table: &str,
    ) -> Result<Option<TableDefinition>, TargetError> {
        let mut conn = self.take().await?;
        let result = described::read(&mut conn, topic, schema, table).await;
        self.put_back(conn, &result);
        result
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<Written, TargetError> {
        let steps = steps(batch)?;
        let mut conn = self.take().await?;
        let result = match self.node.clone() {
            None => write(&mut conn, batch, &steps, None).await,
            Some(node) => self.write_to_node(&mut conn, batch, &steps, &node).await,
        };
        self.put_back(conn, &result);
        result
    }

    async fn settle(&mut self, partitions: &[PartitionKey]) -> Result<Contested, TargetError> {
        let Some(node) = self.node.clone() else { return Ok(Contested::default()) };
        let mut conn = self.take().await?;
        let mut result = settle(&mut conn, &node, partitions, Some(&mut self.round)).await;
        if matches!(&result, Ok(contested) if contested.set_aside > 0) && self.insisted.elapsed() > INSISTENCE {
            self.insisted = Instant::now();
            match settle(&mut conn, &node, partitions, None).await {
                Ok(contested) => result = result.map(|before| before.and(contested)),
                Err(error) if error.class == ErrorClass::Transient => {
                    // The row is still not to be had; the next attempt comes by itself.
                    tracing::debug!(%error, "a row that a record waits for is still locked");
                    control(&mut conn, "ROLLBACK").await?;
                }
                Err(error) => result = Err(error),
            }
        }
        self.put_back(conn, &result);
        result
    }

    async fn waiting(&mut self, group: &str, cluster_id: &str) -> Result<u64, TargetError> {
        let mut conn = self.take().await?;
        let result = contest::waiting(&mut conn, group, cluster_id).await;
        self.put_back(conn, &result);
        result
    }

    async fn barrier_released(&mut self, partition: &PartitionKey, position: Position) -> Result<bool, TargetError> {
        let mut conn = self.take().await?;
        let result = barriers::is_finished(&mut conn, partition, position).await;
        self.put_back(conn, &result);
        result
    }

    async fn note_stop(&mut self, partition: &PartitionKey, reason: Option<&str>) -> Result<(), TargetError> {
        let mut conn = self.take().await?;
        let result = progress::note_stop(&mut conn, partition, reason).await;
        self.put_back(conn, &result);
        result
    }
}

/// The tables of a batch in the order of their names.
fn steps<'a>(batch: &'a Batch<'_>) -> Result<Vec<Step<'a>>, TargetError> {
    let mut steps = Vec::with_capacity(batch.tables.len());
    for (index, table) in batch.tables.iter().enumerate() {
        steps.push(Step { plan: ours(&table.plan)?, index: Some(index) });
    }
    for clearing in batch.arrivals.iter().flat_map(|arrival| &arrival.clears) {
        let plan = ours(&clearing.plan)?;
        if steps.iter().all(|step| step.plan.name != plan.name) {
            steps.push(Step { plan, index: None });
        }
    }
    steps.sort_by(|a, b| a.plan.name.cmp(&b.plan.name));
    Ok(steps)
}

fn ours(plan: &Arc<dyn TablePlan>) -> Result<&PostgresPlan, TargetError> {
    plan.as_any().downcast_ref().ok_or_else(|| TargetError {
        class: ErrorClass::Fatal,
        message: format!("a plan of another target for table {}", plan.definition().qualified_name()),
        table: None,
        source: None,
    })
}

/// What waits and need not any longer, in a transaction of its own; out of the round, a row is queued up for first.
async fn settle(
    conn: &mut PgConnection,
    node: &NodeSettings,
    partitions: &[PartitionKey],
    round: Option<&mut contest::Round>,
) -> Result<Contested, TargetError> {
    control(conn, "BEGIN").await?;
    let settled = match round {
        Some(round) => contest::settle(conn, node, partitions, round).await,
        None => contest::insist(conn, node, partitions).await,
    };
    match settled {
        Ok(contested) => control(conn, "COMMIT").await.map(|()| contested),
        Err(error) => {
            if error.class != ErrorClass::Transient {
                control(conn, "ROLLBACK").await?;
            }
            Err(error)
        }
    }
}

async fn write(
    conn: &mut PgConnection,
    batch: &Batch<'_>,
    steps: &[Step<'_>],
    node: Option<(&NodeSettings, Keys)>,
) -> Result<Written, TargetError> {
    for step in steps.iter().filter(|step| step.plan.is_pending()) {
        step.plan.settle_alone(conn, step.index).await?;
    }
    control(conn, "BEGIN").await?;
    match apply(conn, batch, steps, node).await {
        Ok(Some((released, contested))) => {
            control(conn, "COMMIT").await?;
            for step in steps {
                step.plan.settled();
            }
            Ok(Written::Applied { released, contested })
        }
        Ok(None) => {
            control(conn, "ROLLBACK").await?;
            Ok(Written::Fenced)
        }
        Err(error) => {
            if error.class != ErrorClass::Transient {
                control(conn, "ROLLBACK").await?;
            }
            Err(error)
        }
    }
}

pub(super) async fn control(conn: &mut PgConnection, command: &'static str) -> Result<(), TargetError> {
    let result = sqlx::raw_sql(command).execute(conn).await;
    result.map(drop).map_err(|error| Doing::Transaction(command).error(error))
}

/// Everything between BEGIN and COMMIT; `None` where a progress row is not where it was expected.
async fn apply(
    conn: &mut PgConnection,
    batch: &Batch<'_>,
    steps: &[Step<'_>],
    node: Option<(&NodeSettings, Keys)>,
) -> Result<Option<(Vec<bool>, Contested)>, TargetError> {
    let moved = progress::swap(conn, batch.moves, batch.arrivals).await?;
    if moved != batch.moves.len() as u64 {
        return Ok(None);
    }
    if steps.iter().any(|step| step.plan.is_pending()) {
        let doing = Doing::Bookkeeping("waiting to change tables");
        sqlx::raw_sql(CHANGING_TABLES).execute(&mut *conn).await.map_err(|error| doing.error(error))?;
    }
    let arrived = barriers::arrive(conn, batch.arrivals).await?;
    for step in steps {
        if step.plan.is_pending() {
            step.plan.settle(conn, step.index).await?;
        }
        let due = batch.arrivals.iter().zip(&arrived).filter(|(_, arrived)| arrived.works);
        let clears = due.flat_map(|(arrival, _)| &arrival.clears);
        let clears = clears.filter(|clearing| ours(&clearing.plan).is_ok_and(|plan| plan.name == step.plan.name));
        let clear = clears.map(|clearing| clearing.how).next();
        // All partitions stand at the marker, so the rows at hand are before it: where they go they would be written
        // for nothing.
        if let Some(index) = step.index.filter(|_| clear != Some(Clear::Delete)) {
            write_rows(conn, step.plan, &batch.tables[index], index).await?;
        }
        match clear {
            Some(Clear::Delete) => empty(conn, step).await?,
            Some(Clear::Mark(column)) => mark(conn, step, column).await?,
            None => {}
        }
    }
    let mut contested = Contested::default();
    if let Some((node, keys)) = node {
        let tables = steps.iter().filter_map(|step| Some((&batch.tables[step.index?], step.plan.contest())));
        contested = contest::apply(conn, node, batch, &tables.collect::<Vec<_>>(), keys).await?;
    }
    Ok(Some((arrived.iter().map(|arrived| arrived.released).collect(), contested)))
}

async fn empty(conn: &mut PgConnection, step: &Step<'_>) -> Result<(), TargetError> {
    let (command, what) =
        if step.plan.may_truncate() { ("TRUNCATE TABLE", "truncating") } else { ("DELETE FROM", "emptying") };
    let doing = Doing::Writing { table: &step.plan.name, index: step.index, what };
    let text = format!("{command} {}", step.plan.table);
    sqlx::raw_sql(AssertSqlSafe(text)).execute(conn).await.map(drop).map_err(|error| doing.error(error))
}

/// Gives the rows that hold NULL in a column the time.
async fn mark(conn: &mut PgConnection, step: &Step<'_>, column: usize) -> Result<(), TargetError> {
    let doing = Doing::Writing { table: &step.plan.name, index: step.index, what: "marking the rows of" };
    let Some(text) = step.plan.mark(column) else { return Ok(()) };
    sqlx::raw_sql(AssertSqlSafe(text)).execute(conn).await.map(drop).map_err(|error| doing.error(error))
}

async fn write_rows(
    conn: &mut PgConnection,
    plan: &PostgresPlan,
    table: &TableBatch,
    index: usize,
) -> Result<(), TargetError> {
    if !table.deletes.is_empty() {
        let doing = Doing::Writing { table: &plan.name, index: Some(index), what: "deleting from" };
        run(conn, plan, &plan.delete, table, &table.deletes, plan.key().iter())
            .await
            .map_err(|error| doing.error(error))?;
    }
    if !table.upserts.is_empty() {
        let doing = Doing::Writing { table: &plan.name, index: Some(index), what: "writing to" };
        run(conn, plan, &plan.upsert, table, &table.upserts, plan.upserted.iter())
            .await
            .map_err(|error| doing.error(error))?;
    }
    for (rows, may_miss) in [(&table.updates, false), (&table.fills, true)] {
        if !rows.is_empty() {
            update_rows(conn, plan, (table, index), rows, may_miss).await?;
        }
    }
    Ok(())
}

/// Updates grouped by the columns they know; groups in the order of their first rows.
async fn update_rows(
    conn: &mut PgConnection,
    plan: &PostgresPlan,
    (table, index): (&TableBatch, usize),
    updates: &[u32],
    may_miss: bool,
) -> Result<(), TargetError> {
    let doing = Doing::Writing { table: &plan.name, index: Some(index), what: "updating" };
    let mut groups: Vec<(Vec<usize>, Vec<u32>)> = Vec::new();
    let mut known = Vec::new();
    for row in updates {
        plan.known(table.rows.row(*row as usize), &mut known);
        match groups.iter_mut().find(|(columns, _)| *columns == known) {
            Some((_, rows)) => rows.push(*row),
            None => groups.push((known.clone(), vec![*row])),
        }
    }
    for (columns, rows) in groups {
        let text = plan.update(&columns);
        let found = run(conn, plan, &text, table, &rows, plan.key().iter().chain(&columns))
            .await
            .map_err(|error| doing.error(error))?;
        let expected = rows.len() as u64;
        if found != expected && !may_miss {
            return Err(TargetError {
                class: ErrorClass::BadRecord,
                message: format!(
                    "updating target table {}: {} of {expected} rows are missing whose unchanged columns (TOASTed, not in \
                     the event) only the target has; run `syncline resync` to copy the table anew",
                    plan.name,
                    expected.saturating_sub(found)
                ),
                table: Some(index),
                source: None,
            });
        }
    }
    Ok(())
}

/// Runs one array statement; the number of rows affected.
async fn run<'a>(
    conn: &mut PgConnection,
    plan: &PostgresPlan,
    text: &Arc<str>,
    table: &TableBatch,
    indexes: &[u32],
    columns: impl Iterator<Item = &'a usize>,
) -> Result<u64, sqlx::Error> {
    let mut query = sqlx::query(AssertSqlSafe(Arc::clone(text)));
    for column in columns {
        query = query.bind(ColumnArray { rows: &table.rows, indexes, column: *column, codec: plan.codec(*column) });
    }
    Ok(query.execute(conn).await?.rows_affected())
}
