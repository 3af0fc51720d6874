//! Texts with placeholders: URLs, headers and bodies that depend on channel and client.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text with `{channel}`, `{client}` and `{data}`; displayed as given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

/// The meaning of a part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Placeholder {
    /// The channel's name.
    Channel,
    /// The number of the subscriber, or of the publisher's connection, counted from 0.
    Client,
    /// An event's data.
    Data,
}

impl Placeholder {
    const ALL: [Placeholder; 3] = [Placeholder::Channel, Placeholder::Client, Placeholder::Data];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Placeholder::Channel => "{channel}",
            Placeholder::Client => "{client}",
            Placeholder::Data => "{data}",
        }
    }
}

/// The values of the placeholders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    pub(super) channel: &'a str,
    pub(super) client: usize,
    pub(super) data: &'a [u8],
}

impl Template {
    /// Every text is a template: other braces are text.
    pub(super) fn parse(text: &str) -> Template {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((at, placeholder)) = first_placeholder(rest) {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            parts.push(Part::Placeholder(placeholder));
            rest = &rest[at + placeholder.as_str().len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Template { parts }
    }

    /// Returns true if the template has the placeholder.
    pub(super) fn has(&self, placeholder: Placeholder) -> bool {
        self.parts.contains(&Part::Placeholder(placeholder))
    }

    /// Appends the text with its placeholders replaced.
    pub(super) fn render(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Placeholder(Placeholder::Channel) => out.extend_from_slice(values.channel.as_bytes()),
                Part::Placeholder(Placeholder::Client) => {
                    out.extend_from_slice(values.client.to_string().as_bytes());
                }
                Part::Placeholder(Placeholder::Data) => out.extend_from_slice(values.data),
            }
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Placeholder(placeholder) => f.write_str(placeholder.as_str()),
        })
    }
}

fn first_placeholder(text: &str) -> Option<(usize, Placeholder)> {
    let found = Placeholder::ALL.map(|placeholder| Some((text.find(placeholder.as_str())?, placeholder)));
    found.into_iter().flatten().min_by_key(|&(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        let mut out = Vec::new();
        Template::parse(text).render(&Values { channel: "news", client: 7, data: b"xyz" }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn placeholders_are_replaced_wherever_they_stand() {
        assert_eq!(rendered("/sse?channel={channel}&user={client}"), "/sse?channel=news&user=7");
        assert_eq!(rendered("{client}{channel}{client}"), "7news7");
        assert_eq!(rendered(""), "");
    }

    #[test]
    fn other_braces_are_text() {
        assert_eq!(
            rendered(r#"{"channel":"{channel}","text":"{data}"}"#),
            r#"{"channel":"news","text":"xyz"}"#
        );
        assert_eq!(rendered("{{channel}} {chan} {"), "{news} {chan} {");
    }

    #[test]
    fn a_template_is_shown_as_it_was_given() {
        for text in ["", "/sse?channel={channel}&user={client}", "{{channel}} {chan} {data}{data}"] {
            assert_eq!(Template::parse(text).to_string(), text);
        }
    }

    #[test]
    fn a_template_knows_its_placeholders() {
        let template = Template::parse("{data}");
        assert!(template.has(Placeholder::Data) && !template.has(Placeholder::Channel));
    }
}
