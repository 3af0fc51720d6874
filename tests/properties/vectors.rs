//! The decoder against `tests/vectors/sse.json`, the streams that it shares with clients in other languages.

use std::time::Duration;

use downpour::sse::decode::{Decoded, Decoder};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    name: String,
    stream: Option<String>,
    stream_hex: Option<String>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    events: Vec<Event>,
    retry: Option<u64>,
    last_event_id: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "type")]
    event_type: String,
    data: String,
    last_event_id: String,
}

fn vectors() -> Vec<(Vector, Vec<u8>)> {
    let file: Vectors =
        serde_json::from_str(include_str!("../vectors/sse.json")).expect("the vectors are JSON");
    let with_bytes = |vector: Vector| {
        let bytes = match (&vector.stream, &vector.stream_hex) {
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(hex)) => decode_hex(hex),
            (Some(_), Some(_)) | (None, None) => panic!("{}: one of stream and streamHex", vector.name),
        };
        (vector, bytes)
    };
    file.vectors.into_iter().map(with_bytes).collect()
}

fn decode_hex(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::new(1 << 20);
    let mut events = Vec::new();
    let mut sink = |event: Decoded<'_>| {
        events.push(Event {
            event_type: event.event_type.to_owned(),
            data: event.data.to_owned(),
            last_event_id: event.last_event_id.to_owned(),
        });
    };
    for piece in pieces {
        decoder.feed(piece, &mut sink).expect("no vector is that long");
    }
    let in_ms = |retry: Duration| u64::try_from(retry.as_millis()).expect("it was read from a u64");
    Outcome { events, retry: decoder.retry().map(in_ms), last_event_id: decoder.last_event_id().to_owned() }
}

#[test]
fn every_vector_decodes_to_its_outcome() {
    for (vector, bytes) in vectors() {
        assert_eq!(decode([&bytes[..]]), vector.outcome, "{}", vector.name);
    }
}

#[test]
fn every_vector_decodes_to_its_outcome_byte_by_byte() {
    for (vector, bytes) in vectors() {
        assert_eq!(decode(bytes.chunks(1)), vector.outcome, "{}", vector.name);
    }
}

#[test]
fn every_vector_decodes_to_its_outcome_at_every_split_point() {
    for (vector, bytes) in vectors() {
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(decode([head, tail]), vector.outcome, "{}, cut at {cut}", vector.name);
        }
    }
}

#[test]
fn the_vectors_have_names_of_their_own() {
    let mut names: Vec<String> = vectors().into_iter().map(|(vector, _)| vector.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
