//! Check: a linter of requests. Calls go in one by one, findings come out at the end.
//!
//! What is [`seen`] of a call is its tokens, digests of its parts and its place, never its text. Rules over [`single`]
//! calls look at that; rules over a log keep what they need of each key ([`keys`]), session ([`sessions`]), list of tools
//! ([`tools`]) and volatile head ([`volatile`], found by its [`pattern`]): memory follows their number, not that of the
//! calls. What a rule takes for granted is the
//! [contract](crate::experiment::contract) of the call's model. A [`scenario`] is checked by what is
//! known of it before a run.

use std::rc::Rc;

use crate::input::call::Call;
use crate::input::calls::LogKind;
use crate::input::render::{Rendered, Renderer, Vocabulary};
use crate::units::Tokens;

pub mod finding;
pub mod seen;
pub mod pattern;
pub mod volatile;
pub mod tools;
pub mod keys;
pub mod sessions;
pub mod single;
pub mod scenario;

use crate::experiment::contract::Contracts;
use finding::{Finding, Findings, Place};
use keys::Keys;
use seen::Seen;
use sessions::Sessions;
use tools::Toolsets;
use volatile::Volatile;

/// How requests are looked at.
#[derive(Clone, Debug)]
pub struct Options {
    /// How text becomes tokens.
    pub vocabulary: Vocabulary,
    /// Tokens that a message costs beside its content.
    pub message_overhead: Tokens,
    /// Whether findings have the piece of text that they are about.
    pub show_text: bool,
}

/// Distinct texts after which a renderer is made anew: it remembers all that it has seen.
const MOST_RENDERED: u64 = 2_048;

/// Looks at calls one by one.
pub struct Checker {
    options: Options,
    renderer: Renderer,
    calls: u64,
    contracts: Contracts,
    findings: Findings,
    volatile: Volatile,
    tools: Toolsets,
    keys: Keys,
    sessions: Sessions,
}

/// A file whose calls are checked.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, as the user wrote it.
    pub file: Rc<str>,
    /// Whether it has a call a line, rather than one in all.
    pub has_lines: bool,
    /// Whether its calls say everything that was sent beside the text: a transcript does not.
    pub has_settings: bool,
}

impl Source {
    /// A file of some form.
    pub fn new(file: &str, kind: LogKind) -> Self {
        let has_settings = matches!(kind, LogKind::Request | LogKind::Log | LogKind::Gateway);
        Self { file: file.into(), has_lines: kind != LogKind::Request, has_settings }
    }
}

impl Checker {
    /// A checker that has seen nothing; each call is judged by the contract of its model.
    pub fn new(contracts: Contracts, options: Options) -> Self {
        Self {
            renderer: Renderer::new(options.vocabulary, options.message_overhead),
            calls: 0,
            contracts,
            findings: Findings::default(),
            volatile: Volatile::default(),
            tools: Toolsets::default(),
            keys: Keys::default(),
            sessions: Sessions::default(),
            options,
        }
    }

    /// Looks at the next call of a file.
    pub fn call(&mut self, source: &Source, call: &Call) {
        if self.calls.is_multiple_of(MOST_RENDERED) {
            self.renderer = Renderer::new(self.options.vocabulary, self.options.message_overhead);
        }
        self.calls += 1;
        let whole = call.body.as_ref().filter(|_| !call.continues);
        let rendered = whole.map_or(Rendered::default(), |body| self.renderer.render(body));
        let contract = self.contracts.of(call.settings.prefix.get("model").map(String::as_str));
        let line = source.has_lines.then_some(call.line);
        let place = Place { file: source.file.clone(), line, path: String::new() };
        let seen = Seen::new(call, rendered, contract, place, source.has_settings);
        let Self { findings, volatile, tools, keys, sessions, .. } = self;
        let moving = volatile.look(&seen, &self.options);
        single::look(&seen, moving, findings);
        let toolset = tools.look(&seen, findings);
        keys.look(&seen, findings);
        sessions.look(&seen, toolset, findings);
    }

    /// What was found, what weighs most first.
    pub fn finish(mut self) -> Vec<Finding> {
        self.volatile.finish(&mut self.findings);
        self.keys.finish(&mut self.findings);
        self.sessions.finish(&mut self.findings);
        self.findings.finish()
    }

    /// How many calls were looked at.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// The contracts of the models seen.
    pub fn contracts(&self) -> &Contracts {
        &self.contracts
    }
}

#[cfg(test)]
mod tests;
