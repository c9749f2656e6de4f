//! Records into Kafka: enqueued in order, acknowledged by all in-sync replicas, without a gap.
//!
//! `message.timeout.ms=0` and the gapless guarantee mean that librdkafka either delivers a record or ends the
//! producer's life; the next life starts from the checkpoint, and what a partition lacks then lies above its last
//! position. A partition's first record of a life is acknowledged before its second is enqueued: until then an older
//! life's batch could still arrive between them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::util::Timeout;
use syncline_runtime::settings::KafkaSettings;
use tokio::sync::Notify;

use crate::error::ProducerError;
use crate::tracker::AckTracker;

/// Largest record, key and headers included, in bytes; topics are created with the same limit.
pub const MAX_RECORD_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that may wait for Kafka. Memory stays flat behind it: capture waits.
const QUEUE_KBYTES: usize = 96 * 1024;

/// What Kafka adds to a record, generously.
const RECORD_OVERHEAD: usize = 512;

/// A topic with what the publisher remembers of its partitions in this life.
#[derive(Debug)]
pub struct Topic {
    name: String,
    /// Per partition: the number of its first record of this life, or that it is acknowledged.
    opened: Vec<Opened>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    No,
    Waiting(u64),
    Yes,
}

impl Topic {
    /// A topic with its partition count.
    #[must_use]
    pub fn new(name: String, partitions: u32) -> Self {
        Self { name, opened: vec![Opened::No; partitions as usize] }
    }

    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.opened.len()).unwrap_or(u32::MAX)
    }
}

/// One record.
pub struct Record<'a> {
    /// The partition.
    pub partition: u32,
    /// The key's bytes; `None` for records without a key.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` for tombstones and header-only markers.
    pub value: Option<&'a [u8]>,
    /// All headers.
    pub headers: OwnedHeaders,
}

/// The acknowledgements, shared with librdkafka's thread.
#[derive(Default)]
struct Deliveries {
    tracker: Mutex<AckTracker>,
    failure: Mutex<Option<String>>,
    acknowledged: AtomicU64,
    changed: Notify,
}

impl Deliveries {
    fn tracker(&self) -> MutexGuard<'_, AckTracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, reason: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(reason);
        drop(failure);
        self.changed.notify_waiters();
    }
}

struct Context(Arc<Deliveries>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        syncline_runtime::kafka::log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if matches!(&error, KafkaError::Global(RDKafkaErrorCode::Fatal)) {
            self.0.fail(format!("fatal producer error: {reason}"));
        } else {
            tracing::warn!(%error, reason, "kafka client reports an error");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => {
                let mut tracker = self.0.tracker();
                let before = tracker.prefix();
                tracker.acknowledge(number as u64);
                let moved = tracker.prefix() != before;
                drop(tracker);
                self.0.acknowledged.fetch_add(1, Ordering::Relaxed);
                if moved {
                    self.0.changed.notify_waiters();
                }
            }
            Err((error, message)) => {
                use rdkafka::Message;
                self.0.fail(format!("topic {} partition {}: {error}", message.topic(), message.partition()));
            }
        }
    }
}

/// The one way into Kafka. Not shared: the order of its calls is the order of the records.
pub struct Publisher {
    producer: ThreadedProducer<Context>,
    deliveries: Arc<Deliveries>,
}

impl Publisher {
    /// Opens a producer. Does not wait for the brokers.
    ///
    /// # Errors
    ///
    /// A property that librdkafka refuses.
    pub fn open(settings: &KafkaSettings) -> Result<Self, ProducerError> {
        let deliveries = Arc::new(Deliveries::default());
        let mut config = syncline_runtime::kafka::client_config(settings, "syncline-producer");
        let mut default = |key: &str, value: &str| {
            if !settings.properties.contains_key(key) {
                config.set(key, value);
            }
        };
        default("linger.ms", "5");
        default("compression.codec", "lz4");
        default("batch.size", "1000000");
        default("batch.num.messages", "20000");
        default("queue.buffering.max.messages", "500000");
        default("queue.buffering.max.kbytes", &QUEUE_KBYTES.to_string());
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("message.timeout.ms", "0")
            .set("message.max.bytes", (MAX_RECORD_BYTES + RECORD_OVERHEAD).to_string());
        let producer = config
            .create_with_context(Context(Arc::clone(&deliveries)))
            .map_err(|error| ProducerError::client("kafka.properties are refused by librdkafka", error))?;
        Ok(Self { producer, deliveries })
    }

    /// Enqueues a record and gives its number. Waits only while the queue is full, or for the acknowledgement of the
    /// partition's first record.
    ///
    /// # Errors
    ///
    /// The record is too large, or the producer's life is over. Not cancel-safe: a dropped call may or may not have
    /// enqueued the record.
    pub async fn send(&self, topic: &mut Topic, record: Record<'_>) -> Result<u64, ProducerError> {
        let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        if size + RECORD_OVERHEAD > MAX_RECORD_BYTES {
            return Err(ProducerError::RecordTooLarge { topic: topic.name.clone(), size, limit: MAX_RECORD_BYTES });
        }
        self.open_partition(topic, record.partition).await?;
        let partition = i32::try_from(record.partition).expect("Kafka numbers partitions in 31 bits");
        let mut number = self.deliveries.tracker().enqueue();
        let mut kafka_record = BaseRecord {
            topic: &topic.name,
            partition: Some(partition),
            payload: record.value,
            key: record.key,
            timestamp: None,
            headers: Some(record.headers),
            delivery_opaque: opaque(number),
        };
        loop {
            match self.producer.send(kafka_record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    self.deliveries.tracker().retract(number);
                    kafka_record = refused;
                    self.changed(Duration::from_millis(20)).await?;
                    number = self.deliveries.tracker().enqueue();
                    kafka_record.delivery_opaque = opaque(number);
                }
                Err((error, _)) => {
                    self.deliveries.tracker().retract(number);
                    return Err(ProducerError::client(&format!("topic {} refuses a record", topic.name), error));
                }
            }
        }
        let opened = &mut topic.opened[record.partition as usize];
        if *opened == Opened::No {
            *opened = Opened::Waiting(number);
        }
        Ok(number)
    }

    async fn open_partition(&self, topic: &mut Topic, partition: u32) -> Result<(), ProducerError> {
        let Some(opened) = topic.opened.get_mut(partition as usize) else {
            return Err(ProducerError::Internal(format!("topic {} has no partition {partition}", topic.name)));
        };
        if let Opened::Waiting(number) = *opened {
            self.acknowledged(number).await?;
            *opened = Opened::Yes;
        }
        Ok(())
    }

    /// Waits until everything up to and with the record `number` is acknowledged. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The producer's life is over.
    pub async fn acknowledged(&self, number: u64) -> Result<(), ProducerError> {
        self.reached(number + 1).await
    }

    /// Waits until everything enqueued so far is acknowledged. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The producer's life is over.
    pub async fn drained(&self) -> Result<(), ProducerError> {
        self.reached(self.next()).await
    }

    async fn reached(&self, prefix: u64) -> Result<(), ProducerError> {
        loop {
            // Listening starts before the check, so no acknowledgement falls between them.
            let notified = self.deliveries.changed.notified();
            if self.prefix() >= prefix {
                return Ok(());
            }
            self.failure()?;
            tokio::time::timeout(Duration::from_millis(100), notified).await.ok();
        }
    }

    /// Waits for an acknowledgement, at most `longest`. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The producer's life is over.
    pub async fn changed(&self, longest: Duration) -> Result<(), ProducerError> {
        let notified = self.deliveries.changed.notified();
        self.failure()?;
        // The timeout covers a notification that came between a check and this wait.
        tokio::time::timeout(longest, notified).await.ok();
        self.failure()
    }

    /// Whether the life is over.
    ///
    /// # Errors
    ///
    /// Why it is over: the first delivery that failed.
    pub fn failure(&self) -> Result<(), ProducerError> {
        let failure = self.deliveries.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            None => Ok(()),
            Some(reason) => Err(ProducerError::Delivery(reason.clone())),
        }
    }

    /// The first number that is not acknowledged.
    #[must_use]
    pub fn prefix(&self) -> u64 {
        self.deliveries.tracker().prefix()
    }

    /// The number the next record will get.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.deliveries.tracker().next()
    }

    /// Records acknowledged in this life.
    #[must_use]
    pub fn acknowledged_records(&self) -> u64 {
        self.deliveries.acknowledged.load(Ordering::Relaxed)
    }

    /// Drops what is still queued, so that the end of a life does not wait for an absent broker.
    pub fn abandon(self) {
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        if let Err(error) = self.producer.flush(Timeout::After(Duration::from_secs(1))) {
            tracing::debug!(%error, "purged records are still on their way out");
        }
    }
}

fn opaque(number: u64) -> usize {
    usize::try_from(number).expect("a life enqueues fewer records than memory has addresses")
}
