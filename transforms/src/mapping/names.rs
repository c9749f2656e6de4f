//! Which tables a mapping is about, and where they go.

use std::fmt;

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;

/// The `source_table` of a mapping: SQL-quoted parts, globs outside of quotes, or `/…/`, a regular expression over
/// `schema.table`. A missing schema is `public`.
#[derive(Debug, Clone)]
pub struct SourceTable {
    text: String,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Name { schema: String, table: String },
    Glob { schema: GlobMatcher, table: GlobMatcher },
    Regex(Regex),
}

impl fmt::Display for SourceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A part of a name: its text, and whether it has a glob outside of quotes.
struct Part {
    text: String,
    pattern: String,
    is_glob: bool,
}

impl SourceTable {
    /// Reads a `source_table`.
    ///
    /// # Errors
    ///
    /// It is malformed; the text says how.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|inner| !inner.is_empty());
        let form = match inner {
            Some(inner) => {
                let whole = Regex::new(&format!("^(?:{inner})$"));
                Form::Regex(whole.map_err(|error| format!("is not a regular expression: {error}"))?)
            }
            None => {
                let (schema, table) = two_parts(text)?;
                if schema.is_glob || table.is_glob {
                    Form::Glob { schema: glob(&schema)?, table: glob(&table)? }
                } else {
                    Form::Name { schema: schema.text, table: table.text }
                }
            }
        };
        Ok(Self { text: text.to_owned(), form })
    }

    /// One table.
    pub(super) fn named((schema, table): &(String, String)) -> Self {
        let form = Form::Name { schema: schema.clone(), table: table.clone() };
        Self { text: format!("{schema}.{table}"), form }
    }

    /// Whether it is one table's name. Such a mapping wins over patterns.
    #[must_use]
    pub fn is_name(&self) -> bool {
        matches!(self.form, Form::Name { .. })
    }

    /// The schema and table where it is one table's name.
    #[must_use]
    pub fn name(&self) -> Option<(String, String)> {
        match &self.form {
            Form::Name { schema, table } => Some((schema.clone(), table.clone())),
            Form::Glob { .. } | Form::Regex(_) => None,
        }
    }

    /// Whether `target_table` may name groups.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        matches!(self.form, Form::Regex(_))
    }

    /// Whether it means the table.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        match &self.form {
            Form::Name { schema: own, table: name } => own == schema && name == table,
            Form::Glob { schema: own, table: name } => own.is_match(schema) && name.is_match(table),
            Form::Regex(regex) => regex.is_match(&format!("{schema}.{table}")),
        }
    }

    /// The target's schema and table for a source table that matches; `$1` is the regular expression's first group.
    pub(super) fn target(&self, target: &str, schema: &str, table: &str) -> Result<(String, String), String> {
        let expanded = match &self.form {
            Form::Regex(regex) => {
                let name = format!("{schema}.{table}");
                let mut out = String::new();
                if let Some(captures) = regex.captures(&name) {
                    captures.expand(target, &mut out);
                }
                out
            }
            Form::Name { .. } | Form::Glob { .. } => target.to_owned(),
        };
        let (schema, table) = two_parts(&expanded)?;
        Ok((schema.text, table.text))
    }
}

/// Checks a `target_table` as far as it can be without a source table.
///
/// # Errors
///
/// It is malformed; the text says how.
pub fn check_target(target: &str, source: &SourceTable) -> Result<(), String> {
    if source.has_groups() {
        return Ok(());
    }
    if target.contains('$') && !target.contains('"') {
        return Err("names a group such as $1, which only a source_table between slashes has".into());
    }
    let (schema, table) = two_parts(target)?;
    if schema.is_glob || table.is_glob { Err("must be one table's name".into()) } else { Ok(()) }
}

fn glob(part: &Part) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(&part.pattern).build();
    Ok(glob.map_err(|error| format!("is no pattern: {error}"))?.compile_matcher())
}

fn two_parts(text: &str) -> Result<(Part, Part), String> {
    let mut parts = parts(text)?.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(schema), Some(table), None) => Ok((schema, table)),
        (Some(table), None, None) => {
            Ok((Part { text: "public".into(), pattern: "public".into(), is_glob: false }, table))
        }
        _ => Err("is no table's name: write table or schema.table".into()),
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let empty = || Part { text: String::new(), pattern: String::new(), is_glob: false };
    let mut parts = vec![empty()];
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        let Some(part) = parts.last_mut() else { break };
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                part.text.push('"');
                part.pattern.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(empty()),
            special @ ('*' | '?' | '[' | ']' | '{' | '}' | '\\') => {
                part.text.push(special);
                if quoted {
                    part.pattern.extend(['[', special, ']']);
                } else {
                    part.pattern.push(special);
                    part.is_glob |= matches!(special, '*' | '?' | '[');
                }
            }
            other => {
                part.text.push(other);
                part.pattern.push(other);
            }
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    if parts.iter().any(|part| part.text.is_empty()) { Err("has an empty part".into()) } else { Ok(parts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SourceTable {
        SourceTable::parse(text).unwrap()
    }

    #[test]
    fn names_globs_and_regular_expressions_match() {
        assert!(source("users").matches("public", "users"));
        assert!(!source("users").matches("sales", "users"));
        assert!(source("\"Sch ema\".\"Sel.ect\"").matches("Sch ema", "Sel.ect"));
        assert!(source("sales.*").matches("sales", "orders"));
        assert!(!source("\"sales\".\"*\"").matches("sales", "orders"));
        assert!(source(r"/shard_\d+\.orders/").matches("shard_12", "orders"));
        assert!(!source(r"/shard_\d+\.orders/").matches("shard_12", "orders_old"));
    }

    #[test]
    fn groups_name_the_target() {
        let regex = source(r"/(shard_\d+)\.(.*)/");
        let target = regex.target("all.${2}_$1", "shard_1", "orders").unwrap();
        assert_eq!(target, ("all".into(), "orders_shard_1".into()));
        assert_eq!(source("a").target("b.c", "public", "a").unwrap(), ("b".into(), "c".into()));
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in ["a.b.c", "", "a.", "\"a", "/(/"] {
            assert!(SourceTable::parse(text).is_err(), "{text}");
        }
        assert!(check_target("x_$1", &source("users")).is_err());
        assert!(check_target("x_*", &source("users")).is_err());
    }
}
