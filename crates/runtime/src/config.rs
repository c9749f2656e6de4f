//! One YAML file becomes one checked value, in two steps: text to a raw type, by a table of the keys there are; raw to
//! checked by whoever owns the settings. The table ([`Field`]) is also what the documentation is made from, so that
//! what is read, what is refused and what is written down cannot differ.

mod convert;
mod duration;
mod field;
mod interpolate;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use duration::parse_duration;
pub use field::{Field, Kind, Preset, nearest};

/// What a file held, and where each key stands in it.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The raw settings, defaults filled in.
    pub value: T,
    /// For messages about what the table of keys cannot say.
    pub places: Places,
}

/// The file and the line of each key in it.
#[derive(Debug, Clone, Default)]
pub struct Places {
    file: PathBuf,
    lines: BTreeMap<String, usize>,
}

impl Places {
    /// A problem with the key at `path`; it need not be written in the file.
    #[must_use]
    pub fn problem(&self, path: &str, text: impl Into<String>) -> Problem {
        Problem { path: path.to_owned(), line: self.lines.get(path).copied(), text: text.into() }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line of the key at `path`, from 1; 0 where the file does not hold it.
    #[must_use]
    pub fn line(&self, path: &str) -> usize {
        self.lines.get(path).copied().unwrap_or_default()
    }

    /// Whether the file itself holds the key, rather than a default.
    #[must_use]
    pub fn is_written(&self, path: &str) -> bool {
        self.lines.contains_key(path)
    }

    /// The error for these problems.
    #[must_use]
    pub fn error(&self, problems: Vec<Problem>) -> ConfigError {
        ConfigError::Refused { file: self.file.clone(), problems }
    }
}

/// One thing that is wrong with a file. It never holds a value that came out of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: the keys from the top, joined by dots. Empty for the file as a whole.
    pub path: String,
    /// The line, from 1, where the file holds the key.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub text: String,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Keys or values that cannot be used, all of them at once.
    #[error("{}", Listing { file, problems })]
    Refused {
        /// The file.
        file: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

/// `file:line: path: text`, one problem a line, so that editors can jump to it.
struct Listing<'a> {
    file: &'a Path,
    problems: &'a [Problem],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.path.is_empty() {
                write!(f, ": {}", problem.path)?;
            }
            write!(f, ": {}", problem.text)?;
        }
        Ok(())
    }
}

/// Answers `${NAME}`.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables that a file may name.
pub struct Environment<'a> {
    /// Everywhere, but for `secrets`.
    pub variables: Variables<'a>,
    /// Inside secrets, and inside maps, which may hold some; `variables` where there is none.
    pub secrets: Option<Variables<'a>>,
    /// Whether a variable at this path may be unset, since nobody will use it: such keys then count as not written. So
    /// one file can serve hosts that know different passwords.
    pub unused: &'a dyn Fn(&str) -> bool,
}

/// Reads `file` into a raw type. `fields` are the keys there are.
///
/// # Errors
/// When the file cannot be read, is not YAML, or holds keys and values that the table does not allow. All problems
/// are told at once.
pub fn load<T: DeserializeOwned>(
    file: &Path,
    fields: &'static [Field],
    environment: &Environment<'_>,
) -> Result<Loaded<T>, ConfigError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    parse(file, &text, fields, environment)
}

/// [`load`] for text that is already in memory; `file` is only named in messages.
///
/// # Errors
/// As [`load`].
pub fn parse<T: DeserializeOwned>(
    file: &Path,
    text: &str,
    fields: &'static [Field],
    environment: &Environment<'_>,
) -> Result<Loaded<T>, ConfigError> {
    let mut places = Places { file: file.to_owned(), lines: BTreeMap::new() };
    let root = match tree::read(text) {
        Ok(root) => root,
        Err(problem) => return Err(places.error(vec![problem])),
    };
    let mut walk = convert::Walk::new(fields, environment);
    let value = walk.root(&root);
    places.lines = walk.lines;
    if !walk.problems.is_empty() {
        return Err(places.error(walk.problems));
    }
    match serde_json::from_value(value) {
        Ok(value) => Ok(Loaded { value, places }),
        // The text of the error may quote a value, and values may be secrets.
        Err(_) => {
            let text = "the table of keys and the type behind it disagree; please report this";
            Err(places.error(vec![places.problem("", text)]))
        }
    }
}

/// Plain YAML, along no table of keys and without variables: maps, lists, and texts for everything else, so that `1`
/// stays as it was written.
///
/// # Errors
/// What is wrong with it, and on which line.
pub fn yaml(text: &str) -> Result<serde_json::Value, String> {
    tree::read(text).map(tree::Node::into_value).map_err(|problem| match problem.line {
        Some(line) => format!("line {line}: {}", problem.text),
        None => problem.text,
    })
}

#[cfg(test)]
mod tests;
