//! The compiled tree and how it runs.

use std::cmp::Ordering;
use std::fmt;

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;
use syncline_event::avro::value::Value;

use super::Row;
use crate::calendar::{DAY, EPOCH_DAYS};
use crate::datum::{Answer, Datum, compare};
use crate::interval::Interval;
use crate::numeric::Numeric;
use crate::sql_type::SqlType;

/// What a node runs in.
pub(super) struct Env<'e, 'a> {
    pub(super) row: &'e Row<'e, 'a>,
    pub(super) bump: &'a Bump,
}

/// A function of values that are neither NULL nor unknown.
pub(super) type Strict = for<'a> fn(&[Datum<'a>], &'a Bump) -> Answer<'a>;
/// The same with something compiled from literals.
pub(super) type Prepared = Box<dyn for<'a> Fn(&[Datum<'a>], &'a Bump) -> Answer<'a> + Send + Sync>;

/// A step of an expression. Its types were checked when it was made.
pub(super) enum Node {
    Constant(Constant),
    Column(usize, SqlType),
    Before(usize, SqlType),
    CommitTime,
    Clock,
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Not(Box<Node>),
    /// `IS NULL`
    IsNull(Box<Node>),
    /// `IS TRUE`, `IS FALSE`: never NULL.
    Is(Box<Node>, bool),
    /// `IS NOT DISTINCT FROM`
    Same(Box<Node>, Box<Node>),
    Call(Strict, Box<[Node]>),
    Prepared(Prepared, Box<[Node]>),
    /// Takes NULLs as they come.
    Lenient(Strict, Box<[Node]>),
    Coalesce(Box<[Node]>),
    /// The value, unless both are equal: what is compared first, what is answered last.
    NullIf(Box<Node>, Box<Node>, Box<Node>),
    Case(Box<[(Node, Node)]>, Box<Node>),
    In(Box<Node>, Box<[Node]>),
    /// `GREATEST`, `LEAST`: what the better one compares as.
    Extreme(Ordering, Box<[Node]>),
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node")
    }
}

/// A literal's value.
pub(super) enum Constant {
    Plain(Datum<'static>),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Numeric { unscaled: Box<[u8]>, scale: u32 },
}

impl Constant {
    pub(super) fn of(datum: Datum<'_>) -> Option<Self> {
        Some(Self::Plain(match datum {
            Datum::Text(text) => return Some(Self::Text(text.into())),
            Datum::Bytes(bytes) => return Some(Self::Bytes(bytes.into())),
            Datum::Numeric(Numeric::Large { unscaled, scale }) => {
                return Some(Self::Numeric { unscaled: unscaled.into(), scale });
            }
            Datum::Numeric(Numeric::Small { unscaled, scale }) => Datum::Numeric(Numeric::Small { unscaled, scale }),
            Datum::Numeric(Numeric::NaN) => Datum::Numeric(Numeric::NaN),
            Datum::Numeric(Numeric::Infinity) => Datum::Numeric(Numeric::Infinity),
            Datum::Numeric(Numeric::MinusInfinity) => Datum::Numeric(Numeric::MinusInfinity),
            Datum::Null => Datum::Null,
            Datum::Bool(value) => Datum::Bool(value),
            Datum::Int(value) => Datum::Int(value),
            Datum::Float4(value) => Datum::Float4(value),
            Datum::Float8(value) => Datum::Float8(value),
            Datum::Date(value) => Datum::Date(value),
            Datum::Time(value) => Datum::Time(value),
            Datum::Timestamp(value) => Datum::Timestamp(value),
            Datum::Interval(value) => Datum::Interval(Interval { ..value }),
            Datum::Unknown | Datum::Opaque(_) => return None,
        }))
    }

    fn datum(&self) -> Datum<'_> {
        match self {
            Self::Plain(datum) => *datum,
            Self::Text(text) => Datum::Text(text),
            Self::Bytes(bytes) => Datum::Bytes(bytes),
            Self::Numeric { unscaled, scale } => Datum::Numeric(Numeric::Large { unscaled, scale: *scale }),
        }
    }
}

impl Node {
    pub(super) const NULL: Self = Self::Constant(Constant::Plain(Datum::Null));

    pub(super) fn constant(&self) -> Option<Datum<'_>> {
        if let Self::Constant(constant) = self { Some(constant.datum()) } else { None }
    }

    pub(super) fn eval<'a>(&'a self, env: &Env<'_, 'a>) -> Answer<'a> {
        Ok(match self {
            Self::Constant(constant) => constant.datum(),
            Self::Column(column, sql_type) => read(env.row.after, *column, *sql_type, env.bump)?,
            Self::Before(column, sql_type) => read(env.row.before, *column, *sql_type, env.bump)?,
            Self::CommitTime => moment(env.row.context.commit_us)?,
            Self::Clock => moment(env.row.context.clock_us)?,
            Self::And(parts) => connective(parts, false, env)?,
            Self::Or(parts) => connective(parts, true, env)?,
            Self::Not(inner) => match inner.eval(env)? {
                Datum::Bool(value) => Datum::Bool(!value),
                other => other,
            },
            Self::IsNull(inner) => match inner.eval(env)? {
                Datum::Null => Datum::Bool(true),
                Datum::Unknown => Datum::Unknown,
                _ => Datum::Bool(false),
            },
            Self::Is(inner, wanted) => match inner.eval(env)? {
                Datum::Bool(value) => Datum::Bool(value == *wanted),
                Datum::Unknown => Datum::Unknown,
                _ => Datum::Bool(false),
            },
            Self::Same(a, b) => match (a.eval(env)?, b.eval(env)?) {
                (Datum::Unknown, _) | (_, Datum::Unknown) => Datum::Unknown,
                (Datum::Null, Datum::Null) => Datum::Bool(true),
                (Datum::Null, _) | (_, Datum::Null) => Datum::Bool(false),
                (a, b) => Datum::Bool(compare(a, b) == Ordering::Equal),
            },
            Self::Call(function, arguments) => strict(arguments, env, |arguments| function(arguments, env.bump))?,
            Self::Prepared(function, arguments) => strict(arguments, env, |arguments| function(arguments, env.bump))?,
            Self::Lenient(function, arguments) => {
                let mut values = BumpVec::with_capacity_in(arguments.len(), env.bump);
                for argument in arguments {
                    values.push(argument.eval(env)?);
                }
                if values.iter().any(|value| matches!(value, Datum::Unknown)) {
                    return Ok(Datum::Unknown);
                }
                function(&values, env.bump)?
            }
            Self::Coalesce(parts) => {
                for part in parts {
                    match part.eval(env)? {
                        Datum::Null => {}
                        found => return Ok(found),
                    }
                }
                Datum::Null
            }
            Self::NullIf(a, b, answer) => match (a.eval(env)?, b.eval(env)?) {
                (Datum::Unknown, _) | (_, Datum::Unknown) => Datum::Unknown,
                (Datum::Null, _) => Datum::Null,
                (a, b) if !matches!(b, Datum::Null) && compare(a, b) == Ordering::Equal => Datum::Null,
                _ => answer.eval(env)?,
            },
            Self::Case(branches, otherwise) => {
                for (condition, result) in branches {
                    match condition.eval(env)? {
                        Datum::Bool(true) => return result.eval(env),
                        Datum::Unknown => return Ok(Datum::Unknown),
                        _ => {}
                    }
                }
                otherwise.eval(env)?
            }
            Self::In(value, list) => among(value, list, env)?,
            Self::Extreme(wanted, parts) => {
                let mut best = Datum::Null;
                for part in parts {
                    match part.eval(env)? {
                        Datum::Null => {}
                        Datum::Unknown => return Ok(Datum::Unknown),
                        value if matches!(best, Datum::Null) || compare(value, best) == *wanted => best = value,
                        _ => {}
                    }
                }
                best
            }
        })
    }
}

fn read<'a>(values: &[Value<'a>], column: usize, sql_type: SqlType, bump: &'a Bump) -> Answer<'a> {
    values.get(column).map_or(Ok(Datum::Unknown), |value| Datum::of(value, sql_type, bump))
}

fn moment<'a>(micros: i64) -> Answer<'a> {
    Ok(Datum::Timestamp(micros.saturating_sub(EPOCH_DAYS * DAY)))
}

/// AND decides with `false`, OR with `true`; then what is unknown counts before NULL.
fn connective<'a>(parts: &'a [Node], decides: bool, env: &Env<'_, 'a>) -> Answer<'a> {
    let (mut null, mut unknown) = (false, false);
    for part in parts {
        match part.eval(env)? {
            Datum::Bool(value) if value == decides => return Ok(Datum::Bool(decides)),
            Datum::Null => null = true,
            Datum::Unknown => unknown = true,
            _ => {}
        }
    }
    Ok(match (unknown, null) {
        (true, _) => Datum::Unknown,
        (false, true) => Datum::Null,
        (false, false) => Datum::Bool(!decides),
    })
}

fn among<'a>(value: &'a Node, list: &'a [Node], env: &Env<'_, 'a>) -> Answer<'a> {
    let value = value.eval(env)?;
    let (mut null, mut unknown) = (matches!(value, Datum::Null), matches!(value, Datum::Unknown));
    for item in list {
        match item.eval(env)? {
            Datum::Null => null = true,
            Datum::Unknown => unknown = true,
            _ if matches!(value, Datum::Null | Datum::Unknown) => {}
            item if compare(value, item) == Ordering::Equal => return Ok(Datum::Bool(true)),
            _ => {}
        }
    }
    Ok(match (unknown, null) {
        (true, _) => Datum::Unknown,
        (false, true) => Datum::Null,
        (false, false) => Datum::Bool(false),
    })
}

/// All arguments are evaluated; one NULL makes the answer NULL, and only then one that is unknown makes it unknown.
fn strict<'a>(arguments: &'a [Node], env: &Env<'_, 'a>, call: impl FnOnce(&[Datum<'a>]) -> Answer<'a>) -> Answer<'a> {
    const MOST: usize = 4;
    let mut values = [Datum::Null; MOST];
    let (mut null, mut unknown) = (false, false);
    for (slot, argument) in values.iter_mut().zip(arguments) {
        *slot = argument.eval(env)?;
        null |= matches!(slot, Datum::Null);
        unknown |= matches!(slot, Datum::Unknown);
    }
    if null {
        return Ok(Datum::Null);
    }
    if unknown {
        return Ok(Datum::Unknown);
    }
    call(&values[..arguments.len().min(MOST)])
}
