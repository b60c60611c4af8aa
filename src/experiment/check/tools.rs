//! Tools and schemas that are the same, and are not sent the same.

use rustc_hash::FxHashMap;
use serde_json::Value;

use crate::experiment::check::finding::{Finding, Findings, Place};
use crate::experiment::check::seen::Seen;
use crate::experiment::rule::Rule;
use crate::input::call::{Content, Part, Role};
use crate::random::{digest, fold};

/// Lists of tools that are remembered.
const MOST: usize = 4_096;

/// All lists of tools, and schemas of answers, seen so far.
#[derive(Debug, Default)]
pub struct Toolsets {
    /// What a list comes to, by its exact text.
    known: FxHashMap<u64, u64>,
    /// The first list of each set.
    first: FxHashMap<u64, First>,
    /// The first text of each format of answers, by what it says.
    formats: FxHashMap<u64, (u64, Place)>,
}

#[derive(Debug)]
struct First {
    /// The tools one by one, as they were written, and whatever the order of their keys.
    exact: Vec<u64>,
    canonical: Vec<u64>,
    place: Place,
}

impl Toolsets {
    /// Looks at the tools and the format of a call; what stands for its set of tools, whatever their order.
    pub fn look(&mut self, seen: &Seen<'_>, findings: &mut Findings) -> u64 {
        if self.known.len() > MOST || self.formats.len() > MOST {
            *self = Self::default();
        }
        self.look_at_format(seen, findings);
        self.look_at_tools(seen, findings)
    }

    fn look_at_format(&mut self, seen: &Seen<'_>, findings: &mut Findings) {
        let Some(format) = seen.call.settings.prefix.get("text.format") else { return };
        let exact = digest(format);
        let first = self.formats.entry(canonical_text(format)).or_insert_with(|| (exact, seen.place.clone()));
        if first.0 != exact {
            let place = seen.place.at("text.format");
            let words =
                format!("the same format of answers as in {}, its keys in another order", first.1.line());
            findings.add("format", Finding::new(Rule::JsonKeyOrder, place, words));
        }
    }

    fn look_at_tools(&mut self, seen: &Seen<'_>, findings: &mut Findings) -> u64 {
        let tools: Vec<_> =
            (0..seen.parts.len()).filter(|part| seen.parts[*part].role == Role::Tools).collect();
        if tools.is_empty() {
            return set_of(&[]);
        }
        let exact: Vec<_> = tools.iter().map(|part| seen.pieces[*part].content).collect();
        let whole = exact.iter().fold(0, |sum, tool| fold(sum, *tool));
        let set = match self.known.get(&whole) {
            Some(set) => *set,
            None => self.learn(seen, whole, &exact, &tools),
        };
        let first = &self.first[&set];
        let Some(differs) = exact.iter().zip(&first.exact).position(|(a, b)| a != b) else {
            return set;
        };
        let part = tools[differs];
        let canonical = canonical(&seen.parts[part]);
        let count = tools.len();
        let (rule, how) = match canonical == first.canonical[differs] {
            true => (Rule::JsonKeyOrder, "with keys in another order"),
            false => (Rule::ToolOrder, "in another order"),
        };
        let words = format!(
            "the same {count} tools as in {}, {how} from number {} on: {} tokens behind that are not read",
            first.place.line(),
            differs + 1,
            seen.counted() - seen.start(part)
        );
        let depth = seen.depth(seen.start(part));
        let finding = Finding::new(rule, seen.place.at(&seen.parts[part].path), words);
        findings.add("tools", Finding { depth, ..finding });
        set
    }

    /// Learns a list that was not seen before: the set that it is.
    fn learn(&mut self, seen: &Seen<'_>, whole: u64, exact: &[u64], tools: &[usize]) -> u64 {
        let canonical: Vec<_> = tools.iter().map(|part| canonical(&seen.parts[*part])).collect();
        let set = set_of(&canonical);
        self.known.insert(whole, set);
        let first = || First { exact: exact.to_vec(), canonical, place: seen.place.clone() };
        self.first.entry(set).or_insert_with(first);
        set
    }
}

/// What stands for a set of tools, whatever their order.
fn set_of(tools: &[u64]) -> u64 {
    let mut sorted = tools.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().fold(tools.len() as u64, fold)
}

fn canonical(part: &Part) -> u64 {
    match &part.content {
        Content::Text(text) => canonical_text(text),
        Content::Sized { digest, .. } => *digest,
    }
}

/// What stands for JSON, whatever the order of its keys; for other text, itself.
fn canonical_text(text: &str) -> u64 {
    serde_json::from_str(text).map_or_else(|_| digest(text), |value| canonical_value(&value))
}

fn canonical_value(value: &Value) -> u64 {
    match value {
        Value::Object(object) => {
            let mut fields: Vec<_> = object.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| name.as_str());
            let field = |sum, (name, value): (&String, &Value)| {
                let value = match (name.as_str(), value) {
                    // A schema's list of required fields is a set.
                    ("required", Value::Array(list)) => {
                        set_of(&list.iter().map(canonical_value).collect::<Vec<_>>())
                    }
                    _ => canonical_value(value),
                };
                fold(fold(sum, digest(name)), value)
            };
            fields.into_iter().fold(1, field)
        }
        Value::Array(list) => list.iter().fold(2, |sum, value| fold(sum, canonical_value(value))),
        scalar => digest(scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_an_order_is_told_apart_by_it() {
        let same = |a, b| canonical_text(a) == canonical_text(b);
        assert!(same(r#"{"a":1,"b":{"c":[1,2],"d":"x"}}"#, r#"{"b":{"d":"x","c":[1,2]},"a":1}"#));
        assert!(same(r#"{"required":["a","b"]}"#, r#"{"required":["b","a"]}"#));
        assert!(!same(r#"{"enum":["a","b"]}"#, r#"{"enum":["b","a"]}"#));
        assert!(!same(r#"{"a":1}"#, r#"{"a":"1"}"#));
        assert!(!same(r#"{"a":{}}"#, r#"{"a":[]}"#));
        assert!(!same("no json", "No json"));
    }
}
