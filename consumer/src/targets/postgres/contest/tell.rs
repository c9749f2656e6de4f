//! What the node's producer is told in the log: that a transaction's rows came from other nodes, how far the node has
//! come with those, and which rows do not show all of that.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use syncline_event::stamp::{APPLIED_PREFIX, Applied, AppliedProgress, Held, key_hash};
use syncline_transforms::resolve::row::Version;

use super::super::error::Doing;
use super::columns::Holding;
use super::decide::{Decided, Verdict};
use super::table::{RowAt, key_texts};
use super::waiting;
use crate::config::NodeSettings;
use crate::targets::{Move, PartitionKey, TargetError};

/// Keys named in one message; of more, what they hold back counts for all keys of the partition.
const MOST_HELD: usize = 1_000;

/// How far the node comes with a partition of another node.
pub(super) struct Step<'a> {
    pub(super) partition: &'a PartitionKey,
    /// The offset behind its last record.
    pub(super) to: i64,
    /// The table that its records go to.
    pub(super) table: String,
}

/// The steps of a batch.
pub(super) fn steps<'b>(node: &NodeSettings, moves: &'b [Move], decided: &[Decided<'b>]) -> Vec<Step<'b>> {
    let table_of = |partition: &PartitionKey| {
        let of_partition = |decided: &&Decided<'_>| {
            decided.entrants.iter().any(|entrant| !entrant.own && entrant.partition.topic == partition.topic)
        };
        decided.iter().find(of_partition).map(|decided| decided.name.to_owned())
    };
    let others = moves.iter().filter(|step| !node.is_own(&step.partition.topic));
    others
        .filter_map(|step| Some(Step { partition: &step.partition, to: step.to, table: table_of(&step.partition)? }))
        .collect()
}

/// Tells it, before any row is written.
pub(super) async fn tell(
    conn: &mut PgConnection,
    node: &NodeSettings,
    decided: &[Decided<'_>],
    steps: Vec<Step<'_>>,
) -> Result<(), TargetError> {
    let (mut held, mut crowded) = (Vec::new(), Vec::new());
    for decided in decided {
        let of_table = held_by(conn, decided).await?;
        // What is released has to be named.
        let (released, holds): (Vec<Held>, Vec<Held>) = of_table.into_iter().partition(|held| held.from.is_none());
        if holds.len() > MOST_HELD {
            crowded.push(decided.name);
        }
        held.extend(released);
        held.extend(holds.into_iter().take(MOST_HELD));
    }
    let writes = decided.iter().any(|decided| decided.keys.iter().any(|decision| decision.verdict.writes()));
    if steps.is_empty() && held.is_empty() && !writes {
        return Ok(());
    }
    let mut progress = Vec::with_capacity(steps.len());
    for same in by_table(steps) {
        let partitions: Vec<(&PartitionKey, &str)> =
            same.iter().filter_map(|step| Some((step.partition, node.origin_of(&step.partition.topic)?))).collect();
        let table = &same[0].table;
        let lowest = waiting::lowest(conn, table, &partitions).await?;
        let crowded = crowded.contains(&table.as_str());
        progress.extend(same.iter().zip(&partitions).zip(lowest).map(|((step, (partition, origin)), lowest)| {
            AppliedProgress {
                origin: (*origin).to_owned(),
                table: table.clone(),
                partition: partition.partition.unsigned_abs(),
                next_offset: step.to.unsigned_abs(),
                held_from: lowest.map(i64::unsigned_abs),
                crowded,
            }
        }));
    }
    let (clock_us, counter) = decided.iter().map(Decided::highest).max().unwrap_or_default();
    let message = Applied { topology: node.topology.clone(), clock_us, counter, progress, held };
    let content = serde_json::to_string(&message).expect("names and numbers can be written");
    sqlx::query("SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)")
        .bind(APPLIED_PREFIX)
        .bind(content)
        .execute(conn)
        .await
        .map_err(|error| Doing::Bookkeeping("marking a transaction in the log").error(error))?;
    Ok(())
}

fn by_table(steps: Vec<Step<'_>>) -> Vec<Vec<Step<'_>>> {
    let mut by_table: BTreeMap<String, Vec<Step<'_>>> = BTreeMap::new();
    for step in steps {
        by_table.entry(step.table.clone()).or_default().push(step);
    }
    by_table.into_values().collect()
}

/// A key whose records wait, or no longer.
struct Queue<'a> {
    key: &'a [u8],
    row: RowAt<'a>,
    /// Where the records are: nodes and partitions.
    places: Vec<(String, u32)>,
}

/// Keys of which something else is held back than before.
async fn held_by(conn: &mut PgConnection, decided: &Decided<'_>) -> Result<Vec<Held>, TargetError> {
    let mut changed: Vec<(RowAt<'_>, Vec<Holding>)> = Vec::new();
    let mut queues = Vec::new();
    for decision in &decided.keys {
        match &decision.verdict {
            Verdict::Columns(resolution) if resolution.held.is_empty() => {}
            Verdict::Columns(resolution) => changed.push((decision.row, resolution.held.clone())),
            Verdict::Row(outcome) => {
                // Records that have waited are with the turns when they no longer do.
                let turns = decided.entrants[decision.turns.clone()].iter().enumerate();
                let touched = turns.filter(|(turn, entrant)| {
                    !entrant.own && (entrant.waited.was_aside() || outcome.waits.contains(turn))
                });
                let place = |version: &Version| (version.stamp.origin.clone(), version.partition);
                let mut places: Vec<_> = touched.map(|(_, entrant)| place(entrant.version)).collect();
                places.sort_unstable();
                places.dedup();
                if !places.is_empty() {
                    queues.push(Queue { key: decision.key, row: decision.row, places });
                }
            }
        }
    }
    if !queues.is_empty() {
        changed.extend(lowest_of(conn, decided.name, queues).await?);
    }
    let rows: Vec<RowAt<'_>> = changed.iter().map(|(row, _)| *row).collect();
    let keys = key_texts(conn, &rows).await?;
    let held = changed.into_iter().zip(keys).flat_map(|((_, of), key)| {
        // By the columns' names, as the map has them.
        let key = key_hash(key.values().map(String::as_str));
        of.into_iter().map(move |Holding { origin, partition, from }| Held {
            table: decided.name.to_owned(),
            key,
            origin,
            partition,
            from,
        })
    });
    Ok(held.collect())
}

/// What waits of each key by now.
async fn lowest_of<'a>(
    conn: &mut PgConnection,
    table: &str,
    queues: Vec<Queue<'a>>,
) -> Result<Vec<(RowAt<'a>, Vec<Holding>)>, TargetError> {
    let keys: Vec<&[u8]> = queues.iter().map(|queue| queue.key).collect();
    let mut lowest = BTreeMap::new();
    for (key, origin, partition, offset) in waiting::of_keys(conn, table, &keys).await? {
        lowest.insert((key, origin, partition.unsigned_abs()), offset.unsigned_abs());
    }
    let holdings = queues.into_iter().map(|Queue { key, row, places }| {
        let holdings = places.into_iter().map(|(origin, partition)| {
            let from = lowest.get(&(key.to_vec(), origin.clone(), partition)).copied();
            Holding { origin, partition, from }
        });
        (row, holdings.collect())
    });
    Ok(holdings.collect())
}
