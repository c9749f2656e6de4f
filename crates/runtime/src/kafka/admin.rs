//! Topics: which there are, what they are, creating and deleting them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use tokio::runtime::Handle;

use super::client::{Symptoms, client_config};
use super::error::KafkaError;
use super::topic_id::{self, Found};
use crate::settings::KafkaSettings;

/// How long a broker has to answer before it counts as unreachable.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long a created topic may take until every partition has a leader.
const LEADER_TIME: Duration = Duration::from_secs(30);

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// The cluster's own id of this topic, as Kafka's tools print it; a topic that is deleted and created again gets
    /// another. Empty if the broker has none (Kafka before 2.8).
    pub id: String,
    /// Number of partitions.
    pub partitions: i32,
}

/// What [`Admin::ensure_topic`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnsuredTopic {
    /// The topic.
    pub info: TopicInfo,
    /// Whether this call created it.
    pub created: bool,
}

/// The ends of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Offset of the first record that is still there; equal to `high` if there is none.
    pub low: i64,
    /// Offset the next record will get; while a transaction of another producer's is open, its first record's offset:
    /// what a reader of committed records can reach.
    pub high: i64,
}

/// A connection for questions about topics. Clones share it.
///
/// The last clone to go closes the connection, which may block its thread for some 100 ms.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

struct Inner {
    servers: String,
    cluster_id: String,
    settings: KafkaSettings,
    /// A consumer, since it creates no topic by asking for it, without a group, so that polling it serves its log.
    client: BaseConsumer<Symptoms>,
    /// For creating, deleting and configurations only; made when first needed.
    writer: OnceLock<AdminClient<Symptoms>>,
}

impl Admin {
    /// Connects and waits for the cluster's first answer, for about 10 s.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unreachable`], [`KafkaError::Login`], or settings the client does not take.
    pub async fn connect(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let settings = settings.clone();
        blocking(move || {
            let client: BaseConsumer<Symptoms> = client_config(&settings, "syncline-admin")
                .create_with_context(Symptoms::default())
                .map_err(KafkaError::from_creation)?;
            let servers = settings.bootstrap_servers.clone();
            let cluster_id = first_answer(&client, &servers, None, ANSWER_TIME)?;
            Ok(Self { inner: Arc::new(Inner { servers, cluster_id, settings, client, writer: OnceLock::new() }) })
        })
        .await
    }

    /// The cluster's id; empty if it has none.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// A topic's id and partition count; none if there is no such topic.
    ///
    /// # Errors
    ///
    /// [`KafkaError`] of any kind but a missing topic.
    pub async fn describe_topic(&self, name: &str) -> Result<Option<TopicInfo>, KafkaError> {
        let name = name.to_owned();
        self.with(move |inner| Ok(inner.describe(&name)?.map(info))).await
    }

    /// All topics but Kafka's internal ones, with their partition counts.
    ///
    /// # Errors
    ///
    /// [`KafkaError`] of any kind but a missing topic.
    pub async fn topics(&self) -> Result<BTreeMap<String, i32>, KafkaError> {
        self.with(|inner| {
            let metadata = inner
                .client
                .fetch_metadata(None, ANSWER_TIME)
                .map_err(|error| inner.failed(&error, "list", "topics".to_owned()))?;
            let partitions = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
            let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
            Ok(topics
                .filter(|topic| {
                    !matches!(topic.name(), "__consumer_offsets" | "__transaction_state" | "__share_group_state")
                })
                .map(|topic| (topic.name().to_owned(), partitions(topic.partitions().len())))
                .collect())
        })
        .await
    }

    /// Finds the topic, or creates it and waits until every partition has a leader. An existing topic keeps its
    /// partition count and its configuration.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Refused`] with the broker's reason, [`KafkaError::NotAllowed`], or an outage.
    pub async fn ensure_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i32,
        config: &[(&str, &str)],
    ) -> Result<EnsuredTopic, KafkaError> {
        let name = name.to_owned();
        let config: Vec<(String, String)> = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.with(move |inner| {
            if let Some(found) = inner.describe(&name)?
                && found.led
            {
                return Ok(EnsuredTopic { info: info(found), created: false });
            }
            let created = inner.create(&name, partitions, replication, &config)?;
            Ok(EnsuredTopic { info: info(inner.wait_for_leaders(&name)?), created })
        })
        .await
    }

    /// A topic's configuration as it is in force, by name.
    ///
    /// # Errors
    ///
    /// [`KafkaError`] of any kind.
    pub async fn topic_config(&self, name: &str) -> Result<BTreeMap<String, String>, KafkaError> {
        let name = name.to_owned();
        self.with(move |inner| {
            let what = || format!("the configuration of topic {name}");
            let asked = [ResourceSpecifier::Topic(&name)];
            let answer = Handle::current()
                .block_on(inner.writer()?.describe_configs(&asked, &options()))
                .map_err(|error| inner.failed(&error, "read", what()))?;
            let answer = answer.into_iter().next().ok_or_else(|| inner.missing(&name))?;
            let resource = answer.map_err(|code| inner.failed_code(code, "read", what(), &name))?;
            // rdkafka hands on an empty configuration in the place of a resource's own error.
            if resource.entries.is_empty() {
                return Err(inner.missing(&name));
            }
            Ok(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
        })
        .await
    }

    /// The ends of every partition of a topic, the index being the partition.
    ///
    /// # Errors
    ///
    /// [`KafkaError::MissingTopic`] and others.
    pub async fn watermarks(&self, topic: &str) -> Result<Vec<Watermarks>, KafkaError> {
        let topic = topic.to_owned();
        self.with(move |inner| {
            let found = inner.describe(&topic)?.ok_or_else(|| inner.missing(&topic))?;
            (0..found.partitions).map(|partition| soon(|| inner.watermarks(&topic, partition))).collect()
        })
        .await
    }

    /// [`Watermarks::high`] of every partition, the index being the partition.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::watermarks`].
    pub async fn end_offsets(&self, topic: &str) -> Result<Vec<i64>, KafkaError> {
        Ok(self.watermarks(topic).await?.into_iter().map(|ends| ends.high).collect())
    }

    /// Deletes a topic with everything in it and waits until it is gone. False: there was none.
    ///
    /// # Errors
    ///
    /// [`KafkaError`] of any kind but a missing topic.
    pub async fn delete_topic(&self, name: &str) -> Result<bool, KafkaError> {
        let name = name.to_owned();
        self.with(move |inner| {
            let what = || format!("topic {name}");
            let answer = Handle::current()
                .block_on(inner.writer()?.delete_topics(&[&name], &options()))
                .map_err(|error| inner.failed(&error, "delete", what()))?;
            match answer.into_iter().next() {
                Some(Err((_, Code::UnknownTopicOrPartition | Code::UnknownTopic))) => return Ok(false),
                Some(Err((_, code))) => return Err(inner.failed_code(code, "delete", what(), &name)),
                Some(Ok(_)) | None => {}
            }
            let deadline = Instant::now() + LEADER_TIME;
            while inner.describe(&name)?.is_some() {
                if Instant::now() > deadline {
                    let reason = "it is still there".to_owned();
                    return Err(KafkaError::Unavailable { operation: "delete", what: what(), reason });
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(true)
        })
        .await
    }

    async fn with<T, F>(&self, work: F) -> Result<T, KafkaError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, KafkaError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn describe(&self, name: &str) -> Result<Option<Found>, KafkaError> {
        let what = || format!("topic {name}");
        let described = topic_id::describe(self.client.client(), &[name], ANSWER_TIME)
            .map_err(|code| self.failed_code(code, "describe", what(), name))?;
        match described.into_iter().find(|topic| topic.name == name).map(|topic| topic.found) {
            Some(Ok(found)) => Ok(Some(found)),
            None | Some(Err(Code::UnknownTopicOrPartition | Code::UnknownTopic)) => Ok(None),
            Some(Err(code)) => Err(self.failed_code(code, "describe", what(), name)),
        }
    }

    fn create(
        &self,
        name: &str,
        partitions: i32,
        replication: i32,
        config: &[(String, String)],
    ) -> Result<bool, KafkaError> {
        let topic = config
            .iter()
            .fold(NewTopic::new(name, partitions, TopicReplication::Fixed(replication)), |topic, (key, value)| {
                topic.set(key, value)
            });
        let what = || format!("topic {name}");
        let answer = Handle::current()
            .block_on(self.writer()?.create_topics([&topic], &options()))
            .map_err(|error| self.failed(&error, "create", what()))?;
        match answer.into_iter().next() {
            Some(Ok(_)) | None => Ok(true),
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => {
                let reason = match code {
                    Code::InvalidReplicationFactor => format!(
                        "{replication} replicas are more than the cluster has brokers: lower kafka.replication_factor"
                    ),
                    Code::InvalidPartitions => format!("{partitions} partitions: correct kafka.partitions"),
                    Code::InvalidTopic => "kafka's names are made of letters, digits, '.', '_' and '-'".to_owned(),
                    Code::InvalidConfig => format!("the broker does not take its configuration {config:?}"),
                    Code::PolicyViolation => "the cluster's policy forbids it: create the topic yourself".to_owned(),
                    _ => return Err(self.failed_code(code, "create", what(), name)),
                };
                Err(KafkaError::Refused { operation: "create", what: what(), reason })
            }
        }
    }

    fn wait_for_leaders(&self, name: &str) -> Result<Found, KafkaError> {
        let deadline = Instant::now() + LEADER_TIME;
        loop {
            match self.describe(name)? {
                Some(found) if found.led && found.partitions > 0 => return Ok(found),
                _ if Instant::now() > deadline => {
                    let reason = format!("it has no leader for every partition after {LEADER_TIME:?}");
                    return Err(KafkaError::Unavailable { operation: "use", what: format!("topic {name}"), reason });
                }
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, KafkaError> {
        let (low, high) = self.client.fetch_watermarks(topic, partition, ANSWER_TIME).map_err(|error| {
            self.failed(&error, "read the offsets of", format!("topic {topic} partition {partition}"))
        })?;
        Ok(Watermarks { low, high })
    }

    fn writer(&self) -> Result<&AdminClient<Symptoms>, KafkaError> {
        if let Some(writer) = self.writer.get() {
            return Ok(writer);
        }
        let writer = client_config(&self.settings, "syncline-admin")
            .create_with_context(Symptoms::default())
            .map_err(KafkaError::from_creation)?;
        // Two threads may get here at once; the second one's client is dropped.
        Ok(self.writer.get_or_init(|| writer))
    }

    fn missing(&self, topic: &str) -> KafkaError {
        KafkaError::MissingTopic { topic: topic.to_owned(), servers: self.servers.clone() }
    }

    fn failed_code(&self, code: Code, operation: &'static str, what: String, topic: &str) -> KafkaError {
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => self.missing(topic),
            _ => failure(&self.client, &self.servers, code, operation, what),
        }
    }

    fn failed(&self, error: &ClientError, operation: &'static str, what: String) -> KafkaError {
        match error.rdkafka_error_code() {
            Some(code) => failure(&self.client, &self.servers, code, operation, what),
            None => KafkaError::Refused { operation, what, reason: error.to_string() },
        }
    }
}

fn info(found: Found) -> TopicInfo {
    TopicInfo { id: found.id, partitions: found.partitions }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER_TIME)).operation_timeout(Some(ANSWER_TIME))
}

/// Waits for a broker's first answer and returns the cluster's id. A refused login ends the wait at once; a refused
/// connection does not, since the broker may be starting.
///
/// It asks for metadata (of one topic or all) first, since waiting for the cluster's id alone may sleep through a
/// second before librdkafka connects.
pub(super) fn first_answer(
    client: &BaseConsumer<Symptoms>,
    servers: &str,
    topic: Option<&str>,
    patience: Duration,
) -> Result<String, KafkaError> {
    let deadline = Instant::now() + patience;
    if client.fetch_metadata(topic, Duration::from_secs(1)).is_ok() {
        return Ok(client.client().fetch_cluster_id(Duration::ZERO).unwrap_or_default());
    }
    loop {
        // The client goes on connecting by itself.
        if let Some(cluster_id) = client.client().fetch_cluster_id(Duration::from_millis(250)) {
            return Ok(cluster_id);
        }
        serve(client);
        let symptoms = client.client().context();
        if let Some(reason) = symptoms.login() {
            return Err(KafkaError::Login { servers: servers.to_owned(), reason });
        }
        if Instant::now() >= deadline {
            let reason = symptoms.connection().unwrap_or_else(|| format!("no answer within {patience:?}"));
            return Err(KafkaError::Unreachable { servers: servers.to_owned(), reason });
        }
        // The question above does not always wait.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The error for `code`, with what the client ran into where it only says that nobody answered.
pub(super) fn failure(
    client: &BaseConsumer<Symptoms>,
    servers: &str,
    code: Code,
    operation: &'static str,
    what: String,
) -> KafkaError {
    serve(client);
    let symptoms = client.client().context();
    if let Some(reason) = symptoms.login() {
        return KafkaError::Login { servers: servers.to_owned(), reason };
    }
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut => {
            let reason = symptoms.connection().unwrap_or_else(|| code.to_string());
            KafkaError::Unreachable { servers: servers.to_owned(), reason }
        }
        _ => KafkaError::from_code(code, operation, what, None),
    }
}

/// Lets the context see errors and log lines that wait in the client's queue.
fn serve(client: &BaseConsumer<Symptoms>) {
    for _ in 0..100 {
        if client.poll(Duration::ZERO).is_none() {
            return;
        }
    }
}

/// Repeats what the cluster cannot do at the moment, for as long as a broker has to answer: leaders that have just
/// moved, topics that have just been made.
pub(super) fn soon<T>(mut work: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let deadline = Instant::now() + ANSWER_TIME;
    loop {
        match work() {
            Err(KafkaError::Unavailable { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}

/// Runs work that blocks on librdkafka away from the async threads. When the caller stops waiting, it runs to its end.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, KafkaError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, KafkaError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is ending cancels such a task.
            Err(_) => Err(KafkaError::Client { reason: "the process is ending".to_owned() }),
        },
    }
}
