//! The text of a new scenario: every value, and above it what it means.

use crate::experiment::init::{Answers, Topic, strategies};
use crate::provider::profile::Provider;
use crate::provider::write::Semantics;

/// The file that answers make.
pub(super) struct Draft<'a> {
    /// The answers.
    pub answers: &'a Answers,
    /// The chosen profile.
    pub provider: &'a Provider,
    /// What the file is called.
    pub name: &'a str,
    /// Where its schema is.
    pub schema: Option<&'a str>,
}

impl Draft<'_> {
    fn get(&self, topic: Topic) -> String {
        self.answers.get(topic).expect("answered, or with a default")
    }

    /// An answer as a TOML value: a number where it is one.
    fn value(&self, topic: Topic) -> String {
        let text = self.get(topic);
        match text.parse::<u32>() {
            Ok(number) => number.to_string(),
            Err(_) if matches!(topic, Topic::Users | Topic::PrefixTokens | Topic::BlockTokens) => text,
            Err(_) => quoted(&text),
        }
    }

    /// The file, for traffic of this length and so many buckets.
    pub fn text(&self, duration: &str, warmup: &str, buckets: u32) -> String {
        let Self { name, .. } = self;
        let schema = self.schema.map_or(String::new(), |schema| format!("#:schema {schema}\n"));
        let is_trace = self.answers.kind() == "trace";
        let title = self.title();
        let commands = [
            (format!("cachecast run {name}"), "plays it as it stands, with intervals"),
            (
                format!("cachecast sweep {name}"),
                "plays every variant of [[sweep.axis]] at the end, into results/",
            ),
            (format!("cachecast recommend {name}"), "says which number of buckets does best"),
            ("cachecast list axes".into(), "shows everything else that can be set here"),
        ];
        let width = commands.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
        let line = |(command, does): &(String, &str)| format!("#   {command:width$}   {does}");
        let commands = commands.iter().map(line).collect::<Vec<_>>().join("\n");
        let mut text = format!(
            "{schema}# A scenario to start from.
#
{commands}
#
# Times are \"250ms\", \"5m\", \"24h\"; rates \"15/min\", \"1.4/s\", \"every 7m\"; a length or a count is a plain value or
# uniform(low..high), exponential(mean), lognormal(median, sigma) or choice(value: weight, ...).

# The question in one line.
title = {}
",
            quoted(&title)
        );
        if is_trace {
            text += "# A trace says itself when requests come. With nothing left to chance one replication says all; where keys or
# machines are drawn, each replication draws them anew, and intervals come from the differences between them.
seeds = 10
";
        } else {
            text += &format!(
                "# New sessions start within this time.
duration = \"{duration}\"
# What comes before this is played and not counted: caches are cold at first, and yours are not.
warmup = \"{warmup}\"
# Replications, each with draws of its own: intervals come from the differences between them.
seeds = 10
# Base of all draws: the same file and seed give the same numbers, everywhere.
seed = 1
# For a large fleet: play this share of the keys only, and estimate what all of them do.
# sample = \"1/64\"
"
            );
        }
        wrapped(&(text + &self.client(buckets) + &self.workload() + &self.rest(buckets)))
    }

    fn title(&self) -> String {
        let rate = || self.get(Topic::Rate);
        match self.answers.kind().as_str() {
            "shared_prefix" => {
                format!(
                    "Calls behind one prompt of {} tokens, {}: how many buckets?",
                    self.get(Topic::PrefixTokens),
                    rate()
                )
            }
            "agent" => format!("Agents that start {}: which prompt_cache_key?", rate()),
            "fork_tree" => format!("Fork trees that start {}: which prompt_cache_key?", rate()),
            "trace" => "Recorded requests: which prompt_cache_key?".into(),
            _ => format!("Conversations that start {}: which prompt_cache_key?", rate()),
        }
    }

    fn client(&self, buckets: u32) -> String {
        let Provider { profile, retention, .. } = self.provider;
        let chosen = self.get(Topic::Retention);
        let offered = self.provider.offered(false).into_iter().map(|policy| retention.describe(policy));
        let offered: Vec<_> = offered.collect();
        let key = self.get(Topic::Key);
        let assign = if self.answers.kind() == "shared_prefix" { "round_robin" } else { "session" };
        let marks = match self.provider.write.semantics {
            Semantics::Breakpoints => {
                let marked = if self.answers.kind() == "trace" {
                    "[\"message\"]"
                } else {
                    "[\"developer\", \"message\"]"
                };
                format!(
                    "# This provider stores at marks: behind tools and system prompt (developer), behind the latest message, ...
breakpoints = {marked}
"
                )
            }
            _ => String::new(),
        };
        format!(
            "
# What you can change.
[client]
# How long what is stored is to live, if you ask for it. {profile} has {}.
retention = {}
{marks}
[client.key]
# prompt_cache_key: none, constant, label (the workload's name), per_user, per_session, per_branch and per_node (of a
# fork tree), buckets, per_call (the anti-pattern), recorded (of a trace).
strategy = {}
# With strategy buckets: how many keys, and what decides which one a request has (user, session, round_robin, random).
# So many leave each key some 10 requests a minute; above about 15 OpenAI sends some to other, cold machines.
buckets = {buckets}
assign = \"{assign}\"
",
            offered.join(", or "),
            quoted(&chosen),
            quoted(&key),
        )
    }

    fn workload(&self) -> String {
        let kind = self.answers.kind();
        if kind == "trace" {
            return self.trace();
        }
        let (process, note) =
            ("poisson", "fixed (equal gaps), poisson, gamma (bursts), daily (follows the hour)");
        let sessions = match kind.as_str() {
            "shared_prefix" => "calls",
            "fork_tree" => "trees",
            "agent" => "sessions",
            _ => "conversations",
        };
        let users = format!(
            "
# The traffic. Several such tables under other names make a mixture.
[client.workload.{kind}]
# Users that the {sessions} are spread over; matters for keys by user.
users = {}
# How many {sessions} start, all users together: {note}.
arrivals = {{ process = \"{process}\", rate = {} }}

[client.workload.{kind}.{kind}]
# Tokens that every prompt begins with: tools and system prompt.
prefix_tokens = {}
",
            self.value(Topic::Users),
            quoted(&self.get(Topic::Rate)),
            self.value(Topic::PrefixTokens),
        );
        let lines: &[(&str, Topic, &str)] = match kind.as_str() {
            "shared_prefix" => &[
                ("tail_tokens", Topic::UserTokens, "Tokens behind it, each call's own."),
                ("output_tokens", Topic::OutputTokens, "Tokens of an answer."),
            ],
            "agent" => &[
                (
                    "start_tokens",
                    Topic::StartTokens,
                    "Tokens of context that a session brings along: files, memory.",
                ),
                ("turns", Topic::Turns, "Messages that a user sends in a session."),
                (
                    "calls",
                    Topic::Calls,
                    "Calls that the agent makes for one of them, each with a tool's result.",
                ),
                ("user_tokens", Topic::UserTokens, "Tokens of such a message."),
                ("tool_tokens", Topic::ToolTokens, "Tokens of a tool's result, which stay in the prompt."),
                ("output_tokens", Topic::OutputTokens, "Tokens of an answer, which stay in the prompt."),
                (
                    "think",
                    Topic::Think,
                    "Pause of the user before the next message: the cache must outlive it.",
                ),
            ],
            "fork_tree" => &[
                (
                    "start_tokens",
                    Topic::StartTokens,
                    "Tokens of the common start that all calls of one tree share.",
                ),
                ("task_tokens", Topic::UserTokens, "Tokens of a call's own task."),
                ("output_tokens", Topic::OutputTokens, "Tokens of an answer, which the call above takes in."),
            ],
            _ => &[
                ("turns", Topic::Turns, "Messages that a user sends in a conversation."),
                ("user_tokens", Topic::UserTokens, "Tokens of a message."),
                ("output_tokens", Topic::OutputTokens, "Tokens of an answer, which the next prompt repeats."),
                (
                    "think",
                    Topic::Think,
                    "Pause of the user before the next message: the cache must outlive it.",
                ),
            ],
        };
        let line = |(key, topic, words): &(&str, Topic, &str)| {
            format!("# {words}\n{key} = {}\n", self.value(*topic))
        };
        users + &lines.iter().map(line).collect::<String>() + &self.further(&kind)
    }

    /// What a kind has beside what was asked.
    fn further(&self, kind: &str) -> String {
        match kind {
            "agent" => "# Time that a tool takes.\npause = \"lognormal(4s, 0.8)\"\n".into(),
            "fork_tree" => format!(
                "# Calls that the first one forks into, then each of those, and so on.
branching = [{}]
# parallel; warm_first (behind a short call that writes what they share); one_by_one.
order = \"parallel\"
# Whether a call that forked calls once more with the answers of those below it.
merge = true
",
                self.get(Topic::Branching)
            ),
            "chat" => "
# What breaks a prefix, such as a status block above the latest message: uncomment what you have.
# [client.workload.chat.volatility]
# status_tokens = 300          # rewritten with every call
# head_tokens = 20             # a timestamp at the very head: nothing behind it is ever read
# compact_above = 100000       # longer prompts are summarized
"
            .into(),
            _ => String::new(),
        }
    }

    fn trace(&self) -> String {
        let described = if self.answers.needs(Topic::BlockTokens) {
            format!(
                "# Tokens that one id of its hash_ids stands for.
block_tokens = {}
# Unit of its timestamps: ms, s or ns.
time_unit = {}
",
                self.value(Topic::BlockTokens),
                quoted(&self.get(Topic::TimeUnit)),
            )
        } else {
            String::new()
        };
        format!(
            "
# The traffic: requests as they were recorded, at the times at which they came.
[client.workload.trace.trace.file]
# Where they are, seen from this file.
path = {}
{described}",
            quoted(&self.get(Topic::Trace))
        )
    }

    fn rest(&self, buckets: u32) -> String {
        let Provider { profile, title, model, models, .. } = self.provider;
        let models: Vec<_> = models.keys().map(String::as_str).collect();
        let key = self.get(Topic::Key);
        let (path, baseline, values) = if key == "buckets" {
            let mut counts = vec![1, 2, 4, 8, 16, 32, buckets];
            counts.sort_unstable();
            counts.dedup();
            let counts: Vec<_> = counts.iter().map(u32::to_string).collect();
            ("client.key.buckets", "1".to_string(), counts.join(", "))
        } else {
            let mut values: Vec<_> =
                strategies(&self.answers.kind()).into_iter().filter(|name| name != "buckets").collect();
            if !values.contains(&key) {
                values.push(key);
            }
            let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
            ("client.key.strategy", values[0].clone(), values.join(", "))
        };
        format!(
            "
# What you cannot change, and nobody outside knows for sure: {title}.
# `cachecast list providers NAME` shows every value, how sure it is, and where it comes from; each can be set here.
[provider]
profile = {}
# One of {}: prices and retention follow from it.
model = {}

# What a sweep compares: every combination of the values of all axes. Any path of `cachecast list axes` can be one.
[[sweep.axis]]
path = \"{path}\"
values = [{values}]

[[sweep.axis]]
# `home` is what OpenAI documents: one machine a key, others above about 15 requests a minute. Measurements look more like
# a `pool` of a few machines: prefer an answer that survives both.
path = \"provider.routing.rule\"
values = [\"home\", \"pool\"]

# The variant that the others are compared with, on the same draws.
[sweep.baseline]
\"{path}\" = {baseline}
",
            quoted(profile),
            models.join(", "),
            quoted(model),
        )
    }
}

/// Columns that a comment stays within.
const WIDTH: usize = 110;

/// The file with its comments filled: a sentence that goes on in the next line is one with it.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let Some(words) = line.strip_prefix("# ").filter(|words| !is_code(words)) else {
            lines.push(line.to_string());
            continue;
        };
        let goes_on = |last: &String| {
            last.strip_prefix("# ").is_some_and(|last| !is_code(last) && !last.ends_with('.'))
        };
        if !lines.last().is_some_and(goes_on) {
            lines.push("#".into());
        }
        for word in words.split(' ') {
            let last = lines.last_mut().expect("there is one");
            if last.chars().count() + 1 + word.chars().count() > WIDTH && last != "#" {
                lines.push("#".into());
            }
            *lines.last_mut().expect("there is one") += &format!(" {word}");
        }
    }
    lines.join("\n") + "\n"
}

/// Whether the words of a comment are something to uncomment or to type.
fn is_code(words: &str) -> bool {
    words.starts_with([' ', '[', '"']) || words.contains(" = ")
}

/// A text as TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}
