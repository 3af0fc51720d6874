//! Readers: streams that come and go in every way, that stall and go on, and that check all they get.

use std::net::SocketAddr;

use downpour::base::random::SplitMix64;

use crate::names;
use crate::shared::{Count, Shared};
use crate::stream::{Polled, Request, Stream};
use crate::ticks::{Ticks, ticks};
use crate::tracker::{Told, Tracker};

/// The subscriptions of a reader, and how it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every lasting channel by name, and some patterns. It never ends, so there is always room for
    /// these.
    Keeper,
    Everything,
    Channels,
    OneChannel,
    Pattern,
    User,
    Newcomer,
    Replay,
    /// It comes with an unknown id, and gets a gap.
    Stranger,
    StallsLong,
    StallsShort,
}

impl Kind {
    fn stalls(self) -> bool {
        matches!(self, Kind::StallsLong | Kind::StallsShort)
    }
}

/// The number of readers of each kind.
const READERS: [(Kind, usize); 11] = [
    (Kind::Keeper, 1),
    (Kind::Everything, 4),
    (Kind::Channels, 120),
    (Kind::OneChannel, 60),
    (Kind::Pattern, 30),
    (Kind::User, 30),
    (Kind::Newcomer, 20),
    (Kind::Replay, 10),
    (Kind::Stranger, 4),
    (Kind::StallsLong, 8),
    (Kind::StallsShort, 12),
];

/// Runs all readers until the load is over: the first one, the keeper, from the start, the others once
/// the server is full.
pub(crate) fn run(shared: &Shared, address: SocketAddr, seed: u64) {
    let mut random = SplitMix64::new(seed);
    let kinds = READERS.iter().flat_map(|&(kind, count)| (0..count).map(move |_| kind));
    let mut readers: Vec<Reader> = kinds.map(|kind| Reader::new(kind, &mut random)).collect();
    let mut buffer = vec![0; 64 * 1024];
    let mut pace = Ticks::begin();
    while !shared.is_over() {
        let begun = if shared.is_full() { readers.len() } else { 1 };
        for reader in &mut readers[..begun] {
            reader.turn(pace.tick(), shared, address, &mut random, &mut buffer);
        }
        if pace.tick().is_multiple_of(ticks(0.5)) {
            let connected = readers.iter().filter(|reader| reader.tracker.is_connected());
            let ids = connected.map(|reader| reader.tracker.client_id().to_owned()).collect();
            *shared.clients.lock().expect("no thread panics with it") = ids;
        }
        pace.wait();
    }
}

#[derive(Debug)]
struct Reader {
    kind: Kind,
    request: Request,
    tracker: Tracker,
    last_event_id: String,
    stream: Option<Stream>,
    state: State,
    /// It has not stalled yet.
    is_first: bool,
    /// The tick at which the state ends.
    until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Stalled,
    /// It has shut its side down.
    HalfClosed,
}

impl Reader {
    fn new(kind: Kind, random: &mut SplitMix64) -> Reader {
        let request = Request {
            target: String::new(),
            is_old: kind != Kind::Keeper && random.chance(0.1),
            is_narrow: kind.stalls(),
        };
        Reader {
            kind,
            request,
            tracker: Tracker::default(),
            last_event_id: String::new(),
            stream: None,
            state: State::Reading,
            is_first: true,
            until: 0,
        }
    }

    fn turn(
        &mut self,
        tick: u64,
        shared: &Shared,
        address: SocketAddr,
        random: &mut SplitMix64,
        buffer: &mut [u8],
    ) {
        if self.stream.is_none() && tick >= self.until {
            self.connect(tick, shared, address, random);
        }
        if self.state != State::Stalled {
            self.read(tick, shared, buffer);
        }
        if self.stream.is_some() && tick >= self.until {
            self.go_on(tick, shared, random);
        }
    }

    fn connect(&mut self, tick: u64, shared: &Shared, address: SocketAddr, random: &mut SplitMix64) {
        if self.last_event_id.is_empty() {
            self.request.target = target(self.kind, shared, random);
            if self.kind == Kind::Stranger {
                "nobody.1".clone_into(&mut self.last_event_id);
            }
        }
        self.tracker.begin(!self.last_event_id.is_empty());
        match Stream::open(address, &self.request, &self.last_event_id) {
            Ok(stream) => self.stream = Some(stream),
            Err(_) if shared.is_over() => return,
            Err(error) => return shared.fault(format!("{error:#}")),
        }
        shared.count(Count::Connects);
        if !self.last_event_id.is_empty() {
            shared.count(Count::Resumes);
        }
        self.state = State::Reading;
        self.until = if self.kind == Kind::Keeper {
            u64::MAX
        } else if self.kind.stalls() {
            tick + ticks(0.5)
        } else {
            tick + within(random, ticks(0.2), ticks(16.0))
        };
    }

    fn read(&mut self, tick: u64, shared: &Shared, buffer: &mut [u8]) {
        let Some(stream) = &mut self.stream else { return };
        let mut received = 0;
        let polled = stream.poll(buffer, &mut self.tracker, &mut |told| match told {
            Told::Event => received += 1,
            Told::Gap => shared.count(Count::Gaps),
            Told::Connected | Told::CaughtUp | Told::End | Told::Other => {}
        });
        shared.count_many(Count::Received, received);
        match polled {
            Ok(Polled::Open) => {}
            Ok(Polled::Ended { told, is_whole }) => {
                stream.last_event_id().clone_into(&mut self.last_event_id);
                self.stream = None;
                let (kind, target) = (self.kind, &self.request.target);
                if !self.may_be_ended(told) && !shared.is_over() {
                    shared.fault(format!("{kind:?} {target}: ended by the server"));
                }
                if !is_whole && !kind.stalls() && !shared.is_over() {
                    shared.fault(format!("{kind:?} {target}: ended without its last chunk"));
                }
                if told {
                    self.until = tick + ticks(1.0);
                }
            }
            Err(wrong) => {
                let (kind, target, id) = (self.kind, &self.request.target, &self.last_event_id);
                shared.fault(format!("{kind:?} {target} after {id:?}: {wrong}"));
                (self.stream, self.last_event_id) = (None, String::new());
            }
        }
    }

    /// Returns true if and only if the server may end the stream: after a half-close, if its client did
    /// not read, and at once if there are too many channels.
    fn may_be_ended(&self, told: bool) -> bool {
        let is_turned_away = told && !self.tracker.is_connected() && self.kind != Kind::Keeper;
        self.kind.stalls() || self.state == State::HalfClosed || is_turned_away
    }

    /// The state has ended: begins the next one, or a new connection.
    fn go_on(&mut self, tick: u64, shared: &Shared, random: &mut SplitMix64) {
        match self.state {
            State::Reading if self.kind.stalls() => {
                shared.count(Count::Stalls);
                self.state = State::Stalled;
                self.until = tick
                    + if self.kind != Kind::StallsLong {
                        within(random, ticks(0.5), ticks(20.0))
                    } else if std::mem::replace(&mut self.is_first, false) {
                        // At different times for different readers.
                        within(random, 0, STALL_LONG)
                    } else {
                        STALL_LONG
                    };
            }
            State::Stalled => {
                shared.count(Count::LetGo);
                self.state = State::Reading;
                self.until = tick + ticks(10.0);
            }
            State::Reading => self.leave(tick, shared, random),
            // The server was slow to end it.
            State::HalfClosed => {
                shared.fault(format!("{}: not ended after a half-close", self.request.target));
                self.stream = None;
            }
        }
    }

    /// Ends the stream in one of three ways. Most resume later.
    fn leave(&mut self, tick: u64, shared: &Shared, random: &mut SplitMix64) {
        let Some(stream) = self.stream.take() else { return };
        self.until = tick;
        let comes_back = self.tracker.is_connected() && random.chance(0.8);
        self.last_event_id = if comes_back { stream.last_event_id().to_owned() } else { String::new() };
        match random.within(0..=2) {
            0 => {
                shared.count(Count::Closes);
                drop(stream);
            }
            1 => {
                shared.count(Count::Resets);
                if let Err(error) = stream.reset() {
                    shared.fault(format!("a stream cannot be reset: {error}"));
                }
            }
            _ => {
                shared.count(Count::HalfCloses);
                stream.close_half();
                (self.stream, self.state) = (Some(stream), State::HalfClosed);
                self.until = tick + ticks(5.0);
            }
        }
    }
}

/// The request target of a reader of this kind.
fn target(kind: Kind, shared: &Shared, random: &mut SplitMix64) -> String {
    let any = |random: &mut SplitMix64| {
        let (kind, _) = *names::pick(&names::KINDS, random).expect("there are kinds");
        names::of_kind(kind, random)
    };
    match kind {
        Kind::Keeper => format!("/sse?channels={}&userId=user0", names::kept().join(",")),
        Kind::Everything => "/events?channels=*".to_owned(),
        Kind::Channels => {
            let channels: Vec<String> = (0..random.within(1..=4)).map(|_| any(random)).collect();
            format!("/sse?channels={}", channels.join(","))
        }
        Kind::OneChannel | Kind::Stranger => format!("/channels/{}", any(random)),
        Kind::Pattern => {
            let patterns =
                ["batch:*", "steady:*,batch:1", "pair:*", "own:*,lapse:*", "steady:1*,sparse", "new:*"];
            format!("/sse?channels={}", names::pick(&patterns, random).expect("there are patterns"))
        }
        Kind::User => format!("/sse?channels={}&userId={}", any(random), names::user(random)),
        Kind::Newcomer => {
            let newcomers = shared.newcomers.lock().expect("no thread panics with it");
            let name = names::pick(&newcomers, random).map_or("new:none", String::as_str);
            let replay = if random.chance(0.5) { "&replay=all" } else { "" };
            format!("/sse?channels={name},sparse{replay}")
        }
        Kind::Replay => format!("/sse?channels={},own:0&replay={}", any(random), random.within(0..=60)),
        Kind::StallsLong if random.chance(0.5) => format!("/sse?channels={}", names::SPARSE),
        Kind::StallsLong => "/sse?channels=large:*".to_owned(),
        Kind::StallsShort => format!("/sse?channels=large:*,{}", any(random)),
    }
}

/// In ticks. Longer than the server's default of `--stall-timeout`.
const STALL_LONG: u64 = 180 * 50;

fn within(random: &mut SplitMix64, least: u64, most: u64) -> u64 {
    least + random.bits() % (most - least + 1)
}
