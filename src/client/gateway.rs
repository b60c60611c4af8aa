//! What stands between a client's sessions and the provider: several accounts, and continued upstream sessions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random::{SessionKey, mix};
use crate::units::{LONGEST_PROMPT, Tokens};

/// A gateway in front of the provider; the default is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// Upstream accounts that requests are spread over; caches are not shared across them.
    pub accounts: u32,
    /// How a request finds its account.
    pub stickiness: Stickiness,
    /// Whether a request continues what the provider still holds of a conversation.
    pub continuation: Continuation,
    /// Tokens above which an upstream session is closed and a new one opened (continuation = implicit).
    pub session_tokens: Tokens,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            accounts: 1,
            stickiness: Stickiness::Session,
            continuation: Continuation::None,
            session_tokens: 200_000,
        }
    }
}

/// How a request finds its account. It is decided locally: nothing of it is sent upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stickiness {
    /// A session stays with one account.
    Session,
    /// Requests take the accounts in turn.
    RoundRobin,
}

/// What a request continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// Nothing: every request stands alone (HTTP).
    None,
    /// The session's own last response, by its id over a connection of its own (WebSocket): it goes to the account
    /// and machine that gave it.
    Explicit,
    /// The upstream session that the gateway has opened for its prompt_cache_key, whoever used it before: the
    /// request adds its latest message to the last complete response there. Where that context holds another
    /// conversation's messages, the request is contaminated.
    Implicit,
}

impl Gateway {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(1..=MOST_ACCOUNTS).contains(&self.accounts) {
            return Err(("accounts", format!("must be from 1 to {MOST_ACCOUNTS}")));
        }
        if !(1..=LONGEST_PROMPT).contains(&self.session_tokens) {
            return Err(("session_tokens", format!("must be from 1 to {LONGEST_PROMPT}")));
        }
        Ok(())
    }

    /// Whether every request goes to the one account, and continues nothing.
    pub fn is_plain(&self) -> bool {
        self.accounts == 1 && self.continuation == Continuation::None
    }

    /// The account of a request of whoever; `sent` counts those sent before it.
    pub fn account(&self, person: SessionKey, sent: u64) -> u32 {
        let turn = match self.stickiness {
            Stickiness::Session => mix(person.0),
            Stickiness::RoundRobin => sent,
        };
        (turn % u64::from(self.accounts)) as u32
    }
}

/// Most accounts of a gateway.
const MOST_ACCOUNTS: u32 = 10_000;
