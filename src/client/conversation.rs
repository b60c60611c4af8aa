//! A conversation as its prompts repeat it: what was said before, a status block, the latest turn.

use crate::client::volatility::{Rewritten, Volatility, shared_start};
use crate::prompt::{Cursor, PrefixTree, Run};
use crate::random::{Draws, Purpose, SessionKey};
use crate::units::{SimTime, Tokens};

/// What one session has said so far.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// Everything before the latest user message, as later prompts repeat it.
    history: Option<Cursor>,
    /// Tokens from the latest user message on.
    turn_tokens: Tokens,
    /// The last prompt with its answer, which the next call of the same turn may go on from.
    end: Option<Cursor>,
    head: Option<Run>,
}

/// What does not change during a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// Identity of the text that all sessions of the workload share.
    pub shared: SessionKey,
    /// Length of that text.
    pub prefix_tokens: Tokens,
    /// Private context that a session brings along; matters at its first call only.
    pub start_tokens: Tokens,
    /// What changes from call to call.
    pub volatility: &'a Volatility,
}

impl Conversation {
    /// Tokens of the next prompt's history and turn so far, the status block left out.
    pub fn tokens(&self) -> Tokens {
        self.history.map_or(0, |history| history.depth) + self.turn_tokens
    }

    /// The last prompt with its answer; `None` before the first.
    pub fn end(&self) -> Option<Cursor> {
        self.end
    }

    /// The next prompt: `added` tokens more, which begin a turn (a user's message) or go on with one (a tool's
    /// result). Its end.
    pub fn call(
        &mut self,
        setting: &Setting<'_>,
        added: Tokens,
        begins_turn: bool,
        draws: Draws,
        now: SimTime,
        tree: &mut PrefixTree,
    ) -> Cursor {
        let Setting { volatility, .. } = setting;
        let head = volatility.head(setting.shared, draws, now);
        let moved = head != self.head && self.history.is_some();
        self.head = head;
        if begins_turn {
            self.begin_turn(setting, draws, tree);
        }
        if moved {
            self.repeat_behind_new_head(setting, draws, tree);
        }
        let history = self.history.unwrap_or(Cursor::ROOT);
        let rewritten = volatility.status_tokens > 0 && volatility.status_rewritten == Rewritten::Call;
        let end = match self.end {
            Some(end) if !rewritten => tree.append_private(end, draws.bits(Purpose::Content, 0), added),
            _ => {
                let status = draws.bits(Purpose::Content, 2);
                let at = tree.append_private(history, status, volatility.status_tokens);
                tree.append_private(at, draws.bits(Purpose::Content, 0), self.turn_tokens + added)
            }
        };
        self.turn_tokens += added;
        self.end = Some(end);
        end
    }

    /// Takes the answer into the conversation.
    pub fn answer(&mut self, output: Tokens, draws: Draws, tree: &mut PrefixTree) {
        self.turn_tokens += output;
        self.end = self.end.map(|end| tree.append_private(end, draws.bits(Purpose::Content, 1), output));
    }

    /// The last turn becomes history: without its status block, perhaps edited or compacted.
    fn begin_turn(&mut self, setting: &Setting<'_>, draws: Draws, tree: &mut PrefixTree) {
        let Setting { volatility, shared, prefix_tokens, start_tokens } = *setting;
        let start = |tree: &mut PrefixTree| shared_start(tree, shared, prefix_tokens, self.head);
        let history = match (self.history, self.end) {
            (None, _) => {
                let at = start(tree);
                tree.append_private(at, draws.bits(Purpose::Content, 3), start_tokens)
            }
            _ if volatility.compact_above.is_some_and(|most| self.tokens() > most) => {
                let at = start(tree);
                tree.append_private(at, draws.bits(Purpose::Content, 3), volatility.summary_tokens)
            }
            // Without a status block in between, what was sent is what is repeated.
            (Some(_), Some(end)) if volatility.status_tokens == 0 => end,
            (Some(history), _) => {
                tree.append_private(history, draws.bits(Purpose::Content, 3), self.turn_tokens)
            }
        };
        // Before anything was said there is nothing to edit.
        let said_before = self.history.is_some();
        self.history = Some(if said_before { volatility.edited(history, draws, tree) } else { history });
        self.turn_tokens = 0;
        self.end = None;
    }

    /// Behind another head everything that was said is said anew.
    fn repeat_behind_new_head(&mut self, setting: &Setting<'_>, draws: Draws, tree: &mut PrefixTree) {
        let Some(history) = self.history else { return };
        let at = shared_start(tree, setting.shared, setting.prefix_tokens, self.head);
        let said = history.depth.saturating_sub(at.depth);
        self.history = Some(tree.append_private(at, draws.bits(Purpose::Content, 6), said));
        self.end = None;
    }
}
