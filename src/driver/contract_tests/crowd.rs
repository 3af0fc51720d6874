//! Many connections that receive at once: more than any driver has receive buffers.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::bench::{Bench, Net, Peer, Seen};
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::driver::descriptors::raise_open_files_limit;

/// Several times as many connections as a driver has buffers.
fn crowd<N: Net>(bench: &mut Bench<N>) -> Vec<(N::Peer, ConnId)> {
    raise_open_files_limit().unwrap();
    let count = if N::IS_REAL { 300 } else { 20 };
    (0..count).map(|_| bench.connect()).collect()
}

pub(super) fn none_of_many_that_receive_at_once_is_forgotten<N: Net>(mut bench: Bench<N>) {
    let mut crowd = crowd(&mut bench);
    let mut late = crowd.split_off(crowd.len() / 3);
    let mut early = crowd;
    for (peer, _) in &mut early {
        assert_eq!(peer.write(b"x"), 1);
    }
    early.iter().chain(&late).for_each(|&(_, conn)| bench.driver.recv(conn));
    let mut received = HashSet::new();
    let note = |seen: Seen, received: &mut HashSet<ConnId>| {
        let Seen::Received(conn, bytes) = seen else { panic!("{seen:?}") };
        assert_eq!(bytes, b"x");
        assert!(received.insert(conn), "{conn:?} again");
    };
    bench.wait().into_iter().for_each(|seen| note(seen, &mut received));
    // These have nothing to receive while the buffers are in use. Each sends alone, so that only its own
    // bytes end the wait. They come from both ends of the order in which they asked.
    for at_front in [false, true].into_iter().cycle().take(late.len()) {
        let (mut peer, conn) = if at_front { late.remove(0) } else { late.pop().unwrap() };
        assert_eq!(peer.write(b"x"), 1);
        while !received.contains(&conn) {
            wait_without_sleeping(&mut bench).into_iter().for_each(|seen| note(seen, &mut received));
        }
        early.push((peer, conn)); // Otherwise its end would be reported too.
    }
    while received.len() < early.len() {
        wait_without_sleeping(&mut bench).into_iter().for_each(|seen| note(seen, &mut received));
    }
}

/// Waits for a completion. Each wait may take long, so it must not sleep while there is something to
/// report.
fn wait_without_sleeping<N: Net>(bench: &mut Bench<N>) -> Vec<Seen> {
    for _ in 0..5000 {
        // The bound makes the test fail instead of hang.
        let asleep_since = Instant::now();
        let seen = bench.wait_for(Duration::from_secs(20));
        assert!(asleep_since.elapsed() < Duration::from_secs(10), "it slept");
        if !seen.is_empty() {
            return seen;
        }
    }
    panic!("no completion came");
}

pub(super) fn a_few_that_always_send_leave_the_others_their_turn<N: Net>(mut bench: Bench<N>) {
    let mut crowd = crowd(&mut bench);
    let rare = crowd.split_off(crowd.len() - 10);
    let mut busy: HashMap<ConnId, N::Peer> = crowd.into_iter().map(|(peer, conn)| (conn, peer)).collect();
    for (&conn, peer) in &mut busy {
        peer.write(b"more");
        bench.driver.recv(conn);
    }
    for (mut peer, conn) in rare {
        assert_eq!(peer.write(b"rare"), 4);
        bench.driver.recv(conn);
        let is_told = (0..TURNS_MAX).any(|_| {
            let mut is_told = false;
            for seen in bench.wait() {
                let Seen::Received(of, _) = seen else { panic!("{seen:?}") };
                match busy.get_mut(&of) {
                    // It has something to receive again at once, and asks for it before the others get a
                    // look.
                    Some(peer) => {
                        peer.write(b"more");
                        bench.driver.recv(of);
                    }
                    None => is_told |= of == conn,
                }
            }
            is_told
        });
        assert!(is_told, "it never had its turn");
    }
}

/// Many times the turns needed to receive once from every connection.
const TURNS_MAX: usize = 1000;
