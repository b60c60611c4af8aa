//! Rivals: what the provider may be doing, each a list of changes of the scenario with free values on grids.
//!
//! A grid is opened only where the observations could tell its values apart: lifetimes where a key rests for minutes,
//! ways of counting a rate where one is above the limit, a date of change in one log.

use toml::Value;

use crate::document::{KeyPath, nearest};
use crate::error::{Error, Result};
use crate::experiment::grid::Grid;
use crate::experiment::observations::{Cell, Observations, Observed};
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::tables::word;
use crate::units::{SimTime, Span, Tokens};

/// Share of requests that any machine may serve, whatever the rule says: every public log has misses that no rule
/// explains, and this nuisance stands for them.
pub const EXPLORE: &str = "provider.routing.explore";
const EXPLORED: [f64; 5] = [0.0, 0.005, 0.015, 0.03, 0.06];

/// A key that rests for longer may have lost what it stored.
const RESTED: Span = Span::from_seconds(240);

/// The most points of one rival's grids together.
const MOST_POINTS: usize = 20_000;

/// Dates at which a change of the provider is tried.
const DATES: u64 = 8;

/// A hypothesis.
#[derive(Clone, Debug)]
pub struct Rival {
    /// Its name.
    pub name: &'static str,
    /// What it says, in a few words.
    pub meaning: &'static str,
    /// What it changes in the scenario.
    pub fixed: Vec<Change>,
    /// What it leaves open.
    pub grids: Vec<Grid>,
    /// The routing rival that it is laid over; nothing if it is one, or lies over the scenario's own routing.
    pub over: &'static str,
}

/// A grid of the program's own.
fn grid<V: Into<Value>>(path: &str, values: impl IntoIterator<Item = V>) -> Grid {
    Grid::new(path.parse().expect("a written path"), values, "fit")
}

impl Rival {
    fn new(name: &'static str, meaning: &'static str, fixed: &[(&str, Value)]) -> Self {
        let origin = format!("rival {name}");
        let fixed = fixed.iter().map(|(path, value)| Change::new(path, value.clone(), &origin)).collect();
        Self { name, meaning, fixed, grids: Vec::new(), over: "" }
    }

    fn routed(name: &'static str, meaning: &'static str, rule: &str) -> Self {
        Self::new(name, meaning, &[("provider.routing.rule", rule.into())])
    }

    fn with(mut self, grids: impl IntoIterator<Item = Grid>) -> Self {
        self.grids.extend(grids);
        self
    }

    /// The changes of every combination of its free values, the last grid turning fastest.
    pub fn points(&self) -> Vec<Vec<Value>> {
        self.grids.iter().fold(vec![Vec::new()], |combined, grid| {
            let extend = |start: Vec<Value>| {
                grid.values.iter().map(move |value| start.iter().cloned().chain([value.clone()]).collect())
            };
            combined.into_iter().flat_map(extend).collect()
        })
    }

    /// What one point changes in the scenario.
    pub fn changes(&self, point: &[Value]) -> Vec<Change> {
        let free = self.grids.iter().zip(point).map(|(grid, value)| grid.change(value));
        self.fixed.iter().cloned().chain(free).collect()
    }

    /// Parameters with more than one value.
    pub fn free(&self) -> usize {
        self.grids.iter().filter(|grid| grid.values.len() > 1).count()
    }

    /// Adds a grid, or puts it in the place of the one of this path; a value that the rival fixes stays. Numbers of a
    /// routing rule are opened under that `rule` alone: under others they make no difference.
    fn open(&mut self, grid: &Grid, rule: Option<&str>) {
        let fixes = |change: &Change| change.path == grid.path;
        if self.fixed.iter().any(fixes) || rule_of(&grid.path).is_some_and(|owner| rule != Some(owner)) {
            return;
        }
        match self.grids.iter_mut().find(|own| own.path == grid.path) {
            Some(own) => *own = grid.clone(),
            None => self.grids.push(grid.clone()),
        }
    }

    /// This rival over a routing rival: its own changes and grids go before those of the routing.
    fn laid_over(&self, routing: &Rival, inert: &[Change]) -> Self {
        let own = |path: &KeyPath| {
            self.fixed.iter().any(|change| change.path == *path)
                || self.grids.iter().any(|grid| grid.path == *path)
        };
        let is_inert = |grid: &&Grid| inert.iter().any(|change| change.path == grid.path);
        let kept = routing.fixed.iter().chain(inert).filter(|change| !own(&change.path));
        let open = routing.grids.iter().filter(|grid| !own(&grid.path) && !is_inert(grid));
        Self {
            fixed: kept.chain(&self.fixed).cloned().collect(),
            grids: open.chain(&self.grids).cloned().collect(),
            over: routing.name,
            ..self.clone()
        }
    }

    fn refuse_many_points(&self) -> Result<()> {
        let points = self.grids.iter().fold(1usize, |points, grid| points.saturating_mul(grid.values.len()));
        if points <= MOST_POINTS {
            return Ok(());
        }
        let over = if self.over.is_empty() { String::new() } else { format!(" over `{}`", self.over) };
        let message =
            format!("rival `{}`{over} has {points} points; at most {MOST_POINTS} are tried", self.name);
        Err(Error::input("--free", message))
    }
}

/// The routing rule that a number belongs to, if it belongs to one.
fn rule_of(path: &KeyPath) -> Option<&'static str> {
    let [provider, routing, field] = path.keys() else { return None };
    match (provider.as_str(), routing.as_str(), field.as_str()) {
        ("provider", "routing", "pool" | "pick") => Some("pool"),
        ("provider", "routing", "limit_rpm" | "overflow" | "fanout" | "rate_over" | "rate_count") => {
            Some("home")
        }
        ("provider", "routing", "load_factor" | "load_margin") => Some("bounded_load"),
        _ => None,
    }
}

/// Reads `path=values` of a `--free` flag.
pub fn free(text: &str) -> Result<Grid> {
    Grid::parse("--free", text, "provider.routing.pool=[3, 4, 5] or ...=2..8")
}

/// The rivals that observations can be asked about.
#[derive(Clone, Debug)]
pub struct Rivals {
    routing: Vec<Rival>,
    others: Vec<Rival>,
}

impl Rivals {
    /// All of them, or those named by `only`, with the `free` grids laid over them.
    pub fn new(loaded: &Loaded, observations: &Observations, free: &[Grid], only: &[String]) -> Result<Self> {
        for grid in free {
            for value in &grid.values {
                // A path that is not there is refused here, with its nearest.
                loaded.with(&[grid.change(value)])?;
            }
        }
        let mut routing = routing_rivals(loaded, observations);
        let mut others = store_rivals(loaded, observations);
        others.extend(changing_rivals(observations));
        refuse_unknown(only, routing.iter().chain(&others))?;
        let asked = |rival: &Rival| only.is_empty() || only.iter().any(|name| name == rival.name);
        routing.retain(asked);
        others.retain(asked);
        // Without a routing rival to lie over, the others lie over the scenario's own routing.
        let own = word(&loaded.scenario.provider.routing.rule);
        let below = routing.is_empty().then_some(own.as_str());
        let lifetimes = lifetimes(loaded, observations)?;
        let (routed, over) = (routing.iter_mut().map(|one| (Some(one.name), one)), others.iter_mut());
        for (rule, rival) in routed.chain(over.map(|one| (below, one))) {
            rival.grids.extend(lifetimes.iter().cloned());
            if rival.name != "random" {
                rival.grids.push(grid(EXPLORE, EXPLORED));
            }
            free.iter().for_each(|grid| rival.open(grid, rule));
            rival.refuse_many_points()?;
        }
        Ok(Self { routing, others })
    }

    /// Where requests go: judged first.
    pub fn routing(&self) -> Vec<Rival> {
        self.routing.clone()
    }

    /// What is stored, and what changes, laid over a routing rival with the grids of both left open. Where the routing
    /// rival alone was the same at every value (`inert`), the value is kept.
    pub fn over(&self, routing: &Rival, inert: &[Change]) -> Result<Vec<Rival>> {
        let rivals = self.others.iter().map(|rival| rival.laid_over(routing, inert));
        rivals.map(|rival| rival.refuse_many_points().map(|()| rival)).collect()
    }

    /// The others as they are, over the scenario's own routing.
    pub fn others(&self) -> Vec<Rival> {
        self.others.clone()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Rival> {
        self.routing.iter().chain(&self.others).cloned().collect()
    }
}

/// A rival that is asked about must be there.
fn refuse_unknown<'a>(only: &[String], rivals: impl Iterator<Item = &'a Rival>) -> Result<()> {
    let known: Vec<_> = rivals.map(|rival| rival.name).collect();
    let Some(wrong) = only.iter().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
    let hint = nearest(wrong, known.iter().copied());
    let hint = hint.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    let message = format!("these observations have no rival `{wrong}` ({}){hint}", known.join(", "));
    Err(Error::input("--rivals", message))
}

/// Where requests go.
fn routing_rivals(loaded: &Loaded, observations: &Observations) -> Vec<Rival> {
    let limit = loaded.scenario.provider.routing.limit_rpm;
    let mut home = Rival::routed("home", "one machine a key, overflow above the rate limit", "home");
    let figures = |cell: &Cell| matches!(cell.observed, Observed::Figures(_));
    if observations.cells.iter().any(|cell| figures(cell) || busiest_minute(cell) > limit) {
        home = home.with([grid("provider.routing.rate_count", ["admitted", "arrivals", "tumbling"])]);
        if observations.cells.iter().any(|cell| figures(cell) || keys(cell) > 1) {
            home = home.with([grid("provider.routing.rate_over", ["prefix_and_key", "key", "machine"])]);
        }
    }
    let most = loaded.scenario.provider.routing.machines.min(8);
    let pool = Rival::routed("pool", "one of a few machines for each key, by chance", "pool");
    vec![
        home,
        pool.with([grid("provider.routing.pool", (2..=i64::from(most)).collect::<Vec<_>>())]),
        Rival::routed("bounded_load", "the first machine that is not overloaded", "bounded_load"),
        Rival::routed("random", "any machine: no affinity", "random"),
    ]
}

/// What is stored.
fn store_rivals(loaded: &Loaded, observations: &Observations) -> Vec<Rival> {
    let step = loaded.scenario.provider.write.report_step;
    let write = |field: &str, value: &str| (format!("provider.write.{field}"), Value::from(value));
    let rival = |name, meaning, (path, value): (String, Value)| Rival::new(name, meaning, &[(&path, value)]);
    let mut distinct: Vec<Tokens> = observations
        .requests()
        .filter_map(|(_, request)| request.cached_tokens.filter(|cached| *cached > 0))
        .map(|cached| cached + step - 1)
        .collect();
    distinct.sort_unstable();
    distinct.dedup();
    // The deepest readings are where a floor would show.
    let floors: Vec<_> = distinct.iter().rev().take(4).rev().map(|floor| i64::from(*floor)).collect();
    let mut rivals = vec![
        rival("whole_body", "only whole earlier prompts can be read", write("semantics", "whole_body")),
        rival("write_once", "nothing is written while a body is alive", write("when", "once")),
        rival("single_body", "a key keeps one body on a machine", write("bodies", "one")),
        rival("breakpoints", "readable at the ends of messages only", write("semantics", "breakpoints")),
    ];
    // What the scenario's provider does anyway is no rival: the routing ones play by it.
    let own = word(&loaded.scenario.provider.write.semantics);
    rivals.retain(|rival| rival.fixed.iter().all(|change| change.value.as_str() != Some(&own)));
    if own != "partial_prefix" {
        let steps = write("semantics", "partial_prefix");
        rivals.push(rival("partial_prefix", "readable every few tokens", steps));
    }
    if !floors.is_empty() {
        let stuck = rival("first_tokens", "a floor that never grows", write("semantics", "first_tokens"));
        rivals.push(stuck.with([grid("provider.write.first_tokens", floors)]));
    }
    rivals
}

/// What changes at an unknown date: of one log alone, because cells have clocks of their own.
fn changing_rivals(observations: &Observations) -> Vec<Rival> {
    let [Cell { observed: Observed::Requests(requests), .. }] = &observations.cells[..] else {
        return Vec::new();
    };
    let (Some(first), Some(last)) = (requests.first(), requests.last()) else { return Vec::new() };
    let length = last.time.since(first.time);
    if requests.len() < 20 || length.0 < 10 * (DATES + 1) {
        return Vec::new();
    }
    let date = |part: u64| Span(length.0 / (DATES + 1) * part + 1).to_string();
    let dates = grid("regime.0.at", (1..=DATES).map(date).collect::<Vec<_>>());
    let regime = |semantics: Option<&str>| {
        let write = semantics.map(|word| ("semantics".to_string(), Value::from(word)));
        let provider = [("write".to_string(), Value::Table(write.into_iter().collect()))];
        let regime = [
            ("at".to_string(), Value::from("1ns")),
            ("provider".to_string(), Value::Table(provider.into_iter().collect())),
        ];
        Value::Array(vec![Value::Table(regime.into_iter().collect())])
    };
    vec![
        Rival::new("restart", "all that was stored is lost once", &[("regime", regime(None))])
            .with([dates.clone()]),
        Rival::new(
            "change_to_whole_body",
            "from a date on only whole prompts can be read",
            &[("regime", regime(Some("whole_body")))],
        )
        .with([dates]),
    ]
}

/// Lifetimes of the policies under which some key rested for long.
fn lifetimes(loaded: &Loaded, observations: &Observations) -> Result<Vec<Grid>> {
    const TRIED: [&str; 9] =
        ["5m", "uniform(5m..10m)", "10m", "20m", "30m", "uniform(5m..60m)", "60m", "6h", "24h"];
    let mut grids: Vec<Grid> = Vec::new();
    for cell in observations.cells.iter().filter(|cell| longest_rest(cell) >= RESTED) {
        let with = loaded.with(&cell.settings)?;
        let policies: std::collections::BTreeSet<_> = with
            .scenario
            .client
            .workload
            .values()
            .map(|workload| with.policy(workload).to_string())
            .collect();
        for policy in policies {
            let path = KeyPath::from_iter(["provider", "retention", "lifetime", &policy]);
            if grids.iter().any(|grid| grid.path == path) {
                continue;
            }
            let grid = Grid::new(path, TRIED, "fit");
            // A policy's name promises a longest lifetime.
            let own = with.scenario.provider.retention.lifetime[&policy].to_string();
            let keeps_it = |value: &&Value| with.with(&[grid.change(value)]).is_ok();
            let mut values: Vec<_> = grid.values.iter().filter(keeps_it).cloned().collect();
            if !values.contains(&Value::from(own.as_str())) {
                values.push(own.into());
            }
            grids.push(Grid { values, ..grid });
        }
    }
    Ok(grids)
}

/// The most requests of one key and prefix within 60 seconds.
fn busiest_minute(cell: &Cell) -> u32 {
    by_key(cell, |times| {
        let within = |index: usize| {
            times[..=index].iter().filter(|time| times[index].since(**time) < Span::MINUTE).count()
        };
        (0..times.len()).map(within).max().unwrap_or(0) as u32
    })
    .max()
    .unwrap_or(0)
}

/// The longest time between two requests of one key and prefix.
fn longest_rest(cell: &Cell) -> Span {
    let rest = |times: &[SimTime]| times.windows(2).map(|pair| pair[1].since(pair[0])).max();
    by_key(cell, rest).flatten().max().unwrap_or(Span::ZERO)
}

fn keys(cell: &Cell) -> usize {
    by_key(cell, |_| ()).count()
}

/// Something of the times of every key and prefix.
fn by_key<'a, T: 'a>(cell: &'a Cell, of: impl Fn(&[SimTime]) -> T + 'a) -> impl Iterator<Item = T> + 'a {
    let mut times: std::collections::BTreeMap<_, Vec<SimTime>> = std::collections::BTreeMap::new();
    if let Observed::Requests(requests) = &cell.observed {
        for request in requests {
            times.entry((&request.key, &request.prefix)).or_default().push(request.time);
        }
    }
    times.into_values().map(move |times| of(&times))
}

/// The kind of request that would tell two rivals apart.
pub fn telling_request(one: &str, other: &str) -> &'static str {
    // What is stored is laid over the likeliest routing: what tells it apart comes first.
    let either = |name: &str| one == name || other == name;
    if either("whole_body") || either("breakpoints") || either("partial_prefix") {
        "two prompts that share 5,000 tokens and differ after them: partial prefixes are read, whole bodies are not; \
         then one that goes on from the whole first prompt"
    } else if either("write_once") || either("first_tokens") {
        "a conversation that grows by 1,000 tokens a turn under one key: what is read grows too, or it does not"
    } else if either("single_body") {
        "two different prompts in turn under one key: where a key keeps one body, each pushes the other out"
    } else if either("restart") || either("change_to_whole_body") {
        "the same few requests every hour for some days: a change shows as a date, after which all keys miss at once"
    } else if either("pool") || either("random") {
        "fresh keys, each asked twice within a few seconds, ten times or more: a pool of m misses about (m-1)/m of the \
         second requests, `random` nearly all, a home machine none"
    } else {
        "twenty requests of one key at once, and then one a second: load overflows in the burst only, a rate limit in \
         the trickle only"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn loaded() -> Loaded {
        let text = "[client.workload.w]\narrivals = { process = 'poisson', rate = '1/min' }\n\
                    [client.workload.w.shared_prefix]\nprefix_tokens = 2000\ntail_tokens = 9\noutput_tokens = 9\n\
                    [provider]\nprofile = 'openai-classic'\n";
        Loaded::from_text("s", "s.toml", &format!("duration = '1h'\n{text}"), Path::new(""), &[]).unwrap()
    }

    fn observed(times: &[u64]) -> Observations {
        let mut observations = Observations::default();
        let rows: String = times.iter().map(|time| format!("{time},2009,{}\n", time % 2 * 1_920)).collect();
        observations.add("o.csv", &format!("time,prompt_tokens,cached_tokens\n{rows}")).unwrap();
        observations
    }

    fn paths(rival: &Rival) -> Vec<String> {
        rival.grids.iter().map(|grid| grid.path.to_string()).collect()
    }

    #[test]
    fn grids_are_opened_where_the_observations_can_tell() {
        let lifetime = "provider.retention.lifetime.in_memory";
        let rivals = |times: &[u64]| Rivals::new(&loaded(), &observed(times), &[], &[]).unwrap().all();
        let short = rivals(&[0, 1, 2]);
        assert_eq!(paths(&short[0]), [EXPLORE]);
        let long = rivals(&[0, 1, 400]);
        assert_eq!(paths(&long[0]), [lifetime, EXPLORE]);
        let lifetimes = &long[0].grids[0].values;
        assert!(lifetimes.contains(&"60m".into()) && !lifetimes.contains(&"6h".into()), "{lifetimes:?}");
        let busy = rivals(&(0..30).collect::<Vec<_>>());
        assert_eq!(
            paths(&busy[0]),
            ["provider.routing.rate_count", EXPLORE],
            "one key: nothing to count over"
        );
        assert!(busy.iter().any(|rival| rival.name == "restart"));
    }

    #[test]
    fn a_free_path_replaces_or_adds_a_grid_and_an_unknown_one_is_refused() {
        let with = |text| -> Result<Vec<Rival>> {
            Rivals::new(&loaded(), &observed(&[0, 1]), &[free(text)?], &[]).map(|rivals| rivals.all())
        };
        let pools = with("provider.routing.pool=3..4").unwrap();
        assert_eq!(pools[1].grids[0].values, [3.into(), 4.into()]);
        assert_eq!(paths(&pools[0]), [EXPLORE], "a home machine has no pool");
        let store = pools.iter().find(|rival| rival.name == "write_once").unwrap();
        assert_eq!(paths(store), [EXPLORE], "what is stored takes the pool of the rival it lies over");
        let lag = with("provider.write.lag=['0s', '5s']").unwrap();
        assert_eq!(paths(&lag[0]), [EXPLORE, "provider.write.lag"]);
        let error = with("provider.routing.pol=[2]").unwrap_err().to_string();
        assert!(
            error.starts_with("--free provider.routing.pol=[2]: ") && error.contains("`pool`?"),
            "{error}"
        );
        assert!(free("provider.routing.pool").unwrap_err().to_string().contains("write path=values"));
    }
}
