//! Why an expression has no answer for a row.

/// An error of a running expression: PostgreSQL's SQLSTATE and a text that names no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Fault {
    /// PostgreSQL's SQLSTATE of the same error.
    pub state: &'static str,
    /// What happened, without values.
    pub text: &'static str,
}

impl Fault {
    const fn new(state: &'static str, text: &'static str) -> Self {
        Self { state, text }
    }
}

pub(crate) const DIVISION_BY_ZERO: Fault = Fault::new("22012", "division by zero");
pub(crate) const INTEGER_RANGE: Fault = Fault::new("22003", "integer out of range");
pub(crate) const FLOAT_OVERFLOW: Fault = Fault::new("22003", "value out of range: overflow");
pub(crate) const FLOAT_UNDERFLOW: Fault = Fault::new("22003", "value out of range: underflow");
pub(crate) const NUMERIC_OVERFLOW: Fault = Fault::new("22003", "numeric value out of range");
pub(crate) const NO_NUMERIC: Fault = Fault::new("0A000", "NaN or infinity has no counterpart in the type");
pub(crate) const DATETIME_RANGE: Fault = Fault::new("22008", "date or timestamp out of range");
pub(crate) const DATETIME_FIELD: Fault = Fault::new("22008", "date or time field out of range");
pub(crate) const NO_DATETIME: Fault = Fault::new("22007", "text is no date or time in a form that is read here");
pub(crate) const INTERVAL_RANGE: Fault = Fault::new("22008", "interval out of range");
pub(crate) const NO_TEXT_FORM: Fault = Fault::new("22P02", "text is no value of the type");
pub(crate) const NEGATIVE_SUBSTRING: Fault = Fault::new("22011", "negative substring length not allowed");
pub(crate) const FIELD_POSITION: Fault = Fault::new("22023", "field position must not be zero");
pub(crate) const JSON_KEY_NULL: Fault = Fault::new("22023", "a key of jsonb_build_object must not be null");
pub(crate) const LIKE_ESCAPE: Fault = Fault::new("22025", "LIKE pattern must not end with escape character");
pub(crate) const TOO_LONG: Fault = Fault::new("54000", "requested length too large");
pub(crate) const VALUE_FORM: Fault = Fault::new("22000", "the event's value is not of the column's type");
pub(crate) const ZONE_RANGE: Fault = Fault::new("22008", "timestamp outside the range of time zone rules");
