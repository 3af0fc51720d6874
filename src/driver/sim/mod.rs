//! A network in memory and its driver. It does everything that a real network may do to a server, drawn
//! from a seed.
//!
//! A [`SimNet`] has peers ([`SimPeer`]), which a test plays, and one server, which holds the
//! [`SimDriver`]. It never blocks and knows no clock: it counts delays in waits. The same seed, options
//! and calls give the same run.
//!
//! What it does within the [contract](super::Driver):
//! - Sends are taken at once or stay pending, wholly or in part. Cuts of every length happen, more often
//!   at the edges of slices. A peer that does not read fills its connection's buffer.
//! - Bytes of a peer arrive in other pieces than they were written. Completions come late and out of
//!   order.
//! - Connections break: by the peer, or at any send or write. Bytes under way may be lost then, in both
//!   directions.
//! - Accepting fails for a while.
//!
//! Where kernels differ, it does the worst of them. A server that closes before it has received
//! everything from its peer resets the connection, and the peer loses everything that it has not read.
//!
//! A call that breaks the contract is a bug of the server under test, and panics.

mod driver;
mod link;
mod peer;
mod world;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;

pub use self::driver::{SimDriver, SimSocket};
pub use self::peer::SimPeer;
use self::world::World;

/// What the network does to its connections. Probabilities are from 0 to 1.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Bytes that a connection holds until its peer reads them. Drawn from this range for each
    /// connection.
    pub send_buffer_bytes: RangeInclusive<usize>,
    /// Bytes of a peer that a connection holds until the server receives them.
    pub receive_buffer_bytes: usize,
    /// That a send takes less than would fit: anything from nothing to all but one byte.
    pub short_send_probability: f64,
    /// That a send's result comes as a completion.
    pub pending_send_probability: f64,
    /// That a receive ends before it has taken everything that arrived.
    pub short_receive_probability: f64,
    /// That a completion comes later than the next wait.
    pub delay_probability: f64,
    /// By how many waits it comes later, at most.
    pub delay_waits_max: usize,
    /// That the connection breaks at a send or at a peer's write.
    pub reset_probability: f64,
    /// That accepting fails.
    pub accept_failure_probability: f64,
}

impl SimOptions {
    /// A network without disturbances: large buffers, whole sends, no delays.
    #[must_use]
    pub fn calm() -> SimOptions {
        SimOptions {
            send_buffer_bytes: 65_536..=65_536,
            receive_buffer_bytes: 65_536,
            short_send_probability: 0.0,
            pending_send_probability: 0.0,
            short_receive_probability: 0.0,
            delay_probability: 0.0,
            delay_waits_max: 0,
            reset_probability: 0.0,
            accept_failure_probability: 0.0,
        }
    }

    /// A network that does everything except break connections. Set `reset_probability` for that.
    #[must_use]
    pub fn hostile() -> SimOptions {
        SimOptions {
            send_buffer_bytes: 1..=4096,
            receive_buffer_bytes: 1024,
            short_send_probability: 0.3,
            pending_send_probability: 0.3,
            short_receive_probability: 0.3,
            delay_probability: 0.3,
            delay_waits_max: 4,
            reset_probability: 0.0,
            accept_failure_probability: 0.05,
        }
    }
}

/// The network, where peers connect to the server. A clone is another handle to the same network.
#[derive(Clone)]
pub struct SimNet {
    world: Rc<RefCell<World>>,
}

impl SimNet {
    /// Makes a network. `seed`, `options` and the calls that follow determine everything.
    #[must_use]
    pub fn new(seed: u64, options: SimOptions) -> SimNet {
        SimNet { world: Rc::new(RefCell::new(World::new(seed, options))) }
    }

    /// Starts a server. Peers can connect until the driver stops listening or is dropped. Dropping it
    /// resets all open connections. Then another server may be started.
    ///
    /// # Panics
    /// If there is a server already.
    #[must_use]
    pub fn driver(&self) -> SimDriver {
        SimDriver::new(Rc::clone(&self.world))
    }

    /// Connects a peer to the server's first listener.
    #[must_use]
    pub fn connect(&self) -> SimPeer {
        self.connect_to(0)
    }

    /// Connects a peer to one of the server's listeners. If nobody listens, the peer is reset at once.
    #[must_use]
    pub fn connect_to(&self, listener: usize) -> SimPeer {
        SimPeer::new(Rc::clone(&self.world), listener)
    }

    /// Returns true if and only if no completion will come until a peer acts, the driver is called, or
    /// its waker is used.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.world.borrow().is_quiet()
    }
}

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNet").field("is_quiet", &self.is_quiet()).finish_non_exhaustive()
    }
}
