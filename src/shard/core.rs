//! Joins hub, log, idempotency keys, counters and mailboxes into the state that all shards share. The
//! server, the simulation, tests and benches all build it here.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::publishing::apply::Applier;
use super::publishing::keys::IdempotencyKeys;
use super::publishing::publishers::{Application, Publishers};
use super::report::board::Board;
use super::{MAILBOX_MESSAGES_MAX, Message};
use crate::base::account::Account;
use crate::base::id::NodeId;
use crate::base::mailbox::{Receiver, Sender, Wake, mailbox};
use crate::hub::{Hub, HubOptions};
use crate::log::{Log, Sink};

/// What all shards of a server share.
#[derive(Clone, Debug)]
pub struct Core {
    /// The node of this process, which the ids of its clients have.
    pub node: NodeId,
    /// The hub that the shards read from.
    pub hub: Arc<Hub>,
    /// The log that the shards append to.
    pub log: Arc<dyn Log>,
    /// Those who append batches and receive the outcomes.
    pub publishers: Publishers,
    /// The idempotency keys of all shards. The outcomes of the log settle them.
    pub keys: Arc<IdempotencyKeys>,
    /// Connections that the shards hold together.
    pub open_connections: Arc<AtomicUsize>,
    /// Connections among them that linger.
    pub lingering: Arc<AtomicUsize>,
    /// Memory held for unfinished bodies and unread answers.
    pub account: Arc<Account>,
    /// Where shards post snapshots of their counters.
    pub board: Arc<Board>,
}

/// The bounds of the state that shards share.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// The node of this process.
    pub node: NodeId,
    /// Options of the hub.
    pub hub: HubOptions,
    /// Most idempotency keys that are remembered.
    pub idempotency_keys_max: usize,
    /// Most bytes of unfinished bodies and unread answers.
    pub body_memory_bytes: usize,
    /// Most messages of each mailbox.
    pub mailbox_messages_max: usize,
}

impl Default for CoreOptions {
    /// One shard with a small history, for tests and benches.
    fn default() -> CoreOptions {
        CoreOptions {
            node: NodeId::ALONE,
            hub: HubOptions::default(),
            idempotency_keys_max: 1000,
            body_memory_bytes: 64 << 20,
            mailbox_messages_max: MAILBOX_MESSAGES_MAX,
        }
    }
}

impl Core {
    /// Builds the state for as many shards as there are `wakers`: each wakes the driver of the shard
    /// with its index. An `application` may publish beside the shards. `open` opens the log, which
    /// reports its commits to the sink. Returns the mailboxes of the shards too.
    #[must_use]
    pub fn new(
        options: &CoreOptions,
        wakers: impl IntoIterator<Item = Arc<dyn Wake>>,
        application: Option<Arc<dyn Application>>,
        open: impl FnOnce(&Arc<Hub>, Arc<dyn Sink>) -> Arc<dyn Log>,
    ) -> (Core, Vec<Receiver<Message>>) {
        let (senders, receivers): (Vec<Sender<Message>>, Vec<_>) =
            wakers.into_iter().map(|waker| mailbox(options.mailbox_messages_max, waker)).unzip();
        let hub = Arc::new(Hub::new(HubOptions { shards: senders.len(), ..options.hub }));
        let board = Arc::new(Board::new(senders.clone()));
        let publishers = Publishers::from(senders);
        let publishers = match application {
            Some(application) => publishers.with_application(application),
            None => publishers,
        };
        let keys = Arc::new(IdempotencyKeys::new(options.idempotency_keys_max, publishers.clone()));
        let sink = Applier::new(Arc::clone(&hub), publishers.clone(), Arc::clone(&keys));
        let log = open(&hub, Arc::new(sink));
        let core = Core {
            node: options.node,
            hub,
            log,
            publishers,
            keys,
            open_connections: Arc::default(),
            lingering: Arc::default(),
            account: Arc::new(Account::new(options.body_memory_bytes)),
            board,
        };
        (core, receivers)
    }
}
