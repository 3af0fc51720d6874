//! Positions that a client may lose. A client resumes from the id that the last block set, and by the
//! letter of WHATWG HTML 9.2.6 each response begins without one. A client resumes exactly, whichever
//! block its connection ended after.

use crate::common::{Client, Dice, DriverKind, EventStream, Seen, Server, for_each_driver, number};

for_each_driver!(
    connected_gives_back_the_id_that_was_given,
    what_could_be_no_id_is_not_echoed,
    a_client_that_lost_its_connection_behind_connected_resumes_exactly,
    an_empty_replay_leaves_its_client_a_place,
    a_replay_that_is_cut_off_anywhere_goes_on_from_there,
    a_client_that_is_cut_off_at_every_event_misses_none,
);

/// An `EventSource`: its URL, and the id that the last block set.
struct Browser {
    target: String,
    last_event_id: String,
}

impl Browser {
    fn new(target: &str) -> Browser {
        Browser { target: target.to_owned(), last_event_id: String::new() }
    }

    fn connect(&self, server: &Server) -> EventStream {
        let id = match &*self.last_event_id {
            "" => String::new(),
            id => format!("Last-Event-ID: {id}\r\n"),
        };
        let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{id}\r\n", self.target);
        EventStream::over(Client::connect(server), &request, "")
    }

    fn read(&mut self, stream: &mut EventStream) -> Seen {
        let event = stream.next().unwrap();
        self.last_event_id.clone_from(&event.id);
        event
    }

    /// Connects, reads `blocks` blocks and loses its connection. Returns the data of the publishers'
    /// events among them.
    fn visit(&mut self, server: &Server, blocks: u64) -> Vec<String> {
        let mut stream = self.connect(server);
        let seen: Vec<Seen> = (0..blocks).map(|_| self.read(&mut stream)).collect();
        assert!(seen.iter().all(|event| event.kind != "gap"), "{seen:?}");
        seen.into_iter().filter(|event| event.kind == "message").map(|event| event.data).collect()
    }

    /// Reads until it has seen `last`.
    fn visit_until(&mut self, server: &Server, last: &str) -> Vec<String> {
        let mut stream = self.connect(server);
        let mut texts = Vec::new();
        while texts.last().is_none_or(|text| text != last) {
            let event = self.read(&mut stream);
            assert_ne!(event.kind, "gap", "{event:?}");
            if event.kind == "message" {
                texts.push(event.data);
            }
        }
        texts
    }
}

fn publish(server: &Server, range: std::ops::Range<u64>) {
    let mut publisher = Client::connect(server);
    for number in range {
        publisher.publish_text("a", &number.to_string());
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn connected_gives_back_the_id_that_was_given(io: DriverKind) {
    let server = Server::start(io, &[]);
    publish(&server, 0..3);
    let place = EventStream::open(&server, "/channels/a").expect("connected").id;
    assert_eq!(number(&place), 3);
    let (first, longest) = (place.replace("03", "01"), "x".repeat(256));
    for (given, is_known) in [(&*first, true), ("own", false), ("a: b", false), (&longest, false)] {
        let request =
            format!("GET /channels/a HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {given}\r\n\r\n");
        let mut stream = EventStream::over(Client::connect(&server), &request, "");
        assert_eq!(stream.expect("connected").id, given);
        if is_known {
            assert_eq!((stream.message(), stream.message()), ("1".to_owned(), "2".to_owned()));
            assert_eq!(number(&stream.expect("caught-up").id), 3, "it is the event's, and not its own");
        } else {
            let gap = stream.expect("gap");
            assert_eq!(gap.id, place);
            let data: serde_json::Value = serde_json::from_str(&gap.data).unwrap();
            assert_eq!((&data["reason"], &data["lastEventId"]), (&"unknown-id".into(), &given.into()));
        }
    }
}

fn what_could_be_no_id_is_not_echoed(io: DriverKind) {
    let server = Server::start(io, &[]);
    publish(&server, 0..2);
    let too_long = "x".repeat(257);
    for given in ["%0Adata:%20injected%0A%0A", "a%0Db", "%00", "%C2%85injected", &too_long] {
        let mut client = Client::connect(&server);
        client.send(format!("GET /channels/a?lastEventId={given} HTTP/1.0\r\n\r\n"));
        client.take_through(b"\r\n\r\n");
        let told = String::from_utf8([client.take_through(b"\n\n"), client.take_through(b"\n\n")].concat());
        let told = crate::common::masked(&told.unwrap());
        assert!(
            told.starts_with("retry: 3000\nevent: connected\nid: #2\ndata: {\"connected\":true"),
            "{told}"
        );
        let gap = "event: gap\nid: #2\n\
                   data: {\"reason\":\"unknown-id\",\"missed\":null,\"lastEventId\":null}\n\n";
        assert!(told.ends_with(gap) && !told.contains("injected") && !told.contains("xx"), "{told}");
    }
}

fn a_client_that_lost_its_connection_behind_connected_resumes_exactly(io: DriverKind) {
    let server = Server::start(io, &[]);
    let mut browser = Browser::new("/channels/a");
    browser.visit(&server, 1); // Also before the first event of the server.
    publish(&server, 0..1);
    assert_eq!(browser.visit_until(&server, "0"), ["0"]);
    for round in 1..6 {
        publish(&server, round..round + 1);
        for _ in 0..3 {
            assert_eq!(browser.visit(&server, 1), Vec::<String>::new());
        }
        assert_eq!(browser.visit_until(&server, &round.to_string()), [round.to_string()]);
    }
}

fn an_empty_replay_leaves_its_client_a_place(io: DriverKind) {
    for replay in ["10", "all"] {
        let server = Server::start(io, &[]);
        let mut publisher = Client::connect(&server);
        publisher.publish_text("other", "x");
        let mut browser = Browser::new(&format!("/channels/a?replay={replay}"));
        let mut stream = browser.connect(&server);
        assert_eq!(browser.read(&mut stream).id, "");
        let caught_up = browser.read(&mut stream);
        assert_eq!((&*caught_up.kind, number(&caught_up.id)), ("caught-up", 1));
        drop(stream);
        publish(&server, 0..50);
        assert_eq!(browser.visit_until(&server, "49"), numbers(0..50));
    }
}

fn a_replay_that_is_cut_off_anywhere_goes_on_from_there(io: DriverKind) {
    let server = Server::start(io, &[]);
    publish(&server, 0..50);
    // `connected`, ten events, and `caught-up`.
    for (blocks, last) in (1..=12).zip(50..) {
        let mut browser = Browser::new("/channels/a?replay=10");
        let mut seen = browser.visit(&server, blocks);
        publish(&server, last..last + 1);
        seen.extend(browser.visit_until(&server, &last.to_string()));
        // Without an id the stream begins at the head.
        let first = if blocks == 1 { last - 9 } else { last - 10 };
        assert_eq!(seen, numbers(first..last + 1), "cut off behind {blocks} blocks");
    }
}

fn a_client_that_is_cut_off_at_every_event_misses_none(io: DriverKind) {
    let mut dice = Dice(15);
    for _ in 0..4 {
        let server = Server::start(io, &[]);
        let mut browser = Browser::new("/channels/a?replay=10");
        let mut seen = Vec::new();
        let (mut published, mut place) = (0, None);
        while published < 50 {
            // `connected`, what it missed, and `caught-up`.
            let missed = match &*browser.last_event_id {
                "" => published.min(10),
                _ => {
                    published
                        - seen
                            .last()
                            .map_or(place.unwrap_or(0), |last: &String| last.parse::<u64>().unwrap() + 1)
                }
            };
            seen.extend(browser.visit(&server, 1 + dice.below(missed + 2)));
            if seen.is_empty() && !browser.last_event_id.is_empty() {
                place = Some(number(&browser.last_event_id));
            }
            let more = 1 + dice.below(3);
            publish(&server, published..published + more);
            published += more;
        }
        let last = (published - 1).to_string();
        if seen.last() != Some(&last) {
            seen.extend(browser.visit_until(&server, &last));
        }
        let first: u64 = seen[0].parse().unwrap();
        assert!(place.is_none_or(|place| place == first), "{first} is not what follows {place:?}");
        assert_eq!(seen, numbers(first..published));
    }
}
