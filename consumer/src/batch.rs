//! What goes into one transaction. Decisions only.
//!
//! A batch is whatever queued up while the one before it was being written, within bounds: an idle consumer's latency
//! is one commit, a busy one's batches grow until they are worth their commit.

use rustc_hash::FxHashMap;

/// Bounds of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most changes.
    pub changes: usize,
    /// Most bytes of keys, values and headers. A change larger than this makes a batch of its own.
    pub bytes: usize,
}

/// What to do with a partition's next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It goes in.
    Take,
    /// Its partition contributes nothing more to this batch; others may.
    CutPartition,
    /// The batch is full.
    Full,
}

/// What a batch holds so far.
#[derive(Debug, Clone, Default)]
pub struct Extent {
    changes: usize,
    bytes: usize,
    /// The definition number under which each topic's rows are written.
    definitions: FxHashMap<usize, u32>,
}

impl Extent {
    /// Judges a change of `bytes` bytes under definition number `definition` of `topic` (an index of the caller's),
    /// and counts it if it goes in. A table's rows in one batch are all of one definition.
    pub fn admit(&mut self, limits: Limits, topic: usize, definition: u32, bytes: usize) -> Admission {
        if self.changes > 0 && (self.changes >= limits.changes || self.bytes + bytes > limits.bytes) {
            return Admission::Full;
        }
        if *self.definitions.entry(topic).or_insert(definition) != definition {
            return Admission::CutPartition;
        }
        self.changes += 1;
        self.bytes += bytes;
        Admission::Take
    }

    /// Changes in the batch.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// An empty batch.
    pub fn clear(&mut self) {
        self.changes = 0;
        self.bytes = 0;
        self.definitions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn bounds_hold_and_everything_goes_through(
            changes in proptest::collection::vec((0_usize..3, 1_u32..3, 1_usize..50), 1..200),
        ) {
            let limits = Limits { changes: 10, bytes: 100 };
            // Each topic is one partition here; a cut keeps the rest of it for the next batch.
            let mut queues: Vec<std::collections::VecDeque<_>> = vec![Default::default(); 3];
            for (topic, definition, bytes) in changes.clone() {
                queues[topic].push_back((definition, bytes));
            }
            let mut written = 0;
            let mut batches = 0;
            while queues.iter().any(|queue| !queue.is_empty()) {
                let mut extent = Extent::default();
                let mut sizes = Vec::new();
                'fill: for (topic, queue) in queues.iter_mut().enumerate() {
                    let mut definitions = std::collections::BTreeSet::new();
                    while let Some(&(definition, bytes)) = queue.front() {
                        match extent.admit(limits, topic, definition, bytes) {
                            Admission::Take => {
                                definitions.insert(definition);
                                sizes.push(bytes);
                                queue.pop_front();
                            }
                            Admission::CutPartition => break,
                            Admission::Full => break 'fill,
                        }
                    }
                    prop_assert!(definitions.len() <= 1);
                }
                prop_assert!(!sizes.is_empty(), "every batch gets on");
                prop_assert!(sizes.len() <= 10 && (sizes.len() == 1 || sizes.iter().sum::<usize>() <= 100));
                written += sizes.len();
                batches += 1;
                prop_assert!(batches <= changes.len());
            }
            prop_assert_eq!(written, changes.len());
        }
    }

    #[test]
    fn a_change_beyond_all_bounds_goes_alone() {
        let mut extent = Extent::default();
        let limits = Limits { changes: 10, bytes: 100 };
        assert_eq!(extent.admit(limits, 0, 1, 1000), Admission::Take);
        assert_eq!(extent.admit(limits, 0, 1, 1), Admission::Full);
    }
}
