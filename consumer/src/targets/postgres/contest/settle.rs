//! What waited, once this node's own changes have come by.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection, Row};
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::plan::{Plan, PlanColumn};
use syncline_transforms::sql_type::SqlType;

use super::super::encode::Codec;
use super::super::error::Doing;
use super::super::statements::StatementColumn;
use super::table::{CellArray, ContestTable, RowAt, rows_of};
use super::waiting::{self, Waiting};
use super::{Entrant, decide, send_fence, tell, write};
use crate::config::NodeSettings;
use crate::rows::Rows;
use crate::targets::{Contested, PartitionKey, TargetError};

/// Settles what is due of some partitions; everything in the caller's transaction.
pub(in super::super) async fn settle(
    conn: &mut PgConnection,
    node: &NodeSettings,
    partitions: &[PartitionKey],
) -> Result<Contested, TargetError> {
    let mut contested = Contested::default();
    let due = waiting::due(conn, partitions).await?;
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
        let decided = decide(conn, node, name, entrants, true).await?;
        let asks = decided.keys.iter().any(|(_, _, verdict)| verdict.asks());
        let fence = if asks { Some(send_fence(conn, node, &decided).await?) } else { None };
        for (range, found, verdict) in &decided.keys {
            if let (true, Some(fence)) = (verdict.asks(), fence) {
                waiting::wait_for(conn, name, decided.entrants[range.start].key, (fence, found.row)).await?;
            }
        }
        let waits = |waiting: &Waiting| {
            decided.keys.iter().any(|(range, _, verdict)| {
                verdict
                    .waits()
                    .iter()
                    .any(|turn| std::ptr::eq(decided.entrants[range.start + turn].version, &waiting.version))
            })
        };
        let settled: Vec<&Waiting> = of_table.iter().copied().filter(|waiting| !waits(waiting)).collect();
        waiting::take_out(conn, &settled).await?;
        let moved = moved(conn, name, &settled).await?;
        let decided = [decided];
        if !settled.is_empty() {
            tell(conn, node, &decided, moved).await?;
        }
        for decided in decided {
            write(conn, node, decided, &mut contested).await?;
        }
    }
    contested.set_aside = waiting::left(conn, partitions).await?;
    Ok(contested)
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
    if let Some(waiting) = waiting::unlucky(conn, partitions).await? {
        let table = table_of(conn, &waiting.table, &waiting.columns).await?;
        let rows = rows_of(&table, std::iter::once(&waiting.image));
        let row = [RowAt { table: &table, rows: &rows, row: 0 }];
        let mut query = sqlx::query(AssertSqlSafe(table.queue_up()));
        for array in CellArray::key(&table, &row) {
            query = query.bind(array);
        }
        query.execute(&mut *conn).await.map_err(|error| doing.error(error))?;
    }
    settle(conn, node, partitions).await
}

/// How far the node has come with the partitions of what was settled.
async fn moved<'w>(
    conn: &mut PgConnection,
    table: &str,
    settled: &[&'w Waiting],
) -> Result<Vec<(&'w PartitionKey, i64, String)>, TargetError> {
    let mut moved: Vec<(&PartitionKey, i64, String)> = Vec::new();
    for waiting in settled {
        if moved.iter().all(|(partition, _, _)| **partition != waiting.partition) {
            let next = super::super::progress::next_offset(conn, &waiting.partition).await?;
            moved.push((&waiting.partition, next, table.to_owned()));
        }
    }
    Ok(moved)
}

/// A table whose rule looks at more than stamps, with that rule.
pub(super) async fn planned(
    conn: &mut PgConnection,
    node: &NodeSettings,
    name: &str,
    columns: &[String],
) -> Result<(ContestTable, Plan), TargetError> {
    let (table, types) = described(conn, name, columns).await?;
    let is_key = |index: &usize| table.key.contains(index);
    let columns: Vec<PlanColumn<'_>> = columns
        .iter()
        .zip(types)
        .enumerate()
        .map(|(index, (name, sql_type))| PlanColumn { name, sql_type, in_key: is_key(&index) })
        .collect();
    let plan = Plan::new(&node.rules, name, &columns).map_err(|error| TargetError {
        class: ErrorClass::BadRecord,
        message: error.to_string(),
        table: None,
        source: None,
    })?;
    Ok((table, plan))
}

async fn table_of(conn: &mut PgConnection, name: &str, columns: &[String]) -> Result<ContestTable, TargetError> {
    Ok(described(conn, name, columns).await?.0)
}

/// A table by what the catalog says of it, all values travelling as text, and the columns' types.
async fn described(
    conn: &mut PgConnection,
    name: &str,
    columns: &[String],
) -> Result<(ContestTable, Vec<SqlType>), TargetError> {
    let doing = Doing::Writing { table: name, index: None, what: "describing" };
    let gone = |what: &str| TargetError {
        class: ErrorClass::Fatal,
        message: format!(
            "target table {name}: {what} is gone, which records in _syncline.waiting hold; bring it back, or delete those \
             records there"
        ),
        table: None,
        source: None,
    };
    let rows = sqlx::query(
        "SELECT a.attname, tn.nspname, t.typname, t.typtype = 'e' AS is_enum, t.typcategory = 'A' AS is_array, pg_catalog.array_position(i.indkey::int2[], a.attnum) AS key, \
         a.attidentity <> '' AS identity, n.nspname AS table_schema, c.relname AS table_name \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace \
         LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary \
         WHERE pg_catalog.concat(n.nspname, '.', c.relname) = $1 AND c.relkind IN ('r', 'p')",
    )
    .bind(name)
    .fetch_all(conn)
    .await
    .map_err(|error| doing.error(error))?;
    let mut table = ContestTable {
        name: name.to_owned(),
        table: String::new(),
        columns: Vec::new(),
        names: columns.to_vec(),
        key: Vec::new(),
        identity: false,
    };
    let (mut key, mut types) = (Vec::new(), Vec::new());
    for (index, column) in columns.iter().enumerate() {
        let of_column =
            |row: &&sqlx::postgres::PgRow| row.try_get::<&str, _>("attname").is_ok_and(|name| name == column);
        let row = rows.iter().find(of_column).ok_or_else(|| gone(column))?;
        let text = |name: &str| row.try_get::<&str, _>(name).map_err(|error| doing.error(error));
        let statement = StatementColumn::new(column, text("nspname")?, text("typname")?, Codec::Cast);
        table.columns.push((index, statement.map_err(|_| gone(column))?));
        let flag = |name: &str| row.try_get::<bool, _>(name).map_err(|error| doing.error(error));
        types.push(match (flag("is_enum")?, flag("is_array")?) {
            (true, _) => SqlType::Enum,
            (_, true) => SqlType::Opaque,
            _ => SqlType::named_in(text("nspname")?, text("typname")?),
        });
        if let Some(place) = row.try_get::<Option<i32>, _>("key").map_err(|error| doing.error(error))? {
            key.push((place, index));
        }
        table.identity |= row.try_get::<bool, _>("identity").map_err(|error| doing.error(error))?;
        table.table = syncline_catalog::ident::qualified(text("table_schema")?, text("table_name")?)
            .map_err(|_| gone("the table"))?;
    }
    key.sort_unstable();
    table.key = key.into_iter().map(|(_, index)| index).collect();
    if table.key.is_empty() { Err(gone("the primary key")) } else { Ok((table, types)) }
}
