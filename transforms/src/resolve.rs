//! What becomes of a change where several nodes write the same rows: it is compared with what its row has been through.
//!
//! Pure: the same changes give the same row on every node, in whatever order they arrive.
//!
//! Two ways lead there. Last write wins keeps one version a row ([`row`]), and a change waits until no local write is
//! on its way to a row that it would overwrite ([`echo`]). All other rules keep a state ([`state`], [`columns`]) which
//! every change joins at once, own ones too; the row follows the state ([`show`]).

pub mod columns;
pub mod echo;
pub mod plan;
pub mod row;
pub mod rules;
pub mod show;
pub mod state;

mod value;

#[cfg(test)]
mod simulation;
