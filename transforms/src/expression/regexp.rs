//! `REGEXP_REPLACE`: the part of PostgreSQL's regular expressions that means the same here.
//!
//! PostgreSQL takes the longest match, this engine the first that fits. With quantifiers on single characters only,
//! and without alternatives, both are the same; everything else is refused at start.

use bumpalo::collections::String as BumpString;
use regex::Regex;

use super::node::Prepared;
use crate::datum::Datum;
use crate::fault;

/// Compiles a pattern, a replacement and flags (`g`, `i`).
pub(super) fn prepare(pattern: &str, replacement: &str, flags: &str) -> Result<Prepared, String> {
    let (mut all, mut folds) = (false, false);
    for flag in flags.chars() {
        match flag {
            'g' => all = true,
            'i' => folds = true,
            other => return Err(format!("flag `{other}` of REGEXP_REPLACE is not supported; known are g and i")),
        }
    }
    let translated = Translator { folds, groups: 0, out: String::from("(?s)") }.pattern(pattern)?;
    let regex = Regex::new(&translated).map_err(|_| "the regular expression is malformed".to_owned())?;
    let replacement = parts(replacement);
    Ok(Box::new(move |a, bump| {
        let [Datum::Text(text)] = a else { return Err(fault::VALUE_FORM) };
        let mut out = BumpString::with_capacity_in(text.len(), bump);
        // `at` is how far the text is copied, `from` where the next search begins: as PostgreSQL, an empty match may
        // follow another match.
        let (mut at, mut from) = (0, 0);
        while from <= text.len() {
            let Some(captures) = regex.captures_at(text, from) else { break };
            let Some(whole) = captures.get(0) else { break };
            out.push_str(text.get(at..whole.start()).unwrap_or_default());
            for part in &replacement {
                match part {
                    Part::Text(text) => out.push_str(text),
                    Part::Group(group) => out.push_str(captures.get(*group).map_or("", |group| group.as_str())),
                }
            }
            at = whole.end();
            from = at;
            if whole.is_empty() {
                from += text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
            }
            if !all {
                break;
            }
        }
        out.push_str(text.get(at..).unwrap_or_default());
        Ok(Datum::Text(out.into_bump_str()))
    }))
}

enum Part {
    Text(String),
    Group(usize),
}

/// `\1` to `\9` and `\&` are groups, `\\` is a backslash.
fn parts(replacement: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut characters = replacement.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        let group = match characters.next() {
            Some('&') => 0,
            Some(digit @ '1'..='9') => digit as usize - '0' as usize,
            Some('\\') => {
                text.push('\\');
                continue;
            }
            Some(other) => {
                text.push('\\');
                text.push(other);
                continue;
            }
            None => {
                text.push('\\');
                continue;
            }
        };
        parts.push(Part::Text(std::mem::take(&mut text)));
        parts.push(Part::Group(group));
    }
    parts.push(Part::Text(text));
    parts
}

struct Translator {
    folds: bool,
    groups: usize,
    out: String,
}

impl Translator {
    fn pattern(mut self, pattern: &str) -> Result<String, String> {
        if pattern.starts_with("***") || pattern.starts_with("(?") {
            return Err("options inside of a regular expression are not supported".into());
        }
        let mut characters = pattern.chars().peekable();
        let mut open = 0;
        // Whether a quantifier may follow.
        let mut atom = false;
        while let Some(character) = characters.next() {
            atom = match character {
                '|' => return Err("alternatives (`|`) are not supported in REGEXP_REPLACE; use CASE or REPLACE".into()),
                '(' => {
                    if characters.peek() == Some(&'?') {
                        return Err("only plain groups are supported in REGEXP_REPLACE".into());
                    }
                    open += 1;
                    self.groups += 1;
                    self.out.push('(');
                    false
                }
                ')' if open > 0 => {
                    open -= 1;
                    self.out.push(')');
                    if matches!(characters.peek(), Some('*' | '+' | '?' | '{')) {
                        return Err("a quantifier behind a group is not supported in REGEXP_REPLACE".into());
                    }
                    false
                }
                '*' | '+' | '?' | '{' => {
                    if !atom {
                        return Err("a quantifier stands where no single character is".into());
                    }
                    self.out.push(character);
                    if character == '{' {
                        for inner in characters.by_ref() {
                            if !matches!(inner, '0'..='9' | ',' | '}') {
                                return Err("a count in braces is malformed".into());
                            }
                            self.out.push(inner);
                            if inner == '}' {
                                break;
                            }
                        }
                    }
                    if characters.peek() == Some(&'?') {
                        return Err("non-greedy quantifiers are not supported in REGEXP_REPLACE".into());
                    }
                    false
                }
                '^' | '$' => {
                    self.out.push(character);
                    false
                }
                '.' => {
                    self.out.push('.');
                    true
                }
                '[' => {
                    self.class(&mut characters)?;
                    true
                }
                '\\' => {
                    match characters.next() {
                        Some('d') => self.out.push_str("[0-9]"),
                        Some('D') => self.out.push_str("[^0-9]"),
                        Some('w') => self.out.push_str("[0-9A-Za-z_]"),
                        Some('W') => self.out.push_str("[^0-9A-Za-z_]"),
                        Some('s') => self.out.push_str("[ \\t\\n\\r\\x0B\\x0C]"),
                        Some('S') => self.out.push_str("[^ \\t\\n\\r\\x0B\\x0C]"),
                        Some(escaped) if !escaped.is_alphanumeric() => self.literal(escaped),
                        _ => return Err("an escape in the regular expression is not supported".into()),
                    }
                    true
                }
                ']' | '}' | ')' => return Err("a bracket in the regular expression has no beginning".into()),
                other => {
                    self.literal(other);
                    true
                }
            };
        }
        if open > 0 { Err("a group in the regular expression is not closed".into()) } else { Ok(self.out) }
    }

    fn literal(&mut self, character: char) {
        if self.folds && character.is_ascii_alphabetic() {
            self.out.extend(['[', character.to_ascii_lowercase(), character.to_ascii_uppercase(), ']']);
        } else {
            self.out.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
        }
    }

    /// Characters and ranges, perhaps negated.
    fn class(&mut self, characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<(), String> {
        let malformed = || "a class in brackets is malformed or not supported".to_owned();
        self.out.push('[');
        if characters.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let begin = match characters.next().ok_or_else(malformed)? {
                ']' if !first => break,
                '[' if matches!(characters.peek(), Some(':' | '.' | '=')) => return Err(malformed()),
                '\\' => match characters.next().ok_or_else(malformed)? {
                    'd' => {
                        self.out.push_str("0-9");
                        first = false;
                        continue;
                    }
                    escaped if !escaped.is_alphanumeric() => escaped,
                    _ => return Err(malformed()),
                },
                other => other,
            };
            first = false;
            let mut end = begin;
            if characters.peek() == Some(&'-') {
                let mut ahead = characters.clone();
                ahead.next();
                if ahead.peek().is_some_and(|next| *next != ']') {
                    characters.next();
                    end = characters.next().filter(|end| !matches!(end, '[' | '\\')).ok_or_else(malformed)?;
                    if end < begin {
                        return Err(malformed());
                    }
                }
            }
            self.range(begin, end);
            if self.folds {
                let both = |fold: fn(&char) -> char| (fold(&begin), fold(&end));
                let is_letters = begin.is_ascii_alphabetic() && end.is_ascii_alphabetic();
                if is_letters {
                    for (begin, end) in [both(char::to_ascii_lowercase), both(char::to_ascii_uppercase)] {
                        if begin <= end {
                            self.range(begin, end);
                        }
                    }
                } else if begin != end && ('A'..='z').any(|letter| (begin..=end).contains(&letter)) {
                    return Err("a range that mixes letters and others is not supported with the flag i".into());
                }
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn range(&mut self, begin: char, end: char) {
        let escaped = |out: &mut String, character: char| {
            if character.is_ascii() && !character.is_ascii_alphanumeric() {
                out.push_str(&format!("\\x{:02X}", character as u32));
            } else {
                out.push(character);
            }
        };
        escaped(&mut self.out, begin);
        if begin != end {
            self.out.push('-');
            escaped(&mut self.out, end);
        }
    }
}
