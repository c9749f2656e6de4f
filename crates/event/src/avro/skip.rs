//! Passing over values nobody needs: every Avro type, without decoding it.

use super::reader::{Problem, Reader};
use super::writer_schema::{NodeId, Shape, WriterSchema};

/// How deep skipped values may nest; Connect's schemas nest less than ten levels.
const MAX_DEPTH: u32 = 64;

/// For each type of a schema, how to pass over its value.
#[derive(Debug)]
pub(crate) struct SkipTable(Box<[Skip]>);

#[derive(Debug)]
enum Skip {
    /// Values without bytes. Never looped over: a count of them costs nothing to write.
    Empty,
    Fixed(usize),
    Varint,
    Bytes,
    Union(Box<[NodeId]>),
    Array(NodeId),
    Map(NodeId),
    Record(Box<[NodeId]>),
}

impl SkipTable {
    pub(crate) fn compile(schema: &WriterSchema) -> Self {
        let empty = empty_types(schema);
        let nodes = schema.nodes().iter().enumerate();
        Self(nodes.map(|(id, node)| if empty[id] { Skip::Empty } else { compile(&node.shape) }).collect())
    }

    /// Passes over a value of type `id`.
    #[inline]
    pub(crate) fn skip(&self, id: NodeId, reader: &mut Reader<'_>) -> Result<(), Problem> {
        self.nested(id, reader, 0)
    }

    fn nested(&self, mut id: NodeId, reader: &mut Reader<'_>, mut depth: u32) -> Result<(), Problem> {
        // A union goes on with its branch in the same frame: most skipped fields are optional.
        while let Skip::Union(branches) = &self.0[id] {
            id = branches[reader.branch(branches.len())?];
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(Problem::Depth);
        }
        match &self.0[id] {
            Skip::Empty | Skip::Union(_) => {}
            Skip::Fixed(length) => {
                reader.take(*length)?;
            }
            Skip::Varint => {
                reader.long()?;
            }
            Skip::Bytes => {
                reader.bytes()?;
            }
            Skip::Array(items) => {
                while let Some(block) = reader.block()? {
                    match block.size {
                        Some(size) => {
                            reader.take(size)?;
                        }
                        None => self.items(*items, block.items, reader, depth + 1)?,
                    }
                }
            }
            Skip::Map(values) => {
                while let Some(block) = reader.block()? {
                    match block.size {
                        Some(size) => {
                            reader.take(size)?;
                        }
                        None => {
                            // Each entry has at least the byte of its key's length, so this ends with the bytes.
                            for _ in 0..block.items {
                                reader.bytes()?;
                                self.nested(*values, reader, depth + 1)?;
                            }
                        }
                    }
                }
            }
            Skip::Record(fields) => {
                for field in fields {
                    self.nested(*field, reader, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn items(&self, id: NodeId, items: u64, reader: &mut Reader<'_>, depth: u32) -> Result<(), Problem> {
        if matches!(self.0[id], Skip::Empty) {
            return Ok(());
        }
        // Each item has at least one byte, so this ends with the bytes.
        for _ in 0..items {
            self.nested(id, reader, depth)?;
        }
        Ok(())
    }
}

fn compile(shape: &Shape) -> Skip {
    match shape {
        Shape::Null => Skip::Empty,
        Shape::Boolean => Skip::Fixed(1),
        Shape::Int | Shape::Long | Shape::Enum(_) => Skip::Varint,
        Shape::Float => Skip::Fixed(4),
        Shape::Double => Skip::Fixed(8),
        Shape::Bytes | Shape::String => Skip::Bytes,
        Shape::Fixed(length) => Skip::Fixed(*length),
        Shape::Array(items) => Skip::Array(*items),
        Shape::Map(values) => Skip::Map(*values),
        Shape::Union(branches) => Skip::Union(branches.as_slice().into()),
        Shape::Record { fields, .. } => Skip::Record(fields.iter().map(|field| field.node).collect()),
    }
}

/// Which types have values of no bytes: null, `fixed(0)` and records of nothing else. A record that holds itself is
/// none: it has no finite value.
fn empty_types(schema: &WriterSchema) -> Vec<bool> {
    let nodes = schema.nodes();
    let mut empty = vec![false; nodes.len()];
    loop {
        let mut grew = false;
        for (id, node) in nodes.iter().enumerate() {
            let now = match &node.shape {
                Shape::Null | Shape::Fixed(0) => true,
                Shape::Record { fields, .. } => fields.iter().all(|field| empty[field.node]),
                _ => false,
            };
            grew |= now && !empty[id];
            empty[id] |= now;
        }
        if !grew {
            return empty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(schema: &str, bytes: &[u8]) -> Result<usize, Problem> {
        let schema = WriterSchema::parse(schema).unwrap();
        let mut reader = Reader::new(bytes);
        SkipTable::compile(&schema).skip(schema.root, &mut reader).map(|()| reader.rest().len())
    }

    #[test]
    fn blocks_are_passed_over_with_and_without_their_size() {
        let array = r#"{"type":"array","items":"long"}"#;
        assert_eq!(skip(array, &[4, 1, 1, 2, 1, 0, 9]), Ok(1));
        assert_eq!(skip(array, &[3, 4, 1, 1, 0, 9]), Ok(1));
        let map = r#"{"type":"map","values":"boolean"}"#;
        assert_eq!(skip(map, &[2, 2, b'k', 1, 0]), Ok(0));
        assert_eq!(skip(map, &[1, 6, 2, b'k', 1, 0, 9]), Ok(1));
        assert_eq!(skip(array, &[3, 5, 1, 1, 0]), Err(Problem::Length));
    }

    #[test]
    fn a_huge_count_of_items_without_bytes_costs_nothing() {
        let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0];
        assert_eq!(skip(r#"{"type":"array","items":"null"}"#, &huge), Ok(0));
        let records = r#"{"type":"array","items":{"type":"record","name":"R","fields":[{"name":"n","type":"null"}]}}"#;
        assert_eq!(skip(records, &huge), Ok(0));
    }

    #[test]
    fn recursion_ends() {
        let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
        assert_eq!(skip(list, &[2, 2, 2, 0]), Ok(0));
        assert_eq!(skip(list, &[2; 10_000]), Err(Problem::Depth));
        let endless = r#"{"type":"record","name":"E","fields":[{"name":"a","type":"E"},{"name":"b","type":"E"}]}"#;
        assert_eq!(skip(endless, &[]), Err(Problem::Depth));
    }
}
