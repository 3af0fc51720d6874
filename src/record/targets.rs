//! The targets of events, as names. A target that is no channel has a reserved name, which begins with a
//! control character: no channel's name contains one.

use crate::base::id::ClientId;

/// Separates targets. It is a control character, which no name contains.
pub(super) const JOINT: char = '\u{1f}';

/// Begins the names of targets that are not channels. It is a control character too.
const RESERVED: char = '\u{1}';

/// The target of all streams.
pub const TARGET_ALL: &str = "\u{1}all";

/// The target of all streams of a user.
#[must_use]
pub fn user_target(user: &str) -> String {
    format!("{RESERVED}user:{user}")
}

/// The target of the one stream with this id.
#[must_use]
pub fn client_target(client: ClientId) -> String {
    format!("{CLIENT}{client}")
}

/// Begins the names of targets that are one client.
const CLIENT: &str = "\u{1}client:";

/// Returns true if and only if a target is one client.
#[must_use]
pub fn is_client(target: &str) -> bool {
    target.starts_with(CLIENT)
}

/// The user of a target. `None` if the target is not a user.
#[must_use]
pub fn user_of(target: &str) -> Option<&str> {
    target.strip_prefix(RESERVED)?.strip_prefix("user:")
}

/// Returns true if and only if a target is a channel, not a user, a client or all streams.
#[must_use]
pub fn is_channel(target: &str) -> bool {
    !target.starts_with(RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::NodeId;

    #[test]
    fn targets_that_are_no_channels_are_known_by_their_names() {
        let client = client_target(ClientId { secret: 1, node: NodeId::ALONE, shard: 2, slot: 3 });
        let user = user_target("client:x");
        assert!(is_client(&client) && !is_channel(&client) && user_of(&client).is_none());
        assert!(!is_client(&user) && !is_channel(&user) && user_of(&user) == Some("client:x"));
        assert!(!is_client("client:x") && user_of("user:x").is_none() && user_of(TARGET_ALL).is_none());
    }
}
