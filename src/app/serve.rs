//! `downpour serve`: runs the server until it is told to end.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::options::ServeConfig;
use super::signals::SignalWatch;
use crate::api::{self, ApiOptions, Hosts};
use crate::base::id::EpochTag;
use crate::base::mailbox::{Sender, mailbox};
use crate::base::random::Random;
use crate::conn::ConnOptions;
use crate::driver::Driver;
use crate::driver::descriptors::raise_open_files_limit;
use crate::driver::epoll::EpollDriver;
use crate::driver::socket::{BindError, Listener, SocketOptions, bind_many};
use crate::frame::outbox::OutboxLimits;
use crate::http::{HttpDate, http_date};
use crate::hub::retention::Retention;
use crate::hub::{Hub, HubOptions, SHARDS_MAX};
use crate::log::memory::MemoryLog;
use crate::log::{Log, Sink};
use crate::shard::apply::Applier;
use crate::shard::board::Board;
use crate::shard::{CONNECTIONS_OVER_LIMIT_MAX, Links, MAILBOX_MESSAGES_MAX, Message, Shard, ShardOptions};

/// File descriptors that are not for connections within the limit: listeners, epoll, standard streams, and those of
/// connections that are told that the limit is reached. At most a quarter of all.
const DESCRIPTORS_RESERVED_MAX: usize = 64 + SHARDS_MAX * 4 + CONNECTIONS_OVER_LIMIT_MAX;

/// Bytes not yet sent that the kernel takes for one stream before it calls its socket full. Without a bound it was seen
/// to take 4.2 MB for a client that had stopped reading.
const NOTSENT_LOWAT_BYTES: u32 = 16 * 1024;

/// Bytes of one stream that the kernel holds at most, which it doubles for its own overhead.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How long a shard that has panicked waits before it begins anew, so that one which does so at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Runs a server as configured, until it has drained.
///
/// # Errors
/// [`ServeError`] where it cannot start or serve on.
pub fn run(config: ServeConfig) -> Result<(), ServeError> {
    let descriptors_max = raise_open_files_limit().map_err(ServeError::Limit)?;
    let mut random = OsRandom::new().map_err(ServeError::Random)?;
    let shards = config.shards.unwrap_or_else(cpus).clamp(1, SHARDS_MAX);
    let (addresses, listeners) = listen(&config, shards)?;

    let hub = Arc::new(Hub::new(HubOptions {
        retention: Retention {
            events_max: config.history_events_max,
            bytes_max: config.history_bytes_max,
            age_max: config.history_age_max,
        },
        channels_max: config.channels_max,
        shards,
    }));
    let mut drivers = Vec::new();
    for listeners in listeners {
        drivers.push(EpollDriver::new(listeners).map_err(ServeError::Driver)?);
    }
    let (senders, receivers): (Vec<_>, Vec<_>) =
        drivers.iter().map(|driver| mailbox(MAILBOX_MESSAGES_MAX, driver.waker())).unzip();
    let applier: Arc<dyn Sink> = Arc::new(Applier::new(Arc::clone(&hub), senders.clone()));
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(EpochTag::from_bits(random.bits()), applier));

    let _signals = drain_on_signal(senders.clone())?;
    let connections = Arc::new(AtomicUsize::new(0));
    let board = Arc::new(Board::new(shards));
    let start = Instant::now();
    let mut threads = Vec::new();
    for (number, (driver, mailbox)) in drivers.into_iter().zip(receivers).enumerate() {
        let options = shard_options(&config, number, &addresses, descriptors_max);
        let (hub, log) = (Arc::clone(&hub), Arc::clone(&log));
        let (shards, connections) = (senders.clone(), Arc::clone(&connections));
        let board = Arc::clone(&board);
        // A shard counts by plain integers, so it is made where it stays.
        let serve = move || {
            let links = Links {
                hub: Arc::clone(&hub),
                log,
                mailbox,
                shards,
                connections,
                board,
                random: Box::new(OsRandom),
            };
            run_shard(Shard::new(options, driver, links, start), &hub, start)
        };
        let thread = thread::Builder::new().name(format!("shard-{number}")).spawn(serve);
        threads.push(thread.map_err(ServeError::Thread)?);
    }

    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    eprintln!("listening on {} io=epoll shards={shards}", addresses.join(", "));
    for thread in threads {
        match thread.join() {
            Ok(served) => served.map_err(ServeError::Driver)?,
            Err(_) => return Err(ServeError::Lost), // What it said is in the log.
        }
    }
    tracing::info!("drained");
    Ok(())
}

/// Runs one shard until it has drained. A panic in it ends its connections and nothing else.
fn run_shard(mut shard: Shard<EpollDriver>, hub: &Hub, start: Instant) -> io::Result<()> {
    let mut clock = Clock::new();
    loop {
        let served = catch_unwind(AssertUnwindSafe(|| {
            while !shard.is_drained() {
                shard.wait(Instant::now())?;
                let now = Instant::now();
                hub.set_now(now.saturating_duration_since(start));
                shard.turn(now, clock.date());
            }
            Ok(())
        }));
        match served {
            Ok(served) => return served,
            Err(_) => {
                tracing::error!("a shard has panicked, which is a bug; its streams end, and it begins anew");
                shard.restart();
                thread::sleep(RESTART_PAUSE);
            }
        }
    }
}

/// Listens on all addresses, with a socket for each shard; returns the addresses, and the listeners of each shard in
/// their order.
fn listen(config: &ServeConfig, shards: usize) -> Result<(Vec<SocketAddr>, Vec<Vec<Listener>>), ServeError> {
    let options = SocketOptions {
        send_buffer_bytes: Some(SEND_BUFFER_BYTES),
        notsent_lowat_bytes: Some(NOTSENT_LOWAT_BYTES),
        ..SocketOptions::default()
    };
    let mut addresses = Vec::new();
    let mut of_shards: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    for &address in &config.listen {
        let listeners = bind_many(address, shards, &options)?;
        addresses.push(listeners[0].address());
        of_shards.iter_mut().zip(listeners).for_each(|(of_shard, listener)| of_shard.push(listener));
    }
    Ok((addresses, of_shards))
}

fn drain_on_signal(shards: Vec<Sender<Message>>) -> Result<SignalWatch, ServeError> {
    let watch = SignalWatch::start(move |signal| {
        tracing::info!(signal, "draining");
        for shard in &shards {
            if shard.try_send(Message::Drain).is_err() {
                tracing::warn!("a shard takes no messages; a second signal ends the process");
            }
        }
    });
    watch.map_err(ServeError::Signals)
}

/// The processors that this process may run on.
fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn shard_options(
    config: &ServeConfig,
    number: usize,
    addresses: &[SocketAddr],
    descriptors_max: usize,
) -> ShardOptions {
    let room = (descriptors_max - DESCRIPTORS_RESERVED_MAX.min(descriptors_max / 4)).max(1);
    ShardOptions {
        number,
        conn: ConnOptions {
            head_timeout: config.head_timeout,
            body_timeout: config.body_timeout,
            idle_timeout: config.idle_timeout,
            publish_timeout: config.publish_timeout,
            keepalive: config.keepalive_interval,
            body_bytes_max: config.body_bytes_max,
            outbox: OutboxLimits {
                bytes_max: config.outbox_bytes_max,
                frames_max: u32::try_from(config.outbox_frames_max).unwrap_or(u32::MAX),
            },
            plan_body: api::plan_body,
        },
        api: addresses.iter().map(|address| api_options(config, address)).collect(),
        connections_max: config.connections_max.unwrap_or(room).min(room),
        retry: config.retry_delay,
        retry_jitter: config.retry_jitter,
        stream_age_max: config.stream_age_max,
        drain_timeout: config.drain_timeout,
    }
}

fn api_options(config: &ServeConfig, address: &SocketAddr) -> ApiOptions {
    ApiOptions {
        hosts: Hosts { any: config.hosts.any, names: config.hosts.names.clone() },
        is_loopback: address.ip().is_loopback(),
        stream_channels_max: config.stream_channels_max,
    }
}

/// The present second, rendered once for all who ask within it.
struct Clock {
    second: u64,
    date: HttpDate,
}

impl Clock {
    fn new() -> Clock {
        Clock { second: 0, date: http_date(SystemTime::UNIX_EPOCH) }
    }

    fn date(&mut self) -> HttpDate {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second {
            self.second = second;
            self.date = http_date(now);
        }
        self.date
    }
}

/// Random bits that nobody can predict, from the kernel.
#[derive(Debug)]
struct OsRandom;

impl OsRandom {
    fn new() -> io::Result<OsRandom> {
        getrandom::u64().map(|_| OsRandom).map_err(io::Error::other)
    }
}

impl Random for OsRandom {
    fn bits(&mut self) -> u64 {
        getrandom::u64().expect("getrandom(2) does not fail once it has answered, which start-up waited for")
    }
}

/// Why a server could not start or serve on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The limit on open files cannot be read or raised.
    #[error("cannot raise the limit on open files")]
    Limit(#[source] io::Error),
    /// The kernel gives no random bits, without which ids could be guessed.
    #[error("cannot draw random bits from the kernel")]
    Random(#[source] io::Error),
    /// The I/O driver cannot be set up, or is broken.
    #[error("cannot wait for connections: the kernel refuses epoll")]
    Driver(#[source] io::Error),
    /// A shard's thread cannot be started.
    #[error("cannot start a thread for each shard")]
    Thread(#[source] io::Error),
    /// A shard ended for good, which is a bug.
    #[error("a shard panicked while it began anew")]
    Lost,
    /// Signals cannot be watched for.
    #[error("cannot watch for signals")]
    Signals(#[source] io::Error),
}
