//! Clients that have vanished, and a server that was stopped for a while.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::{Client, DriverKind, Server, for_each_driver, process, wait_for};
use socket2::{SockFilter, SockRef};

for_each_driver!(
    a_client_that_takes_nothing_is_closed_for_that_reason,
    a_client_that_is_gone_from_the_network_is_noticed_though_nothing_is_sent,
    a_client_that_is_gone_from_the_network_is_noticed_by_what_it_is_sent,
    what_came_whole_while_the_server_stood_still_is_answered,
);

const OPEN: &str = "GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The number of connections that were closed for `reason`.
fn closed_for(server: &Server, reason: &str) -> u64 {
    let answer = Client::connect(server).ask("GET /sse/stats HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let stats: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    stats["connections_closed"][reason].as_u64().unwrap_or_else(|| panic!("{reason} is not in {stats}"))
}

fn a_client_that_takes_nothing_is_closed_for_that_reason(io: DriverKind) {
    // Long enough that the server is first: the kernel allows a closed window half as long again.
    let server = Server::start(io, &["--stall-timeout", "10s", "--keepalive", "0"]);
    let mut stuck = Client::connect_as(&server, [127, 0, 0, 1], Some(8 * 1024));
    stuck.send(OPEN);
    let mut publisher = Client::connect(&server);
    wait_for("the stream", || (publisher.publish_text("a", "x").1 == 1).then_some(()));
    publisher.publish_text("a", &"x".repeat(1_000_000)); // More than the kernel holds for it.
    wait_for("the close", || (closed_for(&server, "stalled") == 1).then_some(()));
    assert_eq!((closed_for(&server, "failed"), closed_for(&server, "too-slow")), (0, 0));
    assert_eq!(publisher.publish_text("a", "x").1, 0);
}

/// Makes the kernel drop all packets for a socket, as if its machine were off.
fn vanish(socket: &TcpStream) {
    const RETURN: u16 = 0x06; // A filter that keeps 0 bytes of each packet (`socket(7)`, SO_ATTACH_FILTER).
    SockRef::from(socket).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]).unwrap();
}

/// A client that vanishes once its stream has begun.
fn vanished(server: &Server) -> TcpStream {
    let socket = TcpStream::connect(server.address()).unwrap();
    let mut client = Client::over(socket.try_clone().unwrap());
    client.send(OPEN);
    client.take_through(b"event: connected");
    vanish(&socket);
    socket
}

fn a_client_that_is_gone_from_the_network_is_noticed_though_nothing_is_sent(io: DriverKind) {
    let server = Server::start(io, &["--stall-timeout", "2s", "--keepalive", "0"]);
    let socket = vanished(&server);
    wait_for("the close", || (closed_for(&server, "failed") == 1).then_some(()));
    assert_eq!(Client::connect(&server).publish_text("a", "x").1, 0);
    drop(socket);
}

fn a_client_that_is_gone_from_the_network_is_noticed_by_what_it_is_sent(io: DriverKind) {
    let server = Server::start(io, &["--stall-timeout", "2s", "--keepalive", "0"]);
    let socket = vanished(&server);
    assert_eq!(Client::connect(&server).publish_text("a", "x").1, 1);
    wait_for("the close", || (closed_for(&server, "failed") == 1).then_some(()));
    drop(socket);
}

/// The state of a process (`proc_pid_stat(5)`).
fn is_stopped(server: &Server) -> bool {
    process(server.pid()).unwrap().stat().unwrap().state == 'T'
}

fn what_came_whole_while_the_server_stood_still_is_answered(io: DriverKind) {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const CLIENTS: usize = 150;
    const TRIES: usize = 20;
    let body = "x".repeat(6000);
    let post = format!(
        "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let times = ["--head-timeout", "2s", "--body-timeout", "2s", "--idle-timeout", "2s"];
    for _ in 0..TRIES {
        let server = Server::start(io, &[&times[..], &["--shards", "1"]].concat());
        let begun = Instant::now();
        // Clients that have sent nothing, a part of a head, a part of a body, and one request.
        let mut clients: Vec<(Client, &str)> = (0..CLIENTS)
            .map(|at| {
                let mut client = Client::connect(&server);
                let (first, rest) = match at % 4 {
                    0 => ("", get),
                    1 => get.split_at(10),
                    2 => post.split_at(post.len() - 5000),
                    _ => {
                        assert_eq!(client.ask(get).status(), 200);
                        ("", &*post)
                    }
                };
                client.send(first);
                (client, rest)
            })
            .collect();
        server.signal("STOP");
        wait_for("the server to stop", || is_stopped(&server).then_some(()));
        let is_in_time = begun.elapsed() < TIMEOUT;
        if is_in_time {
            clients.iter_mut().for_each(|(client, rest)| client.send(rest));
            std::thread::sleep(TIMEOUT + Duration::from_millis(200));
        }
        server.signal("CONT");
        if is_in_time {
            for (client, _) in &mut clients {
                assert_eq!(client.answer().status(), 200);
            }
            return;
        }
        // The machine was too busy: some deadlines passed before the server was stopped.
    }
    panic!("the machine was too busy each time");
}
