//! How far a verb is, on stderr: a bar in a terminal, elsewhere a line now and then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::cli::output::talk;

/// When lines are said where there is no terminal, after the beginning; then every [`LATER`].
const SAID_AT: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30), Duration::from_secs(60)];

/// The gap between later lines.
const LATER: Duration = Duration::from_secs(60);

/// Something that takes a while.
pub struct Progress {
    bar: ProgressBar,
    count: Arc<Count>,
    /// The one who says lines; it ends when this end of the channel is dropped.
    lines: Option<(Sender<()>, JoinHandle<()>)>,
    /// What is said once the work has begun: not before an error that refuses it.
    held: Mutex<Vec<String>>,
}

/// How much is done, of how much.
#[derive(Default)]
struct Count {
    done: AtomicU64,
    of: AtomicU64,
}

impl Progress {
    /// A number of runs; nobody hears of it where `quiet`.
    pub fn begin(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let words = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // A terminal that is gone is nobody's concern.
            let _ = out.write_str(&words(state.pos(), state.len().unwrap_or(0), state.elapsed()));
        };
        let style = ProgressStyle::with_template("{bar:16} {words}").expect("a valid template");
        // Of a length that is not known yet nothing is done; of no length all would be.
        let bar = ProgressBar::with_draw_target(None, target).with_style(style.with_key("words", words));
        let count = Arc::new(Count::default());
        let lines = (!quiet && bar.is_hidden()).then(|| say_lines(Arc::clone(&count)));
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Self { bar, count, lines, held: Mutex::new(Vec::new()) }
    }

    /// Says lines as soon as it is known how much is done, or all is; never, if nothing comes of it.
    pub fn hold(&self, lines: Vec<String>) {
        self.held.lock().expect("nothing panics with the lock").extend(lines);
    }

    fn say_held(&self) {
        let held = std::mem::take(&mut *self.held.lock().expect("nothing panics with the lock"));
        if !held.is_empty() {
            self.bar.suspend(|| held.iter().for_each(|line| talk(line)));
        }
    }

    /// There are so many runs.
    pub fn set_length(&self, runs: u64) {
        self.count.of.store(runs, Ordering::Relaxed);
        self.bar.set_length(runs);
    }

    /// So many are done.
    pub fn set_position(&self, done: u64) {
        self.count.done.store(done, Ordering::Relaxed);
        self.say_held();
        self.bar.set_position(done);
    }

    /// Further ones are done.
    pub fn inc(&self, further: u64) {
        self.count.done.fetch_add(further, Ordering::Relaxed);
        self.say_held();
        self.bar.inc(further);
    }

    /// Does something that talks, with the bar out of its way.
    pub fn suspended<T>(&self, talking: impl FnOnce() -> T) -> T {
        self.bar.suspend(talking)
    }

    /// All is done: nothing of it stays on the screen.
    pub fn finish_and_clear(self) {
        self.say_held();
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if let Some((sender, lines)) = self.lines.take() {
            drop(sender);
            // It has nothing to say any more.
            let _ = lines.join();
        }
    }
}

/// Says lines until the other end of the channel is dropped.
fn say_lines(count: Arc<Count>) -> (Sender<()>, JoinHandle<()>) {
    let begun = Instant::now();
    let (sender, ended) = channel();
    let lines = std::thread::spawn(move || {
        let later = (2..).map(|times| LATER * times);
        for at in SAID_AT.into_iter().chain(later) {
            if ended.recv_timeout(at.saturating_sub(begun.elapsed())) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let (done, of) = (count.done.load(Ordering::Relaxed), count.of.load(Ordering::Relaxed));
            talk(&format!("{} so far: {}", time(begun.elapsed()), words(done, of, begun.elapsed())));
        }
    });
    (sender, lines)
}

/// How much is done, how fast, and how long it may take.
fn words(done: u64, of: u64, elapsed: Duration) -> String {
    let runs = if of == 1 { "run" } else { "runs" };
    let share = if of == 0 { "the first runs".into() } else { format!("{done} of {of} {runs}") };
    if done == 0 || elapsed.is_zero() {
        return share;
    }
    let rate = done as f64 / elapsed.as_secs_f64();
    let left = of.saturating_sub(done) as f64 / rate;
    let rate = match rate {
        rate if rate >= 10.0 => format!("{rate:.0}/s"),
        rate if rate >= 0.5 => format!("{rate:.1}/s"),
        rate => format!("{:.1}/min", rate * 60.0),
    };
    format!("{share}, {rate}, {} left", time(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX)))
}

/// A time as a person says it.
fn time(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..100 => format!("{seconds} s"),
        seconds @ 100..6_000 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h", (seconds + 1_800) / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_its_rate_and_the_time_left() {
        let words = |done, of, seconds| words(done, of, Duration::from_secs(seconds));
        assert_eq!(words(0, 0, 5), "the first runs");
        assert_eq!(words(0, 20, 7), "0 of 20 runs");
        assert_eq!(words(1, 1, 2), "1 of 1 run, 0.5/s, 0 s left");
        assert_eq!(words(600, 2_400, 10), "600 of 2400 runs, 60/s, 30 s left");
        assert_eq!(words(12, 2_112, 60), "12 of 2112 runs, 12.0/min, 3 h left");
        assert_eq!(words(30, 60, 1_200), "30 of 60 runs, 1.5/min, 20 min left");
    }
}
