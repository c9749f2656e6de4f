//! Arrays: read while they are iterated, so that decoding a row allocates nothing for them.

use std::fmt;

use super::item::Item;
use super::reader::{Problem, Reader};
use super::value::Value;

/// An array of a record: its undecoded Avro blocks, which have been checked, and the plan of an element.
#[derive(Clone, Copy)]
pub struct ArrayValue<'a> {
    blocks: &'a [u8],
    element: &'a Item,
    len: usize,
}

impl<'a> ArrayValue<'a> {
    /// Passes over an array, checking every element.
    pub(super) fn read(element: &'a Item, reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let start = reader.rest();
        let mut len = 0;
        while let Some(block) = reader.block()? {
            let before = reader.rest().len();
            // Each element has at least one byte, so this ends with the bytes.
            for _ in 0..block.items {
                element.read(reader)?;
                len += 1;
            }
            if block.size.is_some_and(|size| size != before - reader.rest().len()) {
                return Err(Problem::Block);
            }
        }
        Ok(Self { blocks: &start[..start.len() - reader.rest().len()], element, len })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order. NULL elements are [`Value::Null`].
    #[must_use]
    pub fn iter(&self) -> ArrayIter<'a> {
        ArrayIter { reader: Reader::new(self.blocks), element: self.element, left_in_block: 0, left: self.len }
    }
}

/// Equal elements in the same order, whatever their blocks.
impl PartialEq for ArrayValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for ArrayValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for ArrayValue<'a> {
    type Item = Value<'a>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

/// Iterates the elements of an [`ArrayValue`].
#[derive(Debug, Clone)]
pub struct ArrayIter<'a> {
    reader: Reader<'a>,
    element: &'a Item,
    left_in_block: u64,
    left: usize,
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = Value<'a>;

    /// The blocks were checked when the row was decoded, so reading them again cannot fail; if it did, the iteration
    /// would end.
    fn next(&mut self) -> Option<Value<'a>> {
        if self.left_in_block == 0 {
            self.left_in_block = self.reader.block().ok()??.items;
        }
        self.left_in_block -= 1;
        self.left = self.left.saturating_sub(1);
        self.element.read(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ArrayIter<'_> {}
