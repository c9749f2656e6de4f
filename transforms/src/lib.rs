//! What happens to a change on its way to a target: mappings, filters, expressions.
//!
//! Nothing here does I/O or reads a clock: time comes in through the context.

pub mod expression;
pub mod fault;
pub mod mapping;
pub mod resolve;
pub mod sql_type;

mod calendar;
mod datum;
mod interval;
mod json;
mod numeric;
mod text_form;
