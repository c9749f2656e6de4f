//! Tables as the source's catalog describes them.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};
use syncline_event::handling::{Handling, NameAdjustment};
use syncline_event::name::adjust_fields;
use syncline_event::table::{Column, ColumnType, Identity, ReplicaIdentity, TableDefinition, TypeKind};

use crate::default_value::constant_defaults;

/// A table as the catalog has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTable {
    /// `pg_class.oid`.
    pub oid: u32,
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The columns in table order.
    pub columns: Vec<DescribedColumn>,
    /// The primary key's columns in key order, as indexes into `columns`; empty where there is none.
    pub primary_key: Vec<usize>,
    /// The columns of the index that REPLICA IDENTITY USING INDEX names, as indexes into `columns`; empty where there
    /// is none.
    pub identity_index: Vec<usize>,
    /// What old rows the log holds.
    pub replica_identity: ReplicaIdentity,
}

/// A column with what the log calls its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedColumn {
    /// The column; its `field` is the name until [`DescribedTable::definition`] adjusts it.
    pub column: Column,
    /// `pg_attribute.atttypid`: a domain's own oid.
    pub declared_oid: u32,
    /// `pg_attribute.atttypmod`.
    pub declared_modifier: i32,
}

impl DescribedTable {
    /// The definition of the table under a topic, not yet numbered.
    #[must_use]
    pub fn definition(self, topic: String, handling: Handling) -> TableDefinition {
        let mut columns: Vec<Column> = self.columns.into_iter().map(|described| described.column).collect();
        adjust_field_names(&mut columns, handling.field_names);
        TableDefinition {
            topic,
            number: 0,
            schema: self.schema,
            table: self.table,
            columns,
            // As Debezium does, a unique index stands in for a primary key.
            key: if self.primary_key.is_empty() { self.identity_index } else { self.primary_key },
            replica_identity: self.replica_identity,
            handling,
        }
    }
}

/// Gives every column the field name it has in events.
pub fn adjust_field_names(columns: &mut [Column], mode: NameAdjustment) {
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (column, field) in columns.iter_mut().zip(adjust_fields(&names, mode)) {
        column.field = field;
    }
}

const TABLE: &str = "SELECT c.oid, c.relreplident::text,
        (SELECT (string_to_array(i.indkey::text, ' ')::int2[])[1:i.indnkeyatts] FROM pg_index i
          WHERE i.indrelid = c.oid AND i.indisprimary) AS key_numbers,
        (SELECT (string_to_array(i.indkey::text, ' ')::int2[])[1:i.indnkeyatts] FROM pg_index i
          WHERE i.indrelid = c.oid AND i.indisreplident) AS identity_numbers
   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";

/// A domain's modifier stands in the domain; a domain over a domain is followed down. A NOT NULL that was never
/// validated (PostgreSQL 18) lets old rows keep their NULLs.
const COLUMNS: &str = "SELECT a.attnum, a.attname::text, a.atttypid, a.atttypmod,
        a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint n WHERE n.conrelid = a.attrelid AND n.contype = 'n'
           AND n.conkey = ARRAY[a.attnum] AND NOT n.convalidated) AS never_null,
        a.attidentity::text, a.attgenerated::text,
        pg_get_expr(d.adbin, d.adrelid) AS expression,
        (a.attmissingval::text::text[])[1] AS missing_value,
        b.oid AS base_oid, b.modifier AS base_modifier,
        CASE WHEN b.oid <> a.atttypid THEN
             (SELECT n.nspname || '.' || t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
               WHERE t.oid = a.atttypid) END AS domain
   FROM pg_attribute a
   LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  CROSS JOIN LATERAL (
        WITH RECURSIVE base AS (
             SELECT t.oid, t.typtype, t.typbasetype, a.atttypmod AS modifier, t.typtypmod
               FROM pg_type t WHERE t.oid = a.atttypid
              UNION ALL
             SELECT t.oid, t.typtype, t.typbasetype,
                    CASE WHEN b.modifier = -1 THEN b.typtypmod ELSE b.modifier END, t.typtypmod
               FROM base b JOIN pg_type t ON b.typtype = 'd' AND t.oid = b.typbasetype)
        SELECT oid, modifier FROM base WHERE typtype <> 'd') b
  WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
  ORDER BY a.attnum";

const TYPE: &str = "SELECT t.oid, t.typname::text, n.nspname::text, format_type(t.oid, $2) AS format,
        CASE WHEN t.typtype = 'e' THEN
             (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)
        END AS labels,
        CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem END AS element
   FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE t.oid = $1";

/// Describes a table or the root of a partitioned one; `None` where there is none of that name.
///
/// # Errors
///
/// The database.
pub async fn describe(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Option<DescribedTable>, sqlx::Error> {
    let Some(found) = sqlx::query(TABLE).bind(schema).bind(table).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let oid: sqlx::postgres::types::Oid = found.try_get("oid")?;
    let key_numbers: Option<Vec<i16>> = found.try_get("key_numbers")?;
    let identity_numbers: Option<Vec<i16>> = found.try_get("identity_numbers")?;
    let rows = sqlx::query(COLUMNS).bind(oid).fetch_all(&mut *connection).await?;

    let mut numbers = Vec::new();
    let mut columns = Vec::new();
    let mut types: BTreeMap<(u32, i32), ColumnType> = BTreeMap::new();
    for row in rows {
        numbers.push(row.try_get::<i16, _>("attnum")?);
        let base: sqlx::postgres::types::Oid = row.try_get("base_oid")?;
        let modifier: i32 = row.try_get("base_modifier")?;
        let mut column_type = match types.get(&(base.0, modifier)) {
            Some(known) => known.clone(),
            None => describe_type(connection, base.0, modifier).await?,
        };
        types.insert((base.0, modifier), column_type.clone());
        column_type.domain = row.try_get("domain")?;
        let declared: sqlx::postgres::types::Oid = row.try_get("atttypid")?;
        columns.push(DescribedColumn {
            column: column(&row, column_type)?,
            declared_oid: declared.0,
            declared_modifier: row.try_get("atttypmod")?,
        });
    }
    constant_defaults(connection, columns.iter_mut().map(|described| &mut described.column)).await?;
    let index_of = |number: i16| numbers.iter().position(|known| *known == number);
    Ok(Some(DescribedTable {
        oid: oid.0,
        schema: schema.to_owned(),
        table: table.to_owned(),
        columns,
        primary_key: key_numbers.unwrap_or_default().into_iter().filter_map(index_of).collect(),
        identity_index: identity_numbers.unwrap_or_default().into_iter().filter_map(index_of).collect(),
        replica_identity: replica_identity(found.try_get::<String, _>("relreplident")?.as_bytes()),
    }))
}

fn column(row: &sqlx::postgres::PgRow, column_type: ColumnType) -> Result<Column, sqlx::Error> {
    let name: String = row.try_get("attname")?;
    let expression: Option<String> = row.try_get("expression")?;
    let generated = !row.try_get::<String, _>("attgenerated")?.is_empty();
    Ok(Column {
        field: name.clone(),
        name,
        column_type,
        nullable: !row.try_get::<bool, _>("never_null")?,
        identity: match row.try_get::<String, _>("attidentity")?.as_str() {
            "a" => Some(Identity::Always),
            "d" => Some(Identity::ByDefault),
            _ => None,
        },
        generated: expression.clone().filter(|_| generated),
        default: expression.filter(|_| !generated),
        default_value: None,
        missing_value: row.try_get("missing_value")?,
    })
}

/// `relreplident`; what is not known is treated as the default.
#[must_use]
pub fn replica_identity(code: &[u8]) -> ReplicaIdentity {
    match code {
        b"f" => ReplicaIdentity::Full,
        b"i" => ReplicaIdentity::Index,
        b"n" => ReplicaIdentity::Nothing,
        _ => ReplicaIdentity::Default,
    }
}

/// Describes a type by what a relation message says of it. A type that is gone is described by its number alone.
///
/// # Errors
///
/// The database.
pub async fn describe_type(connection: &mut PgConnection, oid: u32, modifier: i32) -> Result<ColumnType, sqlx::Error> {
    let (mut described, element) = one_type(connection, oid, modifier).await?;
    if let Some(element) = element {
        let (element, _) = one_type(connection, element, modifier).await?;
        described.kind = TypeKind::Array { element: Box::new(element) };
    }
    Ok(described)
}

async fn one_type(
    connection: &mut PgConnection,
    oid: u32,
    modifier: i32,
) -> Result<(ColumnType, Option<u32>), sqlx::Error> {
    let row = sqlx::query(TYPE).bind(sqlx::postgres::types::Oid(oid)).bind(modifier).fetch_optional(connection).await?;
    let Some(row) = row else {
        let name = format!("type {oid}");
        let gone = ColumnType {
            oid,
            format: name.clone(),
            name,
            schema: String::new(),
            modifier,
            kind: TypeKind::Base,
            domain: None,
        };
        return Ok((gone, None));
    };
    let labels: Option<Vec<String>> = row.try_get("labels")?;
    let element: Option<sqlx::postgres::types::Oid> = row.try_get("element")?;
    let described = ColumnType {
        oid,
        name: row.try_get("typname")?,
        schema: row.try_get("nspname")?,
        modifier,
        format: row.try_get("format")?,
        kind: labels.map_or(TypeKind::Base, |labels| TypeKind::Enum { labels }),
        domain: None,
    };
    Ok((described, element.map(|oid| oid.0)))
}
