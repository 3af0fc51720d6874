//! An application with a server of its own: it publishes the lines that it reads, and from another thread the time. A line
//! `@jane hello` goes to every stream of the user jane, and `! hello` to every stream.
//!
//!     cargo run --example embed                               # or: … --example embed 127.0.0.1:9000
//!     curl -N 'localhost:8080/sse?channels=lines,uptime&userId=jane'  # in a second terminal; then type into the first

use std::error::Error;
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use downpour::{ChannelName, Event, Handle, PublishError, Published, Server, Target, UserId};

type AnyError = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let address: SocketAddr = match std::env::args().nth(1) {
        Some(address) => address.parse()?,
        None => ([127, 0, 0, 1], 8080).into(),
    };
    let server = Server::builder().listen(address).bind()?;
    println!("listening on {}; the end of the input ends this", server.addresses()[0]);
    run(server, io::stdin().lock())
}

/// Serves, and publishes until `input` ends.
pub(crate) fn run(server: Server, input: impl BufRead) -> Result<(), AnyError> {
    let running = server.start()?; // On threads of its own.

    // A handle is for any thread, and is cloned for each.
    let handle = running.handle().clone();
    let (stop, stopped) = mpsc::channel::<()>();
    let clock = thread::spawn(move || publish_uptime(&handle, &stopped));

    let lines = ChannelName::parse("lines")?;
    for line in input.lines() {
        let published = publish_line(running.handle(), &lines, &line?)?;
        println!("{} went to {} streams", published.id, published.receivers.unwrap_or(0));
    }

    drop(stop);
    clock.join().map_err(|_| "the clock has panicked")??;
    running.handle().drain(); // Every stream is told, and ends.
    Ok(running.wait()?)
}

/// Publishes a line to whom it is meant for.
fn publish_line(handle: &Handle, lines: &ChannelName, line: &str) -> Result<Published, AnyError> {
    let published = if let Some(text) = line.strip_prefix("! ") {
        handle.publish(Target::All, &Event::new(text))
    } else if let Some((user, text)) = line.strip_prefix('@').and_then(|line| line.split_once(' ')) {
        handle.publish(&UserId::parse(user)?, &Event::new(text))
    } else {
        handle.publish(lines, &Event::new(line))
    };
    Ok(published?)
}

/// Publishes once a second how long this has run, by callback: the clock waits for nobody.
fn publish_uptime(handle: &Handle, stopped: &mpsc::Receiver<()>) -> Result<(), AnyError> {
    let uptime = ChannelName::parse("uptime")?;
    let begin = Instant::now();
    loop {
        let mut batch = handle.batch();
        let seconds = begin.elapsed().as_secs().to_string();
        batch.push([&uptime], &Event::new(&seconds).with_type("seconds")?)?;
        match handle.publish_with(batch, |outcome| {
            if let Err(error) = outcome {
                eprintln!("a second is lost: {error}");
            }
        }) {
            Ok(()) => {}
            Err(PublishError::Busy(_)) => eprintln!("the server is behind: this second is left out"),
            Err(error) => return Err(error.into()),
        }
        if stopped.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
    }
}
