//! Floor 1: what a request may do. Each route needs a [`Right`]. A request that has it carries a
//! [`Permission`] from its admission on, and every publish and every subscribe checks that permission.
//!
//! Without configured keys or tokens, a permission covers everything. So far they are never configured.

use std::sync::Arc;

use crate::base::name::Selector;

/// The right that a request needs for its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// None: to ask for the server's health, or for the methods of a path.
    Public,
    /// To receive events.
    Subscribe,
    /// To change the channels of one live stream. Only the stream's client knows its name.
    OwnStream,
    /// To publish events.
    Publish,
    /// To see and to change what belongs to others: channels, streams, counters.
    Manage,
}

/// What a request may do. A clone costs no more than a counter, so each request carries its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// `None`: everything.
    limits: Option<Arc<Limits>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Limits {
    publish: Rights,
    subscribe: Rights,
}

impl Permission {
    /// A permission with these rights.
    #[must_use]
    pub fn new(publish: Rights, subscribe: Rights) -> Permission {
        Permission { limits: Some(Arc::new(Limits { publish, subscribe })) }
    }

    /// The permission to do everything.
    #[must_use]
    pub const fn everything() -> Permission {
        Permission { limits: None }
    }

    /// Returns true if the permission covers publishing to the channel with this name.
    #[must_use]
    pub fn may_publish(&self, channel: &str) -> bool {
        self.limits.as_ref().is_none_or(|limits| match &limits.publish {
            Rights::All => true,
            Rights::Only(selectors) => selectors.iter().any(|covering| match covering.prefix() {
                Some(prefix) => channel.starts_with(prefix),
                None => channel == covering.as_str(),
            }),
        })
    }

    /// Returns true if the permission covers subscribing to all channels of this selector, future ones
    /// included.
    #[must_use]
    pub fn may_subscribe(&self, selector: &Selector) -> bool {
        self.limits.as_ref().is_none_or(|limits| match &limits.subscribe {
            Rights::All => true,
            Rights::Only(selectors) => selectors.iter().any(|covering| covering.covers(selector)),
        })
    }
}

/// The channels that a right covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Every channel.
    All,
    /// The channels that one of these selectors matches, and no others.
    Only(Vec<Selector>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    #[test]
    fn everything_covers_every_channel() {
        let permission = Permission::everything();
        assert!(permission.may_publish("a") && permission.may_subscribe(&selector("*")));
    }

    #[test]
    fn rights_cover_only_the_channels_they_select() {
        let only = |text| Rights::Only(vec![selector(text)]);
        let permission = Permission::new(only("news"), only("chat/*"));
        assert!(permission.may_publish("news") && !permission.may_publish("news2"));
        for (text, may) in
            [("chat/7", true), ("chat/7/*", true), ("chat", false), ("cha*", false), ("*", false)]
        {
            assert_eq!(permission.may_subscribe(&selector(text)), may, "{text}");
        }
        assert!(!Permission::new(Rights::Only(vec![]), Rights::All).may_publish("news"));
    }
}
