//! `_syncline.fences`: messages in the node's log behind which its own changes are known.

use sqlx::PgConnection;
use syncline_event::stamp::{FENCE_PREFIX, Fence};

use super::super::error::Doing;
use crate::config::NodeSettings;
use crate::targets::{FenceArrival, TargetError};

const DOING: Doing<'static> = Doing::Bookkeeping("asking for the node's own changes (_syncline.fences)");

/// Asks the node's producer for a fence of a table. Rows that wait for it are locked, so that nobody commits a change of
/// them before it. Gives its number.
pub(super) async fn send(
    conn: &mut PgConnection,
    table: &str,
    topology: &str,
    highest: (u64, u32),
) -> Result<u64, TargetError> {
    let id: i64 = sqlx::query_scalar("INSERT INTO _syncline.fences (table_name) VALUES ($1) RETURNING id")
        .bind(table)
        .fetch_one(&mut *conn)
        .await
        .map_err(|error| DOING.error(error))?;
    let message = Fence {
        topology: topology.to_owned(),
        id: id.unsigned_abs(),
        tables: vec![table.to_owned()],
        clock_us: highest.0,
        counter: highest.1,
    };
    let content = serde_json::to_string(&message).expect("names and numbers can be written");
    sqlx::query("SELECT pg_catalog.pg_logical_emit_message(false, $1, $2)")
        .bind(FENCE_PREFIX)
        .bind(content)
        .execute(conn)
        .await
        .map_err(|error| DOING.error(error))?;
    Ok(id.unsigned_abs())
}

/// Notes the arrival of markers of this node's fences. A marker may be here before the transaction that asked for it is
/// committed: the insert waits for that one. What was asked for in vain is made here, and taken away like any other.
pub(super) async fn arrive(
    conn: &mut PgConnection,
    node: &NodeSettings,
    arrivals: &[FenceArrival],
) -> Result<(), TargetError> {
    let own = |arrival: &&FenceArrival| node.is_own(&arrival.partition.topic);
    let mut sorted: Vec<&FenceArrival> = arrivals.iter().filter(own).collect();
    sorted.sort_unstable_by_key(|arrival| (arrival.id, arrival.partition.partition));
    for arrival in sorted {
        sqlx::query(
            "INSERT INTO _syncline.fences AS f (id, table_name, partitions, arrived) OVERRIDING SYSTEM VALUE \
             VALUES ($1, '', $2, ARRAY[$3::int4]) ON CONFLICT (id) DO UPDATE SET partitions = $2, \
             arrived = CASE WHEN $3 = ANY (f.arrived) THEN f.arrived ELSE f.arrived || $3 END",
        )
        .bind(i64::try_from(arrival.id).unwrap_or(i64::MAX))
        .bind(i32::try_from(arrival.partitions).unwrap_or(i32::MAX))
        .bind(arrival.partition.partition)
        .execute(&mut *conn)
        .await
        .map_err(|error| DOING.error(error))?;
    }
    Ok(())
}

/// Takes fences out that have come back and that nothing waits for.
pub(super) async fn forget(conn: &mut PgConnection) -> Result<(), TargetError> {
    // Whoever notes an arrival just now has the row locked.
    sqlx::query(
        "DELETE FROM _syncline.fences WHERE id IN (SELECT f.id FROM _syncline.fences f \
         WHERE pg_catalog.cardinality(f.arrived) >= f.partitions \
         AND NOT EXISTS (SELECT FROM _syncline.waiting w WHERE w.fence = f.id) \
         AND NOT EXISTS (SELECT FROM _syncline.row_stamps s WHERE s.row_key IS NOT NULL AND s.fence = f.id) \
         FOR UPDATE SKIP LOCKED)",
    )
    .execute(conn)
    .await
    .map_err(|error| DOING.error(error))?;
    Ok(())
}
