//! How many timers a shard keeps, over a simulated week.

use std::time::Duration;

use crate::driver::sim::{SimOptions, SimPeer};
use crate::shard::tests::{Servers, read};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The time between two bursts. It is below the idle timeout, so timers armed by a burst are still there
/// in the next one.
const STEP: Duration = Duration::from_secs(60);

/// The number of requests in a burst, and the time between them.
const BURST: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

const PUBLISH: &str = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 26\r\n\r\n{\"channel\":\"a\",\"text\":\"x\"}";

fn servers() -> Servers {
    Servers::over(&SimOptions::calm(), |options| {
        options.conn.idle_timeout = Duration::from_secs(75);
        options.conn.keepalive = Some(Duration::from_secs(30));
    })
}

/// Lets a simulated week pass. `each` runs at each moment of a burst.
fn live_for_a_week(servers: &mut Servers, mut each: impl FnMut(&mut Servers)) {
    let end = servers.now + WEEK;
    while servers.now < end {
        for _ in 0..BURST {
            each(servers);
            servers.turn(0);
            let shard = &servers.shards[0];
            assert!(
                shard.timers_len() <= shard.connections_len(),
                "{} timers for {} connections",
                shard.timers_len(),
                shard.connections_len()
            );
            servers.now += PAUSE;
        }
        servers.now += STEP;
    }
}

#[test]
fn a_connection_that_publishes_for_a_week_has_one_timer() {
    let mut servers = servers();
    let publisher = servers.request(0, PUBLISH);
    let mut answered = 0;
    live_for_a_week(&mut servers, |_| {
        answered += read(&publisher).matches("HTTP/1.1 200").count();
        let _ = publisher.write(PUBLISH.as_bytes());
    });
    assert!(answered > 45_000, "it publishes all the time: {answered}");
}

#[test]
fn streams_that_are_written_to_for_a_week_have_one_timer_each() {
    let mut servers = servers();
    let streams: Vec<SimPeer> = (0..3).map(|_| servers.subscribe(0, "a")).collect();
    let publisher = servers.request(0, PUBLISH);
    let mut at = 0;
    let mut delivered = 0;
    live_for_a_week(&mut servers, |_| {
        at += 1;
        // An idle stream is sent pings first, and written to later.
        if at % BURST >= 2 {
            read(&publisher);
            let _ = publisher.write(PUBLISH.as_bytes());
        }
        delivered += streams.iter().map(|stream| read(stream).matches("data: x").count()).sum::<usize>();
    });
    assert!(delivered > 80_000, "{delivered}");
}

#[test]
fn connections_that_come_and_go_for_a_week_leave_no_timers() {
    let mut servers = servers();
    let mut open: Vec<SimPeer> = Vec::new();
    let mut at = 0;
    live_for_a_week(&mut servers, |servers| {
        at += 1;
        open.push(match at % 3 {
            0 => servers.subscribe(0, "a"),
            1 => servers.request(0, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            _ => servers.nets[0].connect(),
        });
        if open.len() > 6 {
            open.remove(0);
        }
    });
    open.clear();
    servers.settle();
    assert_eq!(servers.shards[0].timers_len(), 0);
}
