//! How long a provider takes to answer, as a distribution: for all answers by the settings, or for some by a script.
//!
//! Pure: the random number is an argument, so that the same seed gives the same delays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How long an answer is held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Delay {
    /// Always so many milliseconds.
    FixedMs(u64),
    /// Between these two, in milliseconds, each as likely as the other.
    UniformMs([u64; 2]),
    /// So many of a hundred answers take at most so many milliseconds: `{"50": 20, "90": 80, "99.9": 900}`. Between two
    /// of them the delay grows evenly, from 0 before the first; nothing takes longer than the last.
    Percentiles(BTreeMap<String, u64>),
}

impl Delay {
    /// What is wrong with it.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        match self {
            Self::FixedMs(_) => None,
            Self::UniformMs([least, most]) => {
                (least > most).then_some("delay: uniformMs must have the smaller number first")
            }
            Self::Percentiles(_) => match self.points() {
                Some(points) if !points.is_empty() && points.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1) => None,
                _ => Some("delay: percentiles must be numbers from 0 to 100, and delays must not shrink"),
            },
        }
    }

    /// The percentiles as numbers, smallest first; `None` if one is no percentage.
    fn points(&self) -> Option<Vec<(f64, u64)>> {
        let Self::Percentiles(percentiles) = self else { return Some(Vec::new()) };
        let mut points = Vec::with_capacity(percentiles.len());
        for (percent, ms) in percentiles {
            let percent: f64 = percent.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
            points.push((percent, *ms));
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Some(points)
    }

    /// One delay in milliseconds; `roll` is any number.
    pub(crate) fn sample(&self, roll: u64) -> u64 {
        match self {
            Self::FixedMs(ms) => *ms,
            Self::UniformMs([least, most]) => {
                let span = most.saturating_sub(*least).saturating_add(1);
                least.saturating_add(roll % span)
            }
            Self::Percentiles(_) => between(&self.points().unwrap_or_default(), percentage(roll)),
        }
    }
}

/// A number as a percentage from 0 up to, never reaching, 100.
fn percentage(roll: u64) -> f64 {
    let thousandths = u32::try_from(roll % 100_000).unwrap_or(0);
    f64::from(thousandths) / 1000.0
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "milliseconds of a delay are few and positive; casts saturate"
)]
fn between(points: &[(f64, u64)], percent: f64) -> u64 {
    let mut before = (0.0, 0);
    for point in points {
        if percent < point.0 {
            let share = (percent - before.0) / (point.0 - before.0);
            return before.1 + ((point.1 - before.1) as f64 * share) as u64;
        }
        before = *point;
    }
    before.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay(json: serde_json::Value) -> Delay {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn delays_keep_to_their_distribution() {
        let rolls = || (0..1_000).map(crate::random::mix);
        assert!(rolls().all(|roll| delay(serde_json::json!({"fixedMs": 7})).sample(roll) == 7));
        let uniform = delay(serde_json::json!({"uniformMs": [5, 9]}));
        assert!((5..=9).all(|ms| rolls().any(|roll| uniform.sample(roll) == ms)));
        assert!(rolls().all(|roll| (5..=9).contains(&uniform.sample(roll))));

        let skewed = delay(serde_json::json!({"percentiles": {"50": 10, "90": 100, "99.5": 1000}}));
        assert_eq!(skewed.problem(), None);
        let below = |limit: u64| rolls().filter(|roll| skewed.sample(*roll) <= limit).count();
        assert!((450..=550).contains(&below(10)), "{}", below(10));
        assert!((860..=940).contains(&below(100)), "{}", below(100));
        assert_eq!(below(1000), 1_000);
    }

    #[test]
    fn delays_that_mean_nothing_are_refused() {
        for bad in [
            serde_json::json!({"uniformMs": [9, 5]}),
            serde_json::json!({"percentiles": {}}),
            serde_json::json!({"percentiles": {"x": 5}}),
            serde_json::json!({"percentiles": {"101": 5}}),
            serde_json::json!({"percentiles": {"50": 9, "90": 5}}),
        ] {
            assert!(delay(bad.clone()).problem().is_some(), "{bad}");
        }
    }
}
