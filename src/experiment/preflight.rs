//! Warnings before a run whose hits are impossible, certain or left to luck.

use crate::client::arrival::Process;
use crate::client::gateway::Continuation;
use crate::client::key::{Assign, Keying, Strategy};
use crate::client::reaction::AfterMiss;
use crate::client::shared_prefix::SharedPrefix;
use crate::client::volatility::{HeadChanges, Volatility};
use crate::client::workload::Workload;
use crate::document::KeyPath;
use crate::experiment::coupling;
use crate::experiment::rule::Rule;
use crate::experiment::scenario::{Loaded, Scenario};
use crate::prompt::MarkKind;
use crate::provider::profile::Provider;
use crate::provider::routing::{self, KeyRole, Overflow, Routing};
use crate::provider::write::{Semantics, Write};
use crate::random::Quantity;
use crate::units::{Span, Tokens};

/// Something a user should know before reading the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule that it falls under.
    pub rule: Rule,
    /// The path of the scenario that it is about.
    pub path: KeyPath,
    /// One sentence.
    pub words: String,
}

/// The words of all warnings.
pub fn warnings(loaded: &Loaded) -> Vec<String> {
    known(loaded).into_iter().map(|warning| warning.words).collect()
}

/// Everything a user should know: what holds at first, then what further things every change of the provider brings.
pub fn known(loaded: &Loaded) -> Vec<Warning> {
    let mut known = known_at_first(loaded);
    for (number, regime) in loaded.scenario.regime.iter().enumerate() {
        let mut later = loaded.clone();
        later.scenario.provider = regime.provider.clone();
        let mut further = known_at_first(&later);
        further.retain(|warning| !known.contains(warning));
        known.extend(further.into_iter().map(|Warning { rule, words, .. }| {
            let path = KeyPath::from_iter(["regime", &number.to_string()]);
            Warning { rule, path, words: format!("after the first {}: {words}", regime.at) }
        }));
    }
    known
}

/// What to know of the provider that holds from the start on.
fn known_at_first(loaded: &Loaded) -> Vec<Warning> {
    let client = &loaded.scenario.client;
    let about = |rule, keys: [&str; 2], words: Option<String>| {
        words.map(|words| Warning { rule, path: KeyPath::from_iter(keys), words })
    };
    let general = [
        about(Rule::LimitedAnswer, ["client", "retention"], other_retention(loaded)),
        about(Rule::ImplicitRetention, ["client", "retention"], shortest_by_default(loaded)),
        about(Rule::NothingShared, ["provider", "write"], low_floor(loaded)),
        about(Rule::LimitedAnswer, ["provider", "model"], relative_prices(loaded)),
    ];
    let sampled =
        loaded.scenario.sampled().map(|share| coupling::notes(client, &loaded.scenario.provider, share));
    let path = KeyPath::from_iter(["sample"]);
    let sampled = sampled.into_iter().flatten();
    let sampled = sampled.map(|words| Warning { rule: Rule::LimitedAnswer, path: path.clone(), words });
    let general = general.into_iter().flatten().chain(sampled);
    let of_workloads =
        client.workload.iter().flat_map(|(name, workload)| of_workload(loaded, name, workload));
    general.chain(of_workloads).collect()
}

/// What to know of a workload.
fn of_workload(loaded: &Loaded, name: &str, workload: &Workload) -> Vec<Warning> {
    let notes = [
        (Rule::BelowMinimum, too_short(loaded, workload)),
        (Rule::VolatileHead, changing_head(workload)),
        (Rule::NothingShared, nothing_shared(loaded, workload)),
        (Rule::KeyPerCall, key_per_call(loaded, workload)),
        (Rule::ScatteredSession, scattered_turns(loaded, workload)),
        (Rule::NoEffect, one_user(loaded, workload)),
        (Rule::HotKey, hot_key(loaded, workload)),
        (Rule::ColdKey, cold_key(loaded, workload)),
        (Rule::LimitedAnswer, ends_inside_blocks(loaded, workload)),
        (Rule::LimitedAnswer, arrivals_by_name_only(loaded, workload)),
        (Rule::NoEffect, nothing_to_pause(workload)),
        (Rule::NoMarks, no_marks(loaded, workload)),
        (Rule::NoEffect, nothing_to_continue(loaded, workload)),
    ];
    let path = KeyPath::from_iter(["client", "workload", name]);
    let warning = |(rule, note): (Rule, Option<String>)| {
        note.map(|note| Warning { rule, path: path.clone(), words: format!("workload `{name}`: {note}") })
    };
    notes.into_iter().filter_map(warning).collect()
}

/// A swept bucket count that no key depends on: for a sweep alone.
pub fn idle_axis(loaded: &Loaded) -> Option<String> {
    let swept = |path: &str| loaded.scenario.sweep.axis.iter().any(|axis| axis.path == path);
    let strategy = loaded.scenario.client.key.strategy;
    (swept("client.key.buckets") && !swept("client.key.strategy") && strategy != Strategy::Buckets).then(
        || "client.key.buckets is swept, but client.key.strategy is not `buckets`: it has no effect".into(),
    )
}

/// A sample with one replication, whose error a sweep does not show.
pub fn sampled_once(loaded: &Loaded) -> Option<String> {
    let Scenario { seeds, .. } = loaded.scenario;
    (seeds == 1 && loaded.scenario.sampled().is_some()).then(|| {
        "sample: with one seed a sweep has no intervals, which would show the error of the sample".into()
    })
}

/// A default retention that this model, or this organization, cannot have.
fn other_retention(loaded: &Loaded) -> Option<String> {
    let Scenario { client, provider, .. } = &loaded.scenario;
    let default = &provider.retention.default;
    let applies = provider.policy(None, client.zero_data_retention).ok()?;
    let rules_it_out = match provider.offered(false).contains(&default.as_str()) {
        false => format!("`{}` does not support", provider.model),
        true => "zero data retention does not allow".into(),
    };
    (client.retention.is_none() && applies != default)
        .then(|| format!("{rules_it_out} the default retention `{default}`: `{applies}` applies"))
}

/// The policy in force for who asks for none, if it is the shortest there is, and the longer ones.
pub fn longer_than_implicit(provider: &Provider, zero_data_retention: bool) -> Option<(&str, Vec<&str>)> {
    let applies = provider.policy(None, zero_data_retention).ok()?;
    let mean = |policy: &str| provider.retention.lifetime[policy].mean();
    let offered = provider.offered(zero_data_retention);
    let longer: Vec<_> = offered.iter().copied().filter(|policy| mean(policy) > mean(applies)).collect();
    (!longer.is_empty() && offered.len() == longer.len() + 1).then_some((applies, longer))
}

/// A retention that nobody chose, and that is the shortest there is.
fn shortest_by_default(loaded: &Loaded) -> Option<String> {
    let Scenario { client, provider, .. } = &loaded.scenario;
    let (applies, longer) = longer_than_implicit(provider, client.zero_data_retention)?;
    let longer: Vec<_> = longer.iter().map(|policy| format!("`{policy}`")).collect();
    let unchosen = |workload: &Workload| workload.retention.is_none() && client.retention.is_none();
    client.workload.values().any(unchosen).then(|| {
        format!(
            "retention is left implicit: `{applies}` ({}) applies, though {} is supported: set client.retention",
            provider.retention.lifetime[applies],
            longer.join(", ")
        )
    })
}

/// A provider that stores at marks only, and none are set.
fn no_marks(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let Write { semantics, implicit_breakpoint, developer_breakpoint, .. } = loaded.scenario.provider.write;
    let marked = implicit_breakpoint
        || developer_breakpoint
        || has_own_marks(workload)
        || !loaded.scenario.client.marked(workload).is_empty();
    (semantics == Semantics::Breakpoints && !marked).then(|| {
        "this provider stores at explicit breakpoints only: without client.breakpoints, such as [\"developer\", \"message\"], there can be no hits".into()
    })
}

/// Whether its requests are a user's own log, with marks of their own.
fn has_own_marks(workload: &Workload) -> bool {
    let logged = workload.trace.as_ref().and_then(|trace| trace.logged.as_deref());
    logged
        .into_iter()
        .flatten()
        .any(|record| record.marks.iter().flatten().any(|mark| mark.kind == MarkKind::Explicit))
}

/// Whether a provider's prices are relative to each other only: they come to no USD.
pub fn has_relative_prices(provider: &Provider) -> bool {
    provider.chosen_model().input == 1.0
}

fn relative_prices(loaded: &Loaded) -> Option<String> {
    let Provider { profile, model, .. } = &loaded.scenario.provider;
    has_relative_prices(&loaded.scenario.provider).then(|| {
        format!("prices of `{model}` in `{profile}` are relative (input = 1 for a million tokens): its costs are no USD")
    })
}

/// A floor that holds no boundary worth reporting.
fn low_floor(loaded: &Loaded) -> Option<String> {
    let write = &loaded.scenario.provider.write;
    let floor = write.first_tokens;
    (write.semantics == Semantics::FirstTokens && write.report(write.boundary(floor), Tokens::MAX) == 0)
        .then(|| format!("the first {floor} tokens hold no boundary that is reported: there can be no hits"))
}

/// A trace knows its prompts block by block, not where they end.
fn ends_inside_blocks(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let is_file = workload.trace.as_ref().is_some_and(|trace| trace.logged.is_none());
    (is_file && !loaded.scenario.provider.write.covers()).then(|| {
        "its prompts mostly end inside a block, where nothing says what the next prompt shares: boundaries at ends of prompts are missed".into()
    })
}

/// Buckets in turn or at random send the turns of one session to different keys.
fn scattered_turns(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let keying = loaded.scenario.client.keying(workload);
    let scatters = keying.strategy == Strategy::Buckets
        && keying.buckets > 1
        && matches!(keying.assign, Assign::RoundRobin | Assign::Random);
    (scatters && workload.shared_prefix.is_none()).then(|| {
        "buckets are assigned call by call, so that a session's next call may miss its own history: consider assign = \"session\"".into()
    })
}

fn one_user(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let Keying { strategy, assign, .. } = loaded.scenario.client.keying(workload);
    let by_user = *strategy == Strategy::PerUser || *strategy == Strategy::Buckets && *assign == Assign::User;
    (by_user && workload.users == 1).then(|| "keys go by user, but there is only one: set `users`".into())
}

/// Processes that are named but not used.
fn arrivals_by_name_only(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let arrivals = workload.arrivals.as_ref()?;
    match arrivals.process {
        Process::Gamma if arrivals.gap_variation == 1.0 => {
            Some("gamma arrivals with gap_variation 1 are Poisson: set it above 1 for bursts".into())
        }
        Process::Daily if loaded.scenario.duration < Span::DAY => {
            Some("daily arrivals over less than a day, from midnight on, do not have their mean rate".into())
        }
        _ => None,
    }
}

/// A reaction that has nothing to act on.
fn nothing_to_pause(workload: &Workload) -> Option<String> {
    let pauses = workload.reaction.after_miss == AfterMiss::PauseStatus;
    (pauses && workload.volatility.status() == 0)
        .then(|| "there is no status block to pause after a miss: set volatility.status_tokens".into())
}

/// A gateway that continues sessions by their key, and there is none.
fn nothing_to_continue(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let implicit = loaded.scenario.client.gateway.continuation == Continuation::Implicit;
    let keyless = loaded.scenario.client.keying(workload).strategy == Strategy::None;
    (implicit && keyless)
        .then(|| "implicit continuation goes by the key, and none is sent: every request stands alone".into())
}

/// The longest prompt a generated workload can send, if there is a bound.
fn longest_prompt(loaded: &Loaded, workload: &Workload) -> Option<u64> {
    if loaded.scenario.client.gateway.continuation == Continuation::Implicit {
        return None;
    }
    if let Some(shared) = &workload.shared_prefix {
        let start = u64::from(workload.volatility.head_tokens) + u64::from(shared.prefix_tokens);
        return Some(start + shared.tail_tokens.support().1?);
    }
    let chat = workload.chat.as_ref()?;
    let reasoning = workload.volatility.reasoning_tokens.support().1?;
    let turn = chat.user_tokens.support().1? + chat.output_tokens.support().1? + reasoning;
    let heads = workload.volatility.head_tokens.saturating_add(workload.reaction.rebase_head_tokens);
    let start = u64::from(heads) + u64::from(workload.volatility.status());
    Some(start + u64::from(chat.prefix_tokens) + turn.saturating_mul(chat.turns.support().1?))
}

fn too_short(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let least = loaded.scenario.provider.write.min_tokens;
    let longest = longest_prompt(loaded, workload)?;
    (longest < u64::from(least)).then(|| {
        format!("no prompt is longer than {longest} tokens, and below {least} nothing is cached: there can be no hits")
    })
}

/// Whether independent calls begin with something of their own.
fn has_changing_head(workload: &Workload) -> bool {
    let Volatility { head_tokens, head_changes, .. } = workload.volatility;
    workload.shared_prefix.is_some() && head_tokens > 0 && head_changes == HeadChanges::Call
}

fn changing_head(workload: &Workload) -> Option<String> {
    has_changing_head(workload).then(|| "its head changes with every call: there can be no hits".into())
}

fn nothing_shared(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let SharedPrefix { prefix_tokens, tail_tokens, tails, .. } = workload.shared_prefix.as_ref()?;
    let write: &Write = &loaded.scenario.provider.write;
    let (shortest, longest) = tail_tokens.support();
    let Volatility { head_tokens, .. } = workload.volatility;
    if has_changing_head(workload) {
        return None;
    }
    if *tails == 0 && longest != Some(0) {
        if write.semantics == Semantics::WholeBody {
            return Some(
                "every tail is its own and only whole bodies are stored: there can be no hits".into(),
            );
        }
        let shared = head_tokens + prefix_tokens;
        let prompt = shared.saturating_add(Tokens::try_from(shortest.max(1)).unwrap_or(Tokens::MAX));
        if write.report(write.boundary(shared), prompt) == 0 {
            return Some(format!(
                "the {shared} tokens that calls share hold no boundary that is reported: there can be no hits"
            ));
        }
    }
    (longest == Some(0)).then(|| {
        "all prompts are the same: every miss is due to routing, expiry or visibility, none to the traffic".into()
    })
}

fn key_per_call(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let Routing { key_role, machines, .. } = loaded.scenario.provider.routing;
    let keying = loaded.scenario.client.keying(workload);
    (keying.strategy == Strategy::PerCall).then(|| match key_role {
        KeyRole::Identity => "every call has a key of its own and the key is part of the cache: there can be no hits".into(),
        KeyRole::Routing => format!(
            "every call has a key of its own: it hits only where chance sends it to a machine that has its prefix, one of {machines}"
        ),
    })
}

/// Requests a minute that each key of a workload gets, if their number is known.
fn rate_of_a_key(loaded: &Loaded, workload: &Workload) -> Option<f64> {
    let keying = loaded.scenario.client.keying(workload);
    let keys = match keying.strategy {
        Strategy::Buckets => f64::from(keying.buckets),
        Strategy::None | Strategy::Constant | Strategy::Label => 1.0,
        Strategy::PerUser => f64::from(workload.users),
        Strategy::PerSession
        | Strategy::PerBranch
        | Strategy::PerNode
        | Strategy::PerCall
        | Strategy::Recorded => return None,
    };
    Some(requests_per_minute(workload)? / keys)
}

/// Keys that run above the limit.
fn hot_key(loaded: &Loaded, workload: &Workload) -> Option<String> {
    let Routing { rule, overflow, limit_rpm, .. } = loaded.scenario.provider.routing;
    let rate = rate_of_a_key(loaded, workload)?;
    let is_hot = rule == routing::Rule::Home && overflow != Overflow::None && rate > f64::from(limit_rpm);
    is_hot.then(|| {
        format!(
            "each key gets {rate:.1} requests a minute, above the limit of {limit_rpm}: expect overflow, cheap only where the next machines stay warm"
        )
    })
}

/// Keys that cool down between two requests.
fn cold_key(loaded: &Loaded, workload: &Workload) -> Option<String> {
    if hot_key(loaded, workload).is_some() {
        return None;
    }
    let rate = rate_of_a_key(loaded, workload)?;
    let law = &loaded.scenario.provider.retention.lifetime[loaded.policy(workload)];
    let gap = Span::from_seconds_f64(60.0 / rate);
    (gap.units() as f64 > law.mean()).then(|| {
        format!(
            "a key is used every {:.0} s on average, but what it stored lives {:.0} s: expect it to be cold",
            gap.seconds(),
            law.mean() / 1e9
        )
    })
}

/// Mean requests a minute of a generated workload.
pub fn requests_per_minute(workload: &Workload) -> Option<f64> {
    let turns = match (&workload.chat, &workload.agent, &workload.fork_tree) {
        (Some(chat), ..) => chat.turns.mean().max(1.0),
        (_, Some(agent), _) => agent.turns.mean().max(1.0) * agent.calls.mean().max(1.0),
        (.., Some(tree)) => tree.mean_calls(),
        _ => 1.0,
    };
    Some(workload.arrivals.as_ref()?.rate.per_minute() * turns)
}
