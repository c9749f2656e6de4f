//! What `syncline snapshot status` shows: the checkpoint's state, and whether a producer runs.

use crate::config::ProducerConfig;
use crate::error::ProducerError;
use crate::life::find_place;
use crate::sources::postgres::slot;

use super::state::State;

/// What is known from outside the producer.
#[derive(Debug, Clone)]
pub struct Status {
    /// Who runs as the producer, if anybody does.
    pub producer: Option<String>,
    /// The state as of the last checkpoint, which a running producer writes every second while it changes.
    pub state: State,
    /// The captured tables, `schema.table`.
    pub tables: Vec<String>,
    /// Whether a first snapshot is under way or due: until it is over, signals wait.
    pub copying: bool,
}

/// Reads it. Changes nothing.
///
/// # Errors
///
/// The source or Kafka cannot be reached, or nothing was captured yet.
pub async fn status(config: &ProducerConfig) -> Result<Status, ProducerError> {
    let mut control = syncline_catalog::connect::connect(&config.source, "syncline-snapshot").await?;
    let producer = slot::lock_holder(&mut control, &config.slot)
        .await
        .map_err(|error| ProducerError::source("the slot's lock cannot be read", error))?;
    let Some(checkpoint) = find_place(config).await?.latest else {
        return Err(ProducerError::Preflight(vec![format!(
            "no producer has ever begun with slot {}: its first start reads all tables",
            config.slot
        )]));
    };
    Ok(Status {
        producer,
        tables: checkpoint.topics.values().map(|topic| topic.definition.qualified_name()).collect(),
        copying: checkpoint.stage == crate::checkpoint::Stage::Snapshot,
        state: checkpoint.incremental,
    })
}
