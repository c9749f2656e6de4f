//! When a truncate, a new snapshot or a new set of key columns may take effect: when its marker has arrived in every
//! partition of the topic, and not before.
//!
//! The rule by which targets are judged. A target keeps one row per (group, topic, marker), locks it before it asks, and does what the
//! answer says in the transaction that moves the arriving partition's progress row.

use syncline_event::position::Position;

/// A barrier as the target remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Barrier {
    /// The marker's position, the same in every partition.
    pub(super) position: Position,
    /// How many partitions must arrive.
    pub(super) partitions: u32,
    /// How many have arrived, each counted once.
    pub(super) arrived: u32,
    /// Whether it is done with, by its work or by being dropped.
    pub(super) released: bool,
}

/// What an arriving partition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    /// Note the arrival and wait.
    Wait,
    /// The last one: do the work, note the barrier as released, go on.
    Work,
    /// The barrier was released before (or dropped): go on without doing anything.
    Pass,
}

/// Judges the arrival of a partition that has not arrived before at the marker at `position` of a topic with
/// `partitions` partitions. `noted` is the marker's row, where there is one; `newest` the highest position that any
/// partition of the topic has come to, the arriving one left out.
///
/// A marker that another partition has come past without waiting will never arrive there: its barrier was overtaken by
/// a later marker or epoch, or by a start behind it, and what it announced is announced again.
#[must_use]
pub(super) fn arrive(
    noted: Option<&Barrier>,
    position: Position,
    partitions: u32,
    newest: Option<Position>,
) -> Arrived {
    let arrived = noted.map_or(0, |barrier| barrier.arrived);
    if noted.is_some_and(|barrier| barrier.released) || newest.is_some_and(|newest| newest > position) {
        return Arrived::Pass;
    }
    // The count that was noted first counts: a topic may have grown since.
    let expected = noted.map_or(partitions, |barrier| barrier.partitions);
    if arrived + 1 >= expected { Arrived::Work } else { Arrived::Wait }
}

/// Whether partitions that wait at the barrier go on: it is released, or a partition of the topic has come past it,
/// so that it can never be complete.
#[must_use]
pub(super) fn released(barrier: &Barrier, newest: Option<Position>) -> bool {
    barrier.released || newest.is_some_and(|newest| newest > barrier.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier(arrived: u32) -> Barrier {
        Barrier { position: Position::opening(2), partitions: 3, arrived, released: false }
    }

    #[test]
    fn the_last_arrival_does_the_work() {
        let at = Position::opening(2);
        assert_eq!(arrive(None, at, 3, None), Arrived::Wait);
        assert_eq!(arrive(Some(&barrier(1)), at, 3, Some(at)), Arrived::Wait);
        assert_eq!(arrive(Some(&barrier(2)), at, 3, Some(at)), Arrived::Work);
        assert_eq!(arrive(None, at, 1, None), Arrived::Work);
    }

    #[test]
    fn what_comes_after_the_work_passes() {
        let done = Barrier { released: true, ..barrier(3) };
        assert_eq!(arrive(Some(&done), done.position, 3, None), Arrived::Pass);
        assert!(released(&done, None));
        assert!(!released(&barrier(2), Some(Position::opening(2))));
    }

    #[test]
    fn a_later_epoch_anywhere_drops_the_barrier_without_its_work() {
        let later = Some(Position::opening(3));
        assert_eq!(arrive(Some(&barrier(2)), Position::opening(2), 3, later), Arrived::Pass);
        assert!(released(&barrier(2), later));
    }
}
