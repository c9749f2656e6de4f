//! The lanes' questions, put to the real Kafka, registry and producers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use syncline_event::avro::frame::SchemaId;
use syncline_event::table::TableDefinition;
use syncline_runtime::kafka::{Admin, KafkaError, client_config, log_line};
use syncline_runtime::registry::Registry;
use syncline_runtime::retry::{Classified, ErrorClass, GaveUp};
use syncline_runtime::settings::KafkaSettings;
use syncline_runtime::shutdown::Shutdown;

use crate::definitions::Definitions;
use crate::error::ConsumerError;
use crate::lane::{Lookup, LookupError};
use crate::start::InKafka;

/// How long Kafka may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// See the module.
pub struct Outside {
    admin: Admin,
    registry: Registry,
    definitions: Arc<Definitions>,
    /// Asks for the group's offsets; subscribes to nothing and never joins.
    group: Arc<BaseConsumer<Quiet>>,
    group_name: String,
    shutdown: Shutdown,
}

/// The log of a client that only asks.
pub struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

impl Outside {
    /// Connects when first asked.
    ///
    /// # Errors
    ///
    /// Settings that the client does not take.
    pub fn new(
        kafka: &KafkaSettings,
        group: &str,
        admin: Admin,
        registry: Registry,
        definitions: Arc<Definitions>,
        shutdown: Shutdown,
    ) -> Result<Self, ConsumerError> {
        let consumer: BaseConsumer<Quiet> = client_config(kafka, "syncline-consumer-offsets")
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .create_with_context(Quiet)
            .map_err(KafkaError::from_creation)?;
        Ok(Self { admin, registry, definitions, group: Arc::new(consumer), group_name: group.to_owned(), shutdown })
    }

    async fn committed(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumerError> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic, partition);
        let group = Arc::clone(&self.group);
        let unavailable = |reason: String| KafkaError::Unavailable {
            operation: "read",
            what: format!("the offsets of consumer group {}", self.group_name),
            reason,
        };
        let answer = tokio::task::spawn_blocking(move || group.committed_offsets(list, ANSWER_TIME)).await;
        let offsets = answer
            .map_err(|error| ConsumerError::Task { task: "offset lookup", reason: error.to_string() })?
            .map_err(|error| unavailable(error.to_string()))?;
        let found = offsets.find_partition(topic, partition);
        let Some(found) = found else { return Ok(None) };
        found.error().map_err(|error| unavailable(error.to_string()))?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    async fn in_kafka(&self, topic: &str, partition: i32) -> Result<(String, InKafka), ConsumerError> {
        let missing = || KafkaError::Unavailable {
            operation: "find",
            what: format!("topic {topic} partition {partition}"),
            reason: "it is not there".into(),
        };
        let info = self.admin.describe_topic(topic).await?.ok_or_else(missing)?;
        let ends = self.admin.watermarks(topic).await?;
        let ends = usize::try_from(partition).ok().and_then(|index| ends.get(index)).ok_or_else(missing)?;
        let committed = self.committed(topic, partition).await?;
        Ok((info.id, InKafka { low: ends.low, high: ends.high, committed }))
    }
}

fn classed(error: impl Into<ConsumerError>) -> LookupError {
    let error = error.into();
    LookupError { class: error.class(), error }
}

#[async_trait]
impl Lookup for Outside {
    async fn schema(&self, id: SchemaId) -> Result<Arc<str>, LookupError> {
        let found = match id {
            SchemaId::Id(id) => self.registry.known_schema(id, &self.shutdown).await,
            SchemaId::ContentId(id) => match u32::try_from(id) {
                Ok(id) => self.registry.known_schema(id, &self.shutdown).await,
                Err(_) => self.registry.known_schema_by_global_id(id, &self.shutdown).await,
            },
            SchemaId::GlobalId(id) => self.registry.known_schema_by_global_id(id, &self.shutdown).await,
        };
        found.map_err(|gave_up| match gave_up {
            GaveUp::Failed(error) => classed(error),
            GaveUp::Stopped(error) => LookupError { class: ErrorClass::Transient, error: error.into() },
        })
    }

    async fn newest_value_schema(&self, topic: &str) -> Result<Option<SchemaId>, LookupError> {
        let newest = self.registry.newest(&format!("{topic}-value")).await;
        newest.map(|id| id.map(SchemaId::Id)).map_err(classed)
    }

    async fn definition(&self, topic: &str, number: u32) -> Result<Option<Arc<TableDefinition>>, LookupError> {
        self.definitions.get(topic, number).await.map_err(classed)
    }

    async fn partition(&self, topic: &str, partition: i32) -> Result<(String, InKafka), LookupError> {
        self.in_kafka(topic, partition).await.map_err(classed)
    }
}
