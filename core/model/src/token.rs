//! Join tokens, as the cluster remembers them: never the secret, only its digest.

use serde::{Deserialize, Serialize};

use crate::{Role, TokenId};

/// A join token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Identity; part of the printed token, so that it can be named for revocation.
    pub id: TokenId,
    /// SHA-256 of the secret, in hexadecimal. The secret has 256 random bits, so a plain hash
    /// gives nothing to guess at.
    pub secret_digest: String,
    /// What a node that joins with it becomes.
    pub role: Role,
    /// When it ends, in seconds since 1970-01-01 UTC.
    pub expires_at: u64,
    /// Refused from now on.
    #[serde(default)]
    pub revoked: bool,
}
