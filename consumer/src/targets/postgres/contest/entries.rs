//! `_syncline.row_stamps`: what each row has been through.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use syncline_event::stamp::{Seen, Stamp};
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::echo::{self, Entry};
use syncline_transforms::resolve::row::{Stored, Version};

use super::super::error::Doing;
use super::columns::StateEntry;
use super::fold::{Found, Unsettled};
use crate::targets::TargetError;

/// How long a batch waits for a transaction to become visible, before others get their turn.
const MOST_PATIENCE: Duration = Duration::from_secs(5);

const DOING: Doing<'static> = Doing::Bookkeeping("comparing changes of several nodes (_syncline.row_stamps)");

/// Locks the keys' entries, which are made where they are missing, and tells what they hold. `keys` are sorted, and so
/// is the answer. All writers lock in this order: what is there, then what is made, each sorted.
pub(super) async fn lock(conn: &mut PgConnection, table: &str, keys: &[&[u8]]) -> Result<Vec<Found>, TargetError> {
    let mut all: Vec<Option<Found>> = vec![None; keys.len()];
    select(conn, table, keys, keys, &mut all).await?;
    let missing: Vec<&[u8]> = keys.iter().zip(&all).filter(|(_, found)| found.is_none()).map(|(key, _)| *key).collect();
    if !missing.is_empty() {
        sqlx::query(
            "INSERT INTO _syncline.row_stamps (table_name, key) \
             SELECT $1, k FROM unnest($2::bytea[]) AS k ON CONFLICT DO NOTHING",
        )
        .bind(table)
        .bind(&missing)
        .execute(&mut *conn)
        .await
        .map_err(|error| DOING.error(error))?;
        select(conn, table, keys, &missing, &mut all).await?;
    }
    let gone = || TargetError {
        class: ErrorClass::Transient,
        message: format!("what is known of a row of table {table} was forgotten while it was looked at"),
        table: None,
        source: None,
    };
    all.into_iter().map(|found| found.ok_or_else(gone)).collect()
}

/// Locks some of the entries and puts them in their places among `keys`.
async fn select(
    conn: &mut PgConnection,
    table: &str,
    keys: &[&[u8]],
    wanted: &[&[u8]],
    all: &mut [Option<Found>],
) -> Result<(), TargetError> {
    let rows = sqlx::query(
        "SELECT s.key, s.clock_us, s.counter, s.origin, s.topic_partition, s.record_offset, s.seen, s.deleted, s.row_xmin, \
         s.state::text AS state, s.held::text AS held, s.row_key IS NOT NULL AS unsettled, s.fence, s.fence_row, \
         EXISTS (SELECT FROM _syncline.waiting w WHERE w.table_name = s.table_name AND w.key = s.key) AS waits \
         FROM _syncline.row_stamps s WHERE s.table_name = $1 AND s.key = ANY ($2::bytea[]) ORDER BY s.key FOR UPDATE OF s",
    )
    .bind(table)
    .bind(wanted)
    .fetch_all(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    for row in &rows {
        let key: &[u8] = row.try_get("key").map_err(|error| DOING.error(error))?;
        if let Ok(place) = keys.binary_search(&key) {
            all[place] = Some(found(row).map_err(|error| DOING.error(error))?);
        }
    }
    Ok(())
}

fn found(row: &PgRow) -> Result<Found, sqlx::Error> {
    let noted: Option<i64> = row.try_get("row_xmin")?;
    let state: Option<&str> = row.try_get("state")?;
    let stored = match row.try_get::<Option<String>, _>("origin")? {
        None => None,
        Some(origin) => {
            let number = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
            let partition: i32 = row.try_get("topic_partition")?;
            let seen: &str = row.try_get("seen")?;
            let stamp = Stamp {
                clock_us: number("clock_us")?,
                counter: u32::try_from(number("counter")?).unwrap_or(u32::MAX),
                origin,
            };
            let version = Version {
                stamp,
                seen: serde_json::from_str::<Seen>(seen).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                partition: partition.unsigned_abs(),
                offset: number("record_offset")?,
            };
            Some(Stored { version, deleted: row.try_get("deleted")? })
        }
    };
    let noted = noted.and_then(|xmin| u32::try_from(xmin).ok());
    let held: Option<&str> = row.try_get("held")?;
    let unsettled = match (row.try_get("unsettled")?, row.try_get::<Option<i64>, _>("fence")?) {
        (false, _) => None,
        (true, None) => Some(Unsettled::ForRow),
        (true, Some(id)) => {
            let xmin = row.try_get::<Option<i64>, _>("fence_row")?.and_then(|xmin| u32::try_from(xmin).ok());
            let at = xmin.map_or(echo::Row::Absent, |xmin| echo::Row::Present { xmin });
            Some(Unsettled::ForFence { id: Some(id.unsigned_abs()), row: at })
        }
    };
    let json = |error: serde_json::Error| sqlx::Error::Decode(Box::new(error));
    Ok(Found {
        entry: stored.map(|stored| Entry { stored, noted_xmin: noted }),
        noted,
        row: None,
        locked: true,
        waits: row.try_get("waits")?,
        state: state.map(serde_json::from_str).transpose().map_err(json)?,
        held: held.map(serde_json::from_str).transpose().map_err(json)?.unwrap_or_default(),
        unsettled,
        values: None,
    })
}

/// Writes entries.
pub(super) async fn write(
    conn: &mut PgConnection,
    table: &str,
    entries: &[(&[u8], &Entry)],
) -> Result<(), TargetError> {
    if entries.is_empty() {
        return Ok(());
    }
    let of = |get: fn(&Version) -> i64| -> Vec<i64> {
        entries.iter().map(|(_, entry)| get(&entry.stored.version)).collect()
    };
    let seen =
        |entry: &Entry| serde_json::to_string(&entry.stored.version.seen).expect("names and numbers can be written");
    sqlx::query(
        "UPDATE _syncline.row_stamps AS s SET clock_us = u.clock_us, counter = u.counter, origin = u.origin, \
         topic_partition = u.topic_partition, record_offset = u.record_offset, seen = u.seen, deleted = u.deleted, \
         row_xmin = u.row_xmin FROM unnest($2::bytea[], $3::int8[], $4::int8[], $5::text[], $6::int8[], \
         $7::int8[], $8::text[], $9::bool[], $10::int8[]) AS u (key, clock_us, counter, origin, topic_partition, \
         record_offset, seen, deleted, row_xmin) WHERE s.table_name = $1 AND s.key = u.key",
    )
    .bind(table)
    .bind(entries.iter().map(|(key, _)| *key).collect::<Vec<_>>())
    .bind(of(|version| i64::try_from(version.stamp.clock_us).unwrap_or(i64::MAX)))
    .bind(of(|version| i64::from(version.stamp.counter)))
    .bind(entries.iter().map(|(_, entry)| entry.stored.version.stamp.origin.as_str()).collect::<Vec<_>>())
    .bind(of(|version| i64::from(version.partition)))
    .bind(of(|version| i64::try_from(version.offset).unwrap_or(i64::MAX)))
    .bind(entries.iter().map(|(_, entry)| seen(entry)).collect::<Vec<_>>())
    .bind(entries.iter().map(|(_, entry)| entry.stored.deleted).collect::<Vec<_>>())
    .bind(entries.iter().map(|(_, entry)| entry.noted_xmin.map(i64::from)).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    Ok(())
}

/// An entry of a table whose rule looks at more than stamps, to be written.
pub(super) struct StateRow<'a> {
    pub(super) key: &'a [u8],
    pub(super) entry: &'a StateEntry,
    /// The key's columns as texts in JSON, where the row has to be looked at again.
    pub(super) row_key: Option<&'a str>,
}

/// Writes entries of a table whose rule looks at more than stamps. What asks for a fence waits for this one.
pub(super) async fn write_states(
    conn: &mut PgConnection,
    table: &str,
    fence: Option<u64>,
    rows: &[StateRow<'_>],
) -> Result<(), TargetError> {
    if rows.is_empty() {
        return Ok(());
    }
    let json = |row: &StateRow<'_>| serde_json::to_string(&row.entry.state).expect("texts and numbers can be written");
    let held = |row: &StateRow<'_>| {
        let held = &row.entry.held;
        (!held.is_empty()).then(|| serde_json::to_string(held).expect("names and numbers can be written"))
    };
    let waits = |row: &StateRow<'_>| match row.entry.unsettled {
        Some(Unsettled::ForFence { id, row }) => {
            let xmin = if let echo::Row::Present { xmin } = row { Some(i64::from(xmin)) } else { None };
            (id.or(fence).and_then(|id| i64::try_from(id).ok()), xmin)
        }
        Some(Unsettled::ForRow) | None => (None, None),
    };
    sqlx::query(
        "UPDATE _syncline.row_stamps AS s SET state = u.state::jsonb, row_xmin = u.row_xmin, held = u.held::jsonb, \
         fence = u.fence, fence_row = u.fence_row, row_key = u.row_key::jsonb, deleted = u.deleted \
         FROM unnest($2::bytea[], $3::text[], $4::int8[], $5::text[], $6::int8[], $7::int8[], $8::text[], $9::bool[]) \
         AS u (key, state, row_xmin, held, fence, fence_row, row_key, deleted) WHERE s.table_name = $1 AND s.key = u.key",
    )
    .bind(table)
    .bind(rows.iter().map(|row| row.key).collect::<Vec<_>>())
    .bind(rows.iter().map(json).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.entry.noted.map(i64::from)).collect::<Vec<_>>())
    .bind(rows.iter().map(held).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| waits(row).0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| waits(row).1).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.row_key.filter(|_| row.entry.unsettled.is_some())).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.entry.is_tombstone).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    Ok(())
}

/// A row that has to be looked at again.
pub(super) struct Due {
    pub(super) table: String,
    pub(super) key: Vec<u8>,
    /// The key's columns as texts.
    pub(super) row_key: BTreeMap<String, String>,
}

/// Rows whose fence has come back, then those that somebody else had locked; locked, unless another lane has them. By
/// table and key.
pub(super) async fn due(conn: &mut PgConnection, most: i64) -> Result<Vec<Due>, TargetError> {
    let rows: Vec<(String, Vec<u8>, String)> = sqlx::query_as(
        "SELECT s.table_name, s.key, s.row_key::text FROM _syncline.row_stamps s \
         LEFT JOIN _syncline.fences f ON f.id = s.fence WHERE s.row_key IS NOT NULL \
         AND (f.id IS NULL OR pg_catalog.cardinality(f.arrived) >= f.partitions) \
         ORDER BY s.fence IS NULL, s.table_name, s.key LIMIT $1 FOR UPDATE OF s SKIP LOCKED",
    )
    .bind(most)
    .fetch_all(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    let due = rows.into_iter().map(|(table, key, row_key)| {
        let row_key = serde_json::from_str(&row_key).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Due { table, key, row_key })
    });
    let mut due = due.collect::<Result<Vec<Due>, _>>().map_err(|error| DOING.error(error))?;
    due.sort_unstable_by(|a, b| (&a.table, &a.key).cmp(&(&b.table, &b.key)));
    Ok(due)
}

/// How many rows have to be looked at again.
pub(super) async fn unsettled(conn: &mut PgConnection) -> Result<u64, TargetError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM _syncline.row_stamps WHERE row_key IS NOT NULL")
        .fetch_one(conn)
        .await
        .map_err(|error| DOING.error(error))?;
    Ok(count.unsigned_abs())
}

/// This transaction's id as `xmin` shows it.
pub(super) async fn my_xmin(conn: &mut PgConnection) -> Result<u32, TargetError> {
    let id: i64 = sqlx::query_scalar(
        "SELECT (pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.numeric % 4294967296)::pg_catalog.int8",
    )
    .fetch_one(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    Ok(u32::try_from(id).expect("the remainder is below 2^32"))
}

/// Waits until this session sees some transactions of the node itself, which the log shows a little before (with
/// synchronous standbys: until they have answered).
pub(super) async fn see(conn: &mut PgConnection, transactions: &[i64]) -> Result<(), TargetError> {
    let deadline = Instant::now() + MOST_PATIENCE;
    loop {
        // An id of 32 bits belongs to the epoch that makes it no later than the newest.
        let unseen: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM unnest($1::int8[]) AS x, pg_catalog.pg_current_snapshot() AS s, \
             LATERAL (SELECT pg_catalog.pg_snapshot_xmax(s)::pg_catalog.text::pg_catalog.int8 AS newest) AS n, \
             LATERAL (SELECT (n.newest - n.newest % 4294967296) + x AS id) AS i \
             WHERE NOT pg_catalog.pg_visible_in_snapshot((CASE WHEN i.id > n.newest THEN i.id - 4294967296 ELSE i.id END) \
             ::pg_catalog.text::pg_catalog.xid8, s)",
        )
        .bind(transactions)
        .fetch_one(&mut *conn)
        .await
        .map_err(|error| DOING.error(error))?;
        if unseen == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(TargetError {
                class: ErrorClass::Transient,
                message:
                    "a transaction of this node is in the log but not visible yet (does it wait for a synchronous \
                     standby?)"
                        .into(),
                table: None,
                source: None,
            });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
