//! Floor 1: what a request may do. Each request carries a [`Permission`] from its admission on, and
//! every publish and every subscribe checks it.
//!
//! Without configured keys or tokens, a request may do everything. So far they are never configured.

use crate::base::name::Selector;

/// What a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    publish: Rights,
    subscribe: Rights,
}

impl Permission {
    /// A permission with these rights.
    #[must_use]
    pub const fn new(publish: Rights, subscribe: Rights) -> Permission {
        Permission { publish, subscribe }
    }

    /// The permission to do everything.
    #[must_use]
    pub const fn everything() -> Permission {
        Permission::new(Rights::All, Rights::All)
    }

    /// Returns true if the permission covers publishing to the channel with this name.
    #[must_use]
    pub fn may_publish(&self, channel: &str) -> bool {
        match &self.publish {
            Rights::All => true,
            Rights::Only(selectors) => selectors.iter().any(|covering| match covering.prefix() {
                Some(prefix) => channel.starts_with(prefix),
                None => channel == covering.as_str(),
            }),
        }
    }

    /// Returns true if the permission covers subscribing to all channels of this selector, future ones
    /// included.
    #[must_use]
    pub fn may_subscribe(&self, selector: &Selector) -> bool {
        match &self.subscribe {
            Rights::All => true,
            Rights::Only(selectors) => selectors.iter().any(|covering| covering.covers(selector)),
        }
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
