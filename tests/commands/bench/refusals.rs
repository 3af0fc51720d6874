//! Loads that cannot be run: the error names the fault and what would work.

use std::process::Command;

use super::{bench, result};
use crate::common::{DriverKind, Server};

#[test]
fn what_cannot_be_done_is_reported() {
    let server = Server::start(DriverKind::Epoll, &[]);
    let url = format!("http://{}", server.address());
    let subscribe = format!("{url}/nowhere");
    for (arguments, words) in [
        (&["--url", &url, "--subscribe-url", &subscribe][..], ["came to no stream"; 2]),
        (&["--url", "http://127.0.0.1:1"], ["no connection to publish over to 127.0.0.1:1", "refused"]),
        (&["--url", &url, "--pid", "4000000000"], ["cannot measure the processes [4000000000] (--pid)"; 2]),
        (&["--url", &url, "--source", "192.0.2.1"], ["came to no stream"; 2]),
    ] {
        let (code, json, told) = bench(arguments);
        let seen = format!("{told}{json:#}");
        assert_eq!(code, Some(1), "{seen}");
        assert!(words.iter().all(|word| seen.contains(word)), "{arguments:?}: {seen}");
    }
    let (_, json, _) = bench(&["--url", &url, "--subscribe-url", &subscribe]);
    assert!(json["failures"].to_string().contains("it answered 404"), "{json:#}");
    let (_, json, _) = bench(&["--url", &url, "--source", "192.0.2.1"]);
    assert!(json["failures"].to_string().contains("give more by --sources"), "{json:#}");
}

#[test]
fn too_few_descriptors_are_reported_before_anything_is_opened() {
    let limited = |arguments: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n 100 && exec \"$0\" bench {arguments}")]);
        let (code, _, told) =
            result(command.arg(env!("CARGO_BIN_EXE_downpour")).env_clear().output().unwrap());
        assert_eq!(code, Some(1));
        told
    };
    let told = limited("--subscribers 300");
    assert!(
        told.contains(
            "this load needs 335 open files, and the limit is 100: raise it (ulimit -n 335), lower --subscribers, or \
             take --processes 6"
        ),
        "{told}"
    );
    let told = limited("--subscribers 300 --processes 2");
    assert!(told.contains("needs 188 open files in each of 2 processes, and the limit is 100"), "{told}");
    let told = limited("--subscribers 5000");
    assert!(told.contains("raise it (ulimit -n 5035) or lower --subscribers"), "{told}");
}

#[test]
fn bad_options_are_reported_with_what_is_allowed() {
    for (arguments, words) in [
        (&["--subscribers", "many"][..], ["--subscribers", "many", "whole number from 0"]),
        (&["--rate", "fast"], ["--rate", "fast", "5000/s"]),
        (&["--slow", "10"], ["--slow", "10", "0% to 100%"]),
        (&["--size", "8"], ["--size", "8", "from 36 bytes"]),
        (&["--subscribe-url", "https://a/"], ["--subscribe-url", "https://a/", "TLS"]),
        (&["--header", "x"], ["--header", "'x'", "Authorization"]),
        (&["--duration", "0"], ["--duration", "0", "1ms"]),
        (&["--duration", "1s", "--events", "5"], ["--duration", "--events", "cannot be used with"]),
        (&["--cpus-readers", "1023"], ["--cpus-readers 1023", "no CPU", "may run on"]),
        (&["--unbatched", "--batch", "2"], ["--unbatched", "--batch 2", "contradict"]),
        (&["--publish-body", "x"], ["--publish-body", "{data}", "needs"]),
        (&["--processes", "0"], ["--processes", "0", "whole number from 1 to 256"]),
        (&["--processes", "257"], ["--processes", "257", "whole number from 1 to 256"]),
        (&["--processes", "3", "--subscribers", "2"], ["--processes 3", "--subscribers 2", "at least"]),
    ] {
        let (code, _, told) = bench(arguments);
        assert_eq!(code, Some(2), "{told}");
        assert!(words.iter().all(|word| told.contains(word)), "{arguments:?}: {told}");
    }
}
