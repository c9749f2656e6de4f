//! The `syncline` header: what Debezium's form of a record cannot say.
//!
//! One binary Kafka header a record. Layout, version 1, integers big-endian unless said otherwise:
//!
//! ```text
//! version u8 | flags u8 | position 22 bytes | definition u32
//! [flag 1: barrier]   kind u8, partitions u32
//! [flag 2: stamped]   clock µs u64, counter u32, length u8, origin (UTF-8), transaction u32,
//!                     count u8, then origin (as before), partitions u16, next offset (LEB128) each
//! [flag 4: unchanged] count u16, column index u16 each
//! [flag 8: texts]     count u16, then image u8 (0 after, 1 before), column u16, length u32, text (UTF-8) each
//! [flag 16: filling]  nothing
//! [flag 32: fence]    id u64, partitions u32
//! ```
//!
//! A flag that this version does not know is an error, not noise: a newer producer meant something by it.

use crate::position::{ENCODED_LEN, Position};
use crate::stamp::{Seen, Stamp};

/// The Kafka header's name.
pub const HEADER_NAME: &str = "syncline";

const VERSION: u8 = 1;
const FLAG_BARRIER: u8 = 1;
const FLAG_STAMPED: u8 = 2;
const FLAG_UNCHANGED: u8 = 4;
const FLAG_TEXTS: u8 = 8;
const FLAG_FILLING: u8 = 16;
const FLAG_FENCE: u8 = 32;
const FLAGS: u8 = FLAG_BARRIER | FLAG_STAMPED | FLAG_UNCHANGED | FLAG_TEXTS | FLAG_FILLING | FLAG_FENCE;

/// What a record says beside its Debezium key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The record's place in the source's order.
    pub position: Position,
    /// The number of the table definition the record was written under; 0 in markers that concern no definition.
    pub definition: u32,
    /// Set on markers, which stand in every partition of a topic at the same position.
    pub barrier: Option<Barrier>,
    /// Who made the change, and when; set in a topology of several writable nodes.
    pub stamped: Option<Stamped>,
    /// Columns (indexes into the definition) whose value in `after` is unknown: TOASTed and not touched by the update.
    pub unchanged: Vec<u16>,
    /// The source's own text of values that Debezium's form cannot give back.
    pub texts: Vec<SourceText>,
    /// Set on an update with unchanged columns while an incremental snapshot of its table is unfinished: the row may
    /// not be there yet, and then comes whole with the snapshot, behind this record.
    pub filling: bool,
    /// Set on the answers to a node's question whether everything before it has been published. Such a record has no
    /// position of its own and no key.
    pub fence: Option<FenceMarker>,
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

/// Who made a change, when, and what had been seen there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// When and where.
    pub stamp: Stamp,
    /// The transaction's id in the origin's database, as `xmin` shows it; 0 for rows of a snapshot.
    pub transaction: u32,
    /// What the origin had applied of the other nodes' changes of the table.
    pub seen: Seen,
}

/// A marker in every partition of a topic, which answers one [`crate::stamp::Fence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FenceMarker {
    /// The fence's number.
    pub id: u64,
    /// How many partitions the topic has.
    pub partitions: u32,
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
            stamped: None,
            unchanged: Vec::new(),
            texts: Vec::new(),
            filling: false,
            fence: None,
        }
    }

    /// Appends the encoded header to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_with(self.stamped.as_ref(), out);
    }

    /// The same with `stamped` in the place of its own: what a producer knows of it stays where it is.
    pub fn encode_with(&self, stamped: Option<&Stamped>, out: &mut Vec<u8>) {
        let mut flags = 0;
        for (flag, set) in [
            (FLAG_BARRIER, self.barrier.is_some()),
            (FLAG_STAMPED, stamped.is_some()),
            (FLAG_UNCHANGED, !self.unchanged.is_empty()),
            (FLAG_TEXTS, !self.texts.is_empty()),
            (FLAG_FILLING, self.filling),
            (FLAG_FENCE, self.fence.is_some()),
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
        if let Some(stamped) = stamped {
            encode_stamped(stamped, out);
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
        if let Some(fence) = &self.fence {
            out.extend_from_slice(&fence.id.to_be_bytes());
            out.extend_from_slice(&fence.partitions.to_be_bytes());
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
        if flags & FLAG_STAMPED != 0 {
            header.stamped = Some(decode_stamped(&mut input)?);
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
        if flags & FLAG_FENCE != 0 {
            header.fence = Some(FenceMarker { id: input.u64()?, partitions: input.u32()? });
        }
        if input.0.is_empty() { Ok(header) } else { Err(HeaderError::Malformed) }
    }
}

fn encode_stamped(stamped: &Stamped, out: &mut Vec<u8>) {
    let Stamped { stamp, transaction, seen } = stamped;
    out.extend_from_slice(&stamp.clock_us.to_be_bytes());
    out.extend_from_slice(&stamp.counter.to_be_bytes());
    encode_origin(&stamp.origin, out);
    out.extend_from_slice(&transaction.to_be_bytes());
    out.push(u8::try_from(seen.origins.len()).unwrap_or(u8::MAX));
    for (origin, offsets) in seen.origins.iter().take(usize::from(u8::MAX)) {
        encode_origin(origin, out);
        out.extend_from_slice(&count(offsets.len()).to_be_bytes());
        for offset in offsets.iter().take(usize::from(count(offsets.len()))) {
            let mut rest = *offset;
            while rest >= 0x80 {
                out.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            out.push(rest.to_le_bytes()[0]);
        }
    }
}

fn decode_stamped(input: &mut Input<'_>) -> Result<Stamped, HeaderError> {
    let (clock_us, counter) = (input.u64()?, input.u32()?);
    let stamp = Stamp { clock_us, counter, origin: input.origin()? };
    let transaction = input.u32()?;
    let mut seen = Seen::default();
    for _ in 0..input.u8()? {
        let origin = input.origin()?;
        let offsets = (0..input.u16()?).map(|_| input.leb128()).collect::<Result<_, _>>()?;
        seen.origins.push((origin, offsets));
    }
    Ok(Stamped { stamp, transaction, seen })
}

/// Names of nodes are checked where they are configured: they are short.
fn encode_origin(origin: &str, out: &mut Vec<u8>) {
    let id = origin.as_bytes();
    let length = u8::try_from(id.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&id[..usize::from(length)]);
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

    fn origin(&mut self) -> Result<String, HeaderError> {
        let length = usize::from(self.u8()?);
        self.text(length)
    }

    fn leb128(&mut self) -> Result<u64, HeaderError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(self.u8()?);
            value |= (byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(HeaderError::Malformed)
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
            stamped: Some(Stamped {
                stamp: Stamp { clock_us: 1_795_225_597_561_592, counter: 9, origin: "hq".into() },
                transaction: 4_000_000_000,
                seen: Seen { origins: vec![("eu".into(), vec![0, 300]), ("us".into(), vec![u64::MAX])] },
            }),
            unchanged: vec![2, 5],
            texts: vec![SourceText { image: Image::Before, column: 3, text: "12:34:56+02:30".into() }],
            filling: true,
            fence: Some(FenceMarker { id: 77, partitions: 4 }),
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
        fn every_truncation_is_refused(cut in 0_usize..130) {
            let mut bytes = Vec::new();
            full().encode(&mut bytes);
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(Header::decode(&bytes[..cut]).is_err());
        }
    }
}
