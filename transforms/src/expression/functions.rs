//! Functions by name: which implementation the arguments' types choose.

use std::cmp::Ordering;

use sqlparser::tokenizer::Span;

use super::cast::{Wrong, common_type, explicit, implicit, output};
use super::node::{Node, Prepared, Strict};
use super::number;
use super::operators::{comparable, made, promoted};
use super::typed::{Typed, prepared};
use super::{regexp, text, time, to_char};
use crate::sql_type::SqlType::{
    self, Bool, Bytea, Date, Float8, Int2, Int4, Int8, Json, Jsonb, Literal, Numeric, Opaque, Text, Timestamp,
    Timestamptz,
};

/// Every function's name.
pub const NAMES: [&str; 43] = [
    "abs",
    "btrim",
    "ceil",
    "ceiling",
    "char_length",
    "coalesce",
    "concat",
    "concat_ws",
    "current_timestamp",
    "date_trunc",
    "extract",
    "floor",
    "greatest",
    "hmac_sha256",
    "jsonb_build_object",
    "least",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "mask",
    "md5",
    "mod",
    "now",
    "nullif",
    "regexp_replace",
    "replace",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sha256",
    "sign",
    "split_part",
    "substr",
    "substring",
    "to_char",
    "to_timestamp",
    "trim",
    "trunc",
    "upper",
    "date",
];

/// Arguments taken one by one.
struct Arguments {
    name: String,
    span: Span,
    given: std::vec::IntoIter<Typed>,
    types: String,
}

impl Arguments {
    fn missing(&self) -> Wrong {
        let Self { name, types, span, .. } = self;
        (*span, format!("function {name}({types}) does not exist; cast the arguments"))
    }

    fn next(&mut self) -> Result<Typed, Wrong> {
        self.given.next().ok_or_else(|| self.missing())
    }

    fn of(&mut self, sql_type: SqlType) -> Result<Node, Wrong> {
        let value = self.next()?;
        match implicit(value, sql_type) {
            Ok(value) => Ok(value.node),
            Err((span, _)) => Err((span, self.missing().1)),
        }
    }

    fn optional(&mut self, sql_type: SqlType, into: &mut Vec<Node>) -> Result<(), Wrong> {
        if !self.given.as_slice().is_empty() {
            let node = self.of(sql_type)?;
            into.push(node);
        }
        Ok(())
    }

    fn literal(&mut self, what: &str) -> Result<String, Wrong> {
        let value = self.next()?;
        let text = (value.sql_type == Literal).then(|| value.literal_text()).flatten().map(str::to_owned);
        text.ok_or_else(|| (value.span, format!("{what} must be a literal, since it is compiled at start")))
    }

    fn end(&mut self) -> Result<(), Wrong> {
        if self.given.as_slice().is_empty() { Ok(()) } else { Err(self.missing()) }
    }
}

/// The call of a function.
pub(super) fn call(name: &str, arguments: Vec<Typed>, span: Span) -> Result<Typed, Wrong> {
    let types: Vec<String> = arguments.iter().map(|argument| argument.sql_type.to_string()).collect();
    let mut a = Arguments { name: name.to_owned(), span, given: arguments.into_iter(), types: types.join(", ") };
    let typed = match name {
        "upper" => strict(&mut a, text::upper, &[Text], &[], Text),
        "lower" => strict(&mut a, text::lower, &[Text], &[], Text),
        "length" | "char_length" | "character_length" => {
            let value = a.next()?;
            // Of `char(n)` the trailing blanks do not count, which the cast to text cuts off.
            let wanted = if value.sql_type == Bytea && name == "length" { Bytea } else { Text };
            let value = implicit(value, wanted).map_err(|(span, _)| (span, a.missing().1))?;
            made(text::length, vec![value.node], Int4, span)
        }
        "trim" | "btrim" => strict(&mut a, |a, _| text::trim(a, true, true), &[Text], &[Text], Text),
        "ltrim" => strict(&mut a, |a, _| text::trim(a, true, false), &[Text], &[Text], Text),
        "rtrim" => strict(&mut a, |a, _| text::trim(a, false, true), &[Text], &[Text], Text),
        "left" => strict(&mut a, text::left, &[Text, Int4], &[], Text),
        "right" => strict(&mut a, text::right, &[Text, Int4], &[], Text),
        "substring" | "substr" => strict(&mut a, text::substring, &[Text, Int4], &[Int4], Text),
        "replace" => strict(&mut a, text::replace, &[Text, Text, Text], &[], Text),
        "split_part" => strict(&mut a, text::split_part, &[Text, Text, Int4], &[], Text),
        "lpad" => strict(&mut a, |a, bump| text::pad(a, bump, true), &[Text, Int4], &[Text], Text),
        "rpad" => strict(&mut a, |a, bump| text::pad(a, bump, false), &[Text, Int4], &[Text], Text),
        "md5" => digest(&mut a, text::md5, Text),
        "sha256" => {
            let bytes = a.given.as_slice().first().is_some_and(|argument| argument.sql_type == Bytea);
            if bytes { digest(&mut a, text::sha256, Bytea) } else { digest(&mut a, text::sha256_hex, Text) }
        }
        "hmac_sha256" => {
            let (data, key) = (a.next()?, a.next()?);
            let data = if data.sql_type == Bytea { data } else { implicit(data, Text)? };
            made(text::hmac_sha256, vec![data.node, implicit(key, Text)?.node], Text, span)
        }
        "mask" => strict(&mut a, text::mask, &[Text], &[Int4, Text], Text),
        "concat" => {
            let parts = outputs(&mut a)?;
            Ok(Typed::new(Node::Lenient(text::concat, parts.into()), Text, span))
        }
        "concat_ws" => {
            let mut parts = vec![a.of(Text)?];
            parts.extend(outputs(&mut a)?);
            Ok(Typed::new(Node::Lenient(text::concat_ws, parts.into()), Text, span))
        }
        "jsonb_build_object" => build_object(&mut a),
        "regexp_replace" => {
            let value = a.of(Text)?;
            let pattern = a.literal("a regular expression")?;
            let replacement = a.literal("a replacement")?;
            let flags = if a.given.as_slice().is_empty() { String::new() } else { a.literal("the flags")? };
            let compiled = regexp::prepare(&pattern, &replacement, &flags).map_err(|reason| (span, reason))?;
            with(compiled, value, Text, span)
        }
        "to_char" => {
            let value = a.next()?;
            let value = match value.sql_type {
                Timestamp | Timestamptz => value,
                Date => implicit(value, Timestamp)?,
                other => {
                    return Err((
                        value.span,
                        format!("TO_CHAR of {other} is not supported; of dates and timestamps it is"),
                    ));
                }
            };
            let format = a.literal("a format")?;
            let compiled = to_char::prepare(&format).map_err(|reason| (span, reason))?;
            with(compiled, value.node, Text, span)
        }
        "to_timestamp" => {
            if a.given.as_slice().len() != 1 {
                return Err((
                    span,
                    "TO_TIMESTAMP with a format is not supported; cast ISO 8601 text: (…)::timestamptz".into(),
                ));
            }
            strict(&mut a, time::from_epoch, &[Float8], &[], Timestamptz)
        }
        "date_trunc" => {
            let field = a.literal("the field of DATE_TRUNC")?;
            let field =
                time::Field::named(&field).ok_or_else(|| (span, format!("DATE_TRUNC has no field `{field}`")))?;
            let value = a.next()?;
            let value = if matches!(value.sql_type, Date | Literal) { implicit(value, Timestamptz)? } else { value };
            let sql_type = value.sql_type;
            let compiled = time::truncate(field, sql_type).ok_or_else(|| a.missing())?;
            with(compiled, value.node, sql_type, span)
        }
        "date" => {
            let value = a.next()?;
            explicit(value, Date, -1)
        }
        "abs" => {
            let value = a.next()?;
            let wanted = if value.sql_type == Literal { Float8 } else { value.sql_type };
            let function = number::absolute(wanted).ok_or_else(|| a.missing())?;
            made(function, vec![implicit(value, wanted)?.node], wanted, span)
        }
        "round" | "trunc" if a.given.as_slice().len() == 2 => {
            let function: Strict = if name == "round" { number::round_to } else { number::trunc_to };
            strict(&mut a, function, &[Numeric, Int4], &[], Numeric)
        }
        "round" | "trunc" | "ceil" | "ceiling" | "floor" | "sign" => {
            let value = a.next()?;
            let wanted = if value.sql_type == Numeric { Numeric } else { Float8 };
            let function = number::rounding(name, wanted).ok_or_else(|| a.missing())?;
            let value = implicit(value, wanted).map_err(|(span, _)| (span, a.missing().1))?;
            made(function, vec![value.node], wanted, span)
        }
        "mod" => modulo(&mut a),
        "coalesce" => {
            let (parts, sql_type) = alike(&mut a, "COALESCE")?;
            if parts.is_empty() {
                return Err(a.missing());
            }
            Ok(Typed::new(Node::Coalesce(parts.into()), sql_type, span))
        }
        "greatest" | "least" => {
            let wanted = if name == "greatest" { Ordering::Greater } else { Ordering::Less };
            let (parts, sql_type) = alike(&mut a, &name.to_uppercase())?;
            if parts.is_empty() || matches!(sql_type, Json | Jsonb | Opaque | SqlType::Enum | SqlType::Textual) {
                return Err(a.missing());
            }
            Ok(Typed::new(Node::Extreme(wanted, parts.into()), sql_type, span))
        }
        unknown => {
            let near = NAMES.iter().find(|known| known.starts_with(unknown.get(..3).unwrap_or(unknown)));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            Err((span, format!("function {unknown} is not known here{hint}")))
        }
    }?;
    a.end()?;
    Ok(typed)
}

fn strict(
    a: &mut Arguments,
    function: Strict,
    required: &[SqlType],
    optional: &[SqlType],
    result: SqlType,
) -> Result<Typed, Wrong> {
    let mut nodes = Vec::new();
    for sql_type in required {
        nodes.push(a.of(*sql_type)?);
    }
    for sql_type in optional {
        a.optional(*sql_type, &mut nodes)?;
    }
    a.end()?;
    made(function, nodes, result, a.span)
}

fn with(function: Prepared, value: Node, result: SqlType, span: Span) -> Result<Typed, Wrong> {
    let node = prepared(function, vec![value]).map_err(|fault| (span, fault.to_string()))?;
    Ok(Typed::new(node, result, span))
}

fn digest(a: &mut Arguments, function: Strict, result: SqlType) -> Result<Typed, Wrong> {
    let value = a.next()?;
    let value = if value.sql_type == Bytea {
        value
    } else {
        implicit(value, Text).map_err(|(span, _)| (span, a.missing().1))?
    };
    made(function, vec![value.node], result, a.span)
}

fn outputs(a: &mut Arguments) -> Result<Vec<Node>, Wrong> {
    let mut nodes = Vec::new();
    while !a.given.as_slice().is_empty() {
        nodes.push(output(a.next()?)?);
    }
    Ok(nodes)
}

/// The remaining arguments as their common type.
fn alike(a: &mut Arguments, what: &str) -> Result<(Vec<Node>, SqlType), Wrong> {
    let values: Vec<Typed> = a.given.by_ref().collect();
    let sql_type = common_type(&values.iter().collect::<Vec<_>>(), what)?;
    let nodes = values.into_iter().map(|value| implicit(value, sql_type).map(|value| value.node));
    Ok((nodes.collect::<Result<_, _>>()?, sql_type))
}

fn modulo(a: &mut Arguments) -> Result<Typed, Wrong> {
    let (left, right) = (a.next()?, a.next()?);
    let sql_type = match (left.sql_type, right.sql_type) {
        (Literal, other) | (other, Literal) => other,
        (left, right) => promoted(left, right),
    };
    if !matches!(sql_type, Int2 | Int4 | Int8 | Numeric) {
        return Err(a.missing());
    }
    let function = number::arithmetic(number::Arithmetic::Remainder, sql_type).ok_or_else(|| a.missing())?;
    let nodes = [left, right].map(|value| implicit(value, sql_type).map(|value| value.node));
    let [left, right] = nodes;
    let nodes =
        vec![left.map_err(|(span, _)| (span, a.missing().1))?, right.map_err(|(span, _)| (span, a.missing().1))?];
    made(function, nodes, sql_type, a.span)
}

fn build_object(a: &mut Arguments) -> Result<Typed, Wrong> {
    let span = a.span;
    if !a.given.as_slice().len().is_multiple_of(2) {
        return Err((span, "jsonb_build_object takes names and values by turns; one is missing".into()));
    }
    let mut nodes = Vec::new();
    while !a.given.as_slice().is_empty() {
        let name = a.next()?;
        if name.is_null() {
            return Err((name.span, "a name of jsonb_build_object must not be NULL".into()));
        }
        nodes.push(output(name)?);
        nodes.push(as_json(a.next()?)?);
    }
    Ok(Typed::new(Node::Lenient(text::build_object, nodes.into()), Jsonb, span))
}

/// A value as `to_jsonb` writes it: numbers and booleans as they are, JSON as it is, the rest as strings.
fn as_json(value: Typed) -> Result<Node, Wrong> {
    let span = value.span;
    let sql_type = value.sql_type;
    let failed = |fault: crate::fault::Fault| (span, fault.to_string());
    match sql_type {
        Opaque => Err((span, "has a type whose JSON is not known here".into())),
        Jsonb => Ok(value.node),
        Json => Ok(explicit(value, Jsonb, -1)?.node),
        Bool | Int2 | Int4 | Int8 => Ok(explicit(value, Text, -1)?.node),
        Numeric | SqlType::Float4 | Float8 => {
            let printed = explicit(value, Text, -1)?.node;
            super::typed::call(text::json_number, vec![printed]).map_err(failed)
        }
        Date | Timestamp | Timestamptz => {
            let printed = explicit(value, Text, -1)?.node;
            let function: Strict = if sql_type == Timestamptz { text::json_zoned } else { text::json_moment };
            super::typed::call(function, vec![printed]).map_err(failed)
        }
        _ => super::typed::call(text::quoted, vec![output(value)?]).map_err(failed),
    }
}

/// `NULLIF(a, b)`
pub(super) fn null_if(left: Typed, right: Typed, answer: Typed) -> Result<Typed, Wrong> {
    let span = left.span;
    let sql_type = match (answer.sql_type, right.sql_type) {
        (Literal, Literal) => Text,
        (Literal, other) => other,
        (own, _) => own,
    };
    let answer = implicit(answer, sql_type)?;
    let (left, right) = comparable(left, right, "=")?;
    Ok(Typed::new(Node::NullIf(Box::new(left.node), Box::new(right.node), Box::new(answer.node)), sql_type, span))
}
