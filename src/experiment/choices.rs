//! What a client can choose from: every combination of values at some of its own paths.

use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::scenario::{Axis, Change, Loaded, parse_value};
use crate::experiment::tables::plain;

/// The most choices that are compared.
const MOST_CHOICES: usize = 2_000;

/// One choice.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Its values, in the order of the paths; empty for the scenario as it is written.
    pub values: Vec<Value>,
    /// The scenario with these values.
    pub loaded: Loaded,
}

impl Choice {
    /// What it is, for a person.
    pub fn name(&self, paths: &[KeyPath]) -> String {
        if self.values.is_empty() {
            return "as written".into();
        }
        let short = |path: &KeyPath| path.keys().last().cloned().unwrap_or_default();
        let words =
            paths.iter().zip(&self.values).map(|(path, value)| format!("{} {}", short(path), plain(value)));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Values at a path of the client's.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    /// Where.
    pub path: KeyPath,
    /// The values.
    pub values: Vec<Value>,
}

impl Over {
    /// Reads `path=values`, several of them with commas between: `client.key.buckets=1..64`,
    /// `client.retention=["in_memory", "24h"]`.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        let wrong = |message: String| Error::input(format!("--over {text}"), message);
        let mut overs = Vec::new();
        for part in split_outside_brackets(text) {
            let form = "write path=values, such as client.key.buckets=1..64 or client.retention=[\"in_memory\", \"24h\"]";
            let (path, values) = part.split_once('=').ok_or_else(|| wrong(form.into()))?;
            let path: KeyPath = path.parse().map_err(wrong)?;
            if path.keys()[0] != "client" {
                return Err(wrong(format!("`{path}` is not the client's to choose: only client.* is")));
            }
            let axis = Axis { path: path.to_string(), values: parse_value(values) };
            let values = match &axis.values {
                Value::String(text) if !text.contains("..") => vec![axis.values.clone()],
                _ => axis.values().map_err(wrong)?,
            };
            overs.push(Self { path, values });
        }
        Ok(overs)
    }
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '[' | '{' | '(' => depth += 1,
            ']' | '}' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Every combination of the values, the last path turning fastest; before them the scenario as it is written, if it
/// is none of them.
pub fn choices(loaded: &Loaded, over: &[Over]) -> Result<Vec<Choice>> {
    let count = over.iter().fold(1usize, |count, over| count.saturating_mul(over.values.len()));
    if count > MOST_CHOICES {
        return Err(Error::input("--over", format!("{count} choices are more than {MOST_CHOICES}")));
    }
    let bare = loaded.with(&[
        Change::new("attribution", false, "recommend"),
        Change::new("sweep", toml::Table::new(), "recommend"),
    ])?;
    let paths: Vec<String> = over.iter().map(|over| over.path.to_string()).collect();
    let swept = |path: &str| paths.iter().any(|swept| swept == path);
    // A number of buckets means nothing to any other strategy.
    let implied = (swept("client.key.buckets") && !swept("client.key.strategy"))
        .then(|| Change::new("client.key.strategy", "buckets", "recommend"));
    let combined = over.iter().fold(vec![Vec::new()], |combined, over| {
        let extend = |start: Vec<Value>| {
            over.values.iter().map(move |value| [start.clone(), vec![value.clone()]].concat())
        };
        combined.into_iter().flat_map(extend).collect()
    });
    let mut choices = vec![Choice { values: Vec::new(), loaded: bare.clone() }];
    for values in combined {
        let change = |(over, value): (&Over, &Value)| Change {
            path: over.path.clone(),
            value: value.clone(),
            origin: format!("choice {} = {value}", over.path),
        };
        let changes: Vec<_> = implied.iter().cloned().chain(over.iter().zip(&values).map(change)).collect();
        choices.push(Choice { values, loaded: bare.with(&changes)? });
    }
    if choices[1..].iter().any(|choice| choice.loaded.scenario == bare.scenario) {
        choices.remove(0);
    }
    Ok(choices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lists_and_words_are_read() {
        let over = Over::parse("client.key.buckets=1..3,client.retention=[\"in_memory\", \"24h\"]").unwrap();
        let lengths: Vec<_> = over.iter().map(|over| (over.path.to_string(), over.values.len())).collect();
        assert_eq!(lengths, [("client.key.buckets".to_string(), 3), ("client.retention".to_string(), 2)]);
        assert_eq!(Over::parse("client.key.strategy=constant").unwrap()[0].values.len(), 1);
        for text in ["client.key.buckets", "provider.routing.pool=1..3", "client.key.buckets=9..1", "=3"] {
            assert!(Over::parse(text).is_err(), "{text}");
        }
    }
}
