//! Entries of `_syncline.row_stamps` where a table's rule looks at more than stamps.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use syncline_transforms::resolve::echo;

use super::columns::StateEntry;
use super::entries::{DOING, all_written};
use super::fold::{Found, Unsettled};
use super::tombstones;
use super::waiting::Place;
use crate::targets::TargetError;

/// An entry to be written.
pub(super) struct StateRow<'a> {
    pub(super) key: &'a [u8],
    /// What was found of it.
    pub(super) found: &'a Found,
    pub(super) entry: &'a StateEntry,
    /// The key's columns as texts in JSON, where the row has to be looked at again.
    pub(super) row_key: Option<&'a str>,
}

/// Writes entries, as [`super::entries::write`]. What asks for a fence waits for this one.
pub(super) async fn write(
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
    let written = sqlx::query(
        "UPDATE _syncline.row_stamps AS s SET state = u.state::jsonb, row_xmin = u.row_xmin, held = u.held::jsonb, \
         fence = u.fence, fence_row = u.fence_row, row_key = u.row_key::jsonb, deleted = u.deleted, \
         in_tombstones = s.in_tombstones OR u.deleted FROM (SELECT unnest($1::tid[]), unnest($2::text[]), unnest($3::int8[]), unnest($4::text[]), unnest($5::int8[]), \
         unnest($6::int8[]), unnest($7::text[]), unnest($8::bool[])) \
         AS u (place, state, row_xmin, held, fence, fence_row, row_key, deleted) \
         WHERE s.ctid = u.place",
    )
    .bind(rows.iter().map(|row| row.found.place).collect::<Vec<_>>())
    .bind(rows.iter().map(json).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.entry.noted.map(i64::from)).collect::<Vec<_>>())
    .bind(rows.iter().map(held).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| waits(row).0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| waits(row).1).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.row_key.filter(|_| row.entry.unsettled.is_some())).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.entry.is_tombstone).collect::<Vec<_>>())
    .execute(&mut *conn)
    .await
    .map_err(|error| DOING.error(error))?;
    all_written(&written, rows.len(), table)?;
    let gone = rows.iter().filter(|row| row.entry.is_tombstone && !row.found.in_tombstones);
    tombstones::list(conn, table, &gone.map(|row| row.key).collect::<Vec<_>>()).await
}

/// A row that has to be looked at again.
pub(super) struct Due {
    pub(super) table: String,
    pub(super) key: Vec<u8>,
    /// The key's columns as texts.
    pub(super) row_key: BTreeMap<String, String>,
}

/// Rows whose fence has come back, and those that somebody else had locked; locked, unless another lane has them. By table
/// and key. The next call goes on behind them.
pub(super) async fn due(conn: &mut PgConnection, most: i64, from: &mut Place) -> Result<Vec<Due>, TargetError> {
    let rows: Vec<(String, Vec<u8>, String)> = sqlx::query_as(
        "SELECT s.table_name, s.key, s.row_key::text FROM _syncline.row_stamps s \
         LEFT JOIN _syncline.fences f ON f.id = s.fence WHERE s.row_key IS NOT NULL \
         AND (f.id IS NULL OR pg_catalog.cardinality(f.arrived) >= f.partitions) \
         AND (s.table_name, s.key) >= ($2, $3) \
         ORDER BY s.table_name, s.key LIMIT $1 FOR UPDATE OF s SKIP LOCKED",
    )
    .bind(most)
    .bind(&from.table)
    .bind(&from.key)
    .fetch_all(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    let last = rows.last().map(|(table, key, _)| (table.as_str(), key.as_slice()));
    *from = Place::behind(last, rows.len(), most);
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
