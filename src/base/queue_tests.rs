//! A queue in parts against a plain one, and what its calls move.

use super::*;
use crate::base::random::SplitMix64;

impl<T, const PART_LOG2: u32> Queue<T, PART_LOG2> {
    /// The most places that any part or branch has: no call moves more values, or more parts.
    pub(crate) fn longest_part(&self) -> usize {
        self.root.check()
    }
}

impl<T, const PART_LOG2: u32> Node<T, PART_LOG2> {
    /// Checks places and bytes, and returns the most places that any part or branch has.
    fn check(&self) -> usize {
        let Node::Branch(branch) = self else {
            let Node::Part(part) = self else { unreachable!("it is a part or a branch") };
            return part.capacity();
        };
        let (mut place, mut bytes, mut longest) = (branch.begin, 0, branch.children.capacity());
        for child in &branch.children {
            assert!(child.node.len() > 0 && child.end == place + child.node.len());
            (place, bytes) = (child.end, bytes + child.node.bytes());
            longest = longest.max(child.node.check());
        }
        assert_eq!((place, bytes), (branch.end(), branch.bytes));
        longest
    }
}

/// Parts of eight, so that few values have branches of branches.
type Small = Queue<u32, 3>;

#[test]
fn a_queue_is_what_a_plain_one_is() {
    let (mut random, mut queue, mut plain) = (SplitMix64::new(3), Small::default(), VecDeque::new());
    let mut most = 0;
    for step in 0..30_000_u32 {
        // The queue fills to several branches, and empties.
        match random.within(0..=9) {
            action if action < if step / 7500 % 2 == 0 { 8 } else { 1 } => {
                queue.push_back(step);
                plain.push_back(step);
            }
            9 if !plain.is_empty() => {
                let index = random.within(0..=plain.len() - 1);
                assert_eq!(queue.remove(index), plain.remove(index));
            }
            _ => assert_eq!(queue.pop_front(), plain.pop_front()),
        }
        most = most.max(queue.len());
        assert_eq!((queue.len(), queue.is_empty()), (plain.len(), plain.is_empty()));
        let index = random.within(0..=plain.len());
        assert_eq!(queue.get(index), plain.get(index));
        assert_eq!(queue.get_mut(index), plain.get_mut(index));
        let together = queue.together_from(index);
        assert_eq!(together.is_empty(), index == plain.len());
        assert!(together.iter().eq(plain.range(index..index + together.len())));
        assert_eq!((queue.front(), queue.back()), (plain.front(), plain.back()));
        assert_eq!(queue.back_mut(), plain.back_mut());
        let bound = plain.get(index).copied().unwrap_or(0);
        assert_eq!(
            queue.partition_point(|value| *value < bound),
            plain.partition_point(|value| *value < bound)
        );
        if step % 500 == 0 {
            let (from, to) = (plain.len() / 3, plain.len() / 2);
            assert!(queue.iter().eq(&plain) && queue.from(from).eq(plain.range(from..)));
            assert!(queue.range(from..to).rev().eq(plain.range(from..to).rev()));
            queue.root.check();
        }
    }
    assert!(most > 2 * (8 << CHILDREN_LOG2), "{most} values need no branches of branches");
    assert_eq!((queue.remove(plain.len()), queue.remove(usize::MAX / 2)), (None, None));
}

#[test]
fn no_part_is_longer_than_another_and_an_empty_queue_has_one() {
    let (mut queue, part) = (Queue::<u32>::default(), 1 << 9);
    (0..200_000).for_each(|value| queue.push_back(value));
    assert!(queue.longest_part() <= 2 * part, "{} places", queue.longest_part());
    assert!(queue.bytes() <= 200_000 * 5, "{} bytes", queue.bytes());
    while queue.pop_front().is_some() {}
    let Node::Part(only) = &queue.root else { panic!("it is short") };
    assert!(only.capacity() <= ROOM_KEPT);
}

/// Counts the values that lie elsewhere after a call.
#[test]
fn no_call_moves_more_than_a_part() {
    let (mut queue, mut random, part) = (Small::default(), SplitMix64::new(5), 8);
    let places = |queue: &Small| -> Vec<(u32, *const u32)> {
        queue.iter().map(|value| (*value, std::ptr::from_ref(value))).collect()
    };
    let mut moved_most = 0;
    for step in 0..12_000_u32 {
        let before = (step % 37 == 0).then(|| places(&queue));
        match random.within(0..=9) {
            8 if step > 3000 => assert!(queue.pop_front().is_some()),
            9 if step > 3000 => assert!(queue.remove(random.within(0..=queue.len() - 1)).is_some()),
            _ => queue.push_back(step),
        }
        let Some(before) = before else { continue };
        let after = places(&queue);
        let stays = before.iter().filter(|place| after.binary_search(place).is_ok()).count();
        moved_most = moved_most.max(before.len() - stays);
    }
    assert!(queue.len() > 5000 && (1..=2 * part).contains(&moved_most), "{moved_most} values moved");
}

/// Counts the bytes of queues of which every other value was removed, and then most.
#[test]
fn a_queue_that_shrinks_anywhere_gives_its_room_back() {
    let mut queue = Queue::<u32>::default();
    (0..100_000).for_each(|value| queue.push_back(value));
    (0..50_000).for_each(|index| assert!(queue.remove(index).is_some()));
    assert!(queue.iter().copied().eq((1..100_000).step_by(2)));
    assert!(queue.bytes() <= 50_000 * 4 * 5 / 2, "{} bytes", queue.bytes());
    for kept in 0..1000 {
        (0..49).for_each(|_| assert!(queue.remove(kept).is_some()));
    }
    assert!(queue.len() == 1000 && queue.bytes() <= 1000 * 4 * 6, "{} bytes", queue.bytes());
    queue.root.check();
}
