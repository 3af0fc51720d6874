//! The parameters of queries: how their names compare, which this version has not yet, and, of a request that publishes,
//! a few that are known, each once at the most, and none that means nothing there.

use std::borrow::Cow;

use super::error::{ApiError, listed, quoted};
use crate::http::{Pairs, Problem};

/// A parameter as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    /// Its name, as the documentation spells it.
    pub(super) name: &'static str,
    pub(super) value: Cow<'a, str>,
}

/// Reads the parameters that `known` names as the documentation spells them.
///
/// # Errors
/// 400 for one that is not known, and for one that is given twice, in whatever spellings; 501 for one that this version
/// does not have yet.
pub(super) fn read<'a, const N: usize>(
    query: Pairs<'a>,
    known: [&'static str; N],
) -> Result<[Option<Parameter<'a>>; N], Problem> {
    let mut read = [const { None }; N];
    for pair in query {
        let (given, value) = pair?;
        let spelled = Spelling::of(&given);
        match known.iter().position(|name| Spelling::of(name) == spelled) {
            Some(index) if read[index].is_some() => return Err(given_twice(known[index])),
            Some(index) => read[index] = Some(Parameter { name: known[index], value }),
            None => {
                check_built(&spelled)?;
                let known = match N {
                    0 => "none; the body says all".to_owned(),
                    _ => listed(known),
                };
                let detail = format!("unknown parameter {}; expected {known}", quoted(&given));
                return Err(Problem::bad_request(detail));
            }
        }
    }
    Ok(read)
}

/// Refuses parameters where none mean anything: the body says all.
pub(super) fn check_none(query: Pairs<'_>) -> Result<(), Problem> {
    read(query, []).map(|[]| ())
}

/// Refuses what this version does not have yet, where anything else is let pass.
pub(super) fn check_all_built(query: Pairs<'_>) -> Result<(), Problem> {
    for pair in query {
        check_built(&Spelling::of(&pair?.0))?;
    }
    Ok(())
}

/// Refuses a parameter that the contract has and this version has not.
pub(super) fn check_built(spelling: &Spelling) -> Result<(), ApiError> {
    let what = match spelling.text() {
        "token" => "the parameter `token`",
        "errors" => "the parameter `errors`",
        "control" => "the parameter `control`",
        "gap" => "the parameter `gap`",
        "if" => "the parameter `if`",
        "end" => "the parameter `end`",
        "ids" => "the parameter `ids`",
        "unwatched" => "the parameter `unwatched`",
        _ => return Ok(()),
    };
    Err(ApiError::NotBuilt { what })
}

/// The error for a parameter that has one value and is given twice.
pub(super) fn given_twice(name: &str) -> Problem {
    Problem::bad_request(format!("the parameter `{name}` is given twice"))
}

/// The name of a parameter as names compare: without regard to case, `_` and a trailing `[]`, which some libraries add to
/// what may repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling {
    letters: [u8; SPELLING_BYTES_MAX],
    len: usize,
}

/// No parameter has a longer name.
const SPELLING_BYTES_MAX: usize = 16;

impl Spelling {
    pub(super) fn of(name: &str) -> Spelling {
        let name = name.strip_suffix("[]").unwrap_or(name);
        let mut spelling = Spelling { letters: [0; SPELLING_BYTES_MAX], len: 0 };
        for letter in name.bytes().filter(|&letter| letter != b'_') {
            let Some(place) = spelling.letters.get_mut(spelling.len) else { return Spelling::LONG };
            *place = letter.to_ascii_lowercase();
            spelling.len += 1;
        }
        spelling
    }

    /// In lower case; empty for what is longer than any name.
    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.letters[..self.len]).unwrap_or("")
    }

    const LONG: Spelling = Spelling { letters: [0; SPELLING_BYTES_MAX], len: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pairs;

    fn ask(query: &str) -> Result<[Option<(&'static str, String)>; 2], String> {
        let read = read(pairs(query), ["user_id", "event"]);
        let plain = |given: Option<Parameter<'_>>| given.map(|given| (given.name, given.value.into_owned()));
        read.map(|read| read.map(plain)).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn parameters_are_found_in_every_spelling_and_any_order() {
        assert_eq!(ask(""), Ok([None, None]));
        assert_eq!(
            ask("event=a+b&user_id=%C3%BC"),
            Ok([Some(("user_id", "ü".to_owned())), Some(("event", "a b".to_owned()))])
        );
        for name in ["userId", "USERID", "_user__id", "userid%5B%5D", "User_Id[]"] {
            assert_eq!(ask(&format!("{name}=")), Ok([Some(("user_id", String::new())), None]), "{name}");
        }
    }

    #[test]
    fn what_is_unknown_or_given_twice_is_told() {
        let told = |query: &str| ask(query).unwrap_err();
        assert_eq!(told("evnt=x"), "unknown parameter \"evnt\"; expected `user_id` and `event`");
        for name in ["event[][]", "event[", "a-rather-long-name", "_", "%C3%BCber", "[]"] {
            assert!(told(&format!("{name}=x")).starts_with("unknown parameter"), "{name}");
        }
        assert_eq!(told("event=x&event=x"), "the parameter `event` is given twice");
        assert_eq!(told("userId=1&user_id=1"), "the parameter `user_id` is given twice");
        let problem = check_none(pairs("a=1")).unwrap_err();
        assert_eq!(problem.detail(), "unknown parameter \"a\"; expected none; the body says all");
    }

    #[test]
    fn what_this_version_has_not_is_told_and_never_ignored() {
        for name in ["token", "errors", "Control", "gap", "if", "end", "ids", "unwatched"] {
            let problem = read(pairs(&format!("event=x&{name}=x")), ["event"]).unwrap_err();
            assert_eq!(problem.status().code(), 501, "{name}");
            assert!(problem.detail().contains(&name.to_lowercase()), "{}", problem.detail());
            assert_eq!(
                check_all_built(pairs(&format!("a&{name}"))).unwrap_err().status().code(),
                501,
                "{name}"
            );
        }
        assert!(check_all_built(pairs("_=17&tokens=x")).is_ok());
    }
}
