//! A conversation as its prompts repeat it: what was said before, a status block, the latest turn.

use smallvec::SmallVec;

use crate::client::volatility::{Reasoning, Rewritten, Volatility, shared_start};
use crate::prompt::{Cursor, PrefixTree, Run};
use crate::provider::write::MarksWanted;
use crate::random::{Draws, Purpose, SessionKey, fold};
use crate::units::{SimTime, Tokens};

/// Texts at the very beginning of a prompt that may change: a timestamp or id, and what a client puts there to break
/// the prefix on purpose. Most clients have none.
pub type Heads = Box<[Run]>;

/// What one session has said so far.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The whole conversation as the next turn repeats it: without status block, without dropped reasoning.
    kept: Cursor,
    /// Kept apart, so that conversations that only ever grow are small.
    extra: Option<Box<Extra>>,
}

/// What a conversation has beside what is said, unless it only ever grows.
#[derive(Clone, Debug, Default)]
struct Extra {
    /// Everything before the latest user message (after a rebase: before what came since), as prompts repeat it;
    /// `None` before the first call.
    history: Option<Cursor>,
    /// The last prompt with its answer as it was generated.
    answered: Option<Cursor>,
    /// Tokens behind the history and the status block, as the calls of this turn repeat them.
    turn_tokens: Tokens,
    /// What is kept without this turn's edit, if the next turn takes it back.
    unedited: Option<Cursor>,
    /// The last prompt (with its answer, once there is one) as the next call of this turn repeats it, where that is
    /// not what is kept.
    sent: Option<Cursor>,
    /// Tokens of the status block in `sent`.
    status: Tokens,
    /// Whether this turn repeats reasoning that what is kept lacks.
    reasons: bool,
    heads: Heads,
    /// Where what was said so far ends, if the provider looks at marks.
    ends: Ends,
}

/// Where the parts of a conversation end.
#[derive(Clone, Debug, Default)]
struct Ends {
    /// The session's own starting context.
    context: Option<Tokens>,
    /// Depths of all histories so far, oldest first.
    histories: Vec<Tokens>,
    messages: Messages,
}

/// Where messages end, oldest first.
#[derive(Clone, Debug, Default)]
struct Messages {
    ends: Vec<MessageEnd>,
    /// Index of the first that lies behind the history.
    of_this_turn: usize,
}

#[derive(Clone, Copy, Debug)]
struct MessageEnd {
    /// Depth in the conversation as later turns repeat it.
    kept: Tokens,
    /// Tokens between history and status block on the one side, and this end on the other.
    in_turn: Tokens,
}

/// What a prompt of this session is made of beside what was said.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// Identity of the text that all sessions of the workload share.
    pub shared: SessionKey,
    /// Length of that text.
    pub prefix_tokens: Tokens,
    /// Context of its own that a session brings along; matters at its first call only.
    pub start: Option<Run>,
    /// What changes from call to call.
    pub volatility: &'a Volatility,
    /// Text at the very beginning that the client changes to break the prefix on purpose.
    pub nonce: Option<Run>,
    /// Whether the status block is left out.
    pub status_paused: bool,
    /// Whether this call writes a new base: no status block in it, and none inside it in later prompts.
    pub rebases: bool,
    /// Which marks the provider looks at.
    pub wanted: MarksWanted,
}

/// Where the segments of a prompt end; those that it does not have are absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SegmentEnds {
    /// Tools and system prompt, with what stands before them.
    pub developer: Option<Tokens>,
    /// The session's own starting context.
    pub context: Option<Tokens>,
    /// Everything before the latest user message and the status block above it, behind those of earlier turns: a
    /// client leaves its marks where they are.
    pub histories: SmallVec<[Tokens; 4]>,
    /// The status block.
    pub status: Option<Tokens>,
    /// The latest messages, oldest first.
    pub messages: SmallVec<[Tokens; 4]>,
}

impl Setting<'_> {
    fn heads(&self, draws: Draws, now: SimTime) -> impl Iterator<Item = Run> {
        self.volatility.head(self.shared, draws, now).into_iter().chain(self.nonce)
    }

    fn has_heads(&self) -> bool {
        self.volatility.head_tokens > 0 || self.nonce.is_some()
    }
}

impl Default for Conversation {
    fn default() -> Self {
        Self { kept: Cursor::ROOT, extra: None }
    }
}

impl Conversation {
    /// Tokens of the conversation as its next turn repeats it.
    pub fn tokens(&self) -> Tokens {
        self.kept.depth
    }

    /// The last prompt with its answer as it was generated; `None` before the first.
    pub fn answered(&self) -> Option<Cursor> {
        self.extra.as_ref()?.answered
    }

    /// The end of the conversation as its next turn repeats it.
    pub fn end(&self) -> Cursor {
        self.kept
    }

    /// The places it may go on from.
    pub fn places(&self) -> impl Iterator<Item = Cursor> {
        [self.history(), Some(self.kept), self.unedited(), self.sent(), self.answered()].into_iter().flatten()
    }

    /// Whether nothing was said yet.
    pub fn is_new(&self) -> bool {
        self.kept == Cursor::ROOT && self.history().is_none()
    }

    /// What the next turns have in common, before any of them: its end.
    pub fn open(
        &mut self,
        setting: &Setting<'_>,
        draws: Draws,
        now: SimTime,
        tree: &mut PrefixTree,
    ) -> Cursor {
        self.begin_call(setting, false, draws, now, tree);
        self.kept
    }

    /// The next prompt: `added` tokens more, which begin a turn (a user's message) or go on with one (a tool's
    /// result). Its end.
    #[inline(always)]
    pub fn call(
        &mut self,
        setting: &Setting<'_>,
        added: Tokens,
        begins_turn: bool,
        draws: Draws,
        now: SimTime,
        tree: &mut PrefixTree,
    ) -> Cursor {
        let volatility = setting.volatility;
        let moved = self.begin_call(setting, begins_turn, draws, now, tree);
        let content = || draws.bits(Purpose::Content, 0);
        self.keep(content, added, tree);
        let absent = setting.status_paused || setting.rebases;
        let status = if absent { 0 } else { volatility.status() };
        let rewritten = status > 0 && volatility.status_rewritten == Rewritten::Call;
        let extra = self.extra.get_or_insert_default();
        extra.turn_tokens += added;
        extra.sent = match extra.sent {
            // Without a block the calls of a turn repeat what later turns will.
            _ if setting.rebases || status == 0 && !extra.reasons => None,
            Some(end) if status == extra.status && !rewritten && !moved => {
                Some(tree.append_private(end, content, added))
            }
            _ => {
                let history = extra.history.unwrap_or(Cursor::ROOT);
                let at = tree.append_private(history, || draws.bits(Purpose::Content, 2), status);
                Some(tree.append_private(at, content, extra.turn_tokens))
            }
        };
        extra.status = status;
        let end = MessageEnd { kept: self.kept.depth, in_turn: extra.turn_tokens };
        if let Some(Ends { messages, .. }) = self.noted(setting) {
            messages.ends.push(end);
            messages.forget_all_but(setting.wanted.messages);
        }
        if setting.rebases {
            // The prompt just made is a base.
            self.turn_begins_here(setting);
        }
        self.prompt_end()
    }

    /// What the next turns of a conversation that only ever grows have in common, before any of them.
    #[inline(always)]
    pub fn begin(&mut self, setting: &Setting<'_>, tree: &mut PrefixTree) {
        self.kept = self.start(setting, tree);
        if let Some(context) = setting.start {
            self.kept = tree.append(self.kept, context);
        }
    }

    /// The next prompt of a conversation that has begun and only ever grows, and its answer behind it. Its end.
    #[inline(always)]
    pub fn grow(&mut self, added: Tokens, output: Tokens, draws: Draws, tree: &mut PrefixTree) -> Cursor {
        let content = |part| draws.bits(Purpose::Content, part);
        let [end, answered] = tree.append_private_two(self.kept, [added, output], content);
        self.kept = answered;
        end
    }

    /// The same of a conversation that goes on alone: the tree need not know, and is not asked to lengthen it any more.
    #[inline(always)]
    pub fn lengthen(&mut self, added: Tokens, output: Tokens) -> Cursor {
        let end = Cursor { depth: self.kept.depth + added, ..self.kept };
        self.kept.depth = end.depth + output;
        end
    }

    /// Takes an answer of `output` tokens behind `reasoning` hidden ones into the conversation.
    #[inline(always)]
    pub fn answer(
        &mut self,
        output: Tokens,
        reasoning: Tokens,
        rule: Reasoning,
        draws: Draws,
        tree: &mut PrefixTree,
    ) {
        let content = |part| move || draws.bits(Purpose::Content, part);
        let generated = tree.append_private(self.prompt_end(), content(1), reasoning + output);
        let rule = if reasoning == 0 { Reasoning::Kept } else { rule };
        match (rule, self.sent()) {
            (Reasoning::Kept, None) => {
                self.lengthen_unedited(content(1), reasoning + output, tree);
                self.kept = generated;
            }
            (Reasoning::Kept, Some(_)) => {
                self.extra().sent = Some(generated);
                self.keep(content(1), reasoning + output, tree);
            }
            (Reasoning::KeptWithinTurn, _) => {
                let extra = self.extra();
                (extra.reasons, extra.sent) = (true, Some(generated));
                self.keep(content(7), output, tree);
            }
            (Reasoning::Dropped, sent) => {
                if let Some(end) = sent {
                    self.extra().sent = Some(tree.append_private(end, content(7), output));
                }
                self.keep(content(7), output, tree);
            }
        }
        let extra = self.extra();
        extra.turn_tokens += if rule == Reasoning::Dropped { output } else { reasoning + output };
        extra.answered = Some(generated);
    }

    /// Where the segments of the last prompt end. Asked before its answer is taken in.
    pub fn segment_ends(&self, prefix_tokens: Tokens, wanted: MarksWanted) -> SegmentEnds {
        let Some(Extra { history, ends, heads, status, .. }) = self.extra.as_deref() else {
            return SegmentEnds::default();
        };
        let Ends { context, histories, messages } = ends;
        let history = history.map_or(0, |history| history.depth);
        let heads: Tokens = heads.iter().map(|head| head.tokens()).sum();
        let first = wanted.first.min(histories.len());
        let latest = histories.len().saturating_sub(wanted.latest).max(first);
        let mut of_histories = SmallVec::from_slice(&histories[..first]);
        of_histories.extend_from_slice(&histories[latest..]);
        SegmentEnds {
            developer: (prefix_tokens > 0).then_some(heads + prefix_tokens),
            context: context.filter(|end| *end <= history),
            histories: of_histories,
            status: (*status > 0).then_some(history + status),
            messages: messages.depths(history + status),
        }
    }

    /// The same for what the next turns have in common.
    pub fn common_ends(&self, prefix_tokens: Tokens, wanted: MarksWanted) -> SegmentEnds {
        let Some(extra) = self.extra.as_deref() else { return SegmentEnds::default() };
        let mut messages: SmallVec<_> = extra.ends.messages.ends.iter().map(|end| end.kept).collect();
        if messages.last() != Some(&self.kept.depth) {
            messages.push(self.kept.depth);
        }
        SegmentEnds { status: None, messages, ..self.segment_ends(prefix_tokens, wanted) }
    }

    /// Where what is said is noted to end, if the provider looks at marks.
    fn noted(&mut self, setting: &Setting<'_>) -> Option<&mut Ends> {
        (setting.wanted.messages > 0).then(|| &mut self.extra().ends)
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    fn history(&self) -> Option<Cursor> {
        self.extra.as_ref()?.history
    }

    fn unedited(&self) -> Option<Cursor> {
        self.extra.as_ref()?.unedited
    }

    fn sent(&self) -> Option<Cursor> {
        self.extra.as_ref()?.sent
    }

    fn heads(&self) -> &[Run] {
        self.extra.as_ref().map_or(&[], |extra| &extra.heads)
    }

    /// Lengthens what later turns repeat.
    #[inline(always)]
    fn keep(&mut self, content: impl Fn() -> u64, tokens: Tokens, tree: &mut PrefixTree) {
        self.kept = tree.append_private(self.kept, &content, tokens);
        self.lengthen_unedited(content, tokens, tree);
    }

    #[inline(always)]
    fn lengthen_unedited(&mut self, content: impl FnOnce() -> u64, tokens: Tokens, tree: &mut PrefixTree) {
        if let Some(Extra { unedited: Some(at), .. }) = self.extra.as_deref_mut() {
            *at = tree.append_private(*at, content, tokens);
        }
    }

    #[inline(always)]
    fn prompt_end(&self) -> Cursor {
        self.sent().unwrap_or(self.kept)
    }

    /// The last turn becomes history: without its status block, perhaps edited or compacted.
    #[inline(always)]
    fn begin_turn(&mut self, setting: &Setting<'_>, draws: Draws, tree: &mut PrefixTree) {
        let Setting { volatility, start: context, .. } = *setting;
        let content = || draws.bits(Purpose::Content, 3);
        if self.history().is_none() {
            self.begin(setting, tree);
            let kept = self.kept.depth;
            if let Some(ends) = self.noted(setting).filter(|_| context.is_some()) {
                ends.context = Some(kept);
                ends.messages.ends.push(MessageEnd { kept, in_turn: 0 });
            }
        } else {
            if let Some(extra) = &mut self.extra {
                self.kept = extra.unedited.take().unwrap_or(self.kept);
            }
            if volatility.compact_above.is_some_and(|most| self.tokens() > most) {
                let at = self.start(setting, tree);
                self.kept = tree.append_private(at, content, volatility.summary_tokens);
                if let Some(extra) = &mut self.extra {
                    extra.ends = Ends::default();
                }
            }
            let edited = volatility.edited(self.kept, draws, tree);
            if volatility.edit_reverted && edited != self.kept {
                self.extra().unedited = Some(self.kept);
            }
            self.kept = edited;
        }
        if let Some(extra) = &mut self.extra {
            extra.sent = None;
        }
        self.turn_begins_here(setting);
    }

    /// The end of the text that it shares with others.
    fn start(&self, setting: &Setting<'_>, tree: &mut PrefixTree) -> Cursor {
        shared_start(tree, setting.shared, setting.prefix_tokens, self.heads().iter().copied())
    }

    /// What comes next comes behind all that is kept, the status block too.
    #[inline(always)]
    fn turn_begins_here(&mut self, setting: &Setting<'_>) {
        let history = Some(self.kept);
        let extra = self.extra();
        (extra.status, extra.reasons, extra.turn_tokens, extra.history) = (0, false, 0, history);
        let kept = self.kept.depth;
        if let Some(Ends { histories, messages, .. }) = self.noted(setting) {
            histories.push(kept);
            messages.of_this_turn = messages.ends.len();
        }
    }

    /// What comes before a call's own text: a new turn, perhaps a new head. Whether the head is another.
    #[inline(always)]
    fn begin_call(
        &mut self,
        setting: &Setting<'_>,
        begins_turn: bool,
        draws: Draws,
        now: SimTime,
        tree: &mut PrefixTree,
    ) -> bool {
        let heads = || setting.heads(draws, now);
        let has_none = !setting.has_heads() && self.heads().is_empty();
        let changed = !has_none && !self.heads().iter().copied().eq(heads());
        let moved = changed && !self.is_new();
        if changed {
            self.extra().heads = heads().collect();
        }
        if begins_turn || self.is_new() {
            self.begin_turn(setting, draws, tree);
        }
        if moved {
            self.repeat_behind_new_head(setting, tree);
        }
        moved
    }

    /// Behind another head everything that was said is said anew: the same text for all that repeat it behind the
    /// same head.
    fn repeat_behind_new_head(&mut self, setting: &Setting<'_>, tree: &mut PrefixTree) {
        let Some(history) = self.history() else { return };
        let at = self.start(setting, tree);
        let head = self.heads().iter().fold(0, |digest, head| fold(digest, head.content));
        let mut repeat = |at: Cursor, old: Cursor| {
            let said = old.depth.saturating_sub(at.depth);
            let content = fold(head, fold(u64::from(tree.serial(old.edge)), u64::from(old.depth)));
            if said == 0 { at } else { tree.append(at, Run::piece(content, said)) }
        };
        if let Some(Extra { unedited: Some(old), .. }) = self.extra.as_deref_mut() {
            *old = repeat(at, *old);
        }
        let new = repeat(at, history);
        self.kept = repeat(new, self.kept);
        self.extra().history = Some(new);
    }
}

impl Messages {
    /// Depths in a prompt whose turn begins at `turn_start`.
    fn depths(&self, turn_start: Tokens) -> SmallVec<[Tokens; 4]> {
        let (before, since) = self.ends.split_at(self.of_this_turn);
        let mut depths = SmallVec::with_capacity(self.ends.len());
        depths.extend(before.iter().map(|end| end.kept));
        depths.extend(since.iter().map(|end| turn_start + end.in_turn));
        depths
    }

    fn forget_all_but(&mut self, latest: usize) {
        let forgotten = self.ends.len().saturating_sub(latest);
        self.ends.drain(..forgotten);
        self.of_this_turn = self.of_this_turn.saturating_sub(forgotten);
    }
}
