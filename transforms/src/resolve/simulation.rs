//! Random histories of a topology: nodes whose clocks are far apart, writers, producers that are behind and start
//! again, consumers that take what they please and crash. `SYNCLINE_SEED` plays one history again.

mod consumer;
mod judge;
mod node;
mod world;

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
    /// Fences carry no time.
    mute_fences: bool,
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

fn all_converge(kind: Kind, faults: Faults) {
    for seed in seeds(2000) {
        if let Err(error) = simulate(seed, kind, faults) {
            panic!("SYNCLINE_SEED={seed} {kind:?}: {error}");
        }
    }
}

/// The test itself is tested: without the protection, some history fails.
fn some_history_fails(kinds: &[Kind], faults: Faults, reason: &str) {
    let mut errors =
        (0..6000).flat_map(|seed| kinds.iter().filter_map(move |kind| simulate(seed, *kind, faults).err()));
    assert!(errors.any(|error| error.contains(reason)), "no history fails with {faults:?}");
}

#[test]
fn last_write_wins_converges() {
    all_converge(Kind::Rows, Faults::default());
}

#[test]
fn rows_by_a_column_converge() {
    all_converge(Kind::RowsBy, Faults::default());
}

#[test]
fn rows_by_priority_converge() {
    all_converge(Kind::RowsByPriority, Faults::default());
}

#[test]
fn merged_columns_converge() {
    all_converge(Kind::Merge, Faults::default());
}

#[test]
fn columns_with_rules_of_their_own_converge() {
    all_converge(Kind::Columns, Faults::default());
}

#[test]
fn zz_stats() {
    let mut counts = std::collections::BTreeMap::<String, (u64, u64)>::new();
    for kind in [Kind::Rows, Kind::RowsBy, Kind::RowsByPriority, Kind::Merge, Kind::Columns] {
        for seed in 0..1500 {
            if let Err(error) = simulate(seed, kind, Faults::default()) {
                let words: Vec<&str> = error.split_whitespace().collect();
                let class = [
                    "lost silently",
                    "had not seen",
                    "does not know",
                    "is not later",
                    "instead of",
                    "entries differ",
                    "waits for ever",
                    "has not settled",
                    "never ends",
                    "reads its old",
                    "replay",
                    "has Some",
                    "has None",
                ]
                .into_iter()
                .find(|c| error.contains(c))
                .map(str::to_owned)
                .unwrap_or_else(|| words.join(" "));
                let e = counts.entry(format!("{kind:?} {class}")).or_insert((0, seed));
                e.0 += 1;
            }
        }
    }
    for (k, v) in counts {
        eprintln!("{k}: {v:?}");
    }
}
