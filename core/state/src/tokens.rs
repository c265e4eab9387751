//! Join tokens: their life, and what is asked of whoever shows one.

use weft_model::{ClusterState, Role, Row, Token, TokenId};

use crate::draft::{Decision, Draft, is_digest, unchanged};
use crate::{Outcome, Rejection};

pub(crate) fn create(state: &ClusterState, token: Token) -> Decision {
    if let Some(existing) = state.tokens.get(&token.id) {
        if *existing == token {
            return unchanged(Outcome::Token(token));
        }
        return Err(Rejection::exists(
            "TOKEN",
            format!("there is another token {}", token.id),
            "try again: tokens get random identifiers",
        ));
    }
    if !is_digest(&token.secret_digest) {
        return Err(Rejection::invalid(
            "TOKEN",
            "the digest of a token's secret must be 64 lower-case hexadecimal digits",
            "send the SHA-256 of the secret",
        ));
    }
    let mut draft = Draft::new(state);
    draft.put(Row::Token(token.clone()));
    draft.finish(Outcome::Token(token))
}

pub(crate) fn revoke(state: &ClusterState, id: TokenId) -> Decision {
    let Some(token) = state.tokens.get(&id) else {
        return Err(Rejection::not_found(
            "TOKEN",
            format!("there is no token {id}"),
            "see `weft token ls`",
        ));
    };
    if token.revoked {
        return unchanged(Outcome::Token(token.clone()));
    }
    let token = Token { revoked: true, ..token.clone() };
    let mut draft = Draft::new(state);
    draft.put(Row::Token(token.clone()));
    draft.finish(Outcome::Token(token))
}

/// The role that the shown token gives.
///
/// Whoever does not know the secret learns nothing: neither that the token exists, nor how it
/// stands with it.
pub(crate) fn redeem(
    state: &ClusterState,
    id: TokenId,
    secret_digest: &str,
    now: u64,
) -> Result<Role, Rejection> {
    let denied = |message: String| {
        Rejection::denied("--token", message, "ask for a new one: `weft token create`")
    };
    let known = state.tokens.get(&id).filter(|token| token.secret_digest == secret_digest);
    let Some(token) = known else {
        return Err(denied("the cluster does not know this token".to_owned()));
    };
    if token.revoked {
        return Err(denied("the token was revoked".to_owned()));
    }
    if token.expires_at <= now {
        let ago = now - token.expires_at;
        return Err(denied(format!("the token ended {ago} seconds ago")));
    }
    Ok(token.role)
}
