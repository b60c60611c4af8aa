//! A queue of events in one total order, for clocks that never run backwards.
//!
//! Events far ahead wait in wheels (Varghese and Lauck, 1987): wheel `w` has 64 slots of 64^w ns, and an event stands on
//! the wheel of the highest digit, base 64, in which its time differs from the clock's. When the clock reaches a slot,
//! its events move to finer wheels, or, once they are few, are sorted and served. So an event is moved two or three
//! times whatever the number of others, there is nothing to tune, and what is served next stands side by side.
//!
//! Events that are added in the order in which they come (pauses of one length do that) need no wheels: a few lanes keep
//! them, first in, first out, and the next event is the earliest of the lanes' first ones and of the wheels'. Where many
//! events fit no lane, trying costs more than it gives, and the lanes are given up.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::units::SimTime;

/// An event: when, what comes first at that moment, and a number that says what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happens.
    pub time: SimTime,
    /// The lesser comes first; no two are equal.
    pub order: u64,
    /// What it is about.
    pub subject: u32,
}

impl Event {
    /// One number that says it all, so that to compare two events is to compare two numbers.
    fn rank(&self) -> u128 {
        u128::from(self.time.0) << 64 | u128::from(self.order)
    }
}

impl Ord for Event {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Event {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    #[inline]
    fn lt(&self, other: &Self) -> bool {
        self.rank() < other.rank()
    }

    #[inline]
    fn gt(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }
}

/// Digits of a time in nanoseconds, base 64.
const WHEELS: usize = 11;
const SLOTS: usize = 64;
const DIGIT_BITS: u32 = 6;

/// So many events or fewer are sorted rather than moved to a finer wheel.
const FEW: usize = 64;

/// With so many or more to be served next, keeping them sorted costs more than the wheels.
const MANY: usize = 128;

/// Lanes for events that come in order.
const LANES: usize = 4;

/// How many events may fit no lane before the lanes are given up.
const PATIENCE: u32 = 256;

/// Later than any event.
const NEVER: Event = Event { time: SimTime(u64::MAX), order: u64::MAX, subject: u32::MAX };

/// As soon as fewer of a lane's next events have been seen than `FEW_SEEN`, `SEEN` of them are.
const FEW_SEEN: usize = 8;
const SEEN: usize = 32;

/// Events that come in the order in which they were added.
#[derive(Clone, Debug)]
struct Lane {
    events: VecDeque<Event>,
    /// The first of them, or never.
    first: Event,
    /// The last of them; an empty lane takes any.
    last: Event,
    /// How many of the next ones have been seen.
    seen: usize,
}

impl Default for Lane {
    fn default() -> Self {
        let none = Event { time: SimTime(0), order: 0, subject: 0 };
        Self { events: VecDeque::new(), first: NEVER, last: none, seen: 0 }
    }
}

impl Lane {
    #[inline(always)]
    fn push(&mut self, event: Event) {
        if self.events.is_empty() {
            self.first = event;
        }
        self.last = event;
        self.events.push_back(event);
    }

    #[inline(always)]
    fn pop(&mut self) {
        self.events.pop_front();
        self.seen = self.seen.saturating_sub(1);
        self.set_first();
    }

    fn set_first(&mut self) {
        self.first = self.events.front().copied().unwrap_or(NEVER);
        if self.events.is_empty() {
            self.last = Self::default().last;
        }
    }
}

/// Events to come.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The next event, or never, and where it stands: in a lane, or behind them all on the wheels.
    next: (Event, usize),
    lanes: [Lane; LANES],
    /// All lanes from this one on are empty.
    used: usize,
    /// How many more events than others may fit no lane; at 0 the lanes are given up.
    patience: u32,
    /// Events in the lanes.
    in_lanes: usize,
    /// Events that have come near.
    coming: Vec<Event>,
    /// Those before `end`, the next one last. (Of many at one moment the new ones go to the front.)
    near: VecDeque<Event>,
    end: u64,
    /// The clock of the wheels: no event on them is earlier.
    base: u64,
    wheels: Vec<Vec<Event>>,
    /// Which slots of each wheel have events.
    occupied: [u64; WHEELS],
    /// Events that are near or on wheels.
    len: usize,
    /// Whether the near ones have not been seen, or too few of a lane.
    unseen: bool,
    refilled: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            next: (NEVER, LANES),
            lanes: Default::default(),
            used: 0,
            patience: PATIENCE,
            in_lanes: 0,
            coming: Vec::new(),
            near: VecDeque::new(),
            end: 0,
            base: 0,
            wheels: vec![Vec::new(); WHEELS * SLOTS],
            occupied: [0; WHEELS],
            len: 0,
            unseen: false,
            refilled: false,
        }
    }
}

impl Queue {
    /// Adds an event, no earlier than the last one that was taken out.
    #[inline]
    pub fn push(&mut self, event: Event) {
        let lane = if self.patience == 0 { LANES } else { self.fitting_lane(event) };
        if let Some(fitting) = self.lanes.get_mut(lane) {
            fitting.push(event);
            self.in_lanes += 1;
            self.used = self.used.max(lane + 1);
            self.patience = PATIENCE.min(self.patience + 1);
        } else {
            self.push_unordered(event);
            self.patience = self.patience.saturating_sub(2);
        }
        if self.near.is_empty() && (self.next.1 == LANES || lane == LANES) {
            // Those that were near have moved to the wheels, perhaps this one with them.
            self.find_next();
        } else if event < self.next.0 {
            self.next = (event, lane);
        }
    }

    /// Of the lanes that end before an event the one that ends last, or else an empty one.
    #[inline]
    fn fitting_lane(&self, event: Event) -> usize {
        let fitting = self.lanes[..self.used].iter().zip(0..).filter(|(lane, _)| lane.last < event);
        let last = fitting.reduce(|one, other| if one.0.last < other.0.last { other } else { one });
        last.map_or(self.used, |(_, lane)| lane)
    }

    #[inline]
    fn push_unordered(&mut self, event: Event) {
        let wheels_are_empty = self.len == self.near.len();
        self.len += 1;
        if event.time.0 >= self.end && !wheels_are_empty {
            self.file(event);
        } else {
            self.push_near(event);
        }
    }

    /// Adds an event to those that are served next.
    fn push_near(&mut self, event: Event) {
        // As long as there are few events, one short list does.
        self.end = self.end.max(event.time.0.saturating_add(1));
        if self.near.back().is_none_or(|next| event < *next) {
            self.near.push_back(event);
        } else {
            let position = self.near.partition_point(|later| *later > event);
            self.near.insert(position, event);
        }
        if self.near.len() >= MANY {
            self.spread();
        }
    }

    /// The next event.
    #[inline]
    pub fn peek(&self) -> Option<Event> {
        (!self.is_empty()).then_some(self.next.0)
    }

    /// Finds the next event anew.
    #[inline]
    fn find_next(&mut self) {
        if self.near.is_empty() && self.len > 0 {
            self.refill();
        }
        while self.used > 0 && self.lanes[self.used - 1].events.is_empty() {
            self.used -= 1;
        }
        self.next = (self.near.back().copied().unwrap_or(NEVER), LANES);
        for (lane, number) in self.lanes[..self.used].iter().zip(0..) {
            if lane.first < self.next.0 {
                self.next = (lane.first, number);
            }
        }
    }

    /// Whether events have come near that nobody has seen, since the wheels last turned or a lane last got short.
    #[inline(always)]
    pub fn has_come_near(&self) -> bool {
        self.unseen
    }

    /// Events that have come near since this was last asked.
    pub fn come_near(&mut self) -> &[Event] {
        self.unseen = false;
        self.coming.clear();
        if std::mem::take(&mut self.refilled) {
            self.coming.extend(&self.near);
        }
        for lane in &mut self.lanes[..self.used] {
            let near = lane.events.len().min(SEEN);
            if lane.seen < FEW_SEEN && lane.seen < near {
                self.coming.extend(lane.events.range(lane.seen..near));
                lane.seen = near;
            }
        }
        &self.coming
    }

    /// Takes out the next event.
    #[inline]
    pub fn pop(&mut self) -> Option<Event> {
        if self.is_empty() {
            return None;
        }
        let (event, lane) = self.next;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.pop();
            self.unseen |= lane.seen < FEW_SEEN;
            self.in_lanes -= 1;
        } else {
            self.near.pop_back();
            self.len -= 1;
        }
        self.find_next();
        Some(event)
    }

    /// Takes out the next event if it happens at `now` or before.
    #[inline]
    pub fn pop_until(&mut self, now: SimTime) -> Option<Event> {
        if self.next.0.time <= now { self.pop() } else { None }
    }

    /// Events to come.
    pub fn len(&self) -> usize {
        self.len + self.in_lanes
    }

    /// Whether there are none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.next.0.order == NEVER.order
    }

    /// Drops all events that are not wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&Event) -> bool) {
        for lane in &mut self.lanes {
            lane.events.retain(&mut wanted);
            lane.seen = 0;
            lane.set_first();
        }
        self.in_lanes = self.lanes.iter().map(|lane| lane.events.len()).sum();
        self.near.retain(&mut wanted);
        self.wheels.iter_mut().for_each(|slot| slot.retain(&mut wanted));
        for (wheel, occupied) in self.occupied.iter_mut().enumerate() {
            let has_events = |slot: &usize| !self.wheels[wheel * SLOTS + slot].is_empty();
            *occupied = (0..SLOTS).filter(has_events).fold(0, |bits, slot| bits | 1 << slot);
        }
        self.len = self.near.len() + self.wheels.iter().map(Vec::len).sum::<usize>();
        self.find_next();
    }

    /// Puts an event on its wheel.
    #[inline]
    fn file(&mut self, event: Event) {
        let digit = (event.time.0 ^ self.base | 1).ilog2() / DIGIT_BITS;
        let slot = (event.time.0 >> (digit * DIGIT_BITS)) as usize % SLOTS;
        self.wheels[digit as usize * SLOTS + slot].push(event);
        self.occupied[digit as usize] |= 1 << slot;
    }

    /// The slot of the earliest events: when it begins, its wheel and its number there.
    fn earliest_slot(&self) -> Option<(u64, usize, usize)> {
        // Whatever stands on a finer wheel is earlier.
        let wheel = self.occupied.iter().position(|occupied| *occupied != 0)?;
        let slot = self.occupied[wheel].trailing_zeros() as usize;
        let shift = wheel as u32 * DIGIT_BITS;
        let above = self.base.checked_shr(shift + DIGIT_BITS).map_or(0, |digits| digits << DIGIT_BITS);
        Some(((above | slot as u64) << shift, wheel, slot))
    }

    /// Moves the clock on, and the events of the next slots, as long as they are few, to those that are served.
    #[inline(never)]
    fn refill(&mut self) {
        while let Some((start, wheel, slot)) = self.earliest_slot() {
            let index = wheel * SLOTS + slot;
            let (count, sorted) = (self.wheels[index].len(), self.near.len());
            let are_few = count <= FEW;
            if sorted > 0 && (wheel == 0 || are_few) && sorted + count > FEW {
                break;
            }
            self.occupied[wheel] &= !(1 << slot);
            self.base = start;
            let mut events = std::mem::take(&mut self.wheels[index]);
            if wheel == 0 || are_few {
                self.near.extend(events.drain(..));
                self.near.make_contiguous()[sorted..].sort_unstable();
                self.end = start.saturating_add(1 << (wheel as u32 * DIGIT_BITS));
            } else {
                events.drain(..).for_each(|event| self.file(event));
                self.end = start;
            }
            self.give_back(index, events);
        }
        // The next one last.
        self.near.make_contiguous().reverse();
        (self.refilled, self.unseen) = (true, true);
    }

    /// The memory of a slot's events for those to come. Every slot of a coarse wheel holds nearly all events at some
    /// time: none may keep so much.
    fn give_back(&mut self, index: usize, room: Vec<Event>) {
        if room.capacity() <= MANY {
            self.wheels[index] = room;
        }
    }

    /// Moves the events before `end` to finer wheels, where they have come to be too many.
    fn spread(&mut self) {
        let Some(next) = self.near.back() else { return };
        // At one and the same moment nothing is finer.
        if self.near[0].time == next.time {
            return;
        }
        self.end = next.time.0;
        self.turn_to(next.time.0);
        let mut events = std::mem::take(&mut self.near);
        events.drain(..).for_each(|event| self.file(event));
        self.near = events;
    }

    /// Sets the clock of the wheels to a moment before all that is on them, perhaps back.
    fn turn_to(&mut self, base: u64) {
        let turned = (self.base ^ base | 1).ilog2() / DIGIT_BITS;
        self.base = base;
        // What shares its digits down to this one with the old clock, and not with the new one, is on a wrong wheel.
        for wheel in 0..turned as usize {
            for slot in 0..SLOTS {
                if self.occupied[wheel] & 1 << slot != 0 {
                    let mut events = std::mem::take(&mut self.wheels[wheel * SLOTS + slot]);
                    self.occupied[wheel] &= !(1 << slot);
                    events.drain(..).for_each(|event| self.file(event));
                    self.give_back(wheel * SLOTS + slot, events);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn events_come_in_their_order_whatever_is_added_meanwhile(
            delays in prop::collection::vec((0u32..64, 0u64..1_000, 0usize..3), 1..2_000),
        ) {
            let mut queue = Queue::default();
            let mut expected = BTreeSet::new();
            let mut now = 0;
            for (index, (bits, fine, taken)) in delays.into_iter().enumerate() {
                // Delays of every order of magnitude, many of them equal.
                let time = SimTime(now + (fine << bits >> 14));
                let event = Event { time, order: (fine % 2) << 62 | index as u64, subject: index as u32 };
                queue.push(event);
                expected.insert(event);
                for _ in 0..taken {
                    let next = queue.pop();
                    prop_assert_eq!(next, expected.pop_first());
                    now = next.map_or(now, |event| event.time.0);
                }
                prop_assert_eq!(queue.len(), expected.len());
            }
            // What lies behind a moment, then the rest.
            let middle = SimTime(now + 1_000_000);
            while let Some(event) = queue.pop_until(middle) {
                prop_assert!(event.time <= middle);
                prop_assert_eq!(Some(event), expected.pop_first());
            }
            prop_assert!(expected.first().is_none_or(|event| event.time > middle));
            queue.retain(|event| event.subject % 2 == 0);
            let kept: Vec<_> = expected.into_iter().filter(|event| event.subject % 2 == 0).collect();
            prop_assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), kept);
        }
    }

    #[test]
    fn many_events_at_one_moment_and_many_close_together_are_served_in_order() {
        let mut queue = Queue::default();
        let event = |time, order| Event { time: SimTime(time), order, subject: 0 };
        queue.push(event(u64::MAX, 0));
        for order in 0..1_000 {
            queue.push(event(5_000, order));
        }
        assert_eq!(queue.pop(), Some(event(5_000, 0)));
        for order in 1_000..2_000 {
            queue.push(event(5_000 + order % 7, order));
        }
        let mut served: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!((served.len(), served.pop()), (2_000, Some(event(u64::MAX, 0))));
        assert!(served.is_sorted());
    }

    #[test]
    fn many_events_before_those_that_were_near_are_served_first() {
        let mut queue = Queue::default();
        let mut expected = BTreeSet::new();
        // A hundred far ones, then ever nearer ones.
        for order in 0..2_000 {
            let time = SimTime((1 << (60 - 3 * (order / 100))) + order % 100 * 7);
            let event = Event { time, order, subject: 0 };
            queue.push(event);
            expected.insert(event);
        }
        assert!(std::iter::from_fn(|| queue.pop()).eq(expected));
    }

    #[test]
    fn one_before_all_is_found_though_those_that_were_near_move_away() {
        let mut queue = Queue::default();
        // Four lanes whose last events are late, the first of all in one of them, and then as many that fit no lane as may
        // be near; the next one makes them too many.
        let lanes = [1_000, 100_000, 99_000, 98_000, 97_000];
        let near = (1..MANY as u64).map(|n| 5_000 + n * 37 % 1_000);
        let times = lanes.into_iter().chain(near).chain([500]);
        let events: BTreeSet<_> =
            times.zip(0..).map(|(time, order)| Event { time: SimTime(time), order, subject: 0 }).collect();
        let mut in_order: Vec<_> = events.iter().copied().collect();
        in_order.sort_by_key(|event| event.order);
        in_order.into_iter().for_each(|event| queue.push(event));
        assert_eq!(queue.len(), events.len());
        assert!(std::iter::from_fn(|| queue.pop()).eq(events));
    }

    #[test]
    fn very_many_events_at_one_moment_take_no_longer_each() {
        let mut queue = Queue::default();
        for order in 0..1_000_000 {
            queue.push(Event { time: SimTime(7), order, subject: 0 });
        }
        assert!((0..1_000_000).all(|order| queue.pop().is_some_and(|event| event.order == order)));
    }

    #[test]
    fn room_follows_the_events_there_are() {
        let mut queue = Queue::default();
        let mut draws = (0..).map(|n| crate::random::mix(n) % 120_000_000_000);
        let mut next = |now: u64, order: u64| Event {
            time: SimTime(now + draws.next().unwrap_or(0)),
            order,
            subject: 0,
        };
        (0..1_000).for_each(|order| queue.push(next(0, order)));
        for order in 1_000..200_000 {
            let now = queue.pop().map_or(0, |event| event.time.0);
            queue.push(next(now, order));
        }
        let room: usize = queue.wheels.iter().map(Vec::capacity).sum();
        assert!(room < 20_000, "room for {room} of 1,000 events");
    }
}
