//! What a lane does with its writer between two transactions.

use syncline_runtime::retry::ErrorClass;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{BARRIER_INTERVAL, Lane, Stage, WriterState};
use crate::decode::Need;
use crate::error::ConsumerError;
use crate::handover::Command;
use crate::partition::{Failure, Partition, State};
use crate::start::{self, InKafka, Note, Start};
use crate::stats::PartitionStats;
use crate::targets::{PartitionKey, TargetError};

impl Lane {
    /// Opens a writer if there is none and an attempt is due.
    pub(super) async fn open_writer(&mut self) -> Result<(), ConsumerError> {
        let WriterState::Closed(due) = self.writer else { return Ok(()) };
        if Instant::now() < due {
            return Ok(());
        }
        match self.target.writer().await {
            Ok(writer) => self.writer = WriterState::Idle(writer),
            Err(error) => self.on_service_error("connecting to the target", error)?,
        }
        Ok(())
    }

    /// Everything that needs the writer and is due. An error that is waited out ends it; the rest follows later.
    pub(super) async fn serve(&mut self) -> Result<(), ConsumerError> {
        self.hold_blocked();
        if !matches!(self.writer, WriterState::Idle(_)) {
            return Ok(());
        }
        self.answer_revocations();
        self.start_partitions().await?;
        self.ask_target().await?;
        self.settle_unsure().await?;
        self.note_failures().await?;
        self.settle_waiting().await?;
        self.ask_barriers().await
    }

    /// Settles what waits for changes of the node that is written to.
    async fn settle_waiting(&mut self) -> Result<(), ConsumerError> {
        if self.settings.node.is_none() || self.settled.elapsed() < BARRIER_INTERVAL {
            return Ok(());
        }
        let waiting: Vec<(usize, PartitionKey)> = self
            .ready()
            .filter(|(_, slot, partition)| slot.waits && partition.state != State::Unsure)
            .map(|(index, _, partition)| (index, partition.key.clone()))
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let WriterState::Idle(writer) = &mut self.writer else { return Ok(()) };
        let partitions: Vec<PartitionKey> = waiting.iter().map(|(_, key)| key.clone()).collect();
        self.settled = Instant::now();
        let contested = match writer.settle(&partitions).await {
            Ok(contested) => contested,
            Err(error) => return self.on_service_error("settling what waits for the node's own changes", error),
        };
        if contested.set_aside == 0 {
            for (index, _) in waiting {
                if let Some(slot) = &mut self.slots[index] {
                    slot.waits = false;
                }
            }
        }
        self.note_contested(&contested);
        Ok(())
    }

    async fn start_partitions(&mut self) -> Result<(), ConsumerError> {
        for index in 0..self.slots.len() {
            let Some(slot) = &self.slots[index] else { continue };
            let Stage::Looked(key, kafka) = &slot.stage else { continue };
            let (key, kafka) = (key.clone(), *kafka);
            if let Err(error) = self.start_partition(index, key, kafka).await {
                return self.on_service_error("reading progress", error);
            }
        }
        Ok(())
    }

    async fn start_partition(&mut self, index: usize, key: PartitionKey, kafka: InKafka) -> Result<(), TargetError> {
        let WriterState::Idle(writer) = &mut self.writer else { return Ok(()) };
        let rows = writer.topic_progress(&key.group, &key.cluster_id, &key.topic).await?;
        let rows: Vec<PartitionKey> = rows.into_iter().map(|(row, _)| row).collect();
        let (progress, _) = writer.progress(&key).await?;
        let next = progress.next_offset;
        let start = start::decide(&key, &progress, &rows, kafka);
        if progress.stopped.is_some() {
            // It is tried again: someone may have acted.
            writer.note_stop(&key, None).await?;
        }
        let topic = self.decoders.topic(&key.topic);
        let mut partition = Partition::new(key.clone(), topic, &progress);
        if let Start::Stop(reason) = &start {
            partition.fail(Failure { offset: next, reason: reason.clone() });
        }
        let (fetches, waiting) = (partition.drafts(), partition.is_waiting());
        let Some(slot) = &mut self.slots[index] else { return Ok(()) };
        slot.stage = Stage::Ready(Box::new(partition));
        let place = slot.place.clone();
        let stats = PartitionStats {
            table: key.topic.clone(),
            next_offset: next,
            end_offset: Some(kafka.high),
            waiting,
            stopped: None,
        };
        self.stats.update(|state| {
            state.partitions.insert((key.topic.clone(), key.partition), stats);
        });
        let (topic, partition) = (&key.topic, key.partition);
        match start {
            Start::Stop(_) => return Ok(()),
            Start::Go(Note::Nothing) => info!(topic, partition, offset = next, "partition starts"),
            Start::Go(Note::Rewinds) => warn!(
                topic,
                partition,
                offset = next,
                committed = kafka.committed,
                "the target is behind the group's offset (was it restored?), applying again from where the target is"
            ),
            Start::Go(Note::Overrules) => info!(
                topic,
                partition,
                offset = next,
                committed = kafka.committed,
                "the target is ahead of the group's offset and wins; to apply records again use `syncline resync \
                 --topic … --from …`"
            ),
        }
        self.tell(Command::Own { place, next_offset: next, committed: kafka.committed });
        if fetches {
            self.fetch(index);
        }
        Ok(())
    }

    /// Asks the target what records wait for.
    async fn ask_target(&mut self) -> Result<(), ConsumerError> {
        while let Some(need) = self.of_target.last().copied() {
            let WriterState::Idle(writer) = &mut self.writer else { return Ok(()) };
            let answer = match need {
                Need::Plan { topic, definition, route } => {
                    match self.decoders.routed(topic, definition, route).cloned() {
                        Some(table) => writer.plan(&table).await.map(|plan| self.decoders.add_plan(topic, route, plan)),
                        None => Ok(()),
                    }
                }
                Need::Described { topic } => {
                    let (schema, table) = self.decoders.target_table(topic);
                    let name = self.decoders.name(topic);
                    let described = writer.describe(name, &schema, &table).await;
                    described.map(|definition| self.decoders.add_described(topic, definition))
                }
                Need::Schema(_) | Need::ValueSchema { .. } | Need::Definition { .. } => Ok(()),
            };
            match answer {
                Ok(()) => {}
                Err(error) if error.class == ErrorClass::BadRecord => self.decoders.give_up(need, error.to_string()),
                Err(error) => return self.on_service_error("comparing a table", error),
            }
            self.of_target.pop();
            self.unblock(need);
        }
        Ok(())
    }

    /// Reads the rows that may have moved.
    async fn settle_unsure(&mut self) -> Result<(), ConsumerError> {
        for index in 0..self.slots.len() {
            let Some(partition) = self.partition_mut(index) else { continue };
            if partition.state != State::Unsure {
                continue;
            }
            let key = partition.key.clone();
            let WriterState::Idle(writer) = &mut self.writer else { return Ok(()) };
            let progress = match writer.progress(&key).await {
                Ok((progress, _)) => progress,
                Err(error) => return self.on_service_error("reading progress", error),
            };
            let Some(partition) = self.partition_mut(index) else { continue };
            let before = partition.next_offset();
            let holds = partition.settle(&progress);
            let (next, fetches, waiting) = (partition.next_offset(), partition.drafts(), partition.is_waiting());
            self.finished(index, before, next, waiting);
            // What was queued may have been dropped meanwhile, for lack of a schema.
            let fetched = self.slots[index].as_ref().is_some_and(|slot| slot.run != 0);
            match (fetches, holds && fetched) {
                (true, true) => {}
                (true, false) => self.fetch(index),
                (false, _) => self.hold(index),
            }
        }
        Ok(())
    }

    /// Stops partitions whose next record cannot be applied.
    async fn note_failures(&mut self) -> Result<(), ConsumerError> {
        for index in 0..self.slots.len() {
            let Some(partition) = self.partition_mut(index) else { continue };
            let Some(failure) = partition.due_failure().cloned() else { continue };
            let (key, topic) = (partition.key.clone(), partition.topic);
            let table = self.decoders.table_name(topic);
            let WriterState::Idle(writer) = &mut self.writer else { return Ok(()) };
            let reason = format!("offset {}: {}", failure.offset, failure.reason);
            if let Err(error) = writer.note_stop(&key, Some(&reason)).await {
                return self.on_service_error("noting a stop", error);
            }
            let Some(partition) = self.partition_mut(index) else { continue };
            // A partition that stops at its first record has not been written under its table's name yet.
            if let Some(table) = table {
                partition.table = table;
            }
            error!(
                topic = key.topic,
                partition = key.partition,
                offset = failure.offset,
                table = partition.table,
                error = failure.reason,
                "partition stopped, other partitions go on"
            );
            let table = partition.table.clone();
            partition.stop(failure.clone());
            self.stats.partition(&key.topic, key.partition, |stats| {
                stats.table = table;
                stats.stopped = Some((failure.offset, failure.reason));
            });
            self.hold(index);
        }
        Ok(())
    }

    /// Asks for the barriers that partitions wait at.
    async fn ask_barriers(&mut self) -> Result<(), ConsumerError> {
        if self.barriers_asked.elapsed() < BARRIER_INTERVAL {
            return Ok(());
        }
        for index in 0..self.slots.len() {
            let Some(partition) = self.partition_mut(index) else { continue };
            let State::Waiting(marker) = partition.state else { continue };
            let key = partition.key.clone();
            let WriterState::Idle(writer) = &mut self.writer else { return Ok(()) };
            self.barriers_asked = Instant::now();
            match writer.barrier_released(&key, marker).await {
                Ok(false) => {}
                Ok(true) => {
                    if let Some(partition) = self.partition_mut(index) {
                        partition.resume();
                    }
                    self.stats.partition(&key.topic, key.partition, |stats| stats.waiting = false);
                    self.fetch(index);
                }
                Err(error) => return self.on_service_error("asking for a barrier", error),
            }
        }
        Ok(())
    }
}
