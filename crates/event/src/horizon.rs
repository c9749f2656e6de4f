//! What a node has seen of the other nodes' changes, as the messages in its log tell it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stamp::{AppliedProgress, Held, Seen};

/// Keys that are told apart; of more, every key counts as holding back what they do.
const MOST_KEYS: usize = 2_000;

/// How far a node has come with the other nodes' topics of one table, and what its rows do not show of that yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizon {
    seen: Seen,
    /// By the key's hash: what it holds back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    keys: BTreeMap<u64, Vec<Offset>>,
    /// What some keys hold back that had no place among the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rest: Vec<Offset>,
}

/// An offset of a node's partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Offset {
    origin: String,
    partition: u32,
    offset: u64,
}

impl Horizon {
    /// Whether any key holds something back.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The node has come on with a partition.
    pub fn progress(&mut self, progress: &AppliedProgress) {
        let AppliedProgress { origin, partition, next_offset, held_from, crowded, .. } = progress;
        self.seen.raise(origin, *partition, *next_offset);
        if *crowded || self.rest.iter().any(|rest| rest.is_of(origin, *partition)) {
            set(&mut self.rest, origin, *partition, *held_from);
        }
    }

    /// A key holds something back, or no longer.
    pub fn hold(&mut self, held: &Held) {
        self.hold_among(held, MOST_KEYS);
    }

    /// The same with place for so many keys.
    pub fn hold_among(&mut self, held: &Held, most_keys: usize) {
        let Held { key, origin, partition, from, .. } = held;
        if let Some(offsets) = self.keys.get_mut(key) {
            set(offsets, origin, *partition, *from);
            if offsets.is_empty() {
                self.keys.remove(key);
            }
        } else if let Some(from) = *from {
            if self.keys.len() < most_keys {
                let offset = Offset { origin: origin.clone(), partition: *partition, offset: from };
                self.keys.insert(*key, vec![offset]);
            } else {
                let rest = self.rest.iter().find(|rest| rest.is_of(origin, *partition));
                let from = rest.map_or(from, |rest| rest.offset.min(from));
                set(&mut self.rest, origin, *partition, Some(from));
            }
        }
    }

    /// What a change of some keys (by their hashes) has seen.
    #[must_use]
    pub fn seen_by(&self, keys: &[u64]) -> Seen {
        self.without(keys.iter().filter_map(|key| self.keys.get(key)))
    }

    /// What a change of any key has seen.
    #[must_use]
    pub fn seen_by_all(&self) -> Seen {
        self.without(self.keys.values())
    }

    fn without<'a>(&'a self, held: impl Iterator<Item = &'a Vec<Offset>>) -> Seen {
        let mut seen = self.seen.clone();
        for Offset { origin, partition, offset } in held.flatten().chain(&self.rest) {
            seen.hold(origin, *partition, *offset);
        }
        seen
    }
}

impl Offset {
    fn is_of(&self, origin: &str, partition: u32) -> bool {
        self.origin == origin && self.partition == partition
    }
}

/// Replaces what is held of a partition.
fn set(offsets: &mut Vec<Offset>, origin: &str, partition: u32, from: Option<u64>) {
    offsets.retain(|offset| !offset.is_of(origin, partition));
    offsets.extend(from.map(|offset| Offset { origin: origin.to_owned(), partition, offset }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(next_offset: u64, held_from: Option<u64>, crowded: bool) -> AppliedProgress {
        AppliedProgress { origin: "eu".into(), table: "t".into(), partition: 0, next_offset, held_from, crowded }
    }

    fn held(key: u64, from: Option<u64>) -> Held {
        Held { table: "t".into(), key, origin: "eu".into(), partition: 0, from }
    }

    fn next(seen: &Seen) -> u64 {
        seen.origins[0].1[0]
    }

    #[test]
    fn a_key_that_holds_something_back_has_not_seen_it() {
        let mut horizon = Horizon::default();
        horizon.progress(&progress(10, Some(4), false));
        horizon.hold(&held(1, Some(4)));
        horizon.hold(&held(2, Some(7)));
        assert_eq!([1, 2, 3].map(|key| next(&horizon.seen_by(&[key]))), [4, 7, 10]);
        assert_eq!((next(&horizon.seen_by(&[2, 1])), next(&horizon.seen_by_all())), (4, 4));
        horizon.hold(&held(1, None));
        assert_eq!(next(&horizon.seen_by_all()), 7);
        horizon.hold(&held(2, None));
        assert!(!horizon.holds());
        let json = serde_json::to_string(&horizon).unwrap();
        assert_eq!(json, r#"{"seen":{"origins":[["eu",[10]]]}}"#);
    }

    #[test]
    fn keys_without_a_place_hold_back_all() {
        let mut horizon = Horizon::default();
        horizon.progress(&progress(10, Some(4), false));
        for (key, from) in [(1, 4), (2, 6), (3, 5)] {
            horizon.hold_among(&held(key, Some(from)), 1);
        }
        assert_eq!([1, 2, 9].map(|key| next(&horizon.seen_by(&[key]))), [4, 5, 5]);
        horizon.hold_among(&held(2, None), 1);
        horizon.progress(&progress(12, Some(6), false));
        assert_eq!(next(&horizon.seen_by(&[9])), 6);
        horizon.progress(&progress(13, None, false));
        assert_eq!(next(&horizon.seen_by(&[9])), 13);
        horizon.progress(&progress(14, Some(13), true));
        assert_eq!(next(&horizon.seen_by(&[9])), 13);
        let json = serde_json::to_string(&horizon).unwrap();
        assert_eq!(serde_json::from_str::<Horizon>(&json).unwrap(), horizon);
    }
}
