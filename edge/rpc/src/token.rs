//! Join tokens, as people pass them on.
//!
//! ```text
//! weft1-<CA digest>-<token id>-<secret and checksum>
//! ```
//!
//! Digest, secret and checksum are base 32 (RFC 4648 section 6, lower case, no padding), the
//! identifier is what `weft token ls` shows. The checksum tells a cut or altered token before
//! anything is sent anywhere; it proves nothing.

use std::fmt;
use std::str::FromStr;

use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};
use weft_model::TokenId;
use zeroize::{Zeroize as _, Zeroizing};

/// The first part of every token: what it is, and the version of its form.
const PREFIX: &str = "weft1";

/// SHA-256 of a certificate's public key (subject public key info, RFC 5280 section 4.1.2.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// The digest of a DER subject public key info.
    pub fn of(public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(public_key_info).into())
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 256 random bits that let a host join. `Debug` does not show them, memory is wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// From the kernel's random source.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::rngs::OsRng.try_fill_bytes(&mut *bytes).map_err(|e| NoRandomness(e.to_string()))?;
        Ok(Self(bytes))
    }

    /// SHA-256 of the secret, in hexadecimal: what the cluster remembers.
    pub fn digest(&self) -> String {
        KeyDigest(Sha256::digest(*self.0).into()).to_string()
    }

    /// The secret's text, for the wire only.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(base32(&*self.0))
    }
}

impl FromStr for Secret {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut bytes = Zeroizing::new(unbase32(text).ok_or(InvalidToken::Altered)?);
        let array = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| InvalidToken::Altered)?;
        bytes.zeroize();
        Ok(Self(Zeroizing::new(array)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The kernel's random source failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel gives no random numbers: {0}")]
pub struct NoRandomness(pub String);

/// A join token. Whoever holds it can join a host, so its text comes only from [`Self::reveal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Whom the joining host may believe to be its cluster.
    pub ca: KeyDigest,
    /// Which token.
    pub id: TokenId,
    /// That it is held.
    pub secret: Secret,
}

/// A text that is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It does not even begin like one.
    #[error("this is not a join token: one begins with 'weft1-'")]
    NotAToken,
    /// It has the form of another version.
    #[error("this join token is of a version that this Weft does not know")]
    Version,
    /// Its end or a part of it is missing.
    #[error("the join token is cut off: copy all of it, it has {LENGTH} characters")]
    Cut,
    /// Something in it was changed.
    #[error(
        "the join token was altered: copy it again, or make a new one with 'weft token create'"
    )]
    Altered,
}

/// Characters of a token.
const LENGTH: usize = PREFIX.len() + 1 + 52 + 1 + 16 + 1 + 58;

impl JoinToken {
    /// The whole token as text.
    pub fn reveal(&self) -> Zeroizing<String> {
        let head = format!("{PREFIX}-{}-{}-", base32(&self.ca.0), self.id);
        let mut tail = Zeroizing::new([0; 36]);
        tail[..32].copy_from_slice(&*self.secret.0);
        let checksum = checksum(&head, &self.secret);
        tail[32..].copy_from_slice(&checksum);
        let tail = Zeroizing::new(base32(&*tail));
        Zeroizing::new(format!("{head}{}", *tail))
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        let rest = text.strip_prefix("weft").ok_or(InvalidToken::NotAToken)?;
        let (version, _) = rest.split_once('-').ok_or(InvalidToken::NotAToken)?;
        if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidToken::NotAToken);
        }
        if version != &PREFIX[4..] {
            return Err(InvalidToken::Version);
        }
        if text.len() < LENGTH {
            return Err(InvalidToken::Cut);
        }
        let parts: Vec<&str> = text.split('-').collect();
        let &[_, ca, id, tail] = parts.as_slice() else { return Err(InvalidToken::Altered) };
        let head = &text[..text.len() - tail.len()];
        let ca = unbase32(ca).and_then(|b| b.try_into().ok()).ok_or(InvalidToken::Altered)?;
        let id: TokenId = id.parse().map_err(|_| InvalidToken::Altered)?;
        let tail = Zeroizing::new(unbase32(tail).ok_or(InvalidToken::Altered)?);
        let (secret, sum) = tail.split_at_checked(32).ok_or(InvalidToken::Altered)?;
        let secret = <[u8; 32]>::try_from(secret).map_err(|_| InvalidToken::Altered)?;
        let token = Self { ca: KeyDigest(ca), id, secret: Secret(Zeroizing::new(secret)) };
        if sum == checksum(head, &token.secret) { Ok(token) } else { Err(InvalidToken::Altered) }
    }
}

fn checksum(head: &str, secret: &Secret) -> [u8; 4] {
    let sum = Sha256::new().chain_update(head).chain_update(*secret.0).finalize();
    [sum[0], sum[1], sum[2], sum[3]]
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    }
    text
}

/// `None` unless `text` is exactly what [`base32`] makes of the bytes.
fn unbase32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0_u32, 0);
    for character in text.bytes() {
        let value = ALPHABET.iter().position(|a| *a == character)?;
        held = held << 5 | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 255).ok()?);
        }
        held &= (1 << bits) - 1;
    }
    (bits < 5 && held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken {
            ca: KeyDigest([7; 32]),
            id: TokenId(0x1234_5678_9abc_def0),
            secret: Secret(Zeroizing::new([0xa5; 32])),
        }
    }

    #[test]
    fn a_token_reads_back_from_its_text() {
        let text = token().reveal();
        assert_eq!(text.len(), LENGTH);
        assert!(text.contains("-123456789abcdef0-"));
        assert_eq!(text.parse::<JoinToken>(), Ok(token()));
        assert_eq!(format!(" {}\n", *text).parse::<JoinToken>(), Ok(token()));
    }

    #[test]
    fn a_cut_token_is_told_so() {
        let text = token().reveal();
        for length in 6..text.len() {
            assert_eq!(text[..length].parse::<JoinToken>(), Err(InvalidToken::Cut), "{length}");
        }
        for length in 0..6 {
            assert_eq!(text[..length].parse::<JoinToken>(), Err(InvalidToken::NotAToken));
        }
    }

    #[test]
    fn every_single_altered_character_is_told_so() {
        let text = token().reveal();
        for at in 6..text.len() {
            for other in [b'b', b'7', b'-', b'B', b'0'] {
                let mut altered = text.as_bytes().to_vec();
                if altered[at] == other {
                    continue;
                }
                altered[at] = other;
                let altered = String::from_utf8(altered).unwrap();
                assert_eq!(altered.parse::<JoinToken>(), Err(InvalidToken::Altered), "{altered}");
            }
        }
        let longer = format!("{}a", *text);
        assert_eq!(longer.parse::<JoinToken>(), Err(InvalidToken::Altered));
    }

    #[test]
    fn other_texts_are_named_for_what_they_are() {
        let newer = token().reveal().replacen("weft1", "weft2", 1);
        assert_eq!(newer.parse::<JoinToken>(), Err(InvalidToken::Version));
        for text in ["", "SWMTKN-1-abc", "weft", "weftx-1", "weft-1"] {
            assert_eq!(text.parse::<JoinToken>(), Err(InvalidToken::NotAToken), "{text}");
        }
    }

    #[test]
    fn the_secret_is_not_shown_by_accident() {
        let token = token();
        let shown = format!("{token:?}");
        assert!(shown.contains("hidden"));
        assert!(!shown.contains(token.secret.reveal().as_str()) && !shown.contains("a5"));
    }

    #[test]
    fn secrets_differ_and_their_digest_is_of_the_bytes() {
        let (a, b) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(a, b);
        let zero = Secret(Zeroizing::new([0; 32]));
        // printf '\0%.0s' {1..32} | sha256sum
        let known = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
        assert_eq!(zero.digest(), known);
        assert_eq!(a.reveal().parse::<Secret>(), Ok(a));
        assert_eq!("short".parse::<Secret>(), Err(InvalidToken::Altered));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("weft1-{text}").parse::<JoinToken>();
        }

        #[test]
        fn base32_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(unbase32(&base32(&bytes)), Some(bytes));
        }
    }
}
