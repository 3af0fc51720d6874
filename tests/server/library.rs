//! The library: an application that embeds servers, publishes from its own threads, counts, and drains
//! them.

#[path = "../../examples/embed.rs"]
#[allow(dead_code, reason = "its `main` is the example's own")]
mod embed;

use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::{Client, DriverKind, EventStream, PATIENCE, for_each_driver, number, wait_for};
use downpour::{
    Batch, BatchError, ChannelName, Event, Handle, PublishError, Published, RunningServer, ServeError,
    Server, ServerBuilder, Target, UserId,
};

for_each_driver!(
    what_threads_publish_comes_once_in_order,
    what_threads_publish_to_several_channels_comes_once_and_is_counted_once,
    what_threads_publish_by_callback_comes_once_in_order,
    a_batch_is_refused_whole_and_comes_back,
    callbacks_that_do_not_return_hold_publishers_back,
    nothing_is_lost_before_a_server_runs,
    a_drain_ends_run,
    two_servers_have_nothing_in_common,
    a_callback_that_panics_harms_nobody,
    a_drain_waits_no_longer_than_it_may,
    users_and_all_are_published_to_and_counted,
);

fn builder(io: DriverKind) -> ServerBuilder {
    Server::builder().listen(([127, 0, 0, 1], 0)).publish_timeout(PATIENCE).io(io.choice())
}

fn start(builder: ServerBuilder) -> (RunningServer, SocketAddr) {
    let running = builder.bind().unwrap().start().unwrap();
    let address = running.addresses()[0];
    (running, address)
}

fn name(text: &str) -> ChannelName {
    ChannelName::parse(text).unwrap()
}

fn batch_of(handle: &Handle, channel: &str, texts: &[&str]) -> Batch {
    let mut batch = handle.batch();
    texts.iter().for_each(|text| batch.push([&name(channel)], &Event::new(text)).unwrap());
    batch
}

fn subscribe(address: SocketAddr, channels: &str) -> EventStream {
    let mut stream = EventStream::open_at(address, &format!("/sse?channels={channels}"));
    stream.expect("connected");
    stream
}

/// Publishes a channel of its own from each of four threads while streams read all of them. Each stream
/// gets each event once, in one order, and the threads get the matching results.
fn each_event_comes_once_in_order(
    io: DriverKind,
    publish: impl Fn(&Handle, usize, usize) -> Vec<Published> + Sync,
) {
    const EVENTS: usize = 5000;
    const CHANNELS: &str = "c0,c1,c2,c3";
    let (running, address) = start(builder(io).shards(2).history_events_max(100_000));
    let handle = running.handle();
    let streams: Vec<EventStream> = (0..6).map(|_| subscribe(address, CHANNELS)).collect();
    assert_eq!(handle.subscribers(&name("c2")), 6);

    let (mut ids, seen) = thread::scope(|scope| {
        let readers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    while seen.len() < 4 * EVENTS {
                        let event = stream.expect("message");
                        seen.push((number(&event.id), event.data));
                    }
                    seen
                })
            })
            .collect();
        let publishers: Vec<_> = (0..4)
            .map(|thread| {
                let publish = &publish;
                scope.spawn(move || {
                    let published = publish(handle, thread, EVENTS);
                    published.into_iter().flat_map(|published| published.ids()).collect::<Vec<_>>()
                })
            })
            .collect();
        let ids: Vec<_> = publishers.into_iter().map(|thread| thread.join().unwrap()).collect();
        (ids, readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>())
    });

    let mut expected: Vec<(u64, String)> = Vec::new();
    for (thread, ids) in ids.iter_mut().enumerate() {
        assert_eq!(ids.len(), EVENTS);
        assert!(ids.is_sorted_by_key(|id| id.sequence), "a thread's events are in its order");
        expected.extend(ids.iter().zip(0..).map(|(id, n)| (id.sequence.0, format!("{thread} {n}"))));
    }
    expected.sort();
    seen.iter().for_each(|seen| assert!(*seen == expected, "a stream saw something else"));
    running.handle().drain();
    running.wait().unwrap();
}

fn what_threads_publish_comes_once_in_order(io: DriverKind) {
    each_event_comes_once_in_order(io, |handle, thread, events| {
        let channel = name(&format!("c{thread}"));
        (0..events)
            .map(|n| {
                let published = handle.publish([&channel], &Event::new(&format!("{thread} {n}"))).unwrap();
                assert_eq!(published.receivers, Some(6));
                published
            })
            .collect()
    });
}

fn what_threads_publish_to_several_channels_comes_once_and_is_counted_once(io: DriverKind) {
    each_event_comes_once_in_order(io, |handle, thread, events| {
        let channels = [name(&format!("c{thread}")), name("c0"), name("nobody's")];
        (0..events)
            .map(|n| {
                let published = handle.publish(&channels, &Event::new(&format!("{thread} {n}"))).unwrap();
                assert_eq!(published.receivers, Some(6));
                published
            })
            .collect()
    });
}

fn what_threads_publish_by_callback_comes_once_in_order(io: DriverKind) {
    each_event_comes_once_in_order(io, |handle, thread, events| {
        let channel = format!("c{thread}");
        let (told, heard) = mpsc::channel();
        let mut batches = 0;
        for first in (0..events).step_by(10) {
            let texts: Vec<String> = (first..first + 10).map(|n| format!("{thread} {n}")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut batch = batch_of(handle, &channel, &texts);
            loop {
                let told = told.clone();
                match handle.publish_with(batch, move |outcome| told.send(outcome.unwrap()).unwrap()) {
                    Ok(()) => break,
                    Err(PublishError::Busy(returned)) => batch = returned,
                    Err(error) => panic!("{error}"),
                }
                thread::sleep(Duration::from_millis(1));
            }
            batches += 1;
        }
        let published: Vec<Published> = heard.into_iter().take(batches).collect();
        assert!(published.iter().all(|published| published.events == 10 && published.receivers.is_none()));
        published
    });
}

fn users_and_all_are_published_to_and_counted(io: DriverKind) {
    let (running, address) = start(builder(io).shards(2));
    let handle = running.handle().clone();
    let (jane, nobody) = (UserId::parse("jane").unwrap(), UserId::parse("nobody").unwrap());
    let mut streams: Vec<EventStream> =
        ["a&userId=jane", "b&userId=jane", "a", "b&userId=joe"].map(|query| subscribe(address, query)).into();
    assert_eq!((handle.streams(), handle.connections()), (4, 4));
    assert_eq!((handle.streams_of(&jane), handle.streams_of(&nobody)), (2, 0));

    let receivers = |target: Target<'_>, text| handle.publish(target, &Event::new(text)).unwrap().receivers;
    assert_eq!(receivers(Target::User(&jane), "one"), Some(2));
    assert_eq!(receivers(Target::All, "two"), Some(4));
    assert_eq!(receivers(Target::User(&nobody), "lost"), Some(0));
    assert_eq!(handle.publish(&name("b"), &Event::new("three")).unwrap().receivers, Some(2));

    let mut batch = handle.batch();
    batch.push(&jane, &Event::new("four")).unwrap();
    batch.push(Target::All, &Event::new("five")).unwrap();
    batch.push([&name("a"), &name("b")], &Event::new("six")).unwrap();
    assert_eq!(handle.publish_batch(batch.clone()).unwrap().events, 3);
    let (told, heard) = mpsc::channel();
    handle.publish_with(batch, move |outcome| told.send(outcome).unwrap()).unwrap();
    assert_eq!(heard.recv().unwrap().unwrap().events, 3);

    let (a, b) = ("one two four five six four five six", "one two three four five six four five six");
    let plain = |text: &str| text.replace("one ", "").replace("four ", "");
    for (stream, expected) in streams.iter_mut().zip([a.to_owned(), b.to_owned(), plain(a), plain(b)]) {
        expected.split(' ').for_each(|text| assert_eq!(stream.message(), text, "of {expected}"));
    }
    handle.drain();
    let mut batch = handle.batch();
    batch.push(&jane, &Event::new("late")).unwrap();
    let refused = handle.publish_batch(batch.clone()).unwrap_err();
    assert_eq!(refused.into_batch(), Some(batch), "it comes back with its target");
    drop(streams);
    running.wait().unwrap();
    assert_eq!((handle.streams(), handle.streams_of(&jane)), (0, 0));
}

fn a_batch_is_refused_whole_and_comes_back(io: DriverKind) {
    let (running, _) = start(builder(io).stream_channels_max(1).channels_max(2));
    let handle = running.handle().clone();
    handle.publish([&name("a")], &Event::new("1")).unwrap();
    let mut batch = batch_of(&handle, "b", &["2"]);
    batch.push([&name("c")], &Event::new("3")).unwrap();
    let refused = handle.publish_batch(batch.clone()).unwrap_err();
    assert!(matches!(refused, PublishError::TooManyChannels { channels_max: 2, .. }), "{refused}");
    assert_eq!(refused.into_batch(), Some(batch.clone()));
    assert_eq!(handle.channels(), 1, "nothing of it was published");

    let never = |_| panic!("a callback of what was refused");
    let refused = handle.publish_with(batch.clone(), never).unwrap_err();
    assert_eq!(refused.into_batch(), Some(batch.clone()));
    assert!(matches!(handle.publish_batch(handle.batch()), Err(PublishError::Invalid(_))));
    let servers = handle.publish([&name("a")], &Event::new("4")).unwrap().id.to_string();
    let mut claims_it = handle.batch();
    claims_it.push([&name("a")], &Event::new("5").with_id(&servers).unwrap()).unwrap();
    let refused = handle.publish_batch(claims_it).unwrap_err();
    assert_eq!(refused, PublishError::Invalid(BatchError::IdOfServer));

    handle.drain();
    let draining = handle.publish_batch(batch.clone()).unwrap_err();
    assert_eq!(draining, PublishError::Draining(batch.clone()));
    running.wait().unwrap();
    assert_eq!(handle.publish_with(batch.clone(), never), Err(PublishError::Draining(batch)), "ended");
    assert_eq!(handle.connections(), 0);
}

fn callbacks_that_do_not_return_hold_publishers_back(io: DriverKind) {
    let (running, _) = start(builder(io).publish_timeout(Duration::from_millis(50)));
    let handle = running.handle();
    let (go_on, held) = mpsc::channel::<()>();
    let hold = move |_| assert!(held.recv().is_err(), "nothing is sent");
    handle.publish_with(batch_of(handle, "a", &["first"]), hold).unwrap();
    let called = Arc::new(AtomicUsize::new(0));
    let mut taken = 0;
    let returned = loop {
        let called = Arc::clone(&called);
        let callback = move |outcome: Result<Published, PublishError>| {
            called.fetch_add(outcome.unwrap().events, Ordering::Relaxed);
        };
        match handle.publish_with(batch_of(handle, "a", &["next"]), callback) {
            Ok(()) => taken += 1,
            Err(PublishError::Busy(returned)) => break returned,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(returned, batch_of(handle, "a", &["next"]));
    let busy = handle.publish_batch(returned.clone()).unwrap_err();
    assert_eq!(busy, PublishError::Busy(returned.clone()), "it waited as long as it may");
    drop(go_on);
    wait_for("room", || handle.publish_batch(returned.clone()).ok());
    handle.drain();
    running.wait().unwrap();
    assert_eq!(called.load(Ordering::Relaxed), taken);
}

fn nothing_is_lost_before_a_server_runs(io: DriverKind) {
    let server = builder(io).shards(1).bind().unwrap();
    let (handle, address) = (server.handle(), server.addresses()[0]);
    let first = handle.publish([&name("a")], &Event::new("early")).unwrap();
    let running = server.start().unwrap();
    let request = format!(
        "GET /channels/a HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {}.000000000000000\r\n\r\n",
        first.id.tag
    );
    let mut stream = EventStream::over(Client::connect_to(address), &request, "");
    stream.expect("connected");
    assert_eq!(stream.message(), "early");
    stream.expect("caught-up");
    drop(running); // Begins a drain.
    stream.expect("shutdown");
    assert!(matches!(handle.publish([&name("a")], &Event::new("late")), Err(PublishError::Draining(_))));
}

fn a_drain_ends_run(io: DriverKind) {
    let server = builder(io).bind().unwrap();
    let (handle, address) = (server.handle(), server.addresses()[0]);
    let running = thread::spawn(move || server.run());
    let mut streams: Vec<EventStream> = (0..4).map(|_| subscribe(address, "a")).collect();
    assert_eq!((handle.connections(), handle.subscribers(&name("a")), handle.channels()), (4, 4, 1));
    assert!(!running.is_finished());
    let texts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for text in &texts {
        handle.publish([&name("a")], &Event::new(text)).unwrap();
    }
    handle.drain();
    handle.drain();
    for stream in &mut streams {
        texts
            .iter()
            .for_each(|text| assert_eq!(stream.message(), *text, "what was acknowledged still comes"));
        assert_eq!(stream.expect("shutdown").data, r#"{"reason":"drain"}"#);
        stream.expect_end();
    }
    drop(streams);
    running.join().unwrap().unwrap();
}

fn two_servers_have_nothing_in_common(io: DriverKind) {
    let ((one, first), (two, second)) = (start(builder(io).shards(2)), start(builder(io).shards(2)));
    let mut streams = [subscribe(first, "a"), subscribe(second, "a")];
    assert_eq!(one.handle().publish([&name("a")], &Event::new("one")).unwrap().receivers, Some(1));
    one.handle().drain();
    assert_eq!(streams[0].message(), "one");
    streams[0].expect("shutdown");
    one.wait().unwrap();
    assert_eq!(two.handle().publish([&name("a")], &Event::new("two")).unwrap().receivers, Some(1));
    assert_eq!(streams[1].message(), "two");

    let again = builder(io).listen(second).bind();
    assert!(matches!(again, Err(ServeError::Bind(_))), "{again:?}");
    two.handle().drain();
    drop(streams);
    two.wait().unwrap();
}

fn a_callback_that_panics_harms_nobody(io: DriverKind) {
    let (running, address) = start(builder(io).shards(2));
    let handle = running.handle().clone();
    let mut stream = subscribe(address, "a");
    let called = Arc::new(AtomicUsize::new(0));
    for n in 0..10 {
        let called = Arc::clone(&called);
        let callback = move |_| {
            called.fetch_add(1, Ordering::Relaxed);
            assert!(n % 2 == 0, "as it is meant to be in this test");
        };
        handle.publish_with(batch_of(&handle, "a", &[&n.to_string()]), callback).unwrap();
    }
    // A callback may publish and wait for the result.
    let (publisher, told) = (handle.clone(), Arc::clone(&called));
    let callback = move |_| {
        publisher.publish([&name("a"), &name("b")], &Event::new("last")).unwrap();
        told.fetch_add(1, Ordering::Relaxed);
    };
    handle.publish_with(batch_of(&handle, "a", &["10"]), callback).unwrap();
    for n in 0..=10 {
        assert_eq!(stream.message(), n.to_string());
    }
    assert_eq!(stream.message(), "last");
    let answer = Client::connect_to(address).publish_text("a", "by HTTP");
    assert_eq!((answer.1, stream.message()), (1, "by HTTP".to_owned()));
    handle.drain();
    stream.expect("shutdown");
    running.wait().unwrap();
    assert_eq!(called.load(Ordering::Relaxed), 11, "each once, and all before `wait` returns");
}

/// The drain that began later ends first: each takes its own time.
fn a_drain_waits_no_longer_than_it_may(io: DriverKind) {
    let hold = |timeout| {
        let (running, address) = start(builder(io).drain_timeout(timeout));
        let mut held = Client::connect_to(address);
        held.send("POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nh");
        wait_for("the connection", || (running.handle().connections() == 1).then_some(()));
        (running, held)
    };
    let (patient, mut waited_for) = hold(Duration::from_secs(3600));
    let (hasty, _held) = hold(Duration::from_millis(200));
    patient.handle().drain();
    hasty.handle().drain();
    hasty.wait().unwrap();
    waited_for.send("i");
    assert_eq!(waited_for.answer().status(), 503, "it has an hour");
    drop(waited_for);
    patient.wait().unwrap();
}

#[test]
fn the_example_embeds_a_server() {
    let server = builder(DriverKind::Epoll).bind().unwrap();
    let address = server.addresses()[0];
    let (input, mut typed) = std::io::pipe().unwrap();
    let example =
        thread::spawn(move || embed::run(server, BufReader::new(input)).map_err(|error| error.to_string()));
    let mut lines = subscribe(address, "lines&userId=jane");
    let mut uptime = subscribe(address, "uptime");
    typed.write_all(b"hello\n@joe not for her\n@jane for her\n! for all\n").unwrap();
    ["hello", "for her", "for all"].iter().for_each(|text| assert_eq!(lines.message(), *text));
    assert_eq!(
        std::iter::repeat_with(|| uptime.next().unwrap()).find(|event| event.kind == "message").unwrap().data,
        "for all"
    );
    assert!(uptime.expect("seconds").data.parse::<u64>().is_ok());
    drop(typed);
    lines.expect("shutdown");
    drop((lines, uptime));
    example.join().unwrap().unwrap();
}
