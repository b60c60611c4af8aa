//! What happens next: three kinds of events in one total order.
//!
//! The provider changes, what a request does to the cache becomes visible, and a session calls. Events are taken by (time,
//! kind, sequence): at one instant a change comes first, then what becomes visible, then arrivals; what expires at an
//! instant is still alive at it.

use crate::chunked::Chunked;
use crate::client::session::Session;
use crate::client::traffic::Next;
use crate::provider::cache::Effect;
use crate::queue::{Event, Queue};
use crate::simulation::side::Left;
use crate::units::SimTime;

/// What happens next: at one instant in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Kind {
    /// The provider changes.
    Change,
    /// What a request did becomes visible.
    Visible,
    /// A session calls.
    Arrival,
}

/// Bits of an event's order below its kind: its sequence.
const SEQUENCE_BITS: u32 = 62;

impl Kind {
    pub fn of(event: Event) -> Self {
        match event.order >> SEQUENCE_BITS {
            0 => Self::Change,
            1 => Self::Visible,
            _ => Self::Arrival,
        }
    }
}

/// Events by (time, kind, sequence); their contents are kept aside in slots that are used again, those of sessions by the
/// loop.
#[derive(Default)]
pub(super) struct Agenda {
    pub queue: Queue,
    sequence: u64,
    pub effects: Slots<Effect>,
    /// What requests of plain runs leave, each at the side of its number.
    pub left: Slots<(u32, Left)>,
    /// The next session of each workload that has not ended, the next one last: the starts of sessions need no queue.
    pub starts: Vec<Start>,
}

/// A session that is about to start.
pub(super) struct Start {
    pub event: Event,
    pub session: Session,
}

/// Values in numbered slots. A slot that is free keeps its value until it is used again.
pub(super) struct Slots<T> {
    pub values: Chunked<T>,
    pub free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { values: Chunked::default(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    #[inline]
    pub fn put(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.values[slot as usize] = value;
                slot
            }
            None => {
                self.values.push(value);
                self.values.len() as u32 - 1
            }
        }
    }

    /// The values in slots that are not free.
    pub fn used(&self) -> impl Iterator<Item = &T> {
        let mut used = vec![true; self.values.len()];
        self.free.iter().for_each(|slot| used[*slot as usize] = false);
        self.values.iter().zip(used).filter_map(|(value, used)| used.then_some(value))
    }
}

impl Agenda {
    /// An event with the next sequence number.
    pub fn event(&mut self, time: SimTime, kind: Kind, subject: u32) -> Event {
        self.sequence += 1;
        Event { time, order: (kind as u64) << SEQUENCE_BITS | self.sequence, subject }
    }

    pub fn push(&mut self, time: SimTime, kind: Kind, subject: u32) {
        let event = self.event(time, kind, subject);
        self.queue.push(event);
    }

    #[inline]
    pub fn push_sessions(&mut self, sessions: &mut Slots<Session>, next: &mut Next) {
        if !next.is_empty() {
            self.push_all(sessions, next);
        }
    }

    #[cold]
    fn push_all(&mut self, sessions: &mut Slots<Session>, next: &mut Next) {
        for (at, session) in next.drain(..) {
            let slot = sessions.put(session);
            self.push(at, Kind::Arrival, slot);
        }
    }

    /// Whether a session starts before whatever is queued.
    #[inline]
    pub fn starts_next(&self) -> bool {
        let Some(Start { event, .. }) = self.starts.last() else { return false };
        self.queue.peek().is_none_or(|queued| *event < queued)
    }

    /// Puts the last of the starts, whose event is a new one, where it belongs.
    pub fn sort_last_start(&mut self) {
        let Some((last, others)) = self.starts.split_last() else { return };
        let position = others.partition_point(|other| other.event > last.event);
        self.starts[position..].rotate_right(1);
    }
}
