//! What is compared of a log of requests: a few counts that a rule of the provider moves, observed and simulated alike.

use std::collections::BTreeMap;

use crate::experiment::observations::{Content, ObservedRequest};
use crate::units::{Span, Tokens};

/// Counts of hits are exact, and a little more than exact where a rule leaves no choice: an unexplained hit or miss
/// weighs as three standard deviations.
const COUNT_RESOLUTION: f64 = 0.3;

/// Published ratios and latencies are taken to be right to a thousandth.
pub const FIGURE_RESOLUTION: f64 = 1e-3;

/// The first requests of a key, by their number, up to and including these.
const POSITIONS: [(usize, &str); 6] = [
    (1, "request 1"),
    (2, "request 2"),
    (5, "requests 3-5"),
    (15, "requests 6-15"),
    (50, "requests 16-50"),
    (usize::MAX, "later requests"),
];

/// Times since a key's request before, up to and including these.
const RESTS: [(u64, &str); 12] = [
    (1, "1 s"),
    (10, "10 s"),
    (60, "1 min"),
    (300, "5 min"),
    (450, "7.5 min"),
    (600, "10 min"),
    (900, "15 min"),
    (1_200, "20 min"),
    (1_800, "30 min"),
    (3_600, "1 h"),
    (43_200, "12 h"),
    (86_400, "24 h"),
];

/// Parts of a log, in each of which hits are counted: a change of the provider moves them.
const PARTS: usize = 4;

/// Logs shorter than this are not divided.
const LEAST_DIVIDED: usize = 20;

/// Reads of a log with known prompts that come so near to all that was sent before count as whole: reports and boundaries
/// in steps take the rest.
const NEARLY_ALL: Tokens = 256;

/// How the requests of one log are summarised.
#[derive(Clone, Debug)]
pub struct Summaries {
    /// What each number is.
    pub names: Vec<String>,
    /// What each number is known to.
    pub resolution: Vec<f64>,
    /// Classes of requests whose hits are counted.
    classes: Vec<Vec<usize>>,
    /// Pairs of a request with the one before it of the same key and prefix.
    pairs: Vec<(usize, usize)>,
    /// The requests that are compared, with the lengths of their prompts.
    compared: Vec<(usize, Tokens)>,
    /// Of logs with known prompts: the requests of which something was sent before, with how much.
    sent_before: Vec<(usize, Tokens)>,
}

impl Summaries {
    /// The summaries of a log. Requests that are not `compared` count in nothing, but hold their place.
    pub fn of(requests: &[ObservedRequest], compared: impl Fn(usize) -> bool) -> Self {
        let mut classes: BTreeMap<(u8, usize), (String, Vec<usize>)> = BTreeMap::new();
        let mut add = |kind: u8, number: usize, name: String, index: usize| {
            classes.entry((kind, number)).or_insert_with(|| (name, Vec::new())).1.push(index);
        };
        let mut seen: BTreeMap<_, (usize, usize)> = BTreeMap::new();
        let mut pairs = Vec::new();
        let count = (0..requests.len()).filter(|index| compared(*index)).count();
        let mut place = 0;
        for (index, request) in requests.iter().enumerate() {
            let (number, last) = seen.get(&(&request.key, &request.prefix)).copied().unwrap_or((0, index));
            seen.insert((&request.key, &request.prefix), (number + 1, index));
            if !compared(index) {
                continue;
            }
            let position =
                POSITIONS.iter().position(|(most, _)| number < *most).expect("the last has no end");
            add(0, position, format!("hits, {} of a key", POSITIONS[position].1), index);
            if number > 0 {
                let rest = request.time.since(requests[last].time);
                let class = RESTS.iter().position(|(most, _)| rest <= Span::from_seconds(*most));
                let name = match class {
                    Some(class) => format!("hits, at most {} after the one before", RESTS[class].1),
                    None => "hits, more than 24 h after the one before".into(),
                };
                add(1, class.unwrap_or(RESTS.len()), name, index);
                if compared(last) {
                    pairs.push((last, index));
                }
            }
            if count >= LEAST_DIVIDED {
                let part = place * PARTS / count;
                add(2, part, format!("hits, quarter {} of the log", part + 1), index);
            }
            place += 1;
        }
        let (mut names, classes): (Vec<_>, Vec<_>) = classes.into_values().unzip();
        let mut resolution = vec![COUNT_RESOLUTION; names.len()];
        for (name, known_to) in [
            ("changes between hit and miss", COUNT_RESOLUTION),
            ("distinct non-zero readings", COUNT_RESOLUTION),
            ("token_hit_ratio", FIGURE_RESOLUTION),
        ] {
            names.push(name.into());
            resolution.push(known_to);
        }
        let sent = |index: usize| match &requests[index].content {
            Content::Logged(prompt) => Some((index, prompt.shared_tokens)).filter(|(_, tokens)| *tokens > 0),
            Content::Prefix(_) => None,
        };
        let sent_before: Vec<_> =
            (0..requests.len()).filter(|index| compared(*index)).filter_map(sent).collect();
        if !sent_before.is_empty() {
            names.push("reads of nearly all that was sent before".into());
            resolution.push(COUNT_RESOLUTION);
        }
        let compared = (0..requests.len()).filter(|index| compared(*index));
        let compared = compared.map(|index| (index, requests[index].prompt_tokens)).collect();
        Self { names, resolution, classes, pairs, compared, sent_before }
    }

    /// The numbers of these readings, one for each request of the log.
    pub fn vector(&self, readings: &[Tokens]) -> Vec<f64> {
        let hit = |index: &usize| readings[*index] > 0;
        let hits = self.classes.iter().map(|class| class.iter().filter(|index| hit(index)).count() as f64);
        let changes = self.pairs.iter().filter(|(last, index)| hit(last) != hit(index)).count() as f64;
        let mut distinct: Vec<_> = self.compared.iter().map(|(index, _)| readings[*index]).collect();
        distinct.retain(|reading| *reading > 0);
        distinct.sort_unstable();
        distinct.dedup();
        let cached: u64 = self.compared.iter().map(|(index, _)| u64::from(readings[*index])).sum();
        let prompts: u64 = self.compared.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
        let ratio = if prompts == 0 { 0.0 } else { cached as f64 / prompts as f64 };
        let whole = self
            .sent_before
            .iter()
            .filter(|(index, sent)| readings[*index].saturating_add(NEARLY_ALL) > *sent);
        let whole = (!self.sent_before.is_empty()).then(|| whole.count() as f64);
        hits.chain([changes, distinct.len() as f64, ratio]).chain(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SimTime;

    #[test]
    fn a_log_is_summarised_by_place_rest_and_part() {
        let request = |seconds: u64, key: &str| ObservedRequest {
            line: 2,
            time: SimTime(seconds * 1_000_000_000),
            key: Some(key.into()),
            prefix: String::new(),
            content: Content::Prefix(None),
            prompt_tokens: 1_000,
            cached_tokens: Some(0),
            output_tokens: 0,
        };
        let log = [request(0, "a"), request(1, "b"), request(5, "a"), request(400, "a"), request(500, "b")];
        let summaries = Summaries::of(&log, |index| index != 1);
        let vector = summaries.vector(&[0, 999, 600, 600, 400]);
        let named: Vec<_> = summaries.names.iter().map(String::as_str).zip(vector).collect();
        assert_eq!(
            named,
            [
                ("hits, request 1 of a key", 0.0),
                ("hits, request 2 of a key", 2.0),
                ("hits, requests 3-5 of a key", 1.0),
                ("hits, at most 10 s after the one before", 1.0),
                ("hits, at most 7.5 min after the one before", 1.0),
                ("hits, at most 10 min after the one before", 1.0),
                ("changes between hit and miss", 1.0),
                ("distinct non-zero readings", 2.0),
                ("token_hit_ratio", 0.4),
            ]
        );
    }
}
