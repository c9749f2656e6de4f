//! The poll thread: from Kafka into the lanes, and offsets back to Kafka.
//!
//! It owns the consumer and does nothing slow: it copies records into chunks, hands them to the lanes, and keeps
//! polling whatever the lanes do, so that the group never takes a slow target for a dead member. A partition is
//! fetched from where the target's progress says, which its lane finds out first: until then it is ours but not
//! fetched. A lane that holds too many bytes is not fetched for either.

mod context;
mod members;

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};
use syncline_event::avro::frame::{self, Part};
use syncline_event::header::HEADER_NAME;
use syncline_runtime::kafka::{KafkaError, client_config};
use syncline_runtime::settings::KafkaSettings;
use tokio::sync::oneshot;
use tracing::{Span, debug, warn};

use self::context::PollContext;
pub use self::members::LaneDoor;
use self::members::Members;
use crate::chunk::{NamedSchemas, Record};
use crate::error::ConsumerError;
use crate::handover::{Command, Event, Place};

/// How long a poll waits when nothing is going on.
const IDLE: Duration = Duration::from_millis(100);
/// The same while commands are expected.
const EXPECTING: Duration = Duration::from_millis(5);
/// How often Kafka is told what is finished.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a full lane is waited for before its partitions are paused: a pause throws away what was fetched ahead.
const PATIENCE: Duration = Duration::from_millis(200);
/// Records taken in before all lanes get what there is for them.
const BURST: usize = 4096;

/// The client's settings for the group.
fn settings(kafka: &KafkaSettings, group: &str) -> rdkafka::ClientConfig {
    let mut config = client_config(kafka, "syncline-consumer");
    let mut default = |name: &str, value: &str| {
        if !kafka.properties.contains_key(name) {
            config.set(name, value);
        }
    };
    // What is fetched ahead, beside what the lanes hold.
    default("queued.max.messages.kbytes", "16384");
    default("queued.min.messages", "20000");
    default("fetch.queue.backoff.ms", "50");
    default("session.timeout.ms", "10000");
    // Far above the longest stretch between two polls: a synchronous commit while the coordinator moves.
    default("max.poll.interval.ms", "900000");
    config
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("isolation.level", "read_committed")
        .set("statistics.interval.ms", "1000");
    config
}

/// The ends of the poll thread's life.
pub struct Polling {
    /// What ended the polling: [`Command::End`], or an error. Offsets have been committed by then.
    pub ended: oneshot::Receiver<Result<(), ConsumerError>>,
    /// The group has been left.
    pub left: oneshot::Receiver<()>,
}

/// Starts the poll thread.
///
/// # Errors
///
/// Settings that the client does not take.
pub fn start(
    kafka: &KafkaSettings,
    group: &str,
    lanes: Vec<LaneDoor>,
    commands: Receiver<Command>,
    stats: std::sync::Arc<crate::stats::Stats>,
) -> Result<Polling, ConsumerError> {
    let context = PollContext::new(Members::new(lanes, commands), stats);
    let consumer: BaseConsumer<PollContext> =
        settings(kafka, group).create_with_context(context).map_err(KafkaError::from_creation)?;
    let (end, ended) = oneshot::channel();
    let (leave, left) = oneshot::channel();
    let span = Span::current();
    std::thread::Builder::new()
        .name("kafka-poll".into())
        .spawn(move || {
            let _inside = span.entered();
            let result = poll(&consumer);
            let waited = end.send(result).is_ok();
            // Leaving the group takes a moment.
            drop(consumer);
            if !waited || leave.send(()).is_err() {
                debug!("nobody waits for the poll thread any more");
            }
        })
        .map_err(|error| ConsumerError::Task { task: "poll thread", reason: error.to_string() })?;
    Ok(Polling { ended, left })
}

/// Where commands of the loop are kept between its rounds.
struct Loop {
    last_commit: Instant,
    full_since: Option<Instant>,
    burst: usize,
}

fn poll(consumer: &BaseConsumer<PollContext>) -> Result<(), ConsumerError> {
    let mut state = Loop { last_commit: Instant::now(), full_since: None, burst: 0 };
    loop {
        let context = consumer.context();
        let mut members = context.members();
        if obey(consumer, &mut members)? {
            members.flush_all();
            commit(consumer, &mut members);
            return Ok(());
        }
        if state.last_commit.elapsed() >= COMMIT_INTERVAL {
            commit(consumer, &mut members);
            state.last_commit = Instant::now();
        }
        if hold_back(consumer, &mut members, &mut state) {
            drop(members);
            std::thread::sleep(EXPECTING);
            continue;
        }
        let timeout = match (state.burst, members.expects_commands()) {
            (1.., _) => Duration::ZERO,
            (0, true) => EXPECTING,
            (0, false) => IDLE,
        };
        // The rebalance callback runs inside the poll and needs the members.
        drop(members);
        match consumer.poll(timeout) {
            Some(Ok(message)) => {
                let mut members = consumer.context().members();
                take(&mut members, &message);
                state.burst += 1;
                if state.burst >= BURST {
                    members.flush_all();
                    state.burst = 1;
                }
            }
            Some(Err(error)) => failed(consumer, error)?,
            None => {
                consumer.context().members().flush_all();
                state.burst = 0;
            }
        }
    }
}

fn take(members: &mut Members, message: &BorrowedMessage<'_>) {
    let (mut header, mut named) = (None, Ok(NamedSchemas::default()));
    for found in message.headers().into_iter().flat_map(Headers::iter) {
        // A header without a value is malformed, not absent.
        let value = found.value.unwrap_or_default();
        if found.key == HEADER_NAME {
            header.get_or_insert(value);
        } else if let Some(schema) = frame::from_header(found.key, value) {
            named = named.and_then(|named| {
                let (part, id) = schema?;
                Ok(match part {
                    Part::Key => NamedSchemas { key: Some(id), ..named },
                    Part::Value => NamedSchemas { value: Some(id), ..named },
                })
            });
        }
    }
    let record = Record { offset: message.offset(), key: message.key(), value: message.payload(), header, named };
    members.push(message.topic(), message.partition(), record);
}

/// Does what was asked for. True: end.
fn obey(consumer: &BaseConsumer<PollContext>, members: &mut Members) -> Result<bool, ConsumerError> {
    while let Some(command) = members.next_command() {
        match command {
            Command::Subscribe(topics) => {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                if topics.is_empty() {
                    consumer.unsubscribe();
                } else {
                    consumer.subscribe(&topics).map_err(|error| ConsumerError::Topics(error.to_string()))?;
                }
            }
            Command::Fetch { place, run, offset } => {
                let Some(held) = members.held(&place) else { continue };
                let was_fetched = std::mem::replace(&mut held.fetched, false);
                let was_paused = std::mem::replace(&mut held.paused, false);
                let list = one(&place, Some(offset));
                if was_fetched {
                    ignore("unassign", consumer.incremental_unassign(&one(&place, None)));
                }
                if was_paused {
                    ignore("resume", consumer.resume(&one(&place, None)));
                }
                match consumer.incremental_assign(&list) {
                    Ok(()) => members.fetches(&place, run),
                    // Only while the group is leaving us; the revocation is on its way.
                    Err(error) => warn!(%error, topic = place.topic, partition = place.partition, "cannot fetch"),
                }
            }
            Command::Hold { place } => {
                if members.holds(&place) {
                    ignore("unassign", consumer.incremental_unassign(&one(&place, None)));
                }
            }
            Command::Own { .. } | Command::Finish { .. } => members.note(command),
            Command::End => return Ok(true),
        }
    }
    Ok(false)
}

/// Keeps lanes from holding too many bytes. True: wait a moment before the next poll.
fn hold_back(consumer: &BaseConsumer<PollContext>, members: &mut Members, state: &mut Loop) -> bool {
    let full = members.full_lanes();
    if full {
        // A full lane must have all there is for it, or it waits for us while we wait for it.
        members.flush_all();
        let since = *state.full_since.get_or_insert_with(Instant::now);
        if since.elapsed() < PATIENCE {
            return true;
        }
    }
    state.full_since = None;
    let (pause, resume) = members.pauses();
    if pause.count() > 0 {
        ignore("pause", consumer.pause(&pause));
    }
    if resume.count() > 0 {
        ignore("resume", consumer.resume(&resume));
    }
    false
}

/// Tells Kafka what is finished.
fn commit(consumer: &BaseConsumer<PollContext>, members: &mut Members) {
    let offsets = members.commits.take();
    if offsets.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for ((topic, partition), offset) in &offsets {
        ignore("commit", list.add_partition_offset(topic, *partition, Offset::Offset(*offset)));
    }
    match consumer.commit(&list, CommitMode::Sync) {
        Ok(()) | Err(ClientError::ConsumerCommit(Code::NoOffset)) => {}
        Err(error) => {
            debug!(%error, "offsets not committed, trying again");
            members.commits.give_back(offsets);
        }
    }
}

/// What the client says that is no record.
fn failed(consumer: &BaseConsumer<PollContext>, error: ClientError) -> Result<(), ConsumerError> {
    let what = || "the consumer group".to_owned();
    match error {
        ClientError::MessageConsumption(
            Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId,
        ) => {
            debug!(%error, "a partition is not as expected");
            consumer.context().members().tell_all(|| Event::Recheck);
            Ok(())
        }
        ClientError::MessageConsumption(
            code @ (Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed),
        ) => Err(KafkaError::Refused { operation: "read", what: what(), reason: code.to_string() }.into()),
        ClientError::MessageConsumptionFatal(code) => {
            Err(KafkaError::Refused { operation: "go on with", what: what(), reason: code.to_string() }.into())
        }
        other => {
            debug!(error = %other, "kafka");
            Ok(())
        }
    }
}

fn one(place: &Place, offset: Option<i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    let mut element = list.add_partition(&place.topic, place.partition);
    if let Some(offset) = offset {
        ignore("assign", element.set_offset(Offset::Offset(offset)));
    }
    list
}

/// For calls that fail only when the partition is not ours any more, which the group tells us anyway.
fn ignore<T>(what: &str, result: Result<T, ClientError>) {
    if let Err(error) = result {
        debug!(%error, "{what}");
    }
}
