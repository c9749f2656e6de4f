//! `_syncline.row_stamps`: what each row has been through.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgQueryResult, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};
use syncline_event::stamp::{Seen, Stamp};
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::echo::{self, Entry};
use syncline_transforms::resolve::row::{Stored, Version};

use super::super::error::Doing;
use super::decide::Keys;
use super::fold::{Found, Unsettled};
use super::system::Tid;
use super::tombstones;
use crate::targets::TargetError;

/// How long a batch waits for a transaction to become visible, before others get their turn.
const MOST_PATIENCE: Duration = Duration::from_secs(5);

pub(super) const DOING: Doing<'static> =
    Doing::Bookkeeping("comparing changes of several nodes (_syncline.row_stamps)");

/// Locks the keys' entries, which are made where they are missing, and tells what they hold. `keys` are sorted, and so
/// is the answer. All writers lock in this order: what is there, then what is made, each sorted. What is made holds what
/// it will most likely hold in the end, `guess` by a key's place, which saves writing it twice.
pub(super) async fn lock(
    conn: &mut PgConnection,
    table: &str,
    keys: &[&[u8]],
    known: Keys,
    guess: impl Fn(usize) -> Option<Entry>,
) -> Result<Vec<Found>, TargetError> {
    let mut all: Vec<Option<Found>> = vec![None; keys.len()];
    select(conn, table, keys, keys, &mut all).await?;
    let missing: Vec<usize> = (0..keys.len()).filter(|place| all[*place].is_none()).collect();
    if !missing.is_empty() {
        insert(conn, table, (keys, known), missing, guess, &mut all).await?;
        // Somebody else has made them meanwhile.
        let missing: Vec<&[u8]> = (0..keys.len()).filter(|place| all[*place].is_none()).map(|at| keys[at]).collect();
        if !missing.is_empty() {
            select(conn, table, keys, &missing, &mut all).await?;
        }
    }
    let gone = || changed_meanwhile(table);
    all.into_iter().map(|found| found.ok_or_else(gone)).collect()
}

/// Makes entries that are missing, and puts those that were made in their places.
async fn insert(
    conn: &mut PgConnection,
    table: &str,
    (keys, known): (&[&[u8]], Keys),
    missing: Vec<usize>,
    guess: impl Fn(usize) -> Option<Entry>,
    all: &mut [Option<Found>],
) -> Result<(), TargetError> {
    let guesses: Vec<Option<Entry>> = missing.iter().map(|place| guess(*place)).collect();
    let values: Vec<Option<&Entry>> = guesses.iter().map(Option::as_ref).collect();
    let mut text = String::from(
        "INSERT INTO _syncline.row_stamps AS s (table_name, key, clock_us, counter, origin, topic_partition, \
         record_offset, seen, deleted, row_xmin, in_tombstones) SELECT $1, unnest($2::bytea[]), unnest($3::int8[]), \
         unnest($4::int8[]), unnest($5::text[]), unnest($6::int8[]), unnest($7::int8[]), unnest($8::text[]), \
         unnest($9::bool[]), unnest($10::int8[]), unnest($9::bool[])",
    );
    if known != Keys::Fresh {
        text.push_str(" ON CONFLICT DO NOTHING");
    }
    text.push_str(" RETURNING s.key, s.ctid");
    let query =
        sqlx::query(AssertSqlSafe(text)).bind(table).bind(missing.iter().map(|place| keys[*place]).collect::<Vec<_>>());
    let mut gone = Vec::new();
    for row in bind(query, &values).fetch_all(&mut *conn).await.map_err(|error| DOING.error(error))? {
        let key: &[u8] = row.try_get(0).map_err(|error| DOING.error(error))?;
        let place: Tid = row.try_get(1).map_err(|error| DOING.error(error))?;
        if let Ok(number) = missing.binary_search_by_key(&key, |place| keys[*place]) {
            let guessed = guesses[number].clone();
            let in_tombstones = guessed.as_ref().is_some_and(|entry| entry.stored.deleted);
            gone.extend(in_tombstones.then(|| keys[missing[number]]));
            all[missing[number]] = Some(Found { place, guessed, in_tombstones, locked: true, ..Found::default() });
        }
    }
    tombstones::list(conn, table, &gone).await
}

/// What was locked is gone or has moved all the same. All is decided again.
fn changed_meanwhile(table: &str) -> TargetError {
    TargetError {
        class: ErrorClass::Transient,
        message: format!(
            "rows of table {table}, or what is known of them, were changed by another process while they were looked at"
        ),
        table: None,
        source: None,
    }
}

/// Fails unless so many rows were written.
pub(super) fn all_written(written: &PgQueryResult, count: usize, table: &str) -> Result<(), TargetError> {
    let is_all = written.rows_affected() == count as u64;
    if is_all { Ok(()) } else { Err(changed_meanwhile(table)) }
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
        "SELECT s.ctid AS place, s.key, s.clock_us, s.counter, s.origin, s.topic_partition, s.record_offset, \
         s.seen, s.deleted, s.row_xmin, s.state::text AS state, s.held::text AS held, \
         s.row_key IS NOT NULL AS unsettled, s.fence, s.fence_row, s.in_tombstones, \
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
        place: row.try_get("place")?,
        guessed: None,
        row_place: None,
        entry: stored.map(|stored| Entry { stored, noted_xmin: noted }),
        noted,
        row: None,
        locked: true,
        waits: row.try_get("waits")?,
        in_tombstones: row.try_get("in_tombstones")?,
        state: state.map(serde_json::from_str).transpose().map_err(json)?,
        held: held.map(serde_json::from_str).transpose().map_err(json)?.unwrap_or_default(),
        unsettled,
        values: None,
    })
}

/// Writes what is known of rows; of some, nothing. They are found by their places, which they keep while they are locked:
/// that costs the same whatever the statistics of a table that has just grown say.
pub(super) async fn write(
    conn: &mut PgConnection,
    table: &str,
    entries: &[(&[u8], &Found, Option<&Entry>)],
) -> Result<(), TargetError> {
    if entries.is_empty() {
        return Ok(());
    }
    let values: Vec<Option<&Entry>> = entries.iter().map(|(_, _, entry)| *entry).collect();
    let query = sqlx::query(
        "UPDATE _syncline.row_stamps AS s SET clock_us = u.clock_us, counter = u.counter, origin = u.origin, \
         topic_partition = u.topic_partition, record_offset = u.record_offset, seen = u.seen, deleted = u.deleted, \
         row_xmin = u.row_xmin, in_tombstones = s.in_tombstones OR u.deleted \
         FROM (SELECT unnest($1::tid[]), unnest($2::int8[]), unnest($3::int8[]), unnest($4::text[]), unnest($5::int8[]), \
         unnest($6::int8[]), unnest($7::text[]), unnest($8::bool[]), unnest($9::int8[])) \
         AS u (place, clock_us, counter, origin, topic_partition, record_offset, seen, deleted, row_xmin) \
         WHERE s.ctid = u.place",
    );
    let query = query.bind(entries.iter().map(|(_, found, _)| found.place).collect::<Vec<_>>());
    let written = bind(query, &values).execute(&mut *conn).await.map_err(|error| DOING.error(error))?;
    all_written(&written, entries.len(), table)?;
    let is_new = |found: &Found, entry: &Entry| entry.stored.deleted && !found.in_tombstones;
    let gone = entries.iter().filter(|(_, found, entry)| entry.is_some_and(|entry| is_new(found, entry)));
    tombstones::list(conn, table, &gone.map(|(key, _, _)| *key).collect::<Vec<_>>()).await
}

/// Binds entries' columns.
fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    entries: &[Option<&'q Entry>],
) -> Query<'q, Postgres, PgArguments> {
    let of = |get: fn(&Version) -> i64| -> Vec<Option<i64>> {
        entries.iter().map(|entry| entry.map(|entry| get(&entry.stored.version))).collect()
    };
    let seen =
        |entry: &Entry| serde_json::to_string(&entry.stored.version.seen).expect("names and numbers can be written");
    let origin = |entry: &'q Entry| entry.stored.version.stamp.origin.as_str();
    query
        .bind(of(|version| i64::try_from(version.stamp.clock_us).unwrap_or(i64::MAX)))
        .bind(of(|version| i64::from(version.stamp.counter)))
        .bind(entries.iter().map(|entry| entry.map(origin)).collect::<Vec<_>>())
        .bind(of(|version| i64::from(version.partition)))
        .bind(of(|version| i64::try_from(version.offset).unwrap_or(i64::MAX)))
        .bind(entries.iter().map(|entry| entry.map(seen)).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.is_some_and(|entry| entry.stored.deleted)).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.and_then(|entry| entry.noted_xmin).map(i64::from)).collect::<Vec<_>>())
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
