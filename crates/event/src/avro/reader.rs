//! Avro's binary encoding, read from a slice: bounds-checked, borrowed, never trusting a length.

/// What is wrong with the bytes of a datum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The bytes end within a value.
    #[error("the datum ends within the value")]
    Truncated,
    /// Bytes are left behind the last field.
    #[error("the datum goes on behind its last field")]
    Trailing,
    /// A variable-length integer of more than 64 bits.
    #[error("an integer has more than 64 bits")]
    Varint,
    /// An `int` outside 32 bits.
    #[error("an int has more than 32 bits")]
    Int,
    /// A negative length.
    #[error("a length is negative")]
    Length,
    /// A `string` that is not UTF-8.
    #[error("a string is not valid UTF-8")]
    Utf8,
    /// A `boolean` that is neither 0 nor 1.
    #[error("a boolean is neither 0 nor 1")]
    Boolean,
    /// A union branch the schema does not have.
    #[error("the schema has no such union branch")]
    Branch,
    /// An enum symbol the schema does not have.
    #[error("the schema has no such enum symbol")]
    Symbol,
    /// The size of a block of array items is not the size of its items.
    #[error("the size of an array block does not fit its items")]
    Block,
    /// A value nested too deeply to be skipped.
    #[error("the value is nested too deeply")]
    Depth,
    /// An operation Debezium does not have.
    #[error("unknown operation")]
    Operation,
    /// A read, create or update without the new row.
    #[error("the operation has no row image")]
    NoRow,
    /// A time outside what 64 bits of microseconds hold.
    #[error("the time is out of range")]
    Range,
    /// A time with nanoseconds that microseconds cannot hold.
    #[error("the time has a nanosecond fraction, which would be lost")]
    Nanoseconds,
}

/// The header of a block of array or map items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Number of items, at least 1.
    pub(crate) items: u64,
    /// The items' bytes, where the writer noted them.
    pub(crate) size: Option<usize>,
}

/// A cursor over a datum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Problem::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Problem::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A zigzag varint.
    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64, Problem> {
        let (&first, rest) = self.rest.split_first().ok_or(Problem::Truncated)?;
        if first < 0x80 {
            self.rest = rest;
            return Ok(unzigzag(u64::from(first)));
        }
        self.long_of_many_bytes()
    }

    fn long_of_many_bytes(&mut self) -> Result<i64, Problem> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte holds the 64th bit alone.
            if index == 9 && byte > 1 {
                return Err(Problem::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(unzigzag(value));
            }
        }
        Err(Problem::Truncated)
    }

    #[inline]
    pub(crate) fn int(&mut self) -> Result<i32, Problem> {
        i32::try_from(self.long()?).map_err(|_| Problem::Int)
    }

    #[inline]
    pub(crate) fn boolean(&mut self) -> Result<bool, Problem> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(Problem::Boolean),
        }
    }

    #[inline]
    pub(crate) fn float(&mut self) -> Result<f32, Problem> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn double(&mut self) -> Result<f64, Problem> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    #[inline]
    fn length(&mut self) -> Result<usize, Problem> {
        usize::try_from(self.long()?).map_err(|_| Problem::Length)
    }

    /// A `bytes` value, or a `string` that nobody looks at.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Problem> {
        let length = self.length()?;
        self.take(length)
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Result<&'a str, Problem> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Problem::Utf8)
    }

    /// The branch of a union of `branches` types.
    #[inline]
    pub(crate) fn branch(&mut self, branches: usize) -> Result<usize, Problem> {
        let branch = usize::try_from(self.long()?).map_err(|_| Problem::Branch)?;
        if branch < branches { Ok(branch) } else { Err(Problem::Branch) }
    }

    /// The next block of an array or a map; `None` behind the last.
    pub(crate) fn block(&mut self) -> Result<Option<Block>, Problem> {
        let count = self.long()?;
        let size = if count < 0 { Some(self.length()?) } else { None };
        let items = count.unsigned_abs();
        Ok((items != 0).then_some(Block { items, size }))
    }
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(value: i64) -> Vec<u8> {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        let mut out = Vec::new();
        while rest >= 0x80 {
            out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
        out
    }

    proptest! {
        #[test]
        fn integers_are_read_back(value in prop_oneof![any::<i64>(), -300_i64..300, any::<i32>().prop_map(i64::from)]) {
            let bytes = encode(value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.long(), Ok(value));
            prop_assert!(reader.rest().is_empty());
            prop_assert_eq!(Reader::new(&bytes).int(), i32::try_from(value).map_err(|_| Problem::Int));
            prop_assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).long(), Err(Problem::Truncated));
        }
    }

    #[test]
    fn integers_beyond_64_bits_are_refused() {
        assert_eq!(Reader::new(&[0xff; 11]).long(), Err(Problem::Varint));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).long(),
            Err(Problem::Varint)
        );
    }

    #[test]
    fn lengths_are_checked_against_the_bytes() {
        assert_eq!(Reader::new(&[4, b'a']).text(), Err(Problem::Truncated));
        assert_eq!(Reader::new(&[1]).bytes(), Err(Problem::Length));
        assert_eq!(Reader::new(&[2, 0xff]).text(), Err(Problem::Utf8));
        assert_eq!(Reader::new(&[4, b'o', b'k']).text(), Ok("ok"));
    }

    #[test]
    fn blocks_end_with_a_zero() {
        assert_eq!(Reader::new(&[0]).block(), Ok(None));
        assert_eq!(Reader::new(&[6]).block(), Ok(Some(Block { items: 3, size: None })));
        assert_eq!(Reader::new(&[5, 8]).block(), Ok(Some(Block { items: 3, size: Some(4) })));
    }
}
