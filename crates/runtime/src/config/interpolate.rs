//! `${NAME}` inside a scalar. It works on parsed values, so that a password full of YAML's own characters stays one
//! value.

/// Replaces `${NAME}` and `${env:NAME}` by environment variables; `$${` stands for a plain `${`.
///
/// # Errors
/// What is wrong, in words; the value of a variable never appears.
pub(super) fn interpolate(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (inside, after) =
            after.split_once('}').ok_or("`${` has no closing brace: write $${ for the characters themselves")?;
        out.push_str(&variable(inside, environment)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(inside: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let name = match inside.split_once(':') {
        None => inside,
        Some(("env", name)) => name,
        Some((from, _)) if from.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && is_source(from) => {
            return Err(format!("`${{{from}:…}}` is not supported yet: use ${{NAME}}, an environment variable"));
        }
        Some((from, _)) => {
            return Err(format!("`${{{from}:…}}` is not known: use ${{NAME}}, an environment variable"));
        }
    };
    let legal = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !legal {
        return Err(format!(
            "`${{{inside}}}` does not name an environment variable: use letters, digits and underscores"
        ));
    }
    environment(name).ok_or_else(|| format!("environment variable {name} is not set"))
}

/// Places that secrets will come from besides the environment.
fn is_source(from: &str) -> bool {
    matches!(from, "file" | "vault" | "secret_manager" | "aws" | "gcp" | "azure")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "USER" => Some("ada".to_owned()),
            "PASSWORD" => Some("a: b # c ${USER} }{".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_stand_for_their_values_once() {
        assert_eq!(interpolate("${USER}@${env:USER}", &environment).unwrap(), "ada@ada");
        assert_eq!(interpolate("${PASSWORD}", &environment).unwrap(), "a: b # c ${USER} }{");
        assert_eq!(interpolate("$${USER} costs $5", &environment).unwrap(), "${USER} costs $5");
        assert_eq!(interpolate("", &environment).unwrap(), "");
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        assert_eq!(interpolate("${NOBODY}", &environment).unwrap_err(), "environment variable NOBODY is not set");
        assert!(
            interpolate("${file:/run/secret}", &environment).unwrap_err().contains("`${file:…}` is not supported yet")
        );
        for text in ["${USER", "${}", "${USER:-x}", "${1A}", "${a b}"] {
            assert!(interpolate(text, &environment).is_err(), "{text}");
        }
    }
}
