//! Finds keys that an open transaction has inserted: nobody sees such a row, and whoever inserts its key waits for that
//! transaction's end. So rows are inserted on trial, in halves of halves, and taken back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection};

use super::super::error::{Contention, Doing};
use super::super::writer::control;
use super::table::RowAt;
use super::write::insert_free;
use crate::targets::TargetError;

/// How long an insert waits before it counts as one whose key is taken. Much longer than any insert takes that does not
/// wait, since each of many keys may cost that much.
const BEGIN: &str = "SAVEPOINT trial; SET LOCAL lock_timeout = '50ms'";
const END: &str = "ROLLBACK TO SAVEPOINT trial; RELEASE SAVEPOINT trial";

/// Which of some rows cannot be inserted now, as indexes. Rows that were not tried within `longest` count as such. The
/// caller's transaction goes on with nothing changed.
///
/// # Errors
///
/// The rows cannot be inserted for another reason; somebody has locked their whole table.
pub(super) async fn taken(
    conn: &mut PgConnection,
    rows: &[RowAt<'_>],
    longest: Duration,
) -> Result<Vec<usize>, TargetError> {
    let Some(table) = rows.first().map(|row| row.table) else { return Ok(Vec::new()) };
    // Without it every key would count as taken, for as long as an index is made.
    let doing = Doing::Writing { table: &table.name, index: None, what: "locking" };
    sqlx::raw_sql(AssertSqlSafe(table.lock())).execute(&mut *conn).await.map_err(|error| doing.error(error))?;
    let deadline = Instant::now() + longest;
    let mut taken = Vec::new();
    // The larger pieces first: within a given time, few keys that are taken leave few others untried.
    let mut untried = VecDeque::from([(0, rows)]);
    while let Some((start, rows)) = untried.pop_front() {
        let in_time = Instant::now() <= deadline;
        if rows.is_empty() || in_time && are_free(conn, rows).await? {
            continue;
        }
        if rows.len() == 1 || !in_time {
            taken.extend(start..start + rows.len());
            continue;
        }
        let (first, second) = rows.split_at(rows.len() / 2);
        untried.extend([(start, first), (start + first.len(), second)]);
    }
    Ok(taken)
}

async fn are_free(conn: &mut PgConnection, rows: &[RowAt<'_>]) -> Result<bool, TargetError> {
    control(conn, BEGIN).await?;
    let inserted = insert_free(conn, rows).await;
    if let Err(error) = &inserted
        && Contention::of(error) != Some(Contention::Locked)
    {
        return inserted.map(|_| false);
    }
    control(conn, END).await?;
    Ok(inserted.is_ok())
}
