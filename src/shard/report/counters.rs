//! The counters of a shard: plain integers that only its own thread changes, so that counting costs an
//! addition. Other threads read snapshots ([`super::board`]).

use std::time::Duration;

use crate::conn::CloseReason;
use crate::frame::notice::GapReason;
use crate::http::Status;

/// Totals of one shard since the server began, and its current state.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections that are open.
    pub connections: u64,
    /// Streams that are open.
    pub streams: u64,
    /// Open streams that read the history.
    pub streams_catching_up: u64,
    /// Connections whose publish waits for shards that are behind.
    pub publishers_paused: u64,
    /// Entries of the timer wheel.
    pub timers: u64,

    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were dropped without an answer, because too many were open.
    pub dropped: u64,
    /// Failures to accept.
    pub accept_failures: u64,
    /// Connections that were closed, by [`CloseReason::ALL`].
    pub closes: [u64; CloseReason::ALL.len()],
    /// Connections that were closed by a panic.
    pub closes_by_panic: u64,
    /// Restarts of the shard after a panic.
    pub restarts: u64,

    /// Streams that were begun.
    pub streams_begun: u64,
    /// Streams that were refused, by [`StreamRefusal::ALL`].
    pub streams_refused: [u64; StreamRefusal::ALL.len()],
    /// Streams that began with events from the history: they resumed, or asked for a replay.
    pub replays: u64,
    /// Live streams that turned to the history because their outbox was full.
    pub falls_behind: u64,
    /// Events that streams read from the history.
    pub history_reads: u64,
    /// Gaps that streams were sent, by [`GapReason::ALL`].
    pub gaps: [u64; GapReason::ALL.len()],

    /// Bytes that the kernel took.
    pub sent_bytes: u64,
    /// Sends of answers that the kernel took bytes of.
    pub answer_sends: u64,
    /// Sends to streams that the kernel took bytes of, by the number of events that they completed.
    pub frames_per_send: FramesPerSend,

    /// Publishes that waited for shards that were behind.
    pub publish_pauses: u64,
    /// Requests and envelopes that were duplicates under an idempotency key, and were not published
    /// again.
    pub publish_duplicates: u64,
    /// Publishes that were answered with an error.
    pub publishes_refused: Vec<(Status, u64)>,

    /// Times from taking events until all their streams were sent to.
    pub fan_outs: Durations,
    /// Times of turns: events and requests that come meanwhile wait this long.
    pub turns: Durations,
}

impl Counters {
    /// Events that were written whole to streams.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.frames_per_send.sum
    }

    /// Sends that the kernel took bytes of.
    #[must_use]
    pub fn sends(&self) -> u64 {
        self.answer_sends + self.frames_per_send.count()
    }

    /// Counts a send. `events` is `None` for a send that is not a stream's.
    #[inline]
    pub(in crate::shard) fn note_sent(&mut self, bytes: usize, events: Option<u32>) {
        if bytes == 0 {
            return;
        }
        match events {
            Some(events) => self.note_sent_events(bytes, events),
            None => {
                self.sent_bytes += bytes as u64;
                self.answer_sends += 1;
            }
        }
    }

    /// Counts a send to a stream. `bytes` is not 0.
    #[inline]
    pub(in crate::shard) fn note_sent_events(&mut self, bytes: usize, events: u32) {
        self.sent_bytes += bytes as u64;
        self.frames_per_send.note(events);
    }

    pub(in crate::shard) fn note_close(&mut self, reason: CloseReason) {
        self.closes[reason as usize] += 1;
    }

    pub(in crate::shard) fn note_gap(&mut self, reason: GapReason) {
        self.gaps[reason as usize] += 1;
    }

    pub(in crate::shard) fn note_fall_behind(&mut self) {
        self.falls_behind += 1;
    }

    pub(in crate::shard) fn note_stream_refused(&mut self, refusal: StreamRefusal) {
        self.streams_refused[refusal as usize] += 1;
    }

    /// Counts a restart, and the connections that the panic closed.
    pub(in crate::shard) fn note_restart(&mut self) {
        self.restarts += 1;
        self.closes_by_panic += self.connections;
        self.connections = 0;
        self.streams = 0;
        self.streams_catching_up = 0;
        self.publishers_paused = 0;
        self.timers = 0;
    }

    /// Adds the counters of another shard.
    pub fn add(&mut self, other: &Counters) {
        let Counters {
            connections,
            streams,
            streams_catching_up,
            publishers_paused,
            timers,
            accepted,
            dropped,
            accept_failures,
            closes,
            closes_by_panic,
            restarts,
            streams_begun,
            streams_refused,
            replays,
            falls_behind,
            history_reads,
            gaps,
            sent_bytes,
            answer_sends,
            frames_per_send,
            publish_pauses,
            publish_duplicates,
            publishes_refused,
            fan_outs,
            turns,
        } = other;
        self.connections += connections;
        self.streams += streams;
        self.streams_catching_up += streams_catching_up;
        self.publishers_paused += publishers_paused;
        self.timers += timers;
        self.accepted += accepted;
        self.dropped += dropped;
        self.accept_failures += accept_failures;
        add_each(&mut self.closes, closes);
        self.closes_by_panic += closes_by_panic;
        self.restarts += restarts;
        self.streams_begun += streams_begun;
        add_each(&mut self.streams_refused, streams_refused);
        self.replays += replays;
        self.falls_behind += falls_behind;
        self.history_reads += history_reads;
        add_each(&mut self.gaps, gaps);
        self.sent_bytes += sent_bytes;
        self.answer_sends += answer_sends;
        self.frames_per_send.sum += frames_per_send.sum;
        add_each(&mut self.frames_per_send.buckets, &frames_per_send.buckets);
        self.publish_pauses += publish_pauses;
        self.publish_duplicates += publish_duplicates;
        for &(status, count) in publishes_refused {
            match self.publishes_refused.binary_search_by_key(&status, |&(known, _)| known) {
                Ok(index) => self.publishes_refused[index].1 += count,
                Err(index) => self.publishes_refused.insert(index, (status, count)),
            }
        }
        self.fan_outs.add(fan_outs);
        self.turns.add(turns);
    }
}

fn add_each(sums: &mut [u64], counts: &[u64]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

/// Why a stream was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRefusal {
    /// The server has as many connections as it takes.
    Connections,
    /// The server has as many channels as it keeps.
    Channels,
    /// The server drains.
    Draining,
    /// The log is not open yet.
    Starting,
}

impl StreamRefusal {
    /// Every reason, in the order of declaration.
    pub const ALL: [StreamRefusal; 4] = [
        StreamRefusal::Connections,
        StreamRefusal::Channels,
        StreamRefusal::Draining,
        StreamRefusal::Starting,
    ];

    /// The reason's label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StreamRefusal::Connections => "connections",
            StreamRefusal::Channels => "channels",
            StreamRefusal::Draining => "draining",
            StreamRefusal::Starting => "starting",
        }
    }
}

/// A histogram of sends by the number of events that they completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramesPerSend {
    /// Events of all sends.
    pub sum: u64,
    /// Sends by number of events: up to each of [`FramesPerSend::BOUNDS`], and last the sends beyond all
    /// of them.
    pub buckets: [u64; FramesPerSend::BOUNDS.len() + 1],
}

impl FramesPerSend {
    /// The most events of each bucket but the last: powers of four, so that counting bits finds a
    /// bucket.
    pub const BOUNDS: [u32; 5] = [1, 4, 16, 64, 256];

    /// The number of sends.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    #[inline]
    fn note(&mut self, events: u32) {
        self.sum += u64::from(events);
        if events <= 1 {
            self.buckets[0] += 1; // The usual case on a server that is not busy.
            return;
        }
        let bits = u32::BITS - (events - 1).leading_zeros();
        let bucket = (bits as usize).div_ceil(2).min(Self::BOUNDS.len());
        self.buckets[bucket] += 1;
    }
}

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Their sum in nanoseconds.
    pub sum_ns: u64,
    /// Durations up to each of [`Durations::BOUNDS`], and last the longer ones.
    pub buckets: [u64; Durations::BOUNDS.len() + 1],
}

impl Durations {
    /// The longest duration of each bucket but the last.
    pub const BOUNDS: [Duration; 7] = [
        Duration::from_micros(100),
        Duration::from_micros(500),
        Duration::from_micros(2500),
        Duration::from_millis(10),
        Duration::from_millis(50),
        Duration::from_millis(250),
        Duration::from_secs(1),
    ];

    /// The number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(in crate::shard) fn note(&mut self, duration: Duration) {
        self.sum_ns += u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[Self::BOUNDS.iter().take_while(|&&bound| duration > bound).count()] += 1;
    }

    fn add(&mut self, other: &Durations) {
        self.sum_ns += other.sum_ns;
        add_each(&mut self.buckets, &other.buckets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for (events, bucket) in [
            (0, 0),
            (1, 0),
            (2, 1),
            (4, 1),
            (5, 2),
            (16, 2),
            (17, 3),
            (64, 3),
            (65, 4),
            (256, 4),
            (257, 5),
            (u32::MAX, 5),
        ] {
            let mut sends = FramesPerSend::default();
            sends.note(events);
            assert_eq!(sends.buckets.iter().position(|&count| count == 1), Some(bucket), "{events}");
            assert_eq!(sends.sum, u64::from(events));
        }
    }

    #[test]
    fn a_duration_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let mut durations = Durations::default();
        for ns in [0, 100_000, 100_001, 1_000_000_000, 1_000_000_001] {
            durations.note(Duration::from_nanos(ns));
        }
        assert_eq!(durations.buckets, [2, 1, 0, 0, 0, 0, 1, 1]);
        assert_eq!((durations.count(), durations.sum_ns), (5, 2_000_200_002));
    }

    #[test]
    fn a_send_of_nothing_is_none() {
        let mut counters = Counters::default();
        counters.note_sent(0, Some(0));
        assert_eq!((counters.sends(), counters.frames_per_send), (0, FramesPerSend::default()));
        counters.note_sent(10, None);
        counters.note_sent(20, Some(3));
        assert_eq!((counters.sends(), counters.sent_bytes, counters.deliveries()), (2, 30, 3));
    }

    #[test]
    fn sums_have_every_status_once() {
        let mut sum = Counters {
            publishes_refused: vec![(Status::BAD_REQUEST, 1), (Status::SERVICE_UNAVAILABLE, 2)],
            ..Counters::default()
        };
        sum.add(&Counters {
            publishes_refused: vec![(Status::BAD_REQUEST, 3), (Status::CONTENT_TOO_LARGE, 4)],
            streams: 5,
            ..Counters::default()
        });
        let expected =
            [(Status::BAD_REQUEST, 4), (Status::CONTENT_TOO_LARGE, 4), (Status::SERVICE_UNAVAILABLE, 2)];
        assert_eq!((sum.publishes_refused.as_slice(), sum.streams), (expected.as_slice(), 5));
    }

    #[test]
    fn reasons_stand_in_their_places() {
        assert!(CloseReason::ALL.iter().enumerate().all(|(place, &reason)| reason as usize == place));
        assert!(GapReason::ALL.iter().enumerate().all(|(place, &reason)| reason as usize == place));
        assert!(StreamRefusal::ALL.iter().enumerate().all(|(place, &refusal)| refusal as usize == place));
    }
}
