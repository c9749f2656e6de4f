//! A target in memory: transactions, progress rows, barriers, and answers that get lost.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use syncline_event::avro::value::Value;
use syncline_event::position::Position;
use syncline_event::table::TableDefinition;
use syncline_runtime::retry::ErrorClass;

use super::barrier::{self, Arrived, Barrier};
use super::source::Random;
use crate::rows::{Cell, CellForm};
use crate::targets::{
    Batch, Contested, Guarantees, PartitionKey, Progress, TableBatch, TablePlan, Target, TargetError, Writer, Written,
};

/// What the target gets wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    /// Whether progress rows are compared before they are moved. Off, to see what that is good for.
    pub(super) swaps: bool,
    /// Whether transactions fail, and answers get lost.
    pub(super) fails: bool,
}

/// Columns by position; `None` is NULL.
pub(super) type Row = Vec<Option<Vec<u8>>>;

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) rows: BTreeMap<Vec<u8>, Row>,
    pub(super) progress: BTreeMap<i32, Progress>,
    barriers: BTreeMap<Position, (Barrier, BTreeSet<i32>)>,
    /// A key that the target refuses.
    pub(super) refused: Option<Vec<u8>>,
    pub(super) commits: u64,
}

#[derive(Clone)]
pub(super) struct Memory {
    pub(super) state: Arc<Mutex<State>>,
    random: Arc<Mutex<Random>>,
    faults: Faults,
}

impl Memory {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self { state: Arc::default(), random: Arc::new(Mutex::new(Random::new(seed))), faults }
    }

    fn one_in(&self, n: u64) -> bool {
        self.random.lock().unwrap().below(n) == 0
    }

    async fn take_time(&self) {
        let pause = self.random.lock().unwrap().below(30);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn error(class: ErrorClass, message: &str) -> TargetError {
    TargetError { class, message: message.into(), table: None, source: None }
}

#[async_trait]
impl Target for Memory {
    fn guarantees(&self) -> Guarantees {
        Guarantees { exactly_once: true, resolves_conflicts: false }
    }

    async fn prepare(&self) -> Result<(), TargetError> {
        Ok(())
    }

    async fn maintain(&self) -> Result<(), TargetError> {
        Ok(())
    }

    async fn conflicts_since(&self, _: Duration) -> Result<u64, TargetError> {
        Ok(0)
    }

    async fn writer(&self) -> Result<Box<dyn Writer>, TargetError> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Writer for Memory {
    async fn progress(&mut self, partition: &PartitionKey) -> Result<(Progress, bool), TargetError> {
        self.take_time().await;
        if self.faults.fails && self.one_in(20) {
            return Err(error(ErrorClass::Transient, "connection lost"));
        }
        let mut state = self.state.lock().unwrap();
        let inserted = !state.progress.contains_key(&partition.partition);
        let row = state.progress.entry(partition.partition).or_insert(Progress {
            next_offset: 0,
            position: None,
            waits_for: None,
            stopped: None,
        });
        Ok((row.clone(), inserted))
    }

    async fn topic_progress(
        &mut self,
        _: &str,
        _: &str,
        _: &str,
    ) -> Result<Vec<(PartitionKey, Progress)>, TargetError> {
        Ok(Vec::new())
    }

    async fn plan(&mut self, definition: &Arc<TableDefinition>) -> Result<Arc<dyn TablePlan>, TargetError> {
        Ok(Arc::new(Plan(Arc::clone(definition))))
    }

    async fn describe(&mut self, _: &str, _: &str, _: &str) -> Result<Option<TableDefinition>, TargetError> {
        Ok(None)
    }

    async fn write(&mut self, batch: &Batch<'_>) -> Result<Written, TargetError> {
        self.take_time().await;
        if self.faults.fails && self.one_in(15) {
            return Err(error(ErrorClass::Transient, "connection lost before the commit"));
        }
        let written = {
            let mut state = self.state.lock().unwrap();
            let mut next = state.clone();
            let written = next.apply(batch, self.faults.swaps)?;
            if matches!(written, Written::Applied { .. }) {
                next.commits += 1;
                *state = next;
            }
            written
        };
        self.take_time().await;
        if self.faults.fails && self.one_in(15) {
            return Err(error(ErrorClass::Transient, "connection lost after the commit"));
        }
        Ok(written)
    }

    async fn settle(&mut self, _: &[PartitionKey]) -> Result<Contested, TargetError> {
        Ok(Contested::default())
    }

    async fn waiting(&mut self, _: &str, _: &str) -> Result<u64, TargetError> {
        Ok(0)
    }

    async fn barrier_released(&mut self, partition: &PartitionKey, position: Position) -> Result<bool, TargetError> {
        let state = self.state.lock().unwrap();
        let newest = state.newest_but(partition.partition);
        Ok(state.barriers.get(&position).is_none_or(|(barrier, _)| barrier::released(barrier, newest)))
    }

    async fn note_stop(&mut self, partition: &PartitionKey, reason: Option<&str>) -> Result<(), TargetError> {
        if let Some(row) = self.state.lock().unwrap().progress.get_mut(&partition.partition) {
            row.stopped = reason.map(str::to_owned);
        }
        Ok(())
    }
}

impl State {
    fn newest_but(&self, partition: i32) -> Option<Position> {
        self.progress.iter().filter(|(other, _)| **other != partition).filter_map(|(_, row)| row.position).max()
    }

    fn apply(&mut self, batch: &Batch<'_>, swaps: bool) -> Result<Written, TargetError> {
        for step in batch.moves {
            let row = self.progress.get_mut(&step.partition.partition).expect("read before");
            if swaps && row.next_offset != step.from {
                return Ok(Written::Fenced);
            }
            assert!(step.to > step.from, "a move moves");
            row.next_offset = step.to;
            row.position = step.position;
            row.waits_for = None;
        }
        for table in batch.tables {
            self.write_rows(table)?;
        }
        let mut released = Vec::new();
        for arrival in batch.arrivals {
            let partition = arrival.partition.partition;
            let newest = self.newest_but(partition);
            let noted = self.barriers.get(&arrival.position).map(|(barrier, _)| *barrier);
            let answer = barrier::arrive(noted.as_ref(), arrival.position, arrival.partitions, newest);
            let (barrier, arrived) = self.barriers.entry(arrival.position).or_insert((
                Barrier { position: arrival.position, partitions: arrival.partitions, arrived: 0, released: false },
                BTreeSet::new(),
            ));
            assert!(arrived.insert(partition), "a partition arrives once");
            barrier.arrived += 1;
            match answer {
                Arrived::Wait => self.progress.get_mut(&partition).unwrap().waits_for = Some(arrival.position),
                Arrived::Work => {
                    barrier.released = true;
                    if !arrival.clears.is_empty() {
                        self.rows.clear();
                    }
                }
                Arrived::Pass => barrier.released = true,
            }
            released.push(answer != Arrived::Wait);
        }
        // Partitions of this batch that arrived before the last one.
        for (index, arrival) in batch.arrivals.iter().enumerate() {
            released[index] |= self.barriers[&arrival.position].0.released;
        }
        for row in self.progress.values_mut() {
            if row.waits_for.is_some_and(|marker| self.barriers[&marker].0.released) {
                row.waits_for = None;
            }
        }
        Ok(Written::released(released))
    }

    fn write_rows(&mut self, table: &TableBatch) -> Result<(), TargetError> {
        let cells = |row: &u32| -> Vec<Cell> { table.rows.row(*row as usize).to_vec() };
        let value = |cell: Cell| table.rows.bytes(cell).map(<[u8]>::to_vec);
        let key = |cells: &[Cell]| value(cells[0]).expect("a key is never NULL");
        let update = |stored: &mut Row, cells: &[Cell]| {
            for (stored, cell) in stored.iter_mut().zip(cells) {
                if *cell != Cell::Unknown {
                    *stored = value(*cell);
                }
            }
        };
        for row in &table.deletes {
            self.rows.remove(&key(&cells(row)));
        }
        for row in &table.upserts {
            let cells = cells(row);
            if self.refused.as_ref() == Some(&key(&cells)) {
                return Err(error(ErrorClass::BadRecord, "refused"));
            }
            self.rows.insert(key(&cells), cells.iter().map(|cell| value(*cell)).collect());
        }
        for row in &table.updates {
            let cells = cells(row);
            let missing = || error(ErrorClass::BadRecord, "missing row");
            let stored = self.rows.get_mut(&key(&cells)).ok_or_else(missing)?;
            update(stored, &cells);
        }
        for row in &table.fills {
            let cells = cells(row);
            if let Some(stored) = self.rows.get_mut(&key(&cells)) {
                update(stored, &cells);
            }
        }
        Ok(())
    }
}

pub(crate) struct Plan(pub(crate) Arc<TableDefinition>);

impl TablePlan for Plan {
    fn definition(&self) -> &Arc<TableDefinition> {
        &self.0
    }

    fn encode(&self, _: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<CellForm, String> {
        match value {
            Value::Null => return Ok(CellForm::Null),
            Value::Unknown => return Ok(CellForm::Unknown),
            Value::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            _ => return Err("not in this simulation".into()),
        }
        Ok(CellForm::Written)
    }

    fn encode_key(&self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<CellForm, String> {
        self.encode(column, value, out)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
