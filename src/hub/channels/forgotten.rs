//! Former channels: how far each channel was evicted when it left the table. So a resume gets a `gap` if
//! and only if events were lost.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use crate::base::heap::shared_text_bytes;
use crate::base::id::Sequence;
use crate::base::queue::Queue;
use crate::record::targets::is_channel;

/// The former channels, bounded in number.
#[derive(Debug)]
pub(in crate::hub) struct Forgotten {
    by_name: BTreeMap<Arc<str>, Sequence>,
    /// Their names, in the order in which they left the table.
    order: Queue<Arc<str>>,
    len_max: usize,
    /// The bytes held, by its own estimate.
    bytes: usize,
    /// A channel that is neither in the table nor remembered here may have lost events up to this place.
    through: Sequence,
}

impl Forgotten {
    /// Creates a list that remembers up to `len_max` former channels.
    pub(in crate::hub) fn new(len_max: usize) -> Forgotten {
        Forgotten {
            by_name: BTreeMap::new(),
            order: Queue::default(),
            len_max,
            bytes: 0,
            through: Sequence::START,
        }
    }

    /// Returns the last event that a channel of this name may have lost.
    pub(in crate::hub) fn evicted_through(&self, name: &str) -> Sequence {
        self.by_name.get(name).copied().unwrap_or(self.through)
    }

    /// Looks at up to `names_max` former names that begin with `prefix` and come after `after`. Returns
    /// the last event that any of these channels may have lost, and the last name it looked at if there
    /// may be more names.
    pub(super) fn evicted_through_of(
        &self,
        prefix: &str,
        after: Option<&str>,
        names_max: usize,
    ) -> (Sequence, Option<Arc<str>>) {
        let (mut through, mut looked_at) = (self.through, 0);
        for (name, &of_name) in beginning_with(&self.by_name, prefix, after) {
            looked_at += 1;
            // An empty prefix also matches the names of users, but their losses do not concern a
            // pattern.
            if is_channel(name) {
                through = through.max(of_name);
            }
            if looked_at == names_max {
                return (through, Some(Arc::clone(name)));
            }
        }
        (through, None)
    }

    /// Returns false only if no former channel that `counts` accepts, and whose name begins with
    /// `prefix`, has lost an event after `place`. Returns true without looking further if more than
    /// `names_max` names begin with `prefix`.
    pub(in crate::hub) fn may_have_lost(
        &self,
        prefix: &str,
        place: Sequence,
        names_max: usize,
        counts: impl Fn(&str) -> bool,
    ) -> bool {
        let mut names = beginning_with(&self.by_name, prefix, None);
        let has_lost =
            |(name, &through): (&Arc<str>, &Sequence)| through > place && is_channel(name) && counts(name);
        self.through > place || names.by_ref().take(names_max).any(has_lost) || names.next().is_some()
    }

    /// Remembers how far a channel was evicted, when it leaves the table.
    pub(super) fn remember(&mut self, name: &str, evicted_through: Sequence) {
        if let Some(through) = self.by_name.get_mut(name) {
            // Updated even if `self.through` is higher: a resume is answered from the name's own entry.
            *through = evicted_through;
        } else if evicted_through > self.through {
            let name: Arc<str> = name.into();
            self.bytes += former_bytes(&name);
            self.by_name.insert(Arc::clone(&name), evicted_through);
            self.order.push_back(name);
        }
        if self.order.len() > self.len_max {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest former channel. From then on it counts as having lost events, like every
    /// channel that is not remembered. Returns false if there is none.
    pub(in crate::hub) fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.order.pop_front() else { return false };
        self.bytes -= former_bytes(&oldest);
        if let Some(through) = self.by_name.remove(&oldest) {
            self.through = self.through.max(through);
        }
        true
    }

    /// The bytes held.
    pub(in crate::hub) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The cost of a former channel in bytes: its name, its entry and a B-tree's free room, and its place in
/// the order of names, which may have room for twice as many.
fn former_bytes(name: &str) -> usize {
    shared_text_bytes(name.len()) + size_of::<(Arc<str>, Sequence)>() * 3 / 2 + size_of::<Arc<str>>() * 2
}

/// The entries whose names begin with `prefix` and come after `after`.
pub(in crate::hub) fn beginning_with<'m, K: Ord + Borrow<str>, T>(
    map: &'m BTreeMap<K, T>,
    prefix: &str,
    after: Option<&str>,
) -> impl Iterator<Item = (&'m K, &'m T)> {
    let from = map.range::<str, _>((after.map_or(Included(prefix), Excluded), Unbounded));
    from.take_while(move |(name, _)| (*name).borrow().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::targets::user_target;

    #[test]
    fn losses_of_channels_that_are_forgotten_count_for_every_unknown_channel() {
        let mut forgotten = Forgotten::new(1);
        assert_eq!(forgotten.evicted_through("a"), Sequence::START);
        forgotten.remember("a", Sequence(5));
        assert_eq!(forgotten.evicted_through("b"), Sequence::START, "it never had an event");
        forgotten.remember("b", Sequence(8));
        assert_eq!(forgotten.evicted_through("a"), Sequence(5), "a was forgotten, so 5 is all that is known");
        assert_eq!(forgotten.evicted_through("b"), Sequence(8));
        assert_eq!(forgotten.evicted_through_of("b", None, 10), (Sequence(8), None));
        assert_eq!(forgotten.evicted_through_of("c", None, 10), (Sequence(5), None));
    }

    #[test]
    fn channels_that_are_forgotten_hold_no_bytes() {
        let mut forgotten = Forgotten::new(10);
        for n in 0..1000 {
            forgotten.remember(&format!("channel {n}"), Sequence(n + 1));
        }
        let full = forgotten.bytes();
        assert!((10 * 60..10 * 200).contains(&full), "{full} bytes for ten names");
        assert_eq!((0..20).filter(|_| forgotten.forget_oldest()).count(), 10);
        assert_eq!((forgotten.bytes(), forgotten.evicted_through("channel 999")), (0, Sequence(1000)));
    }

    #[test]
    fn a_loss_of_a_user_is_no_loss_of_a_pattern() {
        let mut forgotten = Forgotten::new(10);
        forgotten.remember(&user_target("ann"), Sequence(8));
        forgotten.remember("a", Sequence(5));
        let lost = |prefix, after, names_max| {
            let (through, last) = forgotten.evicted_through_of(prefix, after, names_max);
            (through.0, last.as_deref().map(str::to_owned))
        };
        assert_eq!([lost("", None, 9), lost("b", None, 9)], [(5, None), (0, None)]);
        // One name at a time.
        let ann = user_target("ann");
        assert_eq!(lost("", None, 1), (0, Some(ann.clone())));
        assert_eq!(lost("", Some(&ann), 1), (5, Some("a".to_owned())));
        assert_eq!(lost("", Some("a"), 1), (0, None));
    }
}
