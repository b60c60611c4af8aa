//! Layers of TOML with the origin of every key, so that a message can name the file and line, the flag or the
//! axis that a wrong value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// A dotted path to a value: `client.key.buckets`, `provider.models."gpt-5.2".input`, `regime.0.at` (the first element
/// of a list).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// The path of a value below this one.
    pub fn child(&self, key: impl Into<String>) -> Self {
        let mut keys = self.0.clone();
        keys.push(key.into());
        Self(keys)
    }

    /// The keys from the root.
    pub fn keys(&self) -> &[String] {
        &self.0
    }

    /// The path `below` this one.
    pub fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }
}

impl<S: Into<String>> FromIterator<S> for KeyPath {
    fn from_iter<I: IntoIterator<Item = S>>(keys: I) -> Self {
        Self(keys.into_iter().map(Into::into).collect())
    }
}

impl FromStr for KeyPath {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut keys = vec![String::new()];
        let mut quoted = false;
        for c in text.trim().chars() {
            match c {
                '"' => quoted = !quoted,
                '.' if !quoted => keys.push(String::new()),
                c => keys.last_mut().expect("never empty").push(c),
            }
        }
        if quoted || keys.iter().any(String::is_empty) {
            return Err(format!(
                "`{text}` is not a path: write keys with dots between them, such as client.key.buckets"
            ));
        }
        Ok(Self(keys))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            if key.contains('.') { write!(f, "{dot}\"{key}\"")? } else { write!(f, "{dot}{key}")? }
        }
        Ok(())
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// A line of a file.
    Line(String, usize),
    /// A flag of the command line, or an axis of a sweep.
    Named(String),
}

/// A TOML table put together from layers.
#[derive(Clone, Debug)]
pub struct Document {
    /// A table.
    root: Value,
    origins: BTreeMap<KeyPath, Origin>,
    /// Where a missing key is missed.
    file: String,
}

impl Default for Document {
    fn default() -> Self {
        Self { root: Value::Table(Table::new()), origins: BTreeMap::new(), file: String::new() }
    }
}

impl Document {
    /// Reads one file's text; `file` is its name in messages.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let syntax_error = |error: toml::de::Error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            Error::input(format!("{file}:{line}"), error.message().trim().replace('\n', ": "))
        };
        let table: Table = text.parse().map_err(syntax_error)?;
        let spanned = DeTable::parse(text).map_err(syntax_error)?;
        let mut origins = BTreeMap::new();
        let mut record = |path: &KeyPath, offset: usize| {
            origins.insert(path.clone(), Origin::Line(file.to_string(), line_of(text, offset)));
        };
        record_lines(spanned.get_ref(), &KeyPath::default(), &mut record);
        Ok(Self { root: Value::Table(table), origins, file: file.to_string() })
    }

    /// The value at a path.
    pub fn get(&self, path: &KeyPath) -> Option<&Value> {
        path.0.iter().try_fold(&self.root, |value, key| match value {
            Value::Array(list) => list.get(key.parse::<usize>().ok()?),
            value => value.get(key.as_str()),
        })
    }

    /// The plain table.
    pub fn table(&self) -> &Table {
        self.root.as_table().expect("the root is a table")
    }

    /// The table at a path as a document of its own; `None` if there is no table.
    pub fn part(&self, path: &KeyPath) -> Option<Self> {
        let root = self.get(path).filter(|value| value.is_table())?.clone();
        let below = |at: &KeyPath| at.0.strip_prefix(path.0.as_slice()).map(|below| KeyPath(below.to_vec()));
        let origins = self.origins.iter().filter_map(|(at, origin)| Some((below(at)?, origin.clone())));
        Some(Self { root, origins: origins.collect(), file: self.file.clone() })
    }

    /// Puts a value at a path, making the tables on the way; `origin` names who asked for it. Lists are not made longer.
    pub fn set(&mut self, path: &KeyPath, value: Value, origin: &str) -> Result<()> {
        let named = Origin::Named(origin.to_string());
        for depth in 1..path.0.len() {
            let parent = KeyPath(path.0[..depth].to_vec());
            if self.get(&parent).is_none() {
                self.origins.insert(parent, named.clone());
            }
        }
        *self.place(path).map_err(|message| Error::input(origin, message))? = value;
        self.origins.insert(path.clone(), named);
        Ok(())
    }

    /// Exchanges the value at a path that exists; its origin stays.
    pub fn replace(&mut self, path: &KeyPath, value: Value) {
        if self.get(path).is_some()
            && let Ok(place) = self.place(path)
        {
            *place = value;
        }
    }

    /// Removes and returns the value of a key.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.root.as_table_mut()?.remove(key)
    }

    /// Lays `upper` over the table at `path`, which is made where it is missing: its values win, tables are merged.
    pub fn overlay(&mut self, path: &KeyPath, upper: &Self) {
        if let Ok(Value::Table(table)) = self.place(path) {
            merge(table, upper.table());
        }
        self.file.clone_from(&upper.file);
        for (below, origin) in &upper.origins {
            self.origins.insert(path.join(below), origin.clone());
        }
    }

    /// The place of a path, with the tables on the way, and a table in it, made where they are missing; the error says
    /// why there is none.
    fn place(&mut self, path: &KeyPath) -> std::result::Result<&mut Value, String> {
        let mut place = &mut self.root;
        for (index, key) in path.0.iter().enumerate() {
            let reached = || KeyPath(path.0[..index].to_vec());
            place = match place {
                Value::Table(table) => table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new())),
                Value::Array(list) => {
                    let count = list.len();
                    let element = key.parse::<usize>().ok().and_then(|index| list.get_mut(index));
                    element.ok_or_else(|| {
                        format!(
                            "`{path}` names no path: `{}` is a list of {count}, numbered from 0",
                            reached()
                        )
                    })?
                }
                _ => return Err(format!("`{path}` names no path: `{}` is a plain value", reached())),
            };
        }
        Ok(place)
    }

    /// The value at `path` as a `T`; a message names the offending key's origin.
    pub fn typed<T: DeserializeOwned>(&self, path: &KeyPath) -> Result<T> {
        let value = self.get(path).cloned().ok_or_else(|| self.error(path, "is missing"))?;
        serde_path_to_error::deserialize(value).map_err(|error| {
            let below: KeyPath = error
                .path()
                .iter()
                .filter_map(|segment| match segment {
                    serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                    serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
                    _ => None,
                })
                .collect();
            let message = error.inner().to_string();
            let mut at = path.join(&below);
            // An unknown key is reported at its parent by some formats and at itself by others.
            if let Some(key) = quoted_after(&message, "unknown field `")
                && at.0.last().map(String::as_str) != Some(key)
            {
                at = at.child(key);
            }
            self.error(&at, in_plain_words(message.lines().next().unwrap_or_default().trim()))
        })
    }

    /// The origin of the value at a path, or of the nearest above it.
    fn origin(&self, path: &KeyPath) -> Option<&Origin> {
        (0..=path.0.len()).rev().find_map(|n| self.origins.get(&KeyPath(path.0[..n].to_vec())))
    }

    /// The file and line of the value at a path, or of the nearest above it; `None` if no file has it.
    pub fn line(&self, path: &KeyPath) -> Option<(&str, usize)> {
        match self.origin(path)? {
            Origin::Line(file, line) => Some((file, *line)),
            Origin::Named(_) => None,
        }
    }

    /// An error about the value at `path`, with the best-known place it came from.
    pub fn error(&self, path: &KeyPath, message: impl fmt::Display) -> Error {
        match self.origin(path) {
            Some(Origin::Line(file, line)) => Error::input(format!("{file}:{line}: {path}"), message),
            Some(Origin::Named(name)) => Error::input(format!("{name}: {path}"), message),
            None if self.file.is_empty() => Error::input(path, message),
            None => Error::input(format!("{}: {path}", self.file), message),
        }
    }
}

fn merge(lower: &mut Table, upper: &Table) {
    for (key, value) in upper {
        match (lower.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            _ => {
                lower.insert(key.clone(), value.clone());
            }
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
}

fn record_lines(table: &DeTable<'_>, path: &KeyPath, record: &mut impl FnMut(&KeyPath, usize)) {
    for (key, value) in table {
        let at = path.child(key.get_ref().to_string());
        record(&at, key.span().start);
        record_lines_inside(value.get_ref(), &at, record);
    }
}

fn record_lines_inside(value: &DeValue<'_>, path: &KeyPath, record: &mut impl FnMut(&KeyPath, usize)) {
    match value {
        DeValue::Table(below) => record_lines(below, path, record),
        DeValue::Array(list) => {
            for (index, element) in list.iter().enumerate() {
                let at = path.child(index.to_string());
                record(&at, element.span().start);
                record_lines_inside(element.get_ref(), &at, record);
            }
        }
        _ => {}
    }
}

fn quoted_after<'a>(message: &'a str, lead: &str) -> Option<&'a str> {
    message.split_once(lead)?.1.split('`').next()
}

/// Puts a message of the TOML reader into the words of this program, and adds "did you mean" to one that lists
/// what is known.
fn in_plain_words(message: &str) -> String {
    let message = &match message.split_once("expected ") {
        Some((found, "u32" | "u64" | "usize")) => format!("{found}expected a whole number of zero or more"),
        Some((found, wanted)) if wanted.starts_with("struct ") || wanted.starts_with("a map") => {
            format!("{found}expected a table")
        }
        Some((found, "a sequence")) if found.contains("map") => {
            format!("{found}expected a list of tables: write its name in double brackets, [[...]]")
        }
        Some((found, "a sequence")) => format!("{found}expected a list"),
        Some((found, "f64")) => format!("{found}expected a number"),
        Some((found, "a boolean")) => format!("{found}expected true or false"),
        Some((_, "string only")) => "expected one word in quotes".to_string(),
        _ => message.replace("missing field", "lacks the key"),
    };
    let wrong =
        quoted_after(message, "unknown field `").or_else(|| quoted_after(message, "unknown variant `"));
    let Some((wrong, (_, known))) = wrong.zip(message.split_once("expected")) else {
        return message.to_string();
    };
    let candidates = known.split('`').skip(1).step_by(2);
    match nearest(wrong, candidates) {
        Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
        None => message.to_string(),
    }
}

/// The candidate most like `word`, if one is near.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        buckets: u32,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        key: Inner,
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line_and_the_nearest_known_one() {
        let document = Document::parse("a.toml", "\n[key]\nbukets = 3\n").unwrap();
        let error = document.typed::<Outer>(&KeyPath::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "a.toml:3: key.bukets: unknown field `bukets`, expected `buckets`; did you mean `buckets`?"
        );
        let document = Document::parse("a.toml", "[key]\nbuckets = -3\n").unwrap();
        let error = document.typed::<Outer>(&KeyPath::default()).unwrap_err().to_string();
        assert!(error.starts_with("a.toml:2: key.buckets: "), "{error}");
        let error = Document::parse("a.toml", "x = 1\nx = 2\n").unwrap_err().to_string();
        assert!(error.starts_with("a.toml:2: "), "{error}");
    }

    #[test]
    fn layers_merge_and_remember_who_set_what() {
        let mut document = Document::parse("low.toml", "[key]\nbuckets = 1\nother = 2\n").unwrap();
        document.overlay(&KeyPath::default(), &Document::parse("high.toml", "[key]\nbuckets = 2\n").unwrap());
        let path: KeyPath = "key.buckets".parse().unwrap();
        assert_eq!(document.get(&path), Some(&Value::Integer(2)));
        assert_eq!(document.error(&path, "wrong").to_string(), "high.toml:2: key.buckets: wrong");
        document.set(&path, Value::Integer(5), "--set key.buckets=5").unwrap();
        assert_eq!(document.error(&path, "wrong").to_string(), "--set key.buckets=5: key.buckets: wrong");
        let below: KeyPath = "key.buckets.deep".parse().unwrap();
        assert!(
            document.set(&below, Value::Integer(5), "axis").unwrap_err().to_string().contains("plain value")
        );
    }

    #[test]
    fn elements_of_lists_have_paths_lines_and_origins() {
        let text = "x = 1\n[[change]]\nat = 1\n\n[[change]]\nat = 2\n[change.to]\nwhen = 'once'\n";
        let mut document = Document::parse("a.toml", text).unwrap();
        let path = |text: &str| text.parse::<KeyPath>().unwrap();
        assert_eq!(document.get(&path("change.1.to.when")), Some(&Value::String("once".into())));
        assert_eq!(document.get(&path("change.2.at")), None);
        let place = |document: &Document, at| document.error(&path(at), "wrong").to_string();
        assert_eq!(place(&document, "change.0.at"), "a.toml:3: change.0.at: wrong");
        assert_eq!(place(&document, "change.1.to.when"), "a.toml:8: change.1.to.when: wrong");
        assert_eq!(place(&document, "change.1.lag"), "a.toml:5: change.1.lag: wrong");
        let upper = Document::parse("b.toml", "when = 'always'\nlag = 3\n").unwrap();
        document.overlay(&path("change.1.to"), &upper);
        document.set(&path("change.1.at"), Value::Integer(7), "--set change.1.at=7").unwrap();
        assert_eq!(place(&document, "change.1.at"), "--set change.1.at=7: change.1.at: wrong");
        assert_eq!(place(&document, "change.1.to.lag"), "b.toml:2: change.1.to.lag: wrong");
        let part = document.part(&path("change.1.to")).unwrap();
        assert_eq!(part.get(&path("when")), Some(&Value::String("always".into())));
        assert_eq!(place(&part, "lag"), "b.toml:2: lag: wrong");
        let beyond = document.set(&path("change.2.at"), Value::Integer(7), "axis").unwrap_err().to_string();
        let message = "axis: `change.2.at` names no path: `change` is a list of 2, numbered from 0";
        assert_eq!(beyond, message);
    }
}
