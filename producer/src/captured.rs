//! A captured table, ready to be published: its definition, its schemas' ids, its topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use syncline_event::avro::encode::{ConnectorInfo, TableEncoder};
use syncline_event::avro::schema::{envelope_schema, key_schema};
use syncline_event::header::{Barrier, BarrierKind, FenceMarker, HEADER_NAME, Header, Stamped};
use syncline_event::position::Position;
use syncline_event::table::{TableDefinition, TableDefinitionKey};
use syncline_runtime::registry::Registry;

use crate::adopted::Tails;
use crate::checkpoint::TopicCheckpoint;
use crate::config::{EventSettings, Format};
use crate::error::ProducerError;
use crate::publish::{Publisher, Record, Topic};
use crate::stats::{Stats, TableStats};

/// The name of the topic of table definitions.
#[must_use]
pub fn definitions_topic_name(prefix: &str) -> String {
    format!("{prefix}.syncline.tables")
}

/// The numbered definitions of all captured tables.
///
/// A definition is acknowledged before the first record that names it is enqueued.
pub struct Definitions {
    topic: Topic,
    latest: BTreeMap<String, TableDefinition>,
}

impl Definitions {
    /// Takes up what the topic of table definitions holds: (key, value) records, latest per key.
    ///
    /// # Errors
    ///
    /// A record this version cannot read.
    pub fn load(prefix: &str, records: &[(Vec<u8>, Vec<u8>)]) -> Result<Self, ProducerError> {
        let name = definitions_topic_name(prefix);
        let mut latest: BTreeMap<String, TableDefinition> = BTreeMap::new();
        for (_, value) in records {
            let definition: TableDefinition = serde_json::from_slice(value).map_err(|error| {
                ProducerError::Internal(format!("topic {name} holds a definition this version cannot read: {error}"))
            })?;
            match latest.get(&definition.topic) {
                Some(known) if known.number >= definition.number => {}
                _ => {
                    latest.insert(definition.topic.clone(), definition);
                }
            }
        }
        Ok(Self { topic: Topic::new(name, 1), latest })
    }

    /// The last definition of a topic's table.
    #[must_use]
    pub fn latest(&self, topic: &str) -> Option<&TableDefinition> {
        self.latest.get(topic)
    }

    /// Gives the definition its number, publishing it first where it is new.
    ///
    /// # Errors
    ///
    /// Kafka.
    pub async fn adopt(
        &mut self,
        publisher: &Publisher,
        mut definition: TableDefinition,
    ) -> Result<Arc<TableDefinition>, ProducerError> {
        if let Some(known) = self.latest.get(&definition.topic) {
            if known.same_shape(&definition) {
                return Ok(Arc::new(known.clone()));
            }
            definition.number = known.number + 1;
        } else {
            definition.number = 1;
        }
        let key = TableDefinitionKey { topic: definition.topic.clone(), number: definition.number };
        let key = serde_json::to_vec(&key).map_err(ProducerError::unserializable)?;
        let value = serde_json::to_vec(&definition).map_err(ProducerError::unserializable)?;
        let record = Record { partition: 0, key: Some(&key), value: Some(&value), headers: OwnedHeaders::new() };
        let number = publisher.send(&mut self.topic, record).await?;
        publisher.acknowledged(number).await?;
        tracing::info!(table = definition.qualified_name(), number = definition.number, "new table definition");
        self.latest.insert(definition.topic.clone(), definition.clone());
        Ok(Arc::new(definition))
    }
}

/// A table with all that publishing a change of it takes.
pub struct CapturedTable {
    /// The definition in force.
    pub definition: Arc<TableDefinition>,
    /// Encodes keys and envelopes under the definition.
    pub encoder: Arc<TableEncoder>,
    /// The data topic.
    pub topic: Topic,
    /// Kafka's id of the topic.
    pub topic_id: String,
    /// The schema id by which keys are placed.
    pub first_key_schema: u32,
    /// What another producer has left in the topic, and is not published again.
    pub tails: Tails,
    /// Counters.
    pub stats: Arc<TableStats>,
    /// An incremental snapshot of it is unfinished: rows may be missing in the target.
    pub filling: bool,
    /// It is not opened yet: nothing of it is published.
    pub muted: bool,
    /// Debezium's context headers, where they are asked for.
    pub context_headers: Option<Arc<ContextHeaders>>,
}

/// Debezium's `extended.headers.enabled`: names behind `__debezium.context.`, and their values.
pub type ContextHeaders = [(&'static str, String); 4];

impl CapturedTable {
    /// Registers the definition's schemas and compiles its encoder.
    ///
    /// # Errors
    ///
    /// The registry refuses a schema, or a type cannot be captured.
    pub async fn open(
        definition: Arc<TableDefinition>,
        registry: &Registry,
        connector: &ConnectorInfo,
        events: &EventSettings,
        topic: (Topic, String),
        first_key_schema: Option<u32>,
        stats: &Stats,
    ) -> Result<Self, ProducerError> {
        let (encoder, key_schema_id) = Self::compile(&definition, registry, connector, events).await?;
        let table_stats = stats.table(&definition.qualified_name());
        Ok(Self {
            definition,
            encoder,
            topic: topic.0,
            topic_id: topic.1,
            first_key_schema: first_key_schema.unwrap_or(key_schema_id),
            tails: Tails::default(),
            stats: table_stats,
            filling: false,
            muted: false,
            context_headers: None,
        })
    }

    /// Goes on under another definition.
    ///
    /// # Errors
    ///
    /// As for [`CapturedTable::open`].
    pub async fn redefine(
        &mut self,
        definition: Arc<TableDefinition>,
        registry: &Registry,
        connector: &ConnectorInfo,
        events: &EventSettings,
    ) -> Result<(), ProducerError> {
        self.encoder = Self::compile(&definition, registry, connector, events).await?.0;
        self.definition = definition;
        Ok(())
    }

    async fn compile(
        definition: &Arc<TableDefinition>,
        registry: &Registry,
        connector: &ConnectorInfo,
        events: &EventSettings,
    ) -> Result<(Arc<TableEncoder>, u32), ProducerError> {
        let (key_id, value_id) = match events.format {
            Format::Avro => (
                registry.register(&format!("{}-key", definition.topic), &key_schema(definition)).await?,
                registry.register(&format!("{}-value", definition.topic), &envelope_schema(definition)).await?,
            ),
            Format::Json => (0, 0),
        };
        let encoder = TableEncoder::new(Arc::clone(definition), connector, key_id, value_id)
            .map_err(|error| ProducerError::Encode { table: definition.qualified_name(), reason: error.to_string() })?
            .with_masks(&events.columns.masks(definition));
        let encoder = if events.format == Format::Json { encoder.as_json() } else { encoder };
        Ok((Arc::new(encoder), key_id))
    }

    /// A change's Kafka headers: ours, the other key of a key change, the context.
    #[must_use]
    pub fn headers(&self, encoded: &[u8], other_key: Option<KafkaHeader<'_, &[u8]>>) -> OwnedHeaders {
        let context = self.context_headers.as_deref().map_or(&[][..], |headers| &headers[..]);
        let mut headers = syncline_header(encoded, usize::from(other_key.is_some()) + context.len());
        if let Some(header) = other_key {
            headers = headers.insert(header);
        }
        context.iter().fold(headers, |headers, (key, value)| headers.insert(KafkaHeader { key, value: Some(value) }))
    }

    /// What the checkpoint keeps of the table.
    #[must_use]
    pub fn checkpoint(&self) -> TopicCheckpoint {
        TopicCheckpoint {
            topic_id: self.topic_id.clone(),
            partitions: self.topic.partitions(),
            first_key_schema: self.first_key_schema,
            definition: (*self.definition).clone(),
        }
    }

    /// Sends a marker into every partition, all at the same position. `envelope` is the value of partition 0's copy;
    /// `stamped` is when a node's truncate was made.
    ///
    /// # Errors
    ///
    /// Kafka.
    pub async fn send_marker(
        &mut self,
        publisher: &Publisher,
        position: Position,
        kind: BarrierKind,
        envelope: Option<&[u8]>,
        stamped: Option<&Stamped>,
    ) -> Result<(), ProducerError> {
        let mut header = Header::new(position, self.definition.number);
        header.barrier = Some(Barrier { kind, partitions: self.topic.partitions() });
        let mut bytes = Vec::new();
        header.encode_with(stamped, &mut bytes);
        self.send_everywhere(publisher, &bytes, envelope).await
    }

    /// Answers a fence with a marker in every partition. Consumers look at fences before they look at positions, so its
    /// own is one that comes before all others of the epoch.
    ///
    /// # Errors
    ///
    /// Kafka.
    pub async fn send_fence(
        &mut self,
        publisher: &Publisher,
        epoch: u32,
        id: u64,
        stamped: Option<&Stamped>,
    ) -> Result<(), ProducerError> {
        let mut header = Header::new(Position::opening(epoch), 0);
        header.fence = Some(FenceMarker { id, partitions: self.topic.partitions() });
        let mut bytes = Vec::new();
        header.encode_with(stamped, &mut bytes);
        self.send_everywhere(publisher, &bytes, None).await
    }

    async fn send_everywhere(
        &mut self,
        publisher: &Publisher,
        header: &[u8],
        envelope: Option<&[u8]>,
    ) -> Result<(), ProducerError> {
        for partition in 0..self.topic.partitions() {
            let value = envelope.filter(|_| partition == 0);
            let record = Record { partition, key: None, value, headers: syncline_header(header, 0) };
            publisher.send(&mut self.topic, record).await?;
        }
        Ok(())
    }
}

/// Kafka headers with ours in them and room for `more`.
#[must_use]
pub fn syncline_header(encoded: &[u8], more: usize) -> OwnedHeaders {
    OwnedHeaders::new_with_capacity(1 + more).insert(KafkaHeader { key: HEADER_NAME, value: Some(encoded) })
}
