//! Intervals over replications: Student t on the jackknife, paired differences under common random numbers.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::units::round_to;

/// An estimate with the half-width of its 95 % interval; the half-width is missing with one replication.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate from all replications.
    pub mean: f64,
    /// Half the width of the 95 % interval.
    pub half_width: Option<f64>,
}

impl Estimate {
    /// The same in another unit, or with the other sign.
    pub fn scaled(self, factor: f64) -> Self {
        Self { mean: self.mean * factor, half_width: self.half_width.map(|half| half * factor.abs()) }
    }
}

/// Quantile of Student's t with which a two-sided interval of that level is made.
pub fn t_quantile(level: f64, degrees: usize) -> f64 {
    let law = StudentsT::new(0.0, 1.0, degrees as f64).expect("degrees above zero");
    // Rounded: the crate's special functions are good to seven digits, and their last bits depend on the platform.
    round_to(law.inverse_cdf(0.5 + level / 2.0), 6)
}

/// The jackknife over `n` replications: `statistic(left_out)` is the statistic of all of them, or of all but one.
///
/// For a mean this is the usual t interval; for a ratio of sums it takes the variance of the denominator along
/// (Miller 1974). `None` if the statistic is missing for any set.
pub fn jackknife(n: usize, statistic: impl Fn(Option<usize>) -> Option<f64>) -> Option<Estimate> {
    let mean = statistic(None)?;
    if n < 2 {
        return Some(Estimate { mean, half_width: None });
    }
    let without: Vec<f64> = (0..n).map(|left_out| statistic(Some(left_out))).collect::<Option<_>>()?;
    let center = without.iter().sum::<f64>() / n as f64;
    let squares: f64 = without.iter().map(|value| (value - center) * (value - center)).sum();
    let error = (squares * (n as f64 - 1.0) / n as f64).sqrt();
    Some(Estimate { mean, half_width: Some(t_quantile(0.95, n - 1) * error) })
}

/// A sum over replications, of all of them or of all but one.
#[derive(Clone, Debug)]
pub struct Sum {
    values: Vec<f64>,
    total: f64,
}

impl Sum {
    /// The sum of values that may be missing; missing if any is.
    pub fn of(values: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let values: Vec<f64> = values.collect::<Option<_>>()?;
        Some(Self { total: values.iter().sum(), values })
    }

    /// The sum without one replication.
    fn without(&self, left_out: Option<usize>) -> f64 {
        self.total - left_out.map_or(0.0, |index| self.values[index])
    }

    /// The mean; missing if nothing is left.
    pub fn mean(&self, left_out: Option<usize>) -> Option<f64> {
        let count = self.values.len() - usize::from(left_out.is_some());
        (count > 0).then(|| self.without(left_out) / count as f64)
    }

    /// The ratio to another sum; missing if that is zero.
    pub fn ratio(&self, below: &Self, left_out: Option<usize>) -> Option<f64> {
        let divisor = below.without(left_out);
        (divisor != 0.0).then(|| self.without(left_out) / divisor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jackknife_of_a_mean_is_the_t_interval() {
        let sum = Sum::of([1.0, 2.0, 4.0, 7.0].map(Some).into_iter()).unwrap();
        let estimate = jackknife(4, |left_out| sum.mean(left_out)).unwrap();
        // Standard deviation sqrt(7), t(0.975, 3) = 3.182446.
        assert_eq!(estimate.mean, 3.5);
        assert!((estimate.half_width.unwrap() - 3.182_446 * (7.0f64 / 4.0).sqrt()).abs() < 1e-4);
        assert!((t_quantile(0.95, 9) - 2.262_157).abs() < 1e-6);
    }

    #[test]
    fn a_ratio_is_one_of_sums_and_missing_stays_missing() {
        let sum = |values: [f64; 2]| Sum::of(values.map(Some).into_iter()).unwrap();
        let (above, below) = (sum([1.0, 30.0]), sum([10.0, 100.0]));
        let estimate = jackknife(2, |left_out| above.ratio(&below, left_out)).unwrap();
        assert!((estimate.mean - 31.0 / 110.0).abs() < 1e-12 && estimate.half_width.unwrap() > 0.0);
        assert!(Sum::of([Some(1.0), None].into_iter()).is_none());
        let one = Sum::of([Some(1.0)].into_iter()).unwrap();
        assert_eq!(jackknife(1, |left_out| one.mean(left_out)).unwrap().half_width, None);
    }
}
