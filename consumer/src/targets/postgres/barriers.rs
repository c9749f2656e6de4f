//! Barriers: markers that stand in every partition of a topic and hold each of them until all have arrived.
//!
//! A barrier is finished when it is released (all partitions arrived, its work is done) or dropped (a partition passed
//! it without arriving: its records are gone, or a later marker took its place). Nobody waits at a finished barrier.

use sqlx::{PgConnection, Row};
use syncline_event::header::BarrierKind;
use syncline_event::position::Position;

use super::error::Doing;
use crate::targets::{Arrival, PartitionKey, TargetError};

/// What an arrival brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Whether the partition may go on.
    pub(super) released: bool,
    /// Whether the barrier's work falls to this transaction.
    pub(super) works: bool,
}

/// A partition of the topic that has no part in the barrier is beyond it: the barrier can never be complete.
const OVERTAKEN: &str = "EXISTS (SELECT FROM _syncline.progress q \
     WHERE q.consumer_group = b.consumer_group AND q.cluster_id = b.cluster_id AND q.topic_id = b.topic_id \
     AND q.partition < b.partitions AND q.position > b.position AND NOT q.partition = ANY (b.arrived))";

/// Notes all arrivals of a batch; the answers are in their order. The rows of the barriers stay locked until the end
/// of the transaction, and are locked in the order of topic and position.
pub(super) async fn arrive(conn: &mut PgConnection, arrivals: &[Arrival]) -> Result<Vec<Arrived>, TargetError> {
    let doing = Doing::Bookkeeping("arriving at a barrier");
    let mut order: Vec<usize> = (0..arrivals.len()).collect();
    order.sort_unstable_by_key(|index| {
        let arrival = &arrivals[*index];
        (&arrival.partition.topic_id, arrival.position, arrival.partition.partition)
    });
    let mut answers = vec![Arrived { released: false, works: false }; arrivals.len()];
    for index in order {
        answers[index] = arrive_one(conn, &arrivals[index]).await.map_err(|error| doing.error(error))?;
        // Those of this batch that came before the last one are released with it.
        if answers[index].released {
            for (other, arrival) in arrivals.iter().enumerate() {
                let same = arrival.position == arrivals[index].position
                    && arrival.partition.topic_id == arrivals[index].partition.topic_id;
                answers[other].released |= same;
            }
        }
    }
    Ok(answers)
}

async fn arrive_one(conn: &mut PgConnection, arrival: &Arrival) -> Result<Arrived, sqlx::Error> {
    let PartitionKey { group, cluster_id, topic, topic_id, partition } = &arrival.partition;
    let position = arrival.position.encode();
    sqlx::query(
        "UPDATE _syncline.barriers SET dropped = true, updated_at = pg_catalog.clock_timestamp() \
         WHERE consumer_group = $1 AND cluster_id = $2 AND topic_id = $3 AND position < $4 \
         AND NOT released AND NOT dropped",
    )
    .bind(group)
    .bind(cluster_id)
    .bind(topic_id)
    .bind(&position[..])
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "INSERT INTO _syncline.barriers (consumer_group, cluster_id, topic, topic_id, position, kind, partitions) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(group)
    .bind(cluster_id)
    .bind(topic)
    .bind(topic_id)
    .bind(&position[..])
    .bind(kind_name(arrival.kind))
    .bind(i32::try_from(arrival.partitions).unwrap_or(i32::MAX))
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "SELECT FROM _syncline.barriers \
         WHERE consumer_group = $1 AND cluster_id = $2 AND topic_id = $3 AND position = $4 FOR UPDATE",
    )
    .bind(group)
    .bind(cluster_id)
    .bind(topic_id)
    .bind(&position[..])
    .execute(&mut *conn)
    .await?;
    // A statement of its own, so that it sees what was committed while the lock was waited for.
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE _syncline.barriers b SET \
         arrived = CASE WHEN $5 = ANY (b.arrived) THEN b.arrived ELSE b.arrived || $5 END, \
         dropped = b.dropped OR (NOT b.released AND {OVERTAKEN}), updated_at = pg_catalog.clock_timestamp() \
         WHERE b.consumer_group = $1 AND b.cluster_id = $2 AND b.topic_id = $3 AND b.position = $4 \
         RETURNING b.released, b.dropped, pg_catalog.cardinality(b.arrived) >= b.partitions AS complete"
    )))
    .bind(group)
    .bind(cluster_id)
    .bind(topic_id)
    .bind(&position[..])
    .bind(partition)
    .fetch_one(&mut *conn)
    .await?;
    let (released, dropped, complete): (bool, bool, bool) =
        (row.try_get("released")?, row.try_get("dropped")?, row.try_get("complete")?);
    if dropped {
        tracing::warn!(
            topic = %topic, partition, position = %arrival.position,
            "barrier dropped without its work: a partition passed it without arriving"
        );
    }
    if released || dropped || !complete {
        return Ok(Arrived { released: released || dropped, works: false });
    }
    sqlx::query(
        "UPDATE _syncline.barriers SET released = true \
         WHERE consumer_group = $1 AND cluster_id = $2 AND topic_id = $3 AND position = $4",
    )
    .bind(group)
    .bind(cluster_id)
    .bind(topic_id)
    .bind(&position[..])
    .execute(&mut *conn)
    .await?;
    forget_earlier(conn, &arrival.partition, &position).await?;
    Ok(Arrived { released: true, works: true })
}

/// Removes the topic's earlier barriers that are finished and that every partition has left behind: nobody will ask
/// for them again. The latest one stays, so that a single partition is not set back across it.
async fn forget_earlier(conn: &mut PgConnection, partition: &PartitionKey, latest: &[u8]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM _syncline.barriers b WHERE b.consumer_group = $1 AND b.cluster_id = $2 AND b.topic_id = $3 \
         AND b.position < $4 AND (b.released OR b.dropped) AND NOT EXISTS (SELECT FROM _syncline.progress p \
         WHERE p.consumer_group = b.consumer_group AND p.cluster_id = b.cluster_id AND p.topic_id = b.topic_id \
         AND (p.position IS NULL OR p.position <= b.position OR p.waits_for = b.position))",
    )
    .bind(&partition.group)
    .bind(&partition.cluster_id)
    .bind(&partition.topic_id)
    .bind(latest)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether nobody waits at the barrier any more. A barrier that some partition has passed without arriving is dropped
/// on the way.
pub(super) async fn is_finished(
    conn: &mut PgConnection,
    partition: &PartitionKey,
    position: Position,
) -> Result<bool, TargetError> {
    let doing = Doing::Bookkeeping("asking for a barrier");
    let position = position.encode();
    let finished: Option<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT b.released OR b.dropped OR {OVERTAKEN} FROM _syncline.barriers b \
         WHERE b.consumer_group = $1 AND b.cluster_id = $2 AND b.topic_id = $3 AND b.position = $4"
    )))
    .bind(&partition.group)
    .bind(&partition.cluster_id)
    .bind(&partition.topic_id)
    .bind(&position[..])
    .fetch_optional(&mut *conn)
    .await
    .map_err(|error| doing.error(error))?;
    if finished == Some(true) {
        // Only an overtaken one is neither released nor dropped yet. The work of a barrier whose last partition
        // arrives just now is not lost: it holds the row's lock, and the condition is looked at again behind it.
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE _syncline.barriers b SET dropped = true, updated_at = pg_catalog.clock_timestamp() \
             WHERE b.consumer_group = $1 AND b.cluster_id = $2 AND b.topic_id = $3 AND b.position = $4 \
             AND NOT b.released AND NOT b.dropped AND {OVERTAKEN}"
        )))
        .bind(&partition.group)
        .bind(&partition.cluster_id)
        .bind(&partition.topic_id)
        .bind(&position[..])
        .execute(conn)
        .await
        .map_err(|error| doing.error(error))?;
    }
    Ok(finished.unwrap_or(false))
}

fn kind_name(kind: BarrierKind) -> &'static str {
    match kind {
        BarrierKind::Epoch => "epoch",
        BarrierKind::Truncate => "truncate",
        BarrierKind::Snapshot => "snapshot",
        BarrierKind::KeyColumns => "key_columns",
    }
}
