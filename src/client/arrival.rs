//! When sessions start: fixed, Poisson, bursty and daily arrivals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::random::{Draws, Purpose, SessionKey, SessionKeys};
use crate::units::{Rate, SimTime, Span};

/// The law of session starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arrivals {
    /// The process: fixed, poisson, gamma or daily.
    pub process: Process,
    /// Mean rate of session starts, such as "30/min".
    pub rate: Rate,
    /// Burstiness of process gamma: the coefficient of variation of the gaps (1 is Poisson, above is bursty).
    #[serde(default = "one")]
    pub gap_variation: f64,
    /// Swing of process daily, from 0 (none) to 1 (no traffic at the quietest moment).
    #[serde(default = "four_fifths")]
    pub daily_swing: f64,
    /// Time of day with the most traffic (process daily); simulated time starts at midnight.
    #[serde(default = "afternoon")]
    pub daily_peak: Span,
}

fn one() -> f64 {
    1.0
}

fn four_fifths() -> f64 {
    0.8
}

fn afternoon() -> Span {
    Span::from_seconds(15 * 3_600)
}

/// How gaps between session starts are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// Equal gaps, the first session at time zero.
    Fixed,
    /// Exponential gaps.
    Poisson,
    /// Gamma-distributed gaps, burstier or more regular than Poisson.
    Gamma,
    /// Poisson with a rate that follows the time of day as a cosine.
    Daily,
}

impl Arrivals {
    /// Session starts a second in the quietest hours, or between bursts: what can be relied on.
    pub fn least_rate_per_second(&self) -> f64 {
        let calm = match self.process {
            Process::Fixed | Process::Poisson => 1.0,
            // As many bursts are as good as independent starts.
            Process::Gamma => 1.0 / (self.gap_variation * self.gap_variation).max(1.0),
            Process::Daily => 1.0 - self.daily_swing,
        };
        self.rate.per_minute() / 60.0 * calm
    }

    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if !(0.05..=20.0).contains(&self.gap_variation) {
            return Err(("gap_variation", "must be from 0.05 to 20".into()));
        }
        if !(0.0..=1.0).contains(&self.daily_swing) {
            return Err(("daily_swing", "must be from 0 to 1".into()));
        }
        Ok(())
    }

    /// Rate at a moment, relative to the mean.
    fn daily_factor(&self, now: SimTime) -> f64 {
        let phase = (now.seconds() - self.daily_peak.seconds()) / Span::DAY.seconds();
        1.0 + self.daily_swing * libm::cos(std::f64::consts::TAU * phase)
    }
}

/// The starts of one workload's sessions, with their keys.
#[derive(Clone, Debug)]
pub struct Starts {
    law: Arrivals,
    end: SimTime,
    keys: SessionKeys,
    now: SimTime,
    index: u64,
}

impl Starts {
    /// Starts before `end`; each session's gap is drawn with its own key.
    pub fn new(law: &Arrivals, end: SimTime, keys: SessionKeys) -> Self {
        Self { law: law.clone(), end, keys, now: SimTime::ZERO, index: 0 }
    }

    fn gap(&self, draws: Draws) -> Span {
        let mean = 1.0 / self.law.rate.0;
        let factor = match self.law.process {
            Process::Fixed => unreachable!("fixed arrivals draw no gaps"),
            Process::Poisson => draws.exponential(Purpose::Arrival, 0),
            Process::Gamma => {
                draws.gamma(Purpose::Arrival, 1.0 / (self.law.gap_variation * self.law.gap_variation))
            }
            Process::Daily => return self.daily_gap(draws),
        };
        Span::from_seconds_f64(mean * factor)
    }

    /// Thinning (Lewis and Shedler 1979): candidates at the peak rate, kept in proportion to the rate then.
    fn daily_gap(&self, draws: Draws) -> Span {
        let peak = 1.0 + self.law.daily_swing;
        let mean = 1.0 / (self.law.rate.0 * peak);
        let mut candidate = self.now;
        for attempt in 0.. {
            let gap = Span::from_seconds_f64(mean * draws.exponential(Purpose::Arrival, 2 * attempt));
            candidate = candidate + gap;
            let kept = self.law.daily_factor(candidate) / peak;
            if candidate >= self.end || draws.uniform(Purpose::Arrival, 2 * attempt + 1) < kept {
                break;
            }
        }
        candidate.since(self.now)
    }
}

impl Iterator for Starts {
    type Item = (SimTime, SessionKey);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.keys.next_key();
        self.now = match self.law.process {
            Process::Fixed => SimTime::ZERO + Span::from_seconds_f64(1.0 / self.law.rate.0).times(self.index),
            _ => self.now + self.gap(key.turn(0)),
        };
        self.index += 1;
        (self.now < self.end).then_some((self.now, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    fn starts(process: Process, days: u64) -> Vec<f64> {
        let law = Arrivals {
            process,
            rate: "6/min".parse().unwrap(),
            gap_variation: 3.0,
            daily_swing: 0.8,
            daily_peak: afternoon(),
        };
        let end = SimTime::ZERO + Span::DAY.times(days);
        Starts::new(&law, end, Seed::new(1, 0).session_keys(0)).map(|(at, _)| at.seconds()).collect()
    }

    #[test]
    fn every_process_keeps_its_mean_rate() {
        for (process, tolerance) in [
            (Process::Fixed, 0.0001),
            (Process::Poisson, 0.02),
            (Process::Gamma, 0.06),
            (Process::Daily, 0.02),
        ] {
            let rate = starts(process, 3).len() as f64 / (3.0 * 8_640.0);
            assert!((rate - 1.0).abs() < tolerance, "{process:?}: {rate}");
        }
    }

    #[test]
    fn gamma_gaps_have_their_variation_and_daily_traffic_its_peak() {
        let times = starts(Process::Gamma, 20);
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 3.0).abs() < 0.15);
        let by_hour = |hour: u64| {
            starts(Process::Daily, 10).iter().filter(|at| (**at as u64 / 3_600) % 24 == hour).count() as f64
                / 3_600.0
        };
        assert!((by_hour(15) - 1.8).abs() < 0.1 && (by_hour(3) - 0.2).abs() < 0.05);
    }
}
