//! A scenario's findings: what is known before a run, and what its workloads do to their own prefixes.

use crate::client::volatility::{HeadChanges, Reasoning, Volatility};
use crate::document::KeyPath;
use crate::experiment::check::finding::{Finding, Findings, Place};
use crate::experiment::preflight::{self, Warning};
use crate::experiment::rule::{Rule, Severity};
use crate::experiment::scenario::Loaded;

/// What is found in a scenario.
pub fn findings(loaded: &Loaded) -> Vec<Finding> {
    let mut findings = Findings::default();
    for warning in preflight::known(loaded).into_iter().chain(volatile(loaded)) {
        let Warning { rule, path, words } = warning;
        let place = match loaded.line(&path) {
            Some((file, line)) => {
                Place { file: file.into(), line: Some(line as u64), path: path.to_string() }
            }
            None => Place { file: loaded.name.as_str().into(), line: None, path: path.to_string() },
        };
        // One finding for each place and rule: of a few places each is worth its line.
        let finding = Finding::new(rule, place, words);
        findings.add_each(finding);
    }
    findings.finish()
}

/// What changes inside prompts, and would be found in their log.
fn volatile(loaded: &Loaded) -> Vec<Warning> {
    let mut found = Vec::new();
    for (name, workload) in &loaded.scenario.client.workload {
        let path = KeyPath::from_iter(["client", "workload", name, "volatility"]);
        let mut add = |rule, field: &str, words: String| {
            found.push(Warning {
                rule,
                path: path.child(field),
                words: format!("workload `{name}`: {words}"),
            });
        };
        let Volatility { head_tokens, head_changes, reasoning, reasoning_tokens, .. } = &workload.volatility;
        let changes = match head_changes {
            HeadChanges::Call => "call",
            HeadChanges::Minute => "minute",
            HeadChanges::Day => "day",
        };
        // Independent calls whose head changes with each are warned of before a run.
        if *head_tokens > 0 && !(workload.shared_prefix.is_some() && *head_changes == HeadChanges::Call) {
            let words =
                format!("the first {head_tokens} tokens change with every {changes}: nothing behind is read");
            add(Rule::VolatileHead, "head_changes", words);
        }
        if *reasoning != Reasoning::Kept && reasoning_tokens.support().1 != Some(0) {
            add(Rule::DroppedReasoning, "reasoning", "reasoning is not sent back for ever".into());
        }
    }
    found
}

/// The gravest finding.
pub fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|finding| finding.severity).max()
}
