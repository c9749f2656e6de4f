//! Real lanes against a target in memory and a Kafka that is a list: thousands of random histories of crashes,
//! rebalances, zombies, repeats, lost answers and barriers, each of which must leave in the target what is in the
//! source. A history is its seed.

mod barrier;
pub(crate) mod memory;
pub(crate) mod source;
mod world;

use proptest::prelude::*;

use self::memory::Faults;
use self::world::{Chaos, simulate, simulate_with};
use crate::order;

const ALL: Chaos = Chaos { crashes: true, zombies: true, repeats: true, barriers: true };
const SOUND: Faults = Faults { swaps: true, fails: true };

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_target_becomes_the_source(seed in any::<u64>()) {
        prop_assert_eq!(simulate(seed, ALL, SOUND), Ok(()));
    }
}

/// Histories until one goes wrong.
fn goes_wrong(chaos: Chaos, faults: Faults) -> bool {
    (1..400).any(|seed| simulate(seed, chaos, faults).is_err())
}

#[test]
fn without_the_swap_zombies_win() {
    let chaos = Chaos { crashes: false, zombies: true, repeats: false, barriers: false };
    assert!(!goes_wrong(chaos, Faults { swaps: true, fails: false }));
    assert!(goes_wrong(chaos, Faults { swaps: false, fails: false }));
}

#[test]
fn without_positions_repeats_are_applied() {
    let chaos = Chaos { crashes: false, zombies: false, repeats: true, barriers: false };
    assert!(!goes_wrong(chaos, Faults { swaps: true, fails: false }));
    let _trusting = order::trust_everything();
    assert!(goes_wrong(chaos, Faults { swaps: true, fails: false }));
}

#[test]
fn a_record_that_the_target_refuses_stops_its_partition_and_no_other() {
    let chaos = Chaos { crashes: false, zombies: false, repeats: true, barriers: false };
    let refuse = |target: &memory::Memory| target.state.lock().unwrap().refused = Some(b"4".to_vec());
    let outcomes: Vec<_> =
        (1..100).map(|seed| simulate_with(seed, chaos, Faults { swaps: true, fails: seed % 2 == 0 }, refuse)).collect();
    let stopped = Err("stopped at a record of key 4".to_owned());
    // A batch may hold the record's delete, too: then there is nothing to refuse.
    assert!(outcomes.iter().all(|outcome| *outcome == stopped || *outcome == Ok(())), "{outcomes:?}");
    assert!(outcomes.iter().filter(|outcome| **outcome == stopped).count() > 80);
}
