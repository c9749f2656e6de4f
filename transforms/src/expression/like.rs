//! `LIKE` and `ILIKE`.

use crate::fault::{self, Fault};

/// Whether the text matches the pattern: `%` is anything, `_` one character, what follows `escape` itself.
/// `folds` ignores the case of ASCII letters, which is all that collation "C" knows of.
pub(super) fn matches(text: &str, pattern: &str, escape: Option<char>, folds: bool) -> Result<bool, Fault> {
    // Where to go on with one more character under the last `%`.
    let mut retry: Option<(&str, &str)> = None;
    let (mut text, mut pattern) = (text, pattern);
    let same = |a: char, b: char| a == b || (folds && a.eq_ignore_ascii_case(&b));
    loop {
        let mut rest = pattern.chars();
        let mut wanted = rest.next();
        let escaped = wanted.is_some() && wanted == escape;
        if escaped {
            if text.is_empty() && retry.is_none() {
                return Ok(false);
            }
            wanted = Some(rest.next().ok_or(fault::LIKE_ESCAPE)?);
        }
        if wanted == Some('%') && !escaped {
            pattern = rest.as_str();
            if pattern.is_empty() {
                return Ok(true);
            }
            retry = Some((text, pattern));
            continue;
        }
        let mut left = text.chars();
        match (wanted, left.next()) {
            (None, None) => return Ok(true),
            (Some(wanted), Some(found)) if (wanted == '_' && !escaped) || same(wanted, found) => {
                text = left.as_str();
                pattern = rest.as_str();
                continue;
            }
            (Some(_), None) => return Ok(false),
            _ => {}
        }
        let Some((from, behind)) = retry else { return Ok(false) };
        let mut skipped = from.chars();
        if skipped.next().is_none() {
            return Ok(false);
        }
        text = skipped.as_str();
        pattern = behind;
        retry = Some((text, pattern));
    }
}
