//! Tests of several parts of the hub together that need to see inside: pages, compaction, forgotten
//! channels.

use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::base::id::{EpochTag, EventId, Sequence};
use crate::base::name::Selector;
use crate::hub::reading::TakeLimits;
use crate::hub::reading::{Cursor, Gap, SLICE_FRAMES_MAX, SLICE_RUNS_MAX, Slice, SliceLimits};
use crate::hub::{RETENTION_BYTES_MIN, SEGMENT_BYTES_LEAST};
use crate::record::Events;
use crate::record::targets::{TARGET_ALL, user_target};
use crate::sse::event::Event;

pub(super) fn hub(events_max: usize, bytes_max: usize) -> Hub {
    let retention = Retention { events_max, bytes_max, age_max: None };
    let hub = Hub::new(HubOptions {
        retention,
        channels_max: 100_000,
        backlog: Backlog::default(),
        shards: 1,
        hold_steps: HOLD_STEPS,
    });
    hub.begin_epoch(EpochTag::from_bits(1), Sequence(1));
    hub
}

pub(super) fn id(number: u64) -> EventId {
    EventId { tag: EpochTag::from_bits(1), sequence: Sequence(number) }
}

pub(super) fn publish(hub: &Hub, events: impl IntoIterator<Item = (String, String)>) {
    let mut batch = Events::new();
    events.into_iter().for_each(|(channel, data)| batch.push(&[&channel], &Event::new(&data)));
    hub.apply(hub.head().next(), &batch, None);
}

/// Reads all retained events of a channel after a place: the gap, and the bytes.
pub(super) fn read(hub: &Hub, channel: &str, after: u64) -> (Option<Gap>, Vec<u8>) {
    let names = [Selector::parse(channel).unwrap()];
    let subscribed = hub.subscribe(0, &names, None, Begin::After(id(after))).unwrap();
    let Begun::After(mut cursor) = subscribed.begun else { panic!("the id is known") };
    let (mut gap, mut bytes, mut slice) = (None, Vec::new(), Slice::default());
    while !slice.is_live {
        let limits = SliceLimits { frames_max: 64, bytes_max: usize::MAX };
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        gap = gap.or(slice.gap);
        for run in &slice.runs {
            bytes.extend_from_slice(run.segment.bytes(run.from as usize, run.to as usize));
        }
    }
    hub.unsubscribe(0, [subscribed.channels[0]], |_, _| true);
    (gap, bytes)
}

pub(super) fn take_all(hub: &Hub) {
    let limits = TakeLimits { frames_max: u32::MAX, large_frames_max: u32::MAX, bytes_max: usize::MAX };
    hub.take(0, limits, &mut Vec::new());
}

fn pages_len(hub: &Hub) -> usize {
    hub.lock().history.pages().len()
}

#[test]
fn compaction_keeps_the_bytes_of_retained_events() {
    let hub = hub(4, usize::MAX);
    publish(&hub, (0..4).map(|n| ("quiet".to_owned(), format!("{n} {}", "q".repeat(n * 2000)))));
    let before = read(&hub, "quiet", 0);
    for _ in 0..100 {
        publish(&hub, [("busy".to_owned(), "b".repeat(4000))]);
    }
    let pages = pages_len(&hub);
    assert!(pages <= 4, "{pages} pages hold eight events");
    assert_eq!(read(&hub, "quiet", 0), before);
    assert_eq!(before.0, None);
}

#[test]
fn a_history_of_large_events_holds_little_beside_them() {
    let hub = hub(1000, usize::MAX);
    let events = 200;
    publish(&hub, (0..events).map(|_| ("large".to_owned(), "x".repeat(16_000))));
    let beside = hub.held_bytes() / events - 16_000;
    assert!(beside < 300, "{beside} bytes beside an event of 16 000");
}

#[test]
fn a_quiet_channels_events_survive_a_busy_channel_that_is_evicted_by_number() {
    let hub = hub(10, RETENTION_BYTES_MIN);
    publish(&hub, [("quiet".to_owned(), "still here".to_owned())]);
    let before = read(&hub, "quiet", 0);
    for n in 0..20_000 {
        publish(&hub, [("busy".to_owned(), format!("{n} {}", "b".repeat(1000)))]);
    }
    assert_eq!(read(&hub, "quiet", 0), before);
}

#[test]
fn a_quiet_channels_events_survive_batches_of_many_pages() {
    let hub = hub(10, 4 * RETENTION_BYTES_MIN);
    publish(&hub, [("quiet".to_owned(), "still here".to_owned())]);
    let before = read(&hub, "quiet", 0);
    for n in 0..50 {
        // Each batch has a mebibyte: many more pages than one call would compact if it did not count
        // what it begins.
        publish(&hub, (0..1000).map(|_| ("busy".to_owned(), format!("{n} {}", "b".repeat(1000)))));
    }
    assert_eq!(read(&hub, "quiet", 0), before);
    assert!(hub.held_bytes() < RETENTION_BYTES_MIN * 5 / 2, "{} bytes held", hub.held_bytes());
}

#[test]
fn pages_that_busy_channels_leave_sparse_are_merged() {
    const QUIET: usize = 1000;
    let hub = hub(10, 16 * RETENTION_BYTES_MIN);
    for n in 0..QUIET {
        publish(&hub, [(format!("quiet:{n}"), "still here".to_owned())]);
        publish(&hub, (0..17).map(|_| ("busy".to_owned(), "b".repeat(4000))));
    }
    let pages = pages_len(&hub);
    assert_eq!(hub.channels_len(), QUIET + 1);
    assert!(pages < 30, "{pages} pages hold a thousand small events");
    assert!((0..QUIET).all(|n| read(&hub, &format!("quiet:{n}"), 0).0.is_none()));
}

#[test]
fn a_forgotten_channel_that_comes_back_reports_a_gap() {
    let hub = hub(0, usize::MAX);
    publish(&hub, [("news".to_owned(), "1".to_owned()), ("other".to_owned(), "2".to_owned())]);
    assert_eq!(hub.channels_len(), 0, "nothing is retained");
    let (gap, bytes) = read(&hub, "news", 0);
    assert_eq!((gap, bytes.len()), (Some(Gap { missed: None, after: id(0) }), 0));
    assert_eq!(read(&hub, "news", 1).0, None, "it had nothing after that");
    assert_eq!(read(&hub, "other", 1).0, Some(Gap { missed: None, after: id(1) }));
    assert_eq!(read(&hub, "never", 0).0, None);
}

#[test]
fn a_channel_that_is_forgotten_twice_reports_its_loss_in_between() {
    let retention = Retention { events_max: 100, bytes_max: usize::MAX, age_max: None };
    let hub = Hub::new(HubOptions {
        retention,
        channels_max: 3,
        backlog: Backlog::default(),
        shards: 1,
        hold_steps: HOLD_STEPS,
    });
    hub.begin_epoch(EpochTag::from_bits(1), Sequence(1));
    let publish = |channel: &str| {
        publish_to(&hub, channel, "x");
        take_all(&hub);
    };
    let drop_whole = |channel: &str| assert_eq!(hub.drop_history(channel), Some(1), "{channel}");
    for channel in ["x", "n"] {
        publish(channel);
        drop_whole(channel);
    }
    publish("n"); // Event 3.
    for channel in ["x", "y", "z"] {
        publish(channel);
        drop_whole(channel);
    }
    // "x" has left the list by now. For names that are not in the list, nothing is known up to event 4.
    drop_whole("n");
    assert_eq!([1, 2].map(|after| read(&hub, "n", after).0.is_some()), [true, true], "event 3 is lost");
    assert_eq!(read(&hub, "n", 3).0, None, "it is known by its name that nothing else is");
    assert!(read(&hub, "other", 3).0.is_some(), "what is not known counts as lost");
}

#[test]
fn events_of_one_batch_to_one_channel_are_taken_and_read_as_one_run() {
    let hub = hub(100, usize::MAX);
    let names = [Selector::parse("a").unwrap()];
    let subscribed = hub.subscribe(0, &names, None, Begin::AtHead).unwrap();
    publish(&hub, (0..50).map(|n| ("a".to_owned(), format!("{n}"))));
    let mut runs = Vec::new();
    hub.take(
        0,
        TakeLimits { frames_max: u32::MAX, large_frames_max: u32::MAX, bytes_max: usize::MAX },
        &mut runs,
    );
    assert_eq!(runs.iter().map(|run| run.frames).collect::<Vec<_>>(), [50]);
    let (mut cursor, mut slice) = (Cursor::behind(Sequence(0), Some(0)), Slice::default());
    let limits = SliceLimits { frames_max: 64, bytes_max: usize::MAX };
    hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
    assert_eq!(slice.runs.iter().map(|run| run.frames).collect::<Vec<_>>(), [50]);
    assert_eq!((cursor.seen, slice.is_live), (Some(50), true));
}

#[test]
fn channels_that_go_with_their_events_make_room_at_once() {
    let bytes_max = 2 * RETENTION_BYTES_MIN;
    let hub = hub(10, bytes_max);
    publish(&hub, (0..20_000).map(|n| (format!("once:{n}"), "x".to_owned())));
    let held = hub.held_bytes();
    assert!(held <= bytes_max && held > bytes_max * 4 / 5, "{held} bytes are held of {bytes_max}");
}

/// The greatest values seen in a long run.
#[derive(Debug, Default)]
struct Life {
    held_bytes: usize,
    pages: usize,
    /// The bytes that compaction copied for one batch.
    copied_bytes: usize,
    copied_bytes_in_all: usize,
    frame_bytes_in_all: usize,
}

/// Publishes 200 000 events, in batches of 20, to the channels that `channel_of` names.
fn live_long(hub: &Hub, channel_of: impl Fn(u64) -> u64) -> Life {
    let (mut life, mut seen) = (Life::default(), HashSet::new());
    for first in (0..200_000_u64).step_by(20) {
        let mut batch = Events::new();
        for n in first..first + 20 {
            let data = format!("{n} {}", "d".repeat(usize::try_from(n % 200).unwrap()));
            batch.push(&[&format!("channel:{}", channel_of(n))], &Event::new(&data));
        }
        hub.apply(hub.head().next(), &batch, None);
        life.frame_bytes_in_all += batch.bytes();
        life.held_bytes = life.held_bytes.max(hub.held_bytes());
        let state = hub.lock();
        let pages = state.history.pages();
        life.pages = life.pages.max(pages.len());
        // Only compaction makes pages of an uncommon size.
        let places = pages.iter().filter_map(|page| Some((page.last(), page.place(page.entries.first()?))));
        let copies = places.filter(|(_, place)| place.segment.capacity() != SEGMENT_BYTES_LEAST);
        let new = copies.filter(|(last, place)| {
            seen.insert((*last, place.segment.capacity(), Arc::as_ptr(place.segment)))
        });
        let copied_bytes = new.map(|(_, place)| place.segment.capacity()).sum();
        life.copied_bytes = life.copied_bytes.max(copied_bytes);
        life.copied_bytes_in_all += copied_bytes;
    }
    life
}

/// One channel in a hundred of a thousand is quiet: it gets one event in 10 000, the others one in about 1000.
fn one_in_a_hundred_is_quiet(n: u64) -> u64 {
    if n % 1000 == 999 { n / 1000 % 10 } else { 10 + n % 990 }
}

/// Ten channels of a thousand get nine events in ten.
fn few_are_busy(n: u64) -> u64 {
    if n.is_multiple_of(10) { 10 + n / 10 % 990 } else { n % 10 }
}

#[test]
fn quiet_channels_keep_their_events_in_few_pages_at_the_cost_of_few_copies() {
    let bytes_max = 3 * RETENTION_BYTES_MIN;
    let hub = hub(10, bytes_max);
    let life = live_long(&hub, one_in_a_hundred_is_quiet);
    for quiet in 0..10 {
        let (_, bytes) = read(&hub, &format!("channel:{quiet}"), 0);
        assert_eq!(bytes.windows(6).filter(|bytes| bytes == b"data: ").count(), 10, "of channel {quiet}");
    }
    assert!(life.held_bytes < bytes_max, "{life:?}");
    assert!(life.pages < 40, "{life:?}");
    assert!(life.copied_bytes <= 2 * SEGMENT_BYTES_LEAST, "one batch makes little work: {life:?}");
    assert!(life.copied_bytes_in_all < life.frame_bytes_in_all / 2, "copies are rare: {life:?}");
}

#[test]
fn the_bound_of_bytes_holds_whichever_channels_are_busy() {
    for (events_max, channel_of) in [
        (10_000, one_in_a_hundred_is_quiet as fn(u64) -> u64),
        (10_000, few_are_busy),
        (100, few_are_busy),
        (20, few_are_busy),
    ] {
        let bytes_max = 2 * RETENTION_BYTES_MIN;
        let hub = hub(events_max, bytes_max);
        let life = live_long(&hub, channel_of);
        assert!(life.held_bytes < bytes_max * 5 / 4, "{life:?}");
        assert!(life.pages < 2 * bytes_max / SEGMENT_BYTES_LEAST, "{life:?}");
        assert!(life.copied_bytes <= 2 * SEGMENT_BYTES_LEAST, "one batch makes little work: {life:?}");
        assert!(life.copied_bytes_in_all < life.frame_bytes_in_all / 2, "copies are rare: {life:?}");
    }
}

/// Reads all that a stream of channel "a", perhaps of a user, gets after a place: its gaps' `missed`,
/// and its data.
pub(super) fn read_as(hub: &Hub, user: Option<&str>, after: u64) -> (Vec<Option<u64>>, Vec<String>) {
    read_from(hub, &["a"], user, Begin::After(id(after)))
}

/// Reads all that a stream gets from where it begins: its gaps' `missed`, and its data.
pub(super) fn read_from(
    hub: &Hub,
    channels: &[&str],
    user: Option<&str>,
    begin: Begin,
) -> (Vec<Option<u64>>, Vec<String>) {
    let names: Vec<_> = channels.iter().map(|name| Selector::parse(name).unwrap()).collect();
    let subscribed = hub.subscribe(0, &names, user, begin).unwrap();
    let Begun::After(mut cursor) = subscribed.begun else { panic!("it begins in the past") };
    let (mut missed, mut data, mut slice) = (Vec::new(), Vec::new(), Slice::default());
    while !slice.is_live {
        let limits = SliceLimits { frames_max: 3, bytes_max: usize::MAX };
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        missed.extend(slice.gap.map(|gap| gap.missed));
        for run in &slice.runs {
            let text =
                String::from_utf8_lossy(run.segment.bytes(run.from as usize, run.to as usize)).into_owned();
            data.extend(text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned));
        }
    }
    hub.unsubscribe(0, subscribed.channels.iter().copied(), |_, _| true);
    (missed, data)
}

/// Does all pending work of the hub.
pub(super) fn finish(hub: &Hub) {
    while hub.is_unfinished() {
        hub.tidy();
    }
}

pub(super) fn publish_to(hub: &Hub, target: &str, data: &str) -> Applied {
    let mut batch = Events::new();
    batch.push(&[target], &Event::new(data));
    let applied = hub.apply(hub.head().next(), &batch, Some(0));
    hub.take(
        0,
        TakeLimits { frames_max: 100, large_frames_max: 100, bytes_max: usize::MAX },
        &mut Vec::new(),
    );
    applied
}

#[test]
fn events_to_a_user_and_to_all_are_read_in_their_place() {
    let hub = hub(100, usize::MAX);
    for (target, data) in [
        ("a", "1"),
        (user_target("ann").as_str(), "2"),
        (TARGET_ALL, "3"),
        (user_target("bob").as_str(), "4"),
        ("b", "5"),
        ("a", "6"),
    ] {
        publish_to(&hub, target, data);
    }
    assert_eq!(read_as(&hub, None, 0), (vec![], ["1", "3", "6"].map(str::to_owned).to_vec()));
    assert_eq!(read_as(&hub, Some("ann"), 0), (vec![], ["1", "2", "3", "6"].map(str::to_owned).to_vec()));
    assert_eq!(read_as(&hub, Some("ann"), 2), (vec![], ["3", "6"].map(str::to_owned).to_vec()));
    assert_eq!(read_as(&hub, Some("eve"), 5), (vec![], vec!["6".to_owned()]));
}

#[test]
fn missed_events_to_a_user_and_to_all_are_counted_too() {
    let hub = hub(2, usize::MAX);
    publish_to(&hub, "a", "first");
    for n in 0..5 {
        publish_to(&hub, TARGET_ALL, &format!("all {n}"));
        publish_to(&hub, &user_target("ann"), &format!("ann {n}"));
    }
    let ann = ["all 3", "ann 3", "all 4", "ann 4"].map(str::to_owned).to_vec();
    // Nothing was lost yet where it began, so the number of lost events is exact.
    let names = [Selector::parse("a").unwrap()];
    let mut cursor = Cursor::behind(Sequence(1), Some(1));
    let subscribed = hub.subscribe(0, &names, Some("ann"), Begin::AtHead).unwrap();
    let mut slice = Slice::default();
    let limits = SliceLimits { frames_max: 64, bytes_max: usize::MAX };
    hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
    assert_eq!((slice.gap.map(|gap| gap.missed), slice.frames), (Some(Some(6)), 4));
    // A resume from there does not know how many events came before.
    assert_eq!(read_as(&hub, Some("ann"), 1), (vec![None], ann));
}

#[test]
fn users_and_all_have_receivers_and_are_no_channels() {
    let hub = hub(10, usize::MAX);
    let names = [Selector::parse("a").unwrap()];
    let _streams =
        [Some("ann"), Some("ann"), None].map(|user| hub.subscribe(0, &names, user, Begin::AtHead).unwrap());
    for (target, expected) in
        [(TARGET_ALL, 3), (user_target("ann").as_str(), 2), (user_target("bob").as_str(), 0)]
    {
        let Receivers::Exactly(receivers) = publish_to(&hub, target, "x").receivers else {
            panic!("one target")
        };
        assert_eq!(receivers, expected, "{target:?}");
    }
    assert_eq!(hub.channels_len(), 1);
}

#[test]
fn retained_events_are_replayed_all_or_the_last_ones_without_a_gap() {
    let hub = hub(3, usize::MAX);
    for n in 1..=5 {
        publish_to(&hub, "a", &format!("a{n}"));
        publish_to(&hub, "b", &format!("b{n}"));
        publish_to(&hub, TARGET_ALL, &format!("all{n}"));
    }
    let replay = |channels: &[&str], begin| {
        let (missed, data) = read_from(&hub, channels, None, begin);
        assert_eq!(missed, []);
        data.join(" ")
    };
    assert_eq!(replay(&["a"], Begin::AllRetained), "a3 all3 a4 all4 a5 all5");
    assert_eq!(replay(&["a", "b"], Begin::AllRetained), "a3 b3 all3 a4 b4 all4 a5 b5 all5");
    assert_eq!(replay(&["a"], Begin::LastRetained(1)), "a5 all5");
    assert_eq!(replay(&["a", "b"], Begin::LastRetained(3)), "b4 all4 a5 b5 all5");
    assert_eq!(replay(&["a"], Begin::LastRetained(100)), "a3 all3 a4 all4 a5 all5");
    assert_eq!(replay(&["a"], Begin::LastRetained(2)), "a4 all4 a5 all5");
    assert_eq!(replay(&["a", "b"], Begin::LastRetained(100)), "a3 b3 all3 a4 b4 all4 a5 b5 all5");
    assert_eq!(replay(&["a", "b"], Begin::LastRetained(0)), "");
    assert_eq!(replay(&["a"], Begin::LastRetained(0)), "");
    assert_eq!(replay(&["c"], Begin::LastRetained(5)), "");
}

#[test]
fn a_slice_has_a_bounded_number_of_references_and_more_frames_where_they_are_adjacent() {
    for (channels, frames) in [(1, SLICE_FRAMES_MAX), (2, u32::try_from(SLICE_RUNS_MAX).unwrap())] {
        let hub = hub(1000, usize::MAX);
        publish(&hub, (0..600).map(|n| (format!("c{}", n % channels), "x".to_owned())));
        take_all(&hub);
        let subscribed =
            hub.subscribe(0, &[Selector::parse("c0").unwrap()], None, Begin::After(id(0))).unwrap();
        let Begun::After(mut cursor) = subscribed.begun else { panic!("the id is known") };
        let mut slice = Slice::default();
        let limits = SliceLimits { frames_max: u32::MAX, bytes_max: usize::MAX };
        hub.read(0, &subscribed.channels, &mut cursor, limits, &mut slice);
        assert_eq!((slice.frames, slice.runs.len() <= SLICE_RUNS_MAX), (frames, true), "{channels} channels");
    }
}

#[test]
fn names_of_former_channels_are_counted_and_go_before_retained_events() {
    let hub = hub(1000, RETENTION_BYTES_MIN);
    (0..100).for_each(|n| drop(publish_to(&hub, "stays", &format!("{n}"))));
    let name = |n: usize| format!("{n:0200}");
    for n in 0..5000 {
        publish_to(&hub, &name(n), "x");
        hub.drop_history(&name(n));
        take_all(&hub);
    }
    assert!(hub.held_bytes() <= RETENTION_BYTES_MIN, "{} bytes are held", hub.held_bytes());
    let (missed, data) = read_from(&hub, &["stays"], None, Begin::After(id(0)));
    assert_eq!((missed, data.len()), (vec![], 100), "nothing of it had to go");
    (0..800).for_each(|_| drop(publish_to(&hub, "stays", &"x".repeat(1000))));
    let names_bytes = hub.lock().channels.forgotten.bytes();
    assert!(names_bytes <= RETENTION_BYTES_MIN / 8, "{names_bytes} bytes where there is no room");
    let state = hub.lock();
    let retained = state.channels.find("stays").map(|id| state.channels.get(id).retained.len());
    assert!(retained > Some(700), "{retained:?} events are retained");
}

#[test]
fn a_large_event_that_goes_from_among_others_takes_its_memory_with_it() {
    let hub = hub(1000, usize::MAX);
    for n in 0..100 {
        publish_to(&hub, if n % 2 == 0 { "goes" } else { "stays" }, &"x".repeat(50_000));
    }
    let held = hub.held_bytes();
    assert_eq!(hub.drop_history("goes"), Some(50));
    assert!(hub.held_bytes() < held - 49 * 50_000, "{} bytes of {held} are held", hub.held_bytes());
    let (gap, bytes) = read(&hub, "stays", 0);
    assert!(gap.is_none() && bytes.len() > 50 * 50_000);
}
