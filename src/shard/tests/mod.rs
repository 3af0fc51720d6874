//! Several shards side by side, over simulated networks. What happens to one does not affect another.

mod clients;
mod coding;
mod fairness;
mod held_log;
mod keepalive;
mod lock;
mod log;
mod retries;
mod timer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::core::{Core, CoreOptions};
use super::{MAILBOX_MESSAGES_MAX, Shard, ShardOptions};
use crate::api::ApiOptions;
use crate::base::id::{EpochTag, NodeId, Sequence};
use crate::base::random::{Random, SplitMix64};
use crate::conn::ConnOptions;
use crate::driver::Driver;
use crate::driver::sim::{SimDriver, SimNet, SimOptions, SimPeer};
use crate::frame::outbox::OutboxLimits;
use crate::http::http_date;
use crate::hub::Retention;
use crate::hub::reading::TakeLimits;
use crate::hub::{Backlog, HubOptions};
use crate::log::memory::MemoryLog;
use crate::log::{Log, Sink};
use crate::record::targets::TARGET_ALL;
use crate::record::{Events, Record};
use crate::shard::publishing::tickets::application_ticket;
use crate::sse::event::Event;

pub(in crate::shard) const SHARDS: usize = 2;

/// Shards with a network each, one hub and one log.
pub(in crate::shard) struct Servers {
    pub(in crate::shard) nets: Vec<SimNet>,
    pub(in crate::shard) shards: Vec<Shard<SimDriver>>,
    pub(in crate::shard) core: Core,
    pub(in crate::shard) now: Instant,
}

impl Servers {
    /// Shards. The first panics when it draws its `panics_at`th random bits.
    pub(in crate::shard) fn new(panics_at: Option<usize>) -> Servers {
        Servers::with_mailboxes(panics_at, MAILBOX_MESSAGES_MAX)
    }

    /// The same, with mailboxes for `messages_max` messages.
    pub(in crate::shard) fn with_mailboxes(panics_at: Option<usize>, messages_max: usize) -> Servers {
        let open = |sink| Arc::new(MemoryLog::new(EpochTag::from_bits(7), sink)) as Arc<dyn Log>;
        Servers::with(panics_at, messages_max, &SimOptions::calm(), options, open)
    }

    /// Shards over networks of this kind; `change` changes their options.
    pub(in crate::shard) fn over(network: &SimOptions, change: impl Fn(&mut ShardOptions)) -> Servers {
        let open = |sink| Arc::new(MemoryLog::new(EpochTag::from_bits(7), sink)) as Arc<dyn Log>;
        let changed = |number| {
            let mut options = options(number);
            change(&mut options);
            options
        };
        Servers::with(None, MAILBOX_MESSAGES_MAX, network, changed, open)
    }

    /// The same, with a log that the test opens.
    pub(in crate::shard) fn with_log(
        panics_at: Option<usize>,
        open: impl FnOnce(Arc<dyn Sink>) -> Arc<dyn Log>,
    ) -> Servers {
        Servers::with(panics_at, MAILBOX_MESSAGES_MAX, &SimOptions::calm(), options, open)
    }

    fn with(
        panics_at: Option<usize>,
        messages_max: usize,
        network: &SimOptions,
        options: impl Fn(usize) -> ShardOptions,
        open: impl FnOnce(Arc<dyn Sink>) -> Arc<dyn Log>,
    ) -> Servers {
        let now = Instant::now();
        let nets: Vec<SimNet> = (0..SHARDS as u64).map(|seed| SimNet::new(seed, network.clone())).collect();
        let drivers: Vec<SimDriver> = nets.iter().map(SimNet::driver).collect();
        let core_options = CoreOptions {
            node: NodeId::ALONE,
            hub: HubOptions {
                retention: Retention { events_max: 100, bytes_max: 1 << 20, age_max: None },
                channels_max: 100,
                ..HubOptions::default()
            },
            idempotency_keys_max: 100,
            body_memory_bytes: 1 << 30,
            mailbox_messages_max: messages_max,
        };
        let wakers = drivers.iter().map(Driver::waker);
        let (core, mailboxes) = Core::new(&core_options, wakers, None, |_, sink| open(sink));
        let parts = drivers.into_iter().zip(mailboxes).enumerate();
        let shards = parts.map(|(number, (driver, mailbox))| {
            let random = Brittle {
                inner: SplitMix64::new(number as u64),
                draws: 0,
                panics_at: panics_at.filter(|_| number == 0),
            };
            Shard::new(options(number), driver, core.clone(), mailbox, Box::new(random), now)
        });
        let shards = shards.collect();
        Servers { nets, shards, core, now }
    }

    /// Lets every shard do all its work, and restarts shards that panic, as their threads would. Returns
    /// the number of panics.
    pub(in crate::shard) fn settle(&mut self) -> usize {
        let mut panics = 0;
        for _ in 0..20 {
            self.now += Duration::from_millis(1);
            for shard in &mut self.shards {
                let turn = AssertUnwindSafe(|| {
                    shard.wait(self.now).unwrap();
                    shard.turn(self.now, http_date(SystemTime::UNIX_EPOCH));
                });
                if catch_unwind(turn).is_err() {
                    panics += 1;
                    shard.restart();
                }
            }
        }
        panics
    }

    /// One turn of one shard.
    pub(in crate::shard) fn turn(&mut self, shard: usize) {
        self.shards[shard].wait(self.now).unwrap();
        self.shards[shard].turn(self.now, http_date(SystemTime::UNIX_EPOCH));
    }

    pub(in crate::shard) fn request(&mut self, shard: usize, request: &str) -> SimPeer {
        let peer = self.nets[shard].connect();
        assert_eq!(peer.write(request.as_bytes()), request.len());
        peer
    }

    pub(in crate::shard) fn subscribe(&mut self, shard: usize, channels: &str) -> SimPeer {
        self.request(shard, &format!("GET /sse?channels={channels} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Publishes over one shard and returns the answer's body.
    pub(in crate::shard) fn publish(&mut self, shard: usize, body: &str) -> String {
        let peer = self.request(
            shard,
            &format!(
                "POST /publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        );
        self.settle();
        let answer = read(&peer);
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}")).1.to_owned()
    }
}

fn options(number: usize) -> ShardOptions {
    let second = Duration::from_secs(1);
    ShardOptions {
        number,
        conn: ConnOptions {
            head_timeout: 10 * second,
            body_timeout: 10 * second,
            idle_timeout: 10 * second,
            stall_timeout: Some(120 * second),
            publish_timeout: 5 * second,
            body_bytes_max: 1 << 20,
            outbox: OutboxLimits { bytes_max: 1 << 16, frames_max: 64 },
            ..ConnOptions::default()
        },
        api: vec![ApiOptions { stream_channels_max: 8, ..ApiOptions::default() }],
        connections_max: 100,
        retry: second,
        drain_timeout: second,
        ..ShardOptions::default()
    }
}

pub(in crate::shard) fn read(peer: &SimPeer) -> String {
    String::from_utf8(peer.read(1 << 20)).unwrap()
}

/// Random bits that panic, as a bug anywhere in a shard would.
#[derive(Debug)]
struct Brittle {
    inner: SplitMix64,
    draws: usize,
    panics_at: Option<usize>,
}

impl Random for Brittle {
    fn bits(&mut self) -> u64 {
        self.draws += 1;
        assert_ne!(Some(self.draws), self.panics_at, "forced");
        self.inner.bits()
    }
}

#[test]
fn events_reach_the_streams_of_every_shard_whichever_takes_the_publish() {
    let mut servers = Servers::new(None);
    let streams = [servers.subscribe(0, "a"), servers.subscribe(1, "a"), servers.subscribe(1, "b")];
    servers.settle();
    assert!(servers.publish(0, r#"{"channel":"a","text":"from 0"}"#).ends_with("\"receivers\":2}"));
    assert!(servers.publish(1, r#"{"channel":"a","text":"from 1"}"#).ends_with("\"receivers\":2}"));
    let seen: Vec<String> = streams.iter().map(read).collect();
    for seen in &seen[..2] {
        let (first, second) = (seen.find("data: from 0"), seen.find("data: from 1"));
        assert!(first.is_some() && first < second, "{seen}");
    }
    assert!(!seen[2].contains("from"), "{}", seen[2]);
}

#[test]
fn what_comes_together_goes_out_in_one_send_to_each_stream_also_where_a_queue_would_hold_less() {
    let mut servers = Servers::new(None);
    let streams = [servers.subscribe(0, "a"), servers.subscribe(0, "a"), servers.subscribe(0, "b")];
    servers.settle();
    let events = options(0).conn.outbox.frames_max + 20;
    let mut batch = Events::new();
    (0..events).for_each(|_| batch.push(&["a"], &Event::new("live")));
    let before = servers.shards[0].counters.sends();
    servers.core.hub.apply(servers.core.hub.head().next(), &batch, None);
    servers.settle();
    let received = streams.each_ref().map(|stream| read(stream).matches("data: live").count());
    assert_eq!(received, [events as usize, events as usize, 0]);
    assert_eq!(servers.shards[0].counters.sends() - before, 2);
}

#[test]
fn what_many_streams_get_at_once_is_what_was_published_wherever_it_lies() {
    let mut servers = Servers::new(None);
    let streams: Vec<SimPeer> = (0..70).map(|_| servers.subscribe(0, "a")).collect();
    let other = servers.subscribe(0, "a,b");
    servers.settle();
    streams.iter().chain([&other]).for_each(|stream| drop(read(stream)));
    let text = "x".repeat(3500);
    // Several segments in all, with an event to another channel inside some of the batches.
    for round in 0..250 {
        let mut batch = Events::new();
        let data: Vec<String> = (0..3).map(|at| format!("{text}{round}-{at}")).collect();
        for (at, data) in data.iter().enumerate() {
            batch.push(&["a"], &Event::new(data));
            if round % 10 == 0 && at == 1 {
                batch.push(&["b"], &Event::new("between"));
            }
        }
        servers.core.hub.apply(servers.core.hub.head().next(), &batch, None);
        servers.settle();
        let is_data = |line: &&str| line.starts_with("data: ");
        let lines: Vec<String> = data.iter().map(|data| format!("data: {data}")).collect();
        for stream in &streams {
            assert_eq!(read(stream).lines().filter(is_data).collect::<Vec<_>>(), lines);
        }
        let mut with_other = lines.clone();
        if round % 10 == 0 {
            with_other.insert(2, "data: between".to_owned());
        }
        assert_eq!(read(&other).lines().filter(is_data).collect::<Vec<_>>(), with_other);
    }
}

#[test]
fn pipelined_publishes_are_answered_together() {
    let mut servers = Servers::new(None);
    let body = r#"{"channel":"a","text":"x"}"#;
    let request =
        format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let publisher = servers.request(0, &request.repeat(10));
    let other = servers.request(0, &request);
    servers.settle();
    assert_eq!(read(&publisher).matches("\"success\":true").count(), 10);
    assert_eq!(read(&other).matches("\"success\":true").count(), 1);
    assert_eq!(servers.shards[0].counters.answer_sends, 2, "one for each connection");
}

#[test]
fn an_event_to_all_reaches_every_stream_once() {
    let mut servers = Servers::new(None);
    let streams = [servers.subscribe(0, "a,b"), servers.subscribe(1, "a"), servers.subscribe(1, "c")];
    servers.settle();
    let mut batch = Events::new();
    batch.push(&[TARGET_ALL], &Event::new("to all"));
    servers.core.hub.apply(servers.core.hub.head().next(), &batch, None);
    servers.settle();
    for stream in &streams {
        assert_eq!(read(stream).matches("data: to all").count(), 1);
    }
}

#[test]
fn shards_count_the_receivers_of_an_event_to_several_channels_together() {
    let mut servers = Servers::new(None);
    let _streams = [
        servers.subscribe(0, "a,b"),
        servers.subscribe(1, "b"),
        servers.subscribe(1, "c"),
        servers.subscribe(1, "d"),
    ];
    servers.settle();
    for shard in 0..SHARDS {
        let answer = servers.publish(shard, r#"{"channels":["a","b","c"],"text":"x"}"#);
        assert!(answer.ends_with("\"receivers\":3}"), "{answer}");
    }
}

#[test]
fn a_panic_ends_the_streams_of_its_shard_alone_and_the_shard_serves_again() {
    // A stream draws bits once for its retry and twice for its client id.
    let mut servers = Servers::new(Some(5));
    let lost = servers.subscribe(0, "a");
    let kept = servers.subscribe(1, "a");
    assert_eq!(servers.settle(), 0);
    let _culprit = servers.subscribe(0, "a");
    assert_eq!(servers.settle(), 1);
    assert!(read(&lost).contains("connected") && lost.is_ended());
    assert_eq!(servers.core.open_connections.load(Ordering::Relaxed), 1);

    let back = servers.subscribe(0, "a");
    servers.settle();
    assert!(servers.publish(0, r#"{"channel":"a","text":"after"}"#).ends_with("\"receivers\":2}"));
    for stream in [&kept, &back] {
        assert!(read(stream).contains("data: after"));
    }
    drop((kept, back));
    servers.settle();
    assert!(servers.publish(1, r#"{"channel":"a","text":"x"}"#).ends_with("\"receivers\":0}"));
}

const GET_STATS: &str = "GET /sse/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn stats(peer: &SimPeer) -> Value {
    let answer = read(peer);
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}")).1).unwrap()
}

#[test]
fn a_report_counts_a_panic_and_what_it_ended() {
    let mut servers = Servers::new(Some(5));
    let _streams = [servers.subscribe(0, "a"), servers.subscribe(1, "a")];
    servers.settle();
    let _culprit = servers.subscribe(0, "a");
    assert_eq!(servers.settle(), 1);
    let asking = servers.request(1, GET_STATS);
    servers.settle();
    let stats = stats(&asking);
    assert_eq!((&stats["shard_restarts"], &stats["connections_closed"]["panic"]), (&json!(1), &json!(2)));
    assert_eq!((&stats["connections_accepted"], &stats["connections"]), (&json!(4), &json!(2)));
    assert_eq!((&stats["total_clients"], &stats["channels"]["a"]), (&json!(1), &json!(1)));
}

#[test]
fn a_report_waits_half_a_second_for_a_shard_and_says_that_it_is_late() {
    let mut servers = Servers::new(None);
    let _stream = servers.subscribe(0, "a");
    servers.settle();
    let early = servers.request(1, GET_STATS);
    servers.settle();
    assert_eq!(stats(&early)["shards_late"], json!(0));

    let asking = servers.request(1, GET_STATS);
    let turn = |servers: &mut Servers, after: Duration| {
        servers.now += after;
        servers.shards[1].wait(servers.now).unwrap();
        servers.shards[1].turn(servers.now, http_date(SystemTime::UNIX_EPOCH));
    };
    turn(&mut servers, Duration::ZERO);
    turn(&mut servers, Duration::from_millis(499));
    assert_eq!(read(&asking), "");
    turn(&mut servers, Duration::from_millis(1));
    let stats = stats(&asking);
    assert_eq!(
        (&stats["shards_late"], &stats["total_clients"]),
        (&json!(1), &json!(1)),
        "it has the earlier one's"
    );
}

#[test]
fn a_count_does_not_wait_for_a_shard_that_has_panicked() {
    let mut servers = Servers::new(None);
    let _streams = [servers.subscribe(0, "a"), servers.subscribe(1, "b")];
    servers.settle();
    let applied = servers.core.hub.apply(servers.core.hub.head().next(), &two_channels(), Some(1));
    let crate::hub::Receivers::Counting(tally) = applied.receivers else { panic!("two shards count") };
    servers.shards[1].turn(servers.now, http_date(SystemTime::UNIX_EPOCH));
    assert_eq!(tally.total(), None);
    servers.shards[0].restart();
    assert_eq!(tally.total(), Some(1));
}

#[test]
fn a_count_does_not_wait_for_a_shard_that_panicked_after_it_had_taken_the_event() {
    let mut servers = Servers::new(None);
    let _streams = [servers.subscribe(0, "a"), servers.subscribe(1, "b")];
    servers.settle();
    let applied = servers.core.hub.apply(servers.core.hub.head().next(), &two_channels(), Some(1));
    let crate::hub::Receivers::Counting(tally) = applied.receivers else { panic!("two shards count") };
    servers.shards[1].turn(servers.now, http_date(SystemTime::UNIX_EPOCH));
    let limits = TakeLimits { frames_max: 10, large_frames_max: 10, bytes_max: 1000 };
    servers.core.hub.take(0, limits, &mut Vec::new()); // Lost, as in a panic before the count.
    servers.shards[0].restart();
    assert_eq!(tally.total(), Some(1));
}

#[test]
fn a_publisher_waits_for_another_shard_that_is_behind_and_is_forgotten_once_its_time_is_over() {
    let mut servers = Servers::new(None);
    let slow = servers.subscribe(1, "a");
    let publisher = servers.nets[0].connect();
    let publish = |text: &str| {
        let body = format!(r#"{{"channel":"a","text":"{text}"}}"#);
        let len = body.len();
        let request =
            format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{body}");
        assert_eq!(publisher.write(request.as_bytes()), request.len());
    };
    servers.settle();
    let mut batch = Events::new();
    (0..=Backlog::default().events_max).for_each(|_| batch.push(&["a"], &Event::new("x")));
    servers.core.log.append(&mut vec![(application_ticket(0), Record::from(batch))]); // A ticket that nobody waits for.
    publish("late");
    let before = servers.core.hub.head();
    for _ in 0..8 {
        servers.now += Duration::from_secs(1);
        servers.turn(0);
    }
    assert!(read(&publisher).starts_with("HTTP/1.1 503"), "it waits until its time is over");
    assert_eq!(servers.core.hub.head(), before);

    publish("next");
    while servers.core.hub.is_behind() {
        servers.turn(1);
    }
    servers.settle();
    assert!(read(&publisher).starts_with("HTTP/1.1 200"));
    let seen = read(&slow);
    assert!(!seen.contains("data: late") && servers.core.hub.head() == before.next());
}

fn two_channels() -> Events {
    let mut batch = Events::new();
    batch.push(&["a", "b"], &Event::new("x"));
    batch
}

#[test]
fn a_panic_under_the_hubs_lock_ends_the_process() {
    const CHILD: &str = "DOWNPOUR_TEST_PANIC_UNDER_THE_LOCK";
    if std::env::var_os(CHILD).is_some() {
        let servers = Servers::new(None);
        // A gap in the sequence breaks an invariant.
        let broken = AssertUnwindSafe(|| servers.core.hub.apply(Sequence(100), &two_channels(), None));
        assert!(catch_unwind(broken).is_err());
        let _ = servers.core.hub.held_bytes();
        return; // Not reached: the process has ended.
    }
    let this = std::env::current_exe().unwrap();
    let name = "shard::tests::a_panic_under_the_hubs_lock_ends_the_process";
    let child = Command::new(this).args([name, "--exact"]).env(CHILD, "1").output().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&child.status);
    assert_eq!(signal, Some(libc::SIGABRT), "{child:?}");
}
