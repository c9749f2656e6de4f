//! A target's own table as a definition: for records that do not tell the columns of their table.

use sqlx::PgConnection;
use syncline_catalog::target_table::{self, TargetColumn, TargetTable};
use syncline_event::handling::Handling;
use syncline_event::table::{Column, ColumnType, ReplicaIdentity, TableDefinition, TypeKind};
use syncline_runtime::retry::ErrorClass;

use super::error::Doing;
use crate::targets::TargetError;

/// The definition; `None` where there is no such table.
pub(super) async fn read(
    conn: &mut PgConnection,
    topic: &str,
    schema: &str,
    table: &str,
) -> Result<Option<TableDefinition>, TargetError> {
    let named = TableDefinition {
        topic: topic.to_owned(),
        number: 0,
        schema: schema.to_owned(),
        table: table.to_owned(),
        columns: Vec::new(),
        key: Vec::new(),
        replica_identity: ReplicaIdentity::Default,
        handling: Handling::default(),
    };
    let name = named.qualified_name();
    let doing = Doing::Writing { table: &name, index: None, what: "describing" };
    let state = target_table::describe(conn, &named).await.map_err(|error| doing.error(error))?;
    state.table.map(|table| of(&table, named)).transpose().map_err(|reason| TargetError {
        class: ErrorClass::BadRecord,
        message: format!("target table {name}: {reason}"),
        table: None,
        source: None,
    })
}

fn of(table: &TargetTable, named: TableDefinition) -> Result<TableDefinition, String> {
    let primary = table.indexes.iter().find(|index| index.primary);
    let primary = primary.ok_or("it has no primary key, by which rows could be found; give it one")?;
    let place = |name: &String| table.columns.iter().position(|column| column.name == *name);
    let key = primary.columns.iter().map(place).collect::<Option<Vec<_>>>().ok_or("its primary key has no columns")?;
    Ok(TableDefinition { columns: table.columns.iter().map(column).collect(), key, ..named })
}

fn column(column: &TargetColumn) -> Column {
    let base = |name: &str, modifier: i32, format: &str, kind: TypeKind| ColumnType {
        oid: 0,
        name: name.to_owned(),
        schema: column.type_schema.clone(),
        modifier,
        format: format.to_owned(),
        kind,
        domain: None,
    };
    let column_type = if column.is_enum {
        base(&column.type_name, -1, &column.format, TypeKind::Enum { labels: Vec::new() })
    } else if column.is_array {
        let element = column.type_name.strip_prefix('_').unwrap_or(&column.type_name);
        let element = base(element, column.modifier, column.format.trim_end_matches("[]"), TypeKind::Base);
        base(&column.type_name, column.modifier, &column.format, TypeKind::Array { element: Box::new(element) })
    } else {
        base(&column.type_name, column.modifier, &column.format, TypeKind::Base)
    };
    Column {
        name: column.name.clone(),
        field: column.name.clone(),
        column_type,
        nullable: column.nullable,
        identity: None,
        generated: column.generated.then(String::new),
        default: None,
        default_value: None,
        missing_value: None,
    }
}
