//! A target's table as it is.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};
use syncline_event::table::{ColumnType, TableDefinition, TypeKind};

/// What is there in the target for a definition.
#[derive(Debug, Clone, Default)]
pub struct TargetState {
    /// Whether the schema exists.
    pub schema_exists: bool,
    /// The table, where it exists.
    pub table: Option<TargetTable>,
    /// Labels of the enum types that the definition names and that exist, by schema and name.
    pub enums: BTreeMap<(String, String), Vec<String>>,
}

/// A table of the target.
#[derive(Debug, Clone)]
pub struct TargetTable {
    /// `pg_class.relkind`.
    pub kind: char,
    /// The role we are connected as.
    pub role: String,
    /// Privileges on the table (and `USAGE` on its schema) that the role lacks and needs.
    pub missing_privileges: Vec<&'static str>,
    /// Whether the role may truncate it.
    pub may_truncate: bool,
    /// Whether the role may alter it.
    pub is_owner: bool,
    /// Columns that are not dropped, in table order.
    pub columns: Vec<TargetColumn>,
    /// Unique indexes and exclusion constraints.
    pub indexes: Vec<TargetIndex>,
    /// Foreign keys of the table and those that refer to it: constraint names.
    pub foreign_keys: Vec<String>,
}

/// A column of a target table; a domain is resolved to its base type.
#[derive(Debug, Clone)]
pub struct TargetColumn {
    /// Name.
    pub name: String,
    /// Schema of the type.
    pub type_schema: String,
    /// `pg_type.typname` of the type.
    pub type_name: String,
    /// `atttypmod`.
    pub modifier: i32,
    /// `format_type`.
    pub format: String,
    /// Whether a NULL may stand in it.
    pub nullable: bool,
    /// `GENERATED ALWAYS AS (…)`.
    pub generated: bool,
    /// `GENERATED ALWAYS AS IDENTITY`.
    pub identity_always: bool,
    /// Whether the type is an enum.
    pub is_enum: bool,
    /// Whether the type is an array.
    pub is_array: bool,
}

/// A unique index or exclusion constraint of a target table.
#[derive(Debug, Clone)]
pub struct TargetIndex {
    /// Name.
    pub name: String,
    /// Key columns in order; empty where an expression is among them.
    pub columns: Vec<String>,
    /// Whether `ON CONFLICT` can use it: unique, valid, over all rows, not deferrable.
    pub is_arbiter: bool,
    /// Whether it is the primary key.
    pub primary: bool,
}

/// Reads what the target has for a definition.
///
/// # Errors
///
/// What the server answers.
pub async fn describe(conn: &mut PgConnection, definition: &TableDefinition) -> Result<TargetState, sqlx::Error> {
    let mut state = TargetState {
        schema_exists: sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
            .bind(&definition.schema)
            .fetch_one(&mut *conn)
            .await?,
        table: describe_table(conn, &definition.schema, &definition.table).await?,
        enums: BTreeMap::new(),
    };
    for (schema, name, _) in enums_of(definition) {
        let labels: Option<Vec<String>> = sqlx::query_scalar(
            "SELECT ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid \
             ORDER BY e.enumsortorder) \
             FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
             WHERE n.nspname = $1 AND t.typname = $2 AND t.typtype = 'e'",
        )
        .bind(schema)
        .bind(name)
        .fetch_optional(&mut *conn)
        .await?;
        if let Some(labels) = labels {
            state.enums.insert((schema.to_owned(), name.to_owned()), labels);
        }
    }
    Ok(state)
}

async fn describe_table(
    conn: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Option<TargetTable>, sqlx::Error> {
    let Some(row) = sqlx::query(
        "SELECT c.oid::pg_catalog.int8 AS oid, c.relkind::text AS kind, current_user::text AS role, \
         pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS u, \
         pg_catalog.has_table_privilege(c.oid, 'SELECT') AS s, pg_catalog.has_table_privilege(c.oid, 'INSERT') AS i, \
         pg_catalog.has_table_privilege(c.oid, 'UPDATE') AS p, pg_catalog.has_table_privilege(c.oid, 'DELETE') AS d, \
         pg_catalog.has_table_privilege(c.oid, 'TRUNCATE') AS t, pg_catalog.pg_has_role(c.relowner, 'USAGE') AS o \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(schema)
    .bind(table)
    .fetch_optional(&mut *conn)
    .await?
    else {
        return Ok(None);
    };
    let oid: i64 = row.try_get("oid")?;
    let mut missing_privileges = Vec::new();
    for (column, privilege) in [("u", "USAGE"), ("s", "SELECT"), ("i", "INSERT"), ("p", "UPDATE"), ("d", "DELETE")] {
        if !row.try_get::<bool, _>(column)? {
            missing_privileges.push(privilege);
        }
    }
    Ok(Some(TargetTable {
        kind: row.try_get::<String, _>("kind")?.chars().next().unwrap_or('?'),
        role: row.try_get("role")?,
        missing_privileges,
        may_truncate: row.try_get("t")?,
        is_owner: row.try_get("o")?,
        columns: columns(conn, oid).await?,
        indexes: indexes(conn, oid).await?,
        foreign_keys: sqlx::query_scalar(
            "SELECT conname::text FROM pg_catalog.pg_constraint \
             WHERE contype = 'f' AND (conrelid = $1::oid OR confrelid = $1::oid) ORDER BY 1",
        )
        .bind(oid)
        .fetch_all(&mut *conn)
        .await?,
    }))
}

async fn columns(conn: &mut PgConnection, oid: i64) -> Result<Vec<TargetColumn>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT a.attname::text AS name, tn.nspname::text AS type_schema, t.typname::text AS type_name, \
         base.modifier, pg_catalog.format_type(t.oid, base.modifier) AS format, NOT a.attnotnull AS nullable, \
         a.attgenerated <> '' AS generated, a.attidentity = 'a' AS identity_always, t.typtype = 'e' AS is_enum, \
         t.typcategory = 'A' AS is_array \
         FROM pg_catalog.pg_attribute a \
         CROSS JOIN LATERAL ( \
           WITH RECURSIVE chain AS ( \
             SELECT a.atttypid AS type_oid, a.atttypmod AS modifier, 0 AS depth \
             UNION ALL \
             SELECT d.typbasetype, CASE WHEN d.typtypmod <> -1 THEN d.typtypmod ELSE chain.modifier END, depth + 1 \
             FROM chain JOIN pg_catalog.pg_type d ON d.oid = chain.type_oid WHERE d.typtype = 'd') \
           SELECT chain.type_oid, chain.modifier FROM chain ORDER BY depth DESC LIMIT 1) base \
         JOIN pg_catalog.pg_type t ON t.oid = base.type_oid \
         JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace \
         WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    )
    .bind(oid)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(TargetColumn {
                name: row.try_get("name")?,
                type_schema: row.try_get("type_schema")?,
                type_name: row.try_get("type_name")?,
                modifier: row.try_get("modifier")?,
                format: row.try_get("format")?,
                nullable: row.try_get("nullable")?,
                generated: row.try_get("generated")?,
                identity_always: row.try_get("identity_always")?,
                is_enum: row.try_get("is_enum")?,
                is_array: row.try_get("is_array")?,
            })
        })
        .collect()
}

async fn indexes(conn: &mut PgConnection, oid: i64) -> Result<Vec<TargetIndex>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT ic.relname::text AS name, i.indisprimary AS is_primary, \
         i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AS is_arbiter, \
         ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k (attnum, place) \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
           WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns \
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid \
         WHERE i.indrelid = $1::oid AND (i.indisunique OR i.indisexclusion) ORDER BY i.indisprimary DESC, ic.relname",
    )
    .bind(oid)
    .fetch_all(&mut *conn)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(TargetIndex {
                name: row.try_get("name")?,
                columns: row.try_get("columns")?,
                is_arbiter: row.try_get("is_arbiter")?,
                primary: row.try_get("is_primary")?,
            })
        })
        .collect()
}

/// The enum types a definition names, also as elements of arrays: schema, name, labels.
pub(crate) fn enums_of(definition: &TableDefinition) -> Vec<(&str, &str, &[String])> {
    fn find<'a>(column_type: &'a ColumnType, found: &mut Vec<(&'a str, &'a str, &'a [String])>) {
        match &column_type.kind {
            TypeKind::Base => {}
            TypeKind::Enum { labels } => found.push((&column_type.schema, &column_type.name, labels)),
            TypeKind::Array { element } => find(element, found),
        }
    }
    let mut found = Vec::new();
    for column in &definition.columns {
        find(&column.column_type, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}
