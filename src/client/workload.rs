//! What is configured of the client: its retention, key, breakpoints and workloads.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::agent::Agent;
use crate::client::arrival::Arrivals;
use crate::client::chat::Chat;
use crate::client::key::Keying;
use crate::client::shared_prefix::SharedPrefix;
use crate::client::volatility::Volatility;
use crate::input::recording::Trace;

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
    /// message (the latest). Matters under write.semantics = breakpoints.
    #[serde(default)]
    pub breakpoints: Vec<Breakpoint>,
    /// The traffic, by name: several workloads make a mixture.
    pub workload: BTreeMap<String, Workload>,
}

impl Client {
    /// The keying strategy of one of its workloads.
    pub fn keying<'a>(&'a self, workload: &'a Workload) -> &'a Keying {
        workload.key.as_ref().unwrap_or(&self.key)
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
    /// At the end of the latest message.
    Message,
}

/// One kind of traffic; exactly one of shared_prefix, chat, agent and trace says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Organization, region, model or tier this traffic belongs to: caches are not shared across partitions.
    #[serde(default)]
    pub partition: String,
    /// Users that sessions are spread over.
    #[serde(default = "one")]
    pub users: u32,
    /// A keying strategy of its own, in place of client.key.
    #[serde(default)]
    pub key: Option<Keying>,
    /// A retention policy of its own, in place of client.retention.
    #[serde(default)]
    pub retention: Option<String>,
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
    /// Recorded requests.
    #[serde(default)]
    pub trace: Option<Trace>,
    /// What changes inside the prompts from call to call (not in a trace).
    #[serde(default)]
    pub volatility: Volatility,
}

fn one() -> u32 {
    1
}

impl Workload {
    /// Checks what the types cannot say; the error gives the path below the workload.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let kinds =
            [self.shared_prefix.is_some(), self.chat.is_some(), self.agent.is_some(), self.trace.is_some()];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err((
                String::new(),
                "needs exactly one of the tables shared_prefix, chat, agent and trace".into(),
            ));
        }
        let below = |table: &'static str| {
            move |(field, message): (&'static str, String)| (format!("{table}.{field}"), message)
        };
        self.shared_prefix.as_ref().map_or(Ok(()), |kind| kind.validate().map_err(below("shared_prefix")))?;
        self.chat.as_ref().map_or(Ok(()), |kind| kind.validate().map_err(below("chat")))?;
        self.agent.as_ref().map_or(Ok(()), |kind| kind.validate().map_err(below("agent")))?;
        self.volatility.validate().map_err(below("volatility"))?;
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
}
