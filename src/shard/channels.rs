//! The list of channels as the JSON of `GET /channels`.

use serde::Serialize;

use super::Shard;
use crate::base::id::ConnId;
use crate::driver::Driver;
use crate::http::{Response, Status};
use crate::hub::counts::ChannelCounts;

/// What `GET /channels` says, in its order.
#[derive(Serialize)]
struct List<'a> {
    channels: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    subscribers: u32,
    retained: usize,
}

impl<D: Driver> Shard<D> {
    /// Tells a connection which channels there are.
    pub(super) fn list_channels(&mut self, conn: ConnId) {
        let text = render(&self.hub.list_channels());
        self.answer(conn, &Response::json(Status::OK, text.into_bytes()));
    }
}

fn render(channels: &[ChannelCounts]) -> String {
    let entries = channels.iter().map(|ChannelCounts { name, subscribers, retained }| Entry {
        name,
        subscribers: *subscribers,
        retained: *retained,
    });
    serde_json::to_string(&List { channels: entries.collect() }).expect("names and numbers are JSON")
}
