//! Streams that are given one more channel or pattern, or one less, wherever they are.

use downpour::base::id::Sequence;
use downpour::base::name::Selector;
use downpour::hub::{ChannelId, SubscribeError};

use crate::records::{is_named, selector_text};
use crate::retained::Step;
use crate::world::World;

impl World {
    /// Gives a stream one more channel or pattern, where it has not got it and the hub takes it.
    pub(crate) fn add(&mut self, index: usize, selector: usize) {
        if self.streams[index].selectors.contains(&selector) {
            return;
        }
        let shard = self.streams[index].shard;
        let name = Selector::parse(&selector_text(selector)).expect("it is a name");
        let result = self.hub.add(shard, &name);
        if self.enter(&[selector]).is_none() {
            let channels_max = self.options.channels_max;
            assert_eq!(result, Err(SubscribeError::TooManyChannels { channels_max }));
            return;
        }
        let added = result.expect("the channels are not too many");
        let (cursor, head) = (self.cursors[shard], self.head());
        assert_eq!((added.shard_cursor.0, added.at.0), (cursor, head));
        self.check_counts(&[selector], &[added.count], cursor);
        let mut stream = self.streams.remove(index);
        if stream.is_live {
            stream.meet(self, cursor);
            if head > cursor {
                stream.fall_behind(self, cursor); // What its shard has yet to take does not know that the stream has it.
            }
        }
        let last = stream.ids.len();
        stream.selectors.insert(last, selector);
        stream.had_from.insert(last, head);
        stream.ids.push(added.channel);
        stream.joins.push_back((selector, head));
        if stream.is_live {
            stream.join();
        } else {
            stream.cursor.stop_at(stream.joins.front().map(|join| Sequence(join.1)));
        }
        self.streams.insert(index, stream);
    }

    /// Takes one of the channels and patterns from a stream that has more than one.
    pub(crate) fn part(&mut self, index: usize, nth: usize) {
        let stream = &mut self.streams[index];
        let named: Vec<usize> =
            (0..stream.ids.len()).filter(|&index| is_named(stream.selectors[index])).collect();
        if named.len() < 2 {
            return;
        }
        let place = named[nth % named.len()];
        let (id, from) = (stream.ids.remove(place), stream.had_from.remove(place));
        let selector = stream.selectors.remove(place);
        let staying: Vec<ChannelId> = stream.ids.clone();
        if stream.has_yet_to_join(selector) {
            stream.joins.retain(|join| join.0 != selector);
        } else {
            stream.cursor.part(id);
            stream.reported.part(selector);
            stream.has_changed = true;
        }
        stream.cursor.stop_at(stream.joins.front().map(|join| Sequence(join.1)));
        let stream = &self.streams[index];
        let had = |channel, event: Sequence| {
            (if channel == id { from } else { stream.had_from(channel) }) < event.0
        };
        self.hub.remove(stream.shard, id, &staying, had);
        self.settle(Step::Keeps);
    }
}
