//! `--body-memory` over real sockets, by the memory of the server's process: unfinished bodies and unread answers together are
//! bounded, for all and for each address.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

mod common;

use common::{Answer, Client, DriverKind, MIB, Server, for_each_driver, wait_for};

for_each_driver!(
    unfinished_bodies_are_bounded,
    unread_answers_are_bounded,
    no_address_takes_more_than_an_eighth,
    what_is_given_back_is_there_for_the_next,
    bodies_of_the_endpoints_of_clients_are_short,
);

/// What the process may grow by beside what is counted: buffers of connections, of the drivers and of the allocator.
const SLACK: u64 = 12 * MIB;

fn rss(server: &Server) -> u64 {
    server.memory().rss
}

/// Begins a body of a MiB and sends nearly all of it.
fn begin(server: &Server, source: [u8; 4]) -> Client {
    let mut client = Client::connect_as(server, source, None);
    client.send(format!("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n\r\n"));
    // The server may refuse it in the middle.
    drop(client.try_send(vec![b'x'; usize::try_from(MIB).unwrap() - 1]));
    client
}

/// Ends a body, and returns what it is answered.
fn finish(client: &mut Client) -> Answer {
    drop(client.try_send("x"));
    client.answer()
}

fn unfinished_bodies_are_bounded(io: DriverKind) {
    let server = Server::start(io, &["--body-memory", "16MiB"]);
    let before = rss(&server);
    let mut clients: Vec<Client> = (0..100).map(|number| begin(&server, [127, 0, 1, number])).collect();
    let mut statuses: Vec<u16> = Vec::new();
    // As many stay unfinished as there is room for: the rest have their answer.
    for client in &mut clients[40..] {
        let answer = client.answer();
        assert!(answer.head.contains("\r\nRetry-After: 1\r\n"), "{}", answer.head);
        statuses.push(answer.status());
    }
    assert!(statuses.iter().all(|&status| status == 503), "{statuses:?}");
    let grown = rss(&server).saturating_sub(before);
    println!("100 bodies of a MiB, each but for its last byte: {} KiB more", grown / 1024);
    assert!(grown < 16 * MIB + SLACK, "{grown} bytes");
    let taken = clients[..40].iter_mut().map(finish).filter(|answer| answer.status() == 200).count();
    assert!((8..=16).contains(&taken), "{taken} were held whole");
    assert_eq!(Client::connect(&server).publish_text("a", "x").1, 0, "others publish");
}

fn unread_answers_are_bounded(io: DriverKind) {
    let server = Server::start(io, &["--body-memory", "16MiB"]);
    let mut publisher = Client::connect(&server);
    for hundred in 0..100 {
        let envelopes: Vec<String> = (0..100)
            .map(|number| format!(r#"{{"channel":"{}{hundred}-{number}","data":1}}"#, "n".repeat(100)))
            .collect();
        publisher.publish(&format!("[{}]", envelopes.join(",")));
    }
    let before = rss(&server);
    let request = "GET /sse/stats HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients: Vec<Client> = (0..60)
        .map(|number| {
            let mut client = Client::connect_as(&server, [127, 0, 2, number], Some(4096));
            client.send(request);
            client
        })
        .collect();
    let last = Client::connect(&server).ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(last.status(), 200);
    let grown = rss(&server).saturating_sub(before);
    println!("60 unread answers: {} KiB more", grown / 1024);
    assert!(grown < 16 * MIB + SLACK, "{grown} bytes");
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.answer().status()).collect();
    let (whole, refused) =
        (statuses.iter().filter(|&&s| s == 200).count(), statuses.iter().filter(|&&s| s == 503).count());
    assert_eq!(whole + refused, 60, "{statuses:?}");
    println!("{whole} whole, {refused} refused");
}

fn no_address_takes_more_than_an_eighth(io: DriverKind) {
    let server = Server::start(io, &["--body-memory", "32MiB"]);
    let mut clients: Vec<Client> = (0..10).map(|_| begin(&server, [127, 0, 3, 1])).collect();
    let mut other = begin(&server, [127, 0, 3, 2]);
    assert_eq!(finish(&mut other).status(), 200, "another address has a share of its own");
    let statuses: Vec<u16> = clients.iter_mut().map(|client| finish(client).status()).collect();
    let refused = statuses.iter().filter(|&&status| status == 503).count();
    assert!(refused >= 6, "at most four of ten fit 4 MiB: {statuses:?}");
}

fn what_is_given_back_is_there_for_the_next(io: DriverKind) {
    let server = Server::start(io, &["--body-memory", "8MiB", "--max-body", "512KiB"]);
    for _ in 0..40 {
        let mut client = Client::connect(&server);
        client.send("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 400000\r\n\r\n");
        client.send(vec![b'x'; 300_000]);
        drop(client); // It breaks off, and what it held is free again.
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
