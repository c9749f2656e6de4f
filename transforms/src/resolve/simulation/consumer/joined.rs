//! All other rules.

use super::super::super::columns::Incoming;
use super::super::super::echo::{Fence, Row};
use super::super::super::row::Version;
use super::super::super::show::{HeldRecord, Showing, Write};
use super::super::World;
use super::super::node::{Change, Key, Lost, StateEntry};
use super::Applying;

impl World {
    pub(super) fn join(
        &mut self,
        node: usize,
        origin: usize,
        change: &Change,
        applying: &mut Applying,
    ) -> Result<(), String> {
        self.show(node, change.key, Some((origin, change)), Fence::None, applying)
    }

    pub(super) fn show(
        &mut self,
        node: usize,
        key: Key,
        change: Option<(usize, &Change)>,
        fence: Fence,
        applying: &mut Applying,
    ) -> Result<(), String> {
        let plan = self.plan.clone().expect("there is a plan on this path");
        let known = self.nodes[node].tables.states.get(&key).cloned();
        let incoming = change.map(|(_, change)| Incoming {
            operation: change.operation(),
            version: change.version.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
        });
        let state = match &incoming {
            Some(incoming) => {
                let resolved = plan.resolve(incoming, known.as_ref().map(|known| &known.state));
                let resolved = resolved.map_err(|error| error.to_string())?;
                for conflict in resolved.conflicts {
                    let loser = if conflict.takes { conflict.other } else { Some(incoming.version.clone()) };
                    let Some(Version { stamp, offset, .. }) = loser else { continue };
                    self.nodes[node].tables.lost.push(Lost { stamp, offset, column: conflict.column });
                }
                resolved.state
            }
            None => known.as_ref().expect("a key that waits is known").state.clone(),
        };
        let mut row = self.lock(node, key, applying);
        let values = self.nodes[node].tables.rows.get(&key).map(|row| row.values.clone());
        let own = change.filter(|(origin, _)| *origin == node);
        let held = known.as_ref().map(|known| known.held.clone()).unwrap_or_default();
        let (shown, showable) = loop {
            let showing = Showing {
                before: known.as_ref().map(|known| &known.state),
                after: &state,
                change: incoming.as_ref(),
                transaction: own.map(|(_, change)| change.transaction),
                held: &held,
                noted_xmin: match row {
                    Row::Present { xmin } if self.faults.ignores_local_writes => Some(xmin),
                    _ => known.as_ref().and_then(|known| known.noted_xmin),
                },
                row,
                values: values.as_ref(),
                fence,
            };
            let shown = plan.show(&showing).map_err(|error| error.to_string())?;
            // All that the state shows would be hidden by a lock.
            let locked = plan.show(&Showing { row: Row::Locked, ..showing }).map_err(|error| error.to_string())?;
            if !matches!(shown.write, Write::Insert(_)) || !self.nodes[node].is_written(key) {
                break (shown, locked.held);
            }
            row = Row::Locked;
        };
        match shown.write {
            Write::None => {}
            Write::Insert(values) | Write::Update(values) => self.write(node, key, Some(values), applying),
            Write::Delete => self.write(node, key, None, applying),
        }
        let now = match row {
            Row::Locked => Row::Locked,
            _ => self.lock(node, key, applying),
        };
        let noted_xmin = match now {
            Row::Present { xmin } if shown.settled => Some(xmin),
            _ => None,
        };
        let arrived = change.filter(|(origin, _)| *origin != node).map(|(_, change)| &change.version);
        self.hold(node, key, held, arrived, &shown.held, &showable, applying);
        if !shown.settled && !self.nodes[node].tables.unsettled.contains_key(&key) {
            let fence = self.fence(node, None, applying);
            self.nodes[node].tables.unsettled.insert(key, (fence, now));
        }
        self.nodes[node].tables.states.insert(key, StateEntry { state, noted_xmin, held: shown.held });
        Ok(())
    }

    /// Tells the producer what the key holds back now.
    #[expect(clippy::too_many_arguments, reason = "the parts of one decision")]
    fn hold(
        &mut self,
        node: usize,
        key: Key,
        before: Vec<HeldRecord>,
        arrived: Option<&Version>,
        now: &[HeldRecord],
        showable: &[HeldRecord],
        applying: &mut Applying,
    ) {
        let index = |name: &str| self.nodes.iter().position(|node| node.name == name).expect("a node");
        let arrived = arrived.map(|version| HeldRecord {
            origin: version.stamp.origin.clone(),
            partition: version.partition,
            offset: version.offset,
        });
        let (mut shown, mut discarded) = (Vec::new(), Vec::new());
        for record in before.into_iter().chain(arrived) {
            let origin = index(&record.origin);
            let partition = record.partition as usize;
            let offsets =
                now.iter().filter(|other| (&other.origin, other.partition) == (&record.origin, record.partition));
            let first = offsets.map(|other| other.offset).min();
            applying.held.insert((key, origin, partition), first);
            if !now.contains(&record) {
                // What holds by chance what an earlier one would have to write counts as held with it.
                let shows = showable.contains(&record) && first.is_none_or(|first| record.offset < first);
                let list = if shows { &mut shown } else { &mut discarded };
                list.push((origin, partition, record.offset));
            }
        }
        let tables = &mut self.nodes[node].tables;
        tables.shown.entry(key).or_default().extend(shown);
        tables.discarded.extend(discarded);
    }
}
