//! `--body-memory` over real sockets, by the memory of the server's process. Unfinished bodies and
//! unread answers are bounded together, for all connections and for each address.

use std::sync::mpsc;
use std::thread;

use crate::common::{Client, DriverKind, MIB, PATIENCE, Server, for_each_driver, wait_for};

for_each_driver!(
    unfinished_bodies_are_bounded,
    unread_answers_are_bounded,
    no_address_takes_more_than_an_eighth,
    what_is_given_back_is_there_for_the_next,
    bodies_of_the_endpoints_of_clients_are_short,
    what_is_held_is_reported_by_a_metric,
);

/// Growth of the process beside the counted memory: buffers of connections and drivers, and
/// fragmentation by growing bodies. Without the bound the growth is some 100 MiB.
const SLACK: u64 = 24 * MIB;

/// Begins a body of a MiB and sends nearly all of it.
fn begin(server: &Server, source: [u8; 4]) -> Client {
    let mut client = Client::connect_as(server, source, None);
    client.send(format!("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n\r\n"));
    // The server may refuse it in the middle.
    drop(client.try_send(vec![b'x'; usize::try_from(MIB).unwrap() - 1]));
    client
}

/// Ends a body with an invalid byte. Returns whether the server held it until then.
fn is_held(client: &mut Client) -> bool {
    drop(client.try_send([0xff]));
    let answer = client.answer();
    if answer.status() == 503 {
        assert!(answer.head.contains("\r\nRetry-After: 1\r\n"), "{}", answer.head);
        return false;
    }
    assert_eq!(answer.status(), 400, "{}", answer.text());
    true
}

fn unfinished_bodies_are_bounded(io: DriverKind) {
    let server = Server::start(io, &["--body-memory", "16MiB", "--body-timeout", "10m"]);
    let before = server.peak_rss();
    let mut clients: Vec<Client> = (0..100).map(|number| begin(&server, [127, 0, 1, number])).collect();
    let held = clients.iter_mut().map(is_held).filter(|&held| held).count();
    let grown = server.peak_rss() - before;
    println!("100 bodies of a MiB, {held} of them held: {} KiB more", grown / 1024);
    assert!(grown < 16 * MIB + SLACK, "{grown} bytes");
    assert!(held >= 1, "there is room for some");
    assert_eq!(Client::connect(&server).publish_text("a", "x").1, 0, "others publish");
}

fn unread_answers_are_bounded(io: DriverKind) {
    let server = Server::start(io, &["--body-memory", "16MiB"]);
    let mut publisher = Client::connect(&server);
    for ten in 0..100 {
        let envelope = |number| format!(r#"{{"channel":"{}{ten:02}{number}","data":1}}"#, "n".repeat(240));
        let envelopes: Vec<String> = (0..10).map(envelope).collect();
        publisher.publish(&format!("[{}]", envelopes.join(",")));
    }
    let before = server.peak_rss();
    let request = "GET /channels HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let ask = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let mut client = Client::connect_as(&server, [127, 0, 100 + high, low], Some(4096));
        client.send(request);
        client
    };
    let mut clients: Vec<Client> = (1..=400).map(ask).collect();
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.answer().status()).collect();
    let count = |status| statuses.iter().filter(|&&counted| counted == status).count();
    let (whole, refused) = (count(200), count(503));
    assert_eq!(whole + refused, 400, "{statuses:?}");
    let grown = server.peak_rss() - before;
    println!(
        "400 answers of 280 KB that are not read at once, {refused} of them refused: {} KiB more",
        grown / 1024
    );
    assert!(grown < 16 * MIB + SLACK, "{grown} bytes");
    assert!(whole >= 1, "there is room for some");
}

fn no_address_takes_more_than_an_eighth(io: DriverKind) {
    let server = Server::start(io, &["--body-memory", "32MiB", "--body-timeout", "10m"]);
    let (tell, told) = mpsc::channel();
    for _ in 0..10 {
        let (mut client, tell) = (begin(&server, [127, 0, 3, 1]), tell.clone());
        // Connections with a held body get no answer until the server ends.
        thread::spawn(move || {
            if client.receive().unwrap_or(false) {
                // The receiver is gone if the test has ended.
                let _ = tell.send(client.answer().status());
            }
        });
    }
    for _ in 0..6 {
        assert_eq!(told.recv_timeout(PATIENCE), Ok(503), "at most four of ten fit 4 MiB");
    }
    assert!(is_held(&mut begin(&server, [127, 0, 3, 2])), "another address has a share of its own");
}

fn what_is_given_back_is_there_for_the_next(io: DriverKind) {
    let server = Server::start(io, &["--body-memory", "8MiB", "--max-body", "512KiB"]);
    for _ in 0..40 {
        let mut client = Client::connect(&server);
        client.send("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 400000\r\n\r\n");
        client.send(vec![b'x'; 300_000]);
        drop(client); // The memory of its unfinished body is free again.
    }
    wait_for("room", || {
        let mut client = Client::connect(&server);
        client.send("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 400000\r\n\r\n");
        drop(client.try_send(vec![b'x'; 400_000]));
        (client.answer().status() == 200).then_some(())
    });
}

fn bodies_of_the_endpoints_of_clients_are_short(io: DriverKind) {
    let server = Server::start(io, &[]);
    for (bytes, expected) in [(4096, 404), (4097, 413)] {
        let fields = r#"{"clientId":"x","channel":"a"}"#;
        let body = format!("{fields}{}", " ".repeat(bytes - fields.len()));
        let mut client = Client::connect(&server);
        let head =
            format!("POST /events/subscribe HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\r\n");
        assert_eq!(client.ask(&(head + &body)).status(), expected, "{bytes} bytes");
    }
}

fn what_is_held_is_reported_by_a_metric(io: DriverKind) {
    let server = Server::start(io, &["--body-timeout", "10m"]);
    let held = || server.metric("downpour_body_memory_bytes");
    assert_eq!(held(), 0);
    let client = begin(&server, [127, 0, 4, 1]);
    // A MiB, up to a step of the count and the growth of the buffer.
    wait_for("a body that is held", || (MIB..2 * MIB + 4096).contains(&(held() + 4096)).then_some(()));
    drop(client);
    wait_for("a body that was given back", || (held() == 0).then_some(()));
}
