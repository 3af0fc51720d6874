//! The query of a request that publishes: a few parameters, each once at the most, and none that means nothing there.

use std::borrow::Cow;

use super::error::{listed, quoted};
use crate::http::{Pairs, Problem};

/// A parameter as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    /// Its name, as it was spelled.
    pub(super) name: &'static str,
    pub(super) value: Cow<'a, str>,
}

/// Reads the parameters that `known` names, each with all of its spellings.
///
/// # Errors
/// 400 for one that is not known, and for one that is given twice, in whatever spellings.
pub(super) fn read<'a, const N: usize>(
    query: Pairs<'a>,
    known: [&[&'static str]; N],
) -> Result<[Option<Parameter<'a>>; N], Problem> {
    let mut read = [const { None }; N];
    for pair in query {
        let (given, value) = pair?;
        let spelled = |spellings: &[&'static str]| spellings.iter().copied().find(|name| *name == given);
        let found =
            known.iter().zip(&mut read).find_map(|(spellings, place)| Some((spelled(spellings)?, place)));
        match found {
            Some((name, place @ None)) => *place = Some(Parameter { name, value }),
            Some((name, Some(first))) if first.name != name => {
                let detail =
                    format!("the parameters `{}` and `{name}` are the same, and both are given", first.name);
                return Err(Problem::bad_request(detail));
            }
            Some((name, Some(_))) => {
                return Err(Problem::bad_request(format!("the parameter `{name}` is given twice")));
            }
            None if given == TOKEN => {}
            None => {
                let known = match N {
                    0 => "none; the body says all".to_owned(),
                    _ => listed(known.into_iter().flatten().copied()),
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

/// The parameter for a client's token, which says nothing of the event.
const TOKEN: &str = "token";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pairs;

    fn ask(query: &str) -> Result<[Option<(&'static str, String)>; 2], String> {
        let read = read(pairs(query), [&["user_id", "userId"], &["event"]]);
        let plain = |given: Option<Parameter<'_>>| given.map(|given| (given.name, given.value.into_owned()));
        read.map(|read| read.map(plain)).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn parameters_are_found_in_every_spelling_and_any_order() {
        assert_eq!(ask(""), Ok([None, None]));
        assert_eq!(
            ask("event=a+b&user_id=%C3%BC&token=t&token=u"),
            Ok([Some(("user_id", "ü".to_owned())), Some(("event", "a b".to_owned()))])
        );
        assert_eq!(ask("userId="), Ok([Some(("userId", String::new())), None]));
    }

    #[test]
    fn what_is_unknown_or_given_twice_is_told() {
        let told = |query: &str| ask(query).unwrap_err();
        assert_eq!(told("evnt=x"), "unknown parameter \"evnt\"; expected `user_id`, `userId` and `event`");
        assert_eq!(told("event=x&event=x"), "the parameter `event` is given twice");
        assert_eq!(
            told("userId=1&user_id=1"),
            "the parameters `userId` and `user_id` are the same, and both are given"
        );
        let problem = check_none(pairs("a=1")).unwrap_err();
        assert_eq!(problem.detail(), "unknown parameter \"a\"; expected none; the body says all");
    }
}
