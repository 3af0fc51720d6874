//! Retries under idempotency keys, over several connections and shards, with a log that is slow,
//! refuses, or has uncertain outcomes.

use std::time::Duration;

use crate::base::id::{EpochTag, Sequence};
use crate::driver::sim::SimPeer;
use crate::hub::Backlog;
use crate::log::Refusal;
use crate::record::{Events, Record};
use crate::shard::publishing::tickets::application_ticket;
use crate::shard::tests::held_log::servers;
use crate::shard::tests::read;
use crate::sse::event::Event;

fn refused() -> Refusal {
    Refusal::Refused { reason: "full".to_owned() }
}

fn post(content_type: &str, headers: &str, body: &str) -> String {
    format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/{content_type}\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A publish of one event under the key `k`.
fn keyed() -> String {
    post("json", "Idempotency-Key: k\r\n", r#"{"channel":"a","data":1}"#)
}

/// Status and body of the answer; `None` if there is none yet.
fn answer(peer: &SimPeer) -> Option<(u16, String)> {
    let text = read(peer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

fn id(number: u64) -> String {
    format!("{}.{number:015}", EpochTag::from_bits(7))
}

fn first(number: u64) -> Option<(u16, String)> {
    Some((200, format!(r#"{{"success":true,"id":"{}","receivers":0}}"#, id(number))))
}

fn duplicate(number: u64) -> Option<(u16, String)> {
    Some((200, format!(r#"{{"success":true,"id":"{}","receivers":0,"duplicate":true}}"#, id(number))))
}

#[test]
fn retries_on_every_shard_wait_for_the_first_and_are_answered_as_it_was() {
    let (mut servers, log) = servers();
    let asker = servers.request(0, &keyed());
    servers.settle();
    let retries: Vec<SimPeer> = [0, 0, 1, 1, 1].map(|shard| servers.request(shard, &keyed())).into();
    servers.settle();
    assert!(retries.iter().chain([&asker]).all(|peer| answer(peer).is_none()));
    assert_eq!(log.commit(), 1, "the retries publish nothing");
    servers.settle();
    assert_eq!(answer(&asker), first(1));
    for retry in &retries {
        assert_eq!(answer(retry), duplicate(1));
    }
    let late = servers.request(1, &keyed());
    servers.settle();
    assert_eq!((answer(&late), log.commit()), (duplicate(1), 0));
}

#[test]
fn another_body_is_a_conflict_also_while_the_first_is_under_way() {
    let (mut servers, log) = servers();
    let _asker = servers.request(0, &keyed());
    servers.settle();
    let other = servers.request(1, &post("json", "Idempotency-Key: k\r\n", r#"{"channel":"a","data":2}"#));
    servers.settle();
    assert_eq!(answer(&other).unwrap().0, 409);
    assert_eq!(log.commit(), 1);
}

#[test]
fn where_the_first_is_refused_one_that_waits_publishes_and_the_others_wait_for_that() {
    let (mut servers, log) = servers();
    let asker = servers.request(0, &keyed());
    servers.settle();
    let retries = [servers.request(1, &keyed()), servers.request(0, &keyed()), servers.request(1, &keyed())];
    servers.settle();
    assert_eq!(log.refuse(&refused()), 1);
    servers.settle();
    let (status, body) = answer(&asker).unwrap();
    assert!(status == 503 && body.contains("the log refused the events: full"), "{body}");
    assert_eq!(log.commit(), 1, "one of them publishes");
    servers.settle();
    let mut answers: Vec<_> = retries.iter().map(answer).collect();
    answers.sort_by_key(|answer| answer.as_ref().map(|(_, body)| body.len()));
    assert_eq!(answers, [first(1), duplicate(1), duplicate(1)]);
    assert_eq!(servers.core.hub.head(), Sequence(1));
}

#[test]
fn the_outcome_of_an_original_whose_connection_gave_up_answers_its_retry() {
    let (mut servers, log) = servers();
    let asker = servers.request(0, &keyed());
    servers.settle();
    servers.now += Duration::from_secs(5);
    servers.settle();
    let (status, body) = answer(&asker).unwrap();
    let detail = "the log did not commit within 5s; the event may still appear, and a retry with the same \
                  idempotency key settles it";
    assert!(status == 503 && body.contains(detail), "{body}");

    let retry = servers.request(1, &keyed());
    servers.settle();
    servers.now += Duration::from_secs(5);
    servers.settle();
    assert_eq!(answer(&retry).unwrap().0, 503, "a retry has its own time");
    drop((asker, retry));
    servers.settle();
    assert_eq!(log.commit(), 1);
    let settled = servers.request(1, &keyed());
    servers.settle();
    assert_eq!((answer(&settled), log.commit()), (duplicate(1), 0));
}

#[test]
fn a_connection_that_retries_after_its_own_503_waits_for_its_first() {
    let (mut servers, log) = servers();
    let asker = servers.request(0, &keyed());
    servers.settle();
    for _ in 0..3 {
        servers.now += Duration::from_secs(5);
        servers.settle();
        assert_eq!(answer(&asker).unwrap().0, 503);
        assert!(asker.write(keyed().as_bytes()) > 0);
        servers.settle();
    }
    assert_eq!(log.commit(), 1);
    servers.settle();
    assert_eq!(answer(&asker), duplicate(1));
}

#[test]
fn what_becomes_of_a_request_that_timed_out_is_no_answer_to_the_next_one() {
    let (mut servers, log) = servers();
    let client = servers.request(0, &post("json", "", r#"{"channel":"a","data":1}"#));
    servers.settle();
    servers.now += Duration::from_secs(4);
    let _asker = servers.request(1, &keyed());
    servers.settle();
    servers.now += Duration::from_secs(1);
    servers.settle();
    assert_eq!(answer(&client).unwrap().0, 503);
    assert!(client.write(keyed().as_bytes()) > 0);
    servers.settle();
    let batches = std::mem::take(&mut *log.waiting.lock().unwrap());
    let [timed_out, asked] = batches.try_into().unwrap();
    for (batch, expected) in [(timed_out, None), (asked, duplicate(2))] {
        log.waiting.lock().unwrap().push(batch);
        log.commit();
        servers.settle();
        assert_eq!(answer(&client), expected);
    }
}

#[test]
fn a_shard_that_panicked_leaves_its_keys_to_the_log() {
    let (mut servers, log) = servers();
    let _asker = servers.request(0, &keyed());
    servers.settle();
    servers.shards[0].restart();
    let retries = [servers.request(1, &keyed()), servers.request(0, &keyed())];
    servers.settle();
    assert!(retries.iter().all(|retry| answer(retry).is_none()));
    assert_eq!(log.commit(), 1);
    servers.settle();
    assert!(retries.iter().all(|retry| answer(retry) == duplicate(1)));

    let other = keyed().replace("Key: k", "Key: l");
    let _asker = servers.request(0, &other);
    servers.settle();
    servers.shards[0].restart();
    assert_eq!(log.refuse(&refused()), 1);
    let retry = servers.request(1, &other);
    servers.settle();
    assert_eq!(log.commit(), 1);
    servers.settle();
    assert_eq!(answer(&retry), first(2));
}

#[test]
fn what_the_log_cannot_say_is_not_published_again() {
    let (mut servers, log) = servers();
    let asker = servers.request(0, &keyed());
    servers.settle();
    let waiting = servers.request(1, &keyed());
    servers.settle();
    assert_eq!(log.refuse(&Refusal::Uncertain), 1);
    servers.settle();
    let late = servers.request(0, &keyed());
    servers.settle();
    for peer in [&asker, &waiting, &late] {
        let (status, body) = answer(peer).unwrap();
        assert!(status == 503 && body.contains("they may still appear"), "{body}");
    }
    assert_eq!(log.commit(), 0);
}

#[test]
fn a_key_whose_request_timed_out_before_the_log_had_it_is_free() {
    let (mut servers, log) = servers();
    let _slow = servers.subscribe(1, "a");
    servers.settle();
    let mut batch = Events::new();
    (0..=Backlog::default().events_max).for_each(|_| batch.push(&["a"], &Event::new("x")));
    servers.core.log.append(&mut vec![(application_ticket(0), Record::from(batch))]); // A ticket that nobody waits for.
    assert_eq!(log.commit(), 1);
    let asker = servers.request(0, &keyed());
    servers.turn(0);
    let retry = servers.request(0, &keyed());
    for _ in 0..4 {
        servers.turn(0);
        servers.now += Duration::from_secs(1);
    }
    assert_eq!((answer(&asker), answer(&retry), log.commit()), (None, None, 0));
    servers.now += Duration::from_secs(1);
    servers.turn(0);
    servers.turn(0);
    assert_eq!(answer(&asker).unwrap().0, 503);
    let again = servers.request(0, &keyed());
    servers.settle();
    servers.settle();
    assert_eq!(log.commit(), 1, "of those that asked again one publishes");
    servers.settle();
    assert!(answer(&again).is_some_and(|(status, _)| status == 200));
}

#[test]
fn requests_with_the_same_keys_in_another_order_do_not_wait_for_each_other() {
    let (mut servers, log) = servers();
    let envelope = |key: &str| format!(r#"{{"channel":"a","text":"{key}","idempotencyKey":"{key}"}}"#);
    let array = |keys: &[&str]| {
        post("json", "", &format!("[{}]", keys.iter().map(|key| envelope(key)).collect::<Vec<_>>().join(",")))
    };
    let askers = [
        servers.request(0, &array(&["x", "y"])),
        servers.request(1, &array(&["y", "z"])),
        servers.request(0, &array(&["z", "x"])),
        servers.request(1, &array(&["z", "y", "x"])),
    ];
    servers.settle();
    let mut batches = 0;
    for _ in 0..4 {
        batches += log.commit();
        servers.settle();
    }
    assert!(batches <= 3);
    let answers = askers.each_ref().map(|asker| answer(asker).unwrap());
    let total = |name: &str| -> u64 {
        let count = |(status, body): &(u16, String)| {
            assert_eq!(*status, 200, "{body}");
            serde_json::from_str::<serde_json::Value>(body).unwrap()[name].as_u64().unwrap()
        };
        answers.iter().map(count).sum()
    };
    assert_eq!((total("published"), total("duplicates")), (3, 6));
    assert_eq!(servers.core.hub.head(), Sequence(3));
}

#[test]
fn lines_are_published_up_to_one_whose_key_was_given_for_another_event() {
    let (mut servers, log) = servers();
    let line = |key: &str, data: u64| {
        format!("{{\"channel\":\"a\",\"data\":{data},\"idempotencyKey\":\"{key}\"}}\n")
    };
    let lines = |text: &str| post("x-ndjson", "", text);
    let earlier = servers.request(0, &lines(&(line("x", 1) + &line("y", 2))));
    servers.settle();
    log.commit();
    servers.settle();
    assert_eq!(
        answer(&earlier).unwrap().1,
        format!(r#"{{"success":true,"published":2,"duplicates":0,"ids":["{}","{}"]}}"#, id(1), id(2))
    );
    let text = line("n", 5) + "\n" + &line("x", 1) + &line("y", 3) + &line("z", 4);
    let refused = servers.request(1, &lines(&text));
    servers.settle();
    assert_eq!(log.commit(), 1);
    servers.settle();
    let detail = "line 4: `idempotencyKey` was used for another event within the last five minutes; a new event \
                  needs a new key";
    let body = format!(
        r#"{{"type":"about:blank","title":"Conflict","status":409,"detail":"{detail}","published":1,"duplicates":1,"line":4}}"#
    );
    assert_eq!(answer(&refused), Some((409, body)));
    assert_eq!(servers.core.hub.head(), Sequence(3));
    let at_once = servers.request(1, &lines(&line("y", 3)));
    servers.settle();
    let (status, body) = answer(&at_once).unwrap();
    assert!(status == 409 && body.ends_with(r#""published":0,"duplicates":0,"line":1}"#), "{body}");
}

#[test]
fn a_duplicate_waits_a_while_for_the_count_of_its_firsts_receivers() {
    let (mut servers, log) = servers();
    let _streams = [servers.subscribe(0, "a"), servers.subscribe(1, "b")];
    servers.settle();
    let request = |key: &str| {
        post("json", &format!("Idempotency-Key: {key}\r\n"), r#"{"channels":["a","b"],"data":1}"#)
    };
    let asker = servers.request(0, &request("k"));
    servers.turn(0);
    servers.turn(0);
    assert_eq!(log.commit(), 1);
    let retry = servers.request(0, &request("k"));
    for _ in 0..9 {
        servers.now += Duration::from_millis(10);
        servers.turn(0);
    }
    assert_eq!((answer(&asker), answer(&retry)), (None, None), "the other shard has not counted");
    servers.now += Duration::from_millis(20);
    servers.turn(0);
    let body = format!(r#"{{"success":true,"id":"{}","duplicate":true}}"#, id(1));
    assert_eq!((answer(&asker), answer(&retry)), (None, Some((200, body))));

    let retry = servers.request(0, &request("k"));
    servers.settle();
    let body = format!(r#"{{"success":true,"id":"{}","receivers":2"#, id(1));
    assert_eq!(answer(&asker), Some((200, body.clone() + "}")));
    assert_eq!(answer(&retry), Some((200, body + r#","duplicate":true}"#)));
}
