//! Every coding of a run says the same events.

use std::rc::Rc;

use downpour::frame::chunk;
use downpour::frame::coding::{CodedRun, Coding};
use downpour::frame::run::{Run, Source};
use downpour::frame::segment::Segment;
use downpour::http::{BodyDecoder, BodyFraming};
use downpour::sse::decode::Decoder;
use downpour::sse::encode::{IdField, encode_event};
use downpour::sse::event::Event;
use proptest::collection::vec;
use proptest::prelude::*;

/// Data of events, also such as looks like chunks and such as needs several digits of length.
fn data() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[0-9a-f\r\n: ]{0,30}", 1 => any::<String>(), 1 => "[x\n]{3000,6000}"]
}

/// Events one after the other in a segment, as runs of these numbers of events.
fn runs(runs: &[Vec<String>]) -> Vec<CodedRun> {
    let (mut bytes, mut places) = (Vec::new(), Vec::new());
    for run in runs {
        let from = bytes.len();
        for data in run {
            let mut text = Vec::new();
            encode_event(&mut text, &Event::new(data), IdField::None);
            chunk::append(&mut bytes, &text);
        }
        places.push((from, bytes.len(), run.len()));
    }
    let source = Rc::new(Source::Shared(Segment::of(&bytes)));
    let run = |(from, to, frames)| {
        let [from, to, frames] = [from, to, frames].map(|number| u32::try_from(number).expect("few bytes"));
        CodedRun::new(Run::new(Rc::clone(&source), from, to, frames))
    };
    places.into_iter().map(run).collect()
}

/// What a client makes of a whole body in this coding: the text of the stream.
fn text_of(body: &[u8], coding: Coding) -> Vec<u8> {
    match coding {
        Coding::Unframed => body.to_vec(),
        Coding::Chunked => {
            let mut decoder =
                BodyDecoder::new(BodyFraming::Chunked, u64::MAX).expect("no length is too long");
            let (mut text, mut at) = (Vec::new(), 0);
            while at < body.len() {
                assert!(!decoder.is_done(), "nothing follows the last chunk");
                let (consumed, data) = decoder.decode(&body[at..]).expect("the chunks are well formed");
                text.extend_from_slice(data);
                at += consumed;
            }
            assert!(decoder.is_done(), "the body ends");
            text
        }
    }
}

fn events_of(text: &[u8]) -> Vec<String> {
    let mut events = Vec::new();
    Decoder::new(usize::MAX)
        .feed(text, &mut |event| events.push(event.data.to_owned()))
        .expect("no event is too long");
    events
}

proptest! {
    #[test]
    fn a_run_says_the_same_events_in_every_coding(given in vec(vec(data(), 1..5), 1..5)) {
        let runs = runs(&given);
        // A line of data ends with CR, LF or both, and comes out with LF.
        let lines = |data: &String| data.replace("\r\n", "\n").replace('\r', "\n");
        let expected: Vec<String> = given.iter().flatten().map(lines).collect();
        for coding in Coding::ALL {
            let mut body = Vec::new();
            for (run, events) in runs.iter().zip(&given) {
                let coded = run.coded(coding);
                prop_assert_eq!(coded.frames() as usize, events.len());
                body.extend_from_slice(coded.bytes());
            }
            body.extend_from_slice(coding.end().unwrap_or_default());
            prop_assert_eq!(events_of(&text_of(&body, coding)), expected.clone());
        }
    }
}
