//! A scenario to start from: a few questions, and a file whose comments say what every value means.

mod draft;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::client::key::Strategy;
use crate::document::{KeyPath, nearest};
use crate::error::{Error, Result, printable};
use crate::experiment::init::draft::Draft;
use crate::experiment::preflight::requests_per_minute;
use crate::experiment::scenario::{Change, Loaded};
use crate::experiment::schema::words_of;
use crate::experiment::tables::word;
use crate::provider::profile::{Profile, Provider, shipped};
use crate::random::{CountDistribution, SpanDistribution};
use crate::units::{Rate, Span};

/// What is asked, in this order. Each has a flag of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The kind of traffic.
    Workload,
    /// How many users there are.
    Users,
    /// How often they come.
    Rate,
    /// What all of them share.
    PrefixTokens,
    /// What a session, or a tree, brings along.
    StartTokens,
    /// How a tree forks.
    Branching,
    /// Turns of a session.
    Turns,
    /// Calls of a turn.
    Calls,
    /// What a user, or a call, adds.
    UserTokens,
    /// What a tool adds.
    ToolTokens,
    /// Length of an answer.
    OutputTokens,
    /// Pause of a user.
    Think,
    /// The file of a trace.
    Trace,
    /// Block size of a trace.
    BlockTokens,
    /// Unit of a trace's timestamps.
    TimeUnit,
    /// Whose cache it is.
    Provider,
    /// The retention policy asked for.
    Retention,
    /// The keying strategy.
    Key,
}

/// The kinds of traffic by their names in a scenario, with what they stand for.
pub const KINDS: [(&str, &str); 5] = [
    ("shared_prefix", "many independent calls behind one prompt"),
    ("chat", "conversations"),
    ("agent", "tool loops on a long context"),
    ("fork_tree", "calls that fork from a common start"),
    ("trace", "recorded requests"),
];

/// The answers so far, as they will stand in the file.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    given: BTreeMap<Topic, String>,
    /// Where the file will be.
    folder: PathBuf,
}

impl Topic {
    /// All topics, in the order in which they are asked.
    pub const ALL: [Self; 18] = [
        Self::Workload,
        Self::Trace,
        Self::BlockTokens,
        Self::TimeUnit,
        Self::Users,
        Self::Rate,
        Self::PrefixTokens,
        Self::StartTokens,
        Self::Branching,
        Self::Turns,
        Self::Calls,
        Self::UserTokens,
        Self::ToolTokens,
        Self::OutputTokens,
        Self::Think,
        Self::Provider,
        Self::Retention,
        Self::Key,
    ];

    /// The flag that answers it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Workload => "--workload",
            Self::Users => "--users",
            Self::Rate => "--rate",
            Self::PrefixTokens => "--prefix-tokens",
            Self::StartTokens => "--start-tokens",
            Self::Branching => "--branching",
            Self::Turns => "--turns",
            Self::Calls => "--calls",
            Self::UserTokens => "--user-tokens",
            Self::ToolTokens => "--tool-tokens",
            Self::OutputTokens => "--output-tokens",
            Self::Think => "--think",
            Self::Trace => "--trace",
            Self::BlockTokens => "--block-tokens",
            Self::TimeUnit => "--time-unit",
            Self::Provider => "--provider",
            Self::Retention => "--retention",
            Self::Key => "--key",
        }
    }

    /// Whether traffic of a kind has it.
    fn is_of(self, kind: &str, trace: &str) -> bool {
        let kinds: &[&str] = match self {
            Self::Workload | Self::Provider | Self::Retention | Self::Key => return true,
            // Parquet says itself what its numbers mean.
            Self::BlockTokens | Self::TimeUnit => return kind == "trace" && !trace.ends_with(".parquet"),
            Self::Trace => &["trace"],
            Self::Users | Self::Rate | Self::PrefixTokens | Self::UserTokens | Self::OutputTokens => {
                return kind != "trace";
            }
            Self::StartTokens => &["agent", "fork_tree"],
            Self::Branching => &["fork_tree"],
            Self::Turns | Self::Think => &["chat", "agent"],
            Self::Calls | Self::ToolTokens => &["agent"],
        };
        kinds.contains(&kind)
    }
}

impl Answers {
    /// Answers a topic; the error says what would be right.
    pub fn answer(&mut self, topic: Topic, text: &str) -> std::result::Result<(), String> {
        let text = text.trim();
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(format!("`{}` is not to be written: it holds a {}", printable(text), named(c)));
        }
        check(topic, text)?;
        self.given.insert(topic, text.to_string());
        Ok(())
    }

    /// Whether a topic has an answer.
    pub fn has(&self, topic: Topic) -> bool {
        self.given.contains_key(&topic)
    }

    /// Whether the traffic chosen so far has this topic.
    pub fn needs(&self, topic: Topic) -> bool {
        topic.is_of(&self.kind(), self.given.get(&Topic::Trace).map_or("", String::as_str))
            && (topic != Topic::Key || self.sends_a_key())
    }

    /// Whether the chosen provider has a prompt_cache_key to send: its profile says where there is none.
    pub fn sends_a_key(&self) -> bool {
        let path = KeyPath::from_iter(["routing", "key_role"]);
        self.profile().map_or(true, |profile| {
            profile.evidence.get(&path).is_none_or(|evidence| !evidence.source.contains(NO_KEY))
        })
    }

    /// An answer to something that the traffic does not have.
    pub fn idle(&self) -> Option<Topic> {
        let is_idle =
            |topic: &Topic| !(self.needs(*topic) || *topic == Topic::Key && self.given[topic] == "none");
        self.given.keys().copied().find(is_idle)
    }

    /// What to say of it.
    pub fn is_idle(&self, topic: Topic) -> String {
        match topic {
            Topic::Key => format!(
                "{} has no prompt_cache_key to send: leave it out",
                self.get(Topic::Provider).unwrap_or_default()
            ),
            _ => format!("is nothing that a workload of the kind {} has", self.kind()),
        }
    }

    /// Names files as they are seen from a folder.
    pub fn seen_from(&mut self, folder: &Path) -> Result<()> {
        for topic in [Topic::Trace, Topic::Provider] {
            let Some(file) =
                self.given.get(&topic).filter(|file| topic == Topic::Trace || file.ends_with(".toml"))
            else {
                continue;
            };
            let file = Path::new(file);
            let below = file.strip_prefix(folder).ok().map(Path::to_path_buf);
            let seen = match below {
                Some(below) => below,
                None => std::path::absolute(file).map_err(|error| Error::io(file, "find", &error))?,
            };
            self.given.insert(topic, seen.display().to_string());
        }
        self.folder = folder.to_path_buf();
        Ok(())
    }

    /// The answer, or what stands for it; `None` where only the user knows it.
    pub fn get(&self, topic: Topic) -> Option<String> {
        self.given.get(&topic).cloned().or_else(|| self.by_default(topic))
    }

    fn kind(&self) -> String {
        self.given.get(&Topic::Workload).cloned().unwrap_or_else(|| "chat".into())
    }

    fn by_default(&self, topic: Topic) -> Option<String> {
        let kind = self.kind();
        let of_kind = |shared: &str, chat: &str, agent: &str, tree: &str| {
            let default = match kind.as_str() {
                "shared_prefix" => shared,
                "agent" => agent,
                "fork_tree" => tree,
                _ => chat,
            };
            Some(default.to_string())
        };
        match topic {
            Topic::Workload => Some("chat".into()),
            Topic::Users => of_kind("500", "500", "50", "50"),
            Topic::Rate => of_kind("60/min", "20/min", "20/h", "12/h"),
            Topic::PrefixTokens => of_kind("6000", "6000", "12000", "8000"),
            Topic::StartTokens => of_kind("", "", "lognormal(8000, 0.8)", "30000"),
            Topic::Branching => Some("4, 2".into()),
            Topic::Turns => of_kind("", "lognormal(4, 0.7)", "lognormal(4, 0.7)", ""),
            Topic::Calls => Some("uniform(5..15)".into()),
            Topic::UserTokens => of_kind(
                "lognormal(100, 0.8)",
                "lognormal(80, 0.9)",
                "lognormal(150, 0.9)",
                "lognormal(200, 0.5)",
            ),
            Topic::ToolTokens => Some("lognormal(1200, 0.9)".into()),
            Topic::OutputTokens => {
                of_kind("300", "lognormal(250, 0.6)", "lognormal(200, 0.6)", "lognormal(400, 0.6)")
            }
            Topic::Think => of_kind("", "lognormal(45s, 1.0)", "lognormal(2m, 1.0)", ""),
            Topic::Trace | Topic::BlockTokens => None,
            Topic::TimeUnit => Some("ms".into()),
            Topic::Provider => Some("openai-classic".into()),
            Topic::Retention => self.provider().ok()?.policy(None, false).ok().map(str::to_string),
            Topic::Key if !self.sends_a_key() => Some("none".into()),
            Topic::Key => Some(
                match kind.as_str() {
                    "shared_prefix" => "buckets",
                    "trace" => "recorded",
                    _ => "per_session",
                }
                .into(),
            ),
        }
    }

    /// The question in a sentence.
    pub fn asked(&self, topic: Topic) -> String {
        let kind = self.kind();
        let session = match kind.as_str() {
            "shared_prefix" => "call",
            "agent" => "session",
            "fork_tree" => "tree of calls",
            _ => "conversation",
        };
        match topic {
            Topic::Workload => {
                let kinds = KINDS.map(|(kind, words)| format!("{kind} ({words})"));
                format!("What is the traffic: {}?", kinds.join(", "))
            }
            Topic::Users => "How many users are there?".into(),
            Topic::Rate => {
                format!("How often does a {session} start, all users together (20/min, 1.4/s, every 7m)?")
            }
            Topic::PrefixTokens => {
                format!("How many tokens of tools and system prompt does every {session} begin with?")
            }
            Topic::StartTokens => {
                format!("How many tokens of its own context does each {session} bring along at its start?")
            }
            Topic::Branching => {
                "Into how many calls does the first one fork, and each of those, level by level?".into()
            }
            Topic::Turns => format!("How many messages does a user send in a {session}?"),
            Topic::Calls => "How many calls does the agent make for one message of its user?".into(),
            Topic::UserTokens => match kind.as_str() {
                "shared_prefix" => "How many tokens follow the shared prompt in each call?".into(),
                "fork_tree" => "How many tokens is the task of one call?".into(),
                _ => "How many tokens is a message of a user?".into(),
            },
            Topic::ToolTokens => "How many tokens is the result of a tool?".into(),
            Topic::OutputTokens => "How many tokens is an answer?".into(),
            Topic::Think => "How long does a user think between an answer and the next message?".into(),
            Topic::Trace => "Which file are the requests recorded in (.jsonl, .jsonl.gz, .parquet)?".into(),
            Topic::BlockTokens => "How many tokens does one block of its hash_ids stand for?".into(),
            Topic::TimeUnit => "In which unit are its timestamps: ms, s or ns?".into(),
            Topic::Provider => {
                "Whose cache is it (a profile of `cachecast list providers`, or a file)?".into()
            }
            Topic::Retention => {
                let offered = self.provider().map(|provider| provider.offered(false).join(", "));
                format!("Which retention do you ask for ({})?", offered.unwrap_or_default())
            }
            Topic::Key => format!("Which prompt_cache_key do you send: {}?", strategies(&kind).join(", ")),
        }
    }

    fn profile(&self) -> Result<Profile> {
        Profile::load(&self.get(Topic::Provider).expect("there is a default"), &self.folder)
    }

    /// The chosen profile, as it is.
    fn provider(&self) -> Result<Provider> {
        self.profile()?.provider(&self.get(Topic::Provider).expect("there is a default"))
    }

    /// The scenario, which loads; `name` is what the file is called, and `schema` where its schema stands.
    pub fn scenario(&self, name: &str, schema: Option<&str>) -> Result<String> {
        let missing = |topic: &&Topic| self.needs(**topic) && self.get(**topic).is_none();
        if let Some(topic) = Topic::ALL.iter().find(missing) {
            return Err(Error::input(topic.flag(), format!("is needed: {}", self.asked(*topic))));
        }
        let provider = self.provider().map_err(|error| match error {
            Error::Input { place, message } if place == "provider.profile" => {
                Error::input("--provider", message)
            }
            other => other,
        })?;
        let retention = self.get(Topic::Retention);
        provider
            .policy(retention.as_deref(), false)
            .map_err(|message| Error::input("--retention", message))?;
        let draft = Draft { answers: self, provider: &provider, name, schema };
        // How many requests that makes is known once it loads.
        let text = draft.text("2h", "20m", 1);
        let loaded = self.load(name, &text)?;
        let length = Length::of(&loaded).map_err(|(topic, message)| {
            Error::input(topic.flag(), format!("`{}` {message}", self.get(topic).unwrap_or_default()))
        })?;
        let Some(length) = length else { return Ok(text) };
        let text = draft.text(length.duration, length.warmup, length.buckets);
        self.load(name, &text)?;
        Ok(text)
    }

    fn load(&self, name: &str, text: &str) -> Result<Loaded> {
        let seeds = Change::new("seeds", 1, "init");
        Loaded::from_text(name, TEXT, text, &self.folder, &[seeds]).map_err(of_flag)
    }
}

/// What the text is called in messages, until they name a flag.
const TEXT: &str = "these answers";

/// In the source of a profile's `routing.key_role`, where requests have no key.
const NO_KEY: &str = "there is no key to send";

/// What is wrong with a value of the text, said of the flag that the value is from.
fn of_flag(error: Error) -> Error {
    let Error::Input { place, message } = error else { return error };
    if !place.starts_with(TEXT) {
        return Error::Input { place, message };
    }
    let (_, path) = place.split_once(": ").unwrap_or((TEXT, "init"));
    let topic = match path.rsplit('.').next().unwrap_or_default() {
        "arrivals" => Some(Topic::Rate),
        "tail_tokens" | "task_tokens" => Some(Topic::UserTokens),
        "path" => Some(Topic::Trace),
        "profile" => Some(Topic::Provider),
        "strategy" => Some(Topic::Key),
        key => Topic::ALL.into_iter().find(|topic| topic.flag()[2..].replace('-', "_") == key),
    };
    match topic {
        Some(topic) => Error::input(topic.flag(), message),
        None => Error::input(path, message),
    }
}

/// A character that no name should have.
fn named(c: char) -> &'static str {
    if c == '\n' || c == '\r' { "line break" } else { "control character" }
}

/// Checks one answer by itself.
fn check(topic: Topic, text: &str) -> std::result::Result<(), String> {
    let whole = |least: u32| match text.replace('_', "").parse::<u32>() {
        Ok(number) if number >= least => Ok(()),
        _ => Err(format!("`{text}` is not a whole number of {least} or more")),
    };
    let one_of = |known: &[&str]| {
        let hint = nearest(text, known.iter().copied())
            .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        known
            .contains(&text)
            .then_some(())
            .ok_or_else(|| format!("`{text}` is none of {}{hint}", known.join(", ")))
    };
    match topic {
        Topic::Workload => one_of(&KINDS.map(|(kind, _)| kind)),
        Topic::Users | Topic::BlockTokens => whole(1),
        Topic::PrefixTokens => whole(0),
        Topic::Rate => text.parse::<Rate>().map(drop),
        Topic::StartTokens
        | Topic::Turns
        | Topic::Calls
        | Topic::UserTokens
        | Topic::ToolTokens
        | Topic::OutputTokens => text.parse::<CountDistribution>().map(drop),
        Topic::Branching => text.split(',').try_for_each(|level| match level.trim().parse::<u32>() {
            Ok(1..) => Ok(()),
            _ => Err(format!("`{text}` is no list of whole numbers of 1 or more, such as 4, 2")),
        }),
        Topic::Think => text.parse::<SpanDistribution>().map(drop),
        Topic::Trace => match Path::new(text).is_file() {
            true => Ok(()),
            false => Err(format!("`{text}` is no file")),
        },
        Topic::TimeUnit => one_of(&["ms", "s", "ns"]),
        Topic::Provider if text.ends_with(".toml") => match Path::new(text).is_file() {
            true => Ok(()),
            false => Err(format!("`{text}` is no file")),
        },
        Topic::Provider => one_of(&shipped().collect::<Vec<_>>()),
        Topic::Retention if text.is_empty() => Err("name a policy".into()),
        Topic::Retention => Ok(()),
        Topic::Key => one_of(&words_of::<Strategy>().iter().map(String::as_str).collect::<Vec<_>>()),
    }
}

/// The strategies that make a difference to a kind of traffic.
fn strategies(kind: &str) -> Vec<String> {
    let known: &[Strategy] = match kind {
        "shared_prefix" => &[Strategy::None, Strategy::Constant, Strategy::PerUser, Strategy::Buckets],
        "fork_tree" => &[
            Strategy::None,
            Strategy::PerUser,
            Strategy::PerSession,
            Strategy::PerBranch,
            Strategy::PerNode,
            Strategy::Buckets,
        ],
        "trace" => &[Strategy::None, Strategy::Constant, Strategy::Recorded],
        _ => {
            &[Strategy::None, Strategy::Constant, Strategy::PerUser, Strategy::PerSession, Strategy::Buckets]
        }
    };
    known.iter().map(word).collect()
}

/// For how long traffic is played, and with how many buckets.
struct Length {
    duration: &'static str,
    warmup: &'static str,
    buckets: u32,
}

impl Length {
    /// The lengths there are, with the warm-up of each: the least that a lifetime in memory asks for.
    const ALL: [(&'static str, &'static str); 8] = [
        ("15m", "10m"),
        ("30m", "10m"),
        ("1h", "15m"),
        ("2h", "20m"),
        ("6h", "1h"),
        ("1d", "4h"),
        ("3d", "12h"),
        ("7d", "1d"),
    ];

    /// As many sessions as intervals need, and no more requests than a minute plays; `None` for a trace, which is as
    /// long as it is. The error is the answer with which there is no such length, and what would be right.
    fn of(loaded: &Loaded) -> std::result::Result<Option<Self>, (Topic, String)> {
        const ENOUGH_SESSIONS: f64 = 300.0;
        const ENOUGH_REQUESTS: f64 = 300_000.0;
        const MOST_REQUESTS: f64 = 3_000_000.0;
        const MOST_OF_A_SESSION: f64 = 10_000.0;
        let workload = loaded.scenario.client.workload.values().next();
        let known = workload.and_then(|known| Some((known, known.arrivals.as_ref()?.rate.per_minute())));
        let Some((workload, sessions)) = known else { return Ok(None) };
        let Some(rpm) = requests_per_minute(workload) else { return Ok(None) };
        let minutes = |length: &str| length.parse::<Span>().map_or(0.0, |span| span.seconds() / 60.0);
        let [shortest, .., longest] = Self::ALL.map(|(duration, _)| minutes(duration));
        let each = rpm / sessions;
        if each > MOST_OF_A_SESSION {
            let topic = if workload.fork_tree.is_some() { Topic::Branching } else { Topic::Turns };
            return Err((
                topic,
                format!("makes {each:.0} calls of one start: let it be {MOST_OF_A_SESSION} or less"),
            ));
        }
        if rpm * shortest > MOST_REQUESTS {
            let most = (MOST_REQUESTS / shortest / each).floor();
            let message = format!(
                "makes {rpm:.0} requests a minute, too many to begin with: write {most}/min or less, and users in \
                 proportion (`sample` in a scenario is for the whole of a fleet)"
            );
            return Err((Topic::Rate, message));
        }
        // One a day, but for the last bit of a product.
        if sessions * longest < 6.999 {
            return Err((Topic::Rate, "is so little that nothing would be sent: write 1/d or more".into()));
        }
        let suits = |(duration, _): &&(&str, &str)| {
            let length = minutes(duration);
            let is_as_long_as_others = length >= 120.0 || rpm * length > ENOUGH_REQUESTS;
            sessions * length >= ENOUGH_SESSIONS && is_as_long_as_others
        };
        let fits = |(duration, _): &&(&str, &str)| rpm * minutes(duration) <= MOST_REQUESTS;
        let longest_fit = Self::ALL.iter().rfind(fits);
        let suiting = Self::ALL[1..].iter().find(suits).filter(|length| fits(length));
        let (duration, warmup) = *suiting.or(longest_fit).unwrap_or(&Self::ALL[0]);
        let buckets = (rpm / 10.0).ceil().clamp(1.0, 100_000.0) as u32;
        Ok(Some(Self { duration, warmup, buckets }))
    }
}
