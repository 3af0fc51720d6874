//! "Did you mean …?": the known word that a mistyped one resembles most.

/// The candidate that resembles `word` most, if any resembles it enough to be worth a hint.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= (candidate.len() / 3).clamp(1, 3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let words = ["keepalive", "retry", "host", "history_age"];
        for (slip, meant) in [
            ("keep_alive", Some("keepalive")),
            ("rerty", Some("retry")),
            ("hots", Some("host")),
            ("tls_key", None),
        ] {
            assert_eq!(nearest(slip, words.into_iter()), meant, "{slip}");
        }
    }
}
