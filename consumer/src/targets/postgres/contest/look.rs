//! Finds rows by their keys, and locks them.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::super::error::Doing;
use super::by_columns::arranged;
use super::decide::Contest;
use super::fold::Found;
use super::system::Xid;
use super::table::{CellArray, Image, RowAt};
use crate::targets::TargetError;

/// Finds some keys' rows, on demand with their values. Those that are to be locked are, unless somebody else has them.
pub(super) async fn look(
    conn: &mut PgConnection,
    name: &str,
    contests: &[Contest<'_>],
    found: &mut [Found],
    wanted: &[usize],
    (lock, values): (bool, bool),
) -> Result<(), TargetError> {
    let doing = Doing::Writing { table: name, index: None, what: "locking rows of" };
    if !lock {
        return look_at(conn, doing, contests, found, wanted, (false, values)).await;
    }
    for index in wanted {
        (found[*index].row, found[*index].values) = (None, None);
    }
    // Rows that nothing is known of are most likely not there.
    let is_known = |found: &Found| found.entry.is_some() || found.state.is_some();
    let (mut wanted, unknown): (Vec<usize>, Vec<usize>) = wanted.iter().partition(|index| is_known(&found[**index]));
    look_at(conn, doing, contests, found, &unknown, (false, false)).await?;
    wanted.extend(unknown.into_iter().filter(|index| found[*index].row.take().is_some()));
    look_at(conn, doing, contests, found, &wanted, (true, values)).await?;
    // What is there all the same is somebody else's just now.
    let rest = wanted.iter().copied().filter(|index| found[*index].row.is_none()).collect::<Vec<_>>();
    look_at(conn, doing, contests, found, &rest, (false, values)).await?;
    for index in rest {
        found[index].locked = found[index].row.is_none();
    }
    Ok(())
}

async fn look_at(
    conn: &mut PgConnection,
    doing: Doing<'_>,
    contests: &[Contest<'_>],
    found: &mut [Found],
    wanted: &[usize],
    (lock, values): (bool, bool),
) -> Result<(), TargetError> {
    let rows: Vec<RowAt<'_>> = wanted.iter().map(|index| contests[*index].row).collect();
    let Some(first) = rows.first() else { return Ok(()) };
    let mut query = sqlx::query(AssertSqlSafe(first.table.look(lock, values)));
    for array in CellArray::key(first.table, &rows) {
        query = query.bind(array);
    }
    for row in query.fetch_all(conn).await.map_err(|error| doing.error(error))? {
        let read = || Ok((row.try_get::<i64, _>(0)?, row.try_get::<Xid, _>(1)?));
        let (number, xmin) = read().map_err(|error| doing.error(error))?;
        let place = usize::try_from(number - 1).ok().and_then(|number| wanted.get(number));
        if let Some(place) = place {
            found[*place].row = Some(xmin.0);
            found[*place].row_place = row.try_get(2).map_err(|error| doing.error(error))?;
            if values {
                let values: Image = row.try_get(3).map_err(|error| doing.error(error))?;
                let columns = &contests[0].row.table.names;
                found[*place].values = Some(arranged(values, &first.table.names, columns));
            }
        }
    }
    Ok(())
}
