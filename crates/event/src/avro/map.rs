//! Maps from text to text: read while they are iterated, as arrays are.

use std::fmt;

use super::item::Item;
use super::reader::{Problem, Reader};
use super::value::Value;

/// A map of a record: its undecoded Avro blocks, which have been checked, and the plan of a value.
#[derive(Clone, Copy)]
pub struct MapValue<'a> {
    blocks: &'a [u8],
    value: &'a Item,
}

impl<'a> MapValue<'a> {
    /// Passes over a map, checking every pair.
    pub(super) fn read(value: &'a Item, reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let start = reader.rest();
        while let Some(block) = reader.block()? {
            let before = reader.rest().len();
            for _ in 0..block.items {
                reader.text()?;
                value.read(reader)?;
            }
            if block.size.is_some_and(|size| size != before - reader.rest().len()) {
                return Err(Problem::Block);
            }
        }
        Ok(Self { blocks: &start[..start.len() - reader.rest().len()], value })
    }

    /// The map as a JSON object. Its values are texts or null.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut reader = Reader::new(self.blocks);
        let mut members = Vec::new();
        // The blocks were checked when the row was decoded, so reading them again cannot fail.
        while let Ok(Some(block)) = reader.block() {
            for _ in 0..block.items {
                let (Ok(key), Ok(value)) = (reader.text(), self.value.read(&mut reader)) else { break };
                members.push((key, if let Value::Text(text) = value { Some(text) } else { None }));
            }
        }
        let mut out = String::new();
        super::json::text_object(members.into_iter(), &mut out);
        out
    }
}

/// Equal bytes, whatever the order of the pairs means.
impl PartialEq for MapValue<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.blocks == other.blocks
    }
}

impl fmt::Debug for MapValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}
