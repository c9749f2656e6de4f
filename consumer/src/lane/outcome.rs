//! What became of a transaction, and what to do about errors of the target: here and nowhere else.

use std::time::Duration;

use syncline_runtime::metrics;
use syncline_runtime::retry::Action;
use tokio::task::JoinError;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::drafting::now_us;
use super::{Done, Filled, Lane, SLICE, Slot, Stage, WriterState};
use crate::batch::Limits;
use crate::draft::{Launch, Slice, Stop};
use crate::error::ConsumerError;
use crate::handover::{Command, Place};
use crate::partition::{Failure, State};
use crate::targets::{Contested, TargetError, Written};

/// A partition whose next records failed together with others: they are tried without the others, then fewer of them,
/// until the one that fails is found.
pub(super) struct Isolation {
    pub(super) slot: usize,
    pub(super) place: Place,
    /// Behind the last record of the batch that failed.
    until: i64,
    /// Most changes to try at once.
    changes: usize,
    /// Attempts at a single change.
    attempts: u32,
    /// Not before.
    pub(super) pause_until: Option<Instant>,
}

/// The pause before a single record is tried again, times the attempts so far.
const RECORD_PAUSE: Duration = Duration::from_millis(200);
/// The pause after someone else was found to own a partition.
const FENCED_PAUSE: Duration = Duration::from_millis(50);

/// How far another node's clock may be ahead before people are told, and how often they are.
const MOST_AHEAD: Duration = Duration::from_secs(10);
const CLOCK_PAUSE: Duration = Duration::from_secs(60);

/// How far a stamp is ahead of now, both in microseconds since 1970.
fn ahead(clock_us: u64, now_us: i64) -> Duration {
    Duration::from_micros(clock_us.saturating_sub(now_us.unsigned_abs()))
}

impl Lane {
    /// A transaction has ended.
    pub(super) fn on_done(&mut self, done: Result<Done, JoinError>) -> Result<(), ConsumerError> {
        // The handle must not be polled again.
        self.writer = WriterState::Closed(Instant::now());
        let Done { writer, launch, result } =
            done.map_err(|error| ConsumerError::Task { task: "writer", reason: error.to_string() })?;
        self.writer = WriterState::Idle(writer);
        match result {
            Ok(Written::Applied { released, contested }) => self.on_applied(&launch, &released, &contested),
            Ok(Written::Fenced) => {
                warn!(
                    partitions = launch.members.len(),
                    "a partition's progress was moved by someone else, reading it again"
                );
                self.isolation.clear();
                self.abandon(&launch);
                self.pause(FENCED_PAUSE);
            }
            Err(error) => self.on_write_error(&launch, error)?,
        }
        self.draft.recycle(launch);
        self.answer_revocations();
        Ok(())
    }

    fn on_applied(&mut self, launch: &Launch, released: &[bool], contested: &Contested) {
        self.backoff.reset();
        for (member, (index, counts)) in launch.members.iter().enumerate() {
            let (from, to) = (launch.moves()[member].from, launch.moves()[member].to);
            let released = launch.released(member, released);
            if let Some(slot) = &mut self.slots[*index] {
                slot.waits |= contested.set_aside > 0;
            }
            let Some(partition) = self.partition_mut(*index) else { continue };
            let topic = partition.topic;
            let table = self.decoders.table_name(topic).filter(|_| counts.taken > 0);
            let Some(partition) = self.partition_mut(*index) else { continue };
            partition.commit(released);
            if let Some(table) = table {
                partition.table = table;
            }
            let (waiting, table) = (partition.is_waiting(), partition.table.clone());
            let source_time_us = self.decoders.source_time_us(topic);
            let name = self.decoders.name(topic);
            self.stats.update(|state| {
                if table == name && counts.taken == 0 {
                    // Markers only: the table is not known yet.
                    return;
                }
                let table = state.tables.entry(table).or_default();
                table.applied += counts.taken;
                table.repeated += counts.repeated;
                table.outdated += counts.outdated;
                table.bytes += counts.bytes;
                table.source_time_us = table.source_time_us.max(source_time_us);
            });
            if counts.outdated > 0
                && let Some(slot @ Slot { warned: false, .. }) = &mut self.slots[*index]
            {
                slot.warned = true;
                warn!(
                    topic = slot.place.topic,
                    partition = slot.place.partition,
                    records = counts.outdated,
                    "records of an epoch that is over were passed over: an earlier producer is still sending"
                );
            }
            self.finished(*index, from, to, waiting);
            if waiting {
                self.hold(*index);
            }
        }
        self.stats.update(|state| {
            state.last_commit = Some(std::time::Instant::now());
            state.commits += 1;
        });
        self.note_contested(contested);
        let Some(isolation) = self.isolation.front_mut() else { return };
        isolation.attempts = 0;
        let until = isolation.until;
        let slot = isolation.slot;
        if self.partition_mut(slot).is_none_or(|partition| partition.next_offset() >= until) {
            self.isolation.pop_front();
        }
    }

    /// Counts what was written down as a conflict, and tells of a clock that runs ahead: its node's changes win over what is
    /// written later elsewhere.
    pub(super) fn note_contested(&mut self, contested: &Contested) {
        let Some(node) = &self.settings.node else { return };
        let ahead = contested.latest.as_ref().map(|stamp| (&stamp.origin, ahead(stamp.clock_us, now_us())));
        if let Some((origin, ahead)) = ahead
            && ahead > MOST_AHEAD
            && self.clock_told.is_none_or(|told| told.elapsed() > CLOCK_PAUSE)
        {
            self.clock_told = Some(Instant::now());
            warn!(
                seconds = ahead.as_secs(),
                "changes of node {origin} are stamped ahead of this machine's clock and win over later ones: set the clock of its \
                 database server right, or of one whose changes it has applied"
            );
        }
        if contested.conflicts.is_empty() {
            return;
        }
        self.stats.update(|state| state.note_conflicts(&contested.conflicts));
        for ((table, kind), count) in &contested.conflicts {
            metrics::conflicts(&self.settings.group, table, node.rules.of(table).name(), kind.name(), *count);
        }
    }

    /// The target's row stands at `to` now.
    pub(super) fn finished(&mut self, index: usize, from: i64, to: i64, waiting: bool) {
        let Some(slot) = &self.slots[index] else { return };
        let place = slot.place.clone();
        self.stats.partition(&place.topic, place.partition, |stats| {
            stats.next_offset = to;
            stats.waiting = waiting;
        });
        if to > from {
            self.tell(Command::Finish { place, from, to });
        }
    }

    /// Nothing of a batch is applied, as far as is known: the rows are read before anything else is done.
    fn abandon(&mut self, launch: &Launch) {
        self.draft.clear();
        for (index, _) in &launch.members {
            if let Some(partition) = self.partition_mut(*index) {
                partition.abandon();
                partition.state = State::Unsure;
            }
        }
        self.discard_draft();
    }

    fn on_write_error(&mut self, launch: &Launch, error: TargetError) -> Result<(), ConsumerError> {
        self.abandon(launch);
        // What the target looks like may be the reason.
        self.decoders.forget_plans();
        match error.class.action() {
            Action::TryAgain => {
                let pause = self.backoff.next_pause();
                warn!(%error, ?pause, "writing failed, trying again");
                self.pause(pause);
            }
            Action::StopPartition => {
                // The transaction was rolled back as a whole, so the rows are where they were.
                debug!(%error, changes = launch.changes(), "a batch cannot be written, looking for the record");
                self.isolate(launch, &error);
            }
            Action::StopProcess => return Err(ConsumerError::Target(error)),
        }
        Ok(())
    }

    /// An error of the target outside a transaction.
    pub(super) fn on_service_error(&mut self, what: &str, error: TargetError) -> Result<(), ConsumerError> {
        match error.class.action() {
            Action::TryAgain => {
                let pause = self.backoff.next_pause();
                warn!(%error, ?pause, "{what} failed, trying again");
                self.pause(pause);
                Ok(())
            }
            Action::StopPartition | Action::StopProcess => Err(ConsumerError::Target(error)),
        }
    }

    /// Drops the writer, which may be in any state, and opens another one after a pause.
    fn pause(&mut self, pause: Duration) {
        self.writer = WriterState::Closed(Instant::now() + pause);
    }

    /// Narrows the search for a record that fails.
    fn isolate(&mut self, launch: &Launch, error: &TargetError) {
        let Some(isolation) = self.isolation.front_mut() else {
            for (member, (slot, counts)) in launch.members.iter().enumerate() {
                let Some(place) = self.slots[*slot].as_ref().map(|slot| slot.place.clone()) else { continue };
                let changes = if launch.members.len() > 1 { usize::MAX } else { (launch.changes() / 2).max(1) };
                // A lone change has been tried once.
                let attempts = u32::from(launch.changes() <= 1);
                self.isolation.push_back(Isolation {
                    slot: *slot,
                    place,
                    until: launch.moves()[member].to,
                    changes,
                    attempts: if counts.taken > 0 { attempts } else { 0 },
                    pause_until: None,
                });
            }
            if let Some(lone) = self.isolation.front_mut().filter(|_| launch.changes() <= 1) {
                lone.pause_until = Some(Instant::now() + RECORD_PAUSE);
                if lone.attempts >= self.settings.attempts {
                    self.fail_lone(launch, error);
                }
            }
            return;
        };
        if launch.changes() > 1 {
            isolation.changes = launch.changes() / 2;
            return;
        }
        isolation.attempts += 1;
        isolation.pause_until = Some(Instant::now() + RECORD_PAUSE * isolation.attempts);
        if isolation.attempts >= self.settings.attempts {
            self.fail_lone(launch, error);
        }
    }

    /// The record is found, and fails whatever is tried.
    fn fail_lone(&mut self, launch: &Launch, error: &TargetError) {
        let Some(Isolation { slot, .. }) = self.isolation.pop_front() else { return };
        if let Some(partition) = self.partition_mut(slot) {
            let offset = launch.first_change().unwrap_or_else(|| partition.next_offset());
            partition.fail(Failure { offset, reason: error.to_string() });
        }
    }

    /// Drafts a few changes of the partition in question, alone.
    pub(super) fn fill_isolated(&mut self) -> Filled {
        if !matches!(self.writer, WriterState::Idle(_)) {
            return Filled::Nothing;
        }
        while let Some(isolation) = self.isolation.front() {
            if isolation.pause_until.is_some_and(|until| Instant::now() < until) {
                return Filled::Nothing;
            }
            let (index, changes) = (isolation.slot, isolation.changes.min(self.settings.limits.changes));
            let Some(Slot { stage: Stage::Ready(partition), blocked, revoked: false, .. }) = &mut self.slots[index]
            else {
                self.isolation.pop_front();
                continue;
            };
            if blocked.is_some() {
                return Filled::Nothing;
            }
            let slice = Slice { limits: Limits { changes, ..self.settings.limits }, records: SLICE };
            if partition.drafts() {
                match self.draft.extend(partition, &mut self.decoders, slice) {
                    Stop::Full => return Filled::Full,
                    Stop::Slice => return Filled::More,
                    Stop::Needs(need) => {
                        self.block(index, need);
                        return Filled::Nothing;
                    }
                    Stop::Partition if partition.moves().is_some() => return Filled::Full,
                    Stop::Partition => {}
                }
            }
            // Nothing of it is left here: it waits, has stopped, or is being fetched anew.
            self.isolation.pop_front();
        }
        Filled::More
    }
}
