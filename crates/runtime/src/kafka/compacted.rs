//! Reading a compacted topic to its end.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::admin::{ANSWER_TIME, blocking, failure, first_answer, soon};
use super::client::{Symptoms, client_config};
use super::error::KafkaError;
use crate::settings::KafkaSettings;

/// A record of a compacted topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactedRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; none for a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What a compacted topic holds now: the last record of each key, ordered by partition and offset, tombstones
/// included. Records without a key are passed over.
///
/// # Errors
///
/// [`KafkaError::MissingTopic`] if there is no such topic, and others.
pub async fn read_latest(settings: &KafkaSettings, topic: &str) -> Result<Vec<CompactedRecord>, KafkaError> {
    Ok(latest(CompactedReader::new(settings, topic).read_on().await?))
}

fn latest(records: Vec<CompactedRecord>) -> Vec<CompactedRecord> {
    let mut last = HashMap::new();
    for (index, record) in records.iter().enumerate() {
        last.insert(record.key.clone(), index);
    }
    let mut kept: Vec<_> = records
        .into_iter()
        .enumerate()
        .filter_map(|(index, record)| (last.get(&record.key) == Some(&index)).then_some(record))
        .collect();
    kept.sort_by_key(|record| (record.partition, record.offset));
    kept
}

/// Reads a compacted topic from its beginning and, asked again, on from where it was. It does not notice that a topic
/// was deleted and created again: who keeps a reader for long compares [`TopicInfo::id`](super::TopicInfo).
pub struct CompactedReader {
    state: Arc<Mutex<State>>,
}

struct State {
    settings: KafkaSettings,
    topic: String,
    consumer: Option<BaseConsumer<Symptoms>>,
    /// Where to read on, per partition.
    next: BTreeMap<i32, i64>,
    /// Read, not yet handed out: stays here if a caller stops waiting.
    unread: Vec<CompactedRecord>,
}

impl CompactedReader {
    /// A reader at the topic's beginning; it connects when it is first asked.
    #[must_use]
    pub fn new(settings: &KafkaSettings, topic: &str) -> Self {
        let state = State {
            settings: settings.clone(),
            topic: topic.to_owned(),
            consumer: None,
            next: BTreeMap::new(),
            unread: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Everything between the last call's end and the topic's end as of this call, in offset order per partition,
    /// tombstones included. Records without a key are passed over.
    ///
    /// Cancel safe: what was read meanwhile comes with the next call. After an error the next call reads on, too.
    ///
    /// # Errors
    ///
    /// [`KafkaError::MissingTopic`] if there is no such topic, and others.
    pub async fn read_on(&mut self) -> Result<Vec<CompactedRecord>, KafkaError> {
        let state = Arc::clone(&self.state);
        blocking(move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            soon(|| state.read_on())?;
            Ok(std::mem::take(&mut state.unread))
        })
        .await
    }
}

impl Drop for CompactedReader {
    fn drop(&mut self) {
        // Closing a consumer polls it until it is closed: not on an async thread.
        let consumer = self.state.try_lock().ok().and_then(|mut state| state.consumer.take());
        if let Some(consumer) = consumer {
            std::thread::spawn(move || drop(consumer));
        }
    }
}

impl State {
    fn read_on(&mut self) -> Result<(), KafkaError> {
        if self.consumer.is_none() {
            self.consumer = Some(connect(&self.settings, &self.topic)?);
        }
        let result = self.read_to_end();
        if result.is_err() {
            // A fresh client next time: this one may still hold assignments and errors of this attempt.
            self.consumer = None;
        }
        result
    }

    fn read_to_end(&mut self) -> Result<(), KafkaError> {
        let Self { settings, topic, consumer, next, unread } = self;
        let consumer = consumer.as_ref().expect("read_on has connected it");
        let reading = Reading { consumer, servers: &settings.bootstrap_servers, topic };

        // Partition -> end offset as of now, for those that have something new.
        let mut open = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for partition in reading.partitions()? {
            let (low, high) = reading.ends(partition)?;
            let from = next.get(&partition).copied().unwrap_or(low).max(low);
            if from < high {
                open.insert(partition, high);
                assignment
                    .add_partition_offset(topic, partition, Offset::Offset(from))
                    .map_err(|error| reading.failed(&error))?;
            }
            next.insert(partition, from.min(high));
        }
        if open.is_empty() {
            return Ok(());
        }
        consumer.assign(&assignment).map_err(|error| reading.failed(&error))?;

        let mut heard = Instant::now();
        while !open.is_empty() {
            match consumer.poll(Duration::from_millis(250)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let (partition, offset) = (message.partition(), message.offset());
                    next.insert(partition, offset + 1);
                    if open.get(&partition).is_some_and(|end| offset + 1 >= *end) {
                        open.remove(&partition);
                    }
                    if let Some(key) = message.key() {
                        let (key, value) = (key.to_vec(), message.payload().map(<[u8]>::to_vec));
                        unread.push(CompactedRecord { partition, offset, key, value });
                    }
                }
                // The last offsets may be gone by compaction or belong to control records.
                Some(Err(ClientError::PartitionEOF(partition))) => {
                    heard = Instant::now();
                    if let Some(end) = open.remove(&partition) {
                        let reached = next.entry(partition).or_insert(end);
                        *reached = end.max(*reached);
                    }
                }
                Some(Err(error)) => {
                    let error = reading.failed(&error);
                    if error.class() == crate::retry::ErrorClass::Fatal || heard.elapsed() > ANSWER_TIME {
                        return Err(error);
                    }
                }
                None if heard.elapsed() > ANSWER_TIME => {
                    return Err(failure(consumer, reading.servers, Code::OperationTimedOut, "read", reading.what()));
                }
                None => {}
            }
        }
        // Between two calls nothing is fetched.
        consumer.unassign().map_err(|error| reading.failed(&error))
    }
}

/// A client that reads what it is told to, and commits nothing.
fn connect(settings: &KafkaSettings, topic: &str) -> Result<BaseConsumer<Symptoms>, KafkaError> {
    let consumer: BaseConsumer<Symptoms> = client_config(settings, "syncline-reader")
        // librdkafka assigns nothing without a group name; no member ever joins it and nothing is committed.
        .set("group.id", "syncline-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "50")
        .create_with_context(Symptoms::default())
        .map_err(KafkaError::from_creation)?;
    first_answer(&consumer, &settings.bootstrap_servers, Some(topic), ANSWER_TIME)?;
    Ok(consumer)
}

struct Reading<'a> {
    consumer: &'a BaseConsumer<Symptoms>,
    servers: &'a str,
    topic: &'a str,
}

impl Reading<'_> {
    fn partitions(&self) -> Result<Vec<i32>, KafkaError> {
        let metadata =
            self.consumer.fetch_metadata(Some(self.topic), ANSWER_TIME).map_err(|error| self.failed(&error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic).ok_or_else(|| self.missing())?;
        if let Some(code) = topic.error() {
            return Err(self.failed_code(code.into()));
        }
        Ok(topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
    }

    fn ends(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.consumer.fetch_watermarks(self.topic, partition, ANSWER_TIME).map_err(|error| self.failed(&error))
    }

    fn what(&self) -> String {
        format!("topic {}", self.topic)
    }

    fn missing(&self) -> KafkaError {
        KafkaError::MissingTopic { topic: self.topic.to_owned(), servers: self.servers.to_owned() }
    }

    fn failed(&self, error: &ClientError) -> KafkaError {
        match error.rdkafka_error_code() {
            Some(code) => self.failed_code(code),
            None => KafkaError::Refused { operation: "read", what: self.what(), reason: error.to_string() },
        }
    }

    fn failed_code(&self, code: Code) -> KafkaError {
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => self.missing(),
            _ => failure(self.consumer, self.servers, code, "read", self.what()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64, key: &str, value: Option<&str>) -> CompactedRecord {
        CompactedRecord { partition, offset, key: key.into(), value: value.map(Into::into) }
    }

    #[test]
    fn the_last_of_each_key_stays() {
        let records = vec![
            record(1, 0, "a", Some("1")),
            record(1, 1, "b", Some("1")),
            record(0, 5, "c", Some("1")),
            record(1, 3, "a", None),
        ];
        assert_eq!(
            latest(records),
            [record(0, 5, "c", Some("1")), record(1, 1, "b", Some("1")), record(1, 3, "a", None)]
        );
    }
}
