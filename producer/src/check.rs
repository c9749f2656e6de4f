//! `syncline check` for the producer: what a start would find, without changing anything.

use sqlx::PgConnection;
use syncline_event::table::TableDefinition;
use syncline_runtime::kafka::Admin;
use syncline_runtime::registry::Registry;

use crate::config::{ProducerConfig, SnapshotMode};
use crate::error::ProducerError;
use crate::life::look;
use crate::sources::postgres::preflight::{Ready, inspect, preflight};
use crate::sources::postgres::publication::PublicationPlan;
use crate::sources::postgres::slot;
use crate::sources::postgres::transport::ReplicationSession;
use crate::start::Start;

/// What a start would find.
#[derive(Debug, Clone)]
pub struct Report {
    /// The tables that would be captured.
    pub tables: Vec<TableDefinition>,
    /// What a start would do, in words.
    pub notes: Vec<String>,
}

/// Looks at the source, Kafka and the registry, at all of them even if one fails, and at how they fit together.
///
/// # Errors
///
/// [`ProducerError::Preflight`] with all findings, or what does not fit.
pub async fn check(config: &ProducerConfig) -> Result<Report, ProducerError> {
    let source = look_at_source(config).await;
    let kafka = Admin::connect(&config.kafka).await.err().map(ProducerError::from);
    let registry = reach_registry(config).await.err();
    let (mut control, locked, ready) = match (source, [kafka, registry].into_iter().flatten().collect::<Vec<_>>()) {
        (Ok(ready), others) if others.is_empty() => ready,
        (source, mut errors) => {
            errors.splice(0..0, source.err());
            return Err(together(errors));
        }
    };
    let mut notes = Vec::new();
    if locked {
        let looked = look(config, &ready).await;
        slot::unlock(&mut control, &config.slot).await.ok();
        match looked?.start {
            Some(Start::Snapshot { lost: Some(what), .. }) => {
                notes.push(format!("{what}; a start would read all rows again, as snapshot.mode is when_needed"));
            }
            None => notes.push("all rows were read before, and snapshot.mode is initial_only".to_owned()),
            Some(_) => {}
        }
    }
    let Ready { tables, publication, slot } = ready;
    if let PublicationPlan::Change { reason, statements } = publication {
        notes.push(format!("publication {}: {reason}; would run: {}", config.publication, statements.join("; ")));
    }
    notes.push(match slot {
        None if config.snapshot_mode == SnapshotMode::InitialOnly => {
            format!("slot {} does not exist, and snapshot.mode initial_only leaves none behind", config.slot)
        }
        None => format!("slot {} does not exist and would be created", config.slot),
        Some(slot) => match slot.holder {
            None => format!("slot {} exists and is free", config.slot),
            Some(holder) => format!("slot {} is in use by {holder}", config.slot),
        },
    });
    Ok(Report { tables: tables.into_values().collect(), notes })
}

/// Looks at the source alone: the tables that would be captured, and what keeps a start from it. Needs neither Kafka nor a
/// slot.
///
/// # Errors
///
/// [`ProducerError::Preflight`] with all findings where the tables cannot be told, or the database.
pub async fn tables(config: &ProducerConfig) -> Result<(Vec<TableDefinition>, Vec<String>), ProducerError> {
    let mut connection = syncline_catalog::connect::connect(&config.source, "syncline-check").await?;
    let (ready, problems) = inspect(&mut connection, config).await?;
    Ok((ready.tables.into_values().collect(), problems))
}

/// The session, whether it holds the slot's lock, and what was found. The lock keeps producers from moving the place
/// while it is looked at; one that is at work has it already.
async fn look_at_source(config: &ProducerConfig) -> Result<(PgConnection, bool, Ready), ProducerError> {
    let mut connection = syncline_catalog::connect::connect(&config.source, "syncline-check").await?;
    let locked = slot::try_lock(&mut connection, &config.slot).await;
    let locked = locked.map_err(|error| ProducerError::source("the slot's lock cannot be taken", error))?;
    let ready = preflight(&mut connection, config).await?;
    // The server may let the role in but not replicate: pg_hba.conf, or no WAL sender.
    ReplicationSession::open(&config.source, &config.slot, &config.publication, 0).await?.identify().await?;
    Ok((connection, locked, ready))
}

async fn reach_registry(config: &ProducerConfig) -> Result<(), ProducerError> {
    Registry::connect(&config.registry)?.check().await?;
    Ok(())
}

/// One error as it is; several as one list.
fn together(mut errors: Vec<ProducerError>) -> ProducerError {
    if errors.len() == 1 {
        return errors.remove(0);
    }
    let lines = errors.into_iter().flat_map(|error| match error {
        ProducerError::Preflight(problems) => problems,
        other => vec![other.to_string()],
    });
    ProducerError::Preflight(lines.collect())
}
