//! What was decided, written: rows, what is known of them, and conflicts.

use sqlx::{AssertSqlSafe, PgConnection};
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::row::Operation;
use syncline_transforms::resolve::show::Write;

use super::super::error::Doing;
use super::super::writer::control;
use super::by_columns::ByColumns;
use super::decide::{Decided, Decision, Entrant, Keys, Verdict};
use super::entries;
use super::fold::Found;
use super::log::{self, Line};
use super::states::{self, StateRow};
use super::system::Tid;
use super::table::{CellArray, ContestTable, RowAt, key_texts, rows_of};
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
    let (mut inserts, mut updates, mut deletes, mut changed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for decision in keys {
        let Verdict::Row(outcome) = &decision.verdict else { continue };
        let at = |turn: usize| &entrants[decision.turns.start + turn];
        inserts.extend(outcome.inserted().map(|turn| at(turn).row));
        match outcome.write.map(at) {
            Some(gone) if gone.operation == Operation::Delete => {
                // One that has come since it was looked for is a later write of this node.
                let is_there = decision.found.row.is_some() || outcome.inserted().is_some();
                deletes.extend(is_there.then_some((gone.row, &decision.found)));
            }
            Some(came) if !outcome.inserts => updates.push((came.row, &decision.found)),
            _ => {}
        }
        let known = outcome.entry.as_ref().or(decision.found.entry.as_ref());
        if known != decision.found.guessed.as_ref().or(decision.found.entry.as_ref()) {
            changed.push((decision.key, &decision.found, known));
        }
    }
    overwrite(conn, &updates).await?;
    insert(conn, &inserts, decided.known).await?;
    delete(conn, deletes).await?;
    entries::write(conn, name, &changed).await?;
    log::after(conn, table, &mut lines, &node.log).await?;
    Ok(lines.into_iter().map(|(line, _)| line).collect())
}

/// Inserts rows. Fails where somebody else has put one meanwhile, or is about to: all is decided again with what is there
/// then.
async fn insert(conn: &mut PgConnection, rows: &[RowAt<'_>], known: Keys) -> Result<(), TargetError> {
    let Some(first) = rows.first() else { return Ok(()) };
    let is_tried = known.trial().is_some();
    if !is_tried {
        control(conn, "SET LOCAL lock_timeout = '300ms'").await?;
    }
    let inserted = match known {
        Keys::Fresh => run(conn, rows, "inserting into", ContestTable::insert, false).await?,
        _ => insert_free(conn, rows).await?,
    };
    if !is_tried {
        control(conn, "SET LOCAL lock_timeout = '30s'").await?;
    }
    if inserted == rows.len() as u64 {
        return Ok(());
    }
    Err(TargetError {
        class: ErrorClass::Transient,
        message: format!(
            "inserting into target table {}: this node has inserted a row with the same key meanwhile",
            first.table.name
        ),
        table: None,
        source: None,
    })
}

/// Inserts rows whose keys are free. Gives their number.
pub(super) async fn insert_free(conn: &mut PgConnection, rows: &[RowAt<'_>]) -> Result<u64, TargetError> {
    run(conn, rows, "inserting into", ContestTable::insert_free, false).await
}

/// Overwrites rows that are there and locked.
async fn overwrite(conn: &mut PgConnection, updates: &[(RowAt<'_>, &Found)]) -> Result<(), TargetError> {
    for same in updates.chunk_by(|(a, _), (b, _)| std::ptr::eq(a.table, b.table)) {
        let table = same[0].0.table;
        let rows: Vec<RowAt<'_>> = same.iter().map(|(row, _)| *row).collect();
        let places: Option<Vec<Tid>> = same.iter().map(|(_, found)| found.locked_place()).collect();
        let (Some(places), Some(text)) = (places, table.overwrite()) else {
            run(conn, &rows, "writing to", ContestTable::upsert, false).await?;
            continue;
        };
        let doing = Doing::Writing { table: &table.name, index: None, what: "writing to" };
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(places);
        for array in CellArray::all(table, &rows) {
            query = query.bind(array);
        }
        let written = query.execute(&mut *conn).await.map_err(|error| doing.error(error))?;
        entries::all_written(&written, same.len(), &table.name)?;
    }
    Ok(())
}

/// Deletes rows: by their places those that are there and locked, which costs less; those that were inserted just now by
/// key.
async fn delete(conn: &mut PgConnection, mut rows: Vec<(RowAt<'_>, &Found)>) -> Result<(), TargetError> {
    let placed: Vec<_> = rows.extract_if(.., |(_, found)| found.locked_place().is_some()).collect();
    for same in placed.chunk_by(|(a, _), (b, _)| std::ptr::eq(a.table, b.table)) {
        let table = same[0].0.table;
        let doing = Doing::Writing { table: &table.name, index: None, what: "deleting from" };
        let places: Vec<Tid> = same.iter().filter_map(|(_, found)| found.locked_place()).collect();
        let query = sqlx::query(AssertSqlSafe(table.delete_at())).bind(places);
        let written = query.execute(&mut *conn).await.map_err(|error| doing.error(error))?;
        entries::all_written(&written, same.len(), &table.name)?;
    }
    let rows: Vec<RowAt<'_>> = rows.into_iter().map(|(row, _)| row).collect();
    run(conn, &rows, "deleting from", ContestTable::delete, true).await.map(drop)
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
    let Decided { name, entrants, keys, .. } = decided;
    let table = &by_columns.table;
    let (mut inserts, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut changed, mut again, mut discarded) = (Vec::new(), Vec::new(), Vec::new());
    for decision in keys {
        let Verdict::Columns(resolution) = &decision.verdict else { continue };
        match &resolution.write {
            Write::Insert(image) => inserts.push(image),
            Write::Update(image) => updates.push((image, &decision.found)),
            Write::Delete => deletes.push((decision.row, &decision.found)),
            Write::None => {}
        }
        if let Some(entry) = &resolution.entry {
            changed.push((decision.key, &decision.found, entry));
            again.extend(entry.unsettled.map(|_| decision.row));
        }
        discarded.extend(resolution.discarded.iter().map(|found| (decision.turns.start + found.turn, found)));
    }
    let rows = rows_of(table, inserts.iter().copied().chain(updates.iter().map(|(image, _)| *image)));
    let mut all = (0..).map(|row| RowAt { table, rows: &rows, row });
    let inserts: Vec<RowAt<'_>> = all.by_ref().take(inserts.len()).collect();
    let updates: Vec<_> = all.zip(updates.iter().map(|(_, found)| *found)).collect();
    delete(conn, deletes).await?;
    overwrite(conn, &updates).await?;
    insert(conn, &inserts, decided.known).await?;
    let again = key_texts(conn, &again).await?;
    let again: Vec<String> =
        again.iter().map(|key| serde_json::to_string(key).expect("texts can be written")).collect();
    let mut again = again.iter();
    let changed = changed.into_iter().map(|(key, found, entry)| StateRow {
        key,
        found,
        entry,
        row_key: entry.unsettled.and_then(|_| again.next()).map(String::as_str),
    });
    states::write(conn, name, fence, &changed.collect::<Vec<_>>()).await?;
    let columns = discarded.iter().map(|(entrant, found)| log::ColumnCase {
        row: entrants[*entrant].row,
        version: entrants[*entrant].version,
        partition: entrants[*entrant].partition,
        source: (entrants[*entrant].operation != Operation::Delete).then_some(&by_columns.images[*entrant].0),
        found,
    });
    log::of_columns(conn, table, &columns.collect::<Vec<_>>(), &node.log).await
}

/// Runs an array statement over rows, once for each of their plans; with the key's columns or all of them. Gives how many
/// rows it was about.
async fn run(
    conn: &mut PgConnection,
    rows: &[RowAt<'_>],
    what: &str,
    text: fn(&ContestTable) -> String,
    by_key: bool,
) -> Result<u64, TargetError> {
    let mut affected = 0;
    for same in rows.chunk_by(|a, b| std::ptr::eq(a.table, b.table)) {
        let table = same[0].table;
        let doing = Doing::Writing { table: &table.name, index: None, what };
        let mut query = sqlx::query(AssertSqlSafe(text(table)));
        let arrays: Vec<CellArray<'_>> =
            if by_key { CellArray::key(table, same).collect() } else { CellArray::all(table, same).collect() };
        for array in arrays {
            query = query.bind(array);
        }
        affected += query.execute(&mut *conn).await.map_err(|error| doing.error(error))?.rows_affected();
    }
    Ok(affected)
}
