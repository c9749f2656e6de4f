//! The messages of the output plugin `pgoutput`, protocol version 1, as PostgreSQL's manual describes them under
//! "Logical Replication Message Formats". Nothing is copied; nothing is reserved from a claimed count.

use syncline_event::tuple::TupleCell;

/// Microseconds from 1970 to 2000, where PostgreSQL's clock starts.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// One message. Tuples stay undecoded until [`Tuple::cells`].
#[derive(Debug, Clone, PartialEq)]
pub enum Message<'a> {
    /// `B`: a transaction begins.
    Begin(Begin),
    /// `C`: it ends.
    Commit(Commit),
    /// `O`: the transaction came from another node.
    Origin,
    /// `R`: a table, before its first row of a session and after each change of it.
    Relation(Relation<'a>),
    /// `Y`: a type that is not built in.
    Type,
    /// `I`: an insert.
    Insert {
        /// The table's oid.
        relation: u32,
        /// The new row.
        new: Tuple<'a>,
    },
    /// `U`: an update.
    Update {
        /// The table's oid.
        relation: u32,
        /// The old key or row, where it is logged.
        old: Option<OldTuple<'a>>,
        /// The new row.
        new: Tuple<'a>,
    },
    /// `D`: a delete.
    Delete {
        /// The table's oid.
        relation: u32,
        /// The old key or row.
        old: OldTuple<'a>,
    },
    /// `T`: a truncate.
    Truncate(Truncate<'a>),
    /// `M`: a logical message.
    Logical(Logical<'a>),
}

/// `B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The commit record's LSN; grows from each delivered transaction to the next.
    pub final_lsn: u64,
    /// Commit time, microseconds since 1970.
    pub commit_us: i64,
    /// Transaction id.
    pub xid: u32,
}

/// `M` (`pg_logical_emit_message`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logical<'a> {
    /// Whether it belongs to the transaction around it; else it stands for itself, wherever it comes.
    pub transactional: bool,
    /// Its place in the log.
    pub lsn: u64,
    /// The prefix.
    pub prefix: &'a str,
    /// The content.
    pub content: &'a [u8],
}

/// `C`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// The commit record's LSN.
    pub commit_lsn: u64,
    /// Behind the commit record: what may be confirmed.
    pub end_lsn: u64,
}

/// `R`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The table's oid.
    pub id: u32,
    /// The schema; `pg_catalog` where the message leaves it empty.
    pub namespace: &'a str,
    /// The table.
    pub name: &'a str,
    /// `relreplident`: `d`, `n`, `f` or `i`.
    pub replica_identity: u8,
    /// The columns that rows have, in order.
    pub columns: Vec<RelationColumn<'a>>,
}

/// A column of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Part of the replica identity.
    pub in_identity: bool,
    /// The name.
    pub name: &'a str,
    /// `pg_attribute.atttypid`: a domain's own oid.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`.
    pub type_modifier: i32,
}

/// The old side of an update or delete.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OldTuple<'a> {
    /// `K`: all columns, but only those of the replica identity are real; the others are NULL whatever they were.
    Key(Tuple<'a>),
    /// `O`: the whole row.
    Full(Tuple<'a>),
}

/// A row's bytes, checked to be well formed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// The cells in the relation's order.
    #[must_use]
    pub fn cells(&self) -> Cells<'a> {
        Cells { left: self.count, input: Input(self.bytes) }
    }
}

/// Iterates over a tuple's cells.
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    left: u16,
    input: Input<'a>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = TupleCell<'a>;

    fn next(&mut self) -> Option<TupleCell<'a>> {
        self.left = self.left.checked_sub(1)?;
        // The tuple was walked once when its message was decoded.
        self.input.cell().ok()
    }
}

/// `T`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truncate<'a> {
    ids: &'a [u8],
}

impl<'a> Truncate<'a> {
    /// The oids of the truncated tables.
    pub fn relations(self) -> impl Iterator<Item = u32> + use<'a> {
        self.ids.chunks_exact(4).map(|id| u32::from_be_bytes([id[0], id[1], id[2], id[3]]))
    }
}

/// A message that is not what protocol version 1 allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Ends early, has bytes left over, or holds something out of range.
    #[error("a pgoutput message of kind {:?} is malformed", char::from(*.0))]
    Malformed(u8),
    /// Streamed and two-phase transactions belong to later protocol versions, which are not asked for.
    #[error("pgoutput sent a message of kind {:?}, which protocol version 1 does not have", char::from(*.0))]
    Unknown(u8),
    /// Not even a kind.
    #[error("pgoutput sent an empty message")]
    Empty,
}

/// Decodes one message.
///
/// # Errors
///
/// Bytes that are no message of protocol version 1.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let (&kind, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
    let mut input = Input(rest);
    let message = match kind {
        b'B' => begin(&mut input),
        b'C' => commit(&mut input),
        b'R' => relation(&mut input),
        b'I' => insert(&mut input),
        b'U' => update(&mut input),
        b'D' => delete(&mut input),
        b'T' => truncate(&mut input),
        b'O' => return Ok(Message::Origin),
        b'Y' => return Ok(Message::Type),
        b'M' => logical(&mut input),
        other => return Err(DecodeError::Unknown(other)),
    };
    match message {
        Ok(message) if input.0.is_empty() => Ok(message),
        _ => Err(DecodeError::Malformed(kind)),
    }
}

/// PostgreSQL's clock, microseconds since 2000, as microseconds since 1970.
#[must_use]
pub fn unix_us(postgres_us: i64) -> i64 {
    postgres_us.saturating_add(POSTGRES_EPOCH_US)
}

/// The bytes do not go on as the message's kind demands.
#[derive(Debug, Clone, Copy)]
struct Short;

fn begin<'a>(input: &mut Input<'a>) -> Result<Message<'a>, Short> {
    let final_lsn = input.u64()?;
    let commit_us = unix_us(input.u64()?.cast_signed());
    Ok(Message::Begin(Begin { final_lsn, commit_us, xid: input.u32()? }))
}

fn commit<'a>(input: &mut Input<'a>) -> Result<Message<'a>, Short> {
    input.u8()?;
    let (commit_lsn, end_lsn, _time) = (input.u64()?, input.u64()?, input.u64()?);
    Ok(Message::Commit(Commit { commit_lsn, end_lsn }))
}

fn relation<'a>(input: &mut Input<'a>) -> Result<Message<'a>, Short> {
    let id = input.u32()?;
    let namespace = match input.string()? {
        "" => "pg_catalog",
        name => name,
    };
    let (name, replica_identity) = (input.string()?, input.u8()?);
    let mut columns = Vec::new();
    for _ in 0..input.u16()? {
        columns.push(RelationColumn {
            in_identity: input.u8()? & 1 != 0,
            name: input.string()?,
            type_oid: input.u32()?,
            type_modifier: input.u32()?.cast_signed(),
        });
    }
    Ok(Message::Relation(Relation { id, namespace, name, replica_identity, columns }))
}

fn insert<'a>(input: &mut Input<'a>) -> Result<Message<'a>, Short> {
    let relation = input.u32()?;
    match input.u8()? {
        b'N' => Ok(Message::Insert { relation, new: input.tuple()? }),
        _ => Err(Short),
    }
}

fn update<'a>(input: &mut Input<'a>) -> Result<Message<'a>, Short> {
    let relation = input.u32()?;
    let (old, marker) = match input.u8()? {
        b'K' => (Some(OldTuple::Key(input.tuple()?)), input.u8()?),
        b'O' => (Some(OldTuple::Full(input.tuple()?)), input.u8()?),
        other => (None, other),
    };
    match marker {
        b'N' => Ok(Message::Update { relation, old, new: input.tuple()? }),
        _ => Err(Short),
    }
}

fn delete<'a>(input: &mut Input<'a>) -> Result<Message<'a>, Short> {
    let relation = input.u32()?;
    let old = match input.u8()? {
        b'K' => OldTuple::Key(input.tuple()?),
        b'O' => OldTuple::Full(input.tuple()?),
        _ => return Err(Short),
    };
    Ok(Message::Delete { relation, old })
}

fn truncate<'a>(input: &mut Input<'a>) -> Result<Message<'a>, Short> {
    let count = usize::try_from(input.u32()?).map_err(|_| Short)?;
    input.u8()?;
    let ids = input.take(count.checked_mul(4).ok_or(Short)?)?;
    Ok(Message::Truncate(Truncate { ids }))
}

fn logical<'a>(input: &mut Input<'a>) -> Result<Message<'a>, Short> {
    let (transactional, lsn, prefix) = (input.u8()? & 1 != 0, input.u64()?, input.string()?);
    let length = usize::try_from(input.u32()?).map_err(|_| Short)?;
    Ok(Message::Logical(Logical { transactional, lsn, prefix, content: input.take(length)? }))
}

#[derive(Debug, Clone)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        self.take(N)?.try_into().map_err(|_| Short)
    }

    fn u8(&mut self) -> Result<u8, Short> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Short> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<&'a str, Short> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Short)?;
        let text = std::str::from_utf8(self.take(end)?).map_err(|_| Short)?;
        self.u8()?;
        Ok(text)
    }

    fn cell(&mut self) -> Result<TupleCell<'a>, Short> {
        match self.u8()? {
            b'n' => Ok(TupleCell::Null),
            b'u' => Ok(TupleCell::Unchanged),
            b't' => {
                let length = usize::try_from(self.u32()?).map_err(|_| Short)?;
                Ok(TupleCell::Text(self.take(length)?))
            }
            // Binary values are not asked for.
            _ => Err(Short),
        }
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Short> {
        let count = self.u16()?;
        let start = self.0;
        for _ in 0..count {
            self.cell()?;
        }
        Ok(Tuple { count, bytes: &start[..start.len() - self.0.len()] })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from_hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn a_begin_carries_commit_position_and_time() {
        let bytes = from_hex("42 0000000001C0B7F8 0002EFEF1C0A6A38 00000315");
        let Message::Begin(begin) = decode(&bytes).unwrap() else { panic!("not a begin") };
        assert_eq!((begin.final_lsn, begin.xid), (0x01C0_B7F8, 789));
        assert_eq!(begin.commit_us, 0x0002_EFEF_1C0A_6A38 + POSTGRES_EPOCH_US);
    }

    #[test]
    fn an_update_with_a_key_tuple_keeps_the_distinction() {
        // relation 16385, K (id 1, v null), N (id 10, v unchanged)
        let bytes = from_hex("55 00004001 4B 0002 74 00000001 31 6E 4E 0002 74 00000002 3130 75");
        let Message::Update { relation, old: Some(OldTuple::Key(old)), new } = decode(&bytes).unwrap() else {
            panic!("not an update with a key")
        };
        assert_eq!(relation, 16385);
        assert_eq!(old.cells().collect::<Vec<_>>(), [TupleCell::Text(b"1"), TupleCell::Null]);
        assert_eq!(new.cells().collect::<Vec<_>>(), [TupleCell::Text(b"10"), TupleCell::Unchanged]);
    }

    #[test]
    fn a_relation_names_its_columns() {
        let bytes =
            from_hex("52 00004001 7075626C696300 7400 64 0002 01 696400 00000017 FFFFFFFF 00 7600 00000019 FFFFFFFF");
        let Message::Relation(relation) = decode(&bytes).unwrap() else { panic!("not a relation") };
        assert_eq!((relation.namespace, relation.name, relation.replica_identity), ("public", "t", b'd'));
        assert_eq!(
            relation.columns.iter().map(|c| (c.name, c.in_identity, c.type_oid)).collect::<Vec<_>>(),
            [("id", true, 23), ("v", false, 25)]
        );
    }

    #[test]
    fn a_truncate_lists_its_tables() {
        let bytes = from_hex("54 00000002 00 00004001 00004002");
        let Message::Truncate(truncate) = decode(&bytes).unwrap() else { panic!("not a truncate") };
        assert_eq!(truncate.relations().collect::<Vec<_>>(), [16385, 16386]);
    }

    #[test]
    fn a_logical_message_has_a_prefix_and_content() {
        let bytes = from_hex("4D 01 0000000001C42AB8 617564697400 00000002 00FF");
        let message = Logical { transactional: true, lsn: 0x01C4_2AB8, prefix: "audit", content: &[0, 0xff] };
        assert_eq!(decode(&bytes), Ok(Message::Logical(message)));
    }

    #[test]
    fn later_protocols_are_refused_by_kind() {
        assert_eq!(decode(b"S\0\0"), Err(DecodeError::Unknown(b'S')));
        assert_eq!(decode(b""), Err(DecodeError::Empty));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            kind in proptest::sample::select(b"BCRIUDTOYMSEcAX".to_vec()),
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = vec![kind];
            bytes.extend(body);
            match decode(&bytes) {
                Ok(Message::Insert { new, .. }) => prop_assert_eq!(new.cells().count(), usize::from(new.count)),
                Ok(Message::Relation(relation)) => prop_assert!(relation.columns.len() <= bytes.len()),
                Ok(Message::Truncate(truncate)) => prop_assert!(truncate.relations().count() <= bytes.len()),
                _ => {}
            }
        }

        #[test]
        fn claimed_lengths_are_not_believed(count in any::<u16>(), length in any::<u32>()) {
            let mut bytes = vec![b'I', 0, 0, 0, 1, b'N'];
            bytes.extend(count.to_be_bytes());
            bytes.push(b't');
            bytes.extend(length.to_be_bytes());
            let well_formed = count == 0 || (count == 1 && length == 0);
            if !well_formed {
                prop_assert!(decode(&bytes).is_err());
            }
        }
    }
}
