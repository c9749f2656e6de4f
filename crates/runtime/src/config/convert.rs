//! The tree of a file to the value of the raw type, key by key along the table.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::duration::parse_duration;
use super::field::{find, join, nearest};
use super::interpolate::interpolate;
use super::tree::{Data, Entry, Node};
use super::{Environment, Field, Kind, Preset, Problem};

/// One pass over a file. It goes on after a problem, so that a user sees all of them at once.
pub(super) struct Walk<'a> {
    fields: &'static [Field],
    environment: &'a Environment<'a>,
    pub(super) lines: BTreeMap<String, usize>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(fields: &'static [Field], environment: &'a Environment<'a>) -> Self {
        Self { fields, environment, lines: BTreeMap::new(), problems: Vec::new() }
    }

    pub(super) fn root(&mut self, root: &Node) -> Value {
        match &root.data {
            Data::Map(entries) => self.section(self.fields, entries, "", root.line),
            Data::Null => {
                self.refuse("", root.line, "the file is empty");
                Value::Null
            }
            Data::Scalar(_) | Data::List(_) => {
                self.refuse("", root.line, "expected keys and values at the top of the file");
                Value::Null
            }
        }
    }

    fn section(&mut self, fields: &'static [Field], entries: &[Entry], prefix: &str, line: usize) -> Value {
        for entry in entries {
            let path = join(prefix, &entry.key);
            self.lines.insert(path.clone(), entry.line);
            if family(fields, &entry.key).is_none() && !fields.iter().any(|field| field.key == entry.key) {
                let text = self.unknown(fields, &entry.key);
                self.refuse(&path, entry.line, &text);
            }
        }
        let mut out = Map::new();
        for field in fields.iter().filter(|field| matches!(field.kind, Kind::Family)) {
            let members = entries.iter().filter(|entry| entry.key.len() > field.key.len());
            let mut found = Map::new();
            for entry in members.filter(|entry| entry.key.starts_with(field.key)) {
                if let Some(text) = self.item(&entry.value, &join(prefix, &entry.key), false) {
                    found.insert(entry.key.clone(), Value::String(text));
                }
            }
            out.insert(field.key.to_owned(), Value::Object(found));
        }
        for field in fields.iter().filter(|field| !matches!(field.kind, Kind::Family)) {
            let path = join(prefix, field.key);
            let written = entries.iter().find(|entry| entry.key == field.key);
            let value = match written {
                Some(Entry { value: node, .. }) if !matches!(node.data, Data::Null) => {
                    match (self.value(field, node, &path), field.preset) {
                        (None, Preset::Is(_)) if self.is_unused(&path) => self.missing(field, &path, node.line),
                        (value, _) => value,
                    }
                }
                _ => {
                    let line = written.map_or(line, |entry| entry.line);
                    self.missing(field, &path, line)
                }
            };
            if let Some(value) = value {
                out.insert(field.key.to_owned(), value);
            }
        }
        Value::Object(out)
    }

    fn unknown(&self, fields: &[Field], key: &str) -> String {
        if let Some(name) = nearest(key, fields.iter().map(|field| field.key)) {
            return format!("unknown key: did you mean `{name}`?");
        }
        if let Some(path) = find(self.fields, key, "") {
            return format!("unknown key here: did you mean `{path}`?");
        }
        let known: Vec<&str> = fields.iter().filter(|field| !field.kind.is_refused()).map(|field| field.key).collect();
        format!("unknown key; known here: {}", known.join(", "))
    }

    fn missing(&mut self, field: &'static Field, path: &str, line: usize) -> Option<Value> {
        match (field.preset, &field.kind) {
            (Preset::Absent(_), _) => None,
            (Preset::Required, _) => {
                self.refuse(path, line, "is required");
                None
            }
            (Preset::Is(_), Kind::Section(fields)) => Some(self.section(fields, &[], path, line)),
            (Preset::Is(_), Kind::Map) => Some(json!({})),
            (Preset::Is(""), Kind::Texts | Kind::Sections(_) | Kind::Named(_)) => Some(json!([])),
            (Preset::Is(text), _) => self.scalar(field, text, path, line),
        }
    }

    fn value(&mut self, field: &'static Field, node: &Node, path: &str) -> Option<Value> {
        match (&field.kind, &node.data) {
            (Kind::Later, _) => {
                self.refuse(path, node.line, "is not supported yet: remove it");
                None
            }
            (Kind::Refused(why), _) => {
                self.refuse(path, node.line, &format!("cannot stand here: {why}"));
                None
            }
            (Kind::Elsewhere(home), _) => {
                self.refuse(path, node.line, &format!("has a key of its own: set `{home}` instead"));
                None
            }
            (Kind::Section(fields), Data::Map(entries)) => Some(self.section(fields, entries, path, node.line)),
            (Kind::Section(_), _) => {
                self.refuse(path, node.line, "expected keys and values");
                None
            }
            (Kind::Sections(fields), Data::List(items)) => Some(self.sections(fields, items, path)),
            (Kind::Sections(_), _) => {
                self.refuse(path, node.line, "expected a list: put `-` before each item");
                None
            }
            (Kind::Named(fields), Data::Map(entries)) => Some(self.named(fields, entries, path)),
            (Kind::Named(_), _) => {
                self.refuse(path, node.line, "expected names, each with keys and values below it");
                None
            }
            (Kind::Map, Data::Map(entries)) => Some(self.map(entries, path)),
            (Kind::Map, _) => {
                self.refuse(path, node.line, "expected names and values");
                None
            }
            (Kind::Texts, Data::List(items)) => {
                let texts = items.iter().enumerate();
                let texts = texts.map(|(number, item)| {
                    let path = format!("{path}[{number}]");
                    self.lines.insert(path.clone(), item.line);
                    self.item(item, &path, false)
                });
                let texts: Vec<Option<String>> = texts.collect();
                texts.into_iter().collect::<Option<Vec<String>>>().map(|texts| json!(texts))
            }
            (Kind::Texts, _) => self.item(node, path, false).map(|text| json!([text])),
            (_, Data::Scalar(text)) => {
                let secret = matches!(field.kind, Kind::Secret);
                let text = self.resolve(text, path, node.line, secret)?;
                self.scalar_from(field, &text, path, node)
            }
            (_, _) => {
                self.refuse(path, node.line, "expected a single value");
                None
            }
        }
    }

    fn sections(&mut self, fields: &'static [Field], items: &[Node], path: &str) -> Value {
        let items = items.iter().enumerate();
        items
            .filter_map(|(number, item)| self.one_of_several(fields, item, &format!("{path}[{number}]"), item.line))
            .collect()
    }

    /// Pairs of name and section: a map would not say in which order they were written.
    fn named(&mut self, fields: &'static [Field], entries: &[Entry], path: &str) -> Value {
        let mut sections = Vec::with_capacity(entries.len());
        for Entry { key, line, value } in entries {
            sections
                .extend(self.one_of_several(fields, value, &join(path, key), *line).map(|value| json!([key, value])));
        }
        Value::Array(sections)
    }

    fn one_of_several(&mut self, fields: &'static [Field], node: &Node, path: &str, line: usize) -> Option<Value> {
        self.lines.insert(path.to_owned(), line);
        match &node.data {
            Data::Map(entries) => Some(self.section(fields, entries, path, line)),
            Data::Null | Data::Scalar(_) | Data::List(_) => {
                self.refuse(path, line, "expected keys and values");
                None
            }
        }
    }

    fn map(&mut self, entries: &[Entry], path: &str) -> Value {
        let mut out = Map::new();
        for entry in entries {
            let path = join(path, &entry.key);
            self.lines.insert(path.clone(), entry.line);
            if let Some(text) = self.item(&entry.value, &path, true) {
                out.insert(entry.key.clone(), Value::String(text));
            }
        }
        Value::Object(out)
    }

    fn item(&mut self, node: &Node, path: &str, secret: bool) -> Option<String> {
        let Data::Scalar(text) = &node.data else {
            self.refuse(path, node.line, "expected a text");
            return None;
        };
        self.resolve(text, path, node.line, secret)
    }

    fn resolve(&mut self, text: &str, path: &str, line: usize, secret: bool) -> Option<String> {
        let Environment { variables, secrets, .. } = self.environment;
        match interpolate(text, secrets.filter(|_| secret).unwrap_or(*variables)) {
            Ok(text) => Some(text),
            Err(_) if self.is_unused(path) => None,
            Err(error) => {
                self.refuse(path, line, &error);
                None
            }
        }
    }

    fn is_unused(&self, path: &str) -> bool {
        (self.environment.unused)(path)
    }

    /// What the file says is shown as it stands there: a variable's value may be a secret in the wrong place.
    fn scalar_from(&mut self, field: &'static Field, text: &str, path: &str, node: &Node) -> Option<Value> {
        let shown = match &node.data {
            Data::Scalar(written) => written.as_str(),
            Data::Null | Data::List(_) | Data::Map(_) => "",
        };
        match interpret(&field.kind, text) {
            Ok(value) => Some(value),
            Err(error) if matches!(field.kind, Kind::Secret) => {
                self.refuse(path, node.line, &error);
                None
            }
            Err(error) => {
                self.refuse(path, node.line, &format!("`{shown}` {error}"));
                None
            }
        }
    }

    fn scalar(&mut self, field: &'static Field, text: &str, path: &str, line: usize) -> Option<Value> {
        match interpret(&field.kind, text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(path, line, &format!("`{text}` {error}"));
                None
            }
        }
    }

    fn refuse(&mut self, path: &str, line: usize, text: &str) {
        self.problems.push(Problem { path: path.to_owned(), line: Some(line), text: text.to_owned() });
    }
}

/// The family that a key belongs to.
fn family<'f>(fields: &'f [Field], key: &str) -> Option<&'f Field> {
    let belongs = |field: &Field| key.len() > field.key.len() && key.starts_with(field.key);
    fields.iter().find(|field| matches!(field.kind, Kind::Family) && belongs(field))
}

/// A scalar's text as its kind wants it; an error in words that follow the value.
fn interpret(kind: &Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Text if text.trim().is_empty() => Err("is empty".to_owned()),
        Kind::Integer { min, max } => match text.replace('_', "").parse::<u64>() {
            Ok(number) if (*min..=*max).contains(&number) => Ok(json!(number)),
            _ => Err(format!("is not a whole number from {min} to {max}")),
        },
        Kind::Boolean => match text {
            "true" | "True" | "TRUE" => Ok(json!(true)),
            "false" | "False" | "FALSE" => Ok(json!(false)),
            _ => Err("is neither true nor false".to_owned()),
        },
        Kind::Duration { min_s, max_s } => {
            let duration = parse_duration(text)?;
            if (*min_s..=*max_s).contains(&duration.as_secs()) {
                Ok(json!({"secs": duration.as_secs(), "nanos": duration.subsec_nanos()}))
            } else {
                Err(format!("is out of range: {min_s}s to {max_s}s"))
            }
        }
        Kind::Choice { works, later } => choice(works, later, text),
        Kind::Text | Kind::Verbatim | Kind::Secret | Kind::Texts | Kind::Map => Ok(json!(text)),
        Kind::Section(_)
        | Kind::Sections(_)
        | Kind::Named(_)
        | Kind::Family
        | Kind::Later
        | Kind::Refused(_)
        | Kind::Elsewhere(_) => Err("is not a single value".to_owned()),
    }
}

fn choice(works: &[&str], later: &[&str], text: &str) -> Result<Value, String> {
    if works.contains(&text) {
        return Ok(json!(text));
    }
    let known = works.join(", ");
    if later.contains(&text) {
        return Err(format!("is not supported yet; supported: {known}"));
    }
    match nearest(text, works.iter().copied()) {
        Some(name) => Err(format!("is not known: did you mean `{name}`?")),
        None => Err(format!("is not known; supported: {known}")),
    }
}
