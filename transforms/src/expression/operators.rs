//! Operators: which function two types get.

use std::cmp::Ordering;

use bumpalo::Bump;
use bumpalo::collections::{String as BumpString, Vec as BumpVec};
use sqlparser::tokenizer::Span;

use super::cast::{Wrong, common_type, implicit};
use super::node::{Node, Strict};
use super::number::{Arithmetic, arithmetic};
use super::time;
use super::typed::{Typed, call};
use crate::datum::{Answer, Datum, compare};
use crate::fault;
use crate::json;
use crate::sql_type::SqlType::{
    self, Bpchar, Bytea, Enum, Float4, Float8, Int4, Int8, Json, Jsonb, Literal, Opaque, Text, Textual,
};

/// Both sides as the type they are compared as.
pub(super) fn comparable(left: Typed, right: Typed, operator: &str) -> Result<(Typed, Typed), Wrong> {
    let (a, b) = (left.sql_type, right.sql_type);
    let orders = !matches!(operator, "=" | "<>");
    let refused = |side: SqlType| matches!(side, Json | Jsonb | Opaque | Textual);
    if refused(a) || refused(b) {
        return Err((
            left.span,
            format!("values of {} cannot be compared here; cast them to text", if refused(a) { a } else { b }),
        ));
    }
    if matches!((a, b), (Enum, Literal | Enum) | (Literal, Enum)) {
        if orders {
            return Err((
                left.span,
                "an enum's order is not known here; compare for equality, or cast it to text".into(),
            ));
        }
        return Ok((left, right));
    }
    let unmatched = || format!("operator does not exist: {a} {operator} {b}; cast one of them");
    let target = match (a, b) {
        (Bpchar, Bpchar | Literal) | (Literal, Bpchar) => {
            // Trailing blanks do not count.
            let left = trimmed(left)?;
            return Ok((left, trimmed(right)?));
        }
        (Bpchar, Text) | (Text, Bpchar) => Text,
        (a, b) if a.is_number() && b.is_number() => promoted(a, b),
        _ => common_type(&[&left, &right], operator).map_err(|(span, _)| (span, unmatched()))?,
    };
    let span = left.span;
    match (implicit(left, target), implicit(right, target)) {
        (Ok(left), Ok(right)) => Ok((left, right)),
        (Err(wrong), _) | (_, Err(wrong)) if a == Literal || b == Literal => Err(wrong),
        _ => Err((span, unmatched())),
    }
}

fn trimmed(value: Typed) -> Result<Typed, Wrong> {
    let trim: Strict = |a, _| match a {
        [Datum::Text(text)] => Ok(Datum::Text(text.trim_end_matches(' '))),
        _ => Err(fault::VALUE_FORM),
    };
    let span = value.span;
    let node = call(trim, vec![value.node]).map_err(|fault| (span, fault.to_string()))?;
    Ok(Typed::new(node, Text, span))
}

/// The type that an operator of two numbers computes in.
pub(super) fn promoted(a: SqlType, b: SqlType) -> SqlType {
    match (a, b) {
        (a, b) if a == b => a,
        (Float4 | Float8, _) | (_, Float4 | Float8) => Float8,
        (SqlType::Numeric, _) | (_, SqlType::Numeric) => SqlType::Numeric,
        (Int8, _) | (_, Int8) => Int8,
        _ => Int4,
    }
}

/// `=`, `<>`, `<`, `<=`, `>`, `>=`
pub(super) fn comparison(left: Typed, operator: &str, right: Typed) -> Result<Typed, Wrong> {
    let span = left.span;
    let function: Strict = match operator {
        "=" => |a, _| Ok(Datum::Bool(compare(a[0], a[1]) == Ordering::Equal)),
        "<>" => |a, _| Ok(Datum::Bool(compare(a[0], a[1]) != Ordering::Equal)),
        "<" => |a, _| Ok(Datum::Bool(compare(a[0], a[1]) == Ordering::Less)),
        "<=" => |a, _| Ok(Datum::Bool(compare(a[0], a[1]) != Ordering::Greater)),
        ">" => |a, _| Ok(Datum::Bool(compare(a[0], a[1]) == Ordering::Greater)),
        _ => |a, _| Ok(Datum::Bool(compare(a[0], a[1]) != Ordering::Less)),
    };
    let (left, right) = comparable(left, right, operator)?;
    made(function, vec![left.node, right.node], SqlType::Bool, span)
}

/// `+ - * / %`
pub(super) fn computed(left: Typed, operator: Arithmetic, right: Typed) -> Result<Typed, Wrong> {
    let span = left.span;
    let (a, b) = (left.sql_type, right.sql_type);
    let sign = match operator {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::Remainder => "%",
    };
    let missing = || (span, format!("operator does not exist: {a} {sign} {b}; cast one of them"));
    let target = match (a, b) {
        (Literal, Literal) => return Err((span, format!("operator is not unique: {a} {sign} {b}; cast one of them"))),
        (Literal, number) | (number, Literal) if number.is_number() => number,
        (a, b) if a.is_number() && b.is_number() => promoted(a, b),
        _ => return time::computed(left, operator, right).unwrap_or_else(|| Err(missing())),
    };
    let function = arithmetic(operator, target).ok_or_else(missing)?;
    let arguments = vec![implicit(left, target)?.node, implicit(right, target)?.node];
    made(function, arguments, target, span)
}

/// `||`
pub(super) fn concatenated(left: Typed, right: Typed) -> Result<Typed, Wrong> {
    let span = left.span;
    let (a, b) = (left.sql_type, right.sql_type);
    if matches!((a, b), (Bytea, Bytea | Literal) | (Literal, Bytea)) {
        let join: Strict = |a, bump| {
            let [Datum::Bytes(x), Datum::Bytes(y)] = a else { return Err(fault::VALUE_FORM) };
            let mut joined = BumpVec::with_capacity_in(x.len() + y.len(), bump);
            joined.extend_from_slice(x);
            joined.extend_from_slice(y);
            Ok(Datum::Bytes(joined.into_bump_slice()))
        };
        return made(join, vec![implicit(left, Bytea)?.node, implicit(right, Bytea)?.node], Bytea, span);
    }
    let texts = |side: SqlType| side.is_text() || side == Literal;
    if matches!(a, Jsonb) || matches!(b, Jsonb) || (!texts(a) && !texts(b)) {
        return Err((span, format!("operator does not exist: {a} || {b}; cast one of them to text")));
    }
    let join: Strict = |a, bump| {
        let [Datum::Text(x), Datum::Text(y)] = a else { return Err(fault::VALUE_FORM) };
        let mut joined = BumpString::with_capacity_in(x.len() + y.len(), bump);
        joined.push_str(x);
        joined.push_str(y);
        Ok(Datum::Text(joined.into_bump_str()))
    };
    let text = |value: Typed| super::cast::explicit(value, Text, -1);
    made(join, vec![text(left)?.node, text(right)?.node], Text, span)
}

/// `->` and `->>`
pub(super) fn json_access(left: Typed, as_text: bool, right: Typed) -> Result<Typed, Wrong> {
    let span = left.span;
    if !matches!(left.sql_type, Json | Jsonb) {
        return Err((
            span,
            format!("operator does not exist: {} -> {}; only json and jsonb have it", left.sql_type, right.sql_type),
        ));
    }
    let result = if as_text { Text } else { left.sql_type };
    let by_index = right.sql_type.is_integer();
    let right = implicit(right, if by_index { Int4 } else { Text })?;
    let function: Strict = match (by_index, as_text, left.sql_type) {
        (false, false, _) => |a, bump| member(a, bump, false),
        (false, true, _) => |a, bump| member(a, bump, true),
        (true, false, Jsonb) => |a, bump| item(a, bump, false, true),
        (true, true, Jsonb) => |a, bump| item(a, bump, true, true),
        (true, false, _) => |a, bump| item(a, bump, false, false),
        (true, true, _) => |a, bump| item(a, bump, true, false),
    };
    made(function, vec![left.node, right.node], result, span)
}

fn member<'a>(arguments: &[Datum<'a>], bump: &'a Bump, as_text: bool) -> Answer<'a> {
    let [Datum::Text(text), Datum::Text(key)] = arguments else { return Err(fault::VALUE_FORM) };
    inside(json::field(text, key, bump)?, bump, as_text)
}

fn item<'a>(arguments: &[Datum<'a>], bump: &'a Bump, as_text: bool, binary: bool) -> Answer<'a> {
    let [Datum::Text(text), Datum::Int(index)] = arguments else { return Err(fault::VALUE_FORM) };
    inside(json::element(text, *index, binary)?, bump, as_text)
}

fn inside<'a>(found: Option<&'a str>, bump: &'a Bump, as_text: bool) -> Answer<'a> {
    let found = match found {
        Some(found) if as_text => json::as_text(found, bump)?,
        found => found,
    };
    Ok(found.map_or(Datum::Null, Datum::Text))
}

/// A strict call with its type.
pub(super) fn made(function: Strict, arguments: Vec<Node>, sql_type: SqlType, span: Span) -> Result<Typed, Wrong> {
    let node = call(function, arguments).map_err(|fault| (span, fault.to_string()))?;
    Ok(Typed::new(node, sql_type, span))
}
