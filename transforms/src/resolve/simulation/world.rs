//! A topology, driven at random.

use super::super::plan::{Plan, PlanColumn};
use super::super::rules::{ColumnRule, Rules, TableRule};
use super::Faults;
use super::node::{Key, Node};
use crate::sql_type::SqlType;

#[derive(Debug, Clone, Copy)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.below(2);
        }
        random
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % limit
    }
}

/// Which rules a history is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Last write wins, by whole rows, without states.
    Rows,
    /// Rows by a column.
    RowsBy,
    /// Rows by priority.
    RowsByPriority,
    /// `merge`.
    Merge,
    /// Any mix of columns' rules.
    Columns,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) nodes: Vec<Node>,
    pub(super) partitions: usize,
    pub(super) keys: u64,
    time_us: u64,
    pub(super) rules: Rules,
    /// None where last write wins.
    pub(super) plan: Option<Plan>,
    pub(super) faults: Faults,
}

const NAMES: [&str; 4] = ["n", "tags", "status", "note"];

impl World {
    pub(super) fn new(seed: u64, kind: Kind, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.below(4) as usize;
        let partitions = 1 + random.below(3) as usize;
        // Far apart, or so near that stamps tie.
        let skew = |random: &mut Random| match random.below(3) {
            0 => 0,
            1 => random.below(20) as i64 - 10,
            _ => random.below(20_000_000) as i64 - 10_000_000,
        };
        let mut nodes: Vec<Node> = (0..count).map(|index| Node::new(index, partitions, skew(&mut random))).collect();
        let rule = match kind {
            Kind::Rows => TableRule::LastWriteWins,
            Kind::RowsBy => TableRule::LastWriteWinsBy("n".into()),
            Kind::RowsByPriority => TableRule::SourcePriority,
            Kind::Merge => TableRule::Merge,
            Kind::Columns => mix(&mut random),
        };
        let rules = Rules {
            priority: nodes.iter().map(|node| node.name.clone()).collect(),
            default: rule,
            tables: Default::default(),
        };
        let types = [SqlType::Int4, SqlType::Text, SqlType::Text, SqlType::Text];
        let column = |(name, sql_type)| PlanColumn { name, sql_type, in_key: false };
        let columns: Vec<_> = NAMES.into_iter().zip(types).map(column).collect();
        let plan = (kind != Kind::Rows).then(|| Plan::new(&rules, "public.t", &columns).unwrap());
        let keys = 1 + random.below(3);
        nodes.iter_mut().for_each(|node| node.older_values_win = !matches!(kind, Kind::Merge | Kind::Columns));
        let mut world = Self { random, nodes, partitions, keys, time_us: 20_000_000, rules, plan, faults };
        for node in 0..count {
            for key in 0..keys {
                if world.random.below(4) == 0 {
                    let priority = world.rules.priority_of(&world.nodes[node].name);
                    world.nodes[node].preload(key as Key, priority, &mut world.random);
                }
            }
        }
        world
    }

    /// The time everywhere, but for each node's skew.
    pub(super) fn now(&mut self) -> u64 {
        self.time_us += self.random.below(3);
        self.time_us
    }

    pub(super) fn run(&mut self, steps: u64) -> Result<(), String> {
        for _ in 0..steps {
            let node = self.random.below(self.nodes.len() as u64) as usize;
            match self.random.below(20) {
                0..=8 => {
                    let now = self.now();
                    self.nodes[node].work(self.keys, now, &mut self.random, &Default::default())?;
                }
                9..=12 => {
                    self.nodes[node].produce(self.faults)?;
                }
                13 => self.nodes[node].restart(&mut self.random),
                14 if self.faults.collects || self.faults.collects_early => {
                    let key = self.random.below(self.keys) as Key;
                    self.collect(node, key);
                    if self.random.below(2) == 0 {
                        self.nodes[node].ask();
                    }
                }
                _ => {
                    let origin = self.random.below(self.nodes.len() as u64) as usize;
                    let partition = self.random.below(self.partitions as u64) as usize;
                    self.consume(node, origin, partition, false)?;
                }
            }
        }
        Ok(())
    }

    /// The writers stop; everything is delivered until nothing moves.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for node in 0..self.nodes.len() {
            while let Some(index) = self.nodes[node].open.iter().position(|open| !open.committed) {
                let now = self.now();
                self.nodes[node].commit(index, now, &mut self.random);
            }
            while !self.nodes[node].open.is_empty() {
                self.nodes[node].show(0);
            }
        }
        for _ in 0..60 {
            let mut moved = false;
            for node in 0..self.nodes.len() {
                while self.nodes[node].produce(self.faults)? {}
            }
            // Many more turns than there are partitions: in any order, often in a row.
            for _ in 0..self.nodes.len() * self.nodes.len() * self.partitions * 4 {
                let node = self.random.below(self.nodes.len() as u64) as usize;
                let origin = self.random.below(self.nodes.len() as u64) as usize;
                let partition = self.random.below(self.partitions as u64) as usize;
                moved |= self.consume(node, origin, partition, true)?;
            }
            for node in 0..self.nodes.len() {
                for origin in 0..self.nodes.len() {
                    for partition in 0..self.partitions {
                        while self.consume(node, origin, partition, true)? {
                            moved = true;
                        }
                    }
                }
            }
            let unread = |node: &Node| node.log.iter().skip(node.read()).any(|logged| logged.is_published());
            if !moved && !self.nodes.iter().any(unread) {
                return Ok(());
            }
        }
        Err("traffic never ends".into())
    }
}

fn mix(random: &mut Random) -> TableRule {
    use ColumnRule::{ConcatUnique, LastWriteWins, Max, Min, PriorityOrder, SourcePriority, Sum};
    let order = PriorityOrder(vec!["active".into(), "pending".into(), "inactive".into()]);
    let choices: [&[Option<ColumnRule>]; 4] = [
        &[None, Some(LastWriteWins), Some(SourcePriority), Some(Sum), Some(Sum), Some(Max), Some(Min)],
        &[None, Some(LastWriteWins), Some(ConcatUnique), Some(ConcatUnique), Some(Max)],
        &[None, Some(SourcePriority), Some(order.clone()), Some(order), Some(Min)],
        &[None, Some(LastWriteWins), Some(SourcePriority)],
    ];
    let chosen = NAMES.into_iter().zip(choices).filter_map(|(name, rules)| {
        let rule = rules[random.below(rules.len() as u64) as usize].clone();
        rule.map(|rule| (name.to_owned(), rule))
    });
    TableRule::Columns(chosen.collect())
}
