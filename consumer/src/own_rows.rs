//! A node's own rows come first: nothing is applied to it before its producer has read them.
//!
//! What other nodes have changed would be read along with them otherwise, as if it had been there before the first sync,
//! and messages in the log from before the slot was made reach no producer.

use std::time::Duration;

use serde::Deserialize;
use syncline_runtime::kafka::{CompactedReader, KafkaError};
use syncline_runtime::retry::{Backoff, ErrorClass};
use syncline_runtime::settings::KafkaSettings;
use syncline_runtime::shutdown::Shutdown;
use tracing::{info, warn};

use crate::error::ConsumerError;
use crate::topics::CHECKPOINT_SUFFIX;

/// How often the producer's place is looked at.
const INTERVAL: Duration = Duration::from_millis(300);

/// What matters here of a producer's checkpoint.
#[derive(Deserialize)]
struct Place {
    term: u64,
    stage: String,
}

/// Waits until the producer under `prefix` follows the log. False: the shutdown came first.
///
/// # Errors
///
/// Kafka, or a checkpoint that cannot be read.
pub(crate) async fn are_read(
    settings: &KafkaSettings,
    prefix: &str,
    shutdown: &Shutdown,
) -> Result<bool, ConsumerError> {
    let topic = format!("{prefix}{CHECKPOINT_SUFFIX}");
    let mut reader = CompactedReader::new(settings, &topic);
    let (mut latest, mut said, mut backoff) = (None::<Place>, false, Backoff::default());
    loop {
        let records = match reader.read_on().await {
            Ok(records) => records,
            // The producer has not been started yet.
            Err(KafkaError::MissingTopic { .. }) => Vec::new(),
            Err(error) if error.class() == ErrorClass::Transient => {
                warn!(%error, topic, "reading the place of the node's producer failed, trying again");
                tokio::time::sleep(backoff.next_pause()).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for value in records.into_iter().filter_map(|record| record.value) {
            let place: Place = serde_json::from_slice(&value).map_err(|error| {
                ConsumerError::Topics(format!("{topic} holds a checkpoint that cannot be read: {error}"))
            })?;
            if latest.as_ref().is_none_or(|latest| latest.term <= place.term) {
                latest = Some(place);
            }
        }
        if latest.as_ref().is_some_and(|latest| latest.stage == "stream") {
            return Ok(true);
        }
        if !said {
            info!(topic, "waiting for the node's producer to read the node's own rows");
            said = true;
        }
        tokio::select! {
            () = shutdown.wait() => return Ok(false),
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
