//! Values at a path: what is tried there, whoever asks.

use toml::Value;

use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::scenario::{Axis, Change, parse_value};

/// Values at a path of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Where.
    pub path: KeyPath,
    /// What is tried.
    pub values: Vec<Value>,
    /// Who asks for it, for messages.
    pub origin: String,
}

impl Grid {
    /// Values at a path that the program knows.
    pub fn new<V: Into<Value>>(path: KeyPath, values: impl IntoIterator<Item = V>, origin: &str) -> Self {
        Self { path, values: values.into_iter().map(Into::into).collect(), origin: origin.into() }
    }

    /// Reads `path=values` of a flag: a list, a range of whole numbers, or one value. `example` shows how it is written.
    pub fn parse(flag: &str, text: &str, example: &str) -> Result<Self> {
        let origin = format!("{flag} {text}");
        let wrong = |message: String| Error::input(&origin, message);
        let form = || wrong(format!("write path=values, such as {example}"));
        let (path, values) = text.split_once('=').ok_or_else(form)?;
        let path: KeyPath = path.parse().map_err(wrong)?;
        let axis = Axis { path: path.to_string(), values: parse_value(values) };
        let values = match &axis.values {
            // A word, or a distribution of spans, is no range and stands for itself.
            Value::String(text) if !text.contains("..") || text.contains('(') => vec![axis.values.clone()],
            _ => axis.values().map_err(wrong)?,
        };
        Ok(Self { path, values, origin })
    }

    /// One of the values as a change.
    pub fn change(&self, value: &Value) -> Change {
        Change { path: self.path.clone(), value: value.clone(), origin: self.origin.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lists_words_and_distributions_are_read() {
        let values = |text: &str| Grid::parse("--over", text, "a=1").map(|grid| grid.values);
        assert_eq!(values("a.b=1..3").unwrap(), [1.into(), 2.into(), 3.into()]);
        assert_eq!(values("a.b=[\"x\", \"y\"]").unwrap(), ["x".into(), "y".into()]);
        for word in ["constant", "5m", "uniform(5m..10m)"] {
            assert_eq!(values(&format!("a={word}")).unwrap(), [word.into()]);
        }
        for wrong in ["a.b", "a=9..1", "=3", "a=[]"] {
            assert!(
                values(wrong).unwrap_err().to_string().starts_with(&format!("--over {wrong}: ")),
                "{wrong}"
            );
        }
    }
}
