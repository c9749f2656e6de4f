//! Which tables to capture: names, globs and regular expressions over the catalog's tables.

use regex::Regex;

/// A table of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CatalogTable {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Whether it is a partition of another one.
    pub is_partition: bool,
}

/// One entry of `cdc_config.postgresql.tables`.
///
/// `schema.table` with a missing schema meaning `public`; no case folding; parts in double quotes are taken as they
/// are, elsewhere `*` and `?` are globs; `/…/` is a regular expression over all of `schema.table`.
#[derive(Debug, Clone)]
pub struct TablePattern {
    text: String,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// `name` is there where no glob is.
    Parts {
        schema: Regex,
        table: Regex,
        name: Option<(String, String)>,
    },
    Whole(Regex),
}

/// Entries that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Not a pattern.
    #[error("tables: {text:?}: {reason}")]
    Pattern {
        /// The entry.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing of that name.
    #[error(
        "tables: {0:?} matches no table; names are case-sensitive, a missing schema means public, and \
         only permanent tables can be captured"
    )]
    NoMatch(String),
    /// No entries.
    #[error("tables: name at least one table, for example [users, \"sales.*\"]")]
    Empty,
}

impl TablePattern {
    /// Parses an entry.
    ///
    /// # Errors
    ///
    /// An unclosed quote, more than two parts, or a bad regular expression.
    pub fn parse(text: &str) -> Result<Self, SelectionError> {
        let failed = |reason: String| SelectionError::Pattern { text: text.to_owned(), reason };
        let compile = |pattern: &str| Regex::new(&format!("^(?:{pattern})$")).map_err(|e| failed(e.to_string()));
        if let Some(inner) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            return Ok(Self { text: text.to_owned(), matcher: Matcher::Whole(compile(inner)?) });
        }
        let mut parts = split(text).map_err(failed)?;
        if parts.len() == 1 {
            parts.insert(0, Part { pattern: "public".to_owned(), name: Some("public".to_owned()) });
        }
        let [schema, table] = parts.as_slice() else {
            return Err(failed("write table, schema.table, or /regular expression/".to_owned()));
        };
        let matcher = Matcher::Parts {
            schema: compile(&schema.pattern)?,
            table: compile(&table.pattern)?,
            name: schema.name.clone().zip(table.name.clone()),
        };
        Ok(Self { text: text.to_owned(), matcher })
    }

    fn matches(&self, table: &CatalogTable) -> bool {
        match &self.matcher {
            Matcher::Whole(regex) => {
                !table.is_partition && regex.is_match(&format!("{}.{}", table.schema, table.table))
            }
            // A partition is captured through its root unless it is named itself.
            Matcher::Parts { schema, table: pattern, name } => {
                (name.is_some() || !table.is_partition)
                    && schema.is_match(&table.schema)
                    && pattern.is_match(&table.table)
            }
        }
    }

    /// Schema and table, if the entry is the name of one table.
    #[must_use]
    pub fn name(&self) -> Option<(&str, &str)> {
        match &self.matcher {
            Matcher::Parts { name: Some((schema, table)), .. } => Some((schema, table)),
            Matcher::Parts { .. } | Matcher::Whole(_) => None,
        }
    }

    /// The entry as one regular expression over all of `schema.table`, as Debezium's `table.include.list` takes it.
    #[must_use]
    pub fn regex(&self) -> String {
        let inner = |regex: &Regex| {
            let text = regex.as_str();
            text.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(text).to_owned()
        };
        match &self.matcher {
            Matcher::Whole(regex) => format!("(?:{})", inner(regex)),
            Matcher::Parts { schema, table, .. } => format!("{}\\.{}", inner(schema), inner(table)),
        }
    }
}

struct Part {
    pattern: String,
    /// What the part says where it holds no glob.
    name: Option<String>,
}

impl Part {
    fn empty() -> Self {
        Self { pattern: String::new(), name: Some(String::new()) }
    }

    fn push(&mut self, character: char) {
        self.pattern.push_str(&regex::escape(&character.to_string()));
        if let Some(name) = &mut self.name {
            name.push(character);
        }
    }
}

/// Splits at dots outside quotes and turns each part into a regular expression.
fn split(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut part = Part::empty();
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::replace(&mut part, Part::empty())),
            '*' | '?' if !quoted => {
                part.pattern.push_str(if character == '*' { ".*" } else { "." });
                part.name = None;
            }
            other => part.push(other),
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    parts.push(part);
    if parts.iter().any(|part| part.pattern.is_empty()) {
        return Err("a part is empty".to_owned());
    }
    Ok(parts)
}

/// The tables that the entries select, sorted, each once.
///
/// # Errors
///
/// An entry that is no pattern or selects nothing.
pub fn select(entries: &[String], catalog: &[CatalogTable]) -> Result<Vec<CatalogTable>, SelectionError> {
    if entries.is_empty() {
        return Err(SelectionError::Empty);
    }
    let mut selected = Vec::new();
    for entry in entries {
        let pattern = TablePattern::parse(entry)?;
        let before = selected.len();
        selected.extend(catalog.iter().filter(|table| pattern.matches(table)).cloned());
        if selected.len() == before {
            return Err(SelectionError::NoMatch(pattern.text));
        }
    }
    selected.sort();
    selected.dedup();
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Vec<CatalogTable> {
        let table = |schema: &str, table: &str, is_partition| CatalogTable {
            schema: schema.into(),
            table: table.into(),
            is_partition,
        };
        vec![
            table("public", "users", false),
            table("public", "Users", false),
            table("public", "a*b", false),
            table("public", "axb", false),
            table("sales", "orders", false),
            table("sales", "orders_2026", true),
            table("Sch ema", "Sel\"ect.x", false),
        ]
    }

    fn names(entries: &[&str]) -> Result<Vec<String>, SelectionError> {
        let entries: Vec<String> = entries.iter().map(|&e| e.to_owned()).collect();
        Ok(select(&entries, &catalog())?.into_iter().map(|t| format!("{}.{}", t.schema, t.table)).collect())
    }

    #[test]
    fn names_are_not_folded_and_a_missing_schema_is_public() {
        assert_eq!(names(&["users"]).unwrap(), ["public.users"]);
        assert_eq!(names(&["\"Sch ema\".\"Sel\"\"ect.x\""]).unwrap(), ["Sch ema.Sel\"ect.x"]);
    }

    #[test]
    fn globs_work_outside_quotes_only() {
        assert_eq!(names(&["a*b"]).unwrap(), ["public.a*b", "public.axb"]);
        assert_eq!(names(&["\"a*b\""]).unwrap(), ["public.a*b"]);
    }

    #[test]
    fn partitions_come_through_their_root_unless_named() {
        assert_eq!(names(&["sales.*"]).unwrap(), ["sales.orders"]);
        assert_eq!(names(&["sales.orders_2026"]).unwrap(), ["sales.orders_2026"]);
    }

    #[test]
    fn regular_expressions_cover_the_whole_name() {
        assert_eq!(names(&["/sales\\.ord.*/"]).unwrap(), ["sales.orders"]);
        assert_eq!(names(&["/ales.*/"]), Err(SelectionError::NoMatch("/ales.*/".into())));
    }

    #[test]
    fn an_entry_is_also_one_regular_expression() {
        let of = |text: &str| TablePattern::parse(text).unwrap();
        assert_eq!(of("users").regex(), "public\\.users");
        assert_eq!(of("users").name(), Some(("public", "users")));
        assert_eq!(of("sales.*").regex(), "sales\\..*");
        assert_eq!(of("sales.*").name(), None);
        assert_eq!(of("\"Sch ema\".\"a\"\"b.c*\"").name(), Some(("Sch ema", "a\"b.c*")));
        assert_eq!(of("/a|b/").regex(), "(?:a|b)");
    }

    #[test]
    fn what_selects_nothing_is_named() {
        assert_eq!(names(&["users", "nope"]), Err(SelectionError::NoMatch("nope".into())));
        assert!(matches!(names(&["\"open"]), Err(SelectionError::Pattern { .. })));
        assert!(matches!(names(&["a.b.c"]), Err(SelectionError::Pattern { .. })));
        assert_eq!(names(&[]), Err(SelectionError::Empty));
    }
}
