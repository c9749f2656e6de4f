//! A key or value in JSON taken apart: `{"schema": …, "payload": …}`, or the payload alone (`schemas.enable=false`).

use serde::de::IgnoredAny;

/// JSON that no converter wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not JSON, or not whole.
    #[error("the record is no JSON text: {0}")]
    Malformed(&'static str),
    /// No object at its top.
    #[error("the record is JSON, but no object with fields")]
    NoObject,
}

/// A key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The text of the schema, where there is one.
    pub schema: Option<&'a [u8]>,
    /// The text of the data; `null` where there are none.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Whether the data are null: a tombstone with a schema.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.payload == b"null"
    }
}

/// Whether bytes look like JSON: what Avro begins with never does.
#[must_use]
pub fn is_json(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

/// Takes a key or value apart. `known` is the text of the last schema: where the record begins with the same one, it is
/// not read again.
///
/// # Errors
///
/// It is no JSON object.
pub fn split<'a>(bytes: &'a [u8], known: Option<&[u8]>) -> Result<Frame<'a>, FrameError> {
    if let Some(frame) = known.and_then(|known| split_known(bytes, known)) {
        return Ok(frame);
    }
    let (mut schema, mut payload, mut others) = (None, None, false);
    for member in Members::of(bytes)? {
        let (name, value) = member?;
        match name {
            b"schema" => schema = Some(value),
            b"payload" => payload = Some(value),
            _ => others = true,
        }
    }
    Ok(match (schema, payload, others) {
        // A converter without a schema for a null, or a table with two columns of these names.
        (Some(schema), Some(payload), false) if schema.starts_with(b"{") || schema == b"null" => {
            Frame { schema: Some(schema).filter(|schema| *schema != b"null"), payload }
        }
        _ => Frame { schema: None, payload: bytes.trim_ascii() },
    })
}

/// What the converter writes, with the schema that is known already.
fn split_known<'a>(bytes: &'a [u8], known: &[u8]) -> Option<Frame<'a>> {
    let rest = bytes.strip_prefix(br#"{"schema":"#)?;
    let (schema, rest) = rest.split_at_checked(known.len())?;
    let payload = rest.strip_prefix(br#","payload":"#)?.strip_suffix(b"}")?;
    (schema == known).then_some(Frame { schema: Some(schema), payload })
}

/// A member of an object: its name as it is written, escapes and all, and its value's text.
pub type Member<'a> = (&'a [u8], &'a [u8]);

/// The members of an object, with their values as text.
pub struct Members<'a> {
    rest: &'a [u8],
    first: bool,
    done: bool,
}

impl<'a> Members<'a> {
    /// The members of the object that `bytes` are.
    ///
    /// # Errors
    ///
    /// It is no object.
    pub fn of(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let rest = bytes.trim_ascii().strip_prefix(b"{").ok_or(FrameError::NoObject)?;
        Ok(Self { rest, first: true, done: false })
    }

    fn member(&mut self) -> Result<Option<Member<'a>>, FrameError> {
        let mut rest = self.rest.trim_ascii_start();
        if let Some(behind) = rest.strip_prefix(b"}") {
            self.done = true;
            return if behind.trim_ascii().is_empty() {
                Ok(None)
            } else {
                Err(FrameError::Malformed("something follows the object"))
            };
        }
        if !std::mem::replace(&mut self.first, false) {
            rest = rest.strip_prefix(b",").ok_or(FrameError::Malformed("it ends within the object"))?;
        }
        let (name, rest) = value(rest)?;
        let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\""));
        let name = name.ok_or(FrameError::Malformed("a member has no name"))?;
        let rest = rest.trim_ascii_start().strip_prefix(b":").ok_or(FrameError::Malformed("a member has no value"))?;
        let (value, rest) = value(rest)?;
        self.rest = rest;
        Ok(Some((name, value)))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<Member<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let member = self.member();
        self.done |= member.is_err();
        member.transpose()
    }
}

/// The first value of a text, and what follows it.
fn value(text: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => {
            let (value, rest) = text.split_at(values.byte_offset());
            Ok((value.trim_ascii(), rest))
        }
        _ => Err(FrameError::Malformed("a value is malformed or cut off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_converters_frame_is_taken_apart_with_or_without_a_known_schema() {
        let bytes = br#"{"schema":{"type":"struct"},"payload":{"id":1,"s":"a}\"b"}}"#;
        let schema: &[u8] = br#"{"type":"struct"}"#;
        let frame = Frame { schema: Some(schema), payload: br#"{"id":1,"s":"a}\"b"}"# };
        assert_eq!(split(bytes, None), Ok(frame));
        assert_eq!(split(bytes, Some(schema)), Ok(frame));
        assert_eq!(split(bytes, Some(br#"{"type":"other"}"#)), Ok(frame));
        let spaced = b" { \"payload\" : null , \"schema\" : {\"type\":\"struct\"} } ";
        assert_eq!(split(spaced, None), Ok(Frame { schema: Some(schema), payload: b"null" }));
        assert!(split(spaced, None).unwrap().is_null());
    }

    #[test]
    fn a_payload_alone_has_no_schema() {
        for text in [r#"{"id":1}"#, r#"{"schema":"s","payload":"p"}"#, r#"{"schema":{},"payload":{},"id":1}"#, "{}"] {
            assert_eq!(split(text.as_bytes(), None), Ok(Frame { schema: None, payload: text.as_bytes() }), "{text}");
        }
        let none = br#"{"schema":null,"payload":{"id":1}}"#;
        assert_eq!(split(none, None), Ok(Frame { schema: None, payload: br#"{"id":1}"# }));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = br#"{"schema":{"type":"struct"},"payload":{"id":1}}"#;
        for end in 0..whole.len() {
            assert!(split(&whole[..end], None).is_err(), "{end}");
        }
        assert!(split(br#"{"a":1}{"b":2}"#, None).is_err());
        assert!(!is_json(&[0, 0, 0, 0, 1]) && is_json(b" {}"));
    }
}
