//! The `syncline` header: what Debezium's form of a record cannot say.
//!
//! One binary Kafka header a record. Layout, version 1, integers big-endian unless said otherwise:
//!
//! ```text
//! version u8 | flags u8 | position 22 bytes | definition u32
//! [flag 1: barrier]   kind u8, partitions u32
//! [flag 2: origin]    wall clock µs u64, counter u32, length u8, origin id (UTF-8)
//! [flag 4: unchanged] count u16, column index u16 each
//! [flag 8: texts]     count u16, then image u8 (0 after, 1 before), column u16, length u32, text (UTF-8) each
//! [flag 16: filling]  nothing
//! ```
//!
//! A flag that this version does not know is an error, not noise: a newer producer meant something by it.

use crate::position::{ENCODED_LEN, Position};

/// The Kafka header's name.
pub const HEADER_NAME: &str = "syncline";

const VERSION: u8 = 1;
const FLAG_BARRIER: u8 = 1;
const FLAG_ORIGIN: u8 = 2;
const FLAG_UNCHANGED: u8 = 4;
const FLAG_TEXTS: u8 = 8;
const FLAG_FILLING: u8 = 16;
const FLAGS: u8 = FLAG_BARRIER | FLAG_ORIGIN | FLAG_UNCHANGED | FLAG_TEXTS | FLAG_FILLING;

/// What a record says beside its Debezium key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The record's place in the source's order.
    pub position: Position,
    /// The number of the table definition the record was written under; 0 in markers that concern no definition.
    pub definition: u32,
    /// Set on markers, which stand in every partition of a topic at the same position.
    pub barrier: Option<Barrier>,
    /// Who first made the change, and when.
    pub origin: Option<Origin>,
    /// Columns (indexes into the definition) whose value in `after` is unknown: TOASTed and not touched by the update.
    pub unchanged: Vec<u16>,
    /// The source's own text of values that Debezium's form cannot give back.
    pub texts: Vec<SourceText>,
    /// Set on an update with unchanged columns while an incremental snapshot of its table is unfinished: the row may
    /// not be there yet, and then comes whole with the snapshot, behind this record.
    pub filling: bool,
}

/// What happens when the marker has arrived in all partitions of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierKind {
    /// An epoch opens. Nothing waits and nothing is done to the table.
    Epoch,
    /// The source truncated the table.
    Truncate,
    /// A snapshot starts and an earlier one may have left rows: the table is emptied, and the epoch opens.
    Snapshot,
    /// The set of key columns changed: records before it and behind it do not share keys.
    KeyColumns,
}

impl BarrierKind {
    /// Whether a partition has to wait until the marker has arrived in all of them.
    #[must_use]
    pub fn waits(self) -> bool {
        !matches!(self, Self::Epoch)
    }

    /// Whether the table is emptied when the last partition arrives.
    #[must_use]
    pub fn empties_table(self) -> bool {
        matches!(self, Self::Truncate | Self::Snapshot)
    }

    /// Whether the marker opens its position's epoch.
    #[must_use]
    pub fn opens_epoch(self) -> bool {
        matches!(self, Self::Epoch | Self::Snapshot)
    }
}

/// A marker's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// What it is about.
    pub kind: BarrierKind,
    /// How many partitions the topic had when it was sent.
    pub partitions: u32,
}

/// The stamp of a change: a hybrid logical clock and the node that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Hybrid logical clock, microseconds since 1970.
    pub clock_us: u64,
    /// Tells apart what happened in the same microsecond.
    pub counter: u32,
    /// The node, at most 255 bytes.
    pub id: String,
}

/// Which row image a source text belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The new row.
    After,
    /// The old row or key.
    Before,
}

/// A value in the source's own text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    /// The image.
    pub image: Image,
    /// The column, as an index into the definition.
    pub column: u16,
    /// PostgreSQL's text output.
    pub text: String,
}

/// A header that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Written by a newer producer.
    #[error("syncline header has version {0}, this build reads version {VERSION}; upgrade this consumer")]
    Version(u8),
    /// Written by a newer producer.
    #[error("syncline header has unknown flags {0:#04x}; upgrade this consumer")]
    Flags(u8),
    /// Not a header.
    #[error("syncline header is malformed")]
    Malformed,
}

impl Header {
    /// A header with a position and a definition only.
    #[must_use]
    pub fn new(position: Position, definition: u32) -> Self {
        Self {
            position,
            definition,
            barrier: None,
            origin: None,
            unchanged: Vec::new(),
            texts: Vec::new(),
            filling: false,
        }
    }

    /// Appends the encoded header to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        for (flag, set) in [
            (FLAG_BARRIER, self.barrier.is_some()),
            (FLAG_ORIGIN, self.origin.is_some()),
            (FLAG_UNCHANGED, !self.unchanged.is_empty()),
            (FLAG_TEXTS, !self.texts.is_empty()),
            (FLAG_FILLING, self.filling),
        ] {
            if set {
                flags |= flag;
            }
        }
        out.push(VERSION);
        out.push(flags);
        out.extend_from_slice(&self.position.encode());
        out.extend_from_slice(&self.definition.to_be_bytes());
        if let Some(barrier) = &self.barrier {
            out.push(match barrier.kind {
                BarrierKind::Epoch => 0,
                BarrierKind::Truncate => 1,
                BarrierKind::Snapshot => 2,
                BarrierKind::KeyColumns => 3,
            });
            out.extend_from_slice(&barrier.partitions.to_be_bytes());
        }
        if let Some(origin) = &self.origin {
            out.extend_from_slice(&origin.clock_us.to_be_bytes());
            out.extend_from_slice(&origin.counter.to_be_bytes());
            let id = origin.id.as_bytes();
            let length = u8::try_from(id.len()).unwrap_or(u8::MAX);
            out.push(length);
            out.extend_from_slice(&id[..usize::from(length)]);
        }
        if !self.unchanged.is_empty() {
            out.extend_from_slice(&count(self.unchanged.len()).to_be_bytes());
            for column in &self.unchanged {
                out.extend_from_slice(&column.to_be_bytes());
            }
        }
        if !self.texts.is_empty() {
            out.extend_from_slice(&count(self.texts.len()).to_be_bytes());
            for text in &self.texts {
                out.push(u8::from(text.image == Image::Before));
                out.extend_from_slice(&text.column.to_be_bytes());
                out.extend_from_slice(&u32::try_from(text.text.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(text.text.as_bytes());
            }
        }
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// Another version, an unknown flag, or bytes that are not a header.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut input = Input(bytes);
        let version = input.u8()?;
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let flags = input.u8()?;
        if flags & !FLAGS != 0 {
            return Err(HeaderError::Flags(flags));
        }
        let position = Position::decode(input.take(ENCODED_LEN)?).ok_or(HeaderError::Malformed)?;
        let mut header = Self::new(position, input.u32()?);
        if flags & FLAG_BARRIER != 0 {
            let kind = match input.u8()? {
                0 => BarrierKind::Epoch,
                1 => BarrierKind::Truncate,
                2 => BarrierKind::Snapshot,
                3 => BarrierKind::KeyColumns,
                _ => return Err(HeaderError::Malformed),
            };
            header.barrier = Some(Barrier { kind, partitions: input.u32()? });
        }
        if flags & FLAG_ORIGIN != 0 {
            let clock_us = input.u64()?;
            let counter = input.u32()?;
            let length = usize::from(input.u8()?);
            header.origin = Some(Origin { clock_us, counter, id: input.text(length)? });
        }
        if flags & FLAG_UNCHANGED != 0 {
            for _ in 0..input.u16()? {
                header.unchanged.push(input.u16()?);
            }
        }
        if flags & FLAG_TEXTS != 0 {
            for _ in 0..input.u16()? {
                let image = match input.u8()? {
                    0 => Image::After,
                    1 => Image::Before,
                    _ => return Err(HeaderError::Malformed),
                };
                let column = input.u16()?;
                let length = usize::try_from(input.u32()?).map_err(|_| HeaderError::Malformed)?;
                header.texts.push(SourceText { image, column, text: input.text(length)? });
            }
        }
        header.filling = flags & FLAG_FILLING != 0;
        if input.0.is_empty() { Ok(header) } else { Err(HeaderError::Malformed) }
    }
}

/// PostgreSQL allows 1,600 columns a table, so counts of columns fit.
fn count(columns: usize) -> u16 {
    u16::try_from(columns).unwrap_or(u16::MAX)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], HeaderError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(HeaderError::Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        self.take(N)?.try_into().map_err(|_| HeaderError::Malformed)
    }

    fn u8(&mut self) -> Result<u8, HeaderError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, HeaderError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, HeaderError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, HeaderError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn text(&mut self, length: usize) -> Result<String, HeaderError> {
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| HeaderError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Phase;
    use proptest::prelude::*;

    fn full() -> Header {
        Header {
            position: Position { epoch: 3, phase: Phase::Stream, lsn: 0x16_B374_D848, number: 7, sub: 2 },
            definition: 4,
            barrier: Some(Barrier { kind: BarrierKind::Truncate, partitions: 12 }),
            origin: Some(Origin { clock_us: 1_795_225_597_561_592, counter: 9, id: "hq".into() }),
            unchanged: vec![2, 5],
            texts: vec![SourceText { image: Image::Before, column: 3, text: "12:34:56+02:30".into() }],
            filling: true,
        }
    }

    #[test]
    fn every_part_round_trips() {
        for header in [full(), Header::new(Position::opening(1), 0)] {
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            assert_eq!(Header::decode(&bytes), Ok(header));
        }
    }

    #[test]
    fn a_plain_header_is_28_bytes() {
        let mut bytes = Vec::new();
        Header::new(Position::opening(1), 1).encode(&mut bytes);
        assert_eq!(bytes.len(), 28);
    }

    #[test]
    fn newer_headers_are_refused_by_name() {
        let mut bytes = Vec::new();
        full().encode(&mut bytes);
        bytes[1] |= 0x80;
        assert!(matches!(Header::decode(&bytes), Err(HeaderError::Flags(_))));
        bytes[0] = 2;
        assert_eq!(Header::decode(&bytes), Err(HeaderError::Version(2)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(Header::decode(&bytes));
        }

        #[test]
        fn every_truncation_is_refused(cut in 0_usize..60) {
            let mut bytes = Vec::new();
            full().encode(&mut bytes);
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(Header::decode(&bytes[..cut]).is_err());
        }
    }
}
