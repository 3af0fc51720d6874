//! A network in memory, and the driver that serves it: everything that a real one may do to a server, drawn from a seed.
//!
//! A [`SimNet`] has peers ([`SimPeer`]), which a test plays, and one server, which holds its [`SimDriver`]. It never
//! blocks and knows no clock: what it delays, it delays by a number of waits. With the same seed, the same options and
//! the same calls, the same happens.
//!
//! What it does within the [contract](super::Driver):
//! - Sends are taken at once or stay pending, wholly or in part; cuts of every length happen, those at the edges of
//!   slices more often. A peer that does not read fills its connection's buffer.
//! - Bytes of a peer come in pieces other than those that were written. Completions come late and out of order.
//! - Connections break: by the peer, or at any send or write. Bytes under way may be lost then, on both sides.
//! - Accepting fails for a while.
//!
//! Where kernels differ, it does the worst of them: a server that closes before it has received all that its peer wrote
//! resets the connection, and its peer loses all that it has not read yet.
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
    /// Bytes that a connection holds for a peer which has not read them: for each connection, drawn from here.
    pub send_buffer_bytes: RangeInclusive<usize>,
    /// Bytes that a connection holds of a peer which the server has not received.
    pub receive_buffer_bytes: usize,
    /// Of a send that it takes less than would fit: anything from nothing to all but one byte.
    pub short_send_probability: f64,
    /// Of a send that its outcome comes as a completion.
    pub pending_send_probability: f64,
    /// Of a receive that it ends before all that has arrived.
    pub short_receive_probability: f64,
    /// Of a completion that it comes later than the next wait.
    pub delay_probability: f64,
    /// By how many waits it comes later, at most.
    pub delay_waits_max: usize,
    /// Of each send and each write of a peer that the connection breaks there.
    pub reset_probability: f64,
    /// Of accepting that it fails.
    pub accept_failure_probability: f64,
}

impl SimOptions {
    /// A network that does nothing of its own accord: large buffers, whole sends, no delays.
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

    /// A network that does everything but break connections: set `reset_probability` for that.
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

/// The network: where peers connect to the server. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct SimNet {
    world: Rc<RefCell<World>>,
}

impl SimNet {
    /// Makes a network of which everything is determined by `seed`, `options` and the calls that follow.
    #[must_use]
    pub fn new(seed: u64, options: SimOptions) -> SimNet {
        SimNet { world: Rc::new(RefCell::new(World::new(seed, options))) }
    }

    /// Starts a server: peers can connect from now on, until the driver stops listening or is dropped, which resets what
    /// is still open. Another server may be started then.
    ///
    /// # Panics
    /// When there is a server already.
    #[must_use]
    pub fn driver(&self) -> SimDriver {
        SimDriver::new(Rc::clone(&self.world))
    }

    /// Connects a peer to the server's first listener.
    #[must_use]
    pub fn connect(&self) -> SimPeer {
        self.connect_to(0)
    }

    /// Connects a peer to one of the server's listeners. Where nobody listens, the peer is reset at once.
    #[must_use]
    pub fn connect_to(&self, listener: usize) -> SimPeer {
        SimPeer::new(Rc::clone(&self.world), listener)
    }

    /// Returns true if and only if no completion will come until a peer does something, the driver is called, or it is
    /// woken.
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
