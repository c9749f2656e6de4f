//! The stage of a demonstration: the development stack's two databases and Kafka, as a file of docs/examples uses them.

use std::path::Path;

use anyhow::{Context, Result};
use syncline_runtime::settings::DatabaseSettings;

use crate::process::Process;
use crate::{database, sql, stack};

/// `syncline run -f <file>`, a path from the checkout's root; its log goes to `log`.
///
/// # Errors
///
/// It cannot be started.
pub fn start(file: &str, source: &DatabaseSettings, target: &DatabaseSettings, log: &Path) -> Result<Process> {
    let password = |settings: &DatabaseSettings| {
        settings.password.as_ref().map(|secret| secret.expose().to_owned()).unwrap_or_default()
    };
    let file = stack::root().join(file);
    let file = file.to_str().context("a checkout in a folder with an odd name")?;
    let passwords = [("SOURCE_PASSWORD", password(source)), ("TARGET_PASSWORD", password(target))];
    let environment: Vec<(&str, &str)> = passwords.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Process::start("syncline run", &stack::program()?, &["run", "-f", file], &environment, log)
}

/// Empties both databases, and removes the topics whose names begin with `prefix`.
///
/// # Errors
///
/// A server refuses.
pub async fn clear(source: &DatabaseSettings, target: &DatabaseSettings, prefix: &str) -> Result<()> {
    fresh_database("SOURCE_PG_ADMIN", source).await?;
    fresh_database("TARGET_PG_ADMIN", target).await?;
    stack::delete_topics(|topic| topic.starts_with(prefix)).await?;
    Ok(())
}

/// Drops and creates the database of a role, with the slots that hang on it.
async fn fresh_database(admin: &str, role: &DatabaseSettings) -> Result<()> {
    let server = DatabaseSettings { database: "postgres".to_owned(), ..stack::server(admin)? };
    let mut conn = database::connect(&server).await?;
    let (database, user) = (&role.database, &role.username);
    let slots = format!("FROM pg_replication_slots WHERE database = '{database}'");
    sql::rows(&mut conn, format!("SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active")).await?;
    sql::rows(&mut conn, format!("SELECT pg_drop_replication_slot(slot_name) {slots}")).await?;
    sql::execute(&mut conn, format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
    sql::execute(&mut conn, format!("CREATE DATABASE {database} OWNER {user}")).await
}
