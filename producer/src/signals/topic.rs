//! The signal topic: partition 0, records whose key is the topic prefix.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use syncline_runtime::settings::KafkaSettings;
use tokio::sync::mpsc;

use super::{Signal, SignalError};
use crate::error::ProducerError;

/// How often a silent topic's reader looks whether it is still needed.
const POLL: Duration = Duration::from_millis(500);

/// A record of the topic.
#[derive(Debug)]
pub struct Received {
    /// Its offset.
    pub offset: i64,
    /// The signal; `None` where the record is for somebody else.
    pub signal: Option<Result<Signal, SignalError>>,
}

/// Reads the topic from `offset` on, on a thread of its own, until nobody listens.
///
/// # Errors
///
/// A property that librdkafka refuses.
pub fn follow(
    settings: &KafkaSettings,
    topic: &str,
    key: &str,
    offset: i64,
) -> Result<mpsc::Receiver<Received>, ProducerError> {
    let consumer: BaseConsumer = syncline_runtime::kafka::client_config(settings, "syncline-signals")
        // librdkafka assigns nothing without a group name; nothing is committed under it.
        .set("group.id", "syncline-signals")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "latest")
        .create()
        .map_err(|error| ProducerError::client("kafka.properties are refused by librdkafka", error))?;
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, Offset::Offset(offset))
        .and_then(|()| consumer.assign(&assignment))
        .map_err(|error| ProducerError::client(&format!("topic {topic} cannot be read"), error))?;
    let (sender, receiver) = mpsc::channel(16);
    let (topic, key) = (topic.to_owned(), key.to_owned());
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let received = match consumer.poll(POLL) {
                Some(Ok(message)) => Received {
                    offset: message.offset(),
                    signal: (message.key() == Some(key.as_bytes())).then(|| parse(message.payload())),
                },
                Some(Err(error)) => {
                    tracing::warn!(topic, %error, "signals cannot be read, trying again");
                    std::thread::sleep(POLL);
                    continue;
                }
                None => continue,
            };
            if sender.blocking_send(received).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

fn parse(value: Option<&[u8]>) -> Result<Signal, SignalError> {
    serde_json::from_slice(value.unwrap_or_default())
        .map_err(|error| SignalError(format!("the signal topic holds a record that is no signal: {error}")))
}
