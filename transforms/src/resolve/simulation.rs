//! Random histories of a topology: nodes whose clocks are far apart, writers, producers that are behind and start
//! again, consumers that take what they please and crash. `SYNCLINE_SEED` plays one history again.

mod consumer;
mod judge;
mod laws;
mod node;
mod producer;
mod world;

use node::{Key, Node};
use world::{Kind, Random, World};

/// Protections that can be taken away, to see that they are needed.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Rows are written whatever local writes are on their way.
    ignores_local_writes: bool,
    /// Changes are taken as they arrive.
    takes_everything: bool,
    forgets_tombstones: bool,
    /// Producers do not learn others' times.
    deaf_clocks: bool,
    /// Each change has a stamp of its own, not each transaction.
    stamp_each_change: bool,
    /// Own changes note whatever `xmin` their row has.
    notes_any_xmin: bool,
    /// Own removals are not done again.
    repairs_nothing: bool,
    /// A removal does not wait for an insert that cannot be seen yet.
    removes_in_haste: bool,
    /// What waits counts as seen.
    claims_what_waits: bool,
    /// Own records are taken before their transactions are visible.
    runs_ahead: bool,
    /// Producers have place for one key that holds something back.
    is_cramped: bool,
    /// Tombstones are forgotten when they may be.
    collects: bool,
    /// Tombstones are forgotten when they may not be.
    collects_early: bool,
}

/// One history; an error says what is wrong with it.
fn simulate(seed: u64, kind: Kind, faults: Faults) -> Result<(), String> {
    let mut world = World::new(seed, kind, faults);
    let steps = 40 + world.random.below(300);
    world.run(steps)?;
    if faults.collects || faults.collects_early {
        // All is delivered but what has just been written: some nodes forget, and life goes on.
        world.settle()?;
        world.nodes.iter_mut().for_each(Node::ask);
        world.settle()?;
        world.run(20)?;
        for node in 0..world.nodes.len() {
            for key in 0..world.keys {
                if world.random.below(2) == 0 {
                    world.collect(node, key as Key);
                }
            }
        }
        world.run(steps)?;
    }
    world.settle()?;
    world.verdict()
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SYNCLINE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SYNCLINE_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..count,
    }
}

fn all_converge(kind: Kind, faults: Faults, count: u64) {
    for seed in seeds(count) {
        if let Err(error) = simulate(seed, kind, faults) {
            panic!("SYNCLINE_SEED={seed} {kind:?}: {error}");
        }
    }
}

#[test]
fn last_write_wins_converges() {
    all_converge(Kind::Rows, Faults::default(), 1500);
}

#[test]
fn rows_by_a_column_converge() {
    all_converge(Kind::RowsBy, Faults::default(), 1500);
}

#[test]
fn rows_by_priority_converge() {
    all_converge(Kind::RowsByPriority, Faults::default(), 1500);
}

#[test]
fn merged_columns_converge() {
    all_converge(Kind::Merge, Faults::default(), 1500);
}

#[test]
fn columns_with_rules_of_their_own_converge() {
    all_converge(Kind::Columns, Faults::default(), 1500);
}

#[test]
fn more_keys_hold_something_back_than_are_told_apart() {
    for kind in [Kind::Rows, Kind::RowsByPriority, Kind::Merge, Kind::Columns] {
        all_converge(kind, Faults { is_cramped: true, ..Faults::default() }, 500);
    }
}

#[test]
fn tombstones_are_forgotten_when_all_have_passed_them() {
    for kind in [Kind::Rows, Kind::Merge, Kind::Columns] {
        all_converge(kind, Faults { collects: true, ..Faults::default() }, 500);
    }
}

/// The tests are tested, and each protection is shown to be needed: without it, some history fails, for that reason.
fn some_history_fails(kind: Kind, faults: Faults, reasons: &[&str]) {
    let mut errors = (0..8000).filter_map(|seed| simulate(seed, kind, faults).err());
    let expected = |error: String| reasons.iter().any(|reason| error.contains(reason));
    assert!(errors.any(expected), "no history fails with {faults:?}");
}

const APART: &[&str] = &[" has Some(", " has None"];

#[test]
fn nodes_part_if_local_writes_on_their_way_are_ignored() {
    let faults = Faults { ignores_local_writes: true, ..Faults::default() };
    some_history_fails(Kind::Rows, faults, APART);
    some_history_fails(Kind::Columns, faults, &["reads its old"]);
}

#[test]
fn nodes_part_if_changes_are_taken_as_they_arrive() {
    some_history_fails(Kind::Rows, Faults { takes_everything: true, ..Faults::default() }, APART);
}

#[test]
fn removed_rows_come_back_without_tombstones() {
    some_history_fails(Kind::Rows, Faults { forgets_tombstones: true, ..Faults::default() }, APART);
}

#[test]
fn removed_rows_come_back_if_tombstones_are_forgotten_early() {
    let faults = Faults { collects_early: true, ..Faults::default() };
    some_history_fails(Kind::Rows, faults, APART);
    some_history_fails(Kind::Merge, faults, APART);
}

#[test]
fn wall_clocks_break_causality() {
    for kind in [Kind::Rows, Kind::Merge] {
        some_history_fails(kind, Faults { deaf_clocks: true, ..Faults::default() }, &["is not later than"]);
    }
    some_history_fails(Kind::Rows, Faults { deaf_clocks: true, ..Faults::default() }, APART);
}

#[test]
fn another_change_comes_between_two_of_one_transaction_if_each_has_its_stamp() {
    some_history_fails(Kind::Rows, Faults { stamp_each_change: true, ..Faults::default() }, APART);
}

#[test]
fn nodes_part_if_any_xmin_is_noted() {
    some_history_fails(Kind::Rows, Faults { notes_any_xmin: true, ..Faults::default() }, APART);
}

#[test]
fn nodes_part_if_own_removals_are_not_done_again() {
    some_history_fails(Kind::Rows, Faults { repairs_nothing: true, ..Faults::default() }, APART);
}

#[test]
fn nodes_part_if_a_removal_passes_an_insert_that_is_not_visible_yet() {
    some_history_fails(Kind::Rows, Faults { removes_in_haste: true, ..Faults::default() }, APART);
}

#[test]
fn nodes_part_if_own_records_are_taken_before_they_are_visible() {
    some_history_fails(Kind::Rows, Faults { runs_ahead: true, ..Faults::default() }, APART);
}

#[test]
fn changes_are_lost_silently_if_what_waits_counts_as_seen() {
    for kind in [Kind::Rows, Kind::Merge] {
        some_history_fails(kind, Faults { claims_what_waits: true, ..Faults::default() }, &["had not seen"]);
    }
}
