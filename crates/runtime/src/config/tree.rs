//! YAML text to a tree that remembers lines. Scalars stay text: what they mean is for the table of keys to say, so
//! that the password `0123` keeps its zero and `no` is not a truth value.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::Value;

use super::Problem;

/// One value and the line it starts on, from 1.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) data: Data,
}

impl Node {
    /// The same without lines.
    pub(super) fn into_value(self) -> Value {
        match self.data {
            Data::Null => Value::Null,
            Data::Scalar(text) => Value::String(text),
            Data::List(items) => items.into_iter().map(Self::into_value).collect(),
            Data::Map(entries) => entries.into_iter().map(|entry| (entry.key, entry.value.into_value())).collect(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

/// No configuration is deeper or larger; a file that is, by way of aliases, is an attack or an accident.
const DEPTH: usize = 32;
const NODES: usize = 100_000;

/// Reads exactly one document.
pub(super) fn read(text: &str) -> Result<Node, Problem> {
    document(text).map_err(|problem| hint(problem, text))
}

/// Between braces YAML ends a bare word at the next brace, which surprises everyone who writes `{password: ${NAME}}`.
fn hint(mut problem: Problem, text: &str) -> Problem {
    let lines = problem.line.into_iter().flat_map(|line| text.lines().skip(line.saturating_sub(2)).take(2));
    if lines.into_iter().any(|line| line.contains("${")) {
        problem.text.push_str(" (inside {…} and […] put quotes around `${…}`)");
    }
    problem
}

fn document(text: &str) -> Result<Node, Problem> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if root.is_some() => return Err(problem(span.start.line(), "more than one YAML document")),
            event => root = Some(reader.node(event, span, 0)?),
        }
    }
    Ok(root.unwrap_or(Node { line: 1, data: Data::Null }))
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(problem(error.marker().line(), &format!("not valid YAML: {}", error.info()))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let line = span.start.line();
        self.count(1, line)?;
        if depth > DEPTH {
            return Err(problem(line, "nested too deeply"));
        }
        let (data, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                no_tag(tag.as_deref(), line)?;
                (scalar(text, style), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.as_deref(), line)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.as_deref(), line)?;
                (self.map(depth)?, anchor)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| problem(line, "an alias inside of what it stands for"))?;
                self.count(size(&node), line)?;
                return Ok(Node { line, data: node.data });
            }
            _ => return Err(problem(line, "not valid YAML: a value is missing")),
        };
        let node = Node { line, data };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Data, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Data::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Data, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Data::Map(entries)),
                (Event::Scalar(key, ..), span) => (key.into_owned(), span.start.line()),
                (_, span) => return Err(problem(span.start.line(), "a key that is not a plain text")),
            };
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let text = format!("the key `{key}` stands here twice (first on line {})", first.line);
                return Err(problem(line, &text));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            entries.push(Entry { key, line, value });
        }
    }

    fn count(&mut self, more: usize, line: usize) -> Result<(), Problem> {
        self.nodes += more;
        if self.nodes > NODES { Err(problem(line, "too large for a configuration")) } else { Ok(()) }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Data {
    let plain = matches!(style, ScalarStyle::Plain);
    if plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL") {
        return Data::Null;
    }
    Data::Scalar(text.into_owned())
}

fn no_tag(tag: Option<&saphyr_parser::Tag>, line: usize) -> Result<(), Problem> {
    match tag {
        None => Ok(()),
        Some(tag) => Err(problem(line, &format!("YAML tags are not used here: remove `{}{}`", tag.handle, tag.suffix))),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.data {
        Data::Null | Data::Scalar(_) => 0,
        Data::List(items) => items.iter().map(size).sum(),
        Data::Map(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
    }
}

fn problem(line: usize, text: &str) -> Problem {
    Problem { path: String::new(), line: Some(line.max(1)), text: text.to_owned() }
}
