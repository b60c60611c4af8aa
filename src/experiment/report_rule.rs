//! The exact part of a fit: which rules of the report explain every reading of `cached_tokens`.
//!
//! A boundary lies every `interval` tokens from the start of a hidden system message of `hidden_tokens`; what is read is
//! the deepest shared one, less the hidden tokens, at most prompt - 1, rounded down to `report_step`. Steps and intervals
//! are tried at powers of two, hidden tokens at every value below the interval (more only shifts them).
//!
//! Several rules explain the same readings. The one named first makes them least of a coincidence: its readings are
//! drawn from the fewest values (one in `interval` where the depth is not known), weighed with the share of hidden
//! lengths that fit.

use std::collections::BTreeSet;
use std::fmt;

use crate::experiment::observations::{Content, Observations, ObservedRequest};
use crate::provider::write::Write;
use crate::units::Tokens;

/// Steps and intervals that are tried: powers of two up to this one.
const LONGEST_INTERVAL: Tokens = 8_192;

/// The coarsest report that is tried; no vendor rounds to more.
const COARSEST_STEP: Tokens = 128;

/// One non-zero reading.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading {
    /// Length of the prompt.
    pub prompt_tokens: Tokens,
    /// What was read.
    pub cached_tokens: Tokens,
    /// How much of the prompt was sent before; `None` where that is not known.
    pub shared_tokens: Option<Tokens>,
    /// Where it stands, for messages.
    pub place: String,
}

/// A rule that explains the most readings, with every length of the hidden message that does.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportRule {
    /// Step to which reports are rounded down.
    pub report_step: Tokens,
    /// Tokens between boundaries.
    pub interval: Tokens,
    /// Lengths of the hidden message, modulo the interval, that explain them all: ranges of first and last.
    pub hidden_tokens: Vec<(Tokens, Tokens)>,
    /// How many readings it explains.
    pub explained: usize,
    /// Where the first reading stands that contradicts it.
    pub contradicted_at: Option<String>,
    /// Logarithm of how much less of a coincidence the readings are under this rule.
    weight: f64,
}

/// What the readings say of the report.
#[derive(Clone, Debug, Default)]
pub struct ReportCard {
    /// Distinct readings, ascending.
    pub distinct: Vec<Tokens>,
    /// How many readings there are.
    pub readings: usize,
    /// The rules that explain the most, the likeliest first.
    pub rules: Vec<ReportRule>,
    /// The scenario's own rule, where it has one of this kind.
    pub own: Option<OwnRule>,
}

/// What the scenario's own rule explains.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnRule {
    /// Step, interval and hidden tokens, in words.
    pub words: String,
    /// How many readings it explains.
    pub explained: usize,
    /// Where the first reading stands that contradicts it.
    pub contradicted_at: Option<String>,
    /// The rule with the same step and interval and the hidden tokens that suit it, if that explains as many as any.
    pub alike: Option<ReportRule>,
}

/// The non-zero readings of all requests. How much was shared is known where all requests of a prefix share the same
/// length; where it grows, an earlier part may be all that is still alive. Of a log, repeats of whole prompts are known so.
pub fn readings(
    observations: &Observations,
    prefix_tokens: impl Fn(&ObservedRequest) -> Tokens,
) -> Vec<Reading> {
    let all: Vec<_> = observations.requests().collect();
    let steady = |request: &ObservedRequest| {
        let shared = prefix_tokens(request);
        let alike = all.iter().filter(|(_, other)| other.prefix == request.prefix);
        alike.map(|(_, other)| prefix_tokens(other)).all(|other| other == shared).then_some(shared)
    };
    let mut known: std::collections::BTreeMap<&str, Option<Tokens>> = std::collections::BTreeMap::new();
    let mut readings = Vec::new();
    for (cell, request) in &all {
        let shared = match &request.content {
            Content::Prefix(_) => *known.entry(&request.prefix).or_insert_with(|| steady(request)),
            Content::Logged(prompt) => prompt.read_tokens,
        };
        let Some(cached_tokens) = request.cached_tokens.filter(|cached| *cached > 0) else { continue };
        readings.push(Reading {
            prompt_tokens: request.prompt_tokens,
            cached_tokens,
            shared_tokens: shared,
            place: format!("{}:{}", cell.file, request.line),
        });
    }
    readings
}

impl ReportCard {
    /// Every rule that explains as many readings as any does.
    pub fn new(readings: &[Reading]) -> Self {
        let distinct: BTreeSet<_> = readings.iter().map(|reading| reading.cached_tokens).collect();
        let mut card = Self {
            distinct: distinct.into_iter().collect(),
            readings: readings.len(),
            rules: Vec::new(),
            own: None,
        };
        if readings.is_empty() {
            return card;
        }
        let powers = |last: Tokens| (0..).map(|power| 1 << power).take_while(move |value| *value <= last);
        let steps = powers(COARSEST_STEP).filter(|step| *step == 1 || *step >= 16);
        let rules = steps.flat_map(|step| {
            powers(LONGEST_INTERVAL)
                .filter(|interval| *interval == 1 || *interval >= 16)
                .map(move |interval| (step, interval))
        });
        let rules: Vec<_> = rules.map(|(step, interval)| explained_by(readings, step, interval)).collect();
        let most = rules.iter().map(|rule| rule.explained).max().unwrap_or(0);
        card.rules = rules.into_iter().filter(|rule| rule.explained == most && most > 0).collect();
        card.rules.sort_by(|a, b| {
            b.weight.total_cmp(&a.weight).then((a.interval, b.report_step).cmp(&(b.interval, a.report_step)))
        });
        card
    }

    /// Adds what the rule of a scenario's provider explains.
    pub fn beside(mut self, write: &Write, readings: &[Reading]) -> Self {
        let Write { report_step, interval, hidden_tokens, .. } = *write;
        let agrees = |reading: &&Reading| explains(reading, report_step, interval, hidden_tokens);
        let same = |rule: &&ReportRule| (rule.report_step, rule.interval) == (report_step, interval);
        let alike = self.rules.iter().find(same).filter(|_| interval > 1).cloned();
        self.own = (write.covers() && !readings.is_empty()).then(|| OwnRule {
            words: format!("report_step {report_step}, interval {interval}, hidden_tokens {hidden_tokens}"),
            explained: readings.iter().filter(agrees).count(),
            contradicted_at: readings.iter().find(|r| !agrees(r)).map(|reading| reading.place.clone()),
            alike,
        });
        self
    }

    /// The likeliest rule.
    pub fn best(&self) -> Option<&ReportRule> {
        self.rules.first()
    }

    /// Whether more than one distinct reading tells intervals apart.
    pub fn tells_intervals_apart(&self) -> bool {
        self.distinct.len() > 1
    }

    /// The same in sentences.
    pub fn sentences(&self) -> Vec<String> {
        let Some(best) = self.best() else {
            return vec!["No request read anything: the report shows nothing.".into()];
        };
        let shown: Vec<_> = self.distinct.iter().take(6).map(|reading| thousands(*reading)).collect();
        let more = if self.distinct.len() > 6 { ", ..." } else { "" };
        let mut words = vec![format!(
            "{} of {} non-zero readings ({}{more}) are explained exactly by {best}; min_tokens at most {}.",
            best.explained,
            self.readings,
            shown.join(", "),
            thousands(self.distinct[0])
        )];
        if best.interval > 1 && self.distinct.len() > 1 {
            let classes: BTreeSet<_> = self.distinct.iter().map(|reading| reading % best.interval).collect();
            if let [class] = classes.into_iter().collect::<Vec<_>>()[..] {
                words.push(format!("All are {class} mod {}.", thousands(best.interval)));
            }
        }
        if let Some(place) = &best.contradicted_at {
            words.push(format!("The first that contradicts it stands at {place}."));
        }
        words.extend(self.own.as_ref().map(|own| {
            let at =
                own.contradicted_at.as_ref().map_or(String::new(), |at| format!("; {at} contradicts it"));
            format!(
                "The scenario's own rule ({}) explains {} of {}{at}.{}",
                own.words,
                own.explained,
                self.readings,
                own.alike
                    .as_ref()
                    .map_or(String::new(), |rule| format!(" {} of them fit {rule}.", rule.explained))
            )
        }));
        let others: Vec<_> = self.rules[1..].iter().map(|rule| (rule.report_step, rule.interval)).collect();
        let intervals: BTreeSet<_> = others.iter().map(|(_, interval)| *interval).collect();
        if !self.tells_intervals_apart() {
            words.push(
                "One distinct reading does not tell intervals apart: send prompts of several lengths.".into(),
            );
        } else if !others.is_empty() {
            let list: Vec<_> = intervals.into_iter().map(thousands).collect();
            words.push(format!(
                "{} other rules explain as many, with intervals {}; they make the readings more of a coincidence.",
                others.len(),
                list.join(", ")
            ));
        }
        words
    }
}

impl fmt::Display for ReportRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |(first, last): &(Tokens, Tokens)| match first == last {
            true => thousands(*first),
            false => format!("{}..{}", thousands(*first), thousands(*last)),
        };
        if self.interval == 1 {
            return write!(f, "report_step {}, every depth a boundary", self.report_step);
        }
        let hidden: Vec<_> = self.hidden_tokens.iter().map(range).collect();
        write!(
            f,
            "report_step {}, interval {}, hidden_tokens {} mod {}",
            self.report_step,
            thousands(self.interval),
            hidden.join(" or "),
            thousands(self.interval)
        )
    }
}

/// A number as prose has it: 4,608.
pub fn thousands(value: Tokens) -> String {
    let digits = value.to_string();
    let head = digits.len() % 3;
    let mut parts: Vec<&str> = if head > 0 { vec![&digits[..head]] } else { Vec::new() };
    parts.extend((head..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    parts.join(",")
}

/// What a step and an interval explain with the best lengths of the hidden message.
fn explained_by(readings: &[Reading], report_step: Tokens, interval: Tokens) -> ReportRule {
    let agrees = |hidden: Tokens, reading: &Reading| explains(reading, report_step, interval, hidden);
    let mut distinct: Vec<_> =
        readings.iter().map(|r| (r.prompt_tokens, r.cached_tokens, r.shared_tokens)).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let reading_of = |&(prompt_tokens, cached_tokens, shared_tokens): &(Tokens, Tokens, Option<Tokens>)| {
        Reading { prompt_tokens, cached_tokens, shared_tokens, place: String::new() }
    };
    let distinct: Vec<_> = distinct.iter().map(reading_of).collect();
    let count = |hidden: Tokens| distinct.iter().filter(|reading| agrees(hidden, reading)).count();
    let counts: Vec<_> = (0..interval).map(count).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    let mut ranges: Vec<(Tokens, Tokens)> = Vec::new();
    for hidden in (0..interval).filter(|hidden| counts[*hidden as usize] == most) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == hidden => *last = hidden,
            _ => ranges.push((hidden, hidden)),
        }
    }
    let first = ranges.first().map_or(0, |(first, _)| *first);
    let contradicting = readings.iter().find(|reading| !agrees(first, reading));
    let fitting: Tokens = ranges.iter().map(|(first, last)| last - first + 1).sum();
    let unknown_depths: BTreeSet<_> =
        distinct.iter().filter(|reading| reading.shared_tokens.is_none()).map(|r| r.cached_tokens).collect();
    let rarity = libm::log(f64::from(interval.max(report_step)));
    ReportRule {
        report_step,
        interval,
        hidden_tokens: ranges,
        explained: readings.iter().filter(|reading| agrees(first, reading)).count(),
        contradicted_at: contradicting.map(|reading| reading.place.clone()),
        weight: unknown_depths.len() as f64 * rarity + libm::log(f64::from(fitting) / f64::from(interval)),
    }
}

/// Whether a rule gives this reading: at the one depth that was shared, or at some depth where that is not known.
fn explains(reading: &Reading, step: Tokens, interval: Tokens, hidden: Tokens) -> bool {
    let last = reading.prompt_tokens.saturating_sub(1);
    let rounded = |depth: Tokens| {
        let depth = depth.min(last);
        depth - depth % step
    };
    let boundary_before = |depth: Tokens| {
        let from_start = depth + hidden;
        (from_start - from_start % interval).saturating_sub(hidden)
    };
    match reading.shared_tokens {
        Some(shared) => rounded(boundary_before(shared)) == reading.cached_tokens,
        None => {
            // The deepest boundary that would not be reported as more.
            let deepest = boundary_before((reading.cached_tokens + step - 1).min(reading.prompt_tokens));
            reading.cached_tokens.is_multiple_of(step) && rounded(deepest) == reading.cached_tokens
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(prompt_tokens: Tokens, cached_tokens: Tokens, shared_tokens: Option<Tokens>) -> Reading {
        Reading { prompt_tokens, cached_tokens, shared_tokens, place: format!("o.csv:{prompt_tokens}") }
    }

    #[test]
    fn the_readings_of_long_sessions_are_512_mod_2048() {
        let readings = [(5_000, 4_608), (70_000, 64_000), (140_000, 137_728)];
        let card = ReportCard::new(&readings.map(|(prompt, cached)| reading(prompt, cached, None)));
        let best = card.best().unwrap();
        assert_eq!((best.interval, best.report_step, best.explained), (2_048, 128, 3));
        assert_eq!(best.hidden_tokens, [(1_409, 1_536)]);
        assert!(
            card.sentences().iter().any(|words| words == "All are 512 mod 2,048."),
            "{:?}",
            card.sentences()
        );
    }

    #[test]
    fn identical_prompts_of_the_public_readings_leave_17_lengths_of_the_hidden_message() {
        let public =
            [(1_170, 1_024), (1_225, 1_152), (1_440, 1_280), (1_563, 1_408), (1_578, 1_408), (2_235, 2_176)];
        let readings = public.map(|(prompt, cached)| reading(prompt, cached, Some(prompt)));
        let card = ReportCard::new(&readings);
        let classic = card.rules.iter().find(|rule| (rule.interval, rule.report_step) == (128, 128)).unwrap();
        assert_eq!(classic.hidden_tokens, [(69, 85)]);
        assert_eq!((classic.explained, &classic.contradicted_at), (6, &None));
    }

    #[test]
    fn a_reading_that_no_rule_explains_is_named() {
        let mut readings: Vec<_> = (10..20).map(|n| reading(4_000, n * 128, None)).collect();
        readings.push(reading(4_001, 1_300, None));
        let exact = ReportCard::new(&readings);
        assert_eq!(exact.best().unwrap().report_step, 1, "an exact report explains them all");
        let shared = [reading(1_300, 1_280, Some(1_300)), reading(1_301, 1_024, Some(1_301))];
        let card = ReportCard::new(&shared);
        assert_eq!(card.best().unwrap().explained, 1);
        assert!(card.best().unwrap().contradicted_at.is_some());
    }

    #[test]
    fn numbers_read_like_prose() {
        assert_eq!(
            [7, 512, 4_608, 137_728, 1_000_000].map(thousands),
            ["7", "512", "4,608", "137,728", "1,000,000"]
        );
    }
}
