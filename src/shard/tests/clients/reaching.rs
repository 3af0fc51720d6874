//! Live streams that are described, ended, and sent events by their client ids.

use std::time::Duration;

use super::{answer, ask, change, events, stream};
use crate::base::id::NodeId;
use crate::driver::sim::SimPeer;
use crate::shard::tests::{Servers, read};

#[test]
fn who_does_not_know_the_secret_does_not_find_the_stream() {
    let mut servers = Servers::new(None);
    let (_peer, client) = stream(&mut servers, 1, "channel=a");
    let (secret, place) = client.split_at(32);
    let flipped = |at: usize| {
        let digit = if &secret[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}{place}", &secret[..at], &secret[at + 1..])
    };
    let elsewhere = ["0-0", "2-0", "1-7", "1-1-0"].map(|place| format!("{secret}-{place}"));
    for other in [flipped(0), flipped(15), flipped(16), flipped(31)].iter().chain(&elsewhere) {
        for shard in 0..2 {
            assert_eq!(ask(&mut servers, shard, "GET", other).0, 404, "{other}");
            assert_eq!(ask(&mut servers, shard, "DELETE", other).0, 404, "{other}");
            let answered = change(&mut servers, shard, "subscribe", other, "b");
            servers.settle();
            assert_eq!(answer(&answered).0, 404, "{other}");
            let body = format!(r#"{{"clientId":"{other}","text":"x"}}"#);
            assert!(servers.publish(shard, &body).contains(r#""status":404,"detail":"no client"#));
        }
    }
    assert_eq!(ask(&mut servers, 0, "GET", &client).0, 200);
}

#[test]
fn a_client_of_another_node_is_answered_as_one_that_is_not_connected() {
    let mut servers = Servers::new(None);
    servers.shards.iter_mut().for_each(|shard| shard.core.node = NodeId(0x1f));
    let (peer, client) = stream(&mut servers, 1, "channel=a");
    let (secret, place) = client.split_at(32);
    assert_eq!(place, "-1f-1-0");
    let to = |client: &str, text: &str| format!(r#"{{"clientId":"{client}","text":"{text}"}}"#);
    // The second time the stream is a target already.
    for text in ["first", "second"] {
        for other in ["1-0", "1e-1-0", "1f1-1-0", "1e-0-0"].map(|place| format!("{secret}-{place}")) {
            for shard in 0..2 {
                for method in ["GET", "DELETE"] {
                    assert_eq!(ask(&mut servers, shard, method, &other).0, 404, "{method} {other}");
                }
                let answered = change(&mut servers, shard, "subscribe", &other, "b");
                servers.settle();
                assert_eq!(answer(&answered).0, 404, "{other}");
                let unknown = r#""status":404,"detail":"no client"#;
                assert!(servers.publish(shard, &to(&other, "x")).contains(unknown), "{other}");
                let batch = format!("[{},{}]", to(&client, "x"), to(&other, "x"));
                assert!(
                    servers.publish(shard, &batch).contains(r#""status":404,"detail":"item 1: no client"#)
                );
            }
        }
        assert!(servers.publish(0, &to(&client, text)).ends_with("\"receivers\":1}"));
        assert_eq!(ask(&mut servers, 0, "GET", &client).0, 200);
    }
    assert_eq!(events(&read(&peer)), ["first", "second"]);
}

#[test]
fn an_event_to_one_client_reaches_it_alone_in_its_place_and_no_other_connection() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 1, "channel=a");
    let (other, _) = stream(&mut servers, 0, "channel=a");
    servers.publish(0, r#"{"channel":"a","id":"first","text":"1"}"#);
    for shard in 0..2 {
        let body = format!(r#"{{"clientId":"{client}","text":"mine"}}"#);
        assert!(servers.publish(shard, &body).ends_with("\"receivers\":1}"));
        servers.publish(shard, r#"{"channel":"a","text":"2"}"#);
    }
    let text = read(&peer);
    assert_eq!(events(&text), ["1", "mine", "2", "mine", "2"]);
    assert_eq!(events(&read(&other)), ["1", "2", "2"]);
    assert_eq!(servers.core.hub.channels_len(), 1);

    let held = servers.core.hub.held_bytes();
    drop(peer);
    servers.settle();
    assert!(servers.core.hub.held_bytes() < held, "what was its own goes with it");
    let body = format!(r#"{{"clientId":"{client}","text":"late"}}"#);
    assert!(servers.publish(0, &body).contains(r#""status":404"#));
    let (again, _) = stream(&mut servers, 1, "channel=a&replay=all");
    servers.publish(0, r#"{"channel":"a","text":"3"}"#);
    assert!(!read(&again).contains("mine"));
}

#[test]
fn an_array_and_lines_name_what_goes_to_no_client() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 1, "channel=a");
    let gone = "0000000000000000000000000000002a-1-7";
    let to = |client: &str, text: &str| format!(r#"{{"clientId":"{client}","text":"{text}"}}"#);
    let (good, bad, other) = (to(&client, "mine"), to(gone, "x"), r#"{"channel":"a","text":"all's"}"#);
    let head = servers.core.hub.head();
    let answer = servers.publish(0, &format!("[{other},{good},{bad},{good}]"));
    assert!(
        answer.contains(r#""status":404,"detail":"item 2: no client with this `clientId` is connected""#)
    );
    assert_eq!(servers.core.hub.head(), head, "nothing is published");
    let answer = servers.publish(0, &format!("[{other},{good},{good}]"));
    assert!(answer.starts_with(r#"{"success":true,"published":3"#), "{answer}");

    let lines = format!("{good}\n\n{other}\n{bad}\n{good}\n");
    let peer_of_lines = servers.request(
        0,
        &format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n{lines}",
            lines.len()
        ),
    );
    servers.settle();
    let (status, body) = self::answer(&peer_of_lines);
    assert_eq!(status, 404);
    assert!(
        body.contains(r#""detail":"line 4: no client"#) && body.ends_with(r#","published":2,"line":4}"#),
        "{body}"
    );
    assert_eq!(events(&read(&peer)), ["all's", "mine", "mine", "mine", "all's"]);
}

#[test]
fn a_stream_is_described_and_ended_by_its_id() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 1, "channels=b,a&user_id=ann");
    servers.now += Duration::from_secs(7);
    let described = format!(
        r#"{{"clientId":"{client}","client_id":"{client}","userId":"ann","channels":["b","a"],"state":"live","connectedSeconds":7,"lagEvents":0,"queuedBytes":0}}"#
    );
    assert_eq!(ask(&mut servers, 0, "GET", &client), (200, described));
    servers.publish(0, r#"{"channel":"a","text":"last"}"#);
    assert_eq!(ask(&mut servers, 0, "DELETE", &client), (200, r#"{"success":true}"#.to_owned()));
    let text = read(&peer);
    assert_eq!(events(&text), ["last", r#"shutdown {"reason":"deleted"}"#]);
    assert!(text.contains("retry: 1000") && peer.is_ended());
    assert_eq!(ask(&mut servers, 0, "GET", &client).0, 404);
    assert_eq!(servers.core.hub.subscribers("a"), 0);
}

#[test]
fn a_question_that_is_lost_or_finds_no_room_is_answered_503() {
    // A stream draws bits once for its retry and twice for its client id. Its end draws bits for its
    // retry.
    let mut servers = Servers::with_mailboxes(Some(4), 2);
    let (_peer, client) = stream(&mut servers, 0, "channel=a");
    let asked = servers.request(1, &format!("DELETE /clients/{client} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_eq!(servers.settle(), 1, "the shard panics over it");
    let (status, body) = answer(&asked);
    assert_eq!(status, 503);
    assert!(body.contains("did not answer"), "{body}");
    assert_eq!(ask(&mut servers, 1, "GET", &client).0, 404, "the stream is gone");

    let (_peer, client) = stream(&mut servers, 0, "channel=a");
    let asking: Vec<SimPeer> = (0..3).map(|_| change(&mut servers, 1, "subscribe", &client, "b")).collect();
    (0..3).for_each(|_| servers.turn(1)); // While shard 0 does nothing.
    let late: Vec<(u16, String)> = asking.iter().map(read).map(|text| status_of(&text)).collect();
    assert_eq!(late.iter().filter(|(status, _)| *status == 503).count(), 1, "{late:?}");
    servers.settle();
    let rest = asking.iter().map(read).filter(|text| text.starts_with("HTTP/1.1 200")).count();
    assert_eq!(rest, 2);
}

#[test]
fn an_answer_that_comes_for_a_connection_that_went_on_is_nobodys() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 0, "channel=a");
    let publisher = servers.nets[1].connect();
    let envelope = format!(r#"{{"clientId":"{client}","text":"late"}}"#);
    let post = |body: &str| {
        let len = body.len();
        let request =
            format!("POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n{body}");
        assert_eq!(publisher.write(request.as_bytes()), request.len());
    };
    post(&envelope);
    for _ in 0..8 {
        servers.now += Duration::from_secs(1);
        servers.turn(1); // Shard 0 does nothing, until the publisher's time is over.
    }
    assert!(read(&publisher).starts_with("HTTP/1.1 503"));
    post(r#"[{"channel":"a","text":"next"}]"#);
    servers.settle();
    assert!(answer(&publisher).1.starts_with(r#"{"success":true,"published":1"#));
    assert_eq!(events(&read(&peer)), ["next"]);
}

#[test]
fn a_key_is_settled_by_an_event_to_a_client_and_free_again_where_that_is_gone() {
    let mut servers = Servers::new(None);
    let (peer, client) = stream(&mut servers, 1, "channel=a");
    let gone = "0000000000000000000000000000002a-1-7";
    let to = |client: &str, key: &str| {
        format!(r#"{{"clientId":"{client}","text":"mine","idempotencyKey":"{key}"}}"#)
    };
    assert!(servers.publish(0, &to(&client, "k")).ends_with(r#""receivers":1}"#));
    for _ in 0..2 {
        let answer = servers.publish(0, &to(gone, "free"));
        assert!(answer.contains(r#""status":404"#), "the key is not under way: {answer}");
    }
    let lines = [to(&client, "k2"), to(gone, "free"), to(&client, "k3")].join("\n");
    let lines = servers.request(
        0,
        &format!(
            "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n{lines}",
            lines.len()
        ),
    );
    servers.settle();
    let (status, body) = answer(&lines);
    assert!(status == 404 && body.ends_with(r#""published":1,"duplicates":0,"line":2}"#), "{body}");
    assert!(servers.publish(1, &to(&client, "k3")).ends_with(r#""receivers":1}"#));
    assert!(
        servers
            .publish(1, r#"{"channel":"a","text":"all's","idempotencyKey":"free"}"#)
            .ends_with(r#""receivers":1}"#)
    );
    drop(peer);
    servers.settle();
    for key in ["k", "k2", "k3"] {
        let answer = servers.publish(0, &to(&client, key));
        assert!(answer.ends_with(r#","duplicate":true}"#), "as the first time, whoever has left: {answer}");
    }
}

fn status_of(text: &str) -> (u16, String) {
    (text.split(' ').nth(1).map_or(0, |code| code.parse().unwrap()), text.to_owned())
}
