//! The parts of a shard, and the thread that runs it until it has drained, also through panics.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::io::Choice;
use super::{Handle, ServeError};
use crate::base::mailbox::{Receiver, Wake};
use crate::base::random::Random;
use crate::driver::Driver;
use crate::driver::affinity::pin_to_cpu;
use crate::driver::epoll::EpollDriver;
use crate::driver::socket::Listener;
use crate::driver::uring::PreparedUring;
use crate::http::{HttpDate, http_date};
use crate::hub::Hub;
use crate::shard::{Message, Shard, ShardOptions};

/// The parts of one shard.
pub(super) struct ShardParts {
    pub(super) options: ShardOptions,
    pub(super) driver: ShardDriver,
    pub(super) mailbox: Receiver<Message>,
}

/// The driver of one shard, before its thread runs it.
pub(super) enum ShardDriver {
    Epoll(EpollDriver),
    Uring(Box<PreparedUring>),
}

impl ShardParts {
    /// Runs the shard on this thread, pinned to `cpu`, until it has drained. Drains the server if the
    /// shard cannot go on.
    pub(super) fn serve(self, handle: &Handle, cpu: Option<usize>, start: Instant) -> Result<(), ServeError> {
        let ShardParts { options, driver, mailbox } = self;
        if let Some(cpu) = cpu
            && let Err(error) = pin_to_cpu(cpu)
        {
            tracing::warn!(cpu, %error, "a shard is not pinned to its processor, and runs on any");
        }
        let core = handle.shared().core.clone();
        let (hub, random) = (Arc::clone(&core.hub), Box::new(OsRandom::proven()));
        // A shard is not `Send`, so it is made on the thread that runs it.
        let run = || match driver {
            ShardDriver::Epoll(driver) => {
                run_shard(Shard::new(options, driver, core, mailbox, random, start), &hub, start)
            }
            ShardDriver::Uring(prepared) => {
                run_shard(Shard::new(options, prepared.start()?, core, mailbox, random, start), &hub, start)
            }
        };
        let served = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(served) => served.map_err(ServeError::Driver),
            Err(_) => Err(ServeError::Lost), // The panic hook has reported it.
        };
        if served.is_err() {
            handle.drain(); // With a shard less, the others can only finish.
        }
        served
    }
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

/// The pause before a shard that panicked restarts, so that one which panics at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Runs one shard until it has drained. A panic in it ends its connections and nothing else. The hub's
/// time counts from `start`.
fn run_shard<D: Driver>(mut shard: Shard<D>, hub: &Hub, start: Instant) -> io::Result<()> {
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

/// The current second as a date, rendered once a second.
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

/// Words that one system call draws. A call for each word would be a tenth of the cost of a connect.
const RANDOM_WORDS: usize = 64;

/// Random bits from the kernel (`getrandom(2)`) that nobody can predict. Each word is given out once and
/// then erased.
pub(super) struct OsRandom {
    words: [u64; RANDOM_WORDS],
    /// The number of words not given out yet. They are the first ones.
    left: usize,
}

impl OsRandom {
    /// Draws no bits before they are needed. [`OsRandom::new`] has shown that the kernel gives them.
    pub(super) fn proven() -> OsRandom {
        OsRandom { words: [0; RANDOM_WORDS], left: 0 }
    }

    pub(super) fn new() -> io::Result<OsRandom> {
        let mut random = OsRandom::proven();
        random.fill().map_err(io::Error::other)?;
        Ok(random)
    }

    fn fill(&mut self) -> Result<(), getrandom::Error> {
        let mut bytes = [0; RANDOM_WORDS * 8];
        getrandom::fill(&mut bytes)?;
        for (word, bytes) in self.words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        self.left = RANDOM_WORDS;
        Ok(())
    }
}

impl fmt::Debug for OsRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OsRandom") // The bits to come are secret.
    }
}

impl Random for OsRandom {
    fn bits(&mut self) -> u64 {
        if self.left == 0 {
            self.fill().expect("getrandom(2) does not fail once it has answered, which start-up waited for");
        }
        self.left -= 1;
        std::mem::take(&mut self.words[self.left])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn random_words_are_given_out_once() {
        let mut random = OsRandom::new().unwrap();
        let words: HashSet<u64> = (0..10 * RANDOM_WORDS).map(|_| random.bits()).collect();
        assert_eq!(words.len(), 10 * RANDOM_WORDS);
        assert!(random.words[random.left..].iter().all(|&word| word == 0), "those that were are not kept");
    }
}
