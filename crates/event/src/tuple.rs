//! One row as PostgreSQL writes it: the form that pgoutput's tuples and `COPY … TO STDOUT` share.

/// One column's value in a row, borrowed from the message it came in.
///
/// Text is PostgreSQL's output form under `DateStyle` ISO, `IntervalStyle` postgres, `TimeZone` UTC,
/// `extra_float_digits` 1 or more and `bytea_output` hex, in UTF-8; lines of COPY are already unescaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TupleCell<'a> {
    /// NULL.
    Null,
    /// An unchanged TOASTed value, which the log does not hold (`u` in pgoutput).
    Unchanged,
    /// The value's text.
    Text(&'a [u8]),
}
