//! `_syncline.sync_conflicts`: what was discarded, written down in the transaction that discards it.

use sqlx::{AssertSqlSafe, PgConnection, Row};
use syncline_transforms::resolve::row::{ConflictType, Operation, Stored, Version};

use super::super::error::Doing;
use super::table::{CellArray, ContestTable, RowAt, image_limits};
use crate::config::ConflictLog;
use crate::targets::{PartitionKey, TargetError};

/// A conflict on its way into the log.
pub(super) struct Case<'a> {
    /// The change's row.
    pub(super) row: RowAt<'a>,
    pub(super) operation: Operation,
    pub(super) version: &'a Version,
    /// Where its record is.
    pub(super) partition: &'a PartitionKey,
    pub(super) kind: ConflictType,
    /// Whether it stays.
    pub(super) takes: bool,
    /// What it was compared with.
    pub(super) stored: Option<Stored>,
    /// The change that put that there, if it came in the same transaction: its row, or `None` for a delete.
    pub(super) over: Option<Option<RowAt<'a>>>,
}

/// A conflict with what the rows were.
pub(super) struct Written<'a> {
    case: Case<'a>,
    key: String,
    source: Option<String>,
    target: Option<String>,
}

impl Written<'_> {
    pub(super) fn kind(&self) -> ConflictType {
        self.case.kind
    }
}

/// Takes down what the rows are before anything is written. Changes that say the same are no conflicts.
pub(super) async fn before<'a>(
    conn: &mut PgConnection,
    table: &ContestTable,
    cases: Vec<Case<'a>>,
    log: &ConflictLog,
) -> Result<Vec<Written<'a>>, TargetError> {
    let rows: Vec<RowAt<'a>> = cases.iter().map(|case| case.row).collect();
    let over: Vec<RowAt<'a>> = cases.iter().filter_map(|case| case.over.flatten()).collect();
    let sources = of_rows(conn, table, &rows, log).await?;
    let mut over = of_rows(conn, table, &over, log).await?.into_iter();
    let found = in_table(conn, table, &rows, log).await?;
    let mut written = Vec::with_capacity(cases.len());
    for ((case, source), found) in cases.into_iter().zip(sources).zip(found) {
        let (key, source) = (source.key, (case.operation != Operation::Delete).then_some((source.image, source.hash)));
        let target = match case.over {
            Some(Some(_)) => over.next().map(|image| (image.image, image.hash)),
            Some(None) => None,
            None => found,
        };
        let same = |(_, hash): &(String, String)| target.as_ref().is_some_and(|(_, other)| other == hash);
        if source.as_ref().is_some_and(same) {
            continue;
        }
        let (source, target) = (source.map(|(image, _)| image), target.map(|(image, _)| image));
        written.push(Written { case, key, source, target });
    }
    Ok(written)
}

/// Writes the conflicts down, with what the rows are by now.
pub(super) async fn after(
    conn: &mut PgConnection,
    table: &ContestTable,
    written: &[Written<'_>],
    (log, strategy): (&ConflictLog, &str),
) -> Result<(), TargetError> {
    if written.is_empty() {
        return Ok(());
    }
    let rows: Vec<RowAt<'_>> = written.iter().map(|written| written.case.row).collect();
    let results = in_table(conn, table, &rows, log).await?;
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let cases = || written.iter().map(|written| &written.case);
    let stored = |get: fn(&Version) -> i64| -> Vec<Option<i64>> {
        cases().map(|case| case.stored.as_ref().map(|stored| get(&stored.version))).collect()
    };
    sqlx::query(
        "INSERT INTO _syncline.sync_conflicts (id, table_name, key, source_value, target_value, resolution, result, \
         conflict_type, strategy, source_clock_us, source_counter, source_origin, target_clock_us, target_counter, \
         target_origin, topic, partition, record_offset) \
         SELECT pg_catalog.substr(pg_catalog.md5(pg_catalog.concat_ws('/', topic_id, partition, record_offset, $1)), 1, 16), $1, \
         key::jsonb, source_value::jsonb, target_value::jsonb, resolution, result::jsonb, conflict_type, $2, \
         source_clock_us, source_counter, source_origin, target_clock_us, target_counter, target_origin, topic, \
         partition::int4, record_offset FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], \
         $7::text[], $8::text[], $9::int8[], $10::int8[], $11::text[], $12::int8[], $13::int8[], $14::text[], \
         $15::text[], $16::text[], $17::int8[], $18::int8[]) AS u (key, source_value, target_value, resolution, result, \
         conflict_type, source_clock_us, source_counter, source_origin, target_clock_us, target_counter, target_origin, \
         topic, topic_id, partition, record_offset)",
    )
    .bind(&table.name)
    .bind(strategy)
    .bind(written.iter().map(|written| written.key.as_str()).collect::<Vec<_>>())
    .bind(written.iter().map(|written| written.source.as_deref()).collect::<Vec<_>>())
    .bind(written.iter().map(|written| written.target.as_deref()).collect::<Vec<_>>())
    .bind(cases().map(|case| if case.takes { "source" } else { "target" }).collect::<Vec<_>>())
    .bind(results.into_iter().map(|result| result.map(|(image, _)| image)).collect::<Vec<_>>())
    .bind(cases().map(|case| case.kind.name()).collect::<Vec<_>>())
    .bind(cases().map(|case| signed(case.version.stamp.clock_us)).collect::<Vec<_>>())
    .bind(cases().map(|case| i64::from(case.version.stamp.counter)).collect::<Vec<_>>())
    .bind(cases().map(|case| case.version.stamp.origin.as_str()).collect::<Vec<_>>())
    .bind(stored(|version| i64::try_from(version.stamp.clock_us).unwrap_or(i64::MAX)))
    .bind(stored(|version| i64::from(version.stamp.counter)))
    .bind(
        cases()
            .map(|case| case.stored.as_ref().map(|stored| stored.version.stamp.origin.as_str()))
            .collect::<Vec<_>>(),
    )
    .bind(cases().map(|case| case.partition.topic.as_str()).collect::<Vec<_>>())
    .bind(cases().map(|case| case.partition.topic_id.as_str()).collect::<Vec<_>>())
    .bind(cases().map(|case| i64::from(case.partition.partition)).collect::<Vec<_>>())
    .bind(cases().map(|case| signed(case.version.offset)).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map_err(|error| Doing::Bookkeeping("writing to _syncline.sync_conflicts").error(error))?;
    Ok(())
}

struct Image {
    key: String,
    image: String,
    hash: String,
}

/// Images of given rows, in their order. They may be of several plans of one table.
async fn of_rows(
    conn: &mut PgConnection,
    table: &ContestTable,
    rows: &[RowAt<'_>],
    log: &ConflictLog,
) -> Result<Vec<Image>, TargetError> {
    let doing = Doing::Writing { table: &table.name, index: None, what: "taking down conflicts of" };
    let mut images = Vec::with_capacity(rows.len());
    for same in rows.chunk_by(|a, b| std::ptr::eq(a.table, b.table)) {
        let plan = same[0].table;
        let (largest, masks) = image_limits(log);
        let mut query = sqlx::query(AssertSqlSafe(plan.images_of_rows())).bind(largest).bind(masks);
        for array in CellArray::all(plan, same) {
            query = query.bind(array);
        }
        for row in query.fetch_all(&mut *conn).await.map_err(|error| doing.error(error))? {
            images.push(Image {
                key: json(&row, 1).map_err(|error| doing.error(error))?,
                image: json(&row, 2).map_err(|error| doing.error(error))?,
                hash: row.try_get(3).map_err(|error| doing.error(error))?,
            });
        }
    }
    Ok(images)
}

/// Images, with their hashes, of the rows that the table has for given rows' keys.
async fn in_table(
    conn: &mut PgConnection,
    table: &ContestTable,
    rows: &[RowAt<'_>],
    log: &ConflictLog,
) -> Result<Vec<Option<(String, String)>>, TargetError> {
    let doing = Doing::Writing { table: &table.name, index: None, what: "taking down conflicts of" };
    let (largest, masks) = image_limits(log);
    let mut query = sqlx::query(AssertSqlSafe(table.images_in_table())).bind(largest).bind(masks);
    for array in CellArray::key(table, rows) {
        query = query.bind(array);
    }
    let mut images = vec![None; rows.len()];
    for row in query.fetch_all(conn).await.map_err(|error| doing.error(error))? {
        let read = || Ok((row.try_get::<i64, _>(0)?, (json(&row, 1)?, row.try_get::<String, _>(2)?)));
        let (number, image) = read().map_err(|error| doing.error(error))?;
        if let Some(slot) = usize::try_from(number - 1).ok().and_then(|index| images.get_mut(index)) {
            *slot = Some(image);
        }
    }
    Ok(images)
}

fn json(row: &sqlx::postgres::PgRow, index: usize) -> Result<String, sqlx::Error> {
    row.try_get::<String, _>(index)
}
