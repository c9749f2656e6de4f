//! Which offsets Kafka may be told: the end of the unbroken prefix of finished records, partition by partition.
//!
//! They are for tools that show lag and for targets without transactions; where to start is read from the target. So
//! they are gathered and told now and then, and a commit that fails is simply told again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rustc_hash::FxHashMap;

/// Finished ranges of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Everything below is finished.
    end: i64,
    /// Finished ranges above, by their first offset.
    beyond: BTreeMap<i64, i64>,
}

impl Prefix {
    /// Everything below `start` is finished.
    #[must_use]
    pub fn new(start: i64) -> Self {
        Self { end: start, beyond: BTreeMap::new() }
    }

    /// The offset behind the unbroken prefix: what Kafka may be told.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Notes that every record from `from` up to and without `to` is finished, in whatever order ranges finish.
    pub fn finish(&mut self, from: i64, to: i64) {
        if to <= self.end {
            return;
        }
        if from > self.end {
            match self.beyond.entry(from) {
                Entry::Vacant(free) => {
                    free.insert(to);
                }
                Entry::Occupied(mut held) => *held.get_mut() = to.max(*held.get()),
            }
            return;
        }
        self.end = to;
        while let Some(next) = self.beyond.first_entry() {
            if *next.key() > self.end {
                break;
            }
            self.end = self.end.max(next.remove());
        }
    }
}

/// The offsets of a process that Kafka has not been told yet.
#[derive(Debug, Default)]
pub struct Commits {
    prefixes: FxHashMap<(String, i32), Prefix>,
    untold: BTreeMap<(String, i32), i64>,
}

impl Commits {
    /// A partition starts at `next_offset`. `told` is what Kafka holds for it.
    pub fn start(&mut self, topic: &str, partition: i32, next_offset: i64, told: Option<i64>) {
        let key = (topic.to_owned(), partition);
        // A row of a partition that was never read says 0, which is no progress worth telling.
        if told != Some(next_offset) && (told.is_some() || next_offset > 0) {
            self.untold.insert(key.clone(), next_offset);
        } else {
            self.untold.remove(&key);
        }
        self.prefixes.insert(key, Prefix::new(next_offset));
    }

    /// Records from `from` up to and without `to` are in the target.
    pub fn finish(&mut self, topic: &str, partition: i32, from: i64, to: i64) {
        let key = (topic.to_owned(), partition);
        let Some(prefix) = self.prefixes.get_mut(&key) else { return };
        let before = prefix.end();
        prefix.finish(from, to);
        if prefix.end() > before {
            self.untold.insert(key, prefix.end());
        }
    }

    /// The partition is not ours any more.
    pub fn forget(&mut self, topic: &str, partition: i32) {
        let key = (topic.to_owned(), partition);
        self.prefixes.remove(&key);
        self.untold.remove(&key);
    }

    /// Whether there is anything to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.untold.is_empty()
    }

    /// What to tell Kafka now; counts as told from here on.
    pub fn take(&mut self) -> BTreeMap<(String, i32), i64> {
        std::mem::take(&mut self.untold)
    }

    /// Telling failed: tells it again the next time, unless there is better news by then.
    pub fn give_back(&mut self, failed: BTreeMap<(String, i32), i64>) {
        for (key, offset) in failed {
            if self.prefixes.contains_key(&key) {
                self.untold.entry(key).or_insert(offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn whatever_the_order_the_end_is_that_of_the_unbroken_prefix(
            lengths in proptest::collection::vec(1_i64..5, 1..20),
            order in any::<prop::sample::Index>(),
            seed in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let mut ranges = Vec::new();
            let mut at = 5;
            for length in lengths {
                ranges.push((at, at + length));
                at += length;
            }
            let mut shuffled: Vec<_> = ranges.iter().copied().zip(seed).collect();
            shuffled.sort_by_key(|(_, key)| *key);
            let done = order.index(shuffled.len());
            let mut prefix = Prefix::new(5);
            let mut finished = std::collections::HashSet::new();
            for &((from, to), _) in &shuffled[..done] {
                let before = prefix.end();
                prefix.finish(from, to);
                finished.extend(from..to);
                prop_assert!(prefix.end() >= before);
                let expected = (5..).find(|offset| !finished.contains(offset)).unwrap();
                prop_assert_eq!(prefix.end(), expected);
            }
        }
    }

    #[test]
    fn only_news_is_told_and_failures_are_told_again() {
        let mut commits = Commits::default();
        commits.start("t", 0, 10, Some(10));
        commits.start("t", 1, 20, Some(15));
        commits.start("t", 2, 0, None);
        let told = commits.take();
        assert_eq!(told, BTreeMap::from([(("t".to_owned(), 1), 20)]), "the row wins over the group's offset");
        commits.finish("t", 0, 10, 12);
        commits.finish("t", 0, 12, 15);
        let told = commits.take();
        assert_eq!(told, BTreeMap::from([(("t".to_owned(), 0), 15)]));
        commits.finish("t", 0, 15, 16);
        commits.give_back(told);
        assert_eq!(commits.take(), BTreeMap::from([(("t".to_owned(), 0), 16)]));
        commits.finish("t", 0, 16, 17);
        commits.forget("t", 0);
        commits.finish("t", 0, 17, 18);
        assert!(commits.is_empty());
    }
}
