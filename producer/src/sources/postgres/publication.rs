//! The publication: exactly the captured tables, all operations, partitions through their root.

use sqlx::{PgConnection, Row as _};
use syncline_catalog::ident::{IdentError, qualified, quote_identifier};

use super::selection::CatalogTable;

/// What has to be done to a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicationPlan {
    /// It is as it should be.
    Ready,
    /// Statements that make it so, with the reason.
    Change {
        /// What is missing.
        reason: String,
        /// The SQL, for us or for a DBA.
        statements: Vec<String>,
    },
    /// It is somebody else's, for another purpose.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    all_tables: bool,
    publishes_all: bool,
    via_root: bool,
    filtered: bool,
    schemas: bool,
    generated: bool,
    tables: Vec<(String, String)>,
}

/// Compares the publication with the selection. Changes nothing.
///
/// # Errors
///
/// The database, or a name that cannot stand in SQL.
pub async fn plan(
    connection: &mut PgConnection,
    name: &str,
    selected: &[CatalogTable],
) -> Result<PublicationPlan, crate::error::ProducerError> {
    let found = find(connection, name)
        .await
        .map_err(|error| crate::error::ProducerError::source(&format!("publication {name} cannot be read"), error))?;
    Ok(compare(name, selected, found.as_ref())?)
}

async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<Found>, sqlx::Error> {
    let publication = "SELECT oid, puballtables, pubviaroot,
                              pubinsert AND pubupdate AND pubdelete AND pubtruncate AS publishes_all,
                              coalesce(to_jsonb(p) ->> 'pubgencols', 'n') NOT IN ('n', 'false') AS generated,
                              current_setting('server_version_num')::int >= 150000 AS may_have_schemas
                         FROM pg_publication p WHERE pubname = $1";
    let Some(row) = sqlx::query(publication).bind(name).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let oid: sqlx::postgres::types::Oid = row.try_get("oid")?;
    let mut tables = sqlx::query_as::<_, (String, String)>(
        "SELECT n.nspname::text, c.relname::text FROM pg_publication_rel r
           JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE r.prpubid = $1",
    )
    .bind(oid)
    .fetch_all(&mut *connection)
    .await?;
    // As the selection is sorted, which no database's collation needs to agree with.
    tables.sort();
    // Row filters and column lists exist from PostgreSQL 15 on; to_jsonb does not mind their absence.
    let filtered: bool = sqlx::query_scalar(
        "SELECT coalesce(bool_or((to_jsonb(r) ->> 'prqual') IS NOT NULL OR (to_jsonb(r) ->> 'prattrs') IS NOT NULL), false)
           FROM pg_publication_rel r WHERE r.prpubid = $1",
    )
    .bind(oid)
    .fetch_one(&mut *connection)
    .await?;
    let schemas = if row.try_get("may_have_schemas")? {
        let query = "SELECT EXISTS (SELECT FROM pg_publication_namespace WHERE pnpubid = $1)";
        sqlx::query_scalar(query).bind(oid).fetch_one(connection).await?
    } else {
        false
    };
    Ok(Some(Found {
        schemas,
        generated: row.try_get("generated")?,
        all_tables: row.try_get("puballtables")?,
        publishes_all: row.try_get("publishes_all")?,
        via_root: row.try_get("pubviaroot")?,
        filtered,
        tables,
    }))
}

/// Whether this role may create or alter the publication: it has to own it (or may create one) and the tables.
///
/// # Errors
///
/// The database.
pub async fn may_change(
    connection: &mut PgConnection,
    name: &str,
    selected: &[CatalogTable],
) -> Result<bool, sqlx::Error> {
    let rights = "SELECT coalesce((SELECT pg_has_role(p.pubowner, 'USAGE') FROM pg_publication p WHERE p.pubname = $1),
                                  has_database_privilege(current_database(), 'CREATE'))
                     AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS s(schema_name, table_name)
                           JOIN pg_namespace n ON n.nspname = s.schema_name
                           JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.table_name
                          WHERE NOT pg_has_role(c.relowner, 'USAGE'))";
    let schemas: Vec<&str> = selected.iter().map(|table| table.schema.as_str()).collect();
    let tables: Vec<&str> = selected.iter().map(|table| table.table.as_str()).collect();
    sqlx::query_scalar(rights).bind(name).bind(schemas).bind(tables).fetch_one(connection).await
}

fn compare(name: &str, selected: &[CatalogTable], found: Option<&Found>) -> Result<PublicationPlan, IdentError> {
    let quoted = quote_identifier(name)?;
    let list = selected.iter().map(|t| qualified(&t.schema, &t.table)).collect::<Result<Vec<_>, _>>()?.join(", ");
    let change =
        |reason: &str, statements: Vec<String>| PublicationPlan::Change { reason: reason.to_owned(), statements };
    let Some(found) = found else {
        let statement =
            format!("CREATE PUBLICATION {quoted} FOR TABLE {list} WITH (publish_via_partition_root = true)");
        return Ok(change("it does not exist", vec![statement]));
    };
    if found.all_tables {
        return Ok(PublicationPlan::Refused {
            reason: format!(
                "publication {name} is FOR ALL TABLES, which makes UPDATE and DELETE fail on every table without a key, \
                 and may serve another program: choose another name, or let a DBA run `DROP PUBLICATION {quoted}`"
            ),
        });
    }
    let mut statements = Vec::new();
    let wanted: Vec<(String, String)> = selected.iter().map(|t| (t.schema.clone(), t.table.clone())).collect();
    if found.filtered || found.schemas {
        statements.push(format!("ALTER PUBLICATION {quoted} SET TABLE {list}"));
    } else {
        // One by one: SET TABLE would lock all tables against VACUUM.
        for (verb, tables, others) in [("ADD", &wanted, &found.tables), ("DROP", &found.tables, &wanted)] {
            let tables = tables.iter().filter(|table| !others.contains(table));
            let tables = tables.map(|(schema, table)| qualified(schema, table)).collect::<Result<Vec<_>, _>>()?;
            if !tables.is_empty() {
                statements.push(format!("ALTER PUBLICATION {quoted} {verb} TABLE {}", tables.join(", ")));
            }
        }
    }
    // A partition whose root is not published keeps its own name under this setting.
    if !found.publishes_all || !found.via_root {
        statements.push(format!(
            "ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate', \
             publish_via_partition_root = true)"
        ));
    }
    if found.generated {
        statements.push(format!("ALTER PUBLICATION {quoted} SET (publish_generated_columns = none)"));
    }
    Ok(if statements.is_empty() {
        PublicationPlan::Ready
    } else {
        change("it does not publish exactly the captured tables, with all operations and columns", statements)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected() -> Vec<CatalogTable> {
        vec![CatalogTable { schema: "public".into(), table: "us\"ers".into(), is_partition: false }]
    }

    fn found() -> Found {
        Found {
            all_tables: false,
            publishes_all: true,
            via_root: true,
            filtered: false,
            schemas: false,
            generated: false,
            tables: vec![("public".into(), "us\"ers".into())],
        }
    }

    fn statements(found: Option<Found>) -> Vec<String> {
        match compare("p", &selected(), found.as_ref()).unwrap() {
            PublicationPlan::Ready | PublicationPlan::Refused { .. } => Vec::new(),
            PublicationPlan::Change { statements, .. } => statements,
        }
    }

    #[test]
    fn a_missing_one_is_created_for_exactly_the_tables() {
        assert_eq!(
            statements(None),
            ["CREATE PUBLICATION \"p\" FOR TABLE \"public\".\"us\"\"ers\" WITH (publish_via_partition_root = true)"]
        );
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert!(statements(Some(found())).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_altered() {
        assert_eq!(
            statements(Some(Found { tables: vec![], ..found() })),
            ["ALTER PUBLICATION \"p\" ADD TABLE \"public\".\"us\"\"ers\""]
        );
        let mut more = found();
        more.tables.push(("public".into(), "x".into()));
        assert_eq!(statements(Some(more)), ["ALTER PUBLICATION \"p\" DROP TABLE \"public\".\"x\""]);
        assert_eq!(statements(Some(Found { publishes_all: false, ..found() })).len(), 1);
        for misfit in [
            Found { filtered: true, ..found() },
            Found { schemas: true, ..found() },
            Found { via_root: false, ..found() },
            Found { generated: true, ..found() },
        ] {
            assert_eq!(statements(Some(misfit)).len(), 1);
        }
    }

    #[test]
    fn one_for_all_tables_is_left_to_its_owner() {
        let plan = compare("p", &selected(), Some(&Found { all_tables: true, ..found() })).unwrap();
        assert!(matches!(plan, PublicationPlan::Refused { reason } if reason.contains("FOR ALL TABLES")));
    }
}
