//! The text of a new scenario: every value, and above it what it means.

use crate::error::printable;
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
        match text.replace('_', "").parse::<u32>() {
            Ok(number) => number.to_string(),
            Err(_) => quoted(&text),
        }
    }

    /// The file, for traffic of this length and so many buckets.
    pub fn text(&self, duration: &str, warmup: &str, buckets: u32) -> String {
        let name = printable(self.name);
        let schema = self.schema.map_or(String::new(), |schema| format!("#:schema {schema}\n"));
        let is_trace = self.answers.kind() == "trace";
        let title = self.title();
        let mut commands = vec![
            (format!("cachecast run {name}"), "plays it as it stands, with intervals"),
            (
                format!("cachecast sweep {name}"),
                "plays every variant of [[sweep.axis]] at the end, into results/",
            ),
        ];
        if self.answers.sends_a_key() {
            commands.push((format!("cachecast recommend {name}"), "says which number of buckets does best"));
        }
        commands.push(("cachecast list axes".into(), "shows everything else that can be set here"));
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
        let question = match self.answers.sends_a_key() {
            true => "which prompt_cache_key?",
            false => "how much is read from the cache?",
        };
        match self.answers.kind().as_str() {
            "shared_prefix" => {
                let question = if self.answers.sends_a_key() { "how many buckets?" } else { question };
                format!(
                    "Calls behind one prompt of {} tokens, {}: {question}",
                    self.get(Topic::PrefixTokens),
                    rate()
                )
            }
            "agent" => format!("Agents that start {}: {question}", rate()),
            "fork_tree" => format!("Fork trees that start {}: {question}", rate()),
            "trace" => format!("Recorded requests: {question}"),
            _ => format!("Conversations that start {}: {question}", rate()),
        }
    }

    fn client(&self, buckets: u32) -> String {
        let Provider { profile, retention, .. } = self.provider;
        let chosen = self.get(Topic::Retention);
        let offered = self.provider.offered(false).into_iter().map(|policy| retention.describe(policy));
        let offered: Vec<_> = offered.collect();
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
# How long what is stored is to live, if you ask for it. {} has {}.
retention = {}
{marks}{}",
            printable(profile),
            printable(&offered.join(", or ")),
            quoted(&chosen),
            self.key(buckets),
        )
    }

    fn key(&self, buckets: u32) -> String {
        if !self.answers.sends_a_key() {
            return "
[client.key]
# This provider finds what it has stored by the prompt alone: there is no prompt_cache_key to send.
strategy = \"none\"
"
            .into();
        }
        let assign = if self.answers.kind() == "shared_prefix" { "round_robin" } else { "session" };
        format!(
            "
[client.key]
# prompt_cache_key: none, constant, label (the workload's name), per_user, per_session, per_branch and per_node (of a
# fork tree), buckets, per_call (the anti-pattern), recorded (of a trace).
strategy = {}
# With strategy buckets: how many keys, and what decides which one a request has (user, session, round_robin, random).
# So many leave each key some 10 requests a minute; above about 15 OpenAI sends some to other, cold machines.
buckets = {buckets}
assign = \"{assign}\"
",
            quoted(&self.get(Topic::Key)),
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

    /// What the variants differ in, the baseline, and the values; `None` where the client has no say.
    fn axis(&self, buckets: u32) -> Option<(String, String, Vec<String>)> {
        let kind = self.answers.kind();
        let of = |path: &str, values: &[&str]| {
            let values: Vec<_> = values.iter().map(ToString::to_string).collect();
            Some((path.to_string(), values[0].clone(), values))
        };
        let offered: Vec<_> = self.provider.offered(false).into_iter().map(quoted).collect();
        let key = self.get(Topic::Key);
        if self.answers.sends_a_key() && key == "buckets" {
            let mut counts = vec![1, 2, 4, 8, 16, 32, buckets];
            counts.sort_unstable();
            counts.dedup();
            return Some((
                "client.key.buckets".into(),
                "1".into(),
                counts.iter().map(u32::to_string).collect(),
            ));
        }
        if self.answers.sends_a_key() {
            let mut values: Vec<_> = strategies(&kind).into_iter().filter(|name| name != "buckets").collect();
            if !values.contains(&key) {
                values.push(key);
            }
            let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
            return Some(("client.key.strategy".into(), values[0].clone(), values));
        }
        if self.provider.write.semantics == Semantics::Breakpoints {
            return match kind.as_str() {
                "trace" => of("client.breakpoints", &["[]", "[\"message\"]"]),
                _ => of(
                    "client.breakpoints",
                    &["[\"developer\"]", "[\"message\"]", "[\"developer\", \"message\"]"],
                ),
            };
        }
        if offered.len() > 1 {
            return Some(("client.retention".into(), offered[0].clone(), offered));
        }
        // A timestamp or an id at the head, which is rewritten with every call, or is not there.
        (kind != "trace")
            .then(|| of(&format!("client.workload.{kind}.volatility.head_tokens"), &["0", "20"]))?
    }

    fn rest(&self, buckets: u32) -> String {
        let Provider { profile, title, model, models, .. } = self.provider;
        let models: Vec<_> = models.keys().map(String::as_str).collect();
        let axis = self.axis(buckets);
        let (path, baseline) = match &axis {
            Some((path, baseline, _)) => (path.as_str(), baseline.as_str()),
            None => ("provider.routing.rule", "\"home\""),
        };
        let axis = axis.as_ref().map_or(String::new(), |(path, _, values)| {
            let note = match path.ends_with("head_tokens") {
                true => "# Tokens of a timestamp or an id at the very head of the prompt, new with every call; or none.\n",
                false => "",
            };
            format!("[[sweep.axis]]\n{note}path = \"{path}\"\nvalues = [{}]\n\n", values.join(", "))
        });
        format!(
            "
# What you cannot change, and nobody outside knows for sure: {}.
# `cachecast list providers NAME` shows every value, how sure it is, and where it comes from; each can be set here.
[provider]
profile = {}
# One of {}: prices and retention follow from it.
model = {}

# What a sweep compares: every combination of the values of all axes. Any path of `cachecast list axes` can be one.
{axis}[[sweep.axis]]
# `home` is what OpenAI documents: one machine a key, others above about 15 requests a minute. Measurements look more like
# a `pool` of a few machines: prefer an answer that survives both.
path = \"provider.routing.rule\"
values = [\"home\", \"pool\"]

# The variant that the others are compared with, on the same draws.
[sweep.baseline]
\"{path}\" = {baseline}
",
            printable(title),
            quoted(profile),
            printable(&models.join(", ")),
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

/// A text as TOML, in one line.
fn quoted(text: &str) -> String {
    if !text.contains(char::is_control) {
        return toml::Value::String(text.into()).to_string();
    }
    let escaped = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}
