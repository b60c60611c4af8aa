//! What a client can choose from: every combination of values at some of its own paths.

use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::grid::Grid;
use crate::experiment::scenario::{Change, Loaded};
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

/// Reads values at paths of the client's, several of them with commas between: `client.key.buckets=1..64`,
/// `client.retention=["in_memory", "24h"]`.
pub fn over(text: &str) -> Result<Vec<Grid>> {
    const EXAMPLE: &str = "client.key.buckets=1..64 or client.retention=[\"in_memory\", \"24h\"]";
    let grid = |part: &str| {
        let grid = Grid::parse("--over", part.trim(), EXAMPLE)?;
        match grid.path.keys()[0] == "client" {
            true => Ok(grid),
            false => {
                let message = format!("`{}` is not the client's to choose: only client.* is", grid.path);
                Err(Error::input(&grid.origin, message))
            }
        }
    };
    split_outside_brackets(text).into_iter().map(grid).collect()
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
pub fn choices(loaded: &Loaded, over: &[Grid]) -> Result<Vec<Choice>> {
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
        let change = |(over, value): (&Grid, &Value)| Change {
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
    fn several_are_read_and_only_of_the_client() {
        let grids = over("client.key.buckets=1..3,client.retention=[\"in_memory\", \"24h\"]").unwrap();
        let lengths: Vec<_> = grids.iter().map(|grid| (grid.path.to_string(), grid.values.len())).collect();
        assert_eq!(lengths, [("client.key.buckets".to_string(), 3), ("client.retention".to_string(), 2)]);
        for text in ["client.key.buckets", "provider.routing.pool=1..3", "client.key.buckets=9..1", "=3"] {
            assert!(over(text).is_err(), "{text}");
        }
    }
}
