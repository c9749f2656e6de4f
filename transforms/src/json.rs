//! JSON as text: checked, looked into and, for `jsonb`, brought into the form PostgreSQL prints.

use bumpalo::Bump;
use bumpalo::collections::{String as BumpString, Vec as BumpVec};

use crate::fault::{self, Fault};
use crate::numeric::Numeric;

/// Deeper documents are refused; PostgreSQL's own limit depends on its stack.
const DEPTH: usize = 500;

/// Whether a text is JSON.
pub(crate) fn check(text: &str) -> Result<(), Fault> {
    let mut reader = Reader { text, at: 0 };
    reader.skip(0)?;
    reader.spaces();
    if reader.at == text.len() { Ok(()) } else { Err(fault::NO_TEXT_FORM) }
}

/// `jsonb`'s form: keys by length and bytes, the last of equal ones, numbers as numerics, one space behind `:` and `,`.
pub(crate) fn normalize<'a>(text: &'a str, bump: &'a Bump) -> Result<&'a str, Fault> {
    check(text)?;
    let mut out = BumpString::with_capacity_in(text.len(), bump);
    let mut reader = Reader { text, at: 0 };
    reader.normal(&mut out, bump)?;
    Ok(out.into_bump_str())
}

/// The value of an object's key; the last one where it occurs twice. `text` is JSON.
pub(crate) fn field<'a>(text: &'a str, key: &str, bump: &'a Bump) -> Result<Option<&'a str>, Fault> {
    let mut reader = Reader { text, at: 0 };
    reader.spaces();
    if !reader.take(b'{') {
        return Ok(None);
    }
    let mut found = None;
    reader.members(|reader, name| {
        let value = reader.value()?;
        if unescaped(name, bump)? == key {
            found = Some(value);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The element of an array; negative ones count from the end. `text` is JSON. In `jsonb` a scalar by itself is an
/// array of one.
pub(crate) fn element(text: &str, index: i64, scalar_is_array: bool) -> Result<Option<&str>, Fault> {
    let mut reader = Reader { text, at: 0 };
    reader.spaces();
    if !reader.take(b'[') {
        let is_scalar = reader.rest().first() != Some(&b'{');
        return Ok((scalar_is_array && is_scalar && matches!(index, 0 | -1)).then_some(text));
    }
    let count = || {
        let mut reader = Reader { text, at: reader.at };
        let mut count = 0;
        reader.elements(|reader| {
            count += 1;
            reader.value().map(drop)
        })?;
        Ok(count)
    };
    let wanted = if index < 0 { index.checked_add(count()?).unwrap_or(-1) } else { index };
    let (mut at, mut found) = (0, None);
    reader.elements(|reader| {
        let value = reader.value()?;
        if at == wanted {
            found = Some(value);
        }
        at += 1;
        Ok(())
    })?;
    Ok(found)
}

/// A value as `->>` gives it: a string's content, nothing for null, else the text.
pub(crate) fn as_text<'a>(value: &'a str, bump: &'a Bump) -> Result<Option<&'a str>, Fault> {
    match value.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => unescaped(value, bump).map(Some),
        _ => Ok(Some(value)),
    }
}

/// Appends a text as a JSON string.
pub(crate) fn push_string(text: &str, out: &mut BumpString<'_>) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\x0C' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                out.push_str(if control < '\x10' { "\\u000" } else { "\\u001" });
                out.extend(char::from_digit(control as u32 & 15, 16));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The content of a string with its quotes.
fn unescaped<'a>(string: &'a str, bump: &'a Bump) -> Result<&'a str, Fault> {
    let inner = string.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(fault::NO_TEXT_FORM)?;
    if !inner.contains('\\') {
        return Ok(inner);
    }
    let mut out = BumpString::with_capacity_in(inner.len(), bump);
    let mut characters = inner.chars();
    let unit = |characters: &mut std::str::Chars<'_>| {
        let mut digits = (0..4).map(|_| characters.next().and_then(|digit| digit.to_digit(16)));
        digits.try_fold(0, |unit, digit| Some(unit << 4 | digit?)).ok_or(fault::NO_TEXT_FORM)
    };
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        out.push(match characters.next() {
            Some('b') => '\x08',
            Some('f') => '\x0C',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => match unit(&mut characters)? {
                high @ 0xD800..=0xDBFF => {
                    if (characters.next(), characters.next()) != (Some('\\'), Some('u')) {
                        return Err(fault::NO_TEXT_FORM);
                    }
                    let low = unit(&mut characters)?.checked_sub(0xDC00).ok_or(fault::NO_TEXT_FORM)?;
                    char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + low).ok_or(fault::NO_TEXT_FORM)?
                }
                // PostgreSQL has no text with the character NUL.
                0 => return Err(Fault { state: "22P05", ..fault::NO_TEXT_FORM }),
                unit => char::from_u32(unit).ok_or(fault::NO_TEXT_FORM)?,
            },
            Some(other) => other,
            None => return Err(fault::NO_TEXT_FORM),
        });
    }
    Ok(out.into_bump_str())
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn spaces(&mut self) {
        self.at += self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn take(&mut self, byte: u8) -> bool {
        let is = self.rest().first() == Some(&byte);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        self.spaces();
        if self.take(byte) { Ok(()) } else { Err(fault::NO_TEXT_FORM) }
    }

    /// The text of the next value.
    fn value(&mut self) -> Result<&'a str, Fault> {
        self.spaces();
        let start = self.at;
        self.skip(0)?;
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn skip(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH {
            return Err(Fault { state: "54001", ..fault::NO_TEXT_FORM });
        }
        self.spaces();
        match self.rest().first() {
            Some(b'{') => {
                self.at += 1;
                self.members(|reader, _| reader.skip(depth + 1))
            }
            Some(b'[') => {
                self.at += 1;
                self.elements(|reader| reader.skip(depth + 1))
            }
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let word = ["true", "false", "null"].into_iter().find(|word| self.rest().starts_with(word.as_bytes()));
                self.at += word.ok_or(fault::NO_TEXT_FORM)?.len();
                match self.rest().first() {
                    Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'_' => Err(fault::NO_TEXT_FORM),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Behind the opening brace: calls `each` in front of every value, with its name.
    fn members(&mut self, mut each: impl FnMut(&mut Self, &'a str) -> Result<(), Fault>) -> Result<(), Fault> {
        self.spaces();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.spaces();
            let name = self.string()?;
            self.expect(b':')?;
            each(self, name)?;
            self.spaces();
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Behind the opening bracket: calls `each` in front of every value.
    fn elements(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.spaces();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            each(self)?;
            self.spaces();
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Result<&'a str, Fault> {
        let start = self.at;
        if !self.take(b'"') {
            return Err(fault::NO_TEXT_FORM);
        }
        loop {
            match self.rest() {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(self.text.get(start..self.at).unwrap_or_default());
                }
                [b'\\', b'u', digits @ ..] => {
                    if !digits.get(..4).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                        return Err(fault::NO_TEXT_FORM);
                    }
                    self.at += 6;
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [] | [b'\\' | 0..0x20, ..] => return Err(fault::NO_TEXT_FORM),
                _ => self.at += 1,
            }
        }
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.take(b'-');
        let zero = self.rest().first() == Some(&b'0');
        let count = self.digits();
        if count == 0 || (zero && count > 1) {
            return Err(fault::NO_TEXT_FORM);
        }
        if self.take(b'.') && self.digits() == 0 {
            return Err(fault::NO_TEXT_FORM);
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return Err(fault::NO_TEXT_FORM);
            }
        }
        match self.rest().first() {
            Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'_' => Err(fault::NO_TEXT_FORM),
            _ => Ok(()),
        }
    }

    fn normal(&mut self, out: &mut BumpString<'a>, bump: &'a Bump) -> Result<(), Fault> {
        self.spaces();
        match self.rest().first() {
            Some(b'{') => {
                self.at += 1;
                let mut members: BumpVec<'_, (&str, Reader<'a>)> = BumpVec::new_in(bump);
                self.members(|reader, name| {
                    let start = *reader;
                    members.push((unescaped(name, bump)?, start));
                    reader.skip(0)
                })?;
                push_object(&mut members, out, |reader, out| {
                    let mut reader = *reader;
                    reader.normal(out, bump)
                })
            }
            Some(b'[') => {
                self.at += 1;
                out.push('[');
                let mut first = true;
                self.elements(|reader| {
                    out.push_str(if std::mem::take(&mut first) { "" } else { ", " });
                    reader.normal(out, bump)
                })?;
                out.push(']');
                Ok(())
            }
            Some(b'"') => {
                push_string(unescaped(self.string()?, bump)?, out);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => {
                let start = self.at;
                self.number()?;
                let number = Numeric::parse(self.text.get(start..self.at).unwrap_or_default(), bump)?;
                out.push_str(number.print(bump));
                Ok(())
            }
            _ => {
                out.push_str(self.value()?);
                Ok(())
            }
        }
    }
}

/// Writes members as `jsonb` orders them.
pub(crate) fn push_object<'a, T>(
    members: &mut BumpVec<'a, (&'a str, T)>,
    out: &mut BumpString<'a>,
    mut value: impl FnMut(&T, &mut BumpString<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    // Stable, so that of equal keys the last stays last.
    members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes())));
    out.push('{');
    let mut first = true;
    for (index, (name, member)) in members.iter().enumerate() {
        if members.get(index + 1).is_some_and(|(next, _)| next == name) {
            continue;
        }
        out.push_str(if std::mem::take(&mut first) { "" } else { ", " });
        push_string(name, out);
        out.push_str(": ");
        value(member, out)?;
    }
    out.push('}');
    Ok(())
}
