//! How plausible an observed vector is among simulated ones: a p-value by ranks, and a synthetic likelihood.
//!
//! * **p-value**: the observed vector is laid among the simulated ones, and of all of them the Mahalanobis distance to
//!   their common mean is taken. If it was made like the others, its rank is as likely as any other (the vectors are
//!   exchangeable), so that a test at 5 % rejects the truth in at most 5 % of cases, whatever the distribution of the
//!   vectors and however their covariance is estimated (this is conformal prediction: Vovk, Gammerman, Shafer 2005).
//! * **likelihood**: of the observed vector under a normal distribution with the simulated mean and covariance
//!   (synthetic likelihood: Wood 2010).
//!
//! * **far off**: of every vector, the observed one among them, the distance to the mean of the *others* is taken. The
//!   observed one is far off if its distance is [`FAR`] times the largest of the rest or more. With n simulations that
//!   befalls what was made like them in no more than 1 of n + 1 cases, again by exchangeability, and because of the
//!   factor in far fewer.
//!
//! All shrink the correlations towards zero, by d / (d + n) for d numbers and n simulations, and add to every variance
//! the square of a resolution, so that a number that never varies counts as known to that resolution and no better.

/// A squared distance that is so many times the largest of the others is hopeless: twice as far off as anything simulated.
pub const FAR: f64 = 4.0;

/// Simulated vectors beside the observed one.
#[derive(Clone, Debug)]
pub struct Cloud<'a> {
    /// The simulated vectors.
    pub simulated: &'a [Vec<f64>],
    /// The observed one.
    pub observed: &'a [f64],
    /// The resolution of each number.
    pub resolution: &'a [f64],
}

impl Cloud<'_> {
    /// Logarithm of the synthetic likelihood of the observed vector.
    pub fn log_likelihood(&self) -> f64 {
        let normal = Normal::of(self.simulated.iter().map(Vec::as_slice), self.resolution);
        let d = self.observed.len() as f64;
        -0.5 * (normal.distance(self.observed)
            + normal.log_determinant
            + d * libm::log(std::f64::consts::TAU))
    }

    /// Squared distances to the common mean: of every simulated vector, and last of the observed one.
    pub fn distances(&self) -> Vec<f64> {
        let all = || self.simulated.iter().map(Vec::as_slice).chain([self.observed]);
        let normal = Normal::of(all(), self.resolution);
        all().map(|vector| normal.distance(vector)).collect()
    }

    /// Squared distances to the mean of the others: of every simulated vector, and last of the observed one.
    pub fn distances_to_others(&self) -> Vec<f64> {
        let all = || self.simulated.iter().map(Vec::as_slice).chain([self.observed]);
        let to_others = |(left_out, vector): (usize, &[f64])| {
            let others = all().enumerate().filter(|(index, _)| *index != left_out).map(|(_, other)| other);
            Normal::of(others, self.resolution).distance(vector)
        };
        all().enumerate().map(to_others).collect()
    }
}

/// Whether the last of these distances to the others, which is the observed vector's, is hopelessly large.
pub fn is_far_off(distances: &[f64]) -> bool {
    let (observed, simulated) = distances.split_last().expect("the observed vector has a distance");
    // Where nothing varies, a resolution is the least that counts.
    *observed > FAR * simulated.iter().copied().fold(1.0, f64::max)
}

/// The share of distances (the last one is the observed vector's, and counts itself) that are as large as the last.
pub fn p_value(distances: &[f64]) -> f64 {
    let (observed, _) = distances.split_last().expect("the observed vector has a distance");
    // Equal vectors must count as equal, whatever their last bits.
    let as_large = distances.iter().filter(|distance| **distance >= observed - 1e-9 * observed.abs()).count();
    as_large as f64 / distances.len() as f64
}

/// A normal distribution, its covariance as standard deviations and the Cholesky factor of the correlations.
struct Normal {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    factor: Vec<Vec<f64>>,
    log_determinant: f64,
}

impl Normal {
    fn of<'a>(vectors: impl Iterator<Item = &'a [f64]> + Clone, resolution: &[f64]) -> Self {
        let d = resolution.len();
        let n = vectors.clone().count() as f64;
        let mut mean = vec![0.0; d];
        for vector in vectors.clone() {
            mean.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value / n);
        }
        let mut covariance = vec![vec![0.0; d]; d];
        let mut centred = vec![0.0; d];
        for vector in vectors {
            (0..d).for_each(|i| centred[i] = vector[i] - mean[i]);
            for i in 0..d {
                for j in 0..=i {
                    covariance[i][j] += centred[i] * centred[j] / (n - 1.0);
                }
            }
        }
        let deviation: Vec<f64> =
            (0..d).map(|i| (covariance[i][i] + resolution[i] * resolution[i]).sqrt()).collect();
        let kept = n / (n + d as f64);
        let correlation = |i: usize, j: usize| match i == j {
            true => 1.0,
            false => kept * covariance[i][j] / (deviation[i] * deviation[j]),
        };
        let factor = cholesky(d, correlation);
        let logs = (0..d).map(|i| libm::log(factor[i][i]) + libm::log(deviation[i]));
        let log_determinant = 2.0 * logs.sum::<f64>();
        Self { mean, deviation, factor, log_determinant }
    }

    /// The squared Mahalanobis distance.
    fn distance(&self, vector: &[f64]) -> f64 {
        let mut solved: Vec<f64> = Vec::with_capacity(vector.len());
        for (i, value) in vector.iter().enumerate() {
            let scaled = (value - self.mean[i]) / self.deviation[i];
            let before: f64 = self.factor[i].iter().zip(&solved).map(|(a, b)| a * b).sum();
            solved.push((scaled - before) / self.factor[i][i]);
        }
        solved.iter().map(|value| value * value).sum()
    }
}

/// The lower triangular root of a matrix. Shrunk correlations are positive definite: the floor is for rounding alone.
fn cholesky(d: usize, matrix: impl Fn(usize, usize) -> f64) -> Vec<Vec<f64>> {
    let mut factor: Vec<Vec<f64>> = vec![vec![0.0; d]; d];
    for i in 0..d {
        for j in 0..=i {
            let before: f64 = (0..j).map(|k| factor[i][k] * factor[j][k]).sum();
            let left = matrix(i, j) - before;
            factor[i][j] = if i == j { left.max(1e-12).sqrt() } else { left / factor[j][j] };
        }
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, SessionKey};

    /// Two correlated normal numbers, their sum and a constant.
    fn vector(index: u32) -> Vec<f64> {
        let draws = SessionKey(7).turn(index);
        let (a, b) = (draws.normal(Purpose::Noise, 0), draws.normal(Purpose::Noise, 1));
        vec![a, 0.6 * a + 0.8 * b, 1.6 * a + 0.8 * b, 5.0]
    }

    const RESOLUTION: [f64; 4] = [1e-3; 4];

    #[test]
    fn the_truth_is_rejected_as_often_as_it_should_be() {
        let rejected = (0..1_000).filter(|trial| {
            let simulated: Vec<_> = (0..60).map(|index| vector(1_000 * trial + index)).collect();
            let observed = vector(1_000 * trial + 999);
            let cloud = Cloud { simulated: &simulated, observed: &observed, resolution: &RESOLUTION };
            p_value(&cloud.distances()) <= 0.05
        });
        // 3 of 61 ranks: 4.9 %, give or take 0.7.
        let share = rejected.count();
        assert!((30..70).contains(&share), "{share}");
    }

    #[test]
    fn what_was_not_simulated_is_far_off_and_less_likely() {
        let simulated: Vec<_> = (0..100).map(vector).collect();
        let judged = |observed: &[f64]| {
            let cloud = Cloud { simulated: &simulated, observed, resolution: &RESOLUTION };
            (p_value(&cloud.distances()), cloud.log_likelihood())
        };
        let (p, near) = judged(&vector(500));
        assert!(p > 0.05);
        for far in [vec![5.0, 3.0, 8.0, 5.0], vec![0.0, 0.0, 0.0, 6.0], vec![0.0, 0.0, 3.0, 5.0]] {
            let (p, likelihood) = judged(&far);
            assert!(p < 0.02 && likelihood < near - 10.0, "{far:?}: {p} {likelihood} {near}");
        }
    }

    #[test]
    fn what_was_made_like_the_others_is_hardly_ever_far_off() {
        let far_off = |simulated: &[Vec<f64>], observed: &[f64]| {
            is_far_off(&Cloud { simulated, observed, resolution: &RESOLUTION }.distances_to_others())
        };
        let simulated = |trial: u32| (0..39).map(|index| vector(100 * trial + index)).collect::<Vec<_>>();
        let dropped = (0..1_000).filter(|trial| far_off(&simulated(*trial), &vector(100 * trial + 99)));
        assert_eq!(dropped.count(), 0);
        assert!(far_off(&simulated(0), &[9.0, 3.0, 12.0, 5.0]));
        // Not at all simulated, though no more than a resolution away.
        assert!(!far_off(&vec![vec![0.0; 4]; 39], &[RESOLUTION[0]; 4]));
        assert!(far_off(&vec![vec![0.0; 4]; 39], &[3.0 * RESOLUTION[0]; 4]));
    }

    #[test]
    fn equal_vectors_are_no_evidence_against() {
        let simulated = vec![vec![3.0, 1.0]; 20];
        let observed = [3.0, 1.0];
        let cloud = Cloud { simulated: &simulated, observed: &observed, resolution: &[0.3, 0.3] };
        assert_eq!(p_value(&cloud.distances()), 1.0);
        // A density, at the mean, of two normal distributions as wide as the resolution.
        let expected = -2.0 * libm::log(0.3) - libm::log(std::f64::consts::TAU);
        assert!((cloud.log_likelihood() - expected).abs() < 1e-9);
    }
}
