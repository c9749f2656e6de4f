//! What was decided, written: rows, what is known of them, and conflicts.

use sqlx::{AssertSqlSafe, PgConnection};
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::row::Operation;
use syncline_transforms::resolve::show::Write;

use super::super::error::Doing;
use super::decide::{ByColumns, Decided, Decision, Entrant, Verdict};
use super::entries;
use super::log::{self, Line};
use super::table::{CellArray, ContestTable, Image, RowAt, key_texts, rows_of};
use crate::config::NodeSettings;
use crate::targets::{Contested, TargetError};

/// Writes rows, entries and conflicts. Rows that ask for a fence wait for this one.
pub(super) async fn write(
    conn: &mut PgConnection,
    node: &NodeSettings,
    decided: Decided<'_>,
    fence: Option<u64>,
    contested: &mut Contested,
) -> Result<(), TargetError> {
    let lines = match &decided.by_columns {
        None => write_rows(conn, node, &decided).await?,
        Some(by_columns) => write_columns(conn, node, &decided, fence, by_columns).await?,
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
    for decision in keys {
        let Verdict::Row(outcome) = &decision.verdict else { continue };
        if let Some(turn) = outcome.write {
            let entrant = &entrants[decision.turns.start + turn];
            let rows = match (entrant.operation, outcome.inserts) {
                (Operation::Delete, _) => &mut deletes,
                (_, true) => &mut inserts,
                (_, false) => &mut upserts,
            };
            rows.push(entrant.row);
        }
        if let Some(entry) = &outcome.entry {
            changed.push((decision.key, entry));
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
    let mut query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(table.look(false, false)));
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
fn cases<'a>(entrants: &'a [Entrant<'_>], keys: &[Decision<'_>]) -> Vec<log::Case<'a>> {
    let mut cases = Vec::new();
    for decision in keys {
        let Verdict::Row(outcome) = &decision.verdict else { continue };
        for conflict in &outcome.conflicts {
            let entrant = &entrants[decision.turns.start + conflict.turn];
            let over = conflict.over.map(|turn| &entrants[decision.turns.start + turn]);
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
    fence: Option<u64>,
    by_columns: &'a ByColumns,
) -> Result<Vec<Line<'a>>, TargetError> {
    let Decided { name, entrants, keys, mine, .. } = decided;
    let table = &by_columns.table;
    let (mut inserts, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut changed, mut again, mut discarded) = (Vec::new(), Vec::new(), Vec::new());
    for decision in keys {
        let Verdict::Columns(resolution) = &decision.verdict else { continue };
        match &resolution.write {
            Write::Insert(image) => inserts.push(image),
            Write::Update(image) => updates.push(image),
            Write::Delete => deletes.push(decision.row),
            Write::None => {}
        }
        if let Some(entry) = &resolution.entry {
            changed.push((decision.key, entry));
            again.extend(entry.unsettled.map(|_| decision.row));
        }
        discarded.extend(resolution.discarded.iter().map(|found| (decision.turns.start + found.turn, found)));
    }
    let images: Vec<&Image> = inserts.iter().chain(&updates).copied().collect();
    let rows = rows_of(table, images.into_iter());
    let at = |row: usize| RowAt { table, rows: &rows, row: u32::try_from(row).unwrap_or(u32::MAX) };
    let (inserts, updates): (Vec<_>, Vec<_>) =
        (0..inserts.len() + updates.len()).map(at).partition(|at| (at.row as usize) < inserts.len());
    run(conn, &deletes, "deleting from", ContestTable::delete, true).await?;
    run(conn, &updates, "writing to", ContestTable::upsert, false).await?;
    run(conn, &inserts, "inserting into", ContestTable::insert_free, false).await?;
    check_free(conn, table, &inserts, *mine).await?;
    let again = key_texts(conn, &again).await?;
    let again: Vec<String> =
        again.iter().map(|key| serde_json::to_string(key).expect("texts can be written")).collect();
    let mut again = again.iter();
    let changed = changed.into_iter().map(|(key, entry)| entries::StateRow {
        key,
        entry,
        row_key: entry.unsettled.and_then(|_| again.next()).map(String::as_str),
    });
    entries::write_states(conn, name, fence, &changed.collect::<Vec<_>>()).await?;
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
