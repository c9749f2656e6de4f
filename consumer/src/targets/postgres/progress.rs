//! Progress rows: read, compared and swapped, stopped.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use syncline_event::position::{ENCODED_LEN, Position};
use syncline_runtime::retry::ErrorClass;

use super::error::Doing;
use crate::targets::{Arrival, Move, PartitionKey, Progress, TargetError};

/// Reads a row, after inserting it where there is none.
///
/// A row whose barrier has been released (or dropped) since is shown as waiting for nothing.
pub(super) async fn read(conn: &mut PgConnection, partition: &PartitionKey) -> Result<(Progress, bool), TargetError> {
    let doing = Doing::Bookkeeping("reading progress");
    let inserted = sqlx::query(
        "INSERT INTO _syncline.progress (consumer_group, cluster_id, topic, topic_id, partition, next_offset) \
         VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT DO NOTHING",
    )
    .bind(&partition.group)
    .bind(&partition.cluster_id)
    .bind(&partition.topic)
    .bind(&partition.topic_id)
    .bind(partition.partition)
    .execute(&mut *conn)
    .await
    .map_err(|error| doing.error(error))?
    .rows_affected()
        == 1;
    let row = sqlx::query(SELECT_ONE)
        .bind(&partition.group)
        .bind(&partition.cluster_id)
        .bind(&partition.topic_id)
        .bind(partition.partition)
        .fetch_one(conn)
        .await
        .map_err(|error| doing.error(error))?;
    Ok((progress(&row, &partition.topic, partition.partition)?, inserted))
}

/// Reads every row of a topic's name, whatever the topic's id.
pub(super) async fn read_topic(
    conn: &mut PgConnection,
    group: &str,
    cluster_id: &str,
    topic: &str,
) -> Result<Vec<(PartitionKey, Progress)>, TargetError> {
    let doing = Doing::Bookkeeping("reading progress");
    let rows = sqlx::query(SELECT_TOPIC)
        .bind(group)
        .bind(cluster_id)
        .bind(topic)
        .fetch_all(conn)
        .await
        .map_err(|error| doing.error(error))?;
    rows.iter()
        .map(|row| {
            let key = PartitionKey {
                group: group.to_owned(),
                cluster_id: cluster_id.to_owned(),
                topic: topic.to_owned(),
                topic_id: row.try_get("topic_id").map_err(|error| doing.error(error))?,
                partition: row.try_get("partition").map_err(|error| doing.error(error))?,
            };
            let progress = progress(row, topic, key.partition)?;
            Ok((key, progress))
        })
        .collect()
}

/// The columns of a progress row. One whose barrier is finished waits for nothing.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT p.topic_id, p.partition, p.next_offset, p.position, p.stopped, \
             CASE WHEN b.released OR b.dropped THEN NULL ELSE p.waits_for END AS waits_for \
             FROM _syncline.progress p LEFT JOIN _syncline.barriers b \
             ON (b.consumer_group, b.cluster_id, b.topic_id, b.position) = \
                (p.consumer_group, p.cluster_id, p.topic_id, p.waits_for) \
             WHERE p.consumer_group = $1 AND p.cluster_id = $2 AND ",
            $condition
        )
    };
}

const SELECT_ONE: &str = select!("p.topic_id = $3 AND p.partition = $4");
const SELECT_TOPIC: &str = select!("p.topic = $3");

fn progress(row: &PgRow, topic: &str, partition: i32) -> Result<Progress, TargetError> {
    let doing = Doing::Bookkeeping("reading progress");
    let position = |column: &str| {
        let bytes: Option<Vec<u8>> = row.try_get(column).map_err(|error| doing.error(error))?;
        decode(bytes.as_deref(), topic, partition)
    };
    Ok(Progress {
        next_offset: row.try_get("next_offset").map_err(|error| doing.error(error))?,
        position: position("position")?,
        waits_for: position("waits_for")?,
        stopped: row.try_get("stopped").map_err(|error| doing.error(error))?,
    })
}

fn decode(bytes: Option<&[u8]>, topic: &str, partition: i32) -> Result<Option<Position>, TargetError> {
    match bytes {
        None => Ok(None),
        Some(bytes) => Position::decode(bytes).map(Some).ok_or_else(|| TargetError {
            class: ErrorClass::Fatal,
            message: format!(
                "_syncline.progress holds no position for {topic}/{partition}; it was changed by hand or by a newer build"
            ),
            table: None,
            source: None,
        }),
    }
}

/// Moves all rows in one statement; the number moved. Fewer than asked for means that someone else owns a partition,
/// or that one waits at a barrier.
///
/// A partition that arrives at a marker waits for it from now on; whether the barrier is released is the barrier's
/// row to say, so that a release need not touch the rows of other owners. A table that is not known yet stands under
/// its topic's name, which is none.
pub(super) async fn swap(conn: &mut PgConnection, moves: &[Move], arrivals: &[Arrival]) -> Result<u64, TargetError> {
    let mut sorted: Vec<&Move> = moves.iter().collect();
    sorted.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
    let positions: Vec<Option<[u8; ENCODED_LEN]>> =
        sorted.iter().map(|step| step.position.as_ref().map(Position::encode)).collect();
    let waits: Vec<Option<[u8; ENCODED_LEN]>> = sorted
        .iter()
        .map(|step| {
            let arrival = arrivals.iter().find(|arrival| arrival.partition == step.partition);
            arrival.map(|arrival| arrival.position.encode())
        })
        .collect();
    fn texts<'a>(sorted: &[&'a Move], get: impl Fn(&'a Move) -> &'a str) -> Vec<&'a str> {
        sorted.iter().map(|step| get(step)).collect()
    }
    fn slices(positions: &[Option<[u8; ENCODED_LEN]>]) -> Vec<Option<&[u8]>> {
        positions.iter().map(|position| position.as_ref().map(|bytes| &bytes[..])).collect()
    }
    let moved = sqlx::query(
        "UPDATE _syncline.progress AS p SET next_offset = m.next_offset, position = coalesce(m.position, p.position), \
         waits_for = m.waits_for, stopped = NULL, \
         table_name = coalesce(nullif(m.table_name, p.topic), p.table_name), records = p.records + m.records, \
         last_key = coalesce(m.last_key, p.last_key), updated_at = pg_catalog.clock_timestamp() \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::int8[], $6::int8[], $7::bytea[], \
         $8::bytea[], $9::text[], $10::int8[], $11::text[]) AS m (consumer_group, cluster_id, topic_id, partition, \
         expected, next_offset, position, waits_for, table_name, records, last_key) \
         WHERE p.consumer_group = m.consumer_group AND p.cluster_id = m.cluster_id AND p.topic_id = m.topic_id \
         AND p.partition = m.partition AND p.next_offset = m.expected \
         AND (p.waits_for IS NULL OR EXISTS (SELECT FROM _syncline.barriers b \
         WHERE b.consumer_group = p.consumer_group AND b.cluster_id = p.cluster_id AND b.topic_id = p.topic_id \
         AND b.position = p.waits_for AND (b.released OR b.dropped)))",
    )
    .bind(texts(&sorted, |step| &step.partition.group))
    .bind(texts(&sorted, |step| &step.partition.cluster_id))
    .bind(texts(&sorted, |step| &step.partition.topic_id))
    .bind(sorted.iter().map(|step| step.partition.partition).collect::<Vec<_>>())
    .bind(sorted.iter().map(|step| step.from).collect::<Vec<_>>())
    .bind(sorted.iter().map(|step| step.to).collect::<Vec<_>>())
    .bind(slices(&positions))
    .bind(slices(&waits))
    .bind(texts(&sorted, |step| &step.table))
    .bind(sorted.iter().map(|step| i64::try_from(step.records).unwrap_or(i64::MAX)).collect::<Vec<_>>())
    .bind(sorted.iter().map(|step| step.last_key.as_deref()).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map_err(|error| Doing::Bookkeeping("moving progress").error(error))?;
    Ok(moved.rows_affected())
}

/// Notes that a partition stopped, or runs again.
pub(super) async fn note_stop(
    conn: &mut PgConnection,
    partition: &PartitionKey,
    reason: Option<&str>,
) -> Result<(), TargetError> {
    sqlx::query(
        "UPDATE _syncline.progress SET stopped = $5, updated_at = pg_catalog.clock_timestamp() \
         WHERE consumer_group = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4 \
         AND stopped IS DISTINCT FROM $5",
    )
    .bind(&partition.group)
    .bind(&partition.cluster_id)
    .bind(&partition.topic_id)
    .bind(partition.partition)
    .bind(reason)
    .execute(conn)
    .await
    .map_err(|error| Doing::Bookkeeping("noting a stopped partition").error(error))?;
    Ok(())
}

/// Where a partition stands; 0 where it has no row.
pub(super) async fn next_offset(conn: &mut PgConnection, partition: &PartitionKey) -> Result<i64, TargetError> {
    let next: Option<i64> = sqlx::query_scalar(
        "SELECT next_offset FROM _syncline.progress \
         WHERE consumer_group = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4",
    )
    .bind(&partition.group)
    .bind(&partition.cluster_id)
    .bind(&partition.topic_id)
    .bind(partition.partition)
    .fetch_optional(conn)
    .await
    .map_err(|error| Doing::Bookkeeping("reading progress").error(error))?;
    Ok(next.unwrap_or_default())
}
