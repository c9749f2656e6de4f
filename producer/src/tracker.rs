//! Which records Kafka has acknowledged, in the order they were enqueued.
//!
//! Acknowledgements arrive per partition, so out of order over all. What may be confirmed to the source is only the
//! unbroken prefix: everything before it is on all in-sync replicas.

use std::collections::VecDeque;

const WORD: u64 = u64::BITS as u64;

/// Milestones that wait at most: beyond, the last one moves on, so that memory stays flat whatever their values hold.
const MOST_WAITING: usize = 4096;

/// Numbers records as they are enqueued and keeps the first number that is not yet acknowledged.
///
/// Memory: one bit a record in flight, so the producer's queue bounds it.
#[derive(Debug, Default)]
pub struct AckTracker {
    next: u64,
    /// First number that is not acknowledged.
    prefix: u64,
    /// Acknowledged bits of the numbers from `base` on.
    words: VecDeque<u64>,
    /// A multiple of 64, at most `prefix`.
    base: u64,
}

impl AckTracker {
    /// The number of the record that is enqueued now.
    pub fn enqueue(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        if (number - self.base) / WORD >= self.words.len() as u64 {
            self.words.push_back(0);
        }
        number
    }

    /// Takes back the number that `enqueue` gave last: the record did not fit into the queue.
    pub fn retract(&mut self, number: u64) {
        debug_assert_eq!(number + 1, self.next, "only the last number can be taken back");
        self.next = number;
    }

    /// Notes an acknowledgement. A repeated one changes nothing.
    pub fn acknowledge(&mut self, number: u64) {
        if number < self.prefix || number >= self.next {
            return;
        }
        let index = number - self.base;
        self.words[usize::try_from(index / WORD).expect("in flight records fit into memory")] |= 1 << (index % WORD);
        if number == self.prefix {
            self.advance();
        }
    }

    fn advance(&mut self) {
        while self.prefix < self.next {
            let index = self.prefix - self.base;
            if index >= WORD {
                self.words.pop_front();
                self.base += WORD;
                continue;
            }
            let run = u64::from((self.words[0] >> index).trailing_ones());
            if run == 0 {
                return;
            }
            self.prefix += run.min(WORD - index);
        }
    }

    /// The first number that is not acknowledged: all before it are.
    #[must_use]
    pub fn prefix(&self) -> u64 {
        self.prefix
    }

    /// The number that the next record will get.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }
}

/// Values that become true when everything enqueued before them is acknowledged: log positions, checkpoints.
#[derive(Debug)]
pub struct Milestones<T> {
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for Milestones<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> Milestones<T> {
    /// `value` holds once all numbers below `next` are acknowledged. Call with growing `next`. A later value replaces
    /// an earlier one that waits for the same records, or where many wait.
    pub fn push(&mut self, next: u64, value: T) {
        let is_full = self.waiting.len() >= MOST_WAITING;
        if let Some(last) = self.waiting.back_mut() {
            debug_assert!(last.0 <= next, "milestones are pushed in order");
            if last.0 == next || is_full {
                *last = (next, value);
                return;
            }
        }
        self.waiting.push_back((next, value));
    }

    /// The last value that holds at `prefix`; it and all before it are forgotten.
    pub fn reach(&mut self, prefix: u64) -> Option<T> {
        let mut reached = None;
        while let Some((next, _)) = self.waiting.front() {
            if *next > prefix {
                break;
            }
            reached = self.waiting.pop_front().map(|(_, value)| value);
        }
        reached
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the obvious implementation: a list of flags.
        #[test]
        fn prefix_is_the_first_unacknowledged(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 1..600)) {
            let mut tracker = AckTracker::default();
            let mut flags: Vec<bool> = Vec::new();
            let mut milestones = Milestones::default();
            let mut last_reached = 0;
            for (enqueue, pick) in steps {
                if enqueue || flags.is_empty() {
                    prop_assert_eq!(tracker.enqueue(), flags.len() as u64);
                    flags.push(false);
                    milestones.push(tracker.next(), flags.len());
                } else {
                    let open: Vec<usize> = (0..flags.len()).filter(|i| !flags[*i]).collect();
                    let number = if open.is_empty() { 0 } else { open[usize::from(pick) % open.len()] };
                    flags[number] = true;
                    tracker.acknowledge(number as u64);
                }
                let expected = flags.iter().position(|f| !f).unwrap_or(flags.len());
                prop_assert_eq!(tracker.prefix(), expected as u64);
                if let Some(reached) = milestones.reach(tracker.prefix()) {
                    prop_assert!(reached <= expected && reached > last_reached);
                    last_reached = reached;
                }
                prop_assert_eq!(last_reached, expected);
                prop_assert!(tracker.words.len() as u64 <= (tracker.next - tracker.prefix) / WORD + 2);
            }
        }
    }

    #[test]
    fn many_milestones_become_fewer_and_the_last_one_holds() {
        let mut milestones = Milestones::default();
        for number in 1..=10 * MOST_WAITING as u64 {
            milestones.push(number, number);
        }
        assert_eq!(milestones.waiting.len(), MOST_WAITING);
        assert_eq!(milestones.reach(100), Some(100));
        assert_eq!(milestones.reach(u64::MAX), Some(10 * MOST_WAITING as u64));
    }

    #[test]
    fn a_retracted_number_is_given_again() {
        let mut tracker = AckTracker::default();
        assert_eq!(tracker.enqueue(), 0);
        let number = tracker.enqueue();
        tracker.retract(number);
        assert_eq!(tracker.enqueue(), 1);
        tracker.acknowledge(1);
        tracker.acknowledge(0);
        assert_eq!(tracker.prefix(), 2);
    }
}
