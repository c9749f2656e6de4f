//! Records beside the tables': logical messages, the bounds of transactions, heartbeats, each on a topic of its own and
//! in Debezium's form. A producer that starts again may repeat them, as Debezium does: they have no position.

use std::time::{Duration, Instant};

use rdkafka::message::OwnedHeaders;
use sqlx::PgConnection;
use syncline_event::avro::beside::{
    Bound, Encoded, Frames, HEARTBEAT_KEY, HEARTBEAT_VALUE, LogicalMessage, MESSAGE_KEY, MessageEncoder,
    TRANSACTION_KEY, TRANSACTION_VALUE, bound, heartbeat, message_value_schema,
};
use syncline_event::avro::encode::TransactionBlock;
use syncline_event::json::write::JsonParts;
use syncline_event::partition::partition_for_key;
use syncline_runtime::kafka::Admin;
use syncline_runtime::settings::DatabaseSettings;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::config::Format;
use crate::context::Context;
use crate::error::ProducerError;
use crate::publish::{MAX_RECORD_BYTES, Record, Topic};

/// How long `heartbeat.action.query` may take.
const ACTION_TIME: Duration = Duration::from_secs(10);

/// The topic of logical messages.
pub(crate) fn message_topic(topic_prefix: &str) -> String {
    format!("{topic_prefix}.message")
}

/// Logical messages, where a [`Tally`] has the index of a table.
pub(crate) const MESSAGES: usize = usize::MAX;

/// A topic with its records' schemas.
struct SideTopic {
    topic: Topic,
    frames: Frames,
    json: Option<JsonParts>,
}

impl SideTopic {
    /// Creates the topic where it is missing, and registers the schemas.
    async fn open(context: &Context, name: &str, partitions: i32, schemas: [&str; 2]) -> Result<Self, ProducerError> {
        let kafka = &context.config.kafka;
        let limit = MAX_RECORD_BYTES.to_string();
        let settings = [("cleanup.policy", "delete"), ("max.message.bytes", limit.as_str())];
        let admin = Admin::connect(kafka).await?;
        let topic = admin.ensure_topic(name, partitions, kafka.replication_factor, &settings).await?;
        let [key, value] = schemas;
        let partitions = u32::try_from(topic.info.partitions).unwrap_or(1);
        let topic = Topic::new(name.to_owned(), partitions);
        if context.config.events.format == Format::Json {
            let json = JsonParts::compile(key, value).expect("Debezium's schemas are well formed");
            return Ok(Self { topic, frames: Frames::new(0, 0), json: Some(json) });
        }
        let key = context.registry.register(&format!("{name}-key"), key).await?;
        let value = context.registry.register(&format!("{name}-value"), value).await?;
        Ok(Self { topic, frames: Frames::new(key, value), json: None })
    }

    async fn send(&mut self, context: &Context, record: Encoded) -> Result<(), ProducerError> {
        let record = match &self.json {
            Some(parts) => record.into_json(parts),
            None => record,
        };
        let partition = partition_for_key(&record.key, self.topic.partitions());
        let (key, value) = (Some(&record.key[..]), Some(&record.value[..]));
        context.publisher.send(&mut self.topic, Record { partition, key, value, headers: OwnedHeaders::new() }).await?;
        Ok(())
    }
}

/// Everything beside the tables that one life publishes.
#[derive(Default)]
pub(crate) struct Beside {
    /// Opened by the first message.
    messages: Option<(SideTopic, MessageEncoder)>,
    transactions: Option<SideTopic>,
    heartbeat: Option<SideTopic>,
    beaten: Option<Instant>,
    /// Ends with the life.
    actions: JoinSet<()>,
}

impl Beside {
    /// Opens what the settings ask for.
    ///
    /// # Errors
    ///
    /// Kafka or the registry.
    pub(crate) async fn open(context: &Context) -> Result<Self, ProducerError> {
        let mut beside = Self::default();
        if let Some(name) = &context.config.events.transaction_topic {
            let schemas = [TRANSACTION_KEY, TRANSACTION_VALUE];
            beside.transactions = Some(SideTopic::open(context, name, 1, schemas).await?);
        }
        if let Some(settings) = &context.config.heartbeat {
            let schemas = [HEARTBEAT_KEY, HEARTBEAT_VALUE];
            beside.heartbeat = Some(SideTopic::open(context, &settings.topic, 1, schemas).await?);
        }
        Ok(beside)
    }

    /// Whether the bounds of transactions are published.
    pub(crate) fn tells_transactions(&self) -> bool {
        self.transactions.is_some()
    }

    /// Publishes a logical message.
    ///
    /// # Errors
    ///
    /// Kafka or the registry.
    pub(crate) async fn message(
        &mut self,
        context: &Context,
        message: &LogicalMessage<'_>,
    ) -> Result<(), ProducerError> {
        if self.messages.is_none() {
            let binary = context.config.events.handling.binary;
            let name = message_topic(&context.config.topic_prefix);
            let schemas = [MESSAGE_KEY, &message_value_schema(binary)];
            let topic = SideTopic::open(context, &name, context.config.kafka.partitions, schemas).await?;
            let encoder = MessageEncoder::new(topic.frames, &context.connector, binary);
            self.messages = Some((topic, encoder));
        }
        let Some((topic, encoder)) = &mut self.messages else { return Ok(()) };
        let record = encoder.encode(message);
        topic.send(context, record).await
    }

    /// Publishes a bound of a transaction, where that is asked for.
    ///
    /// # Errors
    ///
    /// Kafka.
    pub(crate) async fn bound(&mut self, context: &Context, of: &Bound<'_>) -> Result<(), ProducerError> {
        let Some(topic) = &mut self.transactions else { return Ok(()) };
        let record = bound(topic.frames, of);
        topic.send(context, record).await
    }

    /// Publishes a heartbeat where one is due.
    ///
    /// # Errors
    ///
    /// Kafka.
    pub(crate) async fn beat(&mut self, context: &Context) -> Result<(), ProducerError> {
        let (Some(topic), Some(settings)) = (&mut self.heartbeat, &context.config.heartbeat) else { return Ok(()) };
        if self.beaten.is_some_and(|beaten| beaten.elapsed() < settings.interval) {
            return Ok(());
        }
        // With the first beat, so not before the slot is there, whose creation would wait for the action's transaction.
        if let (None, Some(action)) = (self.beaten, &settings.action) {
            self.actions.spawn(act(context.config.source.clone(), action.clone(), settings.interval));
        }
        self.beaten = Some(Instant::now());
        let now_ms = clock::now_ns().div_euclid(1_000_000);
        let record = heartbeat(topic.frames, &context.config.topic_prefix, now_ms);
        topic.send(context, record).await
    }
}

/// Runs `heartbeat.action.query` at every beat, in a session of its own: capture must not wait for it, nor for what it
/// waits for. What fails is told and tried again at the next beat.
async fn act(source: DatabaseSettings, action: String, interval: Duration) {
    let mut beats = tokio::time::interval(interval);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = None;
    loop {
        beats.tick().await;
        if let Err(error) = once(&source, &action, &mut session).await {
            session = None;
            tracing::warn!(%error, "heartbeat.action.query failed; capture goes on, and the next heartbeat tries again");
        }
    }
}

async fn once(
    source: &DatabaseSettings,
    action: &str,
    session: &mut Option<PgConnection>,
) -> Result<(), ProducerError> {
    let failed = |error| ProducerError::source("heartbeat.action.query", error);
    let connection = match session {
        Some(connection) => connection,
        None => {
            let mut connection = syncline_catalog::connect::connect(source, "syncline-heartbeat").await?;
            let limit = format!("SET statement_timeout = {}", ACTION_TIME.as_millis());
            sqlx::raw_sql(sqlx::AssertSqlSafe(limit)).execute(&mut connection).await.map_err(failed)?;
            session.insert(connection)
        }
    };
    sqlx::raw_sql(sqlx::AssertSqlSafe(action.to_owned())).execute(connection).await.map_err(failed)?;
    Ok(())
}

/// Debezium's counts of a transaction's events.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    total: u64,
    /// Per table, in the order of their first events: its index, name and count.
    tables: Vec<(usize, (String, u64))>,
}

impl Tally {
    /// The block of the next event of a table.
    pub(crate) fn next(&self, table: usize, transaction: u32, lsn: u64) -> TransactionBlock {
        let of_table = self.tables.iter().find(|(index, _)| *index == table).map_or(0, |(_, (_, count))| *count);
        TransactionBlock { transaction, lsn, total_order: self.total + 1, data_collection_order: of_table + 1 }
    }

    /// Counts events of a table.
    pub(crate) fn add(&mut self, table: usize, name: impl FnOnce() -> String, events: u64) {
        self.total += events;
        match self.tables.iter_mut().find(|(index, _)| *index == table) {
            Some((_, (_, count))) => *count += events,
            None if events > 0 => self.tables.push((table, (name(), events))),
            None => {}
        }
    }

    /// The tables with their counts; counting starts anew.
    pub(crate) fn finish(&mut self) -> Vec<(String, u64)> {
        self.total = 0;
        std::mem::take(&mut self.tables).into_iter().map(|(_, table)| table).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_numbered_in_their_transaction_and_in_their_table() {
        let mut tally = Tally::default();
        tally.add(3, || "public.b".into(), 2);
        tally.add(1, || "public.a".into(), 1);
        tally.add(5, || "public.skipped".into(), 0);
        let block = tally.next(3, 7, 9);
        assert_eq!((block.total_order, block.data_collection_order), (4, 3));
        assert_eq!(tally.next(5, 7, 9).data_collection_order, 1);
        assert_eq!(tally.finish(), [("public.b".to_owned(), 2), ("public.a".to_owned(), 1)]);
        assert_eq!(tally.next(3, 8, 10).total_order, 1);
    }
}
