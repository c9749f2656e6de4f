//! `_syncline.sync_conflicts`: what was discarded, written down in the transaction that discards it.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use syncline_transforms::resolve::row::{ConflictType, Operation, Stored, Version};
use syncline_transforms::resolve::rules::TableRule;

use super::super::error::Doing;
use super::columns::Discarded;
use super::table::{CellArray, ContestTable, Image, RowAt, image_limits, rows_of};
use crate::config::ConflictLog;
use crate::targets::{PartitionKey, TargetError};

/// A conflict that was found by comparing whole rows.
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

/// A conflict that was found by comparing columns.
pub(super) struct ColumnCase<'a> {
    /// The change's row.
    pub(super) row: RowAt<'a>,
    pub(super) version: &'a Version,
    pub(super) partition: &'a PartitionKey,
    /// The row that the change makes; none for a delete.
    pub(super) source: Option<&'a Image>,
    pub(super) found: &'a Discarded,
}

/// A line of the log. Values are JSON.
pub(super) struct Line<'a> {
    key: String,
    field: Option<String>,
    source: Option<String>,
    target: Option<String>,
    result: Option<String>,
    pub(super) kind: ConflictType,
    takes: bool,
    version: &'a Version,
    other: Option<Version>,
    partition: &'a PartitionKey,
}

/// Takes down what rows are before anything is written, each with its change's row. Changes that say the same are no
/// conflicts.
pub(super) async fn before<'a>(
    conn: &mut PgConnection,
    table: &ContestTable,
    cases: Vec<Case<'a>>,
    log: &ConflictLog,
) -> Result<Vec<(Line<'a>, RowAt<'a>)>, TargetError> {
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<RowAt<'a>> = cases.iter().map(|case| case.row).collect();
    let over: Vec<RowAt<'a>> = cases.iter().filter_map(|case| case.over.flatten()).collect();
    let sources = of_rows(conn, table, &rows, log).await?;
    let mut over = of_rows(conn, table, &over, log).await?.into_iter();
    let found = in_table(conn, table, &rows, log).await?;
    let mut lines = Vec::with_capacity(cases.len());
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
        let Case { row, version, partition, kind, takes, stored, .. } = case;
        let other = stored.map(|stored| stored.version);
        lines.push((
            Line { key, field: None, source, target, result: None, kind, takes, version, other, partition },
            row,
        ));
    }
    Ok(lines)
}

/// Takes down what the rows are by now.
pub(super) async fn after(
    conn: &mut PgConnection,
    table: &ContestTable,
    lines: &mut [(Line<'_>, RowAt<'_>)],
    log: &ConflictLog,
) -> Result<(), TargetError> {
    if lines.is_empty() {
        return Ok(());
    }
    let rows: Vec<RowAt<'_>> = lines.iter().map(|(_, row)| *row).collect();
    for ((line, _), result) in lines.iter_mut().zip(in_table(conn, table, &rows, log).await?) {
        line.result = result.map(|(image, _)| image);
    }
    Ok(())
}

/// Lines of conflicts between columns; `table` has all values as texts.
pub(super) async fn of_columns<'a>(
    conn: &mut PgConnection,
    table: &ContestTable,
    cases: &[ColumnCase<'a>],
    log: &ConflictLog,
) -> Result<Vec<Line<'a>>, TargetError> {
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    // A column's values stand in otherwise empty rows, so that all of them get their JSON from the same statement.
    let mut images: Vec<Image> = Vec::new();
    let mut put = |image: Option<Image>| {
        let there = image.is_some();
        images.extend(image);
        there
    };
    let width = table.columns.len();
    let lone = |column: usize, value: &Option<String>| {
        let mut image = vec![None; width];
        image[column].clone_from(value);
        image
    };
    let mut there = Vec::with_capacity(cases.len());
    for case in cases {
        let Discarded { conflict, target, result, .. } = case.found;
        there.push(match conflict.column {
            Some(column) => {
                [&conflict.source, &conflict.target, &conflict.result].map(|value| put(Some(lone(column, value))))
            }
            None => [case.source.cloned(), target.clone(), result.clone()].map(&mut put),
        });
    }
    let rows = rows_of(table, images.iter());
    let at = |row| RowAt { table, rows: &rows, row };
    let of_images: Vec<RowAt<'_>> = (0..u32::try_from(images.len()).unwrap_or(u32::MAX)).map(at).collect();
    let mut texts = of_rows(conn, table, &of_images, log).await?.into_iter();
    let of_cases: Vec<RowAt<'_>> = cases.iter().map(|case| case.row).collect();
    let keys = of_rows(conn, table, &of_cases, log).await?;
    let mut lines = Vec::with_capacity(cases.len());
    for ((case, there), key) in cases.iter().zip(there).zip(keys) {
        let [source, target, result] =
            there.map(|there| if there { texts.next().map(|image| image.image) } else { None });
        let conflict = &case.found.conflict;
        lines.push(Line {
            key: key.key,
            field: conflict.column.map(|column| table.names[column].clone()),
            source,
            target,
            result,
            kind: conflict.kind,
            takes: conflict.takes,
            version: case.version,
            other: conflict.other.clone(),
            partition: case.partition,
        });
    }
    Ok(lines)
}

/// Writes lines. Those of a rule that leaves the decision to a person are not resolved yet.
pub(super) async fn insert(
    conn: &mut PgConnection,
    table: &str,
    lines: &[Line<'_>],
    rule: &TableRule,
) -> Result<(), TargetError> {
    if lines.is_empty() {
        return Ok(());
    }
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let other = |get: fn(&Version) -> i64| -> Vec<Option<i64>> {
        lines.iter().map(|line| line.other.as_ref().map(get)).collect()
    };
    sqlx::query(INSERT)
        .bind(table)
        .bind(rule.name())
        .bind(lines.iter().map(|line| line.key.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.field.as_deref()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.source.as_deref()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.target.as_deref()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| if line.takes { "source" } else { "target" }).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.result.as_deref()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.kind.name()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| signed(line.version.stamp.clock_us)).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| i64::from(line.version.stamp.counter)).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.version.stamp.origin.as_str()).collect::<Vec<_>>())
        .bind(other(|version| i64::try_from(version.stamp.clock_us).unwrap_or(i64::MAX)))
        .bind(other(|version| i64::from(version.stamp.counter)))
        .bind(
            lines
                .iter()
                .map(|line| line.other.as_ref().map(|version| version.stamp.origin.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(lines.iter().map(|line| line.partition.topic.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| line.partition.topic_id.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| i64::from(line.partition.partition)).collect::<Vec<_>>())
        .bind(lines.iter().map(|line| signed(line.version.offset)).collect::<Vec<_>>())
        .bind(*rule == TableRule::Manual)
        .execute(conn)
        .await
        .map_err(|error| Doing::Bookkeeping("writing to _syncline.sync_conflicts").error(error))?;
    Ok(())
}

const INSERT: &str = "\
INSERT INTO _syncline.sync_conflicts (id, table_name, key, field, source_value, target_value, resolution, result, \
  conflict_type, strategy, source_clock_us, source_counter, source_origin, target_clock_us, target_counter, \
  target_origin, topic, partition, record_offset, resolved_at, resolved_by) \
SELECT pg_catalog.substr(pg_catalog.md5(pg_catalog.concat_ws('/', $1::text, topic_id, partition, record_offset, field, \
  target_origin, target_clock_us)), 1, 16), $1, key::jsonb, field, \
  CASE WHEN field IS NULL THEN source_value::jsonb ELSE source_value::jsonb -> field END, \
  CASE WHEN field IS NULL THEN target_value::jsonb ELSE target_value::jsonb -> field END, resolution, \
  CASE WHEN field IS NULL THEN result::jsonb ELSE result::jsonb -> field END, conflict_type, $2, \
  source_clock_us, source_counter, source_origin, target_clock_us, target_counter, target_origin, topic, \
  partition::int4, record_offset, CASE WHEN $20 THEN NULL ELSE pg_catalog.clock_timestamp() END, \
  CASE WHEN $20 THEN NULL ELSE $2 END \
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::int8[], \
  $11::int8[], $12::text[], $13::int8[], $14::int8[], $15::text[], $16::text[], $17::text[], $18::int8[], \
  $19::int8[]) AS u (key, field, source_value, target_value, resolution, result, conflict_type, source_clock_us, \
  source_counter, source_origin, target_clock_us, target_counter, target_origin, topic, topic_id, partition, \
  record_offset)";

struct ImageText {
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
) -> Result<Vec<ImageText>, TargetError> {
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
            let read =
                |row: &PgRow| Ok(ImageText { key: row.try_get(1)?, image: row.try_get(2)?, hash: row.try_get(3)? });
            images.push(read(&row).map_err(|error| doing.error(error))?);
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
        let read = || Ok((row.try_get::<i64, _>(0)?, (row.try_get(1)?, row.try_get(2)?)));
        let (number, image) = read().map_err(|error| doing.error(error))?;
        if let Some(slot) = usize::try_from(number - 1).ok().and_then(|index| images.get_mut(index)) {
            *slot = Some(image);
        }
    }
    Ok(images)
}
