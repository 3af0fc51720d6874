//! When idle streams are sent pings, however their sends complete.

use std::time::Duration;

use crate::driver::sim::SimOptions;
use crate::shard::tests::{Servers, read};

const KEEPALIVE: Duration = Duration::from_secs(2);

/// Most that a ping is late: the turns of [`Servers::settle`], and a tick of the wheel.
const LATE_MAX: Duration = Duration::from_millis(30);

/// Servers whose sends complete later with this probability, as under io_uring, and otherwise at once.
fn servers(pending_send_probability: f64) -> Servers {
    let network = SimOptions { pending_send_probability, ..SimOptions::calm() };
    Servers::over(&network, |options| {
        options.conn.keepalive = Some(KEEPALIVE);
        assert!(
            options.conn.head_timeout > 2 * KEEPALIVE,
            "what a connection is armed for when it begins comes later"
        );
    })
}

#[test]
fn the_first_ping_comes_in_time_also_where_the_first_send_ended_later() {
    for pending in [0.0, 1.0] {
        let mut servers = servers(pending);
        let stream = servers.subscribe(0, "a");
        servers.settle();
        assert!(read(&stream).contains("connected"));
        for _ in 0..3 {
            servers.now += KEEPALIVE - 2 * LATE_MAX;
            servers.settle();
            assert_eq!(read(&stream), "", "too early, {pending}");
            servers.now += 2 * LATE_MAX;
            servers.settle();
            assert_eq!(read(&stream).matches("event: ping").count(), 1, "not in time, {pending}");
        }
    }
}

#[test]
fn what_is_published_puts_the_ping_off_also_where_sends_end_later() {
    let mut servers = servers(1.0);
    let stream = servers.subscribe(0, "a");
    servers.settle();
    for _ in 0..4 {
        servers.now += KEEPALIVE / 2;
        servers.publish(1, r#"{"channel":"a","text":"x"}"#);
        servers.settle();
    }
    let seen = read(&stream);
    assert!(seen.contains("data: x") && !seen.contains("event: ping"), "{seen}");
    servers.now += KEEPALIVE;
    servers.settle();
    assert_eq!(read(&stream).matches("event: ping").count(), 1);
}
