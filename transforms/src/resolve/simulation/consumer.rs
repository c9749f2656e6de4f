//! The consumer of a node, as its SQL will do it: what it decides is asked of the code under test.

use std::collections::{BTreeMap, BTreeSet};

use syncline_event::stamp::{Applied, AppliedProgress, Fence as FenceMessage, Held, Stamp};

use super::super::echo::{Fence, Row};
use super::super::row::Version;
use super::super::state::Image;
use super::World;
use super::node::{Key, Place, Record, StoredRow, Waiting};
use super::producer::Logged;

mod joined;
mod last_write;

/// An applying transaction.
struct Applying {
    xid: u32,
    /// The highest time of what it has met.
    time: (u64, u32),
    held: BTreeMap<(Key, usize, usize), Option<u64>>,
    /// The fence it sends, and the time that the fence carries.
    fence: Option<(u64, (u64, u32))>,
    locked: BTreeSet<Key>,
}

impl Applying {
    fn meet(&mut self, stamp: &Stamp) {
        self.time = self.time.max((stamp.clock_us, stamp.counter));
    }
}

fn place(origin: usize, version: &Version) -> Place {
    (origin, version.partition as usize, version.offset)
}

impl World {
    /// Takes some records of a partition. False where there are none.
    pub(super) fn consume(&mut self, node: usize, origin: usize, partition: usize, calm: bool) -> Result<bool, String> {
        let from = self.nodes[node].tables.progress.get(&(origin, partition)).copied().unwrap_or_default();
        let count = 1 + self.random.below(4);
        let end = (from + count).min(self.nodes[origin].topic[partition].len() as u64);
        let mut records = self.nodes[origin].topic[partition][from as usize..end as usize].to_vec();
        if node == origin && !self.faults.runs_ahead {
            let open = &self.nodes[node].open;
            let visible = |record: &Record| match record {
                Record::Change(change) => !open.iter().any(|open| open.xid == change.transaction),
                Record::Marker { .. } => true,
            };
            records.truncate(records.iter().position(|record| !visible(record)).unwrap_or(records.len()));
        }
        let end = from + records.len() as u64;
        if records.is_empty() {
            return Ok(false);
        }
        let crashes = !calm && self.random.below(10) == 0;
        let backup = crashes.then(|| self.nodes[node].tables.clone());
        let xid = self.nodes[node].xid();
        let mut applying = Applying { xid, time: (0, 0), held: BTreeMap::new(), fence: None, locked: BTreeSet::new() };
        for (offset, record) in (from..).zip(records) {
            match record {
                Record::Marker { id, seen } => {
                    self.nodes[node].tables.heard.insert((origin, partition), seen);
                    if origin == node {
                        self.marker(node, partition, id, &mut applying)?;
                    }
                }
                Record::Change(change) => {
                    applying.meet(&change.version.stamp);
                    match self.plan {
                        Some(_) => self.join(node, origin, &change, &mut applying)?,
                        None if origin == node => self.own(node, &change, &mut applying),
                        None => self.remote(node, origin, &change, &mut applying),
                    }
                }
            }
            self.nodes[node].tables.progress.insert((origin, partition), offset + 1);
        }
        self.meanwhile(node, calm || crashes, &applying)?;
        if let Some((id, (clock_us, counter))) = applying.fence {
            let fence = FenceMessage { topology: "t".into(), id, tables: Vec::new(), clock_us, counter };
            self.nodes[node].log.push(Logged::Fence(fence));
        }
        self.meanwhile(node, calm || crashes, &applying)?;
        match backup {
            // The fence is in the log all the same.
            Some(tables) => self.nodes[node].tables = tables,
            None => self.commit(node, origin, partition, end, applying),
        }
        Ok(true)
    }

    /// The node's writers do not wait for an applying transaction, unless they want its rows.
    fn meanwhile(&mut self, node: usize, calm: bool, applying: &Applying) -> Result<(), String> {
        for _ in 0..if calm { 0 } else { self.random.below(4) } {
            let now = self.now();
            self.nodes[node].work(self.keys, now, &mut self.random, &applying.locked)?;
        }
        Ok(())
    }

    fn commit(&mut self, node: usize, origin: usize, partition: usize, next_offset: u64, applying: Applying) {
        let progress = AppliedProgress {
            origin: self.nodes[origin].name.clone(),
            table: "t".into(),
            partition: partition as u32,
            next_offset,
            held_from: self.nodes[node].tables.held_from(&self.nodes[origin].name, origin, partition),
            crowded: false,
        };
        let held = applying.held.into_iter().map(|((key, origin, partition), from)| Held {
            table: "t".into(),
            key: u64::from(key),
            origin: self.nodes[origin].name.clone(),
            partition: partition as u32,
            from,
        });
        let applied = Applied {
            topology: "t".into(),
            clock_us: applying.time.0,
            counter: applying.time.1,
            progress: if origin == node { Vec::new() } else { vec![progress] },
            held: if self.faults.claims_what_waits { Vec::new() } else { held.collect() },
        };
        let node = &mut self.nodes[node];
        node.log.push(Logged::Applied(applied));
        node.committed.clone_from(&node.tables.shown);
    }

    fn fence(&mut self, node: usize, stamp: Option<&Stamp>, applying: &mut Applying) -> u64 {
        let node = &mut self.nodes[node];
        let (id, time) = applying.fence.get_or_insert_with(|| {
            node.next_fence += 1;
            (node.next_fence, (0, 0))
        });
        if let Some(stamp) = stamp {
            *time = (*time).max((stamp.clock_us, stamp.counter));
        }
        *id
    }

    fn lock(&mut self, node: usize, key: Key, applying: &mut Applying) -> Row {
        let row = self.nodes[node].lock(key);
        if matches!(row, Row::Present { .. }) {
            applying.locked.insert(key);
        }
        row
    }

    fn write(&mut self, node: usize, key: Key, values: Option<Image>, applying: &mut Applying) {
        applying.locked.insert(key);
        let rows = &mut self.nodes[node].tables.rows;
        match values {
            Some(values) => drop(rows.insert(key, StoredRow { xmin: applying.xid, values })),
            None => drop(rows.remove(&key)),
        }
    }

    fn marker(&mut self, node: usize, partition: usize, id: u64, applying: &mut Applying) -> Result<(), String> {
        let tables = &mut self.nodes[node].tables;
        let arrived = tables.arrived.entry(id).or_default();
        arrived.insert(partition);
        if arrived.len() < self.partitions {
            return Ok(());
        }
        tables.arrived.remove(&id);
        let of_fence = |queue: &Vec<Waiting>| queue[0].fence.is_some_and(|(fence, _)| fence == id);
        let queues: Vec<_> =
            tables.waiting.iter().filter(|(_, queue)| of_fence(queue)).map(|(place, _)| *place).collect();
        for (key, origin, partition) in queues {
            self.look_again(node, (key, origin, partition), applying);
        }
        let unsettled = &self.nodes[node].tables.unsettled;
        let keys: Vec<_> = unsettled.iter().filter(|(_, (fence, _))| *fence == id).map(|(key, _)| *key).collect();
        for key in keys {
            let (_, row) = self.nodes[node].tables.unsettled.remove(&key).expect("just found");
            match self.plan {
                Some(_) => self.show(node, key, None, Fence::Returned { row }, applying)?,
                None => self.repair(node, key, applying),
            }
        }
        Ok(())
    }

    /// Forgets what is known of a key that is gone, where every node's changes to come are later.
    pub(super) fn collect(&mut self, node: usize, key: Key) {
        let partition = key as usize % self.partitions;
        let tables = &self.nodes[node].tables;
        if tables.unsettled.contains_key(&key) || tables.waiting.keys().any(|(waiting, _, _)| *waiting == key) {
            return;
        }
        let versions = match &self.plan {
            None => tables
                .entries
                .get(&key)
                .filter(|entry| entry.stored.deleted)
                .map(|entry| vec![entry.stored.version.clone()]),
            Some(plan) => tables
                .states
                .get(&key)
                .filter(|known| plan.is_forgettable(&known.state))
                .map(|known| known.state.versions()),
        };
        let Some(versions) = versions else { return };
        let markers = || self.nodes.iter().map(|origin| (&*origin.name, tables.heard.get(&(origin.index, partition))));
        let legal = versions.iter().all(|version| version.is_passed(markers()));
        if legal || self.faults.collects_early {
            let tables = &mut self.nodes[node].tables;
            tables.entries.remove(&key);
            tables.states.remove(&key);
        }
    }
}
