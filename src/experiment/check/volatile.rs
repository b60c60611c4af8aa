//! Volatile heads: what looks as if it changes, and whether it does.
//!
//! Looked at are tools, instructions and the first message behind them, if others follow it. A piece has changed if two
//! prompts are the same before it and differ in it. What stands behind a change is not followed: it changes nothing more.

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::experiment::check::Options;
use crate::experiment::check::finding::{Finding, Findings, shape};
use crate::experiment::check::pattern::{Kind, Match, Patterns};
use crate::experiment::check::seen::Seen;
use crate::experiment::rule::{Rule, Severity};
use crate::input::call::{Body, Content, Part, Role};
use crate::input::render::Renderer;
use crate::random::fold;
use crate::units::Tokens;

/// Places, and scanned texts, that are remembered.
const MOST: usize = 1 << 16;

/// What is known of the heads of all prompts.
#[derive(Debug, Default)]
pub struct Volatile {
    patterns: Patterns,
    /// What was found in a text, by its digest.
    scanned: FxHashMap<u64, Rc<[Match]>>,
    /// What stood last behind some beginning of a prompt.
    last: FxHashMap<u64, u64>,
    found: BTreeMap<(String, Kind), Found>,
}

/// What was found at places of one shape.
#[derive(Debug)]
struct Found {
    finding: Finding,
    in_tools: bool,
    /// How often the same prompt came again up to here, and in how many of them the piece was another one.
    again: u64,
    changed: u64,
}

impl Volatile {
    /// Looks at a call; the depth of the first piece that looks as if it changes with every call, or has changed.
    pub fn look(&mut self, seen: &Seen<'_>, options: &Options) -> Option<Tokens> {
        let mut before = 0;
        let mut first = None;
        for part in 0..self.looked_at(seen) {
            let Content::Text(text) = &seen.parts[part].content else { continue };
            let content = seen.pieces[part].content;
            if self.scanned.len() > MOST {
                self.scanned.clear();
            }
            let patterns = &self.patterns;
            let matches = self.scanned.entry(content).or_insert_with(|| patterns.find(text).into()).clone();
            for found in matches.iter() {
                let changed = self.compare(fold(before, found.before), found.value);
                let depth = self.note(seen, part, found, changed, options);
                if changed == Some(true) || found.kind.is_of_a_call() && seen.parts[part].role != Role::Tools
                {
                    first = first.or(Some(depth));
                }
                if changed == Some(true) {
                    return first;
                }
            }
            before = fold(before, content);
        }
        first
    }

    /// How many parts are the head: tools, instructions, and the first message if others follow it.
    fn looked_at(&self, seen: &Seen<'_>) -> usize {
        let behind = seen.parts.get(seen.head_parts..).unwrap_or_default();
        let first = behind.iter().position(|part| part.ends_message).map_or(0, |end| end + 1);
        let followed = behind.len() > first;
        seen.head_parts + if followed { first } else { 0 }
    }

    /// Whether another piece stood at this place before; `None` if nobody has seen the place.
    fn compare(&mut self, place: u64, value: u64) -> Option<bool> {
        let room = self.last.len() < MOST;
        match self.last.get_mut(&place) {
            Some(last) => Some(std::mem::replace(last, value) != value),
            None => {
                if room {
                    self.last.insert(place, value);
                }
                None
            }
        }
    }

    /// Notes a piece; the token at which it lies.
    fn note(
        &mut self,
        seen: &Seen<'_>,
        part: usize,
        found: &Match,
        changed: Option<bool>,
        options: &Options,
    ) -> Tokens {
        let Part { path, role, content, opens_message, .. } = &seen.parts[part];
        let overhead = if *opens_message { options.message_overhead } else { 0 };
        let start = seen.start(part) + overhead;
        let Content::Text(text) = content else { return start };
        let known = self.found.entry((shape(path), found.kind)).or_insert_with(|| {
            let depth = start + tokens_before(text, found.start, options);
            let place = seen.place.at(path);
            let mut finding = Finding { count: 0, ..Finding::new(Rule::VolatileHead, place, "") };
            finding.depth = seen.depth(depth);
            finding.text = options.show_text.then(|| text[found.start..found.end].to_string());
            Found { finding, in_tools: *role == Role::Tools, again: 0, changed: 0 }
        });
        known.finding.count += 1;
        known.again += u64::from(changed.is_some());
        known.changed += u64::from(changed == Some(true));
        // Near enough where nobody asks for more: the share of the text before it.
        let inside = u64::from(seen.pieces[part].end - start);
        start + (inside * found.start as u64 / text.len().max(1) as u64) as Tokens
    }

    /// What it comes to.
    pub fn finish(self, findings: &mut Findings) {
        for ((_, kind), found) in self.found {
            let Found { mut finding, in_tools, again, changed } = found;
            finding.severity = match (again, changed) {
                (0, _) if kind.is_of_a_call() && !in_tools => Severity::Warning,
                (_, 0) => Severity::Note,
                // A date is new once a day.
                _ if changed * 20 >= again => Severity::Error,
                _ => Severity::Warning,
            };
            let (token, behind) = finding.depth.unwrap_or_default();
            let evidence = match (again, changed) {
                (0, _) => "whether it changes, one call cannot tell".to_string(),
                (_, 0) => format!("it did not change in {again} calls that were the same up to it"),
                _ => format!("it changed in {changed} of {again} calls that were the same up to it"),
            };
            finding.message =
                format!("{} at token {token}, with {behind} tokens behind it: {evidence}", kind.name());
            findings.add(kind.name(), finding);
        }
    }
}

/// Tokens of a text before one of its bytes.
fn tokens_before(text: &str, end: usize, options: &Options) -> Tokens {
    let before = Body { parts: vec![Part::text("", Role::User, &text[..end])] };
    Renderer::new(options.vocabulary, 0).render(&before).tokens.len() as Tokens
}
