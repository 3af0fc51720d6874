//! The binary's command line: help, errors and their exit codes, and `downpour check`.

use std::io::Write;
use std::process::{Command, Output};

fn downpour(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_downpour"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command that must fail because of its options. Returns its message.
fn misuse(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = downpour(arguments, variables);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty());
    text(&output.stderr)
}

fn toml_file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

#[test]
fn help_shows_the_way_from_nothing_to_an_event() {
    let output = downpour(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for word in
        ["serve", "check", "publish", "subscribe", "downpour publish --channel news 'hello'", "curl -N"]
    {
        assert!(help.contains(word), "{word} is missing in:\n{help}");
    }
}

#[test]
fn help_of_serve_names_every_option_and_its_default() {
    let help = text(&downpour(&["serve", "--help"], &[]).stdout);
    let words: Vec<&str> = help.split_whitespace().collect();
    let help = words.join(" ");
    for (option, default) in [
        ("--listen <ADDRESS:PORT|unix:PATH>", "[default: 127.0.0.1:8080]"),
        ("--keepalive <DURATION>", "[default: 30s]"),
        ("--keepalive-style <STYLE>", "[default: event]"),
        ("--retry-jitter <DURATION>", "[default: 0]"),
        ("--history-bytes <SIZE>", "[default: 256MiB]"),
        ("--max-connections <N|auto>", "[default: auto]"),
        ("--max-channels <N>", "[default: 100000]"),
        ("--idempotency-keys <N>", "[default: 1000000]"),
        ("--drain <DURATION>", "[default: 8s]"),
        ("--log-format <FORMAT>", "[default: text]"),
    ] {
        let at = help.find(option).unwrap_or_else(|| panic!("{option} is missing in:\n{help}"));
        assert!(help[at..].contains(default), "{default} does not follow {option}");
    }
    for word in ["--host <NAME>", "--insecure", "--config <FILE>", "DOWNPOUR_HISTORY_BYTES", "Examples:"] {
        assert!(help.contains(word), "{word} is missing in:\n{help}");
    }
}

#[test]
fn version_is_the_packages() {
    let output = downpour(&["--version"], &[]);
    assert_eq!(text(&output.stdout), format!("downpour {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_command_shows_the_help_as_an_error() {
    assert!(misuse(&[], &[]).contains("Usage: downpour"));
}

#[test]
fn an_unknown_option_is_reported_with_the_nearest_one() {
    let told = misuse(&["serve", "--keepaliv", "3s"], &[]);
    assert!(told.contains("'--keepaliv'") && told.contains("'--keepalive'"), "{told}");
    assert!(misuse(&["serve", "--publish-key", "x"], &[]).contains("unexpected argument '--publish-key'"));
}

#[test]
fn a_bad_value_is_reported_with_its_option_and_what_is_allowed() {
    let told = misuse(&["serve", "--keepalive", "soon"], &[]);
    assert!(told.starts_with("error: invalid value \"soon\" for --keepalive: a duration is 0 or"), "{told}");
    assert!(told.ends_with("try '--help'.\n"), "{told}");
    let told = misuse(&["serve"], &[("DOWNPOUR_MAX_BODY", "1MB")]);
    assert!(told.contains("the environment variable DOWNPOUR_MAX_BODY: write 1MiB"), "{told}");
    assert!(misuse(&["serve", "--listen", "unix:"], &[]).contains("such as unix:/run/downpour.sock"));
}

#[test]
fn an_unknown_key_is_reported_with_its_line() {
    let file = toml_file("retry = \"1s\"\nkeep_alive = \"5s\"\n");
    let path = file.path().to_str().unwrap();
    let told = misuse(&["serve", "--config", path], &[]);
    let expected = format!("error: unknown key keep_alive in {path}, line 2; did you mean keepalive?\n");
    assert!(told.starts_with(&expected), "{told}");
    assert_eq!(misuse(&["serve"], &[("DOWNPOUR_CONFIG", path)]), told);
}

#[test]
fn a_missing_file_is_reported_with_its_cause() {
    let told = misuse(&["check", "--config", "/nowhere/downpour.toml"], &[]);
    assert!(told.starts_with(
        "error: cannot read the configuration file /nowhere/downpour.toml\n  because: No such file"
    ));
}

#[test]
fn an_address_that_others_reach_needs_consent() {
    let told = misuse(&["serve", "--listen", "0.0.0.0:0"], &[]);
    assert!(
        told.contains("0.0.0.0:0 can be reached from other machines") && told.contains("--insecure"),
        "{told}"
    );
    let output = downpour(&["check", "--listen", "0.0.0.0:0", "--insecure"], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn contradictions_are_reported_with_both_options() {
    let told = misuse(&["serve", "--max-body", "2MiB"], &[("DOWNPOUR_HISTORY_BYTES", "1MiB")]);
    assert!(
        told.contains("--max-body 2MiB and the environment variable DOWNPOUR_HISTORY_BYTES 1MiB contradict"),
        "{told}"
    );
}

#[test]
fn check_shows_what_would_run_and_where_it_came_from() {
    let file = toml_file("host = [\"a.localhost\", \"b.localhost\"]\nhistory_events = 7\nretry = \"1s\"\n");
    let variables = [("DOWNPOUR_RETRY", "2s"), ("DOWNPOUR_KEEPALIVE", "2s")];
    let arguments = ["check", "--config", file.path().to_str().unwrap(), "--keepalive", "3s"];
    let output = downpour(&arguments, &variables);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = text(&output.stdout);
    for line in [
        "listen = 127.0.0.1:8080 (from: default)",
        "host = a.localhost, b.localhost (from: file, line 1)",
        "history-events = 7 (from: file, line 2)",
        "retry = 2s (from: environment)",
        "keepalive = 3s (from: command line)",
        "the configuration is good",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is missing in:\n{shown}");
    }
}

#[test]
fn check_warns_of_what_does_not_fit_together_and_still_succeeds() {
    let output = downpour(&["check", "--queue-bytes", "2MiB", "--history-bytes", "4MiB"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("warning: queue-bytes 2MiB is more than a quarter of history-bytes 4MiB"),
        "{shown}"
    );
    assert!(misuse(&["check", "--queue-bytes", "2TB"], &[]).contains("--queue-bytes"));
}
