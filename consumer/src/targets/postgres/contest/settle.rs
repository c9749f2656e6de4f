//! What waited, once this node's own changes have come by.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection};
use syncline_transforms::resolve::row::Version;

use super::by_columns::look_again;
use super::decide::{Decided, Entrant, Keys, decide};
use super::described::{self, table_of};
use super::table::{CellArray, ContestTable, Image, RowAt, rows_of};
use super::tell::{Step, tell};
use super::waiting::{self, Place, Waiting};
use super::write::write;
use super::{fences, send_fence, states};
use crate::config::NodeSettings;
use crate::rows::Rows;
use crate::targets::{Contested, PartitionKey, TargetError};

use super::super::error::Doing;

/// Rows looked at again in one transaction at most.
const MOST: i64 = 1_000;

/// How long it may take to find out which keys of a table an open transaction has inserted, and how long that counts: what
/// waits is looked at many times a second.
const TRIAL: Duration = Duration::from_millis(300);
const TRIAL_COUNTS: Duration = Duration::from_secs(2);

/// How far the round through what waits has come.
#[derive(Debug, Default)]
pub(in super::super) struct Round {
    records: Place,
    rows: Place,
    /// By table: when keys were met last that an open transaction has inserted.
    taken: BTreeMap<String, Instant>,
}

impl Round {
    fn keys(&self, table: &str) -> Keys {
        let is_known = self.taken.get(table).is_some_and(|taken| taken.elapsed() < TRIAL_COUNTS);
        Keys::Due(if is_known { Duration::ZERO } else { TRIAL })
    }

    fn note_taken(&mut self, keys: Keys, decided: &Decided<'_>) {
        if keys == Keys::Due(TRIAL) && decided.meets_taken_keys() {
            self.taken.insert(decided.name.to_owned(), Instant::now());
        }
    }
}

/// Settles what is due of some partitions, and rows that do not show all of their state; everything in the caller's
/// transaction. It takes several calls to come to all of them.
pub(in super::super) async fn settle(
    conn: &mut PgConnection,
    node: &NodeSettings,
    partitions: &[PartitionKey],
    round: &mut Round,
) -> Result<Contested, TargetError> {
    let mut contested = Contested::default();
    records(conn, node, partitions, round, &mut contested).await?;
    rows(conn, node, round, &mut contested).await?;
    fences::forget(conn).await?;
    contested.set_aside = waiting::left(conn, partitions).await? + states::unsettled(conn).await?;
    Ok(contested)
}

/// Settles records that waited.
async fn records(
    conn: &mut PgConnection,
    node: &NodeSettings,
    partitions: &[PartitionKey],
    round: &mut Round,
    contested: &mut Contested,
) -> Result<(), TargetError> {
    let due = waiting::due(conn, partitions, &mut round.records).await?;
    let mut by_table: BTreeMap<&str, Vec<&Waiting>> = BTreeMap::new();
    for waiting in &due {
        by_table.entry(waiting.table.as_str()).or_default().push(waiting);
    }
    for (name, of_table) in by_table {
        let mut pieces: Vec<(ContestTable, Rows, Vec<&Waiting>)> = Vec::new();
        for same in of_table.chunk_by(|a, b| a.columns == b.columns) {
            let table = table_of(conn, name, &same[0].columns).await?;
            let rows =
                rows_of(&table, same.iter().flat_map(|waiting| std::iter::once(&waiting.image).chain(&waiting.old)));
            pieces.push((table, rows, same.to_vec()));
        }
        let mut entrants = Vec::new();
        for (table, rows, of_piece) in &pieces {
            let mut next = 0;
            for waiting in of_piece {
                let at = |row| RowAt { table, rows, row };
                let (row, old) = (at(next), waiting.old.as_ref().map(|_| at(next + 1)));
                next += 1 + u32::from(old.is_some());
                entrants.push(Entrant {
                    row,
                    old,
                    key: &waiting.key,
                    operation: waiting.operation,
                    version: &waiting.version,
                    transaction: 0,
                    own: waiting.version.stamp.origin == node.name,
                    partition: &waiting.partition,
                    waited: waiting.waited,
                });
            }
        }
        let keys = round.keys(name);
        let decided = decide(conn, node, name, entrants, keys).await?;
        round.note_taken(keys, &decided);
        let fence = if decided.asks() { Some(send_fence(conn, node, &decided).await?) } else { None };
        for decision in &decided.keys {
            if let (true, Some(fence)) = (decision.verdict.asks(), fence) {
                waiting::wait_for(conn, name, decision.key, (fence, decision.found.row)).await?;
            }
        }
        let waits: HashSet<(&str, u32, u64)> = decided
            .keys
            .iter()
            .flat_map(|key| key.verdict.waits().iter().map(|turn| key.turns.start + turn))
            .map(|turn| place(decided.entrants[turn].version))
            .collect();
        let settled = of_table.iter().copied().filter(|waiting| !waits.contains(&place(&waiting.version)));
        let settled: Vec<&Waiting> = settled.collect();
        waiting::take_out(conn, &settled).await?;
        if !settled.is_empty() {
            let steps = steps(conn, name, &settled).await?;
            tell(conn, node, std::slice::from_ref(&decided), steps).await?;
        }
        write(conn, node, decided, fence, contested).await?;
    }
    Ok(())
}

fn place(version: &Version) -> (&str, u32, u64) {
    (&version.stamp.origin, version.partition, version.offset)
}

/// Looks at rows again that do not show all of their state.
async fn rows(
    conn: &mut PgConnection,
    node: &NodeSettings,
    round: &mut Round,
    contested: &mut Contested,
) -> Result<(), TargetError> {
    let due = states::due(conn, MOST, &mut round.rows).await?;
    for same in due.chunk_by(|a, b| a.table == b.table) {
        let name = same[0].table.as_str();
        let columns = described::columns_of(conn, name).await?;
        let table = table_of(conn, name, &columns).await?;
        let images: Vec<Image> =
            same.iter().map(|due| columns.iter().map(|column| due.row_key.get(column).cloned()).collect()).collect();
        let keys = rows_of(&table, images.iter());
        let at = |row| RowAt { table: &table, rows: &keys, row };
        let keys = same.iter().zip(0..).map(|(due, row)| (due.key.as_slice(), at(row))).collect();
        let known = round.keys(name);
        let decided = look_again(conn, node, name, keys, known).await?;
        round.note_taken(known, &decided);
        let fence = if decided.asks() { Some(send_fence(conn, node, &decided).await?) } else { None };
        tell(conn, node, std::slice::from_ref(&decided), Vec::new()).await?;
        write(conn, node, decided, fence, contested).await?;
    }
    Ok(())
}

/// Queues up for the row that a record has waited for long, as any other transaction would, and settles what is due then;
/// everything in the caller's transaction. Looking whether a row is free never meets one that is written all the time.
///
/// # Errors
///
/// Also where the row is not to be had in a short time.
pub(in super::super) async fn insist(
    conn: &mut PgConnection,
    node: &NodeSettings,
    partitions: &[PartitionKey],
) -> Result<Contested, TargetError> {
    let doing = Doing::Bookkeeping("waiting for a row that is written all the time");
    sqlx::raw_sql("SET LOCAL lock_timeout = '300ms'").execute(&mut *conn).await.map_err(|error| doing.error(error))?;
    let mut round = Round::default();
    if let Some(waiting) = waiting::unlucky(conn, partitions).await? {
        let table = table_of(conn, &waiting.table, &waiting.columns).await?;
        let rows = rows_of(&table, std::iter::once(&waiting.image));
        let row = [RowAt { table: &table, rows: &rows, row: 0 }];
        let mut query = sqlx::query(AssertSqlSafe(table.queue_up()));
        for array in CellArray::key(&table, &row) {
            query = query.bind(array);
        }
        query.execute(&mut *conn).await.map_err(|error| doing.error(error))?;
        round.records = Place { table: waiting.table, key: waiting.key };
    }
    settle(conn, node, partitions, &mut round).await
}

/// How far the node has come with the partitions of what was settled.
async fn steps<'w>(
    conn: &mut PgConnection,
    table: &str,
    settled: &[&'w Waiting],
) -> Result<Vec<Step<'w>>, TargetError> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for waiting in settled {
        if steps.iter().all(|step| *step.partition != waiting.partition) {
            let to = super::super::progress::next_offset(conn, &waiting.partition).await?;
            steps.push(Step { partition: &waiting.partition, to, table: table.to_owned() });
        }
    }
    Ok(steps)
}
