use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use super::accept::RETRY_INTERVAL;
use super::*;
use crate::base::limits::ACCEPTS_PER_WAIT_MAX;
use crate::driver::socket::tests::notices_that_a_peer_is_gone;
use crate::driver::socket::{Listener, SocketOptions, bind};
use crate::driver::with_offer;

/// The proof that the kernel has what the driver needs. If it does not, the test fails, or says so if
/// skipping is allowed.
pub(in crate::driver) fn proven() -> Option<Proven> {
    match prove() {
        Ok(proven) => Some(proven),
        Err(error) if std::env::var_os("DOWNPOUR_TEST_STRICT").is_some_and(|strict| strict == "1") => {
            panic!("{error}")
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// As [`proven`], for a kernel whose silence does not mean success.
pub(in crate::driver) fn proven_reporting_everything() -> Option<Proven> {
    proven().map(|_| Proven::of(sends::Reporting::Everything))
}

fn listeners<const N: usize>(backlog: u32) -> ([SocketAddr; N], Vec<Listener>) {
    let stall_timeout = Some(Duration::from_secs(120));
    let options = SocketOptions { backlog, stall_timeout, ..SocketOptions::default() };
    let listeners = [(); N].map(|()| bind("127.0.0.1:0".parse().unwrap(), &options).unwrap());
    (listeners.each_ref().map(|listener| listener.address().unwrap()), listeners.into())
}

/// A driver with `files` direct descriptors, and the address of its listener.
fn driver(files: u32) -> Option<(UringDriver, SocketAddr)> {
    Some(driver_of(files, proven()?))
}

/// The same, with this proof.
fn driver_of(files: u32, proven: Proven) -> (UringDriver, SocketAddr) {
    let ([address], listeners) = listeners(100);
    (PreparedUring::new(listeners, files, proven).unwrap().start().unwrap(), address)
}

/// Waits once. Returns the accepted sockets and the number of failed accepts.
fn accept(driver: &mut UringDriver, timeout: Duration) -> (Vec<UringSocket>, usize) {
    driver.wait(Some(timeout)).unwrap();
    let (mut sockets, mut failures) = (Vec::new(), 0);
    while let Some(completion) = driver.next() {
        match completion {
            Completion::Accepted { socket, .. } => sockets.push(socket),
            Completion::AcceptFailed { error } => {
                assert_eq!(error.raw_os_error(), Some(libc::ENFILE));
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

/// Accepts `count` connections, in as many waits as it takes.
fn accept_all(driver: &mut UringDriver, count: usize) -> Vec<UringSocket> {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        sockets.extend(accept(driver, SOON).0);
    }
    assert_eq!(sockets.len(), count);
    sockets
}

fn conn(index: u32) -> ConnId {
    ConnId { index, generation: 0 }
}

const SOON: Duration = Duration::from_secs(60);

#[test]
fn this_kernel_tells_of_failures_alone() {
    let Some(proven) = proven() else { return };
    assert_eq!(proven.reporting(), sends::Reporting::Failures);
}

#[test]
fn a_wake_up_ends_a_wait_without_bound() {
    let Some((mut driver, _)) = driver(10) else { return };
    let waker = driver.waker();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        waker.wake();
    });
    driver.wait(None).unwrap();
    assert!(driver.next().is_none());
    thread.join().unwrap();
}

#[test]
fn a_wake_up_before_the_wait_is_not_lost_and_not_told_twice() {
    let Some((mut driver, _)) = driver(10) else { return };
    for _ in 0..3 {
        driver.waker().wake();
        driver.waker().wake();
        driver.wait(None).unwrap();
        let start = Instant::now();
        driver.wait(Some(Duration::from_millis(20))).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}

#[test]
fn a_storm_of_newcomers_is_taken_in_bounded_lots_and_none_is_forgotten() {
    let Some((mut driver, address)) = driver(10_000) else { return };
    let peers: Vec<TcpStream> = (0..90).map(|_| TcpStream::connect(address).unwrap()).collect();
    let lots: Vec<usize> = (0..2).map(|_| accept(&mut driver, SOON).0.len()).collect();
    assert_eq!(lots, [ACCEPTS_PER_WAIT_MAX, peers.len() - ACCEPTS_PER_WAIT_MAX]);
    assert_eq!(accept(&mut driver, Duration::ZERO).0.len(), 0);
}

#[test]
fn a_storm_at_one_listener_does_not_starve_another() {
    let Some(proven) = proven() else { return };
    let (addresses, listeners) = listeners::<2>(100);
    let mut driver = PreparedUring::new(listeners, 10_000, proven).unwrap().start().unwrap();
    let _storm: Vec<TcpStream> = (0..90).map(|_| TcpStream::connect(addresses[0]).unwrap()).collect();
    let _one = TcpStream::connect(addresses[1]).unwrap();
    driver.wait(Some(SOON)).unwrap();
    let mut seen = Vec::new();
    while let Some(Completion::Accepted { listener, .. }) = driver.next() {
        seen.push(listener);
    }
    assert_eq!(seen.len(), ACCEPTS_PER_WAIT_MAX);
    assert!(seen.contains(&1));
}

#[test]
fn a_full_table_keeps_newcomers_waiting_and_drops_none() {
    let Some((mut driver, address)) = driver(3) else { return };
    let mut peers: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (index, socket) in (0..).zip(accept_all(&mut driver, 3)) {
        driver.adopt(socket, conn(index)).unwrap();
    }
    let start = Instant::now();
    assert!(matches!(accept(&mut driver, SOON), (sockets, 1) if sockets.is_empty()));
    let (sockets, failures) = accept(&mut driver, Duration::from_millis(10));
    assert!(
        sockets.is_empty() && (failures == 0 || start.elapsed() >= RETRY_INTERVAL),
        "tried again too soon"
    );

    // Closing a connection makes room for the next.
    driver.close(conn(0));
    driver.close(conn(1));
    for (index, socket) in (3..).zip(accept_all(&mut driver, 2)) {
        driver.adopt(socket, conn(index)).unwrap();
        driver.recv(conn(index));
    }
    for peer in &mut peers[3..] {
        peer.write_all(b"still here").unwrap();
    }
    let mut received = 0;
    while received < 2 {
        driver.wait(Some(SOON)).unwrap();
        while let Some(completion) = driver.next() {
            if !matches!(completion, Completion::AcceptFailed { .. }) {
                let Completion::Received { bytes: b"still here", .. } = completion else {
                    panic!("{completion:?}")
                };
                received += 1;
            }
        }
    }
    assert_eq!(peers[0].read(&mut [0]).unwrap(), 0, "the first was closed");
}

#[test]
fn room_in_a_full_table_that_comes_about_elsewhere_is_found_after_a_while() {
    let Some((mut driver, address)) = driver(1) else { return };
    let _peers: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    let first = accept_all(&mut driver, 1);
    assert_eq!(accept(&mut driver, SOON).1, 1);
    drop(first); // The driver learns of this at its next wait.
    assert_eq!(accept_all(&mut driver, 1).len(), 1);
}

#[test]
fn more_receive_at_once_than_there_are_buffers() {
    let Some((mut driver, address)) = driver(1000) else { return };
    let mut peers: Vec<TcpStream> = (0..90).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (index, socket) in (0..).zip(accept_all(&mut driver, peers.len())) {
        driver.adopt(socket, conn(index)).unwrap();
        driver.recv(conn(index));
    }
    for round in 0..3_u8 {
        peers.iter_mut().for_each(|peer| peer.write_all(&[round; 100]).unwrap());
        let mut received = vec![Vec::new(); peers.len()];
        while received.iter().any(|bytes| bytes.len() < 100) {
            driver.wait(Some(SOON)).unwrap();
            while let Some(completion) = driver.next() {
                let Completion::Received { conn, bytes } = completion else { panic!("{completion:?}") };
                received[conn.index as usize].extend_from_slice(bytes);
                driver.recv(conn);
            }
        }
        assert!(received.iter().all(|bytes| *bytes == [round; 100]));
    }
}

#[test]
fn who_sends_much_is_received_from_in_large_pieces_and_in_small_ones_where_none_is_free() {
    let Some((mut driver, address)) = driver(1000) else { return };
    let mut peers: Vec<TcpStream> = (0..12).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (index, socket) in (0..).zip(accept_all(&mut driver, peers.len())) {
        driver.adopt(socket, conn(index)).unwrap();
    }
    let sent: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    for peer in &mut peers {
        peer.set_nonblocking(true).unwrap();
        assert_eq!(peer.write(&sent).unwrap(), sent.len(), "it fits the sockets");
    }
    (0..12).for_each(|index| driver.recv(conn(index)));
    let mut received = vec![Vec::new(); peers.len()];
    let mut largest = vec![0; peers.len()];
    while received.iter().any(|bytes| bytes.len() < sent.len()) {
        driver.wait(Some(SOON)).unwrap();
        while let Some(completion) = driver.next() {
            let Completion::Received { conn, bytes } = completion else { panic!("{completion:?}") };
            let index = conn.index as usize;
            assert!(!received[index].is_empty() || bytes.len() <= buffers::SMALL.bytes as usize, "the first");
            received[index].extend_from_slice(bytes);
            largest[index] = largest[index].max(bytes.len());
            driver.recv(conn);
        }
    }
    assert!(received.iter().all(|bytes| *bytes == sent));
    assert!(largest.iter().any(|&bytes| bytes > buffers::SMALL.bytes as usize), "{largest:?}");
}

#[test]
fn a_fan_out_is_one_lot_of_sends() {
    for proven in [proven(), proven_reporting_everything()].into_iter().flatten() {
        fan_out_in_one_lot(proven);
    }
}

fn fan_out_in_one_lot(proven: Proven) {
    let (mut driver, address) = driver_of(1000, proven);
    let mut peers: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (index, socket) in (0..).zip(accept_all(&mut driver, peers.len())) {
        driver.adopt(socket, conn(index)).unwrap();
    }
    for index in 0..80 {
        let start = with_offer(&[b"to ", b"all"], |offer| driver.send(conn(index), offer));
        assert!(matches!(start, SendStart::Pending));
    }
    driver.wait(None).unwrap(); // It does not sleep while a send is done.
    for index in 0..80 {
        let next = driver.next();
        assert!(
            matches!(next, Some(Completion::Sent { conn: of, bytes: 6 }) if of == conn(index)),
            "{next:?}"
        );
    }
    assert!(driver.next().is_none());
    for peer in &mut peers {
        let mut bytes = [0; 6];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"to all");
    }
}

#[test]
fn a_socket_that_is_dropped_is_closed() {
    let Some((mut driver, address)) = driver(1000) else { return };
    let mut peers: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    let sockets = accept_all(&mut driver, peers.len());
    drop(sockets);
    driver.wait(Some(Duration::ZERO)).unwrap();
    assert!(peers.iter_mut().all(|peer| peer.read(&mut [0]).unwrap() == 0));
}

#[test]
fn a_connection_is_handed_over_to_another_ring() {
    let (Some((mut one, address)), Some((mut other, _))) = (driver(10), driver(10)) else { return };
    for round in 0..20 {
        let mut peer = TcpStream::connect(address).unwrap();
        let socket = accept_all(&mut one, 1).remove(0);
        let descriptor = one.hand_over(socket).unwrap();
        let socket = other.take_over(descriptor).unwrap();
        one.wait(Some(Duration::ZERO)).unwrap(); // It closes its part of the connection.
        let conn = ConnId { index: 0, generation: round };
        other.adopt(socket, conn).unwrap();
        other.recv(conn);
        peer.write_all(b"question").unwrap();
        other.wait(Some(SOON)).unwrap();
        let next = other.next();
        assert!(matches!(next, Some(Completion::Received { bytes: b"question", .. })), "{next:?}");
        assert!(matches!(with_offer(&[b"answer"], |offer| other.send(conn, offer)), SendStart::Pending));
        other.close(conn);
        other.wait(Some(Duration::ZERO)).unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer");
    }
}

#[test]
fn a_full_table_takes_no_connection_over() {
    let Some((mut driver, address)) = driver(3) else { return };
    let peers: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    let taken = peers.into_iter().map(|peer| driver.take_over(peer.into()));
    let taken: Vec<io::Result<UringSocket>> = taken.collect();
    assert!(taken[0].is_ok() && taken[3].is_err(), "{taken:?}");
}

/// Makes the kernel refuse this system call to the calling thread, and to the threads that it starts.
#[expect(unsafe_code, reason = "std has no call for seccomp")]
fn forbid(call: libc::c_long, errno: i32) {
    let rule = |code: u32, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf, k };
    let mut rules = [
        rule(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // The number of the call (`seccomp_data`).
        rule(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, u32::try_from(call).unwrap()),
        rule(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        rule(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: rules.as_mut_ptr() };
    // SAFETY: the call takes only numbers (`prctl(2)`).
    let no_new_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(no_new_privileges, 0);
    let program = &raw const program;
    // SAFETY: `program` and its four rules live through the call, which copies them (`seccomp(2)`).
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, program) };
    assert_eq!(filtered, 0, "{}", io::Error::last_os_error());
}

#[test]
fn what_is_in_the_way_is_named() {
    for (call, errno, words) in [
        (libc::SYS_io_uring_setup, libc::EPERM, "seccomp"),
        (libc::SYS_io_uring_setup, libc::ENOSYS, "the kernel has none"),
        (libc::SYS_io_uring_setup, libc::EINVAL, "lacks rings of one issuer"),
        (libc::SYS_io_uring_setup, libc::ENOMEM, "locked memory"),
        (libc::SYS_io_uring_register, libc::EINVAL, "lacks tables of direct descriptors"),
        (libc::SYS_io_uring_register, libc::EPERM, "seccomp"),
    ] {
        let thread = thread::spawn(move || {
            forbid(call, errno);
            prove().unwrap_err().to_string()
        });
        let told = thread.join().unwrap();
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn a_table_larger_than_the_limit_on_open_files_is_refused_by_its_size() {
    let Some(proven) = proven() else { return };
    let refused = PreparedUring::new(Vec::new(), FILES_MAX + 1, proven).unwrap_err();
    assert!(matches!(refused, UringError::Table { files, .. } if files == FILES_MAX + 1), "{refused}");
}

#[test]
fn accepted_sockets_notice_that_a_peer_is_gone() {
    let Some((mut driver, address)) = driver(10) else { return };
    let _peer = TcpStream::connect(address).unwrap();
    let socket = accept_all(&mut driver, 1).pop().unwrap();
    let descriptor = driver.hand_over(socket).unwrap();
    notices_that_a_peer_is_gone(&socket2::Socket::from(descriptor));
}
