//! Finding: a rule that fired, and where. The same in a thousand lines is one finding.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::experiment::rule::{Rule, Severity};
use crate::units::Tokens;

/// Where something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Rc<str>,
    /// Its line, if it has lines.
    pub line: Option<u64>,
    /// A JSON path within the request, or a path of a scenario; empty for all of it.
    pub path: String,
}

impl Place {
    /// A path at this place.
    pub fn at(&self, path: &str) -> Self {
        Self { path: path.to_string(), ..self.clone() }
    }

    /// File and line, and no more.
    pub fn line(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.to_string(),
        }
    }
}

/// A rule that fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub rule: Rule,
    /// How much it weighs here.
    pub severity: Severity,
    /// Where it was found first.
    pub place: Place,
    /// The token of the prompt at which it lies, and how many stand behind it.
    pub depth: Option<(Tokens, Tokens)>,
    /// In how many calls (of a scenario: at how many places) it was found.
    pub count: u64,
    /// What was found, without any text of the request.
    pub message: String,
    /// The piece of text, if it was asked for.
    pub text: Option<String>,
}

impl Finding {
    /// A finding of a rule, as grave as the rule says, in one call.
    pub fn new(rule: Rule, place: Place, message: impl Into<String>) -> Self {
        let severity = rule.row().severity;
        Self { rule, severity, place, depth: None, count: 1, message: message.into(), text: None }
    }
}

/// Findings as they come together: one for each rule, kind and shape of path.
#[derive(Debug, Default)]
pub struct Findings(BTreeMap<(Rule, &'static str, String), Finding>);

impl Findings {
    /// Adds a finding; `kind` tells apart what one rule finds.
    pub fn add(&mut self, kind: &'static str, finding: Finding) {
        let known = self.0.entry((finding.rule, kind, shape(&finding.place.path)));
        let count = finding.count;
        let severity = finding.severity;
        known
            .and_modify(|first| {
                first.count += count;
                first.severity = first.severity.max(severity);
            })
            .or_insert(finding);
    }

    /// Adds a finding that is like no other, unless it was said already.
    pub fn add_each(&mut self, finding: Finding) {
        let known = (finding.rule, "", format!("{} {}", finding.place.path, finding.message));
        self.0.entry(known).or_insert(finding);
    }

    /// All of them, what weighs most first.
    pub fn finish(self) -> Vec<Finding> {
        let mut all: Vec<_> = self.0.into_values().collect();
        // Stable: what is left equal stays in the order of paths.
        all.sort_by_key(|finding| (Reverse(finding.severity), finding.rule, finding.place.line));
        all
    }
}

/// A path without its numbers: what `input[3].content[0]` and `input[5].content[0]` have in common.
pub fn shape(path: &str) -> String {
    path.chars().filter(|c| !c.is_ascii_digit()).collect()
}
