//! From queues to transactions: drafting, launching, and what is asked of the poll thread.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tracing::debug;

use super::{Done, Filled, Lane, SLICE, Slot, Stage, WriterState};
use crate::draft::{Slice, Stop};
use crate::handover::Command;

/// Microseconds since 1970.
pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

impl Lane {
    /// Throws the draft away; its records are drafted again.
    pub(super) fn discard_draft(&mut self) {
        self.draft.clear();
        for index in 0..self.slots.len() {
            if let Some(partition) = self.partition_mut(index) {
                partition.reset();
            }
        }
    }

    /// Drafts what is queued, partition by partition, from another first one each batch.
    pub(super) fn fill(&mut self) -> Filled {
        self.decoders.set_clock(now_us());
        if !self.isolation.is_empty() {
            return self.fill_isolated();
        }
        let slice = Slice { limits: self.settings.limits, records: SLICE };
        for offset in 0..self.slots.len() {
            let index = (self.first + offset) % self.slots.len();
            let Some(Slot { stage: Stage::Ready(partition), blocked: None, revoked: false, .. }) =
                &mut self.slots[index]
            else {
                continue;
            };
            match self.draft.extend(partition, &mut self.decoders, slice) {
                Stop::Partition => {}
                Stop::Slice => return Filled::More,
                Stop::Full => return Filled::Full,
                Stop::Needs(need) => self.block(index, need),
            }
        }
        Filled::Nothing
    }

    /// Sends the draft on its way, if it moves anything.
    pub(super) fn launch(&mut self) {
        let partitions = self.slots.iter_mut().enumerate().filter_map(|(index, slot)| match slot {
            Some(Slot { stage: Stage::Ready(partition), revoked: false, .. }) => Some((index, partition.as_mut())),
            _ => None,
        });
        let Some(launch) = self.draft.launch(partitions) else { return };
        self.first = (self.first + 1) % self.slots.len().max(1);
        let state = std::mem::replace(&mut self.writer, WriterState::Closed(Instant::now()));
        let WriterState::Idle(mut writer) = state else {
            self.writer = state;
            return;
        };
        self.writer = WriterState::Busy(tokio::spawn(async move {
            let result = writer.write(&launch.batch()).await;
            Done { writer, launch, result }
        }));
    }

    pub(super) fn tell(&self, command: Command) {
        // A poll thread that is gone ends the process; there is nobody to tell any more.
        if self.commands.send(command).is_err() {
            debug!("the poll thread is gone");
        }
    }

    /// Has a partition fetched from where its draft would go on.
    pub(super) fn fetch(&mut self, index: usize) {
        self.last_run += 1;
        let run = self.last_run;
        let Some(slot) = &mut self.slots[index] else { return };
        let Stage::Ready(partition) = &slot.stage else { return };
        self.runs.remove(&slot.run);
        slot.run = run;
        self.runs.insert(run, index);
        let command = Command::Fetch { place: slot.place.clone(), run, offset: partition.next_offset() };
        self.tell(command);
    }

    /// Has a partition fetched no more.
    pub(super) fn hold(&mut self, index: usize) {
        let Some(slot) = &mut self.slots[index] else { return };
        self.runs.remove(&slot.run);
        slot.run = 0;
        let command = Command::Hold { place: slot.place.clone() };
        self.tell(command);
    }
}
