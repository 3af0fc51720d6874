//! How long each kind of request holds the hub's lock, with very many events in very many channels.
//!
//! With `--bench` it times each call that takes the lock, from outside, in a thread that has the lock to
//! itself: an upper bound of the hold. It prints a Markdown table, and exits with an error if a budget
//! is missed. Calls that take the lock several times are in a second table, without a verdict. Without
//! `--bench` it runs once with few events, to check that it works. See `docs/benchmarks/benches.md`.

use std::process::ExitCode;
use std::time::Duration;

use downpour::Event;
use downpour::base::id::{EpochTag, EventId, Sequence};
use downpour::base::name::Selector;
use downpour::hub::Retention;
use downpour::hub::counts::ChannelPage;
use downpour::hub::reading::TakeLimits;
use downpour::hub::reading::{Cursor, SLICE_FRAMES_MAX, Slice, SliceLimits};
use downpour::hub::{Backlog, Begin, Begun, ChannelId, HOLD_STEPS, Hub, HubOptions};
use downpour::record::Events;

use downpour_load::measuring::is_asked_to_measure;
use downpour_load::stopwatch::Stopwatch;
use downpour_load::verdicts::Verdicts;

/// Longest holds: for all but one in a thousand, and for any.
const P999_MAX: Duration = Duration::from_micros(100);
const LONGEST_MAX: Duration = Duration::from_millis(1);

/// Events of one batch. The few fit into one hold, the many do not.
const FEW_TOGETHER: usize = 16;
const MANY_TOGETHER: usize = 1000;

const TAG: u64 = 1;

/// The size of a run, and its numbers of repetitions.
#[derive(Clone, Copy, Debug)]
struct Size {
    events: usize,
    channels: usize,
    /// Events of the channel whose history is dropped.
    dropped: usize,
    /// Bytes of a large event.
    large_bytes: usize,
    /// Streams that come and go.
    streams: usize,
    /// Repetitions of calls that take many holds.
    repeats: usize,
}

const MEASURED: Size = Size {
    events: 1_000_000,
    channels: 100_000,
    dropped: 100_000,
    large_bytes: 1 << 20,
    streams: 1000,
    repeats: 20,
};

const TRIED: Size =
    Size { events: 10_000, channels: 1000, dropped: 5000, large_bytes: 1 << 17, streams: 4, repeats: 2 };

/// The calls of one kind.
#[derive(Debug)]
struct Kind {
    what: String,
    times: Vec<Duration>,
    is_one_hold: bool,
}

/// The timed calls.
#[derive(Debug)]
struct Timed {
    stopwatch: Stopwatch,
    kinds: Vec<Kind>,
}

impl Timed {
    /// Times a call that takes the lock once.
    fn hold<T>(&mut self, what: &str, work: impl FnOnce() -> T) -> T {
        self.time(what, true, work)
    }

    /// Times a call that takes the lock several times.
    fn call<T>(&mut self, what: &str, work: impl FnOnce() -> T) -> T {
        self.time(what, false, work)
    }

    fn time<T>(&mut self, what: &str, is_one_hold: bool, work: impl FnOnce() -> T) -> T {
        let (done, time) = self.stopwatch.time(work);
        self.note(what, is_one_hold, time);
        done
    }

    fn note(&mut self, what: &str, is_one_hold: bool, time: Duration) {
        match self.kinds.iter_mut().find(|kind| kind.what == what) {
            Some(kind) => kind.times.push(time),
            None => self.kinds.push(Kind { what: what.to_owned(), times: vec![time], is_one_hold }),
        }
    }

    /// Lets the hub do its leftover work, hold by hold.
    fn tidy(&mut self, what: &str, hub: &Hub) {
        while hub.is_unfinished() {
            self.hold(what, || hub.tidy());
        }
    }
}

fn room(number: usize) -> String {
    format!("room:{number}")
}

fn unbounded() -> Retention {
    Retention { events_max: usize::MAX, bytes_max: usize::MAX, age_max: None }
}

fn empty(size: Size, retention: Retention) -> Hub {
    let hub = Hub::new(HubOptions {
        retention,
        channels_max: size.channels + 1000,
        backlog: Backlog::default(),
        shards: 1,
        hold_steps: HOLD_STEPS,
    });
    hub.begin_epoch(EpochTag::from_bits(TAG), Sequence::START.next());
    hub
}

/// A hub with events of 64 bytes, spread evenly over its channels.
fn filled(size: Size, retention: Retention) -> Hub {
    let hub = empty(size, retention);
    for from in (0..size.events).step_by(MANY_TOGETHER) {
        apply(&hub, &batch(from..from + MANY_TOGETHER, |at| room(at % size.channels)));
        take(&hub);
    }
    finish(&hub);
    hub
}

/// Events of 64 bytes.
fn batch(numbers: std::ops::Range<usize>, name: impl Fn(usize) -> String) -> Events {
    let data = "x".repeat(64);
    let mut batch = Events::new();
    numbers.for_each(|at| batch.push(&[&name(at)], &Event::new(&data)));
    batch
}

fn apply(hub: &Hub, batch: &Events) {
    hub.apply(hub.head().next(), batch, None);
}

fn take(hub: &Hub) {
    let limits = TakeLimits { frames_max: u32::MAX, large_frames_max: u32::MAX, bytes_max: usize::MAX };
    while hub.take(0, limits, &mut Vec::new()) != hub.head() {}
}

fn finish(hub: &Hub) {
    while hub.is_unfinished() {
        hub.tidy();
    }
}

/// A stream that has subscribed.
struct Stream {
    channels: Vec<ChannelId>,
    cursor: Cursor,
}

impl Stream {
    fn of(hub: &Hub, names: &[Selector], begin: Begin) -> Stream {
        let subscribed = hub.subscribe(0, names, None, begin).expect("there is room for these channels");
        let (Begun::After(cursor) | Begun::AtHead(cursor) | Begun::Unknown(cursor)) = subscribed.begun;
        Stream { channels: subscribed.channels.to_vec(), cursor }
    }

    fn read(&mut self, hub: &Hub, slice: &mut Slice) {
        let limits = SliceLimits { frames_max: SLICE_FRAMES_MAX, bytes_max: 256 * 1024 };
        hub.read(0, &self.channels, &mut self.cursor, limits, slice);
    }

    fn leave(self, hub: &Hub) {
        hub.unsubscribe(0, self.channels, |_, _| true);
    }
}

fn selectors(names: &[&str]) -> Vec<Selector> {
    names.iter().map(|name| Selector::parse(name).expect("it is a valid name")).collect()
}

/// Streams that subscribe and leave. Some read all that they get.
struct Streams<'a> {
    /// Their name in the table.
    name: &'a str,
    names: &'a [Selector],
    count: usize,
    /// The number of streams that read.
    readers: usize,
    /// They stop reading at their first frame.
    is_only_seeking: bool,
}

impl Streams<'_> {
    fn time(&self, timed: &mut Timed, hub: &Hub, begin: impl Fn(usize) -> Begin) {
        let name = self.name;
        let mut slice = Slice::default();
        for number in 0..self.count {
            let begin = begin(number);
            let mut stream =
                timed.hold(&format!("{name}: it subscribes"), || Stream::of(hub, self.names, begin));
            if number < self.readers {
                let (seeks, reads) = (format!("{name}: its place is sought"), format!("{name}: a slice"));
                let mut has_begun = false;
                loop {
                    let before = stream.cursor.place;
                    let ((), time) = timed.stopwatch.time(|| stream.read(hub, &mut slice));
                    has_begun |= slice.frames > 0 || slice.is_live || stream.cursor.place != before;
                    timed.note(if has_begun { &reads } else { &seeks }, true, time);
                    if slice.is_live || has_begun && self.is_only_seeking {
                        break;
                    }
                }
            }
            timed.hold(&format!("{name}: it leaves"), || stream.leave(hub));
        }
    }
}

/// Streams that begin with retained events, or after an event that they name.
fn streams(timed: &mut Timed, size: Size) {
    let hub = filled(size, unbounded());
    let all = selectors(&["*"]);
    let some = selectors(&["room:1*"]);
    let hundred: Vec<String> = (0..100).map(room).collect();
    let hundred = selectors(&hundred.iter().map(String::as_str).collect::<Vec<_>>());
    let keeper = Stream::of(&hub, &some, Begin::AtHead);
    finish(&hub);
    let after = |missed: usize| {
        let sequence = Sequence(hub.head().0 - missed as u64);
        Begin::After(EventId { tag: EpochTag::from_bits(TAG), sequence })
    };
    let replayed = size.events / 10 * 9;
    let name = format!("`replay={replayed}` over `*`");
    let streams =
        Streams { name: &name, names: &all, count: size.streams, readers: 3, is_only_seeking: false };
    streams.time(timed, &hub, |_| Begin::LastRetained(replayed));
    let streams = Streams { name: "a resume by id over `room:1*`", names: &some, readers: 20, ..streams };
    streams.time(timed, &hub, |_| after(size.events / 2));
    let streams =
        Streams { name: "a resume by id of 100 channels", names: &hundred, readers: 200, ..streams };
    streams.time(timed, &hub, |_| after(size.events - 1));
    keeper.leave(&hub);
}

/// A resume after a publisher's id. Each channel has one.
fn own_ids(timed: &mut Timed, size: Size) {
    let hub = empty(size, unbounded());
    for from in (0..size.events).step_by(MANY_TOGETHER) {
        let mut batch = Events::new();
        for at in from..from + MANY_TOGETHER {
            let (event, own) = (Event::new("0123456789"), format!("own{at}"));
            let is_first = at < size.channels;
            let event = if is_first { event.with_id(&own).expect("it is a valid id") } else { event };
            batch.push(&[&room(at % size.channels)], &event);
        }
        apply(&hub, &batch);
        take(&hub);
    }
    let all = selectors(&["*"]);
    let count = size.repeats * 2;
    let streams =
        Streams { name: "an own id over `*`", names: &all, count, readers: count, is_only_seeking: true };
    streams.time(timed, &hub, |number| Begin::AfterOwn(format!("own{}", number * 7).into()));
}

fn first_pattern(timed: &mut Timed, size: Size) {
    let hub = filled(size, unbounded());
    let names = selectors(&["room:*"]);
    for _ in 0..size.repeats {
        let stream =
            timed.hold("the first pattern: it subscribes", || Stream::of(&hub, &names, Begin::AtHead));
        timed.tidy("the first pattern: what its channels had lost", &hub);
        stream.leave(&hub);
        // Idle channels go with the next event.
        apply(&hub, &batch(0..1, room));
        take(&hub);
        finish(&hub);
    }
}

fn age(timed: &mut Timed, size: Size) {
    let hub = filled(size, Retention { age_max: Some(Duration::from_secs(60)), ..unbounded() });
    timed.hold("eviction by age after a pause: the clock is set", || hub.set_now(Duration::from_secs(600)));
    timed.tidy("eviction by age after a pause: the rest", &hub);
    assert_eq!(hub.channels_len(), 0, "all of it went");
}

fn pages(timed: &mut Timed, size: Size) {
    let hub = filled(size, unbounded());
    for _ in 0..size.repeats {
        let mut page = ChannelPage::new("", None, 1000);
        while !timed.hold("`GET /channels`: a part of the table", || hub.look_for_page(&mut page)) {}
        assert_eq!(page.into_channels().0.len(), 1000, "the page is full");
    }
}

/// Publishing to channels whose history is full, with a stream of `*`.
fn publishes(timed: &mut Timed, size: Size) {
    let hub = empty(size, unbounded());
    for from in (0..size.channels).step_by(FEW_TOGETHER) {
        let batch = batch(from..from + FEW_TOGETHER, room);
        timed.hold(&format!("{FEW_TOGETHER} events to as many new channels"), || apply(&hub, &batch));
    }
    drop(hub);
    let hub = filled(size, Retention { events_max: size.events / size.channels, ..unbounded() });
    let stream = Stream::of(&hub, &selectors(&["*"]), Begin::AtHead);
    finish(&hub);
    for (count, is_one_hold) in [(FEW_TOGETHER, true), (MANY_TOGETHER, false)] {
        for number in 0..size.streams {
            let from = number * count;
            let batch = batch(from..from + count, |at| room(at * 7 % size.channels));
            timed.time(&format!("{count} events to full channels"), is_one_hold, || apply(&hub, &batch));
            timed.time(&format!("{count} events are taken by a shard"), is_one_hold, || take(&hub));
            timed.tidy("what was driven out is tidied up", &hub);
        }
    }
    stream.leave(&hub);
}

fn drops(timed: &mut Timed, size: Size) {
    let hub = filled(size, unbounded());
    let count = size.dropped;
    let what = format!("a `DELETE` of {count} events");
    for number in 0..size.repeats {
        let stream = Stream::of(&hub, &selectors(&["big"]), Begin::AtHead);
        let is_behind = number.is_multiple_of(2);
        for from in (0..count).step_by(MANY_TOGETHER) {
            apply(&hub, &batch(from..from + MANY_TOGETHER, |_| "big".to_owned()));
            if !is_behind {
                take(&hub);
            }
        }
        // Events that the shard has yet to take are only marked, under one hold.
        let dropped = if is_behind {
            timed.hold(&format!("{what}: it is marked"), || hub.drop_history("big"))
        } else {
            timed.call(&what, || hub.drop_history("big"))
        };
        assert_eq!(dropped, Some(count), "all of them were retained");
        take(&hub);
        timed.tidy(&format!("{what}: it is given up"), &hub);
        stream.leave(&hub);
    }
}

/// A large event without room for it.
fn large(timed: &mut Timed, size: Size) {
    let hub = filled(size, Retention { bytes_max: size.events * 140, ..unbounded() });
    let data = "x".repeat(size.large_bytes);
    let mut batch = Events::new();
    batch.push(&["large"], &Event::new(&data));
    for _ in 0..size.repeats {
        timed.call(&format!("an event of {} KiB that drives out others", size.large_bytes >> 10), || {
            apply(&hub, &batch);
        });
        take(&hub);
        finish(&hub);
    }
}

fn times_of(size: Size) -> Vec<Kind> {
    let mut timed = Timed { stopwatch: Stopwatch::new(), kinds: Vec::new() };
    for case in [streams, own_ids, first_pattern, age, pages, publishes, drops, large] {
        case(&mut timed, size);
    }
    for kind in &mut timed.kinds {
        kind.times.sort_unstable();
    }
    timed.kinds
}

/// The smallest value that `thousandths` of a thousand do not exceed.
fn permille(sorted: &[Duration], thousandths: usize) -> Duration {
    sorted[(sorted.len() * thousandths).div_ceil(1000) - 1]
}

/// Median, 99.9th percentile and longest, in µs.
fn figures(times: &[Duration]) -> [String; 3] {
    [500, 999, 1000].map(|thousandths| format!("{:.1}", permille(times, thousandths).as_secs_f64() * 1e6))
}

const COLUMNS: [&str; 5] = ["what", "calls", "median, µs", "p99.9, µs", "longest, µs"];

fn report(kinds: &[Kind]) -> Verdicts {
    let mut verdicts = Verdicts::begin(&COLUMNS);
    for Kind { what, times, .. } in kinds.iter().filter(|kind| kind.is_one_hold) {
        let [median, p999, longest] = figures(times);
        let is_met = permille(times, 999) <= P999_MAX && permille(times, 1000) <= LONGEST_MAX;
        verdicts.push(&[what, &times.len(), &median, &p999, &longest], is_met);
    }
    println!("\nCalls that take the lock several times:\n\n| {} |", COLUMNS.join(" | "));
    println!("|{}", " --- |".repeat(COLUMNS.len()));
    for Kind { what, times, .. } in kinds.iter().filter(|kind| !kind.is_one_hold) {
        println!("| {what} | {} | {} |", times.len(), figures(times).join(" | "));
    }
    verdicts
}

fn main() -> ExitCode {
    if is_asked_to_measure("lock") {
        report(&times_of(MEASURED)).finish()
    } else {
        assert!(times_of(TRIED).iter().all(|kind| !kind.times.is_empty()));
        ExitCode::SUCCESS
    }
}
