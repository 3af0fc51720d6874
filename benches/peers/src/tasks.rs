//! The bare server as one would write it with `tokio-uring`: a task for each connection, and a broadcast
//! channel.

use std::io;

use bytes::Bytes;
use tokio::sync::broadcast::{self, Sender};
use tokio_uring::net::{TcpListener, TcpStream};

use crate::{ANSWER, ANY_PORT, Lengths, READ_BYTES, Requests, STREAM_HEAD, say_address};

/// Publishes that a stream may be behind: many times the most under way.
const BEHIND_MAX: usize = 1024;

/// Serves until a call fails.
pub(crate) fn serve(load: Lengths) -> io::Result<()> {
    tokio_uring::start(async {
        let listener = TcpListener::bind(ANY_PORT)?;
        say_address(listener.local_addr()?);
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let sender = sender.clone();
            tokio_uring::spawn(async move {
                // Its peer is gone, and misses later sends.
                drop(serve_one(socket, load, sender).await);
            });
        }
    })
}

async fn serve_one(socket: TcpStream, load: Lengths, sender: Sender<Bytes>) -> io::Result<()> {
    let (read, mut buffer) = socket.read(vec![0; READ_BYTES]).await;
    let mut bytes = read?;
    if buffer.starts_with(b"GET ") {
        drop(buffer);
        return serve_stream(socket, &sender).await;
    }
    let mut requests = Requests::of(&buffer[..bytes], &load);
    let mut frames = Bytes::from(load.frames(load.several_events));
    while bytes > 0 {
        let published = requests.take(bytes);
        if published.requests > 0 {
            let sent = published.events * load.frame_bytes;
            if frames.len() < sent {
                frames = Bytes::from(load.frames(published.events));
            }
            // Fails without streams.
            drop(sender.send(frames.slice(..sent)));
            socket.write_all(ANSWER.repeat(published.requests)).await.0?;
        }
        let read = socket.read(buffer).await;
        (bytes, buffer) = (read.0?, read.1);
    }
    Ok(())
}

async fn serve_stream(socket: TcpStream, sender: &Sender<Bytes>) -> io::Result<()> {
    // Before the head is sent: a client that has read the head receives all later events.
    let mut receiver = sender.subscribe();
    socket.write_all(STREAM_HEAD).await.0?;
    while let Ok(frames) = receiver.recv().await {
        socket.write_all(frames).await.0?;
    }
    Ok(())
}
