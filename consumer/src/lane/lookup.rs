//! What a lane asks of the world beside its target: Kafka's offsets, schemas, definitions. Asked in tasks of their
//! own, so that one partition's wait is not another's.

use std::sync::Arc;

use async_trait::async_trait;
use syncline_event::avro::frame::SchemaId;
use syncline_event::table::TableDefinition;
use syncline_runtime::retry::{Backoff, ErrorClass};
use tokio::task::JoinError;
use tokio::time::Instant;
use tracing::warn;

use super::{BLOCKED_PATIENCE, Lane, Slot, Stage};
use crate::decode::Need;
use crate::definitions::NEWEST;
use crate::error::ConsumerError;
use crate::handover::Place;
use crate::partition::Failure;
use crate::start::{self, InKafka, Start};
use crate::targets::{PartitionKey, Progress};

/// What a lane may ask.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// A schema of the registry.
    async fn schema(&self, id: SchemaId) -> Result<Arc<str>, LookupError>;

    /// The newest schema of a topic's values, under the subject that Kafka's serializers give it; `None` if there is none.
    async fn newest_value_schema(&self, topic: &str) -> Result<Option<SchemaId>, LookupError>;

    /// A table definition; `None` if no producer has published it.
    async fn definition(&self, topic: &str, number: u32) -> Result<Option<Arc<TableDefinition>>, LookupError>;

    /// A topic's id, and a partition's offsets.
    async fn partition(&self, topic: &str, partition: i32) -> Result<(String, InKafka), LookupError>;
}

/// Why there is no answer.
#[derive(Debug)]
pub struct LookupError {
    /// Whether to ask again, to stop what asked, or everything.
    pub class: ErrorClass,
    /// The cause.
    pub error: ConsumerError,
}

/// An answer.
pub(super) enum Found {
    Schema(SchemaId, Result<Arc<str>, LookupError>),
    Definition {
        topic: usize,
        number: u32,
        result: Result<Option<Arc<TableDefinition>>, LookupError>,
    },
    ValueSchema(usize, Result<Option<SchemaId>, LookupError>),
    Partition(Place, Result<(String, InKafka), LookupError>),
    /// The shutdown came first.
    Nothing,
}

impl Lane {
    /// A partition cannot be drafted before this is there.
    pub(super) fn block(&mut self, index: usize, need: Need) {
        if let Some(slot) = &mut self.slots[index] {
            slot.blocked = Some((need, Instant::now()));
        }
        if !self.asked.insert(need) {
            return;
        }
        let lookup = Arc::clone(&self.lookup);
        match need {
            Need::Schema(id) => {
                self.ask(
                    format!("reading schema {id}{}", self.place_of(index)),
                    move || {
                        let lookup = Arc::clone(&lookup);
                        async move { lookup.schema(id).await }
                    },
                    move |result| Found::Schema(id, result),
                );
            }
            Need::Definition { topic, number } => {
                let name = self.decoders.name(topic).to_owned();
                self.ask(
                    format!("reading a table definition{}", self.place_of(index)),
                    move || {
                        let (lookup, name) = (Arc::clone(&lookup), name.clone());
                        async move { lookup.definition(&name, number).await }
                    },
                    move |result| Found::Definition { topic, number, result },
                );
            }
            Need::ValueSchema { topic } => {
                let name = self.decoders.name(topic).to_owned();
                self.ask(
                    format!("reading the newest schema of the values of topic {name}"),
                    move || {
                        let (lookup, name) = (Arc::clone(&lookup), name.clone());
                        async move { lookup.newest_value_schema(&name).await }
                    },
                    move |result| Found::ValueSchema(topic, result),
                );
            }
            Need::Plan { .. } | Need::Described { .. } => self.of_target.push(need),
        }
    }

    /// The record that a partition is at, for a message.
    fn place_of(&self, index: usize) -> String {
        let Some(Slot { place, stage: Stage::Ready(partition), .. }) = &self.slots[index] else { return String::new() };
        let offset = partition.peek().map_or(partition.next_offset(), |record| record.offset);
        format!(" for topic {} partition {} offset {offset}", place.topic, place.partition)
    }

    /// Asks Kafka about a partition.
    pub(super) fn look(&mut self, place: Place) {
        let lookup = Arc::clone(&self.lookup);
        let asked = place.clone();
        self.ask(
            format!("reading the offsets of topic {} partition {}", place.topic, place.partition),
            move || {
                let (lookup, place) = (Arc::clone(&lookup), asked.clone());
                async move { lookup.partition(&place.topic, place.partition).await }
            },
            move |result| Found::Partition(place, result),
        );
    }

    /// Kafka does not hold what some partition asked for; it does not say which one.
    pub(super) fn recheck(&mut self) {
        let places: Vec<Place> = self.ready().map(|(_, slot, _)| slot.place.clone()).collect();
        for place in places {
            self.look(place);
        }
    }

    /// Asks for as long as it takes.
    fn ask<T, F, Fut>(
        &mut self,
        what: String,
        attempt: F,
        found: impl FnOnce(Result<T, LookupError>) -> Found + Send + 'static,
    ) where
        T: Send + 'static,
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, LookupError>> + Send + 'static,
    {
        let shutdown = self.shutdown.clone();
        self.lookups.spawn(async move {
            let mut backoff = Backoff::default();
            loop {
                match attempt().await {
                    Err(LookupError { class: ErrorClass::Transient, error }) => {
                        warn!(%error, "{what} failed, trying again");
                        if !backoff.wait(&shutdown).await {
                            return Found::Nothing;
                        }
                    }
                    result => return found(result),
                }
            }
        });
    }

    pub(super) fn on_found(&mut self, found: Result<Found, JoinError>) -> Result<(), ConsumerError> {
        let found = found.map_err(|error| ConsumerError::Task { task: "lookup", reason: error.to_string() })?;
        match found {
            Found::Schema(id, result) => {
                let need = Need::Schema(id);
                match result {
                    Ok(text) => self.decoders.add_schema(id, text),
                    // Even a registry that does not let us in concerns only the records that need this schema.
                    Err(error) => self.decoders.give_up(need, error.error.to_string()),
                }
                self.unblock(need);
            }
            Found::Definition { topic, number, result } => {
                let need = Need::Definition { topic, number };
                match result {
                    Ok(Some(definition)) => self.decoders.add_definition(topic, number, definition),
                    Ok(None) => {
                        let which = if number == NEWEST { String::new() } else { format!(" number {number}") };
                        let reason = format!(
                            "no producer has published table definition{which} of topic {}; its topic of table \
                             definitions was deleted or belongs to another prefix: run `syncline resync --source`",
                            self.decoders.name(topic)
                        );
                        self.decoders.give_up(need, reason);
                    }
                    Err(error) => self.give_up(need, error)?,
                }
                self.unblock(need);
            }
            Found::ValueSchema(topic, result) => {
                let need = Need::ValueSchema { topic };
                match result {
                    Ok(schema) => self.decoders.add_newest_value(topic, schema),
                    Err(error) => self.decoders.give_up(need, error.error.to_string()),
                }
                self.unblock(need);
            }
            Found::Partition(place, result) => self.on_partition(&place, result)?,
            Found::Nothing => {}
        }
        Ok(())
    }

    fn on_partition(
        &mut self,
        place: &Place,
        result: Result<(String, InKafka), LookupError>,
    ) -> Result<(), ConsumerError> {
        let Some(index) = self.slot_of(place) else { return Ok(()) };
        let (topic_id, kafka) = match result {
            Ok(found) => found,
            Err(LookupError { class: ErrorClass::BadRecord, error }) => {
                // The topic is gone; the group will tell.
                warn!(%error, topic = place.topic, partition = place.partition, "partition cannot be looked up");
                return Ok(());
            }
            Err(LookupError { error, .. }) => return Err(error),
        };
        let key = PartitionKey {
            group: self.settings.group.clone(),
            cluster_id: self.settings.cluster_id.clone(),
            topic: place.topic.clone(),
            topic_id,
            partition: place.partition,
        };
        let Some(slot) = &mut self.slots[index] else { return Ok(()) };
        match &mut slot.stage {
            Stage::Looking => slot.stage = Stage::Looked(key, kafka),
            Stage::Looked(..) => {}
            Stage::Ready(partition) => {
                let row = Progress {
                    next_offset: if key == partition.key { partition.next_offset() } else { 0 },
                    position: None,
                    waits_for: None,
                    stopped: None,
                };
                let rows = [partition.key.clone()];
                let kafka = InKafka { committed: None, ..kafka };
                if let Start::Stop(reason) = start::decide(&key, &row, &rows, kafka) {
                    let offset = partition.next_offset();
                    self.discard_draft();
                    if let Some(partition) = self.partition_mut(index) {
                        partition.fail(Failure { offset, reason });
                    }
                }
            }
        }
        Ok(())
    }

    fn give_up(&mut self, need: Need, error: LookupError) -> Result<(), ConsumerError> {
        match error.class {
            ErrorClass::BadRecord | ErrorClass::Transient => {
                self.decoders.give_up(need, error.error.to_string());
                Ok(())
            }
            ErrorClass::Fatal => Err(error.error),
        }
    }

    /// What partitions waited for is there, or never will be.
    pub(super) fn unblock(&mut self, need: Need) {
        self.asked.remove(&need);
        for index in 0..self.slots.len() {
            let Some(slot) = &mut self.slots[index] else { continue };
            if slot.blocked.is_some_and(|(blocked, _)| blocked == need) {
                slot.blocked = None;
                if slot.run == 0 && matches!(&slot.stage, Stage::Ready(partition) if partition.drafts()) {
                    self.fetch(index);
                }
            }
        }
    }

    /// Partitions that wait for long do not keep the lane's bytes from the others.
    pub(super) fn hold_blocked(&mut self) {
        for index in 0..self.slots.len() {
            let Some(Slot { stage: Stage::Ready(partition), blocked: Some((_, since)), run, .. }) =
                &mut self.slots[index]
            else {
                continue;
            };
            if *run != 0 && since.elapsed() > BLOCKED_PATIENCE && partition.moves().is_none() {
                partition.drop_queue();
                self.hold(index);
            }
        }
    }
}
