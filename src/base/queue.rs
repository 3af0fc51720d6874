//! A queue that no call moves as a whole, for millions of values, with its values also by index.
//!
//! Values lie in parts of a bounded length. A short queue is one part. The parts of a longer one are the
//! leaves of a tree of bounded degree, and all are at the same depth. So a call looks at a logarithmic
//! number of places, and moves no more values than a part has, and no more parts than a node of the tree
//! has.

use std::collections::VecDeque;
use std::mem;
use std::ops::{Index, IndexMut, Range};

use crate::base::heap::{block_bytes, small_block_bytes};
use crate::base::search::partition_point_near;

/// The capacity that an empty queue keeps.
const ROOM_KEPT: usize = 64;

/// The least room that a part makes when it is full.
const ROOM_MIN: usize = 4;

/// The most children of a branch, as a power of two.
const CHILDREN_LOG2: u32 = 8;

/// Values in the order of arrival, in parts of 2^`PART_LOG2`. The only part of a short queue has room
/// for twice as many.
#[derive(Debug)]
pub struct Queue<T, const PART_LOG2: u32 = 9> {
    root: Node<T, PART_LOG2>,
}

/// A tree of values.
#[derive(Debug)]
enum Node<T, const PART_LOG2: u32> {
    Part(VecDeque<T>),
    Branch(Box<Branch<T, PART_LOG2>>),
}

/// Trees of the same depth.
#[derive(Debug)]
struct Branch<T, const PART_LOG2: u32> {
    /// At least one.
    children: VecDeque<Child<T, PART_LOG2>>,
    /// The place of the first value. Places count up, so that removing the first value leaves all other
    /// places as they are.
    begin: usize,
    /// The number of values of a full child, as a power of two.
    child_log2: u32,
    /// The bytes that the children hold on the heap.
    bytes: usize,
}

#[derive(Debug)]
struct Child<T, const PART_LOG2: u32> {
    /// The place behind its last value.
    end: usize,
    node: Node<T, PART_LOG2>,
}

impl<T, const PART_LOG2: u32> Default for Queue<T, PART_LOG2> {
    fn default() -> Queue<T, PART_LOG2> {
        Queue { root: Node::Part(VecDeque::new()) }
    }
}

impl<T, const PART_LOG2: u32> Queue<T, PART_LOG2> {
    /// An empty queue with room for `count` values, which are few.
    #[must_use]
    pub fn with_room_for(count: usize) -> Self {
        Queue { root: Node::Part(VecDeque::with_capacity(count)) }
    }

    /// The number of values.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.root.len()
    }

    /// Returns true if and only if there is no value.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes held on the heap, without those that the values hold.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> usize {
        self.root.bytes()
    }

    /// Appends a value.
    pub fn push_back(&mut self, value: T) {
        self.push_back_within(value, usize::MAX);
    }

    /// Appends a value. `len_max` is about the greatest length expected, and bounds the room made at
    /// once.
    #[inline]
    pub fn push_back_within(&mut self, value: T, len_max: usize) {
        match &mut self.root {
            Node::Part(part) if part.len() < part.capacity() && part.len() < 2 << PART_LOG2 => {
                part.push_back(value);
            }
            root @ (Node::Part(_) | Node::Branch(_)) => push_to_full(root, value, len_max),
        }
    }

    /// Removes and returns the first value.
    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        // Most queues are asked far more often than they have a value.
        if self.is_empty() { None } else { self.pop_first() }
    }

    fn pop_first(&mut self) -> Option<T> {
        let Node::Part(part) = &mut self.root else { return self.remove(0) };
        let value = part.pop_front();
        give_back_room(part);
        value
    }

    /// Removes and returns the value at an index.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        let value = self.root.remove(index)?;
        while let Node::Branch(branch) = &mut self.root
            && branch.children.len() == 1
            && let Some(only) = branch.children.pop_front()
        {
            self.root = only.node;
        }
        Some(value)
    }

    /// The value at an index, counted from the first.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        match &self.root {
            Node::Part(part) => part.get(index),
            Node::Branch(branch) => branch.get(index),
        }
    }

    /// The same, mutably.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match &mut self.root {
            Node::Part(part) => part.get_mut(index),
            Node::Branch(branch) => branch.get_mut(index),
        }
    }

    /// The values from an index on that lie together: at least one, if there is one.
    #[must_use]
    pub fn together_from(&self, index: usize) -> &[T] {
        let (mut node, mut index) = (&self.root, index);
        loop {
            match node {
                Node::Part(part) => {
                    let (first, second) = part.as_slices();
                    return match index.checked_sub(first.len()) {
                        None => &first[index..],
                        Some(index) => second.get(index..).unwrap_or_default(),
                    };
                }
                Node::Branch(branch) => {
                    let (child, within) = branch.place(index);
                    let Some(child) = branch.children.get(child) else { return &[] };
                    (node, index) = (&child.node, within);
                }
            }
        }
    }

    /// The first value.
    #[must_use]
    #[inline]
    pub fn front(&self) -> Option<&T> {
        self.get(0)
    }

    /// The last value.
    #[must_use]
    #[inline]
    pub fn back(&self) -> Option<&T> {
        match &self.root {
            Node::Part(part) => part.back(),
            Node::Branch(branch) => branch.get(self.len() - 1),
        }
    }

    /// The same, mutably.
    #[must_use]
    #[inline]
    pub fn back_mut(&mut self) -> Option<&mut T> {
        match &mut self.root {
            Node::Part(part) => part.back_mut(),
            Node::Branch(branch) => branch.get_mut(branch.end() - branch.begin - 1),
        }
    }

    /// The values of a range of indexes. Those beyond the last value are left out.
    pub fn range(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = &T> {
        (range.start..range.end.min(self.len())).filter_map(|index| self.get(index))
    }

    /// The values from an index on.
    #[inline]
    pub fn from(&self, index: usize) -> impl Iterator<Item = &T> {
        (index..).map_while(|index| self.get(index))
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.from(0)
    }

    /// The number of first values that satisfy `predicate`. No value behind them may satisfy it.
    #[must_use]
    pub fn partition_point(&self, predicate: impl Fn(&T) -> bool) -> usize {
        let len = self.len();
        partition_point_near(len, len / 2, |index| self.get(index).is_some_and(&predicate))
    }
}

impl<T, const PART_LOG2: u32> Index<usize> for Queue<T, PART_LOG2> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        self.get(index).expect("the index is below the length")
    }
}

impl<T, const PART_LOG2: u32> IndexMut<usize> for Queue<T, PART_LOG2> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        self.get_mut(index).expect("the index is below the length")
    }
}

impl<T, const PART_LOG2: u32> Node<T, PART_LOG2> {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Node::Part(part) => part.len(),
            Node::Branch(branch) => branch.end() - branch.begin,
        }
    }

    #[inline]
    fn bytes(&self) -> usize {
        match self {
            Node::Part(part) => small_block_bytes(part.capacity() * size_of::<T>()),
            Node::Branch(branch) => branch.bytes(),
        }
    }

    /// Appends a value, or returns it in another tree of the same depth if this one is full.
    fn push(&mut self, value: T) -> Option<Node<T, PART_LOG2>> {
        match self {
            Node::Part(part) if part.len() < 1 << PART_LOG2 => push_to(part, value, 1 << PART_LOG2),
            Node::Part(_) => {
                let mut part = VecDeque::with_capacity(1 << PART_LOG2.saturating_sub(3));
                push_to(&mut part, value, 1 << PART_LOG2);
                return Some(Node::Part(part));
            }
            Node::Branch(branch) => return branch.push(value).map(|other| Node::Branch(Box::new(other))),
        }
        None
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        match self {
            Node::Part(part) => {
                let value = part.remove(index);
                give_back_room(part);
                value
            }
            Node::Branch(branch) => branch.remove(index),
        }
    }
}

impl<T, const PART_LOG2: u32> Branch<T, PART_LOG2> {
    /// Adjacent parts of this many values or fewer are joined.
    const SHORT: usize = 1 << (PART_LOG2 - 2);

    /// A branch with its first child.
    fn of(node: Node<T, PART_LOG2>, child_log2: u32) -> Branch<T, PART_LOG2> {
        let mut branch = Branch { children: VecDeque::new(), begin: 0, child_log2, bytes: 0 };
        branch.add(node);
        branch
    }

    fn add(&mut self, node: Node<T, PART_LOG2>) {
        self.bytes += node.bytes();
        let end = self.end() + node.len();
        push_to(&mut self.children, Child { end, node }, 1 << CHILDREN_LOG2);
    }

    /// The place behind the last value.
    #[inline]
    fn end(&self) -> usize {
        self.children.back().map_or(self.begin, |last| last.end)
    }

    fn bytes(&self) -> usize {
        let children = self.children.capacity() * size_of::<Child<T, PART_LOG2>>();
        self.bytes + block_bytes(size_of::<Self>()) + small_block_bytes(children)
    }

    /// The child with the value at an index, and the value's index there.
    #[inline]
    fn place(&self, index: usize) -> (usize, usize) {
        let place = self.begin + index;
        let first_end = self.children.front().map_or(0, |first| first.end);
        let Some(behind) = place.checked_sub(first_end) else { return (0, index) };
        // Children between the first and the last are mostly full.
        let guess = 1 + (behind >> self.child_log2);
        let child = partition_point_near(self.children.len(), guess, |at| self.children[at].end <= place);
        (child, place - self.children[child - 1].end)
    }

    fn get(&self, index: usize) -> Option<&T> {
        let mut branch = self;
        let mut index = index;
        loop {
            let (child, within) = branch.place(index);
            match &branch.children.get(child)?.node {
                Node::Part(part) => return part.get(within),
                Node::Branch(next) => (branch, index) = (next, within),
            }
        }
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let (child, index) = self.place(index);
        match &mut self.children.get_mut(child)?.node {
            Node::Part(part) => part.get_mut(index),
            Node::Branch(branch) => branch.get_mut(index),
        }
    }

    /// Appends a value, or returns it in another branch if this one is full.
    fn push(&mut self, value: T) -> Option<Branch<T, PART_LOG2>> {
        let last = self.children.back_mut()?;
        if let Node::Part(part) = &mut last.node
            && part.len() < part.capacity().min(1 << PART_LOG2)
        {
            part.push_back(value); // Nothing but the last place changes.
            last.end += 1;
            return None;
        }
        let before = last.node.bytes();
        let Some(node) = last.node.push(value) else {
            last.end += 1;
            self.bytes = self.bytes + last.node.bytes() - before;
            return None;
        };
        if self.children.len() < 1 << CHILDREN_LOG2 {
            self.add(node);
            return None;
        }
        Some(Branch::of(node, self.child_log2))
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        if index == 0
            && let Some(Child { node: Node::Part(part), .. }) = self.children.front_mut()
            && part.len() > (part.capacity() / 2).max(Self::SHORT)
        {
            self.begin += 1; // Nothing else changes.
            return part.pop_front();
        }
        let (at, index) = self.place(index);
        let child = self.children.get_mut(at)?;
        let before = child.node.bytes();
        let value = child.node.remove(index)?;
        self.bytes = self.bytes + child.node.bytes() - before;
        // The places of the fewer values change.
        if at < self.children.len() / 2 {
            self.begin += 1;
            self.children.range_mut(..at).for_each(|child| child.end += 1);
        } else {
            self.children.range_mut(at..).for_each(|child| child.end -= 1);
        }
        self.remove_if_empty(at);
        self.join(at);
        self.join(at + 1);
        Some(value)
    }

    fn remove_if_empty(&mut self, at: usize) {
        if self.children.get(at).is_some_and(|child| child.node.len() == 0)
            && let Some(child) = self.children.remove(at)
        {
            self.bytes -= child.node.bytes();
        }
    }

    /// Joins a part with the one before it if both are short.
    fn join(&mut self, at: usize) {
        let Some(before) = at.checked_sub(1) else { return };
        let is_short = |child: &Child<T, PART_LOG2>| match &child.node {
            Node::Part(part) => part.len() <= Self::SHORT,
            Node::Branch(_) => false, // Hardly any memory is saved.
        };
        if !self.children.range(before..).take(2).all(is_short) {
            return;
        }
        let Some(Child { end, node: Node::Part(mut short) }) = self.children.remove(at) else { return };
        if let Some(Child { end: end_before, node: Node::Part(part) }) = self.children.get_mut(before) {
            let bytes = |part: &VecDeque<T>| small_block_bytes(part.capacity() * size_of::<T>());
            let bytes_before = bytes(part) + bytes(&short);
            part.reserve_exact(short.len());
            part.append(&mut short);
            *end_before = end;
            self.bytes = self.bytes + bytes(part) - bytes_before;
        }
    }
}

/// Appends a value to a queue whose only part is full, or that is longer than one part.
#[cold]
fn push_to_full<T, const PART_LOG2: u32>(root: &mut Node<T, PART_LOG2>, value: T, len_max: usize) {
    if let Node::Part(part) = root
        && part.len() < 2 << PART_LOG2
    {
        return push_to(part, value, len_max.min(2 << PART_LOG2));
    }
    let Some(other) = root.push(value) else { return };
    let child_log2 = match root {
        Node::Part(_) => PART_LOG2,
        Node::Branch(branch) => branch.child_log2 + CHILDREN_LOG2,
    };
    let first = mem::replace(root, Node::Part(VecDeque::new()));
    let mut branch = Branch::of(first, child_log2);
    branch.add(other);
    *root = Node::Branch(Box::new(branch));
}

/// Appends a value. The room grows by a quarter: room for twice as many would be a good part of what
/// small values cost.
#[inline]
fn push_to<T>(values: &mut VecDeque<T>, value: T, len_max: usize) {
    let len = values.len();
    if len == values.capacity() {
        let room = (len / 4).clamp(ROOM_MIN, len_max.saturating_sub(len).max(ROOM_MIN));
        values.reserve_exact(room);
    }
    values.push_back(value);
}

/// Gives back the room of a part that has become much shorter: large bursts are rare.
#[inline]
fn give_back_room<T>(part: &mut VecDeque<T>) {
    let (len, capacity) = (part.len(), part.capacity());
    if len < capacity / 2 && capacity > ROOM_KEPT {
        part.shrink_to(len + len / 4);
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
