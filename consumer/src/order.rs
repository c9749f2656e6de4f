//! Which records of a partition count: everything above the last position, in the epoch that is open.
//!
//! A producer that was restarted or frozen repeats records; one that woke up too late sends records of an epoch that
//! is over. Both are recognised by position alone, so nothing that reached the target is applied twice.

use syncline_event::header::{BarrierKind, Header};
use syncline_event::position::Position;

/// A partition's place in its source's order. Copied at the cut of a batch and taken back if the batch fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing of ours yet, read from the topic's first record: the first of ours must open an epoch.
    Fresh,
    /// Nothing of ours yet, but somebody chose where to start (`takeover`, `resync --from`): the first of ours is
    /// taken as it comes.
    Chosen,
    /// The position of the last record of ours that counted.
    At(Position),
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Take,
    /// It was applied before: pass over it.
    Repeat,
    /// Its epoch is over: pass over it and report it.
    Outdated,
    /// It is of an epoch that no marker has opened: the partition stops.
    Unopened,
}

impl Order {
    /// The order as a progress row tells it.
    #[must_use]
    pub fn from_progress(next_offset: i64, position: Option<Position>) -> Self {
        match position {
            Some(position) => Self::At(position),
            None if next_offset == 0 => Self::Fresh,
            None => Self::Chosen,
        }
    }

    /// The last position, for the progress row.
    #[must_use]
    pub fn position(self) -> Option<Position> {
        match self {
            Self::Fresh | Self::Chosen => None,
            Self::At(position) => Some(position),
        }
    }

    /// Judges the next record and moves on if it counts. Records without our header are never skipped: what Debezium
    /// says about their place ties.
    pub fn judge(&mut self, header: Option<&Header>) -> Verdict {
        let Some(header) = header else { return Verdict::Take };
        self.judge_position(header.position, header.barrier.map(|barrier| barrier.kind))
    }

    fn judge_position(&mut self, position: Position, marker: Option<BarrierKind>) -> Verdict {
        #[cfg(test)]
        if TRUSTS.get() {
            *self = Self::At(position);
            return Verdict::Take;
        }
        let opens = marker.is_some_and(BarrierKind::opens_epoch);
        let verdict = match self {
            Self::Fresh if !opens => Verdict::Unopened,
            Self::Fresh | Self::Chosen => Verdict::Take,
            Self::At(last) if position.epoch < last.epoch => Verdict::Outdated,
            Self::At(last) if position.epoch > last.epoch && !opens => Verdict::Unopened,
            Self::At(last) if position <= *last => Verdict::Repeat,
            Self::At(_) => Verdict::Take,
        };
        if verdict == Verdict::Take {
            *self = Self::At(position);
        }
        verdict
    }
}

#[cfg(test)]
thread_local! {
    static TRUSTS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Takes every record as it comes, on this thread and until the answer is dropped: to see what the order is good for.
#[cfg(test)]
pub(crate) fn trust_everything() -> impl Drop {
    struct Trusting;
    impl Drop for Trusting {
        fn drop(&mut self) {
            TRUSTS.set(false);
        }
    }
    TRUSTS.set(true);
    Trusting
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use syncline_event::header::Barrier;
    use syncline_event::position::Phase;

    fn record(epoch: u32, lsn: u64, number: u64) -> Header {
        Header::new(Position { epoch, phase: Phase::Stream, lsn, number, sub: 0 }, 1)
    }

    fn marker(epoch: u32, kind: BarrierKind) -> Header {
        let mut header = Header::new(Position::opening(epoch), 0);
        header.barrier = Some(Barrier { kind, partitions: 2 });
        header
    }

    #[test]
    fn repeats_and_old_epochs_are_passed_over() {
        let mut order = Order::from_progress(0, None);
        assert_eq!(order.judge(Some(&marker(1, BarrierKind::Epoch))), Verdict::Take);
        assert_eq!(order.judge(Some(&record(1, 10, 1))), Verdict::Take);
        assert_eq!(order.judge(Some(&record(1, 10, 2))), Verdict::Take);
        assert_eq!(order.judge(Some(&record(1, 10, 1))), Verdict::Repeat);
        assert_eq!(order.judge(Some(&marker(1, BarrierKind::Epoch))), Verdict::Repeat);
        assert_eq!(order.judge(Some(&marker(2, BarrierKind::Snapshot))), Verdict::Take);
        assert_eq!(order.judge(Some(&record(1, 11, 1))), Verdict::Outdated);
        assert_eq!(order.judge(Some(&marker(1, BarrierKind::Epoch))), Verdict::Outdated);
        assert_eq!(order.judge(Some(&record(2, 5, 1))), Verdict::Take);
    }

    #[test]
    fn an_epoch_opens_by_its_marker_only() {
        let mut order = Order::from_progress(0, None);
        assert_eq!(order.judge(Some(&record(1, 10, 1))), Verdict::Unopened);
        assert_eq!(order.judge(Some(&marker(1, BarrierKind::Truncate))), Verdict::Unopened);
        order = Order::At(record(1, 10, 1).position);
        assert_eq!(order.judge(Some(&record(2, 11, 1))), Verdict::Unopened);
        assert_eq!(order.judge(Some(&record(1, 11, 1))), Verdict::Take, "the partition's own epoch is still open");
    }

    #[test]
    fn a_chosen_start_takes_the_first_record_as_it_comes() {
        let mut order = Order::from_progress(100, None);
        assert_eq!(order.judge(Some(&record(3, 10, 1))), Verdict::Take);
        assert_eq!(order.judge(Some(&record(3, 10, 1))), Verdict::Repeat);
    }

    #[test]
    fn records_of_others_always_count_and_leave_no_position() {
        let mut order = Order::Fresh;
        assert_eq!(order.judge(None), Verdict::Take);
        assert_eq!(order.judge(None), Verdict::Take);
        assert_eq!(order.position(), None);
    }

    /// What a partition holds if producers of growing epochs append ascending runs, restarting anywhere in their
    /// own past, while zombies of older epochs append in between.
    fn history() -> impl Strategy<Value = Vec<Header>> {
        let run = (any::<bool>(), 1_u32..4, 1_u64..30, 1_u64..20);
        proptest::collection::vec(run, 1..30).prop_map(|runs| {
            let mut log = vec![marker(1, BarrierKind::Epoch)];
            let mut epoch = 1;
            let mut sent = 0;
            for (open, old, back, length) in runs {
                if open {
                    epoch += 1;
                    sent = 0;
                    log.push(marker(epoch, BarrierKind::Snapshot));
                } else if old < epoch {
                    log.extend((1..=length).map(|lsn| record(old, lsn, 1)));
                    continue;
                }
                let from = sent - sent.min(back);
                log.extend((from + 1..=from + length).map(|lsn| record(epoch, lsn, 1)));
                sent = sent.max(from + length);
            }
            log
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_counts_is_strictly_ascending_and_complete(log in history(), cut in any::<prop::sample::Index>()) {
            let mut order = Order::from_progress(0, None);
            let cut = cut.index(log.len());
            let mut taken = Vec::new();
            for (offset, header) in log.iter().enumerate() {
                if offset == cut {
                    // A new owner knows what the progress row says.
                    order = Order::from_progress(offset as i64, order.position());
                }
                match order.judge(Some(header)) {
                    Verdict::Take => taken.push(header.position),
                    Verdict::Unopened => prop_assert!(false, "markers come first in this history"),
                    Verdict::Repeat | Verdict::Outdated => {}
                }
            }
            prop_assert!(taken.windows(2).all(|pair| pair[0] < pair[1]));
            // Nothing of the last epoch is missing.
            let last = log.iter().map(|header| header.position.epoch).max().unwrap();
            let mut expected: Vec<_> = log.iter().map(|h| h.position).filter(|p| p.epoch == last).collect();
            expected.sort();
            expected.dedup();
            taken.retain(|position| position.epoch == last);
            prop_assert_eq!(taken, expected);
        }
    }
}
