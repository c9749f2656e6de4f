//! Records on their way from the poll thread to a lane: some of one partition, their bytes side by side.
//!
//! A chunk costs two allocations however many records it holds, and gives its bytes back to the lane's budget when it
//! is dropped, wherever that happens.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use syncline_event::avro::frame::{FrameError, SchemaId};

/// How many bytes a lane holds, in hand and queued.
#[derive(Debug, Default)]
pub struct Budget {
    held: AtomicUsize,
}

impl Budget {
    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// Records of one partition in offset order.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    records: Vec<Stored>,
    held: usize,
    budget: Arc<Budget>,
}

/// What a record costs beside its bytes.
const OVERHEAD: usize = size_of::<Stored>();

#[derive(Debug, Clone)]
struct Stored {
    offset: i64,
    key: Option<Range<u32>>,
    value: Option<Range<u32>>,
    header: Option<Range<u32>>,
    named: Named,
}

/// What a record's headers say about its schemas.
pub type Named = Result<NamedSchemas, FrameError>;

/// The schemas that a record's headers name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamedSchemas {
    /// The key's.
    pub key: Option<SchemaId>,
    /// The value's.
    pub value: Option<SchemaId>,
}

/// A record as Kafka holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// The value of its `syncline` header.
    pub header: Option<&'a [u8]>,
    /// What its other headers say about its schemas.
    pub named: Named,
}

impl Record<'_> {
    /// Bytes of key, value and header.
    #[must_use]
    pub fn size(&self) -> usize {
        [self.key, self.value, self.header].into_iter().flatten().map(<[u8]>::len).sum()
    }
}

impl Chunk {
    /// An empty chunk.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { bytes: Vec::new(), records: Vec::new(), held: 0, budget }
    }

    /// Appends a record, which must lie behind those that are there.
    pub fn push(&mut self, record: Record<'_>) {
        let mut store = |part: Option<&[u8]>| {
            part.map(|part| {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(part);
                narrow(start)..narrow(self.bytes.len())
            })
        };
        let (key, value, header) = (store(record.key), store(record.value), store(record.header));
        self.records.push(Stored { offset: record.offset, key, value, header, named: record.named });
        let size = record.size() + OVERHEAD;
        self.held += size;
        self.budget.held.fetch_add(size, Ordering::Relaxed);
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes the budget counts for this chunk.
    #[must_use]
    pub fn size(&self) -> usize {
        self.held
    }

    /// A record by its index.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        let stored = self.records.get(index)?;
        let part = |range: &Option<Range<u32>>| {
            range.as_ref().map(|range| &self.bytes[range.start as usize..range.end as usize])
        };
        Some(Record {
            offset: stored.offset,
            key: part(&stored.key),
            value: part(&stored.value),
            header: part(&stored.header),
            named: stored.named,
        })
    }

    /// The index of the first record at or behind `offset`.
    #[must_use]
    pub fn at(&self, offset: i64) -> usize {
        self.records.partition_point(|record| record.offset < offset)
    }

    /// The offset behind the last record.
    #[must_use]
    pub fn end(&self) -> Option<i64> {
        self.records.last().map(|record| record.offset + 1)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// A chunk is cut long before 4 GiB, and Kafka's records are smaller than 2 GiB.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).expect("a chunk is far smaller than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_bytes_are_given_back() {
        let budget = Arc::<Budget>::default();
        let mut chunk = Chunk::new(Arc::clone(&budget));
        let first = Record {
            offset: 5,
            key: Some(b"k"),
            value: Some(b"value"),
            header: None,
            named: Ok(NamedSchemas::default()),
        };
        let second = Record { offset: 9, key: None, value: None, header: Some(b"h"), named: Err(FrameError::Short(0)) };
        chunk.push(first);
        chunk.push(second);
        assert_eq!((chunk.get(0), chunk.get(1), chunk.get(2)), (Some(first), Some(second), None));
        assert_eq!((chunk.at(0), chunk.at(6), chunk.at(10), chunk.end()), (0, 1, 2, Some(10)));
        assert_eq!(budget.held(), chunk.size());
        assert!(chunk.size() >= 7);
        drop(chunk);
        assert_eq!(budget.held(), 0);
    }
}
