//! A checked part of an expression: its node, its type and its place.

use bumpalo::Bump;
use sqlparser::tokenizer::Span;

use super::node::{Constant, Env, Node, Prepared, Strict};
use super::{Context, Row};
use crate::datum::Datum;
use crate::fault::Fault;
use crate::sql_type::SqlType;

/// A node with its type.
pub(super) struct Typed {
    pub(super) node: Node,
    pub(super) sql_type: SqlType,
    /// `atttypmod` where a cast gave one.
    pub(super) modifier: i32,
    pub(super) span: Span,
}

impl Typed {
    pub(super) fn new(node: Node, sql_type: SqlType, span: Span) -> Self {
        Self { node, sql_type, modifier: -1, span }
    }

    pub(super) fn literal(text: &str, span: Span) -> Self {
        Self::new(Node::Constant(Constant::Text(text.into())), SqlType::Literal, span)
    }

    pub(super) fn null(span: Span) -> Self {
        Self::new(Node::NULL, SqlType::Literal, span)
    }

    /// The text of a literal in quotes.
    pub(super) fn literal_text(&self) -> Option<&str> {
        match self.node.constant() {
            Some(Datum::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.node.constant(), Some(Datum::Null))
    }
}

/// A strict call, computed at once where all arguments are literals, and NULL where one of them is.
pub(super) fn call(function: Strict, arguments: Vec<Node>) -> Result<Node, Fault> {
    fold(arguments, |arguments| Node::Call(function, arguments))
}

/// The same for a prepared function.
pub(super) fn prepared(function: Prepared, arguments: Vec<Node>) -> Result<Node, Fault> {
    fold(arguments, |arguments| Node::Prepared(function, arguments))
}

fn fold(arguments: Vec<Node>, make: impl FnOnce(Box<[Node]>) -> Node) -> Result<Node, Fault> {
    let constant = |node: &Node| matches!(node, Node::Constant(_));
    if arguments.iter().any(|node| matches!(node.constant(), Some(Datum::Null))) {
        return Ok(Node::NULL);
    }
    let all = arguments.iter().all(constant);
    let node = make(arguments.into());
    if !all {
        return Ok(node);
    }
    let bump = Bump::new();
    let row = Row { after: &[], before: &[], context: Context::default() };
    let datum = node.eval(&Env { row: &row, bump: &bump })?;
    Ok(Constant::of(datum).map_or(Node::NULL, Node::Constant))
}
