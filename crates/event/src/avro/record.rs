//! The records that stand for one value, which consist of two parts: read in the order of their fields, whatever else
//! they hold.

use std::sync::Arc;

use super::item::is_null;
use super::reader::{Problem, Reader};
use super::skip::SkipTable;
use super::writer_schema::{Branches, NodeId, WriterSchema};

/// A part by its field's name and Avro type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    name: &'static str,
    shape: &'static str,
    may_be_null: bool,
}

impl Wanted {
    /// A part that is always there.
    pub(super) fn required(name: &'static str, shape: &'static str) -> Self {
        Self { name, shape, may_be_null: false }
    }

    /// A part that may be null.
    pub(super) fn optional(name: &'static str, shape: &'static str) -> Self {
        Self { name, shape, may_be_null: true }
    }

    /// The part's own branches, where the field is the part.
    fn branches(self, schema: &WriterSchema, name: &str, node: NodeId) -> Option<Branches> {
        let (branches, node) = schema.strip_null(node)?;
        let fits = name == self.name && schema.node(node).shape.name() == self.shape;
        (fits && (self.may_be_null || branches == Branches::Bare)).then_some(branches)
    }
}

/// The plan of a record of two parts.
#[derive(Debug)]
pub(super) struct RecordRead {
    parts: Box<[Part]>,
    skips: Arc<SkipTable>,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    First(Branches),
    Second(Branches),
    Skip(NodeId),
}

impl RecordRead {
    /// Compiles the plan. The error names the record and what it lacks.
    pub(super) fn compile(
        schema: &WriterSchema,
        id: NodeId,
        first: Wanted,
        second: Wanted,
        skips: &Arc<SkipTable>,
    ) -> Result<Self, String> {
        let (name, fields) = schema.record(id).ok_or("a type that is not the record its name says")?;
        let part = |name: &str, node| {
            let first = first.branches(schema, name, node).map(Part::First);
            first.or_else(|| second.branches(schema, name, node).map(Part::Second)).unwrap_or(Part::Skip(node))
        };
        let parts: Box<[Part]> = fields.iter().map(|field| part(&field.name, field.node)).collect();
        let count = |wanted: fn(&Part) -> bool| parts.iter().filter(|part| wanted(part)).count();
        if count(|part| matches!(part, Part::First(_))) != 1 || count(|part| matches!(part, Part::Second(_))) != 1 {
            return Err(format!(
                "{name} without {} ({}) and {} ({})",
                first.name, first.shape, second.name, second.shape
            ));
        }
        Ok(Self { parts, skips: Arc::clone(skips) })
    }

    /// Reads both parts; one that is null has its type's default.
    pub(super) fn read<'a, A: Default, B: Default>(
        &self,
        reader: &mut Reader<'a>,
        read_first: impl Fn(&mut Reader<'a>) -> Result<A, Problem>,
        read_second: impl Fn(&mut Reader<'a>) -> Result<B, Problem>,
    ) -> Result<(A, B), Problem> {
        let (mut first, mut second) = (A::default(), B::default());
        for part in &self.parts {
            match *part {
                Part::First(branches) => {
                    if !is_null(branches, reader)? {
                        first = read_first(reader)?;
                    }
                }
                Part::Second(branches) => {
                    if !is_null(branches, reader)? {
                        second = read_second(reader)?;
                    }
                }
                Part::Skip(id) => self.skips.skip(id, reader)?,
            }
        }
        Ok((first, second))
    }
}
