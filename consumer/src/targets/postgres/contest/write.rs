//! What was decided, written: rows, what is known of them, and conflicts.

use std::ops::Range;

use sqlx::{AssertSqlSafe, PgConnection};
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::row::Operation;

use super::super::error::Doing;
use super::fold::Found;
use super::log::{self, Line};
use super::table::{CellArray, ContestTable, RowAt, rows_of};
use super::{ByColumns, Decided, Entrant, Verdict, entries};
use crate::config::NodeSettings;
use crate::targets::{Contested, TargetError};

/// Writes rows, entries and conflicts.
pub(super) async fn write(
    conn: &mut PgConnection,
    node: &NodeSettings,
    decided: Decided<'_>,
    contested: &mut Contested,
) -> Result<(), TargetError> {
    let lines = match &decided.by_columns {
        None => write_rows(conn, node, &decided).await?,
        Some(by_columns) => write_columns(conn, node, &decided, by_columns).await?,
    };
    for line in &lines {
        *contested.conflicts.entry((decided.name.to_owned(), line.kind)).or_default() += 1;
    }
    log::insert(conn, decided.name, &lines, node.rules.of(decided.name)).await
}

async fn write_rows<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    decided: &'a Decided<'_>,
) -> Result<Vec<Line<'a>>, TargetError> {
    let Decided { name, entrants, keys, .. } = decided;
    let Some(table) = entrants.first().map(|entrant| entrant.row.table) else { return Ok(Vec::new()) };
    let mut lines = log::before(conn, table, cases(entrants, keys), &node.log).await?;
    let (mut inserts, mut upserts, mut deletes, mut changed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (range, _, verdict) in keys {
        let Verdict::Row(outcome) = verdict else { continue };
        if let Some(turn) = outcome.write {
            let entrant = &entrants[range.start + turn];
            let rows = match (entrant.operation, outcome.inserts) {
                (Operation::Delete, _) => &mut deletes,
                (_, true) => &mut inserts,
                (_, false) => &mut upserts,
            };
            rows.push(entrant.row);
        }
        if let Some(entry) = &outcome.entry {
            changed.push((entrants[range.start].key, entry));
        }
    }
    run(conn, &deletes, "deleting from", ContestTable::delete, true).await?;
    run(conn, &upserts, "writing to", ContestTable::upsert, false).await?;
    run(conn, &inserts, "inserting into", ContestTable::insert_free, false).await?;
    check_free(conn, table, &inserts, decided.mine).await?;
    entries::write(conn, name, &changed).await?;
    log::after(conn, table, &mut lines, &node.log).await?;
    Ok(lines.into_iter().map(|(line, _)| line).collect())
}

/// Fails where somebody else has put a row where one was to be inserted: all is decided again with what is there then.
async fn check_free(
    conn: &mut PgConnection,
    table: &ContestTable,
    inserts: &[RowAt<'_>],
    mine: u32,
) -> Result<(), TargetError> {
    if inserts.is_empty() {
        return Ok(());
    }
    let doing = Doing::Writing { table: &table.name, index: None, what: "inserting into" };
    let mut query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(table.look(false)));
    for array in CellArray::key(table, inserts) {
        query = query.bind(array);
    }
    let found = query.fetch_all(conn).await.map_err(|error| doing.error(error))?;
    if found.len() == inserts.len() && found.iter().all(|(_, xmin)| *xmin == i64::from(mine)) {
        return Ok(());
    }
    Err(TargetError {
        class: ErrorClass::Transient,
        message: format!(
            "inserting into target table {}: this node has inserted a row with the same key meanwhile",
            table.name
        ),
        table: None,
        source: None,
    })
}

/// The conflicts that were found, with the rows they are about.
fn cases<'a>(entrants: &'a [Entrant<'_>], keys: &[(Range<usize>, Found, Verdict)]) -> Vec<log::Case<'a>> {
    let mut cases = Vec::new();
    for (range, _, verdict) in keys {
        let Verdict::Row(outcome) = verdict else { continue };
        for conflict in &outcome.conflicts {
            let entrant = &entrants[range.start + conflict.turn];
            let over = conflict.over.map(|turn| &entrants[range.start + turn]);
            cases.push(log::Case {
                row: entrant.row,
                operation: entrant.operation,
                version: entrant.version,
                partition: entrant.partition,
                kind: conflict.kind,
                takes: conflict.takes,
                stored: conflict.stored.clone(),
                over: over.map(|over| (over.operation != Operation::Delete).then_some(over.row)),
            });
        }
    }
    cases
}

async fn write_columns<'a>(
    conn: &mut PgConnection,
    node: &NodeSettings,
    decided: &'a Decided<'_>,
    by_columns: &'a ByColumns,
) -> Result<Vec<Line<'a>>, TargetError> {
    let Decided { name, entrants, keys, .. } = decided;
    let table = &by_columns.table;
    let (mut upserts, mut deletes, mut changed, mut discarded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (range, _, verdict) in keys {
        let Verdict::Columns(resolution) = verdict else { continue };
        match &resolution.write {
            Some(Some(image)) => upserts.push(image),
            Some(None) => deletes.push(entrants[range.start].row),
            None => {}
        }
        if let Some((state, noted)) = &resolution.entry {
            changed.push((entrants[range.start].key, state, *noted));
        }
        discarded.extend(resolution.discarded.iter().map(|found| (range.start + found.turn, found)));
    }
    let rows = rows_of(table, upserts.iter().copied());
    let upserts: Vec<RowAt<'_>> = (0..upserts.len())
        .map(|row| RowAt { table, rows: &rows, row: u32::try_from(row).unwrap_or(u32::MAX) })
        .collect();
    run(conn, &deletes, "deleting from", ContestTable::delete, true).await?;
    run(conn, &upserts, "writing to", ContestTable::upsert, false).await?;
    entries::write_states(conn, name, &changed).await?;
    let columns = discarded.iter().map(|(entrant, found)| log::ColumnCase {
        row: entrants[*entrant].row,
        version: entrants[*entrant].version,
        partition: entrants[*entrant].partition,
        source: (entrants[*entrant].operation != Operation::Delete).then_some(&by_columns.images[*entrant].0),
        found,
    });
    log::of_columns(conn, table, &columns.collect::<Vec<_>>(), &node.log).await
}

/// Runs an array statement over rows, once for each of their plans; with the key's columns or all of them.
async fn run(
    conn: &mut PgConnection,
    rows: &[RowAt<'_>],
    what: &str,
    text: fn(&ContestTable) -> String,
    by_key: bool,
) -> Result<(), TargetError> {
    for same in rows.chunk_by(|a, b| std::ptr::eq(a.table, b.table)) {
        let table = same[0].table;
        let doing = Doing::Writing { table: &table.name, index: None, what };
        let mut query = sqlx::query(AssertSqlSafe(text(table)));
        let arrays: Vec<CellArray<'_>> =
            if by_key { CellArray::key(table, same).collect() } else { CellArray::all(table, same).collect() };
        for array in arrays {
            query = query.bind(array);
        }
        query.execute(&mut *conn).await.map_err(|error| doing.error(error))?;
    }
    Ok(())
}
