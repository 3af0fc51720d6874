//! What a shard is made of, and its thread: that runs it until it has drained, also through panics.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::ServeError;
use super::io::Choice;
use crate::base::mailbox::{Receiver, Wake};
use crate::base::random::Random;
use crate::driver::Driver;
use crate::driver::epoll::EpollDriver;
use crate::driver::socket::Listener;
use crate::driver::uring::PreparedUring;
use crate::http::{HttpDate, http_date};
use crate::hub::Hub;
use crate::shard::{Message, Shard, ShardOptions};

/// What one shard is made of.
pub(super) struct ShardParts {
    pub(super) options: ShardOptions,
    pub(super) driver: ShardDriver,
    pub(super) mailbox: Receiver<Message>,
}

/// The driver of one shard, until its thread has it.
pub(super) enum ShardDriver {
    Epoll(EpollDriver),
    Uring(Box<PreparedUring>),
}

impl ShardDriver {
    pub(super) fn new(choice: Choice, listeners: Vec<Listener>) -> Result<ShardDriver, ServeError> {
        Ok(match choice {
            Choice::Epoll => ShardDriver::Epoll(EpollDriver::new(listeners).map_err(ServeError::Driver)?),
            Choice::Uring { proven, files } => {
                ShardDriver::Uring(Box::new(PreparedUring::new(listeners, files, proven)?))
            }
        })
    }

    pub(super) fn waker(&self) -> Arc<dyn Wake> {
        match self {
            ShardDriver::Epoll(driver) => driver.waker(),
            ShardDriver::Uring(prepared) => prepared.waker(),
        }
    }
}

/// How long a shard that has panicked waits before it begins anew, so that one which does so at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Runs one shard until it has drained. A panic in it ends its connections and nothing else. `start` is the instant
/// from which the hub's time counts.
pub(super) fn run_shard<D: Driver>(mut shard: Shard<D>, hub: &Hub, start: Instant) -> io::Result<()> {
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
pub(super) struct OsRandom;

impl OsRandom {
    pub(super) fn new() -> io::Result<OsRandom> {
        getrandom::u64().map(|_| OsRandom).map_err(io::Error::other)
    }
}

impl Random for OsRandom {
    fn bits(&mut self) -> u64 {
        getrandom::u64().expect("getrandom(2) does not fail once it has answered, which start-up waited for")
    }
}
