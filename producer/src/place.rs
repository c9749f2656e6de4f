//! Keeps the producer's place: log positions behind their records, checkpoints behind the positions, the slot behind
//! the checkpoints.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::message::OwnedHeaders;

use crate::checkpoint::{Checkpoint, CheckpointKey, TopicCheckpoint};
use crate::error::ProducerError;
use crate::incremental::state::State;
use crate::node::Mark;
use crate::publish::{Publisher, Record, Topic};
use crate::tracker::Milestones;

/// How often a checkpoint is written while the log moves on. An idle source whose other databases are busy moves
/// without records; its checkpoints are rarer.
const INTERVAL: Duration = Duration::from_secs(1);
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// Ends of transactions on their way into the checkpoint: each with what a node knew there, so that both are of one
/// place in the log whenever they are reached.
#[derive(Debug, Default)]
pub(crate) struct Passages {
    waiting: Milestones<(u64, Option<Mark>)>,
    last: u64,
}

impl Passages {
    /// Begins at `lsn`.
    pub(crate) fn starting_at(lsn: u64) -> Self {
        Self { waiting: Milestones::default(), last: lsn }
    }

    /// Everything that has a number below `next` lies before `lsn`. A position behind the last one is passed over: a
    /// keepalive that the server sends while a transaction goes out may tell where it stood before.
    pub(crate) fn push(&mut self, next: u64, lsn: u64, mark: Option<Mark>) {
        if lsn >= self.last {
            self.last = lsn;
            self.waiting.push(next, (lsn, mark));
        }
    }

    /// The last one whose records are all acknowledged.
    pub(crate) fn reach(&mut self, prefix: u64) -> Option<(u64, Option<Mark>)> {
        self.waiting.reach(prefix)
    }
}

/// The place of one life of a producer.
pub struct Place {
    topic: Topic,
    key: Vec<u8>,
    checkpoint: Checkpoint,
    interval: Duration,
    /// Ends of transactions, reached when their records are acknowledged.
    passed: Passages,
    /// Positions in checkpoints, reached when the checkpoint is acknowledged.
    written: Milestones<u64>,
    /// States of incremental snapshots, reached when the records they count are acknowledged.
    noted: Milestones<State>,
    /// Everything up to here is acknowledged.
    acknowledged: u64,
    /// What a node knew there.
    mark: Option<Mark>,
    /// The checkpoint's state of incremental snapshots is not written yet.
    unwritten: bool,
    /// Record number at the last checkpoint, to tell an idle log from a moving one.
    records_at_write: u64,
    last_write: Instant,
}

impl Place {
    /// Takes the place `checkpoint` describes; nothing is written yet.
    ///
    /// # Errors
    ///
    /// None that data can cause.
    pub fn new(topic: String, slot: &str, checkpoint: Checkpoint, longest: Duration) -> Result<Self, ProducerError> {
        let key = CheckpointKey { slot: slot.to_owned(), term: checkpoint.term };
        Ok(Self {
            topic: Topic::new(topic, 1),
            key: serde_json::to_vec(&key).map_err(ProducerError::unserializable)?,
            acknowledged: checkpoint.lsn,
            passed: Passages::starting_at(checkpoint.lsn),
            mark: None,
            checkpoint,
            interval: INTERVAL.min(longest),
            written: Milestones::default(),
            noted: Milestones::default(),
            unwritten: false,
            records_at_write: 0,
            last_write: Instant::now(),
        })
    }

    /// The checkpoint as last written or about to be.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Changes the checkpoint and waits until it is acknowledged. Before the log is followed only.
    ///
    /// # Errors
    ///
    /// Kafka.
    pub async fn write_now(
        &mut self,
        publisher: &Publisher,
        change: impl FnOnce(&mut Checkpoint),
    ) -> Result<(), ProducerError> {
        change(&mut self.checkpoint);
        self.acknowledged = self.checkpoint.lsn;
        self.passed = Passages::starting_at(self.checkpoint.lsn);
        let number = self.write(publisher).await?;
        publisher.acknowledged(number).await
    }

    /// Forgets an outdated term's record.
    ///
    /// # Errors
    ///
    /// Kafka.
    pub async fn forget(&mut self, publisher: &Publisher, slot: &str, term: u64) -> Result<(), ProducerError> {
        let key = CheckpointKey { slot: slot.to_owned(), term };
        let key = serde_json::to_vec(&key).map_err(ProducerError::unserializable)?;
        let record = Record { partition: 0, key: Some(&key), value: None, headers: OwnedHeaders::new() };
        publisher.send(&mut self.topic, record).await?;
        Ok(())
    }

    /// Everything enqueued so far lies before `lsn`, where a node knows this much.
    pub fn pass(&mut self, publisher: &Publisher, lsn: u64, mark: Option<Mark>) {
        self.passed.push(publisher.next(), lsn, mark);
    }

    /// Incremental snapshots are this far with everything enqueued so far.
    pub fn note(&mut self, publisher: &Publisher, state: State) {
        self.noted.push(publisher.next(), state);
    }

    /// Everything up to here is acknowledged by Kafka.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Takes note of acknowledgements and writes a checkpoint where one is due (or at once). Gives the position up to
    /// which the slot may be confirmed, where it moved.
    ///
    /// # Errors
    ///
    /// Kafka.
    pub async fn advance(
        &mut self,
        publisher: &Publisher,
        topics: impl FnOnce() -> BTreeMap<String, TopicCheckpoint>,
        at_once: bool,
    ) -> Result<Option<u64>, ProducerError> {
        let prefix = publisher.prefix();
        if let Some((lsn, mark)) = self.passed.reach(prefix) {
            (self.acknowledged, self.mark) = (lsn, mark);
        }
        if let Some(state) = self.noted.reach(prefix) {
            self.unwritten |= state != self.checkpoint.incremental;
            self.checkpoint.incremental = state;
        }
        if (self.acknowledged > self.checkpoint.lsn || self.unwritten) && (at_once || self.is_due(publisher)) {
            self.checkpoint.lsn = self.acknowledged;
            if let (Some(node), Some(mark)) = (&mut self.checkpoint.node, &self.mark) {
                node.note(mark);
            }
            self.checkpoint.topics = topics();
            let lsn = self.checkpoint.lsn;
            self.checkpoint.adopted.take_if(|adopted| lsn >= adopted.until);
            let number = self.write(publisher).await?;
            self.written.push(number + 1, self.checkpoint.lsn);
        }
        Ok(self.written.reach(prefix))
    }

    fn is_due(&self, publisher: &Publisher) -> bool {
        let idle = publisher.next() == self.records_at_write && !self.unwritten;
        self.last_write.elapsed() >= if idle { IDLE_INTERVAL.max(self.interval) } else { self.interval }
    }

    async fn write(&mut self, publisher: &Publisher) -> Result<u64, ProducerError> {
        self.checkpoint.version = self.checkpoint.needed_version();
        self.unwritten = false;
        let value = serde_json::to_vec(&self.checkpoint).map_err(ProducerError::unserializable)?;
        let record = Record { partition: 0, key: Some(&self.key), value: Some(&value), headers: OwnedHeaders::new() };
        let number = publisher.send(&mut self.topic, record).await?;
        self.records_at_write = publisher.next();
        self.last_write = Instant::now();
        Ok(number)
    }
}
