use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Instant;

use super::accept::RETRY_INTERVAL;
use super::*;
use crate::base::limits::ACCEPTS_PER_WAIT_MAX;
use crate::driver::socket::tests::notices_that_a_peer_is_gone;
use crate::driver::socket::{SocketOptions, bind};
use crate::driver::with_offer;

fn listen(options: &SocketOptions) -> (EpollDriver, SocketAddr) {
    let listener = bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
    let address = listener.address().unwrap();
    (EpollDriver::new(vec![listener]).unwrap(), address)
}

/// Waits once. Returns the accepted sockets and the number of failed accepts.
fn accept(driver: &mut EpollDriver, timeout: Duration) -> (Vec<Socket>, usize) {
    driver.wait(Some(timeout)).unwrap();
    let (mut sockets, mut failures) = (Vec::new(), 0);
    while let Some(completion) = driver.next() {
        match completion {
            Completion::Accepted { socket, .. } => sockets.push(socket.0),
            Completion::AcceptFailed { error } => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                failures += 1;
            }
            Completion::Received { .. }
            | Completion::ReceiveEnded { .. }
            | Completion::Sent { .. }
            | Completion::Writable { .. }
            | Completion::Failed { .. } => panic!("{completion:?}"),
        }
    }
    (sockets, failures)
}

const SOON: Duration = Duration::from_secs(60);

#[test]
fn accepted_sockets_inherit_their_listeners_options() {
    for nodelay in [true, false] {
        let options = SocketOptions {
            nodelay,
            send_buffer_bytes: Some(20_000),
            notsent_lowat_bytes: Some(12_345),
            stall_timeout: Some(Duration::from_secs(120)),
            ..SocketOptions::default()
        };
        let (mut driver, address) = listen(&options);
        let _peer = TcpStream::connect(address).unwrap();
        let (sockets, _) = accept(&mut driver, SOON);
        assert_eq!(sockets[0].tcp_nodelay().unwrap(), nodelay);
        assert_eq!(sockets[0].send_buffer_size().unwrap(), 40_000, "the kernel doubles it");
        assert_eq!(sockets[0].tcp_notsent_lowat().unwrap(), 12_345);
        assert!(sockets[0].nonblocking().unwrap());
        notices_that_a_peer_is_gone(&sockets[0]);
    }
}

#[test]
fn a_wake_up_ends_a_wait_without_bound() {
    let (mut driver, _) = listen(&SocketOptions::default());
    let waker = driver.waker();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        waker.wake();
    });
    driver.wait(None).unwrap();
    assert!(driver.next().is_none());
    thread.join().unwrap();
}

#[test]
fn a_wake_up_before_the_wait_is_not_lost_and_not_told_twice() {
    let (mut driver, _) = listen(&SocketOptions::default());
    driver.waker().wake();
    driver.waker().wake();
    driver.wait(None).unwrap();
    let start = Instant::now();
    driver.wait(Some(Duration::from_millis(20))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn a_storm_of_newcomers_is_taken_in_bounded_lots_and_none_is_forgotten() {
    let (mut driver, address) = listen(&SocketOptions::default());
    let _peers: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(address).unwrap()).collect();
    let lots: Vec<usize> = (0..3).map(|_| accept(&mut driver, SOON).0.len()).collect();
    assert_eq!(lots, [ACCEPTS_PER_WAIT_MAX, ACCEPTS_PER_WAIT_MAX, 150 - 2 * ACCEPTS_PER_WAIT_MAX]);
    assert_eq!(accept(&mut driver, Duration::ZERO).0.len(), 0);
}

#[test]
fn each_listener_is_told_apart() {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = [0, 1].map(|_| bind(any, &SocketOptions::default()).unwrap());
    let addresses = listeners.each_ref().map(Listener::address);
    let mut driver = EpollDriver::new(listeners.into()).unwrap();
    for (number, address) in addresses.into_iter().enumerate() {
        let _peer = TcpStream::connect(address.unwrap()).unwrap();
        driver.wait(Some(SOON)).unwrap();
        assert!(
            matches!(driver.next(), Some(Completion::Accepted { listener, .. }) if listener == number),
            "listener {number}"
        );
    }
}

#[test]
fn a_storm_at_one_listener_does_not_starve_another() {
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = [0, 1].map(|_| bind(any, &SocketOptions::default()).unwrap());
    let addresses = listeners.each_ref().map(Listener::address);
    let mut driver = EpollDriver::new(listeners.into()).unwrap();
    let _storm: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(addresses[0].unwrap()).unwrap()).collect();
    let one = TcpStream::connect(addresses[1].unwrap()).unwrap();
    let (sockets, _) = accept(&mut driver, SOON);
    let is_one = |socket: &Socket| socket.peer_addr().unwrap().as_socket() == one.local_addr().ok();
    assert!(sockets.iter().any(is_one));
}

#[test]
fn what_was_collected_for_a_closed_connection_is_not_its_successors() {
    let (mut driver, address) = listen(&SocketOptions::default());
    let mut peers: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut sockets = accept(&mut driver, SOON).0.into_iter().map(EpollSocket);
    let [old, new] = [0, 1].map(|generation| ConnId { index: 0, generation });
    driver.adopt(sockets.next().unwrap(), old).unwrap();
    driver.recv(old);
    peers[0].write_all(b"first").unwrap();
    driver.wait(Some(SOON)).unwrap();
    driver.close(old);
    driver.adopt(sockets.next().unwrap(), new).unwrap();
    driver.recv(new);
    peers[1].write_all(b"second").unwrap();
    driver.wait(Some(SOON)).unwrap();
    let next = driver.next();
    assert!(matches!(next, Some(Completion::Received { conn, bytes: b"second" }) if conn == new), "{next:?}");
}

#[test]
fn connections_are_served_in_turns() {
    let (mut driver, address) = listen(&SocketOptions::default());
    let peers: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    let (sockets, _) = accept(&mut driver, SOON);
    let same: Vec<TcpStream> = sockets.iter().map(|socket| socket.try_clone().unwrap().into()).collect();
    for (index, socket) in (0..).zip(sockets) {
        let conn = ConnId { index, generation: 0 };
        driver.adopt(EpollSocket(socket), conn).unwrap();
        driver.recv(conn);
    }
    for mut peer in &peers {
        peer.write_all(&vec![0; 3 * READ_BUFFER_BYTES]).unwrap();
    }
    for socket in same {
        // More bytes have come to each than one read takes.
        while !socket.peek(&mut vec![0; READ_BUFFER_BYTES + 1]).is_ok_and(|count| count > READ_BUFFER_BYTES) {
        }
    }
    let mut turns = Vec::new();
    driver.wait(Some(SOON)).unwrap();
    while turns.len() < 4
        && let Some(Completion::Received { conn, .. }) = driver.next()
    {
        turns.push(conn.index);
        driver.recv(conn); // Served from the driver's own state, without another wait.
    }
    assert_eq!(turns.len(), 4);
    assert!(turns[0] != turns[1] && turns[..2] == turns[2..], "{turns:?}");
}

/// A driver with one connection, and its peer.
fn connected() -> (EpollDriver, TcpStream, ConnId) {
    let (mut driver, address) =
        listen(&SocketOptions { send_buffer_bytes: Some(32 * 1024), ..SocketOptions::default() });
    let peer = TcpStream::connect(address).unwrap();
    let socket = accept(&mut driver, SOON).0.pop().unwrap();
    let conn = ConnId { index: 0, generation: 0 };
    driver.adopt(EpollSocket(socket), conn).unwrap();
    (driver, peer, conn)
}

#[test]
fn a_request_that_came_with_its_connection_is_read_in_the_same_turn_and_makes_no_event() {
    let (mut driver, address) = listen(&SocketOptions::default());
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(b"request").unwrap();
    driver.wait(Some(SOON)).unwrap();
    let Some(Completion::Accepted { socket, .. }) = driver.next() else { panic!("nobody came") };
    let conn = ConnId { index: 0, generation: 0 };
    driver.adopt(socket, conn).unwrap();
    driver.recv(conn);
    assert!(matches!(driver.next(), Some(Completion::Received { bytes: b"request", .. })));
    driver.wait(Some(Duration::ZERO)).unwrap();
    assert!(driver.events.is_empty());
}

/// Makes every attempt to watch a connection fail.
fn spoil(driver: &mut EpollDriver, conn: ConnId) {
    let descriptor = driver.table.get_mut(conn).unwrap().socket.as_raw_fd();
    let elsewhere = connection::token_of(ConnId { index: 1000, generation: 0 });
    // A descriptor cannot be added twice (`epoll_ctl(2)`, `EEXIST`).
    driver.poll.registry().register(&mut SourceFd(&descriptor), elsewhere, Interest::READABLE).unwrap();
}

#[test]
fn a_connection_that_cannot_be_watched_fails_and_loses_nothing_before() {
    for bytes in [b"".as_slice(), b"request"] {
        let (mut driver, mut peer, conn) = connected();
        spoil(&mut driver, conn);
        peer.write_all(bytes).unwrap();
        driver.recv(conn);
        if !bytes.is_empty() {
            let next = driver.next();
            assert!(matches!(next, Some(Completion::Received { bytes: b"request", .. })), "{next:?}");
            driver.recv(conn);
            driver.wait(None).unwrap();
        }
        let next = driver.next();
        let Some(Completion::Failed { conn: failed, error }) = next else { panic!("{next:?}") };
        assert_eq!((failed, error.raw_os_error()), (conn, Some(libc::EEXIST)));
        assert!(driver.next().is_none());
        driver.recv(conn);
        driver.wait(Some(Duration::ZERO)).unwrap();
        assert!(driver.next().is_none(), "a failure is the last completion");
    }
}

#[test]
fn a_send_without_room_on_a_connection_that_cannot_be_watched_fails() {
    let (mut driver, _peer, conn) = connected();
    spoil(&mut driver, conn);
    let bytes = vec![0; 64 * 1024];
    for _ in 0..1000 {
        match with_offer(&[&bytes], |offer| driver.send(conn, offer)) {
            SendStart::Sent(sent) => assert_eq!(sent, bytes.len(), "no `Writable` would ever follow"),
            SendStart::Pending => panic!("a send is done at once"),
            SendStart::Failed(error) => return assert_eq!(error.raw_os_error(), Some(libc::EEXIST)),
        }
    }
    panic!("there was always room");
}

/// Runs this test alone in a process with few file descriptors. Returns true in that process.
fn is_alone_with_few_descriptors(test: &str) -> bool {
    const MARK: &str = "DOWNPOUR_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let this = std::env::current_exe().unwrap();
    let script = r#"ulimit -n 64 && exec "$0" --exact "$1" --test-threads 1"#;
    let test = format!("driver::epoll::tests::{test}");
    let output = Command::new("sh").args(["-c", script]).arg(this).arg(test).env(MARK, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[test]
fn accepting_survives_a_full_table_of_descriptors() {
    if !is_alone_with_few_descriptors("accepting_survives_a_full_table_of_descriptors") {
        return;
    }
    let (mut driver, address) = listen(&SocketOptions::default());
    let _peers: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut others: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();

    let start = Instant::now();
    assert!(matches!(accept(&mut driver, SOON), (sockets, 1) if sockets.is_empty()));
    while accept(&mut driver, Duration::from_millis(10)).1 == 0 {}
    assert!(start.elapsed() >= RETRY_INTERVAL, "it is not tried again before");

    // Closing a connection makes room for the next at once.
    others.pop();
    driver.close(ConnId { index: 0, generation: 0 });
    let start = Instant::now();
    let (first, failures) = accept(&mut driver, Duration::ZERO);
    assert_eq!((first.len(), failures), (1, 1));

    // Room that others make is found after a while, even during a wait without bound.
    others.clear();
    driver.wait(None).unwrap();
    assert!(driver.next().is_none());
    assert!(start.elapsed() >= RETRY_INTERVAL);
    assert_eq!(accept(&mut driver, Duration::ZERO).0.len(), 2);
}
