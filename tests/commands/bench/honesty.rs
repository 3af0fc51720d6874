//! What a load finds out about a server that does not deliver properly, and how a run ends early.

use super::trickster::{Trick, Trickster, bench_trick};
use super::{assert_all_delivered, result};

#[test]
fn any_server_without_tricks_is_found_honest() {
    let (code, json, told) = bench_trick(Trick::None);
    assert_eq!(code, Some(0), "{told}");
    assert_all_delivered(&json, 100, 4);
}

#[test]
fn a_server_that_loses_doubles_or_reorders_is_found_out() {
    for (trick, kind, words) in [
        (Trick::Lose, "lostUntold", "4 lost untold"),
        (Trick::Double, "doubled", "4 doubled"),
        (Trick::Reorder, "reordered", "4 reordered"),
    ] {
        let (code, json, told) = bench_trick(trick);
        assert_eq!(code, Some(1), "{told}");
        for other in ["lostUntold", "doubled", "reordered", "lostTold"] {
            assert_eq!(json["losses"]["fast"][other], if other == kind { 4 } else { 0 }, "{kind}: {other}");
        }
        let expected = format!("error: events did not come once and in order: {words}");
        assert!(told.starts_with(&expected), "{told}");
    }
}

#[test]
fn an_event_on_a_stream_of_another_channel_is_found_out() {
    let (code, json, told) = bench_trick(Trick::Misdeliver);
    assert_eq!((code, &json["losses"]["fast"]["misdelivered"]), (Some(1), &4.into()), "{told}");
    assert!(told.contains("4 lost untold, 4 on a stream of another channel"), "{told}");
}

#[test]
fn what_a_server_loses_and_tells_is_no_fault() {
    let (code, json, told) = bench_trick(Trick::LoseAndTell);
    assert_eq!(code, Some(0), "{told}");
    let fast = &json["losses"]["fast"];
    assert_eq!((&fast["lostTold"], &fast["lostUntold"], &fast["gaps"]), (&4.into(), &0.into(), &4.into()));
    assert!(json["remarks"].to_string().contains("lost by streams"), "{json:#}");
}

#[test]
fn streams_that_end_and_publishes_that_are_refused_fail_the_run() {
    let (code, json, told) = bench_trick(Trick::EndStreams);
    assert_eq!((code, &json["connect"]["fastEnded"]), (Some(1), &4.into()), "{told}");
    assert!(told.contains("4 streams ended though nobody asked for it"), "{told}");
    let (code, json, told) = bench_trick(Trick::RefusePublish);
    assert_eq!(code, Some(1));
    assert!(told.contains("the server answered 507 to a publish: no room"), "{told}");
    assert_eq!(json["losses"]["fast"]["lostUntold"], 0, "what was refused is not lost");
    assert_eq!(json["run"]["deliveries"], json["run"]["expectedDeliveries"], "the figures so far are there");
}

#[test]
fn an_unbatched_event_that_is_lost_stalls_the_run_which_ends_by_itself() {
    let child = Trickster::start(Trick::Lose).bench(&["--unbatched", "--events", "100", "--stall", "300ms"]);
    let (code, json, told) = result(child.wait_with_output().unwrap());
    assert_eq!((code, &json["losses"]["fast"]["lostUntold"]), (Some(1), &4.into()), "{told}");
    assert!(told.contains("nothing moved for 300ms (--stall): a stream did not get its event"), "{told}");
}

#[test]
fn a_signal_ends_a_run_with_the_figures_so_far() {
    let server = Trickster::start(Trick::None);
    let child = server.bench(&["--duration", "1h"]);
    server.interrupt(child);
}
