//! Stamps: one total order of all changes of a topology, whatever the nodes' clocks say.
//!
//! A stamp is a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014) with the node that made the
//! change. Each node's producer stamps that node's changes in the order of its log; what the node has applied from
//! others moves its clock on, so that a change made after another one was seen is later than it.
//!
//! All changes of a transaction have one stamp, and their offsets tell them apart: with a stamp for each, another
//! node's change could come between two changes of one row that became visible together.

use serde::{Deserialize, Serialize};

/// When and where a transaction made its changes. Ordered by its fields, first to last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Hybrid logical clock, microseconds since 1970. 0 for rows that were there before the first sync.
    pub clock_us: u64,
    /// Tells apart what happened in the same microsecond. The node's priority where `clock_us` is 0.
    pub counter: u32,
    /// The node, at most 255 bytes.
    pub origin: String,
}

/// The clock of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    clock_us: u64,
    counter: u32,
}

impl Clock {
    /// The time of the node's next transaction, which was committed at `commit_us` by the database's own clock. Later
    /// than everything this clock has given or learnt.
    pub fn tick(&mut self, commit_us: u64) -> (u64, u32) {
        if commit_us > self.clock_us {
            *self = Self { clock_us: commit_us, counter: 0 };
        } else if let Some(counter) = self.counter.checked_add(1) {
            self.counter = counter;
        } else {
            *self = Self { clock_us: self.clock_us + 1, counter: 0 };
        }
        (self.clock_us, self.counter)
    }

    /// The last time that it has given or learnt.
    #[must_use]
    pub fn time(&self) -> (u64, u32) {
        (self.clock_us, self.counter)
    }

    /// Takes note of another node's time: what comes next is later.
    pub fn learn(&mut self, clock_us: u64, counter: u32) {
        let other = Self { clock_us, counter };
        if (other.clock_us, other.counter) > (self.clock_us, self.counter) {
            *self = other;
        }
    }
}

/// What a node had applied of another node's topic of the same table when it made a change: for each partition the
/// offset behind the last record applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// By the node's name; sorted.
    pub origins: Vec<(String, Vec<u64>)>,
}

impl Seen {
    /// Whether the record at `offset` of `partition` of `origin`'s topic had been applied.
    #[must_use]
    pub fn includes(&self, origin: &str, partition: u32, offset: u64) -> bool {
        let found = self.origins.binary_search_by(|(name, _)| name.as_str().cmp(origin));
        let next = found.ok().and_then(|index| self.origins[index].1.get(usize::try_from(partition).ok()?));
        next.is_some_and(|next| offset < *next)
    }

    /// Takes back that records of a partition from `offset` on had been applied: they wait.
    pub fn hold(&mut self, origin: &str, partition: u32, offset: u64) {
        if let Ok(index) = self.origins.binary_search_by(|(name, _)| name.as_str().cmp(origin))
            && let Some(next) = usize::try_from(partition).ok().and_then(|place| self.origins[index].1.get_mut(place))
        {
            *next = (*next).min(offset);
        }
    }

    /// Raises what is known of a partition.
    pub fn raise(&mut self, origin: &str, partition: u32, next_offset: u64) {
        let index = match self.origins.binary_search_by(|(name, _)| name.as_str().cmp(origin)) {
            Ok(index) => index,
            Err(index) => {
                self.origins.insert(index, (origin.to_owned(), Vec::new()));
                index
            }
        };
        let offsets = &mut self.origins[index].1;
        let partition = partition as usize;
        if offsets.len() <= partition {
            offsets.resize(partition + 1, 0);
        }
        offsets[partition] = offsets[partition].max(next_offset);
    }
}

/// Prefix of the transactional logical message that begins every transaction in which Syncline applies changes.
pub const APPLIED_PREFIX: &str = "syncline.applied";

/// Prefix of the logical message, in no transaction, that asks the node's producer for a [`Fence`]'s markers.
pub const FENCE_PREFIX: &str = "syncline.fence";

/// Content of a message with [`APPLIED_PREFIX`], as JSON: the rows of its transaction came from other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The topology's name: rows applied by another sync are captured like any other.
    pub topology: String,
    /// The highest time among the changes that were applied, discarded or set aside, for the node's clock.
    pub clock_us: u64,
    /// The counter that goes with it.
    pub counter: u32,
    /// How far the node has come with other nodes' topics.
    pub progress: Vec<AppliedProgress>,
    /// Keys whose rows do not show some of these changes yet, and those whose rows do now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
}

/// A key whose row does not show all that [`AppliedProgress`] passed over: its changes have not seen those records.
/// Replaces what was known of the same key and partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The table of the node that has applied, `schema.table`.
    pub table: String,
    /// The key's [`key_hash`].
    pub key: u64,
    /// The node whose records wait.
    pub origin: String,
    /// The partition of the origin's topic.
    pub partition: u32,
    /// The lowest offset that waits; none where nothing does any more.
    pub from: Option<u64>,
}

/// Tells keys apart in [`Held`], by their columns' texts as PostgreSQL puts them out, in the order of the columns' names.
/// Two keys with one hash only make changes look concurrent that were not.
#[must_use]
pub fn key_hash<'a>(columns: impl IntoIterator<Item = &'a str>) -> u64 {
    // FNV-1a. Texts from a database hold no zero byte, so it ends each one.
    let bytes = columns.into_iter().flat_map(|column| column.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How far a node has come with one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedProgress {
    /// The node whose topic it is.
    pub origin: String,
    /// The table of the node that has applied, `schema.table`.
    pub table: String,
    /// The partition of the origin's topic.
    pub partition: u32,
    /// The offset behind the last record applied.
    pub next_offset: u64,
    /// The lowest offset of the partition that any key holds back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_from: Option<u64>,
    /// Too many keys hold something back to be named in [`Applied::held`]: all do, from there on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crowded: bool,
}

/// Content of a message with [`FENCE_PREFIX`], as JSON: a marker is asked for in every partition of the tables'
/// topics. Behind it, everything committed before the message has been published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The topology's name.
    pub topology: String,
    /// Comes back in the markers.
    pub id: u64,
    /// Tables of this node, `schema.table`.
    pub tables: Vec<String>,
    /// The highest time among the changes that wait, for the node's clock: what is committed behind the message is
    /// later.
    pub clock_us: u64,
    /// The counter that goes with it.
    pub counter: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_grow_whatever_the_wall_clock_does(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..20, 0_u32..4), 1..100),
        ) {
            let mut clock = Clock::default();
            let mut last = (0, 0);
            for (learns, at, counter) in steps {
                if learns {
                    clock.learn(at, counter);
                    last = last.max((at, counter));
                } else {
                    let next = clock.tick(at);
                    prop_assert!(next > last);
                    last = next;
                }
            }
        }
    }

    #[test]
    fn a_full_counter_goes_over_into_the_clock() {
        let mut clock = Clock::default();
        clock.learn(7, u32::MAX);
        assert_eq!(clock.tick(3), (8, 0));
    }

    #[test]
    fn what_was_seen_is_known_by_origin_and_partition() {
        let mut seen = Seen::default();
        seen.raise("hq", 2, 10);
        seen.raise("eu", 0, 3);
        seen.raise("hq", 2, 4);
        assert!(seen.includes("hq", 2, 9) && !seen.includes("hq", 2, 10));
        assert!(!seen.includes("hq", 0, 0) && !seen.includes("us", 0, 0) && seen.includes("eu", 0, 2));
        seen.hold("hq", 2, 7);
        seen.hold("us", 0, 0);
        assert!(seen.includes("hq", 2, 6) && !seen.includes("hq", 2, 7));
    }

    #[test]
    fn a_keys_columns_are_hashed_one_by_one() {
        assert_ne!(key_hash(["ab", "c"]), key_hash(["a", "bc"]));
        assert_eq!(key_hash(["a"]), key_hash(vec!["a"]));
    }
}
