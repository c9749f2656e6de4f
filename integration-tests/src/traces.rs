//! What a sync has left in the servers, to see that a refused start left nothing.

use std::collections::BTreeSet;

use anyhow::Result;
use sqlx::PgConnection;

use crate::sql::{self, value};
use crate::stack;
use crate::sync::Sync;

/// Relations, publications and slots of a database, and the content of its tables.
const RELATIONS: &str = "
    SELECT format('%s %s.%s %s', c.relkind, n.nspname, c.relname, c.relreplident) FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    UNION ALL SELECT format('schema %s', nspname) FROM pg_namespace
    UNION ALL SELECT format('publication %s', pubname) FROM pg_publication
    UNION ALL SELECT format('publication %s of %s', pubname, tablename) FROM pg_publication_tables
    UNION ALL SELECT format('slot %s at %s', slot_name, confirmed_flush_lsn) FROM pg_replication_slots
     WHERE database = current_database()
    UNION ALL SELECT format('rows of %s.%s: %s', schemaname, tablename, md5(query_to_xml(
        format('SELECT t::text FROM %I.%I t ORDER BY 1', schemaname, tablename), true, true, '')::text))
      FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";

/// One line for everything: in the source, in the target, in Kafka, in the registry.
///
/// # Errors
///
/// A server cannot be reached.
pub async fn traces(sync: &Sync) -> Result<BTreeSet<String>> {
    let mut traces = BTreeSet::new();
    for (side, mut conn) in [("source", sync.source("").await?), ("target", sync.target().await?)] {
        traces.extend(lines(&mut conn).await?.into_iter().map(|line| format!("{side}: {line}")));
    }
    let prefix = format!("{}.", sync.name);
    let admin = stack::admin().await?;
    for topic in admin.topics().await?.into_keys().filter(|topic| topic.starts_with(&prefix)) {
        let id = admin.describe_topic(&topic).await?.map(|info| info.id);
        let ends = admin.end_offsets(&topic).await?;
        traces.insert(format!("kafka: topic {topic}, id {id:?}, ends {ends:?}"));
    }
    let registry = stack::variable("SCHEMA_REGISTRY_URL")?;
    let subjects: Vec<String> = reqwest::get(format!("{registry}/subjects")).await?.error_for_status()?.json().await?;
    for subject in subjects.into_iter().filter(|subject| subject.starts_with(&prefix)) {
        let address = format!("{registry}/subjects/{subject}/versions");
        let versions = reqwest::get(address).await?.error_for_status()?.text().await?;
        traces.insert(format!("registry: {subject}, versions {versions}"));
    }
    Ok(traces)
}

async fn lines(conn: &mut PgConnection) -> Result<Vec<String>> {
    sql::execute(conn, "SET search_path = pg_catalog").await?;
    Ok(value::<Option<Vec<String>>>(conn, format!("SELECT array_agg(line) FROM ({RELATIONS}) AS t (line)"))
        .await?
        .unwrap_or_default())
}
