//! SQL expressions over a row: parsed once, typed once, then a tree of our own that reads the event's values.
//!
//! The semantics are PostgreSQL's under collation "C" and the time zone UTC. What an event does not hold (an
//! unchanged TOASTed value) is *unknown*: an expression that needs it is unknown, too.

mod cast;
mod check;
mod functions;
mod like;
mod mistake;
mod node;
mod number;
mod operators;
mod regexp;
mod text;
mod time;
mod to_char;
mod typed;

use bumpalo::Bump;
use syncline_event::avro::value::Value;
use syncline_event::table::ColumnType;

pub use functions::NAMES;
pub use mistake::Mistake;

use crate::datum::Datum;
use crate::fault::Fault;
use crate::sql_type::SqlType;
use node::{Env, Node};

/// A column that an expression may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its index in the row.
    pub column: usize,
    /// Its type.
    pub column_type: ColumnType,
}

/// What an expression may name.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'s> {
    /// The columns. Of equal names the first counts.
    pub columns: &'s [Named],
    /// Whether `CURRENT_TIMESTAMP` is the clock, and not the source's commit time.
    pub clock: bool,
}

/// What a change gives an expression beside its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// When the source committed, in microseconds since 1970.
    pub commit_us: i64,
    /// The clock, in microseconds since 1970.
    pub clock_us: i64,
}

/// The values an expression runs over. Unknown values, and rows that are not there, are [`Value::Unknown`].
#[derive(Debug, Clone, Copy)]
pub struct Row<'e, 'a> {
    /// The row after the change.
    pub after: &'e [Value<'a>],
    /// The whole row before the change; empty where the event does not hold it.
    pub before: &'e [Value<'a>],
    /// What else there is.
    pub context: Context,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    node: Node,
    sql_type: SqlType,
    column_type: ColumnType,
    after: Vec<usize>,
    before: Vec<usize>,
}

/// What a filter says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not, or is NULL.
    False,
    /// It needs a value that the event does not hold.
    Unknown,
}

impl Expression {
    /// Parses and types an expression.
    ///
    /// # Errors
    ///
    /// The mistake, with its place.
    pub fn compile(text: &str, scope: &Scope<'_>) -> Result<Self, Mistake> {
        check::compile(text, scope, None)
    }

    /// An expression that is true or false.
    ///
    /// # Errors
    ///
    /// The mistake, with its place.
    pub fn condition(text: &str, scope: &Scope<'_>) -> Result<Self, Mistake> {
        check::compile(text, scope, Some(SqlType::Bool))
    }

    /// The type of the answer.
    #[must_use]
    pub fn sql_type(&self) -> SqlType {
        self.sql_type
    }

    /// The type of the answer as a table has it.
    #[must_use]
    pub fn column_type(&self) -> &ColumnType {
        &self.column_type
    }

    /// Columns of the new row that the expression reads.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        &self.after
    }

    /// Columns of the old row that the expression reads.
    #[must_use]
    pub fn columns_before(&self) -> &[usize] {
        &self.before
    }

    /// The answer for a row, as a target takes it. Text that is made lies in `bump`.
    ///
    /// # Errors
    ///
    /// The expression fails on the row, as it would in PostgreSQL.
    pub fn value<'a>(&'a self, row: &Row<'_, 'a>, bump: &'a Bump) -> Result<Value<'a>, Fault> {
        Ok(self.node.eval(&Env { row, bump })?.to_value(self.sql_type, bump))
    }

    /// The answer of a condition for a row.
    ///
    /// # Errors
    ///
    /// As for [`Expression::value`].
    pub fn holds<'a>(&'a self, row: &Row<'_, 'a>, bump: &'a Bump) -> Result<Truth, Fault> {
        Ok(match self.node.eval(&Env { row, bump })? {
            Datum::Bool(true) => Truth::True,
            Datum::Unknown => Truth::Unknown,
            _ => Truth::False,
        })
    }

    /// The answer as PostgreSQL prints it; `None` for NULL and for what is unknown.
    ///
    /// # Errors
    ///
    /// As for [`Expression::value`].
    pub fn print<'a>(&'a self, row: &Row<'_, 'a>, bump: &'a Bump) -> Result<Option<&'a str>, Fault> {
        Ok(match self.node.eval(&Env { row, bump })? {
            Datum::Null | Datum::Unknown | Datum::Opaque(_) => None,
            datum => Some(crate::text_form::print(datum, self.sql_type, bump)),
        })
    }
}
