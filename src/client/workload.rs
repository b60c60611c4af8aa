//! What is configured of the client: its retention, key, breakpoints and workloads.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::agent::Agent;
use crate::client::arrival::Arrivals;
use crate::client::chat::Chat;
use crate::client::fork_tree::ForkTree;
use crate::client::gateway::{Continuation, Gateway};
use crate::client::key::Keying;
use crate::client::reaction::{AfterMiss, Reaction};
use crate::client::shared_prefix::SharedPrefix;
use crate::client::volatility::Volatility;
use crate::extent::Extent;
use crate::input::recording::Trace;
use crate::provider::failure::Execution;
use crate::provider::write::MarksWanted;
use crate::units::Tokens;

/// Everything a user can change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The retention policy asked for; absent asks for none, and the provider's default applies.
    #[serde(default)]
    pub retention: Option<String>,
    /// Whether the organization is under zero data retention: only policies that the provider allows there are used.
    #[serde(default)]
    pub zero_data_retention: bool,
    /// The keying strategy.
    #[serde(default)]
    pub key: Keying,
    /// Segments at whose ends every request carries an explicit breakpoint: developer (tools and system prompt),
    /// context (what a session brings along), history (everything before the latest user message and the status
    /// block above it), status, message (the latest). At most 4; matters under write.semantics = breakpoints.
    #[serde(default)]
    pub breakpoints: Vec<Breakpoint>,
    /// How calls are made: foreground, stream or background. Matters where the provider's calls fail.
    #[serde(default)]
    pub execution: Execution,
    /// What stands between the sessions and the provider.
    #[serde(default)]
    pub gateway: Gateway,
    /// The traffic, by name: several workloads make a mixture.
    pub workload: BTreeMap<String, Workload>,
}

impl Client {
    /// The keying strategy of one of its workloads.
    pub fn keying<'a>(&'a self, workload: &'a Workload) -> &'a Keying {
        workload.key.as_ref().unwrap_or(&self.key)
    }

    /// How much of the model its traffic needs, if the provider looks at the `wanted` marks.
    pub fn extent(&self, wanted: MarksWanted) -> Extent {
        let is_plain = |workload: &Workload| workload.is_plain() && self.keying(workload).fingerprint == 0.0;
        let unmarked = wanted == MarksWanted::default();
        match unmarked && self.gateway.is_plain() && self.workload.values().all(is_plain) {
            true => Extent::Plain,
            false => Extent::Full,
        }
    }

    /// The segments that one of its workloads marks.
    pub fn marked<'a>(&'a self, workload: &'a Workload) -> &'a [Breakpoint] {
        workload.breakpoints.as_ref().unwrap_or(&self.breakpoints)
    }

    /// Names of all partitions, in the order of their numbers.
    pub fn partitions(&self) -> BTreeSet<&str> {
        self.workload.values().map(|workload| workload.partition.as_str()).collect()
    }
}

/// Where a client puts an explicit breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Breakpoint {
    /// At the end of the leading developer block.
    Developer,
    /// At the end of the context that a session brings along.
    Context,
    /// Above the latest user message, and above the status block that stands there.
    History,
    /// At the end of the status block.
    Status,
    /// At the end of the latest message.
    Message,
}

/// Most segments that a request marks.
const MOST_MARKS: usize = 4;

/// Checks the marks of some workload.
pub fn validate_marks(marked: &[Breakpoint]) -> Result<(), String> {
    if marked.len() > MOST_MARKS {
        return Err(format!("has {} marks, and a request carries at most {MOST_MARKS}", marked.len()));
    }
    match marked.iter().enumerate().find(|(index, mark)| marked[..*index].contains(mark)) {
        Some((_, twice)) => Err(format!("marks `{}` twice", twice.name())),
        None => Ok(()),
    }
}

impl Breakpoint {
    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Self::Developer => "developer",
            Self::Context => "context",
            Self::History => "history",
            Self::Status => "status",
            Self::Message => "message",
        }
    }
}

/// One kind of traffic; exactly one of shared_prefix, chat, agent, fork_tree and trace says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Organization, region, model or tier this traffic belongs to: caches are not shared across partitions.
    #[serde(default)]
    pub partition: String,
    /// Name of the text that its sessions share: workloads with the same one share it, as far as their prefixes are
    /// of one length. Absent: the workload's own name.
    #[serde(default)]
    pub text: Option<String>,
    /// Users that sessions are spread over.
    #[serde(default = "one")]
    pub users: u32,
    /// A keying strategy of its own, in place of client.key.
    #[serde(default)]
    pub key: Option<Keying>,
    /// A retention policy of its own, in place of client.retention.
    #[serde(default)]
    pub retention: Option<String>,
    /// Marked segments of its own, in place of client.breakpoints.
    #[serde(default)]
    pub breakpoints: Option<Vec<Breakpoint>>,
    /// When sessions start (not for a trace, which has its own times).
    #[serde(default)]
    pub arrivals: Option<Arrivals>,
    /// Many callers of one prefix, each with a tail of its own: the bucketing study.
    #[serde(default)]
    pub shared_prefix: Option<SharedPrefix>,
    /// Conversations that grow turn by turn.
    #[serde(default)]
    pub chat: Option<Chat>,
    /// Tool loops on one long context.
    #[serde(default)]
    pub agent: Option<Agent>,
    /// Calls that branch from a common start.
    #[serde(default)]
    pub fork_tree: Option<ForkTree>,
    /// Recorded requests.
    #[serde(default)]
    pub trace: Option<Trace>,
    /// What changes inside the prompts from call to call (not in a trace).
    #[serde(default)]
    pub volatility: Volatility,
    /// What is done after misses, between calls and after failures.
    #[serde(default)]
    pub reaction: Reaction,
}

fn one() -> u32 {
    1
}

impl Workload {
    /// Checks what the types cannot say; the error gives the path below the workload.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let kinds = [
            self.shared_prefix.is_some(),
            self.chat.is_some(),
            self.agent.is_some(),
            self.fork_tree.is_some(),
            self.trace.is_some(),
        ];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err((
                String::new(),
                "needs exactly one of the tables shared_prefix, chat, agent, fork_tree and trace".into(),
            ));
        }
        let below = |table: &'static str| {
            move |(field, message): (&'static str, String)| (format!("{table}.{field}"), message)
        };
        self.shared_prefix.as_ref().map_or(Ok(()), |kind| kind.validate().map_err(below("shared_prefix")))?;
        self.chat.as_ref().map_or(Ok(()), |kind| kind.validate().map_err(below("chat")))?;
        self.agent.as_ref().map_or(Ok(()), |kind| kind.validate().map_err(below("agent")))?;
        self.fork_tree.as_ref().map_or(Ok(()), |kind| kind.validate().map_err(below("fork_tree")))?;
        self.volatility.validate().map_err(below("volatility"))?;
        self.reaction.validate().map_err(below("reaction"))?;
        self.validate_reaction().map_err(below("reaction"))?;
        self.trace.as_ref().map_or(Ok(()), |kind| kind.validate().map_err(below("trace")))?;
        self.arrivals.as_ref().map_or(Ok(()), |law| law.validate().map_err(below("arrivals")))?;
        self.key.as_ref().map_or(Ok(()), |key| key.validate().map_err(below("key")))?;
        let field = |field: &str, message: &str| Err((field.to_string(), message.to_string()));
        match (&self.arrivals, &self.trace) {
            (None, None) => field("arrivals", "is missing: say when sessions start"),
            (Some(_), Some(_)) => field("arrivals", "a trace has its own times"),
            _ if self.trace.is_some() && self.volatility != Volatility::default() => {
                field("volatility", "a trace's prompts are what they were")
            }
            _ if self.shared_prefix.is_some() && self.volatility.needs_a_conversation() => field(
                "volatility",
                "independent calls have a volatile head at most: nothing is said before them",
            ),
            _ if self.users == 0 => field("users", "must be 1 or more"),
            _ => Ok(()),
        }
    }

    /// Tokens of text that its sessions share at the beginning of their prompts.
    pub fn shared_tokens(&self) -> Tokens {
        let Self { shared_prefix, chat, agent, fork_tree, .. } = self;
        let of = [
            shared_prefix.as_ref().map(|kind| kind.prefix_tokens),
            chat.as_ref().map(|kind| kind.prefix_tokens),
            agent.as_ref().map(|kind| kind.prefix_tokens),
            fork_tree.as_ref().map(|kind| kind.prefix_tokens),
        ];
        of.into_iter().flatten().next().unwrap_or(0)
    }

    /// Whether calls follow one another in sessions that know of their earlier ones.
    fn has_sessions(&self) -> bool {
        self.chat.is_some() || self.agent.is_some()
    }

    /// Whether what it sends, and when, waits for answers.
    pub fn waits(&self) -> bool {
        self.has_sessions() || self.fork_tree.is_some()
    }

    /// Whether its sessions do nothing but go on.
    fn is_plain(&self) -> bool {
        let Self { fork_tree, volatility, reaction, .. } = self;
        let reacts = reaction.after_miss != AfterMiss::Nothing || reaction.keep_alive.is_some();
        let is_volatile = volatility.needs_a_conversation() || volatility.head_tokens > 0;
        fork_tree.is_none() && !reacts && !is_volatile
    }

    /// Reactions that this kind of traffic cannot have.
    fn validate_reaction(&self) -> Result<(), (&'static str, String)> {
        let Reaction { after_miss, keep_alive, .. } = &self.reaction;
        let refuse = |field, what: &str| Err((field, format!("{what} needs a chat or an agent")));
        match after_miss {
            AfterMiss::Nothing => {}
            _ if !self.has_sessions() => return refuse("after_miss", "reacting to misses"),
            _ => {}
        }
        if keep_alive.is_some() && !self.has_sessions() {
            return refuse("keep_alive", "keeping a session alive");
        }
        Ok(())
    }

    /// Checks that its prompts have the segments that are marked.
    pub fn validate_marked(&self, marked: &[Breakpoint]) -> Result<(), String> {
        let has = |mark: &Breakpoint| match mark {
            Breakpoint::Message => true,
            Breakpoint::Developer => self.trace.as_ref().is_none_or(|trace| trace.logged.is_some()),
            Breakpoint::Context => self.agent.is_some() || self.fork_tree.is_some(),
            Breakpoint::History => self.has_sessions() || self.fork_tree.is_some(),
            Breakpoint::Status => self.volatility.status() > 0,
        };
        match marked.iter().find(|mark| !has(mark)) {
            Some(mark) => Err(format!("its prompts have no segment `{}` to mark", mark.name())),
            None => Ok(()),
        }
    }

    /// Checks that a gateway can continue its sessions.
    pub fn validate_continued(&self, gateway: &Gateway, keying: &Keying) -> Result<(), String> {
        if gateway.continuation != Continuation::Implicit {
            return Ok(());
        }
        if !self.has_sessions() {
            return Err("`implicit` needs a chat or an agent".into());
        }
        if keying.fingerprint > 0.0 {
            return Err("`implicit` takes a key as it is: set its fingerprint to 0".into());
        }
        Ok(())
    }
}
