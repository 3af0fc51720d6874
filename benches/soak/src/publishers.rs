//! Publishers: events of every size in every form, at fixed rates, one after the other over persistent
//! connections.
//!
//! Each task has its period in ticks. All tasks run in turn on one thread, so that the events of a scope
//! have the order of their numbers.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use downpour::base::random::SplitMix64;
use serde_json::{Value, json};

use crate::mark::Numbers;
use crate::names;
use crate::shared::{Count, Shared};
use crate::ticks::Ticks;
use crate::tracker::OWN_ID;
use downpour_load::http::{Answer, Connection, request};

/// Publishes until the load is over: without waiting until the server is full, then by the tick.
pub(crate) fn run(shared: &Shared, address: SocketAddr, seed: u64) {
    let mut publishers = match Publishers::open(shared, address, seed) {
        Ok(publishers) => publishers,
        Err(error) => return shared.give_up(format!("publishers cannot connect: {error:#}")),
    };
    let mut pace = Ticks::begin();
    while !shared.is_over() {
        for (at, (period, task)) in Publishers::TASKS.iter().enumerate() {
            // Spread over the ticks.
            if (pace.tick() + at as u64).is_multiple_of(*period)
                && let Err(error) = task(&mut publishers)
            {
                return shared.give_up(format!("publishing failed: {error:#}"));
            }
        }
        if shared.is_full() {
            pace.wait();
        } else {
            pace.skip();
        }
    }
}

type Task<'a> = fn(&mut Publishers<'a>) -> anyhow::Result<()>;

struct Publishers<'a> {
    shared: &'a Shared,
    address: SocketAddr,
    random: SplitMix64,
    numbers: Numbers,
    /// One for single events, one for bodies of many, one for pipelined requests.
    single: Connection,
    many: Connection,
    ahead: Connection,
    /// A request without the end of its body, and that end. Another one never gets its end.
    unfinished: Option<(Connection, String)>,
    abandoned: Option<Connection>,
    /// Numbers keys, publishers' ids and newcomers.
    serial: u64,
}

impl<'a> Publishers<'a> {
    /// Tasks with their periods in ticks of 20 ms.
    const TASKS: [(u64, Task<'a>); 15] = [
        (1, Self::one),
        (1, Self::with_key),
        (100, Self::sparse),
        (10, Self::array),
        (10, Self::lines),
        (5, Self::pipelined),
        (3, Self::large),
        (5, Self::with_own_id),
        (2, Self::that_lapses),
        (5, Self::for_user),
        (50, Self::for_all),
        (5, Self::for_client),
        (10, Self::for_pair),
        (100, Self::slow_body),
        (2, Self::newcomer),
    ];

    fn open(shared: &'a Shared, address: SocketAddr, seed: u64) -> anyhow::Result<Publishers<'a>> {
        let open = || Connection::open(address);
        Ok(Publishers {
            shared,
            address,
            random: SplitMix64::new(seed),
            numbers: Numbers::default(),
            single: open()?,
            many: open()?,
            ahead: open()?,
            unfinished: None,
            abandoned: None,
            serial: 0,
        })
    }

    fn one(&mut self) -> anyhow::Result<()> {
        let channel = names::of_kind("steady", &mut self.random);
        let text = self.text(&channel, 64, 512);
        let form = if self.random.chance(0.5) { "text" } else { "data" };
        self.publish(json!({"channel": channel, form: text, "event": "note"}), "")
    }

    /// Every tenth is sent again, and must not be published again.
    fn with_key(&mut self) -> anyhow::Result<()> {
        let channel = names::of_kind("steady", &mut self.random);
        let text = self.text(&channel, 64, 256);
        let serial = self.next_serial();
        let key = format!("Idempotency-Key: key-{serial}\r\n");
        let envelope = json!({"channel": channel, "text": text});
        self.publish(envelope.clone(), &key)?;
        if serial.is_multiple_of(10) {
            let answer = self.ask(&envelope, &key)?;
            ensure!(answer.body.contains("\"duplicate\":true"), "a retry was answered {answer:?}");
            self.shared.count(Count::Retries);
        }
        Ok(())
    }

    fn sparse(&mut self) -> anyhow::Result<()> {
        let text = self.text(names::SPARSE, 64, 64);
        self.publish(json!({"channel": names::SPARSE, "text": text}), "")
    }

    fn array(&mut self) -> anyhow::Result<()> {
        let events: Vec<Value> = (0..10).map(|_| self.envelope("batch", 64, 4096)).collect();
        self.shared.count(Count::Batches);
        let body = Value::from(events).to_string();
        self.publish_many("application/json", &body, 10)
    }

    fn lines(&mut self) -> anyhow::Result<()> {
        let lines: Vec<String> = (0..20)
            .map(|_| {
                let mut event = self.envelope("batch", 64, 4096);
                if self.random.chance(0.2) {
                    event["idempotencyKey"] = format!("line-{}", self.next_serial()).into();
                }
                event.to_string()
            })
            .collect();
        self.shared.count(Count::Lines);
        self.publish_many("application/x-ndjson", &lines.join("\n"), 20)
    }

    fn pipelined(&mut self) -> anyhow::Result<()> {
        let requests: String = (0..8)
            .map(|_| {
                let channel = names::of_kind("pipe", &mut self.random);
                let text = self.text(&channel, 256, 2048);
                request("POST", &format!("/channels/{channel}"), "Content-Type: text/plain\r\n", &text)
            })
            .collect();
        self.ahead.send(requests.as_bytes())?;
        for _ in 0..8 {
            check(&self.ahead.answer()?)?;
        }
        self.shared.count(Count::Pipelined);
        self.shared.count_many(Count::Published, 8);
        Ok(())
    }

    fn large(&mut self) -> anyhow::Result<()> {
        let envelope = self.envelope("large", 8 * 1024, 48 * 1024);
        self.shared.count(Count::Large);
        self.publish(envelope, "")
    }

    fn with_own_id(&mut self) -> anyhow::Result<()> {
        let mut envelope = self.envelope("own", 64, 512);
        envelope["id"] = format!("{OWN_ID}{}", self.next_serial()).into();
        self.shared.count(Count::OwnIds);
        self.publish(envelope, "")
    }

    fn that_lapses(&mut self) -> anyhow::Result<()> {
        let channel = names::of_kind("lapse", &mut self.random);
        let lapses = self.random.chance(0.7);
        let text = self.numbers.next(&channel, lapses, 128);
        let mut envelope = json!({"channel": channel, "text": text});
        if lapses {
            envelope["ttl"] = self.random.within(1..=20).into();
            self.shared.count(Count::Lapsing);
        }
        self.publish(envelope, "")
    }

    fn for_user(&mut self) -> anyhow::Result<()> {
        let user = names::user(&mut self.random);
        let text = self.text(&format!("user:{user}"), 64, 512);
        self.shared.count(Count::ToUsers);
        self.publish(json!({"userId": user, "text": text}), "")
    }

    fn for_all(&mut self) -> anyhow::Result<()> {
        let text = self.text("all", 64, 128);
        self.shared.count(Count::ToAll);
        self.publish(json!({"all": true, "text": text}), "")
    }

    /// To a stream that may have left.
    fn for_client(&mut self) -> anyhow::Result<()> {
        let clients = self.shared.clients.lock().expect("no thread panics with it");
        let Some(client) = names::pick(&clients, &mut self.random).cloned() else { return Ok(()) };
        drop(clients);
        let scope = format!("client:{client}");
        let text = self.text(&scope, 64, 256);
        let answer = self.ask(&json!({"clientId": client, "text": text}), "")?;
        if answer.status == 404 {
            self.numbers.forget(&scope);
            return Ok(());
        }
        self.shared.count(Count::ToClients);
        self.shared.count(Count::Published);
        check(&answer)
    }

    fn for_pair(&mut self) -> anyhow::Result<()> {
        let pair = *names::pick(&names::PAIRS, &mut self.random).context("there are pairs")?;
        let channels: Vec<&str> = pair.split('+').collect();
        let text = self.text(pair, 64, 512);
        self.shared.count(Count::ToPairs);
        self.publish(json!({"channels": channels, "text": text}), "")
    }

    /// Sends the first half of a body; the next call sends the other half. A second body is abandoned
    /// each time.
    fn slow_body(&mut self) -> anyhow::Result<()> {
        if let Some((mut connection, rest)) = self.unfinished.take() {
            connection.send(rest.as_bytes())?;
            check(&connection.answer()?)?;
            self.abandoned = None;
            self.shared.count(Count::SlowBodies);
            self.shared.count(Count::Published);
            return Ok(());
        }
        let text = self.text("body:0", 8 * 1024, 32 * 1024);
        let mut whole = request("POST", "/channels/body:0", "Content-Type: text/plain\r\n", &text);
        let rest = whole.split_off(whole.len() - 4096);
        let mut connection = Connection::open(self.address)?;
        connection.send(whole.as_bytes())?;
        self.unfinished = Some((connection, rest));
        let mut abandoned = Connection::open(self.address)?;
        abandoned.send(whole.replacen("body:0", "body:1", 1).as_bytes())?;
        self.abandoned = Some(abandoned);
        Ok(())
    }

    /// A new channel. It is refused if there are too many.
    fn newcomer(&mut self) -> anyhow::Result<()> {
        let channel = format!("new:{}", self.next_serial());
        for _ in 0..self.random.within(1..=3) {
            let text = self.text(&channel, 64, 256);
            let answer = self.ask(&json!({"channel": channel, "text": text}), "")?;
            if answer.status == 429 {
                self.shared.count(Count::Refused);
                break;
            }
            check(&answer)?;
            self.shared.count(Count::Published);
        }
        self.numbers.forget(&channel);
        self.shared.count(Count::Newcomers);
        let mut newcomers = self.shared.newcomers.lock().expect("no thread panics with it");
        newcomers.push(channel);
        if newcomers.len() > NEWCOMERS_KEPT {
            newcomers.remove(0);
        }
        Ok(())
    }

    /// The next event of one of the channels of a kind.
    fn envelope(&mut self, kind: &str, least: usize, most: usize) -> Value {
        let channel = names::of_kind(kind, &mut self.random);
        let text = self.text(&channel, least, most);
        json!({"channel": channel, "text": text})
    }

    /// The text of the next event of a scope.
    fn text(&mut self, scope: &str, least: usize, most: usize) -> String {
        self.numbers.next(scope, false, self.random.within(least..=most))
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn publish(&mut self, envelope: Value, fields: &str) -> anyhow::Result<()> {
        let answer = self.ask(&envelope, fields)?;
        self.shared.count(Count::Published);
        check(&answer)
    }

    fn ask(&mut self, envelope: &Value, fields: &str) -> anyhow::Result<Answer> {
        let fields = format!("Content-Type: application/json\r\n{fields}");
        self.single.send(request("POST", "/publish", &fields, &envelope.to_string()).as_bytes())?;
        self.single.answer()
    }

    /// Publishes a body of several events, every second time in chunks.
    fn publish_many(&mut self, media_type: &str, body: &str, count: u64) -> anyhow::Result<()> {
        let fields = format!("Content-Type: {media_type}\r\n");
        let whole = if self.random.chance(0.5) {
            request("POST", "/publish", &fields, body)
        } else {
            let (first, second) = body.split_at(body.len() / 3);
            let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
            let chunks = [chunk(first), chunk(second), chunk("")].concat();
            format!(
                "POST /publish HTTP/1.1\r\nHost: localhost\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{chunks}"
            )
        };
        self.many.send(whole.as_bytes())?;
        let answer = self.many.answer()?;
        check(&answer)?;
        let told: Value = serde_json::from_str(&answer.body)?;
        ensure!(told["published"] == count, "of {count} events: {answer:?}");
        self.shared.count_many(Count::Published, count);
        Ok(())
    }
}

fn check(answer: &Answer) -> anyhow::Result<()> {
    if answer.status != 200 {
        bail!("{answer:?}");
    }
    Ok(())
}

/// The number of recent new channels that are kept.
const NEWCOMERS_KEPT: usize = 64;
