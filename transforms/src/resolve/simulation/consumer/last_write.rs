//! Last write wins.

use super::super::super::echo::{self, Entry, Fence, Repair, Row, Step};
use super::super::super::row::{Decision, Operation, Stored, Version};
use super::super::node::{Change, Key, Lost, Record, Waiting};
use super::super::{Faults, World};
use super::{Applying, place};

impl World {
    pub(super) fn remote(&mut self, node: usize, origin: usize, change: &Change, applying: &mut Applying) {
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
    pub(super) fn look_again(&mut self, node: usize, place: (Key, usize, usize), applying: &mut Applying) {
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

    pub(super) fn own(&mut self, node: usize, change: &Change, applying: &mut Applying) {
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

    pub(super) fn repair(&mut self, node: usize, key: Key, applying: &mut Applying) {
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
