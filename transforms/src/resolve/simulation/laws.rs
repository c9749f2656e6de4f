//! Laws of the pure merge: the same changes give the same state in whatever order the nodes' changes interleave, and
//! what a state has taken in changes it no more.

use super::super::columns::Incoming;
use super::super::plan::Plan;
use super::super::row::{Stored, decide};
use super::super::state::State;
use super::node::{Change, Record};
use super::world::{Kind, Random, World};
use super::{Faults, seeds};

/// The changes of key 0, by node.
fn changes(world: &World) -> Vec<Vec<Change>> {
    let of_key = |record: &Record| match record {
        Record::Change(change) if change.key == 0 => Some(change.clone()),
        _ => None,
    };
    let node = |node: &super::node::Node| node.topic.iter().flatten().filter_map(of_key).collect();
    world.nodes.iter().map(node).collect()
}

/// An order that keeps each node's own, with repeats.
fn interleave(changes: &[Vec<Change>], random: &mut Random) -> Vec<Change> {
    let mut next = vec![0; changes.len()];
    let mut order: Vec<Change> = Vec::new();
    while next.iter().zip(changes).any(|(next, changes)| *next < changes.len()) {
        let node = random.below(changes.len() as u64) as usize;
        if let Some(change) = changes[node].get(next[node]) {
            order.push(change.clone());
            next[node] += 1;
        }
        if !order.is_empty() && random.below(3) == 0 {
            order.push(order[random.below(order.len() as u64) as usize].clone());
        }
    }
    order
}

fn join(plan: &Plan, state: Option<&State>, change: &Change) -> State {
    let incoming = Incoming {
        operation: change.operation(),
        version: change.version.clone(),
        before: change.before.clone(),
        after: change.after.clone(),
    };
    plan.resolve(&incoming, state).unwrap().state
}

#[test]
fn states_do_not_depend_on_the_order_of_arrival() {
    for kind in [Kind::RowsBy, Kind::RowsByPriority, Kind::Merge, Kind::Columns] {
        for seed in seeds(500) {
            let mut world = World::new(seed, kind, Faults::default());
            world.run(200).unwrap();
            let changes = changes(&world);
            let plan = world.plan.clone().unwrap();
            let mut states = Vec::new();
            for _ in 0..4 {
                let order = interleave(&changes, &mut world.random);
                let state = order.iter().fold(None, |state, change| Some(join(&plan, state.as_ref(), change)));
                let Some(state) = state else { continue };
                for change in &order {
                    assert_eq!(join(&plan, Some(&state), change), state, "SYNCLINE_SEED={seed}: {change:?} again");
                }
                let json = serde_json::to_string(&state).unwrap();
                assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state, "{json}");
                states.push(state);
            }
            assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "SYNCLINE_SEED={seed} {kind:?}: {states:?}");
        }
    }
}

#[test]
fn the_last_write_does_not_depend_on_the_order_of_arrival() {
    for seed in seeds(500) {
        let mut world = World::new(seed, Kind::Rows, Faults::default());
        world.run(200).unwrap();
        let changes = changes(&world);
        let mut stored: Vec<Option<Stored>> = Vec::new();
        for _ in 0..4 {
            let order = interleave(&changes, &mut world.random);
            stored.push(order.iter().fold(None, |stored, change| {
                let takes = decide(change.operation(), &change.version, stored.as_ref()).takes;
                let deleted = change.after.is_none();
                if takes { Some(Stored { version: change.version.clone(), deleted }) } else { stored }
            }));
        }
        assert!(stored.windows(2).all(|pair| pair[0] == pair[1]), "SYNCLINE_SEED={seed}: {stored:?}");
    }
}
