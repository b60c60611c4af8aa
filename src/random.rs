//! Planned randomness: the engine draws nothing, every draw has an address.
//!
//! ChaCha, keyed by the seed, gives every session its key. A draw is then a function of that key and of
//! (turn, attempt, purpose), so that a changed policy, a retry or one more session moves nobody else's draws and
//! variants of a scenario meet the same traffic. Logarithms and the like come from `libm`, whose bits do not
//! depend on the CPU.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::str::FromStr;

use crate::units::{MOST_TOKENS, Span, text_form};

/// What a draw is for. Each purpose is its own dimension, so that adding one moves no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Time to the next session of a workload.
    Arrival = 1,
    /// Which user a session belongs to.
    User,
    /// Tokens of the user's message.
    PromptTokens,
    /// Tokens of the answer.
    OutputTokens,
    /// How many turns a session has.
    Turns,
    /// Pause between an answer and the next turn.
    Think,
    /// Identity of text that only this session sends.
    Content,
    /// A randomly assigned bucket.
    Bucket,
    /// Choice among machines.
    Route,
    /// Lifetime of what a request writes or renews.
    Lifetime,
    /// Multiplicative noise of the time to first token.
    Noise,
    /// Whether, and where, a request is sent to explore.
    Explore,
    /// Calls of an agent's tool loop.
    Calls,
    /// Tokens of a tool's result.
    ToolTokens,
    /// Context that a session brings along.
    StartTokens,
    /// Whether a turn begins with an edit.
    Edit,
    /// Tokens of reasoning before an answer.
    Reasoning,
    /// Children of a node of a fork tree.
    Children,
    /// Whether a call fails.
    Failure,
    /// Which of several backends serves a request.
    Backend,
}

/// The root of one replication's randomness.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// Replication `replication` of a scenario whose base seed is `base`.
    pub fn new(base: u64, replication: u64) -> Self {
        Self(base.wrapping_add(replication))
    }

    /// The keys of one workload's sessions, in order; `stream` numbers the workload.
    pub fn session_keys(&self, stream: u64) -> SessionKeys {
        let mut generator = ChaCha8Rng::seed_from_u64(self.0);
        generator.set_stream(stream);
        SessionKeys(generator)
    }
}

/// An endless stream of session keys.
#[derive(Clone, Debug)]
pub struct SessionKeys(ChaCha8Rng);

impl SessionKeys {
    /// The next session's key.
    pub fn next_key(&mut self) -> SessionKey {
        SessionKey(self.0.next_u64())
    }
}

/// One session's source of draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey(pub u64);

impl SessionKey {
    /// The draws of one turn of this session.
    pub fn turn(self, turn: u32) -> Draws {
        Draws(mix(self.0 ^ mix(u64::from(turn) + 1)))
    }
}

/// Every draw of one turn, by purpose and attempt.
#[derive(Clone, Copy, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The draws of the `n`-th request of a series that is sent beside this turn's own: a retry, a repetition.
    pub fn beside(self, series: u32, n: u32) -> Self {
        Self(mix(self.0 ^ mix(u64::from(series) << 32 | u64::from(n))))
    }

    /// 64 random bits for the `attempt`-th draw of a purpose.
    pub fn bits(self, purpose: Purpose, attempt: u32) -> u64 {
        mix(self.0.wrapping_add(mix((purpose as u64) << 32 | u64::from(attempt))))
    }

    /// Uniform in the open interval (0, 1).
    pub fn uniform(self, purpose: Purpose, attempt: u32) -> f64 {
        ((self.bits(purpose, attempt) >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
    }

    /// Uniform in 0..n.
    pub fn below(self, purpose: Purpose, attempt: u32, n: u64) -> u64 {
        ((u128::from(self.bits(purpose, attempt)) * u128::from(n)) >> 64) as u64
    }

    /// Exponential with mean 1.
    pub fn exponential(self, purpose: Purpose, attempt: u32) -> f64 {
        -libm::log(self.uniform(purpose, attempt))
    }

    /// Standard normal (Box-Muller; uses attempts `2 x attempt` and the one after it).
    pub fn normal(self, purpose: Purpose, attempt: u32) -> f64 {
        let radius = (2.0 * self.exponential(purpose, 2 * attempt)).sqrt();
        let angle = std::f64::consts::TAU * self.uniform(purpose, 2 * attempt + 1);
        radius * libm::cos(angle)
    }

    /// Gamma with the given shape and mean 1, by Marsaglia and Tsang's squeeze method (ACM TOMS 26, 2000).
    pub fn gamma(self, purpose: Purpose, shape: f64) -> f64 {
        // Below shape 1 the method needs the boost Gamma(a) = Gamma(a + 1) x U^(1/a).
        let boosted = if shape < 1.0 { shape + 1.0 } else { shape };
        let d = boosted - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        for attempt in 0.. {
            let x = self.normal(purpose, 2 * attempt + 1);
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            let u = self.uniform(purpose, 4 * attempt + 4);
            if libm::log(u) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                let boost = if shape < 1.0 { libm::pow(self.uniform(purpose, 0), 1.0 / shape) } else { 1.0 };
                return d * v * boost / shape;
            }
        }
        unreachable!("the squeeze accepts more than nine draws in ten")
    }
}

/// Scrambles 64 bits: the finalizer of SplitMix64 (Steele, Lea, Flood 2014), a bijection.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A digest of a sequence that depends on its order: folds `value` into `digest`.
pub fn fold(digest: u64, value: u64) -> u64 {
    mix(digest.rotate_left(23) ^ mix(value))
}

/// A digest of bytes: for names that come from files (keys, sessions, workloads), and for files.
pub fn digest(bytes: impl AsRef<[u8]>) -> u64 {
    let bytes = bytes.as_ref();
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, fold)
}

/// A distribution of a positive quantity whose values are written as `V`: a [`Span`] or a token count.
///
/// Written as `"300"` or `"5m"` (constant), `"uniform(5m..10m)"`, `"exponential(30s)"` (its mean),
/// `"lognormal(30s, 0.8)"` (its median and sigma) or `"choice(5m: 1, 10m: 3)"` (values with weights).
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution<V> {
    /// Always the same value.
    Constant(V),
    /// Every value between two bounds alike, the bounds included.
    Uniform(V, V),
    /// Exponential with this mean.
    Exponential(V),
    /// Lognormal with this median and this standard deviation of the logarithm.
    Lognormal(V, f64),
    /// One of several values, by weight.
    Choice(Vec<(V, f64)>),
}

/// A quantity a [`Distribution`] can be over.
pub trait Quantity: Copy + FromStr<Err = String> + fmt::Display + PartialOrd {
    /// The value as an integer of its base unit.
    fn units(self) -> u64;
    /// The value of so many base units.
    fn from_units(units: u64) -> Self;
}

impl Quantity for Span {
    fn units(self) -> u64 {
        self.0
    }
    fn from_units(units: u64) -> Self {
        Self(units)
    }
}

/// A token count as the value of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u32);

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain: String = text.chars().filter(|c| *c != '_').collect();
        let count = plain.parse().ok().filter(|count| *count <= MOST_TOKENS);
        count.map(Self).ok_or_else(|| format!("`{text}` is not a whole number from 0 to {MOST_TOKENS}"))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Quantity for Count {
    fn units(self) -> u64 {
        u64::from(self.0)
    }
    fn from_units(units: u64) -> Self {
        // The tail of an unbounded distribution is cut where constants are refused.
        Self(u32::try_from(units).unwrap_or(u32::MAX).min(MOST_TOKENS))
    }
}

impl<V: Quantity> Distribution<V> {
    /// The value of one draw.
    #[inline(always)]
    pub fn draw(&self, draws: Draws, purpose: Purpose) -> V {
        match self {
            Self::Constant(value) => *value,
            Self::Uniform(low, high) => {
                let width = high.units() - low.units() + 1;
                V::from_units(low.units() + draws.below(purpose, 0, width))
            }
            Self::Choice(options) => choose(options, draws.uniform(purpose, 0)),
            Self::Exponential(mean) => scaled(*mean, draws.exponential(purpose, 0)),
            Self::Lognormal(median, sigma) => scaled(*median, libm::exp(sigma * draws.normal(purpose, 0))),
        }
    }

    /// The mean, in base units.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Constant(value) | Self::Exponential(value) => value.units() as f64,
            Self::Uniform(low, high) => (low.units() as f64 + high.units() as f64) / 2.0,
            Self::Lognormal(median, sigma) => median.units() as f64 * libm::exp(sigma * sigma / 2.0),
            Self::Choice(options) => {
                let total: f64 = options.iter().map(|(_, weight)| weight).sum();
                options.iter().map(|(value, weight)| value.units() as f64 * weight).sum::<f64>() / total
            }
        }
    }

    /// The least and the greatest possible value, in base units; `None` above if there is no bound.
    pub fn support(&self) -> (u64, Option<u64>) {
        match self {
            Self::Constant(value) => (value.units(), Some(value.units())),
            Self::Uniform(low, high) => (low.units(), Some(high.units())),
            Self::Exponential(_) | Self::Lognormal(..) => (0, None),
            Self::Choice(options) => {
                let units = || options.iter().map(|(value, _)| value.units());
                (units().min().unwrap_or(0), units().max())
            }
        }
    }
}

/// So many times a value, rounded.
fn scaled<V: Quantity>(value: V, factor: f64) -> V {
    V::from_units((value.units() as f64 * factor + 0.5) as u64)
}

/// The option on which a point of (0, 1) falls, each being as long as its weight.
fn choose<V: Quantity>(options: &[(V, f64)], point: f64) -> V {
    let total: f64 = options.iter().map(|(_, weight)| weight).sum();
    let mut left = point * total;
    for (value, weight) in options {
        left -= weight;
        if left <= 0.0 {
            return *value;
        }
    }
    options.last().expect("a choice has options").0
}

impl<V: Quantity> FromStr for Distribution<V> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('(') else {
            return text.parse().map(Self::Constant);
        };
        let inside =
            rest.strip_suffix(')').ok_or_else(|| format!("`{text}` lacks its closing parenthesis"))?;
        let pair = |mark: &str| {
            inside
                .split_once(mark)
                .ok_or_else(|| format!("`{text}` needs two values with `{mark}` between them"))
        };
        match name.trim() {
            "uniform" => {
                let (low, high) = pair("..")?;
                let (low, high): (V, V) = (low.trim().parse()?, high.trim().parse()?);
                if low > high {
                    return Err(format!("`{text}`: the lower bound is above the upper one"));
                }
                if high.units() == u64::MAX {
                    return Err(format!("`{text}`: a uniform distribution needs an upper bound"));
                }
                Ok(Self::Uniform(low, high))
            }
            "exponential" => Ok(Self::Exponential(inside.trim().parse()?)),
            "lognormal" => {
                let (median, sigma) = pair(",")?;
                Ok(Self::Lognormal(median.trim().parse()?, positive(sigma, text)?))
            }
            "choice" => {
                let option = |part: &str| {
                    let (value, weight) = part
                        .split_once(':')
                        .ok_or_else(|| format!("`{text}`: write each option as value: weight"))?;
                    Ok((value.trim().parse()?, positive(weight, text)?))
                };
                inside.split(',').map(option).collect::<Result<_, String>>().map(Self::Choice)
            }
            other => Err(format!(
                "`{other}` is no distribution: write a plain value, uniform(a..b), exponential(mean), lognormal(median, sigma) or choice(value: weight, ...)"
            )),
        }
    }
}

fn positive(text: &str, whole: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err(format!("`{whole}`: `{}` must be a number above zero", text.trim())),
    }
}

impl<V: Quantity> fmt::Display for Distribution<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(value) => value.fmt(f),
            Self::Uniform(low, high) => write!(f, "uniform({low}..{high})"),
            Self::Exponential(mean) => write!(f, "exponential({mean})"),
            Self::Lognormal(median, sigma) => write!(f, "lognormal({median}, {sigma})"),
            Self::Choice(options) => {
                let parts: Vec<_> =
                    options.iter().map(|(value, weight)| format!("{value}: {weight}")).collect();
                write!(f, "choice({})", parts.join(", "))
            }
        }
    }
}

/// A distribution of lengths of time.
pub type SpanDistribution = Distribution<Span>;
/// A distribution of token counts or other whole numbers.
pub type CountDistribution = Distribution<Count>;

text_form!(SpanDistribution, "time span or distribution", "\"5m\" or \"uniform(5m..10m)\"");

impl serde::Serialize for CountDistribution {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Constant(Count(value)) => serializer.serialize_u32(*value),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> serde::Deserialize<'de> for CountDistribution {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = CountDistribution;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a whole number or a distribution such as \"uniform(50..200)\"")
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
                value.to_string().parse().map(Distribution::Constant).map_err(E::custom)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for CountDistribution {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CountDistribution".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["integer", "string"], "format": "count or distribution" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(n: u32) -> impl Iterator<Item = Draws> {
        let mut keys = Seed::new(7, 0).session_keys(0);
        (0..n).map(move |_| keys.next_key().turn(0))
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
        sum / n
    }

    #[test]
    fn first_outputs_never_change() {
        // A golden sequence: every committed result depends on it.
        let mut keys = Seed::new(1, 0).session_keys(3);
        let (a, b) = (keys.next_key(), keys.next_key());
        assert_eq!((a.0, b.0), (FIRST_KEYS[0], FIRST_KEYS[1]));
        assert_eq!(a.turn(2).bits(Purpose::Think, 1), FIRST_KEYS[2]);
    }
    const FIRST_KEYS: [u64; 3] = [10481881765394875549, 12435132161185724354, 7316343501845554947];

    #[test]
    fn samples_have_the_moments_of_their_law() {
        let n = 200_000;
        let close = |value: f64, expected: f64, sd: f64| {
            assert!((value - expected).abs() < 4.0 * sd / f64::from(n).sqrt(), "{value} against {expected}");
        };
        close(mean(draws(n).map(|d| d.uniform(Purpose::Think, 0))), 0.5, 0.289);
        close(mean(draws(n).map(|d| d.exponential(Purpose::Think, 0))), 1.0, 1.0);
        close(mean(draws(n).map(|d| d.normal(Purpose::Think, 0))), 0.0, 1.0);
        close(mean(draws(n).map(|d| d.normal(Purpose::Think, 1) * d.normal(Purpose::Think, 1))), 1.0, 1.5);
        for shape in [0.3, 1.0, 4.0] {
            let values = || draws(n).map(move |d| d.gamma(Purpose::Arrival, shape));
            close(mean(values()), 1.0, (1.0 / shape).sqrt());
            close(mean(values().map(|x| (x - 1.0) * (x - 1.0))), 1.0 / shape, 12.0 / shape);
        }
    }

    #[test]
    fn distributions_read_print_and_stay_in_their_support() {
        for text in
            ["300s", "uniform(5m..10m)", "exponential(30s)", "lognormal(30s, 0.8)", "choice(5m: 1, 10m: 3)"]
        {
            let law: SpanDistribution = text.parse().unwrap();
            assert_eq!(law.to_string().parse::<SpanDistribution>().unwrap(), law);
            let (low, high) = law.support();
            for d in draws(1000) {
                let value = law.draw(d, Purpose::Lifetime).0;
                assert!(low <= value && high.is_none_or(|high| value <= high));
            }
        }
        let law: SpanDistribution = "choice(5m: 1, 10m: 3)".parse().unwrap();
        let average = mean(draws(100_000).map(|d| law.draw(d, Purpose::Lifetime).seconds()));
        assert!((average - law.mean() / 1e9).abs() < 3.0);
        for text in [
            "uniform(10m..5m)",
            "uniform(5m)",
            "gauss(1s)",
            "choice(5m)",
            "exponential(1s",
            "lognormal(1s, -1)",
        ] {
            assert!(text.parse::<SpanDistribution>().is_err(), "{text}");
        }
    }
}
