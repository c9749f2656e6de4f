//! One partition in a lane: what is queued, how far the target is, how far the batch in hand reaches.

use std::collections::VecDeque;

use syncline_event::position::Position;

use crate::chunk::{Chunk, Record};
use crate::order::Order;
use crate::targets::{PartitionKey, Progress};

/// A place in the partition, with what the records before it leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The offset of the next record.
    pub next_offset: i64,
    /// The order as of there.
    pub order: Order,
}

/// What a partition does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It takes part in batches.
    Running,
    /// It waits for the others at a marker. Nothing is fetched.
    Waiting(Position),
    /// Its next record cannot be applied: it stops once everything before that record is.
    Failing(Failure),
    /// It waits for someone to act. Nothing is fetched.
    Stopped(Failure),
    /// The target's row may have moved, so it has to be read before anything else.
    Unsure,
}

/// A record that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its offset.
    pub offset: i64,
    /// Why, and what to do. No values.
    pub reason: String,
}

/// Counts of what a batch passed over and took, since the last cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records whose change is in the batch.
    pub taken: u64,
    /// Repeats.
    pub repeated: u64,
    /// Records of an epoch that is over.
    pub outdated: u64,
    /// Bytes of all records.
    pub bytes: u64,
}

/// The state of one partition. No I/O: the lane asks and tells.
#[derive(Debug)]
pub struct Partition {
    /// Whose row it is.
    pub key: PartitionKey,
    /// The lane's index of the topic.
    pub topic: usize,
    /// The source's table, or the topic's name while the table is not known.
    pub table: String,
    /// The target's tables, or the topic's name while they are not known.
    pub target: String,
    /// What it does.
    pub state: State,
    /// As the target's row says: where a transaction's swap starts from.
    committed: Mark,
    /// Behind the last record of the batch that is being put together.
    drafted: Mark,
    /// Where a transaction under way ends, and the marker there, if it ends at one.
    launched: Option<(Mark, Option<Position>)>,
    /// The marker the draft ends at: nothing behind it goes into a batch.
    arrived: Option<Position>,
    queue: VecDeque<Chunk>,
    /// The next record to draft, as chunk and index in it.
    cursor: (usize, usize),
    /// What the draft holds of this partition.
    pub counts: Counts,
}

impl Partition {
    /// A partition as its progress row tells it.
    #[must_use]
    pub fn new(key: PartitionKey, topic: usize, progress: &Progress) -> Self {
        let committed = mark(progress);
        Self {
            table: key.topic.clone(),
            target: key.topic.clone(),
            key,
            topic,
            state: state(progress),
            committed,
            drafted: committed,
            launched: None,
            arrived: None,
            queue: VecDeque::new(),
            cursor: (0, 0),
            counts: Counts::default(),
        }
    }

    /// The offset the target's row holds.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.committed.next_offset
    }

    /// Behind the last record of the draft.
    #[must_use]
    pub fn drafted(&self) -> Mark {
        self.drafted
    }

    /// Where the draft starts: behind the transaction under way, if there is one.
    #[must_use]
    pub fn draft_start(&self) -> Mark {
        self.launched.map_or(self.committed, |(mark, _)| mark)
    }

    /// From where to where the draft moves the row, if it does.
    #[must_use]
    pub fn moves(&self) -> Option<(i64, i64)> {
        let from = self.draft_start().next_offset;
        let to = self.drafted.next_offset;
        (to > from).then_some((from, to))
    }

    /// The marker that the draft or the transaction under way ends at.
    #[must_use]
    pub fn arrived(&self) -> Option<Position> {
        self.arrived.or(self.launched.and_then(|(_, arrived)| arrived))
    }

    /// Whether records may be drafted.
    #[must_use]
    pub fn drafts(&self) -> bool {
        self.state == State::Running && self.arrived().is_none()
    }

    /// Whether there are records to draft.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.cursor.0 < self.queue.len()
    }

    /// Takes in what was fetched; what lies before the draft's end is passed over.
    pub fn enqueue(&mut self, chunk: Chunk) {
        if chunk.end().is_none_or(|end| end <= self.drafted.next_offset) {
            return;
        }
        let drained = !self.has_queued();
        self.queue.push_back(chunk);
        if drained {
            self.cursor = self.find(self.drafted.next_offset);
        }
    }

    /// Whether it waits at a marker.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Bytes queued.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.iter().map(Chunk::size).sum()
    }

    /// The next record to draft.
    #[must_use]
    pub fn peek(&self) -> Option<Record<'_>> {
        self.queue.get(self.cursor.0)?.get(self.cursor.1)
    }

    /// A queued record by its offset.
    #[must_use]
    pub fn record_at(&self, offset: i64) -> Option<Record<'_>> {
        let (chunk, index) = self.find(offset);
        self.queue.get(chunk)?.get(index)
    }

    /// The next record is in the draft or passed over; `order` is what it leaves behind.
    pub fn advance(&mut self, order: Order) {
        let Some(record) = self.peek() else { return };
        let (next_offset, size) = (record.offset + 1, record.size());
        self.drafted = Mark { next_offset, order };
        self.counts.bytes += size as u64;
        self.cursor.1 += 1;
        if self.cursor.1 == self.queue[self.cursor.0].len() {
            self.cursor = (self.cursor.0 + 1, 0);
        }
    }

    /// The draft ends at this marker.
    pub fn arrive(&mut self, marker: Position) {
        self.arrived = Some(marker);
    }

    /// The draft is under way as a transaction; the next one starts behind it.
    pub fn launch(&mut self) -> Counts {
        self.launched = Some((self.drafted, self.arrived.take()));
        std::mem::take(&mut self.counts)
    }

    /// The transaction under way has been committed. `released` says whether the barrier it ended at, if any, lets the
    /// partition go on.
    pub fn commit(&mut self, released: bool) {
        let Some((mark, arrived)) = self.launched.take() else { return };
        self.committed = mark;
        self.drop_applied();
        if let Some(marker) = arrived.filter(|_| !released) {
            self.wait(marker);
        }
    }

    /// The draft is dropped; its records are drafted again. Call it, too, when the transaction under way came to
    /// nothing.
    pub fn reset(&mut self) {
        let start = self.draft_start();
        self.drafted = start;
        self.counts = Counts::default();
        if matches!(self.state, State::Failing(_)) {
            // What lies before the failing record has to be drafted again; the record fails again.
            self.state = State::Running;
        }
        self.arrived = None;
        self.cursor = self.find(start.next_offset);
    }

    /// The transaction under way came to nothing, as far as is known.
    pub fn abandon(&mut self) {
        self.launched = None;
        self.reset();
    }

    /// Compares with the row as it was read again. True: what is queued goes on from there; false: the partition has
    /// to be fetched again from [`Partition::next_offset`].
    pub fn settle(&mut self, progress: &Progress) -> bool {
        self.launched = None;
        self.arrived = None;
        self.counts = Counts::default();
        let before = self.committed.next_offset;
        self.committed = mark(progress);
        self.drafted = self.committed;
        self.state = state(progress);
        let next = self.committed.next_offset;
        let held = next >= before && self.queue.back().and_then(Chunk::end).is_some_and(|end| end >= next);
        if self.state != State::Running || !(held || next == before) {
            self.drop_queue();
            return false;
        }
        self.drop_applied();
        self.cursor = self.find(next);
        true
    }

    /// Stops at a record once everything before it is applied.
    pub fn fail(&mut self, failure: Failure) {
        self.state = State::Failing(failure);
    }

    /// The failure, once nothing before it is left to write.
    #[must_use]
    pub fn due_failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Failing(failure) if self.launched.is_none() && self.drafted == self.committed => Some(failure),
            _ => None,
        }
    }

    /// Waits for someone to act.
    pub fn stop(&mut self, failure: Failure) {
        self.state = State::Stopped(failure);
        self.drop_queue();
    }

    /// Goes on after a wait. What follows has to be fetched.
    pub fn resume(&mut self) {
        self.state = State::Running;
    }

    fn wait(&mut self, marker: Position) {
        self.state = State::Waiting(marker);
        self.drop_queue();
    }

    /// Forgets what is queued.
    pub fn drop_queue(&mut self) {
        self.queue.clear();
        self.cursor = (0, 0);
        self.drafted = self.draft_start();
        self.counts = Counts::default();
    }

    /// Forgets chunks that lie before the row.
    fn drop_applied(&mut self) {
        let next = self.committed.next_offset;
        while self.queue.front().and_then(Chunk::end).is_some_and(|end| end <= next) {
            self.queue.pop_front();
            self.cursor.0 = self.cursor.0.saturating_sub(1);
        }
    }

    fn find(&self, offset: i64) -> (usize, usize) {
        let chunk = self.queue.partition_point(|chunk| chunk.end().is_some_and(|end| end <= offset));
        (chunk, self.queue.get(chunk).map_or(0, |chunk| chunk.at(offset)))
    }
}

fn mark(progress: &Progress) -> Mark {
    let order = Order::from_progress(progress.next_offset, progress.position);
    Mark { next_offset: progress.next_offset, order }
}

fn state(progress: &Progress) -> State {
    progress.waits_for.map_or(State::Running, State::Waiting)
}

/// A queue of one chunk, for tests.
#[cfg(test)]
pub(crate) fn chunk(offsets: impl IntoIterator<Item = i64>) -> Chunk {
    let mut chunk = Chunk::new(std::sync::Arc::default());
    for offset in offsets {
        chunk.push(Record {
            offset,
            key: None,
            value: None,
            header: None,
            named: Ok(crate::chunk::NamedSchemas::default()),
        });
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(next_offset: i64) -> Partition {
        let key = PartitionKey {
            group: "g".into(),
            cluster_id: "c".into(),
            topic: "t".into(),
            topic_id: "i".into(),
            partition: 0,
        };
        let progress = Progress { next_offset, position: None, waits_for: None, stopped: None };
        Partition::new(key, 0, &progress)
    }

    fn draft(partition: &mut Partition, records: usize) -> Vec<i64> {
        (0..records)
            .map_while(|_| {
                let offset = partition.peek()?.offset;
                partition.advance(Order::Chosen);
                Some(offset)
            })
            .collect()
    }

    #[test]
    fn a_draft_grows_while_the_one_before_it_is_written() {
        let mut partition = partition(3);
        partition.enqueue(chunk(3..6));
        partition.enqueue(chunk([6, 8]));
        assert_eq!(draft(&mut partition, 2), [3, 4]);
        assert_eq!(partition.moves(), Some((3, 5)));
        partition.launch();
        assert_eq!(draft(&mut partition, 2), [5, 6]);
        assert_eq!(partition.moves(), Some((5, 7)));
        partition.commit(true);
        assert_eq!(partition.next_offset(), 5);
        assert_eq!(partition.moves(), Some((5, 7)), "the draft is untouched");
        partition.launch();
        assert_eq!(draft(&mut partition, 9), [8]);
        partition.commit(true);
        partition.launch();
        partition.commit(true);
        assert_eq!((partition.next_offset(), partition.queued()), (9, 0));
    }

    #[test]
    fn what_came_to_nothing_is_drafted_again() {
        let mut partition = partition(0);
        partition.enqueue(chunk(0..4));
        draft(&mut partition, 2);
        partition.launch();
        draft(&mut partition, 1);
        partition.reset();
        assert_eq!(partition.peek().unwrap().offset, 2, "only the draft is dropped");
        partition.abandon();
        assert_eq!(partition.peek().unwrap().offset, 0);
        assert_eq!(partition.moves(), None);
    }

    #[test]
    fn a_row_that_moved_is_followed() {
        let progress = |next_offset| Progress { next_offset, position: None, waits_for: None, stopped: None };
        let mut partition = partition(0);
        partition.enqueue(chunk(0..4));
        draft(&mut partition, 2);
        partition.launch();
        assert!(partition.settle(&progress(2)), "our own commit got through");
        assert_eq!(partition.peek().unwrap().offset, 2);
        assert!(partition.settle(&progress(2)), "nothing moved");
        assert!(!partition.settle(&progress(9)), "someone else went past what is queued");
        assert!(partition.peek().is_none());
        partition.enqueue(chunk(9..11));
        assert!(!partition.settle(&progress(4)), "the row went back");
    }

    #[test]
    fn an_arrival_ends_the_draft_and_may_have_to_wait() {
        let marker = Position::opening(2);
        let mut partition = partition(0);
        partition.enqueue(chunk(0..4));
        draft(&mut partition, 1);
        partition.arrive(marker);
        assert!(!partition.drafts());
        partition.launch();
        partition.reset();
        assert!(!partition.drafts(), "the transaction under way ends at the marker");
        partition.commit(false);
        assert_eq!(partition.state, State::Waiting(marker));
        assert_eq!((partition.next_offset(), partition.queued()), (1, 0));
        partition.resume();
        assert!(partition.drafts());
    }

    #[test]
    fn a_draft_keeps_its_marker_when_the_batch_before_it_is_written() {
        let mut partition = partition(0);
        partition.enqueue(chunk(0..4));
        draft(&mut partition, 1);
        partition.launch();
        draft(&mut partition, 1);
        partition.arrive(Position::opening(2));
        partition.commit(true);
        assert!(!partition.drafts(), "nothing behind the marker joins it");
        partition.launch();
        assert!(!partition.drafts());
        partition.commit(true);
        assert!(partition.drafts());
    }

    #[test]
    fn a_failure_is_due_when_everything_before_it_is_written() {
        let mut partition = partition(0);
        partition.enqueue(chunk(0..2));
        draft(&mut partition, 1);
        partition.fail(Failure { offset: 1, reason: "bad".into() });
        assert!(!partition.drafts());
        assert_eq!(partition.due_failure(), None);
        partition.launch();
        assert_eq!(partition.due_failure(), None);
        partition.commit(true);
        assert_eq!(partition.due_failure().map(|failure| failure.offset), Some(1));
    }
}
