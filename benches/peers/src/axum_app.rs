//! An application of axum as in its examples: a broadcast channel, and a stream of events for each
//! client.

use std::convert::Infallible;
use std::io;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, Sender};
use tokio_stream::wrappers::BroadcastStream;

use crate::{ANY_PORT, say_address};

/// Events that a stream may be behind: more than are ever under way.
const BEHIND_MAX: usize = 4096;

/// The body of a publish.
#[derive(Deserialize)]
struct Envelope {
    data: String,
}

/// Serves until a call fails.
#[tokio::main]
pub(crate) async fn serve() -> io::Result<()> {
    let (sender, _) = broadcast::channel(BEHIND_MAX);
    let app = Router::new().route("/sse", get(subscribe)).route("/publish", post(publish)).with_state(sender);
    let listener = TcpListener::bind(ANY_PORT).await?;
    say_address(listener.local_addr()?);
    let listener = listener.tap_io(|socket| {
        // It works without this too.
        drop(socket.set_nodelay(true));
    });
    axum::serve(listener, app).await
}

async fn subscribe(
    State(sender): State<Sender<String>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // An error means that the stream was too far behind: it misses those events.
    let received = BroadcastStream::new(sender.subscribe()).filter_map(|data| std::future::ready(data.ok()));
    Sse::new(received.map(|data| Ok(Event::default().data(data))))
}

/// One envelope a line.
async fn publish(State(sender): State<Sender<String>>, body: String) -> StatusCode {
    for line in body.lines() {
        let Ok(envelope) = serde_json::from_str::<Envelope>(line) else { return StatusCode::BAD_REQUEST };
        // Fails without streams.
        drop(sender.send(envelope.data));
    }
    StatusCode::OK
}
