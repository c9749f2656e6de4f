//! Changes of rows that several nodes write: compared with what each row has been through, then written.
//!
//! In the transaction that moves the progress rows: lock the keys' entries, then the rows; decide ([`fold`]); set aside
//! what waits for a change of this node that has not come by yet; tell this node's producer that the transaction is
//! ours; write rows, entries and the log of conflicts. Everything is set-based: a batch costs a handful of statements a
//! table.

mod by_columns;
mod columns;
mod decide;
mod described;
mod entries;
mod fences;
mod fold;
mod log;
mod look;
mod settle;
mod states;
mod system;
mod table;
mod tell;
mod tombstones;
mod trial;
mod waiting;
mod write;

use std::collections::BTreeMap;

use sqlx::PgConnection;
use syncline_event::table::TableDefinition;
use syncline_runtime::retry::ErrorClass;

pub(super) use self::decide::Keys;
pub(super) use self::settle::{Round, insist, settle};
pub(in crate::targets::postgres) use self::table::ContestTable;
pub(super) use self::tombstones::{TombstoneId, collect};
pub(super) use self::waiting::of_group as waiting;

use self::decide::{Decided, Entrant, decide};
use self::fold::Waited;
use self::table::{RowAt, texts};
use self::tell::{steps, tell};
use self::waiting::Aside;
use self::write::write;
use super::error::Doing;
use crate::config::NodeSettings;
use crate::targets::{Batch, Contested, TableBatch, TargetError};

/// Compares and writes a batch's changes. `tables` are the batch's, each with its plan.
pub(super) async fn apply(
    conn: &mut PgConnection,
    node: &NodeSettings,
    batch: &Batch<'_>,
    tables: &[(&TableBatch, ContestTable)],
    keys: Keys,
) -> Result<Contested, TargetError> {
    see_own(conn, tables).await?;
    fences::arrive(conn, node, batch.fences).await?;
    tombstones::hear(conn, batch.fences).await?;
    let mut contested = Contested::default();
    let mut by_table: BTreeMap<&str, Vec<Entrant<'_>>> = BTreeMap::new();
    for (table, plan) in tables {
        let entrants = by_table.entry(plan.name.as_str()).or_default();
        entrants.extend(table.contest.changes.iter().map(|change| Entrant {
            row: RowAt { table: plan, rows: &table.rows, row: change.row },
            old: change.old.map(|row| RowAt { table: plan, rows: &table.rows, row }),
            key: &table.contest.keys[change.key.clone()],
            operation: change.operation,
            version: &change.version,
            transaction: change.transaction,
            own: change.own,
            partition: &change.partition,
            waited: Waited::No,
        }));
    }
    let mut decided = Vec::with_capacity(by_table.len());
    for (name, entrants) in by_table {
        decided.push(decide(conn, node, name, entrants, keys).await?);
    }
    contested.latest = decided.iter().filter_map(Decided::latest).max().cloned();
    let mut fences = Vec::with_capacity(decided.len());
    for decided in &decided {
        let fence = if decided.asks() { Some(send_fence(conn, node, decided).await?) } else { None };
        contested.set_aside += set_aside(conn, decided, fence).await?;
        fences.push(fence);
    }
    tell(conn, node, &decided, steps(node, batch.moves, &decided)).await?;
    for (decided, fence) in decided.into_iter().zip(fences) {
        write(conn, node, decided, fence, &mut contested).await?;
    }
    Ok(contested)
}

/// Waits until this node's own changes are visible.
async fn see_own(conn: &mut PgConnection, tables: &[(&TableBatch, ContestTable)]) -> Result<(), TargetError> {
    let changes = tables.iter().flat_map(|(table, _)| &table.contest.changes);
    let own = changes.filter(|change| change.own && change.transaction != 0);
    let mut transactions: Vec<i64> = own.map(|change| i64::from(change.transaction)).collect();
    transactions.dedup();
    if transactions.is_empty() { Ok(()) } else { entries::see(conn, &transactions).await }
}

/// Sets aside what waits. Gives the number of records, and of rows that do not show all of their state.
async fn set_aside(conn: &mut PgConnection, decided: &Decided<'_>, fence: Option<u64>) -> Result<u64, TargetError> {
    let mut all = Vec::new();
    for decision in &decided.keys {
        let verdict = &decision.verdict;
        let waits = verdict.waits().iter().map(|turn| &decided.entrants[decision.turns.start + turn]);
        all.extend(waits.map(|entrant| (entrant, &decision.found, verdict.asks())));
    }
    let rows: Vec<RowAt<'_>> =
        all.iter().flat_map(|(entrant, _, _)| [Some(entrant.row), entrant.old]).flatten().collect();
    let mut images = texts(conn, &rows).await?.into_iter();
    let asides = all.iter().map(|(entrant, found, asks)| Aside {
        table: entrant.row.table,
        image: images.next().unwrap_or_default(),
        old: entrant.old.and_then(|_| images.next()),
        key: entrant.key,
        operation: entrant.operation,
        version: entrant.version,
        partition: entrant.partition,
        fence: fence.filter(|_| *asks),
        xmin: found.row.filter(|_| *asks),
    });
    let asides: Vec<Aside<'_>> = asides.collect();
    waiting::set_aside(conn, &asides).await?;
    let unsettled = decided.keys.iter().filter(|decision| decision.verdict.is_unsettled()).count();
    Ok((all.len() + unsettled) as u64)
}

/// Asks the node's producer to answer in the table's topic, behind all that was committed by now.
async fn send_fence(conn: &mut PgConnection, node: &NodeSettings, decided: &Decided<'_>) -> Result<u64, TargetError> {
    fences::send(conn, decided.name, &node.topology, decided.highest()).await
}

/// Refuses a table whose triggers would fire for what was written on other nodes: they have fired there.
pub(super) async fn check_triggers(conn: &mut PgConnection, definition: &TableDefinition) -> Result<(), TargetError> {
    let name = definition.qualified_name();
    let doing = Doing::Writing { table: &name, index: None, what: "describing" };
    let trigger: Option<String> = sqlx::query_scalar(
        "SELECT t.tgname::text FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND t.tgenabled IN ('O', 'A') ORDER BY t.tgname LIMIT 1",
    )
    .bind(&definition.schema)
    .bind(&definition.table)
    .fetch_optional(conn)
    .await
    .map_err(|error| doing.error(error))?;
    let Some(trigger) = trigger else { return Ok(()) };
    Err(TargetError {
        class: ErrorClass::BadRecord,
        message: format!(
            "target table {name}: trigger {trigger} would fire for changes that other nodes have made; run as a superuser: \
             GRANT SET ON PARAMETER session_replication_role TO the role Syncline connects as (PostgreSQL 15), or ALTER \
             TABLE … DISABLE TRIGGER"
        ),
        table: None,
        source: None,
    })
}
