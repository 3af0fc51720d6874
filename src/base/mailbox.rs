//! A bounded queue of messages to a thread that sleeps in its driver's wait, not in the queue.
//!
//! Waking a sleeping thread costs the sender about 14 µs. Signalling a thread that is awake costs some
//! hundred ns. Reading a flag costs nothing. So a sender wakes the receiver only if the receiver has
//! announced its sleep, and only once for all messages that arrive before it looks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_channel as channel;

/// Wakes a mailbox's receiver.
pub trait Wake: Send + Sync {
    /// Ends the receiver's sleep, or its next sleep if it is awake. Never blocks.
    fn wake(&self);
}

/// Makes a mailbox of at most `capacity` messages. `wake` wakes its receiver.
///
/// # Panics
/// When `capacity` is 0.
#[must_use]
pub fn mailbox<T>(capacity: usize, wake: Arc<dyn Wake>) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a mailbox holds at least one message");
    let (sender, receiver) = channel::bounded(capacity);
    let sleep = Arc::new(Sleep { announced: AtomicBool::new(false), wake });
    (Sender { queue: sender, sleep: Arc::clone(&sleep) }, Receiver { queue: receiver, sleep })
}

struct Sleep {
    /// The receiver sets this before its last look at the queue. The thread that ends the sleep clears
    /// it.
    ///
    /// A sender enqueues its message, then reads this flag. The receiver sets this flag, then reads the
    /// queue. Both sides put a sequentially consistent fence between their two steps, so at least one
    /// side sees the other.
    announced: AtomicBool,
    wake: Arc<dyn Wake>,
}

/// Puts messages into a mailbox, from any thread. Messages of one sender arrive in their order.
pub struct Sender<T> {
    queue: channel::Sender<T>,
    sleep: Arc<Sleep>,
}

impl<T> Sender<T> {
    /// Puts `message` in and wakes the receiver if it sleeps. Never blocks.
    ///
    /// # Errors
    /// Returns `message` if the mailbox is full or its receiver is gone.
    pub fn try_send(&self, message: T) -> Result<(), T> {
        self.queue.try_send(message).map_err(channel::TrySendError::into_inner)?;
        self.notify();
        Ok(())
    }

    /// The number of messages that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns true if and only if no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Wakes the receiver if it sleeps, for news outside the mailbox. A receiver that looks for the news
    /// after [`Receiver::prepare_to_sleep`] sees everything that the caller wrote before this call.
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.sleep.announced.load(Ordering::Relaxed) && self.sleep.announced.swap(false, Ordering::AcqRel)
        {
            self.sleep.wake.wake();
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { queue: self.queue.clone(), sleep: Arc::clone(&self.sleep) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

/// Takes messages out of a mailbox. The receiver sleeps elsewhere, and announces it:
///
/// ```text
/// loop {
///     while let Some(message) = receiver.try_recv() { … }
///     let timeout = if receiver.prepare_to_sleep() { until the next deadline } else { 0 };
///     wait for `timeout`, or until woken
///     receiver.awake();
/// }
/// ```
pub struct Receiver<T> {
    queue: channel::Receiver<T>,
    sleep: Arc<Sleep>,
}

impl<T> Receiver<T> {
    /// The next message, if one waits. Never blocks.
    #[must_use]
    pub fn try_recv(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// Announces a sleep. Returns true if and only if the mailbox is empty, so that the receiver may
    /// sleep. Every message that arrives from then on wakes it. If the mailbox is not empty, this
    /// withdraws the announcement.
    ///
    /// A wake-up may also come for a message that was already taken, since a sender decides about waking
    /// after it has enqueued its message.
    #[must_use]
    pub fn prepare_to_sleep(&self) -> bool {
        self.sleep.announced.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let may_sleep = self.queue.is_empty();
        if !may_sleep {
            self.awake();
        }
        may_sleep
    }

    /// Withdraws the announcement after a sleep, so that senders need not wake the receiver.
    /// [`Receiver::try_recv`] finds the messages that arrived meanwhile.
    pub fn awake(&self) {
        self.sleep.announced.store(false, Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[derive(Default)]
    struct CountingWake(AtomicUsize);

    impl Wake for CountingWake {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted(capacity: usize) -> (Sender<u32>, Receiver<u32>, impl Fn() -> usize) {
        let wake = Arc::new(CountingWake::default());
        let (sender, receiver) = mailbox(capacity, Arc::clone(&wake) as Arc<dyn Wake>);
        (sender, receiver, move || wake.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_receiver_that_is_awake_is_not_woken() {
        let (sender, receiver, wakes) = counted(4);
        sender.try_send(1).unwrap();
        assert_eq!((wakes(), receiver.try_recv(), receiver.try_recv()), (0, Some(1), None));
    }

    #[test]
    fn a_sleeper_is_woken_once_for_many_messages() {
        let (sender, receiver, wakes) = counted(4);
        assert!(receiver.prepare_to_sleep());
        for n in 0..3 {
            sender.try_send(n).unwrap();
        }
        assert_eq!(wakes(), 1);
        receiver.awake();
        sender.try_send(3).unwrap();
        assert_eq!(wakes(), 1);
    }

    #[test]
    fn a_mailbox_with_messages_lets_nobody_sleep() {
        let (sender, receiver, wakes) = counted(4);
        sender.try_send(1).unwrap();
        assert!(!receiver.prepare_to_sleep());
        sender.try_send(2).unwrap();
        assert_eq!(wakes(), 0);
    }

    #[test]
    fn a_full_or_deserted_mailbox_gives_the_message_back() {
        let (sender, receiver, wakes) = counted(1);
        assert!(receiver.prepare_to_sleep());
        sender.try_send(1).unwrap();
        assert_eq!((sender.try_send(2), wakes()), (Err(2), 1));
        drop(receiver);
        assert_eq!(sender.try_send(3), Err(3));
    }

    /// Sleeps by parking, which remembers one wake-up, as an eventfd does.
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(&self) {
            self.0.unpark();
        }
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        const SENDERS: usize = 3;
        const MESSAGES: usize = 20_000;
        let (sender, receiver) = mailbox(64, Arc::new(Unpark(thread::current())));
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for n in 0..MESSAGES {
                        while sender.try_send(n).is_err() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut received = 0;
        while received < SENDERS * MESSAGES {
            while receiver.try_recv().is_some() {
                received += 1;
            }
            if received < SENDERS * MESSAGES && receiver.prepare_to_sleep() {
                // The bound makes the test fail instead of hang: no sleep may last that long.
                let asleep_since = Instant::now();
                thread::park_timeout(Duration::from_secs(120));
                assert!(asleep_since.elapsed() < Duration::from_secs(60), "a wake-up was lost");
            }
            receiver.awake();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
}
