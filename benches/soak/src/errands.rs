//! Requests of operators and clients beside the streams: drops, lists, and changes of live streams.

use std::net::SocketAddr;

use anyhow::ensure;
use downpour::base::random::SplitMix64;
use serde_json::{Value, json};

use crate::names;
use crate::shared::{Count, Shared};
use crate::ticks::{Ticks, ticks};
use downpour_load::http::{Connection, request};

/// Makes these requests until the load is over.
pub(crate) fn run(shared: &Shared, address: SocketAddr, seed: u64) {
    let connection = match Connection::open(address) {
        Ok(connection) => connection,
        Err(error) => return shared.give_up(format!("errands cannot connect: {error:#}")),
    };
    let mut errands =
        Errands { shared, connection, random: SplitMix64::new(seed), drops: 0, changed: Vec::new() };
    let mut pace = Ticks::begin();
    while !shared.is_over() {
        if let Err(error) = errands.turn(pace.tick()) {
            return shared.give_up(format!("an errand failed: {error:#}"));
        }
        pace.wait();
    }
}

struct Errands<'a> {
    shared: &'a Shared,
    connection: Connection,
    random: SplitMix64,
    drops: usize,
    /// Clients with their additional subscriptions.
    changed: Vec<(String, &'static str)>,
}

impl Errands<'_> {
    fn turn(&mut self, tick: u64) -> anyhow::Result<()> {
        if tick.is_multiple_of(ticks(0.1)) {
            self.change()?;
        }
        if tick.is_multiple_of(ticks(0.2)) {
            self.drop_newcomer()?;
        }
        if tick.is_multiple_of(ticks(2.0)) {
            self.drop_lasting()?;
        }
        if tick.is_multiple_of(ticks(2.0)) {
            self.list()?;
        }
        Ok(())
    }

    /// Subscribes a live stream to a pattern or a channel, or reverts the oldest such change.
    fn change(&mut self) -> anyhow::Result<()> {
        if self.changed.len() >= CHANGED_MAX {
            let (client, channel) = self.changed.remove(0);
            return self.ask_to_change("unsubscribe", &client, channel);
        }
        let clients = self.shared.clients.lock().expect("no thread panics with it");
        let Some(client) = names::pick(&clients, &mut self.random).cloned() else { return Ok(()) };
        drop(clients);
        let channel = *names::pick(&ADDED, &mut self.random).expect("there are some");
        self.ask_to_change("subscribe", &client, channel)?;
        self.changed.push((client, channel));
        Ok(())
    }

    /// The stream may have left (404), there may be too many channels for a new pattern (429), and a
    /// stalled stream may have a full queue (503).
    fn ask_to_change(&mut self, change: &str, client: &str, channel: &str) -> anyhow::Result<()> {
        let body = json!({"clientId": client, "channel": channel}).to_string();
        let target = format!("/events/{change}");
        self.connection
            .send(request("POST", &target, "Content-Type: application/json\r\n", &body).as_bytes())?;
        let answer = self.connection.answer()?;
        ensure!(matches!(answer.status, 200 | 404 | 429 | 503), "{target} {body} was answered {answer:?}");
        if answer.status == 200 {
            self.shared.count(Count::Changes);
        }
        Ok(())
    }

    fn drop_newcomer(&mut self) -> anyhow::Result<()> {
        let newcomers = self.shared.newcomers.lock().expect("no thread panics with it");
        let Some(name) = names::pick(&newcomers, &mut self.random).cloned() else { return Ok(()) };
        drop(newcomers);
        self.drop_channel(&name)
    }

    fn drop_lasting(&mut self) -> anyhow::Result<()> {
        let names = names::lasting();
        self.drops += 1;
        self.drop_channel(&names[self.drops % names.len()])
    }

    fn drop_channel(&mut self, name: &str) -> anyhow::Result<()> {
        let answer = self.connection.ask("DELETE", &format!("/channels/{name}"))?;
        // There may be nothing to drop.
        ensure!(matches!(answer.status, 200 | 204 | 404), "a drop of {name} was answered {answer:?}");
        self.shared.count(Count::Drops);
        Ok(())
    }

    fn list(&mut self) -> anyhow::Result<()> {
        let mut after = String::new();
        // Pages, if the server has them.
        for _ in 0..PAGES_MAX {
            let list = self.ask_for_json(&format!("/channels{after}"))?;
            let Some(next) = list["next"].as_str() else { break };
            after = format!("?after={next}");
        }
        self.ask_for_json("/sse/stats")?;
        let clients = self.shared.clients.lock().expect("no thread panics with it");
        let client = names::pick(&clients, &mut self.random).cloned();
        drop(clients);
        if let Some(client) = client {
            let answer = self.connection.ask("GET", &format!("/clients/{client}"))?;
            ensure!(matches!(answer.status, 200 | 404), "a client was told as {answer:?}");
        }
        self.shared.count(Count::Lists);
        Ok(())
    }

    fn ask_for_json(&mut self, target: &str) -> anyhow::Result<Value> {
        let answer = self.connection.ask("GET", target)?;
        ensure!(answer.status == 200, "{target} was answered {answer:?}");
        Ok(serde_json::from_str(&answer.body)?)
    }
}

/// The additional subscriptions of live streams.
const ADDED: [&str; 4] = ["batch:*", "pipe:*", "steady:3", "own:1"];

/// Most streams with additional subscriptions.
const CHANGED_MAX: usize = 20;

const PAGES_MAX: usize = 100;
