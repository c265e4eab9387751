//! Pools: which addresses a network of Docker's is about, in the words that pass through Docker.
//!
//! Docker keeps a pool's identifier and gives it back with every question, so nothing of it is stored
//! here: a subnet that the user named is its own identifier, and the same question has the same answer.
//!
//! Without `--subnet` the name decides which network is meant, and a driver is never told a name: Docker
//! tells it to everybody, but only when the network is made. Until then there is a pool that stands for
//! it, `0.0.0.0/0`, with a number in its gateway: that is all which Docker hands on to the driver.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// The address space, and so the mark, of Weft's pools.
pub(super) const SPACE: &str = "weft";

/// What a pool is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PoolId {
    /// The network with this subnet.
    Subnet(IpNet),
    /// The network that is called like Docker's.
    ByName(Token),
}

/// Tells apart pools that stand for a name; 24 bits, not 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(super) struct Token(u32);

impl Token {
    /// Of these 32 random bits.
    pub(super) fn new(random: u32) -> Self {
        Self((random & 0x00ff_ffff).max(1))
    }

    /// As the gateway of a pool.
    pub(super) fn gateway(self) -> IpNet {
        let net = Ipv4Net::new(Ipv4Addr::from_bits(self.0), 0);
        net.map_or_else(|_| IpNet::default(), IpNet::V4)
    }

    /// The token of a pool with this gateway.
    pub(super) fn of_gateway(gateway: IpNet) -> Option<Self> {
        match gateway.addr() {
            IpAddr::V4(v4) if gateway.prefix_len() == 0 && v4.to_bits() >> 24 == 0 => {
                Some(Self(v4.to_bits())).filter(|token| token.0 != 0)
            }
            _ => None,
        }
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subnet(subnet) => subnet.fmt(f),
            Self::ByName(Token(number)) => write!(f, "by-name-{number:06x}"),
        }
    }
}

impl FromStr for PoolId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("PoolID: '{text}' is no pool of Weft's");
        if let Some(number) = text.strip_prefix("by-name-") {
            let number = u32::from_str_radix(number, 16).map_err(|_| wrong())?;
            let token = Token::new(number);
            return if token.0 == number { Ok(Self::ByName(token)) } else { Err(wrong()) };
        }
        let subnet: IpNet = text.parse().map_err(|_| wrong())?;
        if subnet.trunc() == subnet { Ok(Self::Subnet(subnet)) } else { Err(wrong()) }
    }
}

/// The gateway of a subnet: its first address, the same on every host.
pub(super) fn gateway_of(subnet: IpNet) -> Option<IpAddr> {
    weft_model::Network::address_at(&subnet, weft_model::Network::GATEWAY)
}

/// `address` with the length of its pool.
pub(super) fn with_length(address: IpAddr, length: u8) -> Result<IpNet, String> {
    IpNet::new(address, length).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn identifiers_come_back_as_they_went() {
        let token = Token::new(0xff12_3456);
        for id in [
            PoolId::Subnet("10.3.0.0/24".parse().unwrap()),
            PoolId::Subnet("fd00:3::/64".parse().unwrap()),
            PoolId::ByName(token),
            PoolId::ByName(Token::new(0)),
        ] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!(token.gateway().to_string(), "0.18.52.86/0");
        assert_eq!(Token::of_gateway(token.gateway()), Some(token));
    }

    #[test]
    fn what_is_no_pool_is_told() {
        for text in
            ["", "10.3.0.1/24", "10.3.0.0", "by-name-", "by-name-000000", "by-name-1000000", "x"]
        {
            let told = text.parse::<PoolId>().unwrap_err();
            assert_eq!(told, format!("PoolID: '{text}' is no pool of Weft's"));
        }
        for gateway in ["10.3.0.1/24", "0.0.0.0/0", "1.0.0.1/0", "::1/0"] {
            assert_eq!(Token::of_gateway(gateway.parse().unwrap()), None);
        }
    }

    #[test]
    fn the_gateway_is_the_first_address() {
        let of = |text: &str| gateway_of(text.parse().unwrap()).map(|a| a.to_string());
        assert_eq!(of("10.3.0.0/24").as_deref(), Some("10.3.0.1"));
        assert_eq!(of("fd00:3::/64").as_deref(), Some("fd00:3::1"));
        assert_eq!(of("10.3.0.7/32"), None);
    }
}
