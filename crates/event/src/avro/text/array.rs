//! Array literals: `{1,NULL,"a \"b\""}`, `[0:1]={1,2}`, `{{1,2},{3,4}}`.

use std::borrow::Cow;

use super::Malformed;

/// One element as it stands in the literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::avro) enum Element<'a> {
    /// An unquoted NULL.
    Null,
    /// Text without escapes.
    Plain(&'a [u8]),
    /// Quoted text with backslashes in it.
    Escaped(&'a [u8]),
}

impl<'a> Element<'a> {
    /// The element's own text; `None` for NULL.
    pub(in crate::avro) fn text(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Null => None,
            Self::Plain(text) => Some(Cow::Borrowed(text)),
            Self::Escaped(text) => {
                let mut plain = Vec::with_capacity(text.len());
                let mut bytes = text.iter();
                while let Some(byte) = bytes.next() {
                    plain.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
                }
                Some(Cow::Owned(plain))
            }
        }
    }
}

/// The elements of a literal in order, whatever its dimensions.
#[derive(Debug, Clone)]
pub(in crate::avro) struct Elements<'a> {
    rest: &'a [u8],
    delimiter: u8,
    depth: usize,
    /// Whether the literal has one dimension that begins at 1 (or none at all).
    plain: bool,
}

/// Opens a literal, whose elements have this byte between them: a comma for nearly all types (`pg_type.typdelim`).
pub(in crate::avro) fn elements(text: &[u8], delimiter: u8) -> Result<Elements<'_>, Malformed> {
    let bounds = text.first() == Some(&b'[');
    let body = if bounds { &text[text.iter().position(|byte| *byte == b'=').ok_or(Malformed)? + 1..] } else { text };
    let rest = body.strip_prefix(b"{").ok_or(Malformed)?;
    Ok(Elements { rest, delimiter, depth: 1, plain: !bounds && rest.first() != Some(&b'{') })
}

impl<'a> Elements<'a> {
    /// Whether the elements in order are the whole literal: one dimension that begins at 1.
    pub(in crate::avro) fn is_plain(&self) -> bool {
        self.plain
    }

    /// How many elements follow.
    pub(in crate::avro) fn count(mut self) -> Result<usize, Malformed> {
        let mut count = 0;
        while self.advance()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// The next element; `None` behind the last.
    pub(in crate::avro) fn advance(&mut self) -> Result<Option<Element<'a>>, Malformed> {
        loop {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            match byte {
                b'{' => self.depth += 1,
                b'}' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return if rest.is_empty() { Ok(None) } else { Err(Malformed) };
                    }
                }
                byte if *byte == self.delimiter => {}
                b'"' => {
                    self.rest = rest;
                    return self.quoted().map(Some);
                }
                _ => return self.unquoted().map(Some),
            }
            self.rest = rest;
        }
    }

    fn quoted(&mut self) -> Result<Element<'a>, Malformed> {
        let mut escaped = false;
        let mut at = 0;
        loop {
            match self.rest.get(at).ok_or(Malformed)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    at += 2;
                }
                _ => at += 1,
            }
        }
        let text = &self.rest[..at];
        self.rest = &self.rest[at + 1..];
        Ok(if escaped { Element::Escaped(text) } else { Element::Plain(text) })
    }

    fn unquoted(&mut self) -> Result<Element<'a>, Malformed> {
        let end = self.rest.iter().position(|byte| [self.delimiter, b'}'].contains(byte)).ok_or(Malformed)?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(if text == b"NULL" { Element::Null } else { Element::Plain(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Texts = Vec<Option<String>>;

    fn read(text: &str) -> Result<(Texts, bool), Malformed> {
        read_with(text, b',')
    }

    fn read_with(text: &str, delimiter: u8) -> Result<(Texts, bool), Malformed> {
        let mut all = elements(text.as_bytes(), delimiter)?;
        let plain = all.is_plain();
        let count = all.clone().count()?;
        let mut texts = Vec::new();
        while let Some(element) = all.advance()? {
            texts.push(element.text().map(|text| String::from_utf8(text.into_owned()).unwrap()));
        }
        assert_eq!(texts.len(), count);
        Ok((texts, plain))
    }

    fn some(texts: &[&str]) -> Texts {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn elements_are_told_from_nulls_and_unescaped() {
        let (texts, plain) = read(r#"{a,"b c",NULL,"NULL","quote\"d","back\\slash",""}"#).unwrap();
        assert!(plain);
        let mut expected = some(&["a", "b c", "", "NULL", "quote\"d", "back\\slash", ""]);
        expected[2] = None;
        assert_eq!(texts, expected);
        assert_eq!(read("{}"), Ok((vec![], true)));
        assert_eq!(read_with("{a:NULL:\"b:c\"}", b':'), Ok((vec![Some("a".into()), None, Some("b:c".into())], true)));
    }

    #[test]
    fn other_shapes_are_flattened_and_reported() {
        assert_eq!(read("{{1,2},{3,4}}"), Ok((some(&["1", "2", "3", "4"]), false)));
        assert_eq!(read("[0:2]={7,8,9}"), Ok((some(&["7", "8", "9"]), false)));
        assert_eq!(read("[-1:0][2:2]={{a},{b}}"), Ok((some(&["a", "b"]), false)));
    }

    #[test]
    fn broken_literals_are_malformed() {
        for text in ["", "{", "{1", "{1,2", "{\"a", "{\"a\\", "1,2", "[1:2]", "{1}}", "{}x", "{{1}"] {
            assert_eq!(read(text), Err(Malformed), "{text}");
        }
    }

    /// `array_out`: quotes what is empty, `null` in any case, or holds a character that means something.
    fn literal(elements: &[Option<String>]) -> String {
        let texts: Vec<String> = elements
            .iter()
            .map(|element| match element {
                None => "NULL".to_owned(),
                Some(text)
                    if text.is_empty()
                        || text.eq_ignore_ascii_case("null")
                        || text.contains(['"', '\\', '{', '}', ',', ' ']) =>
                {
                    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                }
                Some(text) => text.clone(),
            })
            .collect();
        format!("{{{}}}", texts.join(","))
    }

    proptest! {
        #[test]
        fn literals_round_trip(elements in proptest::collection::vec(proptest::option::of("[a-cNUL\"\\\\{}, é]{0,6}"), 0..8)) {
            prop_assert_eq!(read(&literal(&elements)), Ok((elements, true)));
        }

        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(proptest::sample::select(b"{}[]=:,\"\\aN1".to_vec()), 0..20)) {
            if let Ok(mut all) = elements(&text, b',') {
                while let Ok(Some(element)) = all.advance() {
                    prop_assert!(element.text().is_none_or(|plain| plain.len() <= text.len()));
                }
            }
        }
    }
}
