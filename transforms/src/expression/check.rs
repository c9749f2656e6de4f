//! From a parsed expression to typed nodes.

use sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, CharacterLength, DataType, DateTimeField, ExactNumberInfo, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Interval as SqlInterval, Spanned, TimezoneInfo,
    TrimWhereField, UnaryOperator, Value,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token};

use super::cast::{Wrong, common_type, explicit, implicit};
use super::functions;
use super::like;
use super::mistake::Mistake;
use super::node::{Constant, Node};
use super::number::{self, Arithmetic};
use super::operators::{self, comparable, comparison, made};
use super::time;
use super::typed::{Typed, prepared};
use super::{Expression, Scope};
use crate::datum::Datum;
use crate::fault;
use crate::sql_type::SqlType::{self, Bool, Bpchar, Date, Int4, Int8, Literal, Numeric, Text, Timestamp, Timestamptz};

type Checked = Result<Typed, Wrong>;

/// Expressions nest this deep at most.
const DEPTH: usize = 60;

pub(super) fn compile(text: &str, scope: &Scope<'_>, wanted: Option<SqlType>) -> Result<Expression, Mistake> {
    let parsed = parse(text)?;
    let mut check = Check { scope, after: Vec::new(), before: Vec::new() };
    let typed = check.expression(&parsed).and_then(|typed| match wanted {
        Some(Bool) if !matches!(typed.sql_type, Bool | Literal) => {
            Err((typed.span, format!("must be true or false, and is {}", typed.sql_type)))
        }
        Some(wanted) => implicit(typed, wanted),
        None if typed.sql_type == Literal => implicit(typed, Text),
        None => Ok(typed),
    });
    let typed = typed.map_err(|(span, reason)| Mistake::new(text, span, reason))?;
    let column_type = match &typed.node {
        // A column by itself keeps its type as it is.
        Node::Column(column, sql_type) | Node::Before(column, sql_type) if *sql_type == typed.sql_type => {
            let found = scope.columns.iter().find(|named| named.column == *column);
            found.map_or_else(|| typed.sql_type.column_type(typed.modifier), |named| named.column_type.clone())
        }
        _ => typed.sql_type.column_type(typed.modifier),
    };
    let Check { mut after, mut before, .. } = check;
    for columns in [&mut after, &mut before] {
        columns.sort_unstable();
        columns.dedup();
    }
    Ok(Expression { node: typed.node, sql_type: typed.sql_type, column_type, after, before })
}

fn parse(text: &str) -> Result<Expr, Mistake> {
    let refuse = |error: ParserError| {
        let (reason, span) = match error {
            ParserError::TokenizerError(reason) | ParserError::ParserError(reason) => located(&reason),
            ParserError::RecursionLimitExceeded => ("the expression is nested too deeply".to_owned(), Span::empty()),
        };
        Mistake::new(text, span, reason)
    };
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(DEPTH).try_with_sql(text).map_err(refuse)?;
    let parsed = parser.parse_expr().map_err(refuse)?;
    let rest = parser.peek_token();
    if rest.token == Token::EOF {
        return Ok(parsed);
    }
    Err(Mistake::new(text, rest.span, format!("syntax error at or near `{}`", rest.token)))
}

/// The parser writes the place behind its reason: `… at Line: 1, Column: 5`.
fn located(reason: &str) -> (String, Span) {
    let Some((what, place)) = reason.rsplit_once(" at Line: ") else { return (reason.to_owned(), Span::empty()) };
    let mut numbers = place.split(", Column: ").map(|number| number.trim().parse::<u64>().unwrap_or(1));
    let location = Location { line: numbers.next().unwrap_or(1), column: numbers.next().unwrap_or(1) };
    (format!("syntax error: {what}"), Span { start: location, end: location })
}

struct Check<'s> {
    scope: &'s Scope<'s>,
    after: Vec<usize>,
    before: Vec<usize>,
}

impl Check<'_> {
    fn expression(&mut self, expr: &Expr) -> Checked {
        let span = expr.span();
        match expr {
            Expr::Nested(inner) => self.expression(inner),
            Expr::Value(value) => literal(&value.value, span),
            Expr::Identifier(name) => self.column(name, false),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [row, name] if row.value.eq_ignore_ascii_case("before") => self.column(name, true),
                [row, name] if row.value.eq_ignore_ascii_case("after") => self.column(name, false),
                _ => Err((span, "a column is written by its name alone, or as before.name".into())),
            },
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, span),
            Expr::UnaryOp { op, expr } => self.unary(*op, expr, span),
            Expr::IsNull(inner) => self.is_null(inner),
            Expr::IsNotNull(inner) => Ok(not(self.is_null(inner)?)),
            Expr::IsTrue(inner) => self.is(inner, true),
            Expr::IsNotTrue(inner) => Ok(not(self.is(inner, true)?)),
            Expr::IsFalse(inner) => self.is(inner, false),
            Expr::IsNotFalse(inner) => Ok(not(self.is(inner, false)?)),
            Expr::IsUnknown(inner) => {
                let inner = self.condition(inner)?;
                Ok(Typed::new(Node::IsNull(Box::new(inner.node)), Bool, span))
            }
            Expr::IsNotUnknown(inner) => {
                let inner = self.condition(inner)?;
                Ok(not(Typed::new(Node::IsNull(Box::new(inner.node)), Bool, span)))
            }
            Expr::IsNotDistinctFrom(left, right) => self.same(left, right),
            Expr::IsDistinctFrom(left, right) => Ok(not(self.same(left, right)?)),
            Expr::InList { expr, list, negated } => {
                let found = self.among(expr, list, span)?;
                Ok(if *negated { not(found) } else { found })
            }
            Expr::Between { expr, negated, low, high } => {
                let low = comparison(self.expression(expr)?, ">=", self.expression(low)?)?;
                let high = comparison(self.expression(expr)?, "<=", self.expression(high)?)?;
                let both = Typed::new(Node::And(Box::new([low.node, high.node])), Bool, span);
                Ok(if *negated { not(both) } else { both })
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_deref(), *negated, false)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, pattern, escape_char.as_deref(), *negated, true)
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), span)
            }
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr, data_type, format: None } => {
                let value = self.expression(expr)?;
                let (to, modifier) = named_type(data_type).map_err(|reason| (span, reason))?;
                explicit(value, to, modifier)
            }
            Expr::TypedString(typed) => {
                let (to, modifier) = named_type(&typed.data_type).map_err(|reason| (span, reason))?;
                explicit(literal(&typed.value.value, span)?, to, modifier)
            }
            Expr::Interval(SqlInterval {
                value,
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            }) => {
                let value = self.expression(value)?;
                if value.sql_type != Literal {
                    return Err((span, "INTERVAL takes a literal: INTERVAL '1 day'".into()));
                }
                explicit(value, SqlType::Interval, -1)
            }
            Expr::Extract { field, expr, .. } => {
                let field = field_name(field);
                self.extract(&field, expr, span)
            }
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                functions::call("ceil", vec![self.expression(expr)?], span)
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                functions::call("floor", vec![self.expression(expr)?], span)
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut arguments = vec![self.expression(expr)?];
                match substring_from {
                    Some(from) => arguments.push(self.expression(from)?),
                    None => arguments.push(integer(1, span)),
                }
                if let Some(length) = substring_for {
                    arguments.push(self.expression(length)?);
                }
                if arguments[1].sql_type == Literal && arguments[1].literal_text().is_some() {
                    return Err((arguments[1].span, "SUBSTRING by a pattern is not supported".into()));
                }
                functions::call("substring", arguments, span)
            }
            Expr::Trim { trim_where, trim_what, expr, trim_characters } => {
                let mut arguments = vec![self.expression(expr)?];
                if let Some(what) = trim_what {
                    arguments.push(self.expression(what)?);
                }
                for characters in trim_characters.iter().flatten() {
                    arguments.push(self.expression(characters)?);
                }
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    Some(TrimWhereField::Both) | None => "btrim",
                };
                functions::call(name, arguments, span)
            }
            Expr::AtTimeZone { timestamp, time_zone } => self.at_zone(timestamp, time_zone, span),
            Expr::Collate { expr, collation } => {
                let name = collation.to_string();
                if name.trim_matches('"') == "C" {
                    self.expression(expr)
                } else {
                    Err((span, format!("collation {name} is not known here: text compares by its bytes (\"C\")")))
                }
            }
            Expr::Function(function) => self.function(function, span),
            other => Err((span, format!("`{}` is not supported in expressions", kind(other)))),
        }
    }

    fn column(&mut self, name: &Ident, before: bool) -> Checked {
        let folded = if name.quote_style.is_none() { name.value.to_lowercase() } else { name.value.clone() };
        let find = |name: &str| self.scope.columns.iter().find(|named| named.name == name);
        let Some(named) = find(&folded).or_else(|| find(&name.value)) else {
            let known: Vec<&str> = self.scope.columns.iter().map(|named| named.name.as_str()).collect();
            return Err((name.span, format!("column {} does not exist; known are {}", name.value, known.join(", "))));
        };
        let sql_type = SqlType::of(&named.column_type);
        let (reads, node) = if before {
            (&mut self.before, Node::Before(named.column, sql_type))
        } else {
            (&mut self.after, Node::Column(named.column, sql_type))
        };
        reads.push(named.column);
        Ok(Typed::new(node, sql_type, name.span))
    }

    fn condition(&mut self, expr: &Expr) -> Checked {
        let value = self.expression(expr)?;
        match value.sql_type {
            Bool | Literal => implicit(value, Bool),
            other => Err((value.span, format!("must be true or false, and is {other}"))),
        }
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, span: Span) -> Checked {
        if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
            let parts = Box::new([self.condition(left)?.node, self.condition(right)?.node]);
            let node = if *op == BinaryOperator::And { Node::And(parts) } else { Node::Or(parts) };
            return Ok(Typed::new(node, Bool, span));
        }
        let (left, right) = (self.expression(left)?, self.expression(right)?);
        match op {
            BinaryOperator::Eq => comparison(left, "=", right),
            BinaryOperator::NotEq => comparison(left, "<>", right),
            BinaryOperator::Lt => comparison(left, "<", right),
            BinaryOperator::LtEq => comparison(left, "<=", right),
            BinaryOperator::Gt => comparison(left, ">", right),
            BinaryOperator::GtEq => comparison(left, ">=", right),
            BinaryOperator::Plus => operators::computed(left, Arithmetic::Add, right),
            BinaryOperator::Minus => operators::computed(left, Arithmetic::Subtract, right),
            BinaryOperator::Multiply => operators::computed(left, Arithmetic::Multiply, right),
            BinaryOperator::Divide => operators::computed(left, Arithmetic::Divide, right),
            BinaryOperator::Modulo => operators::computed(left, Arithmetic::Remainder, right),
            BinaryOperator::StringConcat => operators::concatenated(left, right),
            BinaryOperator::Arrow => operators::json_access(left, false, right),
            BinaryOperator::LongArrow => operators::json_access(left, true, right),
            BinaryOperator::PGLikeMatch => like_typed(left, right, Some('\\'), false),
            BinaryOperator::PGILikeMatch => like_typed(left, right, Some('\\'), true),
            BinaryOperator::PGNotLikeMatch => like_typed(left, right, Some('\\'), false).map(not),
            BinaryOperator::PGNotILikeMatch => like_typed(left, right, Some('\\'), true).map(not),
            other => Err((span, format!("operator {other} is not supported in expressions"))),
        }
    }

    fn unary(&mut self, op: UnaryOperator, expr: &Expr, span: Span) -> Checked {
        match op {
            UnaryOperator::Not => Ok(not(self.condition(expr)?)),
            UnaryOperator::Minus => {
                // -9223372036854775808 is one literal to people.
                if let Expr::Value(value) = expr
                    && let Value::Number(digits, _) = &value.value
                    && digits == "9223372036854775808"
                {
                    return Ok(Typed::new(
                        Node::Constant(Constant::Plain(Datum::Numeric(crate::numeric::Numeric::integer(i64::MIN)))),
                        Numeric,
                        span,
                    ));
                }
                let value = self.expression(expr)?;
                let wanted = if value.sql_type == Literal { SqlType::Float8 } else { value.sql_type };
                let missing = || (span, format!("operator does not exist: - {wanted}; cast it"));
                let function = number::negate(wanted).ok_or_else(missing)?;
                made(function, vec![implicit(value, wanted)?.node], wanted, span)
            }
            UnaryOperator::Plus => {
                let value = self.expression(expr)?;
                match value.sql_type {
                    Literal => implicit(value, SqlType::Float8),
                    number if number.is_number() => Ok(value),
                    other => Err((span, format!("operator does not exist: + {other}; cast it"))),
                }
            }
            other => Err((span, format!("operator {other} is not supported in expressions"))),
        }
    }

    fn is_null(&mut self, inner: &Expr) -> Checked {
        let inner = self.expression(inner)?;
        let span = inner.span;
        Ok(Typed::new(Node::IsNull(Box::new(inner.node)), Bool, span))
    }

    fn is(&mut self, inner: &Expr, wanted: bool) -> Checked {
        let inner = self.condition(inner)?;
        let span = inner.span;
        Ok(Typed::new(Node::Is(Box::new(inner.node), wanted), Bool, span))
    }

    fn same(&mut self, left: &Expr, right: &Expr) -> Checked {
        let (left, right) = (self.expression(left)?, self.expression(right)?);
        let (left, right) = comparable(left, right, "=")?;
        let span = left.span;
        Ok(Typed::new(Node::Same(Box::new(left.node), Box::new(right.node)), Bool, span))
    }

    /// `IN`: each item is compared as `=` would compare it, or, where all have one type, as that.
    fn among(&mut self, expr: &Expr, list: &[Expr], span: Span) -> Checked {
        let mut values = vec![self.expression(expr)?];
        for item in list {
            values.push(self.expression(item)?);
        }
        if values.iter().any(|value| value.sql_type == Bpchar) {
            let alternatives =
                list.iter().map(|item| Ok(comparison(self.expression(expr)?, "=", self.expression(item)?)?.node));
            let alternatives = alternatives.collect::<Result<Box<[Node]>, Wrong>>()?;
            return Ok(Typed::new(Node::Or(alternatives), Bool, span));
        }
        let is_enum = values[0].sql_type == SqlType::Enum;
        let sql_type = if is_enum { SqlType::Enum } else { common_type(&values.iter().collect::<Vec<_>>(), "IN")? };
        if matches!(sql_type, SqlType::Json | SqlType::Jsonb | SqlType::Opaque | SqlType::Textual) {
            return Err((span, format!("values of {sql_type} cannot be compared here; cast them to text")));
        }
        let nodes = values.into_iter().map(|value| implicit(value, sql_type).map(|value| value.node));
        let mut nodes = nodes.collect::<Result<Vec<_>, _>>()?.into_iter();
        let value = nodes.next().unwrap_or(Node::NULL);
        Ok(Typed::new(Node::In(Box::new(value), nodes.collect()), Bool, span))
    }

    fn like(&mut self, expr: &Expr, pattern: &Expr, escape: Option<&Expr>, negated: bool, folds: bool) -> Checked {
        let (value, pattern) = (self.expression(expr)?, self.expression(pattern)?);
        let escape = match escape {
            None => Some('\\'),
            Some(escape) => {
                let escape = self.expression(escape)?;
                let text = escape.literal_text().unwrap_or("  ").to_owned();
                if text.chars().count() > 1 {
                    return Err((escape.span, "ESCAPE must be a literal of one character, or empty".into()));
                }
                text.chars().next()
            }
        };
        let matched = like_typed(value, pattern, escape, folds)?;
        Ok(if negated { not(matched) } else { matched })
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[sqlparser::ast::CaseWhen],
        otherwise: Option<&Expr>,
        span: Span,
    ) -> Checked {
        let mut tests = Vec::new();
        let mut results = Vec::new();
        for branch in conditions {
            tests.push(match operand {
                Some(operand) => comparison(self.expression(operand)?, "=", self.expression(&branch.condition)?)?.node,
                None => self.condition(&branch.condition)?.node,
            });
            results.push(self.expression(&branch.result)?);
        }
        // PostgreSQL looks at the type of ELSE first.
        let otherwise = otherwise.map_or_else(|| Ok(Typed::null(span)), |otherwise| self.expression(otherwise))?;
        let sql_type = common_type(&std::iter::once(&otherwise).chain(&results).collect::<Vec<_>>(), "CASE")?;
        let mut branches = Vec::new();
        for (test, result) in tests.into_iter().zip(results) {
            branches.push((test, implicit(result, sql_type)?.node));
        }
        let otherwise = implicit(otherwise, sql_type)?.node;
        Ok(Typed::new(Node::Case(branches.into(), Box::new(otherwise)), sql_type, span))
    }

    fn extract(&mut self, field: &str, expr: &Expr, span: Span) -> Checked {
        let value = self.expression(expr)?;
        let sql_type = value.sql_type;
        let unknown = || (span, format!("EXTRACT({field} FROM {sql_type}) is not supported"));
        let function =
            time::Field::named(field).and_then(|field| time::extract(field, sql_type)).ok_or_else(unknown)?;
        let node = prepared(function, vec![value.node]).map_err(|fault| (span, fault.to_string()))?;
        Ok(Typed::new(node, Numeric, span))
    }

    fn at_zone(&mut self, timestamp: &Expr, zone: &Expr, span: Span) -> Checked {
        let value = self.expression(timestamp)?;
        let zone = self.expression(zone)?;
        let Some(name) = zone.literal_text().map(str::to_owned) else {
            return Err((zone.span, "a time zone must be a literal: 'UTC', 'Europe/Berlin'".into()));
        };
        let place = zone.span;
        let unknown =
            || (place, format!("time zone `{name}` is not known here; write a name such as 'Europe/Berlin' or 'UTC'"));
        let zone = time::zone(&name).ok_or_else(unknown)?;
        let value = if matches!(value.sql_type, Date | Literal) { implicit(value, Timestamptz)? } else { value };
        let from = value.sql_type;
        let missing = || (span, format!("{from} has no AT TIME ZONE here"));
        let (function, sql_type) = time::at_zone(zone, from).ok_or_else(missing)?;
        let node = prepared(function, vec![value.node]).map_err(|fault| (span, fault.to_string()))?;
        Ok(Typed::new(node, sql_type, span))
    }

    fn function(&mut self, function: &Function, span: Span) -> Checked {
        let Function { name, args, over: None, filter: None, null_treatment: None, within_group, .. } = function else {
            return Err((span, "window and aggregate functions are not supported: an expression sees one row".into()));
        };
        let given: &[FunctionArg] = match args {
            FunctionArguments::None => &[],
            FunctionArguments::List(list) if list.clauses.is_empty() && list.duplicate_treatment.is_none() => {
                &list.args
            }
            _ => return Err((span, "these arguments are not supported in expressions".into())),
        };
        if !within_group.is_empty() {
            return Err((span, "aggregate functions are not supported: an expression sees one row".into()));
        }
        let name = name.to_string().to_lowercase();
        let mut arguments = Vec::new();
        let mut again = Vec::new();
        for argument in given {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
                return Err((span, "arguments are written one by one, without names".into()));
            };
            again.push(expr);
            arguments.push(self.expression(expr)?);
        }
        match (name.as_str(), arguments.len()) {
            ("current_timestamp" | "now", 0) => Ok(Typed::new(self.now(), Timestamptz, span)),
            ("localtimestamp", 0) => explicit(Typed::new(self.now(), Timestamptz, span), Timestamp, -1),
            ("current_date", 0) => explicit(Typed::new(self.now(), Timestamptz, span), Date, -1),
            ("current_timestamp" | "now" | "localtimestamp" | "current_date", _) => {
                Err((span, format!("{name} takes no arguments here")))
            }
            ("nullif", 2) => {
                let mut arguments = arguments.into_iter();
                match (arguments.next(), arguments.next(), again.first()) {
                    (Some(left), Some(right), Some(first)) => functions::null_if(left, right, self.expression(first)?),
                    _ => Err((span, "NULLIF takes two arguments".into())),
                }
            }
            _ => functions::call(&name, arguments, span),
        }
    }

    fn now(&self) -> Node {
        if self.scope.clock { Node::Clock } else { Node::CommitTime }
    }
}

fn not(value: Typed) -> Typed {
    Typed::new(Node::Not(Box::new(value.node)), Bool, value.span)
}

fn integer(value: i64, span: Span) -> Typed {
    Typed::new(Node::Constant(Constant::Plain(Datum::Int(value))), Int4, span)
}

fn like_typed(value: Typed, pattern: Typed, escape: Option<char>, folds: bool) -> Checked {
    let span = value.span;
    // `char(n)` keeps its blanks here.
    let text = |value: Typed| if value.sql_type == Bpchar { Ok(value) } else { implicit(value, Text) };
    let arguments = vec![text(value)?.node, text(pattern)?.node];
    let function: super::node::Prepared = Box::new(move |a, _| {
        let [Datum::Text(text), Datum::Text(pattern)] = a else { return Err(fault::VALUE_FORM) };
        like::matches(text, pattern, escape, folds).map(Datum::Bool)
    });
    let node = prepared(function, arguments).map_err(|fault| (span, fault.to_string()))?;
    Ok(Typed::new(node, Bool, span))
}

fn literal(value: &Value, span: Span) -> Checked {
    Ok(match value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Typed::literal(text, span),
        Value::DollarQuotedString(text) => Typed::literal(&text.value, span),
        Value::Null => Typed::null(span),
        Value::Boolean(value) => Typed::new(Node::Constant(Constant::Plain(Datum::Bool(*value))), Bool, span),
        Value::Number(digits, _) => {
            let value = digits.parse::<i64>().ok();
            match value {
                Some(value) if i32::try_from(value).is_ok() => integer(value, span),
                Some(value) => Typed::new(Node::Constant(Constant::Plain(Datum::Int(value))), Int8, span),
                None => {
                    let text = Typed::literal(digits, span);
                    explicit(text, Numeric, -1)?
                }
            }
        }
        other => return Err((span, format!("a literal such as {} is not supported in expressions", kind_of(other)))),
    })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::HexStringLiteral(_) => "x'…'",
        Value::Placeholder(_) => "$1",
        _ => "this one",
    }
}

fn field_name(field: &DateTimeField) -> String {
    match field {
        DateTimeField::Custom(name) => name.value.clone(),
        field => field.to_string(),
    }
}

fn kind(expr: &Expr) -> &'static str {
    match expr {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => "a subquery",
        Expr::SimilarTo { .. } => "SIMILAR TO",
        Expr::Array(_) => "an array",
        Expr::Tuple(_) => "a row",
        Expr::Position { .. } => "POSITION",
        Expr::Overlay { .. } => "OVERLAY",
        Expr::AnyOp { .. } | Expr::AllOp { .. } => "ANY or ALL",
        Expr::Interval(_) => "an interval with fields",
        Expr::CompoundFieldAccess { .. } => "a subscript",
        _ => "this construct",
    }
}

/// The type of a cast, and its modifier as `atttypmod`.
fn named_type(data_type: &DataType) -> Result<(SqlType, i32), String> {
    let unsupported = || format!("type {data_type} is not known in expressions");
    let characters = |length: &Option<CharacterLength>| match length {
        None => Ok(-1),
        Some(CharacterLength::IntegerLength { length, unit: None }) if (1..=10_485_760).contains(length) => {
            Ok(i32::try_from(*length).map_err(|_| unsupported())? + 4)
        }
        Some(_) => Err(unsupported()),
    };
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => (Bool, -1),
        DataType::SmallInt(None) | DataType::Int2(None) => (SqlType::Int2, -1),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => (Int4, -1),
        DataType::BigInt(None) | DataType::Int8(None) => (Int8, -1),
        DataType::Real | DataType::Float4 => (SqlType::Float4, -1),
        DataType::DoublePrecision | DataType::Double(ExactNumberInfo::None) | DataType::Float8 => (SqlType::Float8, -1),
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => {
            let (precision, scale) = match info {
                ExactNumberInfo::None => return Ok((Numeric, -1)),
                ExactNumberInfo::Precision(precision) => (*precision, 0),
                ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
            };
            if !(1..=1_000).contains(&precision) || !(-1_000..=1_000).contains(&scale) {
                return Err(format!("numeric({precision},{scale}) is outside of what PostgreSQL allows"));
            }
            (Numeric, (((precision as i32) << 16) | ((scale as i32) & 0x7FF)) + 4)
        }
        DataType::Text => (Text, -1),
        DataType::Varchar(length) | DataType::CharacterVarying(length) | DataType::CharVarying(length) => {
            (Text, characters(length)?)
        }
        // Without a length it is one character.
        DataType::Char(None) | DataType::Character(None) => (Bpchar, 5),
        DataType::Char(length) | DataType::Character(length) => (Bpchar, characters(length)?),
        DataType::Bytea => (SqlType::Bytea, -1),
        DataType::Date => (Date, -1),
        DataType::Time(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => (SqlType::Time, -1),
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => (Timestamp, -1),
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => (Timestamptz, -1),
        DataType::Interval { .. } => (SqlType::Interval, -1),
        DataType::JSON => (SqlType::Json, -1),
        DataType::JSONB => (SqlType::Jsonb, -1),
        DataType::Uuid => (SqlType::Uuid, -1),
        other => match SqlType::named(&other.to_string().to_lowercase()) {
            Some(named) => (named, -1),
            None => return Err(unsupported()),
        },
    })
}
