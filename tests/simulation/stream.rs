//! One connection of a subscriber: its request, and the response with its events.

use std::time::Instant;

use downpour::base::random::SplitMix64;
use downpour::driver::sim::SimPeer;
use downpour::http::{BodyDecoder, BodyFraming};
use downpour::sse::decode::Decoder;

use crate::scene::{Left, Scene};
use crate::view::{Now, View};
use crate::wire::{Lines, ResponseHead, take_head};

/// One connection of a subscriber.
pub(crate) struct Stream {
    pub(crate) peer: SimPeer,
    /// The index of its shard.
    pub(crate) shard: usize,
    pub(crate) begun: Instant,
    pub(crate) begun_at: u64,
    pub(crate) request: Vec<u8>,
    pub(crate) written: usize,
    pub(crate) received: Vec<u8>,
    pub(crate) head: Option<ResponseHead>,
    pub(crate) body: Option<BodyDecoder>,
    pub(crate) lines: Lines,
    pub(crate) decoder: Decoder,
    pub(crate) view: View,
    /// The client has ended its side.
    pub(crate) has_left: bool,
}

impl Stream {
    /// Writes some of the request. Returns true if it wrote anything.
    pub(crate) fn write(&mut self, random: &mut SplitMix64) -> bool {
        let rest = &self.request[self.written..];
        let len = if random.chance(0.5) { rest.len() } else { random.within(1..=rest.len()) };
        let taken = self.peer.write(&rest[..len]);
        self.written += taken;
        taken > 0
    }

    /// The stream's state when its client leaves in this step. The server may still count it.
    pub(crate) fn left(&self, step: u64) -> Left {
        Left {
            changes: self.view.changes.clone(),
            connected_at: self.view.connected_at,
            subscribed_at: self.view.subscribed_at,
            shard: self.shard,
            begun_at: self.begun_at,
            left_at: step,
        }
    }

    /// Takes in the received bytes: the head, then the events.
    pub(crate) fn take(&mut self, scene: &mut Scene<'_>, is_old: bool) -> Result<(), String> {
        if self.head.is_none() {
            let Some(head) = take_head(&mut self.received) else { return Ok(()) };
            if head.status != 200 {
                let patience = scene.rules.shard.conn.head_timeout;
                let is_timeout = head.status == 408 && scene.now >= self.begun + patience;
                return if is_timeout { Ok(()) } else { Err(format!("is answered {head:?}")) };
            }
            assert_eq!(head.field("content-type"), Some("text/event-stream"));
            assert_eq!(head.field("transfer-encoding"), (!is_old).then_some("chunked"), "{}", head.version);
            if !is_old {
                let body = BodyDecoder::new(BodyFraming::Chunked, u64::MAX);
                self.body = Some(body.map_err(|error| error.to_string())?);
            }
            self.head = Some(head);
        }
        let received = std::mem::take(&mut self.received);
        let Some(body) = &mut self.body else {
            self.lines.check(&received);
            return feed(&mut self.decoder, &mut self.view, scene, &received);
        };
        let mut at = 0;
        while at < received.len() {
            if body.is_done() {
                return Err("more comes behind the last chunk".to_owned());
            }
            let (consumed, data) = body.decode(&received[at..]).map_err(|error| error.to_string())?;
            at += consumed;
            self.lines.check(data);
            feed(&mut self.decoder, &mut self.view, scene, data)?;
        }
        Ok(())
    }
}

fn feed(decoder: &mut Decoder, view: &mut View, scene: &mut Scene<'_>, data: &[u8]) -> Result<(), String> {
    let Scene { model, rules, stats, step, is_draining, .. } = scene;
    let mut now = Now { model, rules, stats, step: *step, is_draining: *is_draining };
    decoder
        .feed(data, &mut |event| view.take(&mut now, event.event_type, event.data, event.last_event_id))
        .map_err(|error| error.to_string())
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).field("view", &self.view).finish_non_exhaustive()
    }
}
