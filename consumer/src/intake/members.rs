//! The partitions of this process as the poll thread sees them.

use std::collections::VecDeque;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rdkafka::TopicPartitionList;
use rustc_hash::{FxHashMap, FxHasher};
use tokio::sync::mpsc::UnboundedSender;

use super::{Command, Place};
use crate::chunk::{Budget, Chunk, Record};
use crate::commit::Commits;
use crate::handover::Event;

/// Where a lane takes events, and how full it is.
#[derive(Debug)]
pub struct LaneDoor {
    /// Bounded by the budget: records are not handed over beyond it.
    pub events: UnboundedSender<Event>,
    /// Bytes the lane holds.
    pub budget: Arc<Budget>,
    /// Most bytes it should hold.
    pub most: usize,
}

/// A chunk is handed over when it has grown to this.
const CHUNK: usize = 256 * 1024;

/// One partition of ours.
pub(super) struct Held {
    assignment: u64,
    lane: usize,
    run: u64,
    /// Whether it is in the client's assignment.
    pub(super) fetched: bool,
    pub(super) paused: bool,
    /// Records not handed over yet.
    chunk: Chunk,
}

pub(super) struct Members {
    lanes: Vec<LaneDoor>,
    topics: FxHashMap<String, FxHashMap<i32, Held>>,
    pub(super) commits: Commits,
    commands: Receiver<Command>,
    /// Commands met while only notes were looked for.
    deferred: VecDeque<Command>,
    assignments: u64,
    /// Partitions with records not handed over.
    open: Vec<(String, i32)>,
}

impl Members {
    pub(super) fn new(lanes: Vec<LaneDoor>, commands: Receiver<Command>) -> Self {
        Self {
            lanes,
            topics: FxHashMap::default(),
            commits: Commits::default(),
            commands,
            deferred: VecDeque::new(),
            assignments: 0,
            open: Vec::new(),
        }
    }

    /// The next thing to do.
    pub(super) fn next_command(&mut self) -> Option<Command> {
        self.deferred.pop_front().or_else(|| self.commands.try_recv().ok())
    }

    /// Takes note of what is finished by now and leaves all other commands for later.
    pub(super) fn take_notes(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Own { .. } | Command::Finish { .. } => self.note(command),
                other => self.deferred.push_back(other),
            }
        }
    }

    pub(super) fn note(&mut self, command: Command) {
        match command {
            Command::Own { place, next_offset, committed } if self.held(&place).is_some() => {
                self.commits.start(&place.topic, place.partition, next_offset, committed);
            }
            Command::Finish { place, from, to } if self.held(&place).is_some() => {
                self.commits.finish(&place.topic, place.partition, from, to);
            }
            _ => {}
        }
    }

    pub(super) fn held(&mut self, place: &Place) -> Option<&mut Held> {
        let held = self.topics.get_mut(&place.topic)?.get_mut(&place.partition)?;
        (held.assignment == place.assignment).then_some(held)
    }

    /// A partition has become ours; its lane finds out where it starts.
    pub(super) fn assign(&mut self, topic: &str, partition: i32) {
        self.assignments += 1;
        let lane = lane_of(topic, partition, self.lanes.len());
        let held = Held {
            assignment: self.assignments,
            lane,
            run: 0,
            fetched: false,
            paused: false,
            chunk: Chunk::new(Arc::clone(&self.lanes[lane].budget)),
        };
        let place = Place { topic: topic.to_owned(), partition, assignment: self.assignments };
        self.topics.entry(topic.to_owned()).or_default().insert(partition, held);
        self.tell(lane, Event::Assign(place));
    }

    /// The lanes of some partitions, with the partitions.
    pub(super) fn by_lane(&self, partitions: &[(String, i32)]) -> Vec<(usize, Vec<Place>)> {
        let mut lanes: Vec<(usize, Vec<Place>)> = Vec::new();
        for (topic, partition) in partitions {
            let Some(held) = self.topics.get(topic).and_then(|held| held.get(partition)) else { continue };
            let place = Place { topic: topic.clone(), partition: *partition, assignment: held.assignment };
            match lanes.iter_mut().find(|(lane, _)| *lane == held.lane) {
                Some((_, places)) => places.push(place),
                None => lanes.push((held.lane, vec![place])),
            }
        }
        lanes
    }

    /// A partition is not ours any more. Whether the client was fetching it.
    pub(super) fn remove(&mut self, topic: &str, partition: i32) -> bool {
        self.commits.forget(topic, partition);
        let Some(partitions) = self.topics.get_mut(topic) else { return false };
        let fetched = partitions.remove(&partition).is_some_and(|held| held.fetched);
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        fetched
    }

    /// The client fetches a partition.
    pub(super) fn fetches(&mut self, place: &Place, run: u64) {
        let lanes = &self.lanes;
        if let Some(held) = self.topics.get_mut(&place.topic).and_then(|held| held.get_mut(&place.partition)) {
            held.fetched = true;
            held.run = run;
            held.chunk = Chunk::new(Arc::clone(&lanes[held.lane].budget));
        }
    }

    /// A partition is held. Whether the client was fetching it.
    pub(super) fn holds(&mut self, place: &Place) -> bool {
        let Some(held) = self.held(place) else { return false };
        held.run = 0;
        std::mem::replace(&mut held.fetched, false)
    }

    /// Whether a lane is about to ask for something.
    pub(super) fn expects_commands(&self) -> bool {
        self.topics.values().flat_map(FxHashMap::values).any(|held| held.paused || held.run == 0)
    }

    /// Takes in a record.
    pub(super) fn push(&mut self, topic: &str, partition: i32, record: Record<'_>) {
        let Some(held) = self.topics.get_mut(topic).and_then(|held| held.get_mut(&partition)) else { return };
        if held.run == 0 {
            return;
        }
        if held.chunk.is_empty() {
            self.open.push((topic.to_owned(), partition));
        }
        held.chunk.push(record);
        if held.chunk.size() >= CHUNK {
            flush(held, &self.lanes);
        }
    }

    /// Hands over all there is.
    pub(super) fn flush_all(&mut self) {
        for (topic, partition) in std::mem::take(&mut self.open) {
            if let Some(held) = self.topics.get_mut(&topic).and_then(|held| held.get_mut(&partition)) {
                flush(held, &self.lanes);
            }
        }
    }

    /// Whether a lane that still gets records holds too many bytes.
    pub(super) fn full_lanes(&self) -> bool {
        let fetched = |held: &Held| held.fetched && !held.paused;
        let full = |held: &Held| self.lanes[held.lane].budget.held() >= self.lanes[held.lane].most;
        self.lanes.iter().any(|lane| lane.budget.held() >= lane.most)
            && self.topics.values().flat_map(FxHashMap::values).any(|held| fetched(held) && full(held))
    }

    /// The partitions to pause, since their lane is full, and to resume, since it has got room.
    pub(super) fn pauses(&mut self) -> (TopicPartitionList, TopicPartitionList) {
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        let lanes = &self.lanes;
        if lanes.iter().all(|lane| lane.budget.held() < lane.most)
            && !self.topics.values().flat_map(FxHashMap::values).any(|held| held.paused)
        {
            return (pause, resume);
        }
        for (topic, partitions) in &mut self.topics {
            for (partition, held) in partitions {
                let lane = &lanes[held.lane];
                if held.fetched && !held.paused && lane.budget.held() >= lane.most {
                    held.paused = true;
                    pause.add_partition(topic, *partition);
                } else if held.paused && lane.budget.held() < lane.most / 2 {
                    held.paused = false;
                    resume.add_partition(topic, *partition);
                }
            }
        }
        (pause, resume)
    }

    pub(super) fn tell(&self, lane: usize, event: Event) {
        // A lane that has ended takes nothing any more; what ended it ends the process.
        drop(self.lanes[lane].events.send(event));
    }

    pub(super) fn tell_all(&self, event: impl Fn() -> Event) {
        for lane in 0..self.lanes.len() {
            self.tell(lane, event());
        }
    }
}

fn flush(held: &mut Held, lanes: &[LaneDoor]) {
    if held.chunk.is_empty() {
        return;
    }
    let lane = &lanes[held.lane];
    let chunk = std::mem::replace(&mut held.chunk, Chunk::new(Arc::clone(&lane.budget)));
    drop(lane.events.send(Event::Records { run: held.run, chunk }));
}

/// Spreads a topic's partitions evenly, whatever its name.
fn lane_of(topic: &str, partition: i32, lanes: usize) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(topic.as_bytes());
    (hasher.finish() as usize).wrapping_add(partition as usize) % lanes
}
