//! Floor 1: what a request may do. A value that each request carries from the moment it is admitted, and that every
//! publish and every subscribe asks.
//!
//! Where neither keys nor tokens are configured, a request may do everything; so far they never are.

use crate::base::name::Selector;

/// What a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    publish: Rights,
    subscribe: Rights,
}

impl Permission {
    /// Rights to publish and to subscribe.
    #[must_use]
    pub const fn new(publish: Rights, subscribe: Rights) -> Permission {
        Permission { publish, subscribe }
    }

    /// The permission to do everything.
    #[must_use]
    pub const fn everything() -> Permission {
        Permission::new(Rights::All, Rights::All)
    }

    /// Returns true if and only if events may be published to the channel of this name.
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

    /// Returns true if and only if all channels of this selector may be subscribed to, those that are yet to come too.
    #[must_use]
    pub fn may_subscribe(&self, selector: &Selector) -> bool {
        match &self.subscribe {
            Rights::All => true,
            Rights::Only(selectors) => selectors.iter().any(|covering| covering.covers(selector)),
        }
    }
}

/// Which channels something may be done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Every channel.
    All,
    /// The channels that one of these selects, and no other.
    Only(Vec<Selector>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    #[test]
    fn everything_is_everything() {
        let permission = Permission::everything();
        assert!(permission.may_publish("a") && permission.may_subscribe(&selector("*")));
    }

    #[test]
    fn rights_cover_what_they_select_and_nothing_else() {
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
