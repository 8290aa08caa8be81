//! Reads what the bench needs from Prometheus' text format: one histogram, summed over labels and workers, and counters.

use std::collections::BTreeMap;

/// Cumulative counts by upper bound, in seconds; the bound of the last one is infinite.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// The histogram `name`, summed over all its label sets and all `texts`.
    pub(super) fn read(texts: &[String], name: &str) -> Self {
        let mut buckets: BTreeMap<String, f64> = BTreeMap::new();
        for (labels, value) in samples(texts, &format!("{name}_bucket")) {
            if let Some(bound) = label(labels, "le") {
                *buckets.entry(bound.to_owned()).or_default() += value;
            }
        }
        let mut sorted: Vec<(f64, f64)> = buckets.iter().filter_map(|(bound, n)| Some((seconds(bound)?, *n))).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self(sorted)
    }

    /// The bounds of the bucket in which this share of all values ends: above the first, at most the second. `None`
    /// without values.
    pub(super) fn quantile(&self, share: f64) -> Option<(f64, f64)> {
        let all = self.0.last()?.1;
        let at = self.0.iter().position(|(_, count)| *count >= all * share).filter(|_| all > 0.0)?;
        let above = if at == 0 { 0.0 } else { self.0[at - 1].0 };
        Some((above, self.0[at].0))
    }
}

/// The sum of a counter over all label sets that `wanted` keeps and all `texts`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and not negative")]
pub(super) fn sum(texts: &[String], name: &str, wanted: impl Fn(&str) -> bool) -> u64 {
    samples(texts, name).filter(|(labels, _)| wanted(labels)).map(|(_, value)| value as u64).sum()
}

fn samples<'a>(texts: &'a [String], name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    texts.iter().flat_map(|text| text.lines()).filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.trim().parse().ok()?))
    })
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    Some(rest.split_once('"')?.0)
}

fn seconds(bound: &str) -> Option<f64> {
    if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP t x\n# TYPE t histogram\n\
        t_bucket{lane=\"high\",le=\"0.1\"} 1\nt_bucket{lane=\"high\",le=\"2.5\"} 1\nt_bucket{lane=\"high\",le=\"+Inf\"} 1\n\
        t_bucket{lane=\"low\",le=\"0.1\"} 0\nt_bucket{lane=\"low\",le=\"2.5\"} 2\nt_bucket{lane=\"low\",le=\"+Inf\"} 3\n\
        t_sum 9\nt_count 4\nn{a=\"x\"} 5\nn{a=\"y\"} 7\nnn 100\n";

    #[test]
    fn a_histogram_is_summed_over_labels_and_workers() {
        let two = Histogram::read(&[TEXT.to_owned(), TEXT.to_owned()], "t");
        assert_eq!(two, Histogram(vec![(0.1, 2.0), (2.5, 6.0), (f64::INFINITY, 8.0)]));
    }

    #[test]
    fn a_quantile_is_told_as_the_bucket_it_is_in() {
        let histogram = Histogram::read(&[TEXT.to_owned()], "t");
        assert_eq!(histogram.quantile(0.25), Some((0.0, 0.1)));
        assert_eq!(histogram.quantile(0.5), Some((0.1, 2.5)));
        assert_eq!(histogram.quantile(0.99), Some((2.5, f64::INFINITY)));
        assert_eq!(Histogram::read(&[TEXT.to_owned()], "other").quantile(0.5), None);
    }

    #[test]
    fn a_counter_is_summed_over_the_labels_asked_for() {
        let texts = [TEXT.to_owned()];
        assert_eq!(sum(&texts, "n", |_| true), 12);
        assert_eq!(sum(&texts, "n", |labels| !labels.contains("a=\"x\"")), 7);
    }
}
