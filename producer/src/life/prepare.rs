//! Topics, definitions and schemas, before the first record.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::PgConnection;
use syncline_event::avro::encode::ConnectorInfo;
use syncline_event::table::TableDefinition;
use syncline_runtime::kafka::EnsuredTopic;
use syncline_runtime::registry::Registry;

use super::{Beginning, read_if_there, same_topic};
use crate::captured::{CapturedTable, ContextHeaders, Definitions, definitions_topic_name};
use crate::checkpoint::{self, Checkpoint, TopicCheckpoint};
use crate::context::{Context, DEBEZIUM_VERSION};
use crate::error::ProducerError;
use crate::publish::{MAX_RECORD_BYTES, Publisher, Topic};
use crate::sources::postgres::preflight::Ready;

impl Beginning<'_> {
    /// Topics, definitions, schemas: everything that records refer to.
    pub(crate) async fn prepare(
        &self,
        control: PgConnection,
        registry: Registry,
        ready: &Ready,
        known: Option<&Checkpoint>,
    ) -> Result<(Context, Vec<CapturedTable>), ProducerError> {
        let config = self.config;
        let mut topics = BTreeMap::new();
        for topic in ready.tables.keys() {
            topics.insert(topic.clone(), self.data_topic(topic, known.and_then(|c| c.topics.get(topic))).await?);
        }
        for topic in [checkpoint::topic_name(&config.topic_prefix), definitions_topic_name(&config.topic_prefix)] {
            let settings = [("cleanup.policy", "compact"), ("max.message.bytes", "16777216")];
            self.admin.ensure_topic(&topic, 1, config.kafka.replication_factor, &settings).await?;
        }
        let records = read_if_there(config, &definitions_topic_name(&config.topic_prefix)).await?;
        let mut context = Context {
            config: Arc::clone(config),
            publisher: Publisher::open(&config.kafka)?,
            registry,
            control,
            definitions: Definitions::load(&config.topic_prefix, &records)?,
            connector: ConnectorInfo {
                version: DEBEZIUM_VERSION.to_owned(),
                name: config.topic_prefix.clone(),
                db: config.source.database.clone(),
            },
            stats: Arc::clone(self.stats),
        };
        let context_headers = match config.events.context_headers {
            true => Some(context_headers(&mut context).await?),
            false => None,
        };
        let mut tables = Vec::new();
        for (topic, definition) in &ready.tables {
            // A resumed stream may be behind the catalog: it goes on under the definition it used last, and the
            // log's own relation messages bring it forward.
            let (definition, first_key_schema) = match known.and_then(|checkpoint| checkpoint.topics.get(topic)) {
                Some(last) => (Arc::new(last.definition.clone()), Some(last.first_key_schema)),
                None => (self.adopt(&mut context, definition).await?, self.earlier_key_schema(topic)),
            };
            let ensured = &topics[topic];
            let partitions = u32::try_from(ensured.info.partitions).unwrap_or(1);
            let topic = (Topic::new(topic.clone(), partitions), ensured.info.id.clone());
            let table = CapturedTable::open(
                definition,
                &context.registry,
                &context.connector,
                &config.events,
                topic,
                first_key_schema,
                &context.stats,
            );
            let mut table = table.await?;
            table.context_headers.clone_from(&context_headers);
            tables.push(table);
        }
        Ok((context, tables))
    }

    async fn adopt(
        &self,
        context: &mut Context,
        definition: &TableDefinition,
    ) -> Result<Arc<TableDefinition>, ProducerError> {
        context.definitions.adopt(&context.publisher, definition.clone()).await
    }

    /// A topic that is used again keeps placing keys as it did, unless they have another form now.
    fn earlier_key_schema(&self, topic: &str) -> Option<u32> {
        let earlier = self.found.latest.as_ref()?.topics.get(topic)?;
        (earlier.form() == self.config.events.format).then_some(earlier.first_key_schema)
    }

    async fn data_topic(&self, name: &str, last: Option<&TopicCheckpoint>) -> Result<EnsuredTopic, ProducerError> {
        if let Some(last) = last {
            return Ok(EnsuredTopic { info: same_topic(self.admin, name, last).await?, created: false });
        }
        let kafka = &self.config.kafka;
        let limit = MAX_RECORD_BYTES.to_string();
        let settings = [("cleanup.policy", "delete"), ("max.message.bytes", limit.as_str())];
        Ok(self.admin.ensure_topic(name, kafka.partitions, kafka.replication_factor, &settings).await?)
    }

    /// Per table: whether its topic has ever held a record.
    pub(super) async fn used_topics(&self, tables: &[CapturedTable]) -> Result<Vec<bool>, ProducerError> {
        let mut used = Vec::new();
        for table in tables {
            let marks = self.admin.watermarks(table.topic.name()).await?;
            used.push(marks.iter().any(|mark| mark.high > 0));
        }
        Ok(used)
    }
}

/// Debezium's context headers (`DebeziumHeaderProducer`); the run's id is a new one for each life.
async fn context_headers(context: &mut Context) -> Result<Arc<ContextHeaders>, ProducerError> {
    let run: String = sqlx::query_scalar("SELECT gen_random_uuid()::text")
        .fetch_one(&mut context.control)
        .await
        .map_err(|error| ProducerError::source("an id for the context headers cannot be made", error))?;
    Ok(Arc::new([
        ("__debezium.context.connectorLogicalName", context.config.topic_prefix.clone()),
        ("__debezium.context.taskId", "0".to_owned()),
        ("__debezium.context.connectorName", "postgresql".to_owned()),
        ("__debezium.context.runId", run),
    ]))
}
