//! The parameters of queries: how names are compared, and which ones this version lacks. A request that
//! publishes may have only a few known parameters, each at most once, and no others.

use std::borrow::Cow;

use super::error::{ApiError, listed, quoted};
use crate::http::{Pairs, Problem};

/// A parameter of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    /// Its name, as the documentation spells it.
    pub(super) name: &'static str,
    pub(super) value: Cow<'a, str>,
}

/// Reads the parameters that `known` names, in the spelling of the documentation.
///
/// # Errors
/// 400 for an unknown parameter, and for one that is repeated in any spelling; 501 for one that this
/// version lacks.
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

/// Refuses all parameters of a request whose body has everything.
pub(super) fn check_none(query: Pairs<'_>) -> Result<(), Problem> {
    read(query, []).map(|[]| ())
}

/// Refuses parameters that this version lacks, and ignores all others.
pub(super) fn check_all_built(query: Pairs<'_>) -> Result<(), Problem> {
    for pair in query {
        check_built(&Spelling::of(&pair?.0))?;
    }
    Ok(())
}

/// Refuses a parameter of the contract that this version lacks.
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

/// The error for a repeated parameter with a single value.
pub(super) fn given_twice(name: &str) -> Problem {
    Problem::bad_request(format!("the parameter `{name}` is given twice"))
}

/// The name of a parameter in the form in which names are compared: without regard to case, `_` and a
/// trailing `[]`. Some libraries add `[]` to parameters that may repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling {
    letters: [u8; SPELLING_BYTES_MAX],
    len: usize,
}

/// The longest name of a parameter, in bytes.
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

    /// The name in lower case. It is empty if the name is longer than any known one.
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
    fn unknown_and_repeated_parameters_are_refused() {
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
    fn parameters_that_this_version_lacks_are_never_ignored() {
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
