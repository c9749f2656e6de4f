//! A batch while it is put together: records in, rows by table and moves of progress rows out. No I/O.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use syncline_event::header::{BarrierKind, Header};
use syncline_event::position::Position;

use crate::batch::{Admission, Extent, Limits};
use crate::chunk::Record;
use crate::order::{Order, Verdict};
use crate::partition::{Counts, Failure, Partition};
use crate::table_draft::{Buffers, TableDraft};
use crate::targets::{Arrival, Batch, Clearing, FenceArrival, Move, TableBatch, TablePlan};

/// Turns records into rows. Made of what is known already: what it lacks, it asks for.
pub trait Decode {
    /// Something to fetch before a record can be decoded.
    type Need;

    /// What a record is.
    ///
    /// # Errors
    ///
    /// What is missing or wrong.
    fn shape(
        &mut self,
        topic: usize,
        record: &Record<'_>,
        header: Option<&Header>,
    ) -> Result<Shape, Obstacle<Self::Need>>;

    /// How rows under a definition that [`Decode::shape`] named are written: a plan for each target table.
    fn plans(&self, topic: usize, definition: u32) -> Vec<Arc<dyn TablePlan>>;

    /// What a marker that empties the source's table does to the target's.
    ///
    /// # Errors
    ///
    /// A table may not be cleared.
    fn clears(&self, topic: usize, definition: u32, kind: BarrierKind) -> Result<Vec<Clearing>, String>;

    /// Stages the record's changes: none, or some in each of the tables, which are in the order of
    /// [`Decode::plans`].
    ///
    /// # Errors
    ///
    /// The record is bad. What was staged is to be forgotten.
    fn decode(
        &mut self,
        topic: usize,
        definition: u32,
        record: &Record<'_>,
        header: Option<&Header>,
        tables: &mut [TableDraft],
    ) -> Result<(), String>;

    /// The key of a record that was decoded, in a form for people.
    fn key_text(&mut self, topic: usize, definition: u32, record: &Record<'_>) -> Option<String>;
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing to write: a tombstone behind its delete, a logical message.
    Nothing,
    /// A change of one row under this definition.
    Row {
        /// The definition's number.
        definition: u32,
    },
}

/// Why a record cannot be drafted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle<N> {
    /// Something has to be fetched first.
    Needs(N),
    /// It never will be. Says why and what to do; no values.
    Bad(String),
}

/// Why a draft did not grow further with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop<N> {
    /// Nothing is queued any more, or the partition ends here for this batch.
    Partition,
    /// The draft is full.
    Full,
    /// As many records as were asked for; there may be more.
    Slice,
    /// Something has to be fetched first.
    Needs(N),
}

/// A batch being put together.
#[derive(Default)]
pub struct Draft {
    extent: Extent,
    tables: Vec<TableDraft>,
    arrivals: Vec<Arrival>,
    fences: Vec<FenceArrival>,
    /// The key that each partition (topic index and partition) changed last, for people.
    last_keys: FxHashMap<(usize, i32), String>,
    /// The offset of the first change.
    first_change: Option<i64>,
    spare: Vec<Buffers>,
}

/// A batch on its way to the target.
pub struct Launch {
    moves: Vec<Move>,
    tables: Vec<TableBatch>,
    arrivals: Vec<Arrival>,
    fences: Vec<FenceArrival>,
    buffers: Vec<Buffers>,
    changes: usize,
    first_change: Option<i64>,
    /// Partitions of the batch by the lane's index, with their counts; in the order of the moves.
    pub members: Vec<(usize, Counts)>,
}

/// Bounds of one call of [`Draft::extend`].
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// The batch's bounds.
    pub limits: Limits,
    /// Most records to look at.
    pub records: usize,
}

impl Draft {
    /// Whether nothing is drafted; progress rows may still have to move over records that were passed over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.extent.changes() == 0
    }

    /// Drafts queued records of a partition until something stops it. A record that cannot be applied makes the
    /// partition fail behind what was drafted before.
    pub fn extend<D: Decode>(&mut self, partition: &mut Partition, decoder: &mut D, slice: Slice) -> Stop<D::Need> {
        let mut last = None;
        let stop = self.extend_rows(partition, decoder, slice, &mut last);
        if let Some((offset, definition)) = last
            && let Some(record) = partition.record_at(offset)
            && let Some(key) = decoder.key_text(partition.topic, definition, &record)
        {
            self.last_keys.insert((partition.topic, partition.key.partition), key);
        }
        stop
    }

    fn extend_rows<D: Decode>(
        &mut self,
        partition: &mut Partition,
        decoder: &mut D,
        slice: Slice,
        last: &mut Option<(i64, u32)>,
    ) -> Stop<D::Need> {
        for _ in 0..slice.records {
            if !partition.drafts() {
                return Stop::Partition;
            }
            let Some(record) = partition.peek() else { return Stop::Partition };
            match self.add(partition, &record, decoder, slice.limits, last) {
                Ok(Added::Yes(order)) => partition.advance(order),
                Ok(Added::Counted(order, count)) => {
                    partition.advance(order);
                    count(&mut partition.counts);
                }
                Ok(Added::Marker(order, marker)) => {
                    partition.advance(order);
                    partition.arrive(marker);
                }
                Ok(Added::No(stop)) => return stop,
                Err(reason) => {
                    let failure = Failure { offset: record.offset, reason };
                    partition.fail(failure);
                    return Stop::Partition;
                }
            }
        }
        Stop::Slice
    }

    fn add<D: Decode>(
        &mut self,
        partition: &Partition,
        record: &Record<'_>,
        decoder: &mut D,
        limits: Limits,
        last: &mut Option<(i64, u32)>,
    ) -> Result<Added<D::Need>, String> {
        let header = record.header.map(Header::decode).transpose().map_err(|error| error.to_string())?;
        let header = header.as_ref();
        let mut order = partition.drafted().order;
        if let Some(fence) = header.and_then(|header| header.fence) {
            // Not in the source's order: it answers a question, and a repeat does no harm.
            self.fences.push(FenceArrival {
                id: fence.id,
                partition: partition.key.clone(),
                partitions: fence.partitions,
                seen: header.and_then(|header| header.stamped.as_ref()).map(|marked| marked.seen.clone()),
            });
            return Ok(Added::Yes(order));
        }
        match order.judge(header) {
            Verdict::Take => {}
            Verdict::Repeat => return Ok(Added::Counted(order, |counts| counts.repeated += 1)),
            Verdict::Outdated => return Ok(Added::Counted(order, |counts| counts.outdated += 1)),
            Verdict::Unopened => {
                let at = header.map(|header| header.position.to_string()).unwrap_or_default();
                return Err(format!(
                    "record at {at} belongs to an epoch that no marker has opened, so records before it are missing; \
                     rebuild the topic with `syncline resync`"
                ));
            }
        }
        let marker = header.and_then(|header| header.barrier.map(|barrier| (header, barrier)));
        if let Some((_, barrier)) = marker
            && !barrier.kind.waits()
        {
            return Ok(Added::Yes(order));
        }
        let definition = match decoder.shape(partition.topic, record, header) {
            Ok(Shape::Row { definition }) => definition,
            Ok(Shape::Nothing) => return Ok(Added::Yes(order)),
            Err(Obstacle::Needs(need)) => return Ok(Added::No(Stop::Needs(need))),
            Err(Obstacle::Bad(reason)) => return Err(reason),
        };
        match self.extent.admit(limits, partition.topic, definition, record.size()) {
            Admission::Take => {}
            Admission::CutPartition => return Ok(Added::No(Stop::Partition)),
            Admission::Full => return Ok(Added::No(Stop::Full)),
        }
        self.first_change.get_or_insert(record.offset);
        if let Some((header, barrier)) = marker {
            let clears = if barrier.kind.empties_table() {
                decoder.clears(partition.topic, definition, barrier.kind)?
            } else {
                Vec::new()
            };
            self.arrivals.push(Arrival {
                partition: partition.key.clone(),
                position: header.position,
                kind: barrier.kind,
                partitions: barrier.partitions,
                clears,
            });
            return Ok(Added::Marker(order, header.position));
        }
        let tables = self.tables_of(partition.topic, definition, decoder);
        if tables.iter().map(TableDraft::size).sum::<usize>() > limits.bytes * 2 {
            // A target's encoding may be longer than Avro's. The change is admitted again in the next batch.
            return Ok(Added::No(Stop::Full));
        }
        let staged = decoder.decode(partition.topic, definition, record, header, tables);
        let good =
            staged.and_then(|()| tables.iter().try_for_each(|table| table.check().map_err(|error| error.to_string())));
        if let Err(reason) = good {
            tables.iter_mut().for_each(TableDraft::unstage);
            return Err(reason);
        }
        let mut any = false;
        for table in tables {
            any |= table.settle(&partition.key, record.offset);
        }
        if !any {
            return Ok(Added::Yes(order));
        }
        *last = Some((record.offset, definition));
        Ok(Added::Counted(order, |counts| counts.taken += 1))
    }

    /// The tables that a topic's records go to; they lie side by side.
    fn tables_of<D: Decode>(&mut self, topic: usize, definition: u32, decoder: &D) -> &mut [TableDraft] {
        let of_topic = |table: &TableDraft| table.topic == topic;
        let first = self.tables.iter().position(of_topic).unwrap_or_else(|| {
            let first = self.tables.len();
            for plan in decoder.plans(topic, definition) {
                self.tables.push(TableDraft::new(topic, plan, self.spare.pop().unwrap_or_default()));
            }
            first
        });
        let tables = &mut self.tables[first..];
        let behind = tables.iter().position(|table| !of_topic(table)).unwrap_or(tables.len());
        &mut tables[..behind]
    }

    /// Forgets everything; the caller resets the partitions.
    pub fn clear(&mut self) {
        self.extent.clear();
        self.arrivals.clear();
        self.fences.clear();
        self.last_keys.clear();
        self.first_change = None;
        self.spare.extend(self.tables.drain(..).map(TableDraft::into_buffers));
    }

    /// The batch as it goes to the target, and an empty draft. `partitions` are all that may have records in it, by
    /// the lane's index; they start their next draft behind this batch. `None` if no progress row would move.
    pub fn launch<'p>(&mut self, partitions: impl Iterator<Item = (usize, &'p mut Partition)>) -> Option<Launch> {
        let mut launch = Launch {
            moves: Vec::new(),
            tables: Vec::with_capacity(self.tables.len()),
            arrivals: std::mem::take(&mut self.arrivals),
            fences: std::mem::take(&mut self.fences),
            buffers: Vec::with_capacity(self.tables.len()),
            changes: self.extent.changes(),
            first_change: self.first_change.take(),
            members: Vec::new(),
        };
        for (index, partition) in partitions {
            let Some((from, to)) = partition.moves() else { continue };
            let mut last_key = None;
            let mut tables = self.tables.iter().filter(|table| table.topic == partition.topic);
            if let Some(table) = tables.next() {
                let mut name = table.plan().definition().qualified_name();
                for other in tables {
                    name.push_str(", ");
                    name.push_str(&other.plan().definition().qualified_name());
                }
                partition.target = name;
                last_key = self.last_keys.remove(&(partition.topic, partition.key.partition));
            }
            let position = partition.drafted().order.position();
            let counts = partition.launch();
            launch.moves.push(Move {
                partition: partition.key.clone(),
                from,
                to,
                position,
                table: partition.target.clone(),
                records: counts.taken,
                last_key,
            });
            launch.members.push((index, counts));
        }
        for table in self.tables.drain(..) {
            match table.launch() {
                (Some(batch), buffers) => {
                    launch.tables.push(batch);
                    launch.buffers.push(buffers);
                }
                (None, buffers) => self.spare.push(buffers),
            }
        }
        self.extent.clear();
        self.last_keys.clear();
        (!launch.moves.is_empty()).then_some(launch)
    }

    /// Takes back the memory of a batch that is done with.
    pub fn recycle(&mut self, launch: Launch) {
        self.spare.extend(launch.tables.into_iter().zip(launch.buffers).map(|(batch, buffers)| buffers.of(batch)));
    }
}

impl Launch {
    /// What a target writes.
    #[must_use]
    pub fn batch(&self) -> Batch<'_> {
        Batch { moves: &self.moves, tables: &self.tables, arrivals: &self.arrivals, fences: &self.fences }
    }

    /// Whether the barrier that a member arrived at is released; true where it arrived at none. `released` is what the
    /// target answered.
    #[must_use]
    pub fn released(&self, member: usize, released: &[bool]) -> bool {
        let key = &self.moves[member].partition;
        let arrival = self.arrivals.iter().position(|arrival| arrival.partition == *key);
        arrival.is_none_or(|index| released.get(index).copied().unwrap_or(false))
    }

    /// Changes and arrivals in the batch.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// The offset of the first change, which tells where a batch of one change fails.
    #[must_use]
    pub fn first_change(&self) -> Option<i64> {
        self.first_change
    }

    /// The moves, in the order of [`Launch::members`].
    #[must_use]
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }
}

enum Added<N> {
    Yes(Order),
    Counted(Order, fn(&mut Counts)),
    Marker(Order, Position),
    No(Stop<N>),
}
