//! The stage of a demonstration: the development stack's two databases and Kafka, as a file of docs/examples uses them,
//! and the person before it, who may press Ctrl-C.
#![expect(clippy::print_stdout, reason = "demonstrations talk to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};
use sqlx::PgConnection;
use syncline_runtime::settings::DatabaseSettings;

use crate::process::Process;
use crate::{database, sql, stack};

/// What a shell reports for a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Runs a demonstration to its end, or to Ctrl-C, when `remove` takes away what it has made. That is no failure once it
/// has `handed_over`: it goes on until then.
pub async fn present(
    demo: impl Future<Output = Result<()>>,
    handed_over: &AtomicBool,
    remove: impl Future<Output = Result<()>>,
) -> ExitCode {
    let outcome = tokio::select! {
        // First, for `syncline` ends at Ctrl-C too, and that is no failure then.
        biased;
        _ = tokio::signal::ctrl_c() => None,
        outcome = demo => Some(outcome),
    };
    match outcome {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            println!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
        None => {
            println!();
            step("Ctrl-C: removing what the demo has made (once more leaves it there)");
            let removed = tokio::select! {
                removed = remove => removed,
                _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
            };
            match removed {
                Ok(()) if handed_over.load(Ordering::Relaxed) => ExitCode::SUCCESS,
                Ok(()) => INTERRUPTED.into(),
                Err(error) => {
                    println!("\nNot all of it could be removed: {error:#}");
                    INTERRUPTED.into()
                }
            }
        }
    }
}

/// Says what comes now.
pub fn step(text: &str) {
    println!("==> {text}");
}

/// A number of the environment.
///
/// # Errors
///
/// It is none.
pub fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is not a number: {text}")),
        Err(_) => Ok(default),
    }
}

/// Whether the person wants it to go on until Ctrl-C.
#[must_use]
pub fn keep() -> bool {
    std::env::var("KEEP").is_ok_and(|value| value == "1")
}

/// Where `syncline` logs to, by the name of the demonstration.
#[must_use]
pub fn log_file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("syncline-{name}-{}.log", std::process::id()))
}

/// How a person reaches a database.
#[must_use]
pub fn address(db: &DatabaseSettings) -> String {
    format!("psql -h {} -p {} -U {} {}    (password syncline)", db.host, db.port, db.username, db.database)
}

/// The password of a role, or nothing.
#[must_use]
pub fn password(role: &DatabaseSettings) -> &str {
    role.password.as_ref().map_or("", |secret| secret.expose())
}

/// `syncline run -f <file>` between two databases, a path from the checkout's root; its log goes to `log`.
///
/// # Errors
///
/// It cannot be started.
pub fn start(file: &str, source: &DatabaseSettings, target: &DatabaseSettings, log: &Path) -> Result<Process> {
    run(file, &[("SOURCE_PASSWORD", password(source)), ("TARGET_PASSWORD", password(target))], log)
}

/// `syncline run -f <file>`, a path from the checkout's root, with what the file takes from the environment; its log
/// goes to `log`.
///
/// # Errors
///
/// It cannot be started.
pub fn run(file: &str, environment: &[(&str, &str)], log: &Path) -> Result<Process> {
    let file = stack::root().join(file);
    let file = file.to_str().context("a checkout in a folder with an odd name")?;
    Process::start("syncline run", &stack::program()?, &["run", "-f", file], environment, log)
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

/// Drops and creates the database of a role, on the server of the administrator that the variable `admin` names.
///
/// # Errors
///
/// The server refuses.
pub async fn fresh_database(admin: &str, role: &DatabaseSettings) -> Result<()> {
    drop_database(admin, role).await?;
    let mut conn = administrator(admin).await?;
    sql::execute(&mut conn, format!("CREATE DATABASE {} OWNER {}", role.database, role.username)).await
}

/// Drops the database of a role, with the slots that hang on it.
///
/// # Errors
///
/// The server refuses.
pub async fn drop_database(admin: &str, role: &DatabaseSettings) -> Result<()> {
    let mut conn = administrator(admin).await?;
    let slots = format!("FROM pg_replication_slots WHERE database = '{}'", role.database);
    sql::rows(&mut conn, format!("SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active")).await?;
    sql::rows(&mut conn, format!("SELECT pg_drop_replication_slot(slot_name) {slots}")).await?;
    sql::execute(&mut conn, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", role.database)).await
}

/// A connection of a server's administrator, in no database of a demonstration.
///
/// # Errors
///
/// The variable is missing, or the server cannot be reached.
pub async fn administrator(variable: &str) -> Result<PgConnection> {
    database::connect(&DatabaseSettings { database: "postgres".to_owned(), ..stack::server(variable)? }).await
}
