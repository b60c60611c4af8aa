//! What should a client do? A search over its own choices, judged under every plausible provider.
//!
//! Two formulas stand beside the simulation, since they are what people use. The formulas know only the rate; the
//! simulation also knows that every bucket starts cold, cools down when it is asked too seldom, and what overflow
//! costs. What the provider really does is not known: each choice is played under an ensemble of providers, and its
//! regret under each is what it loses there to the best.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use toml::Value;

use crate::client::key::Strategy;
use crate::document::KeyPath;
use crate::error::{Error, Result};
use crate::experiment::choices::{Choice, choices};
use crate::experiment::desk::Desk;
use crate::experiment::ensemble::{Member, plausible};
use crate::experiment::grid::Grid;
use crate::experiment::objective::{Constraint, Objective, Unit};
use crate::experiment::preflight::requests_per_minute;
use crate::experiment::race::{Finish, Indifference, Rules, Track, race};
use crate::experiment::scenario::Loaded;
use crate::provider::routing::Overflow;

/// Requests a minute that a bucket is filled to by the recommended formula, leaving a third of the limit free.
const COMFORTABLE_RPM: f64 = 10.0;

/// The highest rate that is simulated request by request.
const MOST_RPS: f64 = 1_000.0;

/// The lowest: about a request a day.
const LEAST_RPS: f64 = 1e-5;

/// The most bucket counts that are simulated where none are named.
const MOST_COUNTS: usize = 24;

/// Hit ratios closer than this are as good as equal: a tenth of a point.
const SHARES_APART: f64 = 0.001;

/// Costs and times closer than this share of the best are as good as equal.
const RELATIVELY_APART: f64 = 0.01;

/// With fewer replications an interval says next to nothing.
const LEAST_SEEDS: u32 = 5;

/// Replications under each member of an ensemble to begin with, if the scenario has more.
const MEMBER_SEEDS: u32 = 8;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// What to choose from; nothing asks for a number of buckets.
    pub over: Vec<Grid>,
    /// What is to be best.
    pub objective: Objective,
    /// What must be kept to.
    pub constraints: Vec<Constraint>,
    /// The difference that does not matter, in the objective's unit; absent a tenth of a point of a hit ratio, or 1 %.
    pub within: Option<f64>,
    /// Most replications of a choice; absent five times those of the scenario.
    pub most_seeds: Option<u32>,
    /// The plausible providers; absent those of [`plausible`].
    pub ensemble: Option<Vec<Member>>,
}

/// A recommendation with everything it rests on.
#[derive(Clone, Debug)]
pub struct Card {
    /// The formulas, where the traffic is generated and the key is what is asked for.
    pub formulas: Option<Formulas>,
    /// What was to be best.
    pub objective: Objective,
    /// Where the choices differ.
    pub paths: Vec<KeyPath>,
    /// The choices.
    pub choices: Vec<Choice>,
    /// How they stand under the scenario's own provider.
    pub own: Finish,
    /// How they stand under each plausible provider.
    pub members: Vec<(Member, Finish)>,
    /// Replications played under the scenario's own provider, and those that an exhaustive comparison at the cap would
    /// take there.
    pub runs: (usize, usize),
}

/// What the rate alone says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formulas {
    /// Mean requests a minute of the traffic.
    pub rpm: f64,
    /// The limit of the first formula.
    pub limit_rpm: u32,
    /// Whether anything overflows at all; without a limit the formulas mean nothing.
    pub limited: bool,
    /// ceil(rpm / limit): no bucket above the limit on average.
    pub minimum_buckets: u32,
    /// ceil(rpm / 10): room for bursts.
    pub recommended_buckets: u32,
}

impl Formulas {
    fn of(loaded: &Loaded) -> Option<Self> {
        let workloads = loaded.scenario.client.workload.values();
        let rpm = workloads.map(requests_per_minute).sum::<Option<f64>>()?;
        let routing = &loaded.scenario.provider.routing;
        let buckets = |each: f64| (rpm / each).ceil().max(1.0).min(f64::from(u32::MAX)) as u32;
        Some(Self {
            rpm,
            limit_rpm: routing.limit_rpm,
            limited: routing.overflow != Overflow::None,
            minimum_buckets: buckets(f64::from(routing.limit_rpm)),
            recommended_buckets: buckets(COMFORTABLE_RPM),
        })
    }
}

impl Card {
    /// Whether no choice ever hits under the scenario's own provider: then the choice is not what is wrong.
    pub fn is_hopeless(&self) -> bool {
        let mut rows = self.own.standings.iter().flat_map(|standing| &standing.rows);
        !rows.any(|row| row.get("hit_requests").is_some_and(|hits| hits > 0.0))
    }

    /// The value that is the most of those tried at a path of numbers, if the best choice has it: more may be better.
    pub fn best_at_the_most(&self) -> Option<(&KeyPath, i64)> {
        let best = self.own.best?;
        let at =
            |choice: usize, index: usize| self.choices[choice].values.get(index).and_then(Value::as_integer);
        (0..self.paths.len()).find_map(|index| {
            let values = || (0..self.choices.len()).filter_map(|choice| at(choice, index));
            let (least, most) = (values().min()?, values().max()?);
            (least < most && at(best, index) == Some(most)).then_some((&self.paths[index], most))
        })
    }

    /// What a choice loses to the best under one member; infinite where it breaks a constraint and others do not.
    pub fn regret(&self, member: &Finish, choice: usize) -> f64 {
        let standing = &member.standings[choice];
        match (member.best, standing.behind) {
            (None, _) => 0.0,
            (_, Some(behind)) if standing.feasible => behind.mean.max(0.0),
            _ => f64::INFINITY,
        }
    }

    /// A choice's greatest regret, and the name of the member where it is.
    pub fn worst_regret(&self, choice: usize) -> (f64, &str) {
        let regrets =
            self.members.iter().map(|(member, finish)| (self.regret(finish, choice), &*member.name));
        regrets.rev().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, ""))
    }

    /// A choice's mean regret, by the members' weights.
    pub fn mean_regret(&self, choice: usize) -> f64 {
        let weights: f64 = self.members.iter().map(|(member, _)| member.weight).sum();
        let regrets = self.members.iter().map(|(member, finish)| member.weight * self.regret(finish, choice));
        regrets.sum::<f64>() / weights.max(f64::MIN_POSITIVE)
    }

    /// The first choice whose regret, by some measure, is hardly greater than the least.
    fn least(
        &self,
        among: impl Iterator<Item = usize> + Clone,
        measure: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        let least = among.clone().map(&measure).fold(f64::INFINITY, f64::min);
        let mut among = among;
        among.find(|choice| measure(*choice) <= least + self.own.indifference)
    }

    /// Of the choices as good as the best under the scenario's own provider, the one with the least worst-case
    /// regret under all others, and of such the first. `None` if no choice keeps to the constraints.
    pub fn recommended(&self) -> Option<usize> {
        let as_good = (0..self.choices.len()).filter(|choice| self.own.is_as_good(*choice));
        self.least(as_good, |choice| self.worst_regret(choice).0)
    }

    /// The best of the others under the scenario's own provider.
    pub fn runner_up(&self) -> Option<usize> {
        let recommended = self.recommended()?;
        let behind =
            |choice: &usize| self.own.standings[*choice].behind.map_or(f64::INFINITY, |behind| behind.mean);
        let others = (0..self.choices.len()).filter(|choice| *choice != recommended);
        others
            .filter(|choice| self.own.standings[*choice].feasible)
            .min_by(|a, b| behind(a).total_cmp(&behind(b)))
    }

    /// The choice that loses least where it loses most, and of those that lose as much least on average.
    pub fn least_worst(&self) -> Option<usize> {
        let measure = |choice: &usize| (self.worst_regret(*choice).0, self.mean_regret(*choice));
        (0..self.choices.len()).min_by(|a, b| measure(a).partial_cmp(&measure(b)).unwrap_or(Ordering::Equal))
    }

    /// The choice that loses least on average.
    pub fn least_mean(&self) -> Option<usize> {
        (0..self.choices.len()).min_by(|a, b| self.mean_regret(*a).total_cmp(&self.mean_regret(*b)))
    }

    /// Plausible providers under which no choice keeps to the constraints.
    pub fn hopeless_members(&self) -> usize {
        self.members.iter().filter(|(_, finish)| finish.best.is_none()).count()
    }

    /// The members under which one bucket is as good as any number of them.
    pub fn where_buckets_do_not_help(&self) -> Vec<&str> {
        let is_count = self.paths.len() == 1 && self.paths[0].to_string() == "client.key.buckets";
        let one = self.choices.iter().position(|choice| choice.values == [Value::Integer(1)]);
        let Some(one) = one.filter(|_| is_count) else { return Vec::new() };
        let as_good =
            self.members.iter().filter(|(_, finish)| finish.best.is_some() && finish.is_as_good(one));
        as_good.map(|(member, _)| &*member.name).collect()
    }
}

/// A scenario of one shared prefix, from the few numbers an operator knows.
pub fn scenario(rps: f64, prefix_tokens: u32, prompt_tokens: u32, output_tokens: u32) -> Result<String> {
    if !(LEAST_RPS..=MOST_RPS).contains(&rps) {
        let message = format!(
            "`{rps}` must be above zero and at most {MOST_RPS}, in requests a second (and {LEAST_RPS} at least)"
        );
        return Err(Error::input("--rps", message));
    }
    if prefix_tokens == 0 || prefix_tokens > prompt_tokens {
        return Err(Error::input(
            "--prefix-tokens",
            format!("`{prefix_tokens}` must be from 1 to the {prompt_tokens} tokens of the prompt"),
        ));
    }
    let tail_tokens = prompt_tokens - prefix_tokens;
    // Counted after a warm-up of the longest in-memory lifetime: half an hour, longer where that is not a thousand
    // requests, shorter (and with fewer seeds) where it is far more than intervals need.
    let minutes_for = |requests: f64| requests / rps / 60.0;
    let counted = minutes_for(1_000.0).max(30.0f64.min(minutes_for(20_000.0).max(5.0)));
    let (minutes, seeds) = (10 + counted.ceil() as u64, if rps <= 20.0 { 20 } else { 8 });
    Ok(format!(
        "title = \"How many buckets?\"\nduration = \"{minutes}m\"\nwarmup = \"10m\"\nseeds = {seeds}\n\
         [client.key]\nstrategy = \"buckets\"\n\
         [client.workload.traffic]\narrivals = {{ process = \"poisson\", rate = \"{rps}/s\" }}\n\
         [client.workload.traffic.shared_prefix]\nprefix_tokens = {prefix_tokens}\ntail_tokens = {tail_tokens}\n\
         output_tokens = {output_tokens}\n\
         [provider]\nprofile = \"openai-classic\"\n"
    ))
}

/// Answers a question with replications from a desk; `progress` is told of those played and of those that may be to play.
pub fn recommend(
    loaded: &Loaded,
    question: &Question,
    desk: &Desk,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Card> {
    check(loaded, question)?;
    let formulas = Formulas::of(loaded);
    let over = match question.over.as_slice() {
        [] => vec![default_choices(loaded, formulas)],
        given => given.to_vec(),
    };
    let choices = choices(loaded, &over)?;
    let ensemble = match &question.ensemble {
        Some(members) => members.clone(),
        None => plausible(loaded)?,
    };
    let all: Vec<Loaded> = choices.iter().map(|choice| choice.loaded.clone()).collect();
    let rules = rules(loaded, question, &all);
    let exhaustive = choices.len() * rules.most_seeds as usize;
    let under_members = choices.len() * rules.first_seeds.min(MEMBER_SEEDS) as usize * ensemble.len();
    let done = AtomicUsize::new(0);
    let expected = choices.len() * rules.first_seeds as usize + under_members;
    // Nothing is in the way any more.
    progress(0, expected);
    let tick = || {
        let done = done.fetch_add(1, Relaxed) + 1;
        progress(done, done.max(expected));
    };
    let cells = (all.len() * (1 + ensemble.len())) as u64;
    let track = |race: usize| Track { desk, first: (race * all.len()) as u64, cells };
    let own = not_waiting(race(&all, &rules, &track(0), &tick))?;
    let under = |(number, member): (usize, &Member)| {
        if member.changes.is_empty() {
            return Ok(own.clone());
        }
        let changed: Vec<Loaded> =
            all.iter().map(|loaded| loaded.with(&member.changes)).collect::<Result<_>>()?;
        let of_member = self::rules(loaded, question, &changed);
        let first_seeds = of_member.first_seeds.min(MEMBER_SEEDS);
        let of_member = Rules { first_seeds, most_seeds: of_member.first_seeds, ..of_member };
        not_waiting(race(&changed, &of_member, &track(1 + number), &tick))
    };
    // Races wait for other shards side by side, not one after the other.
    let finishes: Vec<_> = ensemble.iter().enumerate().map(under).collect::<Result<_>>()?;
    let own = own?;
    let finishes: Vec<Finish> = finishes.into_iter().collect::<Result<_>>()?;
    let members = ensemble.into_iter().zip(finishes).collect();
    let paths = over.into_iter().map(|over| over.path).collect();
    let runs = (own.standings.iter().map(|standing| standing.rows.len()).sum(), exhaustive);
    Ok(Card { formulas, objective: rules.objective, paths, choices, own, members, runs })
}

/// Lets one kind of error through as an answer: that others have runs to play first.
fn not_waiting<T>(answer: Result<T>) -> Result<Result<T>> {
    match answer {
        Err(error) if !matches!(error, Error::Waiting(_)) => Err(error),
        other => Ok(other),
    }
}

/// How `choices` are compared: with nothing left to chance, one replication says all.
fn rules(loaded: &Loaded, question: &Question, choices: &[Loaded]) -> Rules {
    let seeds = loaded.scenario.seeds;
    let by_default = match question.objective.unit() {
        Unit::Share => Indifference::Absolute(SHARES_APART),
        Unit::UsdPerDay | Unit::Seconds => Indifference::Share(RELATIVELY_APART),
        // Its terms are shares of the first choice's already.
        Unit::Relative => Indifference::Absolute(RELATIVELY_APART),
    };
    let exact = choices.iter().all(Loaded::is_deterministic);
    Rules {
        objective: question.objective.clone(),
        constraints: question.constraints.clone(),
        indifference: question.within.map_or(by_default, Indifference::Absolute),
        first_seeds: if exact { 1 } else { seeds },
        most_seeds: if exact { 1 } else { question.most_seeds.unwrap_or(5 * seeds).max(seeds) },
    }
}

fn check(loaded: &Loaded, question: &Question) -> Result<()> {
    if loaded.scenario.seeds < LEAST_SEEDS && !loaded.is_deterministic() {
        return Err(loaded.error("seeds", format!("must be {LEAST_SEEDS} or more for a recommendation")));
    }
    if let Some((upper, lower)) = Constraint::contradiction(&question.constraints) {
        let message = format!("`{upper}` and `{lower}` cannot both hold");
        return Err(Error::input("--constraint", message));
    }
    if question.within.is_some_and(|within| !(within > 0.0 && within.is_finite())) {
        return Err(Error::input("--within", "must be above zero, and a number"));
    }
    if question.most_seeds.is_some_and(|most| most < loaded.scenario.seeds) {
        let message = format!("must be {} or more, the replications of the scenario", loaded.scenario.seeds);
        return Err(Error::input("--most-seeds", message));
    }
    let turns_the_key = question.over.is_empty()
        || question.over.iter().any(|over| over.path.keys().get(1).is_some_and(|key| key == "key"));
    let mut workloads = loaded.scenario.client.workload.iter();
    if let Some((name, _)) = workloads.find(|(_, workload)| turns_the_key && workload.key.is_some()) {
        let message =
            "a recommendation turns client.key, which this workload does not use: take its own key out";
        return Err(loaded.error(&format!("client.workload.{name}.key"), message));
    }
    Ok(())
}

/// What to choose from where nothing is said: a number of buckets or, for requests with keys of their own, whether to
/// keep those.
fn default_choices(loaded: &Loaded, formulas: Option<Formulas>) -> Grid {
    let path = |field: &str| KeyPath::from_iter(["client", "key", field]);
    if loaded.scenario.client.key.strategy == Strategy::Recorded {
        return Grid::new(path("strategy"), ["none", "constant", "per_session"], "recommend");
    }
    let counts = match formulas {
        Some(formulas) => counts(formulas.minimum_buckets, formulas.recommended_buckets),
        // A trace: powers of two.
        None => (0..8).map(|power| 1 << power).collect(),
    };
    Grid::new(path("buckets"), counts.into_iter().map(i64::from), "recommend")
}

/// All counts up to twice the recommended one or, if those are too many, about equally spaced ratios of them; both
/// formulas' answers and their neighbours always.
fn counts(minimum: u32, recommended: u32) -> Vec<u32> {
    let most = recommended.saturating_mul(2).max(4);
    let mut counts: Vec<u32> = if most as usize <= MOST_COUNTS {
        (1..=most).collect()
    } else {
        let ratio = libm::pow(f64::from(most), 1.0 / (MOST_COUNTS as f64 - 7.0));
        let spaced = (0..MOST_COUNTS - 6).map(|step| libm::pow(ratio, step as f64).round() as u32);
        let near = |count: u32| [count - 1, count, count + 1];
        spaced.chain(near(minimum.max(2))).chain(near(recommended)).collect()
    };
    counts.sort_unstable();
    counts.dedup();
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_hold_both_answers_and_stay_few() {
        for (minimum, recommended) in [(1, 1), (6, 9), (8, 12), (400, 600), (1, 1_000_000)] {
            let counts = counts(minimum, recommended);
            assert!(counts.len() <= MOST_COUNTS + 2 && counts[0] == 1);
            assert!([1, minimum, recommended].iter().all(|count| counts.contains(count)), "{counts:?}");
            assert!(counts.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        assert!(scenario(0.0, 1, 2, 3).unwrap_err().to_string().starts_with("--rps: "));
        assert!(scenario(1.0, 9, 2, 3).unwrap_err().to_string().starts_with("--prefix-tokens: "));
    }
}
