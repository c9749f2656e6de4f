//! Is the source fit to be captured? Facts are read, nothing is changed; every finding names its remedy.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _};
use syncline_catalog::describe::{DescribedTable, describe};
use syncline_catalog::ident::{qualified, quote_identifier};
use syncline_event::avro::schema::unsupported_columns;
use syncline_event::name::topic_name;
use syncline_event::table::{ReplicaIdentity, TableDefinition};

use super::publication::{self, PublicationPlan};
use super::relation::without_unsupported;
use super::selection::{self, CatalogTable};
use super::slot::{self, Slot};
use crate::config::ProducerConfig;
use crate::error::ProducerError;

/// Oldest server: `pg_logical_emit_message` in pgoutput and partition roots as we use them came with it.
const OLDEST_SERVER: i32 = 140_000;

/// The first server whose slots may be kept by standbys.
const FAILOVER_SERVER: i32 = 170_000;

/// What a source that can be captured looks like.
#[derive(Debug)]
pub struct Ready {
    /// The selected tables' definitions, not yet numbered, by topic.
    pub tables: BTreeMap<String, TableDefinition>,
    /// What has to be done to the publication.
    pub publication: PublicationPlan,
    /// The slot, where there is one.
    pub slot: Option<Slot>,
}

/// Reads everything and lists what is missing.
///
/// # Errors
///
/// [`ProducerError::Preflight`] with all findings, or the database.
pub async fn preflight(connection: &mut PgConnection, config: &ProducerConfig) -> Result<Ready, ProducerError> {
    let (ready, problems) = inspect(connection, config).await?;
    if problems.is_empty() { Ok(ready) } else { Err(ProducerError::Preflight(problems)) }
}

/// The same with the findings beside what is there.
///
/// # Errors
///
/// [`ProducerError::Preflight`] with all findings where the tables cannot be told, or the database.
pub async fn inspect(
    connection: &mut PgConnection,
    config: &ProducerConfig,
) -> Result<(Ready, Vec<String>), ProducerError> {
    let failed = |error| ProducerError::source("the source's catalog cannot be read", error);
    let mut problems = config.check();
    problems.extend(server_problems(connection, config).await.map_err(failed)?);
    let catalog = catalog_tables(connection).await.map_err(failed)?;
    let selected = selection::select(&config.tables, &catalog).map_err(|error| {
        problems.push(error.to_string());
        ProducerError::Preflight(std::mem::take(&mut problems))
    })?;

    let mut tables = BTreeMap::new();
    for table in &selected {
        let name = format!("{}.{}", table.schema, table.table);
        let Some(described) = describe(connection, &table.schema, &table.table).await.map_err(failed)? else {
            continue;
        };
        let identity = identity_columns(&described);
        problems.extend(table_problems(&described, config)?);
        problems.extend(missing_privilege(connection, table, config).await.map_err(failed)?);
        problems.extend(log_problems(connection, &described, config).await.map_err(failed)?);
        problems.extend(twice_captured(connection, &described, &selected).await.map_err(failed)?);
        let topic = topic_name(&config.topic_prefix, &table.schema, &table.table);
        let described = described.definition(topic.clone(), config.events.handling.clone());
        problems.extend(config.events.columns.problems(&described));
        let mut definition = config.events.columns.apply(described);
        problems.extend(key_problems(&definition, identity.as_deref())?);
        problems.extend(unsupported_problems(&definition, config.skip_unsupported_columns));
        if config.skip_unsupported_columns {
            definition = without_unsupported(definition);
        }
        if let Some(other) = tables.insert(topic.clone(), definition) {
            problems.push(format!(
                "tables {name} and {} would share the topic {topic}: leave one of them out",
                other.qualified_name()
            ));
        }
    }
    problems.extend(config.events.columns.idle_masks(tables.values()));
    let slot = slot::find(connection, &config.slot).await.map_err(failed)?;
    problems.extend(slot_problems(connection, config, slot.as_ref()).await.map_err(failed)?);
    let publication = publication::plan(connection, &config.publication, &selected).await?;
    problems.extend(publication_problems(connection, config, &publication, &selected).await.map_err(failed)?);
    Ok((Ready { tables, publication, slot }, problems))
}

async fn catalog_tables(connection: &mut PgConnection) -> Result<Vec<CatalogTable>, sqlx::Error> {
    let tables = "SELECT n.nspname::text, c.relname::text, c.relispartition
                    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
                     AND n.nspname NOT IN ('pg_catalog', 'information_schema', '_syncline')";
    let rows: Vec<(String, String, bool)> = sqlx::query_as(tables).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(schema, table, is_partition)| CatalogTable { schema, table, is_partition }).collect())
}

async fn server_problems(connection: &mut PgConnection, config: &ProducerConfig) -> Result<Vec<String>, sqlx::Error> {
    let facts = "SELECT current_setting('server_version_num')::int AS version,
                        current_setting('wal_level') AS wal_level,
                        pg_is_in_recovery() AS standby,
                        -- A managed server grants replication through a role.
                        (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)
                          OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication'
                                        AND pg_has_role(oid, 'MEMBER')) AS may_replicate,
                        current_setting('max_wal_senders')::int
                          - (SELECT count(*) FROM pg_stat_replication)::int AS free_senders";
    let row = sqlx::query(facts).fetch_one(connection).await?;
    let mut problems = Vec::new();
    let version: i32 = row.try_get("version")?;
    if version < OLDEST_SERVER {
        problems.push(format!("the server is PostgreSQL {}; 14 or newer is needed", version / 10_000));
    }
    if config.failover && version < FAILOVER_SERVER {
        problems.push(format!(
            "slot.failover needs PostgreSQL 17 or newer, and the server is PostgreSQL {}: write false",
            version / 10_000
        ));
    }
    if row.try_get("standby")? {
        problems.push("the server is a standby: connect to its primary".to_owned());
    }
    let wal_level: String = row.try_get("wal_level")?;
    if wal_level != "logical" {
        problems.push(format!(
            "wal_level is {wal_level}: run `ALTER SYSTEM SET wal_level = logical` and restart the server"
        ));
    }
    if !row.try_get::<Option<bool>, _>("may_replicate")?.unwrap_or(false) {
        let role = &config.source.username;
        problems.push(format!("role {role} may not replicate: run `ALTER ROLE \"{role}\" REPLICATION`"));
    }
    if row.try_get::<i32, _>("free_senders")? < 1 {
        problems.push("no WAL sender is free: raise max_wal_senders or end another replication".to_owned());
    }
    Ok(problems)
}

async fn missing_privilege(
    connection: &mut PgConnection,
    table: &CatalogTable,
    config: &ProducerConfig,
) -> Result<Option<String>, sqlx::Error> {
    let may = "SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relname = $2";
    let may: bool = sqlx::query_scalar(may).bind(&table.schema).bind(&table.table).fetch_one(connection).await?;
    let CatalogTable { schema, table, .. } = table;
    let role = &config.source.username;
    Ok((!may).then(|| {
        format!(
            "role {role} may not read {schema}.{table}: run `GRANT USAGE ON SCHEMA \"{schema}\" TO \"{role}\"; GRANT \
             SELECT ON \"{schema}\".\"{table}\" TO \"{role}\"`"
        )
    }))
}

/// Who needs whole old rows, where somebody does.
fn needs_old_rows(config: &ProducerConfig) -> Option<&'static str> {
    match config.node {
        Some(_) => Some("a node of a topology"),
        None => config.capture_before_values.then_some("capture_before_values"),
    }
}

/// What the log or a copy would leave out of the table without a word.
async fn log_problems(
    connection: &mut PgConnection,
    table: &DescribedTable,
    config: &ProducerConfig,
) -> Result<Vec<String>, sqlx::Error> {
    let facts = "SELECT row_security_active(c.oid) AS filtered,
                        c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS inherited,
                        EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary
                                   AND NOT i.indimmediate) AS deferrable
                   FROM pg_class c WHERE c.oid = $1";
    let oid = sqlx::postgres::types::Oid(table.oid);
    let row = sqlx::query(facts).bind(oid).fetch_one(&mut *connection).await?;
    let (name, role) = (format!("{}.{}", table.schema, table.table), &config.source.username);
    let mut problems = Vec::new();
    if row.try_get("filtered")? {
        problems.push(format!(
            "table {name} has row-level security, so role {role} reads only some of its rows: run `ALTER ROLE \"{role}\" \
             BYPASSRLS`"
        ));
    }
    if row.try_get("inherited")? {
        problems.push(format!(
            "table {name} is inherited from: a copy of it would hold its children's rows too, the log would not. Capture \
             the children instead, or make it a partitioned table"
        ));
    }
    if row.try_get("deferrable")? && table.replica_identity != ReplicaIdentity::Full {
        problems.push(format!(
            "table {name} has a deferrable primary key, which cannot identify old rows, so a publication would make \
             UPDATE and DELETE fail: run `ALTER TABLE {name} REPLICA IDENTITY FULL`, or make the key not deferrable"
        ));
    }
    // Old rows are logged as each partition says, not as the root does.
    let partitions = "SELECT n.nspname::text, c.relname::text, c.relreplident::text
                        FROM pg_partition_tree($1) t JOIN pg_class c ON c.oid = t.relid
                        JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE t.isleaf AND c.oid <> $1 ORDER BY 1, 2";
    let partitions: Vec<(String, String, String)> = sqlx::query_as(partitions).bind(oid).fetch_all(connection).await?;
    for (schema, partition, identity) in partitions {
        let statement = |wanted: &str| format!("ALTER TABLE \"{schema}\".\"{partition}\" REPLICA IDENTITY {wanted}");
        match identity.as_str() {
            "n" | "i" => problems.push(format!(
                "partition {schema}.{partition} of {name} does not log the primary key of old rows: run `{}`",
                statement(if needs_old_rows(config).is_some() { "FULL" } else { "DEFAULT" })
            )),
            "d" => problems.extend(needs_old_rows(config).map(|who| {
                format!("{who} needs whole old rows of partition {schema}.{partition}: run `{}`", statement("FULL"))
            })),
            _ => {}
        }
    }
    Ok(problems)
}

/// A partition and its root in one publication: the partition's changes would come under the root's name.
async fn twice_captured(
    connection: &mut PgConnection,
    table: &DescribedTable,
    selected: &[CatalogTable],
) -> Result<Option<String>, sqlx::Error> {
    let ancestors = "SELECT n.nspname::text, c.relname::text FROM pg_partition_ancestors($1) a
                       JOIN pg_class c ON c.oid = a.relid JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE c.oid <> $1";
    let ancestors: Vec<(String, String)> =
        sqlx::query_as(ancestors).bind(sqlx::postgres::types::Oid(table.oid)).fetch_all(connection).await?;
    let root = selected.iter().find(|other| ancestors.contains(&(other.schema.clone(), other.table.clone())));
    Ok(root.map(|root| {
        format!(
            "partition {}.{} is captured through {}.{} already: leave one of them out",
            table.schema, table.table, root.schema, root.table
        )
    }))
}

async fn publication_problems(
    connection: &mut PgConnection,
    config: &ProducerConfig,
    plan: &PublicationPlan,
    selected: &[CatalogTable],
) -> Result<Option<String>, sqlx::Error> {
    match plan {
        PublicationPlan::Ready => Ok(None),
        PublicationPlan::Refused { reason } => Ok(Some(reason.clone())),
        PublicationPlan::Change { reason, statements } => {
            let may = publication::may_change(connection, &config.publication, selected).await?;
            Ok((!may).then(|| {
                format!(
                    "publication {}: {reason}, and role {} may not change that (it takes the tables' owner, with CREATE on \
                     the database for a new one): let a DBA run `{}`",
                    config.publication,
                    config.source.username,
                    statements.join("; ")
                )
            }))
        }
    }
}

/// The columns that the log has of an old row, by name; `None` where it has all.
fn identity_columns(table: &DescribedTable) -> Option<Vec<String>> {
    let columns = match table.replica_identity {
        ReplicaIdentity::Full => return None,
        ReplicaIdentity::Default => table.primary_key.as_slice(),
        ReplicaIdentity::Index => table.identity_index.as_slice(),
        ReplicaIdentity::Nothing => &[],
    };
    Some(columns.iter().map(|column| table.columns[*column].column.name.clone()).collect())
}

/// What the key lacks: `identity` are the columns that the log has of an old row.
fn key_problems(table: &TableDefinition, identity: Option<&[String]>) -> Result<Vec<String>, ProducerError> {
    let name = qualified(&table.schema, &table.table)?;
    if table.key.is_empty() {
        return Ok(vec![format!(
            "table {name} has no primary key, so its changes have no key: add one with `ALTER TABLE {name} ADD PRIMARY \
             KEY (…)`, or let a unique index over columns that are NOT NULL stand in for it with `ALTER TABLE {name} \
             REPLICA IDENTITY USING INDEX …`, or name its columns in message.key.columns under cdc_config.properties \
             and run `ALTER TABLE {name} REPLICA IDENTITY FULL`, or leave the table out"
        )]);
    }
    let mut problems = Vec::new();
    for column in table.key.iter().map(|column| &table.columns[*column]) {
        if column.generated.is_some() {
            problems.push(format!("table {name}: key column {} is generated and is not in the log", column.name));
        }
        if column.nullable {
            problems.push(format!(
                "table {name}: key column {column} may be NULL, and NULL identifies no row: run `ALTER TABLE {name} ALTER \
                 COLUMN \"{column}\" SET NOT NULL`",
                column = column.name
            ));
        }
        if identity.is_some_and(|identity| !identity.contains(&column.name))
            && table.replica_identity != ReplicaIdentity::Nothing
        {
            problems.push(format!(
                "table {name}: key column {} is not in the log of old rows, so deletes would carry no key: run `ALTER TABLE \
                 {name} REPLICA IDENTITY FULL`",
                column.name
            ));
        }
    }
    Ok(problems)
}

fn table_problems(table: &DescribedTable, config: &ProducerConfig) -> Result<Vec<String>, ProducerError> {
    let name = qualified(&table.schema, &table.table)?;
    let mut problems = Vec::new();
    if table.replica_identity == ReplicaIdentity::Nothing {
        problems.push(format!(
            "table {name} has REPLICA IDENTITY NOTHING, so deletes carry no key: run `ALTER TABLE {name} REPLICA \
             IDENTITY DEFAULT`"
        ));
    }
    if let Some(who) = needs_old_rows(config)
        && table.replica_identity != ReplicaIdentity::Full
    {
        problems.push(format!("{who} needs whole old rows of {name}: run `ALTER TABLE {name} REPLICA IDENTITY FULL`"));
    }
    Ok(problems)
}

/// Columns without a form in events are refused, or left out where the user said so; never those of the key.
fn unsupported_problems(definition: &TableDefinition, skip: bool) -> Vec<String> {
    let unsupported = unsupported_columns(definition);
    let table = definition.qualified_name();
    let mut problems = Vec::new();
    for (column, reason) in &unsupported {
        let name = &definition.columns[*column].name;
        if !skip {
            problems.push(format!(
                "table {table}, column {name}: {reason}; leave the table out, or set skip.unsupported.columns in \
                 cdc_config.properties to leave such columns out"
            ));
        } else if definition.key.contains(column) {
            problems.push(format!("table {table}, key column {name}: {reason}"));
        }
    }
    problems
}

async fn slot_problems(
    connection: &mut PgConnection,
    config: &ProducerConfig,
    slot: Option<&Slot>,
) -> Result<Vec<String>, sqlx::Error> {
    let name = quote_identifier(&config.slot).unwrap_or_else(|_| config.slot.clone());
    let Some(slot) = slot else {
        let free =
            "SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots)::int";
        let free: i32 = sqlx::query_scalar(free).fetch_one(connection).await?;
        return Ok(if free < 1 {
            vec!["no replication slot is free: raise max_replication_slots or drop an unused slot".to_owned()]
        } else {
            Vec::new()
        });
    };
    let mut problems = Vec::new();
    if slot.plugin != "pgoutput" {
        problems.push(format!("slot {name} uses the plugin {:?}, not pgoutput: choose another slot name", slot.plugin));
    } else if slot.database != config.source.database {
        problems.push(format!("slot {name} belongs to database {}: choose another slot name", slot.database));
    }
    if config.failover && !slot.failover {
        problems.push(format!(
            "slot {name} exists and standbys do not keep it, although slot.failover is true: stop its producer and run \
             `psql \"dbname={} replication=database\" -c 'ALTER_REPLICATION_SLOT {name} (FAILOVER true)'`, or write false",
            config.source.database
        ));
    }
    Ok(problems)
}
