//! The part of a batch that goes to one target table: rows, and by key what becomes of them.

use std::sync::Arc;

use crate::coalesce::{Change, Coalesced, Coalescer, MissingRow};
use crate::rows::Rows;
use crate::targets::{TableBatch, TablePlan};

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

    /// Puts the staged changes in. Whether there were any.
    pub(crate) fn settle(&mut self) -> bool {
        let Buffers { rows, coalescer, staged, keys, .. } = &mut self.buffers;
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
        let Buffers { rows, staged, keys, .. } = &mut self.buffers;
        rows.drop_partial();
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
        self.buffers
    }

    /// What a target writes, if anything changes, and the buffers, to which the batch comes back by [`Buffers::of`].
    pub(crate) fn launch(self) -> (Option<TableBatch>, Buffers) {
        let Self { plan, mut buffers, .. } = self;
        if buffers.coalescer.is_empty() {
            return (None, buffers);
        }
        let Buffers { rows, coalescer, coalesced, .. } = &mut buffers;
        coalescer.finish(coalesced);
        let Coalesced { deletes, upserts, updates, fills } = std::mem::take(coalesced);
        let rows = std::mem::take(rows);
        (Some(TableBatch { plan, rows, deletes, upserts, updates, fills }), buffers)
    }
}

impl Buffers {
    /// The buffers of a batch that is done with.
    pub(crate) fn of(self, batch: TableBatch) -> Self {
        let TableBatch { rows, deletes, upserts, updates, fills, .. } = batch;
        Self { rows, coalesced: Coalesced { deletes, upserts, updates, fills }, ..self }
    }
}
