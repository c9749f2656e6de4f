//! Tables by what the catalog says of them, for rows that do not come from a record.

use sqlx::{PgConnection, Row};
use syncline_runtime::retry::ErrorClass;
use syncline_transforms::resolve::plan::{Plan, PlanColumn};
use syncline_transforms::sql_type::SqlType;

use super::super::encode::Codec;
use super::super::error::Doing;
use super::super::statements::StatementColumn;
use super::table::ContestTable;
use crate::config::NodeSettings;
use crate::targets::TargetError;

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

pub(super) async fn table_of(
    conn: &mut PgConnection,
    name: &str,
    columns: &[String],
) -> Result<ContestTable, TargetError> {
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
            "target table {name}: {what} is gone, which changes that wait for it still need; bring it back, or delete them: \
             its rows in _syncline.waiting, and those in _syncline.row_stamps whose row_key is not NULL"
        ),
        table: None,
        source: None,
    };
    let rows = sqlx::query(
        "SELECT a.attname, tn.nspname, t.typname, t.typtype = 'e' AS is_enum, t.typcategory = 'A' AS is_array, \
         pg_catalog.array_position(i.indkey::int2[], a.attnum) AS key, \
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

/// The names of a table's columns that can be written.
pub(super) async fn columns_of(conn: &mut PgConnection, name: &str) -> Result<Vec<String>, TargetError> {
    let doing = Doing::Writing { table: name, index: None, what: "describing" };
    sqlx::query_scalar(
        "SELECT a.attname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         AND a.attgenerated = '' WHERE pg_catalog.concat(n.nspname, '.', c.relname) = $1 AND c.relkind IN ('r', 'p') \
         ORDER BY a.attnum",
    )
    .bind(name)
    .fetch_all(conn)
    .await
    .map_err(|error| doing.error(error))
}
