//! Which columns each table's newest definition has, noted in the target, so that a column that was dropped in the
//! source and added again under its old name is not taken for the old one, whose values the target still holds.

use sqlx::{PgConnection, Row};
use syncline_event::table::TableDefinition;

use super::error::Doing;
use crate::targets::TargetError;

/// What is noted of a topic's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    definition: i64,
    columns: Vec<String>,
    /// Columns of earlier definitions that later ones lack.
    retired: Vec<String>,
}

/// Reads what is noted.
pub(super) async fn read(
    conn: &mut PgConnection,
    definition: &TableDefinition,
    doing: Doing<'_>,
) -> Result<Option<Noted>, TargetError> {
    let row = sqlx::query(
        "SELECT definition, columns, retired FROM _syncline.tables \
         WHERE topic = $1 AND table_schema = $2 AND table_name = $3",
    )
    .bind(&definition.topic)
    .bind(&definition.schema)
    .bind(&definition.table)
    .fetch_optional(conn)
    .await
    .map_err(|error| doing.error(error))?;
    row.map(|row| {
        Ok(Noted {
            definition: row.try_get("definition")?,
            columns: row.try_get("columns")?,
            retired: row.try_get("retired")?,
        })
    })
    .transpose()
    .map_err(|error: sqlx::Error| doing.error(error))
}

/// Whether the definition is newer than what is noted.
pub(super) fn is_news(noted: Option<&Noted>, definition: &TableDefinition) -> bool {
    noted.is_none_or(|noted| i64::from(definition.number) > noted.definition)
}

/// A column of a newer definition that was retired, and that the target (`exists`) still has.
pub(super) fn returning<'a>(
    noted: Option<&Noted>,
    definition: &'a TableDefinition,
    exists: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    let noted = noted.filter(|noted| i64::from(definition.number) > noted.definition)?;
    let mut columns = definition.columns.iter().filter(|column| column.generated.is_none());
    columns
        .find(|column| noted.retired.contains(&column.name) && exists(&column.name))
        .map(|column| column.name.as_str())
}

/// What is to be noted once the definition is in force.
fn next(noted: Option<&Noted>, definition: &TableDefinition) -> Noted {
    let columns: Vec<String> = definition.columns.iter().map(|column| column.name.clone()).collect();
    let mut retired: Vec<String> = Vec::new();
    if let Some(noted) = noted {
        for name in noted.retired.iter().chain(&noted.columns) {
            if !columns.contains(name) && !retired.contains(name) {
                retired.push(name.clone());
            }
        }
    }
    Noted { definition: i64::from(definition.number), columns, retired }
}

/// Notes a definition that is newer than what is noted; the caller holds the right to change tables.
pub(super) async fn write(
    conn: &mut PgConnection,
    definition: &TableDefinition,
    noted: Option<&Noted>,
    doing: Doing<'_>,
) -> Result<(), TargetError> {
    let next = next(noted, definition);
    sqlx::query(
        "INSERT INTO _syncline.tables AS t (topic, table_schema, table_name, definition, columns, retired) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (topic, table_schema, table_name) DO UPDATE SET \
         definition = EXCLUDED.definition, columns = EXCLUDED.columns, \
         retired = EXCLUDED.retired WHERE t.definition < EXCLUDED.definition",
    )
    .bind(&definition.topic)
    .bind(&definition.schema)
    .bind(&definition.table)
    .bind(next.definition)
    .bind(&next.columns)
    .bind(&next.retired)
    .execute(conn)
    .await
    .map_err(|error| doing.error(error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_event::handling::Handling;
    use syncline_event::table::{Column, ColumnType, ReplicaIdentity, TypeKind};

    fn definition(number: u32, names: &[&str]) -> TableDefinition {
        let column = |name: &&str| Column {
            name: (*name).into(),
            field: (*name).into(),
            column_type: ColumnType {
                oid: 23,
                name: "int4".into(),
                schema: "pg_catalog".into(),
                modifier: -1,
                format: "integer".into(),
                kind: TypeKind::Base,
                domain: None,
            },
            nullable: true,
            identity: None,
            generated: None,
            default: None,
            default_value: None,
            missing_value: None,
        };
        TableDefinition {
            topic: "p.s.t".into(),
            number,
            schema: "s".into(),
            table: "t".into(),
            columns: names.iter().map(column).collect(),
            key: vec![0],
            replica_identity: ReplicaIdentity::Default,
            handling: Handling::default(),
        }
    }

    #[test]
    fn only_a_column_that_was_gone_in_between_returns() {
        let first = next(None, &definition(1, &["id", "a"]));
        assert_eq!(first.retired, Vec::<String>::new());
        let second = next(Some(&first), &definition(2, &["id", "b"]));
        assert_eq!(second.retired, ["a"]);

        let third = definition(3, &["id", "a", "b"]);
        assert!(is_news(Some(&second), &third));
        assert_eq!(returning(Some(&second), &third, |_| true), Some("a"));
        assert_eq!(returning(Some(&second), &third, |_| false), None);
        assert_eq!(next(Some(&second), &third).retired, Vec::<String>::new());

        // An older definition may still be written, and a new column is no return.
        assert_eq!(returning(Some(&second), &definition(1, &["id", "a"]), |_| true), None);
        assert_eq!(returning(Some(&second), &definition(3, &["id", "b", "c"]), |_| true), None);
        assert!(!is_news(Some(&second), &definition(2, &["id", "b"])));
    }
}
