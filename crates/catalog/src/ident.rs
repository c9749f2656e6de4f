//! Identifiers in SQL text: the one place where a name becomes part of a statement.

/// PostgreSQL's longest identifier in bytes (`NAMEDATALEN - 1`).
const IDENTIFIER_LENGTH: usize = 63;

/// A name that cannot be an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    /// PostgreSQL has no zero-length identifiers.
    #[error("a name is empty; give every schema, table and column a name")]
    Empty,
    /// The protocol's strings end at a NUL.
    #[error("the name {name:?} holds a NUL byte, which no database name can hold")]
    Nul {
        /// The name.
        name: String,
    },
    /// PostgreSQL would cut the name off silently and mean another object.
    #[error(
        "the name {name:?} is {length} bytes long, PostgreSQL keeps {IDENTIFIER_LENGTH}; write the name as the catalog has it"
    )]
    TooLong {
        /// The name.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
}

/// The name as a quoted identifier: `"`, the name with its quotes doubled, `"`.
///
/// # Errors
///
/// A name that is empty, holds a NUL or is longer than 63 bytes.
pub fn quote_identifier(name: &str) -> Result<String, IdentError> {
    if name.is_empty() {
        return Err(IdentError::Empty);
    }
    if name.contains('\0') {
        return Err(IdentError::Nul { name: name.to_owned() });
    }
    if name.len() > IDENTIFIER_LENGTH {
        return Err(IdentError::TooLong { name: name.to_owned(), length: name.len() });
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// `"schema"."table"`.
///
/// # Errors
///
/// As [`quote_identifier`].
pub fn qualified(schema: &str, table: &str) -> Result<String, IdentError> {
    Ok(format!("{}.{}", quote_identifier(schema)?, quote_identifier(table)?))
}

/// The text as a string literal of SQL: `'it''s'`. Backslashes stand for themselves (`standard_conforming_strings`).
///
/// A NUL, which no PostgreSQL string holds, is left out.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quote_identifier("users").unwrap(), "\"users\"");
        assert_eq!(qualified("Sch ema", "a\"b").unwrap(), "\"Sch ema\".\"a\"\"b\"");
        assert_eq!(quote_literal("it's \\"), "'it''s \\'");
    }

    #[test]
    fn names_that_postgresql_would_change_are_refused() {
        assert_eq!(quote_identifier(""), Err(IdentError::Empty));
        assert!(matches!(quote_identifier("a\0b"), Err(IdentError::Nul { .. })));
        assert!(quote_identifier(&"é".repeat(31)).is_ok());
        assert!(matches!(quote_identifier(&"é".repeat(32)), Err(IdentError::TooLong { length: 64, .. })));
    }
}
