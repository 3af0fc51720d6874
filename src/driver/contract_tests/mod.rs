//! What every driver must do: one test body for each clause of the contract, run over sockets and
//! simulated networks.

mod arrival;
mod bench;
mod crowd;

use std::time::{Duration, Instant};

use self::arrival::{
    a_connection_that_was_only_sent_to_is_told_of_room_and_then_of_bytes,
    a_reset_that_came_before_the_adoption_is_told, an_end_that_came_before_the_adoption_is_told,
    bytes_and_the_end_that_came_before_the_adoption_are_both_told,
    bytes_that_came_before_the_adoption_are_received_and_so_are_later_ones,
    the_end_of_an_idle_stream_is_told, what_comes_while_nobody_receives_is_told_to_the_next_receive,
};
use self::bench::{Bench, Net, Peer, Seen};
use self::crowd::{
    a_few_that_always_send_leave_the_others_their_turn, none_of_many_that_receive_at_once_is_forgotten,
};
use super::{Completion, Driver, SendStart};
use crate::base::id::ConnId;

macro_rules! for_each_driver {
    ($($case:ident),+ $(,)?) => {
        mod epoll {
            $(#[test] fn $case() { super::$case(super::bench::over_epoll()) })+
        }
        mod io_uring {
            $(#[test] fn $case() {
                if let Some(bench) = super::bench::over_io_uring() {
                    super::$case(bench);
                }
            })+
        }
        mod io_uring_that_reports_everything {
            $(#[test] fn $case() {
                if let Some(bench) = super::bench::over_io_uring_that_reports_everything() {
                    super::$case(bench);
                }
            })+
        }
        mod unix_and_epoll {
            $(#[test] fn $case() { super::$case(super::bench::over_unix_and_epoll()) })+
        }
        mod unix_and_io_uring {
            $(#[test] fn $case() {
                if let Some(bench) = super::bench::over_unix_and_io_uring() {
                    super::$case(bench);
                }
            })+
        }
        mod calm_sim {
            $(#[test] fn $case() { super::$case(super::bench::over_calm_sim()) })+
        }
        mod hostile_sim {
            $(#[test] fn $case() {
                for seed in 0..200 {
                    println!("seed {seed}");
                    super::$case(super::bench::over_hostile_sim(seed));
                }
            })+
        }
    };
}
for_each_driver!(
    echoes_more_than_any_buffer_holds,
    a_peer_that_ended_its_side_is_still_answered,
    a_short_send_is_followed_by_one_writable,
    a_short_send_may_be_tried_again_before_there_is_room,
    what_was_heard_is_handed_over_when_its_number_is_reached,
    receiving_makes_no_room,
    nothing_follows_a_close,
    a_slot_taken_again_gets_nothing_of_its_last_connection,
    at_most_one_receive_is_outstanding,
    the_end_is_told_to_each_receive,
    a_reset_fails_the_receive,
    a_peer_that_is_gone_fails_the_send,
    no_writable_follows_a_shutdown,
    shutdown_comes_after_what_was_sent,
    the_end_of_one_connection_is_not_its_successors,
    a_vectored_send_keeps_its_order,
    a_paused_driver_leaves_newcomers_waiting,
    those_who_wait_are_taken_before_the_listeners_close,
    nobody_sleeps_upon_the_last_listeners_end,
    watching_tells_of_bytes_and_of_the_end,
    a_watched_connection_is_closed_at_once,
    bytes_are_held_until_they_are_sent,
    none_of_many_that_receive_at_once_is_forgotten,
    a_few_that_always_send_leave_the_others_their_turn,
    a_refused_socket_is_closed,
    dropping_the_driver_closes_everything,
    bytes_that_came_before_the_adoption_are_received_and_so_are_later_ones,
    bytes_and_the_end_that_came_before_the_adoption_are_both_told,
    an_end_that_came_before_the_adoption_is_told,
    a_reset_that_came_before_the_adoption_is_told,
    what_comes_while_nobody_receives_is_told_to_the_next_receive,
    the_end_of_an_idle_stream_is_told,
    a_connection_that_was_only_sent_to_is_told_of_room_and_then_of_bytes,
);

fn echoes_more_than_any_buffer_holds<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    let sent: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(N::MANY_BYTES).collect();
    let (mut written, mut echo) = (0, Vec::new());
    let (mut waiting, mut offered, mut is_free) = (Vec::new(), 0, true);
    bench.driver.recv(conn);
    while echo.len() < sent.len() {
        written += peer.write(&sent[written..]);
        echo.extend(peer.read());
        if is_free && !waiting.is_empty() {
            offered = waiting.len();
            is_free = match bench.offer(conn, &[&waiting]) {
                SendStart::Sent(bytes) => waiting.drain(..bytes).len() == offered,
                SendStart::Pending => false,
                SendStart::Failed(error) => panic!("{error}"),
            };
        }
        for seen in bench.wait() {
            match seen {
                Seen::Received(_, bytes) => {
                    waiting.extend(bytes);
                    bench.driver.recv(conn);
                }
                Seen::Sent(_, bytes) => is_free = waiting.drain(..bytes).len() == offered,
                Seen::Writable(_) => is_free = true,
                Seen::Accepted(_) | Seen::Ended(_) | Seen::Failed(_) => panic!("{seen:?}"),
            }
        }
    }
    assert!(echo == sent, "the echo differs from what was sent");
}

fn a_peer_that_ended_its_side_is_still_answered<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    assert_eq!(peer.write(b"question"), 8);
    peer.shutdown_write();
    let mut question = Vec::new();
    loop {
        bench.driver.recv(conn);
        let seen = bench.next();
        let Seen::Received(_, bytes) = seen else { break assert_eq!(seen, Seen::Ended(conn)) };
        question.extend(bytes);
    }
    assert_eq!(question, b"question");
    let mut answer = bench.send_all(conn, &mut peer, b"answer");
    bench.driver.close(conn);
    answer.extend(bench.read_to_end(&mut peer));
    assert_eq!(answer, b"answer");
}

fn a_short_send_is_followed_by_one_writable<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    let sent = bench.fill(conn);
    assert!(sent > 0);
    let mut read = 0;
    while read < sent {
        read += peer.read().len();
    }
    assert_eq!(bench.settle(), [Seen::Writable(conn)]);
}

fn a_short_send_may_be_tried_again_before_there_is_room<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    let mut unread = bench.fill(conn);
    let bytes = vec![b'x'; 16 * 1024];
    for _ in 0..5 {
        unread += bench.send(conn, &[&bytes]); // The kernel may have made some room meanwhile.
    }
    let seen = bench.settle();
    assert!(seen.iter().all(|seen| *seen == Seen::Writable(conn)) && seen.len() <= 1, "{seen:?}");
    while unread > 0 {
        unread -= peer.read().len();
    }
    let told = seen.len() + bench.settle().len();
    assert_eq!(told, 1, "there is room, which is told of once");

    // After a send that is taken whole, the awaited room no longer matters.
    let mut unread = bench.fill(conn);
    while unread > 0 {
        unread -= peer.read().len();
    }
    if bench.send(conn, &[b"x"]) == 1 {
        assert_eq!(bench.settle(), []);
    }
}

fn what_was_heard_is_handed_over_when_its_number_is_reached<N: Net>(mut bench: Bench<N>) {
    const PEERS: usize = 20;
    let mut all: Vec<_> = (0..PEERS).map(|_| bench.connect()).collect();
    all.iter().for_each(|&(_, conn)| bench.driver.recv(conn));
    bench.settle();
    for (peer, _) in &mut all {
        assert_eq!(peer.write(b"said"), 4);
    }
    let mark = bench.driver.hear().expect("it is far less than could be taken in");
    let mut heard = Vec::new();
    for _ in 0..5000 {
        if bench.driver.handed_over() >= mark {
            break;
        }
        heard.extend(bench.wait());
    }
    assert!(bench.driver.handed_over() >= mark, "all is handed over in the end");
    // Bytes in the network have not arrived: a peer's bytes may be late, and in parts.
    let later = bench.settle();
    for (_, conn) in all {
        let of_conn = |seen: &&Seen| matches!(seen, Seen::Received(of, _) if *of == conn);
        let is_heard = heard.iter().any(|seen| of_conn(&seen));
        let comes_late = !N::IS_REAL && later.iter().any(|seen| of_conn(&seen));
        assert!(is_heard || comes_late, "{conn:?} was not heard");
    }
}

fn receiving_makes_no_room<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    // First there was room again, so that the driver knows of it. Then there is none.
    let mut unread = bench.fill(conn);
    while unread > 0 {
        unread -= peer.read().len();
    }
    assert_eq!(bench.settle(), [Seen::Writable(conn)]);
    // The peer's writes may acknowledge bytes and so really make room, but not for ever.
    for _ in 0..20 {
        assert!(bench.fill(conn) > 0, "there was no room");
        bench.driver.recv(conn);
        assert_eq!(peer.write(b"x"), 1);
        let seen = bench.settle();
        assert!(seen.contains(&Seen::Received(conn, b"x".to_vec())), "{seen:?}");
        if !seen.contains(&Seen::Writable(conn)) {
            return;
        }
    }
    panic!("there was always room");
}

fn nothing_follows_a_close<N: Net>(mut bench: Bench<N>) {
    let (mut slow_peer, slow) = bench.connect();
    bench.fill(slow);
    bench.driver.recv(slow);
    bench.driver.close(slow);
    let (_peer, quick) = bench.connect();
    bench.driver.recv(quick);
    let _ = bench.offer(quick, &[b"whatever becomes of it"]);
    bench.driver.close(quick);
    while !slow_peer.read().is_empty() {}
    slow_peer.write(b"late");
    assert_eq!(bench.settle(), []);
}

fn a_slot_taken_again_gets_nothing_of_its_last_connection<N: Net>(mut bench: Bench<N>) {
    let (mut first, old) = bench.connect();
    bench.driver.recv(old);
    assert!(first.write(b"for the first") > 0);
    bench.driver.wait(Some(Duration::from_millis(5))).unwrap(); // Nobody takes what this collects.
    bench.driver.close(old);
    let new = ConnId { generation: old.generation + 1, ..old };
    bench.next_id = new;
    let mut second = bench.net.connect();
    assert_eq!(bench.next(), Seen::Accepted(new));
    bench.driver.recv(new);
    assert_eq!(bench.settle(), []);
    assert_eq!(second.write(b"2"), 1);
    assert_eq!(bench.next(), Seen::Received(new, b"2".to_vec()));
}

fn at_most_one_receive_is_outstanding<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    bench.driver.recv(conn);
    bench.driver.recv(conn);
    assert_eq!(peer.write(b"a"), 1);
    assert_eq!(bench.next(), Seen::Received(conn, b"a".to_vec()));
    assert_eq!(peer.write(b"b"), 1);
    assert_eq!(bench.settle(), [], "nobody asked");
    bench.driver.recv(conn);
    assert_eq!(bench.next(), Seen::Received(conn, b"b".to_vec()));
    assert_eq!(bench.settle(), []);
}

fn the_end_is_told_to_each_receive<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    bench.driver.recv(conn);
    assert_eq!(bench.settle(), []);
    peer.shutdown_write();
    for _ in 0..3 {
        assert_eq!(bench.next(), Seen::Ended(conn));
        assert_eq!(bench.settle(), []);
        bench.driver.recv(conn);
    }
}

fn a_reset_fails_the_receive<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    bench.driver.recv(conn);
    assert_eq!(bench.settle(), []);
    peer.reset();
    if !N::REPORTS_RESETS {
        assert_eq!(bench.next(), Seen::Ended(conn));
        match bench.offer(conn, &[b"x"]) {
            SendStart::Failed(_) => {}
            SendStart::Pending => assert_eq!(bench.next(), Seen::Failed(conn)),
            SendStart::Sent(bytes) => panic!("{bytes} bytes were taken for nobody"),
        }
        return;
    }
    assert_eq!(bench.next(), Seen::Failed(conn));
    bench.driver.recv(conn);
    assert_eq!(bench.settle(), [], "a failure is the last completion");
    bench.driver.close(conn);
}

fn a_peer_that_is_gone_fails_the_send<N: Net>(mut bench: Bench<N>) {
    let (peer, conn) = bench.connect();
    drop(peer);
    for _ in 0..100 {
        if let SendStart::Failed(_) = bench.offer(conn, &[b"into the void"]) {
            return;
        }
        if bench.settle().contains(&Seen::Failed(conn)) {
            return;
        }
    }
    panic!("nobody said that the peer is gone");
}

fn no_writable_follows_a_shutdown<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    let sent = bench.fill(conn);
    bench.driver.shutdown(conn);
    assert_eq!(bench.read_to_end(&mut peer).len(), sent);
    assert_eq!(bench.settle(), []);
}

fn shutdown_comes_after_what_was_sent<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    let mut read = bench.send_all(conn, &mut peer, b"the last words");
    bench.driver.shutdown(conn);
    read.extend(bench.read_to_end(&mut peer));
    assert_eq!(read, b"the last words");
    assert_eq!(peer.write(b"still here"), 10);
    bench.driver.recv(conn);
    assert!(matches!(bench.next(), Seen::Received(..)));
}

fn the_end_of_one_connection_is_not_its_successors<N: Net>(mut bench: Bench<N>) {
    let rounds = if N::IS_REAL { 300 } else { 3 };
    for _ in 0..rounds {
        let (_first, old) = bench.connect();
        let mut second = bench.net.connect();
        bench.driver.shutdown(old);
        bench.driver.close(old);
        let seen = bench.next();
        let Seen::Accepted(new) = seen else { panic!("{seen:?}") };
        let sent = bench.send_all(new, &mut second, b"still open");
        let mut read = sent;
        while read.len() < 10 {
            bench.wait();
            read.extend(second.read());
            assert!(!second.is_over(), "the newcomer was ended");
        }
        bench.driver.close(new);
    }
}

fn a_vectored_send_keeps_its_order<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    let parts: Vec<Vec<u8>> = (0..64).map(|n| vec![n; 1 + usize::from(n % 5)]).collect();
    let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let taken = bench.send(conn, &slices);
    bench.driver.close(conn);
    assert_eq!(bench.read_to_end(&mut peer), parts.concat()[..taken]);
}

fn a_paused_driver_leaves_newcomers_waiting<N: Net>(mut bench: Bench<N>) {
    bench.driver.pause_accepting(true);
    let _peer = bench.net.connect();
    assert_eq!(bench.settle(), []);
    assert!(bench.driver.is_listening());
    bench.driver.pause_accepting(false);
    assert!(matches!(bench.next(), Seen::Accepted(_)));
}

fn those_who_wait_are_taken_before_the_listeners_close<N: Net>(mut bench: Bench<N>) {
    bench.driver.pause_accepting(true);
    let _peers = [bench.net.connect(), bench.net.connect(), bench.net.connect()];
    bench.driver.stop_listening();
    let mut accepted = 0;
    while bench.driver.is_listening() {
        accepted += bench.wait().len();
    }
    assert_eq!(accepted, 3);
    assert!(bench.net.try_connect().is_none(), "nobody listens");
}

fn nobody_sleeps_upon_the_last_listeners_end<N: Net>(mut bench: Bench<N>) {
    bench.wait();
    bench.driver.stop_listening();
    while bench.driver.is_listening() {
        // The bound makes the test fail instead of hang.
        let asleep_since = Instant::now();
        bench.driver.wait(Some(Duration::from_secs(120))).unwrap();
        assert!(asleep_since.elapsed() < Duration::from_secs(60), "it slept");
        assert!(bench.driver.next().is_none_or(|seen| matches!(seen, Completion::AcceptFailed { .. })));
    }
}

fn watching_tells_of_bytes_and_of_the_end<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    for _ in 0..3 {
        bench.driver.watch(conn);
        bench.driver.recv(conn); // One is outstanding already.
        assert_eq!(bench.settle(), []);
        assert_eq!(peer.write(b"x"), 1);
        assert_eq!(bench.next(), Seen::Received(conn, b"x".to_vec()));
    }
    assert_eq!(bench.settle(), []);
    bench.driver.watch(conn);
    peer.shutdown_write();
    assert_eq!(bench.next(), Seen::Ended(conn));
    bench.driver.watch(conn);
    assert_eq!(bench.next(), Seen::Ended(conn));
}

fn a_watched_connection_is_closed_at_once<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    let sent = bench.fill(conn);
    bench.driver.watch(conn);
    bench.settle();
    bench.driver.close(conn);
    assert_eq!(bench.read_to_end(&mut peer).len(), sent);
}

fn bytes_are_held_until_they_are_sent<N: Net>(mut bench: Bench<N>) {
    let mut peers: Vec<(N::Peer, ConnId)> = (0..4).map(|_| bench.connect()).collect();
    // Each connection ends before anybody waits, and only the driver holds its offer.
    let mut taken = Vec::new();
    for (n, (_, conn)) in (0_u8..).zip(&peers) {
        taken.push(match bench.offer(*conn, &[&[n; 100], &[n; 20]]) {
            SendStart::Sent(bytes) => bytes,
            SendStart::Pending => 0, // Nobody learns how many.
            SendStart::Failed(error) => panic!("{error}"),
        });
        bench.driver.close(*conn);
    }
    for (n, ((peer, _), least)) in (0_u8..).zip(peers.iter_mut().zip(taken)) {
        let read = bench.read_to_end(peer);
        assert!(read.len() >= least && read.iter().all(|&byte| byte == n), "{n}: {read:?}");
    }
}

fn a_refused_socket_is_closed<N: Net>(mut bench: Bench<N>) {
    bench.refuses = true;
    let mut peer = bench.net.connect();
    assert_eq!(bench.read_to_end(&mut peer), b"");
}

fn dropping_the_driver_closes_everything<N: Net>(mut bench: Bench<N>) {
    let (mut peer, conn) = bench.connect();
    bench.driver.recv(conn);
    let Bench { mut net, driver, .. } = bench;
    drop(driver);
    while !peer.is_over() {
        assert_eq!(peer.read(), b"");
    }
    assert!(net.try_connect().is_none(), "nobody listens");
}
