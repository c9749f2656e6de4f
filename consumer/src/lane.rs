//! A lane: some partitions, one writer. Takes records, drafts a batch while the one before it is being written, and
//! deals with what goes wrong.
//!
//! Everything that decides is next door and pure ([`crate::partition`], [`crate::draft`], [`crate::order`]); this room
//! asks, waits and tells. It waits in one place ([`Lane::wait`]), so a revocation or a shutdown is always heard.

mod drafting;
mod lookup;
mod outcome;
mod service;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use syncline_runtime::retry::Backoff;
use syncline_runtime::shutdown::Shutdown;
use syncline_transforms::mapping::Mappings;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::{debug, warn};

use self::lookup::Found;
pub use self::lookup::{Lookup, LookupError};
use self::outcome::Isolation;
use crate::batch::Limits;
use crate::config::{NodeSettings, SinkSettings};
use crate::decode::{Decoders, Need};
use crate::draft::{Draft, Launch};
use crate::error::ConsumerError;
use crate::handover::{Command, Event, Place};
use crate::partition::{Partition, State};
use crate::start::InKafka;
use crate::stats::Stats;
use crate::targets::{PartitionKey, Target, TargetError, Writer, Written};

/// What a lane is made of.
pub struct LaneSettings {
    /// The consumer group.
    pub group: String,
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// Bounds of a batch.
    pub limits: Limits,
    /// Attempts at a record that fails by itself.
    pub attempts: u32,
    /// How records become rows.
    pub sink: Arc<SinkSettings>,
    /// Which rows go where, and how.
    pub mappings: Arc<Mappings>,
    /// What the target is in a topology of several writable databases.
    pub node: Option<Arc<NodeSettings>>,
}

/// Records looked at between two looks at the events.
const SLICE: usize = 1000;
/// How often a waiting partition asks for its barrier, and what waits for the node's own changes is looked at.
const BARRIER_INTERVAL: Duration = Duration::from_millis(100);
/// How long a partition that lacks a schema or definition keeps what is queued.
const BLOCKED_PATIENCE: Duration = Duration::from_secs(1);
/// How long a transaction under way may take at the end.
const LAST_TRANSACTION: Duration = Duration::from_secs(5);
/// The longest pause between attempts at an unreachable target.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A partition of the lane.
struct Slot {
    place: Place,
    stage: Stage,
    /// The number its records carry now; 0 while none are fetched.
    run: u64,
    /// What it lacks, since when.
    blocked: Option<(Need, Instant)>,
    /// Taken from us; gone once nothing of it is under way.
    revoked: bool,
    /// Whether outdated records have been reported.
    warned: bool,
    /// Whether records of it may wait for changes of the node that is written to.
    waits: bool,
}

enum Stage {
    /// Kafka is being asked about it.
    Looking,
    /// Kafka has answered; the target is asked next.
    Looked(PartitionKey, InKafka),
    /// It takes part.
    Ready(Box<Partition>),
}

enum WriterState {
    /// There is none; the next attempt at opening one is due then.
    Closed(Instant),
    Idle(Box<dyn Writer>),
    Busy(JoinHandle<Done>),
}

/// A transaction that has ended one way or the other.
struct Done {
    writer: Box<dyn Writer>,
    launch: Launch,
    result: Result<Written, TargetError>,
}

/// Whether there is more to draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Nothing,
    More,
    Full,
}

/// A lane. See the module.
pub struct Lane {
    settings: LaneSettings,
    target: Arc<dyn Target>,
    lookup: Arc<dyn Lookup>,
    stats: Arc<Stats>,
    events: UnboundedReceiver<Event>,
    commands: Sender<Command>,
    shutdown: Shutdown,
    writer: WriterState,
    slots: Vec<Option<Slot>>,
    /// Slots by the number of their records.
    runs: FxHashMap<u64, usize>,
    last_run: u64,
    /// The slot to draft first next time.
    first: usize,
    decoders: Decoders,
    draft: Draft,
    lookups: JoinSet<Found>,
    asked: FxHashSet<Need>,
    /// What only the target can answer.
    of_target: Vec<Need>,
    isolation: VecDeque<Isolation>,
    /// Revocations to answer once nothing of theirs is under way.
    revocations: Vec<SyncSender<()>>,
    backoff: Backoff,
    barriers_asked: Instant,
    settled: Instant,
    /// When people were last told of a clock that runs ahead.
    clock_told: Option<Instant>,
}

impl Lane {
    /// A lane without partitions.
    #[must_use]
    pub fn new(
        settings: LaneSettings,
        target: Arc<dyn Target>,
        lookup: Arc<dyn Lookup>,
        stats: Arc<Stats>,
        events: UnboundedReceiver<Event>,
        commands: Sender<Command>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            target,
            lookup,
            stats,
            events,
            commands,
            shutdown,
            writer: WriterState::Closed(Instant::now()),
            slots: Vec::new(),
            runs: FxHashMap::default(),
            last_run: 0,
            first: 0,
            decoders: Decoders::new(Arc::clone(&settings.sink), Arc::clone(&settings.mappings), settings.node.clone()),
            settings,
            draft: Draft::default(),
            lookups: JoinSet::new(),
            asked: FxHashSet::default(),
            of_target: Vec::new(),
            isolation: VecDeque::new(),
            revocations: Vec::new(),
            backoff: Backoff::new(Duration::from_millis(100), LONGEST_PAUSE),
            barriers_asked: Instant::now(),
            settled: Instant::now(),
            clock_told: None,
        }
    }

    /// Works until the shutdown, or until the poll thread is gone; the transaction under way is then finished, if it
    /// does not take long.
    ///
    /// # Errors
    ///
    /// What cannot be waited out.
    pub async fn run(mut self) -> Result<(), ConsumerError> {
        loop {
            while let Ok(event) = self.events.try_recv() {
                self.on_event(event);
            }
            while let Some(found) = self.lookups.try_join_next() {
                self.on_found(found)?;
            }
            if self.shutdown.is_requested() {
                return self.finish().await;
            }
            self.open_writer().await?;
            self.serve().await?;
            let filled = self.fill();
            if matches!(self.writer, WriterState::Idle(_)) && filled != Filled::More {
                self.launch();
            }
            if filled == Filled::More || self.has_service() {
                // Others want the thread, too; the events are looked at before the next slice.
                tokio::task::yield_now().await;
            } else if !self.wait().await? {
                return self.finish().await;
            }
        }
    }

    /// Whether drafting has left something to do for the idle writer.
    fn has_service(&self) -> bool {
        let due = |partition: &Partition| partition.state == State::Unsure || partition.due_failure().is_some();
        matches!(self.writer, WriterState::Idle(_))
            && (!self.of_target.is_empty() || self.ready().any(|(_, _, partition)| due(partition)))
    }

    /// Waits for whatever comes next. False: the end. Cancel safe.
    async fn wait(&mut self) -> Result<bool, ConsumerError> {
        let wake = self.wake_at();
        let busy = matches!(self.writer, WriterState::Busy(_));
        let done = async {
            match &mut self.writer {
                WriterState::Busy(handle) => handle.await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.wait() => return Ok(false),
            done = done, if busy => self.on_done(done)?,
            event = self.events.recv() => match event {
                Some(event) => self.on_event(event),
                None => return Ok(false),
            },
            Some(found) = self.lookups.join_next() => self.on_found(found)?,
            () = tokio::time::sleep_until(wake) => {}
        }
        Ok(true)
    }

    /// When there is something to do even if nothing happens.
    fn wake_at(&self) -> Instant {
        let mut wake = Instant::now() + Duration::from_secs(1);
        if let WriterState::Closed(at) = self.writer {
            wake = wake.min(at);
        }
        if !matches!(self.writer, WriterState::Idle(_)) {
            return wake;
        }
        if self.ready().any(|(_, _, partition)| partition.is_waiting()) {
            wake = wake.min(self.barriers_asked + BARRIER_INTERVAL);
        }
        if self.ready().any(|(_, slot, _)| slot.waits) {
            wake = wake.min(self.settled + BARRIER_INTERVAL);
        }
        if let Some(pause) = self.isolation.front().and_then(|isolation| isolation.pause_until) {
            wake = wake.min(pause);
        }
        wake
    }

    /// The transaction under way is finished or given up; nothing else is begun.
    async fn finish(mut self) -> Result<(), ConsumerError> {
        if let WriterState::Busy(mut handle) = std::mem::replace(&mut self.writer, WriterState::Closed(Instant::now()))
        {
            match tokio::time::timeout(LAST_TRANSACTION, &mut handle).await {
                Ok(done) => {
                    // An error changes nothing any more: what is not committed comes again.
                    if let Err(error) = self.on_done(done) {
                        warn!(%error, "the last transaction failed");
                    }
                }
                Err(_) => {
                    warn!("the last transaction takes too long, giving it up");
                    handle.abort();
                }
            }
        }
        for done in self.revocations.drain(..) {
            answer(&done);
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Assign(place) => self.assign(place),
            Event::Records { run, chunk } => {
                // Records fetched before the partition was held or fetched anew carry an old number.
                let Some(slot) = self.runs.get(&run).copied() else { return };
                if let Some(Slot { stage: Stage::Ready(partition), .. }) = &mut self.slots[slot] {
                    partition.enqueue(chunk);
                }
            }
            Event::Revoke { places, done } => {
                for place in places {
                    self.revoke(&place);
                }
                self.revocations.push(done);
                self.answer_revocations();
            }
            Event::Recheck => self.recheck(),
        }
    }

    fn assign(&mut self, place: Place) {
        // Someone may have mended what was given up.
        self.decoders.retry();
        let index = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.look(place.clone());
        let waits = self.settings.node.is_some();
        self.slots[index] =
            Some(Slot { place, stage: Stage::Looking, run: 0, blocked: None, revoked: false, warned: false, waits });
    }

    fn revoke(&mut self, place: &Place) {
        let Some(index) = self.slot_of(place) else { return };
        self.discard_draft();
        self.stats.update(|state| {
            state.partitions.remove(&(place.topic.clone(), place.partition));
        });
        if let Some(slot) = &mut self.slots[index] {
            slot.revoked = true;
            self.runs.remove(&slot.run);
        }
    }

    /// Forgets revoked partitions once no transaction is under way, and says so.
    fn answer_revocations(&mut self) {
        if matches!(self.writer, WriterState::Busy(_)) || self.revocations.is_empty() {
            return;
        }
        self.isolation.retain(|isolation| {
            self.slots[isolation.slot].as_ref().is_some_and(|slot| !slot.revoked && slot.place == isolation.place)
        });
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|slot| slot.revoked) {
                *slot = None;
            }
        }
        for done in self.revocations.drain(..) {
            answer(&done);
        }
    }

    fn slot_of(&self, place: &Place) -> Option<usize> {
        self.slots.iter().position(|slot| slot.as_ref().is_some_and(|slot| slot.place == *place))
    }

    /// Partitions that take part, with their slots.
    fn ready(&self) -> impl Iterator<Item = (usize, &Slot, &Partition)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Some(slot @ Slot { stage: Stage::Ready(partition), revoked: false, .. }) => {
                Some((index, slot, partition.as_ref()))
            }
            _ => None,
        })
    }

    fn partition_mut(&mut self, index: usize) -> Option<&mut Partition> {
        match self.slots.get_mut(index)? {
            Some(Slot { stage: Stage::Ready(partition), .. }) => Some(partition),
            _ => None,
        }
    }
}

/// The poll thread waits for this, but not for ever.
fn answer(done: &SyncSender<()>) {
    if done.try_send(()).is_err() {
        debug!("the poll thread has stopped waiting");
    }
}
