//! How events are spread over channels: from an event's place in the run to its channel and number
//! there, and back.
//!
//! Channels take turns of `turn` events. So publisher and readers both know what was published to a
//! channel.

use serde::{Deserialize, Serialize};

/// The order of channels in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spread {
    channels: u64,
    turn: u64,
}

impl Spread {
    /// Both counts are at least 1.
    pub(super) fn new(channels: u32, turn: u32) -> Spread {
        Spread { channels: u64::from(channels), turn: u64::from(turn) }
    }

    /// The channel of the event at `place` of the run, and its number there.
    pub(super) fn event(self, place: u64) -> (u32, u64) {
        let (turn, within) = (place / self.turn, place % self.turn);
        let channel = u32::try_from(turn % self.channels).expect("channels are counted by a u32");
        (channel, turn / self.channels * self.turn + within)
    }

    /// The place in the run of a channel's event.
    pub(super) fn place(self, channel: u32, number: u64) -> u64 {
        let (round, within) = (number / self.turn, number % self.turn);
        (round * self.channels + u64::from(channel)) * self.turn + within
    }

    /// The number of events for `channel` among the run's first `events`.
    pub(super) fn published(self, channel: u32, events: u64) -> u64 {
        let round = self.channels * self.turn;
        let begun = (events % round).saturating_sub(u64::from(channel) * self.turn);
        events / round * self.turn + begun.min(self.turn)
    }

    /// How many of `batch` events may go into one request that begins at `place`. With turns of several
    /// events, a request stays within one turn.
    pub(super) fn left_of_turn(self, place: u64, batch: u32) -> u64 {
        let batch = u64::from(batch);
        if self.turn == 1 { batch } else { batch.min(self.turn - place % self.turn) }
    }

    /// The first place at or after `events` at which a round begins.
    pub(super) fn round_end(self, events: u64) -> u64 {
        events.next_multiple_of(self.channels * self.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_numbers_are_each_others_inverse_and_counts_agree() {
        for (channels, turn) in [(1, 1), (3, 1), (1, 4), (3, 4), (7, 2)] {
            let spread = Spread::new(channels, turn);
            let mut counts = vec![0; channels as usize];
            for place in 0..100 {
                let (channel, number) = spread.event(place);
                assert_eq!(spread.place(channel, number), place);
                assert_eq!(number, counts[channel as usize], "numbers have no holes");
                counts[channel as usize] += 1;
                for channel in 0..channels {
                    assert_eq!(spread.published(channel, place + 1), counts[channel as usize]);
                }
            }
        }
    }

    #[test]
    fn a_request_ends_with_the_turn_of_its_channel_where_that_is_of_several_events() {
        let left = |turn| [0, 1, 3].map(|place| Spread::new(2, turn).left_of_turn(place, 4));
        assert_eq!((left(1), left(4)), ([4, 4, 4], [4, 3, 1]));
    }

    #[test]
    fn a_round_ends_where_every_channel_had_its_turn() {
        let spread = Spread::new(3, 4);
        assert_eq!([0, 1, 12, 13].map(|events| spread.round_end(events)), [0, 12, 12, 24]);
    }
}
