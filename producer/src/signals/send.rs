//! Sending a signal to whichever producer runs.

use std::time::Duration;

use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use syncline_runtime::kafka::Admin;

use super::{Signal, SignalError};
use crate::config::ProducerConfig;
use crate::error::ProducerError;

/// How long Kafka may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes a signal into the signal topic. Gives its offset.
///
/// # Errors
///
/// Kafka, signals by topic are switched off, or a node's producer would not act upon it.
pub async fn send(config: &ProducerConfig, signal: &Signal) -> Result<i64, ProducerError> {
    if let Some(node) = &config.node {
        let refused = |error: SignalError| ProducerError::Node { name: node.name.clone(), what: error.to_string() };
        signal.allowed_command(Some(node)).map_err(refused)?;
    }
    let Some(topic) = &config.signals.topic else {
        return Err(ProducerError::Preflight(vec![
            "the producer does not read a signal topic: add kafka to signal.enabled.channels".to_owned(),
        ]));
    };
    ensure_topic(&Admin::connect(&config.kafka).await?, config, topic).await?;
    let producer: FutureProducer = syncline_runtime::kafka::client_config(&config.kafka, "syncline-signal")
        .set("acks", "all")
        .set("message.timeout.ms", PATIENCE.as_millis().to_string())
        .create()
        .map_err(|error| ProducerError::client("kafka.properties are refused by librdkafka", error))?;
    let value = serde_json::to_vec(signal).map_err(ProducerError::unserializable)?;
    let record = FutureRecord::to(topic).partition(0).key(&config.topic_prefix).payload(&value);
    match producer.send(record, Timeout::After(PATIENCE)).await {
        Ok(delivery) => Ok(delivery.offset),
        Err((error, _)) => Err(ProducerError::client(&format!("topic {topic} does not take the signal"), error)),
    }
}

/// Creates the topic where it is missing: one partition, since signals have an order.
///
/// # Errors
///
/// Kafka.
pub(crate) async fn ensure_topic(admin: &Admin, config: &ProducerConfig, topic: &str) -> Result<(), ProducerError> {
    let settings = [("cleanup.policy", "delete")];
    admin.ensure_topic(topic, 1, config.kafka.replication_factor, &settings).await?;
    Ok(())
}
