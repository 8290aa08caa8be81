//! Which delivery tags of one channel are delivered and not yet settled, and how a batch of them is acked.
//!
//! Stands between [`Consumer::next`](crate::Consumer::next), which adds tags, and [`Queue::ack`](crate::Queue::ack), which
//! takes them out. Pure: it never talks to a broker. Its rules, each from a measurement against RabbitMQ 3.10.8:
//! - An ack whose tag is not outstanding closes the channel with 406 and redelivers everything: so a tag leaves once.
//! - That holds for the tag of a `multiple` ack too: so `multiple` is only put on a tag that is itself being settled.
//! - A `multiple` ack settles every smaller tag: so it only covers a prefix of which all is being settled.
//! - One `multiple` ack instead of many single ones doubles what a worker can take per second.

use std::collections::BTreeSet;

/// One settlement to send to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settlement {
    /// The delivery tag.
    pub(crate) tag: u64,
    /// Whether all smaller tags are settled with it.
    pub(crate) multiple: bool,
}

/// The tags of one channel that were delivered and are not settled. Its size is bounded by the channel's prefetch.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    tags: BTreeSet<u64>,
}

impl Outstanding {
    /// A delivery arrived.
    pub(crate) fn delivered(&mut self, tag: u64) {
        self.tags.insert(tag);
    }

    /// Takes `tags` out, and says how to settle them: the longest prefix of what is outstanding at once, the rest singly.
    /// Tags that are not outstanding are left out.
    pub(crate) fn settle(&mut self, tags: impl IntoIterator<Item = u64>) -> Vec<Settlement> {
        let batch: BTreeSet<u64> = tags.into_iter().filter(|tag| self.tags.contains(tag)).collect();
        let prefix = self.tags.iter().zip(&batch).take_while(|(outstanding, settled)| outstanding == settled).count();
        for tag in &batch {
            self.tags.remove(tag);
        }

        let mut settlements = Vec::with_capacity(batch.len() - prefix + 1);
        if prefix > 0 {
            let last = batch.iter().nth(prefix - 1).expect("the prefix is part of the batch");
            settlements.push(Settlement { tag: *last, multiple: prefix > 1 });
        }
        settlements.extend(batch.iter().skip(prefix).map(|&tag| Settlement { tag, multiple: false }));
        settlements
    }

    /// How many are delivered and not settled.
    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(delivered: &[u64], batch: &[u64], expected: &[(u64, bool)]) {
        let mut outstanding = Outstanding::default();
        for &tag in delivered {
            outstanding.delivered(tag);
        }
        let settlements: Vec<_> =
            outstanding.settle(batch.iter().copied()).into_iter().map(|s| (s.tag, s.multiple)).collect();
        assert_eq!(settlements, expected, "delivered {delivered:?}, batch {batch:?}");
    }

    #[test]
    fn the_longest_prefix_is_acked_at_once_and_the_rest_singly() {
        check(&[], &[], &[]);
        check(&[], &[7], &[]);
        check(&[1], &[1], &[(1, false)]);
        check(&[1, 2, 3], &[1, 2, 3], &[(3, true)]);
        check(&[1, 2, 3], &[3, 1, 2], &[(3, true)]);
        check(&[1, 2, 3, 4], &[1, 2, 4], &[(2, true), (4, false)]);
        check(&[1, 2, 3, 4], &[2, 4], &[(2, false), (4, false)]);
        check(&[5, 9], &[1, 5, 9], &[(9, true)]);
    }

    /// The broker's side: what it holds unacked, and whether it would close the channel.
    #[derive(Default)]
    struct Broker {
        unacked: BTreeSet<u64>,
    }

    impl Broker {
        fn receive(&mut self, settlement: Settlement) -> BTreeSet<u64> {
            assert!(self.unacked.contains(&settlement.tag), "406 unknown delivery tag {}", settlement.tag);
            let gone: BTreeSet<u64> = if settlement.multiple {
                self.unacked.range(..=settlement.tag).copied().collect()
            } else {
                [settlement.tag].into()
            };
            self.unacked.retain(|tag| !gone.contains(tag));
            gone
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Deliver(u8),
        Settle(Vec<u64>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1u8..6).prop_map(Step::Deliver),
            prop::collection::vec(0u64..60, 0..20).prop_map(Step::Settle),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        #[test]
        fn exactly_what_was_settled_is_acked_and_never_a_tag_twice(steps in steps()) {
            let (mut outstanding, mut broker, mut next) = (Outstanding::default(), Broker::default(), 1);
            for step in steps {
                match step {
                    Step::Deliver(count) => for _ in 0..count {
                        broker.unacked.insert(next);
                        outstanding.delivered(next);
                        next += 1;
                    },
                    Step::Settle(batch) => {
                        let wanted: BTreeSet<u64> = batch.iter().copied().filter(|t| broker.unacked.contains(t)).collect();
                        let mut gone = BTreeSet::new();
                        for settlement in outstanding.settle(batch) {
                            gone.extend(broker.receive(settlement));
                        }
                        prop_assert_eq!(gone, wanted);
                    }
                }
                prop_assert_eq!(&outstanding.tags, &broker.unacked);
                prop_assert_eq!(outstanding.len(), broker.unacked.len());
            }
        }
    }
}
