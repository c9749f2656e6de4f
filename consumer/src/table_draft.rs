//! The part of a batch that goes to one target table: rows, and by key what becomes of them.

use std::sync::Arc;

use syncline_event::header::Stamped;
use syncline_transforms::resolve::row::{Operation, Version};

use crate::coalesce::{Change, Coalesced, Coalescer, MissingRow};
use crate::rows::Rows;
use crate::targets::{Contender, Contest, PartitionKey, TableBatch, TablePlan};

/// A target table's changes while a batch is put together.
///
/// A record may change several tables, and counts in all of them or in none: its changes are staged first, and go in
/// once all of them are known to be good.
pub struct TableDraft {
    /// The lane's index of the topic that the changes come from.
    pub(crate) topic: usize,
    plan: Arc<dyn TablePlan>,
    buffers: Buffers,
}

/// What a draft and a batch on its way hold, kept for the next one.
#[derive(Default)]
pub(crate) struct Buffers {
    rows: Rows,
    coalescer: Coalescer,
    coalesced: Coalesced,
    staged: Vec<Staged>,
    keys: Vec<u8>,
    contest: Contest,
    contender: Option<StagedContender>,
}

/// A change of a node that has not gone in yet.
struct StagedContender {
    operation: Operation,
    row: u32,
    old: Option<u32>,
    stamped: Stamped,
    own: bool,
}

/// A change that has not gone in yet.
#[derive(Debug, Clone, Copy)]
struct Staged {
    change: Change,
    row: u32,
    /// Where its key ends in the staged keys.
    key_end: usize,
}

impl TableDraft {
    pub(crate) fn new(topic: usize, plan: Arc<dyn TablePlan>, mut buffers: Buffers) -> Self {
        buffers.rows.clear(plan.definition().columns.len());
        Self { topic, plan, buffers }
    }

    /// How rows are written.
    #[must_use]
    pub fn plan(&self) -> &Arc<dyn TablePlan> {
        &self.plan
    }

    /// Bytes held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.buffers.rows.size()
    }

    /// Stages a change: `write` appends a row as wide as the plan's definition and the bytes of its key. Of a delete's
    /// row only the key cells count.
    ///
    /// # Errors
    ///
    /// What `write` returns.
    pub fn stage(
        &mut self,
        change: Change,
        write: impl FnOnce(&dyn TablePlan, &mut Rows, &mut Vec<u8>) -> Result<(), String>,
    ) -> Result<(), String> {
        let Buffers { rows, staged, keys, .. } = &mut self.buffers;
        let row = u32::try_from(rows.len()).expect("a batch is bounded far below 4 billion rows");
        write(self.plan.as_ref(), rows, keys)?;
        staged.push(Staged { change, row, key_end: keys.len() });
        Ok(())
    }

    /// Stages a change that is to be compared with those of other nodes: `write` appends the row and the bytes of its
    /// key and then, where it says so, the old row.
    ///
    /// # Errors
    ///
    /// What `write` returns.
    pub fn contend(
        &mut self,
        operation: Operation,
        (stamped, own): (&Stamped, bool),
        write: impl FnOnce(&dyn TablePlan, &mut Rows, &mut Vec<u8>) -> Result<bool, String>,
    ) -> Result<(), String> {
        let Buffers { rows, keys, contender, .. } = &mut self.buffers;
        let row = u32::try_from(rows.len()).expect("a batch is bounded far below 4 billion rows");
        let old = write(self.plan.as_ref(), rows, keys)?.then_some(row + 1);
        *contender = Some(StagedContender { operation, row, old, stamped: stamped.clone(), own });
        Ok(())
    }

    /// Whether the staged changes may go in.
    ///
    /// # Errors
    ///
    /// [`MissingRow`]
    pub(crate) fn check(&self) -> Result<(), MissingRow> {
        let Buffers { coalescer, staged, keys, .. } = &self.buffers;
        let mut start = 0;
        for Staged { change, key_end, .. } in staged {
            if *change == Change::Update && coalescer.is_deleted(&keys[start..*key_end]) {
                return Err(MissingRow);
            }
            start = *key_end;
        }
        Ok(())
    }

    /// Puts the staged changes of the record at `offset` in. Whether there were any.
    pub(crate) fn settle(&mut self, partition: &PartitionKey, offset: i64) -> bool {
        let Buffers { rows, coalescer, staged, keys, contest, contender, .. } = &mut self.buffers;
        if let Some(StagedContender { operation, row, old, stamped, own }) = contender.take() {
            let start = contest.keys.len();
            contest.keys.append(keys);
            let version = Version {
                stamp: stamped.stamp,
                seen: stamped.seen,
                partition: u32::try_from(partition.partition).unwrap_or_default(),
                offset: u64::try_from(offset).unwrap_or_default(),
            };
            let (key, transaction) = (start..contest.keys.len(), stamped.transaction);
            let partition = partition.clone();
            contest.changes.push(Contender { operation, row, old, key, version, transaction, own, partition });
            return true;
        }
        let mut start = 0;
        for Staged { change, row, key_end } in staged.iter() {
            coalescer.key().extend_from_slice(&keys[start..*key_end]);
            coalescer.apply(rows, *change, *row).expect("check() found that the row is not deleted");
            start = *key_end;
        }
        let any = !staged.is_empty();
        staged.clear();
        keys.clear();
        any
    }

    /// Forgets the staged changes, and a row that was not finished.
    pub(crate) fn unstage(&mut self) {
        let Buffers { rows, staged, keys, contender, .. } = &mut self.buffers;
        rows.drop_partial();
        *contender = None;
        staged.clear();
        keys.clear();
    }

    /// What is staged, with the bytes of each key.
    #[cfg(test)]
    pub(crate) fn staged(&self) -> Vec<(Change, Vec<u8>)> {
        let ends = self.buffers.staged.iter().map(|staged| staged.key_end);
        let starts = std::iter::once(0).chain(ends);
        let staged = self.buffers.staged.iter().zip(starts);
        staged.map(|(staged, start)| (staged.change, self.buffers.keys[start..staged.key_end].to_vec())).collect()
    }

    /// Its buffers, empty.
    pub(crate) fn into_buffers(mut self) -> Buffers {
        self.buffers.coalescer.clear();
        self.buffers.contest = Contest::default();
        self.buffers
    }

    /// What a target writes, if anything changes, and the buffers, to which the batch comes back by [`Buffers::of`].
    pub(crate) fn launch(self) -> (Option<TableBatch>, Buffers) {
        let Self { plan, mut buffers, .. } = self;
        if buffers.coalescer.is_empty() && buffers.contest.changes.is_empty() {
            return (None, buffers);
        }
        let Buffers { rows, coalescer, coalesced, contest, .. } = &mut buffers;
        coalescer.finish(coalesced);
        let Coalesced { deletes, upserts, updates, fills } = std::mem::take(coalesced);
        let rows = std::mem::take(rows);
        let contest = std::mem::take(contest);
        (Some(TableBatch { plan, rows, deletes, upserts, updates, fills, contest }), buffers)
    }
}

impl Buffers {
    /// The buffers of a batch that is done with.
    pub(crate) fn of(self, batch: TableBatch) -> Self {
        let TableBatch { rows, deletes, upserts, updates, fills, .. } = batch;
        Self { rows, coalesced: Coalesced { deletes, upserts, updates, fills }, ..self }
    }
}
