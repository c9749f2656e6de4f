//! What has to be true when nothing moves any more, worked out from all changes at once.

use std::collections::BTreeSet;

use super::super::row::{Operation, Version};
use super::super::rules::{ColumnRule, TableRule};
use super::super::state::Image;
use super::super::value::{add_difference, compare, equal, items};
use super::World;
use super::node::{COLUMNS, Change, Key, Place, Record};
use crate::sql_type::SqlType;

fn sql_type(column: usize) -> SqlType {
    if column == 0 { SqlType::Int4 } else { SqlType::Text }
}

fn written(change: &Change, column: usize) -> bool {
    let value = |image: &Option<Image>| image.as_ref().map(|image| image[column].clone());
    change.after.is_some() && value(&change.before) != value(&change.after)
}

impl World {
    /// All changes of a key.
    fn changes(&self, key: Key) -> Vec<&Change> {
        let records = self.nodes.iter().flat_map(|node| node.topic.iter().flatten());
        let changes = records.filter_map(|record| match record {
            Record::Change(change) if change.key == key => Some(change),
            _ => None,
        });
        changes.collect()
    }

    pub(super) fn verdict(&self) -> Result<(), String> {
        self.at_rest()?;
        for key in 0..self.keys as Key {
            let changes = self.changes(key);
            let row = |node: usize| self.nodes[node].tables.rows.get(&key).map(|row| &row.values);
            for node in 1..self.nodes.len() {
                if row(node) != row(0) {
                    return Err(format!("key {key}: node 0 has {:?}, node {node} {:?}", row(0), row(node)));
                }
            }
            self.same_entries(key)?;
            let expected = self.reference(&changes);
            if row(0) != expected.as_ref() {
                return Err(format!("key {key}: {:?} instead of {expected:?}", row(0)));
            }
            self.nothing_lost(key, &changes, row(0))?;
            self.causal(key, &changes)?;
            self.seen_exactly(key, &changes)?;
        }
        Ok(())
    }

    fn at_rest(&self) -> Result<(), String> {
        for node in &self.nodes {
            let tables = &node.tables;
            if !tables.waiting.is_empty() || !tables.unsettled.is_empty() {
                return Err(format!("{} waits for ever", node.name));
            }
            for (key, known) in &tables.states {
                let xmin = tables.rows.get(key).map(|row| row.xmin);
                if known.noted_xmin != xmin || !known.held.is_empty() {
                    return Err(format!("{} has not settled key {key}", node.name));
                }
            }
        }
        Ok(())
    }

    /// What was forgotten on some node is gone on the others.
    fn same_entries(&self, key: Key) -> Result<(), String> {
        let forgets = self.faults.collects || self.faults.collects_early;
        let mut entries: Vec<_> =
            self.nodes.iter().map(|node| node.tables.entries.get(&key).map(|e| &e.stored)).collect();
        let mut states: Vec<_> =
            self.nodes.iter().map(|node| node.tables.states.get(&key).map(|known| &known.state)).collect();
        if forgets {
            entries.retain(|entry| entry.is_some_and(|stored| !stored.deleted));
            // Sums may have forgotten where they began.
            states.clear();
        }
        let same =
            entries.windows(2).all(|pair| pair[0] == pair[1]) && states.windows(2).all(|pair| pair[0] == pair[1]);
        if same { Ok(()) } else { Err(format!("key {key}: entries differ: {entries:?} {states:?}")) }
    }

    /// The row by the rule's own words.
    fn reference(&self, changes: &[&Change]) -> Option<Image> {
        let priority = |change: &Change| self.rules.priority_of(&change.version.stamp.origin);
        let highest = |a: &&&Change, b: &&&Change| a.version.order().cmp(&b.version.order());
        let winner = match &self.rules.default {
            TableRule::LastWriteWinsBy(_) => {
                let value = |change: &Change| change.after.as_ref().or(change.before.as_ref()).unwrap()[0].clone();
                changes.iter().max_by(|a, b| {
                    let by_value = compare(SqlType::Int4, value(a).as_deref(), value(b).as_deref());
                    by_value.then(highest(a, b))
                })
            }
            TableRule::SourcePriority => {
                changes.iter().max_by(|a, b| priority(a).cmp(&priority(b)).then(highest(a, b)))
            }
            _ => changes.iter().max_by(highest),
        }?;
        let rules = match &self.rules.default {
            TableRule::Columns(rules) => rules.clone(),
            TableRule::Merge => Default::default(),
            _ => return winner.after.clone(),
        };
        winner.after.as_ref()?;
        let values = ["n", "tags", "status", "note"].into_iter().enumerate().map(|(column, name)| {
            let value = |change: &Change| change.after.as_ref().and_then(|after| after[column].clone());
            let written: Vec<&&Change> = changes.iter().filter(|change| written(change, column)).collect();
            let by = |rank: &dyn Fn(&Change) -> usize, among: &[&&Change]| {
                let best =
                    among.iter().max_by(|a, b| rank(a).cmp(&rank(b)).then(a.version.order().cmp(&b.version.order())));
                value(best.unwrap())
            };
            let unseen = || {
                let unseen = |change: &&&&Change| !written.iter().any(|other| other.version.saw(&change.version));
                written.iter().filter(unseen).copied().collect::<Vec<_>>()
            };
            match rules.get(name) {
                None => by(&|change| priority(change) as usize, &unseen()),
                Some(ColumnRule::LastWriteWins) => by(&|_| 0, &written),
                Some(ColumnRule::SourcePriority) => by(&|change| priority(change) as usize, &written),
                Some(ColumnRule::PriorityOrder(order)) => {
                    let rank = |change: &Change| {
                        let place = order.iter().position(|named| Some(named) == value(change).as_ref());
                        place.map_or(0, |place| 9 - place)
                    };
                    by(&rank, &unseen())
                }
                Some(ColumnRule::Sum) => Some(sum(changes, column)),
                Some(rule @ (ColumnRule::Max | ColumnRule::Min)) => {
                    let order = |a: &String, b: &String| compare(sql_type(column), Some(a), Some(b));
                    let all = written.iter().filter_map(|change| value(change));
                    if *rule == ColumnRule::Max { all.max_by(order) } else { all.min_by(order) }
                }
                Some(ColumnRule::ConcatUnique) => {
                    let lists: Vec<String> = written.iter().filter_map(|change| value(change)).collect();
                    let all: BTreeSet<&str> = lists.iter().flat_map(|list| items(list)).collect();
                    (!lists.is_empty()).then(|| all.into_iter().collect::<Vec<_>>().join(","))
                }
            }
        });
        Some(values.collect())
    }

    /// Every change shows, or was seen by another one, or is in some node's log of conflicts.
    fn nothing_lost(&self, key: Key, changes: &[&Change], row: Option<&Image>) -> Result<(), String> {
        // Two removals wanted the same.
        let same = |a: &Change, b: &Change| a.after.is_none() && b.after.is_none() && a.version != b.version;
        let superseded =
            |change: &Change| changes.iter().any(|other| other.version.saw(&change.version) || same(other, change));
        let logged = |change: &Change, column: Option<usize>| {
            let mut lost = self.nodes.iter().flat_map(|node| &node.tables.lost);
            lost.any(|lost| {
                (&lost.stamp, lost.offset) == change.version.order() && (lost.column.is_none() || lost.column == column)
            })
        };
        // Whoever replaced or discarded the same value of another change has replaced or discarded this one.
        let alike = |change: &Change, column: usize| {
            let value = |change: &Change| change.after.as_ref().map(|after| after[column].clone());
            let mut others = changes.iter().filter(|other| other.version != change.version && written(other, column));
            others.any(|other| {
                value(other) == value(change)
                    && (superseded(other) || logged(other, None) || logged(other, Some(column)))
            })
        };
        let by_columns = matches!(self.rules.default, TableRule::Columns(_) | TableRule::Merge);
        for change in changes {
            let shows = match (row, &change.after) {
                (None, None) => true,
                (Some(row), Some(after)) if by_columns => {
                    let column = |column: usize| {
                        !written(change, column)
                            || self.adds_up(column)
                            || equal(sql_type(column), row[column].as_deref(), after[column].as_deref())
                            || self.holds_all(column, change, row)
                            || logged(change, Some(column))
                            || alike(change, column)
                    };
                    (0..COLUMNS).all(column)
                }
                (Some(row), Some(after)) => row == after,
                _ => false,
            };
            if !shows && !superseded(change) && !logged(change, None) {
                return Err(format!("key {key}: lost silently: {change:?}"));
            }
        }
        Ok(())
    }

    fn rule(&self, column: usize) -> Option<&ColumnRule> {
        match &self.rules.default {
            TableRule::Columns(rules) => rules.get(["n", "tags", "status", "note"][column]),
            _ => None,
        }
    }

    fn adds_up(&self, column: usize) -> bool {
        self.rule(column) == Some(&ColumnRule::Sum)
    }

    /// A list that has all of a change's items, and none that it took away.
    fn holds_all(&self, column: usize, change: &Change, row: &Image) -> bool {
        let list = |image: &Option<Image>| image.as_ref().and_then(|image| image[column].clone()).unwrap_or_default();
        let (before, after, now) = (list(&change.before), list(&change.after), row[column].clone().unwrap_or_default());
        let (before, after, now) = (items(&before), items(&after), items(&now));
        self.rule(column) == Some(&ColumnRule::ConcatUnique)
            && after.is_subset(&now)
            && before.difference(&after).all(|item| !now.contains(item))
    }

    /// A write that had seen another one is later; by the rules that look at that, it is not beaten by it.
    fn causal(&self, key: Key, changes: &[&Change]) -> Result<(), String> {
        for change in changes {
            for (origin, partition, offset) in &change.truth {
                let Record::Change(seen) = &self.nodes[*origin].topic[*partition][*offset as usize] else { continue };
                if change.version.order() < seen.version.order() {
                    return Err(format!("key {key}: {change:?} is not later than {seen:?}, which it had seen"));
                }
            }
        }
        Ok(())
    }

    /// What a change says that it had seen is what its row showed.
    fn seen_exactly(&self, key: Key, changes: &[&Change]) -> Result<(), String> {
        for change in changes.iter().filter(|change| change.version.stamp.clock_us > 0) {
            for other in changes.iter().filter(|other| other.version.stamp.origin != change.version.stamp.origin) {
                let place = self.place(&other.version);
                let (claims, showed) = (change.version.saw(&other.version), change.truth.contains(&place));
                // What was discarded showed nowhere; and a row that is being inserted keeps no removal away.
                let node = self.nodes.iter().find(|node| node.name == change.version.stamp.origin).unwrap();
                let discarded = node.tables.discarded.contains(&place);
                let inserted = changes.iter().any(|first| {
                    first.operation() == Operation::Insert
                        && first.version.stamp.origin == change.version.stamp.origin
                        && first.transaction == change.transaction
                });
                // An update of nothing may count as not seen.
                if showed && !claims && !self.faults.is_cramped && other.before != other.after {
                    return Err(format!("key {key}: {change:?} does not know that it had seen {other:?}"));
                }
                if claims && !showed && !discarded && !inserted && other.operation() != Operation::Delete {
                    return Err(format!("key {key}: {change:?} had not seen {other:?}"));
                }
            }
        }
        Ok(())
    }

    fn place(&self, version: &Version) -> Place {
        let origin = self.nodes.iter().position(|node| node.name == version.stamp.origin).unwrap();
        (origin, version.partition as usize, version.offset)
    }
}

/// What the node of the highest priority had before the first sync, and all differences.
fn sum(changes: &[&Change], column: usize) -> String {
    let value = |image: &Option<Image>| image.as_ref().and_then(|image| image[column].clone());
    let snapshots = changes.iter().filter(|change| change.version.stamp.clock_us == 0);
    let base = snapshots.max_by_key(|change| change.version.stamp.counter);
    let mut total = base.and_then(|change| value(&change.after)).unwrap_or_else(|| "0".into());
    for change in changes.iter().filter(|change| change.version.stamp.clock_us > 0) {
        let (after, before) = (value(&change.after), value(&change.before));
        total = add_difference(Some(&total), after.as_deref(), before.as_deref()).unwrap();
    }
    total
}
