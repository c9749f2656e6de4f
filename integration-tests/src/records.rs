//! A topic's records, as they are in Kafka.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::stack;

/// One record. Nulls and empty payloads are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// The place in the partition.
    pub offset: i64,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    pub value: Option<Vec<u8>>,
    /// Headers in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_deref())
    }
}

/// How many records a topic holds; none where there is no such topic.
///
/// # Errors
///
/// Kafka cannot be reached.
pub async fn count(topic: &str) -> Result<i64> {
    let admin = stack::admin().await?;
    if admin.describe_topic(topic).await?.is_none() {
        return Ok(0);
    }
    Ok(admin.watermarks(topic).await?.iter().map(|ends| ends.high - ends.low).sum())
}

/// All records that the topics hold now, each topic's in the order of partition and offset.
///
/// # Errors
///
/// Kafka cannot be reached, or a topic is missing.
pub async fn read(topics: &[String]) -> Result<Vec<Vec<Record>>> {
    let bootstrap = stack::variable("KAFKA_BOOTSTRAP")?;
    let topics = topics.to_vec();
    tokio::task::spawn_blocking(move || read_blocking(&bootstrap, &topics)).await?
}

fn read_blocking(bootstrap: &str, topics: &[String]) -> Result<Vec<Vec<Record>>> {
    const ANSWER: Duration = Duration::from_secs(30);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "records")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut wanted = TopicPartitionList::new();
    let mut left = 0;
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
        let partitions = metadata.topics().first().context("no metadata")?.partitions();
        ensure!(!partitions.is_empty(), "there is no topic {topic}");
        for partition in partitions {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), ANSWER)?;
            wanted.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
            left += high - low;
        }
    }
    consumer.assign(&wanted)?;
    let mut found: Vec<Vec<Record>> = vec![Vec::new(); topics.len()];
    let deadline = Instant::now() + ANSWER;
    while left > 0 {
        ensure!(Instant::now() < deadline, "{left} records of {topics:?} do not come");
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message?;
        let index = topics.iter().position(|topic| topic == message.topic()).context("another topic")?;
        let headers = message.headers().map(|headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        found[index].push(Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        });
        left -= 1;
    }
    for records in &mut found {
        records.sort_by_key(|record| (record.partition, record.offset));
    }
    Ok(found)
}
