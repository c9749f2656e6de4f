//! `_syncline.waiting`: records that wait for this node's own changes to come by.

use sqlx::{PgConnection, Row};
use syncline_event::stamp::{Seen, Stamp};
use syncline_transforms::resolve::row::{Operation, Version};

use super::super::error::Doing;
use super::fold::Waited;
use super::table::{ContestTable, Image};
use crate::targets::{PartitionKey, TargetError};

const DOING: Doing<'static> = Doing::Bookkeeping("setting records aside (_syncline.waiting)");

/// Records settled in one transaction at most.
const MOST: i64 = 1_000;

/// A record to be set aside.
pub(super) struct Aside<'a> {
    pub(super) table: &'a ContestTable,
    /// The new row, of a delete the old one.
    pub(super) image: Image,
    /// The old row of an update.
    pub(super) old: Option<Image>,
    pub(super) key: &'a [u8],
    pub(super) operation: Operation,
    pub(super) version: &'a Version,
    pub(super) partition: &'a PartitionKey,
    /// The fence it waits for; one that joins others of its key waits for theirs.
    pub(super) fence: Option<u64>,
    /// The row's `xmin` when the fence was sent.
    pub(super) xmin: Option<u32>,
}

/// A record that was set aside.
pub(super) struct Waiting {
    pub(super) partition: PartitionKey,
    pub(super) table: String,
    pub(super) key: Vec<u8>,
    pub(super) operation: Operation,
    pub(super) version: Version,
    pub(super) columns: Vec<String>,
    pub(super) image: Image,
    pub(super) old: Option<Image>,
    pub(super) waited: Waited,
}

/// Sets records aside.
pub(super) async fn set_aside(conn: &mut PgConnection, asides: &[Aside<'_>]) -> Result<(), TargetError> {
    for same in asides.chunk_by(|a, b| std::ptr::eq(a.table, b.table)) {
        set_aside_same(conn, same[0].table, same).await?;
    }
    Ok(())
}

async fn set_aside_same(
    conn: &mut PgConnection,
    table: &ContestTable,
    asides: &[Aside<'_>],
) -> Result<(), TargetError> {
    let Some(first) = asides.first() else { return Ok(()) };
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let seen =
        |aside: &Aside<'_>| serde_json::to_string(&aside.version.seen).expect("names and numbers can be written");
    let json = |image: &Image| serde_json::to_string(image).expect("texts can be written");
    sqlx::query(SET_ASIDE)
        .bind(&first.partition.group)
        .bind(&first.partition.cluster_id)
        .bind(&table.name)
        .bind(&table.names)
        .bind(asides.iter().map(|aside| aside.partition.topic_id.as_str()).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| i64::from(aside.partition.partition)).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| signed(aside.version.offset)).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| aside.partition.topic.as_str()).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| aside.key).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| operation_name(aside.operation)).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| signed(aside.version.stamp.clock_us)).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| i64::from(aside.version.stamp.counter)).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| aside.version.stamp.origin.as_str()).collect::<Vec<_>>())
        .bind(asides.iter().map(seen).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| aside.fence.map(signed)).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| aside.xmin.map(i64::from)).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| json(&aside.image)).collect::<Vec<_>>())
        .bind(asides.iter().map(|aside| aside.old.as_ref().map(json)).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map_err(|error| DOING.error(error))?;
    Ok(())
}

/// One that joins others of its key waits for their fence. Images are arrays of texts, which `unnest` would flatten.
const SET_ASIDE: &str = "\
INSERT INTO _syncline.waiting (consumer_group, cluster_id, topic_id, partition, record_offset, topic, table_name, key, \
  operation, clock_us, counter, origin, seen, columns, image, old, fence, fence_xmin) \
SELECT $1, $2, m.topic_id, m.partition::int4, m.record_offset, m.topic, $3, m.key, m.operation, m.clock_us, m.counter, \
  m.origin, m.seen, $4::text[], \
  (SELECT pg_catalog.array_agg(e.v ORDER BY e.n) \
   FROM pg_catalog.jsonb_array_elements_text(m.image::jsonb) WITH ORDINALITY AS e (v, n)), \
  (SELECT pg_catalog.array_agg(e.v ORDER BY e.n) \
   FROM pg_catalog.jsonb_array_elements_text(m.old::jsonb) WITH ORDINALITY AS e (v, n)), \
  coalesce(m.fence, h.fence), coalesce(m.fence_xmin, h.fence_xmin) \
FROM unnest($5::text[], $6::int8[], $7::int8[], $8::text[], $9::bytea[], $10::text[], $11::int8[], $12::int8[], \
  $13::text[], $14::text[], $15::int8[], $16::int8[], $17::text[], $18::text[]) AS m (topic_id, partition, \
  record_offset, topic, key, operation, clock_us, counter, origin, seen, fence, fence_xmin, image, old) \
LEFT JOIN LATERAL (SELECT w.fence, w.fence_xmin FROM _syncline.waiting w WHERE w.table_name = $3 AND w.key = m.key \
  AND w.fence IS NOT NULL ORDER BY w.fence DESC LIMIT 1) AS h ON true";

/// Where a round through what waits goes on: at a table's key, or at the first of all. Looking at the first ones only would
/// never come past rows that somebody has locked for long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) table: String,
    pub(super) key: Vec<u8>,
}

impl Place {
    /// Behind the last key that was looked at; at the first one, where fewer were found than could be looked at.
    pub(super) fn behind(last: Option<(&str, &[u8])>, found: usize, most: i64) -> Self {
        match last {
            Some((table, key)) if i64::try_from(found).is_ok_and(|found| found >= most) => {
                Self { table: table.to_owned(), key: [key, &[0]].concat() }
            }
            _ => Self::default(),
        }
    }
}

/// Records of some partitions that need not wait any longer, or that wait for a row which somebody else had locked; by
/// table, key and place. Their partitions' progress rows are locked first, so that nobody else settles them. The next call
/// goes on behind them.
pub(super) async fn due(
    conn: &mut PgConnection,
    partitions: &[PartitionKey],
    from: &mut Place,
) -> Result<Vec<Waiting>, TargetError> {
    let Some(first) = partitions.first() else { return Ok(Vec::new()) };
    let mut sorted: Vec<&PartitionKey> = partitions.iter().collect();
    sorted.sort_unstable();
    let topic_ids: Vec<&str> = sorted.iter().map(|partition| partition.topic_id.as_str()).collect();
    let numbers: Vec<i32> = sorted.iter().map(|partition| partition.partition).collect();
    sqlx::query(
        "SELECT FROM _syncline.progress p JOIN unnest($3::text[], $4::int4[]) AS u (topic_id, partition) \
         USING (topic_id, partition) WHERE p.consumer_group = $1 AND p.cluster_id = $2 \
         ORDER BY p.topic, p.topic_id, p.partition FOR UPDATE OF p",
    )
    .bind(&first.group)
    .bind(&first.cluster_id)
    .bind(&topic_ids)
    .bind(&numbers)
    .execute(&mut *conn)
    .await
    .map_err(|error| DOING.error(error))?;
    let rows = sqlx::query(
        "SELECT w.topic, w.topic_id, w.partition, w.record_offset, w.table_name, w.key, w.operation, w.clock_us, \
         w.counter, w.origin, w.seen, w.columns, w.image, w.old, w.fence, w.fence_xmin FROM _syncline.waiting w \
         JOIN unnest($3::text[], $4::int4[]) AS u (topic_id, partition) USING (topic_id, partition) \
         LEFT JOIN _syncline.fences f ON f.id = w.fence \
         WHERE w.consumer_group = $1 AND w.cluster_id = $2 \
         AND (f.id IS NULL OR pg_catalog.cardinality(f.arrived) >= f.partitions) \
         AND (w.table_name, w.key) >= ($6, $7) \
         ORDER BY w.table_name, w.key, w.since, w.record_offset LIMIT $5",
    )
    .bind(&first.group)
    .bind(&first.cluster_id)
    .bind(&topic_ids)
    .bind(&numbers)
    .bind(MOST)
    .bind(&from.table)
    .bind(&from.key)
    .fetch_all(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        due.push(waiting(&row, first).map_err(|error| DOING.error(error))?);
    }
    let last = due.last().map(|last| (last.table.as_str(), last.key.as_slice()));
    *from = Place::behind(last, due.len(), MOST);
    Ok(due)
}

/// The record that has waited longest, and long, for a row that somebody else has locked whenever it is looked at.
pub(super) async fn unlucky(
    conn: &mut PgConnection,
    partitions: &[PartitionKey],
) -> Result<Option<Waiting>, TargetError> {
    let Some(first) = partitions.first() else { return Ok(None) };
    let row = sqlx::query(
        "SELECT w.topic, w.topic_id, w.partition, w.record_offset, w.table_name, w.key, w.operation, w.clock_us, \
         w.counter, w.origin, w.seen, w.columns, w.image, w.old, w.fence, w.fence_xmin FROM _syncline.waiting w \
         JOIN unnest($3::text[], $4::int4[]) AS u (topic_id, partition) USING (topic_id, partition) \
         LEFT JOIN _syncline.fences f ON f.id = w.fence WHERE w.consumer_group = $1 AND w.cluster_id = $2 \
         AND (f.id IS NULL OR pg_catalog.cardinality(f.arrived) >= f.partitions) \
         AND w.since < pg_catalog.now() - interval '3 seconds' ORDER BY w.since, w.record_offset LIMIT 1",
    )
    .bind(&first.group)
    .bind(&first.cluster_id)
    .bind(partitions.iter().map(|partition| partition.topic_id.as_str()).collect::<Vec<_>>())
    .bind(partitions.iter().map(|partition| partition.partition).collect::<Vec<_>>())
    .fetch_optional(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    row.map(|row| waiting(&row, first).map_err(|error| DOING.error(error))).transpose()
}

fn waiting(row: &sqlx::postgres::PgRow, of: &PartitionKey) -> Result<Waiting, sqlx::Error> {
    let number = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
    let partition: i32 = row.try_get("partition")?;
    let xmin: Option<i64> = row.try_get("fence_xmin")?;
    let returned = row.try_get::<Option<i64>, _>("fence")?.is_some();
    let seen: &str = row.try_get("seen")?;
    Ok(Waiting {
        partition: PartitionKey {
            topic: row.try_get("topic")?,
            topic_id: row.try_get("topic_id")?,
            partition,
            ..of.clone()
        },
        table: row.try_get("table_name")?,
        key: row.try_get("key")?,
        operation: match row.try_get("operation")? {
            "insert" => Operation::Insert,
            "update" => Operation::Update,
            _ => Operation::Delete,
        },
        version: Version {
            stamp: Stamp {
                clock_us: number("clock_us")?,
                counter: u32::try_from(number("counter")?).unwrap_or(u32::MAX),
                origin: row.try_get("origin")?,
            },
            seen: serde_json::from_str::<Seen>(seen).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            partition: partition.unsigned_abs(),
            offset: number("record_offset")?,
        },
        columns: row.try_get("columns")?,
        image: row.try_get("image")?,
        old: row.try_get("old")?,
        waited: if returned {
            Waited::ForFence(xmin.and_then(|xmin| u32::try_from(xmin).ok()))
        } else {
            Waited::ForRow
        },
    })
}

/// Takes records out.
pub(super) async fn take_out(conn: &mut PgConnection, done: &[&Waiting]) -> Result<(), TargetError> {
    let Some(first) = done.first() else { return Ok(()) };
    sqlx::query(
        "DELETE FROM _syncline.waiting w USING unnest($3::text[], $4::int4[], $5::int8[]) AS u (topic_id, \
         partition, record_offset) WHERE w.consumer_group = $1 AND w.cluster_id = $2 AND w.topic_id = u.topic_id \
         AND w.partition = u.partition AND w.record_offset = u.record_offset",
    )
    .bind(&first.partition.group)
    .bind(&first.partition.cluster_id)
    .bind(done.iter().map(|waiting| waiting.partition.topic_id.as_str()).collect::<Vec<_>>())
    .bind(done.iter().map(|waiting| waiting.partition.partition).collect::<Vec<_>>())
    .bind(done.iter().map(|waiting| i64::try_from(waiting.version.offset).unwrap_or(i64::MAX)).collect::<Vec<_>>())
    .execute(&mut *conn)
    .await
    .map_err(|error| DOING.error(error))?;
    Ok(())
}

/// Has the key's records wait for a fence.
pub(super) async fn wait_for(
    conn: &mut PgConnection,
    table: &str,
    key: &[u8],
    (fence, xmin): (u64, Option<u32>),
) -> Result<(), TargetError> {
    sqlx::query("UPDATE _syncline.waiting SET fence = $3, fence_xmin = $4 WHERE table_name = $1 AND key = $2")
        .bind(table)
        .bind(key)
        .bind(i64::try_from(fence).unwrap_or(i64::MAX))
        .bind(xmin.map(i64::from))
        .execute(conn)
        .await
        .map_err(|error| DOING.error(error))?;
    Ok(())
}

/// The lowest offset of each of some partitions that waits, or that a row of the table does not show. `partitions` are
/// each with their node.
pub(super) async fn lowest(
    conn: &mut PgConnection,
    table: &str,
    partitions: &[(&PartitionKey, &str)],
) -> Result<Vec<Option<i64>>, TargetError> {
    let Some((first, _)) = partitions.first() else { return Ok(Vec::new()) };
    sqlx::query_scalar(
        "SELECT least((SELECT min(w.record_offset) FROM _syncline.waiting w WHERE w.consumer_group = $1 \
         AND w.cluster_id = $2 AND w.topic_id = u.topic_id AND w.partition = u.partition), \
         (SELECT min((h ->> 'offset')::int8) FROM _syncline.row_stamps s, pg_catalog.jsonb_array_elements(s.held) AS h \
         WHERE s.table_name = $6 AND s.row_key IS NOT NULL AND h ->> 'origin' = u.origin \
         AND (h ->> 'partition')::int4 = u.partition)) \
         FROM unnest($3::text[], $4::int4[], $5::text[]) WITH ORDINALITY AS u (topic_id, partition, origin, n) ORDER BY n",
    )
    .bind(&first.group)
    .bind(&first.cluster_id)
    .bind(partitions.iter().map(|(partition, _)| partition.topic_id.as_str()).collect::<Vec<_>>())
    .bind(partitions.iter().map(|(partition, _)| partition.partition).collect::<Vec<_>>())
    .bind(partitions.iter().map(|(_, origin)| *origin).collect::<Vec<_>>())
    .bind(table)
    .fetch_all(conn)
    .await
    .map_err(|error| DOING.error(error))
}

/// Of some keys: the lowest offset that waits in each partition where any does.
pub(super) async fn of_keys(
    conn: &mut PgConnection,
    table: &str,
    keys: &[&[u8]],
) -> Result<Vec<(Vec<u8>, String, i32, i64)>, TargetError> {
    sqlx::query_as(
        "SELECT key, origin, partition, min(record_offset) FROM _syncline.waiting \
         WHERE table_name = $1 AND key = ANY ($2::bytea[]) GROUP BY key, origin, partition",
    )
    .bind(table)
    .bind(keys)
    .fetch_all(conn)
    .await
    .map_err(|error| DOING.error(error))
}

/// How many records of some partitions wait.
pub(super) async fn left(conn: &mut PgConnection, partitions: &[PartitionKey]) -> Result<u64, TargetError> {
    let Some(first) = partitions.first() else { return Ok(0) };
    let left: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM _syncline.waiting w JOIN unnest($3::text[], $4::int4[]) AS u (topic_id, \
         partition) USING (topic_id, partition) WHERE w.consumer_group = $1 AND w.cluster_id = $2",
    )
    .bind(&first.group)
    .bind(&first.cluster_id)
    .bind(partitions.iter().map(|partition| partition.topic_id.as_str()).collect::<Vec<_>>())
    .bind(partitions.iter().map(|partition| partition.partition).collect::<Vec<_>>())
    .fetch_one(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    Ok(left.unsigned_abs())
}

/// How many records of a group wait, and rows do not show all of their state.
pub(in crate::targets::postgres) async fn of_group(
    conn: &mut PgConnection,
    group: &str,
    cluster_id: &str,
) -> Result<u64, TargetError> {
    let waiting: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM _syncline.waiting WHERE consumer_group = $1 AND cluster_id = $2) + \
             (SELECT count(*) FROM _syncline.row_stamps WHERE row_key IS NOT NULL)",
    )
    .bind(group)
    .bind(cluster_id)
    .fetch_one(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    Ok(waiting.unsigned_abs())
}

fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Insert => "insert",
        Operation::Update => "update",
        Operation::Delete => "delete",
    }
}
