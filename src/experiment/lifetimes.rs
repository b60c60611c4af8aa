//! An axis over constant lifetimes: which cells it joins, and whether these can be played in one pass.

use std::collections::BTreeMap;

use rayon::prelude::*;
use toml::Value;

use crate::client::reaction::AfterMiss;
use crate::client::workload::Workload;
use crate::document::KeyPath;
use crate::error::Result;
use crate::experiment::scenario::{Loaded, Scenario};
use crate::experiment::sweep::{Outline, Plan};
use crate::provider::machine::Latency;
use crate::provider::routing::{Pick, Routing, Rule};
use crate::provider::write::{Bodies, Visible, When, Write};
use crate::random::SpanDistribution;
use crate::units::Span;

/// The most lifetimes of one pass: each has queues and histograms of its own.
const MOST_TOGETHER: usize = 64;

/// The constant lifetimes that one axis of a sweep runs over.
#[derive(Clone, Debug)]
pub struct Lifetimes {
    /// Number of the axis.
    pub axis: usize,
    /// The policy whose lifetime is swept.
    pub policy: String,
    /// The lifetime of each value of the axis.
    pub lifetimes: Vec<Span>,
    /// How far apart the cells of a group are.
    stride: usize,
    /// Number of cells of the whole sweep.
    cells: usize,
}

impl Lifetimes {
    /// The first axis of a sweep that runs over two or more lifetimes, all of them constant.
    pub fn of(outline: &Outline) -> Option<Self> {
        (0..outline.axes.len()).find_map(|axis| {
            let policy = swept_policy(&outline.axes[axis])?;
            let lifetimes: Vec<_> =
                outline.values_of(axis).iter().map(constant_lifetime).collect::<Option<_>>()?;
            let is_set_elsewhere = || {
                let others = outline.axes.iter().enumerate().filter(|(other, _)| *other != axis);
                others.into_iter().any(|(_, path)| outline.axes[axis].starts_with(&format!("{path}.")))
            };
            let stride = outline.stride(axis);
            (lifetimes.len() > 1 && !is_set_elsewhere()).then(|| Self {
                axis,
                policy,
                lifetimes,
                stride,
                cells: outline.cells(),
            })
        })
    }

    /// The lifetime of a cell.
    pub fn lifetime(&self, cell: usize) -> Span {
        self.lifetimes[cell / self.stride % self.lifetimes.len()]
    }

    /// The first of the cells that differ from a cell in their lifetime alone.
    fn first_like(&self, cell: usize) -> usize {
        cell - cell / self.stride % self.lifetimes.len() * self.stride
    }

    /// Cells that differ in nothing but their lifetime: the numbers of each group in the order of the axis, the groups in
    /// that of their first cells.
    pub fn groups(&self) -> impl Iterator<Item = Vec<usize>> + '_ {
        let firsts = (0..self.cells).filter(|cell| self.first_like(*cell) == *cell);
        firsts.map(|first| (0..self.lifetimes.len()).map(|step| first + step * self.stride).collect())
    }

    /// The groups, as far as a plan has their cells.
    fn groups_in(&self, plan: &Plan) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for cell in &plan.cells {
            groups.entry(self.first_like(cell.number)).or_default().push(cell.number);
        }
        groups.into_values().collect()
    }

    /// What keeps a group from being played in one pass, if anything does.
    fn obstacle_in(&self, plan: &Plan, group: &[usize]) -> Option<String> {
        let first = plan.find(group[0]).expect("a group of the plan");
        obstacle(&plan.cells[first].loaded, &self.policy)
    }

    /// Which cells of a plan are played together: all of a group, as far as that is exact, and every other one alone.
    pub fn passes(&self, plan: &Plan) -> Vec<Vec<usize>> {
        let passes = |group: Vec<usize>| together(&group, self.obstacle_in(plan, &group).is_none());
        self.groups_in(plan).into_iter().flat_map(passes).collect()
    }

    /// Which cells of a whole sweep are played together, without holding the cells.
    pub fn passes_of(&self, outline: &Outline) -> Result<Vec<Vec<usize>>> {
        let groups: Vec<Vec<usize>> = self.groups().collect();
        let passes = |group: &Vec<usize>| {
            let first = outline.cell(group[0])?;
            Ok(together(group, obstacle(&first.loaded, &self.policy).is_none()))
        };
        let passes: Vec<_> = groups.par_iter().map(passes).collect::<Result<_>>()?;
        Ok(passes.concat())
    }

    /// What a user should know of how the cells are played.
    pub fn said(&self, plan: &Plan) -> String {
        let groups = self.groups_in(plan);
        let together = groups[0].len();
        let path = &plan.outline.axes[self.axis];
        let obstacles: Vec<_> = groups.iter().filter_map(|group| self.obstacle_in(plan, group)).collect();
        let exact = groups.len() - obstacles.len();
        match (obstacles.first(), exact) {
            (None, _) => format!("{path}: {together} lifetimes are computed in one pass"),
            (Some(why), 0) => format!("{path}: {together} lifetimes are computed one by one; {why}"),
            (Some(why), _) => format!(
                "{path}: {together} lifetimes are computed in one pass in {exact} of {} groups of cells, elsewhere \
                 one by one; {why}",
                groups.len()
            ),
        }
    }
}

/// What a user should know of how an axis over lifetimes is played, if there is one.
pub fn said(plan: &Plan) -> Option<String> {
    let outline = &plan.outline;
    if let Some(lifetimes) = Lifetimes::of(outline) {
        return Some(lifetimes.said(plan));
    }
    outline.axes.iter().enumerate().find_map(|(axis, path)| {
        swept_policy(path)?;
        let is_drawn = |value| constant_lifetime(value).is_none();
        outline.values_of(axis).iter().any(is_drawn).then(|| {
            format!(
                "{path}: computed one by one; lifetimes that are drawn for each request have no common pass"
            )
        })
    })
}

/// The policy whose lifetime stands at a path.
fn swept_policy(path: &str) -> Option<String> {
    let path: KeyPath = path.parse().ok()?;
    match path.keys() {
        [provider, retention, lifetime, policy]
            if [provider, retention, lifetime] == ["provider", "retention", "lifetime"] =>
        {
            Some(policy.clone())
        }
        _ => None,
    }
}

fn constant_lifetime(value: &Value) -> Option<Span> {
    match value.clone().try_into() {
        Ok(SpanDistribution::Constant(lifetime)) => Some(lifetime),
        _ => None,
    }
}

/// The passes of a group: as many cells together as one pass takes where that is exact, or each alone.
fn together(group: &[usize], exact: bool) -> Vec<Vec<usize>> {
    group.chunks(if exact { MOST_TOGETHER } else { 1 }).map(<[usize]>::to_vec).collect()
}

/// Why runs of a scenario that differ in a policy's constant lifetime alone cannot be played in one pass: the first
/// reason, if there is one. One pass takes it for granted that a lifetime has no say in when requests are sent, where
/// they go and what they touch.
pub fn obstacle(loaded: &Loaded, policy: &str) -> Option<String> {
    let Scenario { client, provider, regime, .. } = &loaded.scenario;
    if !regime.is_empty() {
        return Some("regime: another provider has lifetimes of its own".into());
    }
    let in_workloads = |why: &dyn Fn(&Workload) -> Option<String>| {
        let why = |(name, workload)| why(workload).map(|why| format!("workload `{name}`: {why}"));
        client.workload.iter().find_map(why)
    };
    in_workloads(&|workload| {
        let in_force = loaded.policy(workload);
        (in_force != policy).then(|| format!("the policy in force is `{in_force}`"))
    })
    .or_else(|| what_reads_decide(&provider.write).map(String::from))
    .or_else(|| in_workloads(&|workload| reacts(workload).map(String::from)))
    .or_else(|| looks_at_load(&provider.routing).map(String::from))
    .or_else(|| {
        if !times_depend_on_reads(&provider.latency) {
            return None;
        }
        let retried = provider.failures.probability(client.execution) > 0.0;
        becomes_visible(&provider.write)
            .map(String::from)
            .or_else(|| in_workloads(&|workload| waits(workload, retried).map(String::from)))
    })
}

/// The first reason that holds.
fn first(reasons: &[(bool, &'static str)]) -> Option<&'static str> {
    reasons.iter().find_map(|(holds, why)| holds.then_some(*why))
}

/// Where what is alive decides what is touched.
fn what_reads_decide(write: &Write) -> Option<&'static str> {
    first(&[
        (write.when == When::OnMiss, "on_miss: what was read decides what is written"),
        (write.when == When::Once, "once: what is alive decides what is written"),
        (write.bodies == Bodies::One, "bodies = one: what is alive decides what is left of a replaced body"),
        (write.capacity_tokens.is_some(), "capacity_tokens: what is alive decides what is evicted"),
        (!write.covers(), "whole_body, breakpoints: only what is still alive is renewed"),
    ])
}

/// Where what a client sees decides what it sends.
fn reacts(workload: &Workload) -> Option<&'static str> {
    let reacts = workload.reaction.after_miss != AfterMiss::Nothing;
    first(&[(reacts, "after_miss: what was cached decides what is sent next")])
}

/// Where machines' queues decide where a request goes.
fn looks_at_load(routing: &Routing) -> Option<&'static str> {
    let least_loaded = routing.rule == Rule::Pool && routing.pick == Pick::LeastLoaded;
    first(&[
        (least_loaded, "least_loaded: routing looks at machines' queues"),
        (routing.rule == Rule::BoundedLoad, "bounded_load: routing looks at machines' queues"),
    ])
}

/// Whether what was cached decides when an answer comes.
fn times_depend_on_reads(latency: &Latency) -> bool {
    latency.per_uncached_token != latency.per_cached_token
        || latency.attention_per_million_pairs != Span::ZERO
}

/// Where answers' times decide when a write can be read.
fn becomes_visible(write: &Write) -> Option<&'static str> {
    first(&[
        (
            write.visible == Visible::FirstToken,
            "first_token: answers' times decide when writes become visible",
        ),
        (
            write.visible == Visible::Completion,
            "completion: answers' times decide when writes become visible",
        ),
    ])
}

/// Where answers' times decide when requests are sent.
fn waits(workload: &Workload, calls_fail: bool) -> Option<&'static str> {
    first(&[
        (workload.chat.is_some(), "chat: answers' times feed arrivals"),
        (workload.agent.is_some(), "agent: answers' times feed arrivals"),
        (workload.fork_tree.is_some(), "fork_tree: answers' times feed arrivals"),
        (calls_fail && workload.reaction.retries > 0, "retries: answers' times feed arrivals"),
    ])
}
