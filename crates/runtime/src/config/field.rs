//! The table of keys: what may stand in a file, what it means, and what it is when it is missing.

/// One key.
#[derive(Debug)]
pub struct Field {
    /// Its name, one level.
    pub key: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// What holds when it is missing.
    pub preset: Preset,
    /// One or two sentences for the reference, in Markdown.
    pub meaning: &'static str,
}

/// What may stand at a key.
#[derive(Debug)]
pub enum Kind {
    /// Keys below this one.
    Section(&'static [Field]),
    /// A list, each item with these keys.
    Sections(&'static [Field]),
    /// Names of the user's own, each with these keys below it: pairs of name and section, in the file's order.
    Named(&'static [Field]),
    /// Any text.
    Text,
    /// Text that may be blank.
    Verbatim,
    /// Text that never shows up in messages.
    Secret,
    /// A whole number within bounds.
    Integer {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// `true` or `false`.
    Boolean,
    /// A number with a unit, within bounds.
    Duration {
        /// Shortest, in seconds.
        min_s: u64,
        /// Longest, in seconds.
        max_s: u64,
    },
    /// One word of a list.
    Choice {
        /// What works.
        works: &'static [&'static str],
        /// Words that will work some day and are refused saying so.
        later: &'static [&'static str],
    },
    /// A list of texts; a single text counts as a list of one.
    Texts,
    /// Names with text values, both free.
    Map,
    /// Every key that begins with this one, each with a text: a map of them, whole names to texts.
    Family,
    /// Part of a feature that does not work yet.
    Later,
    /// Has no meaning here, though elsewhere; in words, why.
    Refused(&'static str),
    /// A name from elsewhere for something that has a key of its own here: its path.
    Elsewhere(&'static str),
}

/// What holds when a key is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The file is refused.
    Required,
    /// This value, in the form a user would write. For a section: as if it stood there empty.
    Is(&'static str),
    /// Nothing; in words, what happens then.
    Absent(&'static str),
}

impl Field {
    /// A key.
    #[must_use]
    pub const fn new(key: &'static str, kind: Kind, preset: Preset, meaning: &'static str) -> Self {
        Self { key, kind, preset, meaning }
    }

    /// Keys that begin alike and carry a part of their setting in their name.
    #[must_use]
    pub const fn family(key: &'static str, meaning: &'static str) -> Self {
        Self { key, kind: Kind::Family, preset: Preset::Absent("none"), meaning }
    }

    /// A key of a feature that does not work yet.
    #[must_use]
    pub const fn later(key: &'static str, meaning: &'static str) -> Self {
        Self { key, kind: Kind::Later, preset: Preset::Absent("not supported yet"), meaning }
    }

    /// A key that users know from elsewhere and that cannot stand here, and why.
    #[must_use]
    pub const fn refused(key: &'static str, why: &'static str) -> Self {
        Self { key, kind: Kind::Refused(why), preset: Preset::Absent("refused"), meaning: "" }
    }

    /// A name that users bring from elsewhere, for what is set at `path`.
    #[must_use]
    pub const fn elsewhere(key: &'static str, path: &'static str) -> Self {
        Self { key, kind: Kind::Elsewhere(path), preset: Preset::Absent("set elsewhere"), meaning: "" }
    }
}

impl Kind {
    /// Whether the key may not stand in a file at all.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Later | Self::Refused(_) | Self::Elsewhere(_))
    }
}

/// Below this similarity a suggestion confuses more than it helps.
const SIMILAR: f64 = 0.75;

/// The name most like `wanted`, if one is near enough to be what was meant.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(&wanted.to_lowercase(), name), name))
        .filter(|(likeness, _)| *likeness >= SIMILAR)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name)
}

/// The path of the first key called `key` anywhere below `fields`.
pub(super) fn find(fields: &[Field], key: &str, prefix: &str) -> Option<String> {
    for field in fields {
        let path = join(prefix, field.key);
        if field.key == key && !field.kind.is_refused() {
            return Some(path);
        }
        if let Kind::Section(below) = field.kind
            && let Some(found) = find(below, key, &path)
        {
            return Some(found);
        }
    }
    None
}

/// `prefix.key`, or `key` at the top.
pub(super) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}
