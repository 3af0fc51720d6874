//! Properties of the whole floor: the outcome does not depend on the network's cuts, and no bytes cause
//! a panic or an endless loop.

use proptest::collection::vec;
use proptest::prelude::*;

use super::hostile::{all_requests, drive};
use super::{accepts_event_stream, decode_path, pairs, segments};

/// Valid requests followed by one row of the tables, with some bytes changed.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let (good, bad): (Vec<_>, Vec<_>) = all_requests().into_iter().partition(|&(status, _)| status == 0);
    let good = vec(proptest::sample::select(good), 0..4);
    let interesting = proptest::sample::select(b"\r\n :;,%0fF/?*\0\t\xffHx1".to_vec());
    let changes = vec((any::<prop::sample::Index>(), interesting), 0..3);
    (good, proptest::sample::select(bad), changes).prop_map(|(mut rows, last, changes)| {
        rows.push(last);
        let mut input: Vec<u8> = rows.into_iter().flat_map(|(_, input)| input).collect();
        for (place, byte) in changes {
            let place = place.index(input.len());
            input[place] = byte;
        }
        input
    })
}

fn cuts(input: &[u8], places: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = places.iter().map(|place| place.index(input.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn split_points_do_not_change_the_outcome(
        input in inputs(),
        places in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        prop_assert_eq!(drive(&input, &cuts(&input, &places)), drive(&input, &[]));
    }

    #[test]
    fn any_bytes_are_taken_or_refused(input in vec(any::<u8>(), 0..300)) {
        let (_, _) = drive(&input, &[]);
    }

    #[test]
    fn any_text_is_decoded_or_refused(text in "[%a-f0-9+&=/é]{0,40}") {
        let _ = decode_path(&text);
        prop_assert!(pairs(&text).count() <= text.len());
        prop_assert!(segments(&text).count() <= text.len() + 1);
        let _ = accepts_event_stream(Some(&text));
    }

    #[test]
    fn decoding_inverts_encoding(name in ".{0,20}", value in ".{0,20}") {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let query = format!("x&{}={}", encode(&name), encode(&value));
        let (decoded_name, decoded_value) = pairs(&query).last().unwrap().unwrap();
        prop_assert_eq!((&*decoded_name, &*decoded_value), (&*name, &*value));
    }
}
