//! Outcomes to one row of numbers.

use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::client::key::PromptCacheKey;
use crate::client::request::Occasion;
use crate::experiment::statistics::{Estimate, Sum, jackknife};
use crate::provider::price::{Billed, Prices};
use crate::provider::routing::{MachineId, RoutingKey};
use crate::simulation::outcome::{Cause, Outcome};
use crate::units::{SimTime, Span, Usd, round_to};

/// How a column is summarised over replications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summary {
    /// The mean over replications.
    Mean,
    /// The ratio of the sums of two other columns.
    Ratio(&'static str, &'static str),
}

/// One column of a result.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name, with its unit where it has one.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// How replications are put together.
    pub summary: Summary,
}

const fn mean(name: &'static str, meaning: &'static str) -> Column {
    Column { name, meaning, summary: Summary::Mean }
}

const fn ratio(
    name: &'static str,
    above: &'static str,
    below: &'static str,
    meaning: &'static str,
) -> Column {
    Column { name, meaning, summary: Summary::Ratio(above, below) }
}

/// Every metric, in the order of the files. Columns are only ever added at the end.
pub const COLUMNS: &[Column] = &[
    mean("requests", "requests counted (those of the warm-up are not)"),
    mean("hit_requests", "requests with cached tokens"),
    ratio("request_hit_ratio", "hit_requests", "requests", "share of requests with cached tokens"),
    mean("prompt_tokens", "tokens of all prompts"),
    mean("cached_tokens", "tokens read from the cache, as reported"),
    ratio("token_hit_ratio", "cached_tokens", "prompt_tokens", "share of prompt tokens read from the cache"),
    mean("ceiling_infinite_tokens", "what one infinite cache would have read"),
    ratio(
        "ceiling_infinite_ratio",
        "ceiling_infinite_tokens",
        "prompt_tokens",
        "the same as a token hit ratio",
    ),
    mean(
        "ceiling_lifetime_tokens",
        "what one cache with this lifetime, but perfect routing, would have read",
    ),
    ratio(
        "ceiling_lifetime_ratio",
        "ceiling_lifetime_tokens",
        "prompt_tokens",
        "the same as a token hit ratio",
    ),
    mean("uncached_tokens", "tokens computed"),
    mean("written_tokens", "tokens written to the cache"),
    mean("output_tokens", "tokens of all answers"),
    mean("lost_new_tokens", "uncached: nobody sent it before"),
    mean("lost_changed_tokens", "uncached: the session's previous prompt differed here"),
    mean("lost_unwritten_tokens", "uncached: sent before, but no boundary was stored there"),
    mean("lost_other_account_tokens", "uncached: stored in another partition, account or backend"),
    mean("lost_other_key_tokens", "uncached: stored under a key this request may not read"),
    mean("lost_not_yet_visible_tokens", "uncached: stored, but not visible yet"),
    mean("lost_other_machine_tokens", "uncached: stored on another machine"),
    mean("lost_expired_tokens", "uncached: stored here and expired"),
    mean("lost_evicted_tokens", "uncached: stored here and replaced or evicted"),
    mean("lost_rounding_tokens", "uncached: lost to the interval or to the rules of the report"),
    mean("overflowed_requests", "requests that a full home machine sent elsewhere"),
    ratio("overflow_share", "overflowed_requests", "requests", "share of requests sent elsewhere"),
    mean("keys", "distinct prompt_cache_keys"),
    mean("machines_per_key", "machines that served a key, averaged over keys"),
    mean("key_rpm_mean", "requests a minute of a key, averaged over keys"),
    mean("key_rpm_peak", "most requests of any key in a calendar minute"),
    mean("ttft_mean_ms", "time to first token"),
    mean("ttft_p50_ms", "time to first token"),
    mean("ttft_p90_ms", "time to first token"),
    mean("ttft_p95_ms", "time to first token"),
    mean("ttft_p99_ms", "time to first token"),
    mean("ttft_max_ms", "time to first token"),
    mean("total_mean_ms", "time to the end of the answer"),
    mean("total_p50_ms", "time to the end of the answer"),
    mean("total_p90_ms", "time to the end of the answer"),
    mean("total_p95_ms", "time to the end of the answer"),
    mean("total_p99_ms", "time to the end of the answer"),
    mean("total_max_ms", "time to the end of the answer"),
    mean("wait_mean_ms", "time in a machine's queue"),
    mean("wait_p95_ms", "time in a machine's queue"),
    mean("wait_max_ms", "time in a machine's queue"),
    mean("max_in_flight", "most requests in flight that a counted request met, itself included"),
    mean("cost_usd", "cost of the requests (input side only where the output price is unknown)"),
    mean("uncached_cost_usd", "cost without a cache"),
    mean("saving_usd", "what the cache saves"),
    ratio("saving_ratio", "saving_usd", "uncached_cost_usd", "share of the cost that the cache saves"),
    mean("warmup_requests", "requests of the warm-up of every kind, not counted"),
    mean("skipped_lines", "bad lines of traces that were skipped on request"),
    mean(
        "extra_requests",
        "requests sent to keep a session alive or to warm a prefix: they cost, and count in no other column",
    ),
    mean("failed_requests", "calls that failed: not billed, and counted in no other column"),
    mean("contaminated_requests", "requests that continued another conversation's context"),
    mean(
        "given_up_requests",
        "of the failed ones, those that were not tried again: what would have followed is lost",
    ),
];

/// The metrics that are compared with a baseline.
pub const COMPARED: [&str; 5] =
    ["request_hit_ratio", "token_hit_ratio", "ttft_p95_ms", "total_p95_ms", "cost_usd"];

/// Position of a column.
///
/// # Panics
/// If there is no such column: names are written in the program.
pub fn column(name: &str) -> usize {
    COLUMNS.iter().position(|column| column.name == name).expect("a column of the table")
}

/// One run's numbers in the order of [`COLUMNS`]; missing is missing, never 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Vec<Option<f64>>);

impl Row {
    /// One number.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0[column(name)]
    }
}

/// One metric over replications, with its interval.
pub fn summarize(rows: &[&Row], name: &str) -> Option<Estimate> {
    let statistic = statistic(rows, name)?;
    jackknife(rows.len(), |left_out| statistic.of(left_out))
}

/// The difference of a metric between two variants, replication by replication (common random numbers).
pub fn paired_difference(rows: &[&Row], baseline: &[&Row], name: &str) -> Option<Estimate> {
    let (this, that) = (statistic(rows, name)?, statistic(baseline, name)?);
    jackknife(rows.len().min(baseline.len()), |left_out| Some(this.of(left_out)? - that.of(left_out)?))
}

/// One metric over replications of each of several variants, as a mean over the variants by weight. Their seeds are the
/// same, so that one replication is left out of all of them at a time.
pub fn summarize_weighted(variants: &[(f64, Vec<&Row>)], name: &str) -> Option<Estimate> {
    let statistics: Vec<_> = variants
        .iter()
        .map(|(weight, rows)| Some((*weight, statistic(rows, name)?)))
        .collect::<Option<_>>()?;
    let replications = variants.iter().map(|(_, rows)| rows.len()).min()?;
    jackknife(replications, |left_out| {
        statistics.iter().map(|(weight, statistic)| Some(weight * statistic.of(left_out)?)).sum()
    })
}

/// A metric over some replications.
#[derive(Clone, Debug)]
pub struct Statistic {
    above: Sum,
    below: Option<Sum>,
}

impl Statistic {
    /// Its value over all of them, or all but one.
    pub fn of(&self, left_out: Option<usize>) -> Option<f64> {
        match &self.below {
            None => self.above.mean(left_out),
            Some(below) => self.above.ratio(below, left_out),
        }
    }
}

/// A metric over some replications; missing where any of them misses it.
pub fn statistic(rows: &[&Row], name: &str) -> Option<Statistic> {
    let sum = |name: &str| Sum::of(rows.iter().map(|row| row.get(name)));
    let (above, below) = match COLUMNS[column(name)].summary {
        Summary::Mean => (sum(name)?, None),
        Summary::Ratio(above, below) => (sum(above)?, Some(sum(below)?)),
    };
    Some(Statistic { above, below })
}

/// Latencies: exact mean and maximum, quantiles from a histogram of microseconds within 0.1 %.
struct Latencies {
    bins: Bins,
    /// Spans of nothing are many (most requests wait for no slot), and need no histogram.
    zeros: u64,
    sum: u128,
    max: Span,
}

impl Latencies {
    fn new() -> Self {
        Self { bins: Bins::default(), zeros: 0, sum: 0, max: Span::ZERO }
    }

    #[inline(always)]
    fn record(&mut self, span: Span) {
        if span == Span::ZERO {
            self.zeros += 1;
        } else {
            self.record_some(span);
        }
    }

    fn record_some(&mut self, span: Span) {
        self.bins.count(span.0.saturating_add(500) / 1_000);
        self.sum += u128::from(span.0);
        self.max = self.max.max(span);
    }

    fn add(&mut self, other: &Self) {
        self.bins.add(&other.bins);
        self.zeros += other.zeros;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    fn len(&self) -> u64 {
        self.zeros + self.bins.len
    }

    fn mean_ms(&self) -> Option<f64> {
        let count = self.len();
        (count > 0).then(|| self.sum as f64 / count as f64 / 1e6)
    }

    fn max_ms(&self) -> Option<f64> {
        (self.len() > 0).then(|| self.max.millis())
    }

    fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        if self.len() == 0 {
            return None;
        }
        let histogram = self.bins.histogram(u32::try_from(self.zeros).unwrap_or(u32::MAX));
        // The histogram answers with the top of a bin, which may lie above the largest value.
        Some((histogram.value_at_quantile(quantile) as f64 / 1e3).min(self.max.millis()))
    }
}

/// Counts in the bins of a [`Histogram`] of three digits, which is made of them once it is asked: to find a bin takes
/// a few shifts, and to record a value ten times as long.
#[derive(Default)]
struct Bins {
    counts: Vec<u32>,
    len: u64,
}

/// Bins of each power of two: enough for three digits.
const BINS: u64 = 1 << 10;

impl Bins {
    fn count(&mut self, value: u64) {
        // The values of one bin differ in the digits behind the first eleven.
        let magnitude = (value | (2 * BINS - 1)).ilog2() - BINS.ilog2();
        let bin = (u64::from(magnitude) * BINS + (value >> magnitude)) as usize;
        if bin >= self.counts.len() {
            self.counts.resize(bin + 1, 0);
        }
        self.counts[bin] = self.counts[bin].saturating_add(1);
        self.len += 1;
    }

    fn add(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(count, other)| *count = count.saturating_add(*other));
        self.len += other.len;
    }

    /// The histogram of all that was counted, and of so many zeros.
    fn histogram(&self, zeros: u32) -> Histogram<u32> {
        let mut histogram = Histogram::new(3).expect("three digits are allowed");
        let mut record = |value, count| {
            if count > 0 {
                histogram.record_n(value, count).expect("the histogram grows with its values");
            }
        };
        record(0, zeros);
        for (bin, count) in (0..).zip(&self.counts) {
            let magnitude = (bin / BINS).saturating_sub(1);
            record((bin - magnitude * BINS) << magnitude, *count);
        }
        histogram
    }
}

/// What one key has done.
#[derive(Default)]
struct KeyUse {
    /// The minute of its last request, and its requests in it.
    minute: u32,
    in_minute: u32,
    peak: u32,
    /// One more than the number of its last machine; 0 before the first.
    machine: u32,
}

/// What each key has done.
#[derive(Default)]
struct Keys {
    numbers: FxHashMap<(u32, PromptCacheKey), u32>,
    used: Vec<KeyUse>,
    /// The machines that each has met, in their order.
    machines: Vec<SmallVec<[MachineId; 2]>>,
    /// Under which provider the routing keys below were numbered.
    regime: u32,
    /// One more than the number of the key of each routing key; 0 before it is met. All requests of a routing key have the
    /// same key, so that nothing is hashed as long as the provider stays the same.
    met: Vec<u32>,
    /// Requests still to be counted: several keys at a time are fetched from memory in hardly more time than one.
    calls: Vec<KeyCall>,
    /// The numbers of their keys.
    called: Vec<u32>,
}

/// A request as far as its key is concerned.
struct KeyCall {
    key: PromptCacheKey,
    partition: u32,
    routing_key: RoutingKey,
    machine: MachineId,
    minute: u32,
}

/// Requests that are counted together.
const TOGETHER: usize = 64;

impl Keys {
    #[inline(always)]
    fn count(&mut self, outcome: &Outcome) {
        if self.regime != outcome.regime {
            self.count_calls();
            (self.regime, self.met) = (outcome.regime, Vec::new());
        }
        self.calls.push(KeyCall {
            key: outcome.key,
            partition: outcome.named_partition,
            routing_key: outcome.routing_key,
            machine: outcome.machine,
            // All of simulated time has fewer minutes.
            minute: (outcome.arrival.0 / Span::MINUTE.0) as u32,
        });
        if self.calls.len() >= TOGETHER {
            self.count_calls();
        }
    }

    /// The number of a key under a routing key that was not met before.
    #[cold]
    fn meet(&mut self, call: &KeyCall) -> u32 {
        let next = self.used.len() as u32;
        let number = *self.numbers.entry((call.partition, call.key)).or_insert(next);
        if number == next {
            self.used.push(KeyUse::default());
            self.machines.push(SmallVec::new());
        }
        let index = call.routing_key.0 as usize;
        if index >= self.met.len() {
            self.met.resize(index + 1, 0);
        }
        self.met[index] = number + 1;
        number
    }

    fn count_calls(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        let mut called = std::mem::take(&mut self.called);
        called.extend(calls.iter().map(|call| {
            let met = self.met.get(call.routing_key.0 as usize).and_then(|number| number.checked_sub(1));
            met.unwrap_or_else(|| self.meet(call))
        }));
        for (KeyCall { machine, minute, .. }, number) in calls.iter().zip(&called) {
            let usage = &mut self.used[*number as usize];
            if usage.machine != machine.0 + 1 {
                usage.machine = machine.0 + 1;
                let machines = &mut self.machines[*number as usize];
                if let Err(position) = machines.binary_search(machine) {
                    machines.insert(position, *machine);
                }
            }
            if *minute != usage.minute {
                (usage.minute, usage.in_minute) = (*minute, 0);
            }
            usage.in_minute += 1;
            usage.peak = usage.peak.max(usage.in_minute);
        }
        (self.calls, self.called) = (calls, called);
        self.calls.clear();
        self.called.clear();
    }
}

/// What was billed at one price list.
struct Bill {
    /// Since when it holds, counted from the beginning.
    from: Span,
    prices: Prices,
    billed: Billed,
    /// What would have been billed without a cache.
    uncached: Billed,
}

impl Bill {
    fn new(from: Span, prices: Prices) -> Self {
        Self { from, prices, billed: Billed::default(), uncached: Billed::default() }
    }
}

/// Adds up the outcomes of one run.
pub struct Metrics {
    warm_from: Option<SimTime>,
    warmup: Span,
    begin: Option<SimTime>,
    end: SimTime,
    /// What was billed, at one price list after the other.
    bills: Vec<Bill>,
    attributed: bool,
    requests: u64,
    warmup_requests: u64,
    hits: u64,
    prompt: u64,
    cached: u64,
    written: u64,
    output: u64,
    lost: [u64; Cause::ALL.len()],
    ceilings: [u64; 2],
    overflowed: u64,
    keys: Keys,
    ttft: Latencies,
    total: Latencies,
    wait: Latencies,
    max_in_flight: u32,
    extra: u64,
    failed: u64,
    contaminated: u64,
    given_up: u64,
}

impl Metrics {
    /// Nothing counted yet. Traffic that is generated begins at time zero (`begin`), a trace with its first
    /// request (`None`). The prices are those from the beginning on, then those of later times.
    pub fn new(prices: Vec<(Span, Prices)>, begin: Option<SimTime>, warmup: Span) -> Self {
        Self {
            warm_from: None,
            warmup,
            begin,
            end: SimTime::ZERO,
            bills: prices.into_iter().map(|(from, prices)| Bill::new(from, prices)).collect(),
            attributed: true,
            requests: 0,
            warmup_requests: 0,
            hits: 0,
            prompt: 0,
            cached: 0,
            written: 0,
            output: 0,
            lost: [0; Cause::ALL.len()],
            ceilings: [0; 2],
            overflowed: 0,
            keys: Keys::default(),
            ttft: Latencies::new(),
            total: Latencies::new(),
            wait: Latencies::new(),
            max_in_flight: 0,
            extra: 0,
            failed: 0,
            contaminated: 0,
            given_up: 0,
        }
    }

    /// Time from the first outcome to the last one that was counted.
    pub fn span(&self) -> Span {
        self.begin.map_or(Span::ZERO, |begin| self.end.since(begin))
    }

    /// Counts one outcome, unless it belongs to the warm-up.
    #[inline(always)]
    pub fn count(&mut self, outcome: &Outcome) {
        let begin = *self.begin.get_or_insert(outcome.arrival);
        let warm_from = *self.warm_from.get_or_insert(begin + self.warmup);
        if outcome.arrival < warm_from {
            self.warmup_requests += 1;
            return;
        }
        self.end = self.end.max(outcome.arrival);
        if outcome.failed {
            self.failed += 1;
            self.given_up += u64::from(outcome.given_up);
            return;
        }
        let in_force = self.bills.iter_mut().rev().find(|bill| begin + bill.from <= outcome.arrival);
        let Bill { prices, billed, uncached, .. } = in_force.expect("prices hold from the beginning on");
        prices.bill(billed, outcome.prompt, outcome.cached, outcome.written, outcome.output);
        if outcome.occasion != Occasion::Call {
            self.extra += 1;
            return;
        }
        prices.bill(uncached, outcome.prompt, 0, 0, outcome.output);
        self.requests += 1;
        self.contaminated += u64::from(outcome.contaminated);
        self.hits += u64::from(outcome.cached > 0);
        self.prompt += u64::from(outcome.prompt);
        self.cached += u64::from(outcome.cached);
        self.written += u64::from(outcome.written);
        self.output += u64::from(outcome.output);
        self.overflowed += u64::from(outcome.overflowed);
        self.max_in_flight = self.max_in_flight.max(outcome.in_flight);
        self.ttft.record(outcome.timing.ttft);
        self.total.record(outcome.timing.total);
        self.wait.record(outcome.timing.wait);
        match &outcome.attribution {
            Some(attribution) => {
                for (sum, lost) in self.lost.iter_mut().zip(attribution.lost) {
                    *sum += u64::from(lost);
                }
                self.ceilings[0] += u64::from(attribution.ceiling_infinite);
                self.ceilings[1] += u64::from(attribution.ceiling_lifetime);
            }
            None => self.attributed = false,
        }
        self.keys.count(outcome);
    }

    /// Adds the times of requests that were counted elsewhere, and nothing else of them.
    pub fn add_times(&mut self, other: &Self) {
        self.ttft.add(&other.ttft);
        self.total.add(&other.total);
    }

    /// The row. `measured_until` is the end of the time in which requests are sent, where there is one.
    pub fn row(&mut self, measured_until: Option<SimTime>, skipped_lines: u64) -> Row {
        self.keys.count_calls();
        let some = |value: u64| Some(value as f64);
        let share = |above: f64, below: f64| (below != 0.0).then(|| round_to(above / below, 6));
        let of_tokens = |value: u64| share(value as f64, self.prompt as f64);
        let attributed = |value: Option<f64>| value.filter(|_| self.attributed && self.requests > 0);
        let rounded = |value: Option<f64>| value.map(|value| round_to(value, 3));
        let keys = self.keys.used.len() as f64;
        let machines: usize = self.keys.machines.iter().map(SmallVec::len).sum();
        let peak = self.keys.used.iter().map(|usage| u64::from(usage.peak)).max();
        let until = measured_until.unwrap_or(self.end).max(self.end);
        let minutes = self.warm_from.map_or(0.0, |from| until.since(from).seconds() / 60.0);
        let cost = self.bills.iter().map(|bill| bill.prices.total(&bill.billed)).sum::<Usd>();
        let uncached_cost = self.bills.iter().map(|bill| bill.prices.total(&bill.uncached)).sum::<Usd>();
        let saving = (uncached_cost - cost).dollars();

        let mut row = vec![
            some(self.requests),
            some(self.hits),
            share(self.hits as f64, self.requests as f64),
            some(self.prompt),
            some(self.cached),
            of_tokens(self.cached),
            attributed(some(self.ceilings[0])),
            attributed(of_tokens(self.ceilings[0])),
            attributed(some(self.ceilings[1])),
            attributed(of_tokens(self.ceilings[1])),
            some(self.prompt - self.cached),
            some(self.written),
            some(self.output),
        ];
        row.extend(self.lost.map(|lost| attributed(some(lost))));
        row.extend([
            some(self.overflowed),
            share(self.overflowed as f64, self.requests as f64),
            Some(keys),
            share(machines as f64, keys),
            share(self.requests as f64, minutes * keys),
            peak.and_then(some),
        ]);
        for latencies in [&self.ttft, &self.total] {
            row.push(rounded(latencies.mean_ms()));
            row.extend([0.5, 0.9, 0.95, 0.99].map(|q| rounded(latencies.quantile_ms(q))));
            row.push(rounded(latencies.max_ms()));
        }
        row.extend([self.wait.mean_ms(), self.wait.quantile_ms(0.95), self.wait.max_ms()].map(rounded));
        row.extend([
            some(u64::from(self.max_in_flight)),
            Some(round_to(cost.dollars(), 9)),
            Some(round_to(uncached_cost.dollars(), 9)),
            Some(round_to(saving, 9)),
            share(saving, uncached_cost.dollars()),
            some(self.warmup_requests),
            some(skipped_lines),
            some(self.extra),
            some(self.failed),
            some(self.contaminated),
            some(self.given_up),
        ]);
        debug_assert_eq!(row.len(), COLUMNS.len());
        Row(row)
    }
}
