//! Keys: how many there are, how often each is used, and what it is used for.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::experiment::check::finding::{Finding, Findings, Place};
use crate::experiment::check::pattern::{Kind, Patterns};
use crate::experiment::check::seen::Seen;
use crate::experiment::rule::{Rule, Severity};
use crate::provider::routing::{self, Overflow, RateOver};
use crate::random::{digest, fold};
use crate::units::{SimTime, Span, Tokens};

/// Calls with a key below which nothing is said of keys in general.
const FEWEST_CALLS: u64 = 8;

/// Heads, and shapes of keys, that are remembered.
const MOST: usize = 1 << 12;

/// What is known of all keys.
#[derive(Debug, Default)]
pub struct Keys {
    patterns: Patterns,
    /// By what stands for the key, in the order of those numbers; calls without a key have none.
    keys: BTreeMap<u64, Key>,
    keyed_calls: u64,
    /// Calls with a key whose head some earlier one had.
    heads_again: u64,
    heads: FxHashSet<u64>,
    /// How many keys differ in nothing but their digits.
    shapes: FxHashMap<u64, u64>,
    rates: Rates,
}

/// What is known of a key.
#[derive(Debug)]
struct Key {
    first: Place,
    calls: u64,
    looks_like: Option<Kind>,
    /// The first value of each setting.
    settings: BTreeMap<&'static str, u64>,
    last: Option<SimTime>,
    gaps: u64,
    cold_gaps: u64,
    /// The beginnings of its latest calls that differ, and how much two of its calls have had in common at most.
    beginnings: SmallVec<[Beginning; LATEST]>,
    shared: Tokens,
    /// Fewest tokens that are cached.
    minimum: Tokens,
}

/// Beginnings that are compared with the next.
const LATEST: usize = 4;

/// Digests of a prompt's first tokens, as many as are the least to be cached, in steps of a sixteenth.
type Beginning = [u64; 16];

impl Keys {
    /// Looks at a call.
    pub fn look(&mut self, seen: &Seen<'_>, findings: &mut Findings) {
        let head = seen.head();
        self.rates.look(seen, head);
        let (Some(key), Some(text)) = (seen.key(), &seen.call.key) else { return };
        self.keyed_calls += 1;
        if self.heads.contains(&head) {
            self.heads_again += 1;
        } else if self.heads.len() < MOST {
            self.heads.insert(head);
        }
        let (patterns, shapes) = (&self.patterns, &mut self.shapes);
        let known = self.keys.entry(key).or_insert_with(|| {
            let shape = digest(text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>());
            if shapes.len() < MOST || shapes.contains_key(&shape) {
                *shapes.entry(shape).or_default() += 1;
            }
            Key::new(seen, patterns.kind(text))
        });
        known.calls += 1;
        known.note_gap(seen);
        known.note_beginning(seen);
        known.compare_settings(seen, findings);
    }

    /// What it comes to.
    pub fn finish(self, findings: &mut Findings) {
        self.judge_entropy(findings);
        self.rates.finish(findings);
        let cold = |key: &&Key| key.gaps >= 4 && key.cold_gaps * 2 > key.gaps;
        let cold: Vec<_> = self.keys.values().filter(cold).collect();
        if let Some(first) = earliest(&cold) {
            let gaps: u64 = cold.iter().map(|key| key.cold_gaps).sum();
            let words = format!(
                "{} of {} keys mostly wait longer for their next call than what they stored lives ({gaps} times)",
                cold.len(),
                self.keys.len()
            );
            findings
                .add("", Finding { count: gaps, ..Finding::new(Rule::ColdKey, first.first.clone(), words) });
        }
        let little = |key: &&Key| key.beginnings.len() > 1 && key.shared < key.minimum;
        let little: Vec<_> = self.keys.values().filter(little).collect();
        if let Some(first) = earliest(&little) {
            let words = format!(
                "calls under one key have fewer than {} tokens in common, and below {} nothing is cached ({} of {} keys)",
                first.shared + first.minimum / 16,
                first.minimum,
                little.len(),
                self.keys.len()
            );
            let count = little.iter().map(|key| key.calls).sum();
            findings.add(
                "shared",
                Finding { count, ..Finding::new(Rule::BelowMinimum, first.first.clone(), words) },
            );
        }
    }

    /// Whether keys are made for calls.
    fn judge_entropy(&self, findings: &mut Findings) {
        let mut once: Vec<_> = self.keys.values().filter(|key| key.calls == 1).collect();
        let (calls, keys) = (self.keyed_calls, self.keys.len());
        if calls < FEWEST_CALLS {
            once.retain(|key| key.looks_like.is_some());
            let Some(first) = earliest(&once) else { return };
            let Some(kind) = first.looks_like else { return };
            let words =
                format!("the key has {} in it: made for one call, it is never met again", kind.name());
            let timed = matches!(kind, Kind::Time | Kind::Epoch);
            let severity = if timed { Severity::Warning } else { Severity::Note };
            let finding = Finding::new(Rule::KeyPerCall, first.first.clone(), words);
            findings.add("one", Finding { severity, count: once.len() as u64, ..finding });
            return;
        }
        if once.len() as u64 * 4 <= calls * 3 {
            return;
        }
        let Some(first) = earliest(&once) else { return };
        let looks = once.iter().filter(|key| key.looks_like.is_some()).count();
        let alike = self.shapes.values().max().copied().unwrap_or(0) as usize;
        let why = match () {
            () if looks * 2 > keys => format!("; {looks} have a time, an id or a digest in them"),
            () if alike > 2 && alike * 2 > keys => {
                format!("; {alike} differ in their digits only, as if counted")
            }
            () => String::new(),
        };
        let words = format!("{keys} keys for {calls} calls, {} of them used once{why}", once.len());
        // Where calls have nothing in common, a key has nothing to lose.
        let severity = if self.heads_again * 2 > calls { Severity::Error } else { Severity::Note };
        let count = once.len() as u64;
        let finding = Finding::new(Rule::KeyPerCall, first.first.clone(), words);
        findings.add("all", Finding { severity, count, ..finding });
    }
}

/// The key that was used first.
fn earliest<'a>(keys: &[&'a Key]) -> Option<&'a Key> {
    keys.iter().min_by_key(|key| (key.first.file.clone(), key.first.line)).copied()
}

impl Key {
    fn new(seen: &Seen<'_>, looks_like: Option<Kind>) -> Self {
        Self {
            first: seen.place.at("prompt_cache_key"),
            calls: 0,
            looks_like,
            settings: BTreeMap::new(),
            last: None,
            gaps: 0,
            cold_gaps: 0,
            beginnings: SmallVec::new(),
            shared: 0,
            minimum: seen.provider().write.min_tokens,
        }
    }

    fn note_gap(&mut self, seen: &Seen<'_>) {
        let Some(now) = seen.call.time else { return };
        if let Some(last) = self.last.replace(now).filter(|last| *last <= now) {
            self.gaps += 1;
            let is_cold = seen.longest_life().is_some_and(|life| now.since(last) > Span(life));
            self.cold_gaps += u64::from(is_cold);
        }
    }

    /// Compares the beginning of a prompt with the latest others.
    fn note_beginning(&mut self, seen: &Seen<'_>) {
        let step = (self.minimum / 16).max(1) as usize;
        if seen.rendered.tokens.len() < step * 16 {
            return;
        }
        let mut sum = 0;
        let beginning: Beginning = std::array::from_fn(|index| {
            let tokens = &seen.rendered.tokens[index * step..(index + 1) * step];
            sum = tokens.iter().fold(sum, |sum, token| fold(sum, u64::from(*token)));
            sum
        });
        for other in &self.beginnings {
            let common = beginning.iter().zip(other).take_while(|(a, b)| a == b).count();
            let tokens = if common == 16 { self.minimum } else { (common * step) as Tokens };
            self.shared = self.shared.max(tokens);
        }
        if !self.beginnings.contains(&beginning) {
            if self.beginnings.len() == LATEST {
                self.beginnings.remove(0);
            }
            self.beginnings.push(beginning);
        }
    }

    /// Compares what is sent beside the text with the first call's.
    fn compare_settings(&mut self, seen: &Seen<'_>, findings: &mut Findings) {
        for (name, value) in &seen.call.settings.prefix {
            let value = digest(value);
            if *self.settings.entry(name).or_insert(value) != value {
                let words = format!("another {name} than in {} under the same key", self.first.line());
                findings.add(name, Finding::new(Rule::MixedKey, seen.place.at(name), words));
            }
        }
    }
}

/// Requests a minute, by what the limit counts over.
#[derive(Debug, Default)]
struct Rates {
    /// The times of the last minute.
    lately: FxHashMap<u64, VecDeque<SimTime>>,
    calls: u64,
    hot: Option<Hot>,
}

#[derive(Debug)]
struct Hot {
    first: Place,
    limit: u32,
    over: u64,
    peak: usize,
    groups: FxHashSet<u64>,
}

impl Rates {
    fn look(&mut self, seen: &Seen<'_>, head: u64) {
        let routing = &seen.provider().routing;
        let Some(now) = seen.call.time else { return };
        if routing.rule != routing::Rule::Home || routing.overflow == Overflow::None {
            return;
        }
        self.calls += 1;
        if self.calls.is_multiple_of(4_096) {
            self.lately.retain(|_, times| times.back().is_some_and(|last| is_lately(*last, now)));
        }
        let key = seen.key().unwrap_or(0);
        let group = if routing.rate_over == RateOver::Key { key } else { fold(key, head) };
        let times = self.lately.entry(group).or_default();
        times.retain(|time| is_lately(*time, now));
        times.push_back(now);
        let rate = times.len();
        if rate > routing.limit_rpm as usize {
            let (first, limit) = (seen.place.clone(), routing.limit_rpm);
            let first = || Hot { first, limit, over: 0, peak: 0, groups: FxHashSet::default() };
            let hot = self.hot.get_or_insert_with(first);
            hot.over += 1;
            hot.peak = hot.peak.max(rate);
            hot.groups.insert(group);
        }
    }

    fn finish(self, findings: &mut Findings) {
        let Some(Hot { first, limit, over, peak, groups }) = self.hot else { return };
        let words = format!(
            "{over} of {} calls came when {limit} others of their key and prefix had come within a minute: up to {peak} a minute, {} times the limit; keys and prefixes so hot: {}",
            self.calls,
            peak.div_ceil(limit.max(1) as usize),
            groups.len()
        );
        findings.add("", Finding { count: over, ..Finding::new(Rule::HotKey, first, words) });
    }
}

/// Whether two times lie within a minute, whichever a log has first.
fn is_lately(time: SimTime, now: SimTime) -> bool {
    time.max(now).since(time.min(now)) < Span::MINUTE
}
