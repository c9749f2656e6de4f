//! `hstore` as PostgreSQL prints it: `"key"=>"value", "other"=>NULL`.

use super::Malformed;

/// The pairs, in the order in which a Java program that puts them into a `HashMap` one by one reads them back: Debezium
/// does (`HStoreConverter`), and its JSON is in that order.
pub(in crate::avro) fn pairs(text: &[u8]) -> Result<Vec<(String, Option<String>)>, Malformed> {
    let mut pairs = Vec::new();
    let mut rest = std::str::from_utf8(text).map_err(|_| Malformed)?;
    while !rest.is_empty() {
        let key;
        (key, rest) = quoted(rest)?;
        rest = rest.strip_prefix("=>").ok_or(Malformed)?;
        let value = match rest.strip_prefix("NULL") {
            Some(behind) => {
                rest = behind;
                None
            }
            None => {
                let value;
                (value, rest) = quoted(rest)?;
                Some(value)
            }
        };
        pairs.push((key, value));
        rest = match rest.strip_prefix(", ") {
            Some("") => return Err(Malformed),
            Some(behind) => behind,
            None if rest.is_empty() => rest,
            None => return Err(Malformed),
        };
    }
    Ok(in_hash_order(pairs))
}

/// A quoted text and what is behind it.
fn quoted(text: &str) -> Result<(String, &str), Malformed> {
    let inner = text.strip_prefix('"').ok_or(Malformed)?;
    let mut out = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((out, inner.get(at + 1..).ok_or(Malformed)?)),
            '\\' => out.push(characters.next().ok_or(Malformed)?.1),
            other => out.push(other),
        }
    }
    Err(Malformed)
}

/// `HashMap.DEFAULT_INITIAL_CAPACITY`.
const DEFAULT_CAPACITY: usize = 16;

/// The order in which a `HashMap` gives back what was put into it: by buckets, and within one in the order of
/// insertion, which growing keeps.
fn in_hash_order<V>(mut pairs: Vec<(String, V)>) -> Vec<(String, V)> {
    let mut buckets = DEFAULT_CAPACITY;
    while pairs.len() * 4 > buckets * 3 {
        buckets *= 2;
    }
    pairs.sort_by_key(|(key, _)| {
        let hash = key.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
        (hash ^ hash >> 16) as usize & (buckets - 1)
    });
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, Option<String>)> {
        pairs(text.as_bytes()).unwrap()
    }

    #[test]
    fn pairs_are_read_with_their_escapes() {
        assert_eq!(read(""), []);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            read(r#""b"=>NULL, "a \"q\""=>"x\\y", ""=>"=>""#),
            [(String::new(), some("=>")), ("b".into(), None), ("a \"q\"".into(), some("x\\y"))]
        );
        for malformed in
            [r#""a""#, r#""a"=>"#, r#""a"=>"b","#, r#""a"=>"b", "#, r#"a=>b"#, r#""a"=>"b" "c"=>"d""#, "\"a\\"]
        {
            assert_eq!(pairs(malformed.as_bytes()), Err(Malformed), "{malformed}");
        }
    }

    #[test]
    fn the_order_is_that_of_javas_hash_map() {
        // Hashes of one letter are its code, so sixteen buckets put `p` (112) before `a` (97).
        let keys = |texts: &[&str]| {
            let pairs = texts.iter().map(|text| ((*text).to_owned(), ())).collect();
            in_hash_order(pairs).into_iter().map(|(key, ())| key).collect::<Vec<_>>()
        };
        assert_eq!(keys(&["a", "b", "p", "q"]), ["p", "a", "q", "b"]);
        // Thirteen entries make it grow to 32 buckets.
        let many: Vec<String> = ('a'..='m').map(String::from).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(keys(&many), many);
    }
}
