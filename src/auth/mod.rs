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
        self.publish.cover(channel)
    }

    /// Returns true if and only if the channel of this name may be subscribed to.
    #[must_use]
    pub fn may_subscribe(&self, channel: &str) -> bool {
        self.subscribe.cover(channel)
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

impl Rights {
    fn cover(&self, channel: &str) -> bool {
        match self {
            Rights::All => true,
            Rights::Only(selectors) => selectors.iter().any(|selector| match selector {
                Selector::Channel(name) => name.as_str() == channel,
                Selector::Prefix(prefix) => channel.starts_with(&**prefix),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_everything() {
        let permission = Permission::everything();
        assert!(permission.may_publish("a") && permission.may_subscribe("b"));
    }

    #[test]
    fn rights_cover_what_they_select_and_nothing_else() {
        let only = |text| Rights::Only(vec![Selector::parse(text).unwrap()]);
        let permission = Permission::new(only("news"), only("chat/*"));
        assert!(permission.may_publish("news") && !permission.may_publish("news2"));
        assert!(permission.may_subscribe("chat/7") && !permission.may_subscribe("chat"));
        assert!(!Permission::new(Rights::Only(vec![]), Rights::All).may_publish("news"));
    }
}
