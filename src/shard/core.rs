//! The one place where a hub, a log, idempotency keys, counters and mailboxes are joined to what all shards of a server share:
//! for the server, for the simulation, for tests and for benches.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::publishing::apply::{Application, Applier, Publishers};
use super::publishing::keys::IdempotencyKeys;
use super::report::board::Board;
use super::{MAILBOX_MESSAGES_MAX, Message};
use crate::base::account::Account;
use crate::base::mailbox::{Receiver, Sender, Wake, mailbox};
use crate::hub::{Hub, HubOptions};
use crate::log::{Log, Sink};

/// What all shards of a server share.
#[derive(Clone, Debug)]
pub struct Core {
    /// The hub that they read from.
    pub hub: Arc<Hub>,
    /// The log that they append to.
    pub log: Arc<dyn Log>,
    /// Who is told what became of a batch.
    pub publishers: Publishers,
    /// The idempotency keys that all of them were given. What the log commits settles these.
    pub keys: Arc<IdempotencyKeys>,
    /// How many connections they hold together.
    pub open_connections: Arc<AtomicUsize>,
    /// How many of these linger.
    pub lingering: Arc<AtomicUsize>,
    /// What is held for those whose bodies are unfinished and whose answers are unread.
    pub account: Arc<Account>,
    /// Where they put up what they have counted.
    pub board: Arc<Board>,
}

/// The bounds of what shards share.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// The hub's.
    pub hub: HubOptions,
    /// How many idempotency keys are remembered.
    pub idempotency_keys_max: usize,
    /// Bytes of unfinished bodies and unread answers.
    pub body_memory_bytes: usize,
    /// Messages that each mailbox holds.
    pub mailbox_messages_max: usize,
}

impl Default for CoreOptions {
    /// One shard with a small history, as tests and benches want it.
    fn default() -> CoreOptions {
        CoreOptions {
            hub: HubOptions::default(),
            idempotency_keys_max: 1000,
            body_memory_bytes: 64 << 20,
            mailbox_messages_max: MAILBOX_MESSAGES_MAX,
        }
    }
}

impl Core {
    /// Joins as many shards as `wakers`: each wakes the driver of the shard in its place. An `application` may publish beside
    /// them. `open` opens the log, which tells the sink what it commits. Returns the mailboxes of the shards too.
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
