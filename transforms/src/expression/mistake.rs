//! What is wrong with an expression, and where.

use std::fmt;

use sqlparser::tokenizer::Span;

/// A mistake in an expression's text. Prints the line with a caret under the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong.
    pub reason: String,
    /// The line of the expression it is in, literals hidden where they may be secrets.
    pub line: String,
    /// The place in the line, from 0, in characters.
    pub column: usize,
}

impl std::error::Error for Mistake {}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    {}\n    {:>width$}", self.reason, self.line, "^", width = self.column + 1)
    }
}

impl Mistake {
    pub(super) fn new(text: &str, at: Span, reason: impl Into<String>) -> Self {
        let number = usize::try_from(at.start.line).unwrap_or(1).max(1);
        let column = usize::try_from(at.start.column).unwrap_or(1).max(1) - 1;
        Self { reason: reason.into(), line: shown(text).lines().nth(number - 1).unwrap_or_default().to_owned(), column }
    }
}

/// The key of a hash may come from a secret: no literal of such an expression is shown.
fn shown(text: &str) -> String {
    if !text.to_ascii_uppercase().contains("HMAC") {
        return text.to_owned();
    }
    let mut quoted = false;
    let hide = |character: char| match character {
        '\'' => {
            quoted = !quoted;
            '\''
        }
        '\n' => '\n',
        _ if quoted => '*',
        other => other,
    };
    text.chars().map(hide).collect()
}
