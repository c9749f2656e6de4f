//! A node's log, and the producer that reads it.

use syncline_event::horizon::Horizon;
use syncline_event::stamp::{Applied, Clock, Fence as FenceMessage, Stamp};

use super::super::row::Version;
use super::node::{Change, Local, Node, Record};
use super::{Faults, Random};

#[derive(Debug, Clone)]
pub(super) enum Logged {
    Local { xid: u32, commit_us: u64, changes: Vec<Local> },
    Applied(Applied),
    Fence(FenceMessage),
}

impl Logged {
    /// Whether it leads to records.
    pub(super) fn is_published(&self) -> bool {
        !matches!(self, Self::Applied(_))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Producer {
    next: usize,
    clock: Clock,
    horizon: Horizon,
    pub(super) sent: Vec<u64>,
}

impl Node {
    /// Asks for markers that nobody waits for: they say how far the node has come.
    pub(super) fn ask(&mut self) {
        self.next_fence += 1;
        let fence =
            FenceMessage { topology: "t".into(), id: self.next_fence, tables: Vec::new(), clock_us: 0, counter: 0 };
        self.log.push(Logged::Fence(fence));
    }

    /// How far the producer has read the log.
    pub(super) fn read(&self) -> usize {
        self.producer.next
    }

    /// Reads one entry of the log. False at its end.
    pub(super) fn produce(&mut self, faults: Faults) -> Result<bool, String> {
        let Some(logged) = self.log.get(self.producer.next).cloned() else { return Ok(false) };
        self.producer.next += 1;
        match logged {
            Logged::Fence(fence) => {
                if !faults.deaf_clocks {
                    self.producer.clock.learn(fence.clock_us, fence.counter);
                }
                for partition in 0..self.topic.len() {
                    self.publish(
                        partition,
                        Record::Marker { id: fence.id, seen: self.producer.horizon.seen_by_all() },
                    )?;
                }
            }
            Logged::Applied(applied) => self.producer.applied(applied, faults),
            Logged::Local { xid, commit_us, changes } => {
                let mut time = self.producer.clock.tick(commit_us);
                for (number, change) in changes.into_iter().enumerate() {
                    if number > 0 && faults.stamp_each_change {
                        time = self.producer.clock.tick(commit_us);
                    }
                    let partition = change.key as usize % self.topic.len();
                    let version = Version {
                        stamp: Stamp { clock_us: time.0, counter: time.1, origin: self.name.clone() },
                        seen: self.producer.horizon.seen_by(&[u64::from(change.key)]),
                        partition: partition as u32,
                        offset: self.producer.sent[partition],
                    };
                    let Local { key, before, after, truth } = change;
                    let change = Change { version, transaction: xid, key, before, after, truth };
                    self.publish(partition, Record::Change(change))?;
                }
            }
        }
        Ok(true)
    }

    fn publish(&mut self, partition: usize, record: Record) -> Result<(), String> {
        let offset = self.producer.sent[partition] as usize;
        self.producer.sent[partition] += 1;
        match self.topic[partition].get(offset) {
            Some(sent) if *sent == record => Ok(()),
            Some(sent) => Err(format!("a replay differs: {sent:?}, {record:?}")),
            None => {
                self.topic[partition].push(record);
                Ok(())
            }
        }
    }

    /// The producer goes back to its checkpoint, or makes one.
    pub(super) fn restart(&mut self, random: &mut Random) {
        if random.below(2) == 0 {
            self.checkpoint = self.producer.clone();
        } else {
            self.producer = self.checkpoint.clone();
        }
    }
}

impl Producer {
    pub(super) fn new(partitions: usize) -> Self {
        Self { next: 0, clock: Clock::default(), horizon: Horizon::default(), sent: vec![0; partitions] }
    }

    fn applied(&mut self, applied: Applied, faults: Faults) {
        if !faults.deaf_clocks {
            self.clock.learn(applied.clock_us, applied.counter);
        }
        for progress in &applied.progress {
            self.horizon.progress(progress);
        }
        for held in &applied.held {
            self.horizon.hold_among(held, if faults.is_cramped { 1 } else { usize::MAX });
        }
    }
}
