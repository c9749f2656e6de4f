//! Where a record stands in its source: the total order that makes repeats recognisable.
//!
//! A position is deterministic: a producer that starts again from its checkpoint gives the same change the same
//! position, so a consumer that remembers the last position of a partition can skip what it has seen. Debezium's
//! `source` fields tie (a key change's delete and create share all of them) and cannot serve.

use std::fmt;

/// Whether a record comes from a snapshot or from the log. A snapshot's records sort before the log's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Read by a snapshot.
    Snapshot,
    /// Decoded from the log.
    Stream,
}

/// The place of one record in the source's order. Ordered by its fields, first to last; the order of the encoded
/// bytes is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Grows when the order starts anew: a snapshot, a resync, another set of tables, another timeline.
    pub epoch: u32,
    /// Snapshot or log.
    pub phase: Phase,
    /// Log: the transaction's commit LSN (`final_lsn` of pgoutput's Begin), which grows from each delivered
    /// transaction to the next. Snapshot: the slot's consistent point.
    pub lsn: u64,
    /// Log: the number of the row message in its transaction, counted from 1 as the slot delivers it, before any
    /// filter. Snapshot: the number drawn when the row was enqueued, counted from 1 in its partition's topic.
    pub number: u64,
    /// The record's number within one change, from 0: a key change is delete (0), tombstone (1), create (2).
    pub sub: u8,
}

/// Length of an encoded position in bytes.
pub const ENCODED_LEN: usize = 22;

impl Position {
    /// The position that opens an epoch: below every record of it.
    #[must_use]
    pub fn opening(epoch: u32) -> Self {
        Self { epoch, phase: Phase::Snapshot, lsn: 0, number: 0, sub: 0 }
    }

    /// Big-endian, field by field, so that byte order is position order.
    #[must_use]
    pub fn encode(&self) -> [u8; ENCODED_LEN] {
        let mut bytes = [0; ENCODED_LEN];
        bytes[0..4].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[4] = match self.phase {
            Phase::Snapshot => 0,
            Phase::Stream => 1,
        };
        bytes[5..13].copy_from_slice(&self.lsn.to_be_bytes());
        bytes[13..21].copy_from_slice(&self.number.to_be_bytes());
        bytes[21] = self.sub;
        bytes
    }

    /// The position that `encode` wrote; `None` for another length or an unknown phase.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENCODED_LEN] = bytes.try_into().ok()?;
        let phase = match bytes[4] {
            0 => Phase::Snapshot,
            1 => Phase::Stream,
            _ => return None,
        };
        Some(Self {
            epoch: u32::from_be_bytes(bytes[0..4].try_into().ok()?),
            phase,
            lsn: u64::from_be_bytes(bytes[5..13].try_into().ok()?),
            number: u64::from_be_bytes(bytes[13..21].try_into().ok()?),
            sub: bytes[21],
        })
    }
}

/// PostgreSQL's way to print an LSN: `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl std::str::FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let (high, low) = text.split_once('/').ok_or(InvalidLsn)?;
        let part = |hex: &str| u32::from_str_radix(hex, 16).map_err(|_| InvalidLsn);
        Ok(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

/// The text is not two hexadecimal numbers with a slash between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an LSN of the form 16/B374D848")]
pub struct InvalidLsn;

impl Position {
    /// A text of fixed width that sorts as the position does: epoch, phase, LSN, number and sub-number in hexadecimal.
    #[must_use]
    pub fn sortable(self) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            let phase = match self.phase {
                Phase::Snapshot => 0,
                Phase::Stream => 1,
            };
            write!(f, "{:08X}-{phase}-{:016X}-{:016X}-{:02X}", self.epoch, self.lsn, self.number, self.sub)
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Snapshot => "snapshot",
            Phase::Stream => "stream",
        };
        write!(f, "epoch {} {phase} {} #{}.{}", self.epoch, Lsn(self.lsn), self.number, self.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position() -> impl Strategy<Value = Position> {
        (any::<u32>(), any::<bool>(), any::<u64>(), any::<u64>(), any::<u8>()).prop_map(
            |(epoch, stream, lsn, number, sub)| Position {
                epoch,
                phase: if stream { Phase::Stream } else { Phase::Snapshot },
                lsn,
                number,
                sub,
            },
        )
    }

    proptest! {
        #[test]
        fn encoding_round_trips_and_keeps_the_order(a in position(), b in position()) {
            prop_assert_eq!(Position::decode(&a.encode()), Some(a));
            prop_assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()));
        }

        #[test]
        fn lsn_text_round_trips(lsn in any::<u64>()) {
            prop_assert_eq!(Lsn(lsn).to_string().parse::<Lsn>().map(|l| l.0), Ok(lsn));
        }
    }
}
