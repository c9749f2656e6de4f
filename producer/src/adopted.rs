//! Where another producer ended in each partition, for the one that goes on in its topics.
//!
//! Debezium may end inside a transaction, or between records that share a place in the log; it confirms the slot only
//! at the ends of transactions. So the slot delivers again what is in the topics already, and publishing that anew
//! would take rows back in time. Everything up to the last record of a partition is left out there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a checkpoint keeps of another producer's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The end of the log at the takeover: what the other producer published had committed before it.
    pub until: u64,
    /// The last records, by topic and partition.
    pub tails: BTreeMap<String, BTreeMap<u32, Tail>>,
}

/// The last record of the log in a partition, as its source block tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// The end of the last transaction before the record's own, 0 where there was none.
    pub behind: u64,
    /// The record's transaction.
    pub transaction: u32,
    /// The record's place in the log.
    pub lsn: u64,
    /// How many records of the partition's end have this transaction and this place.
    pub records: u64,
}

/// Where a record of ours belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where its transaction's commit begins.
    pub commit_lsn: u64,
    /// Its transaction.
    pub transaction: u32,
    /// Its own place in the log.
    pub lsn: u64,
}

impl Tail {
    /// Whether the partition holds the next record, which has this place. Asked once a record, in their order.
    pub fn holds(&mut self, place: Place) -> bool {
        if place.commit_lsn < self.behind {
            return true;
        }
        if place.transaction != self.transaction || place.lsn > self.lsn {
            return false;
        }
        if place.lsn < self.lsn {
            return true;
        }
        let held = self.records > 0;
        self.records = self.records.saturating_sub(1);
        held
    }

    /// Whether the other producer had come past this place.
    #[must_use]
    pub fn is_behind(&self, place: Place) -> bool {
        place.commit_lsn < self.behind || (place.transaction == self.transaction && place.lsn <= self.lsn)
    }
}

/// The ends of one topic's partitions, while they matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tails {
    until: u64,
    tails: BTreeMap<u32, Tail>,
}

impl Tails {
    /// Of a topic; nothing for a topic that was not taken over.
    #[must_use]
    pub fn of(adopted: Option<&Adopted>, topic: &str) -> Self {
        let tails = adopted.and_then(|adopted| adopted.tails.get(topic)).cloned().unwrap_or_default();
        Self { until: adopted.map_or(0, |adopted| adopted.until), tails }
    }

    /// Whether the partition holds the next record already.
    pub fn hold(&mut self, partition: u32, place: Place) -> bool {
        if self.is_over(place) {
            return false;
        }
        self.tails.get_mut(&partition).is_some_and(|tail| tail.holds(place))
    }

    /// Whether something behind this place has been published in some partition.
    pub fn are_behind(&mut self, place: Place) -> bool {
        !self.is_over(place) && self.tails.values().any(|tail| tail.is_behind(place))
    }

    fn is_over(&mut self, place: Place) -> bool {
        if !self.tails.is_empty() && place.commit_lsn >= self.until {
            self.tails.clear();
        }
        self.tails.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(commit_lsn: u64, transaction: u32, lsn: u64) -> Place {
        Place { commit_lsn, transaction, lsn }
    }

    fn tails() -> Tails {
        let tail = Tail { behind: 100, transaction: 7, lsn: 150, records: 2 };
        let adopted = Adopted { until: 300, tails: BTreeMap::from([("t".to_owned(), BTreeMap::from([(1, tail)]))]) };
        Tails::of(Some(&adopted), "t")
    }

    #[test]
    fn a_transaction_in_progress_goes_on_behind_its_last_record() {
        let mut tails = tails();
        // Complete before it, though one of its rows lies behind the last record's place.
        assert!(tails.hold(1, place(90, 6, 80)));
        assert!(tails.hold(1, place(160, 7, 140)));
        // Several rows of one place: as many as are there.
        assert!(tails.hold(1, place(160, 7, 150)));
        assert!(tails.hold(1, place(160, 7, 150)));
        assert!(!tails.hold(1, place(160, 7, 150)));
        assert!(!tails.hold(1, place(160, 7, 155)));
        // Rows of a later transaction may lie before the last record's place.
        assert!(!tails.hold(1, place(200, 8, 120)));
    }

    #[test]
    fn a_partition_that_holds_nothing_gets_everything() {
        let mut tails = tails();
        assert!(!tails.hold(0, place(90, 6, 80)));
        assert!(!Tails::of(None, "t").hold(1, place(90, 6, 80)));
    }

    #[test]
    fn a_commit_that_begins_where_the_last_one_ended_is_not_before_it() {
        assert!(!tails().hold(1, place(100, 8, 50)));
    }

    #[test]
    fn behind_the_takeover_nothing_is_left_out() {
        let mut tails = tails();
        assert!(!tails.hold(1, place(300, 7, 140)));
        assert!(!tails.hold(1, place(90, 6, 80)), "the log does not go back");
    }

    #[test]
    fn a_truncate_among_published_rows_is_known() {
        assert!(tails().are_behind(place(160, 7, 120)));
        assert!(tails().are_behind(place(90, 6, 80)));
        assert!(!tails().are_behind(place(160, 7, 151)));
        assert!(!tails().are_behind(place(200, 8, 120)));
    }
}
