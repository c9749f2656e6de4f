//! The plan of a row: the fields of a record as a flat list of reads and skips.

use std::collections::HashMap;
use std::sync::Arc;

use super::item::Item;
use super::reader::{Problem, Reader};
use super::skip::SkipTable;
use super::value::Value;
use super::writer_schema::{NodeId, WriterSchema};
use crate::handling::BinaryHandling;

/// Reads records of one schema into slots.
#[derive(Debug)]
pub(super) struct RowPlan {
    steps: Box<[Step]>,
    /// The fields' names, for messages.
    fields: Box<[Box<str>]>,
    width: usize,
    skips: Arc<SkipTable>,
}

#[derive(Debug)]
enum Step {
    Read { slot: usize, item: Item },
    Skip(NodeId),
}

/// Where a record could not be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    step: usize,
    pub(super) problem: Problem,
}

/// A field whose type has no meaning.
#[derive(Debug)]
pub(super) struct Unsupported {
    pub(super) field: String,
    pub(super) found: String,
}

impl RowPlan {
    /// Compiles the plan of a record: fields named in `slots` are read, all others skipped.
    pub(super) fn compile(
        schema: &WriterSchema,
        record: NodeId,
        slots: &HashMap<&str, usize>,
        width: usize,
        skips: &Arc<SkipTable>,
    ) -> Result<Self, Unsupported> {
        let (_, fields) = schema.record(record).unwrap_or_default();
        let step = |(name, node): (&str, NodeId)| {
            Ok(match slots.get(name) {
                Some(&slot) => {
                    let unsupported = |found| Unsupported { field: name.to_owned(), found };
                    Step::Read { slot, item: Item::compile(schema, node, skips).map_err(unsupported)? }
                }
                None => Step::Skip(node),
            })
        };
        Ok(Self {
            steps: fields.iter().map(|field| step((&field.name, field.node))).collect::<Result<_, _>>()?,
            fields: fields.iter().map(|field| field.name.as_str().into()).collect(),
            width,
            skips: Arc::clone(skips),
        })
    }

    /// The texts in these slots are bytes.
    pub(super) fn take_texts_for_bytes(&mut self, encoding: BinaryHandling, wanted: impl Fn(usize) -> bool) {
        for step in &mut self.steps {
            if let Step::Read { slot, item } = step
                && wanted(*slot)
            {
                item.take_texts_for_bytes(encoding);
            }
        }
    }

    /// Reads a record. Slots without a field are [`Value::Unknown`].
    pub(super) fn read<'a>(&'a self, reader: &mut Reader<'a>, values: &mut Vec<Value<'a>>) -> Result<(), Fault> {
        values.clear();
        values.resize(self.width, Value::Unknown);
        for (step, plan) in self.steps.iter().enumerate() {
            let fault = |problem| Fault { step, problem };
            match plan {
                Step::Read { slot, item } => values[*slot] = item.read(reader).map_err(fault)?,
                Step::Skip(node) => self.skips.skip(*node, reader).map_err(fault)?,
            }
        }
        Ok(())
    }

    /// The field a fault occurred in.
    pub(super) fn field(&self, fault: Fault) -> &str {
        &self.fields[fault.step]
    }
}
