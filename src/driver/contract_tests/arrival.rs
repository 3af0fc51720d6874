//! Bytes and ends that arrive before a connection is adopted, or around the moment of its first receive.

use super::bench::{Bench, Net, Peer, Seen};
use crate::base::id::ConnId;
use crate::driver::Driver;

/// Adopts a connection after its peer has done everything that it does before the adoption.
fn adopted<N: Net>(bench: &mut Bench<N>) -> ConnId {
    let seen = bench.next();
    let Seen::Accepted(conn) = seen else { panic!("{seen:?}") };
    conn
}

/// Receives until `bytes` bytes have come.
fn receive<N: Net>(bench: &mut Bench<N>, conn: ConnId, bytes: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < bytes {
        bench.driver.recv(conn);
        let seen = bench.next();
        let Seen::Received(_, more) = seen else { panic!("{seen:?}") };
        received.extend(more);
    }
    received
}

pub(super) fn bytes_that_came_before_the_adoption_are_received_and_so_are_later_ones<N: Net>(
    mut bench: Bench<N>,
) {
    let mut peer = bench.net.connect();
    assert_eq!(peer.write(b"early"), 5);
    let conn = adopted(&mut bench);
    assert_eq!(receive(&mut bench, conn, 5), b"early");
    bench.driver.recv(conn);
    assert_eq!(bench.settle(), []);
    assert_eq!(peer.write(b"late"), 4);
    let seen = bench.next();
    let Seen::Received(_, mut late) = seen else { panic!("{seen:?}") };
    late.extend(receive(&mut bench, conn, 4 - late.len()));
    assert_eq!(late, b"late");
}

pub(super) fn bytes_and_the_end_that_came_before_the_adoption_are_both_told<N: Net>(mut bench: Bench<N>) {
    let mut peer = bench.net.connect();
    assert_eq!(peer.write(b"early"), 5);
    peer.shutdown_write();
    let conn = adopted(&mut bench);
    assert_eq!(receive(&mut bench, conn, 5), b"early");
    for _ in 0..2 {
        bench.driver.watch(conn);
        assert_eq!(bench.next(), Seen::Ended(conn));
    }
}

pub(super) fn an_end_that_came_before_the_adoption_is_told<N: Net>(mut bench: Bench<N>) {
    let mut peer = bench.net.connect();
    peer.shutdown_write();
    let conn = adopted(&mut bench);
    bench.driver.recv(conn);
    assert_eq!(bench.next(), Seen::Ended(conn));
}

pub(super) fn a_reset_that_came_before_the_adoption_is_told<N: Net>(mut bench: Bench<N>) {
    let mut peer = bench.net.connect();
    assert_eq!(peer.write(b"early"), 5);
    peer.reset();
    let conn = adopted(&mut bench);
    // The network decides whether the bytes are lost with it.
    loop {
        bench.driver.recv(conn);
        match bench.next() {
            Seen::Received(..) => {}
            Seen::Failed(_) if N::REPORTS_RESETS => {
                bench.driver.recv(conn);
                return assert_eq!(bench.settle(), [], "a failure is the last completion");
            }
            Seen::Ended(_) if !N::REPORTS_RESETS => return,
            seen @ (Seen::Accepted(_)
            | Seen::Ended(_)
            | Seen::Sent(..)
            | Seen::Writable(_)
            | Seen::Failed(_)) => panic!("{seen:?}"),
        }
    }
}

pub(super) fn what_comes_while_nobody_receives_is_told_to_the_next_receive<N: Net>(mut bench: Bench<N>) {
    for ends in [false, true] {
        let mut peer = bench.net.connect();
        assert_eq!(peer.write(b"1"), 1);
        let conn = adopted(&mut bench);
        assert_eq!(receive(&mut bench, conn, 1), b"1");
        assert_eq!(peer.write(b"2"), 1);
        if ends {
            peer.shutdown_write();
        }
        assert_eq!(bench.settle(), [], "nobody asked");
        assert_eq!(receive(&mut bench, conn, 1), b"2");
        bench.driver.watch(conn);
        assert_eq!(bench.settle(), if ends { vec![Seen::Ended(conn)] } else { vec![] });
        bench.driver.close(conn);
    }
}

pub(super) fn the_end_of_an_idle_stream_is_told<N: Net>(mut bench: Bench<N>) {
    let mut peer = bench.net.connect();
    assert_eq!(peer.write(b"request"), 7);
    let conn = adopted(&mut bench);
    assert_eq!(receive(&mut bench, conn, 7), b"request");
    let mut read = bench.send_all(conn, &mut peer, b"head");
    bench.driver.watch(conn);
    assert_eq!(bench.settle(), []);
    read.extend(bench.send_all(conn, &mut peer, b" event"));
    assert_eq!(bench.settle(), []);
    while read.len() < 10 {
        read.extend(peer.read());
        assert_eq!(bench.wait(), []);
    }
    assert_eq!(read, b"head event");
    drop(peer);
    assert_eq!(bench.next(), Seen::Ended(conn));
}

pub(super) fn a_connection_that_was_only_sent_to_is_told_of_room_and_then_of_bytes<N: Net>(
    mut bench: Bench<N>,
) {
    let (mut peer, conn) = bench.connect();
    let sent = bench.fill(conn);
    assert_eq!(peer.write(b"x"), 1);
    let mut read = 0;
    while read < sent {
        read += peer.read().len();
    }
    assert_eq!(bench.settle(), [Seen::Writable(conn)]);
    assert_eq!(receive(&mut bench, conn, 1), b"x");
    bench.driver.recv(conn);
    peer.shutdown_write();
    assert_eq!(bench.next(), Seen::Ended(conn));
}
