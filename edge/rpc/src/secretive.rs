//! `Debug` of the messages that carry secrets, without the secrets: what is logged by accident
//! must not let anybody join.

use std::fmt;

use crate::wire::{CreateTokenReply, JoinClusterRequest, JoinRequest};

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("token_id", &self.token_id)
            .field("name", &self.name)
            .field("data_address", &self.data_address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CreateTokenReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateTokenReply")
            .field("row", &self.row)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JoinClusterRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinClusterRequest")
            .field("address", &self.address)
            .field("name", &self.name)
            .field("data_address", &self.data_address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown_by_accident() {
        let join = JoinRequest { secret: "hidden-word".to_owned(), ..Default::default() };
        let reply = CreateTokenReply { token: "hidden-word".to_owned(), ..Default::default() };
        let local = JoinClusterRequest { token: "hidden-word".to_owned(), ..Default::default() };
        for text in [format!("{join:?}"), format!("{reply:?}"), format!("{local:?}")] {
            assert!(!text.contains("hidden-word"), "{text}");
        }
    }
}
