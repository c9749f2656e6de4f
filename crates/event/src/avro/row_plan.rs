//! What a table definition comes to for its rows: a slot per supported column.

use super::column::Form;
use super::encode::EncoderError;
use super::{defaults, write};
use crate::handling::Handling;
use crate::mask::Mask;
use crate::table::{Column, TableDefinition};

/// A column's place in a row image.
#[derive(Debug)]
pub(super) struct Slot {
    /// The column's index in the definition and in its rows.
    pub(super) index: usize,
    /// The same as the header counts.
    pub(super) number: u16,
    pub(super) form: Form,
    pub(super) union: Union,
    pub(super) in_key: bool,
    /// What becomes of the column's values first.
    pub(super) mask: Option<Mask>,
    /// What stands in the slot where the row has no value for it, with its branch.
    pub(super) stand_in: Box<[u8]>,
    /// What stands in the slot for an unchanged TOASTed value, with its branch.
    pub(super) placeholder: Box<[u8]>,
}

/// The union around a slot's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Union {
    /// None: the column is NOT NULL.
    None,
    /// `["null", T]`.
    NullFirst,
    /// `[T, "null"]`, since the field has a default of type T.
    NullLast,
}

impl Union {
    /// The branch of a value.
    pub(super) fn value(self) -> &'static [u8] {
        match self {
            Self::None => &[],
            Self::NullFirst => &[2],
            Self::NullLast => &[0],
        }
    }

    /// The branch of null.
    pub(super) fn null(self) -> Option<u8> {
        match self {
            Self::None => None,
            Self::NullFirst => Some(0),
            Self::NullLast => Some(2),
        }
    }
}

impl Slot {
    fn new(index: usize, column: &Column, form: Form, in_key: bool, handling: &Handling) -> Self {
        let default = defaults::default_value(column, &form);
        let union = match (form.is_nullable(column), &default) {
            (false, _) => Union::None,
            (true, None) => Union::NullFirst,
            (true, Some(_)) => Union::NullLast,
        };
        // Debezium has null where the column may be NULL, which its converter replaces by the default.
        let stand_in = write::built(|out| match (union, &default) {
            (Union::NullFirst, _) if column.nullable => out.push(0),
            (union, default) => {
                out.extend_from_slice(union.value());
                defaults::write_stand_in(&form, default.as_deref(), out);
            }
        });
        let placeholder = match (defaults::placeholder(column, &form, &handling.placeholder), union.null()) {
            (Some(placeholder), _) => write::built(|out| {
                out.extend_from_slice(union.value());
                out.extend_from_slice(&placeholder);
            }),
            (None, Some(null)) => Box::from([null]),
            (None, None) => stand_in.clone(),
        };
        let number = u16::try_from(index).expect("PostgreSQL allows 1,600 columns a table");
        Self { index, number, form, union, in_key, mask: None, stand_in, placeholder }
    }

    /// What a slot's bytes hold behind the branch.
    pub(super) fn without_branch<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        &value[self.union.value().len()..]
    }
}

/// The slots in table order, and the key's as indexes into them, in key order.
pub(super) fn slots(definition: &TableDefinition) -> Result<(Vec<Slot>, Vec<usize>), EncoderError> {
    let mut slots = Vec::with_capacity(definition.columns.len());
    let mut slot_of = vec![None; definition.columns.len()];
    for (index, column) in definition.columns.iter().enumerate() {
        let in_key = definition.key.contains(&index);
        // The log does not carry generated columns; whoever reads the rows computes them.
        if column.generated.is_some() && !in_key {
            continue;
        }
        match Form::of(column, &definition.handling) {
            Ok(form) if in_key && !form.stands_in_keys() => {
                let reason = format!("type {} has no form in the keys of change events", column.column_type.format);
                let (table, column) = (definition.qualified_name(), column.name.clone());
                return Err(EncoderError::UnsupportedKey { table, column, reason });
            }
            Ok(form) => {
                slot_of[index] = Some(slots.len());
                slots.push(Slot::new(index, column, form, in_key, &definition.handling));
            }
            Err(reason) if in_key => {
                let (table, column) = (definition.qualified_name(), column.name.clone());
                return Err(EncoderError::UnsupportedKey { table, column, reason });
            }
            Err(_) => {}
        }
    }
    let key = definition.key.iter().filter_map(|index| slot_of[*index]).collect();
    Ok((slots, key))
}
