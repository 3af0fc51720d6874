//! Properties of the SSE codec: decode inverts encode, split points do not matter, and a naive decoder agrees.

use std::time::Duration;

use downpour::sse::decode::{DecodeError, Decoded, Decoder};
use downpour::sse::encode::{IdField, encode_comment, encode_event, encode_retry};
use downpour::sse::event::Event;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What a decoder made of a stream, each event as (type, data, last event id).
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<(String, String, String)>,
    retry: Option<Duration>,
    last_event_id: String,
    error: Option<DecodeError>,
}

fn decode(pieces: &[&[u8]], event_bytes_max: usize) -> Outcome {
    let mut decoder = Decoder::new(event_bytes_max);
    let mut events = Vec::new();
    let mut sink = |event: Decoded<'_>| {
        events.push((event.event_type.into(), event.data.into(), event.last_event_id.into()));
    };
    let error = pieces.iter().find_map(|piece| decoder.feed(piece, &mut sink).err());
    Outcome { events, retry: decoder.retry(), last_event_id: decoder.last_event_id().into(), error }
}

/// WHATWG HTML 9.2.6 for a stream that is there as a whole, step by step and without thought for cost.
fn decode_naively(stream: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop(); // What the stream's end cuts off.
    let (mut outcome, mut data, mut event_type, mut id) =
        (Outcome::default(), String::new(), String::new(), String::new());
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" if line.is_empty() => {
                outcome.last_event_id.clone_from(&id);
                if data.pop().is_some() {
                    let event_type = if event_type.is_empty() { "message" } else { &event_type };
                    outcome.events.push((event_type.into(), data.clone(), id.clone()));
                }
                data.clear();
                event_type.clear();
            }
            "event" => event_type = value.into(),
            "data" => data = format!("{data}{value}\n"),
            "id" if !value.contains('\0') => id = value.into(),
            "retry" if !value.is_empty() && value.chars().all(|c| c.is_ascii_digit()) => {
                outcome.retry = Some(Duration::from_millis(value.parse().unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }
    outcome
}

fn split_at<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.sort_unstable();
    let starts = std::iter::once(0).chain(places.iter().copied());
    let ends = places.iter().copied().chain([stream.len()]);
    starts.zip(ends).map(|(start, end)| &stream[start..end]).collect()
}

/// Bytes that are close enough to a stream to reach every corner of a decoder.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    const TOKENS: [&[u8]; 24] = [
        b"data",
        b"event",
        b"id",
        b"retry",
        b":",
        b": ",
        b" ",
        b"\n",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\0",
        b"1",
        b"42",
        b"x",
        b"data: y\n",
        b"id: 3\n",
        "ü😀".as_bytes(),
        "\u{feff}".as_bytes(),
        b"\xff",
        b"\xe2\x82",
        b"\xc3",
        b"\xbb",
    ];
    vec(select(&TOKENS[..]), 0..60).prop_map(|tokens| tokens.concat())
}

/// One thing that a server says, owned.
#[derive(Clone, Debug)]
enum Block {
    Event { data: String, event_type: Option<String>, id: Option<String>, retry_ms: Option<u64> },
    Comment(String),
    Retry(u64),
}

fn block() -> impl Strategy<Value = Block> {
    let line = "[^\r\n\0]{1,20}";
    let text = || prop_oneof!["[a: \r\n\0ü]{0,12}", any::<String>()];
    let event =
        (text(), proptest::option::of(line), proptest::option::of(line), proptest::option::of(1..u64::MAX))
            .prop_map(|(data, event_type, id, retry_ms)| Block::Event { data, event_type, id, retry_ms });
    prop_oneof![6 => event, 1 => text().prop_map(Block::Comment), 1 => (0..u64::MAX).prop_map(Block::Retry)]
}

/// Encodes `blocks`, and tells what must come out of them again.
fn encode(blocks: &[Block]) -> (Vec<u8>, Outcome) {
    let (mut stream, mut outcome) = (Vec::new(), Outcome::default());
    for block in blocks {
        match block {
            Block::Comment(text) => encode_comment(&mut stream, text),
            Block::Retry(retry_ms) => {
                encode_retry(&mut stream, *retry_ms);
                outcome.retry = Some(Duration::from_millis(*retry_ms));
            }
            Block::Event { data, event_type, id, retry_ms } => {
                let mut event = Event::new(data);
                if let Some(event_type) = event_type {
                    event = event.with_type(event_type).expect("it is a line");
                }
                if let Some(retry_ms) = *retry_ms {
                    event = event.with_retry(retry_ms).expect("it is above 0");
                    outcome.retry = Some(Duration::from_millis(retry_ms));
                }
                if let Some(id) = id {
                    outcome.last_event_id.clone_from(id);
                }
                encode_event(&mut stream, &event, id.as_deref().map_or(IdField::None, IdField::Text));
                outcome.events.push((
                    event_type.as_deref().unwrap_or("message").into(),
                    data.replace("\r\n", "\n").replace('\r', "\n"),
                    outcome.last_event_id.clone(),
                ));
            }
        }
    }
    (stream, outcome)
}

proptest! {
    #[test]
    fn decode_inverts_encode(blocks in vec(block(), 0..8), cuts in vec(any::<Index>(), 0..8)) {
        let (stream, expected) = encode(&blocks);
        prop_assert_eq!(decode(&split_at(&stream, &cuts), usize::MAX), expected);
    }

    #[test]
    fn a_reserved_id_that_is_filled_in_is_the_text_itself(data: String, id in "[a-z0-9.]{1,40}") {
        let (mut reserved, mut text) = (Vec::new(), Vec::new());
        let event = Event::new(&data);
        let at = encode_event(&mut reserved, &event, IdField::Reserved(id.len())).expect("it is reserved");
        reserved[at..at + id.len()].copy_from_slice(id.as_bytes());
        encode_event(&mut text, &event, IdField::Text(&id));
        prop_assert_eq!(reserved, text);
    }

    #[test]
    fn split_points_do_not_change_the_outcome(
        stream in stream(), cuts in vec(any::<Index>(), 0..20), event_bytes_max in 0_usize..100
    ) {
        let whole = decode(&[&stream], event_bytes_max);
        prop_assert_eq!(decode(&split_at(&stream, &cuts), event_bytes_max), whole);
    }

    #[test]
    fn a_naive_decoder_agrees(stream in stream()) {
        prop_assert_eq!(decode(&[&stream], usize::MAX), decode_naively(&stream));
    }

    #[test]
    fn a_naive_decoder_agrees_on_any_bytes(stream: Vec<u8>) {
        prop_assert_eq!(decode(&[&stream], usize::MAX), decode_naively(&stream));
    }
}
