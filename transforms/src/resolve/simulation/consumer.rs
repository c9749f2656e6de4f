//! The consumer of a node, as its SQL will do it: what it decides is asked of the code under test.

use std::collections::{BTreeMap, BTreeSet};

use syncline_event::stamp::{Applied, AppliedProgress, Fence as FenceMessage, Held, Seen, Stamp};

use super::super::columns::Incoming;
use super::super::echo::{self, Entry, Fence, Repair, Row, Step};
use super::super::row::{Decision, Operation, Stored, Version};
use super::super::show::{Showing, Write};
use super::node::{Change, Key, Logged, Lost, Node, Place, Record, StateEntry, StoredRow, Waiting};
use super::{Faults, World};

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
        let records = self.nodes[origin].topic[partition][from as usize..end as usize].to_vec();
        if records.is_empty() {
            return Ok(false);
        }
        let crashes = !calm && self.random.below(10) == 0;
        let backup = crashes.then(|| self.nodes[node].tables.clone());
        let xid = self.nodes[node].xid();
        let mut applying = Applying { xid, time: (0, 0), held: BTreeMap::new(), fence: None, locked: BTreeSet::new() };
        for (offset, record) in (from..).zip(records) {
            let seen = match record {
                Record::Marker { id, seen } => {
                    if origin == node {
                        self.marker(node, partition, id, &mut applying)?;
                    }
                    seen
                }
                Record::Change(change) => {
                    let seen = change.version.seen.clone();
                    applying.meet(&change.version.stamp);
                    match self.plan {
                        Some(_) => self.join(node, origin, &change, &mut applying)?,
                        None if origin == node => self.own(node, &change, &mut applying),
                        None => self.remote(node, origin, &change, &mut applying),
                    }
                    seen
                }
            };
            let tables = &mut self.nodes[node].tables;
            let heard = tables.heard.entry((origin, partition)).or_default();
            for (name, offsets) in seen.origins {
                for (place, next) in (0..).zip(offsets) {
                    heard.raise(&name, place, next);
                }
            }
            tables.progress.insert((origin, partition), offset + 1);
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
        self.nodes[node].log.push(Logged::Applied(applied));
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

    fn write(&mut self, node: usize, key: Key, values: Option<super::super::state::Image>, applying: &mut Applying) {
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

    // Last write wins.

    fn remote(&mut self, node: usize, origin: usize, change: &Change, applying: &mut Applying) {
        let queue = (change.key, origin, change.version.partition as usize);
        let waits = self.nodes[node].tables.waiting.contains_key(&queue);
        let fence = if waits {
            None
        } else {
            match self.decide(node, origin, change, Fence::None, applying) {
                Ok(()) => return,
                Err(row) => Some((self.fence(node, Some(&change.version.stamp), applying), row)),
            }
        };
        let waiting = self.nodes[node].tables.waiting.entry(queue).or_default();
        waiting.push(Waiting { offset: change.version.offset, fence });
        applying.held.insert(queue, Some(waiting[0].offset));
    }

    /// Decides a change, or says how its row is if that cannot be done yet.
    fn decide(
        &mut self,
        node: usize,
        origin: usize,
        change: &Change,
        fence: Fence,
        applying: &mut Applying,
    ) -> Result<(), Row> {
        let (operation, key) = (change.operation(), change.key);
        let mut row = self.lock(node, key, applying);
        let decision = loop {
            let entry = self.nodes[node].tables.entries.get(&key);
            let step = self.faults.step(operation, &change.version, entry, row, fence);
            let Step::Decide(decision) = step else { return Err(row) };
            // The insert would wait for another one.
            let inserts = decision.takes && operation != Operation::Delete && row == Row::Absent;
            if !inserts || !self.nodes[node].is_written(key) {
                break decision;
            }
            row = Row::Locked;
        };
        self.note_conflict(node, change, decision);
        let place = place(origin, &change.version);
        if decision.takes {
            self.write(node, key, change.after.clone(), applying);
            self.nodes[node].tables.shown.entry(key).or_default().insert(place);
            let deleted = operation == Operation::Delete;
            let noted_xmin = (!deleted).then_some(applying.xid);
            self.set_entry(node, key, &change.version, deleted, noted_xmin);
        } else {
            self.nodes[node].tables.discarded.insert(place);
        }
        Ok(())
    }

    fn set_entry(&mut self, node: usize, key: Key, version: &Version, deleted: bool, noted_xmin: Option<u32>) {
        let entries = &mut self.nodes[node].tables.entries;
        if deleted && self.faults.forgets_tombstones {
            entries.remove(&key);
        } else {
            entries.insert(key, Entry { stored: Stored { version: version.clone(), deleted }, noted_xmin });
        }
    }

    fn note_conflict(&mut self, node: usize, change: &Change, decision: Decision) {
        let tables = &mut self.nodes[node].tables;
        if let (Some(_), Some(entry)) = (decision.conflict, tables.entries.get(&change.key)) {
            let loser = if decision.takes { &entry.stored.version } else { &change.version };
            tables.lost.push(Lost { stamp: loser.stamp.clone(), offset: loser.offset, column: None });
        }
    }

    /// Decides what can be decided of a queue, from its head.
    fn look_again(&mut self, node: usize, place: (Key, usize, usize), applying: &mut Applying) {
        let (_, origin, partition) = place;
        let mut queue = self.nodes[node].tables.waiting.remove(&place).expect("just found");
        while let Some(head) = queue.first_mut() {
            let Record::Change(change) = self.nodes[origin].topic[partition][head.offset as usize].clone() else {
                unreachable!("changes wait")
            };
            let fence = head.fence.map_or(Fence::None, |(_, row)| Fence::Returned { row });
            applying.meet(&change.version.stamp);
            match self.decide(node, origin, &change, fence, applying) {
                Ok(()) => drop(queue.remove(0)),
                Err(row) => {
                    head.fence = Some((self.fence(node, Some(&change.version.stamp), applying), row));
                    break;
                }
            }
        }
        applying.held.insert(place, queue.first().map(|head| head.offset));
        if !queue.is_empty() {
            self.nodes[node].tables.waiting.insert(place, queue);
        }
    }

    fn own(&mut self, node: usize, change: &Change, applying: &mut Applying) {
        let key = change.key;
        let row = self.lock(node, key, applying);
        let entry = self.nodes[node].tables.entries.get(&key);
        let mut own = echo::own(change.operation(), &change.version, change.transaction, entry, row);
        if let (true, Row::Present { xmin }) = (self.faults.notes_any_xmin && own.decision.takes, row) {
            own.noted_xmin = Some(xmin);
        }
        self.note_conflict(node, change, own.decision);
        if own.decision.takes {
            let deleted = change.operation() == Operation::Delete;
            self.set_entry(node, key, &change.version, deleted, own.noted_xmin);
        }
        self.do_repair(node, key, own.repair, row, applying);
    }

    fn repair(&mut self, node: usize, key: Key, applying: &mut Applying) {
        let row = self.lock(node, key, applying);
        let Some(entry) = self.nodes[node].tables.entries.get(&key) else { return };
        let repair = echo::repair(entry.stored.deleted, entry.noted_xmin, row);
        self.do_repair(node, key, repair, row, applying);
    }

    fn do_repair(&mut self, node: usize, key: Key, repair: Repair, row: Row, applying: &mut Applying) {
        match repair {
            Repair::None => {}
            Repair::Remove if self.faults.repairs_nothing => {}
            Repair::Remove => self.write(node, key, None, applying),
            Repair::Later => {
                let fence = self.fence(node, None, applying);
                self.nodes[node].tables.unsettled.insert(key, (fence, row));
            }
        }
    }

    // All other rules.

    fn join(&mut self, node: usize, origin: usize, change: &Change, applying: &mut Applying) -> Result<(), String> {
        self.show(node, change.key, Some((origin, change)), Fence::None, applying)
    }

    fn show(
        &mut self,
        node: usize,
        key: Key,
        change: Option<(usize, &Change)>,
        fence: Fence,
        applying: &mut Applying,
    ) -> Result<(), String> {
        let plan = self.plan.clone().expect("there is a plan on this path");
        let known = self.nodes[node].tables.states.get(&key).cloned();
        let row_of = |state| plan.row(state).map_err(|error| error.to_string());
        let before = known.as_ref().map(|known| row_of(&known.state)).transpose()?.flatten();
        let incoming = change.map(|(_, change)| Incoming {
            operation: change.operation(),
            version: change.version.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
        });
        let (state, after) = match &incoming {
            Some(incoming) => {
                let resolved = plan.resolve(incoming, known.as_ref().map(|known| &known.state));
                let resolved = resolved.map_err(|error| error.to_string())?;
                for conflict in resolved.conflicts {
                    let loser = if conflict.takes { conflict.other } else { Some(incoming.version.clone()) };
                    let Some(Version { stamp, offset, .. }) = loser else { continue };
                    self.nodes[node].tables.lost.push(Lost { stamp, offset, column: conflict.column });
                }
                (resolved.state, resolved.row)
            }
            None => (known.as_ref().expect("a key that waits is known").state.clone(), before.clone()),
        };
        let mut row = self.lock(node, key, applying);
        let values = self.nodes[node].tables.rows.get(&key).map(|row| row.values.clone());
        let own = change.filter(|(origin, _)| *origin == node);
        let shown = loop {
            let showing = Showing {
                before: before.as_ref(),
                after: after.as_ref(),
                change: incoming.as_ref(),
                transaction: own.map(|(_, change)| change.transaction),
                noted_xmin: match row {
                    Row::Present { xmin } if self.faults.ignores_local_writes => Some(xmin),
                    _ => known.as_ref().and_then(|known| known.noted_xmin),
                },
                row,
                values: values.as_ref(),
                fence,
            };
            let shown = plan.show(&showing).map_err(|error| error.to_string())?;
            if !matches!(shown.write, Write::Insert(_)) || !self.nodes[node].is_written(key) {
                break shown;
            }
            row = Row::Locked;
        };
        match shown.write {
            Write::None => {}
            Write::Insert(values) | Write::Update(values) => self.write(node, key, Some(values), applying),
            Write::Delete => self.write(node, key, None, applying),
        }
        let now = match row {
            Row::Locked => Row::Locked,
            _ => self.lock(node, key, applying),
        };
        let noted_xmin = match now {
            Row::Present { xmin } if shown.settled => Some(xmin),
            _ => None,
        };
        let mut held = known.map(|known| known.held).unwrap_or_default();
        let remote =
            change.filter(|(origin, _)| *origin != node).map(|(origin, change)| place(origin, &change.version));
        self.hold(node, key, &mut held, remote, shown.shows_state, shown.shows_change, applying);
        if !shown.settled && !self.nodes[node].tables.unsettled.contains_key(&key) {
            let fence = self.fence(node, None, applying);
            self.nodes[node].tables.unsettled.insert(key, (fence, now));
        }
        self.nodes[node].tables.states.insert(key, StateEntry { state, noted_xmin, held });
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one decision")]
    fn hold(
        &mut self,
        node: usize,
        key: Key,
        held: &mut BTreeMap<(usize, usize), BTreeSet<u64>>,
        remote: Option<Place>,
        shows_state: bool,
        shows_change: bool,
        applying: &mut Applying,
    ) {
        let shown = self.nodes[node].tables.shown.entry(key).or_default();
        if let Some((origin, partition, offset)) = remote {
            if shows_change {
                shown.insert((origin, partition, offset));
            } else {
                held.entry((origin, partition)).or_default().insert(offset);
            }
        }
        if shows_state {
            for ((origin, partition), offsets) in std::mem::take(held) {
                applying.held.insert((key, origin, partition), None);
                shown.extend(offsets.into_iter().map(|offset| (origin, partition, offset)));
            }
        }
        for ((origin, partition), offsets) in held {
            applying.held.insert((key, *origin, *partition), offsets.first().copied());
        }
    }

    // Tombstones.

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
        let passed = |version: &Version, origin: &Node| {
            let heard = tables.heard.get(&(origin.index, partition));
            let includes = |heard: &Seen| heard.includes(&version.stamp.origin, version.partition, version.offset);
            version.stamp.origin == origin.name || heard.is_some_and(includes)
        };
        let legal = versions.iter().all(|version| self.nodes.iter().all(|origin| passed(version, origin)));
        if legal || self.faults.collects_early {
            let tables = &mut self.nodes[node].tables;
            tables.entries.remove(&key);
            tables.states.remove(&key);
        }
    }
}

impl Faults {
    fn step(self, operation: Operation, version: &Version, entry: Option<&Entry>, row: Row, mut fence: Fence) -> Step {
        let hasty = self.removes_in_haste && row == Row::Absent && operation == Operation::Delete;
        if (self.ignores_local_writes && row != Row::Locked) || hasty {
            fence = Fence::Returned { row };
        }
        let mut step = echo::remote(operation, version, entry, row, fence);
        if let (true, Step::Decide(decision)) = (self.takes_everything, &mut step) {
            decision.takes = true;
        }
        step
    }
}
