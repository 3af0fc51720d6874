//! Floor 6: a whole server in a process of any kind. Joins shards, hub, log and driver, and gives the
//! application a [`Handle`] to publish with.
//!
//! Nothing here is global to the process: its owner handles signals, logging and limits, and may run several
//! servers. Each server has its own threads: one for each shard, and one for callbacks.

mod batch;
mod builder;
mod desk;
mod error;
mod handle;
mod io;
mod listening;
mod running;
mod settings;
mod shards;
mod target;
mod waiting;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

pub use batch::{Batch, BatchError};
pub use builder::ServerBuilder;
pub use error::ServeError;
pub use handle::{Handle, PublishError, Published};
pub use io::Io;
pub use running::RunningServer;
pub use target::Target;

#[cfg(feature = "cli")]
pub(crate) use builder::bounds;
#[cfg(feature = "cli")]
pub(crate) use settings::{Bounds, DURATION_MAX};

use crate::api::{ApiOptions, Reach};
use crate::base::id::EpochTag;
use crate::base::random::Random;
use crate::conn::ConnOptions;
use crate::driver::affinity::allowed_cpus;
use crate::driver::descriptors::open_files_limit;
use crate::driver::socket::SocketOptions;
use crate::driver::unix::SocketFile;
use crate::frame::outbox::OutboxLimits;
use crate::hub::Retention;
use crate::hub::{HubOptions, SHARDS_MAX};
use crate::log::memory::MemoryLog;
use crate::shard::ShardOptions;
use crate::shard::core::{Core, CoreOptions};
use crate::shard::publishing::publishers::Application;
use desk::{Desk, OpenDesk};
use handle::Shared;
use io::Room;
use listening::{Listening, listen};
use shards::{OsRandom, ShardDriver, ShardParts};

/// A server that listens but does not serve yet: connections wait until it runs.
///
/// Dropping it closes the listeners. From then on publishes of its handles are refused.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use downpour::{ChannelName, Event, Server};
///
/// let server = Server::builder().listen(([127, 0, 0, 1], 0)).bind()?;
/// println!("listening on {}", server.addresses()[0]);
/// let running = server.start()?; // On threads of its own. `run` returns once the server has drained.
///
/// let published = running.handle().publish([&ChannelName::parse("news")?], &Event::new("hello"))?;
/// assert_eq!(published.receivers, Some(0)); // Nobody subscribes yet.
///
/// running.handle().drain();
/// running.wait()?;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    addresses: Vec<SocketAddr>,
    io: Io,
    /// The files of its unix sockets. Dropping them removes them.
    socket_files: Vec<SocketFile>,
    handle: Handle,
    /// The parts of the shards, by their numbers.
    parts: Vec<ShardParts>,
    /// Each shard stays on one processor.
    pin_shards: bool,
    /// The instant from which the times of the server count.
    start: Instant,
    desk: OpenDesk,
    caller: JoinHandle<()>,
}

impl Server {
    /// The settings of a new server, with the defaults of the command line.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    fn bind(settings: ServerBuilder) -> Result<Server, ServeError> {
        let descriptors_max = open_files_limit().map_err(ServeError::Limit)?;
        let mut random = OsRandom::new().map_err(ServeError::Random)?;
        let shards = settings.shards.unwrap_or_else(cpus).clamp(1, SHARDS_MAX);
        let Listening { addresses, socket_files, listeners } = listen(&settings, shards)?;
        let listeners_max = listeners.iter().map(Vec::len).max().unwrap_or(0);
        let room = Room {
            descriptors_max,
            shards,
            backlog: listeners_max * SocketOptions::default().backlog as usize,
            is_spread: socket_files.is_empty(),
        };
        let chosen = io::choose(settings.io, settings.connections_max, room)?;
        let mut parts = Vec::new();
        for (number, listeners) in listeners.into_iter().enumerate() {
            let driver = ShardDriver::new(chosen.choice, listeners)?;
            let options = shard_options(&settings, number, &addresses, chosen.connections_max);
            parts.push((options, driver));
        }
        let desk = Arc::new(Desk::new());
        let application = Arc::clone(&desk) as Arc<dyn Application>;
        let wakers: Vec<_> = parts.iter().map(|(_, driver)| driver.waker()).collect();
        let tag = EpochTag::from_bits(random.bits());
        let (core, mailboxes) = Core::new(&core_options(&settings), wakers, Some(application), |_, sink| {
            Arc::new(MemoryLog::new(tag, sink))
        });
        let parts = parts.into_iter().zip(mailboxes);
        let parts = parts.map(|((options, driver), mailbox)| ShardParts { options, driver, mailbox });
        let calling = Arc::clone(&desk);
        let caller = thread::Builder::new().name("callbacks".to_owned()).spawn(move || calling.call_back());
        let caller = caller.map_err(ServeError::Thread)?;
        let start = Instant::now();
        let handle = Handle::new(Shared {
            core,
            start,
            desk: Arc::clone(&desk),
            channels_max: settings.channels_max,
            body_bytes_max: settings.body_bytes_max,
            publish_timeout: settings.publish_timeout,
        });
        let desk = OpenDesk(desk);
        let io = chosen.choice.io();
        let pin_shards = settings.pin_shards;
        Ok(Server {
            addresses,
            io,
            socket_files,
            handle,
            parts: parts.collect(),
            pin_shards,
            start,
            desk,
            caller,
        })
    }

    /// The TCP addresses that it listens on, in the order given, with the ports that the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The paths of the unix sockets that it listens on, in the order given.
    pub fn unix_paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.socket_files.iter().map(SocketFile::path)
    }

    /// The number of event loops.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.parts.len()
    }

    /// The I/O driver that it has chosen: never [`Io::Auto`].
    #[must_use]
    pub fn io(&self) -> Io {
        self.io
    }

    /// The handle that publishes, counts and drains, from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Adds the number of lost lines of the process's log to the metrics.
    #[cfg(feature = "cli")]
    pub(crate) fn report_log_lines_dropped(&self, lines: Arc<std::sync::atomic::AtomicU64>) {
        self.handle.shared().core.board.report_log_lines_dropped(lines);
    }

    /// Serves until the server has drained ([`Handle::drain`]).
    ///
    /// # Errors
    /// As [`Server::start`] and [`RunningServer::wait`].
    pub fn run(self) -> Result<(), ServeError> {
        self.start()?.wait()
    }

    /// Serves on threads of its own.
    ///
    /// # Errors
    /// [`ServeError::Thread`]; then shards that were started drain.
    pub fn start(self) -> Result<RunningServer, ServeError> {
        let Server { addresses, mut socket_files, handle, parts, pin_shards, start, desk, caller, .. } = self;
        let desk = Arc::new(desk);
        let mut running =
            RunningServer { addresses, handle, threads: Vec::new(), desk, caller: Some(caller) };
        let cpus = if pin_shards { allowed_cpus().map_err(ServeError::Cpus)? } else { Vec::new() };
        for shard in parts {
            let number = shard.options.number;
            let cpu = cpus.iter().cycle().nth(number).copied();
            let (handle, desk) = (running.handle.clone(), Arc::clone(&running.desk));
            let name = format!("shard-{number}");
            // The first shard has the unix sockets, so it takes all files.
            let socket_files = std::mem::take(&mut socket_files);
            let serve = move || {
                let _until_it_ends = (desk, socket_files);
                shard.serve(&handle, cpu, start)
            };
            running.threads.push(thread::Builder::new().name(name).spawn(serve).map_err(ServeError::Thread)?);
        }
        Ok(running)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// The processors that this process may run on.
fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn core_options(settings: &ServerBuilder) -> CoreOptions {
    let retention = Retention {
        events_max: settings.history_events_max,
        bytes_max: settings.history_bytes_max,
        age_max: settings.history_age_max,
    };
    CoreOptions {
        hub: HubOptions { retention, channels_max: settings.channels_max, ..HubOptions::default() },
        idempotency_keys_max: settings.idempotency_keys_max,
        body_memory_bytes: settings.body_memory_bytes,
        ..CoreOptions::default()
    }
}

fn shard_options(
    settings: &ServerBuilder,
    number: usize,
    addresses: &[SocketAddr],
    connections_max: usize,
) -> ShardOptions {
    ShardOptions {
        number,
        conn: ConnOptions {
            head_timeout: settings.head_timeout,
            body_timeout: settings.body_timeout,
            idle_timeout: settings.idle_timeout,
            stall_timeout: settings.stall_timeout,
            publish_timeout: settings.publish_timeout,
            keepalive: settings.keepalive_interval,
            keepalive_style: settings.keepalive_style,
            body_bytes_max: settings.body_bytes_max,
            outbox: OutboxLimits {
                bytes_max: settings.outbox_bytes_max,
                frames_max: u32::try_from(settings.outbox_frames_max).unwrap_or(u32::MAX),
            },
        },
        api: addresses
            .iter()
            .map(
                |address| {
                    if address.ip().to_canonical().is_loopback() { Reach::Loopback } else { Reach::Network }
                },
            )
            .chain(settings.listen_unix.iter().map(|_| Reach::Unix))
            .map(|reach| api_options(settings, reach))
            .collect(),
        connections_max,
        retry: settings.retry_delay,
        retry_jitter: settings.retry_jitter,
        stream_age_max: settings.stream_age_max,
        drain_timeout: settings.drain_timeout,
    }
}

fn api_options(settings: &ServerBuilder, reach: Reach) -> ApiOptions {
    ApiOptions {
        hosts: settings.hosts.clone(),
        reach,
        is_insecure: settings.is_insecure,
        trusts_user_parameter: settings.trusts_user_parameter,
        stream_channels_max: settings.stream_channels_max,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::name::ChannelName;
    use crate::hub::Begin;
    use crate::record::{Events, Record};
    use crate::shard::publishing::tickets::application_ticket;
    use crate::sse::event::Event;

    #[test]
    fn the_log_is_closed_once_the_server_has_ended() {
        let server = Server::builder().listen(([127, 0, 0, 1], 0)).shards(1).bind().unwrap();
        let handle = server.handle();
        let channel = ChannelName::parse("a").unwrap();
        let append = || {
            let record = Record::from(Events::of(&channel, &Event::new("x")));
            handle.shared().core.log.append(&mut vec![(application_ticket(9), record)]);
            handle.shared().core.hub.head().0
        };
        let running = server.start().unwrap();
        assert_eq!(append(), 1);
        handle.drain();
        running.wait().unwrap();
        assert_eq!(append(), 1, "it takes nothing any more");
    }

    #[test]
    fn a_server_that_is_behind_gives_batches_back_until_it_has_caught_up() {
        let builder = Server::builder().listen(([127, 0, 0, 1], 0)).shards(1);
        let server = builder.publish_timeout(Duration::from_millis(20)).bind().unwrap();
        let handle = server.handle();
        // A shard that has a subscriber and does not serve yet is behind as soon as more is published
        // than it may be.
        let channel = ChannelName::parse("a").unwrap();
        handle.shared().core.hub.subscribe(0, &[channel.clone().into()], None, Begin::AtHead).unwrap();
        let mut batch = handle.batch();
        (0..10_000).for_each(|_| batch.push([&channel], &Event::new("x")).unwrap());
        assert_eq!(handle.publish_batch(batch.clone()).unwrap().events, 10_000);

        let never = |_| panic!("a callback of what was refused");
        assert_eq!(handle.publish_with(batch.clone(), never), Err(PublishError::Busy(batch.clone())));
        assert_eq!(handle.publish_batch(batch.clone()), Err(PublishError::Busy(batch.clone())));

        let waiting = handle.clone();
        let publisher = thread::spawn(move || {
            loop {
                match waiting.publish_batch(batch) {
                    Err(PublishError::Busy(returned)) => batch = returned,
                    published => return published,
                }
            }
        });
        let running = server.start().unwrap();
        let published = publisher.join().unwrap().unwrap();
        assert_eq!(published.id.sequence.0, 10_001, "what was refused has taken no numbers");
        handle.drain();
        running.wait().unwrap();
    }
}
